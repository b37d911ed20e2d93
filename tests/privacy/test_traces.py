"""Swap, core dumps and temporary files: what could bring a picture onto a disk by accident."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clips import ROOT

UNIT = (ROOT / "systemd" / "snellius.service").read_text(encoding="utf-8")
AFTER_CRASH = (
    "import os, resource, sys\n"
    "from edge.cli.run import forget_on_crash\n"
    "most = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (most, most))\n"
    "if sys.argv[1:] == ['forget']: forget_on_crash()\n"
    "picture = b'PICTURE' * 100_000\n"
    "os.abort()\n"
)


def set_in_unit(key: str) -> str | None:
    found = re.findall(rf"(?m)^{key}=(.*)$", UNIT)
    return found[-1] if found else None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("LimitCORE", "0", id="no core dumps"),
        pytest.param("MemorySwapMax", "0", id="its memory is never swapped to a disk"),
        pytest.param("PrivateTmp", "yes", id="temporary files of its own, gone with it"),
        pytest.param("UMask", "0077", id="its files are its own"),
        pytest.param("StateDirectoryMode", "0700", id="its state is its own"),
        pytest.param("ProtectSystem", "strict", id="it cannot write elsewhere"),
        pytest.param("ProtectHome", "yes", id="nor at home"),
        pytest.param("User", "snellius", id="a user of its own, to whom nothing else belongs"),
    ],
)
def test_the_unit_keeps_memory_off_the_disk(key: str, value: str) -> None:
    assert set_in_unit(key) == value


def test_a_crash_of_the_service_leaves_no_core_dump(tmp_path: Path) -> None:
    crashed = subprocess.run([sys.executable, "-B", "-c", AFTER_CRASH, "forget"], cwd=tmp_path, capture_output=True)
    assert crashed.returncode == -6, crashed.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_crash_dumps_nothing_to_a_program_either(tmp_path: Path) -> None:
    """A core pattern that begins with | ignores the limit of the size; a process that is not dumpable is left alone."""
    program = (
        "import ctypes\n"
        "from edge.cli.run import forget_on_crash\n"
        "forget_on_crash()\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"  # PR_GET_DUMPABLE
        "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
    )
    said = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["0", "0"]


def test_this_process_may_still_dump(tmp_path: Path) -> None:
    """The verb forgets, not the module: importing it changes nothing."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    import edge.cli.run  # noqa: F401

    assert resource.getrlimit(resource.RLIMIT_CORE) == before


def test_the_service_and_its_stages_make_no_temporary_file() -> None:
    """They are for what a technician asked to be written and for the broker of the demo, and for nothing else.

    The subscriber runs at the platform and holds messages only; it starts processes, and writes no temporary file.
    """
    users = set()
    for path in sorted((ROOT / "edge").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {"tempfile", "mmap", "multiprocessing", "pickle", "shelve"} & {name.partition(".")[0] for name in names}:
                users.add(str(path.relative_to(ROOT)))
    device = {"edge/broker.py", "edge/cli/files.py", "edge/cli/models_export.py", "edge/cli/showing.py"}
    assert users <= device | {"edge/installation.py", "edge/cli/subscribe.py"}
