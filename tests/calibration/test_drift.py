from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from calibration import Calibration, CalibrationError, Camera, read_site, read_survey
from calibration.camera import Floats
from calibration.drift import APART_PX, PATCH_PX, Comparison, Reference, read_reference_corners, smoothed, turned
from calibration.page import Workbench
from edge.cli import app
from edge.domain import Pixels
from edge.sources.video import VideoFile
from tests.support.street import BUNDLED, MADE, SIZE_PX, STREET, demo_calibration
from tests.support.turning import (
    DOWN,
    LEFT,
    ROLL,
    Turner,
    a_turn,
    in_fog,
    in_half_shadow,
    in_noise,
    in_rain,
    in_the_dark,
    turned_camera,
)

NOWHERE = np.empty((0, 4))
STRAIGHT = np.zeros(3)


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    """The bundled street, a second apart."""
    with VideoFile(STREET) as street:
        return [frame.image_bgr for frame in islice(street.frames(), 0, 140, 20)]


@pytest.fixture(scope="module")
def reference(pictures: list[Pixels]) -> Reference:
    learnt = Reference.learn(pictures[:5])
    assert learnt is not None
    return learnt


@pytest.fixture(scope="module")
def camera() -> Camera:
    return demo_calibration().plane.camera


def compared(reference: Reference, camera: Camera, picture: Pixels, hidden: Floats = NOWHERE) -> Comparison:
    return reference.compare(camera, smoothed(picture), hidden=hidden, expected_rad=STRAIGHT)


def degrees(comparison: Comparison) -> Floats:
    assert comparison.rotation_rad is not None
    return np.degrees(comparison.rotation_rad)


def assert_is(comparison: Comparison, rotation_rad: Floats) -> None:
    """The rotation lies within three of its stated standard deviations about each axis, and these are small."""
    assert comparison.rotation_rad is not None
    assert comparison.covariance is not None
    sigma = np.sqrt(np.diag(comparison.covariance))
    assert (sigma < math.radians(0.02)).all()
    assert (np.abs(comparison.rotation_rad - rotation_rad) < 3 * sigma).all(), degrees(comparison)


@pytest.mark.parametrize(
    "about", [pytest.param(DOWN, id="down"), pytest.param(LEFT, id="left"), pytest.param(ROLL, id="rolled")]
)
@pytest.mark.parametrize("angle", [0.1, 0.25, 0.5, 1.5])
def test_a_turn_of_the_camera_is_measured_within_its_sigma(
    reference: Reference, camera: Camera, pictures: list[Pixels], angle: float, about: tuple[float, float, float]
) -> None:
    turn = a_turn(angle, about)

    assert_is(compared(reference, camera, Turner(camera, turn)(pictures[6])), turn)


def test_a_turn_is_measured_through_a_wide_lens(pictures: list[Pixels], camera: Camera) -> None:
    wide = replace(camera, focal_px=640.0, centre_px=(483.8, 266.4), distortion=(-0.25, 0.05, 0.0, 0.0, 0.0))
    learnt = Reference.learn(pictures[:5])
    assert learnt is not None
    turn = a_turn(0.5, (0.7, -0.7, 0.1))

    assert_is(compared(learnt, wide, Turner(wide, turn)(pictures[6])), turn)


@pytest.mark.parametrize(
    "weather",
    [
        pytest.param(in_the_dark, id="a fifth of the light"),
        pytest.param(in_noise, id="noise of 15 grey levels"),
        pytest.param(in_rain, id="rain"),
        pytest.param(in_half_shadow, id="a shadow over half the street"),
        pytest.param(in_fog, id="fog"),
    ],
)
@pytest.mark.parametrize("angle", [0.0, 0.25])
def test_weather_is_not_mistaken_for_a_turn(
    reference: Reference, camera: Camera, pictures: list[Pixels], weather: Callable[[Pixels], Pixels], angle: float
) -> None:
    turn = a_turn(angle, (0.7, -0.6, 0.2))

    assert_is(compared(reference, camera, weather(Turner(camera, turn)(pictures[6]))), turn)


def test_a_third_of_the_picture_that_moves_is_outvoted(
    reference: Reference, camera: Camera, pictures: list[Pixels]
) -> None:
    moving = pictures[6].copy()
    moving[:, :320] = np.roll(moving[:, :320], 3, axis=1)

    assert_is(compared(reference, camera, moving), STRAIGHT)


def test_what_is_under_a_detection_takes_no_part(reference: Reference, camera: Camera, pictures: list[Pixels]) -> None:
    left_half = np.array([[0.0, 0.0, 480.0, 540.0]])

    everywhere = compared(reference, camera, pictures[6])
    half = compared(reference, camera, pictures[6], hidden=left_half)

    right = reference.pixels[:, 0] > 480 + PATCH_PX
    assert half.tested <= everywhere.tested - (reference.pixels[:, 0] < 480).sum()
    assert half.tested >= right.sum() - 5
    assert_is(half, STRAIGHT)


