from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edge.publish.payload import StatusReason
from models import load_catalogue
from tests.support.clips import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
TORCH = ("torch", "ultralytics", "tensorflow", "nvidia")
HEAVY = (*TORCH, "openvino")


def named(requirement: str) -> str:
    """The package that a requirement asks for."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return found.group().lower().replace("_", "-")


def test_the_base_install_pulls_no_torch() -> None:
    base = {named(requirement) for requirement in PROJECT["dependencies"]}
    locked = {named(line) for line in LOCK.splitlines() if line and not line.startswith("#")}

    assert base <= locked
    pulled = pulled_by(PROJECT["dependencies"])
    assert {"numpy", "protobuf", "pydantic-core"} <= pulled  # also what is pulled by what we ask for
    assert [name for name in pulled if name.startswith((*HEAVY, "ncnn", "onnx-", "requests"))] == []
    assert [name for name in locked if name.startswith(TORCH)] == []


def pulled_by(requirements: Iterable[str]) -> set[str]:
    """The packages that pip installs for these requirements here, by what each of them asks for itself."""
    pulled: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in pulled or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
            continue
        pulled.add(name)
        waiting += [Requirement(text) for text in requires(name) or ()]
    return pulled


def test_every_extra_that_make_installs_is_locked() -> None:
    locked = {named(line) for line in LOCK.splitlines() if line and not line.startswith("#")}

    for extra in ("demo", "subscriber", "study", "ncnn", "openvino", "test"):
        wanted = {named(requirement) for requirement in PROJECT["optional-dependencies"][extra]}
        assert wanted <= locked, extra


def test_the_lock_names_versions_only() -> None:
    for line in LOCK.splitlines():
        assert line.startswith(("#", " ")) or re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*( ; .+)?", line), line
    assert "//" not in LOCK


def test_using_the_detector_loads_no_torch() -> None:
    program = (
        "import sys\n"
        "from edge.detect import open_detector\n"
        "from models import load_catalogue\n"
        "open_detector(load_catalogue().find())\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert "onnxruntime" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []


def test_the_service_loads_no_scipy_because_it_costs_a_pole_40_mib_and_half_a_second() -> None:
    program = "import sys, edge.cli.run, edge.assembly, edge.service, edge.settings; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert "edge.track.tracker" in loaded
    assert [name for name in loaded if name.partition(".")[0] in ("scipy", "rich", "matplotlib")] == []


def test_the_wheel_holds_all_that_a_pole_needs_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    info = f"snellius-{PROJECT['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {"edge", "calibration", "models", info}
    assert {f"models/{model.file.name}" for model in load_catalogue().models if model.url is None} <= names
    assert {"models/catalogue.toml", "models/NOTICE", "models/licences/Apache-2.0.txt"} <= names
    assert {f"edge/demo/{name}" for name in ("street.mp4", "survey.csv", "site.toml", "truth.json")} <= names
    assert {"edge/systemd/snellius.service", "edge/systemd/requirements.lock"} <= names
    assert {"edge/py.typed", "calibration/py.typed", "models/py.typed"} <= names
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/models/NOTICE"} <= names
    assert not [name for name in names if "__pycache__" in name or "test" in name.lower()]
    assert wheel.stat().st_size < 20e6


def test_every_paper_of_the_project_names_the_same_version() -> None:
    publiccode = (ROOT / "publiccode.yml").read_text(encoding="utf-8")

    assert f'softwareVersion: "{PROJECT["version"]}"\n' in publiccode
    assert "  license: EUPL-1.2\n" in publiccode
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("EUROPEAN UNION PUBLIC LICENCE v. 1.2")


def test_the_descriptions_for_catalogues_have_the_length_that_publiccode_asks_for() -> None:
    publiccode = (ROOT / "publiccode.yml").read_text(encoding="utf-8")
    described = re.findall(
        r"shortDescription: >-\n(.*?)    longDescription: >\n(.*?)    features:", publiccode, flags=re.DOTALL
    )

    assert len(described) == 2
    for short, long in described:
        assert len(" ".join(short.split())) <= 150
        assert 150 <= len(" ".join(long.split())) <= 10_000


def test_the_operating_page_says_what_to_do_about_every_status_reason() -> None:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(\w+)` \| (.+) \| (.+) \|$", page.partition("## Status reasons")[2])

    assert {reason for reason, _, _ in rows} == {reason.value for reason in StatusReason}
    assert all(meaning and step for _, meaning, step in rows)
