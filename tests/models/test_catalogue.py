from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.cli.models import app, problem, table
from models import CatalogueError, Head, Runtime, load_catalogue
from models.catalogue import BUNDLED

ENTRY = """
default = "small"

[models.small]
summary = "For tests"
file = "small.onnx"
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
input_px = [320, 192]
runtime = "onnxruntime"
head = "end-to-end"
source = "nowhere"
licence = "EUPL-1.2"
classes = { car = [2, 7], bus = [5] }
"""  # the checksum is that of the four letters "test"


def a_catalogue(folder: Path, text: str = ENTRY) -> Path:
    (folder / "small.onnx").write_bytes(b"test")
    file = folder / "catalogue.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_an_entry_says_what_its_file_is(tmp_path: Path) -> None:
    model = load_catalogue(a_catalogue(tmp_path)).find("small")

    assert model.verified_file() == tmp_path / "small.onnx"
    assert model.input_px == (320, 192)
    assert model.runtime is Runtime.ONNXRUNTIME
    assert model.head is Head.END_TO_END
    assert model.classes == {"car": (2, 7), "bus": (5,)}


def test_every_bundled_model_is_the_file_that_the_catalogue_describes() -> None:
    catalogue = load_catalogue()

    assert {model.verified_file().name for model in catalogue.models if model.url is None} == {
        file.name for file in BUNDLED.parent.glob("*.onnx")
    }
    assert catalogue.find().name == catalogue.default


def test_every_bundled_model_has_its_notice_and_licence_beside_it() -> None:
    notice = (BUNDLED.parent / "NOTICE").read_text(encoding="utf-8")

    for model in (model for model in load_catalogue().models if model.url is None):
        assert model.file.name in notice
        assert (BUNDLED.parent / "licences" / f"{model.licence}.txt").is_file()


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CatalogueError, match=r"model 'yolo': not in the catalogue; known: nanodet-640x384-int8, nanod"):
        load_catalogue().find("yolo")


def test_a_file_that_differs_is_refused(tmp_path: Path) -> None:
    model = load_catalogue(a_catalogue(tmp_path)).find()
    (tmp_path / "small.onnx").write_bytes(b"tesT")

    with pytest.raises(CatalogueError, match=r"model small: small\.onnx: expected sha256 9f86d081884c…, found"):
        model.verified_file()


def test_a_missing_file_is_told_with_its_path(tmp_path: Path) -> None:
    model = load_catalogue(a_catalogue(tmp_path)).find()
    (tmp_path / "small.onnx").unlink()

    with pytest.raises(CatalogueError, match=r"model small: .*small\.onnx: No such file or directory"):
        model.verified_file()


@pytest.mark.parametrize(
    ("wrong", "right", "says"),
    [
        pytest.param("default =", "default", "not a TOML file", id="broken TOML"),
        pytest.param('"small"\n', '"large"\n', "default: model 'large': not in the catalogue", id="unknown default"),
        pytest.param('licence = "EUPL-1.2"\n', "", "small: licence is missing", id="a missing key"),
        pytest.param("licence", "license", "small: unknown key 'license'", id="an unknown key"),
        pytest.param("[320, 192]", "[320]", r"small: input_px: expected \[width, height\]", id="one length for a size"),
        pytest.param("[320, 192]", "[320, 0]", r"small: input_px: expected \[width, height\]", id="no height"),
        pytest.param("[320, 192]", '"320x192"', "small: input_px: expected a list of whole numbers", id="words"),
        pytest.param('"end-to-end"', '"v8"', "small: head: expected one of classic, end-to-end, got 'v8'", id="head"),
        pytest.param("[2, 7]", "[2, -7]", r"small: classes\.car: expected a list of whole numbers", id="class index"),
        pytest.param(
            "[320, 192]",
            "[320, 192]\nbottom_offset = 0.5",
            r"small: bottom_offset: expected a share .* within ±0\.1",
            id="bottom",
        ),
        pytest.param('"9f86', '"9F86', "small: sha256: expected 64 hexadecimal digits", id="capitals in a checksum"),
        pytest.param("[models.small]", '[models."Small one"]', "expected a name of a-z", id="a name with spaces"),
        pytest.param("[models.small]", "[models]\nsmall = 1\n[x]", "unknown key 'x'", id="an unknown table"),
    ],
)
def test_a_wrong_catalogue_is_told_in_one_line(tmp_path: Path, wrong: str, right: str, says: str) -> None:
    assert wrong in ENTRY
    file = a_catalogue(tmp_path, ENTRY.replace(wrong, right, 1))

    with pytest.raises(CatalogueError, match=says) as told:
        load_catalogue(file)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith("catalogue.toml: ")


