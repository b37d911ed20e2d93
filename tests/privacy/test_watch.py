"""Files and sockets of the verbs at work: only what was asked for is written, only the broker is called.

Seen from outside (strace: libraries in C included) and, where tracing is not allowed, from inside (audit hooks).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.privacy.watch import replay_of, run_of, watched, why_not
from tests.support.mosquitto import HOST, Mosquitto, Subscriber
from tests.support.street import shortened_street

FRAMES = 50  # of the bundled street: the verbs begin, look and end
FRAMES_WITH_TRAFFIC = 160  # vehicles have passed by then

HOOK = """
import json, os, sys
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
def told(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int) or not (flags or 0) & WRITING:
            return
        arguments = [os.fsdecode(path)]
    elif event in ("socket.connect", "socket.bind", "socket.sendto"):
        arguments = [arguments[1]]
    elif event not in (
        "sqlite3.connect", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.exec", "os.posix_spawn",
        "os.fork", "subprocess.Popen", "tempfile.mkstemp", "tempfile.mkdtemp", "shutil.copyfile", "urllib.Request",
    ):
        return
    arguments = [os.fsdecode(each) if isinstance(each, bytes) else str(each) for each in arguments]  # bytes in 3.10
    os.write(int(os.environ['WATCH_FD']), (json.dumps([event, arguments]) + chr(10)).encode())
sys.addaudithook(told)
from edge.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return shortened_street(tmp_path / "street.mp4", frames=FRAMES)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def audited(arguments: list[str], folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Run a verb in a process that tells of everything it opens for writing or calls."""
    log = folder.parent / "audit.jsonl"
    with log.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-B", "-c", HOOK, *arguments],
            cwd=folder,
            env=os.environ | {"WATCH_FD": str(file.fileno())},
            pass_fds=[file.fileno()],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    yield from (tuple(json.loads(line)) for line in log.read_text().splitlines())


needs_tracing = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@needs_tracing
def test_a_replay_writes_what_was_asked_for_and_calls_nobody(clip: Path, work: Path) -> None:
    command, asked = replay_of(clip, work)
    seen = watched(command, work)
    assert seen.code == 0, seen.output
    partial = {path for path in seen.written if Path(path).name.startswith(".")}
    assert seen.written - partial == asked
    assert {Path(path).name.split("-")[0] for path in partial} == {".passages", ".aggregates"}
    assert {path.name for path in work.iterdir()} == {"cal.json", "passages.jsonl", "aggregates.jsonl"}
    assert (seen.called, seen.listened, seen.datagrams) == (set(), set(), set())
    assert seen.programs == {"snellius"}


@needs_tracing
def test_the_service_writes_its_outbox_and_calls_its_broker(tmp_path: Path, work: Path, mosquitto: Mosquitto) -> None:
    clip = shortened_street(tmp_path / "street.mp4", frames=FRAMES_WITH_TRAFFIC)
    command, allowed = run_of(clip, work, mosquitto.url)
    with Subscriber(mosquitto.port, "#") as platform:
        seen = watched(command, work)
        assert any("/flow/" in message.topic for message in platform.messages), (
            "nothing was measured: nothing is proven"
        )
    assert seen.code == 0, seen.output
    assert str(work / "outbox.sqlite") in seen.written
    assert seen.written <= allowed
    assert seen.called == {f"{HOST}:{mosquitto.port}"}
    listened = {each for each in seen.listened if not each.startswith("listen(")}
    assert (listened, len(seen.listened)) == ({f"unix:{work / 'status'}"}, 2), (
        "bound once, listened once: for root here"
    )
    assert seen.datagrams == set()
    assert seen.programs == {"snellius"}
    assert {path.name for path in work.iterdir()} == {
        "cal.json",
        "snellius.toml",
        "outbox.sqlite",
        "outbox.sqlite-reserve",
    }


@needs_tracing
def test_the_watch_sees_what_it_should_see(work: Path) -> None:
    """A watch that sees nothing proves nothing."""
    program = (
        "import os, socket\n"
        "open('a.txt', 'w').close(); os.rename('a.txt', 'b.txt'); os.mkdir('folder'); os.memfd_create('m')\n"
        "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(1)\n"
        "c = socket.create_connection(s.getsockname()); print(s.getsockname()[1])\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))\n"
    )
    seen = watched([sys.executable, "-B", "-c", program], work)
    assert {str(work / name) for name in ("a.txt", "b.txt", "folder")} | {"memory:m"} <= seen.written
    assert seen.called == {f"127.0.0.1:{seen.output.strip()}"}
    assert (len(seen.listened), seen.datagrams) == (1, {"127.0.0.1:9"})


def test_seen_from_inside_the_service_opens_its_outbox_and_its_broker(
    clip: Path, work: Path, mosquitto: Mosquitto
) -> None:
    command, allowed = run_of(clip, work, mosquitto.url)
    found: dict[str, set[str]] = {}
    for event, arguments in audited(command[1:], work):
        found.setdefault(event, set()).add(arguments[0])
    assert {str(work / path) for path in found.pop("open")} <= allowed | {"/dev/null"}
    assert found.pop("sqlite3.connect") == {str(work / "outbox.sqlite")}
    assert found.pop("socket.connect") == {str((HOST, mosquitto.port))}
    # the near end of the connection, and the socket for root on this computer
    assert found.pop("socket.bind") - {"('', 0)"} == {str(work / "status")}
    assert found == {}


def test_seen_from_inside_a_replay_that_was_asked_for_nothing_writes_nothing(clip: Path, work: Path) -> None:
    command, _ = replay_of(clip, work)
    found: list[Any] = list(audited([word for word in command[1:6] if word != "--lab"], work))
    assert found == []
    assert {path.name for path in work.iterdir()} == {"cal.json"}
