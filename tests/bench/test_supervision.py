"""Our telling of supervision's speed example against the library's own parts, on the same boxes: ``make bench``."""

from __future__ import annotations

from collections import defaultdict, deque

import cv2
import numpy as np
import pytest

from benchmarks.evaluation import Recording
from benchmarks.recipes import Footage, last_second
from benchmarks.trackers import OURS, follow, followers
from calibration import Calibration
from calibration.units import kmh_from_mps
from edge.domain import Direction, Trajectory
from tests.support.street import a_road, a_vehicle, demo_calibration

RATE_HZ = 20.0


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Three cars, one of them the other way."""
    vehicles = [
        a_vehicle(speed_kmh=31.0, middle_s=4.0),
        a_vehicle(speed_kmh=47.0, middle_s=9.0),
        a_vehicle(speed_kmh=39.0, middle_s=12.0, direction=Direction.BACKWARD),
    ]
    road = a_road(*vehicles, lasts_s=16.0)
    frames = [(f.captured_ns, f.captured_sigma_s, f.time_kind, road.detect(f)) for f in road.frames()]
    return Recording(frames, road.size_px, RATE_HZ)


def label_of_the_library(trajectory: Trajectory, calibration: Calibration) -> float:
    """The last label that the example's steps give a track: anchor, perspective, whole metres, a second. [km/h]"""
    import supervision

    site, plane = calibration.site, calibration.zone_plane
    half_m = 3.0  # sideways; the perspective holds beyond as well
    corners_m = np.array([[0.0, -half_m], [site.length_m, -half_m], [site.length_m, half_m], [0.0, half_m]])
    to_road = cv2.getPerspectiveTransform(plane.project(corners_m).astype(np.float32), corners_m.astype(np.float32))
    places: dict[int, deque[int]] = defaultdict(lambda: deque(maxlen=int(RATE_HZ)))
    label = float("nan")
    for box in trajectory.boxes_xyxy_px:
        detections = supervision.Detections(xyxy=box[None], tracker_id=np.array([7]))
        anchors = detections.get_anchors_coordinates(anchor=supervision.Position.BOTTOM_CENTER)
        along, _ = cv2.perspectiveTransform(anchors[None].astype(np.float32), to_road)[0, 0]
        if not 0 <= along <= site.length_m:
            continue
        places[7].append(int(along))
        if len(places[7]) >= RATE_HZ / 2:
            label = abs(places[7][-1] - places[7][0]) / (len(places[7]) / RATE_HZ) * 3.6
    return label


def test_our_telling_reads_what_the_example_reads(recording: Recording) -> None:
    calibration = demo_calibration()
    trajectories, _ = follow(recording, calibration, followers(calibration, RATE_HZ)[OURS]())
    footage = Footage(calibration, recording.instants_s, RATE_HZ)
    told = []
    for trajectory in trajectories:
        along = trajectory.positions_m[:, 0]
        inside = np.flatnonzero((along >= 0) & (along <= calibration.site.length_m))
        if len(inside) > RATE_HZ / 2:
            ours = kmh_from_mps(last_second(trajectory, inside, footage))
            told.append((ours, label_of_the_library(trajectory, calibration)))
    assert len(told) == 3
    np.testing.assert_allclose(*np.transpose(told), atol=1e-6)


def test_the_library_trackers_follow_the_same_cars(recording: Recording) -> None:
    calibration = demo_calibration()
    known = followers(calibration, RATE_HZ)
    assert list(known) == [OURS, "ByteTrack", "OC-SORT"]
    for name, follower in known.items():
        _, passages = follow(recording, calibration, follower())
        assert [passage["direction"] for passage in passages] == ["forward", "forward", "backward"], name
        speeds = [passage["speed_kmh"] for passage in passages]
        np.testing.assert_allclose(speeds, [31.0, 47.0, 39.0], atol=1.0, err_msg=name)
