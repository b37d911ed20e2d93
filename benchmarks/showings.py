"""The same footage shown to a detector in other ways: the same vehicles with the same truth, and other boxes.

How a detector errs was measured on the boxes that it draws in the rendered scenes as they are, so what is measured
there once more flatters the estimate. A network is neither symmetric nor blind to light: mirrored, darker, lighter and
noisier, it errs anew. Shape and shadow of a vehicle stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edge.detect import Detector, Look, open_detector
from edge.domain import Detections, Floats, Frame, Pixels, Region
from models import Model


@dataclass(frozen=True, slots=True)
class Showing:
    """One way to show a picture.

    Attributes:
        name: What it is called in tables.
        is_mirrored: Left and right change places.
        gamma: Exponent of every value as a share of the brightest; above 1 is darker.
        noise: White noise, one standard deviation. [of 255]
    """

    name: str
    is_mirrored: bool = False
    gamma: float = 1.0
    noise: float = 0.0

    def of(self, image_bgr: Pixels, rng: np.random.Generator) -> Pixels:
        """The picture as it is shown, of the same shape."""
        shown = 255.0 * (image_bgr / 255.0) ** self.gamma + self.noise * rng.standard_normal(image_bgr.shape)
        drawn = np.clip(shown, 0.0, 255.0).round().astype(np.uint8)
        return np.ascontiguousarray(drawn[:, ::-1] if self.is_mirrored else drawn)


SHOWINGS = (
    Showing("mirrored", is_mirrored=True),
    Showing("darker", gamma=1.7),
    Showing("lighter", gamma=0.65),
    Showing("noisier", noise=8.0),
    Showing("mirrored, darker", is_mirrored=True, gamma=1.7),
    Showing("mirrored, lighter", is_mirrored=True, gamma=0.65),
)


class Shown:
    """A detector that is shown other pictures, and answers in the pixels of the true ones.

    Args:
        model: What detects.
        look: Where and how finely it looks, in the true picture.
        showing: How the picture is shown.
        width_px: Of the picture.
    """

    def __init__(self, model: Model, look: Look, showing: Showing, width_px: int) -> None:
        self.region_px: Region | None = look.region_px
        self._showing, self._width_px = showing, width_px
        self._rng = np.random.default_rng(1)
        left, top, right, bottom = look.region_px
        if showing.is_mirrored:
            look = replace(look, region_px=(width_px - right, top, width_px - left, bottom))
        self._detector: Detector = open_detector(model, look=look)

    def detect(self, frame: Frame) -> Detections:
        """Road users in the frame, best first, one box each."""
        shown = replace(frame, image_bgr=self._showing.of(frame.image_bgr, self._rng))
        found = self._detector.detect(shown)
        boxes = self._mirrored(found.boxes_xyxy_px) if self._showing.is_mirrored else found.boxes_xyxy_px
        return Detections(boxes, found.scores, found.labels)

    def _mirrored(self, boxes_xyxy_px: Floats) -> Floats:
        """Boxes with left and right exchanged; the centre of the first column is 0. [px]"""
        right, left = self._width_px - 1 - boxes_xyxy_px[:, 0], self._width_px - 1 - boxes_xyxy_px[:, 2]
        return np.column_stack([left, boxes_xyxy_px[:, 1], right, boxes_xyxy_px[:, 3]])
