"""A still without traffic: what moves is gone, what stands stays sharp, and nobody keeps it for ever."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from calibration import CalibrationError
from calibration.still import MAX_FRAMES, MIN_FRAMES, Pixels, Still, aim, edge_sigma_px, frames_to_keep
from calibration.still import street_without_traffic as emptied
from edge.cli import app
from edge.cli.calibrate_capture import people_in, vehicle_widths_px
from edge.domain import Detections, Frame, RoadUser, TimeKind
from edge.sources.video import VideoFile
from tests.support.clips import evaluation_file, write_clip
from tests.support.rtsp import RtspServer
from tests.support.street import STREET, demo_calibration

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


def a_wall(*, blur_px: float = 0.7, size_px: tuple[int, int] = (320, 240)) -> Pixels:
    """Slanted light and dark bands with exactly known blur, drawn four times as large."""
    width, height = size_px
    rows, columns = np.mgrid[: 4 * height, : 4 * width]
    bands = np.where((columns + 0.3 * rows) % 320 < 160, 180.0, 40.0).astype(np.float32)
    large = cv2.GaussianBlur(bands, (0, 0), 4 * blur_px)
    grey = cv2.resize(large, size_px, interpolation=cv2.INTER_AREA).round().astype(np.uint8)
    return np.asarray(np.dstack([grey] * 3), dtype=np.uint8)


def shifted(picture: Pixels, by_px: tuple[float, float]) -> Pixels:
    height, width = picture.shape[:2]
    matrix = np.array([[1.0, 0.0, by_px[0]], [0.0, 1.0, by_px[1]]])
    moved = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


def with_a_block(picture: Pixels, left: int) -> Pixels:
    """A bright vehicle somewhere."""
    copy = picture.copy()
    copy[100:160, left : left + 60] = 255
    return copy


def test_what_passes_is_gone_and_what_stands_stays() -> None:
    wall = a_wall()
    street, shake_px = emptied([with_a_block(wall, left) for left in range(0, 255, 12)])

    assert np.array_equal(street, wall)
    assert shake_px == 0.0


def test_the_shake_of_the_pole_is_taken_out_and_told() -> None:
    """Lines as narrow as the shake fade in a plain middle value; they are what a technician clicks on."""
    rng = np.random.default_rng(4)
    lines = np.full((240, 320, 3), 60, dtype=np.uint8)
    for at in range(30, 300, 40):
        cv2.line(lines, (at, 0), (at - 20, 239), (200, 200, 200), 2, cv2.LINE_AA)
        cv2.line(lines, (0, at // 2), (319, at // 2 + 15), (200, 200, 200), 2, cv2.LINE_AA)
    shakes = rng.normal(0.0, 2.5, (15, 2))
    shaken = [shifted(lines, (dx, dy)) for dx, dy in shakes]

    plain = np.median(np.stack(shaken), axis=0)[20:-20, 20:-20]
    street, told_px = emptied(shaken)

    def contrast(picture: np.ndarray) -> float:
        return float(picture.astype(float).std())

    assert contrast(plain) < 0.75 * contrast(lines[20:-20, 20:-20])
    assert contrast(street[20:-20, 20:-20]) > 0.95 * contrast(lines[20:-20, 20:-20])
    assert told_px == pytest.approx(np.hypot(*shakes.std(axis=0)), rel=0.25)


def test_too_few_frames_make_no_still() -> None:
    with pytest.raises(CalibrationError, match="at least 9 frames"):
        emptied([a_wall()] * (MIN_FRAMES - 1))


def test_large_pictures_are_held_in_smaller_numbers() -> None:
    assert frames_to_keep((960, 540)) == MAX_FRAMES
    assert MIN_FRAMES <= frames_to_keep((1920, 1080)) < MAX_FRAMES
    assert frames_to_keep((7680, 4320)) == MIN_FRAMES


@pytest.mark.parametrize("blur_px", [0.7, 1.0, 1.5, 2.5])
def test_the_width_of_edges_is_measured_in_pixels(blur_px: float) -> None:
    assert edge_sigma_px(a_wall(blur_px=blur_px)[..., 0]) == pytest.approx(blur_px, rel=0.12, abs=0.05)


def test_a_lens_out_of_focus_darkness_and_glare_are_said() -> None:
    wall = a_wall()

    assert aim(wall).remarks == []
    assert "out of focus" in aim(a_wall(blur_px=2.5)).remarks[0]
    assert "too dark" in " ".join(aim((wall // 8).astype(np.uint8)).remarks)
    assert "burnt out" in " ".join(aim(np.minimum(wall.astype(int) * 2, 255).astype(np.uint8)).remarks)
    assert "lens covered" in aim(np.zeros_like(wall)).remarks[0]


def test_a_still_is_for_its_owner_and_knows_when_it_must_be_gone(tmp_path: Path) -> None:
    still = Still(image_bgr=a_wall(), taken=NOON, expires=NOON + timedelta(days=30))
    still.save(tmp_path / "still.png")
    again = Still.load(tmp_path / "still.png")

    assert (tmp_path / "still.png").stat().st_mode & 0o777 == 0o600
    assert np.array_equal(again.image_bgr, still.image_bgr)
    assert (again.taken, again.expires) == (still.taken, still.expires)
    assert not again.is_expired(NOON + timedelta(days=29))
    assert again.is_expired(NOON + timedelta(days=30))
    assert [path.name for path in tmp_path.iterdir()] == ["still.png"]


def test_a_picture_from_elsewhere_can_be_clicked_in_too(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), a_wall())
    still = Still.load(tmp_path / "photo.jpg")

    assert (still.size_px, still.expires) == ((320, 240), None)
    assert not still.is_expired(NOON)
    still.save(tmp_path / "copy.png")
    assert np.array_equal(Still.load(tmp_path / "copy.png").image_bgr, still.image_bgr)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "expected a PNG or JPEG", id="empty"),
        pytest.param(b"name,u_px\n", "expected a PNG or JPEG", id="text"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "expected a PNG or JPEG", id="a PNG that breaks off"),
    ],
)
def test_no_picture_is_one_clear_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "still.png").write_bytes(content)
    with pytest.raises(CalibrationError, match=says):
        Still.load(tmp_path / "still.png")
    with pytest.raises(CalibrationError, match="no such picture"):
        Still.load(tmp_path / "other.png")
    with pytest.raises(CalibrationError, match="found a directory"):
        Still.load(tmp_path)


def test_on_a_scene_the_still_is_the_street_without_vehicles() -> None:
    """The clean street: each pixel's mean over frames in which no true vehicle, with its shadow, is near."""
    truth = json.loads(evaluation_file("scenes/S1-residential-day.truth.json").read_text(encoding="utf-8"))
    clip = evaluation_file("scenes/S1-residential-day.mp4")
    boxes: dict[int, list[list[float]]] = {}
    for vehicle in truth["vehicles"]:
        for frame, box in zip(vehicle["frames"]["frame"], vehicle["frames"]["box"]):
            boxes.setdefault(frame, []).append(box)
    total, seen, kept = np.zeros((540, 960, 3)), np.zeros((540, 960, 1)), []
    with VideoFile(clip) as source:
        for number, frame in enumerate(source.frames()):
            if number > 420:
                break
            if number % 12:
                continue
            free = np.ones((540, 960, 1))
            for left, top, right, bottom in boxes.get(number, []):
                wide = 0.6 * (right - left) + 10
                free[max(0, int(top) - 10) : int(bottom) + 20, max(0, int(left - wide)) : int(right + wide)] = 0
            total, seen = total + free * frame.image_bgr, seen + free
            kept.append(frame.image_bgr)
    clean = total / np.maximum(seen, 1)
    known = (seen >= 5)[..., 0]

    def stray(picture: Pixels) -> float:
        smooth = cv2.GaussianBlur(np.abs(picture - clean).max(axis=2), (0, 0), 2.0)
        return float(smooth[known].max())

    street, _ = emptied(kept)
    busiest = max(stray(frame) for frame in kept[::5])
    assert known.mean() > 0.9
    assert busiest > 60  # vehicles are there to be taken out
    assert stray(street) < 15


