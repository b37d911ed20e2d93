"""Networks on onnxruntime: no torch, 80 MiB, the default."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from edge.detect.heads import Answer
from edge.detect.letterbox import Blob
from edge.errors import BackendUnavailable, BadInput

WIDTH, HEIGHT = "width", "height"  # what an ONNX file calls the sides of its input when it leaves them open
# x86 processors without VNNI add pairs of 8-bit products in 16 bits, and large sums saturate: boxes then differ by some
# tenths of a pixel from other processors. "1" forbids that and costs half as much time again; Arm never saturates.
X64_PRECISION = "0"


class OnnxNetwork:
    """An ONNX file, loaded.

    Args:
        file: ONNX file with one input [1, 3, height, width] (red, green, blue, 0 to 1) and one output.
        threads: Processor threads that a frame may use.
        input_px: Width and height of the input of a file that leaves them open; None: the file says. [px]

    Raises:
        BackendUnavailable: onnxruntime is not installed.
        BadInput: The file is not such a network.
    """

    def __init__(self, file: Path, *, threads: int = 2, input_px: tuple[int, int] | None = None) -> None:
        self.name = file.name
        self._session = _session(file, threads, input_px)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[:2] != [1, 3] or not all(type(side) is int for side in shape):
            raise BadInput(f"{file.name}: expected one input of shape [1, 3, height, width], got {shape}")
        self._input_name: str = inputs[0].name
        self.input_px: tuple[int, int] = (shape[3], shape[2])

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of the answer; None where that depends on the input."""
        return tuple(side if type(side) is int else None for side in self._session.get_outputs()[0].shape)

    @property
    def described(self) -> dict[str, str]:
        """What the file says of itself."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def answer(self, blob: Blob) -> Answer:
        """Run it, see :class:`edge.detect.network.Network`."""
        result: Answer = self._session.run(None, {self._input_name: blob})[0]
        return result


@cache
def _share_memory(onnxruntime: Any) -> None:
    """One arena for all networks of the process, which run one after the other: each would keep its own peak for ever.

    Without any, what the C library keeps is torn into pieces between the threads, and grows by megabytes a second.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    no_limit, as_asked, default = 0, 1, -1
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(no_limit, as_asked, default, default))


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
    _share_memory(onnxruntime)
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors; warnings speak of optimisations that do not apply
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime has no common base class for its errors, and each kind means the same here.
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        reason = str(error).splitlines()[0]
        raise BadInput(f"{file}: not a model that onnxruntime can run: {reason}") from error
