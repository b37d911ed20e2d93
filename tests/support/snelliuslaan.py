"""A simulated Snelliuslaan: a street that gets speed humps, and a street beside it that does not.

Windows as poles publish them: an hour of each direction, longer at night until ten vehicles have passed. Both streets
share season and weather; each day has a shock of its own; some hours are not watched and some days are missing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

import numpy as np

from edge.domain import Direction, Provenance, WindowAggregate
from edge.subscriber import Numbered
from tests.support.builders import HILVERSUM, PROVENANCE
from tests.support.published import counts_of, day_window, received
from tests.support.traffic import BY_HOUR

STREET, COMPARISON = "hvs-0042", "hvs-0043"
BEFORE, AFTER = (date(2026, 3, 2), date(2026, 3, 29)), (date(2026, 4, 20), date(2026, 5, 17))
FIRST, LAST = date(2026, 1, 26), date(2026, 5, 17)
K = 10


@dataclass(frozen=True)
class Road:
    """One of the two streets."""

    device: str
    vehicles: int
    mean_kmh: float
    effect_kmh: float = 0.0
    spread_kmh: float = 6.2


ROADS = (Road(STREET, 1100, 33.0, effect_kmh=-3.0), Road(COMPARISON, 900, 31.8))


def published_months(
    roads: tuple[Road, ...] = ROADS,
    *,
    first: date = FIRST,
    last: date = LAST,
    measure: date = date(2026, 3, 30),
    provenance_after: Provenance = PROVENANCE,
    seed: int = 12,
) -> Iterator[Numbered]:
    """Everything that the poles published between two days, pole by pole, in the order of their numbers."""
    shared = np.random.default_rng([seed, 99])
    days = (last - first).days + 1
    weather = shared.normal(0, 0.7, days)
    for number, road in enumerate(roads):
        rng = np.random.default_rng([seed, number])
        seq = 0
        for ahead in range(days):
            day = first + timedelta(days=ahead)
            if rng.random() < 0.04:
                continue  # nobody was there to measure
            mean = road.mean_kmh + weather[ahead] - 1.2 * ahead / 100 + (1.0 if day.weekday() >= 5 else 0.0)
            mean += rng.normal(0, 0.5) + (road.effect_kmh if day >= measure else 0.0)
            volume = road.vehicles * (0.75 if day.weekday() >= 5 else 1.05) * float(np.exp(rng.normal(0, 0.07)))
            provenance = provenance_after if day >= measure else PROVENANCE
            for window in a_day(day, road, mean, volume, rng, provenance):
                seq += 1
                yield received(window, seq, device=road.device)


def a_day(
    day: date, road: Road, mean_kmh: float, volume: float, rng: np.random.Generator, provenance: Provenance
) -> Iterator[WindowAggregate]:
    """The windows of a traffic day, of both directions."""
    begin = datetime(day.year, day.month, day.day, 4, tzinfo=HILVERSUM).astimezone(timezone.utc)
    following = day + timedelta(days=1)
    end = datetime(following.year, following.month, following.day, 4, tzinfo=HILVERSUM).astimezone(timezone.utc)
    shares = np.array(BY_HOUR) / sum(BY_HOUR)
    watched = 0.6 if rng.random() < 0.06 else 1.0  # a day with much rain on the lens
    for direction in Direction:
        windows: list[tuple[datetime, datetime, np.ndarray]] = []
        start, speeds, at = begin, np.zeros(0), begin
        while at < end:
            passed = rng.poisson(volume / 2 * shares[at.astimezone(HILVERSUM).hour] * watched)
            speeds = np.append(speeds, np.maximum(rng.normal(mean_kmh, road.spread_kmh, passed), 3.0))
            at += timedelta(hours=1)
            if len(speeds) >= K:
                windows.append((start, at, speeds))
                start, speeds = at, np.zeros(0)
        if start < end:
            first, _, before = windows.pop()  # the rest of the day joins the last window
            windows.append((first, end, np.append(before, speeds)))
        for first, last, passed_kmh in windows:
            yield day_window(
                first,
                counts_of(passed_kmh),
                hours=(last - first) / timedelta(hours=1),
                coverage=watched,
                unmeasured=int(rng.binomial(len(passed_kmh), 0.03)),
                direction=direction,
                provenance=provenance,
            )


def shuffled(messages: list[Numbered], seed: int = 1) -> list[Numbered]:
    """The same messages in another order."""
    mixed = list(messages)
    random.Random(seed).shuffle(mixed)
    return mixed
