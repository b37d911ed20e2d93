"""The synthetic road with pixels: each box is painted onto a street with texture, for a gate to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge.domain import Detections, Frame, Pixels
from edge.sources.synthetic import ScriptedVehicle, SyntheticRoad

Weather = Callable[[Pixels, float], Pixels]  # a picture and its instant in seconds


def a_street(brightness: int = 110, seed: int = 3) -> Pixels:
    """An empty street: coarse and fine texture around a brightness, shape (540, 960, 3)."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.normal(0.0, 0.15, (27, 48)), (960, 540), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0.0, 0.25, (540, 960)), (0, 0), 1.5)
    grey = np.clip(brightness * (1.0 + coarse + fine), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


@dataclass(frozen=True, slots=True)
class Stopping(ScriptedVehicle):
    """A vehicle that stops on its way and goes on later.

    Attributes:
        stops_at_m: Where it stands. [m]
        stands_s: For how long. [s]
    """

    stops_at_m: float = 0.0
    stands_s: float = 0.0

    def along_m(self, time_s: float) -> float:
        """Where its centre is; it stops and goes within a metre."""
        sign = self.direction.sign
        stops_s = self.middle_s + sign * self.stops_at_m / self.speed_mps
        gone_s = time_s - stops_s
        driven_s = min(gone_s, 0.0) + max(gone_s - self.stands_s, 0.0)
        return self.stops_at_m + sign * self.speed_mps * driven_s


class PaintedRoad:
    """Source and detector in one: what :class:`SyntheticRoad` scripts, painted.

    Attributes:
        looks: Instants at which the detector was asked. [s]
    """

    def __init__(
        self,
        road: SyntheticRoad,
        *,
        street: Pixels | None = None,
        paint: tuple[int, int] = (45, 190),
        weather: Weather | None = None,
    ) -> None:
        self._road = road
        self._street = a_street() if street is None else street
        self._paint = paint  # lower and upper half of a vehicle
        self._weather = weather
        self.looks: list[float] = []

    def frames(self) -> Iterator[Frame]:
        for frame in self._road.frames():
            picture = self._street.copy()
            for left, top, right, bottom in self._road.detect(frame).boxes_xyxy_px.round().astype(int):
                middle = (top + bottom) // 2
                picture[max(top, 0) : middle, max(left, 0) : right] = self._paint[1]
                picture[middle:bottom, max(left, 0) : right] = self._paint[0]
            if self._weather is not None:
                picture = self._weather(picture, frame.captured_ns / 1e9)
            yield replace(frame, image_bgr=picture)

    def detect(self, frame: Frame) -> Detections:
        self.looks.append(frame.captured_ns / 1e9)
        return self._road.detect(frame)
