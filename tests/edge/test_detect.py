from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.detect import Look, look_at_road, open_detector, open_glance
from edge.detect.glance import Glance, glance_px
from edge.detect.heads import MAX_CANDIDATES, Candidates, raised, read_classic, read_end_to_end
from edge.detect.letterbox import GREY, Canvas, Letterbox
from edge.detect.look import CAR_PX
from edge.detect.network import NetworkDetector
from edge.detect.onnx import OnnxNetwork
from edge.domain import Detections, Frame, Region, RoadUser, TimeKind
from edge.errors import BackendUnavailable, BadInput
from models import Head, load_catalogue
from tests.support.clips import evaluation_file
from tests.support.reference_detector import GOLDEN, clip_frames
from tests.support.street import demo_calibration

COCO = {
    RoadUser.PERSON: (0,),
    RoadUser.BICYCLE: (1,),
    RoadUser.CAR: (2,),
    RoadUser.MOTORCYCLE: (3,),
    RoadUser.BUS: (5,),
    RoadUser.TRUCK: (7,),
}
CLASS_INDICES = np.array([0, 1, 2, 3, 5, 7])
CLASS_LABELS = np.array([next(user.label for user, own in COCO.items() if index in own) for index in CLASS_INDICES])
DEFAULT = load_catalogue().find()


def a_frame(image: Any) -> Frame:
    return Frame(captured_ns=0, captured_sigma_s=0.0, time_kind=TimeKind.PTS, image_bgr=image)


def an_answer(*boxes: tuple[float, float, float, float, int, float], classes: int = 80) -> Any:
    """A classic answer with one column for each (left, top, right, bottom, class, score), and one empty column."""
    answer = np.zeros((1, 4 + classes, len(boxes) + 1), dtype=np.float32)
    for column, (left, top, right, bottom, index, score) in enumerate(boxes):
        answer[0, :4, column] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        answer[0, 4 + index, column] = max(score, answer[0, 4 + index, column])
    return answer


def read(answer: Any, min_score: float = 0.2) -> Candidates:
    return read_classic(answer, CLASS_INDICES, CLASS_LABELS, min_score)


def iou(one: Any, other: Any) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(shared / (sum(areas) - shared))


# -------------------------------------------------------------------------------------------------------- letterbox

sizes = st.tuples(st.integers(40, 2000), st.integers(40, 2000))
inputs = st.sampled_from([(640, 384), (416, 256), (640, 640), (320, 192)])


@given(sizes, inputs, st.data())
def test_a_box_returns_to_the_pixels_it_came_from(
    size: tuple[int, int], input_px: tuple[int, int], data: st.DataObject
) -> None:
    x0 = data.draw(st.integers(0, size[0] - 20))
    y0 = data.draw(st.integers(0, size[1] - 20))
    region = (x0, y0, data.draw(st.integers(x0 + 20, size[0])), data.draw(st.integers(y0 + 20, size[1])))
    letterbox = Letterbox.fit(region, input_px)
    box = np.array([[x0 + 1.25, y0 + 2.5, region[2] - 3.0, region[3] - 4.5]])
    # Forward, from the definition: centre coordinates to edges of the region, scaled, shifted by the grey border.
    first = np.array([x0, y0, x0, y0])
    extent = np.array([region[2] - x0, region[3] - y0] * 2)
    on_input = (box - first + 0.5) / extent * (letterbox.size_px * 2) + letterbox.offset_px * 2

    assert letterbox.to_frame(on_input) == pytest.approx(box, abs=1e-9)


