"""Advice on the next mark must come true when the mark is made."""

from __future__ import annotations

import numpy as np
import pytest

from calibration import solve
from calibration.next_point import best_next_point
from tests.calibration.surveys import IMAGE_PX, a_camera, a_site, a_survey, marks_m


def test_a_point_taken_where_advised_lowers_the_uncertainty_as_foretold() -> None:
    few = marks_m()[[0, 1, 2, 3, 4, 5]]  # near the camera only: the far end of the zone lies beyond them
    before = solve(a_survey(a_camera(), points_m=few), a_site(), IMAGE_PX)
    advice = best_next_point(before.plane, a_site(), few, sigma_px=0.5, sigma_m=0.01)
    assert advice is not None
    after = solve(a_survey(a_camera(), points_m=np.vstack((few, advice.place_m))), a_site(), IMAGE_PX)
    elsewhere = solve(a_survey(a_camera(), points_m=np.vstack((few, (9.0, 1.0)))), a_site(), IMAGE_PX)

    assert advice.u_rel_now == pytest.approx(before.quality.u_rel_worst, rel=0.02)
    assert after.quality.u_rel_worst == pytest.approx(advice.u_rel_worst, rel=0.15)
    assert after.quality.u_rel_worst < 0.7 * before.quality.u_rel_worst
    assert after.quality.u_rel_worst < elsewhere.quality.u_rel_worst


def test_the_advised_place_is_in_the_picture_and_not_where_a_mark_is() -> None:
    solution = solve(a_survey(a_camera()), a_site(), IMAGE_PX)
    advice = best_next_point(solution.plane, a_site(), marks_m(), sigma_px=0.5, sigma_m=0.01)
    assert advice is not None

    assert 0 <= advice.pixel[0] < IMAGE_PX[0]
    assert 0 <= advice.pixel[1] < IMAGE_PX[1]
    assert np.linalg.norm(marks_m() - advice.place_m, axis=1).min() > 1.0
    assert advice.u_rel_worst <= advice.u_rel_now


def test_an_invisible_zone_gets_no_advice() -> None:
    away = a_camera(heading_deg=195.0)
    plane = solve(a_survey(a_camera()), a_site(), IMAGE_PX).plane
    turned = type(plane)(camera=away, covariance=plane.covariance, hull_m=plane.hull_m)

    assert best_next_point(turned, a_site(), marks_m(), sigma_px=0.5, sigma_m=0.01) is None
