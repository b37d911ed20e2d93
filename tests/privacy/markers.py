"""Numbers that belong to one vehicle, and the search for them in everything that a device says or keeps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone

import numpy as np

from calibration.units import kmh_from_mps
from edge.clock import ClockAnchor
from edge.domain import Detections, Frame, Passage

_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+|\d{10,}")  # with decimals, or long enough to be an instant in nanoseconds
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?")
FEWEST_DECIMALS = 3  # what is said is rounded to 0.1 km/h and 0.001; a number of one vehicle has more


@dataclass
class Markers:
    """What belongs to single vehicles: their numbers with every decimal, and their instants.

    ``numbers`` are speeds (m/s and km/h), uncertainties, lengths, offsets and boxes; ``instants_ns`` are UTC.
    """

    numbers: list[float] = field(default_factory=list)
    instants_ns: list[int] = field(default_factory=list)

    def take(self, passage: Passage, anchor: ClockAnchor) -> None:
        """Everything that is known about a passage."""
        if passage.speed is not None:
            speed = passage.speed
            each_mps = (speed.speed_mps, speed.sigma_mps, speed.sigma_random_mps, speed.sigma_calibration_mps)
            self.numbers += [*each_mps, *map(kmh_from_mps, each_mps)]
        self.numbers += [passage.lateral_m, passage.baseline_m, passage.length_m or 0.0]
        for instant_ns in (passage.entered_ns, passage.left_ns, passage.middle_ns):
            self.numbers.append(instant_ns / 1e9)
            self.instants_ns.append(anchor.utc_of(instant_ns))

    def take_boxes(self, boxes_px: np.ndarray) -> None:
        """Boxes of vehicles. [px]"""
        self.numbers += [float(edge) for edge in np.ravel(boxes_px)]

    def found_in(self, texts: Iterable[str]) -> list[str]:
        """Places where a number of one vehicle stands, rounded or not."""
        known = np.sort(np.array([number for number in self.numbers if number]))
        instants = np.sort(np.array(self.instants_ns, dtype=np.int64))
        found = []
        for text in texts:
            for token in _NUMBER.findall(text):
                if "." not in token:
                    close = _nearest(instants, int(token) if len(token) < 19 or token < "9" else 0) < 1_000_000
                else:
                    decimals = len(token.partition(".")[2])
                    close = decimals >= FEWEST_DECIMALS and _nearest(known, float(token)) <= 0.5 * 10.0**-decimals
                if close:
                    found.append(f"{token} in {text[:200]!r}")
            for token in _INSTANT.findall(text):
                if "." in token:  # whole seconds are those of windows, of health and of status
                    instant = datetime.fromisoformat(f"{token.replace(' ', 'T'):0<26}").replace(tzinfo=timezone.utc)
                    if _nearest(instants, round(instant.timestamp() * 1e9)) < 1_000_000:
                        found.append(f"{token} in {text[:200]!r}")
        return found


def _nearest(sorted_values: np.ndarray, value: float) -> float:
    """Distance to the nearest of them."""
    if not len(sorted_values):
        return np.inf
    at = int(np.searchsorted(sorted_values, value))
    return float(np.min(np.abs(sorted_values[max(at - 1, 0) : at + 1].astype(np.float64) - value)))


class Remembering:
    """A detector that remembers every box for the test."""

    def __init__(self, detector: object, markers: Markers) -> None:
        self._detector = detector
        self._markers = markers

    def detect(self, frame: Frame) -> Detections:
        detections: Detections = self._detector.detect(frame)  # type: ignore[attr-defined]
        self._markers.take_boxes(detections.boxes_xyxy_px)
        return detections
