"""The camera watch: does the camera still stand as it was calibrated?

Once a second it compares static corners of the picture with the reference of the certificate
(:mod:`calibration.drift`), or with one learnt from its own first seconds when the certificate has none. A single
comparison decides nothing: a gust turns a pole for a moment. The median of the last five does.

- It stands: measure.
- It has turned a little, has come to rest and it is well known by how much: the road plane is turned with it, with the
  added uncertainty, and measuring goes on.
- It has turned otherwise, or looks at something else: speeds stop, counting goes on.

A step is noticed with the third comparison after it, so within :data:`NOTICED_WITHIN_S`; one second later when the
camera looks at something else, because at first nothing there has stood still. A turn back is a turn too.
Passages that overlap the time between the last comparison that was right and the end of the doubt lose their speed.

Limits: a learnt reference knows nothing of what happened before the start. Where too little of the street can be
recognised (night, fog, snow) nothing is claimed, and after two minutes status says so. Sway faster than a second
averages out here and belongs to the uncertainty of speeds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from calibration.drift import Comparison, Grey, Reference, middle_of, smoothed, turned
from calibration.road_plane import RoadPlane
from edge.domain import Detections, Flag, Floats, Frame, Passage, Pixels, Reason

CHECK_S = 1.0
LAST = 5  # comparisons that decide together
LEAST = 3  # of them agree before anything is said: two can be a gust
NOTICED_WITHIN_S = LEAST * CHECK_S + 0.5  # after a step; half a second for the frame that comes next
FORGOTTEN_AFTER_S = 12.0  # a comparison older than this says nothing about now
ALARM_RAD = math.radians(0.05)  # at 25 m and a height of 6 m, 0.7 % of speed; sigmas are added to it
SIGMAS = 3.0
STEADY_RAD = math.radians(0.02)  # spread of the last comparisons of a camera that has come to rest
MOST_TURN_RAD = math.radians(1.0)  # beyond, the unknown sideways shift alone costs more than 2 % of speed
CHANGED_SHARE = 0.6  # of the corners stand still and are not the reference: it looks at something else
SEEN_WITHIN_S = 15.0  # of the last right comparison: what changes slowly is the light
BLIND_AFTER_S = 120.0  # without one comparison that tells anything; a queue of lorries is gone by then
LEARN_FROM = 5  # pictures, CHECK_S apart
DOUBTS_KEPT_S = 300.0  # passages are long gone then


class Stance(str, Enum):
    """How the camera stands."""

    LEARNING = "learning"  # there is no reference yet
    STANDS = "stands"  # as calibrated, as far as can be seen
    TURNED = "turned"  # a little, and the road plane with it
    MOVED = "moved"  # speeds may not be told


@dataclass(frozen=True, slots=True)
class Sight:
    """One comparison that told a rotation.

    Attributes:
        captured_ns: Instant of the frame. [ns]
        rotation_rad: From the reference, shape (3,). [rad]
        covariance: Shape (3, 3). [rad²]
    """

    captured_ns: int
    rotation_rad: Floats
    covariance: Floats


class CameraWatch:
    """Watches one camera.

    Args:
        plane: Road plane as calibrated, in the frame of the site's axis.
        reference: Of the certificate; None: learn one.
    """

    def __init__(self, plane: RoadPlane, reference: Reference | None = None) -> None:
        self._calibrated = plane
        self._reference = reference
        self.is_learnt = reference is None
        self.stance = Stance.LEARNING if reference is None else Stance.STANDS
        self.turn_rad: Floats = np.zeros(3)  # rotation of the plane in use from the calibrated one
        self.moves = 0
        self._pictures: list[Pixels] = []
        self._covered: list[Floats] = []
        self._sights: deque[Sight] = deque(maxlen=LAST)
        self._strange = 0  # comparisons in a row that saw something else
        self._before: Grey | None = None
        self._looked_ns: int | None = None
        self._stood_ns: int | None = None  # last comparison that was right
        self._now_ns = 0
        self._told_ns: int | None = None  # last comparison that told a rotation, or when watching began
        self._doubts: list[tuple[int, int | None]] = []  # from, to; None: not over

    @property
    def impaired_by(self) -> Flag | None:
        """Why the latest frame measures nothing; None when it does."""
        is_over = not self._doubts or (self._doubts[-1][1] or self._now_ns) < self._now_ns
        return None if is_over else Flag.CAMERA_MOVED

    @property
    def is_blind(self) -> bool:
        """Whether nothing of the street has been recognised for a while: a turn would go unnoticed."""
        return self._told_ns is not None and self._now_ns - self._told_ns > BLIND_AFTER_S * 1e9

    def look(self, frame: Frame, detections: Detections) -> RoadPlane | None:
        """Take in a frame; the road plane to measure with from now on when that has changed, else None."""
        self._now_ns = frame.captured_ns
        if self._told_ns is None:
            self._told_ns = frame.captured_ns
        if self._looked_ns is not None and frame.captured_ns - self._looked_ns < CHECK_S * 1e9:
            return None
        self._looked_ns = frame.captured_ns
        if self._reference is None:
            self._learn(frame, detections)
            return None
        grey = smoothed(frame.image_bgr)
        comparison = self._reference.compare(
            self._calibrated.camera,
            grey,
            hidden=detections.boxes_xyxy_px,
            expected_rad=self._sights[-1].rotation_rad if self._sights else self.turn_rad,
            before=self._before,
        )
        self._before = grey
        self._note(comparison)
        return self._decide()

    def summary(self) -> dict[str, Any]:
        """What became of the camera, for people who replay a clip."""
        down, left, roll = (round(math.degrees(angle), 3) for angle in self.turn_rad)
        return {
            "reference": "certificate" if not self.is_learnt else "none" if self._reference is None else "learnt",
            "stance": self.stance.value,
            "moves": self.moves,
            "turn_deg": {"down": down, "left": left, "roll": roll},
            "noticed_within_s": NOTICED_WITHIN_S,
            "doubts_s": [[begin / 1e9, None if end is None else end / 1e9] for begin, end in self._doubts],
        }

    def finish(self) -> None:
        """End of a recording: what was suspected in its last seconds counts as doubt."""
        if self._sights and self.stance is not Stance.MOVED and not self._is_right(self._sights[-1]):
            self._doubts.append((self._stood_ns or 0, None))

    def judged(self, passage: Passage) -> Passage:
        """The passage, without its speed when the camera was in doubt while it was measured."""
        around_ns = (passage.left_ns - passage.entered_ns) // 2  # boxes before and after the zone take part in the fit
        first_ns, last_ns = passage.entered_ns - around_ns, passage.left_ns + around_ns
        in_doubt = any(first_ns <= (end or last_ns) and last_ns >= begin for begin, end in self._doubts)
        if passage.speed is None or not in_doubt:
            return passage
        return replace(passage, speed=None, reason=Reason.CAMERA_MOVED)

    def _learn(self, frame: Frame, detections: Detections) -> None:
        self._pictures.append(frame.image_bgr.copy())
        self._covered.append(detections.boxes_xyxy_px)
        if len(self._pictures) < LEARN_FROM:
            return
        self._reference = Reference.learn(self._pictures, np.concatenate(self._covered))
        if self._reference is None:  # traffic everywhere, or nothing to see: again with the next pictures
            del self._pictures[0], self._covered[0]
            return
        self._pictures, self._covered = [], []
        self._stood_ns = frame.captured_ns
        self.stance = Stance.STANDS

    def _note(self, comparison: Comparison) -> None:
        oldest_ns = self._now_ns - FORGOTTEN_AFTER_S * 1e9
        while self._sights and self._sights[0].captured_ns < oldest_ns:
            self._sights.popleft()
        if comparison.rotation_rad is None or comparison.covariance is None:
            is_strange = comparison.changed is not None and comparison.changed > CHANGED_SHARE
            self._strange = self._strange + 1 if is_strange else 0
            return
        self._strange = 0
        self._told_ns = self._now_ns
        self._sights.append(Sight(self._now_ns, comparison.rotation_rad, comparison.covariance))
        if self._is_right(self._sights[-1]):
            self._stood_ns = self._now_ns

    def _is_right(self, sight: Sight) -> bool:
        return _within(sight.rotation_rad - self.turn_rad, sight.covariance)

    def _decide(self) -> RoadPlane | None:
        if self.stance is Stance.MOVED:
            return self._settle()
        if self._looks_elsewhere() or self._has_turned():
            self.stance = Stance.MOVED
            self.moves += 1
            oldest_ns = self._now_ns - DOUBTS_KEPT_S * 1e9
            self._doubts = [doubt for doubt in self._doubts if doubt[1] is not None and doubt[1] > oldest_ns]
            self._doubts.append((self._stood_ns or 0, None))
        return None

    def _looks_elsewhere(self) -> bool:
        recently = self._stood_ns is not None and self._now_ns - self._stood_ns < SEEN_WITHIN_S * 1e9
        return recently and self._strange >= LEAST

    def _has_turned(self) -> bool:
        if len(self._sights) < LEAST:
            return False
        middle, spread, covariance = self._median()
        return not _within(middle - self.turn_rad, covariance + np.diag(spread**2) / len(self._sights))

    def _settle(self) -> RoadPlane | None:
        """The turned plane when the camera has come to rest nearby, None while it has not."""
        if len(self._sights) < LAST or self._strange:
            return None
        middle, spread, covariance = self._median()
        if spread.max() > STEADY_RAD or np.abs(middle).max() > MOST_TURN_RAD:
            return None
        if max(np.abs(sight.rotation_rad - middle).max() for sight in self._sights) > 3 * STEADY_RAD:
            return None
        is_back = _within(middle, covariance)
        self.turn_rad = np.zeros(3) if is_back else middle
        self.stance = Stance.STANDS if is_back else Stance.TURNED
        self._doubts[-1] = (self._doubts[-1][0], self._now_ns)
        self._stood_ns = self._now_ns
        return self._calibrated if is_back else turned(self._calibrated, middle, covariance + np.diag(spread**2))

    def _median(self) -> tuple[Floats, Floats, Floats]:
        """Median rotation of the last comparisons, their robust spread (3,), and the covariance of one of them."""
        rotations = np.array([sight.rotation_rad for sight in self._sights])
        middle = middle_of(rotations)
        spread = 1.4826 * middle_of(np.abs(rotations - middle))
        return middle, spread, middle_of([sight.covariance for sight in self._sights])


def _within(rotation_rad: Floats, covariance: Floats) -> bool:
    """Whether a rotation is too small to be told from none."""
    bound = ALARM_RAD + SIGMAS * np.sqrt(np.diag(covariance))
    return bool(np.all(np.abs(rotation_rad) <= bound))
