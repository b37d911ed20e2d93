"""Paths through the zone: when, which way, how fast; and each vehicle once."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.camera import Floats
from calibration.units import kmh_from_mps
from edge.domain import Direction, Passage, Path, Reason, RoadUser
from edge.zones import MAX_DOUBTFUL_EXTRAPOLATION_S, MAX_EXTRAPOLATION_S, Turnstile, Zone
from tests.support.builders import S, a_passage
from tests.support.passing import ZONE_M, a_zone

FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD
CERTAIN = np.zeros((4, 4))
# Position, speed, half the acceleration and a sixth of the jerk of a typical fit.
TYPICAL = np.diag([0.1, 0.12, 0.05, 0.02]) ** 2


def a_path(
    *,
    speed_mps: float = 10.0,
    acceleration_mps2: float = 0.0,
    middle_s: float = 5.0,
    seen_m: tuple[float, float] = (-5.0, 25.0),
    lateral_m: float = -1.5,
    covariance_random: Floats = TYPICAL,
    covariance_calibration: Floats = CERTAIN,
    problem: Reason | None = None,
) -> Path:
    """Someone in the middle of the zone at 5 s; a negative speed goes against the axis.

    Seen over a stretch of road, as long as it moves at its speed in the middle.
    """
    ends_s = sorted(middle_s + (place - ZONE_M / 2) / speed_mps for place in seen_m)
    return Path(
        origin_s=middle_s,
        along=np.array([ZONE_M / 2, speed_mps, acceleration_mps2 / 2, 0.0]),
        covariance_random=covariance_random,
        covariance_calibration=covariance_calibration,
        lateral_m=lateral_m,
        observed_s=(ends_s[0], ends_s[1]),
        samples=40,
        road_user=RoadUser.CAR,
        length_m=4.4,
        problem=problem,
    )


def through(path: Path, zone: Zone | None = None) -> Passage:
    passage = (zone or a_zone()).passage(path, 0)
    assert passage is not None
    return passage


def speed_mps(passage: Passage) -> float:
    assert passage.speed is not None, passage.reason
    return passage.speed.speed_mps


# ------------------------------------------------------------------------------------------------- when and how fast


@pytest.mark.parametrize(("speed", "direction"), [(10.0, FORWARD), (-10.0, BACKWARD)], ids=["forward", "backward"])
def test_at_constant_speed_it_enters_and_leaves_half_a_zone_before_and_after_the_middle(
    speed: float, direction: Direction
) -> None:
    passage = through(a_path(speed_mps=speed))
    assert passage.direction is direction
    assert (passage.entered_ns, passage.middle_ns, passage.left_ns) == (4 * S, 5 * S, 6 * S)
    assert speed_mps(passage) == pytest.approx(10.0)


@pytest.mark.parametrize("acceleration", [-2.0, 1.5])
def test_who_brakes_has_the_mean_speed_over_the_zone(acceleration: float) -> None:
    """From s = v·t + a·t²/2: the ends are reached at t = (√(v² ± 2·a·10 m) - v)/a."""
    passage = through(a_path(speed_mps=10.0, acceleration_mps2=acceleration))
    ends_s = [(np.sqrt(100.0 + 2 * acceleration * way) - 10.0) / acceleration for way in (-10.0, 10.0)]
    assert passage.entered_ns == pytest.approx((5.0 + ends_s[0]) * S, abs=2)
    assert passage.left_ns == pytest.approx((5.0 + ends_s[1]) * S, abs=2)
    assert speed_mps(passage) == pytest.approx(ZONE_M / (ends_s[1] - ends_s[0]))


def test_the_instants_are_on_the_clock_of_the_source() -> None:
    zero_ns = 86_400 * S
    passage = a_zone().passage(a_path(), zero_ns)
    assert passage is not None
    assert passage.entered_ns == zero_ns + 4 * S


def test_who_is_lost_before_the_end_of_the_zone_goes_on_at_its_last_speed() -> None:
    passage = through(a_path(speed_mps=10.0, acceleration_mps2=-2.0, seen_m=(-5.0, 16.0)))
    place_m = 10.0 + 10.0 * 0.6 - 0.6**2  # 0.6 s after the middle, at 8.8 m/s
    assert passage.left_ns == pytest.approx((5.6 + (20.0 - place_m) / 8.8) * S, rel=1e-6)


def test_what_is_known_of_the_vehicle_travels_with_the_passage() -> None:
    passage = through(a_path(lateral_m=-1.2, seen_m=(-3.0, 22.0)))
    assert (passage.road_user, passage.length_m, passage.lateral_m, passage.samples) == (RoadUser.CAR, 4.4, -1.2, 40)
    assert passage.baseline_m == pytest.approx(25.0)


@settings(max_examples=40, deadline=None)
@given(
    speed=st.floats(2.0, 35.0),
    relative_gain=st.floats(-0.3, 0.3),
    backward=st.booleans(),
    length_m=st.floats(8.0, 40.0),
)
def test_the_speed_is_the_length_of_the_zone_over_the_time_between_its_ends(
    speed: float, relative_gain: float, backward: bool, length_m: float
) -> None:
    """For any smooth path, whatever the direction."""
    signed = -speed if backward else speed
    acceleration = relative_gain * signed * speed / length_m  # changes the speed by that share of itself on the way
    path = replace(
        a_path(speed_mps=signed, acceleration_mps2=acceleration, covariance_random=CERTAIN),
        along=np.array([length_m / 2, signed, acceleration / 2, 0.0]),
        observed_s=(5.0 - 0.7 * length_m / speed, 5.0 + 0.7 * length_m / speed),
    )
    passage = through(path, a_zone(length_m=length_m))
    ends_m = [path.position_m(t / S) for t in (passage.entered_ns, passage.left_ns)]
    assert ends_m == pytest.approx([length_m, 0.0] if backward else [0.0, length_m], abs=1e-6)
    assert speed_mps(passage) == pytest.approx(length_m * S / (passage.left_ns - passage.entered_ns), rel=1e-6)


# --------------------------------------------------------------------------------------------------- who is a passage


def test_who_turns_off_before_the_middle_is_no_passage() -> None:
    assert a_zone().passage(a_path(seen_m=(-15.0, 2.0)), 0) is None
    assert a_zone().passage(a_path(speed_mps=-10.0, seen_m=(18.0, 35.0)), 0) is None


@pytest.mark.parametrize(
    ("problem", "limit_s"),
    [(None, MAX_EXTRAPOLATION_S), (Reason.INCONSISTENT, MAX_DOUBTFUL_EXTRAPOLATION_S)],
    ids=["sound", "doubtful"],
)
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["forward", "backward"])
def test_who_was_lost_just_before_the_middle_is_a_passage_and_longer_before_is_none(
    problem: Reason | None, limit_s: float, sign: float
) -> None:
    def lost(before_s: float) -> Passage | None:
        last_m = ZONE_M / 2 - sign * 10.0 * before_s
        return a_zone().passage(
            a_path(speed_mps=sign * 10.0, seen_m=(last_m - sign * 20.0, last_m), problem=problem), 0
        )

    assert lost(limit_s - 0.02) is not None
    assert lost(limit_s + 0.02) is None


def test_the_polygon_bounds_the_zone_sideways_where_it_crosses_the_middle() -> None:
    """A zone that widens: at its middle it reaches from 2 m right of the axis to 3 m left of it."""
    widening = Zone(length_m=ZONE_M, polygon_m=np.array([[0.0, -1.0], [20.0, -3.0], [20.0, 4.0], [0.0, 2.0]]))
    inside = {place: widening.passage(a_path(lateral_m=place), 0) is not None for place in (-2.1, -1.9, 2.9, 3.1)}
    assert inside == {-2.1: False, -1.9: True, 2.9: True, 3.1: False}


def test_a_polygon_beside_the_middle_of_the_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"middle of the axis, 10\.00 m"):
        Zone(length_m=20.0, polygon_m=np.array([[0.0, -3.0], [8.0, -3.0], [8.0, 3.0], [0.0, 3.0]]))


# ------------------------------------------------------------------------------------------------- measured or not


@pytest.mark.parametrize(("from_m", "reason"), [(9.0, None), (11.0, Reason.SHORT_BASELINE)], ids=["11 m", "9 m"])
def test_less_than_half_of_the_zone_seen_is_too_short_a_baseline(from_m: float, reason: Reason | None) -> None:
    passage = through(a_path(seen_m=(from_m, 30.0), covariance_random=CERTAIN))
    assert passage.reason is reason


def test_the_way_outside_of_the_zone_does_not_count_as_seen() -> None:
    assert through(a_path(seen_m=(-25.0, 8.0))).reason is Reason.SHORT_BASELINE


@pytest.mark.parametrize("problem", list(Reason))
def test_a_path_with_a_problem_is_a_passage_without_a_speed(problem: Reason) -> None:
    passage = through(a_path(problem=problem))
    assert passage.speed is None
    assert passage.reason is problem
    assert passage.middle_ns == 5 * S


@pytest.mark.parametrize("part", ["covariance_random", "covariance_calibration"])
def test_a_speed_that_nobody_knows_well_is_too_uncertain(part: str) -> None:
    """3 m/s at one sigma, whether from the boxes or from the calibration."""
    vague = np.diag([0.0, 3.0, 0.0, 0.0]) ** 2
    assert through(a_path(**{part: vague})).reason is Reason.TOO_UNCERTAIN


@pytest.mark.parametrize(("speed", "acceleration"), [(8.0, -1.5), (-14.0, 0.0)], ids=["slow, braking", "fast, back"])
def test_sigma_agrees_with_simulation(speed: float, acceleration: float) -> None:
    """600 paths drawn from the covariance, correlations included: they know a standard deviation to 3 %."""
    rng = np.random.default_rng(40)
    mixing = rng.normal(0.0, 1.0, (4, 4)) * np.sqrt(np.diag(TYPICAL))[:, None] * 0.5
    covariance = mixing @ mixing.T
    path = a_path(speed_mps=speed, acceleration_mps2=acceleration, covariance_random=covariance)
    stated = through(path).speed
    assert stated is not None
    certain = replace(path, covariance_random=CERTAIN)
    speeds = [
        speed_mps(through(replace(certain, along=along)))
        for along in rng.multivariate_normal(path.along, covariance, 600, method="cholesky")
    ]
    assert stated.sigma_random_mps == pytest.approx(np.std(speeds), rel=0.1)
    assert stated.sigma_calibration_mps == 0.0


def test_both_parts_of_sigma_go_the_same_way_and_stay_apart() -> None:
    """Half the covariance in each part: equal parts, which together make the whole."""
    whole = through(a_path(covariance_random=TYPICAL)).speed
    parts = through(a_path(covariance_random=TYPICAL / 2, covariance_calibration=TYPICAL / 2)).speed
    assert whole is not None
    assert parts is not None
    assert parts.sigma_random_mps == pytest.approx(parts.sigma_calibration_mps)
    assert parts.sigma_mps == pytest.approx(whole.sigma_random_mps)


def test_an_error_of_the_place_alone_does_not_change_the_speed() -> None:
    shifted = np.diag([0.5, 0.0, 0.0, 0.0]) ** 2
    speed = through(a_path(covariance_random=shifted)).speed
    assert speed is not None
    assert speed.sigma_mps < 1e-6


# --------------------------------------------------------------------------------------------------- everyone once


def measured(
    middle_s: float = 60.0,
    *,
    speed_kmh: float = 36.0,
    direction: Direction = FORWARD,
    lateral_m: float = -1.5,
    length_m: float | None = 4.4,
    samples: int = 40,
) -> Passage:
    lasting_s = ZONE_M / (speed_kmh / 3.6)
    passage = a_passage(speed_kmh=speed_kmh, middle_s=middle_s, lasting_s=lasting_s, direction=direction)
    return replace(passage, lateral_m=lateral_m, length_m=length_m, samples=samples)


def unmeasured(middle_s: float = 60.0, *, direction: Direction = FORWARD, lateral_m: float = -1.5) -> Passage:
    passage = a_passage(speed_kmh=None, middle_s=middle_s, direction=direction)
    return replace(passage, lateral_m=lateral_m, length_m=None)


def counted(*passages: Passage) -> list[Passage]:
    """Who gets through when each is reported two seconds after it left, or together with the one before."""
    turnstile, out, now_ns = Turnstile(), [], 0
    for passage in passages:
        now_ns = max(now_ns, passage.left_ns + 2 * S)
        out += turnstile.admit([passage], now_ns)
    return out + turnstile.finish()


@pytest.mark.parametrize("measured_first", [True, False], ids=["measured first", "measured last"])
def test_a_vehicle_with_two_tracks_counts_once_as_the_measured_one(measured_first: bool) -> None:
    right, wrong = measured(60.0), unmeasured(60.3)
    assert counted(*([right, wrong] if measured_first else [wrong, right])) == [right]


def test_of_two_measurements_of_one_vehicle_the_better_founded_counts() -> None:
    short, long = measured(60.0, samples=9), measured(60.1, samples=60)
    assert counted(short, long) == [long]
    assert counted(long, short) == [long]


def test_three_tracks_of_one_vehicle_count_once() -> None:
    assert counted(unmeasured(59.9), measured(60.0), unmeasured(60.2)) == [measured(60.0)]


@pytest.mark.parametrize("speed_kmh", [20.0, 36.0, 60.0])
def test_two_vehicles_a_second_apart_both_count(speed_kmh: float) -> None:
    """At 20 km/h they drive bumper to bumper, 5.6 m from middle to middle."""
    two = [measured(60.0, speed_kmh=speed_kmh), measured(61.0, speed_kmh=speed_kmh)]
    assert counted(*two) == two


def test_a_car_close_behind_a_bus_counts_too() -> None:
    """At 36 km/h, 10 m from the middle of a bus of 12 m to that of the car: 2 m between them."""
    two = [measured(60.0, length_m=12.0), measured(61.0, length_m=4.2)]
    assert counted(*two) == two


def test_two_unmeasured_vehicles_a_second_apart_both_count() -> None:
    assert len(counted(unmeasured(60.0), unmeasured(61.0))) == 2


def test_an_unmeasured_vehicle_a_second_behind_a_measured_one_counts() -> None:
    assert counted(measured(60.0), unmeasured(61.0)) == [measured(60.0), unmeasured(61.0)]


def test_vehicles_that_meet_in_the_middle_of_the_zone_both_count() -> None:
    meeting = [measured(60.0), measured(60.0, direction=BACKWARD)]
    assert sorted(each.direction.value for each in counted(*meeting)) == ["backward", "forward"]
    in_one_line = [unmeasured(60.0), unmeasured(60.0, direction=BACKWARD)]
    assert len(counted(*in_one_line)) == 2


def test_vehicles_side_by_side_on_two_lanes_both_count() -> None:
    assert len(counted(measured(lateral_m=-4.5), measured(lateral_m=-1.2))) == 2


def test_passages_come_out_in_the_order_in_which_they_left() -> None:
    """The slow one is reported first: its track ended first."""
    slow, fast = measured(60.0, speed_kmh=18.0), measured(60.5, speed_kmh=72.0, direction=BACKWARD)
    assert slow.left_ns > fast.left_ns
    turnstile = Turnstile(hold_s=6.0)
    assert turnstile.admit([slow, fast], 65 * S) == []
    assert turnstile.admit([], 71 * S - 1) == []
    assert turnstile.admit([], 71 * S) == [fast, slow]
    assert turnstile.finish() == []


def test_at_the_end_of_a_recording_everyone_who_waits_comes_out() -> None:
    turnstile = Turnstile()
    turnstile.admit([measured(62.0), measured(60.0)], 64 * S)
    assert turnstile.finish() == [measured(60.0), measured(62.0)]
    assert turnstile.finish() == []


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), speeds=st.lists(st.floats(20.0, 90.0), min_size=1, max_size=12))
def test_nobody_who_keeps_a_second_is_lost_or_doubled(seed: int, speeds: list[float]) -> None:
    """Whatever the speeds, measured or not, in whatever order their tracks end within the time of waiting."""
    chance = random.Random(seed)
    street = [
        measured(60.0 + number, speed_kmh=speed) if chance.random() < 0.7 else unmeasured(60.0 + number)
        for number, speed in enumerate(speeds)
    ]
    reports = sorted(street, key=lambda passage: passage.left_ns + chance.uniform(1.0, 4.0) * S)
    assert sorted(each.middle_ns for each in counted(*reports)) == [each.middle_ns for each in street]


def test_speeds_in_kilometres_an_hour_are_what_they_were() -> None:
    (passage,) = counted(measured(speed_kmh=43.2))
    assert kmh_from_mps(speed_mps(passage)) == pytest.approx(43.2)
