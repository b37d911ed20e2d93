"""The demonstration: the whole device at work on a rendered street whose true speeds are known.

It is the real service with the real broker; only the platform, which collects what arrives, is made here. In lab mode,
because 18 vehicles in 40 seconds never make a window of 10 vehicles in 15 minutes.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from calibration import read_site, read_survey, solve
from calibration.pairing import best_pairs
from calibration.units import kmh_from_mps
from edge.assembly import Device, assembled
from edge.broker import LoopbackBroker
from edge.cli.annotate import Annotator, told
from edge.cli.files import written_whole
from edge.clock import LinuxClock
from edge.domain import Binning, Direction, Frame, Passage, RoadUser, SpeedHistogram
from edge.errors import SnelliusError
from edge.publish import Address
from edge.publish.payload import Flow, Mix
from edge.service import Service
from edge.settings import (
    CalibrationSettings,
    LabSettings,
    MqttSettings,
    OutboxSettings,
    Settings,
    SiteSettings,
    SourceSettings,
)

BUNDLED = Path(__file__).parents[1] / "demo"
CLIP = BUNDLED / "street.mp4"
CITY, DEVICE = "demo", "demo-0001"
SIZE_PX = (960, 540)
FILMED_AGO = timedelta(minutes=1)  # longer than the clip: no window may leave before it has ended
LAB_K, LAB_SLOT_S = 3, 10  # small enough that windows arrive while the clip still runs
ARRIVAL_S = 10.0  # on this computer a message takes milliseconds
PAIRED_WITHIN_S = 1.0  # a passage and a true vehicle are the same when they are in the zone within so long
REDRAW_HZ = 8
ROWS = 6  # passages shown while measuring
STANDING_MPS = 1.0  # slower is not shown as driving
EXPANDED = 2.0  # coverage factor: about 95 %

LEAST_RECALL = 0.94
MOST_FALSE = 1
MOST_MEDIAN_KMH = 0.9
MOST_WORST_KMH = 5.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Measured against true speeds.

    Attributes:
        true: Vehicles that really went through the whole zone.
        errors_kmh: Measured less true, for every vehicle that was measured. [km/h]
        false: Passages that belong to no vehicle.
    """

    true: int
    errors_kmh: list[float]
    false: int

    @property
    def recall(self) -> float:
        """Share of the vehicles that was measured."""
        return len(self.errors_kmh) / self.true

    @property
    def bias_kmh(self) -> float:
        """Mean error. [km/h]"""
        return statistics.fmean(self.errors_kmh) if self.errors_kmh else float("nan")

    @property
    def median_kmh(self) -> float:
        """Median absolute error. [km/h]"""
        return statistics.median(map(abs, self.errors_kmh)) if self.errors_kmh else float("nan")

    @property
    def worst_kmh(self) -> float:
        """Largest absolute error. [km/h]"""
        return max(map(abs, self.errors_kmh), default=float("nan"))

    def broken(self) -> list[str]:
        """Bounds that do not hold."""
        bounds = (
            (self.recall >= LEAST_RECALL, f"measured {self.recall:.0%} of the vehicles, expected {LEAST_RECALL:.0%}"),
            (self.false <= MOST_FALSE, f"{self.false} passages of nobody, expected at most {MOST_FALSE}"),
            (
                self.median_kmh <= MOST_MEDIAN_KMH,
                f"median error {self.median_kmh:.2f} km/h, expected at most {MOST_MEDIAN_KMH}",
            ),
            (
                self.worst_kmh <= MOST_WORST_KMH,
                f"worst error {self.worst_kmh:.2f} km/h, expected at most {MOST_WORST_KMH}",
            ),
        )
        return [sentence for holds, sentence in bounds if not holds]


