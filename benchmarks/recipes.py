"""How others derive a speed from the same boxes: for comparison, never for use.

Each recipe is told in its own words of method, from its published description; it takes the place of the estimator in
an otherwise equal pipeline, so that detections, tracks and zone are identical.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calibration import Calibration
from edge.domain import Floats, Path, RoadUser, Trajectory

MIN_TRAVEL_M = 5.0
STEP = 5  # boxes that a step of the data set's median rule spans


class Recipe:
    """An estimator that reads one speed off the bottom edges.

    Args:
        speed: Times, positions along and left of the axis and boxes in the zone, to a signed speed along it. [m/s]
        calibration: Of the site.
    """

    def __init__(self, speed: Callable[[Floats, Floats, Floats, Calibration], float], calibration: Calibration) -> None:
        self._speed = speed
        self._calibration = calibration

    def estimate(self, trajectory: Trajectory) -> Path | None:
        """A straight path at the recipe's speed through the middle of the boxes in the zone."""
        along = trajectory.positions_m[:, 0]
        inside = (along >= 0) & (along <= self._calibration.site.length_m)
        if inside.sum() < STEP + 1 or abs(np.ptp(along)) < MIN_TRAVEL_M:
            return None
        times, positions = trajectory.times_s[inside], trajectory.positions_m[inside]
        speed = self._speed(times, positions, trajectory.boxes_xyxy_px[inside], self._calibration)
        if not np.isfinite(speed) or speed == 0.0:
            return None
        middle = len(times) // 2
        return Path(
            origin_s=float(times[middle]),
            along=np.array([np.median(positions[:, 0] - speed * (times - times[middle])), speed, 0.0, 0.0]),
            covariance_random=np.zeros((4, 4)),
            covariance_calibration=np.zeros((4, 4)),
            lateral_m=float(np.median(positions[:, 1])),
            observed_s=(float(trajectory.times_s[0]), float(trajectory.times_s[-1])),
            samples=int(inside.sum()),
            road_user=RoadUser.CAR,
            length_m=None,
            problem=None,
        )


def bottom_line(times: Floats, positions: Floats, boxes: Floats, calibration: Calibration) -> float:
    """Least squares line through the bottom centres on the road."""
    return float(np.polynomial.polynomial.polyfit(times - times[0], positions[:, 0], 1)[1])


def median_of_five(times: Floats, positions: Floats, boxes: Floats, calibration: Calibration) -> float:
    """Median of the speeds over steps of five boxes: the rule of BrnoCompSpeed (arXiv 1702.06451)."""
    return float(np.median((positions[STEP:, 0] - positions[:-STEP, 0]) / (times[STEP:] - times[:-STEP])))


def rounded_ends(times: Floats, positions: Floats, boxes: Floats, calibration: Calibration) -> float:
    """First to last position in whole metres over n, not n - 1, intervals: the published example of supervision."""
    count = len(times)
    mean_interval_s = (times[-1] - times[0]) / (count - 1)
    return float((np.round(positions[-1, 0]) - np.round(positions[0, 0])) / (count * mean_interval_s))


def one_scale(times: Floats, positions: Floats, boxes: Floats, calibration: Calibration) -> float:
    """Path of the box centre in pixels times one metres-per-pixel, set right at the zone's middle: Ultralytics' way."""
    plane, length_m = calibration.zone_plane, calibration.site.length_m
    ends = plane.project(np.array([[length_m / 2 - 0.5, 0.0], [length_m / 2 + 0.5, 0.0]]))
    metres_per_px = 1.0 / float(np.hypot(*(ends[1] - ends[0])))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance_m = float(np.hypot(*(centres[-1] - centres[0]))) * metres_per_px
    return float(np.sign(positions[-1, 0] - positions[0, 0]) * distance_m / (times[-1] - times[0]))


RECIPES = {
    "line through bottom centres": bottom_line,
    "median of five": median_of_five,
    "supervision example": rounded_ends,
    "one scale (Ultralytics)": one_scale,
}
