"""From a frame to a network's input and back, exactly.

A network wants one fixed size. The part of the frame that is looked at is scaled with one factor until it fits, and
centred on grey. Two conventions meet here and are kept apart: Snellius counts pixel *centres* at integers (the left
edge of pixel 0 is −0.5), networks answer in *edges* (the left edge of pixel 0 is 0). ``cv2.resize`` maps edges to
edges, so with the scale of each axis as it really came out after rounding to whole pixels::

    frame = first + (answer − offset) / scale − 0.5
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.domain import Floats, Pixels, Region

GREY = 114  # what YOLO-style networks were trained to ignore

Blob = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a part of the frame stands in the network's input.

    Attributes:
        region_px: Part of the frame: first column, first row, and one past the last of each. [px]
        input_px: Width and height of the network's input. [px]
        size_px: Width and height of the scaled part. [px]
        offset_px: Grey columns to its left and rows above it. [px]
    """

    region_px: Region
    input_px: tuple[int, int]
    size_px: tuple[int, int]
    offset_px: tuple[int, int]

    @classmethod
    def fit(cls, region_px: Region, input_px: tuple[int, int]) -> Letterbox:
        """The largest picture of ``region_px``, undistorted, that ``input_px`` holds."""
        x0, y0, x1, y1 = region_px
        factor = min(input_px[0] / (x1 - x0), input_px[1] / (y1 - y0))
        width = max(1, round((x1 - x0) * factor))
        height = max(1, round((y1 - y0) * factor))
        offset = (input_px[0] - width) // 2, (input_px[1] - height) // 2
        return cls(region_px=region_px, input_px=input_px, size_px=(width, height), offset_px=offset)

    def to_frame(self, boxes_xyxy: npt.NDArray[np.floating]) -> Floats:
        """Boxes of the network's answer as boxes of the frame, cut off where the network saw no more.

        Args:
            boxes_xyxy: Left, top, right, bottom in edges of the input, shape (n, 4).

        Returns:
            The same in pixels of the frame, centres at integers, shape (n, 4). [px]
        """
        x0, y0, x1, y1 = self.region_px
        scale = np.array([self.size_px[0] / (x1 - x0), self.size_px[1] / (y1 - y0)])
        corners = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 2, 2)
        corners = np.array([x0, y0]) + (corners - self.offset_px) / scale - 0.5
        clipped: Floats = np.clip(corners, [x0 - 0.5, y0 - 0.5], [x1 - 0.5, y1 - 0.5])
        return clipped.reshape(-1, 4)


class Canvas:
    """Draws frames into a network's input, on paper that is used again and again.

    Only the picture's own place is ever drawn on, so the grey around it stays.
    """

    def __init__(self, letterbox: Letterbox) -> None:
        width, height = letterbox.input_px
        self._letterbox = letterbox
        self._paper: Pixels = np.full((height, width, 3), GREY, dtype=np.uint8)
        self._planes: list[Pixels] = [np.empty((height, width), dtype=np.uint8) for _ in range(3)]
        self._blob: Blob = np.empty((1, 3, height, width), dtype=np.float32)

    def draw(self, image_bgr: Pixels) -> Blob:
        """The network's input for one frame, valid until the next one is drawn.

        Args:
            image_bgr: The whole frame, shape (height, width, 3).

        Returns:
            Red, green, blue from 0 to 1, shape (1, 3, input height, input width).
        """
        x0, y0, x1, y1 = self._letterbox.region_px
        left, top = self._letterbox.offset_px
        width, height = self._letterbox.size_px
        place = self._paper[top : top + height, left : left + width]
        cv2.resize(image_bgr[y0:y1, x0:x1], (width, height), dst=place, interpolation=cv2.INTER_LINEAR)
        cv2.split(self._paper, self._planes)
        for plane, channel in zip(reversed(self._planes), self._blob[0]):
            np.multiply(plane, np.float32(1 / 255), out=channel)
        return self._blob
