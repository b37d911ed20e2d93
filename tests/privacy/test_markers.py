"""No number of a single vehicle is in anything that a device says, logs or keeps, nor in what it complains about."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.aggregate import Anonymity
from edge.assembly import assembled, measuring_pipeline
from edge.clock import ClockAnchor, LinuxClock
from edge.domain import Detections, Direction, Frame, Passage, Queued, RoadUser
from edge.publish import HomeAssistant, Native, NgsiLd
from edge.service import Service, close_clip, measure
from edge.settings import (
    CalibrationSettings,
    MqttSettings,
    OutboxSettings,
    PrivacySettings,
    Settings,
    SiteSettings,
    SourceSettings,
)
from tests.privacy.markers import Markers, Remembering
from tests.support.builders import MORNING, S, a_passage, some_windows
from tests.support.mosquitto import Mosquitto, Subscriber
from tests.support.street import a_road, a_vehicle, demo_calibration

RATE_HZ = 8.0
VEHICLES = 20


@dataclass(frozen=True)
class Device:
    """Everything that a device gave away in its life, and what belongs to single vehicles.

    ``said``: topics and payloads. ``logged``: every log line of every library, DEBUG included. ``kept``: its files.
    """

    markers: Markers
    passages: list[Passage]
    said: list[str]
    logged: list[str]
    kept: list[str]


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter("%(name)s %(message)s").format(record))


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """A device that lives through 20 vehicles on a road without pixels, with a real outbox and a real broker."""
    folder = tmp_path_factory.mktemp("device")
    demo_calibration().save(folder / "calibration.json")
    rng = np.random.default_rng(7)
    traffic = [
        a_vehicle(
            speed_kmh=float(rng.uniform(21.0, 58.0)),
            middle_s=4.0 + 4.0 * number + float(rng.uniform(0.0, 1.0)),
            direction=Direction.FORWARD if number % 2 else Direction.BACKWARD,
        )
        for number in range(VEHICLES)
    ]
    road = a_road(*traffic, lasts_s=8.0 + 4.0 * VEHICLES, rate_hz=RATE_HZ)
    markers, passages, lines = Markers(), [], _Lines()
    root = logging.getLogger()
    level = root.level
    root.addHandler(lines)
    root.setLevel(logging.DEBUG)
    try:
        with Mosquitto(folder / "mosquitto") as broker, Subscriber(broker.port, "#") as platform:
            chosen = Settings.model_construct(
                site=SiteSettings(city="hilversum", device="hvs-0042"),
                source=SourceSettings.model_validate({"url": "none", "pace": "full", "start": MORNING}),
                calibration=CalibrationSettings(file=folder / "calibration.json"),
                privacy=PrivacySettings(k=5),
                mqtt=MqttSettings(
                    url=broker.url, profiles=("native", "ngsi-ld", "homeassistant"), ngsi_ld_api_key="street-speed"
                ),
                outbox=OutboxSettings(file=folder / "outbox.sqlite"),
            )
            clock = LinuxClock()
            kept: list[str] = []
            with assembled(chosen, clock, source=road, detector=Remembering(road, markers)) as made:

                def watch(frame: Frame | None, gone: list[Passage]) -> None:
                    for passage in gone:
                        passages.append(passage)
                        markers.take(passage, made.windows.anchor)
                    if gone:
                        kept.extend(file.read_bytes().decode("latin-1") for file in folder.glob("outbox.sqlite*"))

                Service(
                    made,
                    clock=clock,
                    stop=threading.Event(),
                    paced=False,
                    checkpoint_s=0.3,
                    health_s=0.3,
                    drain_s=20,
                    outbox_folder=folder,
                ).run(watch)
            platform.wait_for(2, "/status")
            said = [f"{message.topic} {message.payload.decode()}" for message in platform.messages]
    finally:
        root.removeHandler(lines)
        root.setLevel(level)
    kept += [file.read_bytes().decode("latin-1") for file in folder.glob("outbox.sqlite*")]
    return Device(markers, passages, said, lines.lines, kept)


def test_the_device_measured_told_logged_and_kept_something(device: Device) -> None:
    """Otherwise the other tests prove nothing."""
    assert len(device.passages) == VEHICLES
    assert len(device.markers.numbers) > 10_000  # boxes
    assert sum("/flow/" in text for text in device.said) >= 2
    assert sum("/attrs" in text for text in device.said) >= 2
    assert sum("/health" in text for text in device.said) >= 1
    assert len(device.logged) >= 3
    assert any('"histogram"' in text for text in device.kept)


def test_the_search_finds_a_marker_wherever_it_stands(device: Device) -> None:
    """As number, rounded, as instant in nanoseconds or ISO 8601."""
    passage = next(each for each in device.passages if each.speed is not None)
    assert passage.speed is not None
    utc_ns = device.markers.instants_ns[2]
    for text in (
        f"fast: {passage.speed.speed_mps}",
        f'{{"speed_kmh": {passage.speed.speed_mps * 3.6:.3f}}}',
        f"at {utc_ns}",
        f"length {passage.length_m:.4f} m",
        f"since {np.datetime64(utc_ns, 'ns').astype('datetime64[ms]')}",
        repr(passage),
    ):
        assert device.markers.found_in([text]), text
    assert device.markers.found_in(['{"v85": 38.0, "share": 0.998, "start": "2026-11-23T06:30:00Z"}']) == []


@pytest.mark.parametrize("where", ["said", "logged", "kept"])
def test_no_number_of_a_single_vehicle_is(device: Device, where: str) -> None:
    assert device.markers.found_in(getattr(device, where)) == []


def test_nothing_is_logged_when_a_vehicle_passes(device: Device) -> None:
    """A log line at the right moment would tell of a vehicle without naming it: the journal stamps every line."""
    ours = [line for line in device.logged if line.startswith(("edge.", "calibration.", "models."))]
    assert len(ours) < VEHICLES / 2


# ------------------------------------------------------------------------------------------- any vehicles, no broker

speeds_kmh = st.floats(min_value=3.0, max_value=180.0)
vehicles = st.tuples(
    st.integers(1, 3 * 900 - 10).map(lambda whole_s: whole_s + 0.3771),  # no window begins or ends at such an instant
    speeds_kmh,
    st.floats(min_value=0.5, max_value=20.0),
    st.sampled_from(Direction),
    st.sampled_from([user for user in RoadUser if user is not RoadUser.PERSON]),
    st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(vehicles, min_size=5, max_size=60))
def test_whatever_is_driven_no_message_in_any_dialect_holds_a_number_of_one_vehicle(traffic: list[Any]) -> None:
    windows, anonymity = some_windows(longest_gap_s=900.0), Anonymity(k=5)
    markers, states = Markers(), []
    releases = []
    windows.close_until(0)
    for middle_s, speed_kmh, length_m, direction, road_user, is_measured in traffic:
        passage = replace(
            a_passage(
                middle_s=middle_s,
                speed_kmh=speed_kmh if is_measured else None,
                direction=direction,
                road_user=road_user,
            ),
            length_m=length_m,
            lateral_m=0.0,
            baseline_m=0.0,
        )
        windows.add(passage)
        markers.take(passage, windows.anchor)
    # Uncertainties of the builder are round and the same for everybody: they are no marker here.
    markers.numbers = [number for number in markers.numbers if round(number, 2) != round(number, 9)]
    for slot in range(1, 5):
        for aggregate in windows.close_until((slot * 900 + 61) * S):
            settlement = anonymity.settle(aggregate)
            releases += settlement.releases
            states.append(json.dumps(settlement.state))
        states.append(json.dumps(windows.state()))
    releases += anonymity.finish().releases
    native = Native(city="hilversum", device="hvs-0042", site="hvs-snelliuslaan-12")
    profiles = (
        native,
        NgsiLd(device="hvs-0042", site="hvs-snelliuslaan-12", api_key="street-speed"),
        HomeAssistant(device="hvs-0042", base=native.base),
    )
    said = [
        message.payload.decode()
        for seq, release in enumerate(releases, start=1)
        for profile in profiles
        for message in profile.measurement(Queued("7f3a91c2", seq, release.record, release.k, release.rule))
    ]
    assert markers.found_in(said + states + [repr(release) for release in releases]) == []


# ---------------------------------------------------------------------------------------------------- what goes wrong


class Failing:
    """A detector that spoils the boxes of one frame, so that what follows has something to complain about."""

    def __init__(self, road: Any, markers: Markers, at: int, spoil: str) -> None:
        self._road, self._markers, self._at, self._spoil = road, markers, at, spoil
        self._frames = 0

    def detect(self, frame: Frame) -> Detections:
        found = self._road.detect(frame)
        self._markers.take_boxes(found.boxes_xyxy_px)
        self._frames += 1
        if self._frames != self._at or not len(found):
            return found
        boxes, scores, labels = (np.array(each) for each in (found.boxes_xyxy_px, found.scores, found.labels))
        if self._spoil == "nan":
            boxes[0, 2] = np.nan
        elif self._spoil == "inf":
            boxes[0, 3] = np.inf
        elif self._spoil == "inside out":
            boxes = boxes[:, [2, 3, 0, 1]]
        elif self._spoil == "too few scores":
            scores = scores[:-1]
        elif self._spoil == "class that is none":
            labels[:] = 97
        elif self._spoil == "huge":
            boxes *= 1e300
        elif self._spoil == "refuses":
            raise RuntimeError("the network failed")
        return Detections(boxes, scores, labels)


SPOILS = [
    "nan",
    "inf",
    "inside out",
    "too few scores",
    "class that is none",
    "huge",
    "refuses",
    "time goes back",
    "same frame",
]


@pytest.mark.filterwarnings("ignore")  # numpy warns of spoilt numbers; the warnings are searched as well
@pytest.mark.parametrize("spoil", SPOILS)
def test_a_complaint_names_no_vehicle(spoil: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    markers, said = Markers(), []
    traffic = [a_vehicle(speed_kmh=31.234567 + number, middle_s=3.0 + 2.0 * number) for number in range(3)]
    for at in (15, 45):
        road = a_road(*traffic, lasts_s=9.0, rate_hz=8.0, seed=at)
        pipeline = measuring_pipeline(demo_calibration(), Failing(road, markers, at, spoil))
        windows, anonymity = some_windows(), Anonymity(k=5)

        def frames(road: Any = road, at: int = at) -> Iterator[Frame]:
            for number, frame in enumerate(road.frames(), start=1):
                yield frame
                if number == at and spoil == "same frame":
                    yield frame
                elif number == at and spoil == "time goes back":
                    yield replace(frame, captured_ns=frame.captured_ns - 2 * S)

        def watch(frame: Frame | None, gone: list[Passage], anchor: ClockAnchor = windows.anchor) -> None:
            for passage in gone:
                markers.take(passage, anchor)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.showwarning", lambda message, *_: said.append(str(message)))
            try:
                settled = measure(frames(), pipeline=pipeline, windows=windows, anonymity=anonymity, watch=watch)
                said.extend(json.dumps(settlement.state) for settlement in settled)
                passages, _ = close_clip(pipeline=pipeline, windows=windows, anonymity=anonymity)
                watch(None, passages)
            except Exception as error:  # noqa: BLE001  whatever it is, its text is what is looked at
                inner: BaseException | None = error
                while inner is not None:
                    said.append(f"{type(inner).__name__}: {inner}")
                    inner = inner.__cause__ or inner.__context__
    frame_times = {round(number / 8.0, 6) for number in range(80)}  # of the camera, not of a vehicle
    markers.numbers = [number for number in markers.numbers if round(number, 6) not in frame_times]
    assert markers.found_in([*said, *caplog.messages]) == []
    assert len(markers.numbers) > 100


@pytest.mark.parametrize(
    "passage",
    [
        pytest.param(a_passage(speed_kmh=-47.31234), id="a negative speed"),
        pytest.param(a_passage(speed_kmh=float("nan")), id="no number"),
        pytest.param(a_passage(road_user=RoadUser.PERSON, speed_kmh=47.31234), id="a person"),
    ],
)
def test_windows_refuse_a_wrong_passage_without_repeating_its_numbers(passage: Passage) -> None:
    markers = Markers()
    windows = some_windows()
    markers.take(passage, windows.anchor)
    with pytest.raises(ValueError) as refused:  # noqa: PT012
        windows.add(passage)
        windows.close_until(2000 * S)
    assert markers.found_in([str(refused.value)]) == []


def test_the_search_looks_into_files_of_the_device(tmp_path: Path) -> None:
    file = tmp_path / "outbox.sqlite"
    file.write_bytes(b"\x00\x01SQLite 13.142857 \xff")
    assert Markers(numbers=[13.142857142]).found_in([file.read_bytes().decode("latin-1")])