def test_a_parked_car_that_leaves_changes_nothing(camera: Camera, pictures: list[Pixels]) -> None:
    with_car = [picture.copy() for picture in pictures]
    car = pictures[0][260:345, 570:670].copy()
    for picture in with_car[:5]:
        picture[420:505, 100:200] = car
    learnt = Reference.learn(with_car[:5])
    assert learnt is not None

    assert_is(compared(learnt, camera, pictures[6]), STRAIGHT)


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(np.zeros((540, 960, 3), dtype=np.uint8), id="black"),
        pytest.param(np.full((540, 960, 3), 255, dtype=np.uint8), id="white"),
        pytest.param(np.random.default_rng(1).integers(0, 255, (540, 960, 3)).astype(np.uint8), id="nothing but noise"),
    ],
)
def test_a_picture_of_nothing_tells_nothing(reference: Reference, camera: Camera, picture: Pixels) -> None:
    before = smoothed(picture if picture.std() == 0 else picture[::-1])

    found = reference.compare(camera, smoothed(picture), hidden=NOWHERE, expected_rad=STRAIGHT, before=before)

    assert found.rotation_rad is None
    assert found.changed == 0.0


def test_a_camera_that_looks_elsewhere_is_seen_to_stand_still_and_see_something_else(
    reference: Reference, camera: Camera, pictures: list[Pixels]
) -> None:
    elsewhere = np.ascontiguousarray(pictures[6][:, ::-1])

    found = reference.compare(
        camera, smoothed(elsewhere), hidden=NOWHERE, expected_rad=STRAIGHT, before=smoothed(elsewhere)
    )

    assert found.rotation_rad is None
    assert found.changed is not None
    assert found.changed > 0.8


def test_a_comparison_is_cheap(reference: Reference, camera: Camera, pictures: list[Pixels]) -> None:
    """Stated: less than 10 ms at 960x540; the test leaves room for a busy computer."""
    took_s = []
    for _ in range(9):
        begin_s = time.process_time()
        compared(reference, camera, pictures[6])
        took_s.append(time.process_time() - begin_s)

    assert np.median(took_s) < 0.03


# --------------------------------------------------------------------------------------------------- what is remembered


def test_a_reference_is_no_picture(reference: Reference) -> None:
    apart = np.hypot(*(reference.pixels[:, None] - reference.pixels[None]).transpose(2, 0, 1))
    apart[np.diag_indices(len(reference))] = np.inf

    assert apart.min() >= APART_PX > PATCH_PX * math.sqrt(2)
    assert len(reference) * PATCH_PX**2 < 0.06 * SIZE_PX[0] * SIZE_PX[1]
    assert np.abs(reference.windows.reshape(len(reference), -1).mean(axis=1)).max() < 1.0  # no brightness is left


