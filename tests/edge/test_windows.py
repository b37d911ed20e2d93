"""Passages into slots, by the time at which they happened."""

from __future__ import annotations

import json
from datetime import date

import pytest

from edge.clock import ClockAnchor, ClockState
from edge.domain import (
    Binning,
    Counters,
    Direction,
    Flag,
    Provenance,
    Reason,
    RoadUser,
    day_end_utc_ns,
    traffic_day,
)
from tests.support.builders import (
    HILVERSUM,
    MORNING,
    PROVENANCE,
    S,
    a_passage,
    an_anchor,
    some_windows,
    utc_ns,
)

FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD


def watch(windows, from_s, to_s, step_s=0.5, **how):
    """Frames every half second; returns what closed."""
    closed, now_s = [], from_s
    while now_s <= to_s:
        closed += windows.close_until(round(now_s * S), **how)
        now_s += step_s
    return closed


def restarted(windows, *, settled=None, **changes):
    """The same windows after a power cut: only what a file can hold survives."""
    state = json.loads(json.dumps(windows.state()))
    again = some_windows(**changes)
    again.restore(Counters(windows=state, anonymity={"settled": settled or {}}))
    return again


def forward(aggregates):
    return [aggregate for aggregate in aggregates if aggregate.direction is FORWARD]


# ------------------------------------------------------------------------------------------------------------ slots


def test_a_slot_closes_for_both_directions_a_minute_after_its_end():
    windows = some_windows()
    assert watch(windows, 0, 959.5) == []
    closed = watch(windows, 960, 960)
    assert [each.direction for each in closed] == [FORWARD, BACKWARD]
    assert closed[0].start_utc_ns == utc_ns(MORNING)
    assert closed[0].end_utc_ns == utc_ns("2026-11-23T06:45:00Z")
    assert closed[0].slots == 1
    assert closed[0].coverage == 1.0


def test_a_passage_is_counted_in_the_slot_in_which_it_happened_not_in_which_it_was_reported():
    windows = some_windows()
    watch(windows, 0, 910)
    windows.add(a_passage(middle_s=899.0))
    windows.add(a_passage(middle_s=905.0))
    first = forward(watch(windows, 910, 960))[0]
    assert first.measured == 1
    assert forward(windows.finish())[0].measured == 1


def test_a_passage_reported_after_its_slot_closed_is_counted_in_the_next_and_flagged():
    windows = some_windows(lateness_s=5.0)
    watch(windows, 0, 910)
    windows.add(a_passage(middle_s=890.0))
    late = forward(windows.finish())[0]
    assert late.measured == 1
    assert Flag.LATE in late.flags


def test_a_vehicle_in_the_zone_when_watching_began_is_counted_and_is_not_late():
    windows = some_windows()
    watch(windows, 0, 10)
    windows.add(a_passage(middle_s=-0.5))
    only = forward(windows.finish())[0]
    assert only.measured == 1
    assert Flag.LATE not in only.flags


def test_a_vehicle_that_leaves_after_the_last_frame_is_counted():
    windows = some_windows(slot_s=10)
    watch(windows, 0, 9.5)
    windows.add(a_passage(middle_s=10.4))
    assert sum(each.measured for each in windows.finish()) == 1


def test_the_first_window_begins_with_the_first_frame_and_the_last_ends_with_the_last():
    windows = some_windows(anchor=an_anchor("2026-11-23T06:37:12Z"))
    watch(windows, 0, 100)
    only = forward(windows.finish())[0]
    assert only.start_utc_ns == utc_ns("2026-11-23T06:37:12Z")
    assert only.end_utc_ns == utc_ns("2026-11-23T06:38:52Z")
    assert only.coverage == 1.0


