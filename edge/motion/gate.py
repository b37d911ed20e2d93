"""The motion gate: has the road changed since the detector last looked?

While it has not, the detector would say the same again, so it need not be asked. The picture is compared with the one
that the detector saw last, not with a model of the background: a parked car, a stopped car and a bin are all part of
that picture, and none of them leaves a ghost.

The road and its approaches are laid out in squares of :data:`CELL_M`, seen from above, so that a vehicle covers as many
squares far away as it does near by. The brightness of each is compared as a logarithm, less the median change of all:
when the camera changes its exposure or a cloud passes, all squares change alike and none is reported. The median size
of what is left is the noise of the picture, and only what stands out of it counts.

The detector teaches the gate. Where a change turned out to be no road user (leaves, rain, the shadow of a flag,
headlights from a side street), a larger change is asked for next time, there and, while nobody travels, a little
everywhere; never more than :data:`MOST_CHANGE`: tyres, the shadow below a car and lamps at night change a road by far
more. Where road users travel, and as time goes by, small changes count again.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from calibration.road_plane import RoadPlane
from edge.domain import Bools, Floats, Frame, Ints, Pixels, Region

CAR_M = 1.5  # height of a passenger car
CELL_M = 0.4  # a bicycle covers ten of them
SHORT_SIDE_PX = 135  # spots that are averaged are so large that about as many fit into the picture's height
LEAST_CHANGE = 0.07  # of the logarithm of brightness: 7 %, a little more than a step of one in dark places
MOST_CHANGE = 0.25  # a pale car on pale asphalt changes most of its squares by more
MOST_CHANGE_COMMON = 0.15
NOISE_SIGMAS = 4.0  # of the change of all squares: at night the sensor's noise is more than the least change
SIGMA_OF_MEDIAN = 1.4826  # standard deviation over median of the absolute value, normal distribution
DARK = np.float32(16)  # added to brightness 0 to 255: below it a change is noise
NEIGHBOURS = 3  # changes are counted in blocks of so many squares each way
MIN_CHANGED = 4  # of the squares of a block; fewer is a drop of rain
TAUGHT_SHARE = 0.25  # of the way to what would not have been reported, each time it was no road user
TAUGHT_MARGIN = 1.25
SENSITIVE_AGAIN_S = 120.0  # time constant of single squares
COMMON_SENSITIVE_AGAIN_S = 60.0  # and of all together
RECOVERY = 0.8  # of a raised bound, each time that a road user travels there
BOX_MARGIN = 0.25  # of a box's width and height: its shadow and its glare on the road

Values = npt.NDArray[np.float32]


class MotionGate:
    """Watches a stretch of road.

    Args:
        plane: Road plane in the frame of the site's axis.
        along_m: Stretch of road that is watched. [m]
        across_m: Its extent left of the axis. [m]

    Raises:
        ValueError: nothing of that stretch is in the picture.
    """

    def __init__(self, plane: RoadPlane, *, along_m: tuple[float, float], across_m: tuple[float, float]) -> None:
        self._along_m, self._across_m = along_m, across_m
        self.turn_to(plane)

    def turn_to(self, plane: RoadPlane) -> None:
        """Go on with another road plane: the camera has turned. The detector must look again."""
        shape, rows, pixels, tops = _visible_cells(plane, self._along_m, self._across_m)
        if not len(rows):
            raise ValueError(f"nothing of the road {self._along_m} m along the axis is in the picture")
        self._cells, self._pixels = rows, pixels
        self._standing_px: Floats = np.hstack([np.fmin(pixels, tops), np.fmax(pixels, tops)])
        self._spots, self._spot_of = _spots(pixels, plane.camera.image_size_px)
        self._bounds: Values = np.full(len(rows), LEAST_CHANGE, dtype=np.float32)
        self._common = 0.0  # a bound for all squares
        self._travels: Bools = np.zeros(
            len(rows), dtype=bool
        )  # squares of the travelling, when the detector last looked
        self._changed: Pixels = np.zeros(shape, dtype=np.uint8)
        self._reference: Values | None = None  # as the detector saw it last
        self._has_changed = True
        self._brighter = 0.0  # than the reference, all squares together
        self._seen: Values | None = None
        self._change: Values = np.zeros(len(rows), dtype=np.float32)
        self._eased_ns: int | None = None

    def has_changed(self, frame: Frame) -> bool:
        """Whether something on the road is not as it was when the detector last looked."""
        self._seen = self._brightness(frame.image_bgr)
        if self._reference is None:
            return True
        self._ease(frame.captured_ns)
        change = self._seen - self._reference
        self._brighter = _median(change)
        change -= self._brighter
        self._change = np.abs(change, out=change)
        noise = NOISE_SIGMAS * SIGMA_OF_MEDIAN * _median(self._change)
        everywhere = np.float32(min(max(noise, self._common), MOST_CHANGE))
        self._changed.reshape(-1)[self._cells] = self._change > np.maximum(self._bounds, everywhere)
        self._has_changed = _is_marked(self._changed)
        return self._has_changed

    def has_changed_beyond(self, part_px: Region) -> bool:
        """Whether the latest frame has changed outside of a part of it."""
        if self._reference is None:
            return True
        beyond = self._changed.copy()
        beyond.reshape(-1)[self._cells[self._inside(part_px)]] = 0
        return _is_marked(beyond)

    def changed_px(self) -> Floats | None:
        """Where the latest frame has changed: boxes as high as a car, on the road there, shape (n, 4). [px]

        None when the detector has not looked yet: it may be anywhere.
        """
        if self._reference is None:
            return None
        block = np.ones((NEIGHBOURS, NEIGHBOURS), np.uint8)
        near = cv2.dilate((_marks(self._changed) >= MIN_CHANGED).astype(np.uint8), block)
        counts = cv2.bitwise_and(near, self._changed).reshape(-1)[self._cells] > 0
        return np.asarray(self._standing_px[counts])

    def looked(self, travelling_xyxy_px: Floats, part_px: Region | None = None) -> None:
        """The detector has looked at the latest frame: what is there now is known, and what it made of the changes.

        Args:
            travelling_xyxy_px: Boxes of what travels, or may do so, shape (n, 4). Changes elsewhere were no road
                user's. [px]
            part_px: Where it looked; None: everywhere. What travels is all there.
        """
        is_first = self._reference is None
        if self._reference is None or part_px is None:
            self._reference, looked_at = self._seen, np.ones(len(self._cells), dtype=bool)
        else:
            assert self._seen is not None
            looked_at = self._inside(part_px)
            self._reference[looked_at] = self._seen[looked_at] - self._brighter  # the rest is as bright as it was
        travels = _inside_any(self._pixels, travelling_xyxy_px)
        travelled, self._travels = travels | self._travels, travels  # where it was is changed too
        if is_first:
            return
        if not self._has_changed and travels.any():  # it had become blind to them
            self._bounds[travels], self._common = LEAST_CHANGE, 0.0
        self._bounds[travels] = np.maximum(RECOVERY * self._bounds[travels], LEAST_CHANGE)
        harmless = (self._change > self._bounds) & ~travelled & looked_at
        if harmless.any():
            wanted = np.minimum(TAUGHT_MARGIN * self._change[harmless], np.float32(MOST_CHANGE))
            self._bounds[harmless] = _taught(self._bounds[harmless], wanted)
            if not travelled.any():  # it may be everywhere: rain
                self._common = float(_taught(self._common, min(float(np.median(wanted)), MOST_CHANGE_COMMON)))

    def _inside(self, part_px: Region) -> Bools:
        """Which squares lie in a part of the picture, shape (n,)."""
        return np.asarray(((self._pixels >= part_px[:2]) & (self._pixels < part_px[2:])).all(axis=1))

    def _ease(self, now_ns: int) -> None:
        """Bounds that were raised sink back slowly; once a second is often enough."""
        if self._eased_ns is None:
            self._eased_ns = now_ns
        passed_s = (now_ns - self._eased_ns) / 1e9
        if passed_s >= 1.0:
            self._eased_ns = now_ns
            self._bounds = LEAST_CHANGE + np.float32(math.exp(-passed_s / SENSITIVE_AGAIN_S)) * (
                self._bounds - np.float32(LEAST_CHANGE)
            )
            self._common *= math.exp(-passed_s / COMMON_SENSITIVE_AGAIN_S)

    def _brightness(self, image_bgr: Pixels) -> Values:
        """Logarithm of the brightness of each square, from green, which carries most of it."""
        green = image_bgr.reshape(-1)[self._spots]
        mean = green.sum(axis=0, dtype=np.uint32) * np.float32(1 / len(green))
        return np.asarray(np.log(mean + DARK)[self._spot_of])


def _visible_cells(
    plane: RoadPlane, along_m: tuple[float, float], across_m: tuple[float, float]
) -> tuple[tuple[int, int], Ints, Floats, Floats]:
    """The grid of squares (along, across), and of those in the picture the flat numbers, shape (n,).

    Then their pixels, and those of the roof of a car on them, shape (n, 2); NaN where there is none.
    """
    along = np.arange(along_m[0] + CELL_M / 2, along_m[1], CELL_M)
    across = np.arange(across_m[0] + CELL_M / 2, across_m[1], CELL_M)
    centres = np.stack(np.meshgrid(along, across, indexing="ij"), axis=-1).reshape(-1, 2)
    pixels = plane.project(centres)
    width, height = plane.camera.image_size_px
    inside = np.isfinite(pixels).all(axis=1)
    inside &= (np.nan_to_num(pixels, nan=-1.0) > [-0.5, -0.5]).all(axis=1)
    inside &= (np.nan_to_num(pixels, nan=-1.0) < [width - 0.5, height - 0.5]).all(axis=1)
    rows = np.flatnonzero(inside)
    roofs = plane.project(np.column_stack([centres[rows], np.full(len(rows), CAR_M)]))
    return (len(along), len(across)), rows, pixels[rows], roofs


def _spots(pixels: Floats, image_size_px: tuple[int, int]) -> tuple[Ints, Ints]:
    """Where to read the green of each spot of the picture in which squares lie, and which spot is whose.

    Squares far away share a spot.

    Returns:
        Flat indices into a picture (height, width, 3), shape (pixels of a spot, spots); the spot of each square, (n,).
    """
    width, height = image_size_px
    side = max(1, round(height / SHORT_SIDE_PX))
    last = np.array([max(width // side, 1) - 1, max(height // side, 1) - 1])
    at = np.clip(pixels // side, 0, last).astype(np.intp)
    spots, spot_of = np.unique(at, axis=0, return_inverse=True)
    skip = 2 if side % 2 == 0 else 1  # every second line is enough, and half the work
    down, across = np.meshgrid(np.arange(0, side, skip), np.arange(side), indexing="ij")
    column = np.minimum(spots[:, 0] * side + across.reshape(-1, 1), width - 1)
    line = np.minimum(spots[:, 1] * side + down.reshape(-1, 1), height - 1)
    return np.asarray((line * width + column) * 3 + 1), np.asarray(spot_of.reshape(-1))


def _is_marked(changed: Pixels) -> bool:
    """Whether enough squares of some block are marked with 1."""
    return bool(_marks(changed).max() >= MIN_CHANGED)


def _marks(changed: Pixels) -> Pixels:
    """How many squares of the block around each are marked with 1."""
    block = (NEIGHBOURS, NEIGHBOURS)
    blocks = cv2.boxFilter(changed, cv2.CV_8U, block, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blocks, dtype=np.uint8)


def _median(values: Values) -> float:
    """Upper middle value, without the care for NaN that costs most of the time of ``np.median``."""
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])


def _taught(bounds: Any, wanted: Any) -> Any:
    """Bounds raised part of the way to what is wanted."""
    return bounds + np.float32(TAUGHT_SHARE) * np.maximum(wanted - bounds, 0)


def _inside_any(pixels: Floats, boxes_xyxy_px: Floats) -> Bools:
    """Which pixels lie in a box or close to it, shape (n,)."""
    inside = np.zeros(len(pixels), dtype=bool)
    for left, top, right, bottom in boxes_xyxy_px:
        beside, beyond = BOX_MARGIN * (right - left), BOX_MARGIN * (bottom - top)
        inside |= (
            (pixels[:, 0] > left - beside)
            & (pixels[:, 0] < right + beside)
            & (pixels[:, 1] > top - beyond)
            & (pixels[:, 1] < bottom + beyond)
        )
    return inside
