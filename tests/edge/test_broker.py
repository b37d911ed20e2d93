"""The broker of the demo: on the loopback interface only, and gone with its owner."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edge.broker import LoopbackBroker, Program
from edge.errors import BackendUnavailable, SnelliusError
from tests.support.mosquitto import Subscriber

LISTENING = "0A"
LOOPBACK_HEX = "0100007F"  # 127.0.0.1 as /proc/net/tcp writes it on a little-endian computer


def descendants(pid: int) -> list[int]:
    """Process ids of every child, grandchild and so on."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if parent == pid:
            child = int(stat.parent.name)
            children += [child, *descendants(child)]
    return children


def sockets_of(pid: int) -> set[str]:
    """Inodes of the sockets that a process holds."""
    links = [str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def listening() -> dict[str, tuple[str, int]]:
    """Inode → address and port (as written in /proc) of every listening TCP socket, IPv4 and IPv6."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING:
                address, port = fields[1].split(":")
                found[fields[9]] = (address, int(port, 16))
    return found


def refuses_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture(params=["mosquitto", "iotcore"])
def program(request: pytest.FixtureRequest) -> Program:
    if request.param == "iotcore":
        pytest.importorskip("iotcore", reason="the extra [demo] is not installed")
    return request.param  # type: ignore[no-any-return]


def test_it_listens_on_127_0_0_1_and_nowhere_else(program: Program) -> None:
    def ours() -> dict[str, tuple[str, int]]:
        inodes = set().union(*(sockets_of(pid) for pid in descendants(os.getpid())))
        return {inode: address for inode, address in listening().items() if inode in inodes}

    before = ours()  # brokers of other tests
    with LoopbackBroker(program) as broker:
        assert [address for inode, address in ours().items() if inode not in before] == [(LOOPBACK_HEX, broker.port)]


def test_an_mqtt_5_client_hears_what_another_says(program: Program) -> None:
    with LoopbackBroker(program) as broker, Subscriber(broker.port, "street", client_id="ear") as ear:
        with Subscriber(broker.port, "other", client_id="mouth") as mouth:
            mouth.publish("street", b"quiet")
        ear.wait_for(1)
    assert [message.payload for message in ear.messages] == [b"quiet"]


def test_process_port_and_files_are_gone_afterwards(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(descendants(os.getpid()))
    with LoopbackBroker(program) as broker:
        started = set(descendants(os.getpid())) - before
        assert started
    assert refuses_connections(broker.port)
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert list(tmp_path.iterdir()) == []


def test_it_ends_when_its_owner_is_killed(program: Program) -> None:
    script = (
        "import time\nfrom edge.broker import LoopbackBroker\n"
        f"with LoopbackBroker({program!r}) as broker:\n    print(broker.port, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        assert not refuses_connections(port)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while not refuses_connections(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert refuses_connections(port)


def test_two_brokers_stand_side_by_side(program: Program) -> None:
    with LoopbackBroker(program) as one, LoopbackBroker(program) as other:
        assert one.port != other.port


def test_without_any_broker_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.broker.mosquitto_program", lambda: None)
    monkeypatch.setitem(sys.modules, "iotcore", None)
    with pytest.raises(BackendUnavailable, match=r"apt install mosquitto.*pip install 'snellius\[demo\]'"):
        LoopbackBroker().__enter__()


def test_a_broker_that_finds_no_port_says_why(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("edge.broker.free_port", lambda: taken.getsockname()[1])
        with pytest.raises(SnelliusError, match=rf"{program}: expected a broker on 127.0.0.1, got: .*(in use)"):
            LoopbackBroker(program).__enter__()
