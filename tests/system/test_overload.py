"""A detector that is too slow for its camera: larger sigma, never a wrong speed, and the device says so."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.units import kmh_from_mps
from edge.assembly import assembled, counting, known_model, measuring_pipeline
from edge.cli.measuring import rules_for
from edge.clock import ClockAnchor
from edge.domain import (
    Binning,
    Detections,
    Direction,
    Flag,
    Frame,
    Passage,
    Pixels,
    SpeedHistogram,
    WindowAggregate,
)
from edge.pipeline import LEAST_FRAMES_HZ
from edge.publish.payload import Flow, Health, State, Status, StatusReason
from edge.service import Service, measure
from edge.settings import LabSettings, SourceSettings
from edge.sources.live import LiveSource, Shot
from edge.sources.synthetic import ScriptedVehicle, SyntheticRoad
from tests.support.builders import MORNING, utc_ns
from tests.support.mosquitto import Mosquitto, Subscriber, eventually
from tests.support.simulated import settings_of
from tests.support.street import a_road, a_vehicle, demo_calibration

CAMERA_HZ = 30.0
LOOK_S = 0.25  # what the detector needs for a frame
HASTE = 2  # seconds of the street in a second of the test
SLOW = a_vehicle(speed_kmh=27.0, middle_s=5.0)
BRISK = a_vehicle(speed_kmh=43.0, middle_s=6.5, direction=Direction.BACKWARD)
LATER = [a_vehicle(speed_kmh=29.0, middle_s=5.0 + 12.0 * number) for number in range(1, 8)]  # one a slot or none


def close_enough(passage: Passage, vehicle: ScriptedVehicle) -> bool:
    assert passage.speed is not None
    tolerance_mps = max(3 * passage.speed.sigma_mps, 0.02 * vehicle.speed_mps)
    return passage.speed.speed_mps == pytest.approx(vehicle.speed_mps, abs=tolerance_mps)


def driven_by(passage: Passage, start_ns: int = 0) -> ScriptedVehicle:
    """Whose passage it is."""
    at_s = (passage.middle_ns - start_ns) / 1e9
    alike = [each for each in (SLOW, BRISK, *LATER) if each.direction is passage.direction]
    vehicle = min(alike, key=lambda each: abs(each.middle_s - at_s))
    assert at_s == pytest.approx(vehicle.middle_s, abs=0.6)
    return vehicle


def newest_frames(road: SyntheticRoad) -> Iterator[Frame]:
    """What is left of 30 frames a second when each look takes a quarter of one: the newest frame after each."""
    free_s = 0.0
    for frame in road.frames():
        if frame.captured_ns / 1e9 >= free_s:
            free_s = frame.captured_ns / 1e9 + LOOK_S
            yield frame


def test_four_looks_a_second_measure_with_a_larger_sigma_and_the_time_does_not_count_as_watched() -> None:
    traffic = (SLOW, BRISK, *LATER[:3])
    road = a_road(*traffic, lasts_s=50.0, rate_hz=CAMERA_HZ)
    calibration = demo_calibration()
    at_ease = measuring_pipeline(calibration, road, has_cadence=True)
    expected = [passage for frame in road.frames() for passage in at_ease.step(frame)] + at_ease.finish()
    assert at_ease.impaired_by is None

    pipeline = measuring_pipeline(calibration, road, has_cadence=True)
    rules = rules_for(limit_kmh=calibration.site.limit_kmh, lab=True, k=None, slot_s=None)
    windows, anonymity = counting(
        calibration=calibration, model=known_model(None), rules=rules, anchor=ClockAnchor.of_clip(None)
    )
    passages: list[Passage] = []
    for _ in measure(
        newest_frames(a_road(*traffic, lasts_s=50.0, rate_hz=CAMERA_HZ)),
        pipeline=pipeline,
        windows=windows,
        anonymity=anonymity,
        watch=lambda frame, gone: passages.extend(gone),
    ):
        pass
    passages += pipeline.finish()
    assert len(passages) == len(expected) == len(traffic)
    assert all(close_enough(passage, driven_by(passage)) for passage in passages)
    # The sigma of one vehicle is estimated from its own boxes and scatters; that of all together is larger.
    slow, quick = ([each.speed.sigma_random_mps for each in of if each.speed] for of in (passages, expected))
    assert len(slow) == len(quick) == len(traffic)
    assert np.mean(slow) > np.mean(quick)
    assert pipeline.frames_hz == pytest.approx(1 / LOOK_S, rel=0.1)
    closed: list[WindowAggregate] = windows.finish()
    assert closed
    assert all(Flag.FRAME_RATE in aggregate.marks for aggregate in closed)
    assert sum(aggregate.watched_ns for aggregate in closed) < 0.1 * sum(each.duration_ns for each in closed)


class _Hastened:
    """The clocks of a machine on which everything goes HASTE times as fast, also its camera and its detector."""

    def __init__(self) -> None:
        self._begin_ns = time.monotonic_ns()

    def boottime_ns(self) -> int:
        return HASTE * (time.monotonic_ns() - self._begin_ns)

    def utc_ns(self) -> int:
        return utc_ns(MORNING) + self.boottime_ns()

    def is_synced(self) -> bool:
        return True

    def was_synced(self) -> bool:
        return True


class _Staged:
    """A camera of 30 frames a second, stamped by its sensor; its pictures can be counted."""

    declared_hz = CAMERA_HZ

    def __init__(self, clock: _Hastened) -> None:
        self.pictures: list[weakref.ref[Pixels]] = []
        self._clock = clock
        self._noise = np.random.default_rng(0)
        self._next_s = time.monotonic()

    def read(self) -> Shot:
        self._next_s = max(self._next_s + 1 / CAMERA_HZ / HASTE, time.monotonic())
        time.sleep(max(self._next_s - time.monotonic(), 0.0))
        picture = np.full((540, 960, 3), 120, dtype=np.uint8)
        picture[::8, ::8] = self._noise.integers(0, 255, (68, 120, 3), dtype=np.uint8)
        self.pictures.append(weakref.ref(picture))
        return Shot(picture, self._clock.boottime_ns(), is_boottime=True)

    def close(self) -> None:
        return None


class _Slow:
    """The road as it was when the frame was taken, told a quarter of a second later. Its time begins at the first."""

    def __init__(self, camera: _Staged) -> None:
        self._road = a_road(SLOW, BRISK, *LATER, lasts_s=1.0)
        self._camera = camera
        self.start_ns = -1
        self.in_memory = 0

    def detect(self, frame: Frame) -> Detections:
        if self.start_ns < 0:
            self.start_ns = frame.captured_ns
        self.in_memory = max(self.in_memory, sum(picture() is not None for picture in self._camera.pictures))
        time.sleep(LOOK_S / HASTE)
        return self._road.detect(replace(frame, captured_ns=frame.captured_ns - self.start_ns))


@pytest.mark.slow
def test_a_device_whose_detector_is_too_slow_measures_nobody_wrong_and_tells_the_platform(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """The running service behind the thread that reads a camera. However busy this computer is: no speed is wrong."""
    clock, stop = _Hastened(), threading.Event()
    camera = _Staged(clock)
    detector = _Slow(camera)
    passages: list[Passage] = []
    ages_s: list[float] = []

    def look(frame: Frame | None, gone: list[Passage]) -> None:
        passages.extend(gone)
        if frame is not None:
            ages_s.append((clock.boottime_ns() - frame.captured_ns) / 1e9 - LOOK_S)

    settings = settings_of(
        tmp_path,
        mosquitto.url,
        source=SourceSettings(url="rtsp://127.0.0.1/street"),
        lab=LabSettings(enabled=True, k=1, slot_s=10),
    )
    with (
        Subscriber(mosquitto.port, "snellius-lab/#") as platform,
        LiveSource(lambda: camera, name="staged", clock_ns=clock.boottime_ns) as source,
        assembled(settings, clock, source=source, detector=detector) as device,
    ):
        service = Service(
            device,
            clock=clock,
            stop=stop,
            paced=False,
            checkpoint_s=60,
            health_s=10,
            drain_s=0,
            outbox_folder=tmp_path,
        )
        running = threading.Thread(target=service.run, args=(look,))
        running.start()
        try:
            eventually(
                lambda: Direction.FORWARD in [each.direction for each in _windows(platform)], 100.0, "a window forward"
            )
        finally:
            stop.set()
            running.join(30.0)
        pipeline, overtaken = device.pipeline, source.overtaken
        eventually(lambda: State.STOPPED in [each.state for each in _statuses(platform)], what="status stopped")

    measured = [passage for passage in passages if passage.speed is not None]
    assert all(close_enough(passage, driven_by(passage, detector.start_ns)) for passage in measured)
    assert overtaken > 3 * pipeline.inferences
    assert pipeline.frames_hz is not None
    assert pipeline.frames_hz < LEAST_FRAMES_HZ
    assert pipeline.impaired_by is Flag.FRAME_RATE
    assert detector.in_memory < 8, "pictures do not pile up"
    assert sorted(ages_s)[len(ages_s) // 2] < 3 * LOOK_S, "and the newest is taken, not the oldest"

    flows = _windows(platform)
    forward = next(flow for flow in flows if flow.direction is Direction.FORWARD)
    first = next(passage.speed for passage in measured if passage.speed and passage.direction is Direction.FORWARD)
    assert forward.speed.hist.read() == SpeedHistogram.of([kmh_from_mps(first.speed_mps)], Binning.for_limit(30))
    assert all(Flag.FRAME_RATE in flow.quality.flags for flow in flows)
    assert all(flow.quality.coverage < 0.2 for flow in flows)
    slow = [each for each in _statuses(platform) if StatusReason.FRAME_RATE in each.reasons]
    assert slow
    assert all(each.state is State.DEGRADED for each in slow)
    healths = [Health.model_validate_json(each.payload) for each in platform.on("/health")]
    assert healths
    assert all(each.coverage.share < 0.2 for each in healths)


def _windows(platform: Subscriber) -> list[Flow]:
    return [Flow.model_validate_json(each.payload) for each in platform.messages if "/flow/" in each.topic]


def _statuses(platform: Subscriber) -> list[Status]:
    return [Status.model_validate_json(each.payload) for each in platform.on("/status")]
