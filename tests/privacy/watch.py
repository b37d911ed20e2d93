"""What a verb writes and whom it calls, seen from outside: every system call that opens a file or a way to a network.

``python -m tests.privacy.watch`` watches ``replay``, ``run`` and ``demo`` at their work on the bundled street and
prints what was seen. Needs strace (apt install strace) and the right to trace one's own processes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.support.mosquitto import Mosquitto, Subscriber
from tests.support.street import STREET, demo_calibration

CALLS = (
    "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,truncate,mknod,"
    "mknodat,memfd_create,connect,bind,listen,sendto,sendmsg,sendmmsg,execve"
)
SNELLIUS = str(Path(sys.executable).with_name("snellius"))

_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
_MAKES = ("creat", "mkdir", "rename", "link", "symlink", "truncate", "mknod")


@dataclass
class Seen:
    """What a process and its children did.

    Attributes:
        code: Exit code.
        output: What it printed, both streams.
        written: Files that were opened for writing, made or renamed.
        called: Addresses that were connected to: ``127.0.0.1:1883``, ``unix:/path``.
        listened: Addresses that were listened on.
        datagrams: Addresses that something was sent to without a connection.
        programs: Programs that were started.
    """

    code: int = 0
    output: str = ""
    written: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    listened: set[str] = field(default_factory=set)
    datagrams: set[str] = field(default_factory=set)
    programs: set[str] = field(default_factory=set)


@cache
def why_not() -> str | None:
    """Why nothing can be watched here; None when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt install strace)"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"tracing is not allowed here: {tried.stderr.strip()}"


def watched(command: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None) -> Seen:
    """Run a program in a folder under the eyes of strace, children included."""
    trace = Path(tempfile.mkdtemp(prefix="watch-")) / "trace"
    try:
        done = subprocess.run(
            ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace), *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        seen = Seen(code=done.returncode, output=done.stdout + done.stderr)
        for line in _whole_lines(trace):
            _note(line, folder, seen)
    finally:
        shutil.rmtree(trace.parent)
    return seen


def _whole_lines(trace: Path) -> Iterator[str]:
    """Calls on one line, also those that another thread interrupted."""
    begun: dict[str, str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        who, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[who] = call.removesuffix("<unfinished ...>")
        elif call.startswith("<... "):
            yield begun.pop(who, "") + call.partition(" resumed>")[2]
        else:
            yield call


def _note(call: str, folder: Path, seen: Seen) -> None:
    name = call.partition("(")[0]
    failed = re.search(r"= -1 E(?!INPROGRESS)\w+", call) is not None
    if failed or not name:
        return
    paths = [bytes(path, "utf-8").decode("unicode_escape") for path in _PATH.findall(call)]
    if name.startswith("open") and re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)", call):
        seen.written.add(str(folder / paths[0]))
    elif name.startswith(_MAKES):
        seen.written |= {str(folder / path) for path in paths}
    elif name == "memfd_create":
        seen.written.add(f"memory:{paths[0]}")
    elif name == "connect":
        seen.called.add(_address(call))
    elif name == "listen" or (name == "bind" and "htons(0)" not in call):  # port 0: the near end of a connection
        seen.listened.add(_address(call))
    elif name in ("sendto", "sendmsg", "sendmmsg") and "sa_family" in call:
        seen.datagrams.add(_address(call))
    elif name == "execve":
        seen.programs.add(Path(paths[0]).name)


def _address(call: str) -> str:
    family = re.search(r"sa_family=(\w+)", call)
    if family is None:
        return call
    if family[1] == "AF_UNIX":
        return "unix:" + (_PATH.findall(call) or ["unnamed"])[0]
    port = re.search(r"port=htons\((\d+)\)", call)
    host = re.search(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"', call)
    return f"{host[1]}:{port[1]}" if host and port else f"{family[1]}"


# ---------------------------------------------------------------------------------------------------- verbs at work


def replay_of(clip: Path, folder: Path) -> tuple[list[str], set[str]]:
    """A replay that writes what was asked for: command, and the files that it may leave."""
    demo_calibration().save(folder / "cal.json")
    asked = {"--passages": "passages.jsonl", "--aggregates": "aggregates.jsonl"}
    options = [word for option, name in asked.items() for word in (option, name)]
    command = [SNELLIUS, "replay", str(clip), "--calibration", "cal.json", "--lab", "--json", *options]
    return command, {str(folder / name) for name in asked.values()}


def run_of(clip: Path, folder: Path, broker_url: str) -> tuple[list[str], set[str]]:
    """The service on a file, played once at full speed: command, and the files that it may write."""
    demo_calibration().save(folder / "cal.json")
    (folder / "snellius.toml").write_text(
        f"""
[site]
city = "hilversum"
device = "hvs-0042"
[source]
url = "{clip}"
pace = "full"
start = "2026-11-23T07:30:00+01:00"
[calibration]
file = "cal.json"
[lab]
enabled = true
[mqtt]
url = "{broker_url}"
profiles = ["native", "homeassistant"]
[outbox]
file = "outbox.sqlite"
[service]
checkpoint_s = 1
health_s = 5
status_socket = "status"
"""
    )
    outbox = folder / "outbox.sqlite"
    return [SNELLIUS, "run", "--config", "snellius.toml"], {
        f"{outbox}{suffix}" for suffix in ("", "-wal", "-shm", "-journal", "-reserve")
    }


def _print(verb: str, seen: Seen) -> None:
    print(f"\n{verb}: exit code {seen.code}")
    for title, found in (
        ("files written", seen.written),
        ("connected to", seen.called),
        ("listened on", seen.listened),
        ("datagrams to", seen.datagrams),
        ("programs", seen.programs),
    ):
        print(f"  {title}: {', '.join(sorted(found)) or 'none'}")


def _main() -> None:
    reason = why_not()
    if reason is not None:
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="watched-") as name:
        folder = Path(name)
        command, _ = replay_of(STREET, folder)
        _print("replay", watched(command, folder))
        with Mosquitto(folder / "broker") as broker, Subscriber(broker.port, "#") as platform:
            command, _ = run_of(STREET, folder, broker.url)
            seen = watched(command, folder)
            _print(f"run (broker on port {broker.port}, {len(platform.messages)} messages arrived)", seen)
        _print("demo", watched([SNELLIUS, "demo"], folder))


if __name__ == "__main__":
    _main()
