"""Is the before/after study honest? Thousands of simulated streets whose true effect is known.

    python -m benchmarks.study [--studies 2000] [--json OUT]

Each study is a street and a comparison street with the same season and the same trend, weekdays that differ, a shock of
every day that both share (weather) and one that each has alone, days that are missing and days that were watched in
part. The measure shifts every speed of the street by 0, -1 or -3 km/h, and takes 0, 3 or 8 % of the traffic away.
Shown: how often the 95 % interval holds the truth, how often something is found, and what the test that counts vehicles
instead of days would have said of the same numbers. Rows below the line break an assumption on purpose.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.special import ndtr

from edge.domain import Binning, Floats
from edge.study.effect import FIGURES, Comparison, effect_of
from edge.study.figures import speed_figures

BINNING = Binning.for_limit(30)
LIMIT_KMH = 30
LEAST_COVERAGE = 0.7  # days below are left out, as in the study itself
Z = 1.959964


@dataclass(frozen=True)
class Street:
    """What is simulated.

    Attributes:
        name: For the table.
        effect_kmh: What the measure does to every speed. [km/h]
        effect_volume: What it does to the traffic, as a share.
        days: Days before, and days after.
        wash_out: Days between that are left out.
        vehicles: Motor vehicles a day, of the street and of the comparison street.
        means_kmh: Mean speeds of the two. [km/h]
        spread_kmh: Of the vehicles of a day. [km/h]
        own_kmh: Standard deviation of the shock that a street has alone, from day to day. [km/h]
        common_kmh: Of the shock that both share. [km/h]
        season_kmh: Amplitude over a year, shared. [km/h]
        trend_kmh: Change over a year of both. [km/h]
        missing: Share of the days without data, for each street.
        partly: Share of the days that were watched in part.
        memory: Correlation of a street's own shock with that of the day before (0: none).
        has_comparison: Whether the study may use the comparison street.
    """

    name: str
    effect_kmh: float = 0.0
    effect_volume: float = 0.0
    days: int = 21
    wash_out: int = 21
    vehicles: tuple[int, int] = (600, 900)
    means_kmh: tuple[float, float] = (33.0, 31.5)
    spread_kmh: float = 6.0
    own_kmh: float = 0.6
    common_kmh: float = 0.8
    season_kmh: float = 1.0
    trend_kmh: float = -2.0
    missing: float = 0.08
    partly: float = 0.15
    memory: float = 0.0
    has_comparison: bool = True


SCENARIOS = (
    Street("no effect"),
    Street("-1 km/h", effect_kmh=-1.0, effect_volume=-0.03),
    Street("-3 km/h", effect_kmh=-3.0, effect_volume=-0.08),
    Street("no effect, 14 days, 150 vehicles", days=14, vehicles=(150, 400)),
    Street("-1 km/h, 14 days, 150 vehicles", effect_kmh=-1.0, days=14, vehicles=(150, 400)),
    Street("-3 km/h, 28 days, 3000 vehicles", effect_kmh=-3.0, days=28, vehicles=(3000, 2000)),
)
BROKEN = (
    Street("no effect, without the comparison street", has_comparison=False),
    Street("no effect, days remember (0.4)", memory=0.4),
)
WEEKDAY_KMH = np.array([0.0, -0.1, 0.0, -0.2, 0.3, 1.2, 1.6])
WEEKDAY_VOLUME = np.array([1.0, 1.05, 1.06, 1.08, 1.1, 0.85, 0.66])
DAY_VOLUME = 0.08  # spread of the logarithm of a day's volume that a street has alone
SHARED_VOLUME = 0.06  # and that both share


def a_study(street: Street, rng: np.random.Generator) -> tuple[Comparison, Floats]:
    """The days of one study, and the true changes in the order of ``FIGURES`` (the volume as a share)."""
    span = 2 * street.days + street.wash_out
    numbers = np.r_[0 : street.days, street.days + street.wash_out : span]
    first = date(2026, 1, 1) + timedelta(days=int(rng.integers(365)))
    weekdays = np.array([(first + timedelta(days=int(number))).weekday() for number in numbers])
    is_after = numbers >= street.days
    phase = rng.uniform(0, 2 * math.pi)
    season = street.season_kmh * np.sin(2 * math.pi * numbers / 365 + phase) + street.trend_kmh * numbers / 365
    volume = 0.08 * np.sin(2 * math.pi * numbers / 365 + phase) + rng.normal(0, SHARED_VOLUME, len(numbers))
    common = rng.normal(0, street.common_kmh, len(numbers))
    watched, volumes, centres = [], [], []
    for place in range(2):
        centre = street.means_kmh[place] + season + WEEKDAY_KMH[weekdays]
        expected = street.vehicles[place] * WEEKDAY_VOLUME[weekdays] * np.exp(volume)
        if place == 0:
            centre = centre + street.effect_kmh * is_after
            expected = expected * (1 + street.effect_volume * is_after)
            centres.append(centre)
        own = remembering(span, street.memory, rng)[numbers] * street.own_kmh
        passed = rng.poisson(expected * np.exp(rng.normal(0, DAY_VOLUME, len(numbers))))
        coverage = np.where(rng.random(len(numbers)) < street.partly, rng.uniform(0.5, 1.0, len(numbers)), 1.0)
        coverage[rng.random(len(numbers)) < street.missing] = 0.0
        seen = rng.multinomial(rng.binomial(passed, coverage), shares(centre + common + own, street.spread_kmh))
        scale = np.divide(1.0, coverage, out=np.zeros_like(coverage), where=coverage >= LEAST_COVERAGE)
        watched.append(seen * scale[:, None])
        volumes.append(seen.sum(axis=1) * scale)
    chosen = slice(None) if street.has_comparison else slice(1)
    histograms, counts = np.stack(watched[chosen]), np.stack(volumes[chosen])
    kept = (counts > 0).all(axis=0)
    days = Comparison(
        tuple(histograms[:, kept]),
        np.asarray(counts[:, kept], dtype=np.float64),
        weekdays[kept],
        is_after[kept],
        (BINNING,) * len(counts),
        (LIMIT_KMH,) * len(counts),
    )
    spread = math.sqrt(street.spread_kmh**2 + street.own_kmh**2 + street.common_kmh**2)
    return days, _truth(days, centres[0][kept], spread, street)


def shares(centres_kmh: Floats, spread_kmh: float) -> Floats:
    """Share of the vehicles in every bin of days with these mean speeds, shape (days, bins + 2)."""
    edges = np.r_[-np.inf, BINNING.from_kmh + BINNING.width_kmh * np.arange(BINNING.bins + 1), np.inf]
    return np.diff(ndtr((edges - centres_kmh[:, None]) / spread_kmh), axis=1)


def remembering(days: int, memory: float, rng: np.random.Generator) -> Floats:
    """Shocks of variance 1 that remember the day before."""
    shocks = rng.normal(size=days)
    for day in range(1, days):
        shocks[day] = memory * shocks[day - 1] + math.sqrt(1 - memory**2) * shocks[day]
    return shocks


def _truth(days: Comparison, centres: Floats, spread_kmh: float, street: Street) -> Floats:
    """What the measure changes on the street in the days after: with it less without it, over all shocks."""
    _, after = days.weights()
    weights = after * WEEKDAY_VOLUME[days.weekdays]
    with_it, without = (
        speed_figures(weights @ shares(centre, spread_kmh), BINNING, LIMIT_KMH)
        for centre in (centres, centres - street.effect_kmh)
    )
    return np.append(with_it - without, street.effect_volume)


def naive_finds(days: Comparison) -> bool:
    """The test that takes every vehicle as an independent witness: two means, no days, no comparison street."""
    figures = []
    for period in (~days.is_after, days.is_after):
        counts = days.histograms[0][period].sum(axis=0)
        n = counts.sum()
        middles = BINNING.from_kmh + BINNING.width_kmh * (np.arange(BINNING.bins + 2) - 0.5)
        mean = counts @ middles / n
        figures.append((mean, counts @ (middles - mean) ** 2 / (n - 1) / n))
    (before, variance_before), (after, variance_after) = figures
    return bool(abs(after - before) > Z * math.sqrt(variance_before + variance_after))


def outcome(
    street: Street, studies: int, *, seed: int = 1, replicates: int = 400, permutations: int = 199
) -> dict[str, Any]:
    """How often the interval holds the truth and something is found, over many studies."""
    held, found, by_chance, half = [], [], [], []
    naive = 0
    for number in track(range(studies), street.name, console=Console(stderr=True), transient=True):
        rng = np.random.default_rng([seed, number])
        days, truth = a_study(street, rng)
        effect = effect_of(days, rng, replicates=replicates, permutations=permutations)
        low, high = effect.low.copy(), effect.high.copy()
        _, low[-1], high[-1] = effect.relative_volume
        held.append((low <= truth) & (truth <= high))
        found.append(effect.is_found)
        by_chance.append(effect.p < 0.05)
        half.append((high - low) / 2)
        naive += naive_finds(days)

    def each(rows: list[Any]) -> dict[str, float]:
        return dict(zip(FIGURES, np.mean(rows, axis=0).tolist()))

    return {
        "street": street.name,
        "studies": studies,
        "covered": each(held),
        "found": each(found),
        "p_below_5": each(by_chance),
        "half_width": each(half),
        "naive_finds_mean": naive / studies,
    }


def _table(title: str, outcomes: list[dict[str, Any]]) -> Table:
    table = Table("", title=title, box=None, title_justify="left")
    for name in FIGURES:
        table.add_column(f"{name}\nheld %", justify="right")
    for name in ("mean", "v85"):
        table.add_column(f"{name}\nfound %", justify="right")
        table.add_column(f"{name}\np<.05 %", justify="right")
        table.add_column(f"{name}\n± km/h", justify="right")
    table.add_column("vehicles as\nwitnesses %", justify="right")
    for each in outcomes:
        cells = [f"{100 * each['covered'][name]:.1f}" for name in FIGURES]
        for name in ("mean", "v85"):
            cells += [f"{100 * each['found'][name]:.1f}", f"{100 * each['p_below_5'][name]:.1f}"]
            cells += [f"{each['half_width'][name]:.2f}"]
        table.add_row(each["street"], *cells, f"{100 * each['naive_finds_mean']:.1f}")
    return table


def main() -> None:
    """Simulates every scenario and prints the tables."""
    parser = argparse.ArgumentParser(description="How often before/after studies are right.")
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    kept = [outcome(street, chosen.studies, seed=chosen.seed) for street in SCENARIOS]
    broken = [outcome(street, chosen.studies, seed=chosen.seed) for street in BROKEN]
    console = Console(width=200)
    console.print(
        _table(f"{chosen.studies} studies each; wanted: held 93 to 97, found with no effect at most 6.5", kept)
    )
    console.print(_table("With an assumption broken", broken))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"kept": kept, "broken": broken}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