def test_only_motor_vehicles_have_a_speed_in_the_window_and_bicycles_stand_in_the_mix():
    windows = some_windows()
    watch(windows, 0, 10)
    windows.add(a_passage(middle_s=1, speed_kmh=33.0))
    windows.add(a_passage(middle_s=2, speed_kmh=18.0, road_user=RoadUser.BICYCLE))
    windows.add(a_passage(middle_s=3, speed_kmh=None, road_user=RoadUser.BICYCLE))
    windows.add(a_passage(middle_s=4, speed_kmh=None, road_user=RoadUser.TRUCK, reason=Reason.SHORT_BASELINE))
    only = forward(windows.finish())[0]
    assert (only.measured, only.unmeasured, only.count) == (1, 1, 2)
    counted = {road_user: count for road_user, count in only.mix.classes.items() if count}
    assert counted == {RoadUser.CAR: 1, RoadUser.TRUCK: 1, RoadUser.BICYCLE: 2}
    assert {reason for reason, count in only.mix.unmeasured.items() if count} == {Reason.SHORT_BASELINE}


def test_a_person_is_not_a_vehicle_and_a_standstill_is_not_a_speed():
    windows = some_windows()
    with pytest.raises(ValueError, match="expected a vehicle, got person"):
        windows.add(a_passage(road_user=RoadUser.PERSON))
    with pytest.raises(ValueError, match="above 0"):
        windows.add(a_passage(speed_kmh=0.0))


def test_a_vehicle_measured_at_exactly_the_limit_does_not_exceed_it_after_conversion():
    windows = some_windows()
    watch(windows, 0, 10)
    for limit_kmh in (30.0, 40.0):
        windows.add(a_passage(speed_kmh=limit_kmh))
    assert forward(windows.finish())[0].histogram.count_over(30) == 1


def test_sums_for_the_uncertainty_come_from_every_measured_vehicle():
    windows = some_windows()
    watch(windows, 0, 10)
    windows.add(a_passage(speed_kmh=40.0, sigma_random_kmh=0.5, sigma_calibration_kmh=0.4))
    windows.add(a_passage(speed_kmh=20.0, sigma_random_kmh=0.1, sigma_calibration_kmh=0.4))
    only = forward(windows.finish())[0]
    assert only.random_variance_micro == pytest.approx(260_000, abs=1)
    assert only.calibration_relative_micro == pytest.approx(30_000, abs=1)


def test_driving_freely_means_more_than_five_seconds_behind_any_vehicle_of_the_same_direction():
    windows = some_windows()
    watch(windows, 0, 60)
    windows.add(a_passage(middle_s=30.0, speed_kmh=35))  # watched for half a minute before: free
    windows.add(a_passage(middle_s=34.0, speed_kmh=21))  # follows
    windows.add(a_passage(middle_s=45.0, speed_kmh=45))  # behind the bicycle below: follows
    windows.add(a_passage(middle_s=41.0, speed_kmh=17, road_user=RoadUser.BICYCLE))
    windows.add(a_passage(middle_s=46.0, speed_kmh=25, direction=BACKWARD))  # alone in its direction: free
    windows.add(a_passage(middle_s=50.5, speed_kmh=37))  # 5.5 s behind: free
    forward_window, backward_window = windows.finish()
    assert forward_window.mix.free_flow.n == 2
    assert forward_window.mix.free_flow.mean_kmh == pytest.approx((35 + 37) / 2)
    assert backward_window.mix.free_flow.n == 1


def test_nobody_knows_whether_the_first_vehicle_after_a_gap_drove_freely():
    windows = some_windows()
    watch(windows, 0, 20)
    windows.add(a_passage(middle_s=10.0))
    watch(windows, 100, 120)
    windows.add(a_passage(middle_s=103.0))
    assert forward(windows.finish())[0].mix.free_flow.n == 1


# --------------------------------------------------------------------------------------------------------- coverage


def test_time_between_frames_that_are_too_far_apart_is_not_watched():
    windows = some_windows()
    watch(windows, 0, 300)
    watch(windows, 600, 900)
    slot = forward(windows.finish())[0]
    assert slot.watched_ns == 600 * S
    assert slot.coverage == pytest.approx(2 / 3)


def test_time_in_the_dark_is_not_watched_and_the_slot_says_why():
    windows = some_windows()
    watch(windows, 0, 300)
    watch(windows, 300.5, 900, impaired_by=Flag.TOO_DARK)
    slot = forward(windows.finish())[0]
    assert slot.coverage == pytest.approx(1 / 3)
    assert Flag.TOO_DARK in slot.flags


