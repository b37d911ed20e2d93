"""How much a street changed between two periods, and how sure that is: days are the unit.

Vehicles of one day share weather, school, road works and a police car; they are no independent witnesses. Two periods
are therefore compared as two samples of *days*:

- Every weekday weighs the same in both periods (a weekday that one of them lacks is left out), so a missing Sunday does
  not look like slower driving.
- With comparison streets, the change of the street is taken less the mean change of the comparison streets over the
  same calendar days (difference in differences), so season, fuel price and weather drop out as far as the streets share
  them.
- Uncertainty: days are resampled within weekdays by the rescaling bootstrap (Rao and Wu 1988,
  doi:10.1080/01621459.1988.10478591; with n days of a weekday, n - 1 are drawn and weigh n / (n - 1), which makes the
  variance right for as few as two), all streets together. The interval is Student's t with the degrees of freedom of
  Satterthwaite (1946, doi:10.2307/3002019).
- The check that needs no formula: "before" and "after" are dealt out anew among the days of each weekday
  (permutation); a change that chance often makes as large is no finding.

Arrays of streets carry the street under study in row 0, comparison streets after it. Assumes that days are independent
once weekday and comparison streets are accounted for; :func:`lag_one` tells when they are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from edge.domain import Binning, Bools, Floats, Ints
from edge.study.figures import SPEED_FIGURES, speed_figures

FIGURES = (*SPEED_FIGURES, "volume")
REPLICATES = 1000  # the standard error is then itself known to 2 %
PERMUTATIONS = 999
LEVEL = 0.95
SHARES = slice(3, 5)  # of the figures
LEAST_SHARE = 5e-4  # smaller shares are a vehicle or two: they move no further on the common scale
NORMAL_Z = 1.959964  # of the calibration part, whose sigma is not estimated from days


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Days of two periods on one street and its comparison streets.

    Attributes:
        histograms: Vehicles by speed of each street, made up for missing coverage, shape (days, bins + 2).
        volumes: Motor vehicles a day, made up likewise, shape (streets, days).
        weekdays: 0 is Monday, shape (days,).
        is_after: Which period, shape (days,).
        binnings: Bins of each street.
        limits_kmh: Speed limit of each street, against which is counted. [km/h]
    """

    histograms: tuple[Floats, ...]
    volumes: Floats
    weekdays: Ints
    is_after: Bools
    binnings: tuple[Binning, ...]
    limits_kmh: tuple[int, ...]

    @property
    def usable(self) -> Bools:
        """Days whose weekday occurs in both periods, shape (days,)."""
        both = np.intersect1d(self.weekdays[self.is_after], self.weekdays[~self.is_after])
        return np.isin(self.weekdays, both)

    def weights(self) -> tuple[Floats, Floats]:
        """What each day weighs before and after; each sums to 1, and each weekday weighs the same in both.

        A weekday weighs n m / (n + m) for n days before and m after, which makes the variance of a difference smallest.
        """
        before, after = np.zeros(len(self.weekdays)), np.zeros(len(self.weekdays))
        for weekday in np.unique(self.weekdays[self.usable]):
            first = (self.weekdays == weekday) & ~self.is_after
            second = (self.weekdays == weekday) & self.is_after
            shared = first.sum() * second.sum() / (first.sum() + second.sum())
            before[first], after[second] = shared / first.sum(), shared / second.sum()
        total = before.sum()
        return before / total, after / total

    def figures(self, weights: Floats, *, factors: Floats | None = None) -> Floats:
        """Speed figures and volume a day of every street, shape (…, streets, 6) for weights of shape (…, days).

        Args:
            weights: What each day weighs.
            factors: Every speed of a street is multiplied by its factor, shape (streets,); None: by 1.
        """
        by_street = []
        for street, histograms in enumerate(self.histograms):
            factor = 1.0 if factors is None else float(factors[street])
            binning, limit_kmh = self.binnings[street], self.limits_kmh[street]
            speeds = speed_figures(weights @ histograms, binning, limit_kmh, factor=factor)
            by_street.append(np.concatenate([speeds, (weights @ self.volumes[street])[..., None]], axis=-1))
        return np.stack(by_street, axis=-2)


def change_between(before: Floats, after: Floats) -> Floats:
    """The change of the street that its comparison streets do not share.

    What happens to all streets is taken to add the same number of km/h to mean and percentiles everywhere, to multiply
    volumes by the same number, and to move shares as the same shift of a normal distribution would (probit): a rainy
    month that slows everybody by 1 km/h takes a large bite out of a large share and a small one out of a small.

    Args:
        before: Figures of every street before, shape (…, streets, 6).
        after: The same after.

    Returns:
        Shape (…, 6); the volume as a logarithm of a ratio.
    """
    moved = _on_common_scale(after) - _on_common_scale(before)
    own = moved[..., 0, :]
    if moved.shape[-2] > 1:
        own = own - moved[..., 1:, :].mean(axis=-2)
    shares = after[..., 0, SHARES]
    own[..., SHARES] = shares - ndtr(_probit(shares) - own[..., SHARES])
    return np.asarray(own)


