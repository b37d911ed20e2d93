"""A device whose street passes a thousand times faster than real: real windows, privacy rule, outbox, publisher.

Only what looks at pictures is replaced: the passages are given, and the clocks follow the frames. So days of traffic,
and everything that can go wrong in them, fit into seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge.assembly import Device, assembled
from edge.clock import ClockAnchor, ClockState
from edge.domain import CameraState, Detections, Direction, Frame, Passage, TimeKind, Unwatched
from edge.service import Service
from edge.settings import (
    CalibrationSettings,
    LabSettings,
    MqttSettings,
    OutboxSettings,
    PrivacySettings,
    Settings,
    SiteSettings,
    SourceSettings,
)
from edge.sources.timing import RisingStamps, Timing
from edge.watch import Stance
from tests.support.builders import MORNING, S, utc_ns
from tests.support.street import SIZE_PX, demo_calibration

REPORTED_AFTER_S = 8.0  # a passage is certain so long after it
NOTHING = np.zeros((1, 1, 3), dtype=np.uint8)


class SimulatedClock:
    """All clocks follow the frames; a test moves the wall clock and says what is known of it."""

    def __init__(self, *, begin_utc_ns: int | None = None, is_set: bool = True) -> None:
        self.now_ns = 0
        self.ahead_ns = utc_ns(MORNING) if begin_utc_ns is None else begin_utc_ns
        self.is_set = self.was_set = is_set

    def boottime_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns + self.ahead_ns

    def is_synced(self) -> bool:
        return self.is_set

    def was_synced(self) -> bool:
        return self.was_set


class SimulatedStreet:
    """Source, detector and pipeline in one.

    Args:
        passages: In order of time, on the source's clock.
        clock: Is moved on with every frame.
        begin_s: When the first frame is taken. [s]
        until_s: When the source ends. [s]
        step_s: Between frames; more than a second is not watched. [s]
        away: Stretches without frames: from, to, why. [s]
        stumbles_s: Instants at which a stage fails. [s]
    """

    size_px = SIZE_PX
    frame_count = None
    impaired_by = None
    inferences = 0
    frames_hz = None

    def __init__(
        self,
        passages: Iterable[Passage],
        clock: SimulatedClock,
        *,
        begin_s: float = 0.0,
        until_s: float,
        step_s: float = 1.0,
        away: Sequence[tuple[float, float, CameraState]] = (),
        stumbles_s: Iterable[float] = (),
    ) -> None:
        self.watch = SimpleNamespace(stance=Stance.STANDS, is_blind=False)
        self._passages = iter(passages)
        self._next = next(self._passages, None)
        self._clock = clock
        self._begin_s, self._until_s, self._step_s = begin_s, until_s, step_s
        self._away = away
        self._stumbles_s = list(stumbles_s)
        self._stamps = RisingStamps()
        self.view = None

    @property
    def timing(self) -> Timing:
        return self._stamps.timing

    def frames(self) -> Iterator[Frame | Unwatched]:
        """Frames, and time without them."""
        at_s = self._begin_s
        while at_s <= self._until_s:
            self._clock.now_ns = captured_ns = round(at_s * S)
            gone = next((stretch for stretch in self._away if stretch[0] <= at_s < stretch[1]), None)
            if gone is None:
                self._stamps.accept(captured_ns)
                yield Frame(captured_ns=captured_ns, captured_sigma_s=0.001, time_kind=TimeKind.PTS, image_bgr=NOTHING)
            else:
                yield Unwatched(captured_ns, gone[2], round(gone[0] * S))
            at_s += self._step_s

    def detect(self, frame: Frame) -> Detections:
        return Detections.none()

    def step(self, frame: Frame) -> list[Passage]:
        """Passages that have become certain."""
        if self._stumbles_s and frame.captured_ns >= self._stumbles_s[0] * S:
            self._stumbles_s.pop(0)
            raise ZeroDivisionError("a stage's surprise")
        return self._certain(frame.captured_ns - round(REPORTED_AFTER_S * S))

    def pause(self, captured_ns: int) -> list[Passage]:
        return self._certain(captured_ns - round(REPORTED_AFTER_S * S))

    def salvage(self) -> list[Passage]:
        """Those who had passed are certain, those in view are gone."""
        through = self._certain(self._clock.now_ns - 2 * S)
        self._certain(self._clock.now_ns)
        return through

    def finish(self) -> list[Passage]:
        return self._certain(self._clock.now_ns)

    def _certain(self, until_ns: int) -> list[Passage]:
        through = []
        while self._next is not None and self._next.middle_ns <= until_ns:
            through.append(self._next)
            self._next = next(self._passages, None)
        return through


def recorded(start: str = MORNING) -> SourceSettings:
    """A source that was filmed then and is measured as fast as it goes."""
    return SourceSettings.model_validate({"url": "none", "pace": "full", "start": start})


def settings_of(folder: Path, url: str, **sections: Any) -> Settings:
    """A device on the bundled street, its files in that folder; sections may be given in place of the usual ones."""
    calibration = folder / "calibration.json"
    if not calibration.exists():
        demo_calibration().save(calibration)
    usual: dict[str, Any] = {
        "site": SiteSettings(city="hilversum", device="hvs-0042"),
        "source": recorded(),
        "calibration": CalibrationSettings(file=calibration),
        "mqtt": MqttSettings(url=url),
        "outbox": OutboxSettings(file=folder / "outbox.sqlite"),
    }
    return Settings.model_construct(**(usual | sections))


@contextmanager
def a_device(
    folder: Path,
    street: SimulatedStreet,
    clock: SimulatedClock,
    *,
    url: str = "mqtt://127.0.0.1:1",
    lab_slot_s: int | None = 10,
    k: int = 10,
    max_bytes: int | None = None,
    checkpoint_s: float = 60.0,
    drain_s: float = 0.0,
    mqtt: dict[str, Any] | None = None,
) -> Iterator[tuple[Device, Callable[..., bool]]]:
    """A device on a simulated street; the second thing runs it, with an optional look at every frame.

    Args:
        folder: Holds its outbox and calibration.
        street: What passes.
        clock: Its clocks.
        url: Broker; none answers by default.
        lab_slot_s: Length of a slot in lab mode with k = 1; None: ordinary slots and ``k``. [s]
        k: Least number of vehicles in a window.
        max_bytes: Size limit of the outbox. [B]
        checkpoint_s: As of the service. [s]
        drain_s: As of the service. [s]
        mqtt: More settings of the broker.
    """
    settings = settings_of(
        folder,
        url,
        calibration=CalibrationSettings(file=folder / "calibration.json", allow_expired=True),
        mqtt=MqttSettings.model_validate({"url": url} | (mqtt or {})),
        privacy=PrivacySettings(k=k),
        lab=LabSettings(enabled=lab_slot_s is not None, k=1, slot_s=lab_slot_s or 10),
    )
    with assembled(settings, clock, source=street, detector=street) as device:  # type: ignore[arg-type]
        state = ClockState.SYNCED if clock.is_set else ClockState.UNSET
        device.windows.anchor = ClockAnchor(0, clock.ahead_ns, state)
        if max_bytes is not None:  # less than a setting allows
            device.outbox._pages = max_bytes // 4096
        device = replace(device, pipeline=street, follows_clock=True)  # type: ignore[arg-type]
        stop = threading.Event()

        def run(look: Callable[[float, threading.Event], None] = lambda at_s, stop: None) -> bool:
            return Service(
                device,
                clock=clock,
                stop=stop,
                paced=False,
                checkpoint_s=checkpoint_s,
                health_s=300,
                drain_s=drain_s,
                outbox_folder=folder,
            ).run(lambda frame, gone: look(clock.now_ns / S, stop))

        yield device, run


def measured_of(plain: dict[str, Any] | None) -> dict[int, int]:
    """Counts of a stored aggregate, by the lower edge of their bin; -1 below, 999 above."""
    if plain is None:
        return {}
    histogram = plain["histogram"]
    counts = {number: count for number, count in enumerate(histogram["counts"]) if count}
    counts |= {-1: histogram["under"]} if histogram["under"] else {}
    return counts | ({999: histogram["over"]} if histogram["over"] else {})


def held(device: Device) -> int:
    """Everything measured that is on the device, wherever."""
    slots = device.windows.state()["slots"]
    tilings = device.anonymity.state()["tilings"]
    carried = [tilings[direction.value][name] for direction in Direction for name in ("accumulator", "pending")]
    waiting = [queued.record.as_plain() for queued in device.outbox.due(2**62, 100_000)]
    plains = [aggregate for slot in slots for aggregate in slot["aggregates"]] + carried
    plains += [plain for plain in waiting if "histogram" in plain]
    return sum(sum(measured_of(plain).values()) for plain in plains)
