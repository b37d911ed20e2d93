"""Every released window holds at least k measured vehicles, and nothing released can be subtracted from something else.

One tiling for each direction: an accumulator takes slot after slot. When it holds k vehicles at the end of a slot it
becomes the *pending* window, and the pending window before it is released. At 04:00 local time what remains merges
into the pending window, which is then released, so that traffic days are self-contained; a day below k carries over
into the next. Every vehicle is in exactly one released window, or still carried; none is dropped to reach k.

The class mix of a traffic day is released only if every class that occurs has k vehicles or more, and only over the
directions whose windows of that day hold vehicles of that day alone: otherwise the difference between the two would
tell how many vehicles were carried over.

This is the one place where a :class:`~edge.domain.Release` is made.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce
from operator import add, or_
from typing import Any

from edge.domain import (
    Counters,
    DayMix,
    Direction,
    Flag,
    PrivacyRule,
    Relabelling,
    Release,
    Settlement,
    VehicleMix,
    WindowAggregate,
)

DEFAULT_K = 10
FLOOR_K = 5  # fewer would let a neighbour recognise single vehicles by knowing the others
MOST_DELAY_S = 120.0  # hides in which second of the slot's end the device was busy
NS_PER_S = 1_000_000_000


@dataclass(slots=True)
class _Tiling:
    """One direction: what is being collected, what waits, and the day so far.

    ``carried_in`` says that the accumulator held vehicles when the day began; ``settled`` is the ordinal of the last
    slot that was taken in.
    """

    accumulator: WindowAggregate | None = None
    pending: WindowAggregate | None = None
    day: WindowAggregate | None = None
    carried_in: bool = False
    settled: int = 0


class Anonymity:
    """Joins slots until they may be told.

    Attributes:
        k: Least number of measured vehicles in a released window.
        rule: How it is guaranteed.
    """

    def __init__(self, *, k: int = DEFAULT_K, lab: bool = False, rng: random.Random | None = None) -> None:
        """Begin with nothing carried.

        Args:
            k: Least number of measured vehicles in a window; at least 5, in lab mode at least 1.
            lab: Demonstration on a prepared street: small k allowed, no delay.
            rng: Draws the delay of each release; None: from the operating system, which nobody can foresee.

        Raises:
            ValueError: k is below its floor.
        """
        floor = 1 if lab else FLOOR_K
        if k < floor:
            raise ValueError(f"k: expected {floor} or more, got {k}")
        self.k = k
        self.rule = PrivacyRule.LAB if lab else PrivacyRule.CARRY_OVER
        self._rng = rng or random.SystemRandom()
        self._tilings = {direction: _Tiling() for direction in Direction}
        self._closed: dict[Direction, WindowAggregate | None] = {}  # days that wait for the other direction
        self._closed_day: date | None = None

    def settle(self, aggregate: WindowAggregate) -> Settlement:
        """Take in one slot of one direction.

        Args:
            aggregate: Slots in the order of time, each once, with their mix.

        Returns:
            What may leave now, and the counters that stay. ``withheld`` is not 0 only when the settings of the site
            changed with fewer than k vehicles carried in other bins.
        """
        tiling = self._tilings[aggregate.direction]
        now_ns = aggregate.end_utc_ns
        releases: list[Release] = []
        withheld = 0
        if tiling.day is not None and (tiling.day.day != aggregate.day or not tiling.day.merges_with(aggregate)):
            releases += self._close_day(aggregate.direction, now_ns)
        window = aggregate.without_mix()
        carried = [each for each in (tiling.accumulator, tiling.pending) if each is not None]
        if not all(each.merges_with(window) for each in carried):
            releases += self._end_tiling(aggregate.direction, now_ns)
            withheld = self._withhold(aggregate.direction)
        tiling.accumulator = _joined(tiling.accumulator, window)
        tiling.day = _joined(tiling.day, aggregate)
        tiling.settled = aggregate.slot
        if tiling.accumulator.measured >= self.k:
            releases += self._release(tiling.pending, now_ns)
            tiling.pending, tiling.accumulator = tiling.accumulator, None
        if aggregate.ends_day:
            releases += self._close_day(aggregate.direction, now_ns)
        return Settlement(tuple(releases), self.state(), withheld)

    def relabel(self, step: Relabelling) -> None:
        """The time has become known: move the labels of what is carried."""
        for tiling in self._tilings.values():
            tiling.accumulator, tiling.pending, tiling.day = (
                None if each is None else step.of(each) for each in (tiling.accumulator, tiling.pending, tiling.day)
            )
        self._closed = {direction: None if day is None else step.of(day) for direction, day in self._closed.items()}
        days = [day.day for day in self._closed.values() if day is not None]
        self._closed_day = max(days, default=self._closed_day)

    def finish(self) -> Settlement:
        """End of a clip: like 04:00, but what stays below k is withheld for ever and reported."""
        releases: list[Release] = []
        withheld = 0
        for direction, tiling in self._tilings.items():
            last = tiling.day or tiling.accumulator or tiling.pending
            now_ns = last.end_utc_ns if last is not None else 0
            releases += self._close_day(direction, now_ns)
            withheld += self._withhold(direction)
        releases += self._release_mix(max((each.not_before_utc_ns for each in releases), default=0))
        return Settlement(tuple(releases), self.state(), withheld)

    def state(self) -> dict[str, Any]:
        """Everything carried, as plain counters."""
        return {
            "settled": {direction.value: tiling.settled for direction, tiling in self._tilings.items()},
            "tilings": {
                direction.value: {
                    "accumulator": _plain(tiling.accumulator),
                    "pending": _plain(tiling.pending),
                    "day": _plain(tiling.day),
                    "carried_in": tiling.carried_in,
                }
                for direction, tiling in self._tilings.items()
            },
            "closed_day": self._closed_day.isoformat() if self._closed_day else None,
            "closed": {direction.value: _plain(day) for direction, day in self._closed.items()},
        }

    def restore(self, counters: Counters) -> None:
        """Go on from stored counters; a pending window that a larger k no longer allows is collected further."""
        state = counters.anonymity
        if state is None:
            return
        for direction, tiling in self._tilings.items():
            plain = state["tilings"][direction.value]
            tiling.accumulator = _window(plain["accumulator"])
            tiling.pending = _window(plain["pending"])
            tiling.day = _window(plain["day"])
            tiling.carried_in = plain["carried_in"]
            tiling.settled = state["settled"][direction.value]
            if tiling.pending is not None and tiling.pending.measured < self.k:
                collected = [tiling.pending] if tiling.accumulator is None else [tiling.pending, tiling.accumulator]
                tiling.accumulator, tiling.pending = reduce(add, collected), None
        self._closed_day = date.fromisoformat(state["closed_day"]) if state["closed_day"] else None
        self._closed = {Direction(name): _window(plain) for name, plain in state["closed"].items()}

    # ------------------------------------------------------------------------------------------------------- windows

    def _end_tiling(self, direction: Direction, now_ns: int) -> list[Release]:
        """Merge what was collected into the pending window and release it; without one, go on collecting."""
        tiling = self._tilings[direction]
        if tiling.pending is None:
            return []
        whole = tiling.pending if tiling.accumulator is None else tiling.pending + tiling.accumulator
        tiling.pending = tiling.accumulator = None
        return self._release(whole, now_ns)

    def _withhold(self, direction: Direction) -> int:
        """Forget what can never be released; returns how many measured vehicles that were."""
        tiling = self._tilings[direction]
        forgotten = 0 if tiling.accumulator is None else tiling.accumulator.measured
        tiling.accumulator, tiling.carried_in = None, False
        return forgotten

    def _release(self, record: WindowAggregate | DayMix | None, now_ns: int) -> list[Release]:
        if record is None:
            return []
        delay_s = 0.0 if self.rule is PrivacyRule.LAB else self._rng.uniform(0.0, MOST_DELAY_S)
        return [Release(record, self.k, self.rule, now_ns + round(delay_s * NS_PER_S))]

    # ---------------------------------------------------------------------------------------------------------- days

    def _close_day(self, direction: Direction, now_ns: int) -> list[Release]:
        tiling = self._tilings[direction]
        releases = self._end_tiling(direction, now_ns)
        carried_out = tiling.accumulator is not None and tiling.accumulator.count > 0
        if tiling.day is not None:
            if self._closed and (direction in self._closed or self._closed_day != tiling.day.day):
                releases += self._release_mix(now_ns)
            self._closed_day = tiling.day.day
            self._closed[direction] = None if tiling.carried_in or carried_out else tiling.day
            tiling.day = None
        tiling.carried_in = carried_out
        if len(self._closed) == len(self._tilings):
            releases += self._release_mix(now_ns)
        return releases

    def _release_mix(self, now_ns: int) -> list[Release]:
        days = [day for _, day in sorted(self._closed.items()) if day is not None]
        self._closed, self._closed_day = {}, None
        return self._release(_day_mix(days, self.k), now_ns) if days else []


def _day_mix(days: list[WindowAggregate], k: int) -> DayMix | None:
    """The mix of one traffic day over the given directions; None when a class occurs with fewer than k vehicles.

    Free flow is left out when either those who drove freely or those who followed are fewer than k (and not none): the
    speeds of the windows minus those of free flow are the speeds of the others.
    """
    mixes: list[VehicleMix] = [day.mix for day in days if day.mix is not None]
    mix = reduce(add, mixes)
    occurring = [count for count in mix.classes.values() if count]
    if not occurring or min(occurring) < k:
        return None
    measured = sum(day.measured for day in days)
    free = mix.free_flow.n if mix.free_flow is not None else 0
    if free < k or 0 < measured - free < k:
        mix = replace(mix, free_flow=None)
    latest = max(days, key=lambda day: (day.slot, day.provenance))
    changed: frozenset[Flag] = frozenset()
    if len({day.provenance for day in days}) > 1:
        changed = frozenset({Flag.MIXED_PROVENANCE})
    return DayMix(
        day=latest.day,
        directions=tuple(day.direction for day in days),
        start_utc_ns=min(day.start_utc_ns for day in days),
        end_utc_ns=max(day.end_utc_ns for day in days),
        duration_ns=max(day.duration_ns for day in days),  # one camera watches both directions
        watched_ns=max(day.watched_ns for day in days),
        measured=measured,
        mix=mix,
        clock=reduce(or_, (day.clock for day in days)),
        provenance=latest.provenance,
        marks=frozenset().union(changed, *(day.marks for day in days)),
    )


def _joined(earlier: WindowAggregate | None, later: WindowAggregate) -> WindowAggregate:
    return later if earlier is None else earlier + later


def _plain(window: WindowAggregate | None) -> dict[str, Any] | None:
    return None if window is None else window.as_plain()


def _window(plain: dict[str, Any] | None) -> WindowAggregate | None:
    return None if plain is None else WindowAggregate.from_plain(plain)
