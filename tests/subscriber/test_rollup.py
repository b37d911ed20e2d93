"""Roll-ups: whole windows added up, and nothing smaller than a window can be found by any combination."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import ClockState
from edge.domain import Direction, SpeedHistogram, WindowAggregate
from edge.publish.payload import Flow
from edge.subscriber import Grid, roll_up, weekday_hours
from tests.support.builders import BINNING, HILVERSUM
from tests.support.published import a_flow, day_window, following, four_o_clock
from tests.support.traffic import numbered, passages, told

MONDAY = four_o_clock("2026-11-23")


def a_count(vehicles: int) -> list[int]:
    """That many vehicles between 30 and 32 km/h."""
    return [0] * 11 + [vehicles] + [0] * 15


def windows_of(*hours: float, begin: datetime = MONDAY, direction: Direction = Direction.FORWARD) -> list[Flow]:
    """Windows one after the other that last so long, of 10, 11, 12 … vehicles."""
    flows, at = [], begin
    for number, length in enumerate(hours):
        flows.append(a_flow(day_window(at, a_count(10 + number), hours=length, direction=direction), number + 1))
        at += timedelta(hours=length)
    return flows


def test_hours_are_sums_of_the_quarters_in_them() -> None:
    cells = roll_up(windows_of(*[0.25] * 8), Grid.HOUR, HILVERSUM)

    assert [(cell.cells, cell.total.vehicles, cell.total.windows) for cell in cells] == [
        (1, 10 + 11 + 12 + 13, 4),
        (1, 14 + 15 + 16 + 17, 4),
    ]
    assert cells[0].start == datetime(2026, 11, 23, 3, tzinfo=timezone.utc)
    assert cells[0].end == cells[1].start


def test_a_window_longer_than_an_hour_joins_hours_instead_of_being_cut() -> None:
    cells = roll_up(windows_of(0.75, 0.5, 0.75, 1.0, 4.25, 0.75), Grid.HOUR, HILVERSUM)

    assert [(cell.cells, cell.total.vehicles) for cell in cells] == [(2, 10 + 11 + 12), (1, 13), (5, 14 + 15)]


def test_both_directions_share_the_joined_hours() -> None:
    flows = windows_of(1, 1, 1, 1) + windows_of(2, 2, direction=Direction.BACKWARD)

    assert [cell.cells for cell in roll_up(flows, Grid.HOUR, HILVERSUM)] == [2, 2]
    assert [cell.cells for cell in roll_up(flows, Grid.HOUR, HILVERSUM, Direction.FORWARD)] == [1, 1, 1, 1]


def test_time_without_a_window_is_time_not_watched() -> None:
    half = [a_flow(day_window(MONDAY, a_count(30), hours=12, coverage=0.5))]
    (day,) = roll_up(half, Grid.DAY, HILVERSUM)

    assert day.total.coverage == pytest.approx(0.25)
    assert day.total.vehicles_per_h == pytest.approx(30 / 6)
    assert day.total.vehicles == 30


@pytest.mark.parametrize(
    ("day", "hours"),
    [pytest.param("2026-03-28", 23, id="clocks go forward"), pytest.param("2026-10-24", 25, id="clocks go back")],
)
def test_days_have_their_true_length_when_the_clocks_change(day: str, hours: int) -> None:
    flows = windows_of(*[1.0] * hours, begin=four_o_clock(day).astimezone(timezone.utc))
    (cell,) = roll_up(flows, Grid.DAY, HILVERSUM)

    assert (cell.end - cell.start) == timedelta(hours=hours)
    assert cell.day == date.fromisoformat(day)
    assert cell.total.coverage == pytest.approx(1.0)


def test_weeks_begin_on_monday_at_four() -> None:
    flows = [a_flow(day_window(following(MONDAY, day), a_count(20 + day)), day + 2) for day in range(-1, 8)]
    weeks = roll_up(flows, Grid.WEEK, HILVERSUM)

    assert [(week.day, week.total.windows) for week in weeks] == [
        (date(2026, 11, 16), 1),
        (date(2026, 11, 23), 7),
        (date(2026, 11, 30), 1),
    ]


def test_a_window_of_unknown_time_has_no_place() -> None:
    flows = [*windows_of(1.0), a_flow(replace(day_window(MONDAY, a_count(99), hours=1), clock=ClockState.UNSET), 2)]
    assert [cell.total.vehicles for cell in roll_up(flows, Grid.HOUR, HILVERSUM)] == [10]


def test_another_limit_begins_a_new_row() -> None:
    flows = [
        a_flow(day_window(MONDAY, a_count(30), hours=1)),
        a_flow(day_window(MONDAY + timedelta(hours=1), [0] * 20 + [30] + [0] * 16, hours=1, limit_kmh=50), 2),
    ]
    assert [cell.total.limit_kmh for cell in roll_up(flows, Grid.DAY, HILVERSUM)] == [30, 50]


def test_a_week_is_told_in_the_shortest_blocks_that_hold_most_vehicles() -> None:
    busy = [flow for day in range(7) for flow in windows_of(*[1.0] * 24, begin=following(MONDAY, day))]
    quiet = [flow for day in range(7) for flow in windows_of(7.0, 7.0, 10.0, begin=following(MONDAY, day))]

    week = weekday_hours(busy, HILVERSUM)
    assert (week.block_h, week.placed, len(week.blocks)) == (1, 1.0, 168)
    assert [(block.weekday, block.hour) for block in week.blocks[:2]] == [(0, 4), (0, 5)]
    assert week.blocks[20].hour == 0  # the night after Monday is Monday's

    longer = weekday_hours(quiet, HILVERSUM)
    assert longer.block_h == 24
    assert sum(block.total.vehicles for block in longer.blocks) == sum(flow.count for flow in quiet)


# ----------------------------------------------------------------------------------------------------------- privacy


def smallest_remainder(published: list[dict[int, int]], atoms: dict[int, int]) -> int:
    """The fewest vehicles that any combination of sums of windows can tell of.

    A reader may add and subtract published sums as often as wanted. What can be found out is every set of windows whose
    indicator is a combination of the published ones; of those, the reader wants the smallest. Brute force: the common
    refinement of the published sets, which is the most that set operations can ever reach.
    """
    signatures: dict[tuple[bool, ...], int] = {}
    for atom, vehicles in atoms.items():
        signature = tuple(atom in sums for sums in published)
        if any(signature):
            signatures[signature] = signatures.get(signature, 0) + vehicles
    return min(signatures.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(10, 40)), min_size=3, max_size=40), st.integers(0, 10_000))
def test_no_combination_of_roll_ups_tells_of_fewer_than_k(spans: list[tuple[int, int]], seed: int) -> None:
    rng = random.Random(seed)
    flows, at = [], MONDAY + timedelta(minutes=15 * rng.randrange(96))
    for number, (quarters, vehicles) in enumerate(spans):
        if rng.random() < 0.1:
            at += timedelta(hours=rng.randrange(30))  # an outage
        way = rng.choice(tuple(Direction))
        flows.append(a_flow(day_window(at, a_count(vehicles), hours=quarters / 4, direction=way), number + 1))
        at += timedelta(minutes=15 * quarters)
    published = []
    for grid, way in itertools.product(Grid, (None, *Direction)):
        chosen = [flow for flow in flows if way in (None, flow.direction)]
        for cell in roll_up(flows, grid, HILVERSUM, way):
            inside = {flow.seq: flow.speed.n for flow in chosen if cell.start <= flow.window.start < cell.end}
            assert sum(inside.values()) == cell.total.histogram.n  # whole windows and nothing else
            assert all(cell.start <= flow.window.start and flow.window.end <= cell.end
                       for flow in chosen if flow.seq in inside)  # fmt: skip
            published.append(inside)
    for block in weekday_hours(flows, HILVERSUM).blocks:
        assert block.total.histogram.n >= 10

    assert smallest_remainder(published, {flow.seq: flow.speed.n for flow in flows}) >= 10


def test_the_sums_of_a_simulated_month_lose_nobody() -> None:
    traffic = passages(first_day="2026-10-10", days=20, motor_a_day=260, seed=3)  # quiet, with the end of summer time
    releases = numbered(told(traffic, first_day="2026-10-10", seed=3))
    windows = [queued.record for queued in releases if isinstance(queued.record, WindowAggregate)]
    flows = [a_flow(window, seq) for seq, window in enumerate(windows, start=1)]
    whole = SpeedHistogram.empty(BINNING)
    for window in windows:
        whole = whole + window.histogram

    for grid in Grid:
        merged = SpeedHistogram.empty(BINNING)
        for cell in roll_up(flows, grid, HILVERSUM):
            assert cell.total.histogram.n >= 10
            merged = merged + cell.total.histogram
        assert merged == whole, grid