def compare(passages: Sequence[Passage], truth: dict[str, Any]) -> Comparison:
    """Pairs passages with the vehicles of a truth file, one to one within a direction, nearest in time."""
    signs = {Direction.FORWARD: 1, Direction.BACKWARD: -1}
    errors_kmh: list[float] = []
    true = false = 0
    for direction, sign in signs.items():
        ours = [passage for passage in passages if passage.direction is direction]
        real = [each for each in truth["vehicles"] if each["direction"] == sign and _times_s(each)]
        true += sum(each["zone_complete"] for each in real)
        gaps_s = np.abs(
            np.subtract.outer(
                [passage.middle_ns / 1e9 for passage in ours], [statistics.fmean(_times_s(each)) for each in real]
            )
        ).reshape(len(ours), len(real))
        pairs = list(zip(*best_pairs(gaps_s, gaps_s <= PAIRED_WITHIN_S)))
        false += len(ours) - len(pairs)
        for i, j in pairs:
            speed, vehicle = ours[i].speed, real[j]
            if vehicle["zone_complete"] and speed is not None:
                errors_kmh.append(kmh_from_mps(speed.speed_mps) - vehicle["mean_speed_zone_kmh"])
    return Comparison(true, errors_kmh, false)


def _times_s(vehicle: dict[str, Any]) -> list[float]:
    return [vehicle[end] for end in ("zone_enter_s", "zone_exit_s") if vehicle[end] is not None]


NUMBERED: dict[str, type[Flow | Mix]] = {"/flow/": Flow, "/mix": Mix}


class Platform:
    """The other side: subscribes to everything and keeps what arrives."""

    def __init__(self, url: str) -> None:
        self._address = Address.parse(url)
        self._listens = threading.Event()
        self._lock = threading.Condition()
        self._received: dict[int, Flow | Mix] = {}
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="demo-platform", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_connect = lambda client, *_: client.subscribe("snellius-lab/#", qos=1)
        self._client.on_subscribe = lambda *_: self._listens.set()
        self._client.on_message = lambda _client, _data, message: self._take(message)

    def __enter__(self) -> Platform:
        self._client.connect(self._address.host, self._address.port)
        self._client.loop_start()
        if not self._listens.wait(ARRIVAL_S):
            raise SnelliusError(f"no answer from the broker on {self._address}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def flows(self) -> list[Flow]:
        """The windows that have arrived, in the order of their numbers, each once."""
        with self._lock:
            return [message for _, message in sorted(self._received.items()) if isinstance(message, Flow)]

    @property
    def is_gapless(self) -> bool:
        """Whether every number up to the highest has arrived."""
        with self._lock:
            return sorted(self._received) == list(range(1, len(self._received) + 1))

    def wait_for(self, count: int) -> None:
        """Returns when so many numbered messages have arrived, or after a while."""
        with self._lock:
            self._lock.wait_for(lambda: len(self._received) >= count, ARRIVAL_S)

    def _take(self, message: mqtt.MQTTMessage) -> None:
        kind = next((kind for part, kind in NUMBERED.items() if part in message.topic), None)
        if kind is not None:
            read = kind.model_validate_json(message.payload)
            with self._lock:
                self._received[read.seq] = read
                self._lock.notify_all()


class Screen:
    """What one sees while it measures: a live picture on a terminal, a line for each vehicle elsewhere."""

    def __init__(self, console: Console, device: Device, platform: Platform) -> None:
        self.passages: list[Passage] = []
        self._console = console
        self._device = device
        self._platform = platform
        self._live: Live | None = None
        self._drawn_s = 0.0

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def watch(self, frame: Frame | None, passages: list[Passage]) -> None:
        """Takes in a frame and who has passed with it."""
        self.passages += passages
        if self._live is None:
            for passage in passages:
                self._console.print(told(passage), markup=False, highlight=False, soft_wrap=True)
        elif frame is not None and time.monotonic() - self._drawn_s > 1 / REDRAW_HZ:
            self._drawn_s = time.monotonic()
            self._live.update(self._picture(frame), refresh=True)

    def _picture(self, frame: Frame) -> Group:
        view = self._device.pipeline.view
        tracks = [] if view is None else [track for track in view.tracks if abs(track.velocity_mps[0]) > STANDING_MPS]
        seen = Table("now in view", "about", box=None, title=None, min_width=40)
        for track in tracks:
            speed_kmh = kmh_from_mps(abs(float(track.velocity_mps[0])))
            seen.add_row(list(RoadUser)[track.label].value, f"{speed_kmh:.0f} km/h")
        gone = [Text(told(passage)) for passage in self.passages[-ROWS:]]
        flows = self._platform.flows
        return Group(
            Text(f"{frame.captured_ns / 1e9:5.1f} s of the clip, {len(self.passages)} vehicles", style="bold"),
            seen,
            Text("measured, speed ± U (about 95 %)", style="bold"),
            *gone,
            Text(f"the platform has received {len(flows)} windows by MQTT", style="bold"),
        )


def show(*, annotated_file: Path | None) -> bool:
    """The whole demonstration; whether what arrived is what was measured, and every bound holds."""
    console = Console()
    truth = json.loads((BUNDLED / "truth.json").read_text(encoding="utf-8"))
    with ExitStack() as opened:
        partial = opened.enter_context(written_whole(annotated_file)) if annotated_file is not None else None
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="snellius-demo-")))
        _introduce(console, truth, folder)
        broker = opened.enter_context(LoopbackBroker())
        _say(console, f"Broker: {broker.program} on 127.0.0.1, port {broker.port}; it ends with the demonstration.\n")
        platform = opened.enter_context(Platform(broker.url))
        clock = LinuxClock()
        began_s = time.monotonic()
        with assembled(_settings(folder, broker.url), clock) as device:
            with Screen(console, device, platform) as screen, _annotated(partial, device) as draw:

                def watch(frame: Frame | None, passages: list[Passage]) -> None:
                    screen.watch(frame, passages)
                    draw(frame, passages)

                everything_sent = Service(
                    device,
                    clock=clock,
                    stop=threading.Event(),
                    paced=False,
                    checkpoint_s=60,
                    health_s=300,
                    drain_s=ARRIVAL_S,
                    outbox_folder=folder,
                ).run(watch)
            inventory = device.outbox.inventory()
            binning = Binning.for_limit(device.calibration.site.limit_kmh)
            timing = device.source.timing
            clip_s = timing.span_s + (timing.median_step_s or 0.0)
        platform.wait_for(inventory.archived)
        wall_s = time.monotonic() - began_s
        arrived_well = _report_arrivals(console, platform, screen.passages, binning) and everything_sent
    _say(console, f"\n{clip_s:.0f} s of video were measured in {wall_s:.0f} s.")
    holds = _report_comparison(console, compare(screen.passages, truth))
    _conclude(console, annotated_file)
    return arrived_well and holds