def _on_common_scale(figures: Floats) -> Floats:
    """Figures on the scale on which streets are taken to move alike."""
    scaled: Floats = figures.copy()
    scaled[..., SHARES] = _probit(figures[..., SHARES])
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled[..., -1] = np.log(figures[..., -1])
    return scaled


def _probit(shares: Floats) -> Floats:
    return np.array(ndtri(np.clip(shares, LEAST_SHARE, 1 - LEAST_SHARE)), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """Changes of the figures, in the order of :data:`FIGURES`; all arrays have shape (6,).

    Speeds in km/h, shares from 0 to 1, the volume in vehicles a day.

    Attributes:
        before: The street before.
        after: The street after.
        estimate: Change that is put down to the measure.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: How often chance alone makes a change as large (permutation).
        freedom: Degrees of freedom of the interval.
        relative_volume: The change of the volume as a share of the volume before: estimate, low, high.
    """

    before: Floats
    after: Floats
    estimate: Floats
    low: Floats
    high: Floats
    p: Floats
    freedom: Floats
    relative_volume: tuple[float, float, float]

    @property
    def is_found(self) -> Bools:
        """Where the interval excludes "no change", shape (6,)."""
        return np.asarray((self.low > 0) | (self.high < 0))


def effect_of(
    days: Comparison,
    rng: np.random.Generator,
    *,
    sigma_calibration: Floats | None = None,
    replicates: int = REPLICATES,
    permutations: int = PERMUTATIONS,
) -> Effect:
    """The effect with its interval and its check.

    Args:
        days: Both periods; each has two usable days or more.
        rng: Where chance comes from.
        sigma_calibration: Standard deviation of each change from the calibrations, shape (6,) (the last of the
            logarithm of the volume); None: none.
        replicates: Resamples for the standard error.
        permutations: Ways to deal out the periods; 0: no check, p is NaN.

    Raises:
        ValueError: A period has fewer than two usable days.
    """
    usable = days.usable
    if min((usable & days.is_after).sum(), (usable & ~days.is_after).sum()) < 2:
        raise ValueError("an effect needs two usable days in each period")
    before, after = days.weights()
    figures_before, figures_after = days.figures(before), days.figures(after)
    change = change_between(figures_before, figures_after)
    sigma_before, free_before = sigma_of_period(days, before, rng, replicates, is_after=False, other=figures_after)
    sigma_after, free_after = sigma_of_period(days, after, rng, replicates, other=figures_before)
    sigma_days = np.hypot(sigma_before, sigma_after)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = sigma_days**4 / (sigma_before**4 / free_before + sigma_after**4 / free_after)
    freedom = np.where(np.isfinite(freedom), freedom, free_before + free_after)
    common = np.zeros(len(FIGURES)) if sigma_calibration is None else sigma_calibration
    reach = np.hypot(student.ppf((1 + LEVEL) / 2, freedom) * sigma_days, NORMAL_Z * common)
    estimate, low, high = change.copy(), change - reach, change + reach
    relative = tuple(float(np.expm1(end[-1])) for end in (change, low, high))
    for end, share in zip((estimate, low, high), relative):
        end[-1] = figures_before[0, -1] * share
    return Effect(
        figures_before[0],
        figures_after[0],
        estimate,
        low,
        high,
        _chance(days, before, after, np.abs(change), rng, permutations),
        freedom,
        (relative[0], relative[1], relative[2]),
    )


def sigma_of_calibration(days: Comparison, u_before: Floats, u_after: Floats, is_same: Bools) -> Floats:
    """What calibrations contribute to the sigma of each change, shape (6,).

    A calibration that is wrong by a share stretches every speed of its period by it. When one calibration served both
    periods most of it cancels; when each period had its own, their errors are independent and both count in full.

    Args:
        days: Both periods.
        u_before: Relative one-sigma uncertainty of the speed before, for each street, shape (streets,).
        u_after: The same after.
        is_same: Whether one calibration served both periods, shape (streets,).
    """
    before, after = days.weights()
    streets = len(days.histograms)

    def change(factors_before: Floats, factors_after: Floats) -> Floats:
        return change_between(days.figures(before, factors=factors_before), days.figures(after, factors=factors_after))

    variance = np.zeros(len(FIGURES))
    for street in range(streets):
        first, second = np.zeros(streets), np.zeros(streets)
        first[street], second[street] = u_before[street], u_after[street]
        steps = [(first, second)] if is_same[street] else [(first, 0 * second), (0 * first, second)]
        for one, two in steps:
            variance += ((change(1 + one, 1 + two) - change(1 - one, 1 - two)) / 2) ** 2
    variance[-1] = 0.0  # a count knows no metre
    return np.asarray(np.sqrt(variance))


def lag_one(days: Comparison, ordinals: Ints) -> float:
    """Correlation of a day's deviation with that of the day before, of the mean speed (contrasted); NaN: too few.

    Deviations are from the mean of the weekday within the period, which pulls the result a little below zero.
    """
    means = days.figures(np.eye(len(days.weekdays)))[..., 0]
    contrast = means[:, 0] - means[:, 1:].mean(axis=1) if means.shape[1] > 1 else means[:, 0]
    deviation = np.full(len(contrast), np.nan)
    for period in (False, True):
        for weekday in range(7):
            members = (days.weekdays == weekday) & (days.is_after == period)
            if members.sum() >= 2:
                deviation[members] = contrast[members] - contrast[members].mean()
    place = {int(ordinal): row for row, ordinal in enumerate(ordinals)}
    pairs = [
        (deviation[row], deviation[place[int(ordinal) + 1]])
        for row, ordinal in enumerate(ordinals)
        if int(ordinal) + 1 in place
    ]
    products = np.array([pair for pair in pairs if np.isfinite(pair).all()])
    if len(products) < 6:
        return float("nan")
    return float((products[:, 0] * products[:, 1]).mean() / np.nanmean(deviation**2))


def strata_of(weekdays: Ints) -> Ints:
    """Weekdays as strata of two days or more: a weekday that occurs once joins the nearest of its kind, shape (days,).

    A day alone would add nothing to the variance; joined, it adds a little more than its own.
    """
    strata = np.array(weekdays)
    while True:
        found, sizes = np.unique(strata, return_counts=True)
        if sizes.min() >= 2 or len(found) == 1:
            return strata
        lone = found[sizes == 1][0]
        partner = min(
            (other for other in found if other != lone),
            key=lambda other: ((other >= 5) != (lone >= 5), abs(int(other) - int(lone))),
        )
        strata[strata == lone] = partner


def sigma_of_period(
    days: Comparison,
    weights: Floats,
    rng: np.random.Generator,
    replicates: int = REPLICATES,
    *,
    is_after: bool = True,
    other: Floats | None = None,
) -> tuple[Floats, int]:
    """What the choice of the days of one period contributes to the standard error of the change.

    Args:
        days: At least that period.
        weights: What each of its days weighs, 0 elsewhere, shape (days,).
        rng: Where chance comes from.
        replicates: Resamples.
        is_after: Whether it is the period after.
        other: Figures of every street in the other period, shape (streets, 6); None: those of this one.

    Returns:
        Standard deviation, shape (6,), and degrees of freedom.
    """
    members = np.flatnonzero(weights)
    strata = strata_of(days.weekdays[members])
    resampled = np.zeros((replicates, len(weights)))
    for stratum in np.unique(strata):
        inside = members[strata == stratum]
        n = len(inside)
        drawn = rng.multinomial(n - 1, np.full(n, 1 / n), size=replicates)
        resampled[:, inside] = weights[inside] * drawn * (n / (n - 1))
    again = days.figures(resampled)
    still = days.figures(weights) if other is None else other
    changes = change_between(still, again) if is_after else change_between(again, still)
    return np.asarray(np.nanstd(changes, axis=0, ddof=1)), len(members) - len(np.unique(strata))


def _chance(
    days: Comparison, before: Floats, after: Floats, size: Floats, rng: np.random.Generator, permutations: int
) -> Floats:
    """Share of the ways to deal out the periods that make a change of this size or larger, shape (6,)."""
    if not permutations:
        return np.full(len(FIGURES), np.nan)
    dealt = np.empty((2, permutations, len(before)))
    dealt[:] = np.stack([before, after])[:, None]
    for weekday in np.unique(days.weekdays[days.usable]):
        members = np.flatnonzero(days.weekdays == weekday)
        order = np.argsort(rng.random((permutations, len(members))), axis=1)
        dealt[0][:, members], dealt[1][:, members] = before[members][order], after[members][order]
    change = np.abs(change_between(days.figures(dealt[0]), days.figures(dealt[1])))
    return np.asarray((1 + (change >= size - 1e-12).sum(axis=0)) / (1 + permutations))
