"""Detectors: a frame in, boxes with scores and labels out.

All of them answer in the same pixels and drop duplicates in the same way; they differ in what runs the network.
Backends are imported only when chosen: :func:`open_detector` goes from a catalogue entry to a running detector, and
:class:`edge.detect.ultralytics.UltralyticsDetector` runs whatever Ultralytics can load.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge.detect.look import Look, look_at_road
from edge.domain import Detections, Frame, Region, RoadUser
from edge.errors import BadInput
from models import CatalogueError, Head, Model, Runtime

if TYPE_CHECKING:
    from edge.detect.glance import Glance
    from edge.detect.network import Network

__all__ = ["Detector", "Look", "look_at_road", "network_of", "open_detector", "open_glance"]


class Detector(Protocol):
    """What every backend offers."""

    @property
    def region_px(self) -> Region | None:
        """The part of the frame that is looked at, None for all of it. [px]"""

    def detect(self, frame: Frame) -> Detections:
        """Road users in the frame, best first, one box each."""


def open_detector(model: Model, *, threads: int = 2, look: Look | None = None) -> Detector:
    """Load a model, after comparing its file with its entry in the catalogue.

    Args:
        model: Which one.
        threads: Processor threads that a frame may use.
        look: Which part of each frame to look at, and how finely; None: all of it, at the model's own size.

    Raises:
        BadInput: The file is missing, not the one of the entry, or not such a network.
    """
    region_px = None if look is None else look.region_px
    classes = _road_users(model)
    try:
        file = model.verified_file()
    except CatalogueError as error:
        raise BadInput(str(error)) from error
    if model.runtime is Runtime.ULTRALYTICS:
        from edge.detect.ultralytics import UltralyticsDetector

        return UltralyticsDetector(
            file, threads=threads, input_px=model.input_px, region_px=region_px, bottom_offset=model.bottom_offset
        )

    from edge.detect.network import NetworkDetector

    input_px = None if model.stride is None else model.input_px if look is None else look.input_px
    network = network_of(model, file, threads=threads, input_px=input_px)
    expected_px = input_px or model.input_px
    if expected_px is not None and network.input_px != expected_px:
        raise BadInput(f"model {model.name}: expected an input of {expected_px} px, the file has {network.input_px}")
    return NetworkDetector(
        network,
        classes=classes,
        head=model.head or Head.CLASSIC,
        region_px=region_px,
        bottom_offset=model.bottom_offset,
    )


def open_glance(model: Model, look: Look, *, threads: int = 2) -> Glance | None:
    """Load a model at a smaller input, to look at parts of the picture; None when that cannot be, or is not worth it.

    Args:
        model: One that :func:`open_detector` has loaded, and so verified.
        look: How that looks at the whole road.
        threads: Processor threads that a frame may use.
    """
    from edge.detect.glance import Glance, glance_px
    from edge.detect.network import NetworkDetector

    input_px = None if model.stride is None else glance_px(look, model.stride)
    if input_px is None:
        return None
    network = network_of(model, model.file, threads=threads, input_px=input_px)
    part = NetworkDetector(
        network, classes=_road_users(model), head=model.head or Head.CLASSIC, bottom_offset=model.bottom_offset
    )
    return Glance(look, part)


def network_of(model: Model, file: Path, *, threads: int, input_px: tuple[int, int] | None = None) -> Network:
    """The bare network of a model that Ultralytics does not run.

    Args:
        model: Tells the runtime.
        file: Its weights.
        threads: Processor threads that a frame may use.
        input_px: Width and height of the input of a file that leaves them open. [px]

    Raises:
        BackendUnavailable: The runtime is not installed.
        BadInput: It is not such a network.
    """
    if model.runtime is Runtime.OPENVINO:
        from edge.detect.openvino import OpenVinoNetwork

        return OpenVinoNetwork(file, threads=threads, input_px=input_px)
    if model.runtime is Runtime.NCNN:
        from edge.detect.ncnn import NcnnNetwork

        return NcnnNetwork(file, threads=threads)
    from edge.detect.onnx import OnnxNetwork

    return OnnxNetwork(file, threads=threads, input_px=input_px)


def _road_users(model: Model) -> dict[RoadUser, tuple[int, ...]]:
    known = {user.value: user for user in RoadUser}
    for name in model.classes:
        if name not in known:
            raise BadInput(f"model {model.name}: classes.{name}: expected one of {', '.join(known)}")
    return {known[name]: indices for name, indices in model.classes.items()}
