"""Frames in, passages out: chosen speeds on a road without pixels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest

from calibration.units import kmh_from_mps
from edge.assembly import measuring_pipeline
from edge.domain import Detections, Direction, Frame, Passage, RoadUser
from edge.pipeline import Pipeline
from edge.sources.synthetic import ScriptedVehicle, SyntheticRoad
from tests.support.street import a_road, a_vehicle, demo_calibration

BACKWARD = Direction.BACKWARD
STREET = (
    a_vehicle(speed_kmh=31.0, middle_s=4.0),
    a_vehicle(speed_kmh=45.0, middle_s=6.0, direction=BACKWARD),
    a_vehicle(speed_kmh=24.0, middle_s=9.0),
    a_vehicle(speed_kmh=58.0, middle_s=11.0, direction=BACKWARD),
)
LASTS_S = 16.0


def the_street(*vehicles: ScriptedVehicle, **how: float) -> SyntheticRoad:
    return a_road(*(vehicles or STREET), **({"lasts_s": LASTS_S, "rate_hz": 10.0} | how))  # type: ignore[arg-type]


def a_pipeline(road: SyntheticRoad) -> Pipeline:
    return measuring_pipeline(demo_calibration(), road)


def passages_of(road: SyntheticRoad) -> list[Passage]:
    pipeline = a_pipeline(road)
    return [passage for frame in road.frames() for passage in pipeline.step(frame)] + pipeline.finish()


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    return passages_of(the_street())


def test_everyone_is_measured_at_the_chosen_speed(passages: list[Passage]) -> None:
    """The scripted vehicles are cuboids, no real one is that square: two sigma, or two per cent if that is more."""
    assert len(passages) == len(STREET)
    for vehicle in STREET:
        (passage,) = (each for each in passages if abs(each.middle_ns / 1e9 - vehicle.middle_s) < 0.2)
        assert passage.direction is vehicle.direction
        assert passage.road_user is RoadUser.CAR
        assert passage.lateral_m == pytest.approx(vehicle.lateral_m, abs=0.5)
        assert passage.speed is not None
        tolerance_mps = max(2 * passage.speed.sigma_mps, 0.02 * vehicle.speed_mps)
        assert passage.speed.speed_mps == pytest.approx(vehicle.speed_mps, abs=tolerance_mps)
        assert kmh_from_mps(passage.speed.sigma_mps) < 1.0


def test_passages_tell_when_the_zone_was_entered_and_left(passages: list[Passage]) -> None:
    site = demo_calibration().site
    for vehicle, passage in zip(STREET, sorted(passages, key=lambda each: each.middle_ns)):
        half_s = site.length_m / vehicle.speed_mps / 2
        assert passage.entered_ns / 1e9 == pytest.approx(vehicle.middle_s - half_s, abs=0.1)
        assert passage.left_ns / 1e9 == pytest.approx(vehicle.middle_s + half_s, abs=0.1)


def test_the_same_recording_gives_the_same_passages_to_the_last_bit(passages: list[Passage]) -> None:
    assert passages_of(the_street()) == passages


def test_the_clock_of_the_source_may_begin_anywhere(passages: list[Passage]) -> None:
    """Live sources count from the start of the machine."""
    road, started_ns = the_street(), 987_654_321_000_000_000

    class Later:
        def detect(self, frame: Frame) -> Detections:
            return road.detect(moved(frame, -started_ns))

    pipeline = measuring_pipeline(demo_calibration(), Later())
    later = [p for frame in road.frames() for p in pipeline.step(moved(frame, started_ns))] + pipeline.finish()
    assert [each.middle_ns - started_ns for each in later] == [each.middle_ns for each in passages]
    assert [each.speed for each in later] == [each.speed for each in passages]


def moved(frame: Frame, by_ns: int) -> Frame:
    return Frame(frame.captured_ns + by_ns, frame.captured_sigma_s, frame.time_kind, frame.image_bgr)


def test_a_passage_becomes_certain_some_seconds_after_it_happened_and_not_at_the_end_of_the_recording() -> None:
    pipeline = a_pipeline(road := the_street(STREET[0], lasts_s=20.0))
    known_s = [frame.captured_ns / 1e9 for frame in road.frames() if pipeline.step(frame)]
    assert len(known_s) == 1
    assert 6.0 < known_s[0] < 18.0
    assert pipeline.finish() == []


def test_at_the_end_of_a_recording_those_still_in_view_are_counted() -> None:
    """The clip ends one second after the first car was in the middle of the zone: its track is still open."""
    pipeline = a_pipeline(road := the_street(STREET[0], lasts_s=5.5))
    assert [passage for frame in road.frames() for passage in pipeline.step(frame)] == []
    (passage,) = pipeline.finish()
    assert passage.speed is not None
    assert passage.speed.speed_mps == pytest.approx(STREET[0].speed_mps, rel=0.03)
    assert pipeline.finish() == []


def test_nothing_is_left_of_one_run_in_the_next(passages: list[Passage]) -> None:
    """A run that is broken off in the midst of traffic, then a whole one with another pipeline."""
    broken_off = a_pipeline(road := the_street())
    for frame in islice(road.frames(), 70):
        broken_off.step(frame)
    assert passages_of(the_street()) == passages


def test_parked_cars_are_no_passages() -> None:
    parked = [ScriptedVehicle(0.0, lateral_m=-3.2, standing_m=place) for place in (-6.0, 0.0, 6.0)]
    assert passages_of(the_street(*parked)) == []


def test_an_empty_street_has_no_passages() -> None:
    assert passages_of(the_street(a_vehicle(middle_s=500.0), lasts_s=3.0)) == []


def test_every_frame_is_looked_at_once() -> None:
    pipeline = a_pipeline(road := the_street(lasts_s=3.0))
    for frame in road.frames():
        pipeline.step(frame)
    assert pipeline.inferences == road.frame_count == 30


def test_the_latest_frame_can_be_drawn() -> None:
    pipeline = a_pipeline(road := the_street(*STREET[:2]))
    assert pipeline.view is None
    for frame in islice(road.frames(), 61):
        pipeline.step(frame)
    assert pipeline.view is not None
    assert len(pipeline.view.sightings.detections) == len(road.detect(frame)) > 0
    assert [track.velocity_mps[0] for track in pipeline.view.tracks] == pytest.approx([31 / 3.6, -45 / 3.6], rel=0.2)


@pytest.mark.parametrize("back_ns", [0, 1_000_000], ids=["same instant", "earlier"])
def test_a_frame_that_is_not_later_is_refused(back_ns: int) -> None:
    pipeline = a_pipeline(road := the_street())
    frames: Iterator[Frame] = road.frames()
    next(frames)
    frame = next(frames)
    pipeline.step(frame)
    with pytest.raises(ValueError, match="order of time"):
        pipeline.step(moved(frame, -back_ns))


def test_when_frames_stop_coming_those_in_view_are_gone_and_nobody_is_lost(passages: list[Passage]) -> None:
    road = the_street()
    pipeline = a_pipeline(road)
    seen = [passage for frame in islice(road.frames(), 120) for passage in pipeline.step(frame)]  # twelve seconds
    after = [passage for at_s in range(14, 30) for passage in pipeline.pause(at_s * 1_000_000_000)]
    assert sorted(each.middle_ns // 10**8 for each in seen + after) == sorted(
        each.middle_ns // 10**8 for each in passages
    )
    assert pipeline.finish() == []


def test_a_surprise_in_a_stage_costs_those_in_view_only() -> None:
    road = the_street()
    pipeline = a_pipeline(road)
    seen = [passage for frame in islice(road.frames(), 100) for passage in pipeline.step(frame)]
    saved = pipeline.salvage()
    assert [round(each.middle_ns / 1e9) for each in seen + saved] == [4, 6]  # the others are in view after ten seconds
    assert pipeline.finish() == []