@given(sizes, inputs)
def test_the_whole_region_fits_the_input_undistorted_and_touches_two_sides(
    size: tuple[int, int], input_px: tuple[int, int]
) -> None:
    letterbox = Letterbox.fit((0, 0, *size), input_px)

    width, height = letterbox.size_px
    assert width == input_px[0] or height == input_px[1]
    assert width <= input_px[0]
    assert height <= input_px[1]
    assert width / height == pytest.approx(size[0] / size[1], rel=1 / min(width, height))
    assert letterbox.offset_px == ((input_px[0] - width) // 2, (input_px[1] - height) // 2)


@pytest.mark.parametrize(
    ("size", "region"),
    [
        pytest.param((960, 540), None, id="a picture that shrinks"),
        pytest.param((320, 240), None, id="a picture that grows"),
        pytest.param((960, 540), (201, 117, 764, 405), id="a part of the picture"),
        pytest.param((541, 962), None, id="a tall picture of odd size"),
    ],
)
def test_a_soft_spot_is_found_where_it_was_painted(
    size: tuple[int, int], region: tuple[int, int, int, int] | None
) -> None:
    """A spot wider than a pixel keeps its centre of brightness when a picture is scaled, so the map can be measured."""
    x0, y0, x1, y1 = region or (0, 0, *size)
    centre = np.array([x0 + 0.3 * (x1 - x0), y0 + 0.6 * (y1 - y0)])
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    spot = 250 * np.exp(-((columns - centre[0]) ** 2 + (rows - centre[1]) ** 2) / (2 * 8.0**2))
    letterbox = Letterbox.fit((x0, y0, x1, y1), (640, 384))

    blob = Canvas(letterbox).draw(np.repeat(spot.round().astype(np.uint8)[:, :, None], 3, axis=2))[0, 0]

    (left, top), (width, height) = letterbox.offset_px, letterbox.size_px
    picture = blob[top : top + height, left : left + width].astype(np.float64)
    columns, rows = np.meshgrid(np.arange(left, left + width), np.arange(top, top + height))
    x, y = ((axis + 0.5) @ picture.sum(axis=by) / picture.sum() for axis, by in ((columns[0], 0), (rows[:, 0], 1)))
    assert letterbox.to_frame(np.array([[x, y, x, y]]))[0] == pytest.approx([*centre, *centre], abs=0.03)


def test_a_box_ends_where_the_network_saw_no_more() -> None:
    letterbox = Letterbox.fit((100, 50, 740, 410), (640, 384))

    assert letterbox.to_frame(np.array([[-30.0, -20.0, 700.0, 500.0]]))[0].tolist() == [99.5, 49.5, 739.5, 409.5]


def test_the_network_gets_red_green_blue_from_0_to_1_on_grey() -> None:
    image = np.zeros((360, 640, 3), dtype=np.uint8)
    image[:] = (10, 20, 30)  # blue, green, red

    blob = Canvas(Letterbox.fit((0, 0, 640, 360), (640, 384))).draw(image)

    assert blob.shape == (1, 3, 384, 640)
    assert blob.dtype == np.float32
    for channel, value in enumerate((30, 20, 10)):
        assert np.allclose(blob[0, channel, 12:372], value / 255)
        assert np.allclose(blob[0, channel, :12], GREY / 255)
        assert np.allclose(blob[0, channel, 372:], GREY / 255)


def test_nothing_of_a_frame_remains_in_the_next_one() -> None:
    rng = np.random.default_rng(1)
    letterbox = Letterbox.fit((0, 0, 320, 240), (416, 256))
    first, second = rng.integers(0, 255, (2, 240, 320, 3), dtype=np.uint8)
    used = Canvas(letterbox)
    used.draw(first)

    assert np.array_equal(used.draw(second), Canvas(letterbox).draw(second))


# ------------------------------------------------------------------------------------------------------------ heads


def test_a_candidate_is_read_as_edges_with_its_best_class() -> None:
    answer = an_answer((10, 20, 50, 60, 7, 0.6))
    answer[0, 4 + 2, 0] = 0.5

    found = read(answer)

    assert found.boxes_xyxy.tolist() == [[10, 20, 50, 60]]
    assert found.scores == pytest.approx([0.6])
    assert found.labels.tolist() == [RoadUser.TRUCK.label]


def test_classes_that_are_not_on_the_road_are_not_asked() -> None:
    answer = an_answer((10, 20, 50, 60, 6, 0.9), (200, 20, 250, 60, 13, 0.9))  # a train, a bench
    answer[0, 4 + 7, 0] = 0.3  # the train might be a truck

    found = read(answer)

    assert found.scores == pytest.approx([0.3])
    assert found.labels.tolist() == [RoadUser.TRUCK.label]


def test_candidates_below_the_lowest_score_are_dropped() -> None:
    answer = an_answer((10, 20, 50, 60, 2, 0.21), (200, 20, 250, 60, 2, 0.19))

    assert read(answer).scores == pytest.approx([0.21])


def test_an_empty_street_has_no_candidates() -> None:
    found = read(an_answer())

    assert found.boxes_xyxy.shape == (0, 4)
    assert len(found.scores) == len(found.labels) == 0


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        pytest.param((12, 0, 112, 50, 7, 0.5), 1, id="nearly the same box, another class: one vehicle"),
        pytest.param((60, 0, 160, 50, 2, 0.5), 2, id="half hidden behind the other: two vehicles"),
        pytest.param((0, 0, 30, 50, 2, 0.5), 1, id="the front half of the other: one vehicle"),
        pytest.param((30, -30, 60, 20, 0, 0.5), 2, id="a rider who sticks out: two boxes"),
        pytest.param((120, 0, 220, 50, 2, 0.5), 2, id="side by side: two vehicles"),
    ],
)
def test_one_vehicle_has_one_box(other: tuple[float, float, float, float, int, float], kept: int) -> None:
    found = read(an_answer(other, (0, 0, 100, 50, 2, 0.9)))

    assert len(found.scores) == kept
    assert found.boxes_xyxy[0].tolist() == [0, 0, 100, 50]
    assert found.scores.tolist() == sorted(found.scores, reverse=True)


