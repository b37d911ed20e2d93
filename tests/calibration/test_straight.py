"""Straight lines of the street tell the lens; what bends is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from calibration import CalibrationError, Camera, solve
from calibration.camera import Floats
from calibration.fit import bending, fit_camera
from calibration.straight import LENS_TERMS, StraightLines, bent, lines_cost, read_lines
from edge.cli.calibrate import app
from tests.calibration.surveys import IMAGE_PX, a_camera, a_site, a_survey, marks_m, written
from tests.calibration.test_verbs import surveyed

WIDE = a_camera(focal_px=640.0, k1=-0.24, k2=0.05, centre_px=(485.0, 266.0))
FEW = [0, 2, 5, 8, 11]  # marks that tell the plane and hardly the lens


def kerbs(
    camera: Camera = WIDE, *, noise_px: float = 0.5, seed: int = 3, curve_m: float = 0.0, points: int = 12
) -> StraightLines:
    """Two kerbs, a wall's foot across the street and two of its upright edges, clicked along."""
    rng = np.random.default_rng(seed)
    along = np.linspace(0.0, 1.0, points)[:, None]
    ends = {
        "kerb left": ((7.0, 4.3, 0.0), (60.0, 4.3, 0.0)),
        "kerb right": ((6.0, -3.7, 0.0), (60.0, -3.7, 0.0)),
        "eaves": ((14.0, 12.0, 6.5), (70.0, 12.0, 6.5)),
        "corner": ((16.0, 10.0, 0.0), (16.0, 10.0, 6.0)),
    }
    lines: dict[str, Floats] = {}
    for name, (start, end) in ends.items():
        places = np.array(start) * (1 - along) + np.array(end) * along
        if name == "kerb left":
            places[:, 1] += curve_m * 4 * along[:, 0] * (1 - along[:, 0])
        pixels = camera.project(places)
        inside = ((pixels > 2) & (pixels < np.array(IMAGE_PX) - 3)).all(axis=1)
        if inside.sum() >= 4:
            lines[name] = pixels[inside] + rng.normal(0.0, noise_px, (int(inside.sum()), 2))
    assert len(lines) >= 3
    return StraightLines(
        tuple(lines), tuple(lines.values()), tuple(np.full(len(each), 0.5) for each in lines.values()), "lines.csv"
    )


def test_the_jacobian_of_straightening_is_its_derivative() -> None:
    pixels = np.array([[100.0, 80.0], [480.0, 300.0], [850.0, 500.0]])
    straight, by_pixel = WIDE.straighten(pixels)
    np.testing.assert_array_equal(straight, WIDE.undistorted(pixels))
    for column in range(2):
        step = np.eye(2)[column] * 1e-4
        slope = (WIDE.straighten(pixels + step)[0] - WIDE.straighten(pixels - step)[0]) / 2e-4
        np.testing.assert_allclose(by_pixel[..., column], slope, rtol=1e-5, atol=1e-7)


def test_exact_lines_are_straight_under_the_true_lens_and_the_slope_leads_there() -> None:
    lines = kerbs(noise_px=0.0)
    assert lines_cost(WIDE, lines) == pytest.approx(0.0, abs=1e-9)
    change = np.zeros(11)
    change[:LENS_TERMS] = [0.0, 2.0, -1.0, 0.01, -0.003]
    off = WIDE.perturbed(change)
    found = bent(off, lines)
    assert found.cost == pytest.approx(lines_cost(off, lines))
    for row in range(LENS_TERMS):
        step = np.eye(11)[row] * 1e-5
        rise = (lines_cost(off.perturbed(step), lines) - lines_cost(off.perturbed(-step), lines)) / 2e-5
        assert -2 * found.slope[row] == pytest.approx(rise, rel=0.02, abs=0.02 * np.abs(found.slope).max())


def test_lines_make_the_lens_of_a_small_survey_known() -> None:
    survey = a_survey(WIDE, points_m=marks_m()[FEW], click_px=0.5, tape_m=0.01, seed=2)
    without, through = fit_camera(survey, IMAGE_PX), fit_camera(survey, IMAGE_PX, lines=kerbs())
    assert without is not None
    assert through is not None
    sigma = math.sqrt(through.covariance[3, 3])
    assert sigma < math.sqrt(without.covariance[3, 3]) / 2
    assert abs(through.camera.distortion[0] + 0.24) < 3 * sigma
    assert through.degrees_of_freedom == without.degrees_of_freedom + kerbs().freedom


