"""How a live camera is: what its source says, the service tells, and the windows count as not watched."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CameraState(str, Enum):
    """What a live source has to say about its camera. Only :attr:`WATCHING` delivers frames."""

    OPENING = "opening"  # no picture yet, since the start
    WATCHING = "watching"  # pictures that can be measured
    LOST = "lost"  # no pictures any more; it is tried again for ever
    OTHER_SIZE = "other_size"  # pictures of another size than calibrated
    FROZEN = "frozen"  # the same picture again and again
    BLACK = "black"  # nothing in the picture: a cover, or a broken sensor
    DARK = "dark"  # night: too little light to measure. A state of the street, not a failure of the camera


@dataclass(frozen=True, slots=True)
class CameraReport:
    """What a live source says about its camera.

    Attributes:
        state: How it is.
        since_ns: Since when, on the source's clock; for a frozen picture since it last changed. [ns]
        says: The same in words, empty while it watches. No secret, no address with one.
        frames_per_s: Frames that the camera delivers, over the last seconds, used or not; None before it has
            delivered for so long. [1/s]
    """

    state: CameraState
    since_ns: int
    says: str
    frames_per_s: float | None


@dataclass(frozen=True, slots=True)
class Unwatched:
    """Time went by without a frame that can be measured.

    Attributes:
        captured_ns: Until this instant, on the source's clock; no frame from before it comes any more. [ns]
        state: Why.
        since_ns: Since when: what was believed to be watched since then was not. [ns]
    """

    captured_ns: int
    state: CameraState
    since_ns: int