def test_a_dropped_box_covers_nothing_itself() -> None:
    best, middle, last = (0, 0, 100, 50, 2, 0.9), (30, 0, 130, 50, 2, 0.8), (60, 0, 160, 50, 2, 0.7)

    found = read(an_answer(best, middle, last))

    assert found.boxes_xyxy[:, 0].tolist() == [0, 60]


RIDER = (100, 100, 140, 180, 0, 0.6)


def test_a_rider_and_the_machine_are_one_down_to_its_tyres() -> None:
    machine = (90, 150, 170, 210, 3, 0.7)

    found = read(an_answer(RIDER, machine, (400, 100, 480, 160, 2, 0.65)))

    assert found.boxes_xyxy.tolist() == [[100, 100, 140, 210], [400, 100, 480, 160]]
    assert found.scores == pytest.approx([0.7, 0.65])
    assert found.labels.tolist() == [RoadUser.MOTORCYCLE.label, RoadUser.CAR.label]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((100, 150, 170, 230, 0, 0.5), id="another person"),
        pytest.param((130, 160, 210, 220, 1, 0.5), id="a bicycle that stands beside"),
        pytest.param((95, 60, 160, 130, 3, 0.5), id="a motorcycle behind a person"),
        pytest.param((90, 150, 170, 210, 2, 0.5), id="a car"),
        pytest.param((120, 175, 120, 175, 3, 0.5), id="nothing that is called a motorcycle"),
    ],
)
def test_who_does_not_ride_it_stays_apart(other: tuple[float, float, float, float, int, float]) -> None:
    found = read(an_answer(RIDER, other))

    assert found.boxes_xyxy.tolist() == [list(RIDER[:4]), list(other[:4])]


def test_a_machine_has_one_rider_and_a_rider_one_machine() -> None:
    beside = (120, 104, 160, 184, 0, 0.5)

    found = read(an_answer(RIDER, (104, 150, 144, 210, 1, 0.4), beside, (300, 150, 340, 210, 1, 0.3)))

    assert found.boxes_xyxy.tolist() == [[100, 100, 140, 210], list(beside[:4]), [300, 150, 340, 210]]
    assert found.labels.tolist() == [RoadUser.BICYCLE.label, RoadUser.PERSON.label, RoadUser.BICYCLE.label]


