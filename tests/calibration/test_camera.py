"""The camera's maps: laws, derivatives, borders."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import PARAMETERS, Camera
from calibration.camera import Floats, rotation_from_vector
from tests.calibration.surveys import SCENES, a_camera, marks_m, scene_truth

LENSES: dict[str, dict[str, float]] = {
    "without lens": {},
    "wide lens": {"k1": -0.25, "k2": 0.05},
    "pincushion": {"k1": 0.12},
    "decentred lens": {"k1": -0.2, "k2": 0.04, "p1": 0.002, "p2": -0.001},
}


@pytest.fixture(params=list(LENSES.values()), ids=list(LENSES))
def camera(request: pytest.FixtureRequest) -> Camera:
    return a_camera(**request.param)


def in_space(points_m: Floats, height_m: float = 0.0) -> Floats:
    return np.column_stack((points_m, np.full(len(points_m), height_m)))


def numerically(function: object, at: Floats, step: float) -> Floats:
    """Central differences of a map by its last axis."""
    columns = [(function(at + step * unit) - function(at - step * unit)) / (2 * step) for unit in np.eye(at.shape[-1])]  # type: ignore[operator]
    return np.stack(columns, axis=-1)


def test_projecting_agrees_with_opencv(camera: Camera) -> None:
    points = in_space(marks_m(), 1.2)
    matrix = np.array([[camera.focal_px, 0, camera.centre_px[0]], [0, camera.focal_px, camera.centre_px[1]], [0, 0, 1]])
    shift = -camera.rotation @ camera.position_m
    expected, _ = cv2.projectPoints(
        points, cv2.Rodrigues(camera.rotation)[0], shift, matrix, np.array(camera.distortion)
    )
    np.testing.assert_allclose(camera.project(points), expected[:, 0], atol=1e-8)


@pytest.mark.parametrize("scene", SCENES)
def test_the_camera_of_a_rendered_scene_projects_its_survey_marks(scene: str) -> None:
    camera, points, clicks = scene_truth(scene)
    np.testing.assert_allclose(camera.project(in_space(points)), clicks, atol=0.006)  # the truth is rounded to 0.01 px


@settings(max_examples=60, deadline=None)
@given(
    lens=st.sampled_from(sorted(LENSES)),
    x=st.floats(6.0, 60.0),
    y=st.floats(-4.0, 6.0),
    height=st.floats(3.0, 12.0),
    tilt=st.floats(8.0, 35.0),
)
def test_a_road_point_that_is_seen_is_found_again(lens: str, x: float, y: float, height: float, tilt: float) -> None:
    camera = a_camera(height_m=height, tilt_deg=tilt, **LENSES[lens])  # type: ignore[arg-type]
    pixel = camera.project([x, y, 0.0])
    inside = np.isfinite(pixel).all() and (pixel > 0).all() and (pixel < camera.image_size_px).all()
    if inside:
        np.testing.assert_allclose(camera.ground(pixel), [x, y], atol=1e-6)


def test_shapes_are_kept(camera: Camera) -> None:
    points = np.broadcast_to(np.array([15.0, 0.0, 1.0]), (4, 8, 3))
    assert camera.project(points).shape == (4, 8, 2)
    pixels, by_parameters, by_points = camera.linearise(points)
    assert (pixels.shape, by_parameters.shape, by_points.shape) == ((4, 8, 2), (4, 8, 2, 11), (4, 8, 2, 3))
    assert camera.ground(pixels).shape == (4, 8, 2)
    assert camera.linearise_ground(pixels)[1].shape == (4, 8, 2, 2)
    assert camera.ground([400.0, 400.0]).shape == (2,)


def test_linearising_gives_the_projection_and_its_derivatives(camera: Camera) -> None:
    points = in_space(marks_m(), 0.4)
    pixels, by_parameters, by_points = camera.linearise(points)
    for alone, together in zip(camera.linearise_points(points), (pixels, by_points)):
        np.testing.assert_array_equal(alone, together)
    np.testing.assert_allclose(pixels, camera.project(points), atol=1e-9)
    np.testing.assert_allclose(by_points, numerically(camera.project, points, 1e-5), atol=1e-5)

    def after_change(delta: Floats) -> Floats:
        return camera.perturbed(delta).project(points)

    np.testing.assert_allclose(by_parameters, numerically(after_change, np.zeros(len(PARAMETERS)), 1e-6), atol=1e-5)


def test_the_jacobian_of_ground_is_the_derivative_of_ground(camera: Camera) -> None:
    pixels = camera.project(in_space(marks_m()))
    places, slopes = camera.linearise_ground(pixels)
    np.testing.assert_array_equal(places, camera.ground(pixels))
    np.testing.assert_allclose(slopes, numerically(camera.ground, pixels, 1e-3), atol=1e-6)


def test_undistorted_pixels_follow_a_straight_line_where_the_picture_bends_it() -> None:
    camera = a_camera(k1=-0.25, k2=0.05)
    kerb = in_space(np.column_stack((np.linspace(7, 60, 9), np.full(9, -4.0))))
    straight = camera.undistorted(camera.project(kerb))
    without_lens = a_camera().project(kerb)
    np.testing.assert_allclose(straight, without_lens, atol=1e-6)


def test_what_lies_behind_the_camera_has_no_pixel(camera: Camera) -> None:
    assert np.isnan(camera.project([-30.0, -20.0, 0.0])).all()


def test_a_pixel_at_or_above_the_horizon_has_no_place_on_the_road() -> None:
    camera = a_camera(tilt_deg=10.0, roll_deg=0.0)
    horizon_v = camera.centre_px[1] - camera.focal_px * np.tan(np.radians(10.0))
    ground = camera.ground([[480.0, horizon_v - 5.0], [480.0, horizon_v], [480.0, horizon_v + 5.0]])
    assert np.isnan(ground[:2]).all()
    assert np.isfinite(ground[2]).all()
    assert np.isnan(camera.linearise_ground([480.0, horizon_v - 5.0])[1]).all()


def test_beyond_where_the_lens_turns_back_nothing_is_seen_and_nothing_is_invented() -> None:
    camera = a_camera(focal_px=500.0, k1=-0.4)  # 1 + 3·k1·s = 0 at s = 0.83: a normalised radius of 0.913
    turning = np.sqrt(1 / 1.2)
    largest_px = camera.focal_px * turning * (1 - 0.4 * turning**2)
    right_of_it = camera.position_m + 10 * camera.rotation[2] + 9.5 * camera.rotation[0]
    assert np.isnan(camera.project(right_of_it)).all()
    beyond, within = (camera.centre_px[0] + largest_px + side for side in (2.0, -2.0))
    assert np.isnan(camera.undistorted([beyond, camera.centre_px[1]])).all()
    assert np.isfinite(camera.undistorted([within, camera.centre_px[1]])).all()


def test_tilt_and_height_read_as_a_technician_means_them() -> None:
    camera = a_camera(height_m=5.6, tilt_deg=16.0)
    assert camera.height_m == pytest.approx(5.6)
    assert np.degrees(camera.tilt_rad) == pytest.approx(16.0)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.7, 3.0])
def test_a_rotation_vector_becomes_a_rotation(angle: float) -> None:
    vector = angle * np.array([0.6, 0.0, 0.8])
    np.testing.assert_allclose(rotation_from_vector(vector), cv2.Rodrigues(vector)[0], atol=1e-12)


def test_a_camera_cannot_be_changed_after_birth() -> None:
    with pytest.raises(ValueError, match="read-only"):
        a_camera().position_m[2] = 7.0
