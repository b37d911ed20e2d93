"""A session beside the street: speeds typed from a gun's display against the passages of the camera, in memory only.

A technician reads the gun and types what it shows; our passages come from the source of the settings file. Both stay
in this process and are shown on its screen. What may be kept is the summary, in which no vehicle can be found again.
"""

from __future__ import annotations

import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TextIO

import numpy as np

from calibration.units import kmh_from_mps
from calibration.verify import READING_SIGMA_KMH, Passed, Readings, Verification, passed_of, verify
from edge.domain import Direction, Frame, Passage
from edge.pipeline import Pipeline

LATE_S = (-3.0, 20.0)  # from a passage to the Enter key: read, said aloud, typed
FASTEST_KMH, SLOWEST_KMH = 300.0, 1.0
PROGRESS_S = 60.0
HELP = (
    "Type each reading and Enter, about as soon after every vehicle: 38 | 38 f (forward) | 38 b (backward)"
    " | 38 f 2 (lane 2); - takes the last one back, q ends."
)
_TYPED = re.compile(r"(?P<kmh>\d{1,3}(?:[.,]\d+)?)(?:\s+(?P<way>[fb]))?(?:\s+(?P<lane>[\w-]{1,20}))?")
_WAYS = {"f": Direction.FORWARD.value, "b": Direction.BACKWARD.value, None: ""}


class Keyboard(Protocol):
    """Where readings come from."""

    is_over: bool

    def lines(self) -> Iterator[str]:
        """What has been typed since the last call."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One typed reading.

    Attributes:
        number: From 1, as shown.
        time_s: When Enter was pressed, on the camera's clock. [s]
        read_kmh: What the display showed. [km/h]
        direction: ``forward``, ``backward`` or empty.
        lane: As typed; empty when not.
    """

    number: int
    time_s: float
    read_kmh: float
    direction: str
    lane: str


@dataclass(slots=True)
class Session:
    """Readings and passages of one session, and what they say together.

    Attributes:
        angle_deg: Between the gun's line of sight and the road. [°]
        sigma_kmh: One standard deviation of a reading. [km/h]
        device: What kind of reference.
    """

    angle_deg: float = 0.0
    sigma_kmh: float = READING_SIGMA_KMH
    device: str = ""
    is_over: bool = False
    _readings: list[Reading] = field(default_factory=list)
    _passages: list[tuple[float, float, float, bool, float]] = field(default_factory=list)
    _told: dict[int, float] = field(default_factory=dict)  # of a reading: our speed, as last shown
    _typed: int = 0

    def hear(self, line: str, time_s: float) -> str:
        """Takes in a typed line; what to answer.

        Args:
            line: As typed.
            time_s: When, on the camera's clock. [s]
        """
        words = line.strip().lower()
        if words in ("q", "quit"):
            self.is_over = True
            return "ended"
        if words == "-":
            if not self._readings:
                return "there is no reading to take back"
            gone = self._readings.pop()
            self._told.pop(gone.number, None)
            return f"{gone.number:3d}  {gone.read_kmh:g} km/h taken back"
        match = _TYPED.fullmatch(words)
        read_kmh = float(match["kmh"].replace(",", ".")) if match else 0.0
        if match is None or not SLOWEST_KMH <= read_kmh <= FASTEST_KMH:
            return f"expected a speed such as 38 or 38 f, got '{line.strip()}'"
        self._typed += 1
        self._readings.append(Reading(self._typed, time_s, read_kmh, _WAYS[match["way"]], match["lane"] or ""))
        return f"{self._typed:3d}  {read_kmh:g} km/h {_WAYS[match['way']]}".rstrip()

    def see(self, passages: Iterable[Passage]) -> bool:
        """Takes in passages; whether there were any."""
        before = len(self._passages)
        for passage in passages:
            speed = passage.speed
            self._passages.append(
                (
                    passage.middle_ns / 1e9,
                    float("nan") if speed is None else kmh_from_mps(speed.speed_mps),
                    float("nan") if speed is None else kmh_from_mps(speed.sigma_mps),
                    passage.direction is Direction.FORWARD,
                    passage.lateral_m,
                )
            )
        return len(self._passages) > before

    @property
    def result(self) -> Verification:
        """Everything so far, paired and compared."""
        return verify(self.passed, self.readings, offsets_s=LATE_S)

    @property
    def passed(self) -> Passed:
        """The passages so far."""
        return passed_of(self._passages)

    @property
    def readings(self) -> Readings:
        """The readings so far."""
        n = len(self._readings)
        return Readings(
            times_s=np.array([each.time_s for each in self._readings], dtype=np.float64),
            read_kmh=np.array([each.read_kmh for each in self._readings], dtype=np.float64),
            sigma_kmh=np.full(n, self.sigma_kmh),
            angle_deg=np.full(n, self.angle_deg),
            directions=tuple(each.direction for each in self._readings),
            lanes=tuple(each.lane for each in self._readings),
            origin=tuple(f"reading {each.number}" for each in self._readings),
            device=self.device,
        )

    def news(self) -> Iterator[str]:
        """Pairs that are new, or have another partner since they were last shown."""
        if not self._readings or not self._passages:
            return
        result = self.result
        for row, passage in result.pairing.pairs:
            ours, sigma = result.passed.speeds_kmh[passage], result.passed.sigma_kmh[passage]
            number = self._readings[row].number
            if self._told.get(number) == ours:
                continue
            self._told[number] = float(ours)
            gun = result.readings.speeds_kmh[row]
            yield f"{number:3d}  gun {gun:.1f}, ours {ours:.1f} ± {2 * sigma:.1f} km/h: {ours - gun:+.1f}"

    def progress(self, elapsed_s: float) -> str:
        """Where the session stands, in one line."""
        measured = sum(row[1] == row[1] for row in self._passages)
        says = f"     {elapsed_s / 60:.0f} min: {measured} of {len(self._passages)} vehicles measured"
        if not self._readings:
            return f"{says}, no reading yet"
        agreement = self.result.agreement if self._passages else None
        if agreement is None:
            return f"{says}, {len(self._readings)} readings, fewer than two pairs"
        low, high = agreement.bias_interval
        return (
            f"{says}, {len(self._readings)} readings, bias {agreement.bias_kmh:+.2f} ({low:+.2f} to {high:+.2f}) km/h"
        )


