"""Uncertainty on the road: against simulation, against brute force, and where nobody surveyed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibration import PARAMETERS, RoadPlane, solve
from calibration.fit import fit_camera
from calibration.road_plane import convex_hull
from tests.calibration.surveys import IMAGE_PX, a_camera, a_site, a_survey, marks_m

ALONG = np.array([1.0, 0.0])


@pytest.fixture(scope="module")
def plane() -> RoadPlane:
    return solve(a_survey(a_camera(k1=-0.2, k2=0.03)), a_site(), IMAGE_PX).plane


def test_position_covariance_from_pixels_agrees_with_simulation(plane: RoadPlane) -> None:
    rng = np.random.default_rng(3)
    pixel = plane.project([25.0, 1.0])
    located = plane.locate(pixel, 0.5)
    cloud = plane.camera.ground(pixel + rng.normal(0.0, 0.5, (20_000, 2)))
    np.testing.assert_allclose(np.cov(cloud.T), located.covariances_m2, rtol=0.06, atol=1e-5)


def test_each_axis_of_a_pixel_may_have_its_own_sigma(plane: RoadPlane) -> None:
    pixels = plane.project(marks_m())
    jacobian = plane.camera.linearise_ground(pixels)[1]
    expected = jacobian @ np.diag([0.25, 4.0]) @ np.swapaxes(jacobian, -1, -2)
    np.testing.assert_allclose(plane.locate(pixels, [0.5, 2.0]).covariances_m2, expected)


def test_pixels_above_the_horizon_are_not_on_the_road(plane: RoadPlane) -> None:
    located = plane.locate([[480.0, 500.0], [480.0, 2.0]], 1.0)
    assert located.on_road.tolist() == [True, False]
    assert np.isnan(located.positions_m[1]).all()


def test_calibration_covariance_of_a_position_agrees_with_perturbed_cameras(plane: RoadPlane) -> None:
    """Brute force: draw cameras from the covariance and see where the pixel of a road point lands."""
    rng = np.random.default_rng(4)
    point = np.array([24.0, -2.0])
    pixel = plane.project(point)
    draws = rng.multivariate_normal(np.zeros(len(PARAMETERS)), plane.covariance, 4_000, method="cholesky")
    landed = np.array([plane.camera.perturbed(delta).ground(pixel) for delta in draws])
    np.testing.assert_allclose(np.cov(landed.T), plane.position_covariance(point), rtol=0.15, atol=1e-5)


def test_the_speed_gradient_is_what_a_changed_camera_does_to_a_speed(plane: RoadPlane) -> None:
    points, step_m = np.array([[14.0, -2.0], [30.0, 2.5]]), 0.02
    gradient = plane.relative_speed_gradient(points, ALONG)
    ends = [plane.project(points + sign * step_m * ALONG) for sign in (1, -1)]
    for index in range(len(PARAMETERS)):
        delta = np.zeros(len(PARAMETERS))
        delta[index] = 1e-3 * math.sqrt(plane.covariance[index, index])
        scales = []
        for sign in (1, -1):
            changed = plane.camera.perturbed(sign * delta)
            travelled = changed.ground(ends[0]) - changed.ground(ends[1])
            scales.append(travelled @ ALONG / (2 * step_m))
        brute_force = (scales[0] - scales[1]) / (2 * delta[index])
        np.testing.assert_allclose(gradient[:, index], brute_force, rtol=2e-3, atol=1e-5)


def test_stated_speed_uncertainty_agrees_with_simulated_surveys() -> None:
    camera = a_camera()
    truth = np.array([[13.0, -1.5], [22.0, 1.5], [31.0, -1.5]])
    ends = [camera.project(np.column_stack((truth + sign * 0.25 * ALONG, np.zeros(3)))) for sign in (1, -1)]
    errors, stated = [], []
    for seed in range(150):
        fit = fit_camera(a_survey(camera, click_px=0.5, tape_m=0.01, seed=seed), IMAGE_PX)
        assert fit is not None
        travelled = fit.camera.ground(ends[0]) - fit.camera.ground(ends[1])
        errors.append(travelled @ ALONG / 0.5 - 1)
        stated.append(fit.plane.relative_speed_sigma(truth, ALONG))
    spread = np.sqrt((np.array(errors) ** 2).mean(axis=0))
    np.testing.assert_allclose(spread, np.mean(stated, axis=0), rtol=0.25)


def test_a_distance_is_as_uncertain_as_the_speed_over_it(plane: RoadPlane) -> None:
    start, end = np.array([20.0, 0.0]), np.array([20.2, 0.0])
    relative = plane.distance_sigma(start, end) / 0.2
    assert relative == pytest.approx(float(plane.relative_speed_sigma((start + end) / 2, ALONG)), rel=0.01)


def test_uncertainty_grows_outside_the_surveyed_points(plane: RoadPlane) -> None:
    inside, edge, beyond, far = (float(plane.relative_speed_sigma([x, 0.0], ALONG)) for x in (25.0, 40.0, 50.0, 65.0))
    assert inside < edge < beyond < far
    foot = plane.camera.position_m[:2]
    outside = float(plane.distance_to_hull_m([65.0, 0.0]))
    height_error_alone = outside / 2000 * (outside / 2 + (65.0 - foot[0])) / plane.camera.height_m
    assert far > height_error_alone


def test_the_distance_to_the_hull_is_zero_inside_and_euclidean_outside() -> None:
    square = RoadPlane(
        camera=a_camera(), covariance=np.eye(11), hull_m=convex_hull([(0, 0), (10, 0), (10, 10), (0, 10), (5, 5)])
    )
    points = np.array([[5.0, 5.0], [10.0, 3.0], [13.0, 5.0], [13.0, 14.0], [-2.0, 0.0]])
    np.testing.assert_allclose(square.distance_to_hull_m(points), [0.0, 0.0, 3.0, 5.0, 2.0])
    assert len(square.hull_m) == 4


def test_another_frame_tells_the_same_road(plane: RoadPlane) -> None:
    origin, axis = np.array([12.0, -1.0]), np.array([0.6, 0.8])
    left = np.array([-0.8, 0.6])
    turned = plane.in_frame(origin, axis)
    points = marks_m()
    moved = np.column_stack(((points - origin) @ axis, (points - origin) @ left))
    np.testing.assert_allclose(turned.project(moved), plane.project(points), atol=1e-8)
    turn = np.array([axis, left])
    expected = turn @ plane.position_covariance(points) @ turn.T
    np.testing.assert_allclose(turned.position_covariance(moved), expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        turned.relative_speed_sigma(moved, turn @ ALONG), plane.relative_speed_sigma(points, ALONG), rtol=1e-6
    )
    np.testing.assert_allclose(turned.distance_to_hull_m(moved), plane.distance_to_hull_m(points), atol=1e-9)