def test_intervals_with_lines_hold_the_truth() -> None:
    scores = []
    for seed in range(20):
        survey = a_survey(WIDE, points_m=marks_m()[FEW], click_px=0.5, tape_m=0.01, seed=seed)
        fit = fit_camera(survey, IMAGE_PX, lines=kerbs(seed=1000 + seed))
        assert fit is not None
        sigma = np.sqrt(np.diag(fit.covariance))
        scores.append(
            [
                math.log(fit.camera.focal_px / WIDE.focal_px) / sigma[0],
                (fit.camera.distortion[0] - WIDE.distortion[0]) / sigma[3],
                (fit.camera.height_m - WIDE.height_m) / sigma[10],
            ]
        )
    hits = (np.abs(np.array(scores)) < 1.96).sum(axis=0)
    assert (hits >= 16).all(), hits  # of 20 with 0.95 each: fewer has a chance of 0.3 %


def test_a_kerb_that_bends_is_named() -> None:
    survey = a_survey(WIDE, click_px=0.5, tape_m=0.01)
    solve(survey, a_site(), IMAGE_PX, lines=kerbs())
    with pytest.raises(CalibrationError, match=r"lines\.csv: .*line kerb left bends") as told:
        solve(survey, a_site(), IMAGE_PX, lines=kerbs(curve_m=0.6))
    assert "\n" not in str(told.value)


def test_lines_that_need_another_lens_than_the_points_are_named_and_no_point_is_blamed() -> None:
    survey = a_survey(WIDE, click_px=0.5, tape_m=0.01)
    with pytest.raises(CalibrationError, match="expected lines that are straight in the street"):
        solve(survey, a_site(), IMAGE_PX, lines=kerbs(a_camera(focal_px=640.0, k1=0.15)))


def test_lines_alone_cost_what_their_clicks_cost() -> None:
    costs = [bending(kerbs(seed=seed), IMAGE_PX) for seed in range(8)]
    assert float(np.mean(costs)) == pytest.approx(kerbs().freedom, rel=0.35)


def test_the_verb_takes_lines_from_a_file(tmp_path: Path) -> None:
    rows = [f"{name},{u:.2f},{v:.2f},0.5" for name, points in zip(kerbs().names, kerbs().pixels) for u, v in points]
    file = written(tmp_path, "lines.csv", "\n".join(["line,u_px,v_px,sigma_px", *rows]))
    assert read_lines(file).names == kerbs().names
    survey = a_survey(WIDE, points_m=marks_m()[FEW], click_px=0.5, tape_m=0.01)
    runs = [
        CliRunner().invoke(app, [*surveyed(tmp_path, survey), *more, "--json"]) for more in ([], ["--lines", str(file)])
    ]
    without, through = (json.loads(run.stdout)["camera"] for run in runs)
    assert through["k1"] == pytest.approx(-0.24, abs=0.05)
    assert without["focal_px_sigma"] > through["focal_px_sigma"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("line,u_px,v_px\n", "expected at least one line"),
        ("line,u_px,v_px\n,1,2\n", "line 2: line: expected a name"),
        ("line,u_px,v_px\nkerb,1,two\n", "line 2: v_px: expected pixels, got 'two'"),
        ("line,u_px,v_px,sigma_px\nkerb,1,2,0\n", "line 2: sigma_px: expected a standard deviation above 0"),
        ("line,u_px,v_px\nkerb,1,2\nkerb,2,3\nkerb,4,5\n", "line kerb: expected 4 or more points, got 3"),
        (
            "line,u_px,v_px\nkerb,1,2\nkerb,2,3\nkerb,4,5\nkerb,1900,5\n",
            "line kerb: expected points inside a picture of 960x540",
        ),
    ],
)
def test_a_bad_file_of_lines_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    file = written(tmp_path, "lines.csv", text)
    with pytest.raises(CalibrationError, match=says) as told:
        solve(a_survey(WIDE), a_site(), IMAGE_PX, lines=read_lines(file))
    assert "\n" not in str(told.value)
