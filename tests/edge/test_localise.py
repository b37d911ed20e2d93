"""Pixels to road metres: where a box stands, how sure that is, how large what it shows is."""

from __future__ import annotations

import numpy as np
import pytest

from calibration import Camera
from calibration.camera import Floats
from edge.domain import Detections, Sightings
from edge.localise import BOTTOM_SIGMA_OF_HEIGHT, EDGE_SIGMA_PX, SIDE_SIGMA_OF_WIDTH, Localiser
from tests.support.passing import POLES, ZONE_M, known_plane

PLACES_M = np.array([[1.0, -2.0], [8.0, 2.5], [10.0, 0.0], [14.0, -1.5]])


@pytest.fixture(params=POLES.values(), ids=POLES.keys())
def camera(request: pytest.FixtureRequest) -> Camera:
    return request.param  # type: ignore[no-any-return]


def standing_at(camera: Camera, places_m: Floats, size_px: tuple[float, float] = (60.0, 40.0)) -> Detections:
    """Boxes of that size whose bottom edges have their middle at places on the road."""
    feet = camera.project(np.column_stack([places_m, np.zeros(len(places_m))]))
    half, height = size_px[0] / 2, size_px[1]
    boxes = np.column_stack([feet[:, 0] - half, feet[:, 1] - height, feet[:, 0] + half, feet[:, 1]])
    return Detections(boxes, np.full(len(boxes), 0.8), np.zeros(len(boxes), dtype=np.intp))


def located(camera: Camera, detections: Detections) -> Sightings:
    return Localiser(known_plane(camera)).locate(0.25, 0.004, detections)


def test_a_box_stands_where_the_middle_of_its_bottom_edge_meets_the_road(camera: Camera) -> None:
    sightings = located(camera, standing_at(camera, PLACES_M))
    np.testing.assert_allclose(sightings.positions_m, PLACES_M, atol=1e-6)
    assert sightings.on_road.all()


def test_the_covariance_of_a_place_agrees_with_simulation(camera: Camera) -> None:
    """Feet are moved by the noise that detectors have: a constant part and one that grows with the box."""
    width_px, height_px = 90.0, 60.0
    sigma_px = [
        np.hypot(EDGE_SIGMA_PX, SIDE_SIGMA_OF_WIDTH * width_px),
        np.hypot(EDGE_SIGMA_PX, BOTTOM_SIGMA_OF_HEIGHT * height_px),
    ]
    rng = np.random.default_rng(11)
    place = PLACES_M[2:3]
    stated = located(camera, standing_at(camera, place, (width_px, height_px))).covariances_m2[0]
    foot = camera.project(np.append(place[0], 0.0))
    cloud = camera.ground(foot + rng.normal(0.0, sigma_px, (20_000, 2)))
    spread = np.sqrt(np.diag(stated))
    # 20,000 draws know a variance to 1 %; the map from pixels to metres bends by a few per cent over the noise
    np.testing.assert_allclose(np.cov(cloud.T), stated, rtol=0.08, atol=0.04 * spread.prod())


def test_a_place_is_less_certain_the_farther_away_it_is() -> None:
    camera = POLES["along the street, 8 m high"]
    far = np.array([[x, 0.0] for x in (0.0, 5.0, 10.0, 20.0)])
    covariances = located(camera, standing_at(camera, far)).covariances_m2
    assert (np.diff(covariances[:, 0, 0]) > 0).all()


def test_a_large_box_is_less_certain_than_a_small_one_at_the_same_place(camera: Camera) -> None:
    small = located(camera, standing_at(camera, PLACES_M, (30.0, 20.0))).covariances_m2
    large = located(camera, standing_at(camera, PLACES_M, (120.0, 80.0))).covariances_m2
    assert (np.linalg.eigvalsh(large - small) > 0).all()


def test_the_same_boxes_at_a_later_time_stand_where_they_stood(camera: Camera) -> None:
    localiser, boxes = Localiser(known_plane(camera)), standing_at(camera, PLACES_M)
    first, second = localiser.locate(0.25, 0.004, boxes), localiser.locate(0.5, 0.001, boxes)
    assert (second.time_s, second.time_sigma_s) == (0.5, 0.001)
    np.testing.assert_array_equal(second.positions_m, first.positions_m)


def test_boxes_at_or_above_the_horizon_are_kept_and_marked_as_not_on_the_road() -> None:
    camera = POLES["along the street, 4 m high, wide lens"]
    horizon_px = camera.project([1e6, 0.0, 4.0])[1]
    feet_px = np.array([horizon_px + 60.0, horizon_px - 5.0, horizon_px - 40.0])
    boxes = np.column_stack([np.full(3, 460.0), feet_px - 20.0, np.full(3, 500.0), feet_px])
    sightings = located(camera, Detections(boxes, np.full(3, 0.8), np.zeros(3, dtype=np.intp)))
    assert sightings.on_road.tolist() == [True, False, False]
    assert np.isfinite(sightings.positions_m[0]).all()
    assert np.isnan(sightings.positions_m[1:]).all()
    np.testing.assert_array_equal(sightings.detections.boxes_xyxy_px, boxes)


@pytest.mark.parametrize("pole", [name for name in POLES if "lens" not in name])
def test_a_board_that_faces_the_camera_has_its_size_in_metres_anywhere_on_the_road(pole: str) -> None:
    camera, (width_m, height_m) = POLES[pole], (2.4, 1.2)
    right, down = camera.rotation[0], camera.rotation[1]
    for place in PLACES_M:
        foot = np.append(place, 0.0)
        corners = camera.project([foot - right * width_m / 2, foot + right * width_m / 2 - down * height_m])
        box = np.array([[corners[0, 0], corners[1, 1], corners[1, 0], corners[0, 1]]])
        sightings = located(camera, Detections(box, np.array([0.8]), np.array([0])))
        np.testing.assert_allclose(sightings.sizes_m, [[width_m, height_m]], rtol=1e-6)


def test_a_post_keeps_its_height_in_metres_along_the_zone(camera: Camera) -> None:
    """Seen from 7 m, 9 m away, a post leans 33 degrees from the line across the view: a sixth shorter."""
    heights_m = []
    for along_m in (2.0, ZONE_M / 2, ZONE_M - 2.0):
        foot, top = camera.project([[along_m, 0.0, 0.0], [along_m, 0.0, 1.5]])
        box = np.array([[foot[0] - 8.0, top[1], foot[0] + 8.0, foot[1]]])
        heights_m.append(located(camera, Detections(box, np.array([0.8]), np.array([0]))).sizes_m[0, 1])
    np.testing.assert_allclose(heights_m, 1.5, rtol=0.17)


def test_time_and_its_uncertainty_travel_with_the_sightings(camera: Camera) -> None:
    sightings = located(camera, standing_at(camera, PLACES_M))
    assert (sightings.time_s, sightings.time_sigma_s) == (0.25, 0.004)


def test_an_empty_street_has_no_sightings(camera: Camera) -> None:
    sightings = located(camera, Detections.none())
    assert len(sightings.detections) == len(sightings.positions_m) == len(sightings.on_road) == 0
