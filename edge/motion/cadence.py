"""How often the detector looks at a road on which something moves.

A speed needs samples over the stretch on which a vehicle is fitted, not every frame: neighbouring boxes err alike, so
the third box in a tenth of a second adds time and no knowledge. The fastest road user on the stretch decides, so a
bicycle alone is looked at less often than a car in a hurry. Before and after the stretch it is enough to know who is
who.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edge.domain import Floats

SIGMA_MPS = 0.14  # asked for: 0.5 km/h from boxes alone
SAMPLE_SIGMA_M = 0.25  # of the place of one box along the road, as far as neighbouring boxes do not share it
LEAST_SAMPLES = 16  # on the stretch: fewer, and a hidden or merged box in ten is not found out
LONGEST_WAIT_S = 0.2  # between looks while something moves: the tracker tells close neighbours apart
LEAVING_WAIT_S = 0.3  # when all who move have left the stretch: somebody new comes 4 m at 50 km/h
SHORTEST_WAIT_S = 0.06
UNKNOWN_WAIT_S = 0.1  # before the speed of a road user is known; 50 km/h is 1.4 m
KNOWN_AFTER = 4  # sightings
EARLY = 0.8  # of a wait is enough: frames come when they come
STANDING_MPS = 1.0  # the boxes of what stands seem to wander this fast


class Followed(Protocol):
    """What must be known of a road user that is followed."""

    @property
    def position_m(self) -> Floats:
        """Along and left of the axis. [m]"""

    @property
    def velocity_mps(self) -> Floats:
        """Along and left of the axis. [m/s]"""

    @property
    def seen(self) -> int:
        """Sightings so far."""


def is_new(followed: Followed) -> bool:
    """Whether it has not been seen often enough to know how fast it is."""
    return followed.seen < KNOWN_AFTER


def is_travelling(followed: Followed) -> bool:
    """Whether it does more than stand, as far as is known."""
    return float(np.hypot(*followed.velocity_mps)) > STANDING_MPS


class Cadence:
    """Says how long to wait between looks.

    Args:
        stretch_m: Where along the axis the road begins and ends on which a vehicle's boxes are fitted. [m]
        sigma_mps: Standard deviation, from boxes alone, that a speed should have. [m/s]
    """

    def __init__(self, *, stretch_m: tuple[float, float], sigma_mps: float = SIGMA_MPS) -> None:
        self._begin_m, self._end_m = stretch_m
        self._sigma_mps = sigma_mps

    def wait_s(self, followed: Sequence[Followed]) -> float:
        """How long after a look the next one is due, when the road changes meanwhile. [s]"""
        known = [each for each in followed if is_travelling(each) and not is_new(each)]
        if not known or any(is_new(each) for each in followed):
            wait_s = UNKNOWN_WAIT_S
        else:
            wait_s = LEAVING_WAIT_S if all(self._has_left(each) for each in known) else LONGEST_WAIT_S
        measured_mps = [abs(float(each.velocity_mps[0])) for each in known if self._is_on_stretch(each)]
        if measured_mps:
            fastest_mps = max(measured_mps)
            wait_s = min(wait_s, (self._end_m - self._begin_m) / fastest_mps / self.samples(fastest_mps))
        return EARLY * max(wait_s, SHORTEST_WAIT_S)

    def _is_on_stretch(self, followed: Followed) -> bool:
        """Whether it is where its boxes are fitted, or will be at the next look."""
        now_m = float(followed.position_m[0])
        soon_m = now_m + float(followed.velocity_mps[0]) * LONGEST_WAIT_S
        return max(now_m, soon_m) > self._begin_m and min(now_m, soon_m) < self._end_m

    def _has_left(self, followed: Followed) -> bool:
        """Whether it is past the stretch and going on."""
        forward = followed.velocity_mps[0] > 0
        return bool(followed.position_m[0] > self._end_m if forward else followed.position_m[0] < self._begin_m)

    def samples(self, speed_mps: float) -> float:
        """Boxes on the stretch that give a speed the sigma asked for.

        The slope of a line through n evenly spread instants has the variance 12 σ² / (n T²) for large n, with T the
        time on the stretch.
        """
        on_stretch_s = (self._end_m - self._begin_m) / speed_mps
        return max(LEAST_SAMPLES, 12 * (SAMPLE_SIGMA_M / (on_stretch_s * self._sigma_mps)) ** 2)
