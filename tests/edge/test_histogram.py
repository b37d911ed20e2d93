"""What the counts of a street say about its speeds."""

from __future__ import annotations

import random

import pytest

from edge.domain import Binning, SpeedHistogram
from tests.support.builders import BINNING, a_window


def test_bins_of_a_thirty_street_run_from_10_to_60_with_both_limits_on_an_edge():
    assert (BINNING.from_kmh, BINNING.to_kmh, BINNING.bins) == (10, 60, 25)
    assert BINNING.edge_index(30) == 10
    assert BINNING.edge_index(40) == 15


@pytest.mark.parametrize("limit_kmh", [15, 30, 50, 60, 70, 80, 100, 130])
@pytest.mark.parametrize("width_kmh", [1, 2, 5])
def test_limit_and_limit_plus_ten_are_edges_or_the_width_is_refused(limit_kmh, width_kmh):
    if limit_kmh % width_kmh:
        with pytest.raises(ValueError, match="does not divide the limit"):
            Binning.for_limit(limit_kmh, width_kmh)
        return
    binning = Binning.for_limit(limit_kmh, width_kmh)
    assert binning.from_kmh + binning.edge_index(limit_kmh) * width_kmh == limit_kmh
    assert binning.from_kmh + binning.edge_index(limit_kmh + 10) * width_kmh == limit_kmh + 10


@pytest.mark.parametrize(("limit_kmh", "width_kmh"), [(5, 1), (200, 2), (30, 3), (30, 10)])
def test_a_limit_or_width_without_meaning_is_refused(limit_kmh, width_kmh):
    with pytest.raises(ValueError, match="expected"):
        Binning.for_limit(limit_kmh, width_kmh)


@pytest.mark.parametrize("speed_kmh", [-1.0, float("nan"), float("inf")])
def test_a_speed_that_is_no_speed_is_refused(speed_kmh):
    with pytest.raises(ValueError, match="finite speed"):
        SpeedHistogram.of([speed_kmh], BINNING)


def test_a_vehicle_at_exactly_the_limit_does_not_exceed_it():
    histogram = SpeedHistogram.of([30.0, 30.1, 40.0, 40.1, 75.0], BINNING)
    assert histogram.count_over(30) == 4
    assert histogram.count_over(40) == 2
    with pytest.raises(ValueError, match="not an edge"):
        histogram.count_over(31)


def test_tails_are_counted_but_not_told_apart():
    histogram = SpeedHistogram.of([3.0, 10.0, 60.0, 60.5, 120.0], BINNING)
    assert (histogram.under, sum(histogram.counts), histogram.over, histogram.n) == (2, 1, 2, 5)


def test_the_mean_is_taken_by_bin_middles():
    histogram = SpeedHistogram.of([30.5, 31.5, 34.5], BINNING)  # middles 31, 31, 35
    assert histogram.mean_kmh == pytest.approx(97 / 3)


def test_the_standard_deviation_has_sheppards_correction():
    histogram = SpeedHistogram.of([29.0, 33.0], BINNING)  # middles: variance 8; bins of 2: 2² / 12 less
    assert histogram.sd_kmh == pytest.approx((8 - 4 / 12) ** 0.5)


def test_an_empty_street_has_no_mean_and_one_vehicle_no_spread():
    assert SpeedHistogram.empty(BINNING).mean_kmh is None
    assert SpeedHistogram.of([31.0], BINNING).sd_kmh is None
    assert SpeedHistogram.of([31.0, 31.2], BINNING).sd_kmh is None  # the bins cannot tell


def test_a_percentile_is_linear_in_its_bin():
    histogram = SpeedHistogram.of([21.0] * 20 + [31.0] * 20, BINNING)
    assert histogram.quantile_kmh(0.25) == pytest.approx(21.0)  # 10 of 20 in (20, 22]
    assert histogram.quantile_kmh(0.5) == pytest.approx(22.0)  # all of (20, 22], none beyond
    assert histogram.quantile_kmh(0.85) == pytest.approx(30 + 2 * 14 / 20)


