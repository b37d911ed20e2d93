"""Frames in, passages out. Composes the stages and adds nothing but order.

Everything here lives in memory and is forgotten with the vehicle. Nothing looks at a clock, a disk or a socket: time
arrives in the frames, so a recording gives the same numbers at any pace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from calibration.road_plane import RoadPlane
from edge.domain import Detections, Flag, Frame, Passage, Path, Sightings, Trajectory
from edge.localise import Localiser
from edge.track import LiveTrack, Tracker
from edge.watch import CameraWatch
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
    """The measuring half of the device.

    Args:
        plane: Road plane as calibrated, in the frame of the site's axis.
        detector: Finds road users.
        watch: Tells when the camera has turned, and the road plane to go on with.
        tracker: Follows road users on that plane.
        estimator_for: Makes the estimator for a road plane.
        zone: Where speeds are measured.
    """

    def __init__(
        self,
        *,
        plane: RoadPlane,
        detector: Detector,
        watch: CameraWatch,
        tracker: Tracker,
        estimator_for: Callable[[RoadPlane], PathEstimator],
        zone: Zone,
    ) -> None:
        self._detector = detector
        self._localiser = Localiser(plane)
        self._tracker = tracker
        self._estimator_for = estimator_for
        self._estimator = estimator_for(plane)
        self.watch = watch
        self.zone = zone
        self._turnstile = Turnstile()
        self.inferences = 0
        self.view: View | None = None
        self._zero_ns: int | None = None

    @property
    def impaired_by(self) -> Flag | None:
        """Why the latest frame measures nothing; None when all is well."""
        return self.watch.impaired_by

    def step(self, frame: Frame) -> list[Passage]:
        """Take in one frame; return the passages that became certain with it.

        Raises:
            ValueError: the frame is not later than the one before it.
        """
        if self._zero_ns is None:
            self._zero_ns = frame.captured_ns
        detections = self._detector.detect(frame)
        self.inferences += 1
        plane = self.watch.look(frame, detections)
        if plane is not None:
            self._turn_to(plane)
        time_s = (frame.captured_ns - self._zero_ns) / 1e9
        sightings = self._localiser.locate(time_s, frame.captured_sigma_s, detections)
        gone = self._tracker.follow(sightings)
        self.view = View(sightings, self._tracker.live)
        through = self._turnstile.admit(self._passages(gone), frame.captured_ns)
        return [self.watch.judged(passage) for passage in through]

    def finish(self) -> list[Passage]:
        """End of a recording: the passages of everyone still in view."""
        self.watch.finish()
        through = self._turnstile.admit(self._passages(self._tracker.finish()), 0) + self._turnstile.finish()
        return [self.watch.judged(passage) for passage in through]

    def _turn_to(self, plane: RoadPlane) -> None:
        self._localiser = Localiser(plane)
        self._tracker.turn_to(plane)
        self._estimator = self._estimator_for(plane)

    def _passages(self, trajectories: list[Trajectory]) -> list[Passage]:
        paths = [self._estimator.estimate(trajectory) for trajectory in trajectories]
        made = [self.zone.passage(path, self._zero_ns or 0) for path in paths if path is not None]
        return [passage for passage in made if passage is not None]
