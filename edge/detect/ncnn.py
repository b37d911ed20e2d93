"""Networks on ncnn: an extra, made for Arm processors such as the Raspberry Pi's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from edge.detect.heads import Answer
from edge.detect.letterbox import Blob
from edge.errors import BackendUnavailable, BadInput

PARAM, BIN, METADATA = "model.ncnn.param", "model.ncnn.bin", "metadata.yaml"  # as Ultralytics names them
INPUT, OUTPUT = "in0", "out0"


class NcnnNetwork:
    """A folder as ``models export --format ncnn`` writes it, loaded.

    Args:
        file: The folder.
        threads: Processor threads that a frame may use.

    Raises:
        BackendUnavailable: ncnn is not installed.
        BadInput: The folder holds no such network.
    """

    def __init__(self, file: Path, *, threads: int = 2) -> None:
        try:
            import ncnn
        except ImportError as missing:
            raise BackendUnavailable("detector 'ncnn' needs: pip install 'snellius[ncnn]'") from missing
        for name in (PARAM, BIN, METADATA):
            if not (file / name).is_file():
                raise BadInput(f"{file}: expected a folder with {PARAM}, {BIN} and {METADATA}: {name} is missing")
        self.name = file.name
        self.input_px = _input_px(file / METADATA)
        self._ncnn: Any = ncnn
        self._net: Any = ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.opt.use_vulkan_compute = False
        # Failures are told by a number, and by lines on standard error that nobody can switch off.
        if self._net.load_param(str(file / PARAM)) or self._net.load_model(str(file / BIN)):
            raise BadInput(f"{file}: not a model that ncnn can run")
        width, height = self.input_px
        try:
            self.output_shape: tuple[int | None, ...] = self.answer(np.zeros((1, 3, height, width), np.float32)).shape
        except ValueError as error:
            raise BadInput(f"{file}: {error}") from None

    def answer(self, blob: Blob) -> Answer:
        """Run it, see :class:`edge.detect.network.Network`.

        Raises:
            ValueError: The network gives no answer to such an input.
        """
        with self._net.create_extractor() as extractor:
            extractor.input(INPUT, self._ncnn.Mat(np.ascontiguousarray(blob[0])))
            failed, answer = extractor.extract(OUTPUT)
            if failed:
                raise ValueError(f"expected an output '{OUTPUT}', the network has none")
            return np.array(answer, dtype=np.float32)[None]


def _input_px(metadata: Path) -> tuple[int, int]:
    """The size that a network was exported for: ``imgsz``, height first."""
    found = re.search(r"^imgsz:\s*\[?\s*-?\s*(\d+)[\s,-]+(\d+)", metadata.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise BadInput(f"{metadata}: expected imgsz with height and width, found none")
    return int(found[2]), int(found[1])
