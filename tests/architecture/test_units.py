"""The units that go to a pole: understood by systemd, closed as far as they go, and every line with its reason."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.installation import CAMERAS, PLACES, SERVICES
from tests.support.clips import ROOT

FOLDER = ROOT / "systemd"
UNITS = sorted([*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")])
DROP_INS = sorted([*FOLDER.glob("snellius.service.d/*.conf"), FOLDER / "clock.conf"])
MOST_EXPOSED = {"network": 11, "usb": 13, "jetson": 13, "pi": 13}  # tenths; a unit without walls has 92
TO_ASK_THE_KERNEL = 5  # tenths more where the time is kept by another program than systemd-timesyncd


def directives(unit: Path) -> list[tuple[str, str]]:
    """Names and values of a unit file, in order."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [
        (name, value) for name, is_one, value in (line.partition("=") for line in lines) if is_one and name[0] != "#"
    ]


def installed(folder: Path, *, camera: str, keeps_time_otherwise: bool = False) -> Path:
    """The units as they lie on a pole with that camera; the program is one that exists here."""
    for unit in UNITS:
        text = re.sub(r"(?m)^(ExecStart=)\S+", r"\1/bin/true", unit.read_text(encoding="utf-8"))
        (folder / unit.name).write_text(text)
    for service in SERVICES:
        (folder / f"{service}.d").mkdir()
        if keeps_time_otherwise:
            shutil.copy(FOLDER / "clock.conf", folder / f"{service}.d" / "55-clock.conf")
        if camera != "network":
            shutil.copy(FOLDER / f"snellius.service.d/{camera}.conf", folder / f"{service}.d" / "50-camera.conf")
    return folder


@pytest.mark.parametrize("camera", CAMERAS)
def test_systemd_understands_every_line(camera: str, tmp_path: Path) -> None:
    folder = installed(tmp_path, camera=camera)
    units = [str(folder / unit.name) for unit in UNITS]
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("keeps_time_otherwise", [False, True], ids=["timesyncd", "another time daemon"])
@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_exposes_next_to_nothing(unit: str, camera: str, keeps_time_otherwise: bool, tmp_path: Path) -> None:
    service = installed(tmp_path, camera=camera, keeps_time_otherwise=keeps_time_otherwise) / unit
    threshold = f"--threshold={MOST_EXPOSED[camera] + keeps_time_otherwise * TO_ASK_THE_KERNEL}"
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", threshold, "--no-pager", str(service)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-200:] + result.stderr


@pytest.mark.parametrize("unit", [each for each in DROP_INS if each.stem in CAMERAS], ids=lambda unit: unit.stem)
def test_a_camera_opens_devices_and_nothing_else(unit: Path) -> None:
    assert {name for name, _ in directives(unit)} <= {
        "SupplementaryGroups", "DeviceAllow", "PrivateDevices", "RestrictAddressFamilies",
    }  # fmt: skip


def test_both_services_stand_behind_the_same_walls() -> None:
    of_its_own = {
        "Description", "Type", "ExecStart", "After", "Restart", "RestartSec", "StartLimitIntervalSec", "TimeoutStopSec",
        "TimeoutStartSec", "StateDirectory", "StateDirectoryMode", "RuntimeDirectory", "RuntimeDirectoryMode", "Nice",
        "WorkingDirectory", "MemoryMax", "TasksMax", "OOMPolicy", "LogRateLimitIntervalSec", "LogRateLimitBurst",
        "WantedBy", "NotifyAccess", "WatchdogSec", "WatchdogSignal",
    }  # fmt: skip
    meter, doctor = (
        [pair for pair in directives(FOLDER / service) if pair[0] not in of_its_own] for service in SERVICES
    )
    assert meter == doctor


def test_every_directive_has_its_reason() -> None:
    told = set(re.findall(r"`(\w+)=", (FOLDER / "README.md").read_text(encoding="utf-8")))
    used = {name for unit in [*UNITS, *DROP_INS] for name, _ in directives(unit)}
    assert used - told == set()
    left_open = {
        "MemoryDenyWriteExecute", "ProcSubset", "IPAddressAllow", "IPAddressDeny", "PrivateNetwork", "RootDirectory",
    }  # fmt: skip
    assert told - used - left_open == {"LoadCredential"}, "written by the installation"


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_calls_a_verb_that_exists(unit: str) -> None:
    calls = [value for name, value in directives(FOLDER / unit) if name.startswith("Exec")]
    assert calls
    for call in calls:
        program, verb, *options = call.split()
        assert program == "/opt/snellius/current/bin/snellius"
        snellius = str(Path(sys.executable).with_name("snellius"))
        shown = subprocess.run([snellius, verb, "--help"], capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        assert [option for option in options if option.startswith("-") and option not in shown.stdout] == []


def test_everything_in_the_folder_is_used() -> None:
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    cameras = {f"snellius.service.d/{camera}.conf" for camera in CAMERAS if camera != "network"}
    assert files == set(PLACES) | cameras | {"README.md", "environment.example", "clock.conf"}
