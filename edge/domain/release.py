"""From many passages to what the city may know: windows, day mixes, and the release that alone may leave the device.

All counters are integers, so merging is exact in any order and a restart changes nothing. What a statistic needs beyond
the histogram (uncertainties, watched time) travels as sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Any, overload
from zoneinfo import ZoneInfo

from edge.clock import ClockState, utc_datetime, utc_ns_of
from edge.domain.histogram import FEW_N, SpeedHistogram
from edge.domain.records import VEHICLE_CLASSES, Direction, Reason, RoadUser

DAY_BEGINS_H = 4  # a traffic day runs from 04:00 local time: the quietest hour parts one evening from the next morning
FREE_FLOW_HEADWAY_S = 5.0  # a longer gap to the vehicle ahead: the driver chose the speed
V85_Z = 1.0364  # 85 % point of the standard normal distribution
COVERAGE_FACTOR = 2.0  # expanded uncertainty, about 95 % (GUM 6.2)
MICRO = 1_000_000  # sums of real numbers are kept as integer millionths


class Flag(str, Enum):
    """What a reader must know about a window. A closed list: platforms rely on it."""

    FEW = "few"  # fewer than 100 measured vehicles: percentiles are uncertain
    LATE = "late"  # holds vehicles that were reported after their own slot had closed
    CLOCK_STEP = "clock_step"  # the wall clock stepped by more than 1 s, or the time was lost at a restart
    MIXED_PROVENANCE = "mixed_provenance"  # calibration, model, software or settings changed inside
    MULTI_DAY = "multi_day"  # spans more than one traffic day: a day below k was carried over
    COMPACTED = "compacted"  # several windows were joined because the storage was full
    CAMERA_MOVED = "camera_moved"  # part of the time the camera did not stand as calibrated
    TOO_DARK = "too_dark"  # part of the time there was not enough light to measure
    FRAME_RATE = "frame_rate"  # part of the time too few frames were measured to follow everyone
    CALIBRATION_EXPIRED = "calibration_expired"  # measured with an expired calibration, because the owner insisted
    CALIBRATION_DRIFT = (
        "calibration_drift"  # the traffic has looked different for a while: have the calibration checked
    )


class PrivacyRule(str, Enum):
    """How windows are kept large enough. A closed list."""

    CARRY_OVER = "carry-over"
    LAB = "lab"  # demonstrations on prepared streets only


@dataclass(frozen=True, slots=True, order=True)
class Provenance:
    """What produced the numbers.

    Attributes:
        calibration: Name of the calibration.
        model: Name of the detector model.
        software: Version of this software.
        config: Short hash of the settings that matter to the numbers.
    """

    calibration: str
    model: str
    software: str
    config: str


@dataclass(frozen=True, slots=True)
class VehicleMix:
    """What is told about single classes: by the day only, so it never leaves inside a window.

    Attributes:
        classes: Vehicles of each class, measured or not, bicycles included.
        unmeasured: Motor vehicles seen but not measured, by reason.
        free_flow: Speeds of measured motor vehicles that followed no other vehicle (headway above
            :data:`FREE_FLOW_HEADWAY_S`); None where it may not be told.
    """

    classes: Mapping[RoadUser, int]
    unmeasured: Mapping[Reason, int]
    free_flow: SpeedHistogram | None

    def __post_init__(self) -> None:
        unknown = set(self.classes) - set(VEHICLE_CLASSES)
        if unknown:
            raise ValueError(f"classes: expected vehicle classes, got {sorted(unknown)}")
        classes = {road_user: self.classes.get(road_user, 0) for road_user in VEHICLE_CLASSES}
        unmeasured = {reason: self.unmeasured.get(reason, 0) for reason in Reason}
        object.__setattr__(self, "classes", MappingProxyType(classes))
        object.__setattr__(self, "unmeasured", MappingProxyType(unmeasured))

    def __add__(self, other: VehicleMix) -> VehicleMix:
        """Both together; free flow only where both know it."""
        mine, theirs = self.free_flow, other.free_flow
        return VehicleMix(
            {road_user: self.classes[road_user] + other.classes[road_user] for road_user in VEHICLE_CLASSES},
            {reason: self.unmeasured[reason] + other.unmeasured[reason] for reason in Reason},
            mine + theirs if mine is not None and theirs is not None else None,
        )

    def as_plain(self) -> dict[str, Any]:
        """Counters as JSON-able values; :meth:`from_plain` reads them back."""
        return {
            "classes": {road_user.value: count for road_user, count in self.classes.items() if count},
            "unmeasured": {reason.value: count for reason, count in self.unmeasured.items() if count},
            "free_flow": self.free_flow.as_plain() if self.free_flow else None,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> VehicleMix:
        """Read back what :meth:`as_plain` wrote."""
        return cls(
            {RoadUser(name): count for name, count in plain["classes"].items()},
            {Reason(name): count for name, count in plain["unmeasured"].items()},
            SpeedHistogram.from_plain(plain["free_flow"]) if plain["free_flow"] else None,
        )


@dataclass(frozen=True, slots=True)
class WindowAggregate:
    """One direction over one stretch of time, as counters. Windows of the same kind add up.

    Attributes:
        direction: Which way.
        start_utc_ns: Begin of the stretch. [ns]
        end_utc_ns: End of the stretch. [ns]
        slot_s: Length of the slots that the stretch is made of. [s]
        slot: Ordinal of the last slot in it; rises by one with every slot that the device opens.
        day: Traffic day in which it ends.
        ends_day: Whether it reaches the end of that traffic day.
        limit_kmh: Speed limit of the site. [km/h]
        histogram: Speeds of the measured motor vehicles.
        unmeasured: Motor vehicles seen but not measured.
        random_variance_micro: Sum over measured vehicles of the variance from boxes and timing. [1e-6 (km/h)²]
        calibration_relative_micro: Sum over measured vehicles of the relative sigma from the calibration. [1e-6]
        duration_ns: How long the stretch is meant to be watched; end - start unless the wall clock stepped. [ns]
        watched_ns: How long the street was really watched. [ns]
        clock: The worst state of the clock inside.
        provenance: What produced the numbers; the latest when it changed.
        marks: What else a reader must know.
        mix: Counts by class; None in what is released.
    """

    direction: Direction
    start_utc_ns: int
    end_utc_ns: int
    slot_s: int
    slot: int
    day: date
    ends_day: bool
    limit_kmh: int
    histogram: SpeedHistogram
    unmeasured: int
    random_variance_micro: int
    calibration_relative_micro: int
    duration_ns: int
    watched_ns: int
    clock: ClockState
    provenance: Provenance
    marks: frozenset[Flag]
    mix: VehicleMix | None

    @property
    def measured(self) -> int:
        """Motor vehicles with a speed."""
        return self.histogram.n

    @property
    def count(self) -> int:
        """Motor vehicles, measured or not."""
        return self.measured + self.unmeasured

    @property
    def slots(self) -> int:
        """How many slots of the UTC grid the stretch touches."""
        slot_ns = self.slot_s * 1_000_000_000
        return -(-self.end_utc_ns // slot_ns) - self.start_utc_ns // slot_ns

    @property
    def coverage(self) -> float:
        """Share of the stretch in which the street was really watched, 0 to 1."""
        return self.watched_ns / self.duration_ns if self.duration_ns else 0.0

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Everything a reader must know, in the order of the list."""
        few = {Flag.FEW} if self.measured < FEW_N else set()
        return tuple(flag for flag in Flag if flag in self.marks | few)

    @property
    def u_v85_kmh(self) -> float | None:
        """Expanded uncertainty (k = 2) of the V85 of the histogram; None when it cannot be told. [km/h]

        Three independent parts, GUM 5.1.2:

        - sampling: half the distance between the quantiles of rank p ± 2 √(p (1 - p) / n), p = 0.85: the
          distribution-free interval from order statistics with the binomial distribution taken as normal (David and
          Nagaraja, Order Statistics, 2003, 7.1, doi:10.1002/0471722162). Assumes vehicles that choose their speed
          independently and n ≥ 30.
        - random: errors of single vehicles (root mean square r) widen the measured distribution, so that V85 is read
          too high by up to 1.0364 (s - √(s² - r²)), exact for normal distributions of measured standard deviation s.
          The value is not corrected, because it must stay a function of the published counts; the full shift counts
          as one sigma.
        - calibration: the mean relative sigma of the calibration times V85; shared by all vehicles, it does not shrink.

        Needs the histogram (published) and the two sums of variances (carried, not published). None without a V85, and
        when the upper end of the sampling interval lies above the last bin.
        """
        v85 = self.histogram.quantile_kmh(0.85)
        if v85 is None:
            return None
        n = self.measured
        reach = COVERAGE_FACTOR * math.sqrt(0.85 * 0.15 / n)
        low, high = self.histogram.quantile_kmh(0.85 - reach), self.histogram.quantile_kmh(0.85 + reach)
        if low is None or high is None:
            return None
        sampling = (high - low) / 2 / COVERAGE_FACTOR
        spread = self.histogram.sd_kmh or 0.0
        random_variance = self.random_variance_micro / MICRO / n
        widened = V85_Z * (spread - math.sqrt(max(spread**2 - random_variance, 0.0)))
        common = v85 * self.calibration_relative_micro / MICRO / n
        return COVERAGE_FACTOR * math.hypot(sampling, widened, common)

    def merges_with(self, other: WindowAggregate) -> bool:
        """Whether the two count the same thing in the same bins."""
        return self._kind() == other._kind()

    def __add__(self, other: WindowAggregate) -> WindowAggregate:
        """The window over both stretches.

        Raises:
            ValueError: They differ in direction, bins, slot length or limit, or only one carries a mix.
        """
        if not self.merges_with(other):
            raise ValueError(f"windows of different kinds cannot be merged: {self._kind()} and {other._kind()}")
        marks = self.marks | other.marks
        if self.provenance != other.provenance:
            marks |= {Flag.MIXED_PROVENANCE}
        if self.day != other.day:
            marks |= {Flag.MULTI_DAY}
        later = max(self, other, key=lambda window: (window.slot, window.provenance))
        last = [window for window in (self, other) if window.slot == later.slot]
        return WindowAggregate(
            direction=self.direction,
            start_utc_ns=min(self.start_utc_ns, other.start_utc_ns),
            end_utc_ns=max(self.end_utc_ns, other.end_utc_ns),
            slot_s=self.slot_s,
            slot=later.slot,
            day=max(self.day, other.day),
            ends_day=any(window.ends_day for window in last),
            limit_kmh=self.limit_kmh,
            histogram=self.histogram + other.histogram,
            unmeasured=self.unmeasured + other.unmeasured,
            random_variance_micro=self.random_variance_micro + other.random_variance_micro,
            calibration_relative_micro=self.calibration_relative_micro + other.calibration_relative_micro,
            duration_ns=self.duration_ns + other.duration_ns,
            watched_ns=self.watched_ns + other.watched_ns,
            clock=self.clock | other.clock,
            provenance=later.provenance,
            marks=marks,
            mix=self.mix + other.mix if self.mix is not None and other.mix is not None else None,
        )

    def without_mix(self) -> WindowAggregate:
        """The part that a window may tell."""
        return replace(self, mix=None)

    def as_plain(self) -> dict[str, Any]:
        """Counters as JSON-able values; :meth:`from_plain` reads them back."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {
            "direction": self.direction.value,
            "day": self.day.isoformat(),
            "histogram": self.histogram.as_plain(),
            "clock": self.clock.value,
            "provenance": _plain_provenance(self.provenance),
            "marks": sorted(flag.value for flag in self.marks),
            "mix": self.mix.as_plain() if self.mix else None,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> WindowAggregate:
        """Read back what :meth:`as_plain` wrote."""
        return cls(
            **plain
            | {
                "direction": Direction(plain["direction"]),
                "day": date.fromisoformat(plain["day"]),
                "histogram": SpeedHistogram.from_plain(plain["histogram"]),
                "clock": ClockState(plain["clock"]),
                "provenance": Provenance(**plain["provenance"]),
                "marks": frozenset(Flag(mark) for mark in plain["marks"]),
                "mix": VehicleMix.from_plain(plain["mix"]) if plain["mix"] else None,
            }
        )

    def _kind(self) -> tuple[object, ...]:
        mix = "no mix" if self.mix is None else "with mix"
        return self.direction.value, self.histogram.binning, self.slot_s, self.limit_kmh, mix


@dataclass(frozen=True, slots=True)
class DayMix:
    """What is told about a traffic day as a whole.

    Attributes:
        day: The traffic day.
        directions: The directions it covers: those whose windows of that day hold vehicles of that day only.
        start_utc_ns: Begin of the covered stretch. [ns]
        end_utc_ns: End of the covered stretch. [ns]
        duration_ns: How long the stretch is meant to be watched. [ns]
        watched_ns: How long the street was really watched. [ns]
        measured: Motor vehicles with a speed.
        mix: Counts by class, unmeasured by reason, free flow.
        clock: The worst state of the clock inside.
        provenance: What produced the numbers; the latest when it changed.
        marks: What else a reader must know.
    """

    day: date
    directions: tuple[Direction, ...]
    start_utc_ns: int
    end_utc_ns: int
    duration_ns: int
    watched_ns: int
    measured: int
    mix: VehicleMix
    clock: ClockState
    provenance: Provenance
    marks: frozenset[Flag]

    @property
    def coverage(self) -> float:
        """Share of the day in which the street was really watched, 0 to 1."""
        return self.watched_ns / self.duration_ns if self.duration_ns else 0.0

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Everything a reader must know, in the order of the list."""
        return tuple(flag for flag in Flag if flag in self.marks)

    def as_plain(self) -> dict[str, Any]:
        """Counters as JSON-able values; :meth:`from_plain` reads them back."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {
            "day": self.day.isoformat(),
            "directions": [direction.value for direction in self.directions],
            "mix": self.mix.as_plain(),
            "clock": self.clock.value,
            "provenance": _plain_provenance(self.provenance),
            "marks": sorted(flag.value for flag in self.marks),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> DayMix:
        """Read back what :meth:`as_plain` wrote."""
        return cls(
            **plain
            | {
                "day": date.fromisoformat(plain["day"]),
                "directions": tuple(Direction(direction) for direction in plain["directions"]),
                "mix": VehicleMix.from_plain(plain["mix"]),
                "clock": ClockState(plain["clock"]),
                "provenance": Provenance(**plain["provenance"]),
                "marks": frozenset(Flag(mark) for mark in plain["marks"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Relabelling:
    """The time became known after windows had been labelled without it: how to move those labels.

    Only what this run of the service labelled on its unset clock is moved. What an earlier run left with an unset clock
    lies on another time line, by an unknown amount, and keeps its label and its ``clock: unset``.

    Attributes:
        shift_ns: True time minus the unset clock. [ns]
        from_utc_ns: Begin of this run on the unset clock. [ns]
        from_slot: Ordinal of the first slot that this run opened.
        zone: Of the street, for the traffic day.
    """

    shift_ns: int
    from_utc_ns: int
    from_slot: int
    zone: ZoneInfo

    @overload
    def of(self, record: WindowAggregate) -> WindowAggregate: ...

    @overload
    def of(self, record: DayMix) -> DayMix: ...

    def of(self, record: WindowAggregate | DayMix) -> WindowAggregate | DayMix:
        """The record with the right time, or the very same one when it is none of those."""
        is_ours = isinstance(record, DayMix) or record.slot >= self.from_slot
        if record.clock is not ClockState.UNSET or record.start_utc_ns < self.from_utc_ns or not is_ours:
            return record
        start_utc_ns, end_utc_ns = record.start_utc_ns + self.shift_ns, record.end_utc_ns + self.shift_ns
        first, last = traffic_day(start_utc_ns, self.zone), traffic_day(end_utc_ns - 1, self.zone)
        return replace(
            record,
            start_utc_ns=start_utc_ns,
            end_utc_ns=end_utc_ns,
            day=last,
            clock=ClockState.HOLDOVER,  # carried back by the steady clock
            marks=record.marks | ({Flag.MULTI_DAY} if first != last else set()),
        )


@dataclass(frozen=True, slots=True)
class Release:
    """What may leave the device. Made by the anonymity stage alone; the outbox queues nothing else.

    Attributes:
        record: A window of at least ``k`` measured vehicles, or a day mix whose every class has ``k`` or none.
        k: The least number that was guaranteed.
        rule: How it was guaranteed.
        not_before_utc_ns: Earliest instant of sending: the end of the slot and a random delay. [ns]
    """

    record: WindowAggregate | DayMix
    k: int
    rule: PrivacyRule
    not_before_utc_ns: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one aggregate led to: releases, and the counters that stay behind. Stored in one transaction.

    Attributes:
        releases: What may leave now, oldest first.
        state: The anonymity stage's counters after it, JSON-able.
        withheld: Measured vehicles that will never be released because they are fewer than k.
    """

    releases: tuple[Release, ...]
    state: dict[str, Any]
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    """What survives a restart: counters, never passages.

    Attributes:
        windows: State of the windows at the last checkpoint; None when there is none.
        anonymity: State of the anonymity stage at the last settlement; None when there is none.
        trend: What the slow checks keep; None when there is none.
    """

    windows: dict[str, Any] | None = None
    anonymity: dict[str, Any] | None = None
    trend: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """A released record with its number: what the publisher renders and sends.

    Attributes:
        epoch: Random name of the database that numbered it, 8 hexadecimal digits.
        seq: Number within the epoch, from 1, without gaps.
        record: The window or day mix.
        k: The least number that was guaranteed.
        rule: How it was guaranteed.
    """

    epoch: str
    seq: int
    record: WindowAggregate | DayMix
    k: int
    rule: PrivacyRule


def traffic_day(utc_ns: int, zone: ZoneInfo) -> date:
    """The traffic day of an instant: the local date, where the hours before 04:00 belong to the day before."""
    local = utc_datetime(utc_ns).astimezone(zone)
    return local.date() if local.hour >= DAY_BEGINS_H else local.date() - timedelta(days=1)


def day_end_utc_ns(day: date, zone: ZoneInfo) -> int:
    """End of a traffic day, 04:00 local on the next date; 23 to 25 h after its begin. [ns]"""
    following = day + timedelta(days=1)
    return utc_ns_of(datetime(following.year, following.month, following.day, DAY_BEGINS_H, tzinfo=zone))


def _plain_provenance(provenance: Provenance) -> dict[str, str]:
    return {field.name: getattr(provenance, field.name) for field in fields(provenance)}
