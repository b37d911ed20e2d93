"""A lens told by a board: found again from rendered boards, with an honest covariance, and used by a survey."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from calibration import Calibration, CalibrationError, Camera, solve
from calibration.board import MIN_VIEWS, Charuco, Checkerboard, View, distinct_views, solve_lens
from calibration.camera import Floats, rotation_from_vector
from calibration.lens import LENS_PARAMETERS, Lens
from calibration.still import Pixels
from edge.cli.calibrate import app
from edge.cli.calibrate_lens import lens as verb
from edge.errors import BadInput
from tests.calibration.surveys import IMAGE_PX, a_camera, a_site, a_survey
from tests.calibration.test_verbs import surveyed

CORNERS, SQUARE_M, MARKER_M = (9, 6), 0.03, 0.022
BOARD = Checkerboard(CORNERS, SQUARE_M)
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
WIDE = a_camera(focal_px=690.0, k1=-0.27, k2=0.08, centre_px=(486.0, 264.0))
TRUTH = np.array([math.log(690.0), 486.0, 264.0, -0.27, 0.08, 0.0, 0.0, 0.0])


def a_pose(u: float, v: float, tilt_deg: float, turn_deg: float, roll_deg: float, far_m: float) -> Camera:
    """The wide camera, as seen from a board whose middle appears near (u, v); the board is the plane z = 0."""
    tilt, turn, roll = (math.radians(angle) for angle in (tilt_deg, turn_deg, roll_deg))
    rotation = rotation_from_vector(np.array([0.0, 0.0, roll])) @ rotation_from_vector(np.array([tilt, 0.0, 0.0]))
    rotation = rotation @ rotation_from_vector(np.array([0.0, turn, 0.0]))
    middle = np.array([(CORNERS[0] - 1) / 2, (CORNERS[1] - 1) / 2, 0.0]) * SQUARE_M
    ray = np.array([(u - WIDE.centre_px[0]) / WIDE.focal_px, (v - WIDE.centre_px[1]) / WIDE.focal_px, 1.0])
    return replace(WIDE, rotation=rotation, position_m=middle - rotation.T @ (ray * far_m))


def poses() -> list[Camera]:
    """A board near and far, in the corners, and tilted to each side."""
    places = [(480, 270), (220, 150), (740, 150), (220, 390), (740, 390), (480, 150), (480, 390), (300, 270)]
    places += [(660, 270), (480, 270), (160, 120), (800, 420), (800, 120), (160, 420)]
    tilts = [(0, 0), (30, 10), (-30, 15), (25, -30), (-25, 30), (38, 0), (-38, 0), (5, 38), (5, -38), (20, 20)]
    tilts += [(-15, -20), (15, 25), (25, -15), (-25, -15)]
    return [
        a_pose(u, v, tilt, turn, 3.0 * number - 20.0, 0.42 + 0.03 * (number % 4))
        for number, ((u, v), (tilt, turn)) in enumerate(zip(places, tilts))
    ]


def board_points() -> Floats:
    columns, rows = np.meshgrid(np.arange(CORNERS[0]), np.arange(CORNERS[1]))
    return np.asarray(np.stack((columns, rows, 0 * rows), axis=-1).reshape(-1, 3) * SQUARE_M, dtype=np.float64)


def seen(*, noise_px: float, seed: int, cameras: Sequence[Camera] | None = None) -> list[View]:
    rng = np.random.default_rng(seed)
    everything = np.arange(len(board_points()))
    return [
        View(everything, camera.project(board_points()) + rng.normal(0.0, noise_px, (len(everything), 2)))
        for camera in (poses() if cameras is None else cameras)
    ]


@cache
def rays() -> Floats:
    """Where the wide camera looks through each quarter of a pixel, x and y at depth 1."""
    pixels = WIDE.undistorted(np.stack(np.meshgrid(*(np.arange(side) for side in IMAGE_PX)), axis=-1))
    each = (pixels - WIDE.centre_px) / WIDE.focal_px
    return np.asarray(cv2.resize(each, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR), dtype=np.float64)


def paper_in(camera: Camera) -> tuple[slice, slice]:
    """Rows and columns of the picture outside of which there is no paper."""
    sides = (np.linspace(-2 * SQUARE_M, (count + 1) * SQUARE_M, 30) for count in CORNERS)
    on_paper = np.stack([*np.meshgrid(*sides), np.zeros((30, 30))], axis=-1)
    pixels = camera.project(on_paper).reshape(-1, 2)
    if not np.isfinite(pixels).all():
        return slice(0, IMAGE_PX[1]), slice(0, IMAGE_PX[0])
    low = np.floor(pixels.min(axis=0)).astype(int) - 3
    high = np.ceil(pixels.max(axis=0)).astype(int) + 4
    columns, rows = (slice(max(first, 0), min(last, side)) for first, last, side in zip(low, high, IMAGE_PX))
    return rows, columns


def rendered(camera: Camera, charuco: Pixels | None = None) -> Pixels:
    """The board as that camera sees it, a little blurred and noisy."""
    rows, columns = paper_in(camera)
    each = rays()[2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop]
    directions = np.concatenate((each, np.ones((*each.shape[:2], 1))), axis=-1) @ camera.rotation
    place = (camera.position_m + directions * (-camera.position_m[2] / directions[..., 2])[..., None])[..., :2]
    squares = np.floor(place / SQUARE_M).astype(int)
    on_board = ((place > -SQUARE_M) & (place < np.array(CORNERS) * SQUARE_M)).all(axis=-1)
    on_paper = ((place > -2 * SQUARE_M) & (place < (np.array(CORNERS) + 1) * SQUARE_M)).all(axis=-1)
    if charuco is None:
        grey = np.where(on_board & (squares.sum(axis=-1) % 2 == 0), 35.0, np.where(on_paper, 215.0, 120.0))
    else:
        drawn = cv2.resize(charuco, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # as soft as it is seen
        at = ((place + SQUARE_M) * drawn.shape[1] / ((CORNERS[0] + 1) * SQUARE_M) - 0.5).astype(np.float32)
        paint = cv2.remap(drawn, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderValue=255)
        grey = np.where(on_board, 35.0 + 180.0 * paint / 255.0, np.where(on_paper, 215.0, 120.0))
    small = np.full(IMAGE_PX[::-1], 120.0)
    small[rows, columns] = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 0.7)
    noisy = small + np.random.default_rng(4).normal(0.0, 2.0, small.shape)
    return np.dstack([noisy.clip(0, 255).astype(np.uint8)] * 3)


def printed(*, is_legacy: bool = False) -> Pixels:
    """A ChArUco board of that size, 40 pixels a square."""
    squares = (CORNERS[0] + 1, CORNERS[1] + 1)
    markers = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_50)  # a smaller set than is looked for
    board = cv2.aruco.CharucoBoard(squares, SQUARE_M, MARKER_M, markers)
    board.setLegacyPattern(is_legacy)
    return np.asarray(board.generateImage((40 * squares[0], 40 * squares[1])), dtype=np.uint8)


def a_clip(path: Path, cameras: Sequence[Camera], charuco: Pixels | None = None) -> Path:
    """Two pictures of the board a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 2.0, IMAGE_PX)
    for camera in cameras:
        writer.write(rendered(camera, charuco))
    writer.release()
    return path


