"""No released window holds fewer than k vehicles, and nothing is lost on the way."""

from __future__ import annotations

import json
import random

import pytest

from edge.aggregate import Anonymity
from edge.domain import (
    Binning,
    Counters,
    DayMix,
    Direction,
    Flag,
    PrivacyRule,
    Reason,
    RoadUser,
    SpeedHistogram,
    VehicleMix,
)
from tests.support.builders import BINNING, S, a_window, utc_ns

FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD
BIKES = RoadUser.BICYCLE


def at(clock: str, day: int = 23) -> str:
    return f"2026-11-{day:02}T{clock}:00Z"


def quarter(clock: str, cars: int, *, day: int = 23, **changes):
    return a_window(begin=at(clock, day), speeds_kmh=[32.0] * cars, **changes)


def settled(anonymity, *windows):
    """All releases that a row of slots leads to."""
    return [release for window in windows for release in anonymity.settle(window).releases]


def numbers(releases):
    return [release.record.measured for release in releases if not isinstance(release.record, DayMix)]


def mixes(releases):
    return [release.record for release in releases if isinstance(release.record, DayMix)]


def last_slot_of_day(cars: int, *, direction=FORWARD, day: int = 24, **changes):
    """02:45 to 03:00 UTC: 03:45 to 04:00 in Hilversum."""
    return quarter("02:45", cars, day=day, direction=direction, **changes)


# ---------------------------------------------------------------------------------------------------------- windows


def test_a_window_of_nine_vehicles_is_never_released():
    anonymity = Anonymity(k=10)
    assert settled(anonymity, quarter("06:30", 9), quarter("06:45", 0), quarter("07:00", 0)) == []
    assert anonymity.finish().withheld == 9


def test_a_window_is_released_when_the_next_one_is_full():
    anonymity = Anonymity(k=10)
    assert settled(anonymity, quarter("06:30", 12)) == []
    (release,) = settled(anonymity, quarter("06:45", 11))
    assert release.record.measured == 12
    assert release.record.start_utc_ns == utc_ns(at("06:30"))
    assert release.rule is PrivacyRule.CARRY_OVER
    assert release.k == 10


def test_slots_below_k_are_carried_until_they_hold_k():
    anonymity = Anonymity(k=10)
    slots = [quarter("06:30", 4), quarter("06:45", 5), quarter("07:00", 6), quarter("07:15", 10)]
    (release,) = settled(anonymity, *slots)
    assert release.record.measured == 15
    assert release.record.slots == 3
    assert release.record.end_utc_ns == utc_ns(at("07:15"))


def test_unmeasured_vehicles_do_not_count_towards_k():
    anonymity = Anonymity(k=10)
    assert settled(anonymity, quarter("06:30", 9, unmeasured=20), quarter("06:45", 12)) == []
    (release,) = settled(anonymity, quarter("07:00", 12))
    assert (release.record.measured, release.record.unmeasured) == (21, 20)


def test_at_four_in_the_morning_what_remains_joins_the_pending_window_and_leaves():
    anonymity = Anonymity(k=10)
    releases = settled(anonymity, quarter("21:00", 12), quarter("21:15", 3), last_slot_of_day(2))
    assert numbers(releases) == [17]
    assert releases[0].record.end_utc_ns == utc_ns(at("03:00", 24))
    assert releases[0].record.ends_day


def test_a_day_below_k_is_carried_into_the_next_and_says_so():
    anonymity = Anonymity(k=10)
    releases = settled(anonymity, last_slot_of_day(6), quarter("08:00", 7, day=24), quarter("09:00", 10, day=24))
    assert numbers(releases) == [13]
    assert Flag.MULTI_DAY in releases[0].record.flags
    assert releases[0].record.day.isoformat() == "2026-11-24"


def test_a_day_that_ended_during_an_outage_is_closed_by_the_first_slot_of_the_next():
    anonymity = Anonymity(k=10)
    releases = settled(anonymity, quarter("20:00", 12), quarter("20:15", 3), quarter("08:00", 1, day=24))
    assert numbers(releases) == [15]


