"""What the accuracy benchmark sets beside our estimator and tracker is told right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import clips, plots, scenes
from benchmarks.ablation import drawn_out
from benchmarks.evaluation import Recording
from benchmarks.recipes import RECIPES, Footage, Recipe, first_five, last_second
from benchmarks.trackers import OURS, follow, followers, identities
from calibration.units import kmh_from_mps
from edge.domain import Ints, Trajectory
from tests.support.street import a_road, a_vehicle, demo_calibration

RATE_HZ = 20.0
SPEED_KMH = 45.0


def a_recording(*, lasts_s: float = 10.0) -> Recording:
    road = a_road(a_vehicle(speed_kmh=SPEED_KMH), lasts_s=lasts_s, box_sigma_px=0.0)
    frames = [(f.captured_ns, f.captured_sigma_s, f.time_kind, road.detect(f)) for f in road.frames()]
    return Recording(frames, road.size_px, RATE_HZ)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return a_recording()


@pytest.fixture(scope="module")
def trajectory(recording: Recording) -> Trajectory:
    calibration = demo_calibration()
    trajectories, _ = follow(recording, calibration, followers(calibration, RATE_HZ)[OURS]())
    (only,) = (found for found in trajectories if len(found) > 10)
    return only


@pytest.fixture(scope="module")
def footage(recording: Recording) -> Footage:
    return Footage(demo_calibration(), recording.instants_s, RATE_HZ)


def in_zone(trajectory: Trajectory) -> Ints:
    along = trajectory.positions_m[:, 0]
    return np.flatnonzero((along >= 0) & (along <= demo_calibration().site.length_m))


def test_kept_detections_are_the_detections(recording: Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "kept.npz")
    kept = Recording.load(tmp_path / "kept.npz")

    assert kept.size_px == recording.size_px
    assert kept.declared_hz == recording.declared_hz
    for one, other in zip(recording.frames(), kept.frames(), strict=True):
        assert (one.captured_ns, one.captured_sigma_s, one.time_kind) == (
            other.captured_ns,
            other.captured_sigma_s,
            other.time_kind,
        )
        ours, theirs = recording.detect(one), kept.detect(other)
        np.testing.assert_array_equal(ours.boxes_xyxy_px, theirs.boxes_xyxy_px)
        np.testing.assert_array_equal(ours.scores, theirs.scores)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("hertz", [10, 5, 3])
def test_a_slower_camera_sees_one_frame_a_period(recording: Recording, hertz: int) -> None:
    instants_s = recording.at_rate(hertz).instants_s
    assert len(instants_s) == 10 * hertz
    np.testing.assert_allclose(np.diff(instants_s).mean(), 1 / hertz, rtol=0.02)


@pytest.mark.parametrize("name", ["line through bottom centres", "median of five (BrnoCompSpeed)"])
def test_a_rule_on_the_road_reads_about_the_right_speed(name: str, trajectory: Trajectory, footage: Footage) -> None:
    path = Recipe(RECIPES[name], footage).estimate(trajectory)
    assert path is not None
    assert kmh_from_mps(abs(path.along[1])) == pytest.approx(SPEED_KMH, rel=0.05)


def test_a_second_of_whole_metres_over_one_interval_too_many_reads_too_low(
    trajectory: Trajectory, footage: Footage
) -> None:
    inside = in_zone(trajectory)
    count = min(len(inside), int(RATE_HZ))
    along = trajectory.positions_m[inside[-count:], 0]
    true_mps = abs(along[-1] - along[0]) / ((count - 1) / RATE_HZ)
    told = last_second(trajectory, inside, footage)
    assert told == pytest.approx(true_mps * (count - 1) / count, abs=2.0 * RATE_HZ / count)
    assert told * count / RATE_HZ == pytest.approx(round(told * count / RATE_HZ))  # whole metres


def test_half_a_second_is_not_enough_for_a_label(trajectory: Trajectory, footage: Footage) -> None:
    assert np.isnan(last_second(trajectory, in_zone(trajectory)[: int(RATE_HZ / 2) - 1], footage))


def test_the_first_five_boxes_lock_a_speed_in_whole_kilometres(trajectory: Trajectory, footage: Footage) -> None:
    from_mid_zone = trajectory.rows(in_zone(trajectory)[len(in_zone(trajectory)) // 2 :])
    boxes = from_mid_zone.boxes_xyxy_px
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    metres = np.linalg.norm(centres[4] - centres[0]) * footage.metres_per_px
    told = kmh_from_mps(first_five(from_mid_zone, in_zone(from_mid_zone), footage))
    assert told == pytest.approx(np.floor(metres / (4 / RATE_HZ) * 3.6))
    assert 0 < told < 120
    assert np.isnan(first_five(trajectory.rows(np.arange(4)), in_zone(trajectory), footage))


def test_every_rule_gives_a_passage_in_the_right_direction(trajectory: Trajectory, footage: Footage) -> None:
    for rule in RECIPES.values():
        path = Recipe(rule, footage).estimate(trajectory)
        assert path is not None
        assert path.along[1] > 0


def a_truth(boxes: dict[int, list[list[float]]], frames: int) -> dict[str, Any]:
    """Vehicles whose boxes are given for every frame, whole and visible."""
    numbers = list(range(frames))
    still = {"frame": numbers, "x_m": [0.0] * frames, "y_m": [0.0] * frames}
    whole = {"truncated": [0] * frames, "visible": [1.0] * frames}
    return {
        "pts_s": [number / 10 for number in numbers],
        "zone": {"polygon_m": [[-10, -3], [10, -3], [10, 3], [-10, 3]], "length_m": 20.0},
        "road_axis": [1.0, 0.0],
        "vehicles": [{"frames": still | whole | {"box": of}} for of in boxes.values()],
    }


def a_track(frames: range, boxes: list[list[float]]) -> Trajectory:
    times = np.array(frames) / 10
    return Trajectory(
        times_s=times,
        time_sigma_s=0.0,
        boxes_xyxy_px=np.array([boxes[number] for number in frames]),
        scores=np.ones(len(times)),
        labels=np.zeros(len(times), dtype=np.intp),
        positions_m=np.zeros((len(times), 2)),
        covered=np.zeros(len(times)),
    )


LEFT = [[10.0 + 5 * n, 100.0, 60.0 + 5 * n, 140.0] for n in range(20)]
SEEN_S = np.arange(20) / 10
RIGHT = [[500.0 - 5 * n, 100.0, 550.0 - 5 * n, 140.0] for n in range(20)]


def test_two_vehicles_with_an_identity_each_are_found_whole() -> None:
    told = identities(a_truth({1: LEFT, 2: RIGHT}, 20), [a_track(range(20), LEFT), a_track(range(20), RIGHT)], SEEN_S)
    assert told == {"found": 1.0, "switches": 0, "fragments": 0, "stitched": 0}


def test_a_vehicle_lost_and_found_under_another_name_is_a_switch_and_a_fragment() -> None:
    told = identities(a_truth({1: LEFT}, 20), [a_track(range(8), LEFT), a_track(range(12, 20), LEFT)], SEEN_S)
    assert told == {"found": 0.8, "switches": 1, "fragments": 1, "stitched": 0}


def test_frames_that_a_tracker_was_not_given_are_no_gaps() -> None:
    told = identities(a_truth({1: LEFT}, 20), [a_track(range(0, 20, 2), LEFT)], SEEN_S[::2])
    assert told == {"found": 1.0, "switches": 0, "fragments": 0, "stitched": 0}


def test_one_identity_for_two_vehicles_is_stitched() -> None:
    stitched = LEFT[:10] + RIGHT[10:]
    told = identities(a_truth({1: LEFT, 2: RIGHT}, 20), [a_track(range(20), stitched)], SEEN_S)
    assert told["stitched"] == 1
    assert told["switches"] == 0


def a_run(errors: list[float], *, sigma_kmh: float = 1.0, false: int = 0, missed: int = 0) -> scenes.Run:
    vehicles = [
        {"scene": "S", "id": n, "cls": "car", "distance_m": 20.0 + n, "true_kmh": 40.0, "error_kmh": error}
        | {"sigma_kmh": sigma_kmh}
        for n, error in enumerate(errors)
    ]
    score = {"true_passages": len(errors) + missed, "measured": len(errors), "false": false, "v85_error": 0.1}
    return scenes.Run(score, vehicles)


def test_what_misses_a_target_is_named() -> None:
    assert scenes.figures_of([a_run([0.2, -0.2, 0.1, -0.1])], scenes=1)["not_met"] == []
    assert scenes.figures_of([a_run([0.4, 0.4, 0.4])], scenes=1)["not_met"] == ["bias"]
    assert scenes.figures_of([a_run([0.7, -5.1, 5.1])], scenes=1)["not_met"] == ["median", "mean", "worst"]
    assert scenes.figures_of([a_run([0.1, -0.1], false=1)], scenes=1)["not_met"] == ["false"]
    assert scenes.figures_of([a_run([0.1, -0.1], missed=1)], scenes=1)["not_met"] == []
    assert scenes.figures_of([a_run([0.1, -0.1], missed=2)], scenes=1)["not_met"] == ["missed"]


def test_a_sigma_that_promises_too_much_is_improbable() -> None:
    honest = scenes.figures_of([a_run([0.5, -1.5, 1.0, -0.2] * 10)], scenes=1)
    boastful = scenes.figures_of([a_run([0.5, -1.5, 1.0, -0.2] * 10, sigma_kmh=0.4)], scenes=1)
    assert honest["within_2_sigma"] == 1.0
    assert honest["p_within"] > 0.01
    assert boastful["within_2_sigma"] == 0.5
    assert boastful["p_within"] < 1e-6


def test_what_was_measured_is_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    run = a_run(list(rng.normal(size=20)))
    vehicles = [
        {"scene": "S", "way": way} | vehicle
        for way in ("20 noisy surveys", scenes.EVERY_SHOWING, plots.OTHER)
        for vehicle in run.vehicles
    ]
    plots.draw("scenes", {"vehicles": vehicles}, tmp_path / "drawn")
    assert sorted(file.name for file in (tmp_path / "drawn").iterdir()) == [
        "error-by-class.png",
        "error-by-distance.png",
        "error-by-speed.png",
        "sigma.png",
    ]
    for file in (tmp_path / "drawn").iterdir():
        assert file.stat().st_size > 10_000, file


def test_the_survey_beside_a_clip_comes_before_the_one_of_the_tests(tmp_path: Path) -> None:
    clip = tmp_path / "dual-carriageway-two-way.mp4"
    found = clips.site_of(clip)
    assert found is not None
    assert "tests" in found[0].parts
    for end, text in (("survey.csv", "name"), ("site.toml", "[site]"), ("map", "toward=forward\n")):
        (tmp_path / f"{clip.stem}.{end}").write_text(text, encoding="utf-8")
    assert clips.site_of(clip) == (
        tmp_path / f"{clip.stem}.survey.csv",
        tmp_path / f"{clip.stem}.site.toml",
        "toward=forward",
    )
    assert clips.site_of(tmp_path / "unheard-of.mp4") is None


def test_a_track_that_is_drawn_out_goes_the_same_way_with_more_boxes(trajectory: Trajectory) -> None:
    long = drawn_out(trajectory, 4000)
    assert len(long) == 4000
    assert (np.diff(long.times_s) > 0).all()
    for end in (0, -1):
        np.testing.assert_allclose(long.boxes_xyxy_px[end], trajectory.boxes_xyxy_px[end])
        np.testing.assert_allclose(long.positions_m[end], trajectory.positions_m[end])
    halfway = np.interp(trajectory.times_s, long.times_s, long.positions_m[:, 0])
    np.testing.assert_allclose(halfway, trajectory.positions_m[:, 0], atol=0.1)
    assert set(long.labels) == set(trajectory.labels)
