"""The program on a pole: a user of its own, walls around it, and the version before it when a new one ails.

::

    sudo python3 snellius-0.1.0-py3-none-any.whl/edge install    on a blank card, with nothing but Python
    sudo snellius install snellius-0.2.0-py3-none-any.whl        later

Every version lives in a virtual environment under ``/opt/snellius/releases``, and ``/opt/snellius/current`` points at
the one that runs. What a version needs around it (units, user, folders) it brings along in ``edge/systemd``. A new
version is examined by its own doctor before it starts; when something fails that did not fail before, everything is
put back as it was. Nothing here needs more than Python's standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from edge.errors import BadInput, SnelliusError

Camera = Literal["pi", "usb", "jetson", "network"]
CAMERAS: tuple[Camera, ...] = ("pi", "usb", "jetson", "network")

PROGRAM = "opt/snellius"
RELEASES = f"{PROGRAM}/releases"
CURRENT = f"{PROGRAM}/current"
COMMAND = "usr/local/bin/snellius"
SETTINGS = "etc/snellius/snellius.toml"
CREDENTIALS = "etc/snellius/credentials"
STATE = "var/lib/snellius"
OUTBOX = f"{STATE}/outbox.sqlite"
UNITS = "etc/systemd/system"
SERVICES = ("snellius.service", "snellius-doctor.service")
ENABLED = ("snellius.service", "snellius-doctor.timer")
PLACES = {  # what a version brings along, and where it belongs
    **{unit: f"{UNITS}/{unit}" for unit in (*SERVICES, "snellius-doctor.timer")},
    "sysusers.conf": "etc/sysusers.d/snellius.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/snellius.conf",
    "journald.conf": "etc/systemd/journald.conf.d/snellius.conf",
}
CAMERA_DROP_INS = tuple(f"{UNITS}/{service}.d/50-camera.conf" for service in SERVICES)
CLOCK_DROP_INS = tuple(f"{UNITS}/{service}.d/55-clock.conf" for service in SERVICES)
CREDENTIAL_DROP_INS = tuple(f"{UNITS}/{service}.d/60-credentials.conf" for service in SERVICES)
MANAGED = (*PLACES.values(), *CAMERA_DROP_INS, *CLOCK_DROP_INS, *CREDENTIAL_DROP_INS)
TIMESYNCD = "usr/lib/systemd/systemd-timesyncd"  # of Debian, Raspberry Pi OS and Ubuntu, where nothing else keeps time
OUR_FOLDERS = (*(f"{service}.d" for service in SERVICES), "journald.conf.d")
STEADY_S = 20.0  # a new version that runs so long without a fall has opened its outbox, its model and its camera
COMPLETE = ".complete"  # stands in the folder of a version that was made to the end
LOCK = "edge/systemd/requirements.lock"  # in the wheel: the versions that this one was tested with
USER = "snellius"


@dataclass
class Machine:
    """The computer, or the folder that an image is made in.

    Attributes:
        root: Where it begins; ``/`` is this computer.
        is_dry: Say what would be done, and do nothing.
        say: Takes every change, a line each.
        changes: How many there were.
    """

    root: Path
    is_dry: bool
    say: Callable[[str], None]
    changes: int = 0

    @property
    def is_live(self) -> bool:
        """Whether systemd runs here, so that units can be started."""
        return self.root == Path("/") and Path("/run/systemd/system").is_dir()

    def here(self, place: str) -> Path:
        """A place of the machine as this process reaches it."""
        return self.root / place

    def write(self, place: str, text: str) -> None:
        """A file of the system with this content."""
        if _content(self.here(place)) == text:
            return
        self._note(f"write /{place}")
        if not self.is_dry:
            self.here(place).parent.mkdir(parents=True, exist_ok=True)
            partial = self.here(f"{place}.new")
            partial.write_text(text, encoding="utf-8")
            partial.chmod(0o644)
            partial.replace(self.here(place))

    def point(self, place: str, target: str) -> None:
        """A symbolic link; it changes in one step, so that there is a version at every moment."""
        link = self.here(place)
        if link.is_symlink() and str(link.readlink()) == target:
            return
        self._note(f"point /{place} at {target}")
        if not self.is_dry:
            link.parent.mkdir(parents=True, exist_ok=True)
            partial = self.here(f"{place}.new")
            partial.unlink(missing_ok=True)
            partial.symlink_to(target)
            partial.replace(link)

    def remove(self, place: str) -> None:
        """A file, link or folder with all that is in it; and the folder around it, if that held nothing else of use."""
        path = self.here(place)
        if not path.is_symlink() and not path.exists():
            return
        self._note(f"remove /{place}")
        if self.is_dry:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        if path.parent.name in OUR_FOLDERS and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def call(self, *command: str, quietly: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a program of the machine.

        Args:
            command: Program and arguments, with paths as the machine sees them.
            quietly: It changes nothing, so it is run in a dry run too and not told.
        """
        if not quietly:
            self.say(f"run {' '.join(command)}")
            if self.is_dry:
                return subprocess.CompletedProcess(command, 0, "", "")
        inside = command if self.root == Path("/") else ("chroot", str(self.root), *command)
        try:
            return subprocess.run(inside, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return subprocess.CompletedProcess(command, 127, "", f"{inside[0]}: not found")

    def do(self, *command: str) -> None:
        """Run a program that must succeed.

        Raises:
            SnelliusError: It did not.
        """
        done = self.call(*command)
        if done.returncode:
            raise SnelliusError(f"{' '.join(command)}: {_last_words(done)}")

    def _note(self, change: str) -> None:
        self.changes += 1
        self.say(change)


def install(machine: Machine, origin: str | None = None, *, camera: Camera | None = None) -> None:
    """Bring a version onto the machine, or bring everything around it up to date.

    Args:
        machine: Where to.
        origin: A wheel, a folder with the source, or a requirement such as ``snellius==0.2.0``. None: the version
            that is running now.
        camera: Whose devices the service may open; None: as before, else what this machine seems to have.

    Raises:
        BadInput: The origin is nothing that can be installed, or this user may not.
        SnelliusError: A step failed, or the new version ails; everything is as it was before.
    """
    _expect_root(machine)
    with tempfile.TemporaryDirectory(prefix="snellius-install-") as folder:
        wheel = _as_wheel(origin or _running(), Path(folder))
        release = release_name(wheel)
        before = _pointed_at(machine)
        if not (machine.here(f"{RELEASES}/{release}") / COMPLETE).exists():
            _make(machine, wheel, release, sees_system=(camera or _camera(machine)) == "pi")
    if machine.is_dry and not machine.here(f"{RELEASES}/{release}").exists():
        machine.say(f"then: put the units of {release} in place, examine it with its doctor, start it")
        return
    is_other = release != before
    ailed = _ailing(machine) if before and is_other else {}
    kept = {place: _content(machine.here(place)) for place in MANAGED}
    changes = machine.changes
    try:
        _activate(machine, release, camera)
        if is_other:
            worse = [f"{name}: {says}" for name, says in _ailing(machine).items() if name not in ailed]
            if worse and before is not None:
                raise SnelliusError("; ".join(worse))
            for finding in worse:
                machine.say(f"the doctor finds: {finding}")
        _start(machine, again=machine.changes > changes)
        if is_other and before is not None:
            _expect_steady(machine)
    except SnelliusError as failure:
        if before is None or not is_other:
            raise
        back = _put_back(machine, kept, before)
        machine.remove(f"{RELEASES}/{release}")
        raise SnelliusError(f"{release} ails: {failure} ({back})") from None
    _forget_older(machine, keep={release, before or release})
    if not machine.changes:
        machine.say(f"{release} is installed, nothing to change")


def uninstall(machine: Machine, *, keep_state: bool, is_forced: bool = False) -> None:
    """Remove the program and everything around it.

    Args:
        machine: Where from.
        keep_state: Leave settings, calibration, secrets, outbox and the user they belong to.
        is_forced: Also when windows wait for the broker, which are lost then.

    Raises:
        BadInput: This user may not.
        SnelliusError: Windows wait for the broker.
    """
    _expect_root(machine)
    if machine.is_live and machine.here(PLACES[SERVICES[0]]).exists():
        machine.call("systemctl", "stop", *SERVICES, *ENABLED)  # first: it may still send, and keeps its counters
    waiting = 0 if keep_state or is_forced else _waiting(machine.here(OUTBOX))
    if waiting:
        raise SnelliusError(
            f"/{OUTBOX}: {waiting} messages wait for the broker and would be lost (start the service and let it send,"
            " or --keep-state, or --force)"
        )
    if machine.here(PLACES[SERVICES[0]]).exists():
        machine.call("systemctl", "disable", *ENABLED)
    for place in (*MANAGED, COMMAND, PROGRAM):
        machine.remove(place)
    if machine.is_live:
        machine.call("systemctl", "daemon-reload")
    if not keep_state:
        machine.remove(str(Path(SETTINGS).parent))
        machine.remove(STATE)
        if machine.call("id", USER, quietly=True).returncode == 0:
            machine.do("userdel", USER)
            machine.changes += 1
    if not machine.changes:
        machine.say("nothing to remove")


# ------------------------------------------------------------------------------------------------------ the new version


def release_name(wheel: Path) -> str:
    """Name of the folder of a version: what it says it is, and which build of it."""
    version = wheel.name.split("-")[1]
    return f"{version}-{hashlib.sha256(wheel.read_bytes()).hexdigest()[:8]}"


def _running() -> str:
    """Where the program that runs now came from."""
    for parent in Path(__file__).parents:
        if parent.suffix == ".whl":
            return str(parent)
        if (parent / COMPLETE).exists():
            return str(next(parent.glob("*.whl")))
    try:
        installed = metadata.distribution("snellius")
    except metadata.PackageNotFoundError:
        raise BadInput("which version? name a wheel: snellius install snellius-….whl") from None
    told = installed.read_text("direct_url.json")  # PEP 610
    place = Path(unquote(urlsplit(json.loads(told)["url"]).path)) if told else None
    return str(place) if place is not None and place.exists() else f"snellius=={installed.version}"


def _as_wheel(origin: str, folder: Path) -> Path:
    path = Path(origin)
    if path.suffix != ".whl":
        machine = Machine(Path("/"), is_dry=False, say=lambda line: None)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
        made = machine.call(*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), origin, quietly=True)
        wheels = list(folder.glob("snellius-*.whl"))
        if made.returncode or not wheels:
            raise BadInput(f"{origin}: expected a wheel, a source folder or a requirement: {_last_words(made)}")
        return wheels[0]
    try:
        names = zipfile.ZipFile(path).namelist()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such wheel") from None
    except (OSError, zipfile.BadZipFile):
        raise BadInput(f"{path}: expected a wheel, found something else") from None
    if not path.name.startswith("snellius-") or LOCK not in names:
        raise BadInput(f"{path}: expected a wheel of snellius that can install itself, found another one")
    return path