def test_watched_time_is_split_where_slots_meet():
    windows = some_windows(slot_s=10, lateness_s=0.0, longest_gap_s=4.0)
    closed = watch(windows, 0, 30, step_s=4.0)
    assert [each.watched_ns for each in forward(closed)] == [10 * S, 10 * S]


def test_an_outage_of_hours_is_one_empty_window_up_to_the_end_of_the_traffic_day_and_one_after():
    windows = some_windows(anchor=an_anchor("2026-11-23T22:00:00Z"))
    watch(windows, 0, 10)
    closed = forward(watch(windows, 8 * 3600 + 60, 8 * 3600 + 60))
    begins = [utc_ns("2026-11-23T22:00:00Z"), utc_ns("2026-11-23T22:15:00Z"), utc_ns("2026-11-24T03:00:00Z")]
    assert [each.start_utc_ns for each in closed] == begins
    assert closed[-1].end_utc_ns == utc_ns("2026-11-24T06:00:00Z")
    assert [each.coverage for each in closed[1:]] == [0.0, 0.0]
    assert [each.ends_day for each in closed] == [False, True, False]


def test_frames_that_repeat_or_go_back_change_nothing():
    windows = some_windows()
    for captured_ns in (0, S, S, S // 2, 2 * S):
        windows.close_until(captured_ns)
    assert windows.watched_ns == 2 * S


# ----------------------------------------------------------------------------------------------------- traffic days


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 3, 28), 23), (date(2026, 10, 24), 25), (date(2026, 11, 23), 24)],
    ids=["clocks go forward", "clocks go back", "ordinary Monday"],
)
def test_a_traffic_day_runs_from_four_to_four_whatever_the_clocks_do(day, hours):
    end_utc_ns = day_end_utc_ns(day, HILVERSUM)
    assert traffic_day(end_utc_ns - 1, HILVERSUM) == day
    assert traffic_day(end_utc_ns - hours * 3600 * S, HILVERSUM) == day
    assert traffic_day(end_utc_ns - hours * 3600 * S - 1, HILVERSUM) != day
    assert traffic_day(end_utc_ns, HILVERSUM) != day


def test_no_slot_crosses_four_in_the_morning_even_where_the_grid_would():
    windows = some_windows(slot_s=86_400, anchor=an_anchor("2026-11-23T22:00:00Z"))
    closed = forward(watch(windows, 0, 86_400 + 7200, step_s=60))
    ends = [each.end_utc_ns for each in closed]
    assert ends == [utc_ns("2026-11-24T00:00:00Z"), utc_ns("2026-11-24T03:00:00Z")]
    assert [(each.day, each.ends_day) for each in closed] == [(date(2026, 11, 23), False), (date(2026, 11, 23), True)]


# ------------------------------------------------------------------------------------------------------- wall clock


