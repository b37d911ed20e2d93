"""How many poles one broker, one subscriber and one PostgreSQL carry on this computer.

    python -m benchmarks.load [--poles 1000 10000] [--workers 1] [--seconds 60] [--messages 20000] [--json OUT]

Starts mosquitto, PostgreSQL (durable, as installed) and `snellius subscribe run`, all on 127.0.0.1, and as many virtual
poles as asked for, each with an MQTT 5 connection of its own and true messages. Two phases for each number of poles:

- an ordinary day, for some seconds: two windows a pole in 15 minutes, health every 5 minutes, a ping every 30 s
- as fast as it goes: so many windows, by turns from every pole; from the first sent to the last stored

CPU is that of the processes, in per cent of one core (ordinary day) and in milliseconds a thousand messages (rush). The
poles themselves run here too and take their share of the computer; theirs is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from edge.clock import ClockState
from edge.publish.payload import Health
from tests.support.mosquitto import HOST, Mosquitto, eventually
from tests.support.postgresql import PostgreSql, postgresql
from tests.support.published import CITY, published
from tests.support.released import a_window

WINDOWS_S, HEALTH_S, PING_S = 900.0, 300.0, 30.0
WINDOWS_A_POLE = 2  # one for each direction
AT_ONCE = 200  # connections opened before the first is answered
LONGEST_S = 600.0  # of a rush; then it is called off
TICKS = os.sysconf("SC_CLK_TCK")
DURABLE = ("shared_buffers=128MB", "max_connections=40")


# ------------------------------------------------------------------------------------------------------ virtual poles


def packet(kind: int, body: bytes) -> bytes:
    """An MQTT control packet (MQTT 5, 2.1)."""
    length, rest = bytearray(), len(body)
    while True:
        length.append(rest % 128 | (0x80 if rest > 127 else 0))
        rest //= 128
        if not rest:
            return bytes([kind]) + bytes(length) + body


def text(value: str) -> bytes:
    """A UTF-8 string with its length."""
    return len(value).to_bytes(2, "big") + value.encode()


CONNECT_FLAGS = b"\x05\x02\x00\x1e\x00"  # MQTT 5, clean start, 30 s, no properties
PROPERTIES = b"\x01\x01\x03" + text("application/json")
PING = packet(0xC0, b"")


class Pole:
    """One connection. Sends what it is told, counts the acknowledgements."""

    def __init__(self, number: int, port: int) -> None:
        self.name = f"load-{number:05}"
        self.seq = 0
        self.unanswered = 0
        self.is_connected = False
        self._incoming = b""
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(packet(0x10, text("MQTT") + CONNECT_FLAGS + text(self.name)))
        self.socket.setblocking(False)

    def send(self, data: bytes) -> None:
        """A few hundred bytes always fit: the broker answers before more are sent."""
        self.socket.sendall(data)

    def publish(self, topic: str, payload: bytes) -> None:
        """QoS 1."""
        self.unanswered += 1
        number = self.seq % 60_000 + 1
        body = text(topic) + number.to_bytes(2, "big") + bytes([len(PROPERTIES)]) + PROPERTIES + payload
        self.send(packet(0x32, body))

    def hear(self) -> int:
        """Take in what came; how many messages were acknowledged."""
        data = self.socket.recv(4096)
        if not data:
            raise SystemExit(f"{self.name}: the broker closed the connection")
        self._incoming += data
        acknowledged = 0
        while len(self._incoming) >= 2 and len(self._incoming) >= 2 + self._incoming[1]:  # answers are short
            kind, end = self._incoming[0] & 0xF0, 2 + self._incoming[1]
            if kind == 0x20:
                self.is_connected = True
            elif kind == 0x40:
                acknowledged += 1
            self._incoming = self._incoming[end:]
        self.unanswered -= acknowledged
        return acknowledged


class Poles:
    """Many poles on one thread."""

    def __init__(self, count: int, port: int) -> None:
        self._selector = selectors.EpollSelector()
        self.poles: list[Pole] = []
        flow = published(a_window(), 1, device="load-00000").payload
        self._flow = flow.replace(b'/7f3a91c2/1"', b'/7f3a91c2/%d"').replace(b'"seq":1,', b'"seq":%d,')
        self._flow = self._flow.replace(b"load-00000", b"%s")
        for number in range(count):
            pole = Pole(number, port)
            self.poles.append(pole)
            self._selector.register(pole.socket, selectors.EVENT_READ, pole)
            if number % AT_ONCE == AT_ONCE - 1 or number == count - 1:
                while not all(each.is_connected for each in self.poles[-AT_ONCE:]):
                    self.turn(1.0)

    def window(self, pole: Pole) -> None:
        """The next window of a pole."""
        pole.seq += 1
        name = pole.name.encode()
        payload = self._flow % (name, pole.seq, name, pole.seq)
        pole.publish(f"snellius/1/{CITY}/{pole.name}/flow/forward", payload)

    def health(self, pole: Pole) -> None:
        """That it works."""
        now = "2026-11-23T06:30:00Z"
        told = Health.model_validate(
            {
                "device": pole.name, "epoch": "7f3a91c2", "time": now, "uptime_s": 1, "clock": ClockState.SYNCED,
                "coverage": {"since": now, "share": 1.0},
            }
        )  # fmt: skip
        pole.publish(f"snellius/1/{CITY}/{pole.name}/health", told.encode())

    def turn(self, timeout_s: float) -> int:
        """Wait for answers; how many messages were acknowledged."""
        return sum(key.data.hear() for key, _ in self._selector.select(timeout_s))

    def close(self) -> None:
        """Hang up."""
        for pole in self.poles:
            pole.socket.close()
        self._selector.close()


def ordinary(poles: Poles, seconds: float) -> int:
    """An ordinary day for some seconds; how many messages (without pings) were sent."""
    plan: list[tuple[float, Callable[[Pole], None]]] = [
        (WINDOWS_S / WINDOWS_A_POLE, poles.window),
        (HEALTH_S, poles.health),
        (PING_S, lambda pole: pole.send(PING)),
    ]
    count, sent = len(poles.poles), 0
    began_s = time.monotonic()
    done = [0] * len(plan)
    while (passed_s := time.monotonic() - began_s) < seconds:
        for index, (every_s, act) in enumerate(plan):
            while done[index] < passed_s * count / every_s:
                act(poles.poles[done[index] % count])
                done[index] += 1
                sent += index < 2
        poles.turn(0.01)
    return sent


def rush(poles: Poles, messages: int) -> None:
    """So many windows, by turns, each pole with at most one unanswered, as a pole on its line."""
    left, flying, number = messages, 0, 0
    while left or flying:
        while left and flying < len(poles.poles) and flying < 2000:
            pole = poles.poles[number % len(poles.poles)]
            if pole.unanswered:
                break
            poles.window(pole)
            number, left, flying = number + 1, left - 1, flying + 1
        flying -= poles.turn(0.05)


# ---------------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Watched:
    """Processes whose CPU is counted, by name."""

    broker: int
    database: int
    subscribers: int

    def cpu_s(self) -> dict[str, float]:
        """CPU time since each began. [s]"""
        return {
            "broker": _cpu_s(self.broker),
            "subscriber": _tree_cpu_s(self.subscribers),
            "database": _tree_cpu_s(self.database),
            "poles": time.process_time(),
        }


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _cpu_s(pid: int) -> float:
    user, system = _stat(pid)[11:13]
    return (int(user) + int(system)) / TICKS


def _tree_cpu_s(pid: int) -> float:
    """A process, its children that live, and those that it has buried."""
    total = sum(int(part) for part in _stat(pid)[11:15]) / TICKS
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        total += _tree_cpu_s(int(child))
    return total


@contextmanager
def subscriber(broker: Mosquitto, url: str, workers: int, log: Path) -> Iterator[int]:
    """`snellius subscribe run`; its process id."""
    program = Path(sys.executable).with_name("snellius")
    asked = [str(program), "subscribe", "run", "--broker", broker.url, "--store", url, "--workers", str(workers),
             "--no-repair"]  # fmt: skip
    with log.open("wb") as written:
        process = subprocess.Popen(asked, stderr=written, start_new_session=True)
    try:
        eventually(lambda: log.read_text().count("listening") >= workers, 120, "the subscriber listens")
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def measure(count: int, *, workers: int, seconds: float, messages: int, server: PostgreSql) -> dict[str, Any]:
    """Both phases for a number of poles."""
    url = server.new_database()
    postmaster = int((server.folder / "postmaster.pid").read_text().split()[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            Mosquitto(folder / "mosquitto", config="max_queued_messages 0") as broker,
            subscriber(broker, url, workers, folder / "log") as pid,
            psycopg.connect(url, autocommit=True) as watching,
        ):

            def stored() -> int:
                row = watching.execute("SELECT COUNT(*) FROM message").fetchone()
                assert row is not None
                return int(row[0])

            watched = Watched(broker.pid, postmaster, pid)
            began_s = time.monotonic()
            poles = Poles(count, broker.port)
            connected_s = time.monotonic() - began_s
            before, began_s = watched.cpu_s(), time.monotonic()
            sent = ordinary(poles, seconds)
            passed_s, after = time.monotonic() - began_s, watched.cpu_s()
            windows = sum(pole.seq for pole in poles.poles)
            eventually(lambda: stored() == windows, 120, "the windows of the ordinary day are stored")
            quiet = {
                "messages_per_s": sent / passed_s,
                "cpu_percent": {who: 100 * (after[who] - before[who]) / passed_s for who in before},
            }
            before, began_s = watched.cpu_s(), time.monotonic()
            rush(poles, messages)
            sent_s = time.monotonic() - began_s
            eventually(lambda: stored() == windows + messages, LONGEST_S, "every window is stored")
            passed_s, after = time.monotonic() - began_s, watched.cpu_s()
            memory_kb = int(Path(f"/proc/{broker.pid}/statm").read_text().split()[1]) * resource.getpagesize() // 1024
            poles.close()
    return {
        "poles": count,
        "workers": workers,
        "connected_s": connected_s,
        "ordinary": quiet,
        "rush": {
            "messages": messages,
            "sent_per_s": messages / sent_s,
            "stored_per_s": messages / passed_s,
            "cpu_ms_per_1000": {who: 1e6 * (after[who] - before[who]) / messages for who in before},
        },
        "broker_memory_mb": memory_kb / 1024,
    }


def _cell(phase: str, what: str, who: str, form: str) -> Callable[[dict[str, Any]], str]:
    return lambda each: form.format(each[phase][what][who])


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table("", *(f"{each['poles']:,} poles, {each['workers']} workers" for each in results), box=None)
    whos = ("broker", "subscriber", "database", "poles")
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("ordinary day: messages/s", lambda each: f"{each['ordinary']['messages_per_s']:.1f}"),
        *((f"  CPU of {who}, % of a core", _cell("ordinary", "cpu_percent", who, "{:.1f}")) for who in whos),
        ("rush: messages/s taken by the broker", lambda each: f"{each['rush']['sent_per_s']:,.0f}"),
        ("rush: messages/s until stored", lambda each: f"{each['rush']['stored_per_s']:,.0f}"),
        *((f"  CPU of {who}, ms a 1,000 messages", _cell("rush", "cpu_ms_per_1000", who, "{:,.0f}")) for who in whos),
        ("memory of the broker, MB", lambda each: f"{each['broker_memory_mb']:.0f}"),
        ("all poles connected after, s", lambda each: f"{each['connected_s']:.1f}"),
    ]
    for name, told in rows:
        table.add_row(name, *(told(each) for each in results))
    return table


def main() -> None:
    """Measures each number of poles and prints the table."""
    parser = argparse.ArgumentParser(description="Load on broker, subscriber and database.")
    parser.add_argument("--poles", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max(chosen.poles) + 500
    if hard < needed:
        raise SystemExit(f"{needed} open files are needed, this computer allows {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))  # the broker inherits it
    results = []
    with postgresql(settings=DURABLE) as server:
        for count in chosen.poles:
            results.append(
                measure(count, workers=chosen.workers, seconds=chosen.seconds, messages=chosen.messages, server=server)
            )
            Console(stderr=True).print(f"{count} poles measured")
    Console(width=140).print(_table(results))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