def _make(machine: Machine, wheel: Path, release: str, *, sees_system: bool) -> None:
    """A virtual environment with this version; on a Raspberry Pi it sees picamera2, which only the system has."""
    folder = f"{RELEASES}/{release}"
    here = str(getattr(sys, "_base_executable", sys.executable))  # not that of the virtual environment we may be in
    python = here if machine.root == Path("/") else "/usr/bin/python3"
    machine.changes += 1
    machine.say(f"make /{folder} from {wheel.name} (minutes; downloads what is missing)")
    if machine.is_dry:
        return
    try:
        _remove_tree(machine.here(folder))
        machine.here(folder).mkdir(parents=True)
        shutil.copy(wheel, machine.here(folder) / wheel.name)
        lock = machine.here(folder) / "requirements.lock"
        lock.write_bytes(zipfile.ZipFile(wheel).read(LOCK))
        machine.do(python, "-m", "venv", *(["--system-site-packages"] if sees_system else []), f"/{folder}")
        pip = (f"/{folder}/bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-cache-dir")
        constraint = ("--constraint", f"/{folder}/requirements.lock")
        machine.do(*pip, "install", *constraint, f"/{folder}/{wheel.name}")
        (machine.here(folder) / COMPLETE).touch()
    except BaseException:
        _remove_tree(machine.here(folder))
        raise


