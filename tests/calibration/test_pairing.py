"""Pairs of least cost, against another solver and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from calibration.pairing import best_pairs


def test_the_cheapest_partner_is_given_up_when_that_costs_less_together() -> None:
    rows, columns = best_pairs(np.array([[1.0, 2.0], [1.5, 9.0]]), np.ones((2, 2), dtype=bool))
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [1, 0]


def test_more_pairs_come_before_cheaper_ones() -> None:
    possible = np.array([[True, True], [True, False]])
    rows, columns = best_pairs(np.array([[0.0, 900.0], [900.0, 0.0]]), possible)
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nobody_has_no_partner(shape: tuple[int, int]) -> None:
    rows, columns = best_pairs(np.zeros(shape), np.ones(shape, dtype=bool))
    assert (len(rows), len(columns)) == (0, 0)


def test_a_pair_whose_cost_is_no_number_is_not_made() -> None:
    rows, columns = best_pairs(np.array([[np.nan, 5.0], [np.inf, 7.0]]), np.ones((2, 2), dtype=bool))
    assert (rows.tolist(), columns.tolist()) == ([0], [1])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize("seed", range(20))
def test_as_many_and_as_cheap_as_another_solver_finds(seed: int, scale: float) -> None:
    """Also where most rows can have nobody, and where costs are whole numbers and choices equally good."""
    rng = np.random.default_rng(seed)
    for _ in range(50):
        costs = rng.uniform(0.0, 40.0, rng.integers(1, 12, 2)) * scale
        costs = np.round(costs) if rng.random() < 0.3 else costs
        possible = rng.random(costs.shape) < rng.choice([0.03, 0.1, 0.3, 0.7, 1.0])
        rows, columns = best_pairs(costs, possible)
        expected = linear_sum_assignment(np.where(possible, costs, 1e4 * 40.0 * scale))
        kept = possible[expected]
        assert possible[rows, columns].all()
        assert len(set(columns.tolist())) == len(rows) == kept.sum()
        assert costs[rows, columns].sum() == pytest.approx(costs[expected][kept].sum())
