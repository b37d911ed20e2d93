"""``snellius calibrate``: what a technician sees, what a script reads, which exit code comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from calibration import Calibration, CalibrationError, Survey, solve
from edge.cli.calibrate import app
from tests.calibration.surveys import (
    IMAGE_PX,
    SITE_TOML,
    a_camera,
    a_site,
    a_survey,
    survey_csv,
    written,
)
from tests.support.clips import ROOT

SITE = (
    SITE_TOML.replace("[[0.0, 8.0], [6.5, 8.0], [6.5, 28.0], [0.0, 28.0]]", "[[12, -3], [32, -3], [32, 3], [12, 3]]")
    .replace("[[3.2, 8.0], [3.2, 28.0]]", "[[12.0, 0.0], [32.0, 0.0]]")
)  # fmt: skip


def surveyed(folder: Path, survey: Survey | None = None) -> list[str]:
    """Arguments of `calibrate solve` for a survey in a folder."""
    points = survey or a_survey(a_camera(), click_px=0.5, tape_m=0.01, seed=7)
    csv, toml = written(folder, "survey.csv", survey_csv(points)), written(folder, "site.toml", SITE)
    size = "x".join(str(side) for side in IMAGE_PX)
    return ["solve", "--survey", str(csv), "--site", str(toml), "--image-size", size, "--out", str(folder / "cal.json")]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def snellius(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The verb as the console script runs it."""
    command = [sys.executable, "-c", "from edge.cli import main; main()", "calibrate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def with_a_typo() -> Survey:
    survey = a_survey(a_camera(), click_px=0.5, tape_m=0.01, seed=7)
    survey.points_m[4] += (10.0, 0.0)
    return survey


def test_a_good_survey_is_certified_and_the_report_leads_on(tmp_path: Path) -> None:
    result = run(*surveyed(tmp_path))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("good: speeds may be published")
    certificate = Calibration.load(tmp_path / "cal.json")
    assert certificate.id in result.stdout
    assert all(name in result.stdout for name in ("P1 ", "P12", "height 5.", "focal length", "Next: snellius replay"))


def test_the_json_has_the_fixed_keys_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    result = run(*surveyed(tmp_path), "--json")
    told = json.loads(result.stdout)
    assert (told["verdict"], told["points"], told["rejected"]) == ("good", 12, [])
    assert told["id"] == Calibration.load(tmp_path / "cal.json").id
    assert told["camera"]["height_m"] == pytest.approx(5.6, abs=0.2)


def test_a_typo_is_refused_writes_nothing_and_exits_1(tmp_path: Path) -> None:
    arguments = surveyed(tmp_path, with_a_typo())
    told = json.loads(run(*arguments, "--json").stdout)
    assert (told["verdict"], told["rejected"]) == ("refuse", ["P5"])
    result = run(*arguments)
    assert result.exit_code == 1
    assert "survey.csv line 6 (P5)" in result.stdout
    assert "--drop P5" in result.stdout
    assert not (tmp_path / "cal.json").exists()


def test_a_refused_survey_leaves_an_earlier_calibration_alone(tmp_path: Path) -> None:
    run(*surveyed(tmp_path))
    before = (tmp_path / "cal.json").read_bytes()
    assert run(*surveyed(tmp_path, with_a_typo())).exit_code == 1
    assert (tmp_path / "cal.json").read_bytes() == before


def test_dropping_the_typo_on_purpose_certifies_the_rest(tmp_path: Path) -> None:
    result = run(*surveyed(tmp_path, with_a_typo()), "--drop", "P5")
    assert result.exit_code == 0, result.output
    assert "Left out on purpose: P5" in result.stdout
    assert Calibration.load(tmp_path / "cal.json").dropped == ("P5",)


def test_points_that_no_camera_can_see_so_are_refused_with_the_same_keys(tmp_path: Path) -> None:
    survey = a_survey(a_camera()).only([0, 2, 9, 10])
    survey.points_m[0] += (25.0, 0.0)
    result = run(*surveyed(tmp_path, survey), "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert told["verdict"] == "refuse"
    assert set(told) >= {"reasons", "points", "rejected", "rms_px", "camera", "u_rel_speed", "px_per_m"}
    assert not (tmp_path / "cal.json").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--image-size", "960"], "--image-size: expected WIDTHxHEIGHT in pixels such as 960x540, got '960'"),
        (["--survey", "none.csv"], "none.csv: no such file"),
        (["--drop", "P99"], "--drop P99: no such point; the survey has P1, P2"),
        (["--out", "nowhere/cal.json"], "nowhere/cal.json: cannot be written"),
    ],
    ids=["image size", "missing survey", "unknown point", "missing folder"],
)
def test_wrong_use_is_one_line(tmp_path: Path, wrong: list[str], says: str) -> None:
    result = run(*surveyed(tmp_path), *wrong)
    assert isinstance(result.exception, CalibrationError)  # the command line makes it one line and exit code 2
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)


