"""Whether a thread beside the loop gets on."""

from __future__ import annotations

import math
import threading

from edge.pulse import Pulse

S = 1_000_000_000


class _Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def test_a_thread_that_was_not_started_ails_nothing() -> None:
    clock = _Clock()
    pulse = Pulse(threading.Thread(name="late"), stuck_s=10, clock_ns=clock)
    clock.now_ns = 100 * S
    assert pulse.ailment is None


def test_a_thread_that_ended_is_named() -> None:
    thread = threading.Thread(name="publisher")
    pulse = Pulse(thread)
    thread.start()
    thread.join()
    assert pulse.ailment == "the thread 'publisher' has ended"


def test_silence_is_stuck_and_rest_is_not() -> None:
    clock, done = _Clock(), threading.Event()
    thread = threading.Thread(name="camera", target=done.wait)
    pulse = Pulse(thread, stuck_s=10, clock_ns=clock)
    thread.start()
    try:
        clock.now_ns = 9 * S
        assert (pulse.silent_s, pulse.ailment) == (9.0, None)
        pulse.beat()
        clock.now_ns = 18 * S
        assert (pulse.silent_s, pulse.ailment) == (9.0, None)
        clock.now_ns = 20 * S
        assert pulse.ailment == "the thread 'camera' has been stuck for 11 s"
        pulse.beat(rest_s=300)
        clock.now_ns = 320 * S
        assert (pulse.silent_s, pulse.ailment) == (0.0, None)
        clock.now_ns = 331 * S
        assert pulse.ailment is not None
        pulse.beat(rest_s=math.inf)
        clock.now_ns = 10**6 * S
        assert (pulse.silent_s, pulse.ailment) == (0.0, None)
    finally:
        done.set()
        thread.join()