def capture(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["calibrate", "capture", *map(str, arguments)])


def test_capture_helps_with_aiming_and_writes_a_still(tmp_path: Path) -> None:
    demo_calibration().save(tmp_path / "cal.json")
    result = capture("--source", STREET, "--out", tmp_path / "still.png", "--seconds", 12,
                     "--calibration", tmp_path / "cal.json")  # fmt: skip
    still = Still.load(tmp_path / "still.png")

    assert result.exit_code == 0, result.output
    assert still.size_px == (960, 540)
    assert still.expires is not None
    assert still.taken is not None
    assert still.expires - still.taken == timedelta(days=30)
    for word in ("focus ", "light ", "shake ", "vehicles ", "tilt ", "px/m", "Next: snellius calibrate page"):
        assert word in result.stdout, word


def test_capture_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    brief = write_clip(tmp_path / "brief.avi", frames=5)
    out = tmp_path / "still.png"
    for arguments, says in (
        (("--source", tmp_path / "none.mp4", "--out", out), "no such video file"),
        (("--source", "http://camera/1", "--out", out), "expected"),
        (("--out", out), "expected either --source ADDRESS or --config FILE"),
        (("--source", brief, "--out", out), "too short for a still"),
        (("--source", STREET, "--out", tmp_path / "still.jpg"), r"ends with .png"),
    ):
        result = capture(*arguments)
        assert says in str(result.exception), result.output
    assert [path.name for path in tmp_path.iterdir()] == ["brief.avi"]


