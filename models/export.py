"""From PyTorch weights to a file for a pole: ONNX first, everything else from there, where that can be.

Needs the extra ``[ultralytics]``, on a workstation: torch is gigabytes and exporting takes minutes. The library is kept
from installing packages, fetching weights and reporting home.

- ONNX: written by Ultralytics. 8 bits: convolutions only, weights a channel each, ranges from pictures of the site; the
  rest of the head stays in floating point, because one range for boxes (hundreds) and scores (below one) ruins scores.
- OpenVINO: read from that ONNX file and saved.
- ncnn, TensorRT engine: written by Ultralytics. ncnn has no end-to-end heads, so duplicates are removed by us. An
  engine can only be made on the device that runs it (untested on hardware).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.catalogue import CatalogueError, Runtime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Blob = npt.NDArray[np.float32]

_NEEDS = "exporting needs: pip install 'snellius[ultralytics]'"


class Format(str, Enum):
    """What is written."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    NCNN = "ncnn"
    ENGINE = "engine"

    @property
    def runtime(self) -> Runtime:
        """What runs it."""
        return {
            Format.ONNX: Runtime.ONNXRUNTIME,
            Format.OPENVINO: Runtime.OPENVINO,
            Format.NCNN: Runtime.NCNN,
            Format.ENGINE: Runtime.ULTRALYTICS,
        }[self]


class Source:
    """PyTorch weights.

    Args:
        weights: A ``.pt`` file is a pickle: load only what you trust.

    Raises:
        CatalogueError: Ultralytics is not installed, or cannot load it.
    """

    def __init__(self, weights: Path) -> None:
        os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", ORT_DISABLE_TELEMETRY="1")
        try:
            import torch
            from ultralytics import YOLO
        except ImportError as missing:
            raise CatalogueError(_NEEDS) from missing
        try:
            self._yolo: Any = YOLO(str(weights), task="detect")
            self.names: dict[int, str] = dict(self._yolo.names)
        except Exception as error:  # each kind of file fails with errors of its own library
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CatalogueError(f"{weights}: not weights that Ultralytics can load: {reason}") from error
        self._torch: Any = torch
        self.weights = weights

    @property
    def is_end_to_end(self) -> bool:
        """Whether it removes duplicates itself."""
        return bool(getattr(self._yolo.model.model[-1], "end2end", False))

    def answer(self, blob: Blob, *, end_to_end: bool) -> npt.NDArray[np.float32]:
        """What the weights themselves answer, in floating point, with one head or the other.

        Args:
            blob: Red, green, blue from 0 to 1, shape (1, 3, height, width).
            end_to_end: Through the head that removes duplicates; only if it has one.
        """
        model = self._yolo.model.float().eval()
        head = model.model[-1]
        was = self.is_end_to_end
        if was != end_to_end:
            head.end2end = end_to_end
        try:
            with self._torch.no_grad():
                answer = model(self._torch.from_numpy(blob.copy()))
        finally:
            if was != end_to_end:
                head.end2end = was
        result: npt.NDArray[np.float32] = (answer[0] if isinstance(answer, (tuple, list)) else answer).numpy()
        return result

    def export(
        self, kind: Format, folder: Path, *, input_px: tuple[int, int], pictures: Iterable[Blob] | None = None
    ) -> Path:
        """Write the file or folder for a pole.

        Args:
            kind: What to write.
            folder: Where; a file of the same name is replaced.
            input_px: Width and height of the input, in steps of 32. [px]
            pictures: 8 bits, with ranges from these inputs; None: floating point.

        Raises:
            CatalogueError: It cannot be written so.
        """
        if pictures is not None and kind not in (Format.ONNX, Format.OPENVINO):
            raise CatalogueError(f"--int8: expected --format onnx or openvino, got {kind.value}")
        if any(side % 32 for side in input_px):
            raise CatalogueError(f"--size: expected sides in steps of 32, got {'x'.join(map(str, input_px))}")
        written = self._written(Format.ONNX if kind is Format.OPENVINO else kind, folder, input_px)
        if pictures is not None:
            written = _in_8_bits(written, pictures)
        return _as_openvino(written) if kind is Format.OPENVINO else written

    def _written(self, kind: Format, folder: Path, input_px: tuple[int, int]) -> Path:
        from ultralytics import YOLO

        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / f"{self.weights.stem}.pt"  # it is written beside the weights, which may stand anywhere
        shutil.copyfile(self.weights, copy)
        try:
            made = YOLO(str(copy), task="detect").export(
                format=kind.value,
                imgsz=(input_px[1], input_px[0]),
                device="cpu" if kind is not Format.ENGINE else 0,
                nms=False,  # no step of theirs in the graph; heads that do without one are kept only when this is said
            )
        except Exception as error:  # of torch, the converter or Ultralytics: all mean the same here
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CatalogueError(f"{self.weights.name}: cannot be exported as {kind.value}: {reason}") from error
        finally:
            copy.unlink(missing_ok=True)
        return Path(str(made))


def _in_8_bits(file: Path, pictures: Iterable[Blob]) -> Path:
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as missing:
        raise CatalogueError(_NEEDS) from missing

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter([{"images": picture} for picture in pictures])

        def get_next(self) -> dict[str, Blob] | None:
            return next(self._left, None)

    prepared, out = file.with_name(f".{file.name}"), file.with_name(f"{file.stem}-int8.onnx")
    quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(out),
        Pictures(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    prepared.unlink()
    file.unlink()
    return out


def _as_openvino(file: Path) -> Path:
    try:
        import openvino
    except ImportError as missing:
        raise CatalogueError("--format openvino needs: pip install 'snellius[openvino]'") from missing
    folder = file.with_name(f"{file.stem}_openvino")
    folder.mkdir(exist_ok=True)
    openvino.save_model(openvino.Core().read_model(str(file)), str(folder / "model.xml"), compress_to_fp16=False)
    file.unlink()
    return folder
