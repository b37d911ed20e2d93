"""How others derive a speed from the same boxes: for comparison, never for use.

Each rule is told anew from what its authors publish; it takes the place of the estimator in an otherwise equal
pipeline, so that detections, tracks and zone are identical. Two of them are compared with the libraries they come from:
``tests/ultralytics/test_recipe.py`` and ``tests/bench/test_supervision.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calibration import Calibration
from calibration.units import mps_from_kmh
from edge.domain import Floats, Ints, Path, RoadUser, Trajectory

MIN_TRAVEL_M = 5.0
STEP = 5  # boxes that a step of the data set's median rule spans
HISTORY = 5  # boxes after which Ultralytics' SpeedEstimator locks a speed for good
CAP_KMH = 120.0  # and what it never exceeds


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """What a recipe knows besides the boxes.

    Attributes:
        calibration: Of the site.
        instants_s: When the frames were taken, since the first, shape (frames,). [s]
        declared_hz: The rate that the file states. [Hz]
    """

    calibration: Calibration
    instants_s: Floats
    declared_hz: float

    @property
    def metres_per_px(self) -> float:
        """Scale along the road in the middle of the zone. [m]"""
        middle_m = self.calibration.site.length_m / 2
        ends = self.calibration.zone_plane.project(np.array([[middle_m - 0.5, 0.0], [middle_m + 0.5, 0.0]]))
        return 1.0 / float(np.hypot(*(ends[1] - ends[0])))

    def frame_numbers(self, times_s: Floats) -> Floats:
        """The frames of a trajectory, counted from the clip's first one."""
        return np.asarray(np.searchsorted(self.instants_s, times_s - 1e-6), dtype=np.float64)


Rule = Callable[[Trajectory, Ints, Footage], float]


class Recipe:
    """An estimator that reads one speed off a trajectory.

    Args:
        rule: Trajectory, its rows inside the zone and the footage, to a speed; NaN when it gives none. [m/s]
        footage: Where the trajectories come from.
    """

    def __init__(self, rule: Rule, footage: Footage) -> None:
        self._rule = rule
        self._footage = footage

    def estimate(self, trajectory: Trajectory) -> Path | None:
        """A straight path at the recipe's speed through the middle of the boxes in the zone."""
        along = trajectory.positions_m[:, 0]
        inside = np.flatnonzero((along >= 0) & (along <= self._footage.calibration.site.length_m))
        if len(inside) < STEP + 1 or abs(np.ptp(along)) < MIN_TRAVEL_M:
            return None
        speed = self._rule(trajectory, inside, self._footage)
        if not np.isfinite(speed) or speed == 0.0:
            return None
        times, positions = trajectory.times_s[inside], trajectory.positions_m[inside]
        speed = float(np.copysign(speed, positions[-1, 0] - positions[0, 0]))
        middle = len(times) // 2
        return Path(
            origin_s=float(times[middle]),
            along=np.array([np.median(positions[:, 0] - speed * (times - times[middle])), speed, 0.0, 0.0]),
            covariance_random=np.zeros((4, 4)),
            covariance_calibration=np.zeros((4, 4)),
            lateral_m=float(np.median(positions[:, 1])),
            observed_s=(float(trajectory.times_s[0]), float(trajectory.times_s[-1])),
            samples=len(inside),
            road_user=RoadUser.CAR,
            length_m=None,
            problem=None,
        )


def bottom_line(trajectory: Trajectory, inside: Ints, footage: Footage) -> float:
    """Least squares line through the bottom centres on the road."""
    times, along = trajectory.times_s[inside], trajectory.positions_m[inside, 0]
    return abs(float(np.polynomial.polynomial.polyfit(times - times[0], along, 1)[1]))


def median_of_five(trajectory: Trajectory, inside: Ints, footage: Footage) -> float:
    """Median of the speeds over steps of five boxes: the rule of BrnoCompSpeed (arXiv 1702.06451)."""
    times, positions = trajectory.times_s[inside], trajectory.positions_m[inside]
    steps = np.hypot(*(positions[STEP:] - positions[:-STEP]).T)
    return float(np.median(steps / (times[STEP:] - times[:-STEP])))


def last_second(trajectory: Trajectory, inside: Ints, footage: Footage) -> float:
    """The label as a vehicle leaves the zone in supervision's speed example.

    Bottom centres in whole metres along the road, the last ``fps`` of them; first to last, over n, not n - 1, intervals
    of the declared rate. No label before half a second is full.
    """
    along = trajectory.positions_m[inside, 0][-int(footage.declared_hz) :]
    if len(along) < footage.declared_hz / 2:
        return float("nan")
    return float(abs(np.trunc(along[-1]) - np.trunc(along[0])) * footage.declared_hz / len(along))


def first_five(trajectory: Trajectory, inside: Ints, footage: Footage) -> float:
    """Ultralytics' ``SpeedEstimator``: box centres, one metres-per-pixel, the first five boxes, the declared rate.

    The scale is set right for the middle of the zone. Whole km/h, rounded down and capped.
    """
    if len(trajectory) < HISTORY:
        return float("nan")
    boxes = trajectory.boxes_xyxy_px[[0, HISTORY - 1]]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    first, last = footage.frame_numbers(trajectory.times_s[[0, HISTORY - 1]])
    distance_m = float(np.hypot(*(centres[1] - centres[0]))) * footage.metres_per_px
    return mps_from_kmh(int(min(distance_m / (last - first) * footage.declared_hz * 3.6, CAP_KMH)))


RECIPES: dict[str, Rule] = {
    "line through bottom centres": bottom_line,
    "median of five (BrnoCompSpeed)": median_of_five,
    "Ultralytics SpeedEstimator": first_five,
    "supervision example": last_second,
}
