"""What the person at the command line meets: one clear line for whatever can be mended, and the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli import main
from tests.support.clips import ROOT, cut_off, write_clip
from tests.support.street import LONG_AGO, STREET, demo_calibration, shortened_street

VERBS = (
    "demo",
    "run",
    "replay",
    "doctor",
    "calibrate capture",
    "calibrate page",
    "calibrate solve",
    "calibrate check",
    "models add",
    "models bench",
    "models export",
    "models fetch",
    "models list",
    "subscribe run",
    "subscribe gaps",
    "subscribe resend",
    "subscribe rollup",
    "subscribe export",
    "subscribe page",
    "subscribe forget",
    "study plan",
    "study run",
    "init",
    "status",
    "install",
    "uninstall",
)
Snellius = Callable[..., tuple[int, str, str]]


@pytest.fixture
def snellius(capsys: pytest.CaptureFixture[str]) -> Snellius:
    """Runs a verb; exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return ended.value.code if isinstance(ended.value.code, int) else 0, told.out, told.err

    return run


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "cal.json"
    demo_calibration().save(path)
    return path


def _settings(folder: Path, **changes: str) -> Path:
    """A settings file of a device on the bundled street; a change of ``source_url`` replaces that key, and so on."""
    demo_calibration().save(folder / "cal.json")
    values = {
        "source_url": str(STREET),
        "calibration_file": "cal.json",
        "mqtt_url": "mqtt://127.0.0.1:1",
        "model_name": "nanodet-416x256-int8",
        "more": "",
    } | changes
    path = folder / "snellius.toml"
    path.write_text(
        f"""
[site]
city = "hilversum"
device = "hvs-0042"
[source]
url = "{values["source_url"]}"
[calibration]
file = "{values["calibration_file"]}"
[model]
name = "{values["model_name"]}"
[mqtt]
url = "{values["mqtt_url"]}"
[outbox]
file = "outbox.sqlite"
{values["more"]}
"""
    )
    return path


def _is_one_clear_line(text: str) -> bool:
    return text.count("\n") == 1 and len(text) > 20 and "Traceback" not in text


# ------------------------------------------------------------------------------------------------------------- replay


def _text_as_video(folder: Path) -> Path:
    (folder / "text.mp4").write_text("name,u_px,v_px\n" * 300)
    return folder / "text.mp4"


def _mp4_without_index(folder: Path) -> Path:
    return cut_off(write_clip(folder / "camera.mp4"), into=folder, keep=0.6)


def _other_size(folder: Path) -> Path:
    return write_clip(folder / "other.mp4", size_px=(640, 480))


@pytest.mark.parametrize(
    ("clip", "says"),
    [
        pytest.param(lambda folder: folder / "nothing.mp4", "no such video file", id="missing file"),
        pytest.param(lambda folder: folder, "found a directory", id="directory"),
        pytest.param(_text_as_video, "found text", id="text file as video"),
        pytest.param(_mp4_without_index, "moov", id="truncated mp4"),
        pytest.param(_other_size, "expected the 960x540 pictures", id="calibration for another image size"),
    ],
)
def test_a_clip_that_cannot_be_measured_is_refused(
    clip: Callable[[Path], Path], says: str, snellius: Snellius, calibration: Path, tmp_path: Path
) -> None:
    path = clip(tmp_path)
    out = tmp_path / "out.jsonl"
    code, _, told = snellius("replay", path, "--calibration", calibration, "--passages", out)
    assert code == 2
    assert says in told
    assert str(path) in told
    assert _is_one_clear_line(told)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param("{ broken", "line 1", id="broken JSON"),
        pytest.param("{}", "schema", id="another JSON"),
        pytest.param("name,u_px\n", "line 1", id="a survey in its place"),
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused(
    content: str | None, says: str, snellius: Snellius, tmp_path: Path
) -> None:
    path = tmp_path / "cal.json"
    if content is not None:
        path.write_text(content)
    code, _, told = snellius("replay", STREET, "--calibration", path)
    assert code == 2
    assert says in told.lower()
    assert _is_one_clear_line(told)