def _introduce(console: Console, truth: dict[str, Any], folder: Path) -> None:
    solution = solve(read_survey(BUNDLED / "survey.csv"), read_site(BUNDLED / "site.toml"), SIZE_PX)
    calibration = solution.certified(datetime.now(timezone.utc))
    calibration.save(folder / "calibration.json")
    vehicles = sum(each["zone_complete"] for each in truth["vehicles"])
    u_percent = 100 * EXPANDED * calibration.quality.u_rel_median
    _say(
        console,
        "[bold]Snellius, a demonstration in lab mode.[/] Nothing leaves this computer.",
        f"A rendered street, {vehicles} moving and {len(truth['parked_vehicles'])} parked vehicles, limit "
        f"{calibration.site.limit_kmh} km/h.",
        f"Calibration: {calibration.verdict.value}, from {len(calibration.points)} surveyed marks; it adds ± "
        f"{u_percent:.1f} % to a speed.",
    )


def _settings(folder: Path, broker_url: str) -> Settings:
    """Complete in itself: what is set in the environment for a real device has no part in it."""
    return Settings.model_construct(
        site=SiteSettings(city=CITY, device=DEVICE),
        source=SourceSettings(url=str(CLIP), pace="full", start=datetime.now(timezone.utc) - FILMED_AGO),
        calibration=CalibrationSettings(file=folder / "calibration.json"),
        lab=LabSettings(enabled=True, k=LAB_K, slot_s=LAB_SLOT_S),
        mqtt=MqttSettings(url=broker_url),
        outbox=OutboxSettings(file=folder / "outbox.sqlite"),
    )


