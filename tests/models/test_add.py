from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from edge.assembly import road_detector
from edge.cli.models_add import added, classes_of
from edge.detect.described import described
from edge.domain import Frame, TimeKind
from edge.errors import BadInput
from models import Head, Runtime, load_catalogue
from tests.support.clips import evaluation_file
from tests.support.reference_detector import clip_frames
from tests.support.street import demo_calibration


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SNELLIUS_MODELS", str(tmp_path / "own"))
    return tmp_path / "own"


def a_fixed_size_file() -> Path:
    return evaluation_file("weights/default/nanodet_y8_416x256_int8.onnx")


@pytest.mark.shared
def test_an_added_model_is_found_by_name_and_measures(own: Path) -> None:
    model = added(a_fixed_size_file(), name="street", licence="Apache-2.0", source="a test")

    found = load_catalogue().find("street")
    assert found == model
    assert found.file == own / "street.onnx"
    assert (found.runtime, found.head, found.input_px) == (Runtime.ONNXRUNTIME, Head.CLASSIC, (416, 256))
    assert found.classes["truck"] == (7,)
    frame = Frame(captured_ns=0, captured_sigma_s=0.0, time_kind=TimeKind.PTS, image_bgr=clip_frames((40,))[40])
    assert len(road_detector(found, demo_calibration()).detect(frame)) > 0


@pytest.mark.shared
def test_where_boxes_end_is_kept_and_raised(own: Path) -> None:
    files = [
        added(a_fixed_size_file(), name=f"street{offset}", licence="Apache-2.0", bottom_offset=offset)
        for offset in (0.0, 0.04)
    ]
    frame = Frame(captured_ns=0, captured_sigma_s=0.0, time_kind=TimeKind.PTS, image_bgr=clip_frames((40,))[40])

    usual, raised = (
        road_detector(load_catalogue().find(model.name), demo_calibration()).detect(frame).boxes_xyxy_px
        for model in files
    )
    assert raised[:, :3] == pytest.approx(usual[:, :3])
    assert usual[:, 3] - raised[:, 3] == pytest.approx(0.04 * (usual[:, 3] - usual[:, 1]))


@pytest.mark.shared
def test_a_bottom_that_is_no_share_is_told_and_nothing_entered(own: Path) -> None:
    with pytest.raises(BadInput, match=r"--bottom-offset: expected a share of the height within ±0\.1, got 3"):
        added(a_fixed_size_file(), name="street", licence="Apache-2.0", bottom_offset=3.0)
    assert not own.exists()


@pytest.mark.shared
def test_an_added_model_that_changes_afterwards_is_refused(own: Path) -> None:
    added(a_fixed_size_file(), name="street", licence="Apache-2.0")
    with (own / "street.onnx").open("ab") as file:
        file.write(b"!")

    with pytest.raises(BadInput, match=r"model street: street\.onnx: expected sha256"):
        road_detector(load_catalogue().find("street"), demo_calibration())


@pytest.mark.shared
def test_adding_the_same_file_again_changes_nothing_and_another_under_its_name_is_refused(tmp_path: Path) -> None:
    added(a_fixed_size_file(), name="street", licence="Apache-2.0")
    added(a_fixed_size_file(), name="street", licence="Apache-2.0")

    assert [model.name for model in load_catalogue().models].count("street") == 1
    other = tmp_path / "other.onnx"
    shutil.copyfile(evaluation_file("weights/default/nanodet_y8_640x384_int8.onnx"), other)
    with pytest.raises(BadInput, match="--name: 'street' is another model already"):
        added(other, name="street", licence="Apache-2.0")


@pytest.mark.shared
def test_chosen_classes_go_before_those_of_the_file() -> None:
    model = added(a_fixed_size_file(), name="street", licence="Apache-2.0", classes="car=2,car=7")

    assert model.classes == {"car": (2, 7)}


@pytest.mark.shared
@pytest.mark.skipif(sys.version_info < (3, 11), reason="onnxruntime for Python 3.10 lacks an operation of this network")
def test_an_end_to_end_file_is_seen_as_such() -> None:
    said = described(evaluation_file("weights/measurement-only/yolo26n_int8.onnx"))

    assert said.head is Head.END_TO_END
    assert said.input_px == (640, 640)


@pytest.mark.shared
def test_classes_that_the_file_has_not_are_told(own: Path) -> None:
    with pytest.raises(BadInput, match=r"expected an output \[1, 205 or more, candidates\] for the classes asked for"):
        added(a_fixed_size_file(), name="street", licence="Apache-2.0", classes="car=200")
    assert not own.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"no network", "not a model that onnxruntime can run", id="text"),
        pytest.param(load_catalogue().find().file.read_bytes()[:50_000], "not a model that onnx", id="truncated"),
    ],
)
def test_a_file_that_is_no_model_is_told_in_one_line(tmp_path: Path, own: Path, content: bytes, says: str) -> None:
    file = tmp_path / "wrong.onnx"
    file.write_bytes(content)

    with pytest.raises(BadInput, match=says) as told:
        added(file, licence="unknown")
    assert "\n" not in str(told.value)
    assert not own.exists()


@pytest.mark.parametrize("text", ["car", "car=", "tram=6", "car=x", "car=1;bus=2"])
def test_classes_that_are_not_written_so_are_told(text: str) -> None:
    with pytest.raises(BadInput, match="--classes: expected pairs such as car=2"):
        classes_of(text)
