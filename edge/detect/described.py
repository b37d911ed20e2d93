"""What a model file says of itself: enough to make an entry of the catalogue from it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.domain import RoadUser
from edge.errors import BadInput
from models import Head, Runtime

ROAD_USERS = {
    "person": RoadUser.PERSON,
    "pedestrian": RoadUser.PERSON,
    "bicycle": RoadUser.BICYCLE,
    "car": RoadUser.CAR,
    "van": RoadUser.CAR,
    "motorcycle": RoadUser.MOTORCYCLE,
    "motorbike": RoadUser.MOTORCYCLE,
    "motor": RoadUser.MOTORCYCLE,
    "bus": RoadUser.BUS,
    "truck": RoadUser.TRUCK,
    "lorry": RoadUser.TRUCK,
}  # names of COCO, and of the data sets that people train road models on


@dataclass(frozen=True, slots=True)
class Description:
    """What can be read off a model file.

    Attributes:
        runtime: What runs it.
        input_px: Width and height of its input; None: its runtime knows. [px]
        head: How its answer is read; None: its runtime knows.
        names: What its classes are called, by index; empty when it does not say.
    """

    runtime: Runtime
    input_px: tuple[int, int] | None
    head: Head | None
    names: Mapping[int, str]

    @property
    def classes(self) -> dict[str, tuple[int, ...]]:
        """Road users and their indices, as the catalogue has them."""
        found: dict[str, list[int]] = defaultdict(list)
        for index, name in sorted(self.names.items()):
            if name.lower() in ROAD_USERS:
                found[ROAD_USERS[name.lower()].value].append(index)
        return {name: tuple(indices) for name, indices in found.items()}


def described(file: Path) -> Description:
    """Load a model and read off what it is.

    Args:
        file: An ONNX file, a folder of OpenVINO or ncnn, or a file that Ultralytics runs.

    Raises:
        BackendUnavailable: What runs it is not installed.
        BadInput: It is no such model.
    """
    if not file.exists():
        raise BadInput(f"{file}: no such model")
    if file.is_dir():
        return _of_folder(file)
    if file.suffix != ".onnx":
        return Description(Runtime.ULTRALYTICS, None, None, {})
    from edge.detect.onnx import OnnxNetwork

    network = OnnxNetwork(file)
    head = _head_of(file, network.output_shape)
    return Description(Runtime.ONNXRUNTIME, network.input_px, head, _names_of(network.described.get("names", "{}")))


def _of_folder(folder: Path) -> Description:
    from edge.detect.ncnn import METADATA, PARAM, NcnnNetwork

    said = folder / METADATA
    names = _names_in(said.read_text(encoding="utf-8")) if said.is_file() else {}
    if (folder / PARAM).exists():
        ncnn = NcnnNetwork(folder)
        return Description(Runtime.NCNN, ncnn.input_px, _head_of(folder, ncnn.output_shape), names)
    from edge.detect.openvino import OpenVinoNetwork

    openvino = OpenVinoNetwork(folder)
    return Description(Runtime.OPENVINO, openvino.input_px, _head_of(folder, openvino.output_shape), names)


def _head_of(file: Path, shape: tuple[int | None, ...]) -> Head:
    if len(shape) == 3 and shape[2] == 6:
        return Head.END_TO_END
    if len(shape) == 3 and (shape[1] or 0) >= 5 and (shape[2] is None or shape[2] > (shape[1] or 0)):
        return Head.CLASSIC
    raise BadInput(
        f"{file.name}: expected an output [1, 4 + classes, candidates] or [1, candidates, 6], got"
        f" [{', '.join('any' if side is None else str(side) for side in shape)}]"
    )


def _names_of(text: str) -> dict[int, str]:
    """Names as Ultralytics writes them into an ONNX file: a dictionary in Python's notation."""
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {}
    return {int(index): str(name) for index, name in names.items()} if isinstance(names, dict) else {}


def _names_in(text: str) -> dict[int, str]:
    """Names as Ultralytics writes them into ``metadata.yaml``: an indented line each."""
    _, _, after = text.partition("names:")
    found = re.findall(r"^\s+(\d+):\s*['\"]?(.+?)['\"]?\s*$", after, re.MULTILINE)
    return {int(index): name for index, name in found}
