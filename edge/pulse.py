"""Whether a thread beside the loop gets on: it gives a sign of life at every turn, and the service asks for them.

A thread that has ended, or is stuck in a driver, a name look-up or a lock, can be neither seen nor mended from inside
itself. Whoever watches it ends the process in order, and whoever started that starts it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STUCK_S = 60.0  # no sign of life for so long: the longest single step, opening a camera or a connection, takes less


def boottime_ns() -> int:
    """CLOCK_BOOTTIME. [ns]"""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Pulse:
    """Signs of life of one thread. Thread-safe: the thread gives them, anybody may ask."""

    def __init__(
        self, thread: threading.Thread, *, stuck_s: float = STUCK_S, clock_ns: Callable[[], int] = boottime_ns
    ) -> None:
        """Nothing is expected before the thread has been started.

        Args:
            thread: Its name is what people call it.
            stuck_s: Silent for so long, it is stuck. [s]
            clock_ns: The steady clock. [ns]
        """
        self._thread = thread
        self._stuck_s = stuck_s
        self._clock_ns = clock_ns
        self._silent_from_s = clock_ns() / 1e9

    def beat(self, *, rest_s: float = 0.0) -> None:
        """A sign of life; ``math.inf`` rests until somebody comes.

        Args:
            rest_s: How long it now waits on purpose. [s]
        """
        self._silent_from_s = self._clock_ns() / 1e9 + rest_s

    @property
    def silent_s(self) -> float:
        """How long a sign of life has been missing; 0 while it rests on purpose. [s]"""
        return max(self._clock_ns() / 1e9 - self._silent_from_s, 0.0)

    @property
    def ailment(self) -> str | None:
        """What is wrong with the thread; None while it gets on, and before it was started."""
        if self._thread.ident is None:
            return None
        if not self._thread.is_alive():
            return f"the thread '{self._thread.name}' has ended"
        if self.silent_s > self._stuck_s:
            return f"the thread '{self._thread.name}' has been stuck for {self.silent_s:.0f} s"
        return None
