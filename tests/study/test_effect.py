"""The statistics of a before/after study, against definitions and against simulated streets whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.study import SCENARIOS, Street, a_study, outcome
from edge.domain import Binning, SpeedHistogram
from edge.study.effect import (
    FIGURES,
    Comparison,
    change_between,
    effect_of,
    lag_one,
    sigma_of_calibration,
    sigma_of_period,
    strata_of,
)
from edge.study.figures import SPEED_FIGURES, speed_figures

BINNING = Binning.for_limit(30)
MEAN, V50, V85, OVER, OVER10, VOLUME = range(6)


@given(st.lists(st.integers(0, 60), min_size=27, max_size=27).filter(lambda counts: sum(counts) >= 30))
@settings(deadline=None)
def test_figures_of_arrays_are_those_of_the_published_histogram(counts: list[int]) -> None:
    histogram = SpeedHistogram(BINNING, tuple(counts[1:-1]), counts[0], counts[-1])
    found = dict(zip(SPEED_FIGURES, speed_figures(np.array(counts, dtype=float), BINNING, 30)))

    assert found["mean"] == pytest.approx(histogram.mean_kmh)
    for name, p in (("v50", 0.50), ("v85", 0.85)):
        expected = histogram.quantile_kmh(p)
        assert np.isnan(found[name]) if expected is None else found[name] == pytest.approx(expected)
    assert found["share_over"] == pytest.approx(histogram.count_over(30) / histogram.n)
    assert found["share_over10"] == pytest.approx(histogram.count_over(40) / histogram.n)


def test_an_empty_histogram_has_no_figures() -> None:
    assert np.isnan(speed_figures(np.zeros(27), BINNING, 30)).all()


def test_a_street_that_is_watched_with_a_wrong_calibration_has_all_speeds_wrong_by_that_share() -> None:
    counts = np.r_[0, np.arange(1, 26), 0].astype(float)
    right = speed_figures(counts, BINNING, 30)
    wrong = speed_figures(counts, BINNING, 30, factor=1.02)

    assert wrong[:3] == pytest.approx(right[:3] * 1.02)
    below_30 = counts[1:10].sum() + counts[10] * (30 / 1.02 - 28) / 2  # vehicles up to 29.41 km/h: 30 after the factor
    assert wrong[OVER] == pytest.approx(1 - below_30 / counts.sum())


def days(histograms: np.ndarray, weekdays: list[int], after: list[bool]) -> Comparison:
    return Comparison(
        histograms=tuple(histograms),
        volumes=histograms.sum(axis=-1),
        weekdays=np.array(weekdays),
        is_after=np.array(after),
        binnings=(BINNING,) * len(histograms),
        limits_kmh=(30,) * len(histograms),
    )


def test_each_weekday_weighs_the_same_in_both_periods() -> None:
    weekdays = [0, 0, 0, 1, 1, 6, 0, 1, 1, 1]
    compared = days(np.ones((1, 10, 27)), weekdays, [False] * 6 + [True] * 4)
    before, after = compared.weights()

    assert before.sum() == pytest.approx(1) == after.sum()
    for weekday in (0, 1):
        inside = compared.weekdays == weekday
        assert before[inside].sum() == pytest.approx(after[inside].sum())
    assert before[5] == 0  # no Sunday after, so none before


def test_what_all_streets_share_is_no_effect() -> None:
    from scipy.special import ndtr, ndtri

    rng = np.random.default_rng(1)
    before = np.column_stack([rng.normal(32, 1, 3), rng.normal(31, 1, 3), rng.normal(38, 1, 3),
                              [0.6, 0.3, 0.8], [0.1, 0.02, 0.2], [500, 100, 3000]])  # fmt: skip
    after = before.copy()
    after[:, :3] -= 1.5
    after[:, 3:5] = ndtr(ndtri(before[:, 3:5]) - 0.25)
    after[:, 5] *= 0.9

    assert change_between(before, after) == pytest.approx(np.zeros(6), abs=1e-9)
    assert change_between(before[:1], after[:1])[[MEAN, V85]] == pytest.approx([-1.5, -1.5])
    assert change_between(before[:1], after[:1])[OVER] == pytest.approx(after[0, OVER] - before[0, OVER])


def test_a_weekday_that_occurs_once_joins_one_of_its_kind() -> None:
    assert strata_of(np.array([0, 0, 1, 1, 2])).tolist() == [0, 0, 1, 1, 1]
    assert strata_of(np.array([0, 0, 5, 6])).tolist() in ([0, 0, 6, 6], [0, 0, 5, 5])
    assert len(set(strata_of(np.array([3])).tolist())) == 1


def test_two_days_of_a_weekday_are_enough_for_an_honest_variance() -> None:
    """The mean volume of a fortnight: the bootstrap must find σ²/14, which plain resampling of two halves."""
    rng = np.random.default_rng(2)
    weekdays = [day % 7 for day in range(14)]
    variances = []
    for _ in range(300):
        compared = days(np.ones((1, 14, 27)), weekdays, [True] * 14)
        compared = Comparison(
            compared.histograms, rng.normal(1000, 50, (1, 14)), compared.weekdays, compared.is_after,
            compared.binnings, compared.limits_kmh,
        )  # fmt: skip
        sigma, freedom = sigma_of_period(compared, np.full(14, 1 / 14), rng, 100)
        variances.append((sigma[VOLUME] * 1000) ** 2)  # of the logarithm, times the volume
        assert freedom == 7
    assert np.mean(variances) == pytest.approx(50**2 / 14, rel=0.1)


@pytest.mark.parametrize(
    ("is_same", "expected"),
    [
        pytest.param(False, np.hypot(0.01 * 30, 0.01 * 30), id="each its own"),
        pytest.param(True, 0.0, id="one for both"),
    ],
)
def test_calibrations_count_in_full_when_they_changed_and_cancel_when_not(is_same: bool, expected: float) -> None:
    rng = np.random.default_rng(3)
    histogram = np.array([SpeedHistogram.of(rng.normal(30, 0.3, 4000), Binning(10, 1, 50)).counts], dtype=float)
    histograms = np.pad(np.repeat(histogram, 8, axis=0), ((0, 0), (1, 1)))[None]
    compared = Comparison(
        tuple(histograms), histograms.sum(axis=-1), np.arange(8) % 2, np.arange(8) >= 4, (Binning(10, 1, 50),), (30,)
    )
    u_rel = np.array([0.01])
    sigma = sigma_of_calibration(compared, u_rel, u_rel, np.array([is_same]))

    assert sigma[MEAN] == pytest.approx(expected, abs=0.01)
    assert sigma[VOLUME] == 0.0


def test_the_same_data_give_the_same_interval() -> None:
    compared, _ = a_study(SCENARIOS[0], np.random.default_rng(5))
    first, second = (effect_of(compared, np.random.default_rng(1), replicates=100, permutations=50) for _ in range(2))
    assert first.low.tolist() == second.low.tolist()


def test_days_that_remember_are_noticed() -> None:
    def memory(of: float) -> float:
        street = Street("", days=56, memory=of, own_kmh=1.0, missing=0.0, partly=0.0)
        found = []
        for number in range(12):
            compared, _ = a_study(street, np.random.default_rng([7, number]))
            found.append(lag_one(compared, np.r_[0:56, 77:133]))
        return float(np.mean(found))

    assert memory(0.6) > 0.25 > 0.1 > memory(0.0)


# ---------------------------------------------------------------------------------------------- known effects, short

# 200 studies: a true coverage of 95 % shows between 90 and 99 % with 99.7 % probability (binomial). The long version,
# with the bounds of 93 to 97 %, is `python -m benchmarks.study`.
STUDIES = 200


@pytest.mark.parametrize("street", [SCENARIOS[0], SCENARIOS[2]], ids=lambda street: street.name)
def test_intervals_hold_the_truth_and_vehicles_as_witnesses_do_not(street: Street) -> None:
    found = outcome(street, STUDIES, seed=11, replicates=200, permutations=0)

    for name in FIGURES:
        assert 0.90 <= found["covered"][name] <= 0.99, name
    if street.effect_kmh == 0.0:
        assert found["found"]["v85"] <= 0.10
        assert found["naive_finds_mean"] > 0.5
    else:
        assert found["found"]["v85"] > 0.99


def test_dealing_out_the_days_finds_nothing_where_nothing_is() -> None:
    found = outcome(SCENARIOS[0], 150, seed=12, replicates=50, permutations=99)
    assert found["p_below_5"]["v85"] <= 0.11
