"""Passages into slots, by the time at which they happened.

Every passage is counted exactly once, and every slot says for how long the street was really watched, so that a quiet
street and an outage never look alike. Slots lie on a fixed UTC grid (15 minutes) and never cross 04:00 local time.

A passage belongs to the slot of its middle, but is reported later: when the vehicle has left the picture and a moved
camera could no longer withdraw it. A slot therefore closes a stated time after its end (``lateness_s``). What comes
later still is counted in the earliest slot that is open, and that slot is flagged.

Passages live in memory until their slot closes, because headways need their order; stored are counters only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

from calibration.units import kmh_from_mps
from edge.clock import ClockAnchor, ClockState
from edge.domain import (
    FREE_FLOW_HEADWAY_S,
    VEHICLE_CLASSES,
    Binning,
    Counters,
    Direction,
    Flag,
    Passage,
    Provenance,
    Relabelling,
    SpeedEstimate,
    SpeedHistogram,
    VehicleMix,
    WindowAggregate,
    day_end_utc_ns,
    traffic_day,
)
from edge.domain.release import MICRO

NS_PER_S = 1_000_000_000
SLOT_S = 900  # quarter of an hour: the unit of Dutch traffic counts
LATENESS_S = 60.0  # a vehicle that waits a minute in the zone is still counted in its own slot
LONGEST_GAP_S = 1.0  # between frames; in a longer one a fast vehicle passes unseen, so it does not count as watched
STEP_NS = NS_PER_S  # a larger correction of the wall clock closes the slot


@dataclass(slots=True)
class _Slot:
    """An open slot: where it lies on both clocks, how long it was watched, and what an earlier run counted in it."""

    ordinal: int
    start_utc_ns: int
    end_utc_ns: int
    start_ns: int
    end_ns: int
    clock: ClockState
    is_first: bool  # nothing was open before: what happened earlier was simply not watched, and is not late
    marks: frozenset[Flag]
    watched_ns: int
    earlier: dict[Direction, WindowAggregate]  # restored counters, with a duration of 0
    directions: tuple[Direction, ...] = tuple(Direction)  # those not settled by an earlier run

    def cut(self, at_ns: int) -> None:
        """End the slot early, at an instant of the source's clock."""
        self.end_utc_ns = self.start_utc_ns + (at_ns - self.start_ns)
        self.end_ns = at_ns


