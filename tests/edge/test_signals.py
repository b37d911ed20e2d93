"""Told to stop by a signal, whatever the waiting thread is doing just then."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

from edge.cli.run import SignalledEvent

WAITS_ALL_THE_TIME = """
from edge.cli.run import stopped_by_signals
stop = stopped_by_signals()
print("waiting", flush=True)
while not stop.is_set():
    stop.wait(0.0)
"""
TRIALS = 12  # of which an ordinary event hangs in about half


def test_a_signal_that_comes_while_the_event_is_looked_at_ends_the_wait() -> None:
    for _ in range(TRIALS):
        with subprocess.Popen([sys.executable, "-c", WAITS_ALL_THE_TIME], stdout=subprocess.PIPE) as waiting:
            try:
                assert waiting.stdout is not None
                assert waiting.stdout.readline() == b"waiting\n"
                waiting.send_signal(signal.SIGTERM)
                assert waiting.wait(20) == 0
            finally:
                waiting.kill()


def test_whoever_waits_is_woken_and_nobody_waits_afterwards() -> None:
    event, woken = SignalledEvent(), []
    assert event.wait(0.01) is False
    assert event.wait(-1.0) is False
    waiting = [threading.Thread(target=lambda: woken.append(event.wait(20.0))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    event.set()
    for thread in waiting:
        thread.join(20.0)
    assert woken == [True] * 3
    assert event.is_set()
    assert event.wait() is True
    event.clear()
    assert event.wait(0.01) is False