def test_a_network_camera_gives_a_still_as_well(tmp_path: Path) -> None:
    with RtspServer(clip=STREET) as server:
        result = capture("--source", server.url, "--out", tmp_path / "still.png", "--seconds", 5, "--with-people")
    assert result.exit_code == 0, result.output or result.exception
    assert Still.load(tmp_path / "still.png").size_px == (960, 540)


class Seeing:
    """A detector that always sees the same."""

    region_px = None

    def __init__(self, *seen: tuple[RoadUser, float]) -> None:
        self._seen = seen

    def detect(self, frame: Frame) -> Detections:
        boxes = [[10.0 * row, 20.0, 10.0 * row + 30.0, 60.0] for row in range(len(self._seen))]
        return Detections(
            np.array(boxes).reshape(-1, 4),
            np.array([score for _, score in self._seen]),
            np.array([road_user.label for road_user, _ in self._seen], dtype=np.intp),
        )


def test_people_are_looked_for_more_eagerly_than_vehicles() -> None:
    picture = Frame(captured_ns=0, captured_sigma_s=0.0, time_kind=TimeKind.PTS, image_bgr=a_wall())
    detector = Seeing((RoadUser.CAR, 0.9), (RoadUser.PERSON, 0.31), (RoadUser.CAR, 0.33), (RoadUser.PERSON, 0.1))

    assert [list(box) for box in people_in(detector, picture)] == [[10.0, 20.0, 40.0, 60.0]]
    assert vehicle_widths_px(detector, [picture, picture]) == [30.0, 30.0]


def test_a_still_with_a_person_is_kept_only_on_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no footage of a person who stands still for so long: the detector is told to see one."""
    monkeypatch.setattr("edge.detect.open_detector", lambda model: Seeing((RoadUser.PERSON, 0.9)))
    arguments = ("--source", STREET, "--out", tmp_path / "still.png", "--seconds", 2)
    refused = capture(*arguments)

    assert refused.exit_code == 1
    assert "A person seems to stand in the still, at (15, 40) px. Nothing was written." in refused.stdout
    assert list(tmp_path.iterdir()) == []
    assert capture(*arguments, "--with-people").exit_code == 0
    assert Still.load(tmp_path / "still.png").expires is not None
