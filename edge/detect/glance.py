"""Looks at a part of the picture: while nothing changes but where somebody travels, the rest need not be seen again.

A network's time goes with the pixels it is given, and one car on a long street fills few of them. A glance runs the
same weights at the same scale on a small input around it. What was seen elsewhere is taken to be there still.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from edge.detect.look import Look, in_steps
from edge.domain import Bools, Detections, Floats, Frame, Ints, Region

SHARE = 0.5  # of each side of the whole look; what smaller and larger ones change: docs/performance.md
LEAST_PX = 320, 192  # width and height: a network sees worse what fills its input
MOST = 0.75  # of the pixels of the look
CHANGED = 4  # points: fewer are no road user's
CUT_PX = 4.0  # of the network's input: a box that ends nearer to where the glance ends may go on beyond it


class PartDetector(Protocol):
    """A detector whose region can be moved."""

    @property
    def input_px(self) -> tuple[int, int]:
        """Width and height of the network's input. [px]"""

    def look_at(self, region_px: Region) -> None:
        """Look at this part of the frame from now on."""

    def detect(self, frame: Frame) -> Detections:
        """Road users in that part of the frame."""


class Glance:
    """Looks at parts of a picture.

    Args:
        look: How the whole road is looked at.
        detector: The same network at a smaller input.
    """

    def __init__(self, look: Look, detector: PartDetector) -> None:
        self._whole_px = look.region_px
        self._scale = look.scale
        self._detector = detector
        self._size_px = [round(side / look.scale) for side in detector.input_px]

    def part(self, needed_xyxy_px: Floats) -> Region | None:
        """The part of the frame that a glance at some box would take in; None when it takes a look at the whole road.

        Args:
            needed_xyxy_px: Left, top, right, bottom, shape (4,). [px]
        """
        x0, y0, x1, y1 = self._whole_px
        left, top, right, bottom = np.clip(needed_xyxy_px, [x0, y0, x0, y0], [x1, y1, x1, y1])
        width, height = self._size_px
        if not (right - left <= width <= x1 - x0 and bottom - top <= height <= y1 - y0):
            return None
        first_column = min(max(round((left + right - width) / 2), x0), x1 - width)
        first_row = min(max(round((top + bottom - height) / 2), y0), y1 - height)
        return first_column, first_row, first_column + width, first_row + height

    def detect(self, frame: Frame, part_px: Region, before: Detections, changed_px: Floats) -> Detections | None:
        """Road users in the frame: those in the part as they are now, and the others as they were.

        Args:
            frame: The picture.
            part_px: As :meth:`part` gave it.
            before: What the latest look saw.
            changed_px: Points on the road at which the picture has changed since, shape (n, 2). [px]

        Returns:
            None when somebody stands where it has changed and goes on beyond the part: one must look at more.
        """
        self._detector.look_at(part_px)
        found = self._detector.detect(frame)
        part, whole, margin_px = np.array(part_px), np.array(self._whole_px), CUT_PX / self._scale
        low_px = np.where(part[:2] == whole[:2], -np.inf, part[:2] + margin_px)  # a whole box begins beyond it
        high_px = np.where(part[2:] == whole[2:], np.inf, part[2:] - margin_px)
        now, then = _inside(found.boxes_xyxy_px, low_px, high_px), ~_inside(before.boxes_xyxy_px, low_px, high_px)
        if (_held(found.boxes_xyxy_px[~now], changed_px) >= CHANGED).any():
            return None
        order = np.argsort(-np.concatenate([found.scores[now], before.scores[then]]), kind="stable")
        return Detections(
            np.concatenate([found.boxes_xyxy_px[now], before.boxes_xyxy_px[then]])[order],
            np.concatenate([found.scores[now], before.scores[then]])[order],
            np.concatenate([found.labels[now], before.labels[then]])[order],
        )


def glance_px(look: Look, stride: int) -> tuple[int, int] | None:
    """Width and height of the input for glances; None when it is hardly smaller than that of the look. [px]"""
    sides = (max(SHARE * side, min(least, side)) for side, least in zip(look.input_px, LEAST_PX))
    width, height = (in_steps(side, stride) for side in sides)
    return (width, height) if width * height <= MOST * math.prod(look.input_px) else None


def _inside(boxes_xyxy_px: Floats, low_px: Floats, high_px: Floats) -> Bools:
    return np.asarray(((boxes_xyxy_px[:, :2] >= low_px) & (boxes_xyxy_px[:, 2:] <= high_px)).all(axis=1))


def _held(boxes_xyxy_px: Floats, points_px: Floats) -> Ints:
    """How many of the points lie in each box, shape (n,)."""
    inside = (points_px >= boxes_xyxy_px[:, None, :2]) & (points_px <= boxes_xyxy_px[:, None, 2:])
    return np.asarray(inside.all(axis=-1).sum(axis=-1))
