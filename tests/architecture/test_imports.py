from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clips import ROOT

PACKAGES = ("edge", "calibration", "models")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Checks the contracts of the project on the packages in ``folder``."""
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("lint-imports")),
            "--no-cache",
            "--no-logo",
            "--config",
            str(ROOT / "pyproject.toml"),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_four_import_contracts_hold() -> None:
    result = lint(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "Contracts: 4 kept, 0 broken." in result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        pytest.param("edge/domain/records.py", "import edge.service", "1. Imports point one way", id="a record starts"),
        pytest.param(
            "calibration/units.py", "import edge.errors", "1. Imports point one way", id="the library looks up"
        ),
        pytest.param(
            "edge/track/tracker.py", "import edge.zones", "2. Stages are siblings", id="a stage asks its sibling"
        ),
        pytest.param("edge/speed/fit.py", "import sqlite3", "3. The measurement core", id="the estimator writes"),
        pytest.param("calibration/camera.py", "import pydantic", "3. The measurement core", id="a helper of the core"),
        pytest.param("edge/outbox.py", "import edge.study", "1. Imports point one way", id="the device asks the city"),
        pytest.param("edge/study/__init__.py", "import edge.outbox", "4. Platform-side", id="the city asks the device"),
    ],
)
def test_a_forbidden_import_is_noticed(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.onnx", "*.mp4", "__pycache__")
        )
    (tmp_path / "edge" / "study").mkdir(exist_ok=True)
    (tmp_path / "edge" / "study" / "__init__.py").touch()
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")

    result = lint(tmp_path)

    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(rf"{re.escape(contract)}.*BROKEN", result.stdout), result.stdout


def test_every_room_of_the_application_has_its_place_in_the_contracts() -> None:
    rooms = {
        path.stem
        for path in (ROOT / "edge").iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }

    placed = set(re.findall(r"\bedge\.(\w+)", PROJECT))
    assert rooms - {"__init__"} <= placed
