"""Frames of a camera that is there now: the newest one, when it was taken, and how the camera is.

A thread of its own reads the camera as fast as it delivers, so that nothing waits in buffers; whoever asks gets the
newest frame, with the instant at which it was taken. When the camera goes away it is opened again for ever, with
growing random waits.

Only frames that can be measured are handed out: no picture of another size than calibrated, none that is frozen,
black or too dark, none whose time stamp does not rise. While there is none, :attr:`LiveSource.report` says why.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from edge.domain import CameraReport, CameraState, Frame, Pixels, TimeKind, Unwatched
from edge.errors import BadInput, SnelliusError
from edge.pulse import Pulse, boottime_ns
from edge.sources.alignment import Alignment, Instant
from edge.sources.picture import PictureJudge
from edge.sources.timing import RisingStamps, Timing

log = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0  # bound of the first wait; doubles with every failure
LONGEST_RETRY_S = 30.0
STEADY_S = 20.0  # a connection that lasted so long makes the next wait short again
RATE_OVER_S = 10.0
TICK_S = 1.0  # without a frame, time goes on in such steps
ON_THE_WAY_S = 1.0  # a frame taken longer ago than this comes no more
LEAVE_S = 2.0  # for the thread to let go of the camera; it may be inside a read that blocks
SILENT_S = 5.0  # a camera that neither delivers nor fails for so long is as good as gone
FIRST_PICTURE_S = 30.0  # a person waits no longer for a camera than this


class CameraGone(SnelliusError):
    """The camera cannot be opened, or delivers no more pictures; says why, without its address."""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A picture as the camera delivers it.

    Attributes:
        image_bgr: Shape (height, width, 3).
        stamp_ns: When it was taken, on a clock of the camera; None when it has none. [ns]
        is_boottime: Whether that clock is CLOCK_BOOTTIME, and the stamp that of the sensor.
    """

    image_bgr: Pixels
    stamp_ns: int | None
    is_boottime: bool = False


class Camera(Protocol):
    """An open camera. Used by one thread only."""

    @property
    def declared_hz(self) -> float | None:
        """The rate that it states, None when it states none. [1/s]"""

    def read(self) -> Shot:
        """The next picture; blocks for a bounded time.

        Raises:
            CameraGone: There is none.
        """

    def close(self) -> None:
        """Let go of it."""


