"""The figures of a street from histograms, for many histograms at once.

The same definitions as :class:`edge.domain.SpeedHistogram`, for arrays of real numbers: a resampled or
coverage-weighted histogram holds fractions of vehicles. A row of such an array is (under, counts …, over).
"""

from __future__ import annotations

import numpy as np

from edge.domain import Binning, Floats

SPEED_FIGURES = ("mean", "v50", "v85", "share_over", "share_over10")


def speed_figures(histograms: Floats, binning: Binning, limit_kmh: int, *, factor: float = 1.0) -> Floats:
    """Mean, V50, V85 and the shares over the limit and the limit + 10 of every histogram.

    Args:
        histograms: Vehicles by speed, shape (…, bins + 2).
        binning: Their bins.
        limit_kmh: Speed limit; it and the limit + 10 lie within the bins. [km/h]
        factor: Every speed is multiplied by it: what the figures would be if the calibration had been wrong by it.

    Returns:
        Shape (…, 5) in the order of :data:`SPEED_FIGURES`; speeds in km/h, shares from 0 to 1. NaN where the histogram
        is empty or does not know (a percentile in a tail).
    """
    n = histograms.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = histograms @ _middles(binning) / n
    shares = [1 - _share_upto(histograms, n, binning, edge / factor) for edge in (limit_kmh, limit_kmh + 10)]
    quantiles = [speed_quantiles(histograms, binning, p) for p in (0.50, 0.85)]
    return np.stack([mean * factor, *(quantile * factor for quantile in quantiles), *shares], axis=-1)


def _middles(binning: Binning) -> Floats:
    """The speed that stands for a bin; the tails count as half a bin outside. [km/h]"""
    return np.asarray(binning.from_kmh + binning.width_kmh * (np.arange(binning.bins + 2) - 0.5))


def speed_quantiles(histograms: Floats, binning: Binning, p: float | Floats) -> Floats:
    """The speed that a share ``p`` does not exceed, linear in the bin; NaN in the tails. [km/h]

    Args:
        histograms: Vehicles by speed, shape (…, bins + 2).
        binning: Their bins.
        p: One share, or one for each histogram, shape (…).
    """
    n = histograms.sum(axis=-1)
    upto = np.cumsum(histograms[..., :-1], axis=-1)  # vehicles up to each edge, the first edge first
    rank = p * n
    upper = np.argmax(upto >= rank[..., None], axis=-1)  # 0: in `under`, or nowhere because in `over`
    lower = np.maximum(upper - 1, 0)
    at_lower = np.take_along_axis(upto, lower[..., None], axis=-1)[..., 0]
    at_upper = np.take_along_axis(upto, upper[..., None], axis=-1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        within = (rank - at_lower) / (at_upper - at_lower)
    return np.where((upper > 0) & (n > 0), binning.from_kmh + binning.width_kmh * (lower + within), np.nan)


def _share_upto(histograms: Floats, n: Floats, binning: Binning, speed_kmh: float) -> Floats:
    """The share that drives at most a speed: exact on an edge, linear between two."""
    upto = np.cumsum(histograms[..., :-1], axis=-1)
    place = np.clip((speed_kmh - binning.from_kmh) / binning.width_kmh, 0, binning.bins)
    lower = min(int(place), binning.bins - 1)
    share = place - lower
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(((1 - share) * upto[..., lower] + share * upto[..., lower + 1]) / n)