def test_a_missing_catalogue_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"absent\.toml: No such file"):
        load_catalogue(tmp_path / "absent.toml")


def test_a_file_of_ones_own_is_named_after_its_content(tmp_path: Path) -> None:
    file = tmp_path / "City Trucks_v2.pt"
    file.write_bytes(b"test")

    model = load_catalogue().find(str(file))

    assert model.name == "city-trucks-v2-9f86d081"
    assert model.runtime is Runtime.ULTRALYTICS
    assert model.verified_file() == file


def test_a_folder_of_ones_own_changes_its_name_with_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "yolo_ncnn_model"
    folder.mkdir()
    (folder / "model.param").write_bytes(b"one")
    before = load_catalogue().find(str(folder)).name
    (folder / "model.bin").write_bytes(b"two")

    after = load_catalogue().find(str(folder)).name

    assert before.startswith("yolo-ncnn-model-")
    assert after.startswith("yolo-ncnn-model-")
    assert before != after


@pytest.mark.parametrize("name", ["yolo11n.pt", "somewhere/yolo_ncnn_model"])
def test_a_model_of_ones_own_is_never_fetched(name: str) -> None:
    with pytest.raises(CatalogueError, match=rf"model {name}: No such file or directory"):
        load_catalogue().find(name)


# ------------------------------------------------------------------------------------------------------ models list


def test_models_list_prints_every_model() -> None:
    result = CliRunner().invoke(app, ["list"], env={"COLUMNS": "200"})

    assert result.exit_code == 0
    for model in load_catalogue().models:
        assert model.name in result.stdout
    assert result.stdout.count("file ok") == sum(model.is_fetched for model in load_catalogue().models) > 0


def test_models_list_as_json_is_the_catalogue() -> None:
    result = CliRunner().invoke(app, ["list", "--json"])

    assert result.exit_code == 0
    listing = json.loads(result.stdout)
    assert listing["default"] == "nanodet-640x384-int8"
    default = next(model for model in listing["models"] if model["name"] == listing["default"])
    assert default["input_px"] == [640, 384]
    assert default["licence"] == "Apache-2.0"
    assert default["classes"] == ["bicycle", "bus", "car", "motorcycle", "person", "truck"]
    assert default["problem"] is None


def test_models_list_shows_a_damaged_file(tmp_path: Path) -> None:
    catalogue = load_catalogue(a_catalogue(tmp_path))
    (tmp_path / "small.onnx").write_bytes(b"else")

    assert "expected sha256" in (problem(catalogue.models[0]) or "")
    assert table(catalogue).row_count == 1


def test_reading_the_catalogue_loads_no_network_runtime() -> None:
    seen = subprocess.run(
        [sys.executable, "-c", "import models, edge.detect, sys; models.load_catalogue(); print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert {"onnxruntime", "torch", "ultralytics", "cv2"}.isdisjoint(seen)


def test_a_file_of_ones_own_does_not_tell_where_it_stood(tmp_path: Path) -> None:
    (tmp_path / "city.pt").write_bytes(b"weights")

    assert load_catalogue().find(str(tmp_path / "city.pt")).source == "city.pt"
