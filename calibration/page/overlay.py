"""What is drawn over the still: places of the road as pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from calibration.camera import Floats
from calibration.road_plane import RoadPlane, frame_rotation
from calibration.site import Site

GRID_M = 2.0  # meshes of the grid drawn on the road; a car is two long
MAJOR_M = 10.0
GRID_MARGIN_M = 4.0
MAX_GRID_M = 120.0  # beyond, meshes are finer than pixels
HEAT_CELLS = (24, 8)  # along and across the zone
_SAMPLES_M = 0.5  # straight lines on the road are bent by the lens


def in_both(plane: RoadPlane, places_m: Floats) -> list[dict[str, float | None]]:
    """Places in metres and in pixels."""
    pixels = plane.project(places_m) if len(places_m) else places_m
    return [
        {"x": or_none(x), "y": or_none(y), "u": or_none(u), "v": or_none(v)} for (x, y), (u, v) in zip(places_m, pixels)
    ]


def outline(plane: RoadPlane, corners_m: Floats) -> list[list[float]]:
    """The edges of a polygon, in steps short enough for a bent picture; what cannot be seen is left out."""
    if len(corners_m) < 2:
        return []
    edges = []
    for start, end in zip(corners_m, np.roll(corners_m, -1, axis=0)):
        steps = max(2, int(np.nan_to_num(np.linalg.norm(end - start)) / _SAMPLES_M))
        edges.append(start + np.linspace(0, 1, min(steps, 400), endpoint=False)[:, None] * (end - start))
    pixels = plane.project(np.concatenate(edges))
    reach = 4 * max(plane.camera.image_size_px)
    kept = np.isfinite(pixels).all(axis=-1) & (np.abs(pixels) < reach).all(axis=-1)
    return [[round(float(u), 1), round(float(v), 1)] for u, v in pixels[kept]]


def grid_lines(plane: RoadPlane, site: Site, points_m: Floats) -> list[dict[str, Any]]:
    """Lines of the metre grid on the road, along and across the site's axis, where the picture shows them."""
    turn = frame_rotation(site.axis)
    places = np.vstack(((points_m - site.origin_m) @ turn.T, site.polygon_in_frame_m))
    low = np.floor((places.min(axis=0) - GRID_MARGIN_M) / GRID_M) * GRID_M
    high = np.minimum(np.ceil((places.max(axis=0) + GRID_MARGIN_M) / GRID_M) * GRID_M, low + MAX_GRID_M)
    lines: list[dict[str, Any]] = []
    for axis in (0, 1):
        other = 1 - axis
        walk = np.arange(low[other], high[other] + _SAMPLES_M, _SAMPLES_M)
        for at in np.arange(low[axis], high[axis] + GRID_M / 2, GRID_M):
            line = np.empty((len(walk), 2))
            line[:, axis], line[:, other] = at, walk
            parts = _visible_parts(plane, line @ turn + site.origin_m)
            lines += [{"major": bool(at % MAJOR_M == 0), "line": part} for part in parts]
    return lines


def _visible_parts(plane: RoadPlane, places_m: Floats) -> list[list[list[float]]]:
    width, height = plane.camera.image_size_px
    pixels = plane.project(places_m)
    inside = ((pixels > -50) & (pixels < (width + 50, height + 50))).all(axis=-1)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside.astype(int), [0]))))
    return [
        [[round(float(u), 1), round(float(v), 1)] for u, v in pixels[start:end]]
        for start, end in zip(edges[::2], edges[1::2])
        if end - start > 1
    ]


def heat_cells(plane: RoadPlane, site: Site) -> list[dict[str, Any]]:
    """Cells over the zone with the relative speed uncertainty in their middle; the page cuts them to the polygon."""
    frame = site.polygon_in_frame_m
    low, high = frame.min(axis=0), frame.max(axis=0)
    low[0], high[0] = max(low[0], 0.0), min(high[0], site.length_m)
    along, across = (np.linspace(low[i], high[i], HEAT_CELLS[i] + 1) for i in (0, 1))
    corners = np.stack(np.meshgrid(along, across, indexing="ij"), axis=-1) @ frame_rotation(site.axis) + site.origin_m
    pixels = plane.project(corners)
    middles = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    sigmas = plane.relative_speed_sigma(middles, site.axis)
    quads = np.stack((pixels[:-1, :-1], pixels[1:, :-1], pixels[1:, 1:], pixels[:-1, 1:]), axis=2)
    return [
        {"u_rel": float(sigmas[i, j]), "quad": [[round(float(u), 1), round(float(v), 1)] for u, v in quads[i, j]]}
        for i in range(HEAT_CELLS[0])
        for j in range(HEAT_CELLS[1])
        if np.isfinite(quads[i, j]).all() and math.isfinite(sigmas[i, j])
    ]


def or_none(value: float) -> float | None:
    """A number as JSON knows it."""
    return float(value) if math.isfinite(value) else None