def test_a_small_correction_of_the_wall_clock_moves_the_end_of_the_slot():
    windows = some_windows(lateness_s=0.0)
    watch(windows, 0, 600)
    windows.reanchor(ClockAnchor(600 * S, utc_ns(MORNING) + 600 * S + S // 2, ClockState.SYNCED))
    closed = forward(watch(windows, 600.5, 900))
    assert len(closed) == 1
    assert closed[0].end_utc_ns == utc_ns("2026-11-23T06:45:00Z")
    assert Flag.CLOCK_STEP not in closed[0].flags


@pytest.mark.parametrize("step_s", [7200, -7200], ids=["forward", "back"])
def test_a_step_of_the_wall_clock_closes_the_slot_flagged_and_loses_nobody(step_s):
    windows = some_windows()
    watch(windows, 0, 300)
    windows.add(a_passage(middle_s=290.0))
    windows.reanchor(ClockAnchor(300 * S, utc_ns(MORNING) + (300 + step_s) * S, ClockState.SYNCED))
    watch(windows, 300.5, 310)
    windows.add(a_passage(middle_s=299.0))  # reported after the step, happened before
    windows.add(a_passage(middle_s=305.0))
    closed = forward(watch(windows, 310.5, 400) + windows.finish())
    assert [each.measured for each in closed] == [2, 1]
    assert [Flag.CLOCK_STEP in each.flags for each in closed] == [True, False]
    assert closed[0].duration_ns == 300 * S
    assert closed[1].start_utc_ns == utc_ns(MORNING) + (300 + step_s) * S


def test_time_that_becomes_known_later_labels_what_came_before():
    """The steady clock ran on, so nothing is split; but nobody disciplined it while the slot began."""
    windows = some_windows(anchor=ClockAnchor(0, 0, ClockState.UNSET))
    watch(windows, 0, 300)
    windows.reanchor(ClockAnchor(300 * S, utc_ns(MORNING), ClockState.SYNCED))
    (slot,) = forward(watch(windows, 300.5, 600) + windows.finish())
    assert slot.clock is ClockState.HOLDOVER
    assert slot.start_utc_ns == utc_ns(MORNING) - 300 * S
    assert slot.watched_ns == pytest.approx(600 * S, rel=0.01)


# --------------------------------------------------------------------------------------------------------- restarts


def test_after_a_power_cut_the_slot_goes_on_and_the_time_between_is_missing_coverage():
    windows = some_windows()
    watch(windows, 0, 300)
    windows.add(a_passage(middle_s=100.0))
    windows.add(a_passage(middle_s=200.0, speed_kmh=None))
    again = restarted(windows, anchor=an_anchor("2026-11-23T06:36:00Z"))  # a minute later, on a new source clock
    watch(again, 0, 540)
    again.add(a_passage(middle_s=10.0))
    slot = forward(again.finish())[0]
    assert slot.start_utc_ns == utc_ns(MORNING)
    assert (slot.measured, slot.unmeasured) == (2, 1)
    assert slot.watched_ns == 840 * S
    assert slot.coverage == pytest.approx(840 / 900)


def test_what_the_anonymity_stage_has_settled_is_not_counted_again_after_a_power_cut():
    windows = some_windows()
    watch(windows, 0, 800)
    windows.add(a_passage(middle_s=100.0))
    windows.add(a_passage(middle_s=110.0, direction=BACKWARD))
    again = restarted(windows, settled={"forward": 1}, anchor=an_anchor("2026-11-23T06:50:00Z"))
    closed = watch(again, 0, 0) + again.finish()
    assert sum(each.measured for each in closed if each.direction is FORWARD) == 0
    assert sum(each.measured for each in closed if each.direction is BACKWARD) == 1
    assert min(each.slot for each in forward(closed)) > 1


def test_a_checkpoint_of_a_checkpoint_is_the_same():
    windows = some_windows()
    watch(windows, 0, 930)
    windows.add(a_passage(middle_s=100.0))
    windows.add(a_passage(middle_s=905.0, direction=BACKWARD))
    once = windows.state()
    assert restarted(windows).state() == once


def test_a_checkpoint_after_a_restart_keeps_what_was_counted_before_and_after():
    windows = some_windows()
    watch(windows, 0, 100)
    windows.add(a_passage(middle_s=50.0))
    second = restarted(windows, anchor=an_anchor("2026-11-23T06:32:00Z"))
    watch(second, 0, 100)
    second.add(a_passage(middle_s=50.0))
    third = restarted(second, anchor=an_anchor("2026-11-23T06:34:00Z"))
    watch(third, 0, 100)
    third.add(a_passage(middle_s=50.0))
    slot = forward(third.finish())[0]
    assert slot.measured == 3
    assert slot.watched_ns == 300 * S
    assert slot.duration_ns == 340 * S


@pytest.mark.parametrize(
    ("changes", "flagged"),
    [
        ({"anchor": ClockAnchor(0, 0, ClockState.UNSET)}, True),
        ({"anchor": an_anchor("2026-11-23T06:31:00Z")}, True),
        ({"anchor": an_anchor("2026-11-23T06:36:00Z"), "slot_s": 300}, False),
        (
            {"anchor": an_anchor("2026-11-23T06:36:00Z"), "binning": Binning.for_limit(50), "limit_kmh": 50},
            False,
        ),
    ],
    ids=["time lost", "time went back", "other slots", "other limit"],
)
def test_when_the_time_line_or_the_site_changed_the_stored_slot_is_handed_out_as_it_was(changes, flagged):
    windows = some_windows()
    watch(windows, 0, 300)
    windows.add(a_passage(middle_s=100.0))
    again = restarted(windows, **changes)
    stored = forward(again.close_until(0))
    assert [(each.measured, each.duration_ns) for each in stored] == [(1, 300 * S)]
    assert (Flag.CLOCK_STEP in stored[0].flags) is flagged


def test_a_change_of_calibration_inside_a_slot_is_told():
    windows = some_windows()
    watch(windows, 0, 300)
    other = Provenance(calibration="cal-2026-11-23-b", model="nanodet", software="1.0.0", config="6d2f")
    again = restarted(windows, anchor=an_anchor("2026-11-23T06:36:00Z"), provenance=other)
    watch(again, 0, 100)
    slot = forward(again.finish())[0]
    assert Flag.MIXED_PROVENANCE in slot.flags
    assert slot.provenance in (PROVENANCE, other)


def test_what_stands_from_now_on_marks_the_open_slot_and_all_later_ones_and_costs_no_coverage():
    windows = some_windows()
    watch(windows, 0, 905)  # the first slot has ended and still waits for passages
    windows.mark_from_now(Flag.CALIBRATION_EXPIRED)
    slots = forward(watch(windows, 905.5, 1900)) + forward(windows.finish())
    assert [Flag.CALIBRATION_EXPIRED in slot.flags for slot in slots] == [False, True, True]
    assert [slot.coverage for slot in slots] == [1.0, 1.0, 1.0]


def test_a_checkpoint_holds_no_instant_of_a_single_vehicle():
    windows = some_windows()
    watch(windows, 0, 300)
    windows.add(a_passage(middle_s=123.456789, speed_kmh=37.654321))
    text = json.dumps(windows.state())
    assert "123456789" not in text
    assert "37.6" not in text
    assert "10.45" not in text


@pytest.mark.parametrize(
    "wrong", [{"slot_s": 7}, {"slot_s": 0}, {"lateness_s": -1.0}, {"longest_gap_s": 0.0}, {"limit_kmh": 31}]
)
def test_windows_that_cannot_be_right_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected|not an edge"):
        some_windows(**wrong)


# ------------------------------------------------------------------------------------------------ time without frames


def test_windows_close_on_time_although_the_camera_is_away_and_coverage_says_so():
    windows = some_windows()
    watch(windows, 0, 450)
    windows.add(a_passage(middle_s=300.0))
    closed = []
    for at_s in range(452, 2000, 2):
        closed += windows.pass_unwatched(at_s * S, since_ns=450 * S)
    first, second = forward(closed)
    assert (first.measured, second.measured) == (1, 0)
    assert first.coverage == pytest.approx(0.5, abs=0.002)
    assert second.coverage == 0.0
    assert first.end_utc_ns == second.start_utc_ns == utc_ns("2026-11-23T06:45:00Z")


def test_what_a_frozen_picture_pretended_to_watch_is_withdrawn_once():
    windows = some_windows()
    watch(windows, 0, 700)
    for at_s in range(701, 720):
        windows.pass_unwatched(at_s * S, since_ns=670 * S)
    assert windows.watched_ns == 670 * S
    closed = watch(windows, 720, 960)
    assert forward(closed)[0].coverage == pytest.approx((670 + 180) / 900, abs=0.002)


def test_darkness_flags_the_slots_that_it_touches_and_no_other():
    windows = some_windows()
    closed = watch(windows, 0, 1000)
    closed += [
        aggregate
        for at_s in range(1001, 1100)
        for aggregate in windows.pass_unwatched(at_s * S, since_ns=at_s * S, because=Flag.TOO_DARK)
    ]
    closed += watch(windows, 1100, 2000)
    first, second = forward(closed)
    assert Flag.TOO_DARK not in first.flags
    assert Flag.TOO_DARK in second.flags
    assert second.coverage == pytest.approx(801 / 900, abs=0.003)


def test_a_camera_that_is_away_from_the_start_is_an_outage_and_not_a_quiet_street():
    windows = some_windows()
    closed = [each for at_s in range(0, 1000, 5) for each in windows.pass_unwatched(at_s * S, since_ns=0)]
    assert [each.coverage for each in closed] == [0.0, 0.0]