def test_directions_are_never_mixed():
    anonymity = Anonymity(k=10)
    releases = settled(
        anonymity,
        *(quarter(clock, 6, direction=direction) for clock in ("06:30", "06:45", "07:00") for direction in Direction),
        *(quarter("07:15", 10, direction=direction) for direction in Direction),
    )
    assert numbers(releases) == [12, 12]
    assert [release.record.direction for release in releases] == [FORWARD, BACKWARD]


def test_a_released_window_tells_nothing_about_classes():
    anonymity = Anonymity(k=10)
    (release,) = settled(anonymity, quarter("06:30", 12), quarter("06:45", 12))
    assert release.record.mix is None


@pytest.mark.parametrize(
    ("k", "lab", "allowed"), [(5, False, True), (4, False, False), (1, True, True), (0, True, False)]
)
def test_k_has_a_floor(k, lab, allowed):
    if allowed:
        assert Anonymity(k=k, lab=lab).k == k
    else:
        with pytest.raises(ValueError, match="k: expected"):
            Anonymity(k=k, lab=lab)


def test_a_release_waits_up_to_two_minutes_by_chance():
    delays = []
    for seed in range(200):
        anonymity = Anonymity(k=10, rng=random.Random(seed))
        (release,) = settled(anonymity, quarter("06:30", 12), quarter("06:45", 12))
        delays.append((release.not_before_utc_ns - utc_ns(at("07:00"))) / S)
    assert 0 <= min(delays) < 5
    assert 115 < max(delays) <= 120


def test_the_lab_releases_single_vehicles_at_once_and_says_that_it_is_the_lab():
    anonymity = Anonymity(k=1, lab=True)
    (release,) = settled(anonymity, quarter("06:30", 1), quarter("06:45", 1))
    assert release.record.measured == 1
    assert release.not_before_utc_ns == utc_ns(at("07:00"))
    assert release.rule is PrivacyRule.LAB


def test_the_end_of_a_clip_closes_like_four_in_the_morning_and_reports_what_stays_below_k():
    anonymity = Anonymity(k=10)
    assert settled(anonymity, quarter("06:30", 12), quarter("06:45", 4), quarter("06:30", 7, direction=BACKWARD)) == []
    end = anonymity.finish()
    assert numbers(end.releases) == [16]
    assert end.withheld == 7
    assert anonymity.finish().releases == ()


# --------------------------------------------------------------------------------------------------------- restarts


def test_after_a_restart_the_tiling_goes_on_as_if_nothing_had_happened():
    slots = [quarter("06:30", 12), quarter("06:45", 4), quarter("07:00", 7), quarter("07:15", 3), last_slot_of_day(9)]
    straight = numbers(settled(Anonymity(k=10), *slots))
    broken, anonymity = [], Anonymity(k=10)
    for slot in slots:
        settlement = anonymity.settle(slot)
        broken += numbers(settlement.releases)
        anonymity = Anonymity(k=10)
        anonymity.restore(Counters(anonymity=json.loads(json.dumps(settlement.state))))
    assert broken == straight == [12, 11, 12]  # 4 + 7, and 3 + 9 in the last slot of the day


def test_a_pending_window_is_not_released_when_k_was_raised_above_it():
    anonymity = Anonymity(k=10)
    state = anonymity.settle(quarter("06:30", 12)).state
    stricter = Anonymity(k=20)
    stricter.restore(Counters(anonymity=state))
    releases = settled(stricter, quarter("06:45", 15), quarter("07:00", 25))
    assert numbers(releases) == [27]


def test_when_the_limit_changes_full_windows_leave_and_the_rest_is_reported_as_withheld():
    other = SpeedHistogram.of([52.0] * 12, Binning.for_limit(50))
    anonymity = Anonymity(k=10)
    settled(anonymity, quarter("06:30", 12), quarter("06:45", 4), quarter("06:30", 3, direction=BACKWARD))
    faster = {"histogram": other, "limit_kmh": 50, "mix": VehicleMix({}, {}, other)}
    first = anonymity.settle(quarter("07:00", 12, **faster))
    assert numbers(first.releases) == [16]
    assert first.withheld == 0
    second = anonymity.settle(quarter("07:00", 12, direction=BACKWARD, **faster))
    assert numbers(second.releases) == []
    assert second.withheld == 3