class Windows:
    """Counts passages in event time and hands out each slot once, as counters.

    Attributes:
        anchor: From the source's clock to UTC.
        watched_ns: How long the street was watched since the start of this object. [ns]
    """

    def __init__(
        self,
        *,
        binning: Binning,
        limit_kmh: int,
        zone: ZoneInfo,
        anchor: ClockAnchor,
        provenance: Provenance,
        slot_s: int = SLOT_S,
        lateness_s: float = LATENESS_S,
        longest_gap_s: float = LONGEST_GAP_S,
    ) -> None:
        """Begin with nothing counted.

        Args:
            binning: Bins of the site; limit and limit + 10 must be edges.
            limit_kmh: Speed limit. [km/h]
            zone: Time zone of the street; traffic days begin at 04:00 there.
            anchor: From the source's clock to UTC.
            provenance: What produces the numbers.
            slot_s: Length of a slot; a whole number of slots makes an hour, or of hours a day. [s]
            lateness_s: How long after its end a slot still waits for passages. [s]
            longest_gap_s: Longest time between frames that counts as watched. [s]

        Raises:
            ValueError: A value is outside its range, or the limit is not a bin edge.
        """
        if slot_s < 1 or 86_400 % slot_s:
            raise ValueError(f"slot_s: expected a length that divides a day, got {slot_s}")
        if lateness_s < 0 or longest_gap_s <= 0:
            raise ValueError(f"expected lateness_s ≥ 0 and longest_gap_s > 0, got {lateness_s} and {longest_gap_s}")
        binning.edge_index(limit_kmh)
        self.anchor = anchor
        self.watched_ns = 0
        self._binning = binning
        self._limit_kmh = limit_kmh
        self._zone = zone
        self._provenance = provenance
        self._slot_s = slot_s
        self._lateness_ns = round(lateness_s * NS_PER_S)
        self._longest_gap_ns = round(longest_gap_s * NS_PER_S)
        self._slots: list[_Slot] = []
        self._passages: list[Passage] = []
        self._previous_ns: dict[Direction, int] = {}  # middle of the last vehicle of the slots that have closed
        self._resumed_ns: list[int] = []  # when watching began, and began again after each gap
        self._frame_ns: int | None = None
        self._unwatched_since_ns: int | None = None
        self._first_opened: tuple[int, int] | None = None  # ordinal and begin (UTC) of the first slot of this run
        self._next_ordinal = 1
        self._stored: list[tuple[int, list[WindowAggregate]]] = []  # restored, until the first frame tells the time
        self._standing: frozenset[Flag] = frozenset()  # marks of every slot from now on

    def mark_from_now(self, flag: Flag) -> None:
        """Flag the slot that is open now and every later one; watched time counts as before."""
        if flag in self._standing:
            return
        self._standing |= {flag}
        for slot in self._slots:
            if self._frame_ns is None or slot.end_ns > self._frame_ns:
                slot.marks |= self._standing

    def unmark(self, flag: Flag) -> None:
        """Slots that open from now on are no longer flagged; the one that is open stays so."""
        self._standing -= {flag}

    def add(self, passage: Passage) -> None:
        """Count a passage in the slot of its middle, or in the earliest open slot when that has closed.

        Raises:
            ValueError: It is not a vehicle, or its speed is not positive.
        """
        if passage.road_user not in VEHICLE_CLASSES:
            raise ValueError(f"road_user: expected a vehicle, got {passage.road_user.value}")
        if passage.speed is not None and not passage.speed.speed_mps > 0:
            raise ValueError("speed_mps: expected a speed above 0")
        self._passages.append(passage)

    def close_until(self, captured_ns: int, *, impaired_by: Flag | None = None) -> list[WindowAggregate]:
        """Take note that the street was watched up to this frame, and close what can no longer change.

        Args:
            captured_ns: Instant of the frame on the source's clock. [ns]
            impaired_by: Why nothing could be measured since the frame before (camera moved, too dark); that time does
                not count as watched and the slot is flagged. None: all was well.

        Returns:
            One aggregate for each direction of each slot that has closed, oldest first. Slots that passed without any
            frame come as one longer aggregate, up to the end of the traffic day.
        """
        adrift: list[WindowAggregate] = []
        if not self._slots:
            adrift = self._begin(captured_ns)
        self._open_through(captured_ns)
        self._watch(captured_ns, impaired_by)
        return adrift + self._close(captured_ns - self._lateness_ns)

    def pass_unwatched(self, captured_ns: int, *, since_ns: int, because: Flag | None = None) -> list[WindowAggregate]:
        """Take note that the street was not watched up to this instant, and close what can no longer change.

        Args:
            captured_ns: Until when, on the source's clock. [ns]
            since_ns: Since when; what counted as watched since then is withdrawn, as far as its slot is open. [ns]
            because: What the slots that it touches must say; None: their coverage says enough.

        Returns:
            As :meth:`close_until`.
        """
        adrift = [] if self._slots else self._begin(captured_ns)
        self._open_through(captured_ns)
        if since_ns != self._unwatched_since_ns:
            self._unwatched_since_ns = since_ns
            self._withdraw(since_ns)
        if self._frame_ns is None or captured_ns > self._frame_ns:
            for slot in self._slots:
                if (
                    because is not None
                    and slot.end_ns > (self._frame_ns or captured_ns)
                    and slot.start_ns < captured_ns
                ):
                    slot.marks |= {because}
            self._frame_ns = captured_ns
            self._resumed_ns.append(captured_ns)
        return adrift + self._close(captured_ns - self._lateness_ns)

    def finish(self) -> list[WindowAggregate]:
        """End of a clip: close every slot, the last one at the last frame."""
        adrift = [aggregate for _, aggregates in self._stored for aggregate in aggregates]
        self._stored = []
        if self._frame_ns is not None:
            self._cut_last(self._frame_ns)
        return adrift + self._close(None)

    def reanchor(self, anchor: ClockAnchor) -> Relabelling | None:
        """Follow the wall clock. A step of more than 1 s closes the slot, flagged, and begins a new one.

        Smaller corrections only move the end of the slot that is open. A clock that is set for the first time is no
        step: the steady clock ran on, so the open slots only get their right labels.

        Returns:
            How to move the labels of everything this run has closed before; None unless the clock was set just now.
        """
        step_ns = self.anchor.step_ns(anchor)
        was_unset = self.anchor.state is ClockState.UNSET
        self.anchor = anchor
        if not self._slots or self._frame_ns is None:
            return None
        if was_unset and anchor.state is not ClockState.UNSET:
            return self._set_clock(step_ns)
        now_ns = self._frame_ns
        current = self._slots[-1]
        if abs(step_ns) <= STEP_NS:
            current.end_ns = max(anchor.captured_of(current.end_utc_ns), now_ns + 1)
            current.clock |= anchor.state
            return None
        current.marks |= {Flag.CLOCK_STEP}
        self._cut_last(now_ns)
        self._open(start_utc_ns=anchor.utc_of(now_ns), start_ns=now_ns)
        return None

    def _set_clock(self, shift_ns: int) -> Relabelling:
        """Move the open slots onto the true time; the last one then ends on the grid of that time."""
        assert self._first_opened is not None
        from_slot, from_utc_ns = self._first_opened
        for slot in self._slots:
            slot.start_utc_ns += shift_ns
            slot.end_utc_ns += shift_ns
            slot.clock = ClockState.HOLDOVER
        last = self._slots[-1]
        last.end_utc_ns = self._grid_end(self.anchor.utc_of(self._frame_ns or last.start_ns))
        last.end_ns = self.anchor.captured_of(last.end_utc_ns)
        return Relabelling(shift_ns, from_utc_ns, from_slot, self._zone)

    def state(self) -> dict[str, Any]:
        """Everything counted so far as plain counters, each slot as if it ended at the last frame."""
        stored = list(self._stored)
        remaining, previous_ns = list(self._passages), dict(self._previous_ns)
        for slot in self._slots:
            passages = _take(remaining, slot, everything=slot is self._slots[-1])
            stored.append((slot.end_utc_ns, self._tally(slot, passages, previous_ns)))
        return {
            "next_ordinal": self._next_ordinal,
            "slots": [
                {"end_utc_ns": end_utc_ns, "aggregates": [aggregate.as_plain() for aggregate in aggregates]}
                for end_utc_ns, aggregates in stored
            ],
        }

    def restore(self, counters: Counters) -> None:
        """Go on from stored counters; what the anonymity stage has already settled is not counted again.

        The first frame decides how: on the same time line the open slot goes on, and the time between is visible as
        missing coverage. When the time line broke (clock unset now or then, or set back) or the settings of the site
        changed, the stored slots are handed out as they are and a new one begins.
        """
        settled = {Direction(name): int(slot) for name, slot in (counters.anonymity or {}).get("settled", {}).items()}
        state = counters.windows or {"next_ordinal": 1, "slots": []}
        self._next_ordinal = max(state["next_ordinal"], *(slot + 1 for slot in settled.values()), 1)
        for slot in state["slots"]:
            aggregates = [WindowAggregate.from_plain(plain) for plain in slot["aggregates"]]
            unsettled = [each for each in aggregates if each.slot > settled.get(each.direction, 0)]
            if unsettled:
                self._stored.append((slot["end_utc_ns"], unsettled))

    # ------------------------------------------------------------------------------------------- slots on the time line

    def _begin(self, captured_ns: int) -> list[WindowAggregate]:
        """First frame: take up the stored slots, or hand them out and begin at this frame."""
        now_utc_ns = self.anchor.utc_of(captured_ns)
        stored, self._stored = self._stored, []
        aggregates = [aggregate for _, group in stored for aggregate in group]
        time_broke = self._time_broke(stored, now_utc_ns)
        if stored and not time_broke and self._same_site(aggregates):
            self._slots = [self._resumed(end_utc_ns, group) for end_utc_ns, group in stored]
            return []
        self._open(start_utc_ns=now_utc_ns, start_ns=captured_ns, is_first=True)
        if time_broke:
            return [replace(each, marks=each.marks | {Flag.CLOCK_STEP}) for each in aggregates]
        return aggregates

    def _time_broke(self, stored: list[tuple[int, list[WindowAggregate]]], now_utc_ns: int) -> bool:
        """Whether the stored slots lie on another time line than this frame."""
        aggregates = [aggregate for _, group in stored for aggregate in group]
        unset = self.anchor.state is ClockState.UNSET or any(each.clock is ClockState.UNSET for each in aggregates)
        seen_later = any(each.end_utc_ns > now_utc_ns for each in aggregates)
        settled_later = any(len(group) < len(Direction) and end_utc_ns > now_utc_ns for end_utc_ns, group in stored)
        return unset or seen_later or settled_later

    def _same_site(self, stored: list[WindowAggregate]) -> bool:
        ours = (self._binning, self._limit_kmh, self._slot_s)
        return all((each.histogram.binning, each.limit_kmh, each.slot_s) == ours for each in stored)

    def _resumed(self, end_utc_ns: int, aggregates: list[WindowAggregate]) -> _Slot:
        one = aggregates[0]
        return _Slot(
            ordinal=one.slot,
            start_utc_ns=one.start_utc_ns,
            end_utc_ns=end_utc_ns,
            start_ns=self.anchor.captured_of(one.start_utc_ns),
            end_ns=self.anchor.captured_of(end_utc_ns),
            clock=one.clock | self.anchor.state,
            is_first=False,
            marks=self._standing,
            watched_ns=0,
            earlier={each.direction: replace(each, duration_ns=0, end_utc_ns=each.start_utc_ns) for each in aggregates},
            directions=tuple(each.direction for each in aggregates),
        )

    def _open(self, *, start_utc_ns: int, start_ns: int, end_utc_ns: int | None = None, is_first: bool = False) -> None:
        end_utc_ns = self._grid_end(start_utc_ns) if end_utc_ns is None else end_utc_ns
        slot = _Slot(
            ordinal=self._next_ordinal,
            start_utc_ns=start_utc_ns,
            end_utc_ns=end_utc_ns,
            start_ns=start_ns,
            end_ns=start_ns + (end_utc_ns - start_utc_ns),
            clock=self.anchor.state,
            is_first=is_first,
            marks=self._standing,
            watched_ns=0,
            earlier={},
        )
        self._next_ordinal += 1
        self._slots.append(slot)
        if self._first_opened is None:
            self._first_opened = (slot.ordinal, slot.start_utc_ns)

    def _open_through(self, captured_ns: int) -> None:
        """Open slots until one holds this instant; a stretch without frames becomes one slot a traffic day."""
        while captured_ns >= self._slots[-1].end_ns:
            last = self._slots[-1]
            start_utc_ns = last.end_utc_ns
            slot_ns = self._slot_s * NS_PER_S
            here_utc_ns = start_utc_ns + (captured_ns - last.end_ns)
            missed_until_ns = min(here_utc_ns // slot_ns * slot_ns, self._day_end(start_utc_ns))
            end_utc_ns = max(self._grid_end(start_utc_ns), missed_until_ns)
            self._open(start_utc_ns=start_utc_ns, start_ns=last.end_ns, end_utc_ns=end_utc_ns)

    def _grid_end(self, start_utc_ns: int) -> int:
        slot_ns = self._slot_s * NS_PER_S
        return min((start_utc_ns // slot_ns + 1) * slot_ns, self._day_end(start_utc_ns))

    def _day_end(self, utc_ns: int) -> int:
        return day_end_utc_ns(traffic_day(utc_ns, self._zone), self._zone)

    def _cut_last(self, at_ns: int) -> None:
        """End the last slot here; one that has only just begun is taken back."""
        last = self._slots[-1]
        if last.start_ns >= at_ns and len(self._slots) > 1 and len(self._slots[-2].directions) == len(Direction):
            self._slots.pop()
            self._slots[-1].marks |= last.marks
        else:
            last.cut(min(max(at_ns, last.start_ns), last.end_ns))

    # --------------------------------------------------------------------------------------------- watching, counting

    def _watch(self, captured_ns: int, impaired_by: Flag | None) -> None:
        last_ns = self._frame_ns
        if last_ns is not None and captured_ns <= last_ns:
            return
        self._frame_ns = captured_ns
        if last_ns is None or captured_ns - last_ns > self._longest_gap_ns:
            self._resumed_ns.append(captured_ns)
            return
        for slot in self._slots:
            overlap_ns = min(slot.end_ns, captured_ns) - max(slot.start_ns, last_ns)
            if overlap_ns <= 0:
                continue
            if impaired_by is None:
                slot.watched_ns += overlap_ns
                self.watched_ns += overlap_ns
            else:
                slot.marks |= {impaired_by}

    def _withdraw(self, since_ns: int) -> None:
        """What was believed to be watched since then was not."""
        if self._frame_ns is None:
            return
        for slot in self._slots:
            overlap_ns = min(slot.end_ns, self._frame_ns) - max(slot.start_ns, since_ns)
            withdrawn_ns = min(max(overlap_ns, 0), slot.watched_ns)
            slot.watched_ns -= withdrawn_ns
            self.watched_ns -= withdrawn_ns

    def _close(self, until_ns: int | None) -> list[WindowAggregate]:
        """Tally and drop every slot that ends at or before an instant; None: every slot."""
        closed: list[WindowAggregate] = []
        while self._slots and (until_ns is None or self._slots[0].end_ns <= until_ns):
            slot = self._slots[0]
            passages = _take(self._passages, slot, everything=len(self._slots) == 1)
            closed += self._tally(slot, passages, self._previous_ns)
            self._slots.pop(0)
            del self._resumed_ns[: max(bisect_right(self._resumed_ns, slot.end_ns) - 1, 0)]
        return closed

    def _tally(
        self, slot: _Slot, passages: Sequence[Passage], previous_ns: dict[Direction, int]
    ) -> list[WindowAggregate]:
        """Counters of one slot, an aggregate for each direction, as far as frames have come; moves headways on."""
        frame_ns = slot.end_ns if self._frame_ns is None else self._frame_ns
        duration_ns = max(min(slot.end_ns, frame_ns) - slot.start_ns, 0)
        end_utc_ns = slot.end_utc_ns if frame_ns >= slot.end_ns else slot.start_utc_ns + duration_ns
        aggregates = []
        for direction in slot.directions:
            those = sorted((each for each in passages if each.direction is direction), key=lambda each: each.middle_ns)
            motor = [each for each in those if each.road_user.is_motor]
            speeds = [each.speed for each in motor if each.speed is not None]
            unmeasured = Counter(each.reason for each in motor if each.reason is not None)
            is_late = not slot.is_first and any(each.middle_ns < slot.start_ns for each in those)
            fresh = WindowAggregate(
                direction=direction,
                start_utc_ns=slot.start_utc_ns,
                end_utc_ns=end_utc_ns,
                slot_s=self._slot_s,
                slot=slot.ordinal,
                day=traffic_day(slot.start_utc_ns, self._zone),
                ends_day=end_utc_ns >= self._day_end(slot.start_utc_ns),
                limit_kmh=self._limit_kmh,
                histogram=self._histogram(speeds),
                unmeasured=unmeasured.total(),
                random_variance_micro=sum(round(MICRO * kmh_from_mps(each.sigma_random_mps) ** 2) for each in speeds),
                calibration_relative_micro=sum(
                    round(MICRO * each.sigma_calibration_mps / each.speed_mps) for each in speeds
                ),
                duration_ns=duration_ns,
                watched_ns=slot.watched_ns,
                clock=slot.clock,
                provenance=self._provenance,
                marks=slot.marks | ({Flag.LATE} if is_late else set()),
                mix=VehicleMix(
                    Counter(each.road_user for each in those),
                    unmeasured,
                    self._histogram(self._free_flowing(those, direction, previous_ns)),
                ),
            )
            earlier = slot.earlier.get(direction)
            aggregates.append(fresh if earlier is None else earlier + fresh)
        return aggregates

    def _histogram(self, speeds: Iterable[SpeedEstimate]) -> SpeedHistogram:
        # the way from km/h to m/s and back leaves 1e-14 km/h, which must not push a vehicle over the limit
        return SpeedHistogram.of((round(kmh_from_mps(each.speed_mps), 9) for each in speeds), self._binning)

    def _free_flowing(
        self, passages: Sequence[Passage], direction: Direction, previous_ns: dict[Direction, int]
    ) -> Iterator[SpeedEstimate]:
        """Speeds of motor vehicles that followed nobody; where watching had just begun, nobody knows.

        The headway is taken between the middles of two vehicles of one direction, bicycles included.
        """
        for passage in passages:
            index = bisect_right(self._resumed_ns, passage.middle_ns) - 1
            ahead = [previous_ns[direction]] if direction in previous_ns else []
            known = [self._resumed_ns[index]] if index >= 0 else []
            headway_s = (passage.middle_ns - max(ahead + known, default=passage.middle_ns)) / NS_PER_S
            previous_ns[direction] = max([passage.middle_ns, *ahead])
            if headway_s > FREE_FLOW_HEADWAY_S and passage.speed is not None and passage.road_user.is_motor:
                yield passage.speed


def _take(waiting: list[Passage], slot: _Slot, *, everything: bool) -> list[Passage]:
    """Remove and return the passages that a slot counts: all that happened before its end, late ones included."""

    def belongs(passage: Passage) -> bool:
        return passage.direction in slot.directions and (everything or passage.middle_ns < slot.end_ns)

    taken = [passage for passage in waiting if belongs(passage)]
    waiting[:] = [passage for passage in waiting if not belongs(passage)]
    return taken
