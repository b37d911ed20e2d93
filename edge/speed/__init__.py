"""Speed: one body per vehicle, fitted to all boxes of its trajectory together.

:class:`Estimator` turns a trajectory into a :class:`edge.domain.Path` with its covariance, or says why it cannot.
:func:`speed_of_points` does what can be done where a vehicle is known as a point on the road only, and
:func:`speeds_of_vehicles` where it may be known as several.
"""

from edge.speed.estimator import Estimator
from edge.speed.points import POINT_SIGMA_PX, PointSpeed, speed_of_points, speeds_of_vehicles

__all__ = ["POINT_SIGMA_PX", "Estimator", "PointSpeed", "speed_of_points", "speeds_of_vehicles"]
