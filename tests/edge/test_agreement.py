from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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


def test_two_classes_that_are_nearly_equal_may_change_places() -> None:
    one = np.array([[50, 50, 40, 20, 0.5001, 0.5]], dtype=np.float32).T[None]
    other = np.array([[50, 50, 40, 20, 0.5, 0.5001]], dtype=np.float32).T[None]

    assert compare([(one, other)], Head.CLASSIC).is_same


def test_another_class_is_another_answer() -> None:
    one = np.array([[50, 50, 40, 20, 0.9, 0.1]], dtype=np.float32).T[None]
    other = np.array([[50, 50, 40, 20, 0.1, 0.9]], dtype=np.float32).T[None]

    assert compare([(one, other)], Head.CLASSIC).score == pytest.approx(0.8)


def end_to_end(*rows: tuple[float, float, float, float, float, float]) -> Any:
    """An answer of left, top, right, bottom, score, class, with a last one that nobody is interested in."""
    return np.array([*rows, (0, 0, 1, 1, 0.01, 0)], dtype=np.float32)[None]


def test_both_heads_are_compared_by_class() -> None:
    one = end_to_end((30, 40, 70, 60, 0.9, 2), (130, 45, 170, 75, 0.6, 7))
    other = one[:, ::-1].copy()

    assert compare([(one, other)], Head.END_TO_END).is_same
    other[0, 1, 5] = 5
    assert compare([(one, other)], Head.END_TO_END).score == pytest.approx(0.59)  # the last tells of 0.01 at most


def test_many_classes_of_one_box_may_come_in_any_order() -> None:
    rows = [(30, 40, 70, 60, 0.9 - 0.001 * label, label) for label in range(40)]

    agreement = compare([(end_to_end(*rows), end_to_end(*reversed(rows)))], Head.END_TO_END)

    assert agreement.is_same
    assert agreement.candidates == 1


def test_what_only_just_was_among_the_best_may_be_left_out_by_the_export() -> None:
    sure, weak, other = (30, 40, 70, 60, 0.9, 2), (130, 45, 170, 75, 0.015, 2), (230, 45, 270, 75, 0.015, 2)

    agreement = compare([(end_to_end(sure, weak), end_to_end(sure, other))], Head.END_TO_END)

    assert agreement.is_same
    assert agreement.candidates == 1


def test_where_nothing_can_be_compared_nothing_is_the_same() -> None:
    assert not compare([(end_to_end(), end_to_end())], Head.END_TO_END).is_same
