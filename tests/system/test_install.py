"""A computer as it was, and Snellius coming, changing and going: in a fresh root that is a copy of this one on top.

The root is an overlay: what is written lands in a folder of the test, so that what is left behind can be listed. The
virtual environments see the libraries of the one that tests, which is all that is left out of a real installation;
``tests/system/pole.sh`` makes the whole of it in a Debian root of its own, under a real systemd.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clips import ROOT
from tests.support.street import demo_calibration, shortened_street

SNELLIUS = str(Path(sys.executable).with_name("snellius"))
INSTALLED = "/usr/local/bin/snellius"
USERS = (".pwd.lock", "passwd", "group", "shadow", "gshadow", "subuid", "subgid")  # who is there; asked with id
IN_ROOT = """
set -e
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
folder="$1"; shift
exec chroot "$folder/root" "$@"
"""


class FreshRoot:
    """This computer with everything written going elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.upper = folder / "upper"
        for name in ("upper", "work", "root"):
            (folder / name).mkdir(parents=True)

    def run(self, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", IN_ROOT, "sh", str(self.folder), *map(str, command)],
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "PYTHONPATH": sysconfig.get_path("purelib"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PIP_NO_INDEX": "1",
            }
            | environment,
            capture_output=True,
            text=True,
        )

    def ok(self, *command: object, **environment: str) -> str:
        done = self.run(*command, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def files(self) -> set[str]:
        """What was written and is there, without what others keep: the list of users and its lock, the tests' own."""
        return {
            str(path.relative_to(self.upper))
            for path in self.upper.rglob("*")
            if (path.is_symlink() or not path.is_dir()) and not path.is_char_device()
            if not str(path).startswith(f"{self.upper}{ROOT}")
        } - {f"etc/{name}{old}" for name in USERS for old in ("", "-")}

    def version(self) -> str:
        """The one that runs."""
        return (self.upper / "opt/snellius/current").readlink().name

    def put(self, place: str, content: str | bytes, mode: int = 0o640) -> None:
        path = self.upper / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture
def root() -> Iterator[FreshRoot]:
    folder = Path("/var/tmp") / f"snellius-root-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    fresh = FreshRoot(folder)
    try:
        tried = fresh.run("true")
        if tried.returncode:
            pytest.skip(f"no fresh root can be made here: {tried.stderr.strip()}")
        yield fresh
    finally:
        shutil.rmtree(folder)


def changed(wheel: Path, folder: Path, *, version: str, **files: str) -> Path:
    """The same wheel as another version, with other content of some files."""
    name = f"snellius-{version}"
    made = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            info = entry.filename.partition(".dist-info/")
            target = f"{name}.dist-info/{info[2]}" if info[1] else entry.filename
            content = old.read(entry)
            if target.endswith("/METADATA"):
                content = content.replace(b"\nVersion: 0.1.0\n", f"\nVersion: {version}\n".encode(), 1)
            if target.endswith("/RECORD"):
                lines = content.decode().replace("snellius-0.1.0.dist-info", f"{name}.dist-info").splitlines()
                content = "".join(f"{line.split(',')[0]},,\n" for line in lines).encode()
            content = files[target].encode() if target in files else content
            new.writestr(target, content)
    return made


def settle(root: FreshRoot, folder: Path) -> None:
    """Settings, a secret and a short clip, as a technician leaves them."""
    root.put("etc/snellius/street.mp4", shortened_street(folder / "street.mp4", frames=30).read_bytes(), 0o644)
    demo_calibration().save(folder / "cal.json")
    root.put("etc/snellius/calibration.json", (folder / "cal.json").read_bytes())
    root.put("etc/snellius/credentials/mqtt-password", "marker-secret\n", 0o600)
    root.put(
        "etc/snellius/snellius.toml",
        """
[site]
city = "hilversum"
device = "hvs-0042"
[source]
url = "street.mp4"
pace = "full"
[calibration]
file = "calibration.json"
[model]
name = "nanodet-416x256-int8"
[mqtt]
url = "mqtt://127.0.0.1:1"
password_file = "credentials/mqtt-password"
[service]
drain_s = 0
""",
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)  # three virtual environments, a minute of processor time
def test_install_run_upgrade_failed_upgrade_and_uninstall_leave_nothing_behind(
    root: FreshRoot, wheel: Path, tmp_path: Path
) -> None:
    before = root.files()

    # On a blank card, with nothing but Python: the wheel installs itself.
    said = root.ok(sys.executable, f"{wheel}/edge", "install", "--camera", "usb")
    assert "not started yet" in said
    assert root.version().startswith("0.1.0-")
    assert root.ok("stat", "-c", "%a %U %G", "/etc/snellius", "/etc/snellius/credentials", "/var/lib/snellius") == (
        "750 root snellius\n700 root root\n700 snellius snellius\n"
    )
    assert root.ok("systemctl", "is-enabled", "snellius.service", "snellius-doctor.timer") == "enabled\nenabled\n"
    assert "char-video4linux" in root.ok("cat", "/etc/systemd/system/snellius.service.d/50-camera.conf")

    # Again: nothing to do. Then with settings and a secret: the secret is handed over, and nothing else changes.
    assert "nothing to change" in root.ok(INSTALLED, "install")
    settle(root, tmp_path)
    said = root.ok(INSTALLED, "install")
    assert [line for line in said.splitlines() if line.startswith("write")] == [
        "write /etc/systemd/system/snellius.service.d/60-credentials.conf",
        "write /etc/systemd/system/snellius-doctor.service.d/60-credentials.conf",
    ]
    assert "marker-secret" not in said
    assert root.ok("stat", "-c", "%a %U %G", "/etc/snellius/snellius.toml") == "640 root snellius\n"

    # It measures, as its own user, who cannot reach the secrets of root: only with what systemd hands over.
    as_its_user = ("setpriv", "--reuid=snellius", "--regid=snellius", "--clear-groups")
    service = (INSTALLED, "run", "--config", "/etc/snellius/snellius.toml")
    ran = root.run(*as_its_user, *service)
    assert ran.returncode == 2
    assert "mqtt.password_file: cannot read /etc/snellius/credentials/mqtt-password: Permission denied" in ran.stderr
    root.put("var/lib/snellius/handed/mqtt-password", "marker-secret\n")
    root.ok("chown", "-R", "snellius:", "/var/lib/snellius/handed")
    ran = root.run(*as_its_user, *service, CREDENTIALS_DIRECTORY="/var/lib/snellius/handed")
    assert "the source ended" in ran.stderr, ran.stderr
    assert (root.upper / "var/lib/snellius/outbox.sqlite").exists()
    assert "marker-secret" not in ran.stdout + ran.stderr

    # Upgrade.
    second = changed(wheel, tmp_path, version="0.1.1")
    said = root.ok(INSTALLED, "install", second)
    assert root.version().startswith("0.1.1-")
    assert len(list((root.upper / "opt/snellius/releases").iterdir())) == 2, "the one before stays"

    # An upgrade whose doctor finds something that was well before: everything is as it was.
    kept = root.files()
    broken = changed(
        wheel, tmp_path, version="0.1.2",
        **{"models/catalogue.toml": "[broken", "edge/systemd/snellius-doctor.timer": "[Timer]\nOnBootSec=1s\n"},
    )  # fmt: skip
    failed = root.run(INSTALLED, "install", broken)
    assert failed.returncode == 1
    assert "0.1.2-" in failed.stderr
    assert "ails: model: " in failed.stderr
    assert "back to 0.1.1-" in failed.stderr
    assert root.files() == kept
    assert "OnBootSec=15min" in root.ok("cat", "/etc/systemd/system/snellius-doctor.timer")
    root.ok(INSTALLED, "doctor", "--json")

    # An upgrade that cannot even be made changes nothing.
    (tmp_path / "snellius-0.1.3-py3-none-any.whl").write_text("no wheel")
    refused = root.run(INSTALLED, "install", tmp_path / "snellius-0.1.3-py3-none-any.whl")
    assert (refused.returncode, root.files()) == (2, kept)

    # Away, with the state kept; then all of it.
    root.ok(INSTALLED, "uninstall", "--keep-state")
    left = root.files() - before
    assert left == {
        "etc/snellius/snellius.toml", "etc/snellius/calibration.json", "etc/snellius/street.mp4",
        "etc/snellius/credentials/mqtt-password", "var/lib/snellius/outbox.sqlite",
        "var/lib/snellius/handed/mqtt-password",
    } | {name for name in left if name.startswith("var/lib/snellius/outbox.sqlite-")}  # fmt: skip
    root.ok("id", "snellius")
    root.ok(SNELLIUS, "uninstall", "--force")
    assert root.files() == before
    assert root.run("id", "snellius").returncode == 1


def test_a_dry_run_says_everything_and_does_nothing(root: FreshRoot, wheel: Path) -> None:
    before = root.files()
    said = root.ok(SNELLIUS, "install", wheel, "--dry-run")
    assert "make /opt/snellius/releases/0.1.0-" in said
    root.ok(SNELLIUS, "uninstall", "--dry-run")
    assert root.files() == before


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        pytest.param("nothing.whl", "no such wheel", id="missing"),
        pytest.param("text.whl", "expected a wheel, found something else", id="no wheel"),
        pytest.param("other-1.0-py3-none-any.whl", "found another one", id="wheel of something else"),
    ],
)
def test_what_cannot_be_installed_is_refused_in_one_line(origin: str, says: str, root: FreshRoot) -> None:
    folder = root.folder / "given"
    folder.mkdir()
    (folder / "text.whl").write_text("text")
    with zipfile.ZipFile(folder / "other-1.0-py3-none-any.whl", "w") as other:
        other.writestr("other.py", "")
    refused = root.run(SNELLIUS, "install", folder / origin)
    assert refused.returncode == 2
    assert says in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert root.files() == set()
