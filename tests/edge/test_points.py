"""Tracks of points: what may be measured from them, and what must be refused."""

from __future__ import annotations

import numpy as np
import pytest

from edge.domain import Floats, Reason
from edge.speed import PointSpeed, speed_of_points, speeds_of_vehicles

RATE_HZ = 50.0
ZONE_M = (20.0, 45.0)


def a_track(
    speed_mps: float, *, from_m: float = 50.0, to_m: float = 16.0, noise_m: float = 0.05, seed: int = 1
) -> tuple[Floats, Floats]:
    """Instants and places of a vehicle that comes nearer."""
    times = np.arange(0.0, (from_m - to_m) / speed_mps, 1 / RATE_HZ)
    return times, from_m - speed_mps * times + np.random.default_rng(seed).normal(0.0, noise_m, len(times))


def measured(times_s: Floats, along_m: Floats) -> PointSpeed:
    """With a camera that sees 4 px as 6 cm at 20 m and as 30 cm at 45 m."""
    return speed_of_points(times_s, along_m, 0.06 * (along_m / 20.0) ** 2, ZONE_M)


@pytest.mark.parametrize("speed_mps", [8.0, 14.0, 25.0])
def test_a_clean_track_gives_its_speed_within_two_sigma(speed_mps: float) -> None:
    errors, sigmas = [], []
    for seed in range(20):
        found = measured(*a_track(speed_mps, seed=seed))
        assert found.problem is None
        assert found.speed_mps is not None
        assert found.sigma_mps is not None
        errors.append(found.speed_mps + speed_mps)
        sigmas.append(found.sigma_mps)
    assert abs(np.mean(errors)) < 0.005 * speed_mps
    assert np.all(np.abs(errors) < 2 * np.array(sigmas))


def test_a_track_that_sticks_to_the_edge_of_the_picture_is_measured_where_it_moved() -> None:
    times, along = a_track(20.0)
    stuck = np.arange(1, 30) / RATE_HZ
    found = measured(np.append(times, times[-1] + stuck), np.append(along, np.full(len(stuck), along[-1])))
    assert found.problem is None
    assert found.speed_mps == pytest.approx(-20.0, rel=0.01)


