"""Frames in, passages out. Composes the stages and adds nothing but order.

The detector costs more than all the rest together, so it looks only when that can tell something: when the road has
changed since it last looked, and when a speed needs another sample by now. As long as nothing changes it would say the
same again, so what it saw last is repeated: standing vehicles stay known, those that left are gone.

Everything here lives in memory and is forgotten with the vehicle. Nothing looks at a clock, a disk or a socket: time
arrives in the frames, so a recording gives the same numbers at any pace.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from calibration.road_plane import RoadPlane
from edge.domain import Detections, Flag, Floats, Frame, Passage, Path, Region, Sightings, Trajectory
from edge.localise import Localiser, bottom_centres
from edge.motion import Cadence, MotionGate, is_new, is_travelling
from edge.track import LiveTrack, Tracker
from edge.watch import CameraWatch
from edge.zones import Turnstile, Zone

STILL_S = 0.3  # between repeats of what was seen while nothing changes; new tracks end sooner than 0.35 s
LEAST_FRAMES_HZ = 5.0  # measured with fewer, close neighbours are confused and the fast are seen too seldom
RATE_OVER_S = 4.0  # time constant of the rate of frames
LONGEST_STEP_S = 1.0  # between frames; a longer one is a gap, which says nothing about the rate
STALE_S = 10.0  # the detector looks at the whole road after this time at the latest, changed or not
GLANCE_MARGIN = 0.25  # of a box's width and height, around where it was and where it is expected


class Detector(Protocol):
    """Anything that finds road users in a frame."""

    def detect(self, frame: Frame) -> Detections:
        """Road users in one frame."""
        ...


class Glance(Protocol):
    """Anything that finds road users in a part of a frame, for less."""

    def part(self, needed_xyxy_px: Floats) -> Region | None:
        """The part that would be looked at to see a box, shape (4,); None when all must be. [px]"""
        ...

    def detect(self, frame: Frame, part_px: Region, before: Detections, changed_px: Floats) -> Detections | None:
        """Road users in one frame: those in the part as they are, the others as they were.

        None when somebody stands where it has changed and reaches beyond the part.
        """
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
        gate: Tells when nothing on the road has changed; None: it always may have.
        cadence: Tells how often to look at a road that changes; None: at every frame.
        glance: Looks at the part of the road in which somebody travels while nothing else changes; None: every look is
            at all of it.
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
        gate: MotionGate | None = None,
        cadence: Cadence | None = None,
        glance: Glance | None = None,
    ) -> None:
        self._gate = gate
        self._cadence = cadence
        self._glance = glance
        self._detections = Detections.none()
        self._checked_ns: int | None = None  # when it was last asked whether the detector should look
        self._looked_ns: int | None = None  # when the detector looked
        self._saw_all_ns: int | None = None  # and when at the whole road
        self._part_px: Region | None = None  # of its latest look; None: all
        self._followed_ns: int | None = None  # when the tracker was last told
        self._detector = detector
        self._plane = plane
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
        self._stepped_ns: int | None = None
        self._step_s: float | None = None

    @property
    def frames_hz(self) -> float | None:
        """Frames a second, lately; None before the second one. Fewer than the camera delivers when they overtake us."""
        return None if self._step_s is None else 1.0 / self._step_s

    @property
    def has_gate(self) -> bool:
        """Whether the detector rests while nothing on the road has changed."""
        return self._gate is not None

    @property
    def impaired_by(self) -> Flag | None:
        """Why the latest frame measures nothing; None when all is well."""
        if self.watch.impaired_by is not None:
            return self.watch.impaired_by
        is_slow = self.frames_hz is not None and self.frames_hz < LEAST_FRAMES_HZ
        return Flag.FRAME_RATE if is_slow else None

    def step(self, frame: Frame) -> list[Passage]:
        """Take in one frame; return the passages that became certain with it.

        Raises:
            ValueError: the frame is not later than the one before it.
        """
        if self._zero_ns is None:
            self._zero_ns = frame.captured_ns
        if self._since(self._stepped_ns, frame) <= 0:
            raise ValueError(f"frames must be in order of time: {frame.captured_ns} ns after {self._stepped_ns} ns")
        self._note_rate(frame)
        self._stepped_ns = frame.captured_ns
        has_looked = self._is_due(frame) and self._look(frame)
        plane = self.watch.look(frame, self._detections)
        if plane is not None:
            self._turn_to(plane)
        is_told = has_looked or self._since(self._followed_ns, frame) >= STILL_S
        gone = self._follow(frame) if is_told else []
        if has_looked and self._gate is not None:
            moving_px = np.array([track.box_xyxy_px for track in self._moving()]).reshape(-1, 4)
            self._gate.looked(moving_px, self._part_px)
        through = self._turnstile.admit(self._passages(gone), frame.captured_ns)
        return [self.watch.judged(passage) for passage in through]

    def pause(self, captured_ns: int) -> list[Passage]:
        """No frame has come for a while, up to this instant: everyone in view has gone, who waited may pass. [ns]"""
        self._look_anew()
        through = self._turnstile.admit(self._passages(self._tracker.finish()), captured_ns)
        return [self.watch.judged(passage) for passage in through]

    def salvage(self) -> list[Passage]:
        """After a surprise in a stage: forget everyone in view, hand out the passages that were already complete."""
        self._tracker.forget()
        self._look_anew()
        return [self.watch.judged(passage) for passage in self._turnstile.finish()]

    def finish(self) -> list[Passage]:
        """End of a recording: the passages of everyone still in view."""
        self.watch.finish()
        through = self._turnstile.admit(self._passages(self._tracker.finish()), 0) + self._turnstile.finish()
        return [self.watch.judged(passage) for passage in through]

    def _look_anew(self) -> None:
        """What was seen counts for nothing any more."""
        self._detections = Detections.none()
        self._checked_ns = self._looked_ns = self._saw_all_ns = None

    def _note_rate(self, frame: Frame) -> None:
        step_s = self._since(self._stepped_ns, frame)
        if step_s > LONGEST_STEP_S:
            return
        step_before_s = step_s if self._step_s is None else self._step_s
        self._step_s = step_before_s + (step_s - step_before_s) * -math.expm1(-step_s / RATE_OVER_S)

    def _is_due(self, frame: Frame) -> bool:
        """Whether another sample would tell something by now, if the road has changed.

        A road on which nothing has changed since it was last checked is not checked sooner either.
        """
        if self._cadence is None:
            return True
        return self._since(self._checked_ns, frame) >= self._cadence.wait_s(self._tracker.live)

    def _look(self, frame: Frame) -> bool:
        """Ask the detector, unless nothing has changed since it last looked; whether it was asked.

        Who travels is looked at in any case: what does not stand still cannot be where it was.
        """
        self._checked_ns = frame.captured_ns
        has_changed = self._gate is None or self._gate.has_changed(frame)
        is_stale = self._since(self._saw_all_ns, frame) >= STALE_S
        if not (has_changed or is_stale or any(is_travelling(track) for track in self._tracker.live)):
            return False
        if is_stale or not self._glance_at(frame):
            self._detections, self._part_px = self._detector.detect(frame), None
            self._saw_all_ns = frame.captured_ns
            self.inferences += 1
        self._looked_ns = frame.captured_ns
        return True

    def _glance_at(self, frame: Frame) -> bool:
        """Look at the part of the picture in which somebody travels, or has come; whether that was enough."""
        if self._glance is None or self._gate is None:
            return False
        changed_px = self._gate.changed_px()
        if changed_px is None:
            return False
        part_px = self._part_in_motion(frame, changed_px, self._gate, self._glance)
        if part_px is None:
            return False
        self.inferences += 1
        found = self._glance.detect(frame, part_px, self._detections, bottom_centres(changed_px))
        if found is None:
            return False
        self._detections, self._part_px = found, part_px
        return True

    def _part_in_motion(self, frame: Frame, changed_px: Floats, gate: MotionGate, glance: Glance) -> Region | None:
        """The part of the picture that holds everyone who travels, or may do so, and all that has changed."""
        needed = self._boxes_in_motion(frame)
        part = glance.part(_around(needed)) if len(needed) else None
        if part is None and len(needed):
            return None
        if part is None or gate.has_changed_beyond(part):
            part = glance.part(_around(np.vstack([needed, changed_px])))
        return part

    def _moving(self) -> list[LiveTrack]:
        """Everyone who travels, or is not known long enough to say."""
        return [track for track in self._tracker.live if is_new(track) or is_travelling(track)]

    def _boxes_in_motion(self, frame: Frame) -> Floats:
        """Where those who travel, or may do so, were and are expected to be, shape (n, 4). [px]"""
        moving = self._moving()
        if not moving:
            return np.empty((0, 4))
        boxes = np.array([track.box_xyxy_px for track in moving])
        feet_m = np.array([track.position_m for track in moving])
        soon_m = feet_m + self._since(self._looked_ns, frame) * np.array([track.velocity_mps for track in moving])
        shifts = self._plane.project(soon_m) - self._plane.project(feet_m)
        boxes = np.concatenate([boxes, boxes + np.tile(shifts, 2)])
        return np.asarray(boxes + np.tile(GLANCE_MARGIN * (boxes[:, 2:] - boxes[:, :2]), 2) * [-1, -1, 1, 1])

    def _follow(self, frame: Frame) -> list[Trajectory]:
        """Tell the tracker what is on the road; the trajectories of those who have gone."""
        time_s = (frame.captured_ns - (self._zero_ns or 0)) / 1e9
        sightings = self._localiser.locate(time_s, frame.captured_sigma_s, self._detections)
        gone = self._tracker.follow(sightings)
        self._followed_ns = frame.captured_ns
        self.view = View(sightings, self._tracker.live)
        return gone

    def _since(self, instant_ns: int | None, frame: Frame) -> float:
        return math.inf if instant_ns is None else (frame.captured_ns - instant_ns) / 1e9

    def _turn_to(self, plane: RoadPlane) -> None:
        self._plane = plane
        self._localiser = Localiser(plane)
        self._tracker.turn_to(plane)
        if self._gate is not None:
            self._gate.turn_to(plane)
        self._estimator = self._estimator_for(plane)

    def _passages(self, trajectories: list[Trajectory]) -> list[Passage]:
        paths = [self._estimator.estimate(trajectory) for trajectory in trajectories]
        made = [self.zone.passage(path, self._zero_ns or 0) for path in paths if path is not None]
        return [passage for passage in made if passage is not None]


def _around(boxes_xyxy_px: Floats) -> Floats:
    """The box around boxes, shape (4,). [px]"""
    return np.concatenate([boxes_xyxy_px[:, :2].min(axis=0), boxes_xyxy_px[:, 2:].max(axis=0)])
