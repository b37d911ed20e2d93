"""Speeds as counts in fixed bins: merging is addition, and every published statistic is a function of the counts.

A histogram is the last record that comes from single vehicles and the first that forgets them. Because the bins are
fixed for a site, two windows add up to the window that would have been measured over both; mean, standard deviation
and percentiles of any union are therefore the same whether the device or the platform computes them.

Bins are open below and closed above, (a, b]: a vehicle at exactly the limit does not exceed it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

WIDTHS_KMH = (1, 2, 5)  # divisors of 10: the limit and the limit + 10 are then both bin edges
LOWEST_KMH = 10  # slower than a cyclist: everything below is one class
TOP_ABOVE_LIMIT_KMH = 30  # faster is one class: the fastest driver of a street is a person, not a statistic
MIN_N_QUANTILE = 30  # below, a percentile says more about single vehicles than about the street
FEW_N = 100  # below, percentiles are published with a flag


@dataclass(frozen=True, slots=True)
class Binning:
    """Where the bins of a site lie.

    Attributes:
        from_kmh: Lower edge of the first bin. [km/h]
        width_kmh: Width of every bin. [km/h]
        bins: How many bins there are.
    """

    from_kmh: int
    width_kmh: int
    bins: int

    def __post_init__(self) -> None:
        if self.from_kmh < 0 or self.width_kmh < 1 or self.bins < 1:
            raise ValueError(f"binning: expected from ≥ 0, width ≥ 1 and bins ≥ 1, got {self}")

    @classmethod
    def for_limit(cls, limit_kmh: int, width_kmh: int = 2) -> Binning:
        """Bins from 10 km/h to 30 km/h above the limit, with the limit and the limit + 10 on bin edges.

        Raises:
            ValueError: The width is not 1, 2 or 5, or does not divide the limit, or the limit is not 10 to 130 km/h.
        """
        if not LOWEST_KMH <= limit_kmh <= 130:
            raise ValueError(f"limit_kmh: expected 10 to 130, got {limit_kmh}")
        if width_kmh not in WIDTHS_KMH:
            raise ValueError(f"width_kmh: expected one of {WIDTHS_KMH}, got {width_kmh}")
        if limit_kmh % width_kmh:
            raise ValueError(
                f"width_kmh: {width_kmh} does not divide the limit of {limit_kmh} km/h (use 1, 2 or 5 that does)"
            )
        return cls(LOWEST_KMH, width_kmh, (limit_kmh + TOP_ABOVE_LIMIT_KMH - LOWEST_KMH) // width_kmh)

    @property
    def to_kmh(self) -> int:
        """Upper edge of the last bin. [km/h]"""
        return self.from_kmh + self.width_kmh * self.bins

    def index_of(self, speed_kmh: float) -> int:
        """Bin of a speed; -1 is `under`, `bins` is `over`.

        Raises:
            ValueError: The speed is negative or not a finite number.
        """
        if not (math.isfinite(speed_kmh) and speed_kmh >= 0):
            raise ValueError(f"speed_kmh: expected a finite speed ≥ 0, got {speed_kmh}")
        return min(max(math.ceil((speed_kmh - self.from_kmh) / self.width_kmh) - 1, -1), self.bins)

    def edge_index(self, speed_kmh: float) -> int:
        """How many bins lie at or below an edge.

        Raises:
            ValueError: The speed is not a bin edge.
        """
        steps = (speed_kmh - self.from_kmh) / self.width_kmh
        if steps != int(steps) or not 0 <= steps <= self.bins:
            raise ValueError(f"{speed_kmh} km/h is not an edge of {self}")
        return int(steps)


@dataclass(frozen=True, slots=True)
class SpeedHistogram:
    """How many vehicles drove how fast.

    Attributes:
        binning: Where the bins lie.
        counts: Vehicles in each bin, one number a bin.
        under: Vehicles at or below the first edge.
        over: Vehicles above the last edge (top-coded).
    """

    binning: Binning
    counts: tuple[int, ...]
    under: int = 0
    over: int = 0

    def __post_init__(self) -> None:
        if len(self.counts) != self.binning.bins:
            raise ValueError(f"counts: expected {self.binning.bins} bins, got {len(self.counts)}")
        if min(self.under, self.over, *self.counts) < 0:
            raise ValueError("counts: expected numbers ≥ 0")

    @classmethod
    def empty(cls, binning: Binning) -> SpeedHistogram:
        """No vehicle yet: the neutral element of merging."""
        return cls(binning, (0,) * binning.bins)

    @classmethod
    def of(cls, speeds_kmh: Iterable[float], binning: Binning) -> SpeedHistogram:
        """Count speeds. [km/h]

        Raises:
            ValueError: A speed is negative or not a finite number.
        """
        counts = [0] * (binning.bins + 2)
        for speed_kmh in speeds_kmh:
            counts[binning.index_of(speed_kmh) + 1] += 1
        return cls(binning, tuple(counts[1:-1]), counts[0], counts[-1])

    def __add__(self, other: SpeedHistogram) -> SpeedHistogram:
        """The histogram of both together.

        Raises:
            ValueError: The two have different bins.
        """
        if self.binning != other.binning:
            raise ValueError(f"histograms with different bins cannot be merged: {self.binning} and {other.binning}")
        counts = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts))
        return SpeedHistogram(self.binning, counts, self.under + other.under, self.over + other.over)

    @property
    def n(self) -> int:
        """All vehicles, tails included."""
        return self.under + sum(self.counts) + self.over

    @property
    def mean_kmh(self) -> float | None:
        """Mean by bin middles; None when empty. [km/h]

        The tails count as lying half a bin outside the bins (a top-coded mean); with the bins of a site fewer than one
        vehicle in a hundred is there, and more would show in `under` and `over`.
        """
        if not self.n:
            return None
        return sum(count * middle for count, middle in self._weighted_middles()) / self.n

    @property
    def sd_kmh(self) -> float | None:
        """Standard deviation by bin middles with Sheppard's correction; None when the bins cannot tell. [km/h]

        s² = Σ c (m - mean)² / (n - 1) - w² / 12, tails as in :attr:`mean_kmh`; Sheppard (1897,
        doi:10.1112/plms/s1-29.1.353) assumes a density that is smooth over a bin and ends smoothly. None for fewer
        than two vehicles and when the spread is smaller than the bins resolve.
        """
        mean = self.mean_kmh
        if mean is None or self.n < 2:
            return None
        squares = sum(count * (middle - mean) ** 2 for count, middle in self._weighted_middles())
        variance = squares / (self.n - 1) - self.binning.width_kmh**2 / 12
        return math.sqrt(variance) if variance > 0 else None

    def quantile_kmh(self, p: float, *, least_n: int = MIN_N_QUANTILE) -> float | None:
        """The speed that a share ``p`` of the vehicles does not exceed, linear in the bin. [km/h]

        The rank p·n is looked up in the cumulated counts; inside a bin vehicles are taken as evenly spread. Where the
        density f falls inside the bin this reads up to w² |f'| / 8f too high: 0.09 km/h at V85 for bins of 2 km/h and
        a spread of 6 km/h.

        Args:
            p: Share, between 0 and 1, both excluded.
            least_n: Fewer vehicles have no percentile.

        Returns:
            None with fewer than ``least_n`` vehicles, and when the percentile lies in `under` or `over`, where the
            histogram does not know it.
        """
        if not 0 < p < 1:
            raise ValueError(f"p: expected a share between 0 and 1, got {p}")
        if self.n < max(least_n, 1):
            return None
        rank = p * self.n
        below = float(self.under)
        if rank <= below:
            return None
        for index, count in enumerate(self.counts):
            if rank <= below + count:
                return self.binning.from_kmh + self.binning.width_kmh * (index + (rank - below) / count)
            below += count
        return None

    def count_over(self, speed_kmh: float) -> int:
        """Vehicles faster than a bin edge, exactly.

        Raises:
            ValueError: The speed is not a bin edge.
        """
        return sum(self.counts[self.binning.edge_index(speed_kmh) :]) + self.over

    def as_plain(self) -> dict[str, Any]:
        """Counters as JSON-able values; :meth:`from_plain` reads them back."""
        binning = self.binning
        return {
            "from": binning.from_kmh,
            "width": binning.width_kmh,
            "counts": list(self.counts),
            "under": self.under,
            "over": self.over,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> SpeedHistogram:
        """Read back what :meth:`as_plain` wrote."""
        counts = tuple(int(count) for count in plain["counts"])
        return cls(Binning(plain["from"], plain["width"], len(counts)), counts, plain["under"], plain["over"])

    def _weighted_middles(self) -> Iterable[tuple[int, float]]:
        first = self.binning.from_kmh - self.binning.width_kmh / 2
        for index, count in enumerate((self.under, *self.counts, self.over)):
            yield count, first + index * self.binning.width_kmh
