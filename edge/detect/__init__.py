"""Detectors: a frame in, boxes with scores and labels out.

All of them answer in the same pixels and drop duplicates in the same way; they differ in what runs the network.
Backends are imported only when chosen: :func:`open_detector` goes from a catalogue entry to a running detector, and
:class:`edge.detect.ultralytics.UltralyticsDetector` runs whatever Ultralytics can load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.domain import RoadUser
from edge.errors import BadInput
from models import CatalogueError, Model

if TYPE_CHECKING:
    from edge.detect.onnx import OnnxDetector

__all__ = ["open_detector"]


def open_detector(
    model: Model, *, threads: int = 2, region_px: tuple[int, int, int, int] | None = None
) -> OnnxDetector:
    """Load a model of the catalogue, after comparing its file with the entry.

    Args:
        model: Which one.
        threads: Processor threads that a frame may use.
        region_px: Look only at this part of each frame: first column, first row, and one past the last of each. [px]

    Raises:
        BadInput: The file is missing, not the one of the entry, or not such a network.
    """
    from edge.detect.onnx import OnnxDetector

    try:
        file = model.verified_file()
    except CatalogueError as error:
        raise BadInput(str(error)) from error
    detector = OnnxDetector(file, classes=_road_users(model), head=model.head, threads=threads, region_px=region_px)
    if detector.input_px != model.input_px:
        raise BadInput(
            f"model {model.name}: expected an input of {model.input_px} px, the file has {detector.input_px}"
        )
    return detector


def _road_users(model: Model) -> dict[RoadUser, tuple[int, ...]]:
    known = {user.value: user for user in RoadUser}
    for name in model.classes:
        if name not in known:
            raise BadInput(f"model {model.name}: classes.{name}: expected one of {', '.join(known)}")
    return {known[name]: indices for name, indices in model.classes.items()}
