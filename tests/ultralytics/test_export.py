"""What is exported says what its source says: architectures with random weights, every format that runs here.

Random weights are enough: a graph that is written wrongly differs with any that answer to the picture. Real ones are
exported as well where the evaluation set is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cli import main
from edge.cli.models_export import MODEL_PX, verified
from edge.detect import open_detector
from edge.detect.letterbox import Canvas, Letterbox
from edge.domain import Frame, TimeKind
from edge.errors import SnelliusError
from models import CatalogueError, Head, Model, load_catalogue
from models.export import Format, Source
from tests.support.clips import evaluation_file
from tests.support.reference_detector import CLIP, clip_frames
from tests.support.street import demo_calibration

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and its converters warn of their own future

INPUT_PX = (320, 192)
FRAMES = tuple(range(0, 800, 16))  # 50 of the bundled street
KNOWN = load_catalogue().find("yolo11n")


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SNELLIUS_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def street() -> dict[int, Any]:
    return clip_frames(FRAMES)


@pytest.fixture(scope="module")
def blobs(street: dict[int, Any]) -> list[Any]:
    canvas = Canvas(Letterbox.fit((0, 0, 960, 540), INPUT_PX))
    return [canvas.draw(picture).copy() for picture in street.values()]


def random_weights(name: str, blobs: list[Any], folder: Path, seed: int = 1) -> Path:
    """An architecture whose answers depend on the picture: untouched weights fade from layer to layer to nothing."""
    import torch
    from ultralytics import YOLO

    torch.manual_seed(seed)
    yolo = YOLO(f"{name}.yaml", task="detect")
    yolo.model.names = {index: str(index) for index in range(80)} | {2: "car", 7: "truck"}
    if hasattr(yolo.model.model[-1], "one2one_cv2"):
        yolo.model.model[-1].end2end = True  # as its trained weights have it
    for layer in yolo.model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the mean of what follows
    yolo.model.train()
    with torch.no_grad():
        for blob in blobs[::10]:
            yolo.model(torch.from_numpy(blob))
    yolo.model.eval()
    yolo.save(str(folder / f"{name}.pt"))
    return folder / f"{name}.pt"


@pytest.fixture(scope="module", params=["yolov8n", "yolo11n", "yolov10n", "yolo26n"])
def source(request: pytest.FixtureRequest, blobs: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Source:
    return Source(random_weights(request.param, blobs, tmp_path_factory.mktemp("weights")))


def exported(
    source: Source, kind: Format, blobs: list[Any], folder: Path, *, is_8_bits: bool = False
) -> tuple[Model, Any]:
    file = source.export(kind, folder, input_px=INPUT_PX, pictures=blobs if is_8_bits else None)
    name = f"{source.weights.stem}-{kind.value}{'-int8' if is_8_bits else ''}"
    return verified(file, source, blobs, kind, name, KNOWN, "AGPL-3.0", is_8_bits=is_8_bits)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [Format.ONNX, Format.OPENVINO, Format.NCNN], ids=lambda kind: kind.value)
def test_an_export_says_what_its_source_says(source: Source, kind: Format, blobs: list[Any], tmp_path: Path) -> None:
    entered, agreement = exported(source, kind, blobs, tmp_path / "made")

    print(f"{entered.name}: {agreement}")
    one, other = (source.answer(blob, end_to_end=False)[0] for blob in (blobs[0], blobs[-1]))
    assert np.abs(one[:4] - other[:4]).max() > 5.0  # boxes in pixels: else nothing would be compared
    assert np.abs(one[4:] - other[4:]).max() > 0.01
    assert agreement.frames == len(FRAMES)
    assert agreement.is_same  # random weights amplify rounding: some hundredths of a pixel in the worst candidate
    assert agreement.box_median_px < 0.01
    assert entered.input_px == INPUT_PX
    assert source.is_end_to_end is (source.weights.stem in ("yolov10n", "yolo26n"))
    keeps_its_head = source.is_end_to_end and kind is not Format.NCNN  # which has no end-to-end heads
    assert entered.head is (Head.END_TO_END if keeps_its_head else Head.CLASSIC)
    assert entered == load_catalogue().find(entered.name)
    assert entered.classes["truck"] == (7,)
    assert entered.bottom_offset == KNOWN.bottom_offset != 0.0


@pytest.mark.timeout(900)
def test_8_bits_find_what_real_weights_are_sure_of_and_are_read_like_the_source(
    street: dict[int, Any], blobs: list[Any], tmp_path: Path
) -> None:
    source = Source(evaluation_file("weights/measurement-only/yolo11n-deq.pt"))

    entered, agreement = exported(source, Format.ONNX, blobs[::2], tmp_path / "made", is_8_bits=True)

    print(f"{entered.name} in 8 bits: {agreement}")
    assert agreement.sure > 100
    assert agreement.found >= 0.9
    exact, _ = exported(source, Format.ONNX, blobs, tmp_path / "exact")
    frame = Frame(captured_ns=0, captured_sigma_s=0.0, time_kind=TimeKind.PTS, image_bgr=street[48])
    found, wanted = (open_detector(model).detect(frame) for model in (entered, exact))
    sure = wanted.boxes_xyxy_px[wanted.scores > 0.5]
    assert len(sure) >= 2
    for box in sure:
        assert np.abs(found.boxes_xyxy_px - box).max(axis=1).min() < 5.0  # edges of the same vehicle


@pytest.mark.timeout(900)
def test_ranges_are_taken_from_frames_and_stills_of_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = evaluation_file("weights/measurement-only/yolo11n-deq.pt")
    demo_calibration().save(tmp_path / "cal.json")
    cv2.imwrite(str(tmp_path / "still.png"), clip_frames((0,))[0])
    given: list[int] = []
    before = Source.export

    def noted(self: Source, *arguments: Any, pictures: Any, **options: Any) -> Path:
        given.append(len(pictures))
        return before(self, *arguments, pictures=pictures, **options)

    monkeypatch.setattr(Source, "export", noted)

    options = ["--clip", str(CLIP), "--calibration", str(tmp_path / "cal.json"), "--frames", "12", "--int8"]
    with pytest.raises(SystemExit, match="0"):
        main(["models", "export", str(weights), *options, "--still", str(tmp_path / "still.png"), "--name", "site"])

    assert given == [12 + 1]
    assert "site: 12 frames," in capsys.readouterr().out
    entered = load_catalogue().find("site")
    assert entered.input_px is not None
    assert entered.input_px != MODEL_PX  # the shape of the road
    assert entered.licence == "AGPL-3.0"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [Format.ONNX, Format.OPENVINO, Format.NCNN], ids=lambda kind: kind.value)
def test_real_weights_say_the_same_in_every_format(kind: Format, blobs: list[Any], tmp_path: Path) -> None:
    source = Source(evaluation_file("weights/measurement-only/yolo11n-deq.pt"))

    entered, agreement = exported(source, kind, blobs, tmp_path / "made")

    print(f"{entered.name}: {agreement}")
    assert agreement.sure > 500
    assert agreement.box_px < 0.05
    assert agreement.score < 1e-3


def test_a_graph_that_says_something_else_is_not_entered(blobs: list[Any], own_models: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = Source(random_weights("yolo11n", blobs, tmp_path))
    other = Source(random_weights("yolo11n", blobs, tmp_path / "other", seed=2))
    file = one.export(Format.ONNX, tmp_path / "made", input_px=INPUT_PX)

    with pytest.raises(SnelliusError, match="says something else than yolo11n, not entered"):
        verified(file, other, blobs[:5], Format.ONNX, "another", KNOWN, "AGPL-3.0", is_8_bits=False)

    assert not (own_models / "catalogue.toml").exists()


def test_what_is_no_weights_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("these are not the weights\n", encoding="utf-8")

    with pytest.raises(CatalogueError, match="not weights that Ultralytics can load") as told:
        Source(tmp_path / "text.pt")
    assert "\n" not in str(told.value)
