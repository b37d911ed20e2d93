"""``snellius run``: the service."""

from __future__ import annotations

import ctypes
import logging
import resource
import signal
import sys
import threading
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Annotated

import typer

PR_SET_DUMPABLE = 4  # prctl(2); the limit alone does not hold for core patterns that start a program


def run(
    config: Annotated[Path, typer.Option(help="The settings file.", show_default=False)],
) -> None:
    """Measure and publish until told to stop (Ctrl-C or SIGTERM).

    Example: snellius run --config /etc/snellius/snellius.toml
    """
    from edge.assembly import assembled
    from edge.clock import LinuxClock
    from edge.service import Service
    from edge.settings import load_settings

    forget_on_crash()
    settings = load_settings(config)
    clock = LinuxClock()
    stop = stopped_by_signals()
    with assembled(settings, clock) as device:
        log_to_stderr()
        everything_sent = Service(
            device,
            clock=clock,
            stop=stop,
            paced=settings.source.pace == "real",
            checkpoint_s=settings.service.checkpoint_s,
            health_s=settings.service.health_s,
            drain_s=settings.service.drain_s,
            outbox_folder=settings.outbox.file.parent,
            status_socket=settings.service.status_socket,
        ).run()
    if not everything_sent:
        raise typer.Exit(1)


def forget_on_crash() -> None:
    """A crash may not leave memory, which holds pictures, on a disk: neither as a core file nor through a helper."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


class SignalledEvent(threading.Event):
    """An event that a signal's handler may set, though it interrupts the thread that waits for it.

    The lock of an ordinary event may be held by that thread just then, and the handler would wait for it for ever. A
    queue wakes who waits here, one whose ``put`` may interrupt its ``get``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_set = False
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Wake everybody who waits, now and later."""
        self._is_set = True
        self._wakes.put(None)

    def clear(self) -> None:
        """As if it had never been set."""
        self._is_set = False
        while not self._wakes.empty():
            self._wakes.get()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most so long; whether it is. [s]"""
        if not self._is_set:
            try:
                self._wakes.get(timeout=None if timeout is None else max(timeout, 0.0))
            except Empty:
                return self._is_set
            self._wakes.put(None)  # for the next who waits
        return self._is_set


def stopped_by_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = SignalledEvent()

    def asked(number: int, at: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    return stop


def log_to_stderr() -> None:
    """Counts, states and durations for the journal, which adds the time itself; never a single vehicle."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
