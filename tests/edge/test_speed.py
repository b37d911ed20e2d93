"""Speeds of vehicles whose truth is known, seen by detectors that err: right, and honest about how right.

The bodies are point clouds of their own (:mod:`tests.support.passing`), not the hulls that the estimate assumes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from calibration import Camera, RoadPlane
from calibration.camera import Floats
from calibration.units import kmh_from_mps
from edge.domain import Direction, Passage, Path, Reason, RoadUser, Trajectory
from edge.speed import Estimator
from tests.support.passing import (
    POLES,
    ZONE_M,
    Drive,
    Noise,
    Solid,
    a_car,
    a_motorcycle,
    a_pedestrian,
    a_trajectory,
    a_van,
    a_zone,
    boxed,
    boxes_of,
    known_plane,
    some_solid,
    surveyed_plane,
)

OBLIQUE = POLES["oblique, 5.5 m high"]
ALONG = POLES["along the street, 8 m high"]
RATE_HZ = 12.5


def estimated(plane: RoadPlane, trajectory: Trajectory) -> Path | None:
    return Estimator(plane, zone_length_m=ZONE_M).estimate(trajectory)


def fitted(plane: RoadPlane, trajectory: Trajectory) -> Path:
    path = estimated(plane, trajectory)
    assert path is not None
    return path


def passed(plane: RoadPlane, trajectory: Trajectory) -> Passage:
    passage = a_zone().passage(fitted(plane, trajectory), 0)
    assert passage is not None
    return passage


def speed_kmh(passage: Passage) -> tuple[float, float]:
    """Speed and its one sigma. [km/h]"""
    assert passage.speed is not None, passage.reason
    return kmh_from_mps(passage.speed.speed_mps), kmh_from_mps(passage.speed.sigma_mps)


def true_kmh(drive: Drive) -> float:
    return kmh_from_mps(drive.mean_speed_mps)


# ---------------------------------------------------------------------------------------------- a day at five poles


@dataclass(frozen=True)
class Measured:
    """One simulated vehicle that was measured."""

    pole: str
    kind: str
    error_kmh: float
    sigma_kmh: float
    length_error_m: float


SURVEYS, PER_SURVEY = 4, 8


@pytest.fixture(scope="module")
def traffic() -> list[Measured]:
    """160 vehicles. Each bound below is a requirement; beside it stands how the figure spread over seeds 1 to 10."""
    return simulated(seed=1)


def simulated(seed: int) -> list[Measured]:
    """Five poles, each surveyed four times with 0.5 px and 1 cm of noise; eight vehicles each at 20 to 60 km/h.

    Four out of five are cars, most others vans; half of them drive each way, accelerating a little.
    """
    measured = []
    for place, (pole, camera) in enumerate(POLES.items()):
        for survey in range(SURVEYS):
            plane = surveyed_plane(camera, seed=1000 * seed + survey)
            for number in range(PER_SURVEY):
                rng = np.random.default_rng([seed, place, survey, number])
                kind = str(rng.choice(["car", "van", "bus"], p=[0.8, 0.16, 0.04]))
                solid = some_solid(rng, kind)
                drive = Drive(
                    rng.uniform(20, 60) / 3.6,
                    acceleration_mps2=rng.normal(0.0, 0.4),
                    direction=list(Direction)[number % 2],
                    lateral_m=(-1.6, 1.6)[number % 2] + rng.normal(0.0, 0.2),
                )
                passage = passed(
                    plane, a_trajectory(plane, solid, drive, camera=camera, noise=Noise(), rate_hz=RATE_HZ, rng=rng)
                )
                if passage.speed is None:
                    continue
                speed, sigma = speed_kmh(passage)
                assert passage.length_m is not None
                measured.append(Measured(pole, kind, speed - true_kmh(drive), sigma, passage.length_m - solid.length_m))
    return measured


def errors_kmh(measured: list[Measured]) -> Floats:
    return np.array([each.error_kmh for each in measured])


def sigmas_kmh(measured: list[Measured]) -> Floats:
    return np.array([each.sigma_kmh for each in measured])


def test_nearly_every_vehicle_is_measured(traffic: list[Measured]) -> None:
    """Ten seeds: 158 to 160 of 160. A bus seen from the side is never whole in the picture."""
    assert len(traffic) >= 0.97 * len(POLES) * SURVEYS * PER_SURVEY


def test_speeds_are_unbiased(traffic: list[Measured]) -> None:
    """Ten seeds: -0.15 to -0.04 km/h."""
    assert abs(errors_kmh(traffic).mean()) < 0.3


def test_errors_are_small(traffic: list[Measured]) -> None:
    """Ten seeds: median 0.18 to 0.24, 95 % below 0.5 to 0.8 km/h, the worst car or van off by 0.8 to 1.3.

    Buses are left out of the worst: of 90, one was off by 2.2 km/h, and 92 % lay within two sigma.
    """
    errors = np.abs(errors_kmh(traffic))
    assert np.median(errors) < 0.5
    assert np.quantile(errors, 0.95) < 1.5
    assert errors[[each.kind != "bus" for each in traffic]].max() < 3.0


def test_two_sigma_cover_nineteen_in_twenty(traffic: list[Measured]) -> None:
    """Exact binomial test. Ten seeds: 92.5 to 98.8 %, together 95.1 % of 1,598 vehicles."""
    covered = int((np.abs(errors_kmh(traffic)) <= 2 * sigmas_kmh(traffic)).sum())
    assert stats.binomtest(covered, len(traffic), 0.95).pvalue > 0.01


def test_sigma_is_small_enough_to_be_useful(traffic: list[Measured]) -> None:
    """Ten seeds: median 0.29 to 0.31 km/h."""
    assert np.median(sigmas_kmh(traffic)) < 1.0


def test_the_length_of_a_car_falls_out_of_its_speed(traffic: list[Measured]) -> None:
    """No worse than what is known beforehand of cars (10 % of 4.4 m); from the side, twice as well.

    Ten seeds: 0.26 to 0.30 m, from the side 0.14 to 0.19 m (root mean square).
    """
    cars = [each for each in traffic if each.kind == "car"]
    errors = np.array([each.length_error_m for each in cars])
    from_the_side = errors[[each.pole.startswith("side-on") for each in cars]]
    assert np.sqrt((errors**2).mean()) < 0.44
    assert np.sqrt((from_the_side**2).mean()) < 0.22


# ------------------------------------------------------------------------------------------------------- one vehicle


@pytest.mark.parametrize("camera", POLES.values(), ids=POLES.keys())
@pytest.mark.parametrize("solid", [a_car(), a_van()], ids=["car", "van"])
def test_exact_boxes_of_a_rounded_body_give_its_speed(camera: Camera, solid: Solid) -> None:
    """What is left is the difference between that body and the assumed one: less than two per cent."""
    drive = Drive(40 / 3.6)
    plane = known_plane(camera)
    speed, sigma = speed_kmh(passed(plane, a_trajectory(plane, solid, drive, rate_hz=RATE_HZ)))
    assert speed == pytest.approx(true_kmh(drive), rel=0.02)
    assert abs(speed - true_kmh(drive)) < 2.5 * sigma


@pytest.mark.parametrize("acceleration_mps2", [-3.0, -1.5, 1.5, 2.5])
@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along"])
def test_a_vehicle_that_brakes_or_accelerates_has_the_mean_speed_of_its_way_through(
    camera: Camera, acceleration_mps2: float
) -> None:
    """Braking at 3 m/s² it enters at 52 and leaves at 29 km/h: neither end, nor their mean, is the answer."""
    drive = Drive(42 / 3.6, acceleration_mps2=acceleration_mps2)
    plane = known_plane(camera)
    reach_s = 1.6
    times_s = np.arange(drive.middle_s - reach_s, drive.middle_s + reach_s, 1 / RATE_HZ)
    boxes = boxes_of(camera, a_car(), drive, times_s)
    seen = np.isfinite(boxes).all(axis=1)
    speed, sigma = speed_kmh(passed(plane, boxed(plane, times_s[seen], boxes[seen])))
    assert speed == pytest.approx(true_kmh(drive), abs=min(0.8, 2 * sigma))


def test_a_wait_of_two_seconds_in_the_zone_belongs_to_the_mean_speed() -> None:
    """It comes in at 8 m/s, brakes to a stand 2 m beyond the middle, waits, and drives on: 20 m in 8.3 s."""
    times_s = np.arange(0.0, 12.0, 0.1)
    braking = 2.0 * np.minimum(times_s, 4.0) * (4.0 - np.minimum(times_s, 4.0) / 2)
    along_m = -4.0 + braking + np.maximum(times_s - 6.0, 0.0) ** 2
    boxes = np.array([boxes_of(OBLIQUE, a_car(), Drive(0.0, middle_m=place), np.zeros(1))[0] for place in along_m])
    seen = np.isfinite(boxes).all(axis=1)
    noisy = Noise().on(boxes[seen], times_s[seen], np.random.default_rng(31))
    speed, _ = speed_kmh(passed(known_plane(OBLIQUE), boxed(known_plane(OBLIQUE), times_s[seen], noisy)))
    truth = kmh_from_mps(ZONE_M / float(np.diff(np.interp([0.0, ZONE_M], along_m, times_s))[0]))
    assert truth == pytest.approx(20 / 8.3 * 3.6, rel=0.01)
    assert speed == pytest.approx(truth, abs=1.0)


@pytest.mark.parametrize("rate_hz", [4.0, 30.0])
def test_the_frame_rate_does_not_matter(rate_hz: float) -> None:
    plane, drive = known_plane(OBLIQUE), Drive(50 / 3.6)
    speed, sigma = speed_kmh(passed(plane, a_trajectory(plane, a_car(), drive, rate_hz=rate_hz)))
    assert abs(speed - true_kmh(drive)) < 2 * sigma


def test_a_vehicle_that_is_cut_by_the_picture_through_half_of_the_zone_is_measured_rightly() -> None:
    """The camera looks past the begin of the zone: cars come into the picture piece by piece."""
    camera = POLES["side-on, 5 m high"]
    turned = Camera(
        image_size_px=camera.image_size_px,
        focal_px=620.0,
        centre_px=camera.centre_px,
        distortion=camera.distortion,
        rotation=camera.rotation,
        position_m=camera.position_m + np.array([3.0, 0.0, 0.0]),
    )
    plane = known_plane(turned)
    errors, sigmas, cut = [], [], []
    for number in range(10):
        rng = np.random.default_rng([21, number])
        drive = Drive(rng.uniform(25, 55) / 3.6, direction=list(Direction)[number % 2])
        trajectory = a_trajectory(plane, some_solid(rng), drive, noise=Noise(), rate_hz=RATE_HZ, rng=rng)
        inside = (drive.along_m(trajectory.times_s) > 0) & (drive.along_m(trajectory.times_s) < ZONE_M)
        cut.append((trajectory.boxes_xyxy_px[inside, 0] < 0).mean())
        speed, sigma = speed_kmh(passed(plane, trajectory))
        errors.append(speed - true_kmh(drive))
        sigmas.append(sigma)
    assert min(cut) > 0.1
    assert abs(np.mean(errors)) < 0.5
    assert (np.abs(errors) < 3 * np.array(sigmas)).all()


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along"])
def test_boxes_merged_with_a_parked_car_for_a_third_of_the_way_do_not_matter(camera: Camera) -> None:
    plane, drive, rng = known_plane(camera), Drive(40 / 3.6), np.random.default_rng(22)
    alone = a_trajectory(plane, a_car(), drive, noise=Noise(), rate_hz=20.0, rng=rng)
    parked = boxes_of(camera, a_car(), Drive(0.0, middle_m=9.0, lateral_m=-4.0), np.zeros(1))[0]
    boxes = np.array(alone.boxes_xyxy_px)
    along_m = drive.along_m(alone.times_s)
    merged = (along_m > 6.0) & (along_m < 12.5)
    boxes[merged, :2] = np.minimum(boxes[merged, :2], parked[:2])
    boxes[merged, 2:] = np.maximum(boxes[merged, 2:], parked[2:])
    assert merged.sum() > 0.3 * ((along_m > 0) & (along_m < ZONE_M)).sum()
    speed, sigma = speed_kmh(passed(plane, boxed(plane, alone.times_s, boxes)))
    assert abs(speed - true_kmh(drive)) < max(1.0, 2 * sigma)


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along"])
def test_boxes_that_tremble_are_measured_and_boxes_that_wander_as_far_are_refused(camera: Camera) -> None:
    """Twice the detector's noise: without a pattern it is noise, with one it may be another body."""
    plane = known_plane(camera)
    measured = {}
    for name, noise in (("tremble", Noise(white=0.045, slow=0.0)), ("wander", Noise(white=0.0, slow=0.06))):
        measured[name] = 0
        for number in range(10):
            rng = np.random.default_rng([33, number])
            drive = Drive(rng.uniform(25, 50) / 3.6)
            passage = passed(plane, a_trajectory(plane, a_car(), drive, noise=noise, rate_hz=20.0, rng=rng))
            if passage.speed is None:
                assert passage.reason is Reason.INCONSISTENT
                continue
            speed, sigma = speed_kmh(passage)
            assert abs(speed - true_kmh(drive)) < max(2.0, 3 * sigma)
            measured[name] += 1
    assert measured["tremble"] >= 8
    assert measured["wander"] <= 4