@pytest.mark.parametrize("leap_m", [-6.0, 2.0, 6.0])
def test_a_leap_to_another_feature_of_the_vehicle_costs_nothing(leap_m: float) -> None:
    times, along = a_track(20.0)
    along[len(along) // 3 :] += leap_m
    found = measured(times, along)
    assert found.problem is None
    assert found.speed_mps == pytest.approx(-20.0, rel=0.015)


def test_a_leap_to_a_vehicle_of_another_speed_is_left_out() -> None:
    times, along = a_track(20.0, to_m=26.0)
    later, behind = a_track(13.0, from_m=38.0, to_m=30.0)
    found = measured(np.append(times, times[-1] + 1 / RATE_HZ + later), np.append(along, behind))
    assert found.problem is None
    assert found.speed_mps == pytest.approx(-20.0, rel=0.015)


@pytest.mark.parametrize("roof_first", [True, False])
def test_a_track_that_leaps_between_roof_and_wheel_has_the_speed_of_the_wheel(roof_first: bool) -> None:
    """Seen from 8 m, 20 m/s look like 24 at 1.4 m: the longer piece is not the one to believe."""
    roof, wheel = a_track(24.0, from_m=50.0, to_m=36.0), a_track(20.0, from_m=36.0, to_m=24.0)
    first, second = (roof, wheel) if roof_first else (wheel, roof)
    lower = second[1] + first[1][-1] - second[1][0] - 3.0
    found = measured(np.append(first[0], first[0][-1] + 1 / RATE_HZ + second[0]), np.append(first[1], lower))
    assert found.problem is None
    assert found.speed_mps == pytest.approx(-20.0, rel=0.015)


def test_a_track_that_slows_down_as_no_driver_does_is_refused() -> None:
    times = np.arange(0.0, 2.4, 1 / RATE_HZ)
    along = 50.0 - 22.0 * times + 3.2 * times**2
    assert measured(times, along).problem is Reason.INCONSISTENT


def test_noise_that_no_vehicle_makes_is_refused() -> None:
    times, along = a_track(20.0, noise_m=2.0)
    found = measured(times, along)
    assert found.problem is not None


def test_a_few_metres_are_not_enough() -> None:
    assert measured(*a_track(20.0, from_m=24.0, to_m=19.0)).problem is Reason.SHORT_BASELINE


def test_a_standing_point_has_no_speed() -> None:
    times = np.arange(0.0, 2.0, 1 / RATE_HZ)
    found = measured(times, np.full(len(times), 30.0))
    assert found.speed_mps is None
    assert found.problem is Reason.TOO_FEW_SAMPLES


def test_two_points_are_too_few() -> None:
    found = measured(np.array([0.0, 0.02]), np.array([30.0, 29.6]))
    assert found.speed_mps is None
    assert found.problem is Reason.TOO_FEW_SAMPLES


def test_half_a_zone_makes_the_mean_speed_through_it_less_certain() -> None:
    whole, half = measured(*a_track(20.0)), measured(*a_track(20.0, from_m=32.0))
    assert whole.sigma_mps is not None
    assert half.sigma_mps is not None
    assert half.sigma_mps > 1.5 * whole.sigma_mps


def a_spot(
    speed_mps: float, sigma_mps: float = 0.3, problem: Reason | None = None, baseline_m: float = 20.0
) -> PointSpeed:
    return PointSpeed(speed_mps, sigma_mps, baseline_m, samples=40, problem=problem)


def spoken(spots: list[PointSpeed], passed_s: list[float], across_m: list[float] | None = None) -> list[float | None]:
    told = speeds_of_vehicles(spots, np.array(passed_s), np.array(across_m or [3.0] * len(spots)))
    return [None if one.problem else one.speed_mps for one in told]


def test_the_lowest_spot_of_a_lorry_speaks_for_its_roof_and_cab() -> None:
    """Seen from 8 m, 20 m/s look like 24 at 1.4 m and like 32 at 3 m."""
    assert spoken([a_spot(-32.0), a_spot(-20.0), a_spot(-24.0)], [4.0, 4.1, 4.2]) == pytest.approx([-20.0] * 3)


def test_a_spot_that_is_slow_by_bad_luck_does_not_speak_for_the_sure_ones() -> None:
    assert spoken([a_spot(20.0, 0.2), a_spot(18.5, 1.5)], [4.0, 4.1]) == pytest.approx([20.0, 20.0], abs=0.05)


def test_spots_that_agree_are_averaged_and_no_surer_for_it() -> None:
    first, second = speeds_of_vehicles(
        [a_spot(20.0, 0.3), a_spot(20.3, 0.6)], np.array([4.0, 4.1]), np.array([3.0, 3.0])
    )
    assert first.speed_mps == second.speed_mps == pytest.approx((20.0 * 4 + 20.3) / 5)
    assert first.sigma_mps == second.sigma_mps == 0.3


def test_a_track_that_may_not_be_used_has_the_speed_of_another_spot() -> None:
    assert spoken([a_spot(26.0, problem=Reason.SHORT_BASELINE), a_spot(20.0)], [4.0, 4.1]) == [20.0, 20.0]
    assert spoken([a_spot(26.0, problem=Reason.SHORT_BASELINE), a_spot(20.0)], [4.0, 5.0]) == [None, 20.0]


def test_a_spot_followed_for_a_few_metres_is_heard_but_does_not_speak_for_a_vehicle() -> None:
    """Alone it may be a roof; as the slowest of several it shows that the others are."""
    brief = a_spot(20.0, baseline_m=7.0)
    (alone,) = speeds_of_vehicles([brief], np.array([4.0]), np.array([3.0]))
    assert alone.problem is Reason.SHORT_BASELINE
    assert spoken([brief, a_spot(26.0)], [4.0, 4.1]) == [None, None]
    assert spoken([a_spot(22.0, 1.2, baseline_m=8.0), a_spot(20.0)], [4.0, 4.1]) == pytest.approx([20.1] * 2, abs=0.1)


def test_a_spot_of_a_slow_vehicle_may_speak_when_it_was_followed_for_long() -> None:
    assert spoken([a_spot(15.0, baseline_m=7.0), a_spot(20.0)], [4.0, 4.1]) == [15.0, 15.0]
    assert spoken([a_spot(-25.0, baseline_m=9.0)], [4.0]) == [None]


@pytest.mark.parametrize(
    ("passed_s", "across_m", "second_mps"),
    [
        pytest.param([4.0, 4.6], [3.0, 3.0], 20.0, id="behind it"),
        pytest.param([4.0, 4.1], [3.0, 6.2], 20.0, id="in the next lane"),
        pytest.param([4.0, 4.1], [3.0, 3.0], -20.0, id="the other way"),
    ],
)
def test_another_vehicle_keeps_its_own_speed(passed_s: list[float], across_m: list[float], second_mps: float) -> None:
    assert spoken([a_spot(26.0), a_spot(second_mps)], passed_s, across_m) == [26.0, second_mps]


def test_a_track_without_any_speed_says_what_it_said() -> None:
    nothing = PointSpeed(None, None, 0.0, 0, Reason.TOO_FEW_SAMPLES)
    told = speeds_of_vehicles([nothing, a_spot(20.0)], np.array([4.0, 4.1]), np.array([3.0, 3.0]))
    assert told[0] is nothing
    assert speeds_of_vehicles([], np.empty(0), np.empty(0)) == []
