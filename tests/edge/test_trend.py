"""What many cars say about a calibration: quiet on an ordinary street, raised by a slow change, nobody remembered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from edge.domain import Direction, Passage, RoadUser
from edge.trend import BLOCK, Trend, half_ratio
from tests.support.builders import S, a_passage

CALIBRATION = "cal-2026-10-02-a1"


def street(
    seed: int, *, longer: float = 1.0, ratio: float = 1.0, season: float = 0.0, car: RoadUser = RoadUser.CAR
) -> Iterator[Passage]:
    """Cars as they are measured: lengths 9 % apart, halves 4 % apart, both as seen by a plane that stretches them."""
    rng = np.random.default_rng(seed)
    while True:
        direction = Direction.FORWARD if rng.random() < 0.5 else Direction.BACKWARD
        far_over_near = ratio * np.exp(rng.normal(0.02 + season, 0.04))
        share = far_over_near if direction is Direction.FORWARD else 1 / far_over_near
        entered_ns = 60 * S
        yield replace(
            a_passage(direction=direction, road_user=car),
            length_m=float(4.4 * longer * np.exp(rng.normal(season, 0.09))),
            entered_ns=entered_ns,
            halfway_ns=entered_ns + round(2 * S * share / (1 + share)),
            left_ns=entered_ns + 2 * S,
        )


def after(trend: Trend, cars: Iterator[Passage], blocks: int) -> bool:
    """Whether the alarm stands after so many blocks."""
    for passage in islice(cars, blocks * BLOCK):
        trend.add(passage)
    return trend.is_raised


def test_an_ordinary_street_is_left_alone_through_the_seasons() -> None:
    for seed in range(8):
        trend = Trend(CALIBRATION)
        rng = np.random.default_rng(seed)
        assert not any(after(trend, street(seed, season=rng.normal(0.0, 0.008)), 1) for _ in range(12))


@pytest.mark.parametrize("longer", [0.93, 1.07], ids=["shorter", "longer"])
def test_cars_that_grow_or_shrink_raise_the_flag_with_the_second_block(longer: float) -> None:
    trend = Trend(CALIBRATION)
    assert not after(trend, street(1), 3)
    assert not after(trend, street(2, longer=longer), 1)
    assert after(trend, street(3, longer=longer), 1)


@pytest.mark.parametrize("ratio", [0.94, 1.06])
def test_halves_that_no_longer_agree_raise_it_too_in_one_direction_or_both(ratio: float) -> None:
    trend = Trend(CALIBRATION)
    assert not after(trend, street(1), 2)
    one_way = (car for car in street(2, ratio=ratio) if car.direction is Direction.BACKWARD)
    assert after(trend, one_way, 2)


def test_a_calibration_that_is_right_again_ends_it_after_two_blocks() -> None:
    trend = Trend(CALIBRATION)
    after(trend, street(1), 1)
    assert after(trend, street(2, longer=1.1), 2)
    assert after(trend, street(3), 1)
    assert not after(trend, street(4), 1)


def test_one_odd_block_is_forgiven() -> None:
    trend = Trend(CALIBRATION)
    after(trend, street(1), 1)
    for seed in range(3):
        assert not after(trend, street(2 + seed, longer=1.1), 1)
        assert not after(trend, street(5 + seed), 1)


def test_only_measured_cars_are_asked() -> None:
    trend = Trend(CALIBRATION)
    after(trend, street(1), 1)
    assert not after(trend, street(2, longer=1.5, car=RoadUser.TRUCK), 3)
    unmeasured = a_passage(speed_kmh=None)
    assert half_ratio(unmeasured) is None
    assert not trend.add(unmeasured)


def test_the_ratio_belongs_to_the_place_and_not_to_the_direction() -> None:
    """Half a second for the first half, one for the second: forward that is slow at the axis' end."""
    times = {"entered_ns": 10 * S, "halfway_ns": 10 * S + S // 2, "left_ns": 11 * S + S // 2}
    forward, backward = (replace(a_passage(direction=direction), **times) for direction in Direction)
    assert half_ratio(forward) == pytest.approx(0.5)
    assert half_ratio(backward) == pytest.approx(2.0)


def test_a_restart_goes_on_and_another_calibration_begins_anew() -> None:
    trend = Trend(CALIBRATION)
    after(trend, street(1), 1)
    assert after(trend, street(2, longer=1.1), 2)
    kept = json.loads(json.dumps(trend.state()))
    again, other = Trend(CALIBRATION), Trend("cal-2027-10-02-b2")
    again.restore(kept)
    other.restore(kept)
    assert again.is_raised
    assert after(again, street(3, longer=1.1), 1)
    assert not other.is_raised
    assert not after(other, street(3, longer=1.1), 3)


def test_what_is_kept_tells_of_no_block_that_is_not_full() -> None:
    trend = Trend(CALIBRATION)
    kept = [trend.state() for passage in islice(street(1), BLOCK - 1) if not trend.add(passage)]
    assert len(kept) == BLOCK - 1
    assert all(each == Trend(CALIBRATION).state() for each in kept)
    assert trend.add(next(street(2)))
    assert trend.state() != kept[-1]