@dataclass(frozen=True)
class OverHump(Drive):
    """Slows down for a speed hump, by 9 km/h over about twenty metres, and speeds up again: no cubic in time.

    Attributes:
        hump_m: Where the hump lies, in its own direction. [m]
    """

    hump_m: float = ZONE_M / 2

    def along_m(self, times_s: Floats) -> Floats:
        way_m, at_s = self._way()
        driven_m = np.interp(times_s, at_s, way_m)
        return driven_m if self.direction is Direction.FORWARD else ZONE_M - driven_m

    def reaches_s(self, ahead_m: float) -> float:
        way_m, at_s = self._way()
        return float(np.interp(ZONE_M / 2 + ahead_m, way_m, at_s))

    def _way(self) -> tuple[Floats, Floats]:
        """Places on the way and when it is there. [m, s]"""
        way_m = np.linspace(-80.0, 100.0, 18_001)
        pace = 1 / (self.speed_mps - 2.5 * np.exp(-((way_m - self.hump_m) ** 2) / 2 / 8.0**2))
        at_s = np.concatenate([[0.0], np.cumsum((pace[1:] + pace[:-1]) / 2 * np.diff(way_m))])
        return way_m, at_s - np.interp(ZONE_M / 2, way_m, at_s) + self.middle_s


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along the street"])
def test_whoever_slows_down_for_a_hump_in_the_zone_is_measured(camera: Camera) -> None:
    """That is what measures are for. Of 80 in another draw all were measured, 0.6 km/h wrong at most."""
    plane, errors_kmh = known_plane(camera), []
    for number in range(20):
        rng = np.random.default_rng([46, number])
        drive = OverHump(
            rng.uniform(30, 45) / 3.6, direction=list(Direction)[number % 2], hump_m=rng.uniform(0.0, ZONE_M)
        )
        passage = passed(plane, a_trajectory(plane, a_car(), drive, noise=Noise(), rate_hz=20.0, rng=rng))
        errors_kmh.append(speed_kmh(passage)[0] - true_kmh(drive))
    assert np.abs(errors_kmh).max() < 1.5
    assert np.sqrt(np.square(errors_kmh).mean()) < 0.5


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along the street"])
def test_slow_errors_of_boxes_are_not_taken_for_motion(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside an estimate that believes that boxes err independently, on the same boxes."""
    plane = known_plane(camera)

    def rms_kmh() -> float:
        errors = []
        for number in range(30):
            rng = np.random.default_rng([45, number])
            drive, solid = Drive(rng.uniform(25, 55) / 3.6), some_solid(rng)
            noise = Noise(white=0.01, slow=0.03)
            passage = passed(plane, a_trajectory(plane, solid, drive, noise=noise, rate_hz=20.0, rng=rng))
            errors.append(speed_kmh(passage)[0] - true_kmh(drive))
        return float(np.sqrt(np.square(errors).mean()))

    ours_kmh = rms_kmh()
    monkeypatch.setattr("edge.speed.fit.MAX_CORRELATION", 0.0)
    assert ours_kmh < 0.95 * rms_kmh()


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along the street"])
@pytest.mark.parametrize(
    ("noise", "fewest", "rms_kmh", "within", "most_of_usual"),
    [
        pytest.param(Noise(0.0, 0.0, floor_px=4.0), 27, 0.6, 0.85, 20, id="white"),
        pytest.param(Noise(0.0, 0.0, floor_px=3.0, slow_px=3.0), 22, 1.1, 0.6, 8, id="half of it wanders"),
    ],
)
def test_as_much_noise_in_small_boxes_as_in_large_ones_is_told_by_the_boxes(
    camera: Camera,
    monkeypatch: pytest.MonkeyPatch,
    noise: Noise,
    fewest: int,
    rms_kmh: float,
    within: float,
    most_of_usual: int,
) -> None:
    """Beside an estimate that believes all noise to grow with the box, and refuses a third of these or most.

    Of 271 with noise that wanders 80 % lie within 2 sigma, which are too small for that; 25 scatter by 8 %.
    """
    plane = known_plane(camera)

    def measured_kmh() -> list[tuple[float, float]]:
        told = []
        for number in range(30):
            rng = np.random.default_rng([46, number])
            drive, solid = Drive(rng.uniform(25, 55) / 3.6), some_solid(rng)
            passage = passed(plane, a_trajectory(plane, solid, drive, noise=noise, rate_hz=15.0, rng=rng))
            if passage.speed is not None:
                speed, sigma = speed_kmh(passage)
                told.append((speed - true_kmh(drive), sigma))
        return told

    errors, sigmas = np.array(measured_kmh()).T
    assert len(errors) >= fewest
    assert np.sqrt(np.square(errors).mean()) < rms_kmh
    assert (np.abs(errors) < 2 * sigmas).mean() > within
    monkeypatch.setattr("edge.speed.fit.EDGE_SIGMAS_PX", (0.5,))
    assert len(measured_kmh()) <= most_of_usual


def test_a_motorcycle_is_measured() -> None:
    errors, sigmas = [], []
    plane = known_plane(OBLIQUE)
    for number in range(8):
        rng = np.random.default_rng([23, number])
        drive = Drive(rng.uniform(25, 60) / 3.6, direction=list(Direction)[number % 2])
        passage = passed(plane, a_trajectory(plane, a_motorcycle(), drive, noise=Noise(), rate_hz=RATE_HZ, rng=rng))
        assert passage.road_user is RoadUser.MOTORCYCLE
        speed, sigma = speed_kmh(passage)
        errors.append(speed - true_kmh(drive))
        sigmas.append(sigma)
    assert (np.abs(errors) < 3 * np.array(sigmas)).all()
    assert np.median(np.abs(errors)) < 1.0


@pytest.mark.parametrize(
    ("kmh", "mount"), [(45.0, RoadUser.MOTORCYCLE), (18.0, RoadUser.BICYCLE)], ids=["fast", "slow"]
)
def test_a_person_at_the_speed_of_a_vehicle_rides_one(kmh: float, mount: RoadUser) -> None:
    plane, drive = known_plane(ALONG), Drive(kmh / 3.6)
    ridden = a_trajectory(plane, a_motorcycle(), drive, noise=Noise(), rate_hz=RATE_HZ)
    as_person = boxed(plane, ridden.times_s, ridden.boxes_xyxy_px, RoadUser.PERSON)
    passage = passed(plane, as_person)
    assert passage.road_user is mount
    speed, sigma = speed_kmh(passage)
    assert abs(speed - true_kmh(drive)) < 3 * sigma


# ------------------------------------------------------------------------------------------------- what has no speed


def test_someone_on_foot_is_no_vehicle() -> None:
    plane, rng = known_plane(OBLIQUE), np.random.default_rng(24)
    walking = a_trajectory(plane, a_pedestrian(), Drive(1.5, lateral_m=-3.0), noise=Noise(), rate_hz=8.0, rng=rng)
    assert np.ptp(walking.positions_m[:, 0]) > ZONE_M / 2
    assert estimated(plane, walking) is None


@pytest.mark.parametrize("place_m", [3.0, 10.0, 17.0])
def test_a_vehicle_that_stands_has_no_path(place_m: float) -> None:
    plane, rng = known_plane(ALONG), np.random.default_rng(25)
    standing = a_trajectory(plane, a_car(), Drive(0.0, middle_m=place_m), noise=Noise(), rng=rng)
    assert len(standing) > 300
    assert estimated(plane, standing) is None


def test_boxes_that_hop_between_parked_cars_have_no_path() -> None:
    plane, rng = known_plane(ALONG), np.random.default_rng(26)
    times_s = np.arange(0.0, 6.0, 0.1)
    row = [boxes_of(ALONG, a_car(), Drive(0.0, middle_m=place), times_s) for place in (4.0, 10.0, 16.0)]
    which = rng.integers(0, 3, len(times_s))
    hopping = np.array([row[place][number] for number, place in enumerate(which)])
    assert estimated(plane, boxed(plane, times_s, hopping)) is None


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along"])
def test_two_vehicles_stitched_together_are_never_measured_wrongly(camera: Camera) -> None:
    """The track of a car at 40 km/h goes on with the boxes of another one, 6 or 9 m before or behind it.

    In a quarter of the cases the stitch lies near an end of the zone and the robust fit finds one of the two. Seen
    side-on a jump of 6 m looks like a burst of speed and can pass, some km/h wrong; that is not asserted here.
    """
    plane = known_plane(camera)
    verdicts = []
    for number, (other_kmh, gap_m) in enumerate((kmh, gap) for kmh in (20, 40, 60) for gap in (-9, -6, 6, 9)):
        rng = np.random.default_rng([28, number])
        stitch_s = (4.4, 5.0, 5.6)[number % 3]
        first = Drive(40 / 3.6)
        behind_m = float(first.along_m(np.array(stitch_s))) + gap_m
        second = Drive(other_kmh / 3.6, middle_s=stitch_s, middle_m=behind_m)
        times_s = np.arange(2.0, 9.0, 1 / RATE_HZ)
        boxes = np.where(
            times_s[:, None] < stitch_s,
            Noise().on(boxes_of(camera, a_car(), first, times_s), times_s, rng),
            Noise().on(boxes_of(camera, a_car(4.1), second, times_s), times_s, rng),
        )
        seen = np.isfinite(boxes).all(axis=1)
        path = estimated(plane, boxed(plane, times_s[seen], boxes[seen]))
        if path is None or (passage := a_zone().passage(path, 0)) is None:
            verdicts.append("no passage")
        elif passage.speed is None:
            assert passage.reason in (
                Reason.INCONSISTENT,
                Reason.SHORT_BASELINE,
                Reason.OCCLUDED,
                Reason.TOO_UNCERTAIN,
            )
            verdicts.append("rejected")
        else:
            speed, sigma = speed_kmh(passage)
            wrong_by = min(abs(speed - 40.0), abs(speed - other_kmh))
            assert wrong_by < max(1.5, 3 * sigma), f"{other_kmh} km/h {gap_m:+} m at {stitch_s} s: {speed}"
            verdicts.append("measured")
    assert verdicts.count("rejected") > len(verdicts) / 2


def test_too_few_boxes_in_the_zone_are_a_reason() -> None:
    """Three pictures of a car in two seconds count it, and do not measure it."""
    passage = passed(known_plane(OBLIQUE), a_trajectory(known_plane(OBLIQUE), a_car(), Drive(50 / 3.6), rate_hz=1.5))
    assert passage.speed is None
    assert passage.reason is Reason.TOO_FEW_SAMPLES
    assert passage.middle_ns / 1e9 == pytest.approx(5.0, abs=0.3)


# ---------------------------------------------------------------------------------------------------- parts of sigma


def test_an_exactly_known_camera_adds_no_uncertainty() -> None:
    plane = known_plane(OBLIQUE)
    assert not fitted(plane, a_trajectory(plane, a_car(), Drive(11.0))).covariance_calibration.any()


def test_twice_the_uncertainty_of_the_survey_is_twice_that_of_the_speed() -> None:
    once = surveyed_plane(OBLIQUE, click_px=0.7, seed=3)
    twice = RoadPlane(once.camera, 4.0 * once.covariance, once.hull_m)
    trajectory = a_trajectory(once, a_car(), Drive(11.0), camera=OBLIQUE, rate_hz=RATE_HZ)
    speeds = [passed(plane, trajectory).speed for plane in (once, twice)]
    assert speeds[0] is not None
    assert speeds[1] is not None
    assert speeds[1].sigma_calibration_mps == pytest.approx(2 * speeds[0].sigma_calibration_mps, rel=0.03)
    assert speeds[1].sigma_random_mps == pytest.approx(speeds[0].sigma_random_mps, rel=0.001)
    assert speeds[1].speed_mps == pytest.approx(speeds[0].speed_mps, rel=1e-6)


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along"])
def test_the_calibration_part_of_sigma_agrees_with_perturbed_cameras(camera: Camera) -> None:
    """The same boxes, measured with cameras drawn from the covariance of a careless survey (1.5 px, 3 cm).

    30 draws know a standard deviation to 13 %. With 150 the stated sigma is 5 and 9 % smaller than the spread.
    """
    plane = surveyed_plane(camera, click_px=1.5, tape_m=0.03, seed=4)
    trajectory = a_trajectory(plane, a_car(), Drive(40 / 3.6), rate_hz=8.0)
    stated = passed(plane, trajectory).speed
    assert stated is not None
    rng = np.random.default_rng(29)
    draws = rng.multivariate_normal(np.zeros(len(plane.covariance)), plane.covariance, 30, method="cholesky")
    speeds = []
    for draw in draws:
        believed = known_plane(plane.camera.perturbed(draw))
        again = boxed(believed, trajectory.times_s, trajectory.boxes_xyxy_px)
        speeds.append(passed(believed, again).speed)
    spread = np.std([speed.speed_mps for speed in speeds if speed is not None], ddof=1)
    assert stated.sigma_calibration_mps == pytest.approx(spread, rel=0.35)


def test_uncertain_time_stamps_are_in_the_random_part() -> None:
    """Independent errors of the instants: the slope of a line through places that err by speed times their sigma."""
    plane, drive, sigma_s = known_plane(OBLIQUE), Drive(14.0), 0.02
    variances = []
    for time_sigma_s in (0.0, sigma_s):
        trajectory = a_trajectory(plane, a_car(), drive, rate_hz=RATE_HZ, time_sigma_s=time_sigma_s)
        speed = passed(plane, trajectory).speed
        assert speed is not None
        variances.append(speed.sigma_random_mps**2)
    used_s = trajectory.times_s[np.abs(drive.along_m(trajectory.times_s) - ZONE_M / 2) < ZONE_M / 2 + 5.0]
    expected = (sigma_s * drive.speed_mps) ** 2 / ((used_s - used_s.mean()) ** 2).sum()
    assert variances[1] - variances[0] == pytest.approx(expected, rel=0.25)


def test_time_stamps_that_err_as_stated_are_covered() -> None:
    """Frames of a camera without time stamps: arrival times that err by 20 ms."""
    plane, sigma_s, outside = known_plane(OBLIQUE), 0.02, 0
    for number in range(20):
        rng = np.random.default_rng([30, number])
        drive = Drive(rng.uniform(30, 55) / 3.6)
        exact = a_trajectory(plane, a_car(), drive, rate_hz=8.0)
        stamps_s = exact.times_s + rng.normal(0.0, sigma_s, len(exact))
        stamped = boxed(plane, stamps_s, exact.boxes_xyxy_px, time_sigma_s=sigma_s)
        speed, sigma = speed_kmh(passed(plane, stamped))
        outside += abs(speed - true_kmh(drive)) > 2 * sigma
    assert outside <= 3  # 1 expected; 4 or more of 20 happen in one case out of sixty


@pytest.mark.parametrize("camera", [OBLIQUE, ALONG], ids=["oblique", "along the street"])
def test_a_rolling_shutter_that_is_told_leaves_no_bias(camera: Camera) -> None:
    """33 ms from the first row to the last: the rows of a vehicle that comes nearer are read ever later."""
    plane, readout_s = known_plane(camera), 0.033

    def speed(boxes: Floats, times_s: Floats, told_s: float) -> float:
        seen = np.isfinite(boxes).all(axis=1)
        estimator = Estimator(plane, zone_length_m=ZONE_M, readout_s=told_s)
        path = estimator.estimate(boxed(plane, times_s[seen], boxes[seen]))
        assert path is not None
        passage = a_zone().passage(path, 0)
        assert passage is not None
        return speed_kmh(passage)[0]

    cost, left = [], []
    for direction, lateral_m in ((Direction.FORWARD, -1.6), (Direction.BACKWARD, 1.6)):
        drive = Drive(14.0, direction=direction, lateral_m=lateral_m)
        times_s = np.arange(3.5, 6.5, 0.05)
        middle = np.column_stack([drive.along_m(times_s), np.full(len(times_s), lateral_m), np.full(len(times_s), 0.8)])
        rows = np.clip(camera.project(middle)[:, 1], 0.0, camera.image_size_px[1] - 1.0)
        read_s = times_s + readout_s * ((rows + 0.5) / camera.image_size_px[1] - 0.5)
        all_at_once = speed(boxes_of(camera, a_car(), drive, times_s), times_s, 0.0)
        rolled = boxes_of(camera, a_car(), drive, read_s)
        cost.append(abs(speed(rolled, times_s, 0.0) - all_at_once))
        left.append(abs(speed(rolled, times_s, readout_s) - all_at_once))
    assert min(cost) > 0.1
    assert max(left) < min(cost) / 3


def test_noisier_boxes_make_a_less_certain_speed() -> None:
    plane, drive = known_plane(ALONG), Drive(40 / 3.6)
    sigmas = []
    for share in (0.01, 0.025, 0.04):  # with 5 % the boxes no longer agree with one body
        noise = Noise(white=share, slow=0.0, constant=(0.0,) * 4)
        sigmas.append(speed_kmh(passed(plane, a_trajectory(plane, a_car(), drive, noise=noise, rate_hz=RATE_HZ)))[1])
    assert sigmas[0] < sigmas[1] < sigmas[2]


# ------------------------------------------------------------------------------------------- where nothing may be said


def test_outside_of_the_surveyed_points_sigma_says_so() -> None:
    whole = surveyed_plane(ALONG, seed=5)
    half = RoadPlane(whole.camera, whole.covariance, np.array([[0.0, -4.0], [10.0, -4.0], [10.0, 4.0], [0.0, 4.0]]))
    trajectory = a_trajectory(whole, a_car(), Drive(40 / 3.6), camera=ALONG, rate_hz=RATE_HZ)
    inside, beyond = (passed(plane, trajectory).speed for plane in (whole, half))
    assert inside is not None
    assert beyond is not None
    shift_m = float(half.distance_sigma(np.array([0.0, -1.6]), np.array([ZONE_M, -1.6])))
    expected = shift_m / ZONE_M * 40 / 3.6
    assert expected > 2 * inside.sigma_calibration_mps
    assert beyond.sigma_calibration_mps == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("stops_at_m", [12.0, 14.0, 17.0])
def test_a_vehicle_that_parks_in_the_zone_has_no_mean_speed_through_it(stops_at_m: float) -> None:
    plane = known_plane(OBLIQUE)
    way_m = stops_at_m - 8.0
    drive = Drive(6.0, acceleration_mps2=-18.0 / way_m, middle_m=8.0)
    times_s = np.arange(2.0, 20.0, 0.1)
    boxes = boxes_of(OBLIQUE, a_car(), drive, np.minimum(times_s, 5.0 + way_m / 3.0))
    seen = np.isfinite(boxes).all(axis=1)
    noisy = Noise().on(boxes[seen], times_s[seen], np.random.default_rng(27))
    passage = passed(plane, boxed(plane, times_s[seen], noisy))
    assert passage.speed is None
