"""A copy of a clip with what the pipeline saw drawn into it: zone, boxes, paths, speeds with their uncertainty.

For the person who calibrated the camera, on a clip that this person recorded. The service cannot do this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from calibration import RoadPlane
from calibration.units import kmh_from_mps
from edge.domain import Floats, Frame, Passage, Pixels, RoadUser
from edge.errors import BadInput
from edge.pipeline import View

SUFFIXES = (".mp4", ".avi")
FALLBACK_RATE_HZ = 25.0  # when the clip states none
STEPS_AN_EDGE = 20  # a straight edge on the road is curved in the picture of a wide lens
TRAIL = 60  # boxes of a path that stay visible
LINES = 5  # passages listed at the same time
STANDING_KMH = 4.0  # slower is drawn without a speed

ZONE, BOX, TRACK, TEXT, SHADE = (80, 200, 80), (255, 180, 60), (60, 200, 255), (255, 255, 255), (0, 0, 0)  # BGR


class Annotator:
    """Writes the annotated clip, at a constant rate that keeps the true times of the frames."""

    def __init__(
        self, path: Path, *, size_px: tuple[int, int], rate_hz: float | None, plane: RoadPlane, polygon_m: Floats
    ) -> None:
        """Opens the file.

        Args:
            path: The clip to write, .mp4 or .avi.
            size_px: Width and height of the picture. [px]
            rate_hz: Frames a second of the written clip; None: 25.
            plane: Road plane in the frame of the site's axis.
            polygon_m: Outline of the zone in the same frame, shape (n, 2). [m]

        Raises:
            BadInput: The name ends in something else, or the clip cannot be written.
        """
        if path.suffix not in SUFFIXES:
            raise BadInput(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
        codec = "mp4v" if path.suffix == ".mp4" else "MJPG"
        self._rate_hz = rate_hz or FALLBACK_RATE_HZ
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), self._rate_hz, size_px)
        if not self._writer.isOpened():
            raise BadInput(f"{path}: this OpenCV cannot write such a clip")
        self._zone_px = _outline(plane, polygon_m)
        self._trails: dict[int, deque[tuple[int, int]]] = {}
        self._passages: deque[str] = deque(maxlen=LINES)
        self._written = 0
        self._last: Pixels | None = None

    def __enter__(self) -> Annotator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.release()

    def draw(self, frame: Frame, view: View, passages: Sequence[Passage]) -> None:
        """Adds one frame; the picture before it is repeated for as long as it lasted."""
        due = round(frame.captured_ns / 1e9 * self._rate_hz)
        while self._last is not None and self._written < due:
            self._write(self._last)
        self._passages.extend(told(passage) for passage in passages)
        self._last = self._picture(frame, view)
        if self._written <= due:
            self._write(self._last)

    def _write(self, picture: Pixels) -> None:
        self._writer.write(picture)
        self._written += 1

    def _picture(self, frame: Frame, view: View) -> Pixels:
        picture: Pixels = frame.image_bgr.copy()
        cv2.polylines(picture, [self._zone_px], isClosed=True, color=ZONE, thickness=2, lineType=cv2.LINE_AA)
        for left, top, right, bottom in view.sightings.detections.boxes_xyxy_px.round().astype(int):
            cv2.rectangle(picture, (left, top), (right, bottom), BOX, 1)
        seen = {track.number for track in view.tracks}
        self._trails = {number: trail for number, trail in self._trails.items() if number in seen}
        for track in view.tracks:
            left, top, right, bottom = (int(edge) for edge in track.box_xyxy_px.round())
            trail = self._trails.setdefault(track.number, deque(maxlen=TRAIL))
            trail.append(((left + right) // 2, bottom))
            cv2.polylines(picture, [np.array(trail, dtype=np.int32)], isClosed=False, color=TRACK, thickness=2)
            speed_kmh = kmh_from_mps(abs(float(track.velocity_mps[0])))
            moving = f" {speed_kmh:.0f} km/h" if speed_kmh > STANDING_KMH else ""
            _label(picture, f"{list(RoadUser)[track.label].value}{moving}", (left, top - 4))
        _label(picture, f"{frame.captured_ns / 1e9:7.2f} s", (8, 20))
        for row, line in enumerate(self._passages):
            _label(picture, line, (8, frame.size_px[1] - 12 - 22 * (len(self._passages) - 1 - row)))
        return picture


def told(passage: Passage) -> str:
    """A passage in a line: direction, class, speed ± U with U the expanded uncertainty (k = 2), or why it has none."""
    what = f"{passage.left_ns / 1e9:6.1f} s  {passage.direction.value:8}  {passage.road_user.value:10}"
    if passage.speed is None:
        return f"{what}  not measured: {passage.reason.value if passage.reason else ''}"
    speed_kmh, sigma_kmh = kmh_from_mps(passage.speed.speed_mps), kmh_from_mps(passage.speed.sigma_mps)
    return f"{what}  {speed_kmh:5.1f} ± {2 * sigma_kmh:.1f} km/h"


def _outline(plane: RoadPlane, polygon_m: Floats) -> npt.NDArray[np.int32]:
    following = np.roll(polygon_m, -1, axis=0)
    shares = np.linspace(0.0, 1.0, STEPS_AN_EDGE, endpoint=False)[:, None]
    points_m = np.concatenate([start + shares * (end - start) for start, end in zip(polygon_m, following)])
    points_px = plane.project(points_m)
    seen_px = points_px[np.isfinite(points_px).all(axis=1)]
    return np.asarray(seen_px.round(), dtype=np.int32)


def _label(picture: Pixels, text: str, at: tuple[int, int]) -> None:
    """White text with a dark shadow, to be read on any background."""
    for colour, (x, y) in ((SHADE, (at[0] + 1, at[1] + 1)), (TEXT, at)):
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