def test_an_altered_calibration_is_refused(snellius: Snellius, calibration: Path) -> None:
    calibration.write_text(calibration.read_text().replace('"limit_kmh": 30', '"limit_kmh": 50'))
    code, _, told = snellius("replay", STREET, "--calibration", calibration)
    assert code == 2
    assert _is_one_clear_line(told)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(["--model", "yolo99"], "yolo99", id="unknown model"),
        pytest.param(["--start", "yesterday"], "--start: expected an instant", id="start that is no instant"),
        pytest.param(["--start", "2026-11-23T07:30:00"], "offset is missing", id="start without offset"),
        pytest.param(["--k", "4"], "--k: expected 5", id="k below the floor"),
        pytest.param(["--lab", "--k", "0"], "--k: expected 1", id="k of nobody"),
        pytest.param(["--slot-s", "10"], "--slot-s: expected 60", id="slot too short"),
        pytest.param(["--slot-s", "701"], "divide a day", id="slot that does not divide a day"),
        pytest.param(["--k", "ten"], "--k", id="k that is no number"),
        pytest.param(["--passages", "/nowhere/out.jsonl"], "/nowhere/out.jsonl", id="folder that does not exist"),
        pytest.param(["--annotate", "seen.txt"], "ends in .mp4", id="annotated clip of an unknown kind"),
        pytest.param(["--speed", "3"], "--speed", id="unknown option"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    options: list[str], says: str, snellius: Snellius, calibration: Path
) -> None:
    code, _, told = snellius("replay", STREET, "--calibration", calibration, *options)
    assert code == 2
    assert says in told
    assert _is_one_clear_line(told)


def test_a_replay_needs_a_calibration(snellius: Snellius) -> None:
    code, _, told = snellius("replay", STREET)
    assert code == 2
    assert "--calibration" in told
    assert _is_one_clear_line(told)


def test_a_clip_that_breaks_off_is_measured_as_far_as_it_goes_and_told(
    snellius: Snellius, calibration: Path, tmp_path: Path
) -> None:
    clip = cut_off(STREET, into=tmp_path, keep=0.12)
    out = tmp_path / "out.jsonl"
    code, said, told = snellius(
        "replay", clip, "--calibration", calibration, "--passages", out, "--model", "nanodet-416x256-int8", "--json"
    )
    assert code == 2
    assert "breaks off" in told
    assert _is_one_clear_line(told)
    assert out.exists()
    assert 20 < json.loads(said)["frames"] < 200


def test_an_expired_calibration_measures_a_clip_and_everything_says_that_it_has_expired(
    snellius: Snellius, tmp_path: Path
) -> None:
    clip = shortened_street(tmp_path / "short.mp4", frames=140)
    old, aggregates = tmp_path / "old.json", tmp_path / "a.jsonl"
    demo_calibration(LONG_AGO).save(old)
    arguments = ["replay", clip, "--calibration", old, "--model", "nanodet-416x256-int8", "--lab"]
    code, said, told = snellius(*arguments, "--aggregates", aggregates, "--json")
    assert (code, told) == (0, "")
    assert any("expired on 2021-03-01" in remark for remark in json.loads(said)["remarks"])
    flows = [message for line in aggregates.read_text().splitlines() if "speed" in (message := json.loads(line))]
    assert len(flows) >= 1
    assert all("calibration_expired" in flow["quality"]["flags"] for flow in flows)


def test_a_clip_of_the_time_when_the_calibration_was_valid_is_measured_without_remark(
    snellius: Snellius, tmp_path: Path
) -> None:
    clip = shortened_street(tmp_path / "short.mp4", frames=20)
    demo_calibration(LONG_AGO).save(tmp_path / "old.json")
    arguments = ["replay", clip, "--calibration", tmp_path / "old.json", "--model", "nanodet-416x256-int8", "--json"]
    _, said, _ = snellius(*arguments, "--start", "2020-06-01T09:00:00Z")
    assert not any("expired" in remark for remark in json.loads(said)["remarks"])


