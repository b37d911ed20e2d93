from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from mypy import api

from edge.domain import Passage, SpeedHistogram, Trajectory
from tests.support.clips import ROOT

QUEUEING = """
from edge.domain import Passage, Release, Settlement
from edge.outbox import Outbox

def queue(outbox: Outbox, passage: Passage, release: Release) -> None:
    {line}
"""


def types_of(folder: Path, line: str) -> str:
    """What the type checker says about one line that queues something."""
    file = folder / "queueing.py"
    file.write_text(QUEUEING.format(line=line), encoding="utf-8")
    said, trouble, _ = api.run(
        ["--strict", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"), str(file)]
    )
    assert not trouble
    return said


def test_queueing_a_release_is_right(tmp_path: Path) -> None:
    said = types_of(tmp_path, "outbox.commit(Settlement(releases=(release,), state={}))")

    assert said.startswith("Success"), said


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("outbox.commit(passage)", id="as it is"),
        pytest.param("outbox.commit(Settlement(releases=(passage,), state={}))", id="as a release"),
        pytest.param("outbox.commit(Settlement(releases=(release.aggregate,), state={}))", id="an unsettled aggregate"),
    ],
)
def test_queueing_anything_else_is_a_type_error(tmp_path: Path, line: str) -> None:
    said = types_of(tmp_path, line)

    assert "queueing.py:6: error:" in said
    assert "[arg-type]" in said or "[attr-defined]" in said, said
    assert "Found 1 error" in said


def sources() -> Iterator[Path]:
    """Every module of the product."""
    for package in ("edge", "calibration", "models"):
        yield from sorted((ROOT / package).rglob("*.py"))


def calls_of(name: str) -> dict[str, int]:
    """How often each module calls something of that name, or imports it under another."""
    found: dict[str, int] = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == name
            renamed = isinstance(node, ast.alias) and node.name == name and node.asname is not None
            if called or renamed:
                module = str(path.relative_to(ROOT))
                found[module] = found.get(module, 0) + 1
    return found


def test_a_release_is_made_in_one_place() -> None:
    assert calls_of("Release") == {"edge/aggregate/anonymity.py": 1}


def test_a_passage_forgets_who_it_was() -> None:
    names = {field.name for field in fields(Passage)}

    assert names == {
        "direction",
        "road_user",
        "entered_ns",
        "left_ns",
        "speed",
        "reason",
        "lateral_m",
        "samples",
        "baseline_m",
        "length_m",
        "halfway_ns",
    }


@pytest.mark.parametrize("record", [Passage, Trajectory])
def test_a_vehicle_cannot_be_written_down(record: type) -> None:
    """Counters can be stored (as_plain), vehicles cannot."""
    assert hasattr(SpeedHistogram, "as_plain")
    serialisers = ("plain", "json", "dict", "dump", "bytes", "save", "write", "serial")
    assert [
        name for name in dir(record) if not name.startswith("_") and any(word in name for word in serialisers)
    ] == []


def test_no_picture_is_written_by_the_device() -> None:
    """Drawing is for clips that a technician replays, a still for one who calibrates; the service cannot do either."""
    writers = {module for call in ("imwrite", "imencode", "VideoWriter") for module in calls_of(call)}

    assert writers <= {"edge/cli/annotate.py", "calibration/still.py"}
    assert set(calls_of("Still")) == {"edge/cli/calibrate_capture.py"}
