"""What the time stamps of a source are worth: only those that rise are used, and the rest is counted.

A speed is a distance over a time, so a frame whose stamp repeats or steps back would give a speed out of nothing.
Such frames are left out (never re-ordered, never given an invented stamp), and the report says how many.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

RATE_TOLERANCE = 0.05  # a real rate further from the declared one than this is told


@dataclass(frozen=True, slots=True)
class Timing:
    """How the frames of a source arrived, so far.

    Attributes:
        frames: Frames delivered, each later than the one before.
        duplicate: Frames left out because they repeat the stamp of the one before.
        backward: Frames left out because their stamp lies before the last one delivered.
        undecodable: Frames that the source announced and that could not be decoded.
        span_s: From the first to the last delivered frame. [s]
        median_step_s: Middle value of the steps between delivered frames; None below two frames. [s]
        largest_gap_s: Longest step between delivered frames; None below two frames. [s]
        declared_hz: The rate that the source states, None when it states none. [1/s]
        missing_end_s: How much of the stated length is missing at the end, 0 when nothing is. [s]
    """

    frames: int
    duplicate: int
    backward: int
    undecodable: int
    span_s: float
    median_step_s: float | None
    largest_gap_s: float | None
    declared_hz: float | None
    missing_end_s: float

    @property
    def left_out(self) -> int:
        """Frames whose stamp does not rise."""
        return self.duplicate + self.backward

    @property
    def real_hz(self) -> float | None:
        """Delivered frames a second, gaps included; None below two frames. [1/s]"""
        return (self.frames - 1) / self.span_s if self.span_s > 0 else None

    def remarks(self) -> list[str]:
        """What a technician should know, a sentence each; empty when there is nothing to say."""
        said = []
        if self.missing_end_s > 0:
            said.append(f"the file breaks off: its last {self.missing_end_s:.1f} s are missing")
        if self.undecodable and not self.missing_end_s:
            announced = self.frames + self.left_out + self.undecodable
            said.append(f"{self.undecodable} of {announced} frames could not be decoded")
        if self.left_out:
            said.append(
                f"{self.left_out} of {self.frames + self.left_out} frames left out: their time stamp does not rise"
            )
        real = self.real_hz
        if self.declared_hz and real and abs(real / self.declared_hz - 1) > RATE_TOLERANCE:
            said.append(f"declared {self.declared_hz:.2f} frames a second, really {real:.2f} (time stamps are used)")
        return said


class RisingStamps:
    """Lets a frame pass only when its stamp is later than the last one that passed, and keeps the count."""

    def __init__(self, *, declared_hz: float | None = None) -> None:
        self.declared_hz = declared_hz
        self.frames = self.duplicate = self.backward = self.undecodable = 0
        self.missing_end_s = 0.0
        self._first_ns: int | None = None
        self._last_ns = 0
        self._steps_ns: Counter[int] = Counter()  # rounded to 10 µs: bounded, however long it runs
        self._largest_ns = 0

    def accept(self, stamp_ns: int) -> bool:
        """Whether the frame with this stamp may be used. [ns]"""
        if self._first_ns is None:
            self._first_ns = self._last_ns = stamp_ns
            self.frames = 1
            return True
        step_ns = stamp_ns - self._last_ns
        if step_ns <= 0:
            self.duplicate += step_ns == 0
            self.backward += step_ns < 0
            return False
        self._steps_ns[round(step_ns, -4)] += 1
        self._largest_ns = max(self._largest_ns, step_ns)
        self._last_ns = stamp_ns
        self.frames += 1
        return True

    @property
    def timing(self) -> Timing:
        """The report so far."""
        steps = self._steps_ns
        return Timing(
            frames=self.frames,
            duplicate=self.duplicate,
            backward=self.backward,
            undecodable=self.undecodable,
            span_s=(self._last_ns - (self._first_ns or 0)) / 1e9,
            median_step_s=_median(steps) / 1e9 if steps else None,
            largest_gap_s=self._largest_ns / 1e9 if steps else None,
            declared_hz=self.declared_hz,
            missing_end_s=self.missing_end_s,
        )


def _median(counted: Counter[int]) -> int:
    """The lower middle of all values, without laying them out one by one."""
    half = (sum(counted.values()) + 1) // 2
    for value, count in sorted(counted.items()):
        half -= count
        if half <= 0:
            return value
    raise ValueError("expected at least one value")
