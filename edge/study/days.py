"""Windows as days: one row a traffic day, made up for the time in which nobody watched.

A day that was watched for nine tenths counts with the vehicles of a whole day: each direction is divided by its own
coverage, of which every lost message and outage takes its part. Days watched too little are left out, because what
is missing of a day is never a fair sample of it. Windows are taken whole; one that spans two days spoils both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np

from edge.domain import Binning, Bools, ClockState, Direction, Flag, Floats, day_end_utc_ns, traffic_day
from edge.errors import BadInput
from edge.publish.payload import Flow
from edge.study.words import TWO_DAYS, WATCHED_TOO_LITTLE

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """Days of one pole.

    Attributes:
        pole: Its name.
        days: Traffic days, rising.
        histograms: Vehicles by speed, (under, bins …, over), made up for missing coverage, shape (days, bins + 2).
        volumes: Motor vehicles a day, made up likewise, shape (days,).
        measured: Motor vehicles with a speed, as counted, shape (days,).
        coverage: Watched share, the worse direction, shape (days,).
        binning: The bins.
        limit_kmh: Speed limit on the last day. [km/h]
        calibrations: Which calibrations measured on each day.
        provenances: Which models, software versions and settings did.
        left_out: Days that cannot be used, with the reason.
        watched: Watched share of every day with a window, used or not.
        has_new_limit: Whether the speed limit changed within the days.
    """

    pole: str
    days: tuple[date, ...]
    histograms: Floats
    volumes: Floats
    measured: Floats
    coverage: Floats
    binning: Binning
    limit_kmh: int
    calibrations: tuple[frozenset[str], ...]
    provenances: tuple[frozenset[str], ...]
    left_out: Mapping[date, str]
    watched: Mapping[date, float]
    has_new_limit: bool

    def rows_of(self, chosen: Sequence[date]) -> list[int]:
        """Rows of some days, all of which are here."""
        place = {day: row for row, day in enumerate(self.days)}
        return [place[day] for day in chosen]

    def within(self, first: date, last: date) -> Bools:
        """Which rows lie in a period, ends included, shape (days,)."""
        return np.array([first <= day <= last for day in self.days], dtype=bool)


@dataclass(slots=True)
class _Sum:
    """What one direction counted on one day."""

    counts: Floats
    vehicles: int = 0
    watched: timedelta = timedelta(0)


def days_of(
    pole: str,
    flows: Sequence[Flow],
    *,
    zone: ZoneInfo,
    least_coverage: float,
    direction: Direction | None = None,
    hours: tuple[int, int] | None = None,
) -> Days:
    """The days of a pole.

    Args:
        pole: Its name.
        flows: Its windows.
        zone: Time zone of the street.
        least_coverage: Days of which a direction was watched less are left out, 0 to 1.
        direction: Only this one; None: both.
        hours: Only windows that lie between these local hours, the second excluded; None: the whole day.

    Raises:
        BadInput: There are no windows, or their bins cannot be compared.
    """
    chosen = [
        each for each in flows
        if each.window.clock is not ClockState.UNSET and direction in (None, each.direction)
    ]  # fmt: skip
    if not chosen:
        raise BadInput(f"pole '{pole}': expected windows in these periods, found none")
    binning = _common_binning(pole, chosen)
    left_out: dict[date, str] = {}
    sums: dict[tuple[date, Direction], _Sum] = defaultdict(lambda: _Sum(np.zeros(binning.bins + 2)))
    calibrations: dict[date, set[str]] = defaultdict(set)
    provenances: dict[date, set[str]] = defaultdict(set)
    for each in chosen:
        first = traffic_day(_ns(each.window.start), zone)
        if first != each.window.day or Flag.MULTI_DAY in each.quality.flags:
            for number in range(first.toordinal(), each.window.day.toordinal() + 1):
                left_out[date.fromordinal(number)] = TWO_DAYS
            continue
        calibrations[first].add(each.prov.cal)
        provenances[first].add(f"{each.prov.model} {each.prov.sw} {each.prov.cfg}")
        if hours is not None and not _lies_within(each, hours, zone):
            continue
        entry = sums[first, each.direction]
        entry.counts += _folded(each, binning)
        entry.vehicles += each.count
        entry.watched += each.quality.coverage * (each.window.end - each.window.start)
    directions = sorted({way for _, way in sums}, key=list(Direction).index)
    watched: dict[date, float] = {}
    rows: list[tuple[date, Floats, float, float, float]] = []
    for day in sorted({day for day, _ in sums} - set(left_out)):
        length = _length(day, hours, zone)
        parts = [sums[day, way] for way in directions]
        coverage = min(min(part.watched / length, 1.0) for part in parts)
        watched[day] = coverage
        if coverage < least_coverage or coverage == 0.0:
            left_out[day] = WATCHED_TOO_LITTLE
            continue
        scales = [max(length / part.watched, 1.0) for part in parts]
        histogram = sum((scale * part.counts for scale, part in zip(scales, parts)), np.zeros(binning.bins + 2))
        volume = sum(scale * part.vehicles for scale, part in zip(scales, parts))
        rows.append((day, histogram, volume, float(sum(part.counts.sum() for part in parts)), coverage))
    limits = Counter(each.limit.kmh for each in chosen)
    return Days(
        pole=pole,
        days=tuple(row[0] for row in rows),
        histograms=np.array([row[1] for row in rows]).reshape(len(rows), binning.bins + 2),
        volumes=np.array([row[2] for row in rows]),
        measured=np.array([row[3] for row in rows]),
        coverage=np.array([row[4] for row in rows]),
        binning=binning,
        limit_kmh=max(chosen, key=lambda each: each.window.end).limit.kmh,
        calibrations=tuple(frozenset(calibrations[row[0]]) for row in rows),
        provenances=tuple(frozenset(provenances[row[0]]) for row in rows),
        left_out=left_out,
        watched=watched,
        has_new_limit=len(limits) > 1,
    )


def _common_binning(pole: str, flows: Sequence[Flow]) -> Binning:
    """The bins that all windows share; those of a higher limit go further up and are folded."""
    shapes = {(each.speed.hist.from_, each.speed.hist.width) for each in flows}
    if len(shapes) > 1:
        told = " and ".join(f"{width} km/h from {first}" for first, width in sorted(shapes))
        raise BadInput(f"pole '{pole}': expected windows with the same bins, found {told}")
    ((first, width),) = shapes
    return Binning(first, width, min(len(each.speed.hist.counts) for each in flows))


def _folded(flow: Flow, binning: Binning) -> Floats:
    counts = np.array(flow.speed.hist.counts, dtype=np.float64)
    over = counts[binning.bins :].sum() + flow.speed.hist.over
    return np.concatenate([[flow.speed.hist.under], counts[: binning.bins], [over]])


def _lies_within(flow: Flow, hours: tuple[int, int], zone: ZoneInfo) -> bool:
    start, end = (instant.astimezone(zone) for instant in (flow.window.start, flow.window.end))
    begins, ends = start.hour + start.minute / 60, end.hour + end.minute / 60
    if start.date() != end.date():
        if (ends, hours[1]) != (0.0, 24):
            return False
        ends = 24.0
    return hours[0] <= begins and ends <= hours[1]


def _length(day: date, hours: tuple[int, int] | None, zone: ZoneInfo) -> timedelta:
    if hours is not None:
        return timedelta(hours=hours[1] - hours[0])
    return timedelta(microseconds=(day_end_utc_ns(day, zone) - day_end_utc_ns(day - timedelta(days=1), zone)) // 1000)


def _ns(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1) * 1000