def test_corners_come_from_all_over_the_picture(reference: Reference) -> None:
    cells = {(int(u // 160), int(v // 135)) for u, v in reference.pixels}

    assert len(cells) >= 16  # of 24, and the sky has none


def test_no_corner_is_taken_where_something_moved_or_a_vehicle_was_seen(pictures: list[Pixels]) -> None:
    busy = [picture.copy() for picture in pictures[:5]]
    for number, picture in enumerate(busy):
        picture[300:500, 300:600] = np.roll(picture[300:500, 300:600], 9 * number, axis=1)

    learnt = Reference.learn(busy, hidden=np.array([[700.0, 0.0, 960.0, 540.0]]))

    assert learnt is not None
    u, v = learnt.pixels.T
    assert not (u > 700 - PATCH_PX // 2).any()
    assert not ((u > 310) & (u < 590) & (v > 310) & (v < 490)).any()


def test_a_featureless_street_gives_no_reference() -> None:
    assert Reference.learn([np.full((540, 960, 3), 90, dtype=np.uint8)]) is None


def test_a_certificate_carries_its_reference_and_old_ones_carry_none(tmp_path: Path, reference: Reference) -> None:
    plain = demo_calibration()
    with_reference = Calibration.certify(
        plane=plain.plane,
        site=plain.site,
        points=plain.points,
        dropped=(),
        noise_scale=1.0,
        verdict=plain.verdict,
        reasons=(),
        created=MADE,
        reference=reference,
    )
    with_reference.save(tmp_path / "cal.json")
    plain.save(tmp_path / "old.json")

    read = Calibration.load(tmp_path / "cal.json").reference

    assert read is not None
    np.testing.assert_array_equal(read.windows, reference.windows)
    np.testing.assert_allclose(read.pixels, reference.pixels, atol=0.006)
    assert "reference" not in json.loads((tmp_path / "old.json").read_text())
    assert Calibration.load(tmp_path / "old.json").reference is None


def test_an_altered_reference_is_refused(tmp_path: Path, reference: Reference) -> None:
    block = reference.as_json()

    with pytest.raises(CalibrationError, match=r"cal\.json: reference: .*window_px: expected 15, got 16"):
        Reference.from_json({**block, "window_px": 16}, "cal.json")
    with pytest.raises(CalibrationError, match=r"cal\.json: reference"):
        Reference.from_json({**block, "windows": block["windows"][:-8]}, "cal.json")
    with pytest.raises(CalibrationError, match=r"cal\.json: reference: .*'pixels'"):
        Reference.from_json({key: value for key, value in block.items() if key != "pixels"}, "cal.json")


def test_a_still_gives_a_reference_or_one_clear_line(tmp_path: Path, pictures: list[Pixels]) -> None:
    still, plain, text = tmp_path / "still.png", tmp_path / "plain.png", tmp_path / "text.png"
    cv2.imwrite(str(still), pictures[0])
    cv2.imwrite(str(plain), np.zeros((540, 960, 3), dtype=np.uint8))
    text.write_text("not a picture")

    assert len(read_reference_corners(still, SIZE_PX)) > 60
    for path, size_px, says in (
        (tmp_path / "none.png", SIZE_PX, "none.png: expected a picture, found nothing"),
        (tmp_path, SIZE_PX, "expected a picture, found a directory"),
        (text, SIZE_PX, r"text.png: expected a picture \(PNG or JPEG\)"),
        (still, (640, 480), "still.png: expected 640x480 pixels, found 960x540"),
        (plain, SIZE_PX, "plain.png: expected 24 corners or more"),
    ):
        with pytest.raises(CalibrationError, match=says):
            read_reference_corners(path, size_px)


def test_the_page_puts_the_corners_of_its_still_into_the_certificate(tmp_path: Path, reference: Reference) -> None:
    survey, site = read_survey(BUNDLED / "survey.csv"), read_site(BUNDLED / "site.toml")
    bench = Workbench(image_size_px=SIZE_PX, folder=tmp_path, survey=survey, site=site, reference=reference)

    bench.save(bench.draft, MADE)

    saved = Calibration.load(tmp_path / "cal.json").reference
    assert saved is not None
    assert len(saved) == len(reference)


def test_solve_puts_the_corners_of_the_still_into_the_certificate(tmp_path: Path, pictures: list[Pixels]) -> None:
    still, out = tmp_path / "still.png", tmp_path / "cal.json"
    cv2.imwrite(str(still), pictures[0])
    files = ["--survey", str(BUNDLED / "survey.csv"), "--site", str(BUNDLED / "site.toml"), "--out", str(out)]

    done = CliRunner().invoke(app, ["calibrate", "solve", *files, "--image-size", "960x540", "--still", str(still)])

    assert done.exit_code == 0, done.output
    certificate = Calibration.load(out)
    assert certificate.reference is not None
    assert_is(compared(certificate.reference, certificate.plane.camera, pictures[6]), STRAIGHT)


# ------------------------------------------------------------------------------------------------------ the turned road


def test_the_turned_road_is_where_the_turned_camera_sees_it() -> None:
    plane, turn = demo_calibration().zone_plane, a_turn(0.5, (0.6, 0.7, -0.3))
    points = np.array([[2.0, -1.0], [10.0, 1.5], [18.0, -2.0]])

    after = turned(plane, turn, np.eye(3) * 1e-10)

    np.testing.assert_allclose(
        after.project(points),
        turned_camera(plane.camera, turn).project(np.column_stack((points, np.zeros(3)))),
        atol=1e-9,
    )
    assert np.abs(after.project(points) - plane.project(points)).max() > 4.0


def test_turning_adds_its_own_uncertainty_and_takes_none_away() -> None:
    plane, axis = demo_calibration().zone_plane, np.array([1.0, 0.0])
    points = np.array([[4.0, 0.0], [16.0, 0.0]])
    sigma_rad = math.radians(0.05)

    after = turned(plane, a_turn(0.3), np.eye(3) * sigma_rad**2)

    before, now = plane.relative_speed_sigma(points, axis), after.relative_speed_sigma(points, axis)
    tilt = plane.relative_speed_gradient(points, axis)[:, 5:8]
    assert (now > before).all()
    assert (now > 0.9 * np.hypot(before, np.linalg.norm(tilt, axis=1) * sigma_rad)).all()
    assert turned(plane, STRAIGHT, np.zeros((3, 3))).covariance == pytest.approx(plane.covariance)