def beside_the_street(
    frames: Iterable[Frame],
    pipeline: Pipeline,
    session: Session,
    *,
    typed: Keyboard,
    lasts_s: float,
    say: Callable[[str], None],
) -> None:
    """Runs a session until its time is over, or it is ended by the technician or by the source.

    Args:
        frames: At the pace of the street.
        pipeline: Frames to passages.
        session: Takes everything in.
        typed: Where readings come from.
        lasts_s: How long at most. [s]
        say: Shows a line.
    """
    began_s: float | None = None
    progress_s = PROGRESS_S
    for frame in frames:
        now_s = frame.captured_ns / 1e9
        began_s = now_s if began_s is None else began_s
        has_news = session.see(pipeline.step(frame))
        for line in typed.lines():
            say(session.hear(line, now_s))
            has_news = True
        if has_news:
            for news in session.news():
                say(news)
        if now_s - began_s >= progress_s:
            say(session.progress(now_s - began_s))
            progress_s += PROGRESS_S
        if session.is_over or typed.is_over or now_s - began_s >= lasts_s:
            break
    session.see(pipeline.finish())
    for news in session.news():
        say(news)


class Typist:
    """Lines as they are typed, read by a thread of its own so that the camera need not wait for them."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdin if stream is None else stream
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.is_over = False  # end of input (Ctrl-D): no more readings
        threading.Thread(target=self._listen, daemon=True, name="typed readings").start()

    def lines(self) -> Iterator[str]:
        """What has been typed since the last call."""
        while not self._waiting.empty():
            line = self._waiting.get()
            if line is None:
                self.is_over = True
            elif line.strip():
                yield line

    def _listen(self) -> None:
        for line in self._stream:
            self._waiting.put(line)
        self._waiting.put(None)


def at_its_pace(frames: Iterable[Frame], stop: threading.Event) -> Iterator[Frame]:
    """Frames of a file at the times at which they were taken, until someone says stop."""
    zero_s: float | None = None
    for frame in frames:
        taken_s = frame.captured_ns / 1e9
        zero_s = time.monotonic() - taken_s if zero_s is None else zero_s
        if stop.wait(max(0.0, zero_s + taken_s - time.monotonic())):
            return
        yield frame
