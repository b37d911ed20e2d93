"""Speed: one body per vehicle, fitted to all boxes of its trajectory together.

:class:`Estimator` turns a trajectory into a :class:`edge.domain.Path` with its covariance, or says why it cannot.
"""

from edge.speed.estimator import Estimator

__all__ = ["Estimator"]
