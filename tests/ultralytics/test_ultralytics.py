"""The Ultralytics detector with the real library: ``make test-ultralytics``, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.detect import Look, open_detector
from edge.detect.ultralytics import UltralyticsDetector
from edge.domain import Detections, Frame, RoadUser, TimeKind
from edge.errors import BadInput
from models import load_catalogue
from tests.support.clips import evaluation_file
from tests.support.reference_detector import clip_frames

DEFAULT = load_catalogue().find()


@pytest.fixture(scope="module")
def frame() -> Frame:
    return Frame(captured_ns=0, captured_sigma_s=0.0, time_kind=TimeKind.PTS, image_bgr=clip_frames((40,))[40])


def largest_distance_px(one: Detections, other: Detections, min_score: float) -> float:
    """How far the clear boxes of ``one`` lie from the nearest box of ``other``, by their worst edge."""
    clear = one.boxes_xyxy_px[one.scores >= min_score]
    edges = np.abs(clear[:, None] - other.boxes_xyxy_px[None]).max(axis=2)
    return float(edges.min(axis=1).max())


def test_both_detectors_see_the_same_vehicles_with_the_same_weights(frame: Frame) -> None:
    ours = open_detector(DEFAULT).detect(frame)
    theirs = UltralyticsDetector(DEFAULT.file).detect(frame)

    assert (ours.scores >= 0.45).sum() >= 6
    assert largest_distance_px(ours, theirs, 0.45) < 1.0
    assert largest_distance_px(theirs, ours, 0.45) < 1.0
    assert set(theirs.labels) <= set(range(len(RoadUser)))


def test_a_part_of_the_frame_answers_in_pixels_of_the_frame(frame: Frame) -> None:
    region = (360, 90, 840, 378)
    ours = open_detector(DEFAULT, look=Look(region, (640, 384))).detect(frame)
    theirs = UltralyticsDetector(DEFAULT.file, region_px=region).detect(frame)

    assert (ours.scores >= 0.45).sum() >= 3
    assert largest_distance_px(ours, theirs, 0.45) < 1.5


def test_a_region_outside_the_frame_is_told(frame: Frame) -> None:
    with pytest.raises(BadInput, match="expected a part of the 960x540 frame"):
        UltralyticsDetector(DEFAULT.file, region_px=(0, 0, 1280, 720)).detect(frame)


def test_pytorch_weights_see_the_clear_cars(frame: Frame) -> None:
    weights = evaluation_file("weights/measurement-only/yolo11n-deq.pt")
    ours = open_detector(DEFAULT).detect(frame)
    theirs = UltralyticsDetector(weights, input_px=(640, 384)).detect(frame)

    assert largest_distance_px(ours, theirs, 0.6) < 12.0
    assert RoadUser.CAR.label in theirs.labels


@pytest.mark.parametrize(
    ("name", "says"), [("absent.pt", "no such model"), ("text.pt", "not a model that Ultralytics can load")]
)
def test_a_file_that_is_no_model_is_told_in_one_line(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "text.pt").write_text("these are not the weights\n", encoding="utf-8")

    with pytest.raises(BadInput, match=says) as told:
        UltralyticsDetector(tmp_path / name)
    assert "\n" not in str(told.value)
