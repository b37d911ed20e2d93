"""One study: which days count, what changed, how sure that is, and what a reader must know before believing it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from edge.domain import Bools, Direction, Floats
from edge.errors import BadInput, SnelliusError
from edge.publish.payload import Flow
from edge.study.days import Days, days_of
from edge.study.effect import FIGURES, Comparison, Effect, effect_of, lag_one, sigma_of_calibration
from edge.study.words import ENGLISH, LONE_WEEKDAY, NO_DATA

ADVISED_DAYS = 14  # a side; fewer have no second Monday
LEAST_DAYS = 3  # a side; fewer say nothing
LEAST_COVERAGE = 0.7
WATCHED_WELL = 0.95  # of the stricter variant
LONGEST_MEMORY = 0.3  # correlation of neighbouring days above which intervals are too short
WASH_OUT_DAYS = 7  # drivers need some days to get used to a measure
V85 = FIGURES.index("v85")
UNITS = {"mean": "km/h", "v50": "km/h", "v85": "km/h", "share_over": "share", "share_over10": "share",
         "volume": "vehicles/day"}  # fmt: skip
SEED = 20260101  # the same data give the same report

Period = tuple[date, date]


class StudyRefused(SnelliusError):
    """The data cannot answer the question; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        pole: The street with the measure.
        comparison: Streets without it.
        before: First and last traffic day before.
        after: First and last traffic day after.
        direction: Only this one; None: both.
        hours: Only windows between these local hours; None: the whole day.
        least_coverage: Days that were watched less are left out, 0 to 1.
        exclusions: Days to leave out, with the reason.
        limit_kmh: Speed limit to count against on the street; None: the latest.
        u_calibration: Relative one-sigma uncertainty to assume for a calibration that told none; None: refuse then.
        zone: Time zone of the streets.
    """

    pole: str
    comparison: tuple[str, ...]
    before: Period
    after: Period
    direction: Direction | None = None
    hours: tuple[int, int] | None = None
    least_coverage: float = LEAST_COVERAGE
    exclusions: Mapping[date, str] | None = None
    limit_kmh: int | None = None
    u_calibration: float | None = None
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("Europe/Amsterdam"))

    def __post_init__(self) -> None:
        for name, (first, last) in (("--before", self.before), ("--after", self.after)):
            if last < first:
                raise BadInput(f"{name}: expected the last day on or after the first, got {first}..{last}")
        if self.after[0] <= self.before[1]:
            raise BadInput(f"--after: expected days after the period before ({self.before[1]}), got {self.after[0]}")
        if self.pole in self.comparison or len(set(self.comparison)) < len(self.comparison):
            raise BadInput("--comparison: expected other poles than --pole, each once")


@dataclass(frozen=True, slots=True)
class Variant:
    """The same question asked a little differently.

    Attributes:
        key: Which difference; the report has words for each.
        detail: A name or number to put into those words.
        effect: Its answer; None when there are too few days.
        days: Usable days before and after.
    """

    key: str
    detail: str
    effect: Effect | None
    days: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """An answered question.

    Attributes:
        question: What was asked.
        streets: Days of the pole, then of the comparison poles.
        days: The days that count, in order.
        comparison: Their numbers.
        effect: The answer.
        alone: The answer without comparison streets.
        variants: The same question asked a little differently.
        warnings: What a reader must know: key and detail, for which :mod:`edge.study.words` has sentences.
        left_out: Days of the two periods that do not count, with the reason.
        calibrations: By pole, which calibrations measured before and after.
        provenances: By pole, which models, software and settings did.
        u_calibration: Uncertainty from the calibrations in each figure, one sigma, shape (6,).
        history_days: Days of the pole before the period before.
    """

    question: Question
    streets: tuple[Days, ...]
    days: tuple[date, ...]
    comparison: Comparison
    effect: Effect
    alone: Effect
    variants: tuple[Variant, ...]
    warnings: tuple[tuple[str, str], ...]
    left_out: Mapping[date, str]
    calibrations: Mapping[str, tuple[frozenset[str], frozenset[str]]]
    provenances: Mapping[str, frozenset[str]]
    u_calibration: Floats
    history_days: int

    @property
    def is_after(self) -> Bools:
        """Which days lie after the measure, shape (days,)."""
        return self.comparison.is_after

    @property
    def vehicles(self) -> tuple[int, int]:
        """Measured vehicles of the street before and after, as counted."""
        measured = self.streets[0].measured[self.streets[0].rows_of(self.days)]
        return round(measured[~self.is_after].sum()), round(measured[self.is_after].sum())

    def summary(self) -> dict[str, Any]:
        """The figures as JSON-able values; speeds in km/h, shares from 0 to 1, the volume in vehicles a day."""
        before, after = (int(side.sum()) for side in (~self.is_after, self.is_after))
        effects = {name: self._plain(index, name) for index, name in enumerate(FIGURES)}
        relative = self.effect.relative_volume
        effects["volume"] |= dict(zip(("relative", "relative_low", "relative_high"), map(_finite, relative)))
        reasons = Counter(self.left_out.values())
        return {
            "pole": self.question.pole,
            "comparison": list(self.question.comparison),
            "before": [day.isoformat() for day in self.question.before],
            "after": [day.isoformat() for day in self.question.after],
            "limit_kmh": self.comparison.limits_kmh[0],
            "effects": effects,
            "days": {"before": before, "after": after, "left_out": dict(reasons)},
            "vehicles": dict(zip(("before", "after"), self.vehicles)),
            "calibrations": {
                pole: {"before": sorted(first), "after": sorted(second)}
                for pole, (first, second) in self.calibrations.items()
            },
            "sensitivity": [
                {
                    "variant": each.key,
                    "detail": each.detail,
                    "days": list(each.days),
                    "v85": None if each.effect is None else _interval(each.effect, V85),
                }
                for each in self.variants
            ],
            "warnings": [ENGLISH.warnings[key].format(detail) for key, detail in self.warnings],
        }

    def _plain(self, index: int, name: str) -> dict[str, Any]:
        effect = self.effect
        return _interval(effect, index) | {
            "unit": UNITS[name],
            "before": _finite(effect.before[index]),
            "after": _finite(effect.after[index]),
            "p": _finite(effect.p[index]),
            "found": bool(effect.is_found[index]),
        }


def study(
    question: Question,
    windows: Mapping[str, Sequence[Flow]],
    u_calibrations: Mapping[str, Mapping[str, float | None]],
) -> Study:
    """Answer a question.

    Args:
        question: What is asked.
        windows: Windows of every pole that it names: both periods, and earlier ones of the pole if there are.
        u_calibrations: By pole, the relative one-sigma uncertainty that each calibration told.

    Raises:
        BadInput: A pole has no windows in the periods.
        StudyRefused: There are too few usable days, or a changed calibration of unknown uncertainty.
    """
    rng = np.random.default_rng(SEED)
    streets = _streets(question, windows)
    days, left_out = _usable(question, streets)
    comparison = _comparison(question, streets, days)
    before, after = (int((comparison.usable & side).sum()) for side in (~comparison.is_after, comparison.is_after))
    if min(before, after) < LEAST_DAYS:
        raise StudyRefused(
            f"too few usable days: {before} before and {after} after, expected {LEAST_DAYS} or more of the same"
            f" weekdays ({ADVISED_DAYS} are advised)"
            + "".join(f"; {n} left out: {why}" for why, n in _counted(left_out))
        )
    for lost in [day for day, used in zip(days, comparison.usable) if not used]:
        left_out[lost] = LONE_WEEKDAY
    days = tuple(day for day, used in zip(days, comparison.usable) if used)
    comparison = _comparison(question, streets, days)
    calibrations = {each.pole: _calibrations(each, days, comparison.is_after) for each in streets}
    sigma = _sigma_calibration(question, comparison, calibrations, u_calibrations)
    effect = effect_of(comparison, rng, sigma_calibration=sigma)
    alone = effect_of(_first_street(comparison), rng) if question.comparison else effect
    history = _history(question, streets[0])
    provenances = {
        each.pole: frozenset().union(*(each.provenances[row] for row in each.rows_of(days))) for each in streets
    }
    warnings = [
        *_warnings_of_design(question, streets, comparison),
        *[("calibration_changed", pole) for pole, (first, second) in calibrations.items() if len(first | second) > 1],
        *[("provenance_changed", pole) for pole, names in provenances.items() if len(names) > 1],
        *_warnings_of_data(streets, days, comparison, history, effect, rng),
    ]
    return Study(
        question=question,
        streets=streets,
        days=days,
        comparison=comparison,
        effect=effect,
        alone=alone,
        variants=tuple(_variants(question, windows, streets, days, history)),
        warnings=tuple(warnings),
        left_out=left_out,
        calibrations=calibrations,
        provenances=provenances,
        u_calibration=sigma,
        history_days=len(history),
    )


# ------------------------------------------------------------------------------------------------------- which days


def _streets(question: Question, windows: Mapping[str, Sequence[Flow]]) -> tuple[Days, ...]:
    streets = []
    for pole in (question.pole, *question.comparison):
        flows = [each for each in windows[pole] if each.window.day <= question.after[1]]
        streets.append(
            days_of(
                pole,
                flows,
                zone=question.zone,
                least_coverage=question.least_coverage,
                direction=question.direction if pole == question.pole else None,
                hours=question.hours,
            )
        )
    return tuple(streets)


def _usable(question: Question, streets: Sequence[Days]) -> tuple[tuple[date, ...], dict[date, str]]:
    """Days of both periods on which every street has a row, and why the others do not count."""
    exclusions = question.exclusions or {}
    known = set.intersection(*(set(each.days) for each in streets))
    days, left_out = [], {}
    for first, last in (question.before, question.after):
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            reasons = [each.left_out.get(day, f"{NO_DATA} {each.pole}") for each in streets if day not in each.days]
            if day in exclusions:
                left_out[day] = exclusions[day]
            elif day in known:
                days.append(day)
            else:
                left_out[day] = reasons[0]
    return tuple(days), left_out


def _comparison(question: Question, streets: Sequence[Days], days: Sequence[date]) -> Comparison:
    limit_kmh = question.limit_kmh or streets[0].limit_kmh
    _check_limit(limit_kmh, streets[0])
    limits_kmh = (limit_kmh, *(each.limit_kmh for each in streets[1:]))
    return _compared(streets, *_split(question, days), limits_kmh)


def _compared(
    streets: Sequence[Days], before: Sequence[date], after: Sequence[date], limits_kmh: tuple[int, ...]
) -> Comparison:
    days = [*before, *after]
    rows = [each.rows_of(days) for each in streets]
    return Comparison(
        histograms=tuple(each.histograms[chosen] for each, chosen in zip(streets, rows)),
        volumes=np.stack([each.volumes[chosen] for each, chosen in zip(streets, rows)]),
        weekdays=np.array([day.weekday() for day in days], dtype=np.intp),
        is_after=np.arange(len(days)) >= len(before),
        binnings=tuple(each.binning for each in streets),
        limits_kmh=limits_kmh,
    )


def _check_limit(limit_kmh: int, street: Days) -> None:
    try:
        street.binning.edge_index(limit_kmh)
        street.binning.edge_index(limit_kmh + 10)
    except ValueError:
        binning = street.binning
        raise BadInput(
            f"--limit: expected {limit_kmh} and {limit_kmh + 10} km/h to be edges of the bins of '{street.pole}'"
            f" ({binning.width_kmh} km/h from {binning.from_kmh} to {binning.to_kmh})"
        ) from None


def _history(question: Question, street: Days) -> tuple[date, ...]:
    """Days of the pole before the period before, without exclusions."""
    exclusions = question.exclusions or {}
    return tuple(day for day in street.days if day < question.before[0] and day not in exclusions)


# ----------------------------------------------------------------------------------------------------- calibrations


def _calibrations(street: Days, days: Sequence[date], is_after: Bools) -> tuple[frozenset[str], frozenset[str]]:
    rows = street.rows_of(days)
    sides: list[frozenset[str]] = []
    for period in (False, True):
        names = [street.calibrations[row] for row, after in zip(rows, is_after) if after == period]
        sides.append(frozenset().union(*names))
    return sides[0], sides[1]


def _sigma_calibration(
    question: Question,
    comparison: Comparison,
    calibrations: Mapping[str, tuple[frozenset[str], frozenset[str]]],
    told: Mapping[str, Mapping[str, float | None]],
) -> Floats:
    """The part of the calibrations in the sigma of each change, shape (6,)."""
    known: list[tuple[float, float, bool]] = []
    for pole, (before, after) in calibrations.items():
        is_same = len(before | after) == 1
        sides = []
        for names in (before, after):
            worst = 0.0
            for name in names:
                u_rel = told.get(pole, {}).get(name)
                u_rel = question.u_calibration if u_rel is None else u_rel
                if u_rel is None and not is_same:
                    raise StudyRefused(
                        f"the calibration of '{pole}' changed ({' and '.join(sorted(before | after))}) and the"
                        f" uncertainty of {name} is not known: give it with --u-calibration (per cent, one sigma)"
                    )
                worst = max(worst, u_rel or 0.0)
            sides.append(worst)
        known.append((sides[0], sides[1], is_same))
    before_u, after_u, same = (np.array(column) for column in zip(*known))
    return sigma_of_calibration(comparison, before_u, after_u, same)


# ---------------------------------------------------------------------------------------------------------- warnings


def _warnings_of_design(question: Question, streets: Sequence[Days], comparison: Comparison) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if not question.comparison:
        found.append(("no_comparison", ""))
    least = min(int((~comparison.is_after).sum()), int(comparison.is_after.sum()))
    if least < ADVISED_DAYS:
        found.append(("few_days", str(least)))
    between = (question.after[0] - question.before[1]).days - 1
    if between < WASH_OUT_DAYS:
        found.append(("short_wash_out", str(between)))
    if streets[0].has_new_limit:
        found.append(("limit_changed", str(comparison.limits_kmh[0])))
    return found


def _warnings_of_data(
    streets: Sequence[Days],
    days: Sequence[date],
    comparison: Comparison,
    history: Sequence[date],
    effect: Effect,
    rng: np.random.Generator,
) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if len(history) < ADVISED_DAYS:
        found.append(("no_history", ""))
    else:
        before = [day for day, after in zip(days, comparison.is_after) if not after]
        higher = _try(streets[:1], history, before, comparison.limits_kmh[:1], rng)
        if higher is not None and higher.low[V85] > 0:
            found.append(("baseline_high", f"V85 +{higher.estimate[V85]:.1f} km/h"))
    halves = _halves([day for day, after in zip(days, comparison.is_after) if not after])
    apart = _try(streets, *halves, comparison.limits_kmh, rng) if len(streets) > 1 else None
    if apart is not None and apart.is_found[V85]:
        found.append(("drifted", f"V85 {apart.estimate[V85]:+.1f} km/h"))
    memory = lag_one(comparison, np.array([day.toordinal() for day in days], dtype=np.intp))
    if memory > LONGEST_MEMORY:
        found.append(("days_remember", f"{memory:.2f}"))
    if effect.is_found[V85] and effect.p[V85] > 0.05:
        found.append(("chance", f"{effect.p[V85]:.2f}"))
    coverage = streets[0].coverage[streets[0].rows_of(days)]
    sides = [float(np.mean(coverage[side])) for side in (~comparison.is_after, comparison.is_after)]
    if abs(sides[0] - sides[1]) > 0.05:
        found.append(("coverage_differs", f"{sides[0]:.0%} and {sides[1]:.0%}"))
    if np.isnan(effect.estimate).any():
        found.append(("not_known", ""))
    return found


# ------------------------------------------------------------------------------------------------------- sensitivity


def _variants(
    question: Question,
    windows: Mapping[str, Sequence[Flow]],
    streets: Sequence[Days],
    days: Sequence[date],
    history: Sequence[date],
) -> list[Variant]:
    """The same question asked a little differently; what only one way of asking finds is no finding."""
    rng = np.random.default_rng(SEED)
    limits = dict(zip((each.pole for each in streets), _comparison(question, streets, days).limits_kmh))
    before, after = _split(question, days)
    first, second = _halves(after)
    found: list[tuple[str, str, Sequence[Days], list[date], list[date]]] = [
        ("first_half", "", streets, before, first),
        ("second_half", "", streets, before, second),
    ]
    working = [[day for day in side if day.weekday() < 5] for side in (before, after)]
    found.append(("working_days", "", streets, working[0], working[1]))
    if question.exclusions:
        everything, _ = _usable(replace(question, exclusions=None), streets)
        found.append(("with_exclusions", "", streets, *_split(question, everything)))
    if question.comparison:
        found.append(("no_comparison", "", streets[:1], before, after))
    if len(question.comparison) > 1:
        for number, name in enumerate(question.comparison, start=1):
            rest = (*streets[:number], *streets[number + 1 :])
            found.append(("without", name, rest, before, after))
    if len(history) >= ADVISED_DAYS:
        earlier = [day for day in history if all(day in each.days for each in streets)]
        found.append(("whole_history", str(len(earlier)), streets, [*earlier, *before], after))
    stricter = _streets(replace(question, least_coverage=WATCHED_WELL), windows)
    found.append(("coverage", f"{WATCHED_WELL:.0%}", stricter, *_split(question, _usable(question, stricter)[0])))
    if question.direction is None and len({each.direction for each in windows[question.pole]}) == 2:
        for direction in Direction:
            one_way = _streets(replace(question, direction=direction), windows)
            usable, _ = _usable(question, one_way)
            found.append(("direction", direction.value, one_way, *_split(question, usable)))
    variants = []
    for key, detail, chosen, one, two in found:
        kept = tuple(limits[each.pole] for each in chosen)
        variants.append(Variant(key, detail, _try(chosen, one, two, kept, rng), (len(one), len(two))))
    return variants


def _try(
    streets: Sequence[Days],
    before: Sequence[date],
    after: Sequence[date],
    limits_kmh: tuple[int, ...],
    rng: np.random.Generator,
) -> Effect | None:
    """The effect between two lists of days; None when they are too few."""
    if min(len(before), len(after)) < LEAST_DAYS:
        return None
    comparison = _compared(streets, before, after, limits_kmh)
    sides = [int((comparison.usable & side).sum()) for side in (~comparison.is_after, comparison.is_after)]
    if min(sides) < LEAST_DAYS:
        return None
    return effect_of(comparison, rng, permutations=0)


def _split(question: Question, days: Sequence[date]) -> tuple[list[date], list[date]]:
    return [day for day in days if day <= question.before[1]], [day for day in days if day >= question.after[0]]


def _halves(days: Sequence[date]) -> tuple[list[date], list[date]]:
    middle = len(days) // 2
    return list(days[:middle]), list(days[middle:])


def _first_street(comparison: Comparison) -> Comparison:
    return replace(
        comparison,
        histograms=comparison.histograms[:1],
        volumes=comparison.volumes[:1],
        binnings=comparison.binnings[:1],
        limits_kmh=comparison.limits_kmh[:1],
    )


def _counted(left_out: Mapping[date, str]) -> list[tuple[str, int]]:
    return sorted(Counter(left_out.values()).items())


def _interval(effect: Effect, index: int) -> dict[str, float | None]:
    ends = {"estimate": effect.estimate, "low": effect.low, "high": effect.high}
    return {name: _finite(end[index]) for name, end in ends.items()}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
