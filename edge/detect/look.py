"""Which part of the picture a detector looks at, and how finely: the calibration knows.

A street fills a part of the picture only, and a network's time goes with the pixels it is given. The region is where
road users on the measured stretch can appear, with room for a camera that turns a little; the scale is the one at
which a car at the far end of the zone is :data:`CAR_PX` high, so that it is seen as well as a network of this size
can, and nobody pays for more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.domain import Floats, Region

if TYPE_CHECKING:
    from calibration.road_plane import RoadPlane  # brings OpenCV, which the list of models can do without

Stretch = tuple[tuple[float, float], tuple[float, float]]  # from and to along the axis, and left of it [m]

TALLEST_M = 4.2  # lorries and double-deck buses by Directive 96/53/EC are at most 4.0 m high
CAR_M = 1.5  # height of a passenger car
CAR_PX = 28.0  # of a car at the far end of the zone, in the network's input; measured, see docs/models.md
TURN_RAD = math.radians(1.0)  # a camera that turns further stops measuring (edge.watch)
SPARE = 1.1  # share of the model's own number of pixels: sides come in steps, so a little more may be taken
STEP_M = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """A part of the picture, and the size at which it is looked at.

    Attributes:
        region_px: First column, first row, and one past the last of each. [px]
        input_px: Width and height of the network's input. [px]
    """

    region_px: Region
    input_px: tuple[int, int]

    @property
    def scale(self) -> float:
        """Input pixels for each pixel of the picture."""
        x0, y0, x1, y1 = self.region_px
        return min(self.input_px[0] / (x1 - x0), self.input_px[1] / (y1 - y0))


def look_at_road(
    plane: RoadPlane,
    *,
    followed_m: Stretch,
    zone_m: Stretch,
    model_px: tuple[int, int] | None,
    stride: int | None,
) -> Look:
    """Where and how finely to look.

    Args:
        plane: Road plane in the frame of the site's axis.
        followed_m: Where road users are followed. [m]
        zone_m: Where their speed is measured. [m]
        model_px: Width and height that the network was made for; None: its runtime scales by itself. [px]
        stride: A side of the input may be any multiple of this; None: the input cannot be changed. [px]
    """
    size_px = plane.camera.image_size_px
    region = _region(plane, followed_m)
    width, height = region[2] - region[0], region[3] - region[1]
    if model_px is None:
        return Look(region, (width, height))
    if stride is None:
        return Look(_grown(region, model_px, size_px), model_px)
    most = SPARE * model_px[0] * model_px[1]
    scale = CAR_PX / _smallest_car_px(plane, zone_m)
    input_px = in_steps(width * scale, stride), in_steps(height * scale, stride)
    while input_px[0] * input_px[1] > most:
        scale *= 0.98
        input_px = in_steps(width * scale, stride), in_steps(height * scale, stride)
    return Look(_grown(region, input_px, size_px), input_px)


def in_steps(side_px: float, stride: int) -> int:
    """Up to the next step, or down when that takes less than a quarter of a step away."""
    return max(1, math.ceil(side_px / stride - 0.25)) * stride


def _region(plane: RoadPlane, followed_m: Stretch) -> Region:
    """The smallest part of the picture that holds every road user on a stretch of road; all of it when none shows."""
    (begin, end), sides = followed_m
    along, across = np.arange(begin, end + STEP_M, STEP_M), np.linspace(*sides, 9)
    corners = np.stack(np.meshgrid(along, across, (0.0, TALLEST_M / 2, TALLEST_M), indexing="ij"), axis=-1)
    pixels = plane.project(corners.reshape(-1, 3))
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    size = np.array(plane.camera.image_size_px)
    margin = plane.camera.focal_px * math.tan(TURN_RAD)
    low = np.clip(np.floor(pixels.min(axis=0, initial=np.inf) - margin), 0, size)
    high = np.clip(np.ceil(pixels.max(axis=0, initial=-np.inf) + margin) + 1, 0, size)
    if (high - low < 1).any():
        return 0, 0, int(size[0]), int(size[1])
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _smallest_car_px(plane: RoadPlane, zone_m: Stretch) -> float:
    """Height in the picture of a car in the corner of the zone where it looks smallest. [px]"""
    feet: Floats = np.array([(x, y, 0.0) for x in zone_m[0] for y in zone_m[1]])
    heights = plane.project(feet)[:, 1] - plane.project(feet + np.array([0.0, 0.0, CAR_M]))[:, 1]
    seen = heights[np.isfinite(heights) & (heights > 1.0)]
    return float(seen.min()) if len(seen) else CAR_PX


def _grown(region: Region, input_px: tuple[int, int], size_px: tuple[int, int]) -> Region:
    """The region, widened to the shape of the input as far as the picture reaches: street is better than grey."""
    x0, y0, x1, y1 = region
    shape = input_px[0] / input_px[1]
    wide, high = max(x1 - x0, (y1 - y0) * shape), max(y1 - y0, (x1 - x0) / shape)
    left, right = _widened(x0, x1, round(wide), size_px[0])
    top, bottom = _widened(y0, y1, round(high), size_px[1])
    return left, top, right, bottom


def _widened(low: int, high: int, wanted: int, limit: int) -> tuple[int, int]:
    """An interval of the wanted length around another, inside 0 to ``limit`` as far as that goes."""
    wanted = min(max(wanted, high - low), limit)
    first = min(max(low - (wanted - (high - low)) // 2, 0), limit - wanted)
    return first, first + wanted
