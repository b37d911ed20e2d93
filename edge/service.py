"""The running device: one loop, an orderly end, and a word about itself now and then.

:func:`measure` is the whole device; ``run``, ``replay`` and ``demo`` share it. :class:`Service` adds what only a
running device needs: counters to disk every minute, health and status to the platform, a stop that releases nothing
early. Wall clock and pace live here and nowhere below.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime
from inspect import GEN_CLOSED, getgeneratorstate
from pathlib import Path
from typing import Any

from edge.aggregate import Anonymity, Windows
from edge.assembly import Device, heed_expiry
from edge.clock import Clock, ClockState, anchor_now, utc_datetime
from edge.domain import CameraReport, CameraState, Flag, Frame, Passage, Settlement, Unwatched
from edge.errors import BadInput, OutboxError, OutboxUnwritable, SnelliusError
from edge.machine import TOO_HOT_C, disk_free, strain, temperature_c
from edge.notify import notify, watchdog_s
from edge.pipeline import Pipeline
from edge.publish.payload import Health, State, Status, StatusReason, WatchedSince
from edge.sources.live import LiveSource
from edge.status_socket import StatusSocket
from edge.watch import Stance

log = logging.getLogger(__name__)

LEAVE_S = 5.0  # for the last word to the broker
DRAIN_STEP_S = 1.0
NOTIFY_S = 30.0  # between two words to systemd when it does not ask for more
TOLD_FOR_S = 86_400.0  # that windows were joined to make room
CLOCK_S = 10.0  # the wall clock is looked at so often
MANY_SURPRISES, SURPRISES_WITHIN_S = 5, 600.0  # then the service ends, for whoever starts it again
LEAST_RATE_HZ = 8.0  # fewer frames, and a fast car is seen too seldom inside a zone of 20 m
SLOW_TOLD_S = 30.0  # too few frames are told for so long after they last came: a rate at the limit is no flood of words
CAMERA_REASONS = {
    CameraState.LOST: StatusReason.CAMERA_LOST,
    CameraState.OTHER_SIZE: StatusReason.CAMERA_SIZE,
    CameraState.FROZEN: StatusReason.CAMERA_FROZEN,
    CameraState.BLACK: StatusReason.CAMERA_BLACK,
    CameraState.DARK: StatusReason.TOO_DARK,
}
STRAIN_S = 10.0  # between two looks at heat and power
RECENT_FRAMES = 100  # over which the rate of the camera is told to whoever asks on the spot

Watcher = Callable[[Frame | None, list[Passage]], None]  # a frame (None: there is none) and who has passed with it


def unwatched(frame: Frame | None, passages: list[Passage]) -> None:
    """Nobody looks on: what a running device does."""


def measure(
    moments: Iterable[Frame | Unwatched],
    *,
    pipeline: Pipeline,
    windows: Windows,
    anonymity: Anonymity,
    watch: Watcher = unwatched,
) -> Iterator[Settlement]:
    """Frames in, settlements out.

    Args:
        moments: Frames in order of time, and stretches without one.
        pipeline: Frames to passages.
        windows: Passages to windows.
        anonymity: Windows to releases.
        watch: Told of every frame, or that there is none, and the passages that became complete: a technician looks on.
    """
    for moment in moments:
        if isinstance(moment, Unwatched):
            passages = pipeline.pause(moment.captured_ns)
        else:
            passages = pipeline.step(moment)
        for passage in passages:
            windows.add(passage)
        watch(moment if isinstance(moment, Frame) else None, passages)
        if isinstance(moment, Unwatched):
            because = Flag.TOO_DARK if moment.state is CameraState.DARK else None
            closed = windows.pass_unwatched(moment.captured_ns, since_ns=moment.since_ns, because=because)
        else:
            closed = windows.close_until(moment.captured_ns, impaired_by=pipeline.impaired_by)
        for aggregate in closed:
            yield anonymity.settle(aggregate)


def close_clip(*, pipeline: Pipeline, windows: Windows, anonymity: Anonymity) -> tuple[list[Passage], list[Settlement]]:
    """The end of a recording: who is still in view passes, and everything closes like a traffic day."""
    passages = pipeline.finish()
    for passage in passages:
        windows.add(passage)
    settlements = [anonymity.settle(aggregate) for aggregate in windows.finish()]
    return passages, [*settlements, anonymity.finish()]


class Service:
    """Runs a device until its source ends or someone says stop."""

    def __init__(
        self,
        device: Device,
        *,
        clock: Clock,
        stop: threading.Event,
        paced: bool,
        checkpoint_s: float,
        health_s: float,
        drain_s: float,
        outbox_folder: Path,
        status_socket: Path | None = None,
    ) -> None:
        """Begin with nothing done.

        Args:
            device: What to run.
            clock: The clocks of the machine.
            stop: Set from outside to end in order.
            paced: Whether frames of a file are taken in at the times of the file.
            checkpoint_s: Counters go to disk this often. [s]
            health_s: Time between health messages. [s]
            drain_s: How long to wait for the broker at the end of a file. [s]
            outbox_folder: Whose disk is reported.
            status_socket: Where people of this computer may ask how it is; None: nowhere.
        """
        self._device = device
        self._clock = clock
        self._stop = stop
        self._paced = paced
        self._checkpoint_ns = round(checkpoint_s * 1e9)
        self._health_ns = round(health_s * 1e9)
        self._drain_s = drain_s
        self._outbox_folder = outbox_folder
        self._status_socket = None if status_socket is None else StatusSocket(status_socket, self.condition)
        self._strains: tuple[StatusReason, ...] = ()
        self._strain_ns: int | None = None  # when heat and power were last looked at
        self._came_ns: int | None = None  # when the newest frame came, on the steady clock
        self._recent_ns: deque[int] = deque(maxlen=RECENT_FRAMES)  # captured
        self._first_captured_ns: int | None = None
        self._captured_ns = 0
        self._status = device.status
        self._trouble: OutboxError | None = None
        self._started_ns = self._checkpointed_ns = self._told_ns = clock.boottime_ns()
        self._told_utc_ns = clock.utc_ns()
        self._told_frames = self._told_watched_ns = 0
        self._told_captured_ns: int | None = None
        self._notify_ns = round((watchdog_s() or NOTIFY_S) * 1e9)
        self._notified_ns: int | None = None
        self._clock_ns = self._started_ns
        self._surprises_ns: list[int] = []
        self._slow_ns: int | None = None  # when too few frames last came
        self._given_way = 0
        self._gave_way_ns: int | None = None
        self._gave_way_lately = False

    def run(self, watch: Watcher = unwatched) -> bool:
        """Measure and publish.

        Returns:
            Whether the broker has everything, or someone said stop; False when something waits at the end of a file.

        Raises:
            SnelliusError: A thread beside the loop has ended or is stuck; counters are on disk.
            BadInput: The calibration expired meanwhile, and may not be used on.
        """
        with self._status_socket or nullcontext():
            return self._run(watch)

    def _run(self, watch: Watcher) -> bool:
        device = self._device
        device.publisher.start()
        notify(READY="1", STATUS="starting")
        source = device.source
        moments = self._attended(source.moments() if isinstance(source, LiveSource) else source.frames())
        try:
            while self._measures_on(moments, watch):
                pass
            if self._stop.is_set():
                watch(None, self._keep_passed())
                self._checkpoint()
                log.info("stopped; counters are kept for the next start")
                return True
            return self._end_of_clip(watch)
        finally:
            notify(STOPPING="1")
            device.publisher.stop(LEAVE_S)

    def _measures_on(self, moments: Generator[Frame | Unwatched, None, None], watch: Watcher) -> bool:
        """Measure until the source ends (False) or a stage surprises us (True): that costs who was in view, no more.

        Raises:
            SnelliusError: Something that is told in one line.
            Exception: It was one surprise too many; everything counted has been written.
        """
        device = self._device
        try:
            for settlement in measure(
                moments,
                pipeline=device.pipeline,
                windows=device.windows,
                anonymity=device.anonymity,
                watch=self._noting(watch),
            ):
                self._commit(settlement)
        except SnelliusError:
            raise
        except Exception:
            self._salvage()
            if len(self._surprises_ns) >= MANY_SURPRISES or getgeneratorstate(moments) == GEN_CLOSED:
                raise
            log.exception("a stage failed; it goes on with the next frame")
            return True
        return False

    def _salvage(self) -> None:
        """After a surprise: keep who had passed, forget who was in view."""
        now_ns = self._clock.boottime_ns()
        self._surprises_ns = [at for at in self._surprises_ns if now_ns - at < SURPRISES_WITHIN_S * 1e9] + [now_ns]
        self._keep_passed()
        self._checkpoint()

    def _keep_passed(self) -> list[Passage]:
        passed = self._device.pipeline.salvage()
        for passage in passed:
            self._device.windows.add(passage)
        return passed

    def _noting(self, watch: Watcher) -> Watcher:
        """The watcher, after many cars together have been asked about the calibration."""

        def noted(frame: Frame | None, passages: list[Passage]) -> None:
            if sum(self._device.trend.add(passage) for passage in passages):  # every passage is added
                self._checkpoint()
            watch(frame, passages)

        return noted

    # ------------------------------------------------------------------------------------------------- frame by frame

    def _attended(
        self, moments: Iterator[Frame | Unwatched] | Iterator[Frame]
    ) -> Generator[Frame | Unwatched, None, None]:
        """The frames and the time without them, with everything that is due done in between."""
        begin_ns: int | None = None
        is_paced = self._paced and not isinstance(self._device.source, LiveSource)
        for moment in moments:
            if begin_ns is None and isinstance(moment, Frame):
                begin_ns = self._clock.boottime_ns() - moment.captured_ns
                log.info("measuring")
            if is_paced and begin_ns is not None:
                self._wait_until(begin_ns + moment.captured_ns)
            if self._stop.is_set():
                return
            yield moment
            if isinstance(moment, Frame):
                self._recent_ns.append(moment.captured_ns)
                self._came_ns = self._clock.boottime_ns()
            self._attend(moment.captured_ns)

    def _wait_until(self, boottime_ns: int) -> None:
        wait_ns = boottime_ns - self._clock.boottime_ns()
        if wait_ns > 0:
            self._stop.wait(wait_ns / 1e9)

    def _attend(self, captured_ns: int) -> None:
        now_ns = self._clock.boottime_ns()
        self._captured_ns = captured_ns
        if self._first_captured_ns is None:
            self._first_captured_ns = captured_ns
        if self._told_captured_ns is None:
            self._told_captured_ns = captured_ns
        if self._device.follows_clock and now_ns - self._clock_ns >= CLOCK_S * 1e9:
            self._follow_wall_clock(now_ns)
        if now_ns - self._checkpointed_ns >= self._checkpoint_ns:
            self._checkpoint()
        if now_ns - self._told_ns >= self._health_ns:
            self._tell_health(captured_ns, now_ns)
        self._heed_trend()
        self._tell_status()
        self._notify(now_ns)
        self._heed_expiry()
        self._heed_threads()

    def _follow_wall_clock(self, now_ns: int) -> None:
        """Labels follow the wall clock; when it is first set, so do the labels of what has been counted before."""
        self._clock_ns = now_ns
        device = self._device
        before = device.windows.anchor
        anchor = anchor_now(self._clock, before)
        step_s = before.step_ns(anchor) / 1e9
        relabelling = device.windows.reanchor(anchor)
        if anchor.state is not before.state or abs(step_s) > 1.0:
            log.info("clock: %s, moved by %.3f s", anchor.state.value, step_s)
        if relabelling is None:
            return
        device.anonymity.relabel(relabelling)
        self._write(lambda: device.outbox.relabel(relabelling, device.windows.state(), device.anonymity.state()))

    def _heed_trend(self) -> None:
        """What many cars say about the calibration stands in every window, as long as they say it."""
        if self._device.trend.is_raised:
            self._device.windows.mark_from_now(Flag.CALIBRATION_DRIFT)
        else:
            self._device.windows.unmark(Flag.CALIBRATION_DRIFT)

    def _heed_threads(self) -> None:
        """A thread beside the loop that has ended or is stuck cannot be mended from here: end, to be started again.

        What hangs in the loop itself is seen by systemd, which then hears nothing any more.
        """
        source, publisher, beside = self._device.source, self._device.publisher, self._status_socket
        failure = publisher.status.failure
        ailments = [f"the publisher ended: {failure}" if failure is not None else publisher.pulse.ailment]
        ailments += [source.pulse.ailment] if isinstance(source, LiveSource) else []
        ailments += [beside.pulse.ailment] if beside is not None else []
        for ailment in filter(None, ailments):
            self._checkpoint()
            raise SnelliusError(f"{ailment} (counters are kept; start the service again)")

    def _notify(self, now_ns: int) -> None:
        """Tell systemd that there is progress."""
        if self._notified_ns is not None and now_ns - self._notified_ns < self._notify_ns:
            return
        self._notified_ns = now_ns
        reasons = ", ".join(reason.value for reason in self._status.reasons)
        notify(WATCHDOG="1", STATUS=f"{self._status.state.value}{': ' if reasons else ''}{reasons}")

    def _heed_expiry(self) -> None:
        """A calibration may expire while the device runs, or be found expired when the clock is first set."""
        device = self._device
        try:
            heed_expiry(
                device.calibration,
                device.windows,
                now=self._now(),
                is_allowed=device.allows_expired,
                calibration_name=device.calibration.site.id,
            )
        except BadInput:
            self._checkpoint()
            raise

    def _commit(self, settlement: Settlement) -> None:
        self._write(lambda: self._device.outbox.commit(settlement))

    def _checkpoint(self) -> None:
        self._checkpointed_ns = self._clock.boottime_ns()
        device = self._device
        self._write(lambda: device.outbox.checkpoint(device.windows.state(), device.trend.state()))

    def _write(self, change: Callable[[], None]) -> None:
        """Have the outbox write; what it cannot write it keeps in memory and tries again with the next change."""
        try:
            change()
        except OutboxError as trouble:
            if self._trouble is None:
                log.error("%s", trouble)
            self._trouble = trouble
        else:
            self._trouble = None
        now_ns, given_way = self._clock.boottime_ns(), self._device.outbox.given_way
        if given_way > self._given_way:
            self._given_way, self._gave_way_ns = given_way, now_ns
        self._gave_way_lately = self._gave_way_ns is not None and now_ns - self._gave_way_ns < TOLD_FOR_S * 1e9
        self._heed_epoch()

    def _heed_epoch(self) -> None:
        """The outbox may have been found damaged while running: numbers begin anew, and everybody must know."""
        epoch = self._device.outbox.epoch
        if epoch != self._status.epoch:
            self._status = self._status.model_copy(update={"epoch": epoch, "reasons": ()})  # is told with its reason
            self._device.publisher.tell(self._device.meta.model_copy(update={"epoch": epoch}))

    # ------------------------------------------------------------------------------------------- words about the device

    def _tell_status(self) -> None:
        """Tells the platform when something changed."""
        reasons = tuple(self._reasons())
        if self._status.reasons == reasons:
            return
        state = State.DEGRADED if reasons else State.READY
        self._status = Status(
            device=self._status.device,
            epoch=self._status.epoch,
            state=state,
            reasons=reasons,
            since=self._now(),
            sw=self._status.sw,
        )
        log.info("status: %s %s", state.value, ", ".join(reason.value for reason in reasons))
        self._device.publisher.tell(self._status)

    def _reasons(self) -> Iterator[StatusReason]:
        source = self._device.source
        if isinstance(source, LiveSource):
            report = source.report
            if report.state is CameraState.OPENING:
                yield StatusReason.STARTING
            elif report.state in CAMERA_REASONS:
                yield CAMERA_REASONS[report.state]
            elif self._is_too_slow(report):
                yield StatusReason.FRAME_RATE
        clock = self._device.windows.anchor.state
        if self._device.calibration.is_expired(self._now()):
            yield StatusReason.CALIBRATION_OLD
        if self._device.trend.is_raised:
            yield StatusReason.CALIBRATION_DRIFT
        if self._device.pipeline.watch.stance is Stance.MOVED:
            yield StatusReason.CAMERA_MOVED
        if self._device.pipeline.watch.is_blind:
            yield StatusReason.CAMERA_UNCHECKED
        if clock is ClockState.UNSET:
            yield StatusReason.CLOCK_UNSET
        if clock is ClockState.HOLDOVER:
            yield StatusReason.CLOCK_HOLDOVER
        yield from self._strained()
        if isinstance(self._trouble, OutboxUnwritable):
            yield StatusReason.OUTBOX_UNWRITABLE
        elif self._trouble is not None or self._gave_way_lately:
            yield StatusReason.OUTBOX_FULL
        if self._device.outbox.set_aside is not None:
            yield StatusReason.OUTBOX_NEW

    def _strained(self) -> tuple[StatusReason, ...]:
        """Whether heat or power slows the computer down, looked at now and then."""
        now_ns = self._clock.boottime_ns()
        if self._strain_ns is None or now_ns - self._strain_ns >= STRAIN_S * 1e9:
            told, temperature = strain(), temperature_c()
            is_hot = (told is not None and told.is_hot) or (temperature is not None and temperature >= TOO_HOT_C)
            found = {StatusReason.HOT: is_hot, StatusReason.UNDERVOLTAGE: told is not None and told.is_underpowered}
            self._strains, self._strain_ns = tuple(reason for reason, holds in found.items() if holds), now_ns
        return self._strains

    def _is_too_slow(self, report: CameraReport) -> bool:
        """Whether too few frames come, or too few of them are measured, now or lately."""
        rates_hz, now_ns = (report.frames_per_s, self._device.pipeline.frames_hz), self._clock.boottime_ns()
        if any(rate_hz is not None and rate_hz < LEAST_RATE_HZ for rate_hz in rates_hz):
            self._slow_ns = now_ns
        return self._slow_ns is not None and now_ns - self._slow_ns < SLOW_TOLD_S * 1e9

    def _tell_health(self, captured_ns: int, now_ns: int) -> None:
        device = self._device
        frames, watched_ns = device.source.timing.frames, device.windows.watched_ns
        street_ns = captured_ns - (self._told_captured_ns or 0)
        device.publisher.tell(
            Health(
                device=self._status.device,
                epoch=self._status.epoch,
                time=self._now(),
                uptime_s=(now_ns - self._started_ns) // 1_000_000_000,
                clock=device.windows.anchor.state,
                coverage=WatchedSince(
                    since=utc_datetime(self._told_utc_ns),
                    share=_share(watched_ns - self._told_watched_ns, street_ns),
                ),
                frames_per_s=round((frames - self._told_frames) / ((now_ns - self._told_ns) / 1e9), 2),
                temperature_c=temperature_c(),
                throttled=None if (told := strain()) is None else told.is_hot or told.is_underpowered,
                disk_free=round(disk_free(self._outbox_folder), 2),
            )
        )
        self._told_ns, self._told_utc_ns = now_ns, self._clock.utc_ns()
        self._told_frames, self._told_watched_ns, self._told_captured_ns = frames, watched_ns, captured_ns

    def condition(self) -> dict[str, Any]:
        """How it is at this moment, for ``snellius status``; no number in it comes from traffic. Any thread may ask."""
        device, publisher, came_ns = self._device, self._device.publisher.status, self._came_ns
        recent_ns = list(self._recent_ns)
        now_ns = self._clock.boottime_ns()
        street_ns = self._captured_ns - (self._first_captured_ns or 0)
        span_ns = recent_ns[-1] - recent_ns[0] if recent_ns else 0
        since, published_ns = self._status.since, publisher.published_utc_ns
        report = device.source.report if isinstance(device.source, LiveSource) else None
        return {
            "device": self._status.device,
            "version": self._status.sw,
            "state": self._status.state.value,
            "reasons": [reason.value for reason in self._status.reasons],
            "since": None if since is None else f"{since:%Y-%m-%dT%H:%M:%SZ}",
            "uptime_s": (now_ns - self._started_ns) // 1_000_000_000,
            "camera": {
                "size_px": list(device.calibration.image_size_px),
                "trouble": report.says or None if report is not None else None,
                "last_frame_s": None if came_ns is None else round((now_ns - came_ns) / 1e9, 2),
                "frames_per_s": round((len(recent_ns) - 1) / (span_ns / 1e9), 2) if span_ns > 0 else None,
                "watch": device.pipeline.watch.stance.value,
            },
            "gate": "on" if device.pipeline.has_gate else "off",
            "coverage": round(min(device.windows.watched_ns / street_ns, 1.0), 4) if street_ns > 0 else 0.0,
            "clock": device.windows.anchor.state.value,
            "broker": {
                "address": publisher.address,
                "connected": publisher.is_connected,
                "trouble": publisher.trouble,
            },
            "queue": device.outbox.inventory().waiting,
            "last_publish": None if published_ns is None else f"{utc_datetime(published_ns):%Y-%m-%dT%H:%M:%SZ}",
        }

    def _now(self) -> datetime:
        return utc_datetime(self._clock.utc_ns())

    # -------------------------------------------------------------------------------------------------------- the end

    def _end_of_clip(self, watch: Watcher) -> bool:
        device = self._device
        passages, settlements = close_clip(pipeline=device.pipeline, windows=device.windows, anonymity=device.anonymity)
        watch(None, passages)
        for settlement in settlements:
            self._commit(settlement)
        self._checkpoint()
        log.info("the source ended; waiting at most %.0f s for the broker", self._drain_s)
        deadline_ns = self._clock.boottime_ns() + round(self._drain_s * 1e9)
        while device.outbox.inventory().waiting and self._clock.boottime_ns() < deadline_ns:
            if self._stop.is_set():
                break
            device.publisher.drain(DRAIN_STEP_S)
        waiting = device.outbox.inventory().waiting
        if waiting:
            log.warning("%d messages wait in the outbox for the next start", waiting)
        return not waiting


def _share(part_ns: int, whole_ns: int) -> float:
    """From 0 to 1; 0 of nothing. A frozen picture takes watched time back, so that a part can be negative."""
    return min(max(part_ns / whole_ns, 0.0), 1.0) if whole_ns > 0 else 0.0
