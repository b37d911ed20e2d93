"""Time stamps of a camera laid onto this computer's own steady clock (CLOCK_BOOTTIME).

A network camera stamps its frames on a clock of its own, which is exact from frame to frame; the instants at which they
arrive jitter with the network. The stamp therefore gives the steps, the arrival only where they lie: a frame can arrive
late, never early, so the smallest delay seen is the best estimate (V. Paxson, "On calibrating measurements of packet
transit times", doi:10.1145/277851.277865). A constant delay that remains shifts wall times, not speeds.

Stamps are believed only while they agree with the arrivals. Some cameras count frames at their nominal rate and call
that a time stamp: "25 frames a second" that are 21 would make every vehicle 19 % faster. Such stamps are given up, and
the arrivals are used with the larger uncertainty that they have.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from edge.domain import TimeKind

PROBATION_S = 3.0  # stamps and arrivals are compared for so long before the first frame is used
SETTLED_AFTER_S = 1.0  # of it: a server sends what it has stored first, faster than real
RATE_TOLERANCE = 0.05  # of two seconds of arrivals that jitter by 30 ms; a nominal rate that lies is further off
LEAST_STAMPS = 8
SHRINK = 1e-3  # how fast a smaller delay is believed: it moves all later instants [s/s]
GROW = 1e-4  # how fast the delay may creep: clocks of cameras drift by up to 100 ppm [s/s]
JUMP_S = 0.5  # stamps that lie further from where they belong have jumped
LATE_FOR_S = 5.0  # a stalled connection catches up; stamps that stay late have jumped back
MANY_JUMPS, JUMPS_WITHIN_S = 3, 300.0  # then the stamps are given up
STAMP_SIGMA_S = 0.001  # a tick of a millisecond, and the creep
ARRIVAL_SIGMA_S = 0.015  # jitter of a network or USB camera when nothing better is known


@dataclass(frozen=True, slots=True)
class Instant:
    """When a frame was taken.

    Attributes:
        captured_ns: On the steady clock. [ns]
        sigma_s: One standard deviation of its step to other frames. [s]
        kind: Where it comes from.
    """

    captured_ns: int
    sigma_s: float
    kind: TimeKind


class Alignment:
    """Lays the stamps of one camera onto the steady clock.

    Attributes:
        jumps: Times that the stamps jumped.
        distrust: Why the stamps are not used; None while they are.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self.distrust: str | None = None
        self._probation: list[tuple[int, int]] = []
        self._offset_ns: float | None = None
        self._arrived_ns = 0
        self._late_since_ns: int | None = None
        self._jumped_ns: deque[int] = deque(maxlen=MANY_JUMPS)

    def restart(self) -> None:
        """A new connection: its stamps begin anywhere. Distrust stays, because it is about the camera."""
        self._probation = []
        self._offset_ns = None
        self._late_since_ns = None

    def place(self, stamp_ns: int | None, arrived_ns: int) -> Instant | None:
        """The instant of a frame; None while the stamps are on probation.

        Args:
            stamp_ns: The camera's own stamp, None when it has none. [ns]
            arrived_ns: When the frame arrived, on the steady clock. [ns]
        """
        if stamp_ns is None or self.distrust is not None:
            return Instant(arrived_ns, ARRIVAL_SIGMA_S, TimeKind.ARRIVAL)
        if self._offset_ns is None:
            return self._judge(stamp_ns, arrived_ns)
        self._follow(stamp_ns, arrived_ns)
        return Instant(stamp_ns + round(self._offset_ns), STAMP_SIGMA_S, TimeKind.PTS)

    def _judge(self, stamp_ns: int, arrived_ns: int) -> Instant | None:
        self._probation.append((stamp_ns, arrived_ns))
        begin_ns = self._probation[0][1]
        if arrived_ns - begin_ns < PROBATION_S * 1e9:
            return None
        settled = [pair for pair in self._probation if pair[1] - begin_ns >= SETTLED_AFTER_S * 1e9]
        stamps, arrivals = (np.array(side) - side[0] for side in zip(*settled))
        self._probation = []
        self._arrived_ns = arrived_ns
        rises = bool(np.all(np.diff(stamps) >= 0)) and stamps[-1] > 0
        rate = float(np.polyfit(arrivals, stamps, 1)[0]) if rises and arrivals[-1] > 0 else 0.0
        if len(settled) < LEAST_STAMPS or abs(rate - 1.0) > RATE_TOLERANCE:
            self.distrust = f"time stamps run at {rate:.2f} of the real time" if rises else "time stamps do not rise"
            return Instant(arrived_ns, ARRIVAL_SIGMA_S, TimeKind.ARRIVAL)
        self._offset_ns = float(min(arrived - stamp for stamp, arrived in settled))
        return Instant(stamp_ns + round(self._offset_ns), STAMP_SIGMA_S, TimeKind.PTS)

    def _follow(self, stamp_ns: int, arrived_ns: int) -> None:
        """Move the delay a little, or anew when the stamps have jumped."""
        assert self._offset_ns is not None
        step_ns, self._arrived_ns = arrived_ns - self._arrived_ns, arrived_ns
        excess_ns = arrived_ns - stamp_ns - self._offset_ns
        is_late = excess_ns > JUMP_S * 1e9
        if not is_late:
            self._late_since_ns = None
        elif self._late_since_ns is None:
            self._late_since_ns = arrived_ns
        stays_late = self._late_since_ns is not None and arrived_ns - self._late_since_ns > LATE_FOR_S * 1e9
        if excess_ns < -JUMP_S * 1e9 or stays_late:
            self._late_since_ns = None
            self._offset_ns = float(arrived_ns - stamp_ns)
            self._note_jump(arrived_ns)
        elif excess_ns < 0:
            self._offset_ns -= min(-excess_ns, SHRINK * step_ns)
        elif not is_late:
            self._offset_ns += min(excess_ns, GROW * step_ns)

    def _note_jump(self, arrived_ns: int) -> None:
        self.jumps += 1
        self._jumped_ns.append(arrived_ns)
        if len(self._jumped_ns) == MANY_JUMPS and arrived_ns - self._jumped_ns[0] < JUMPS_WITHIN_S * 1e9:
            self.distrust = f"time stamps jumped {MANY_JUMPS} times within {JUMPS_WITHIN_S / 60:.0f} minutes"
