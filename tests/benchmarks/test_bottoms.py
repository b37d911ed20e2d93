from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bottoms import differences
from benchmarks.evaluation import Recording
from edge.domain import Detections, Floats, RoadUser, TimeKind


def a_recording(boxes_of: list[Floats]) -> Recording:
    frames = [
        (number * 100_000_000, 0.0, TimeKind.PTS, Detections(boxes, np.full(len(boxes), 0.8), np.full(len(boxes), CAR)))
        for number, boxes in enumerate(boxes_of)
    ]
    return Recording(frames, (640, 360), 10.0)


CAR = RoadUser.CAR.label
PARKED = [500.0, 100.0, 600.0, 160.0]


def test_only_moving_vehicles_that_are_whole_tell_where_boxes_end() -> None:
    places = np.arange(0.0, 400.0, 20.0)
    moving = [
        np.array([[20.0 + x, 200.0, 90.0 + x, 250.0], PARKED, [20.0 + x, 300.0, 90.0 + x, 359.5]]) for x in places
    ]
    lower = [boxes + np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 9.0], [0.0, 0.0, 0.0, -20.0]]) for boxes in moving]

    told = differences(a_recording(moving), a_recording(lower))

    assert len(told) == len(places) - 4  # of the first 0.4 s nobody knows who moves
    assert told == pytest.approx(0.02)


def test_vehicles_that_only_one_of_them_sees_tell_nothing() -> None:
    moving = [np.array([[20.0 + x, 200.0, 90.0 + x, 250.0]]) for x in np.arange(0.0, 400.0, 20.0)]
    elsewhere = [boxes + 60.0 for boxes in moving]

    assert len(differences(a_recording(moving), a_recording(elsewhere))) == 0
