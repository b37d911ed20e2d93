"""The table and the advice of ``models bench``, and the one line that it may write into a settings file."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from edge.cli import main
from edge.cli.benching import Against, Figures
from edge.cli.choosing import with_model, write_model
from edge.cli.models_bench import Agreement, agreement, recommended, reference_of
from edge.errors import BadInput
from edge.machine import energy_j
from models import load_catalogue

SMALL, DEFAULT = "nanodet-416x256-int8", "nanodet-640x384-int8"
SETTINGS = '# of a pole\n[site]\ncity = "hilversum"\n\n[model]\nname = "old"  # chosen in May\nevery_frame = false\n'


def figures(
    *, ms: float = 20.0, busy: float = 0.3, measured: int = 17, false: int = 0, median_kmh: float | None = 0.3
) -> Figures:
    against = Against(
        vehicles=18, measured=measured, false=false, bias_kmh=0.0, median_kmh=median_kmh, worst_kmh=median_kmh
    )
    return Figures(
        looks=100,
        ms_median=ms,
        ms_p95=2 * ms,
        cpu_ms=2 * ms,
        peak_mib=200.0,
        busy=busy,
        joules=None,
        passages=18,
        measured=measured,
        against=against,
        samples=[],
    )


def unknown(each: Figures) -> Figures:
    return replace(each, against=None)


SAME = Agreement(boxes=40, found=0.95, edge_px=1.0)
OTHER = Agreement(boxes=40, found=0.6, edge_px=4.0)


def test_the_quickest_of_equals_is_recommended() -> None:
    advice = recommended({"a": figures(ms=50), "b": figures(ms=20, median_kmh=0.38)}, {"a": SAME, "b": SAME}, "a")

    assert advice.model == "b"
    assert advice.reason.startswith("it measures 17 of 18 vehicles with a median error of 0.38 km/h, 0 false, and is")


@pytest.mark.parametrize(
    "worse",
    [
        pytest.param(figures(ms=20, measured=16), id="misses a vehicle"),
        pytest.param(figures(ms=20, false=1), id="counts nobody"),
        pytest.param(figures(ms=20, median_kmh=0.5), id="less accurate"),
        pytest.param(figures(ms=20, measured=0, median_kmh=None), id="measures nobody"),
    ],
)
def test_a_quicker_model_that_measures_worse_is_not(worse: Figures) -> None:
    assert recommended({"a": figures(ms=50), "b": worse}, {"a": SAME, "b": SAME}, "a").model == "a"


def test_a_model_that_does_not_keep_up_is_not() -> None:
    advice = recommended({"a": figures(busy=1.2), "b": figures(measured=12)}, {"a": SAME, "b": OTHER}, "a")

    assert advice.model == "b"
    slow = recommended({"a": figures(busy=1.2), "b": figures(busy=1.1)}, {"a": SAME, "b": SAME}, "a")
    assert slow.model == "b"
    assert "frames may be" in slow.reason


def test_without_truth_the_quickest_that_says_the_same_as_the_reference_is() -> None:
    models = {"a": unknown(figures(ms=50)), "b": unknown(figures(ms=20)), "c": unknown(figures(ms=10))}

    assert recommended(models, {"a": SAME, "b": SAME, "c": OTHER}, "a").model == "b"


def test_without_truth_and_too_slow_a_reference_the_most_alike_is() -> None:
    models = {"a": unknown(figures(busy=1.2)), "b": unknown(figures(ms=20)), "c": unknown(figures(ms=10))}

    assert recommended(models, {"a": SAME, "b": SAME, "c": OTHER}, "a").model == "b"


def test_agreement_is_the_share_of_boxes_found_in_the_same_frame() -> None:
    box, moved, far = [0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]

    found = agreement([[box, far], [box]], [[moved], []])

    assert (found.boxes, found.found) == (3, pytest.approx(1 / 3))
    assert found.edge_px == pytest.approx(0.5)


def test_the_reference_is_the_default_model() -> None:
    assert reference_of(load_catalogue(), [SMALL, DEFAULT]) == DEFAULT
    assert reference_of(load_catalogue(), [SMALL, DEFAULT, "nanodet-640x384"]) == "nanodet-640x384"
    assert reference_of(load_catalogue(), [SMALL]) == SMALL


def test_energy_is_that_of_all_sockets_and_unknown_elsewhere(tmp_path: Path) -> None:
    assert energy_j(tmp_path) is None
    for socket, energy_uj in (("intel-rapl:0", 1_500_000), ("intel-rapl:1", 500_000), ("intel-rapl:0:0", 9)):
        folder = tmp_path / "sys/class/powercap" / socket
        folder.mkdir(parents=True)
        (folder / "energy_uj").write_text(f"{energy_uj}\n")

    assert energy_j(tmp_path) == 2.0


# ------------------------------------------------------------------------------------------------- the settings file


def test_only_the_name_changes(tmp_path: Path) -> None:
    file = tmp_path / "snellius.toml"
    file.write_text(SETTINGS)
    file.chmod(0o640)

    write_model(file, "new")

    assert file.read_text() == SETTINGS.replace('"old"', '"new"')
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[model]\nthreads = 2\n", '[model]\nname = "new"\nthreads = 2\n', id="no name yet"),
        pytest.param("[model]", '[model]\nname = "new"\n', id="an empty section at the end"),
        pytest.param("[site]\n", '[site]\n\n[model]\nname = "new"\n', id="no section yet"),
        pytest.param("[a]\r\nb = 1", '[a]\r\nb = 1\r\n\r\n[model]\r\nname = "new"\r\n', id="lines of Windows"),
        pytest.param(
            "[model]\n[site]\nname = 'x'\n", "[model]\nname = \"new\"\n[site]\nname = 'x'\n", id="the name of another"
        ),
    ],
)
def test_the_name_goes_into_its_section(text: str, expected: str) -> None:
    assert with_model(text, "new") == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('model = { name = "old" }\n', "expected a section", id="inline"),
        pytest.param('model.name = "old"\n', "expected a section", id="dotted"),
        pytest.param('[model]\n"name" = "old"\n', "expected a section", id="quoted key"),
        pytest.param('[site]\ncity = """\n[model]\n"""\n', "expected a section", id="section inside a text"),
        pytest.param("[model\n", "expected TOML", id="no TOML"),
    ],
)
def test_a_file_that_says_it_otherwise_stays_as_it_is(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "snellius.toml"
    file.write_text(text)

    with pytest.raises(BadInput, match=says):
        write_model(file, "new")

    assert file.read_text() == text


# ------------------------------------------------------------------------------------------------------- the whole


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["models", "bench", *map(str, arguments)])
    told = capsys.readouterr()
    return ended.value.code if isinstance(ended.value.code, int) else 0, told.out, told.err


def test_a_few_seconds_of_the_bundled_street(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = tmp_path / "snellius.toml"
    settings.write_text(SETTINGS)

    code, said, _ = run(capsys, SMALL, "yolov8n", "--seconds", 5, "--write", settings, "--json")

    assert code == 0
    found = json.loads(said)
    assert (found["recommended"], found["reference"], found["seconds"]) == (SMALL, SMALL, 5.0)
    assert "models fetch yolov8n" in found["not_run"]["yolov8n"]
    (row,) = found["models"]
    assert 0 < row["ms_median"] <= row["ms_p95"]
    assert 50 < row["peak_mib"] < 1000
    assert row["looks"] > 5
    assert row["against"]["vehicles"] >= row["against"]["measured"] >= 1
    assert row["recall"] == row["against"]["measured"] / row["against"]["vehicles"]
    assert row["against"]["median_kmh"] < 3.0
    assert row["agreement"]["found"] == 1.0
    assert row["agreement"]["boxes"] > 5
    assert settings.read_text() == SETTINGS.replace('"old"', f'"{SMALL}"')


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--clip", "street.mp4"], "--clip and --calibration go together", id="half a site"),
        pytest.param(["--truth", "truth.json"], "--truth goes with --clip", id="truth of nothing"),
        pytest.param(["yolo99"], "yolo99", id="unknown model"),
        pytest.param(["yolov8n"], "models fetch yolov8n", id="model that is not here"),
        pytest.param(["--write", "nothing.toml"], "nothing.toml: no such settings file", id="settings that are not"),
        pytest.param(["--clip", "no.mp4", "--calibration", "no.json"], "no.json", id="files that are not"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SNELLIUS_MODELS", str(tmp_path / "own"))

    code, said, told = run(capsys, *arguments)

    assert (code, said) == (2, "")
    assert says in told
    assert told.count("\n") == 1
