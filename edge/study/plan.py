"""How many days it takes to see a change, from how much the days of this street differ.

The history is treated as one period. Its days are resampled within weekdays as in the study itself, which tells the
variance of a figure for so many days; per day that is the same for any number of days. For n days before and n after,
the smallest change that is found in 80 of 100 studies is

    (t(97.5 %) + t(80 %)) · √(2 v / n)

with Student's t of 2 (n - weekdays) degrees of freedom (J. M. Bland, An Introduction to Medical Statistics, 2015,
18.3). A comparison street that shares the weather of the street makes v smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
from scipy.stats import t as student

from edge.study.beforeafter import ADVISED_DAYS, SEED, StudyRefused
from edge.study.days import Days
from edge.study.effect import FIGURES, Comparison, sigma_of_period

PLANNED_DAYS = (7, 14, 21, 28, 42, 56, 84)
POWER = 0.80


@dataclass(frozen=True, slots=True)
class Row:
    """The smallest changes that are found with so many days before and as many after.

    Attributes:
        days: On each side.
        mean: [km/h]
        v50: [km/h]
        v85: [km/h]
        share_over: Share above the limit, 0 to 1.
        share_over10: Share above the limit + 10 km/h, 0 to 1.
        volume: As a share of the volume.
    """

    days: int
    mean: float
    v50: float
    v85: float
    share_over: float
    share_over10: float
    volume: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to expect of a study.

    Attributes:
        days: Days of the history that were used.
        rows: One for each length.
    """

    days: int
    rows: tuple[Row, ...]

    def summary(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"history_days": self.days, "power": POWER, "detectable": [asdict(row) for row in self.rows]}


def plan_of(streets: Sequence[Days], exclusions: Mapping[date, str]) -> Plan:
    """Learn from the history of a pole and its comparison poles.

    Raises:
        StudyRefused: There are fewer than 14 days that all streets share.
    """
    shared = set.intersection(*(set(each.days) for each in streets)) - set(exclusions)
    days = sorted(shared)
    if len(days) < ADVISED_DAYS:
        raise StudyRefused(f"too short a history: {len(days)} usable days, expected {ADVISED_DAYS} or more")
    rows = [each.rows_of(days) for each in streets]
    history = Comparison(
        histograms=tuple(each.histograms[chosen] for each, chosen in zip(streets, rows)),
        volumes=np.stack([each.volumes[chosen] for each, chosen in zip(streets, rows)]),
        weekdays=np.array([day.weekday() for day in days], dtype=np.intp),
        is_after=np.zeros(len(days), dtype=bool),
        binnings=tuple(each.binning for each in streets),
        limits_kmh=tuple(each.limit_kmh for each in streets),
    )
    sigma, _ = sigma_of_period(history, np.full(len(days), 1 / len(days)), np.random.default_rng(SEED))
    per_day = sigma * math.sqrt(len(days))
    return Plan(len(days), tuple(_row(count, per_day.tolist()) for count in PLANNED_DAYS))


def _row(count: int, per_day: Sequence[float]) -> Row:
    freedom = max(2 * (count - min(7, count // 2)), 2)
    reach = float(student.ppf(0.975, freedom) + student.ppf(POWER, freedom)) * math.sqrt(2 / count)
    return Row(count, **dict(zip(FIGURES, (reach * sigma for sigma in per_day))))
