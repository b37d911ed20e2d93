"""Frames in, passages out. Composes the stages and adds nothing but order.

Everything here lives in memory and is forgotten with the vehicle. Nothing looks at a clock, a disk or a socket: time
arrives in the frames, so a recording gives the same numbers at any pace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge.domain import Detections, Frame, Passage, Path, Sightings, Trajectory
from edge.localise import Localiser
from edge.track import LiveTrack, Tracker
from edge.zones import Turnstile, Zone


class Detector(Protocol):
    """Anything that finds road users in a frame."""

    def detect(self, frame: Frame) -> Detections:
        """Road users in one frame."""
        ...


class PathEstimator(Protocol):
    """Anything that turns the boxes of a road user into its path."""

    def estimate(self, trajectory: Trajectory) -> Path | None:
        """The path; None for what did not travel."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the pipeline makes of the latest frame; for drawing, never for keeping.

    Attributes:
        sightings: Every detection with its place on the road.
        tracks: Road users seen in this frame.
    """

    sightings: Sightings
    tracks: list[LiveTrack]


class Pipeline:
    """The measuring half of the device."""

    def __init__(
        self, *, detector: Detector, localiser: Localiser, tracker: Tracker, estimator: PathEstimator, zone: Zone
    ) -> None:
        self._detector = detector
        self._localiser = localiser
        self._tracker = tracker
        self._estimator = estimator
        self.zone = zone
        self._turnstile = Turnstile()
        self.inferences = 0
        self.view: View | None = None
        self._zero_ns: int | None = None

    def step(self, frame: Frame) -> list[Passage]:
        """Take in one frame; return the passages that became certain with it.

        Raises:
            ValueError: the frame is not later than the one before it.
        """
        if self._zero_ns is None:
            self._zero_ns = frame.captured_ns
        detections = self._detector.detect(frame)
        self.inferences += 1
        time_s = (frame.captured_ns - self._zero_ns) / 1e9
        sightings = self._localiser.locate(time_s, frame.captured_sigma_s, detections)
        gone = self._tracker.follow(sightings)
        self.view = View(sightings, self._tracker.live)
        return self._turnstile.admit(self._passages(gone), frame.captured_ns)

    def finish(self) -> list[Passage]:
        """End of a recording: the passages of everyone still in view."""
        return self._turnstile.admit(self._passages(self._tracker.finish()), 0) + self._turnstile.finish()

    def _passages(self, trajectories: list[Trajectory]) -> list[Passage]:
        paths = [self._estimator.estimate(trajectory) for trajectory in trajectories]
        made = [self.zone.passage(path, self._zero_ns or 0) for path in paths if path is not None]
        return [passage for passage in made if passage is not None]
