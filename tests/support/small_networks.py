"""A network small enough to be written by hand, in the format of every runtime and with both heads.

It sees colours. Each 32-pixel cell of its input is a candidate at the middle of that cell: 24 px high and, the bluer
the cell, the wider. Red makes it a car, green a truck, and nothing a person. What it must answer follows from that, so
no runtime is the measure of another.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from edge.domain import RoadUser
from models import Head, Model, Runtime, checksum

CELL = 32
INPUT_PX = (192, 96)  # width, height
CELLS = INPUT_PX[0] // CELL, INPUT_PX[1] // CELL
NAMES = {0: "person", 1: "car", 2: "truck"}
CLASSES = {"person": (0,), "car": (1,), "truck": (2,)}
ROWS = 4 + len(NAMES)
HIGH_PX, NARROW_PX, WIDER_PX = 24.0, 10.0, 20.0  # a cell as blue as can be is WIDER_PX wider than one without blue

# From mean red, green and blue (0 to 1) of a cell to centre, size and scores: a row each.
WEIGHTS = np.zeros((ROWS, 3), dtype=np.float32)
WEIGHTS[2, 2] = WIDER_PX
WEIGHTS[5] = 1.0, -1.0, 0.0
WEIGHTS[6] = -1.0, 1.0, 0.0
BIASES = np.zeros(ROWS, dtype=np.float32)
BIASES[2:4] = NARROW_PX, HIGH_PX
CENTRES = np.zeros((ROWS, CELLS[1], CELLS[0]), dtype=np.float32)
CENTRES[0] = CELL * (np.arange(CELLS[0]) + 0.5)
CENTRES[1] = CELL * (np.arange(CELLS[1])[:, None] + 0.5)


class Kind(Enum):
    """A file format and how its answer is read."""

    ONNX = Runtime.ONNXRUNTIME, Head.CLASSIC
    ONNX_END_TO_END = Runtime.ONNXRUNTIME, Head.END_TO_END
    OPENVINO = Runtime.OPENVINO, Head.CLASSIC
    OPENVINO_END_TO_END = Runtime.OPENVINO, Head.END_TO_END
    NCNN = Runtime.NCNN, Head.CLASSIC  # that library has no end-to-end heads
    ULTRALYTICS = Runtime.ULTRALYTICS, Head.CLASSIC
    ULTRALYTICS_END_TO_END = Runtime.ULTRALYTICS, Head.END_TO_END

    @property
    def runtime(self) -> Runtime:
        """What runs it."""
        return self.value[0]

    @property
    def head(self) -> Head:
        """How its answer is read."""
        return self.value[1]


def small_network(kind: Kind, folder: Path) -> Model:
    """Write the network and describe it as a catalogue would.

    Args:
        kind: In which format.
        folder: Where; must be there.
    """
    if kind.runtime is Runtime.NCNN:
        file = _as_ncnn(folder / "small_ncnn")
    elif kind.runtime is Runtime.OPENVINO:
        file = _as_openvino(_as_onnx(folder / "small.onnx", kind.head), folder / "small_openvino")
    else:
        file = _as_onnx(folder / "small.onnx", kind.head)
    return Model(
        name="small",
        summary="Sees colours",
        file=file,
        sha256=checksum(file, "small"),
        input_px=INPUT_PX,
        stride=None,
        runtime=kind.runtime,
        head=kind.head,
        source="tests",
        licence="EUPL-1.2",
        classes=CLASSES,
    )


def a_picture(cells: dict[tuple[int, int], tuple[int, int, int]], *, scale: int = 2) -> Any:
    """A grey picture, ``scale`` times as large as the input, with some cells painted.

    Args:
        cells: Column and row to red, green, blue from 0 to 255.
        scale: Pixels for each pixel of the input.
    """
    side = CELL * scale
    picture = np.full((INPUT_PX[1] * scale, INPUT_PX[0] * scale, 3), 114, dtype=np.uint8)
    for (column, row), colour in cells.items():
        picture[row * side : (row + 1) * side, column * side : (column + 1) * side] = colour[::-1]
    return picture


def a_vehicle(
    cell: tuple[int, int], colour: tuple[int, int, int], *, scale: int = 2
) -> tuple[list[float], float, RoadUser]:
    """Box [px], score and class of what stands in a painted cell, from the definition above."""
    red, green, blue = (value / 255 for value in colour)
    x, y = (CELL * (place + 0.5) for place in cell)
    half = (NARROW_PX + WIDER_PX * blue) / 2, HIGH_PX / 2
    edges = x - half[0], y - half[1], x + half[0], y + half[1]
    user = RoadUser.CAR if red > green else RoadUser.TRUCK
    return [scale * edge - 0.5 for edge in edges], abs(red - green), user


def _as_onnx(file: Path, head: Head) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    columns = CELLS[0] * CELLS[1]
    constants = {
        "weights": WEIGHTS[:, :, None, None],
        "biases": BIASES,
        "centres": CENTRES[None],
        "flat": np.array([1, ROWS, columns]),
    }
    nodes = [
        helper.make_node("AveragePool", ["images"], ["colours"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Conv", ["colours", "weights", "biases"], ["cells"]),
        helper.make_node("Add", ["cells", "centres"], ["placed"]),
        helper.make_node("Reshape", ["placed", "flat"], ["classic"]),
    ]
    shape, output = [1, ROWS, columns], "classic"
    if head is Head.END_TO_END:
        constants |= {"half": np.array(0.5, np.float32), "sizes": np.array([2, 2, len(NAMES)]), "one": np.array([1])}
        nodes += [
            helper.make_node("Split", ["classic", "sizes"], ["centre", "size", "scores"], axis=1),
            helper.make_node("Mul", ["size", "half"], ["halves"]),
            helper.make_node("Sub", ["centre", "halves"], ["low"]),
            helper.make_node("Add", ["centre", "halves"], ["high"]),
            helper.make_node("ReduceMax", ["scores", "one"], ["best"], keepdims=1),
            helper.make_node("ArgMax", ["scores"], ["index"], axis=1, keepdims=1),
            helper.make_node("Cast", ["index"], ["class"], to=TensorProto.FLOAT),
            helper.make_node("Concat", ["low", "high", "best", "class"], ["columns"], axis=1),
            helper.make_node("Transpose", ["columns"], ["end_to_end"], perm=[0, 2, 1]),
        ]
        shape, output = [1, columns, 6], "end_to_end"
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, INPUT_PX[1], INPUT_PX[0]])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    said = {"names": NAMES, "imgsz": [INPUT_PX[1], INPUT_PX[0]], "stride": CELL, "batch": 1, "task": "detect"}
    helper.set_model_props(
        model, {key: str(value) for key, value in (said | {"end2end": head is Head.END_TO_END}).items()}
    )
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return file


def _as_openvino(file: Path, folder: Path) -> Path:
    import openvino

    folder.mkdir()
    openvino.save_model(openvino.Core().read_model(str(file)), str(folder / "model.xml"), compress_to_fp16=False)
    return folder


def _as_ncnn(folder: Path) -> Path:
    """By hand: a line a layer, and one file of numbers, four bytes before those of the convolution."""
    folder.mkdir()
    width, height = CELLS
    layers = [
        "Input images 0 1 in0",
        f"Pooling colours 1 1 in0 colours 0=1 1={CELL} 2={CELL}",
        f"Convolution cells 1 1 colours cells 0={ROWS} 1=1 5=1 6={WEIGHTS.size}",
        f"MemoryData centres 0 1 centres 0={width} 1={height} 2={ROWS}",
        "BinaryOp placed 2 1 cells centres placed 0=0",
        f"Reshape flat 1 1 placed out0 0={width * height} 1={ROWS}",
    ]
    text = "\n".join(["7767517", f"{len(layers)} {len(layers)}", *layers])
    (folder / "model.ncnn.param").write_text(text + "\n", encoding="ascii")
    numbers = [np.zeros(4, np.uint8), WEIGHTS, BIASES, CENTRES]
    (folder / "model.ncnn.bin").write_bytes(b"".join(each.tobytes() for each in numbers))
    names = "".join(f"  {index}: {name}\n" for index, name in NAMES.items())
    (folder / "metadata.yaml").write_text(
        f"imgsz:\n- {INPUT_PX[1]}\n- {INPUT_PX[0]}\nnames:\n{names}", encoding="ascii"
    )
    return folder
