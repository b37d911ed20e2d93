"""One identity per road user, in metres and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import Camera
from calibration.camera import Floats
from edge.domain import Bools, Detections, Direction, RoadUser, Trajectory
from edge.localise import Localiser
from edge.speed.estimator import MIN_SAMPLES
from edge.track.tracker import FEW_SIGHTINGS, LOST_AFTER_S, MAX_SAMPLES, START_SCORE
from tests.support.passing import (
    EXACT,
    POLES,
    ZONE_M,
    Drive,
    Noise,
    Shot,
    Solid,
    a_bus,
    a_camera,
    a_car,
    a_motorcycle,
    a_tracker,
    a_van,
    followed,
    identities,
    known_plane,
    shots,
)

OBLIQUE = POLES["oblique, 5.5 m high"]
ALONG = POLES["along the street, 8 m high"]
SIDE_ON = POLES["side-on, 5 m high"]
LEFT, RIGHT = 1.6, -1.6


def at_rate(rate_hz: float, lasts_s: float = 10.0) -> Floats:
    return np.arange(0.0, lasts_s, 1.0 / rate_hz)


def kmh(speed_kmh: float, **how: object) -> Drive:
    return Drive(speed_kmh / 3.6, **how)  # type: ignore[arg-type]


def assert_one_identity_each(taken: Sequence[Shot], camera: Camera, vehicles: int) -> dict[int, Trajectory]:
    """In the zone every box of a vehicle belongs to one trajectory, which holds nobody else's.

    Farther off, where it is a sliver at the border of the picture or nearly too small to see, a track may begin anew.
    """
    pieces: dict[int, list[int]] = {number: [] for number in range(vehicles)}
    whole: dict[int, Trajectory] = {}
    for identity in identities(known_plane(camera), taken):
        inside = in_zone(identity.along_m)
        whose = {int(owner) for owner in identity.owners[inside]}
        assert len(whose) < 2, f"one trajectory mixes vehicles: {identity.owners.tolist()}"
        for owner in whose:
            pieces[owner].append(int(inside.sum()))
            whole[owner] = identity.trajectory
    drawn = [sum(int(in_zone(shot.along_m[shot.owners == number]).sum()) for shot in taken) for number in pieces]
    assert pieces == {number: [boxes] for number, boxes in enumerate(drawn)}
    return whole


def in_zone(along_m: Floats) -> Bools:
    return np.asarray((along_m > 0.0) & (along_m < ZONE_M))


# ---------------------------------------------------------------------------------------------------------- one alone


@pytest.mark.parametrize("camera", POLES.values(), ids=POLES.keys())
@pytest.mark.parametrize("solid", [a_car(), a_van(), a_bus()], ids=["car", "van", "bus"])
def test_a_vehicle_that_passes_keeps_one_identity(camera: Camera, solid: Solid) -> None:
    taken = shots(camera, [(solid, kmh(40))], at_rate(20), noise=Noise(), seed=3)
    assert_one_identity_each(taken, camera, 1)


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along"])
def test_a_motorcycle_that_passes_keeps_one_identity(camera: Camera) -> None:
    assert_one_identity_each(shots(camera, [(a_motorcycle(), kmh(40))], at_rate(20), noise=Noise(), seed=3), camera, 1)


@pytest.mark.parametrize("rate_hz", [5.0, 8.0, 30.0])
@pytest.mark.parametrize("speed_kmh", [15, 50, 80])
def test_the_frame_rate_does_not_matter(rate_hz: float, speed_kmh: float) -> None:
    taken = shots(OBLIQUE, [(a_car(), kmh(speed_kmh))], at_rate(rate_hz), noise=Noise(), seed=4)
    assert_one_identity_each(taken, OBLIQUE, 1)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    speed_kmh=st.floats(8.0, 90.0),
    steps_s=st.lists(st.floats(0.02, 0.15), min_size=60, max_size=60),
    backward=st.booleans(),
)
def test_frames_may_come_at_irregular_instants(speed_kmh: float, steps_s: list[float], backward: bool) -> None:
    direction = Direction.BACKWARD if backward else Direction.FORWARD
    times_s = np.cumsum(steps_s)
    drive = kmh(speed_kmh, middle_s=float(times_s[30]), direction=direction)
    taken = shots(ALONG, [(a_car(), drive)], times_s, noise=Noise())
    assert_one_identity_each(taken, ALONG, 1)


def test_a_car_that_the_detector_misses_in_a_third_of_the_frames_keeps_its_identity() -> None:
    rng = np.random.default_rng(5)
    missed = {float(t) for t in at_rate(20) if rng.random() < 0.35}
    taken = shots(
        OBLIQUE,
        [(a_car(), kmh(45))],
        at_rate(20),
        noise=Noise(),
        score=lambda vehicle, time_s: 0.0 if time_s in missed else 0.8,
    )
    assert_one_identity_each(taken, OBLIQUE, 1)


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along"])
@pytest.mark.parametrize("speed_kmh", [20, 50])
def test_a_car_that_is_hidden_for_half_a_second_keeps_its_identity(camera: Camera, speed_kmh: float) -> None:
    taken = shots(
        camera,
        [(a_car(), kmh(speed_kmh))],
        at_rate(20),
        noise=Noise(),
        score=lambda vehicle, time_s: 0.0 if 4.8 < time_s < 5.3 else 0.8,
    )
    whole = assert_one_identity_each(taken, camera, 1)[0]
    assert np.diff(whole.times_s).max() >= 0.5


def test_a_burst_of_lost_frames_does_not_end_a_track() -> None:
    times_s = at_rate(20)
    times_s = times_s[(times_s < 4.6) | (times_s > 5.4)]
    taken = shots(ALONG, [(a_car(), kmh(50)), (a_van(), kmh(50, middle_s=6.5))], times_s, noise=Noise())
    assert_one_identity_each(taken, ALONG, 2)


def test_a_car_whose_tyres_are_hidden_for_a_second_keeps_its_identity() -> None:
    """A hedge hides the lower 40 % of the box: its foot seems to stand metres farther away."""
    taken = shots(ALONG, [(a_car(), kmh(36))], at_rate(20), noise=Noise(), seed=6)

    def behind_a_hedge(shot: Shot) -> Shot:
        boxes = np.array(shot.detections.boxes_xyxy_px)
        boxes[:, 3] -= 0.4 * (boxes[:, 3] - boxes[:, 1])
        return shot.with_boxes(boxes)

    taken = [behind_a_hedge(shot) if 4.5 < shot.time_s < 5.5 else shot for shot in taken]
    whole = assert_one_identity_each(taken, ALONG, 1)[0]
    assert np.diff(whole.times_s).max() < 0.2


# ------------------------------------------------------------------------------------------------------ several at once


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG, SIDE_ON], ids=["oblique", "along", "side-on"])
@pytest.mark.parametrize("rate_hz", [8.0, 20.0])
def test_cars_that_meet_in_the_zone_keep_their_identities(camera: Camera, rate_hz: float) -> None:
    """The farther one is missed while the nearer one covers more than half of it."""
    vehicles = [
        (a_car(), kmh(45, lateral_m=RIGHT)),
        (a_car(4.0), kmh(38, lateral_m=LEFT, direction=Direction.BACKWARD)),
    ]
    taken = shots(camera, vehicles, at_rate(rate_hz), noise=Noise(), hidden_from=0.5, seed=7)
    assert_one_identity_each(taken, camera, 2)


def test_a_car_that_meets_a_bus_keeps_its_identity() -> None:
    """A bus at 30 km/h hides an oncoming car for more than half a second."""
    vehicles = [
        (a_bus(), kmh(30, lateral_m=RIGHT)),
        (a_car(), kmh(40, lateral_m=LEFT, direction=Direction.BACKWARD)),
    ]
    taken = shots(OBLIQUE, vehicles, at_rate(20), noise=Noise(), hidden_from=0.5, seed=8)
    whole = assert_one_identity_each(taken, OBLIQUE, 2)
    assert np.diff(whole[1].times_s).max() > 0.5


def test_a_motorcycle_seen_from_the_side_keeps_one_identity() -> None:
    taken = shots(SIDE_ON, [(a_motorcycle(), kmh(40))], at_rate(20), noise=Noise(), seed=3)
    assert_one_identity_each(taken, SIDE_ON, 1)


def test_a_car_seen_from_the_side_and_hidden_for_half_a_second_keeps_its_identity() -> None:
    taken = shots(
        SIDE_ON,
        [(a_car(), kmh(50))],
        at_rate(20),
        noise=Noise(),
        score=lambda vehicle, time_s: 0.0 if 4.8 < time_s < 5.3 else 0.8,
    )
    assert_one_identity_each(taken, SIDE_ON, 1)


def test_a_bus_seen_from_the_side_keeps_one_identity_while_a_car_meets_it() -> None:
    vehicles = [(a_bus(), kmh(30, lateral_m=RIGHT)), (a_car(), kmh(40, lateral_m=LEFT, direction=Direction.BACKWARD))]
    taken = shots(SIDE_ON, vehicles, at_rate(20), noise=Noise(), hidden_from=0.5, seed=8)
    assert_one_identity_each(taken, SIDE_ON, 2)


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG, SIDE_ON], ids=["oblique", "along", "side-on"])
@pytest.mark.parametrize(("speed_kmh", "rate_hz"), [(25, 8.0), (25, 20.0), (50, 8.0)])
def test_cars_in_a_dense_platoon_are_not_exchanged(camera: Camera, speed_kmh: float, rate_hz: float) -> None:
    """A car every 0.9 s, nose to tail at 25 km/h."""
    rng = np.random.default_rng(9)
    platoon = [(a_car(rng.normal(4.2, 0.2)), kmh(speed_kmh, middle_s=3.0 + 0.9 * number)) for number in range(6)]
    taken = shots(camera, platoon, at_rate(rate_hz, 12.0), noise=Noise(), hidden_from=0.7, seed=10)
    assert_one_identity_each(taken, camera, 6)


@pytest.mark.parametrize("side_m", [-4.0, 4.0], ids=["near kerb", "far kerb"])
def test_cars_parked_beside_the_road_keep_theirs_and_never_take_over_a_passing_one(side_m: float) -> None:
    """Who parks at the near kerb hides the passing ones, who parks at the far kerb is hidden by them."""
    parked = [(a_car(), Drive(0.0, middle_m=place, lateral_m=side_m)) for place in (1.0, 7.0, 13.0, 19.0)]
    passing = [(a_car(4.2), kmh(35, middle_s=middle_s)) for middle_s in (4.0, 6.5, 9.0)]
    taken = shots(OBLIQUE, parked + passing, at_rate(15, 13.0), noise=Noise(), hidden_from=0.6, seed=12)
    whole = assert_one_identity_each(taken, OBLIQUE, 7)
    for number in range(4):
        assert np.ptp(whole[number].times_s) > 12.0
        assert np.ptp(whole[number].positions_m[:, 0]) < 3.0


# --------------------------------------------------------------------------------------------------- doubtful sightings


def test_faint_sightings_extend_a_track_but_do_not_begin_one() -> None:
    faint, clear = START_SCORE - 0.1, 0.8
    vehicles = [(a_car(), kmh(40)), (a_car(), kmh(40, middle_s=7.0))]

    def score(vehicle: int, time_s: float) -> float:
        return faint if vehicle == 1 or 4.5 < time_s < 6.0 else clear

    found = identities(known_plane(ALONG), shots(ALONG, vehicles, at_rate(20), score=score))
    assert [set(identity.owners) for identity in found] == [{0}]
    assert np.diff(found[0].trajectory.times_s).max() < 0.1


def test_a_second_box_on_one_vehicle_begins_no_second_track() -> None:
    """Now and then a detector draws another box around the same vehicle, a few per cent smaller."""
    doubled = []
    for number, shot in enumerate(shots(ALONG, [(a_van(), kmh(40))], at_rate(20), noise=Noise(), seed=13)):
        seen = shot.detections
        if len(seen) and number % 3 == 0:
            inner = seen.boxes_xyxy_px[0] + 0.04 * np.ptp(seen.boxes_xyxy_px[0, 1::2]) * np.array([1.0, 1.0, -1.0, 0.0])
            both = Detections(np.array([seen.boxes_xyxy_px[0], inner]), np.array([0.8, 0.5]), np.array([0, 1]))
            shot = Shot(shot.time_s, both, np.array([0, 0]), np.repeat(shot.along_m, 2))
        doubled.append(shot)
    assert len(followed(known_plane(ALONG), doubled)) == 1


@pytest.mark.parametrize("seed", [1, 7])
def test_a_vehicle_with_noisier_boxes_than_believed_is_not_shared_by_two_tracks(seed: int) -> None:
    """Six pixels are metres of road: boxes out of the gate of the track they belong to began one that took turns."""
    coarse = a_camera(at_m=(4.0, -14.6, 4.3), focal_px=500.0)
    taken = shots(coarse, [(a_car(), kmh(45))], at_rate(25), noise=replace(EXACT, floor_px=6.0), seed=seed)
    longest, *others = sorted(identities(known_plane(coarse), taken), key=lambda one: -len(one.owners))
    assert sum(int(in_zone(one.along_m).sum()) for one in others) < MIN_SAMPLES
    assert (np.diff(longest.trajectory.times_s) > 0).all()
    drawn = {shot.time_s: shot.detections.boxes_xyxy_px for shot in taken if len(shot.detections)}
    for time_s, box in zip(longest.trajectory.times_s, longest.trajectory.boxes_xyxy_px):
        assert (drawn[float(time_s)] == box).all()


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along"])
@pytest.mark.parametrize(
    "vehicles",
    [
        pytest.param([kmh(25, middle_s=4.0), kmh(25, middle_s=4.9)], id="nose to tail"),
        pytest.param([kmh(40, lateral_m=LEFT), kmh(40, lateral_m=RIGHT)], id="side by side"),
    ],
)
def test_two_cars_of_which_each_frame_tells_one_remain_two(camera: Camera, vehicles: list[Drive]) -> None:
    times = at_rate(20)
    turns = {float(time_s): number % 2 for number, time_s in enumerate(times)}
    taken = shots(
        camera,
        [(a_car(), drive) for drive in vehicles],
        times,
        noise=Noise(),
        score=lambda vehicle, time_s: 0.8 if turns[time_s] == vehicle else 0.0,
        seed=2,
    )
    assert_one_identity_each(taken, camera, 2)


@pytest.mark.parametrize("camera", POLES.values(), ids=POLES.keys())
def test_a_rider_whose_machine_is_no_longer_told_keeps_one_identity(camera: Camera) -> None:
    """Then the box ends at the feet, a third of its height above the tyres: metres farther away."""
    told = []
    for shot in shots(camera, [(a_motorcycle(), kmh(50))], at_rate(5), noise=Noise(), seed=13):
        seen = shot.detections
        if len(seen):
            is_joined = shot.time_s < 5.0
            boxes = seen.boxes_xyxy_px - [0, 0, 0, 0 if is_joined else 0.33 * np.ptp(seen.boxes_xyxy_px[0, 1::2])]
            label = RoadUser.MOTORCYCLE.label if is_joined else RoadUser.PERSON.label
            shot = replace(shot, detections=Detections(boxes, seen.scores, np.array([label])))
        told.append(shot)
    assert len(followed(known_plane(camera), told)) == 1


def test_one_that_is_not_seen_again_ends_and_the_next_is_another() -> None:
    vehicles = [(a_car(), kmh(40)), (a_car(), kmh(40, middle_s=5.0 + LOST_AFTER_S + 2.5))]
    taken = shots(
        ALONG,
        vehicles,
        at_rate(20, 14.0),
        score=lambda vehicle, time_s: 0.0 if vehicle == 0 and time_s > 5.0 else 0.8,
    )
    localiser, tracker = Localiser(known_plane(ALONG)), a_tracker(known_plane(ALONG))
    ended_s = []
    for shot in taken:
        gone = tracker.follow(localiser.locate(shot.time_s, 0.0005, shot.detections))
        ended_s += [shot.time_s for _ in gone]
    assert ended_s[0] == pytest.approx(5.0 + LOST_AFTER_S, abs=0.11)


def test_nothing_is_followed_off_the_road_or_far_beside_it() -> None:
    vehicles = [(a_car(), Drive(8.0, lateral_m=-9.0)), (a_car(), Drive(8.0, lateral_m=12.0))]
    assert followed(known_plane(ALONG), shots(ALONG, vehicles, at_rate(20))) == []
    above_the_horizon = Detections(np.array([[400.0, -60.0, 480.0, -10.0]]), np.array([0.9]), np.array([0]))
    assert followed(known_plane(ALONG), [Shot(0.0, above_the_horizon, np.array([0]), np.zeros(1))]) == []


# ------------------------------------------------------------------------------------------------------------- promises


@pytest.mark.parametrize("step_s", [0.0, -0.05], ids=["same instant", "earlier"])
def test_a_frame_that_is_not_later_than_the_one_before_is_refused(step_s: float) -> None:
    localiser, tracker = Localiser(known_plane(OBLIQUE)), a_tracker(known_plane(OBLIQUE))
    tracker.follow(localiser.locate(1.0, 0.001, Detections.none()))
    with pytest.raises(ValueError, match="order of time"):
        tracker.follow(localiser.locate(1.0 + step_s, 0.001, Detections.none()))


def test_a_car_that_parks_for_an_hour_takes_bounded_memory_and_is_remembered_from_its_first_to_its_last_frame() -> None:
    plane = known_plane(OBLIQUE)
    localiser, tracker = Localiser(plane), a_tracker(plane)
    (shot,) = shots(OBLIQUE, [(a_car(), Drive(0.0, lateral_m=-2.5))], np.array([0.0]))
    rng = np.random.default_rng(14)
    times_s = np.concatenate([np.arange(0.0, 2.0, 0.1), np.arange(2.0, 3600.0, 1.1)])  # few frames, to be quick
    for time_s in times_s:
        boxes = shot.detections.boxes_xyxy_px + rng.normal(0.0, 0.8, (1, 4))
        seen = Detections(boxes, shot.detections.scores, shot.detections.labels)
        assert tracker.follow(localiser.locate(float(time_s), 0.001, seen)) == []
    (parked,) = tracker.finish()
    assert len(parked) <= MAX_SAMPLES
    assert (parked.times_s[0], parked.times_s[-1]) == (times_s[0], times_s[-1])


def test_the_uncertainty_of_time_of_a_trajectory_is_that_of_its_worst_frame() -> None:
    plane = known_plane(ALONG)
    localiser, tracker = Localiser(plane), a_tracker(plane)
    for number, shot in enumerate(shots(ALONG, [(a_car(), kmh(40))], at_rate(20, 5.0))):
        tracker.follow(localiser.locate(shot.time_s, 0.008 if number == 80 else 0.0005, shot.detections))
    assert [trajectory.time_sigma_s for trajectory in tracker.finish()] == [0.008]


def test_after_the_end_of_a_recording_nobody_is_followed_any_more() -> None:
    plane = known_plane(ALONG)
    localiser, tracker = Localiser(plane), a_tracker(plane)
    for shot in shots(ALONG, [(a_car(), kmh(40))], at_rate(20, 5.0)):
        tracker.follow(localiser.locate(shot.time_s, 0.0005, shot.detections))
    assert len(tracker.finish()) == 1
    assert tracker.finish() == []
    assert tracker.live == []


def test_live_tracks_show_who_is_seen_now_where_and_how_fast() -> None:
    plane = known_plane(ALONG)
    localiser, tracker = Localiser(plane), a_tracker(plane)
    drives = [kmh(36, lateral_m=RIGHT), kmh(54, lateral_m=LEFT, direction=Direction.BACKWARD)]
    numbers = set()
    for shot in shots(ALONG, [(a_car(), drive) for drive in drives], at_rate(20, 5.0)):
        tracker.follow(localiser.locate(shot.time_s, 0.0005, shot.detections))
        numbers |= {track.number for track in tracker.live if track.seen > FEW_SIGHTINGS}
        if np.all(np.abs(shot.along_m - ZONE_M / 2) < 25.0):
            assert len(tracker.live) == len(shot.owners)
    assert len(numbers) == 2
    forward, backward = sorted(tracker.live, key=lambda track: track.position_m[1])
    assert forward.velocity_mps[0] == pytest.approx(10.0, rel=0.08)
    assert backward.velocity_mps[0] == pytest.approx(-15.0, rel=0.08)
    assert forward.position_m == pytest.approx([float(drives[0].along_m(np.array(4.95))), RIGHT], abs=3.0)
    tracker.follow(localiser.locate(5.2, 0.0005, Detections.none()))
    assert tracker.live == []