class LiveSource:
    """The newest frames of a camera.

    A context manager: inside, a thread reads. One consumer at a time.

    Attributes:
        pulse: Whether that thread gets on.
    """

    frame_count = None  # nobody knows

    def __init__(
        self,
        camera: Callable[[], Camera],
        *,
        name: str,
        size_px: tuple[int, int] | None = None,
        patience_s: float | None = FIRST_PICTURE_S,
        first_retry_s: float = FIRST_RETRY_S,
        clock_ns: Callable[[], int] = boottime_ns,
    ) -> None:
        """Nothing is opened yet.

        Args:
            camera: Opens the camera; raises :class:`CameraGone` when that fails.
            name: What people call it; holds no secret.
            size_px: Width and height of the pictures that can be used; None: those of the first one. [px]
            patience_s: How long :meth:`frames` waits for a frame; None: for ever. [s]
            first_retry_s: Bound of the first wait before the camera is opened again. [s]
            clock_ns: The steady clock. [ns]
        """
        self._open = camera
        self._name = name
        self._size_px = size_px
        self._patience_s = patience_s
        self._first_retry_s = first_retry_s
        self._clock_ns = clock_ns
        self._random = random.SystemRandom()
        self._lock = threading.Condition()  # guards the next seven
        self._newest: Frame | None = None
        self._state, self._since_ns, self._says = CameraState.OPENING, clock_ns(), "no picture yet"
        self._stamps = RisingStamps()
        self._arrivals_ns: deque[int] = deque()
        self._opened_ns = clock_ns()
        self._overtaken = 0
        self._alignment = Alignment()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read_for_ever, name="camera", daemon=True)
        self.pulse = Pulse(self._thread, clock_ns=clock_ns)

    def __enter__(self) -> LiveSource:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join(LEAVE_S)

    # ----------------------------------------------------------------------------------------------- for the consumer

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the pictures that are handed out; waits for the first one when nobody said. [px]

        Raises:
            BadInput: No picture came.
        """
        with self._lock:
            self._lock.wait_for(lambda: self._size_px is not None, self._patience_s)
            if self._size_px is None:
                raise self._nothing_came()
            return self._size_px

    @property
    def timing(self) -> Timing:
        """How the frames of the camera arrived so far, those that could not be used included."""
        with self._lock:
            return self._stamps.timing

    @property
    def report(self) -> CameraReport:
        """How the camera is."""
        with self._lock:
            silent_s = self.pulse.silent_s
            if self._state is CameraState.WATCHING and silent_s > SILENT_S:  # stuck inside the driver
                since_ns = self._arrivals_ns[-1] if self._arrivals_ns else self._since_ns
                return CameraReport(CameraState.LOST, since_ns, f"no picture for {silent_s:.0f} s", self._rate_hz())
            return CameraReport(self._state, self._since_ns, self._says, self._rate_hz())

    @property
    def overtaken(self) -> int:
        """Frames that a newer one replaced before anybody asked for them."""
        with self._lock:
            return self._overtaken

    def remarks(self) -> list[str]:
        """What a technician should know, a sentence each."""
        said = self.timing.remarks()
        if self._alignment.distrust is not None:
            said.append(f"{self._alignment.distrust}: the instants of arrival are used, which are less exact")
        elif self._alignment.jumps:
            said.append(f"time stamps jumped {self._alignment.jumps} times")
        return said

    def next_frame(self, timeout_s: float) -> Frame | None:
        """The newest frame that nobody has had yet; None when none came within this time. [s]"""
        with self._lock:
            self._lock.wait_for(lambda: self._newest is not None, timeout_s)
            frame, self._newest = self._newest, None
            return frame

    def frames(self) -> Iterator[Frame]:
        """The newest frames, for ever.

        Raises:
            BadInput: None came for as long as the patience lasts.
        """
        while True:
            frame = self.next_frame(self._patience_s if self._patience_s is not None else LONGEST_RETRY_S)
            if frame is not None:
                yield frame
            elif self._patience_s is not None:
                raise self._nothing_came()

    def moments(self) -> Iterator[Frame | Unwatched]:
        """The newest frames for ever, and once a second without one that time has gone by, and why."""
        while True:
            frame = self.next_frame(TICK_S)
            if frame is not None:
                yield frame
                continue
            report = self.report
            yield Unwatched(self._clock_ns() - round(ON_THE_WAY_S * 1e9), report.state, report.since_ns)

    def _nothing_came(self) -> BadInput:
        return BadInput(f"{self._name}: expected pictures, found none within {self._patience_s:.0f} s ({self._says})")

    # ---------------------------------------------------------------------------------------------------- the thread

    def _read_for_ever(self) -> None:
        failures, told = 0, ""
        while not self._stopping.is_set():
            began_ns = self._clock_ns()
            try:
                self._read_while_it_lasts()
            except CameraGone as gone:
                why = str(gone)
            except Exception as surprise:  # a driver's mood must not end the watching for ever
                log.exception("the camera's reader stumbled")
                why = type(surprise).__name__
            else:
                return
            lasted_ns = self._clock_ns() - began_ns
            failures = 1 if lasted_ns > STEADY_S * 1e9 else failures + 1
            bound_s = min(LONGEST_RETRY_S, self._first_retry_s * 2.0 ** min(failures - 1, 16))
            self._note(CameraState.LOST, why)
            if why != told or failures == 1:
                log.warning("no pictures from %s: %s; it is tried again for ever", self._name, why)
            told = why
            wait_s = self._random.uniform(bound_s / 2, bound_s)
            self.pulse.beat(rest_s=wait_s)
            self._stopping.wait(wait_s)

    def _read_while_it_lasts(self) -> None:
        camera = self._open()
        try:
            log.info("camera open: %s", self._name)
            judge = PictureJudge()
            self._alignment.restart()
            with self._lock:
                self._stamps.declared_hz = camera.declared_hz
                self._arrivals_ns.clear()
                self._opened_ns = self._clock_ns()
            while not self._stopping.is_set():
                shot = camera.read()
                self._take_in(shot, self._clock_ns(), judge)
        finally:
            camera.close()

    def _take_in(self, shot: Shot, arrived_ns: int, judge: PictureJudge) -> None:
        instant = self._instant(shot, arrived_ns)
        size_px = (shot.image_bgr.shape[1], shot.image_bgr.shape[0])
        state = judge.look(arrived_ns, shot.image_bgr)
        with self._lock:
            self.pulse.beat()
            self._arrivals_ns.append(arrived_ns)
            while self._arrivals_ns[0] < arrived_ns - RATE_OVER_S * 1e9:
                self._arrivals_ns.popleft()
            if instant is None or not self._stamps.accept(instant.captured_ns):
                return
            if self._size_px is None:
                self._size_px = size_px
            if size_px != self._size_px:
                want, got = ("x".join(map(str, size)) for size in (self._size_px, size_px))
                self._note(CameraState.OTHER_SIZE, f"pictures of {got}, expected {want}")
                return
            self._note(state, IN_WORDS.get(state, ""), judge.since_ns if state is CameraState.FROZEN else arrived_ns)
            if state is not CameraState.WATCHING:
                return
            self._overtaken += self._newest is not None
            self._newest = Frame(
                captured_ns=instant.captured_ns,
                captured_sigma_s=instant.sigma_s,
                time_kind=instant.kind,
                image_bgr=shot.image_bgr,
            )
            self._lock.notify_all()

    def _instant(self, shot: Shot, arrived_ns: int) -> Instant | None:
        if shot.is_boottime and shot.stamp_ns is not None:
            return Instant(shot.stamp_ns, SENSOR_SIGMA_S, TimeKind.SENSOR)
        return self._alignment.place(shot.stamp_ns, arrived_ns)

    def _note(self, state: CameraState, says: str, since_ns: int | None = None) -> None:
        with self._lock:
            self._says = says
            if state is self._state:
                return
            self._state = state
            if since_ns is None:
                since_ns = self._arrivals_ns[-1] if self._arrivals_ns else self._clock_ns()
            self._since_ns = since_ns
        log.info("camera: %s%s", state.value, f" ({says})" if says else "")

    def _rate_hz(self) -> float | None:
        """Over the last seconds; None before it has been open for so long. Called with the lock held. [1/s]"""
        begin_ns = self._clock_ns() - round(RATE_OVER_S * 1e9)
        if self._opened_ns > begin_ns:
            return None
        return sum(at >= begin_ns for at in self._arrivals_ns) / RATE_OVER_S


SENSOR_SIGMA_S = 0.0001  # the sensor's own clock; the rolling shutter is not in it
IN_WORDS = {
    CameraState.FROZEN: "the picture does not change",
    CameraState.BLACK: "the picture is black",
    CameraState.DARK: "too little light to measure",
}
