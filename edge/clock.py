"""From the clock of a source to the time on the wall.

Speeds never depend on wall time; it only labels windows. A source stamps frames on its own steady clock
(``captured_ns``: CLOCK_BOOTTIME for live cameras, presentation time since the first frame for files). A
:class:`ClockAnchor` says which UTC instant belongs to one instant of that clock, and how well this is known. Only the
windows use it; the service renews it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class ClockState(str, Enum):
    """How well UTC is known, best first. A closed list: platforms rely on it."""

    SYNCED = "synced"  # disciplined by a time server at this moment
    HOLDOVER = "holdover"  # was disciplined since the last boot, is free-running now (a few seconds a day)
    UNSET = "unset"  # never heard the time since the last boot, or a clip without a stated start

    def __or__(self, other: ClockState) -> ClockState:
        """The worse of the two."""
        order = list(ClockState)
        return max(self, other, key=order.index)


@dataclass(frozen=True, slots=True)
class ClockAnchor:
    """One instant on both clocks.

    Attributes:
        captured_ns: The instant on the source's clock. [ns]
        utc_ns: The same instant since 1970-01-01T00:00Z. [ns]
        state: How well the UTC side is known.
    """

    captured_ns: int
    utc_ns: int
    state: ClockState

    @classmethod
    def of_clip(cls, start: datetime | None) -> ClockAnchor:
        """Anchor of a file whose first frame was taken at ``start``; None: 1970-01-01T00:00Z, marked unset.

        Raises:
            ValueError: ``start`` has no time zone.
        """
        if start is None:
            return cls(0, 0, ClockState.UNSET)
        if start.tzinfo is None:
            raise ValueError(f"start: expected a time zone, got {start.isoformat()} (add Z or +01:00)")
        return cls(0, utc_ns_of(start), ClockState.SYNCED)

    def utc_of(self, captured_ns: int) -> int:
        """UTC of an instant on the source's clock. [ns]"""
        return self.utc_ns + (captured_ns - self.captured_ns)

    def captured_of(self, utc_ns: int) -> int:
        """Instant on the source's clock of a UTC instant. [ns]"""
        return self.captured_ns + (utc_ns - self.utc_ns)

    def step_ns(self, newer: ClockAnchor) -> int:
        """How far ``newer`` moves UTC against this anchor, forward positive. [ns]"""
        return newer.utc_ns - self.utc_of(newer.captured_ns)


class Clock(Protocol):
    """What the service asks the machine; tests bring their own."""

    def boottime_ns(self) -> int:
        """Steady clock that also runs during suspend. [ns]"""

    def utc_ns(self) -> int:
        """Wall clock since 1970-01-01T00:00Z. [ns]"""

    def is_synced(self) -> bool:
        """Whether a time server disciplines the wall clock at this moment."""

    def was_synced(self) -> bool:
        """Whether a time server has set the wall clock since the last boot."""


class LinuxClock:
    """The clocks of the machine: CLOCK_BOOTTIME, CLOCK_REALTIME, and what the kernel says about synchronisation."""

    TIMESYNC_FLAG = Path("/run/systemd/timesync/synchronized")  # touched at every answer of a time server

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME. [ns]"""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def utc_ns(self) -> int:
        """CLOCK_REALTIME. [ns]"""
        return time.time_ns()

    def is_synced(self) -> bool:
        """Whether the kernel's clock is disciplined (adjtimex(2): no error state, STA_UNSYNC not set).

        A sandbox may forbid the question (``ProtectClock=``). Then the flag file of systemd-timesyncd tells when a time
        server last answered, and the kernel's own limit is applied to that.
        """
        kernel = _Timex()
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(kernel))
        if state < 0:
            error = ctypes.get_errno()
            if error in (errno.EPERM, errno.ENOSYS):
                return self._was_told_lately()
            raise OSError(error, f"adjtimex: {os.strerror(error)}")
        return state != _TIME_ERROR and not kernel.status & _STA_UNSYNC

    def was_synced(self) -> bool:
        """Whether systemd-timesyncd has set the clock since boot; it leaves a flag file."""
        return self.TIMESYNC_FLAG.exists()

    def _was_told_lately(self) -> bool:
        try:
            told_s = self.TIMESYNC_FLAG.stat().st_mtime
        except OSError:
            return False
        return abs(time.time() - told_s) < UNDISCIPLINED_AFTER_S


UNDISCIPLINED_AFTER_S = 32_000.0  # Linux lets the error grow by 500 ppm; at 16 s it sets STA_UNSYNC (ntp_tick_adj)
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """The part of ``struct timex`` that is read, then room for the rest (the kernel fills 208 bytes at most)."""

    _fields_ = [
        ("modes", ctypes.c_uint),  # 0: only read
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("_rest", ctypes.c_byte * 256),
    ]


def anchor_now(clock: Clock, previous: ClockAnchor | None = None) -> ClockAnchor:
    """Anchor a live source: CLOCK_BOOTTIME against the wall clock, with what is known about synchronisation.

    The wall clock is read between two readings of the steady clock; the anchor is off by less than half their distance.

    Args:
        clock: The clocks of the machine.
        previous: The anchor until now, which remembers whether the time was ever known.
    """
    before_ns = clock.boottime_ns()
    utc_ns = clock.utc_ns()
    middle_ns = (before_ns + clock.boottime_ns()) // 2
    if clock.is_synced():
        state = ClockState.SYNCED
    elif clock.was_synced() or (previous is not None and previous.state is not ClockState.UNSET):
        state = ClockState.HOLDOVER
    else:
        state = ClockState.UNSET
    return ClockAnchor(middle_ns, utc_ns, state)


def utc_ns_of(instant: datetime) -> int:
    """Nanoseconds since 1970-01-01T00:00Z of an aware instant; exact, unlike a float time stamp. [ns]"""
    return (instant - _EPOCH) // timedelta(microseconds=1) * 1_000


def utc_datetime(utc_ns: int) -> datetime:
    """Aware UTC instant, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=utc_ns // 1_000)
