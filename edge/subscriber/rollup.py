"""Hours, days, weeks and weekdays from windows: sums of whole windows, which are never cut.

On a quiet street a window lasts hours. Cutting it at the hour would invent numbers, and a part of it might hold fewer
than k vehicles. So a cell that a window overlaps is joined with the next one: a row of a roll-up is one or more cells
of its grid, and says how many. Hours of the week are likewise joined into blocks until most vehicles have a place.

Why no combination of roll-ups tells of fewer than k vehicles: every figure is a sum over a set of whole windows, hence
so is every sum and difference of figures that is a count at all, and every window that the store accepts holds k
measured vehicles or more. There is nothing smaller to be left over. The same holds for what is deleted: whole windows.

Coverage is the watched share of the whole row, so time without a window (an outage, a lost message) counts as not
watched. Vehicles per hour are per *watched* hour; counts are what was counted and never scaled up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from zoneinfo import ZoneInfo

from edge.domain import DAY_BEGINS_H, ClockState, Direction, SpeedHistogram, day_end_utc_ns, traffic_day
from edge.publish.payload import Flow

BLOCKS_H = (1, 2, 3, 4, 6, 8, 12, 24)
ENOUGH_PLACED = 0.8  # share of the vehicles that the blocks of a week must hold
HOUR_MS = 3_600_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Grid(str, Enum):
    """Cells of a roll-up. Quarters and hours lie on the UTC grid, days and weeks are traffic days (from 04:00)."""

    QUARTER = "quarter"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


@dataclass(frozen=True, slots=True)
class Total:
    """Whole windows added up.

    Attributes:
        histogram: Speeds of the measured motor vehicles.
        vehicles: Motor vehicles, measured or not.
        limit_kmh: Speed limit. [km/h]
        windows: How many.
        watched_h: Watched time, mean of the directions. [h]
        length_h: Time that the row stands for. [h]
        has_flags: Whether a window carries a flag other than "few".
    """

    histogram: SpeedHistogram
    vehicles: int
    limit_kmh: int
    windows: int
    watched_h: float
    length_h: float
    has_flags: bool = False

    @property
    def coverage(self) -> float:
        """Watched share of the row, 0 to 1."""
        return min(self.watched_h / self.length_h, 1.0)

    @property
    def vehicles_per_h(self) -> float | None:
        """Vehicles in a watched hour; None when nothing was watched."""
        return self.vehicles / self.watched_h if self.watched_h else None

    def share_over(self, above_kmh: int = 0) -> float:
        """Share of the measured that drove faster than the limit + ``above_kmh``, 0 to 1."""
        return self.histogram.count_over(self.limit_kmh + above_kmh) / self.histogram.n


@dataclass(frozen=True, slots=True)
class Cell:
    """A row of a roll-up.

    Attributes:
        start: Begin, UTC.
        end: End, UTC.
        day: Traffic day in which it begins.
        cells: Cells of the grid that were joined, 1 where no window was longer.
        total: What was counted.
    """

    start: datetime
    end: datetime
    day: date
    cells: int
    total: Total


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of the week: every Monday from 8 to 9, for instance, local time.

    Attributes:
        weekday: 0 is Monday; the day on which the traffic day began.
        hour: First local hour, 0 to 23.
        hours: How many.
        total: All windows that lie within it.
    """

    weekday: int
    hour: int
    hours: int
    total: Total


@dataclass(frozen=True, slots=True)
class Week:
    """A typical week.

    Attributes:
        blocks: In the order of the week; blocks without a window are missing.
        block_h: Length of each, the shortest that gives most vehicles a place. [h]
        placed: Share of the vehicles whose window lies within one block.
    """

    blocks: tuple[Block, ...]
    block_h: int
    placed: float


def roll_up(flows: Iterable[Flow], grid: Grid, zone: ZoneInfo, direction: Direction | None = None) -> list[Cell]:
    """Windows of one pole as rows of a grid.

    Windows whose time is not known (clock "unset") belong nowhere and are left out. A change of the speed limit or
    of the bins begins a new row.

    Args:
        flows: Windows of one pole.
        grid: Which cells.
        zone: Time zone of the street.
        direction: One direction; None: both together.
    """
    chosen = [each for each in flows if _has_place(each) and direction in (None, each.direction)]
    directions = len({each.direction for each in chosen})
    spans = sorted((_cell_of(each.window.start, grid, zone), _last_cell(each, grid, zone)) for each in chosen)
    joined: list[list[int]] = []
    for first, last in spans:
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    place = {cell: row for row, (first, last) in enumerate(joined) for cell in range(first, last + 1)}
    members: dict[tuple[int, int, int], list[Flow]] = {}
    for each in chosen:
        key = (place[_cell_of(each.window.start, grid, zone)], each.limit.kmh, each.speed.hist.width)
        members.setdefault(key, []).append(each)
    cells = []
    for (row, *_), inside in sorted(members.items()):
        first, last = joined[row]
        start, end = _begin_of(first, grid, zone), _begin_of(last + 1, grid, zone)
        total = _total(inside, length_h=(end - start) / timedelta(hours=1), directions=directions)
        cells.append(Cell(start, end, _traffic_day(start, zone), last - first + 1, total))
    return cells