@cache
def a_lens(noise_px: float = 0.15) -> Lens:
    return solve_lens(seen(noise_px=noise_px, seed=5), IMAGE_PX, BOARD, NOW)


def deviations(lens: Lens) -> Floats:
    values = np.array([math.log(lens.focal_px), *lens.centre_px, *lens.distortion])
    return np.asarray(values - TRUTH)


@pytest.fixture(scope="module")
def lens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the verb finds in a clip of rendered boards."""
    folder = tmp_path_factory.mktemp("board")
    clip = a_clip(folder / "board.mp4", poses())
    verb(clip=clip, board="9x6", square_mm=30.0, out=folder / "lens.json", as_json=True)
    return folder / "lens.json"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_a_rendered_board_tells_the_lens_that_it_was_rendered_through(lens_file: Path) -> None:
    found = Lens.load(lens_file)
    assert found.views >= MIN_VIEWS
    assert found.rms_px < 0.4
    sigmas = np.sqrt(np.diag(found.covariance))
    assert found.focal_px == pytest.approx(690.0, rel=0.005)
    for row in range(5):
        assert abs(deviations(found)[row]) < 4 * sigmas[row], LENS_PARAMETERS[row]


def test_a_charuco_board_tells_it_too_although_it_reaches_out_of_the_picture(tmp_path: Path) -> None:
    places = [(60, 60), (900, 60), (60, 480), (900, 480), (480, 20), (480, 520), (20, 270), (940, 270)]
    cut_off = [
        a_pose(u, v, 22 * (-1) ** number, 18 * (-1) ** (number // 2), 7.0 * number, 0.36)
        for number, (u, v) in enumerate(places)
    ]
    clip = a_clip(tmp_path / "board.mp4", [*cut_off, *poses()[:5]], printed())
    verb(clip=clip, board="9x6", square_mm=30.0, out=tmp_path / "lens.json", marker_mm=22.0, markers="5x5")
    found = Lens.load(tmp_path / "lens.json")
    sigmas = np.sqrt(np.diag(found.covariance))
    assert found.views >= MIN_VIEWS
    assert found.rms_px < 0.4
    for row in range(5):
        assert abs(deviations(found)[row]) < 4 * sigmas[row], LENS_PARAMETERS[row]
    assert BOARD.look(rendered(cut_off[0], printed())) is None


@pytest.mark.parametrize("is_legacy", [False, True], ids=["as drawn today", "as drawn before OpenCV 4.6"])
def test_the_corners_of_a_charuco_board_are_numbered_as_they_lie(is_legacy: bool) -> None:
    camera = poses()[1]
    view = Charuco(CORNERS, SQUARE_M, MARKER_M, "5x5").look(rendered(camera, printed(is_legacy=is_legacy)))
    assert view is not None
    assert len(view.numbers) >= 40
    assert np.abs(view.pixels - camera.project(board_points()[view.numbers])).max() < 1.0


def test_views_with_different_corners_are_different_views() -> None:
    whole = seen(noise_px=0.0, seed=1, cameras=poses()[:1])[0]
    left, right = (View(whole.numbers[rows], whole.pixels[rows]) for rows in (slice(0, 27), slice(27, 54)))
    assert left.moved_from(whole) == 0.0
    assert math.isinf(left.moved_from(right))
    assert len(distinct_views([whole, left, right, whole], IMAGE_PX[0])) == 1
    assert len(distinct_views([left, right], IMAGE_PX[0])) == 2


def test_the_stated_sigmas_cover_what_noise_does_and_absent_terms_stay_absent() -> None:
    lenses = [solve_lens(seen(noise_px=0.3, seed=seed), IMAGE_PX, BOARD, NOW) for seed in range(30)]
    squares = [
        float(deviations(lens)[:5] @ np.linalg.solve(lens.covariance[:5, :5], deviations(lens)[:5]))
        for lens in lenses
        if lens.distortion[4] == 0
    ]
    assert len(squares) >= 27  # k3 is nought, and 3 sigma let it through seldom
    # chi-square with 5 degrees of freedom: mean 5, deviation of a mean of 27 is 0.6
    assert 3.2 < float(np.mean(squares)) < 6.8


def test_a_lens_survives_its_file_and_an_altered_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lens.json"
    path.write_text(json.dumps(a_lens().as_json()), encoding="utf-8")
    again = Lens.load(path)
    assert again.as_json() == a_lens().as_json()
    path.write_text(path.read_text().replace('"views": ', '"views": 1'), encoding="utf-8")
    with pytest.raises(CalibrationError, match="altered"):
        Lens.load(path)


@pytest.mark.parametrize(
    ("cameras", "says"),
    [
        pytest.param(poses()[:5], "seen in 5 different places", id="too few"),
        pytest.param(
            [a_pose(430 + 10 * n, 270, 20 * (-1) ** n, 3 * n, 0, 0.9) for n in range(10)],
            "of 16 fields",
            id="one place",
        ),
    ],
)
def test_a_board_that_does_not_tell_the_lens_is_refused(cameras: list[Camera], says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        solve_lens(seen(noise_px=0.2, seed=1, cameras=cameras), IMAGE_PX, BOARD, NOW)


def test_a_board_that_is_held_still_is_one_view() -> None:
    camera = poses()[0]
    assert len(distinct_views(seen(noise_px=0.3, seed=2, cameras=[camera] * 40), IMAGE_PX[0])) == 1


def test_a_known_lens_makes_the_camera_surer_and_leaves_it_right() -> None:
    survey = a_survey(WIDE, click_px=0.5, tape_m=0.01, seed=11)
    without, through = (solve(survey, a_site(), IMAGE_PX, lens=lens).plane for lens in (None, a_lens()))
    assert through.covariance[0, 0] < without.covariance[0, 0] / 4
    assert abs(math.log(through.camera.focal_px / 690.0)) < 3 * math.sqrt(through.covariance[0, 0])
    assert abs(through.camera.height_m - WIDE.height_m) < 3 * math.sqrt(through.covariance[10, 10])
    assert through.camera.distortion[0] == pytest.approx(-0.27, abs=0.02)


def test_the_lens_of_another_camera_is_noticed_and_no_point_is_blamed() -> None:
    survey = a_survey(a_camera(focal_px=900.0), click_px=0.5, tape_m=0.01, seed=11)
    with pytest.raises(CalibrationError, match=r"expected the lens of this camera, got lens-2026-11-23-"):
        solve(survey, a_site(), IMAGE_PX, lens=a_lens())
    with pytest.raises(CalibrationError, match="expected pictures of 960x540"):
        solve(a_survey(WIDE), a_site(), (1280, 720), lens=a_lens())


def test_a_survey_through_a_lens_names_it_in_its_certificate(lens_file: Path, tmp_path: Path) -> None:
    survey = a_survey(WIDE, click_px=0.5, tape_m=0.01, seed=11)
    result = run(*surveyed(tmp_path, survey), "--lens", lens_file)
    assert result.exit_code == 0, result.output
    assert Calibration.load(tmp_path / "cal.json").lens_id == Lens.load(lens_file).id
    told = json.loads(run("check", "--calibration", tmp_path / "cal.json", "--json").stdout)
    assert told["lens"] == Lens.load(lens_file).id


@pytest.mark.parametrize(
    ("board", "square_mm", "charuco", "says"),
    [
        ("9", 30.0, {}, "--board"),
        ("6x6", 30.0, {}, "--board"),
        ("9x6", 0.0, {}, "--square-mm"),
        ("10x7", 30.0, {}, "inner corners"),
        ("9x6", 30.0, {"marker_mm": 30.0}, "--marker-mm"),
        ("9x6", 30.0, {"marker_mm": 22.0, "markers": "8x8"}, "--markers: expected 4x4"),
        ("9x6", 30.0, {"marker_mm": 22.0}, "inner corners"),
    ],
)
def test_wrong_use_of_the_lens_verb_is_one_line(
    tmp_path: Path, board: str, square_mm: float, charuco: dict[str, Any], says: str
) -> None:
    clip = a_clip(tmp_path / "short.mp4", poses()[:2])
    with pytest.raises(BadInput, match=says) as refused:
        verb(clip=clip, board=board, square_mm=square_mm, out=tmp_path / "lens.json", **charuco)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [clip]
