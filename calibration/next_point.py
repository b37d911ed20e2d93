"""Where one more surveyed point would help most.

A point adds two equations to what is known. Its effect on the covariance is known before anybody goes there (Kalman's
update: only where it lies and how well it will be taken matter, not what will be read), and so is the uncertainty of
speed over the zone afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.camera import Floats
from calibration.quality import zone_grid
from calibration.road_plane import RoadPlane, convex_hull
from calibration.site import Site

REACH_M = 15.0  # beyond the zone: further away nobody walks for a mark
NEAR_M = 1.0  # to an existing point: that one could as well be taken again
MARGIN_PX = 10.0  # to the edge of the picture
_SPACING = 9  # candidates along and across


@dataclass(frozen=True, slots=True)
class NextPoint:
    """A place worth a mark.

    Attributes:
        pixel: Where it is in the picture. [px]
        place_m: Where it is on the road, survey coordinates. [m]
        u_rel_worst: Largest relative speed uncertainty in the zone with it, one sigma.
        u_rel_now: The same without it.
    """

    pixel: tuple[float, float]
    place_m: tuple[float, float]
    u_rel_worst: float
    u_rel_now: float


def best_next_point(
    plane: RoadPlane, site: Site, points_m: Floats, *, sigma_px: float, sigma_m: float
) -> NextPoint | None:
    """The place in and around the zone where one more point lowers the largest uncertainty most.

    Args:
        plane: What is known now.
        site: The zone.
        points_m: Points already there, shape (n, 2). [m]
        sigma_px: How well it will be clicked. [px]
        sigma_m: How well it will be taped. [m]

    Returns:
        None when the zone or no such place can be seen.
    """
    grid = _visible(plane, zone_grid(site), 0.0)
    candidates = _visible(plane, _around(site), MARGIN_PX)
    apart = np.linalg.norm(candidates[:, None] - np.asarray(points_m)[None], axis=-1)
    candidates = candidates[(apart > NEAR_M).all(axis=1)]
    if not len(grid) or not len(candidates):
        return None
    now = float(plane.relative_speed_sigma(grid, site.axis).max())
    then = [_with(plane, place, sigma_px, sigma_m).relative_speed_sigma(grid, site.axis).max() for place in candidates]
    best = int(np.argmin(then))
    pixel = plane.project(candidates[best])
    return NextPoint(
        pixel=(float(pixel[0]), float(pixel[1])),
        place_m=(float(candidates[best, 0]), float(candidates[best, 1])),
        u_rel_worst=float(then[best]),
        u_rel_now=now,
    )


def _around(site: Site) -> Floats:
    """Places spread over the zone and what can be walked to around it, shape (n, 2). [m]"""
    frame = site.polygon_in_frame_m
    low, high = np.minimum(frame.min(axis=0), 0.0), np.maximum(frame.max(axis=0), (site.length_m, 0.0))
    along = np.linspace(low[0] - REACH_M, high[0] + REACH_M, 2 * _SPACING)
    across = np.linspace(low[1] - REACH_M / 3, high[1] + REACH_M / 3, _SPACING)
    places = np.stack(np.meshgrid(along, across, indexing="ij"), axis=-1).reshape(-1, 2)
    x, y = site.axis
    return np.asarray(places @ np.array([[x, y], [-y, x]]) + site.origin_m)


def _visible(plane: RoadPlane, places: Floats, margin_px: float) -> Floats:
    width, height = plane.camera.image_size_px
    pixels = plane.project(places)
    inside = (pixels >= margin_px - 0.5) & (pixels <= (width - 0.5 - margin_px, height - 0.5 - margin_px))
    return np.asarray(places[inside.all(axis=-1)])


def _with(plane: RoadPlane, place_m: Floats, sigma_px: float, sigma_m: float) -> RoadPlane:
    """What would be known with one more point."""
    _, by_parameters, by_place = plane.camera.linearise(np.append(place_m, 0.0))
    noise = sigma_px**2 * np.eye(2) + sigma_m**2 * by_place[:, :2] @ by_place[:, :2].T
    gain = plane.covariance @ by_parameters.T
    innovation = by_parameters @ gain + noise
    return RoadPlane(
        camera=plane.camera,
        covariance=plane.covariance - gain @ np.linalg.solve(innovation, gain.T),
        hull_m=convex_hull(np.vstack((plane.hull_m, place_m))),
    )