def test_a_frame_full_of_noise_is_read_in_bounded_time() -> None:
    boxes = [(20.0 * (n % 60), 20.0 * (n // 60), 20.0 * (n % 60) + 9, 20.0 * (n // 60) + 9, 2, 0.5) for n in range(900)]

    assert len(read(an_answer(*boxes)).scores) == MAX_CANDIDATES


def test_both_heads_read_the_same_street() -> None:
    vehicles = [(10, 20, 50, 60, 2, 0.75), (100, 20, 250, 160, 5, 0.5), (300, 0, 330, 40, 9, 0.9)]
    end_to_end = np.zeros((1, 300, 6), dtype=np.float32)
    for row, (left, top, right, bottom, index, score) in enumerate(vehicles):
        end_to_end[0, row] = left, top, right, bottom, score, index

    classic = read(an_answer(*vehicles))
    other = read_end_to_end(end_to_end, CLASS_INDICES, CLASS_LABELS, 0.2)

    assert other.boxes_xyxy.tolist() == classic.boxes_xyxy.tolist() == [[10, 20, 50, 60], [100, 20, 250, 160]]
    assert other.scores.tolist() == classic.scores.tolist() == [0.75, 0.5]
    assert other.labels.tolist() == classic.labels.tolist() == [RoadUser.CAR.label, RoadUser.BUS.label]


# ------------------------------------------------------------------------------------------------------------- look


def a_look(**changed: Any) -> Look:
    calibration = demo_calibration()
    site = calibration.site
    sides = float(site.polygon_in_frame_m[:, 1].min()), float(site.polygon_in_frame_m[:, 1].max())
    options: dict[str, Any] = {
        "followed_m": ((-15.0, site.length_m + 15.0), (sides[0] - 2.0, sides[1] + 2.0)),
        "zone_m": ((0.0, site.length_m), sides),
        "model_px": (640, 384),
        "stride": 32,
    }
    return look_at_road(calibration.zone_plane, **(options | changed))


def test_a_bus_anywhere_on_the_followed_road_is_inside_the_region_or_outside_the_picture() -> None:
    calibration = demo_calibration()
    plane, length_m = calibration.zone_plane, calibration.site.length_m
    x0, y0, x1, y1 = a_look().region_px
    width, height = plane.camera.image_size_px
    for along_m in np.linspace(-9.0, length_m + 9.0, 20):
        body = [(along_m + x, y, z) for x in (-6.0, 6.0) for y in (-2.5, 2.5) for z in (0.0, 3.5)]
        pixels = plane.project(np.array(body))
        u, v = pixels[np.isfinite(pixels).all(axis=1)].T
        u, v = np.clip(u, 0, width - 1), np.clip(v, 0, height - 1)
        assert ((u >= x0) & (u <= x1 - 1) & (v >= y0) & (v <= y1 - 1)).all(), along_m


def test_a_car_at_the_far_end_is_as_high_as_the_network_wants_it_or_as_the_budget_allows() -> None:
    plane, length_m = demo_calibration().zone_plane, demo_calibration().site.length_m
    far = np.array([[length_m, 0.0, 0.0], [length_m, 0.0, 1.5]])
    height_px = float(np.ptp(plane.project(far)[:, 1]))
    for model_px in ((640, 384), (416, 256), (1280, 768)):
        look = a_look(model_px=model_px)
        width, height = look.input_px
        assert width % 32 == height % 32 == 0
        assert width * height <= 1.1 * model_px[0] * model_px[1]
        if model_px == (1280, 768):
            assert height_px * look.scale == pytest.approx(CAR_PX, rel=0.12)


def test_a_network_of_one_size_looks_at_the_road_in_its_own_shape() -> None:
    look = a_look(model_px=(640, 384), stride=None)
    x0, y0, x1, y1 = look.region_px

    assert look.input_px == (640, 384)
    assert (x1 - x0) / (y1 - y0) == pytest.approx(640 / 384, rel=0.01)


def test_a_wider_road_is_looked_at_more_widely() -> None:
    narrow, wide = (a_look(followed_m=((-15.0, 35.0), (-side, side))).region_px for side in (2.0, 8.0))

    assert wide[0] <= narrow[0]
    assert wide[2] >= narrow[2]
    assert wide[2] - wide[0] > narrow[2] - narrow[0]


def test_a_road_that_is_out_of_sight_is_looked_for_in_the_whole_picture() -> None:
    behind = ((-900.0, -800.0), (-3.0, 3.0))

    assert a_look(followed_m=behind).region_px == (0, 0, 960, 540)


def test_a_free_size_gives_the_boxes_of_the_same_street(street: dict[int, Any]) -> None:
    """The region is seen at the same scale as in the whole picture, in an input that fits it."""
    whole = open_detector(DEFAULT).detect(a_frame(street[40]))
    look = Look((96, 108, 768, 540), (448, 288))
    part = open_detector(DEFAULT, look=look).detect(a_frame(street[40]))

    assert look.scale == pytest.approx(640 / 960)
    clear = [box for box, score in zip(whole.boxes_xyxy_px, whole.scores) if score > 0.5 and 120 < box[0] < 700]
    assert clear
    assert all(max(iou(box, other) for other in part.boxes_xyxy_px) > 0.7 for box in clear)


# --------------------------------------------------------------------------------------------------- stored outputs

STORED = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("record", STORED["frames"], ids=lambda record: f"frame {record['frame']}")
def test_stored_answers_are_read_as_the_reference_reads_them(record: dict[str, Any]) -> None:
    answer = np.zeros((1, 84, len(record["candidates"])), dtype=np.float32)
    for column, candidate in enumerate(record["candidates"]):
        answer[0, :4, column] = candidate["centre_and_size"]
        answer[0, 4 + CLASS_INDICES, column] = candidate["scores"]

    found = read(answer)
    boxes = Letterbox.fit((0, 0, 960, 540), (640, 384)).to_frame(found.boxes_xyxy)

    assert [list(RoadUser)[label].value for label in found.labels] == [one["label"] for one in record["vehicles"]]
    assert found.scores == pytest.approx([one["score"] for one in record["vehicles"]], abs=1e-4)
    assert boxes == pytest.approx(np.array([one["box"] for one in record["vehicles"]]), abs=1e-2)


@pytest.fixture(scope="module")
def street() -> dict[int, Any]:
    return clip_frames()


@pytest.mark.parametrize("record", STORED["frames"], ids=lambda record: f"frame {record['frame']}")
def test_the_detector_sees_the_vehicles_that_the_reference_saw(
    record: dict[str, Any], street: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runtimes round 8-bit sums differently (steps of 0.02 in score), so agreement is asked where it is clear.

    The answers were stored on a processor that does not saturate.
    """
    monkeypatch.setattr("edge.detect.onnx.X64_PRECISION", "1")
    found = open_detector(DEFAULT).detect(a_frame(street[record["frame"]]))

    clear = [one for one in record["vehicles"] if one["score"] >= 0.4]
    assert len(clear) >= 6
    for one in clear:
        best = max(range(len(found)), key=lambda row: iou(found.boxes_xyxy_px[row], one["box"]))
        assert iou(found.boxes_xyxy_px[best], one["box"]) > 0.85
        assert found.scores[best] == pytest.approx(one["score"], abs=0.07)
    for row in np.flatnonzero(found.scores >= 0.45):
        assert max(iou(found.boxes_xyxy_px[row], one["box"]) for one in record["vehicles"]) > 0.85


# --------------------------------------------------------------------------------------------------------- detector


def test_the_number_of_threads_changes_no_number(street: dict[int, Any]) -> None:
    one, two = (open_detector(DEFAULT, threads=threads).detect(a_frame(street[40])) for threads in (1, 2))

    assert one.scores.tolist() == two.scores.tolist()
    assert one.boxes_xyxy_px.tolist() == two.boxes_xyxy_px.tolist()


def test_looking_at_a_part_of_the_frame_finds_the_same_car_in_pixels_of_the_frame(street: dict[int, Any]) -> None:
    whole = open_detector(DEFAULT).detect(a_frame(street[40]))
    part = open_detector(DEFAULT, look=Look((360, 90, 840, 378), (640, 384))).detect(a_frame(street[40]))

    car = next(one["box"] for one in STORED["frames"][0]["vehicles"] if one["score"] > 0.6)
    for found in (whole, part):
        assert max(iou(box, car) for box in found.boxes_xyxy_px) > 0.85
    assert part.boxes_xyxy_px[:, 0].min() >= 359.5
    assert part.boxes_xyxy_px[:, 3].max() <= 377.5


def test_a_camera_that_changes_its_size_is_still_read_right(street: dict[int, Any]) -> None:
    detector = open_detector(DEFAULT)
    detector.detect(a_frame(street[40]))
    doubled = np.repeat(np.repeat(street[40], 2, axis=0), 2, axis=1)

    found = detector.detect(a_frame(doubled))

    car = [edge * 2 + 0.5 for edge in STORED["frames"][0]["vehicles"][0]["box"]]  # an edge at x − 0.5 moves to 2x − 0.5
    assert max(iou(box, car) for box in found.boxes_xyxy_px) > 0.85


def test_a_grey_picture_holds_no_road_users() -> None:
    found = open_detector(DEFAULT).detect(a_frame(np.full((540, 960, 3), 128, dtype=np.uint8)))

    assert isinstance(found, Detections)
    assert len(found) == 0


@pytest.mark.parametrize("share", [0.02, -0.02])
def test_a_box_that_the_picture_cuts_is_not_raised_and_none_is_lowered_out_of_it(share: float) -> None:
    boxes = np.array(
        [[10.0, 0.0, 90.0, 100.0], [10.0, 0.0, 90.0, 537.0], [10.0, 40.0, 90.0, 538.5], [10.0, 40.0, 90.0, 539.5]]
    )

    ends = raised(boxes, share, 539.5)[:, 3]

    assert ends == pytest.approx([98.0, 526.26, 538.5, 539.5] if share > 0 else [102.0, 539.5, 538.5, 539.5])


def test_every_bundled_model_sees_the_clear_cars(street: dict[int, Any]) -> None:
    clear = [one["box"] for one in STORED["frames"][0]["vehicles"] if one["score"] > 0.6]
    for model in (model for model in load_catalogue().models if model.url is None):
        found = open_detector(model).detect(a_frame(street[40]))
        assert all(max(iou(box, car) for box in found.boxes_xyxy_px) > 0.7 for car in clear), model.name


@pytest.mark.shared
@pytest.mark.skipif(sys.version_info < (3, 11), reason="onnxruntime for Python 3.10 lacks an operation of this network")
def test_an_end_to_end_network_sees_the_clear_cars(street: dict[int, Any]) -> None:
    weights = evaluation_file("weights/measurement-only/yolo26n_int8.onnx")
    detector = NetworkDetector(OnnxNetwork(weights), classes=COCO, head=Head.END_TO_END)

    found = detector.detect(a_frame(street[40]))

    clear = [one["box"] for one in STORED["frames"][0]["vehicles"] if one["score"] > 0.6]
    assert all(max(iou(box, car) for box in found.boxes_xyxy_px) > 0.7 for car in clear)


def _missing(folder: Path) -> Path:
    return folder / "absent.onnx"


def _text(folder: Path) -> Path:
    file = folder / "text.onnx"
    file.write_text("these are not the weights\n", encoding="utf-8")
    return file


def _cut(folder: Path) -> Path:
    file = folder / "cut.onnx"
    file.write_bytes(DEFAULT.file.read_bytes()[:100_000])
    return file


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(_missing, "no such model file", id="missing"),
        pytest.param(_text, "not a model that onnxruntime can run", id="a text file"),
        pytest.param(_cut, "not a model that onnxruntime can run", id="cut off"),
        pytest.param(lambda folder: folder, "no such model file", id="a folder"),
    ],
)
def test_a_file_that_is_no_network_is_told_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], Path], says: str
) -> None:
    with pytest.raises(BadInput, match=says) as told:
        OnnxNetwork(spoil(tmp_path))
    assert "\n" not in str(told.value)


def test_a_network_with_another_head_is_refused() -> None:
    with pytest.raises(BadInput, match=r"expected an output \[1, candidates, 6\] \(end-to-end head\), got \[1, 10, 50"):
        NetworkDetector(OnnxNetwork(DEFAULT.file, input_px=(640, 384)), classes=COCO, head=Head.END_TO_END)


def test_a_network_with_fewer_classes_than_asked_for_is_refused() -> None:
    with pytest.raises(BadInput, match=r"expected an output \[1, 205 or more, candidates\]"):
        NetworkDetector(OnnxNetwork(DEFAULT.file, input_px=(640, 384)), classes={RoadUser.CAR: (200,)})


def test_a_catalogue_entry_with_another_input_size_is_refused() -> None:
    with pytest.raises(BadInput, match=r"expected one input of shape \[1, 3, height, width\], got \[1, 3, 'height'"):
        open_detector(replace(DEFAULT, stride=None))


def test_a_catalogue_entry_with_a_class_that_no_road_knows_is_refused() -> None:
    with pytest.raises(BadInput, match=r"classes\.tram: expected one of car, truck"):
        open_detector(replace(DEFAULT, classes={"tram": (6,)}))


def test_a_damaged_file_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    damaged = tmp_path / DEFAULT.file.name
    content = bytearray(DEFAULT.file.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)

    with pytest.raises(BadInput, match=f"expected sha256 {DEFAULT.sha256[:12]}"):
        open_detector(replace(DEFAULT, file=damaged))


def test_a_region_outside_the_frame_is_told() -> None:
    detector = open_detector(DEFAULT, look=Look((0, 0, 1280, 720), (640, 384)))

    with pytest.raises(BadInput, match=r"region \(0, 0, 1280, 720\): expected a part of the 960x540 frame"):
        detector.detect(a_frame(np.zeros((540, 960, 3), dtype=np.uint8)))


@pytest.mark.skipif(importlib.util.find_spec("ultralytics") is not None, reason="ultralytics is installed here")
def test_a_missing_extra_says_what_to_type() -> None:
    from edge.detect.ultralytics import UltralyticsDetector

    with pytest.raises(BackendUnavailable, match=r"pip install 'snellius\[ultralytics\]'"):
        UltralyticsDetector(DEFAULT.file)


# ------------------------------------------------------------------------------------------------------------ glances

ROAD = Look((0, 60, 960, 540), (640, 320))
UNCHANGED = np.empty((0, 2))


def detections(*rows: tuple[float, float, float, float]) -> Detections:
    return Detections(np.array(rows, dtype=float).reshape(-1, 4), np.full(len(rows), 0.3), np.full(len(rows), 2))


def test_a_glance_holds_what_it_is_for_and_stays_on_the_road() -> None:
    glance = open_glance(DEFAULT, ROAD)
    assert glance is not None
    part = glance.part(np.array([400.0, 200.0, 500.0, 260.0]))
    corner = glance.part(np.array([-40.0, 500.0, 60.0, 560.0]))
    assert part is not None
    assert corner is not None
    assert part[0] < 400 < 500 < part[2]
    assert part[1] < 200 < 260 < part[3]
    assert corner[0] == 0
    assert corner[3] == 540
    assert corner[2] - corner[0] == part[2] - part[0]
    assert glance.part(np.array([10.0, 70.0, 950.0, 530.0])) is None


@pytest.fixture(scope="module")
def glanced(street: dict[int, Any]) -> tuple[Frame, Detections, Glance, Region]:
    """A frame, what a look at the whole road sees in it, and a glance at the car that it is surest of."""
    frame = a_frame(street[40])
    whole = open_detector(DEFAULT, look=ROAD).detect(frame)
    glance = open_glance(DEFAULT, ROAD)
    assert glance is not None
    part = glance.part(whole.boxes_xyxy_px[0])
    assert part is not None
    return frame, whole, glance, part


def test_a_glance_sees_the_same_car_and_takes_the_rest_to_be_as_it_was(
    glanced: tuple[Frame, Detections, Glance, Region],
) -> None:
    frame, whole, glance, part = glanced
    elsewhere = (10.0, 70.0, 60.0, 100.0) if part[0] > 100 else (900.0, 70.0, 950.0, 100.0)
    cut = (part[0] - 30.0, part[1] + 60.0, part[0] + 20.0, part[1] + 100.0)
    gone = (part[0] + 20.0, part[1] + 20.0, part[0] + 60.0, part[1] + 50.0)

    found = glance.detect(frame, part, detections(elsewhere, cut, gone), UNCHANGED)

    assert found is not None
    boxes = found.boxes_xyxy_px.tolist()
    assert max(iou(whole.boxes_xyxy_px[0], box) for box in boxes) > 0.85
    assert list(elsewhere) in boxes
    assert list(cut) in boxes
    assert list(gone) not in boxes
    assert (np.diff(found.scores) <= 0).all()


def test_a_car_that_a_glance_cuts_is_left_as_it_was_unless_it_has_come_there(
    glanced: tuple[Frame, Detections, Glance, Region],
) -> None:
    frame, whole, glance, (left, _, right, _) = glanced
    car = next(box for box in whole.boxes_xyxy_px if (box[0] + box[2]) / 2 > right - left)
    middle = round((car[0] + car[2]) / 2)
    part = glance.part(car)
    assert part is not None
    half = middle - (part[2] - part[0]), part[1], middle, part[3]
    left_half = np.linspace((car[0] + 5, car[3] - 5), (middle - 5, car[3] - 5), 9)

    found = glance.detect(frame, half, whole, UNCHANGED)

    assert found is not None
    assert glance.detect(frame, half, whole, left_half) is None, "one must look at all of it"
    assert car.tolist() in found.boxes_xyxy_px.tolist()
    assert sum(iou(car, box) > 0.3 for box in found.boxes_xyxy_px) == 1


def test_a_network_of_one_size_takes_no_glances() -> None:
    assert open_glance(replace(DEFAULT, stride=None), ROAD) is None


@pytest.mark.parametrize(
    ("look_px", "expected_px"),
    [
        pytest.param((640, 448), (320, 224), id="half of each side"),
        pytest.param((416, 256), (320, 192), id="no smaller than a network sees well"),
        pytest.param((352, 192), None, id="not worth it"),
        pytest.param((256, 512), (256, 256), id="no larger than the look"),
    ],
)
def test_a_glance_has_half_of_each_side_within_limits(
    look_px: tuple[int, int], expected_px: tuple[int, int] | None
) -> None:
    assert glance_px(Look((0, 60, 960, 540), look_px), 32) == expected_px