def test_fewer_than_thirty_vehicles_have_no_percentile():
    assert SpeedHistogram.of([31.0] * 29, BINNING).quantile_kmh(0.85) is None
    assert SpeedHistogram.of([31.0] * 30, BINNING).quantile_kmh(0.85) is not None


def test_a_percentile_in_the_tails_is_not_known():
    racing = SpeedHistogram.of([31.0] * 30 + [90.0] * 30, BINNING)
    assert racing.quantile_kmh(0.85) is None
    assert racing.quantile_kmh(0.15) is not None
    jam = SpeedHistogram.of([4.0] * 30 + [31.0] * 30, BINNING)
    assert jam.quantile_kmh(0.15) is None


def test_v85_of_a_thousand_vehicles_is_within_a_tenth_of_a_kilometre_on_average():
    """About 90 share the bin of V85, and where in the bin is not kept: sigma is at most 2 · 0.5 / √90 = 0.11 km/h.

    The density falls inside the bin, so the linear reading is up to w² |f'| / 8f = 0.09 km/h too high.
    """
    rng = random.Random(7)
    errors = []
    for _ in range(200):
        speeds = sorted(min(max(rng.gauss(33, 6), 0), 100) for _ in range(1000))
        exact = (speeds[849] + speeds[850]) / 2
        errors.append(SpeedHistogram.of(speeds, BINNING).quantile_kmh(0.85) - exact)
    assert -0.02 < sum(errors) / 200 < 0.09
    assert sum(abs(error) for error in errors) / 200 < 0.1
    assert max(abs(error) for error in errors) < 0.45  # four sigma and a bit


def test_histograms_with_different_bins_do_not_merge():
    with pytest.raises(ValueError, match="different bins"):
        SpeedHistogram.empty(BINNING) + SpeedHistogram.empty(Binning.for_limit(50))


def test_the_uncertainty_of_v85_holds_what_repeated_sampling_shows():
    """Draw many windows of one street: V85 ± U must hold the street's own V85 in about 95 of 100."""
    rng = random.Random(11)
    true_v85 = 33 + 1.0364 * 6
    held = 0
    for _ in range(300):
        speeds = [min(max(rng.gauss(33, 6), 0), 59) for _ in range(150)]
        window = a_window(speeds_kmh=speeds, random_variance_micro=0, calibration_relative_micro=0)
        held += abs(window.histogram.quantile_kmh(0.85) - true_v85) <= window.u_v85_kmh
    assert 0.90 <= held / 300 <= 0.99


def test_calibration_uncertainty_does_not_shrink_with_more_vehicles():
    rng = random.Random(3)
    speeds = [min(max(rng.gauss(33, 6), 0), 59) for _ in range(50_000)]
    window = a_window(speeds_kmh=speeds)  # 1 % for every vehicle: two sigma are 0.78 km/h at a V85 of 39 km/h
    assert window.u_v85_kmh == pytest.approx(2 * 0.01 * window.histogram.quantile_kmh(0.85), rel=0.05)


def test_random_errors_widen_the_street_and_the_uncertainty_says_so():
    rng = random.Random(5)
    speeds = [min(max(rng.gauss(33, 6), 0), 59) for _ in range(20_000)]
    sharp = a_window(speeds_kmh=speeds, random_variance_micro=0, calibration_relative_micro=0)
    blurred = a_window(speeds_kmh=speeds, random_variance_micro=9_000_000 * 20_000, calibration_relative_micro=0)
    shift = 1.0364 * (6 - (36 - 9) ** 0.5)  # 3 km/h of noise in a measured spread of 6 km/h
    assert blurred.u_v85_kmh == pytest.approx((sharp.u_v85_kmh**2 + (2 * shift) ** 2) ** 0.5, rel=0.05)


def test_no_v85_means_no_uncertainty():
    assert a_window(speeds_kmh=[31.0] * 12).u_v85_kmh is None