def test_replay_writes_what_it_was_asked_for(snellius: Snellius, calibration: Path, tmp_path: Path) -> None:
    clip = shortened_street(tmp_path / "short.mp4", frames=140)
    passages, aggregates, seen = tmp_path / "p.jsonl", tmp_path / "a.jsonl", tmp_path / "seen.mp4"
    arguments = ["replay", clip, "--calibration", calibration, "--model", "nanodet-416x256-int8"]
    arguments += ["--lab", "--start", "2026-11-23T06:30:00Z", "--json"]
    code, said, told = snellius(*arguments, "--passages", passages, "--aggregates", aggregates, "--annotate", seen)
    assert (code, told) == (0, "")
    summary = json.loads(said)
    assert {"frames", "clip_s", "wall_s", "inferences", "passages", "measured", "unmeasured", "withheld"} <= set(
        summary
    )
    assert summary["frames"] == 140
    assert summary["clip_s"] == pytest.approx(7.0)
    assert summary["passages"] == summary["measured"] + sum(summary["unmeasured"].values())
    rows = [json.loads(line) for line in passages.read_text().splitlines()]
    assert len(rows) == summary["passages"] >= 2
    assert [row["exit_s"] for row in rows] == sorted(row["exit_s"] for row in rows)
    for row in rows:
        assert set(row) == {
            "enter_s", "exit_s", "t_s", "direction", "class", "measured", "reason", "speed_kmh", "sigma_kmh",
            "sigma_random_kmh", "lateral_m", "samples", "baseline_m", "length_m",
        }  # fmt: skip
        assert row["t_s"] == pytest.approx((row["enter_s"] + row["exit_s"]) / 2, abs=1e-3)
        assert row["measured"] == (row["speed_kmh"] is not None) == (row["reason"] is None)
    windows = [json.loads(line) for line in aggregates.read_text().splitlines()]
    flows = [window for window in windows if window["schema"] == "snellius.flow/1.0"]
    assert sum(flow["count"] for flow in flows) + summary["withheld"] == summary["passages"]
    assert flows[0]["window"]["start"] == "2026-11-23T06:30:00Z"
    assert flows[0]["privacy"]["rule"] == "lab"
    assert seen.stat().st_size > 100_000
    assert {path.name for path in tmp_path.iterdir()} == {"cal.json", "short.mp4", "p.jsonl", "a.jsonl", "seen.mp4"}

    again = tmp_path / "again.jsonl"
    snellius(*arguments, "--passages", again)
    assert again.read_text() == passages.read_text()


# ------------------------------------------------------------------------------------------------------------- run


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"source_url": "nothing.mp4"}, "nothing.mp4: no such video file", id="missing source"),
        pytest.param({"calibration_file": "nothing.json"}, "nothing.json", id="missing calibration"),
        pytest.param({"model_name": "yolo99"}, "yolo99", id="unknown model"),
        pytest.param({"mqtt_url": "mqtt://broker.example"}, "expected mqtts://", id="clear text through a network"),
        pytest.param({"more": "[lab]\nenabled = true\nkk = 1\n"}, "lab.kk: unknown setting", id="unknown key"),
        pytest.param({"more": "[histogram]\nbin_kmh = 3\n"}, "histogram.bin_kmh", id="impossible bin"),
        pytest.param(
            {"more": "[lab]\nenabled = true\n", "mqtt_url": "mqtts://broker.example"},
            "expected a broker on this computer",
            id="lab mode with a broker elsewhere",
        ),
        pytest.param({"more": "password = \n"}, "expected TOML", id="broken TOML"),
    ],
)
def test_a_device_that_cannot_be_assembled_is_refused(
    changes: dict[str, str], says: str, snellius: Snellius, tmp_path: Path
) -> None:
    code, _, told = snellius("run", "--config", _settings(tmp_path, **changes))
    assert code == 2
    assert says in told
    assert _is_one_clear_line(told)
    assert not (tmp_path / "outbox.sqlite").exists()


def test_the_service_refuses_an_expired_calibration(snellius: Snellius, tmp_path: Path) -> None:
    config = _settings(tmp_path)
    demo_calibration(LONG_AGO).save(tmp_path / "cal.json")
    code, _, told = snellius("run", "--config", config)
    assert code == 2
    assert "cal.json: expected a calibration that is valid" in told
    assert "expired on 2021-03-01" in told
    assert "calibration.allow_expired" in told
    assert _is_one_clear_line(told)
    assert not (tmp_path / "outbox.sqlite").exists()