@contextmanager
def _annotated(file: Path | None, device: Device) -> Iterator[Callable[[Frame | None, list[Passage]], None]]:
    if file is None:
        yield lambda frame, passages: None
        return
    calibration = device.calibration
    with Annotator(
        file,
        size_px=device.source.size_px,
        rate_hz=device.source.timing.declared_hz,
        plane=calibration.zone_plane,
        polygon_m=calibration.site.polygon_in_frame_m,
    ) as annotator:

        def draw(frame: Frame | None, passages: list[Passage]) -> None:
            if frame is not None and device.pipeline.view is not None:
                annotator.draw(frame, device.pipeline.view, passages)

        yield draw


def _report_arrivals(console: Console, platform: Platform, passages: list[Passage], binning: Binning) -> bool:
    """Shows what the platform has; whether its windows add up to what was measured."""
    flows = platform.flows
    table = Table(
        "direction",
        "window",
        "vehicles",
        "mean",
        "over",
        f"{binning.from_kmh} to {binning.to_kmh} km/h",
        box=None,
    )
    for column in table.columns:
        column.no_wrap = True
    for flow in flows:
        length_s = (flow.window.end - flow.window.start).total_seconds()
        table.add_row(
            flow.direction.value,
            f"{flow.window.start:%H:%M:%S} {length_s:3.0f} s",
            str(flow.count),
            f"{flow.speed.mean:.1f}" if flow.speed.mean is not None else "",
            str(flow.limit.over),
            f"[blue]{_bars((*flow.speed.hist.counts, flow.speed.hist.over))}[/]",
        )
    _say(console, "[bold]Received by MQTT[/] (snellius-lab/1/demo/demo-0001/flow/…), speeds in km/h")
    console.print(table)
    complete = platform.is_gapless
    for direction in Direction:
        received = SpeedHistogram.empty(binning)
        for flow in flows:
            if flow.direction is direction:
                received += flow.speed.hist.read()
        measured = SpeedHistogram.of(
            [
                kmh_from_mps(passage.speed.speed_mps)
                for passage in passages
                if passage.speed is not None and passage.direction is direction and passage.road_user.is_motor
            ],
            binning,
        )
        complete = complete and received == measured
    _say(
        console,
        "They add up to exactly the vehicles that were measured."
        if complete
        else "[red]They do not add up to the vehicles that were measured.[/]",
    )
    return complete


def _bars(counts: Sequence[int]) -> str:
    """A histogram as a word of small bars."""
    top = max(counts)
    return "".join("·▁▂▃▄▅▆▇█"[round(8 * count / top)] if top else "·" for count in counts)


def _report_comparison(console: Console, comparison: Comparison) -> bool:
    _say(
        console,
        f"[bold]Compared with the truth[/]: {len(comparison.errors_kmh)} of {comparison.true} vehicles measured, "
        f"{comparison.false} passages of nobody.",
        f"Error: mean {comparison.bias_kmh:+.2f}, median {comparison.median_kmh:.2f}, worst "
        f"{comparison.worst_kmh:.2f} km/h.",
    )
    broken = comparison.broken()
    _say(console, *(f"[red]{sentence}[/]" for sentence in broken))
    return not broken


def _conclude(console: Console, annotated_file: Path | None) -> None:
    if annotated_file is not None:
        _say(console, f"What the camera saw: {annotated_file}")
    _say(
        console,
        f"\n[bold]Lab mode[/]: windows of {LAB_SLOT_S} s with {LAB_K} vehicles or more, marked as such. On a street",
        "a window lasts 15 minutes or longer and holds 10 vehicles or more.",
        "[bold]Next[/]: calibrate your own camera   snellius calibrate solve --help",
        "      measure a clip of it          snellius replay --help",
        "      run the service               snellius run --help",
    )


def _say(console: Console, *sentences: str) -> None:
    """Whole sentences, one a line; the terminal wraps them."""
    for sentence in sentences:
        console.print(sentence, highlight=False, soft_wrap=True)
