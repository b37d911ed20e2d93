"""Solving: the true camera within its stated intervals, and every kind of wrong survey named."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from calibration import CalibrationError, Contradiction, Site, Survey, Verdict, solve
from calibration.camera import Floats
from calibration.fit import fit_camera
from calibration.quality import camera_summary
from calibration.survey import TapeDistances
from calibration.tape import compare_with_tape
from tests.calibration.surveys import (
    IMAGE_PX,
    SCENES,
    DrawnStreet,
    a_camera,
    a_site,
    a_survey,
    any_street,
    believed_street,
    marks_m,
    scene_truth,
    survey_scores,
)
from tests.support.clips import evaluation_file


def moved(survey: Survey, row: int, by_m: tuple[float, float]) -> Survey:
    points = survey.points_m.copy()
    points[row] += by_m
    return replace(survey, points_m=points)


def exchanged(survey: Survey, first: int, second: int) -> Survey:
    order = np.arange(len(survey))
    order[[first, second]] = second, first
    return replace(survey, points_m=survey.points_m[order])


def a_noisy_survey(**changes: object) -> Survey:
    return a_survey(a_camera(**changes), click_px=0.5, tape_m=0.01, seed=7)  # type: ignore[arg-type]


def test_a_survey_without_errors_gives_the_true_camera_back() -> None:
    camera = a_camera(k1=-0.2, k2=0.03)
    solution = solve(a_survey(camera), a_site(), IMAGE_PX)
    known = solution.plane.camera
    assert known.focal_px == pytest.approx(camera.focal_px, rel=2e-3)  # the priors pull a little
    np.testing.assert_allclose(known.position_m, camera.position_m, atol=0.02)
    misses_m = known.ground(solution.survey.pixels) - solution.survey.points_m
    sigmas_m = np.sqrt(np.diagonal(solution.plane.position_covariance(solution.survey.points_m), axis1=1, axis2=2))
    assert (np.abs(misses_m) < 0.25 * sigmas_m).all()
    assert solution.rms_px < 0.05


@pytest.mark.parametrize("scene", SCENES)
def test_a_rendered_scene_solves_to_its_true_camera_within_the_stated_intervals(scene: str) -> None:
    camera, points, clicks = scene_truth(scene)
    rng = np.random.default_rng(11)
    survey = replace(a_survey(camera, points_m=points, tape_m=0.01), pixels=clicks + rng.normal(0.0, 0.5, clicks.shape))
    fit = fit_camera(survey, camera.image_size_px)
    assert fit is not None
    told = camera_summary(fit.plane)
    sigma_k1 = math.sqrt(fit.covariance[3, 3])
    for name, truth in {
        "focal_px": camera.focal_px,
        "height_m": camera.height_m,
        "tilt_deg": math.degrees(camera.tilt_rad),
    }.items():
        value, sigma = told[name], told[f"{name}_sigma"]
        assert value is not None
        assert sigma is not None
        assert abs(value - truth) < 1.96 * sigma, name
    assert abs(fit.camera.distortion[0] - camera.distortion[0]) < 1.96 * sigma_k1


@pytest.mark.parametrize(
    ("street", "count"), [(believed_street, 120), (any_street, 80)], ids=["as believed", "any pole, 4 to 20 marks"]
)
def test_intervals_of_95_percent_hold_the_truth_in_95_percent_of_streets(street: DrawnStreet, count: int) -> None:
    """The short version of ``python -m benchmarks.calibration surveys``."""
    scores = np.array([survey_scores(street, seed) for seed in range(count)])
    hits = (np.abs(scores) < 1.96).sum(axis=0)
    # Fewer or more have a chance of about 1 in 1,000 each for a true 95 %; where nothing is bent k1 is known better.
    low, high = (int(binom.ppf(share, count, 0.95)) for share in (0.001, 0.999))
    assert (hits >= low).all(), hits / count
    assert (hits[:3] <= high).all(), hits / count
    assert hits[4] <= high


def test_coordinates_of_the_national_grid_give_the_same_result() -> None:
    survey, site = a_noisy_survey(), a_site()

    def national(x: float, y: float) -> tuple[float, float]:
        return 140_000 + 0.6 * x - 0.8 * y, 470_000 + 0.8 * x + 0.6 * y

    far_away = replace(survey, points_m=np.array([national(*point) for point in survey.points_m]))
    far_site = replace(
        site,
        polygon_m=tuple(national(*corner) for corner in site.polygon_m),
        axis_m=(national(*site.axis_m[0]), national(*site.axis_m[1])),
    )
    near, far = solve(survey, site, IMAGE_PX), solve(far_away, far_site, IMAGE_PX)
    assert far.plane.camera.focal_px == pytest.approx(near.plane.camera.focal_px, rel=1e-6)
    assert far.quality.u_rel_worst == pytest.approx(near.quality.u_rel_worst, rel=1e-4)
    turned = far.plane.in_frame(far_site.origin_m, far_site.axis).camera
    np.testing.assert_allclose(
        turned.position_m, near.plane.in_frame(site.origin_m, site.axis).camera.position_m, atol=1e-5
    )


def test_a_picture_turned_upside_down_solves_as_well() -> None:
    solution = solve(a_survey(a_camera(roll_deg=180.0)), a_site(), IMAGE_PX)
    assert solution.plane.camera.height_m == pytest.approx(5.6, abs=0.05)


def test_a_careful_survey_is_good_and_nobody_is_suspected() -> None:
    solution = solve(a_noisy_survey(), a_site(), IMAGE_PX)
    assert (solution.verdict, solution.rejected, solution.reasons) == (Verdict.GOOD, (), ())
    assert np.isfinite(solution.leave_one_out_m).all()


def test_honest_noise_is_never_mistaken_for_a_blunder() -> None:
    for seed in range(8):
        survey = a_survey(a_camera(k1=-0.15), click_px=0.5, tape_m=0.01, seed=seed)
        assert solve(survey, a_site(), IMAGE_PX).rejected == ()


@pytest.mark.parametrize("row", [0, 4, 11], ids=["near", "middle", "far"])
def test_a_typo_of_ten_metres_is_named_with_its_row_and_its_size(row: int) -> None:
    solution = solve(moved(a_noisy_survey(), row, (10.0, 0.0)), a_site(), IMAGE_PX)
    assert solution.rejected == (f"P{row + 1}",)
    assert solution.verdict is Verdict.REFUSE
    reason = next(reason for reason in solution.reasons if f"survey.csv line {row + 2} (P{row + 1})" in reason)
    off_m = float(reason.split("off by ")[1].split(" m in x")[0])
    assert off_m == pytest.approx(10.0, abs=0.8)
    assert solution.rms_px < 1.5  # the rest fits


def test_two_exchanged_points_are_named_as_exchanged() -> None:
    solution = solve(exchanged(a_noisy_survey(), 3, 8), a_site(), IMAGE_PX)
    assert solution.rejected == ("P4", "P9")
    assert "exchanged" in solution.reasons[0]
    assert "survey.csv line 5 (P4)" in solution.reasons[0]
    assert "survey.csv line 10 (P9)" in solution.reasons[0]


def test_an_exchange_among_five_points_is_still_found() -> None:
    survey = a_noisy_survey().only([0, 2, 5, 8, 11])
    solution = solve(exchanged(survey, 1, 3), a_site(), IMAGE_PX)
    assert solution.rejected == ("P3", "P9")
    assert solution.verdict is Verdict.REFUSE


def test_two_typos_are_both_named() -> None:
    survey = moved(moved(a_noisy_survey(), 2, (0.0, 3.0)), 9, (-10.0, 0.0))
    assert solve(survey, a_site(), IMAGE_PX).rejected == ("P3", "P10")


def test_a_suspect_can_be_dropped_on_purpose() -> None:
    survey = moved(a_noisy_survey(), 4, (10.0, 0.0))
    solution = solve(survey, a_site(), IMAGE_PX, drop=["P5"])
    assert (solution.verdict, solution.rejected, solution.dropped) == (Verdict.GOOD, (), ("P5",))


def test_four_points_with_a_wrong_one_say_that_they_cannot_tell_which() -> None:
    survey = a_noisy_survey().only([0, 2, 9, 10])
    with pytest.raises(Contradiction, match="cannot be told which") as told:
        solve(moved(survey, 0, (25.0, 0.0)), a_site(), IMAGE_PX)
    assert told.value.names == ("P1", "P3", "P10", "P11")


def test_four_points_that_only_an_odd_camera_could_see_are_refused() -> None:
    solution = solve(moved(a_noisy_survey().only([0, 2, 9, 10]), 2, (10.0, 0.0)), a_site(), IMAGE_PX)
    assert solution.verdict is Verdict.REFUSE
    assert solution.rejected == ("P1", "P3", "P10", "P11")
    assert "cannot be told which" in solution.reasons[0]


def test_five_points_with_a_wrong_one_are_refused() -> None:
    survey = a_noisy_survey().only([0, 2, 5, 8, 11])
    for row in range(5):
        solution = solve(moved(survey, row, (0.0, 2.0)), a_site(), IMAGE_PX)
        assert solution.verdict is Verdict.REFUSE
        assert survey.names[row] in solution.rejected


def test_four_points_solve_but_admit_that_nothing_checks_them() -> None:
    solution = solve(a_noisy_survey().only([0, 2, 8, 11]), a_site(), IMAGE_PX)
    assert solution.verdict is not Verdict.GOOD
    assert "only 4 points" in " ".join(solution.reasons)
    careful = solve(a_noisy_survey(), a_site(), IMAGE_PX)
    assert solution.quality.u_rel_worst > careful.quality.u_rel_worst


def test_mirrored_axes_are_named() -> None:
    survey = a_noisy_survey()
    with pytest.raises(CalibrationError, match="mirrored axes"):
        solve(replace(survey, points_m=survey.points_m[:, ::-1]), a_site(), IMAGE_PX)


def test_feet_given_as_metres_are_caught_by_the_cameras_height() -> None:
    survey, site = a_noisy_survey(), a_site()
    feet = 1 / 0.3048
    in_feet = replace(
        site,
        polygon_m=tuple((x * feet, y * feet) for x, y in site.polygon_m),
        axis_m=((12 * feet, 0.0), (32 * feet, 0.0)),
    )
    solution = solve(replace(survey, points_m=survey.points_m * feet), in_feet, IMAGE_PX)
    assert solution.verdict is Verdict.REFUSE
    assert "feet given as metres look like that" in " ".join(solution.reasons)


@pytest.mark.parametrize(("mount_m", "verdict"), [(5.6, Verdict.GOOD), (5.9, Verdict.GOOD), (8.0, Verdict.REFUSE)])
def test_the_taped_mounting_height_is_compared(mount_m: float, verdict: Verdict) -> None:
    assert solve(a_noisy_survey(), a_site(mount_height_m=mount_m), IMAGE_PX).verdict is verdict


def test_fewer_than_four_points_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"survey\.csv: expected at least 4 points, got 3"):
        solve(a_noisy_survey().only([0, 2, 9]), a_site(), IMAGE_PX)


@pytest.mark.parametrize("others", [[], [(20.0, 3.0)]], ids=["all on a line", "all but one on a line"])
def test_points_on_a_line_are_refused_and_named(others: list[tuple[float, float]]) -> None:
    places = np.array([(8.0, -1.0), (14.0, -0.7), (22.0, -0.3), (30.0, 0.1), *others])
    with pytest.raises(CalibrationError, match=r"points P1, P2, P3, P4 lie on one line"):
        solve(a_survey(a_camera(), points_m=places), a_site(), IMAGE_PX)


def test_the_same_place_twice_is_refused() -> None:
    places = marks_m()
    places[5] = places[2]
    survey = replace(a_noisy_survey(), points_m=places)
    with pytest.raises(CalibrationError, match=r"line 7 \(P6\): x_m, y_m: the same as P3"):
        solve(survey, a_site(), IMAGE_PX)


def test_a_click_outside_the_picture_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"outside a picture of 640x360; is --image-size right\?"):
        solve(a_noisy_survey(), a_site(), (640, 360))


def test_a_wrong_image_size_that_holds_all_clicks_is_noticed_by_the_lens_that_it_would_need() -> None:
    solution = solve(a_noisy_survey(), a_site(), (1920, 1080))
    assert solution.verdict is Verdict.REFUSE
    assert "is --image-size right" in " ".join(solution.reasons)


def test_clicks_less_careful_than_stated_widen_the_uncertainty() -> None:
    careful = solve(a_survey(a_camera(), click_px=0.5, seed=5), a_site(), IMAGE_PX)
    careless = solve(a_survey(a_camera(), click_px=2.0, seed=5), a_site(), IMAGE_PX)
    assert careless.noise_scale == pytest.approx(4.0, rel=0.4)
    assert careless.quality.u_rel_worst > 2.5 * careful.quality.u_rel_worst
    assert "larger than the stated sigmas" in " ".join(careless.reasons)


def test_a_zone_beyond_the_surveyed_points_is_refused_with_the_reason() -> None:
    survey = a_noisy_survey()
    near = survey.only([row for row in range(len(survey)) if survey.points_m[row, 0] < 15])
    solution = solve(near, a_site(), IMAGE_PX)
    assert solution.verdict is Verdict.REFUSE
    assert "beyond the surveyed points" in " ".join(solution.reasons)


def test_a_zone_outside_the_picture_is_refused() -> None:
    behind = replace(a_site(), polygon_m=((-40, -3), (-20, -3), (-20, 3), (-40, 3)), axis_m=((-40, 0), (-20, 0)))
    solution = solve(a_noisy_survey(), behind, IMAGE_PX)
    assert solution.verdict is Verdict.REFUSE
    assert "cannot be seen" in " ".join(solution.reasons)
    assert solution.summary()["u_rel_speed"] == {"median": None, "worst": None}


def test_pixels_per_metre_are_those_of_the_nearest_place_of_the_zone() -> None:
    camera, site = a_camera(), a_site()
    solution = solve(a_survey(camera), site, IMAGE_PX)
    corners = [np.array([*corner, 0.0]) for corner in site.polygon_m]
    nearest_m = min(float(camera.rotation[2] @ (corner - camera.position_m)) for corner in corners)
    assert solution.summary()["px_per_m"] == pytest.approx(camera.focal_px / nearest_m, rel=0.01)


def test_the_lens_of_a_wide_scene_is_worth_solving() -> None:
    """Held-back marks of the wide-lens scene: under a pixel with the lens, far worse with a plain homography."""
    camera, points, clicks = scene_truth("S2-wide-lens-vfr")
    used, held_back = np.arange(0, 16, 2), np.arange(1, 16, 2)
    survey = replace(a_survey(camera, points_m=points), pixels=clicks)
    fit = fit_camera(survey.only(used), camera.image_size_px)
    assert fit is not None

    def rms_px(predicted: Floats) -> float:
        return float(np.sqrt(((predicted - clicks[held_back]) ** 2).sum(axis=1).mean()))

    from calibration.fit import homography

    centre = points.mean(axis=0)
    plain = (
        np.column_stack((points[held_back] - centre, np.ones(8))) @ homography(points[used] - centre, clicks[used]).T
    )
    with_lens = rms_px(fit.plane.project(points[held_back]))
    assert with_lens < 1.0
    assert rms_px(plain[:, :2] / plain[:, 2:]) > 3 * with_lens


def test_a_real_junction_solves_to_the_residuals_that_its_surveyors_published() -> None:
    marks = json.loads(evaluation_file("clips/pi-junction.refpts.json").read_text(encoding="utf-8"))
    points = np.array([[mark["lon_utm"], mark["lat_utm"]] for mark in marks.values()])
    clicks = np.array([[mark["x_px"], mark["y_px"]] for mark in marks.values()], dtype=np.float64)
    survey = Survey(
        names=tuple(marks),
        pixels=clicks,
        points_m=points,
        sigma_px=np.full(5, 1.0),
        sigma_m=np.full(5, 0.1),  # coordinates read from an aerial picture
        origin=tuple(f"junction.csv line {row}" for row in range(2, 7)),
    )
    middle = points.mean(axis=0)
    corners = middle + np.array([[-4.0, -4.0], [4.0, -4.0], [4.0, 4.0], [-4.0, 4.0]])
    site = Site(
        id="junction",
        limit_kmh=50,
        mount_height_m=None,
        polygon_m=tuple((float(x), float(y)) for x, y in corners),
        axis_m=((float(middle[0]) - 4, float(middle[1])), (float(middle[0]) + 4, float(middle[1]))),
        forward="east",
        backward="west",
    )
    solution = solve(survey, site, (800, 600))
    misses_m = np.linalg.norm(solution.plane.camera.ground(clicks) - points, axis=1)
    assert misses_m.max() <= 0.24
    assert solution.rejected == ()


def brno(session: str) -> tuple[dict[str, object], TapeDistances, tuple[int, int]]:
    folder = f"groundtruth/brnocompspeed-{session}"
    calibrations = json.loads(evaluation_file(f"{folder}/calibration.json").read_text(encoding="utf-8"))
    truth = json.loads(evaluation_file(f"{folder}/ground_truth.json").read_text(encoding="utf-8"))
    taped = truth["distances"]
    tape = TapeDistances(
        from_px=np.array([each["p1"] for each in taped]),
        to_px=np.array([each["p2"] for each in taped]),
        distances_m=np.array([each["metres"] for each in taped]),
        sigma_m=np.full(len(taped), 0.02),
        origin=tuple(f"tape.csv line {row}" for row in range(2, len(taped) + 2)),
    )
    return calibrations, tape, (truth["image_size"][0], truth["image_size"][1])


@pytest.mark.parametrize("session", ["session0-left", "session1-left", "session2-right"])
@pytest.mark.parametrize("published", ["optimal_calib", "bmvc14"])
def test_taped_distances_tell_a_good_published_calibration_from_a_bad_one(session: str, published: str) -> None:
    calibrations, tape, size_px = brno(session)
    clicks = np.unique(np.concatenate((tape.from_px, tape.to_px)), axis=0)
    matrix = np.array(calibrations[published]["derived"]["H_image_to_road_metres"])  # type: ignore[index]
    mapped = np.column_stack((clicks, np.ones(len(clicks)))) @ matrix.T
    places = mapped[:, :2] / mapped[:, 2:]
    fit = fit_camera(
        Survey(
            names=tuple(f"B{row}" for row in range(len(clicks))),
            pixels=clicks,
            points_m=places,
            sigma_px=np.full(len(clicks), 0.5),
            sigma_m=np.full(len(clicks), 0.05),
            origin=("",) * len(clicks),
        ),
        size_px,
    )
    assert fit is not None
    check = compare_with_tape(fit.plane, tape)
    refused = any(finding.verdict is Verdict.REFUSE for finding in check.findings)
    assert refused == (published == "bmvc14"), check.systematic


@pytest.mark.parametrize("session", ["session0-left", "session1-left", "session2-right"])
def test_surveyed_points_reproduce_the_tape_as_well_as_the_published_calibration_they_come_from(session: str) -> None:
    calibrations, tape, size_px = brno(session)
    marks = {tuple(mark["pixel"]): mark["metres"] for mark in calibrations["derived_calibration_points"]}  # type: ignore[attr-defined]
    survey = Survey(
        names=tuple(f"B{row}" for row in range(len(marks))),
        pixels=np.array(list(marks)),
        points_m=np.array(list(marks.values())),
        sigma_px=np.full(len(marks), 1.0),
        sigma_m=np.full(len(marks), 0.02),
        origin=("",) * len(marks),
    )
    fit = fit_camera(survey, size_px)
    assert fit is not None
    off_percent = 100 * float(np.abs(compare_with_tape(fit.plane, tape).relative_errors).mean())
    published = calibrations["optimal_calib"]["derived"]["distance_error_percent"]["mean_abs"]  # type: ignore[index]
    assert off_percent <= published + 0.02


def test_the_summary_has_the_keys_that_checks_read() -> None:
    summary = solve(a_noisy_survey(), a_site(), IMAGE_PX).summary()
    assert {"verdict", "reasons", "points", "rejected", "rms_px", "camera", "u_rel_speed", "px_per_m"} <= set(summary)
    assert set(summary["camera"]) == {
        f"{name}{part}" for name in ("focal_px", "height_m", "tilt_deg", "k1") for part in ("", "_sigma")
    }
    assert set(summary["u_rel_speed"]) == {"median", "worst"}
    json.dumps(summary, allow_nan=False)
    assert list(csv.reader([summary["verdict"]])) == [["good"]]


def test_k1_is_null_when_the_points_hardly_tell_it() -> None:
    tele = a_camera(focal_px=3000.0, tilt_deg=9.0, heading_deg=4.0, foot_m=(-30.0, 0.0), height_m=8.0)
    near_the_axis = np.array([(20.0, 0.0), (20.0, 5.0), (25.0, 2.0), (30.0, 0.0), (30.0, 6.0), (26.0, 5.0)])
    solution = solve(a_survey(tele, points_m=near_the_axis), a_site(), IMAGE_PX)
    assert solution.summary()["camera"]["k1"] is None