# -------------------------------------------------------------------------------------------------------- day mixes


def with_mix(window, classes, *, free=0, unmeasured=()):
    mix = VehicleMix(classes, dict(unmeasured), SpeedHistogram.of([32.0] * free, BINNING))
    return a_window(
        begin=at("02:45", 24), direction=window.direction, speeds_kmh=[32.0] * window.measured, mix=mix, unmeasured=0
    )


def day_of(classes, *, measured=30, backward=20, free=0, unmeasured=()):
    """A whole day in its last slot, for both directions; what is asked for stands in the forward one."""
    there = with_mix(last_slot_of_day(measured), classes, free=free, unmeasured=unmeasured)
    back = with_mix(last_slot_of_day(backward, direction=BACKWARD), {RoadUser.CAR: backward})
    return there, back


def test_the_mix_of_a_day_is_released_when_both_directions_have_closed():
    anonymity = Anonymity(k=10)
    there, back = day_of({RoadUser.CAR: 30, BIKES: 14}, unmeasured=[(Reason.OCCLUDED, 2)])
    assert mixes(settled(anonymity, there)) == []
    (mix,) = mixes(settled(anonymity, back))
    assert {each: count for each, count in mix.mix.classes.items() if count} == {RoadUser.CAR: 50, BIKES: 14}
    assert mix.mix.unmeasured[Reason.OCCLUDED] == 2
    assert set(mix.directions) == {FORWARD, BACKWARD}
    assert mix.measured == 50
    assert mix.day.isoformat() == "2026-11-23"


def test_a_day_with_nine_buses_has_no_mix():
    assert mixes(settled(Anonymity(k=10), *day_of({RoadUser.CAR: 30, RoadUser.BUS: 9}))) == []


def test_a_day_without_a_vehicle_has_no_mix():
    assert mixes(settled(Anonymity(k=10), last_slot_of_day(0), last_slot_of_day(0, direction=BACKWARD))) == []


def test_a_direction_that_carried_vehicles_over_is_left_out_of_the_mix():
    anonymity = Anonymity(k=10)
    there, back = day_of({RoadUser.CAR: 30}, backward=4)
    (mix,) = mixes(settled(anonymity, there, back))
    assert mix.directions == (FORWARD,)
    assert mix.mix.classes[RoadUser.CAR] == 30


def test_the_day_after_a_carry_over_has_no_mix_of_that_direction_either():
    anonymity = Anonymity(k=10)
    settled(anonymity, last_slot_of_day(4), last_slot_of_day(20, direction=BACKWARD))
    next_day = [last_slot_of_day(30, day=25), last_slot_of_day(30, day=25, direction=BACKWARD)]
    (mix,) = mixes(settled(anonymity, *next_day))
    assert mix.directions == (BACKWARD,)
    day_after = [last_slot_of_day(30, day=26), last_slot_of_day(30, day=26, direction=BACKWARD)]
    (mix,) = mixes(settled(anonymity, *day_after))
    assert len(mix.directions) == 2


@pytest.mark.parametrize(
    ("free", "told"),
    [(50, True), (40, True), (41, False), (9, False), (0, False), (10, True)],
    ids=["all free", "ten follow", "nine follow", "nine free", "none free", "ten free"],
)
def test_free_flow_is_told_only_when_neither_the_free_nor_the_others_are_a_small_set(free, told):
    there, back = day_of({RoadUser.CAR: 30}, measured=30, backward=20, free=free)
    (mix,) = mixes(settled(Anonymity(k=10), there, back))
    assert (mix.mix.free_flow is not None) is told


def test_a_day_survives_a_restart_between_its_two_directions():
    anonymity = Anonymity(k=10)
    there, back = day_of({RoadUser.CAR: 30})
    state = anonymity.settle(there).state
    again = Anonymity(k=10)
    again.restore(Counters(anonymity=json.loads(json.dumps(state))))
    (mix,) = mixes(settled(again, back))
    assert mix.measured == 50