def weekday_hours(
    flows: Sequence[Flow], zone: ZoneInfo, direction: Direction | None = None, *, block_h: int | None = None
) -> Week:
    """A typical week of one pole, in blocks of so many hours; None: the shortest that give most vehicles a place.

    A window that does not lie within one block belongs to none; ``placed`` says how many vehicles have a place.
    """
    chosen = [each for each in flows if _has_place(each) and direction in (None, each.direction)]
    everybody = sum(each.count for each in chosen)
    for hours in BLOCKS_H if block_h is None else (block_h,):
        members = _in_blocks(chosen, hours, zone)
        placed = sum(each.count for inside in members.values() for each in inside)
        if placed >= ENOUGH_PLACED * everybody:
            break
    days = {(each.window.day.weekday(), each.window.day) for each in chosen}
    blocks = []
    for (weekday, number), inside in sorted(members.items()):
        length_h = hours * sum(1 for day, _ in days if day == weekday)
        total = _total(inside, length_h=length_h, directions=len({each.direction for each in chosen}))
        blocks.append(Block(weekday, (DAY_BEGINS_H + number * hours) % 24, hours, total))
    return Week(tuple(blocks), hours, placed / everybody if everybody else 0.0)


def _in_blocks(flows: Sequence[Flow], hours: int, zone: ZoneInfo) -> dict[tuple[int, int], list[Flow]]:
    """Windows by weekday and block, those that lie within one."""
    members: dict[tuple[int, int], list[Flow]] = {}
    for each in flows:
        first, last = (_block_of(instant, hours, zone) for instant in (each.window.start, _just_before_end(each)))
        if first == last:
            members.setdefault((first[1], first[2]), []).append(each)
    return members


def _total(flows: Sequence[Flow], *, length_h: float, directions: int) -> Total:
    histogram = flows[0].speed.hist.read()
    for each in flows[1:]:
        histogram = histogram + each.speed.hist.read()
    watched = sum(
        each.quality.coverage * ((each.window.end - each.window.start) / timedelta(hours=1)) for each in flows
    )
    return Total(
        histogram=histogram,
        vehicles=sum(each.count for each in flows),
        limit_kmh=flows[0].limit.kmh,
        windows=len(flows),
        watched_h=watched / directions,
        length_h=length_h,
        has_flags=any(flag.value != "few" for each in flows for flag in each.quality.flags),
    )


def merged(totals: Sequence[Total]) -> Total:
    """Totals of disjoint windows over disjoint time, added up; all with one limit."""
    first, *others = totals
    for each in others:
        first = replace(
            first,
            histogram=first.histogram + each.histogram,
            vehicles=first.vehicles + each.vehicles,
            windows=first.windows + each.windows,
            watched_h=first.watched_h + each.watched_h,
            length_h=first.length_h + each.length_h,
            has_flags=first.has_flags or each.has_flags,
        )
    return first


def _has_place(flow: Flow) -> bool:
    return flow.window.clock is not ClockState.UNSET


def _just_before_end(flow: Flow) -> datetime:
    return flow.window.end - timedelta(milliseconds=1)


def _last_cell(flow: Flow, grid: Grid, zone: ZoneInfo) -> int:
    return _cell_of(_just_before_end(flow), grid, zone)


def _cell_of(instant: datetime, grid: Grid, zone: ZoneInfo) -> int:
    if grid is Grid.QUARTER:
        return (instant - _EPOCH) // timedelta(minutes=15)
    if grid is Grid.HOUR:
        return (instant - _EPOCH) // timedelta(hours=1)
    number = _traffic_day(instant, zone).toordinal()
    return number if grid is Grid.DAY else (number - 1) // 7  # ordinal 1 is a Monday


def _begin_of(cell: int, grid: Grid, zone: ZoneInfo) -> datetime:
    if grid in (Grid.QUARTER, Grid.HOUR):
        return _EPOCH + cell * timedelta(minutes=15 if grid is Grid.QUARTER else 60)
    day = date.fromordinal(cell if grid is Grid.DAY else cell * 7 + 1)
    return _EPOCH + timedelta(microseconds=day_end_utc_ns(day - timedelta(days=1), zone) // 1000)


def _traffic_day(instant: datetime, zone: ZoneInfo) -> date:
    return traffic_day((instant - _EPOCH) // timedelta(microseconds=1) * 1000, zone)


def _block_of(instant: datetime, block_h: int, zone: ZoneInfo) -> tuple[date, int, int]:
    """Traffic day, its weekday, and the number of the block since 04:00."""
    day = _traffic_day(instant, zone)
    return day, day.weekday(), (instant.astimezone(zone).hour - DAY_BEGINS_H) % 24 // block_h
