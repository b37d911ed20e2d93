"""The real service with something wrong in one of its threads: ``python -m tests.support.ailing FAULT TRIGGER run …``.

Camera and pace apart, everything is as on a pole: settings, model, outbox, publisher, status socket, notify socket. The
camera is a fake one behind ``/dev/video0`` that films the bundled street. The fault begins when the file TRIGGER
appears. What is stuck for :data:`STUCK_S` counts as stuck, so that nobody has to wait a minute.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edge.pulse
import edge.sources.live
import edge.sources.stream
from edge.cli import main
from edge.outbox import Outbox
from edge.pipeline import Pipeline
from edge.publish.mqtt import Publisher
from edge.pulse import boottime_ns
from edge.service import Service
from edge.sources.live import Shot
from edge.sources.video import VideoFile
from tests.support.street import STREET

STUCK_S = 3.0
RECORDS_PER_S = 4.0  # so slowly that a fault finds the publisher at work
BURST = 4


class StreetCamera:
    """The bundled street at its own pace, for ever."""

    declared_hz = 10.0  # enough to measure, and half the work

    def __init__(self) -> None:
        self._street = VideoFile(STREET, loop=True).__enter__()
        self._frames = self._street.frames()
        self._due_ns = boottime_ns()

    def read(self) -> Shot:
        self._due_ns += round(1e9 / self.declared_hz)
        time.sleep(max(0.0, (self._due_ns - boottime_ns()) / 1e9))
        return Shot(next(self._frames).image_bgr, self._due_ns, is_boottime=True)

    def close(self) -> None:
        self._street.__exit__(None, None, None)


def stumble() -> None:
    raise ZeroDivisionError("a surprise")


def hang() -> None:
    while True:
        time.sleep(3600)


def end() -> None:
    """The thread ends without a word."""
    raise SystemExit


def crash() -> None:
    """As a fault in a driver or a runtime does it: the whole process is gone."""
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(3600)


def refuse() -> None:
    raise OSError("no such device")


PLACES: dict[str, tuple[type, str]] = {  # a step that each thread takes again and again
    "main": (Pipeline, "step"),
    "camera": (StreetCamera, "read"),
    "publisher": (Publisher, "_exchange"),
    "outbox": (Outbox, "_write"),  # by main and publisher, while they hold its lock
    "status": (Service, "condition"),
}
DEEDS: dict[str, Callable[[], None]] = {
    "stumbles": stumble, "hangs": hang, "ends": end, "crashes": crash, "fails": refuse,
}  # fmt: skip


def break_(place: str, deed: str, trigger: Path, *, times: int) -> None:
    """From the trigger on, a step does this instead, so many times."""
    owner, name = PLACES[place]
    sound = getattr(owner, name)
    left = times

    def broken(*arguments: Any, **more: Any) -> Any:
        nonlocal left
        if left and trigger.exists():
            left -= 1
            DEEDS[deed]()
        return sound(*arguments, **more)

    setattr(owner, name, broken)


if __name__ == "__main__":
    fault, trigger, *arguments = sys.argv[1:]
    edge.pulse.Pulse.__init__.__kwdefaults__["stuck_s"] = STUCK_S
    edge.sources.live.SILENT_S = 1.0
    edge.sources.stream.open_device = lambda path, size_px: StreetCamera()  # type: ignore[assignment,misc]
    Publisher.__init__.__kwdefaults__["records_per_s"] = RECORDS_PER_S
    edge.publish.mqtt.BURST = BURST
    for each in filter(None, fault.split(",")):  # camera-stumbles, or camera-stumbles-3: so many times
        place, deed, *times = each.split("-")
        break_(place, deed, Path(trigger), times=int(times[0]) if times else 1)
    main(arguments)
