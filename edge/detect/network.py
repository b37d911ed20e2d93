"""A detector around a network: letterbox before it, head and duplicates behind it, the same for every runtime.

A runtime's file offers a :class:`Network` and nothing else, so that the same weights see the same vehicles whatever
runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from edge.detect.heads import Answer, Candidates, raised, read_classic, read_end_to_end
from edge.detect.letterbox import Blob, Canvas, Letterbox
from edge.domain import Detections, Frame, Region, RoadUser
from edge.errors import BadInput
from models import Head

MIN_SCORE = 0.2  # below the 0.375 that counts as seen: the tracker gives weak boxes a second chance

_READERS = {Head.CLASSIC: read_classic, Head.END_TO_END: read_end_to_end}


class Network(Protocol):
    """What a runtime offers."""

    @property
    def name(self) -> str:
        """Its file, for messages."""

    @property
    def input_px(self) -> tuple[int, int]:
        """Width and height of its input. [px]"""

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of its answer; None where that depends on the input."""

    def answer(self, blob: Blob) -> Answer:
        """Run it.

        Args:
            blob: Red, green, blue from 0 to 1, shape (1, 3, input height, input width).

        Returns:
            What its head says, see :class:`models.Head`.
        """


class NetworkDetector:
    """Finds road users with a network. Keeps its buffers between frames: use one detector a thread.

    Attributes:
        input_px: Width and height of the network's input. [px]
        region_px: The part of the frame that is looked at, None for all of it. [px]
    """

    def __init__(
        self,
        network: Network,
        *,
        classes: Mapping[RoadUser, Sequence[int]],
        head: Head = Head.CLASSIC,
        min_score: float = MIN_SCORE,
        region_px: Region | None = None,
        bottom_offset: float = 0.0,
    ) -> None:
        """Put a detector around a network.

        Args:
            network: A loaded one.
            classes: What the network's class indices are on a road; the other classes are ignored.
            head: How the output is read.
            min_score: Weaker candidates are dropped. From 0 to 1.
            region_px: Look only at this part of each frame: first column, first row, and one past the last of each.
            bottom_offset: How much too low the network's boxes end, as a share of their height (:class:`models.Model`).

        Raises:
            BadInput: The network has not that head, or fewer classes.
        """
        self.region_px = region_px
        self.input_px = network.input_px
        self._network = network
        self._head = head
        self._min_score = min_score
        self._bottom_offset = bottom_offset
        pairs = sorted((index, user.label) for user, indices in classes.items() for index in indices)
        self._class_indices = np.array([index for index, _ in pairs], dtype=np.intp)
        self._class_labels = np.array([label for _, label in pairs], dtype=np.intp)
        self._check_output()
        self._size_px: tuple[int, int] | None = None
        self._letterbox: Letterbox
        self._canvas: Canvas

    def detect(self, frame: Frame) -> Detections:
        """Road users in the frame, best first, one box each.

        Raises:
            BadInput: The region does not lie inside the frame.
        """
        found = self._read(self._network.answer(self.blob(frame)))
        boxes = raised(
            self._letterbox.to_frame(found.boxes_xyxy), self._bottom_offset, self._letterbox.region_px[3] - 0.5
        )
        return Detections(boxes, found.scores, found.labels)

    def look_at(self, region_px: Region) -> None:
        """Look at another part of the frame from now on."""
        self.region_px, self._size_px = region_px, None

    def blob(self, frame: Frame) -> Blob:
        """What the network is shown of a frame; valid until the next one."""
        if frame.size_px != self._size_px:
            self._fit(frame.size_px)
        return self._canvas.draw(frame.image_bgr)

    def _read(self, answer: Answer) -> Candidates:
        return _READERS[self._head](answer, self._class_indices, self._class_labels, self._min_score)

    def _fit(self, size_px: tuple[int, int]) -> None:
        width, height = size_px
        x0, y0, x1, y1 = self.region_px or (0, 0, width, height)
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise BadInput(f"detector region {self.region_px}: expected a part of the {width}x{height} frame")
        self._letterbox = Letterbox.fit((x0, y0, x1, y1), self.input_px)
        self._canvas = Canvas(self._letterbox)
        self._size_px = size_px

    def _check_output(self) -> None:
        shape = self._network.output_shape
        if self._head is Head.END_TO_END:
            expected, fits = "[1, candidates, 6]", len(shape) == 3 and shape[2] == 6
        else:
            rows = 5 + int(self._class_indices.max(initial=-1))
            expected = f"[1, {rows} or more, candidates] for the classes asked for"
            fits = len(shape) == 3 and (shape[1] or 0) >= rows
        if not fits:
            shown = ", ".join("any" if side is None else str(side) for side in shape)
            raise BadInput(
                f"{self._network.name}: expected an output {expected} ({self._head.value} head), got [{shown}]"
            )
