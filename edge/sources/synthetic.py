"""A road without pixels: vehicles whose speed we chose, seen by a camera that we know.

Stands in for a camera and a detector at once, so that the whole pipeline can be tried against an exact truth: boxes are
the bounds of each vehicle's cuboid, projected through the camera, with noise of a chosen size. No real vehicle is that
square: a speed that rests on the shape of real bodies comes out up to a few percent different.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from types import TracebackType

import numpy as np

from calibration.camera import Camera
from edge.domain import Detections, Direction, Floats, Frame, RoadUser, TimeKind
from edge.sources.timing import RisingStamps, Timing

MIN_VISIBLE_PX = 4.0  # a narrower or lower remnant at the picture's edge is no box
_CORNERS = np.array(list(product((-0.5, 0.5), (-0.5, 0.5), (0.0, 1.0))))  # along, across, up: a unit cuboid on the road


@dataclass(frozen=True, slots=True)
class ScriptedVehicle:
    """A vehicle at constant speed, parallel to the road's axis.

    Attributes:
        speed_mps: Its speed, 0 for one that stands. [m/s]
        middle_s: When the centre of its footprint is level with the road's origin. [s]
        direction: Along the axis or against it.
        lateral_m: Offset of its centre from the axis, left positive. [m]
        length_m: Length. [m]
        width_m: Width. [m]
        height_m: Height. [m]
        road_user: What the detector calls it.
        standing_m: Where along the axis one that stands does so. [m]
    """

    speed_mps: float
    middle_s: float = 0.0
    direction: Direction = Direction.FORWARD
    lateral_m: float = 0.0
    length_m: float = 4.4
    width_m: float = 1.8
    height_m: float = 1.5
    road_user: RoadUser = RoadUser.CAR
    standing_m: float = 0.0

    def along_m(self, time_s: float) -> float:
        """Where its centre is along the axis. [m]"""
        return self.standing_m + self.direction.sign * self.speed_mps * (time_s - self.middle_s)


class SyntheticRoad:
    """A frame source and its detector in one.

    Attributes:
        size_px: Width and height of the (empty) picture. [px]
        frame_count: Number of frames.
    """

    def __init__(
        self,
        *,
        camera: Camera,
        vehicles: Sequence[ScriptedVehicle],
        times_s: Sequence[float] | Floats,
        origin_m: tuple[float, float] = (0.0, 0.0),
        axis: tuple[float, float] = (1.0, 0.0),
        box_sigma_px: float = 0.0,
        time_sigma_s: float = 0.0,
        score: float = 0.9,
        seed: int = 0,
    ) -> None:
        """Sets the scene.

        Args:
            camera: Camera in survey metres.
            vehicles: Who drives.
            times_s: Instants of the frames; the first becomes ``captured_ns`` 0. [s]
            origin_m: Origin of the road in survey metres: usually the middle of the zone. [m]
            axis: Direction of the road in survey metres; "forward" runs along it.
            box_sigma_px: One standard deviation of the noise on every box edge. [px]
            time_sigma_s: Stated standard deviation of a time stamp; the stamps themselves are exact. [s]
            score: Confidence of every detection.
            seed: Of the noise. The noise of a frame does not depend on which frames were looked at before.
        """
        self.size_px = camera.image_size_px
        self.frame_count = len(times_s)
        self._camera = camera
        self._vehicles = tuple(vehicles)
        self._sizes_m = np.array([[v.length_m, v.width_m, v.height_m] for v in vehicles]).reshape(-1, 3)
        self._times_s = np.asarray(times_s, dtype=np.float64)
        self._origin_m = np.asarray(origin_m, dtype=np.float64)
        self._axis = np.asarray(axis, dtype=np.float64) / np.hypot(*axis)
        self._box_sigma_px = box_sigma_px
        self._time_sigma_s = time_sigma_s
        self._score = score
        self._seed = seed
        self._stamps = RisingStamps()

    def __enter__(self) -> SyntheticRoad:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    @property
    def timing(self) -> Timing:
        """How the time stamps of the frames so far behaved."""
        return self._stamps.timing

    def frames(self) -> Iterator[Frame]:
        """Frames with an empty picture, at the scripted instants that rise."""
        width_px, height_px = self.size_px
        black = np.broadcast_to(np.uint8(0), (height_px, width_px, 3))  # one byte, seen as a whole picture
        for time_s in self._times_s:
            captured_ns = round((time_s - self._times_s[0]) * 1e9)
            if self._stamps.accept(captured_ns):
                yield Frame(
                    captured_ns=captured_ns,
                    captured_sigma_s=self._time_sigma_s,
                    time_kind=TimeKind.PTS,
                    image_bgr=black,
                )

    def detect(self, frame: Frame) -> Detections:
        """What a detector with the chosen noise sees in a frame of this road."""
        noise = np.random.default_rng((self._seed, frame.captured_ns))
        time_s = float(self._times_s[0]) + frame.captured_ns / 1e9
        boxes = self._boxes(time_s) + noise.normal(0.0, self._box_sigma_px, (len(self._vehicles), 4))
        boxes = np.clip(boxes, -0.5, np.tile(self.size_px, 2) - 0.5)  # NaN stays NaN and is no box
        seen = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= MIN_VISIBLE_PX)
        if not len(seen):
            return Detections.none()
        labels = np.array([self._vehicles[row].road_user.label for row in seen], dtype=np.intp)
        return Detections(boxes[seen], np.full(len(seen), self._score), labels)

    def _boxes(self, time_s: float) -> Floats:
        """Bounds of the projected cuboids, NaN where a corner cannot be seen, shape (vehicles, 4). [px]"""
        places_m = np.array([[each.along_m(time_s), each.lateral_m] for each in self._vehicles]).reshape(-1, 2)
        along, left, up = np.moveaxis(_CORNERS * self._sizes_m[:, None], -1, 0)
        along, left = along + places_m[:, :1], left + places_m[:, 1:]
        across = np.array([-self._axis[1], self._axis[0]])  # left of the axis
        ground_m = self._origin_m + along[..., None] * self._axis + left[..., None] * across
        corners_px = self._camera.project(np.concatenate([ground_m, up[..., None]], axis=-1))
        return np.concatenate([corners_px.min(axis=1), corners_px.max(axis=1)], axis=-1)
