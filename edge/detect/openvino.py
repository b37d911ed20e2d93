"""Networks on OpenVINO: an extra, sometimes faster than onnxruntime on Intel processors. Runs ONNX files too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.detect.heads import Answer
from edge.detect.letterbox import Blob
from edge.errors import BackendUnavailable, BadInput


class OpenVinoNetwork:
    """A folder with an ``.xml`` and a ``.bin`` file, or an ONNX file, loaded.

    Args:
        file: The folder or file; one input [1, 3, height, width] (red, green, blue, 0 to 1) and one output.
        threads: Processor threads that a frame may use.
        input_px: Width and height of the input of a network that leaves them open; None: the file says. [px]

    Raises:
        BackendUnavailable: OpenVINO is not installed.
        BadInput: The file is not such a network.
    """

    def __init__(self, file: Path, *, threads: int = 2, input_px: tuple[int, int] | None = None) -> None:
        try:
            import openvino
        except ImportError as missing:
            raise BackendUnavailable("detector 'openvino' needs: pip install 'snellius[openvino]'") from missing
        self.name = file.name
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # else 16 bits where a processor has them: edges off by 0.8 px
        }
        try:
            model = openvino.Core().read_model(str(_network_file(file)))
            if input_px is not None:
                model.reshape([1, 3, input_px[1], input_px[0]])
            shape = model.inputs[0].partial_shape
            if len(model.inputs) != 1 or shape.is_dynamic or len(shape) != 4 or shape[1] != 3:
                raise BadInput(f"{file.name}: expected one input of shape [1, 3, height, width], got {shape}")
            compiled = openvino.Core().compile_model(model, "CPU", options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BadInput(f"{file}: not a model that OpenVINO can run: {reason}") from error
        self._request: Any = compiled.create_infer_request()
        self._output: Any = compiled.outputs[0]
        _, _, height, width = compiled.inputs[0].shape
        self.input_px: tuple[int, int] = (int(width), int(height))
        self.output_shape: tuple[int | None, ...] = tuple(
            int(side.get_length()) if side.is_static else None for side in self._output.partial_shape
        )

    def answer(self, blob: Blob) -> Answer:
        """Run it, see :class:`edge.detect.network.Network`."""
        result: Answer = self._request.infer([blob], share_inputs=True, share_outputs=True)[self._output]
        return result


def _network_file(file: Path) -> Path:
    if not file.exists():
        raise BadInput(f"{file}: no such model")
    if file.is_file():
        return file
    descriptions = sorted(file.glob("*.xml"))
    if len(descriptions) != 1:
        raise BadInput(f"{file}: expected a folder with one .xml file, found {len(descriptions)}")
    return descriptions[0]
