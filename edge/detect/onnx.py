"""A detector on onnxruntime: no torch, 80 MiB, the same numbers on every processor of a kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.detect.heads import Answer, Candidates, read_classic, read_end_to_end
from edge.detect.letterbox import Canvas, Letterbox
from edge.domain import Detections, Frame, RoadUser
from edge.errors import BackendUnavailable, BadInput
from models import Head

WIDTH, HEIGHT = "width", "height"  # what an ONNX file calls the sides of its input when it leaves them open
# x86 processors without VNNI add pairs of 8-bit products in 16 bits, and large sums saturate: boxes then differ by some
# tenths of a pixel from other processors. "1" forbids that and costs half as much time again; Arm never saturates.
X64_PRECISION = "0"
MIN_SCORE = 0.2  # below the 0.375 that counts as seen: the tracker gives weak boxes a second chance

_READERS = {Head.CLASSIC: read_classic, Head.END_TO_END: read_end_to_end}


class OnnxDetector:
    """Runs a YOLO-style ONNX file. Keeps its buffers between frames: use one detector a thread.

    Attributes:
        input_px: Width and height of the network's input. [px]
        region_px: The part of the frame that is looked at, None for all of it. [px]
    """

    def __init__(
        self,
        file: Path,
        *,
        classes: Mapping[RoadUser, Sequence[int]],
        head: Head = Head.CLASSIC,
        min_score: float = MIN_SCORE,
        threads: int = 2,
        input_px: tuple[int, int] | None = None,
        region_px: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Load the network.

        Args:
            file: ONNX file with one input [1, 3, height, width] (red, green, blue, 0 to 1) and one output.
            classes: What the network's class indices are on a road; the other classes are ignored.
            head: How the output is read.
            min_score: Weaker candidates are dropped. From 0 to 1.
            threads: Processor threads that a frame may use.
            input_px: Width and height of the input of a file that leaves them open; None: the file says. [px]
            region_px: Look only at this part of each frame: first column, first row, and one past the last of each.

        Raises:
            BadInput: The file is not such a network.
        """
        self.region_px = region_px
        self._file = file
        self._head = head
        self._min_score = min_score
        self._session = _session(file, threads, input_px)
        self._input_name, self.input_px = self._input()
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
        if frame.size_px != self._size_px:
            self._fit(frame.size_px)
        answer = self._session.run(None, {self._input_name: self._canvas.draw(frame.image_bgr)})[0]
        found = self._read(answer)
        return Detections(self._letterbox.to_frame(found.boxes_xyxy), found.scores, found.labels)

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

    def _input(self) -> tuple[str, tuple[int, int]]:
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[:2] != [1, 3] or not all(type(n) is int for n in shape):
            raise BadInput(f"{self._file.name}: expected one input of shape [1, 3, height, width], got {shape}")
        return inputs[0].name, (shape[3], shape[2])

    def _check_output(self) -> None:
        shape = self._session.get_outputs()[0].shape
        if self._head is Head.END_TO_END:
            expected, fits = "[1, candidates, 6]", len(shape) == 3 and shape[2] == 6
        else:
            rows = 5 + int(self._class_indices.max(initial=-1))
            expected = f"[1, {rows} or more, candidates] for the classes asked for"
            fits = len(shape) == 3 and type(shape[1]) is int and shape[1] >= rows
        if not fits:
            raise BadInput(f"{self._file.name}: expected an output {expected} ({self._head.value} head), got {shape}")


def _session(file: Path, threads: int, input_px: tuple[int, int] | None) -> Any:
    # From 1.29 on it reports to its maker and keeps an id of this computer; read when the library starts.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as missing:
        raise BackendUnavailable("detector 'onnxruntime' needs: pip install onnxruntime") from missing
    if not file.is_file():
        raise BadInput(f"{file}: no such model file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads would wait for the next frame in a busy loop: twice the processor time at 20 frames a second.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", X64_PRECISION)
    if input_px is not None:
        # With the size fixed before it loads, the graph is optimised as if it had been made for it.
        for name, side in zip((WIDTH, HEIGHT), input_px):
            options.add_free_dimension_override_by_name(name, side)
    options.log_severity_level = 3  # errors; warnings speak of optimisations that do not apply
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime has no common base class for its errors, and each kind means the same here.
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        reason = str(error).splitlines()[0]
        raise BadInput(f"{file}: not a model that onnxruntime can run: {reason}") from error
