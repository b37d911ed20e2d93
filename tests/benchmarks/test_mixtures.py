"""A short version of `python -m benchmarks.mixtures`: a trajectory of two vehicles has the speed of one, or none."""

from __future__ import annotations

import pytest

from benchmarks.mixtures import KINDS, MERGED, PARKED, STRAYED, SWITCHED, Mixture, mixtures
from benchmarks.simulation import BLUNDER_KMH


@pytest.fixture(scope="module")
def found() -> list[Mixture]:
    return mixtures(each=25, seed=2)


def test_every_kind_is_mixed(found: list[Mixture]) -> None:
    assert {mixture.kind for mixture in found} == set(KINDS)
    assert {len(mixture.speeds_kmh) for mixture in found if mixture.kind == PARKED} == {1}
    assert {len(mixture.speeds_kmh) for mixture in found if mixture.kind != PARKED} == {2}


def test_nothing_is_measured_wrongly(found: list[Mixture]) -> None:
    assert max(mixture.error_kmh for mixture in found) < BLUNDER_KMH


def test_what_becomes_another_vehicle_is_refused_nearly_always_and_a_blemish_is_not(found: list[Mixture]) -> None:
    measured = {kind: sum(one.measured_kmh is not None for one in found if one.kind == kind) for kind in KINDS}
    assert measured[SWITCHED] <= 6
    assert measured[MERGED] >= 10
    assert all((one.measured_kmh is None) == (one.reason is not None) for one in found)


def test_the_nearest_true_speed_counts_as_right() -> None:
    one = Mixture(STRAYED, "along", (40.0, 50.0), measured_kmh=47.0, reason=None)
    assert one.error_kmh == 3.0