def _activate(machine: Machine, release: str, camera: Camera | None) -> None:
    """Put a version in the place of the one before, stopped and not yet started."""
    brought = _brought(machine, release)
    if machine.is_live and release != _pointed_at(machine) and machine.here(PLACES[SERVICES[0]]).exists():
        machine.do("systemctl", "stop", SERVICES[0])
    changes = machine.changes
    for name, place in PLACES.items():
        machine.write(place, brought[name])
    before = machine.here(CAMERA_DROP_INS[0])
    chosen = camera or (None if before.exists() else _camera(machine))
    for place in CAMERA_DROP_INS:
        if chosen == "network":
            machine.remove(place)
        elif chosen is not None:
            machine.write(place, brought[f"snellius.service.d/{chosen}.conf"])
        else:  # the same devices as before, as this version knows them
            machine.write(place, brought[f"snellius.service.d/{_kind(before.read_text(), brought)}.conf"])
    for place in CLOCK_DROP_INS:
        if machine.here(TIMESYNCD).exists():
            machine.remove(place)
        else:
            machine.write(place, brought["clock.conf"])
    machine.point(CURRENT, f"releases/{release}")
    machine.point(COMMAND, f"/{CURRENT}/bin/snellius")
    if machine.changes > changes or machine.call("id", USER, quietly=True).returncode:
        machine.do("systemd-sysusers", f"/{PLACES['sysusers.conf']}")
    _tidy(machine)
    _hand_over_credentials(machine)
    if machine.changes > changes:
        if machine.is_live:
            machine.do("systemctl", "daemon-reload")
            machine.call("systemctl", "try-restart", "systemd-journald.service")
        machine.do("systemctl", "enable", "--quiet", *ENABLED)


