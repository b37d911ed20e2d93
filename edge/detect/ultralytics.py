"""A detector on Ultralytics: any model it can load, for the price of torch.

Needs the extra ``[ultralytics]`` (AGPL-3.0, gigabytes). The library is kept from installing packages, fetching weights
and reporting home: a measuring device does none of these by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from edge.detect.described import ROAD_USERS
from edge.detect.heads import Candidates, raised
from edge.domain import Detections, Frame, Region
from edge.errors import BackendUnavailable, BadInput


class UltralyticsDetector:
    """Runs a file that ``ultralytics.YOLO`` loads: ``.pt``, ``.onnx``, an OpenVINO or NCNN folder, an engine.

    Attributes:
        region_px: The part of the frame that is looked at, None for all of it. [px]
    """

    def __init__(
        self,
        model: Path,
        *,
        threads: int = 2,
        min_score: float = 0.2,
        input_px: tuple[int, int] | None = None,
        region_px: Region | None = None,
        bottom_offset: float = 0.0,
    ) -> None:
        """Load a model.

        Args:
            model: File or folder. A ``.pt`` file is a pickle: load only what you trust.
            threads: Processor threads that torch may use; other runtimes behind it choose for themselves.
            min_score: Weaker candidates are dropped. From 0 to 1.
            input_px: Width and height that frames are scaled to; None: what the model was made for. [px]
            region_px: Look only at this part of each frame: first column, first row, and one past the last of each.
            bottom_offset: How much too low the model's boxes end, as a share of their height (:class:`models.Model`).

        Raises:
            BackendUnavailable: Ultralytics is not installed.
            BadInput: The model cannot be loaded, has an input of another size, or knows no road user by name.
        """
        os.environ["YOLO_AUTOINSTALL"] = "false"  # read when ultralytics is imported
        os.environ["YOLO_OFFLINE"] = "true"
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # Ultralytics runs an .onnx file on onnxruntime
        try:
            import torch
            from ultralytics import YOLO
        except ImportError as missing:
            raise BackendUnavailable("detector 'ultralytics' needs: pip install 'snellius[ultralytics]'") from missing
        if not model.exists():
            raise BadInput(f"{model}: no such model")
        try:
            self._model: Any = YOLO(str(model), task="detect")
            names: dict[int, str] = self._model.names
            # Its first prediction chooses a number of threads by itself, so the wish is repeated after that.
            self._model.add_callback("on_predict_start", lambda _: torch.set_num_threads(threads))
        except Exception as error:  # each format fails with errors of its own library
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise BadInput(f"{model}: not a model that Ultralytics can load: {reason}") from error
        self._labels = {
            index: ROAD_USERS[name.lower()].label for index, name in names.items() if name.lower() in ROAD_USERS
        }
        if not self._labels:
            raise BadInput(f"{model}: expected classes such as car, truck or bus, found {', '.join(names.values())}")
        self.region_px = region_px
        self._bottom_offset = bottom_offset
        self._options: dict[str, object] = {
            "conf": min_score,
            "classes": list(self._labels),
            "verbose": False,
            "save": False,
        }
        if input_px is not None:
            self._options["imgsz"] = (input_px[1], input_px[0])
        self._model.predict(np.zeros((32, 32, 3), dtype=np.uint8), **self._options)
        made_for = _fixed_input_px(self._model)
        if input_px is not None and made_for is not None and made_for != input_px:
            raise BadInput(f"{model.name}: expected an input of {input_px} px, the file has {made_for}")

    def detect(self, frame: Frame) -> Detections:
        """Road users in the frame, best first, one box each.

        Raises:
            BadInput: The region does not lie inside the frame.
        """
        width, height = frame.size_px
        x0, y0, x1, y1 = self.region_px or (0, 0, width, height)
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise BadInput(f"detector region {self.region_px}: expected a part of the {width}x{height} frame")
        boxes = self._model.predict(np.ascontiguousarray(frame.image_bgr[y0:y1, x0:x1]), **self._options)[0].boxes
        boxes = boxes.cpu().numpy()
        found = Candidates(
            boxes.xyxy.astype(np.float64) + (np.array([x0, y0, x0, y0]) - 0.5),  # edges to centres at integers
            boxes.conf.astype(np.float64),
            np.array([self._labels[int(index)] for index in boxes.cls], dtype=np.intp),
        )
        found = found.best_first().without_duplicates().with_riders_joined()
        return Detections(raised(found.boxes_xyxy, self._bottom_offset, y1 - 0.5), found.scores, found.labels)


def _fixed_input_px(model: Any) -> tuple[int, int] | None:
    """Width and height of the input of an exported file that takes no other; None: it takes any. [px]"""
    backend = getattr(model.predictor, "model", None)  # of a file that torch does not run itself
    if backend is None or getattr(backend, "dynamic", False) or getattr(backend, "imgsz", None) is None:
        return None
    height, width = backend.imgsz
    return int(width), int(height)
