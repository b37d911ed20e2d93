"""A detector that is too slow for its camera: larger sigma, never a wrong speed, and the device says so."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from edge.assembly import counting, known_model, measuring_pipeline
from edge.cli.measuring import rules_for
from edge.clock import ClockAnchor
from edge.domain import Detections, Direction, Flag, Frame, Passage, Pixels, WindowAggregate
from edge.pipeline import LEAST_FRAMES_HZ
from edge.service import measure
from edge.sources.live import LiveSource, Shot, boottime_ns
from edge.sources.synthetic import ScriptedVehicle, SyntheticRoad
from tests.support.street import a_road, a_vehicle, demo_calibration

CAMERA_HZ = 30.0
LOOK_S = 0.25  # what the detector needs for a frame
SLOW = a_vehicle(speed_kmh=27.0, middle_s=5.0)
BRISK = a_vehicle(speed_kmh=43.0, middle_s=6.5, direction=Direction.BACKWARD)


def close_enough(passage: Passage, vehicle: ScriptedVehicle) -> bool:
    assert passage.speed is not None
    tolerance_mps = max(3 * passage.speed.sigma_mps, 0.02 * vehicle.speed_mps)
    return passage.speed.speed_mps == pytest.approx(vehicle.speed_mps, abs=tolerance_mps)


def driven_by(passage: Passage, start_ns: int = 0) -> ScriptedVehicle:
    """Whose passage it is."""
    at_s = (passage.middle_ns - start_ns) / 1e9
    (vehicle,) = (each for each in (SLOW, BRISK) if each.direction is passage.direction)
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
    road = a_road(SLOW, BRISK, lasts_s=30.0, rate_hz=CAMERA_HZ)
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
        newest_frames(a_road(SLOW, BRISK, lasts_s=30.0, rate_hz=CAMERA_HZ)),
        pipeline=pipeline,
        windows=windows,
        anonymity=anonymity,
        watch=lambda frame, gone: passages.extend(gone),
    ):
        pass
    passages += pipeline.finish()
    assert len(passages) == len(expected) == 2
    for passage in passages:
        vehicle = driven_by(passage)
        assert close_enough(passage, vehicle)
        (before,) = (each for each in expected if each.direction is passage.direction)
        assert passage.speed is not None
        assert before.speed is not None
        assert passage.speed.sigma_random_mps > before.speed.sigma_random_mps
    assert pipeline.frames_hz == pytest.approx(1 / LOOK_S, rel=0.1)
    closed: list[WindowAggregate] = windows.finish()
    assert closed
    assert all(Flag.FRAME_RATE in aggregate.marks for aggregate in closed)
    assert sum(aggregate.watched_ns for aggregate in closed) < 0.1 * sum(each.duration_ns for each in closed)


class _Staged:
    """A camera of 30 frames a second, stamped by its sensor; its pictures can be counted."""

    declared_hz = CAMERA_HZ

    def __init__(self) -> None:
        self.pictures: list[weakref.ref[Pixels]] = []
        self._noise = np.random.default_rng(0)
        self._next_s = time.monotonic()

    def read(self) -> Shot:
        self._next_s = max(self._next_s + 1 / CAMERA_HZ, time.monotonic())
        time.sleep(max(self._next_s - time.monotonic(), 0.0))
        picture = np.full((540, 960, 3), 120, dtype=np.uint8)
        picture[::8, ::8] = self._noise.integers(0, 255, (68, 120, 3), dtype=np.uint8)
        self.pictures.append(weakref.ref(picture))
        return Shot(picture, boottime_ns(), is_boottime=True)

    def close(self) -> None:
        return None


class _Slow:
    """The road as it was when the frame was taken, told a quarter of a second later."""

    def __init__(self, camera: _Staged) -> None:
        self._road = a_road(SLOW, BRISK, lasts_s=1.0)
        self._camera = camera
        self.start_ns = boottime_ns()
        self.in_memory = 0

    def detect(self, frame: Frame) -> Detections:
        self.in_memory = max(self.in_memory, sum(picture() is not None for picture in self._camera.pictures))
        time.sleep(LOOK_S)
        return self._road.detect(replace(frame, captured_ns=frame.captured_ns - self.start_ns))


@pytest.mark.slow
def test_a_camera_that_delivers_faster_than_the_detector_looks_is_followed_frame_by_newest_frame() -> None:
    """In real time, with the thread that reads a camera. However busy this computer is: no speed is wrong."""
    camera = _Staged()
    detector = _Slow(camera)
    pipeline = measuring_pipeline(demo_calibration(), detector, has_cadence=True)
    passages: list[Passage] = []
    ages_s: list[float] = []
    with LiveSource(lambda: camera, name="staged") as source:
        for frame in source.frames():
            passages += pipeline.step(frame)
            ages_s.append((boottime_ns() - frame.captured_ns) / 1e9 - LOOK_S)
            if frame.captured_ns - detector.start_ns > 11e9:
                break
        overtaken = source.overtaken
    passages += pipeline.finish()
    measured = [passage for passage in passages if passage.speed is not None]
    assert SLOW in [driven_by(passage, detector.start_ns) for passage in measured]
    assert all(close_enough(passage, driven_by(passage, detector.start_ns)) for passage in measured)
    assert overtaken > 3 * pipeline.inferences
    assert pipeline.frames_hz is not None
    assert pipeline.frames_hz < LEAST_FRAMES_HZ
    assert pipeline.impaired_by is Flag.FRAME_RATE
    assert detector.in_memory < 8, "pictures do not pile up"
    assert sorted(ages_s)[len(ages_s) // 2] < 3 * LOOK_S, "and the newest is taken, not the oldest"
