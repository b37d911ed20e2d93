from __future__ import annotations

from typing import Any

import numpy as np

from edge.detect.agreement import compare
from models import Head


def an_answer(*rows: tuple[float, float, float, float, float]) -> Any:
    """A classic answer of one class: centre, size, score."""
    return np.array(rows, dtype=np.float32).T[None]


STREET = an_answer((50, 50, 40, 20, 0.9), (150, 60, 60, 30, 0.6), (90, 20, 10, 8, 0.1))


def test_a_network_agrees_with_itself() -> None:
    agreement = compare([(STREET, STREET[:, :, ::-1])], Head.CLASSIC)

    assert agreement.is_same
    assert (agreement.candidates, agreement.sure, agreement.found) == (3, 2, 1.0)


def test_a_box_that_lies_elsewhere_is_told_in_pixels() -> None:
    moved = STREET.copy()
    moved[0, 0, 0] += 3.0

    agreement = compare([(STREET, moved)], Head.CLASSIC)

    assert agreement.box_px == 3.0
    assert not agreement.is_same
    assert agreement.is_alike


def test_a_vehicle_that_the_export_does_not_see_is_missed() -> None:
    blind = STREET.copy()
    blind[0, 4, 1] = 0.0

    agreement = compare([(STREET, blind)], Head.CLASSIC)

    assert agreement.found == 0.5
    assert not agreement.is_alike
