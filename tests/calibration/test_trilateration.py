"""Chalk and one tape: coordinates from distances, the right way round, with honest sigmas, wrong readings named."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from calibration import CalibrationError, solve
from calibration.camera import Floats
from calibration.geodesy import metres_around
from calibration.trilateration import Located, Tape, locate_by_tape
from tests.calibration.surveys import IMAGE_PX, a_camera, a_site, a_survey, marks_m

NOTHING_GIVEN = np.full((12, 2), np.nan)


def names_of(places: Floats) -> list[str]:
    return [f"P{row + 1}" for row in range(len(places))]


def taped(places: Floats, pairs: list[tuple[int, int]], *, sigma_m: float = 0.0, seed: int = 3) -> list[Tape]:
    rng = np.random.default_rng(seed)
    return [Tape(a, b, float(np.hypot(*(places[a] - places[b])) + rng.normal(0.0, sigma_m))) for a, b in pairs]


def by_neighbours(places: Floats, count: int = 4) -> list[tuple[int, int]]:
    """Every mark to its nearest ones: what fits on one tape."""
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    pairs = {
        tuple(sorted((row, int(other))))
        for row in range(len(places))
        for other in np.argsort(apart[row])[1 : count + 1]
    }
    return sorted((a, b) for a, b in pairs)  # fmt: skip


def located(places: Floats, tapes: list[Tape], given_m: Floats | None = None, sigma_m: float = 0.01) -> Located:
    pixels = a_camera().project(np.column_stack((places, np.zeros(len(places)))))
    return locate_by_tape(
        names=names_of(places),
        pixels=pixels,
        given_m=NOTHING_GIVEN[: len(places)] if given_m is None else given_m,
        given_sigma_m=0.01,
        tapes=tapes,
        tape_sigma_m=sigma_m,
    )


def in_own_frame(places: Floats) -> Floats:
    """First place at the origin, second on the positive x axis, not mirrored."""
    x, y = (places[1] - places[0]) / np.linalg.norm(places[1] - places[0])
    return np.asarray((places - places[0]) @ np.array([[x, -y], [y, x]]))


@pytest.mark.parametrize("count", [3, 4, 11])
def test_exact_distances_give_back_the_marks_the_right_way_round(count: int) -> None:
    places = marks_m()
    found = located(places, taped(places, by_neighbours(places, count)))

    assert np.allclose(found.points_m, in_own_frame(places), atol=1e-5)
    assert found.says == ()


def test_four_marks_and_a_tape_are_enough_for_a_frame() -> None:
    places = marks_m()[[0, 3, 8, 10]]
    found = located(places, taped(places, list(itertools.combinations(range(4), 2))[:5]))

    assert np.allclose(found.points_m, in_own_frame(places), atol=1e-5)


def test_given_coordinates_and_distances_complete_each_other() -> None:
    places = marks_m() + np.array([140_000.0, 470_000.0])
    given = places.copy()
    given[[2, 7, 11]] = np.nan
    pairs = [(2, 0), (2, 5), (7, 3), (7, 9), (11, 4), (11, 10)]
    found = located(places, taped(places, pairs), given)

    assert np.allclose(found.points_m, places, atol=1e-5)


def test_the_stated_sigmas_are_not_too_small_for_any_taped_distance() -> None:
    places, pairs = marks_m(), by_neighbours(marks_m(), 4)
    runs = [located(places, taped(places, pairs, sigma_m=0.02, seed=seed), sigma_m=0.02) for seed in range(25)]
    strays = np.array(
        [
            [np.hypot(*(run.points_m[a] - run.points_m[b])) - np.hypot(*(places[a] - places[b])) for a, b in pairs]
            for run in runs
        ]
    )
    stated = np.array([np.hypot(runs[0].sigma_m[a], runs[0].sigma_m[b]) for a, b in pairs])

    assert (strays.std(axis=0) < 1.25 * stated).all()
    assert (runs[0].sigma_m < 0.15).all()


def test_a_survey_by_tape_alone_solves_a_camera_as_well_as_coordinates_do() -> None:
    places, camera = marks_m(), a_camera()
    found = located(places, taped(places, by_neighbours(places, 5), sigma_m=0.01))
    survey = a_survey(camera, click_px=0.5, seed=5)
    # The site is drawn in coordinates of the marks; the found ones are turned back onto them for it.
    x, y = (places[1] - places[0]) / np.linalg.norm(places[1] - places[0])
    turned = found.points_m @ np.array([[x, y], [-y, x]]) + places[0]
    solution = solve(replace(survey, points_m=turned, sigma_m=found.sigma_m), a_site(), IMAGE_PX)

    assert solution.rejected == ()
    assert solution.verdict.value == "good"
    assert abs(solution.plane.camera.height_m - 5.6) < 3 * np.sqrt(solution.plane.covariance[10, 10])


def test_a_mistyped_distance_is_named_with_what_the_others_say() -> None:
    places, pairs = marks_m(), by_neighbours(marks_m(), 5)
    tapes = taped(places, pairs, sigma_m=0.01)
    wrong = tapes[7]
    tapes[7] = Tape(wrong.start, wrong.end, wrong.metres + 1.0)
    (said,) = located(places, tapes).says

    assert said.startswith(f"distance P{wrong.start + 1} to P{wrong.end + 1}: {wrong.metres + 1:.2f} m contradicts")
    assert float(said.split()[-2]) == pytest.approx(wrong.metres, abs=0.06)


def test_a_mistyped_coordinate_is_named_when_distances_tell() -> None:
    places = marks_m()
    given = places.copy()
    given[4, 1] += 1.0
    (said,) = located(places, taped(places, by_neighbours(places, 4), sigma_m=0.01), given).says

    assert said.startswith("P5: its y is off by +")
    assert float(said.split("+")[1].split()[0]) == pytest.approx(1.0, abs=0.05)


def test_marks_that_hang_loose_are_named() -> None:
    places = marks_m()
    pairs = [pair for pair in by_neighbours(places, 5) if 11 not in pair]

    with pytest.raises(CalibrationError, match=r"^P12 is not held by the distances"):
        located(places, taped(places, [*pairs, (11, 3)]))
    given = places.copy()
    given[[1, 2]] = np.nan
    with pytest.raises(CalibrationError, match=r"^P2, P3 are not held"):
        located(places, taped(places, [(1, 2), (1, 0)]), given)


def test_degrees_become_metres_on_the_ground() -> None:
    """A second of arc at 52° is 30.9 m of the meridian and 19.1 m of the parallel (radii of curvature)."""
    origin = np.array([52.0, 5.0])
    places = np.array([[52.0, 5.0], [52.0 + 1 / 3600, 5.0], [52.0, 5.0 + 1 / 3600]])
    found = metres_around(places, origin)
    squared = 0.00669437999014
    bend = np.sqrt(1 - squared * np.sin(np.radians(52.0)) ** 2)
    meridian, parallel = 6378137 * (1 - squared) / bend**3, 6378137 / bend * np.cos(np.radians(52.0))

    assert np.allclose(found[1], [0, np.radians(1 / 3600) * meridian], atol=1e-3)
    assert np.allclose(found[2], [np.radians(1 / 3600) * parallel, 0], atol=1e-3)
    assert meridian * np.radians(1 / 3600) == pytest.approx(30.9, abs=0.05)
