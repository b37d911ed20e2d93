"""Pixels to road metres: where each detection stands, and how sure that is.

The point taken for a box is the middle of its bottom edge. It is good enough to follow a vehicle with, not to measure
its speed with: it slides along the body as the view changes. The speed comes from whole boxes (:mod:`edge.speed`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration.road_plane import RoadPlane
from edge.domain import Detections, Floats, Sightings

# Noise of a detector's box edges: a constant part and a part that grows with the box. Measured per edge on rendered
# scenes with exact boxes (benchmarks): 1.5 to 2.5 % of the height for the bottom edge, 3 to 6 % of the width sideways.
EDGE_SIGMA_PX = 0.7
BOTTOM_SIGMA_OF_HEIGHT = 0.025
SIDE_SIGMA_OF_WIDTH = 0.05


def bottom_centres(boxes_xyxy_px: Floats) -> Floats:
    """Middle of the bottom edge of each box, shape (n, 2). [px]"""
    return np.column_stack([(boxes_xyxy_px[:, 0] + boxes_xyxy_px[:, 2]) / 2, boxes_xyxy_px[:, 3]])


class Localiser:
    """Places detections on the road.

    Args:
        plane: Road plane in the frame of the site's axis: along the axis, left of it.
    """

    def __init__(self, plane: RoadPlane) -> None:
        self._plane = plane
        self._latest: Sightings | None = None

    def locate(self, time_s: float, time_sigma_s: float, detections: Detections) -> Sightings:
        """Sightings of one frame; rows off the road are kept and marked."""
        if self._latest is not None and self._latest.detections is detections:  # they lie where they lay
            return replace(self._latest, time_s=time_s, time_sigma_s=time_sigma_s)
        boxes = detections.boxes_xyxy_px
        extents = np.column_stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]])
        sigmas_px = np.column_stack(
            [
                np.hypot(EDGE_SIGMA_PX, SIDE_SIGMA_OF_WIDTH * extents[:, 0]),
                np.hypot(EDGE_SIGMA_PX, BOTTOM_SIGMA_OF_HEIGHT * extents[:, 1]),
            ]
        )
        points = self._plane.locate(bottom_centres(boxes), sigmas_px)
        self._latest = Sightings(
            time_s=time_s,
            time_sigma_s=time_sigma_s,
            detections=detections,
            positions_m=points.positions_m,
            covariances_m2=points.covariances_m2,
            sizes_m=extents / self._plane.pixels_per_metre(points.positions_m)[:, None],
            on_road=points.on_road,
        )
        return self._latest
