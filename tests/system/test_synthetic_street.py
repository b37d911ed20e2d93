"""Chosen speeds on a road without pixels, through the whole device, to a real broker."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from calibration.units import kmh_from_mps
from edge.assembly import assembled
from edge.clock import Clock, LinuxClock, utc_ns_of
from edge.domain import Binning, Direction, Flag, Frame, Passage, SpeedHistogram
from edge.errors import BadInput
from edge.outbox import Outbox
from edge.publish.payload import Flow, State, Status, StatusReason
from edge.service import Service
from edge.settings import LabSettings, PrivacySettings, Settings
from edge.sources.synthetic import ScriptedVehicle, SyntheticRoad
from edge.trend import BLOCK, Trend
from tests.support.builders import a_passage
from tests.support.mosquitto import Mosquitto, Subscriber, broker_away, eventually
from tests.support.simulated import recorded, settings_of
from tests.support.street import LONG_AGO, MADE, a_road, a_vehicle, demo_calibration

BINNING = Binning.for_limit(30)
SHAPE_TOLERANCE = 0.03  # the scripted vehicles are cuboids, squarer than the bodies that the estimator knows
RATE_HZ = 10  # enough to count; keeps the tests short
LASTS_S = 105.0
SPEEDS_KMH = (24.0, 31.0, 36.0, 44.0, 52.0, 67.0)


def _street(traffic: Sequence[ScriptedVehicle]) -> SyntheticRoad:
    return a_road(*traffic, lasts_s=LASTS_S, rate_hz=RATE_HZ)


def _traffic(count: int, *, every_s: float, seed: int = 4) -> list[ScriptedVehicle]:
    rng = random.Random(seed)
    return [
        a_vehicle(
            speed_kmh=rng.choice(SPEEDS_KMH),
            middle_s=5.0 + every_s * number,
            direction=Direction.FORWARD if number % 2 else Direction.BACKWARD,
        )
        for number in range(count)
    ]


def _run(
    settings: Settings, road: SyntheticRoad, *, stop_after_frames: int | None = None, clock: Clock | None = None
) -> tuple[bool, list[Passage]]:
    """Runs the service on a road; the passages are those that a technician would see."""
    stop = threading.Event()
    passages: list[Passage] = []
    frames = 0

    def watch(frame: Frame | None, gone: list[Passage]) -> None:
        nonlocal frames
        passages.extend(gone)
        frames += 1
        if frames == stop_after_frames:
            stop.set()

    clock = clock or LinuxClock()
    with assembled(settings, clock, source=road, detector=road) as device:
        done = Service(
            device,
            clock=clock,
            stop=stop,
            paced=False,
            checkpoint_s=60,
            health_s=300,
            drain_s=120,  # a busy computer; whoever waits for less goes on at once
            outbox_folder=settings.outbox.file.parent,
        ).run(watch)
    return done, passages


def _flows(platform: Subscriber) -> list[Flow]:
    return [Flow.model_validate_json(message.payload) for message in platform.messages if "/flow/" in message.topic]


def _state(platform: Subscriber) -> State | None:
    heard = platform.on("/status")
    return Status.model_validate_json(heard[-1].payload).state if heard else None


def _histogram(passages: Sequence[Passage], direction: Direction) -> SpeedHistogram:
    measured = [each.speed for each in passages if each.speed is not None and each.direction is direction]
    return SpeedHistogram.of([kmh_from_mps(speed.speed_mps) for speed in measured], BINNING)


def _together(flows: Sequence[Flow], direction: Direction) -> SpeedHistogram:
    total = SpeedHistogram.empty(BINNING)
    for flow in flows:
        if flow.direction is direction:
            total += flow.speed.hist.read()
    return total


def test_the_pipeline_measures_the_speeds_that_were_driven(tmp_path: Path, mosquitto: Mosquitto) -> None:
    traffic = _traffic(8, every_s=6.0)
    done, passages = _run(settings_of(tmp_path, mosquitto.url), a_road(*traffic, lasts_s=55.0))
    assert done
    assert len(passages) == len(traffic)
    for vehicle in traffic:
        (passage,) = (each for each in passages if abs(each.middle_ns / 1e9 - vehicle.middle_s) < 0.5)
        assert passage.direction is vehicle.direction
        assert passage.speed is not None
        assert kmh_from_mps(passage.speed.speed_mps) == pytest.approx(
            kmh_from_mps(vehicle.speed_mps), rel=SHAPE_TOLERANCE
        )


def test_the_platform_receives_every_measured_vehicle_in_windows_of_k_or_more(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    settings = settings_of(tmp_path, mosquitto.url, lab=LabSettings(enabled=True, k=3, slot_s=20))
    with Subscriber(mosquitto.port, "snellius-lab/#") as platform:
        done, passages = _run(settings, _street(_traffic(18, every_s=5.0)))
        assert done
        platform.wait_for(1, "/status")
        flows = _flows(platform)
    assert len(flows) >= 4
    assert all(flow.speed.n >= 3 for flow in flows)
    for direction in Direction:
        assert _together(flows, direction) == _histogram(passages, direction)
    assert {flow.privacy.rule.value for flow in flows} == {"lab"}
    assert min(flow.quality.coverage for flow in flows) >= 0.99


def test_fewer_vehicles_than_k_are_never_told(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = settings_of(tmp_path, mosquitto.url, privacy=PrivacySettings(k=10))
    with Subscriber(mosquitto.port, "snellius/#") as platform:
        done, passages = _run(settings, _street(_traffic(18, every_s=5.0)))
        assert done
        platform.wait_for(1, "/status")
        assert len(passages) == 18  # nine each way
        assert _flows(platform) == []


def test_a_stop_releases_nothing_early_and_the_next_start_goes_on_counting(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    settings = settings_of(tmp_path, mosquitto.url, lab=LabSettings(enabled=True, k=8, slot_s=300))
    traffic = _traffic(18, every_s=5.0)
    with Subscriber(mosquitto.port, "snellius-lab/#") as platform:
        done, before = _run(settings, _street(traffic), stop_after_frames=RATE_HZ * 60)
        assert done
        assert len(before) >= 8
        eventually(lambda: _state(platform) is State.STOPPED, what="status stopped")
        assert _flows(platform) == []

        after_the_gap = settings.model_copy(update={"source": recorded("2026-11-23T06:31:40Z")})
        done, after = _run(after_the_gap, _street(traffic))
        assert done
        platform.wait_for(1, "/forward")
        platform.wait_for(1, "/backward")
        flows = _flows(platform)
    for direction in Direction:
        (flow,) = (flow for flow in flows if flow.direction is direction)
        assert flow.speed.hist.read() == _histogram(before + after, direction)
        # A slot of 06:30 to 06:35 that was watched for one minute and for the length of the second run.
        assert f"{flow.window.start:%H:%M:%S}" == "06:30:00"
        watched_s = 60 + LASTS_S
        ended_s = 100 + LASTS_S
        assert flow.quality.coverage == pytest.approx(watched_s / ended_s, abs=0.01)


def test_windows_measured_without_a_broker_arrive_when_it_is_back(tmp_path: Path) -> None:
    road = _street(_traffic(18, every_s=5.0))
    with broker_away(tmp_path / "broker", "snellius-lab/#") as (broker, platform):
        back = threading.Timer(5.0, broker.start)
        back.start()
        settings = settings_of(tmp_path, broker.url, lab=LabSettings(enabled=True, k=1, slot_s=10))
        done, passages = _run(settings, road)
        back.join()
        assert done
        measured = sum(each.speed is not None for each in passages)
        assert measured == 18
        eventually(lambda: sum(flow.speed.n for flow in _flows(platform)) >= measured, what="every vehicle arrives")
        flows = _flows(platform)
    for direction in Direction:
        assert _together(flows, direction) == _histogram(passages, direction)
    assert sorted(flow.seq for flow in flows) == sorted({flow.seq for flow in flows})


class _ClockThatIsSetLate(LinuxClock):
    """Boots on the day on which the calibration was made; a time server sets it two years on after a while."""

    def __init__(self, *, after_readings: int) -> None:
        self._left = after_readings

    def utc_ns(self) -> int:
        self._left -= 1
        return utc_ns_of(MADE + timedelta(days=0 if self._left > 0 else 730))


def test_an_expired_calibration_that_is_allowed_marks_every_message(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = settings_of(tmp_path, mosquitto.url, lab=LabSettings(enabled=True, k=1, slot_s=10))
    demo_calibration(LONG_AGO).save(settings.calibration.file)
    allowed = settings.calibration.model_copy(update={"allow_expired": True})
    with Subscriber(mosquitto.port, "snellius-lab/#") as platform:
        done, passages = _run(
            settings.model_copy(update={"calibration": allowed}), a_road(*_traffic(4, every_s=6.0), lasts_s=35.0)
        )
        assert done
        eventually(lambda: _state(platform) is State.STOPPED, what="status stopped")
        flows, said = _flows(platform), [Status.model_validate_json(each.payload) for each in platform.on("/status")]
    assert sum(flow.count for flow in flows) == len(passages) == 4
    assert all(Flag.CALIBRATION_EXPIRED in flow.quality.flags for flow in flows)
    assert any(StatusReason.CALIBRATION_OLD in status.reasons for status in said)


def test_traffic_that_has_looked_different_for_a_while_is_told_and_corrects_nothing(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    settings = settings_of(tmp_path, mosquitto.url, lab=LabSettings(enabled=True, k=1, slot_s=10))
    cars = Trend(demo_calibration().id)
    for length_m in (4.4, 4.8, 4.8):  # three blocks: a reference, and two that differ from it
        for _ in range(BLOCK):
            cars.add(replace(a_passage(), length_m=length_m))
    with Outbox(settings.outbox.file) as outbox:
        outbox.checkpoint({"next_ordinal": 1, "slots": []}, cars.state())
    with Subscriber(mosquitto.port, "snellius-lab/#") as platform:
        _, passages = _run(settings, a_road(*_traffic(4, every_s=6.0), lasts_s=35.0))
        eventually(lambda: _state(platform) is State.STOPPED, what="status stopped")
        flows, said = _flows(platform), [Status.model_validate_json(each.payload) for each in platform.on("/status")]
    assert all(Flag.CALIBRATION_DRIFT in flow.quality.flags for flow in flows)
    assert any(StatusReason.CALIBRATION_DRIFT in status.reasons for status in said)
    for direction in Direction:
        assert _together(flows, direction) == _histogram(passages, direction)
    with Outbox(settings.outbox.file) as outbox:
        assert outbox.restored().trend == cars.state()


def test_a_calibration_that_expires_while_the_device_runs_ends_it_with_one_line(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    settings = settings_of(tmp_path, mosquitto.url)
    with Subscriber(mosquitto.port, "snellius/#") as platform:
        with pytest.raises(BadInput, match="expired on") as refused:
            _run(settings, a_road(lasts_s=30.0), clock=_ClockThatIsSetLate(after_readings=100))
        assert "\n" not in str(refused.value)
        eventually(lambda: _state(platform) is State.STOPPED, what="status stopped")
        assert _flows(platform) == []