def test_every_wrong_setting_has_its_own_line(snellius: Snellius, tmp_path: Path) -> None:
    path = tmp_path / "snellius.toml"
    path.write_text('[site]\ncity = "Hilversum!"\n[privacy]\nk = 2\n')
    code, _, told = snellius("run", "--config", path)
    assert code == 2
    lines = told.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert {line.removeprefix(f"{path}: ").partition(":")[0] for line in lines} == {
        "site.city", "site.device", "source", "calibration", "privacy.k",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- doctor


def test_the_doctor_tells_every_problem_at_once(snellius: Snellius, tmp_path: Path) -> None:
    config = _settings(tmp_path, source_url="nothing.mp4", model_name="yolo99", calibration_file="nothing.json")
    code, said, told = snellius("doctor", "--config", config, "--json")
    assert (code, told) == (1, "")
    report = json.loads(said)
    assert report["ok"] is False
    failed = {check["name"]: check for check in report["checks"] if check["state"] == "fail"}
    assert {"source", "model", "calibration", "broker"} <= set(failed)
    assert all(check["next"] for check in failed.values())
    assert "127.0.0.1:1" in failed["broker"]["says"]


def test_the_doctor_measures_the_camera_and_the_detector(snellius: Snellius, tmp_path: Path) -> None:
    _, said, _ = snellius("doctor", "--config", _settings(tmp_path), "--json")
    checks = {check["name"]: check for check in json.loads(said)["checks"]}
    assert checks["source"]["state"] == "ok"
    assert "20.00 frames a second" in checks["source"]["says"]
    assert "ms a frame" in checks["model"]["says"]
    assert checks["calibration"]["state"] == "ok"


def test_the_doctor_sees_that_the_calibration_is_for_another_picture(snellius: Snellius, tmp_path: Path) -> None:
    config = _settings(tmp_path, source_url=str(write_clip(tmp_path / "other.mp4", size_px=(640, 480))))
    code, said, _ = snellius("doctor", "--config", config, "--json")
    checks = {check["name"]: check for check in json.loads(said)["checks"]}
    assert code == 1
    assert checks["image size"]["says"] == "calibrated for 960x540, the source gives 640x480"


@pytest.mark.parametrize(("allowed", "state"), [("false", "fail"), ("true", "warn")])
def test_the_doctor_sees_that_the_calibration_has_expired(
    allowed: str, state: str, snellius: Snellius, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _settings(tmp_path)
    monkeypatch.setenv("SNELLIUS_CALIBRATION__ALLOW_EXPIRED", allowed)
    demo_calibration(LONG_AGO).save(tmp_path / "cal.json")
    _, said, _ = snellius("doctor", "--config", config, "--json")
    check = {check["name"]: check for check in json.loads(said)["checks"]}["calibration"]
    assert check["state"] == state
    assert "expired on 2021-03-01" in check["says"]
    assert check["next"]


def test_the_doctor_needs_settings_it_can_read(snellius: Snellius, tmp_path: Path) -> None:
    code, _, told = snellius("doctor", "--config", tmp_path / "nothing.toml")
    assert code == 2
    assert _is_one_clear_line(told)


def test_a_marker_secret_appears_nowhere(snellius: Snellius, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2-marker")
    (tmp_path / "password").chmod(0o604)
    config = _settings(tmp_path, more="")
    config.write_text(config.read_text().replace("[outbox]", 'password_file = "password"\n[outbox]'))
    config.chmod(0o600)
    for verb in ("run", "doctor"):
        code, said, told = snellius(verb, "--config", config)
        assert code in (1, 2)
        assert "password_file" in said + told
        assert "hunter2" not in said + told


# ------------------------------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_sentence_and_an_example(verb: str, snellius: Snellius) -> None:
    code, said, _ = snellius(*verb.split(), "--help")
    assert code == 0
    assert f"snellius {verb}" in " ".join(said.split()).partition("Example: ")[2]


def test_every_verb_stands_in_the_documentation() -> None:
    pages = "".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert [verb for verb in VERBS if f"snellius {verb}" not in pages] == []


def test_help_appears_at_once_because_heavy_libraries_wait() -> None:
    program = (
        "import sys\nfrom edge.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'cv2', 'numpy', 'onnxruntime', 'paho', 'pydantic', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert all(verb.split()[0] in done.stdout for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["replay", "nothing.mp4", "--calibration", "cal.json"], "cal.json", id="missing files"),
        pytest.param(["run", "--config", "nothing.toml"], "nothing.toml: no such settings file", id="missing settings"),
        pytest.param(["fly"], "fly", id="unknown verb"),
    ],
)
def test_a_real_process_ends_with_one_line_and_exit_code_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from edge.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert _is_one_clear_line(done.stderr)
    assert done.stdout == ""