def _brought(machine: Machine, release: str) -> Mapping[str, str]:
    """The files that a version brings along, by name."""
    (folder,) = machine.here(f"{RELEASES}/{release}").glob("lib/python3*/site-packages/edge/systemd")
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.*")
        if path.is_file()
    }


def _kind(drop_in: str, brought: Mapping[str, str]) -> str:
    """Which camera a drop-in of an earlier version was for: its first line says so."""
    title = drop_in.partition("\n")[0]
    for name, text in brought.items():
        if name.startswith("snellius.service.d/") and text.partition("\n")[0] == title:
            return Path(name).stem
    raise SnelliusError(f"/{CAMERA_DROP_INS[0]}: expected one of ours, found another (say --camera)")


def _camera(machine: Machine) -> Camera:
    """What the machine seems to have, by what its maker calls it."""
    model = _content(machine.here("proc/device-tree/model")) or ""
    return "pi" if "Raspberry Pi" in model else "jetson" if "Jetson" in model or "NVIDIA" in model else "usb"


def _tidy(machine: Machine) -> None:
    """Folders with their owners and modes; settings that were copied here get theirs too."""
    if not machine.is_dry:
        machine.call("systemd-tmpfiles", "--create", f"/{PLACES['tmpfiles.conf']}", quietly=True)


def _hand_over_credentials(machine: Machine) -> None:
    """Every file among the credentials is handed to the service by systemd, readable for it alone."""
    folder = machine.here(CREDENTIALS)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    lines = [f"LoadCredential={name}:/{CREDENTIALS}/{name}" for name in names]
    for place in CREDENTIAL_DROP_INS:
        if lines:
            machine.write(
                place, "\n".join([f"# Written by snellius install from /{CREDENTIALS}.", "[Service]", *lines, ""])
            )
        else:
            machine.remove(place)