def test_the_program_says_one_line_and_exits_2(tmp_path: Path) -> None:
    arguments = surveyed(tmp_path)
    (tmp_path / "survey.csv").write_text('name,u_px,v_px,x_m,y_m\nA,1,2,"12,4",5\n', encoding="utf-8")
    result = snellius(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "survey.csv line 2: x_m: expected metres, got '12,4' (use a decimal point)\n"


def tape_csv(calibration: Calibration, *, scale: float) -> str:
    """Distances across the zone, taped with that wrong scale."""
    ends = np.array([[[14.0, -2.0], [24.0, -2.0]], [[16.0, 2.0], [30.0, 2.0]], [[14.0, -2.0], [14.0, 2.0]]])
    rows = ["u1_px,v1_px,u2_px,v2_px,distance_m"]
    for start, end in ends:
        (u1, v1), (u2, v2) = calibration.plane.project([start, end])
        rows.append(f"{u1:.2f},{v1:.2f},{u2:.2f},{v2:.2f},{np.linalg.norm(end - start) * scale:.2f}")
    return "\n".join(rows) + "\n"


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    assert run(*surveyed(tmp_path)).exit_code == 0
    return tmp_path / "cal.json"


def test_check_reports_residuals_age_and_pixels_per_metre(calibrated: Path) -> None:
    result = run("check", "--calibration", str(calibrated))
    assert result.exit_code == 0, result.output
    for expected in ("good", "P12", "0 days ago", "valid until", "px/m at the nearest place", "960x540"):
        assert expected in result.stdout
    told = json.loads(run("check", "--calibration", str(calibrated), "--json").stdout)
    assert (told["verdict"], told["age_days"], told["points"]) == ("good", 0, 12)


def test_check_agrees_with_distances_that_were_taped_right(calibrated: Path) -> None:
    tape = written(calibrated.parent, "tape.csv", tape_csv(Calibration.load(calibrated), scale=1.0))
    result = run("check", "--calibration", str(calibrated), "--distances", str(tape), "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["verdict"], told["distances"]["n"]) == (0, "good", 3)


def test_check_refuses_a_calibration_that_taped_distances_contradict(calibrated: Path) -> None:
    tape = written(calibrated.parent, "tape.csv", tape_csv(Calibration.load(calibrated), scale=1.06))
    result = run("check", "--calibration", str(calibrated), "--distances", str(tape))
    assert result.exit_code == 1
    assert "refuse" in result.stdout
    assert "taped distances disagree by 5." in result.stdout
    assert "tape.csv line 3" in result.stdout


def test_check_refuses_an_expired_calibration(tmp_path: Path) -> None:
    solution = solve(a_survey(a_camera(), click_px=0.5, seed=3), a_site(), IMAGE_PX)
    solution.certified(datetime(2020, 1, 1, tzinfo=timezone.utc)).save(tmp_path / "old.json")
    result = run("check", "--calibration", str(tmp_path / "old.json"))
    assert result.exit_code == 1
    assert "expired on 2020-12-31" in result.stdout


def test_check_warns_where_people_could_be_recognised(tmp_path: Path) -> None:
    tele = a_camera(focal_px=2600.0, tilt_deg=16.0, heading_deg=15.0, height_m=6.0)
    middle = tele.ground([480.0, 270.0])
    grid = np.array(
        [[-1.5, -0.8], [-1.5, 0.8], [0.0, 0.1], [1.5, -0.9], [1.7, 0.8], [4.0, -0.5], [4.0, 1.0], [5.5, 0.3]]
    )
    site = a_site()
    zone = [(float(middle[0]) + x, float(middle[1]) + y) for x, y in ((-1, -1), (5, -1), (5, 1), (-1, 1))]
    near = type(site)(
        id=site.id,
        limit_kmh=30,
        mount_height_m=None,
        polygon_m=tuple(zone),
        axis_m=((zone[0][0], float(middle[1])), (zone[1][0], float(middle[1]))),
        forward="out",
        backward="in",
    )
    solution = solve(a_survey(tele, points_m=middle + grid), near, IMAGE_PX)
    solution.certified(datetime.now(timezone.utc)).save(tmp_path / "tele.json")
    result = run("check", "--calibration", str(tmp_path / "tele.json"))
    assert "sharp enough to recognise people" in result.stdout
