"""Slow checks of the calibration by the traffic itself: cars do not grow, and a street keeps its profile of speeds.

A camera that is out of focus, a lens that was exchanged or a turn that the camera watch could not see changes the
metres of the road plane. Two quantities notice without anybody's help, over many cars:

- the **median length of cars**, which follows the scale of the plane;
- the **ratio of the two half zones**: mean speed in the far half over that in the near half along the axis. Where
  drivers brake on a street they brake in both directions, so the ratio belongs to the place; a tilt changes it.

Neither has a true value that could be known beforehand: fleets differ, streets differ. So the first :data:`BLOCK` cars
after a calibration are the reference, each later block is compared with it, and two blocks in a row that differ in the
same sense raise the alarm; two in a row that do not end it. Nothing is corrected: a technician has to look.

Privacy: lengths and ratios are counted in memory only. What is kept across a restart are the two medians of a whole
block with their standard deviations, and all that leaves the device is one word (``calibration_drift``).

Limits: a street with 100 cars a day fills a block in five days, and a restart begins the block anew. Works that slow
traffic inside the zone, or another fleet, look like a trend as well; that is for the technician to see. A wrong scale
is seen in part only, because the fit of a body knows usual sizes: simulated on an oblique pole, cars look 3 % longer
when the scale is 5 % too large; the ratio changes by 2 % for a tilt of 0.3° and by 4 % for a focal length of 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge.domain import Direction, Passage, RoadUser

BLOCK = 500  # cars: the median of their lengths is then known to about 0.5 %
STRIKES = 2  # blocks in a row: one may be a fair, a race, a day of snow
MOST_CHANGE = 0.02  # of lengths or of the ratio; seasons and light change both by about one percent
SIGMAS = 3.0


@dataclass(frozen=True, slots=True)
class Middle:
    """The median of a block.

    Attributes:
        value: Natural logarithm of a length in metres, or of a ratio.
        sigma: One standard deviation.
    """

    value: float
    sigma: float

    @classmethod
    def of(cls, values: list[float]) -> Middle:
        """Median with its standard deviation from the order statistics one sigma either side (distribution-free)."""
        ordered, n = sorted(values), len(values)
        reach = max(1, round(math.sqrt(n) / 2))
        low, high = ordered[max(0, n // 2 - reach)], ordered[min(n - 1, n // 2 + reach)]
        return cls((ordered[(n - 1) // 2] + ordered[n // 2]) / 2, (high - low) / 2)

    def departs_from(self, other: Middle) -> int:
        """+1 or -1 when it is larger or smaller by more than chance and seasons explain, else 0."""
        change = self.value - other.value
        bound = MOST_CHANGE + SIGMAS * math.hypot(self.sigma, other.sigma)
        return 0 if abs(change) <= bound else int(math.copysign(1, change))


@dataclass(slots=True)
class _Quantity:
    """One of the quantities: values of the open block, the reference, and how the latest blocks differed from it."""

    values: list[float] = field(default_factory=list)
    reference: Middle | None = None
    sign: int = 0  # how the latest block differed
    blocks: int = 0  # in a row that differed like that
    is_raised: bool = False

    def add(self, value: float) -> bool:
        """Takes in one car; True when it filled a block."""
        self.values.append(value)
        if len(self.values) < BLOCK:
            return False
        middle, self.values = Middle.of(self.values), []
        if self.reference is None:
            self.reference = middle
            return True
        sign = middle.departs_from(self.reference)
        self.sign, self.blocks = sign, self.blocks + 1 if sign == self.sign else 1
        if self.blocks >= STRIKES:
            self.is_raised = sign != 0
        return True

    def as_plain(self) -> dict[str, Any]:
        """What is kept: nothing of an open block."""
        reference = None if self.reference is None else [self.reference.value, self.reference.sigma]
        return {"reference": reference, "sign": self.sign, "blocks": self.blocks, "is_raised": self.is_raised}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> _Quantity:
        """Read back what :meth:`as_plain` wrote."""
        reference = None if plain["reference"] is None else Middle(*plain["reference"])
        return cls([], reference, plain["sign"], plain["blocks"], plain["is_raised"])


class Trend:
    """Watches the traffic of one calibration.

    Args:
        calibration_id: Another calibration begins anew.
    """

    def __init__(self, calibration_id: str) -> None:
        self._calibration_id = calibration_id
        self._lengths, self._halves = _Quantity(), _Quantity()

    @property
    def is_raised(self) -> bool:
        """Whether the traffic has looked different for a while."""
        return self._lengths.is_raised or self._halves.is_raised

    def add(self, passage: Passage) -> bool:
        """Takes in a passage; True when something worth keeping has changed."""
        if passage.speed is None or passage.road_user is not RoadUser.CAR:
            return False
        ratio = half_ratio(passage)
        full = False
        if passage.length_m is not None:
            full = self._lengths.add(math.log(passage.length_m))
        if ratio is not None:
            full = self._halves.add(math.log(ratio)) or full
        return full

    def state(self) -> dict[str, Any]:
        """Everything that a restart goes on from."""
        return {
            "calibration": self._calibration_id,
            "lengths": self._lengths.as_plain(),
            "halves": self._halves.as_plain(),
        }

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go on from what an earlier run kept, if it had this calibration."""
        if state is not None and state["calibration"] == self._calibration_id:
            self._lengths = _Quantity.from_plain(state["lengths"])
            self._halves = _Quantity.from_plain(state["halves"])


def half_ratio(passage: Passage) -> float | None:
    """Mean speed in the half zone at the axis' end over that in the half at its begin; None when it is not known."""
    if passage.halfway_ns is None:
        return None
    first_ns, second_ns = passage.halfway_ns - passage.entered_ns, passage.left_ns - passage.halfway_ns
    if min(first_ns, second_ns) <= 0:
        return None
    return first_ns / second_ns if passage.direction is Direction.FORWARD else second_ns / first_ns