# ------------------------------------------------------------------------------------------- examine, start, put back


def _ailing(machine: Machine) -> dict[str, str]:
    """What fails for the version in place: name of a check → what it says."""
    if machine.is_dry:
        machine.say("examine with: snellius doctor")
        return {}
    config = ["--config", f"/{SETTINGS}"] if machine.here(SETTINGS).exists() else []
    told = machine.call(f"/{CURRENT}/bin/snellius", "doctor", *config, "--json", quietly=True)
    try:
        return {check["name"]: check["says"] for check in json.loads(told.stdout)["checks"] if check["state"] == "fail"}
    except (ValueError, KeyError):
        return {"doctor": _last_words(told)}


def _start(machine: Machine, *, again: bool) -> None:
    if not machine.here(SETTINGS).exists():
        machine.say(f"not started yet: there is no /{SETTINGS} (next: sudo snellius init)")
    elif machine.is_live:
        machine.do("systemctl", "restart" if again else "start", SERVICES[0])
        machine.do("systemctl", "start", ENABLED[1])
        machine.do("systemctl", "is-active", "--quiet", SERVICES[0])


def _expect_steady(machine: Machine) -> None:
    """Watch a version that has just been started for a while: one that falls is started again and again by systemd."""
    if not machine.is_live or machine.is_dry or not machine.here(SETTINGS).exists():
        return
    asked = ("systemctl", "show", "--property=MainPID,ActiveState", SERVICES[0])
    began, deadline_s = machine.call(*asked, quietly=True).stdout, time.monotonic() + STEADY_S
    while time.monotonic() < deadline_s:
        time.sleep(1.0)
        if machine.call(*asked, quietly=True).stdout != began:
            raise SnelliusError(f"it fell within {STEADY_S:.0f} s (journalctl -u snellius)")


def _put_back(machine: Machine, kept: Mapping[str, str | None], before: str) -> str:
    """The version before, as it was; says what came of it.

    The outbox stays as it is: the version that failed may have sent from it, so an older copy would tell numbers twice.
    A version before works on what a later one has added to the file (:mod:`edge.outbox`).
    """
    machine.say(f"put {before} back")
    for place, text in kept.items():
        if text is None:
            machine.remove(place)
        else:
            machine.write(place, text)
    machine.point(CURRENT, f"releases/{before}")
    if machine.is_live:
        machine.call("systemctl", "daemon-reload")
        if machine.here(SETTINGS).exists() and machine.call("systemctl", "restart", SERVICES[0]).returncode:
            return f"back to {before}, which does not start either: journalctl -u snellius"
    return f"back to {before}"


def _forget_older(machine: Machine, keep: set[str]) -> None:
    """Only the version before stays, to go back to by hand."""
    folder = machine.here(RELEASES)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name not in keep:
            machine.remove(f"{RELEASES}/{path.name}")


# ------------------------------------------------------------------------------------------------------------- small


def _expect_root(machine: Machine) -> None:
    if os.geteuid() != 0 and not machine.is_dry:
        raise BadInput("expected to be root: sudo snellius …")
    if not machine.root.is_dir():
        raise BadInput(f"{machine.root}: expected the folder of a system")


def _pointed_at(machine: Machine) -> str | None:
    link = machine.here(CURRENT)
    return link.readlink().name if link.is_symlink() else None


def _waiting(outbox: Path) -> int:
    """Messages that the broker does not have yet; a file that cannot be read holds none that could be sent."""
    if not outbox.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as database:
            (waiting,) = database.execute("SELECT count(*) FROM queue WHERE sent = 0").fetchone()
    except sqlite3.DatabaseError:
        return 0
    return int(waiting)


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _remove_tree(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that a program said."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1] if lines else f"ended with {done.returncode}"
