"""kill -9 of the service, again and again, at the worst moments, and an account of what it may and may not lose.

Each life of the device is a process of its own that kills itself, or is killed: at a chosen SQL statement (a start of
every statement is a chosen point, COMMIT and the emptying of the journal among them), some microseconds into a COMMIT,
or at any time. Over a pipe it tells what it does as it does it, so the account does not rest on its own files:

- a passage is *kept* when a checkpoint that began after it has returned, or when its slot has been settled and
  committed;
- what was begun and not finished at the kill may be kept or not, as a whole; which of the two is asked of the file.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.units import kmh_from_mps
from edge.domain import Direction, Passage, Settlement, SpeedHistogram, WindowAggregate
from edge.outbox import Outbox
from tests.support.builders import BINNING, S
from tests.support.mosquitto import Mosquitto, Subscriber, eventually
from tests.support.simulated import REPORTED_AFTER_S, SimulatedClock, SimulatedStreet, a_device, measured_of
from tests.support.traffic import passages

CHECKPOINT_S = 60.0
DOWN_S = 20.0  # until systemd has started it again and the camera is open
TELL_S = 10.0
SIM_S_PER_LIFE = 1210.0
LAST_S = 1800.0  # without traffic, so that the last delays run out

Counts = Counter[tuple[str, int]]  # measured vehicles by direction and bin


@dataclass
class Account:
    """What was told, life after life."""

    kept: Counts = field(default_factory=Counter)
    kills: int = 0
    kills_in_a_write: int = 0
    undecided: list[str] = field(default_factory=list)  # contradictions between account and file
    watched_s: float = 0.0
    passed: int = 0


@dataclass(frozen=True)
class Verdict:
    """What became of a week.

    Attributes:
        account: The account.
        arrived: What the platform has, each (epoch, seq) once.
        remaining: What is carried on the device, for a window that is not complete.
        doubles: Messages that came twice with the same number.
        holes: Numbers that are missing.
        coverage_lost_s: Watched time that no window tells of. [s]
    """

    account: Account
    arrived: Counts
    remaining: Counts
    doubles: int
    holes: int
    coverage_lost_s: float

    @property
    def lost(self) -> int:
        """Kept vehicles that are nowhere."""
        return (self.account.kept - (self.arrived + self.remaining)).total()

    @property
    def double(self) -> int:
        """Vehicles that are told or carried more often than they passed."""
        return ((self.arrived + self.remaining) - self.account.kept).total()

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        least = not self.lost and not self.double and not self.account.undecided and not self.holes
        return least and self.coverage_lost_s <= self.account.kills * (CHECKPOINT_S + TELL_S + REPORTED_AFTER_S)


class Life:
    """One life of the device, in a child process, and what it told of itself.

    Args:
        folder: Holds the outbox.
        url: Of the broker.
        traffic: All of it, in order of time.
        begin_s: Begin of this life in the simulated week. [s]
        until_s: Its end, when nobody kills it. [s]
        chance: Draws how it dies; None: it lives.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        traffic: Sequence[Passage],
        *,
        begin_s: float,
        until_s: float,
        chance: random.Random | None,
    ) -> None:
        self._traffic = traffic
        self.begin_s = self.end_s = begin_s
        how = chance.choice(("statement", "commit", "time")) if chance else None
        draw = chance.random() if chance else 0.0
        number = chance.randrange(1, 160) if chance else 0
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(read)
                _live(folder, url, traffic, begin_s, until_s, write, how=how, number=number, draw=draw)
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        if how == "time":
            threading.Timer(0.05 + 1.5 * draw, _kill, (child,)).start()
        with os.fdopen(read, "r") as told:
            self.told = [json.loads(line) for line in told if line.endswith("\n")]
        _, status = os.waitpid(child, 0)
        self.was_killed = os.WIFSIGNALED(status)
        self.failed = not self.was_killed and os.WEXITSTATUS(status) != 0
        for kind, *what in self.told:
            if kind == "t":
                self.end_s = max(self.end_s, what[0])
            elif kind == "p":
                self.end_s = max(self.end_s, traffic[what[0]].middle_ns / S + REPORTED_AFTER_S)

    def kept(self) -> tuple[set[int], set[int]]:
        """Numbers of the passages that are kept for certain, and of those that may be."""
        passed: list[int] = []
        certain: set[int] = set()
        begun: set[int] = set()
        for kind, *what in self.told:
            if kind == "p":
                passed.append(what[0])
            elif kind == "c":
                begun = set(passed)
            elif kind == "s":
                direction, end_ns = what
                begun = {
                    number
                    for number in passed
                    if self._traffic[number].direction.value == direction and self._traffic[number].middle_ns < end_ns
                }
            elif kind == "done":
                certain |= begun
                begun = set()
        return certain, begun - certain


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _live(
    folder: Path,
    url: str,
    traffic: Sequence[Passage],
    begin_s: float,
    until_s: float,
    pipe: int,
    *,
    how: str | None,
    number: int,
    draw: float,
) -> None:
    """The child: a device that tells what it does, and may die of it."""

    def tell(*what: Any) -> None:
        os.write(pipe, (json.dumps(what) + "\n").encode())

    numbers = {id(passage): place for place, passage in enumerate(traffic)}
    clock = SimulatedClock(begin_utc_ns=_begin_utc_ns())
    clock.now_ns = round(begin_s * S)
    street = SimulatedStreet(
        (passage for passage in traffic if passage.middle_ns >= begin_s * S), clock, begin_s=begin_s, until_s=until_s
    )
    with a_device(folder, street, clock, url=url, lab_slot_s=None, checkpoint_s=CHECKPOINT_S) as (device, run):
        device.publisher._records_per_s = 1000.0
        device.publisher._first_retry_s = 0.2
        _die_at(device.outbox, how, number, draw)
        _tell_of(device, tell, numbers, clock)
        told_s = begin_s

        def look(at_s: float, stop: threading.Event) -> None:
            nonlocal told_s
            if at_s - told_s >= TELL_S:
                told_s = at_s
                tell("t", at_s)
            if how is not None and at_s >= until_s - 1:  # nothing else has killed it
                os.kill(os.getpid(), signal.SIGKILL)
            if how is None and at_s >= until_s - 1:
                deadline_s = time.monotonic() + 120
                while device.outbox.inventory().waiting and time.monotonic() < deadline_s:
                    device.publisher.drain(0.5)
                stop.set()

        run(look)


def _begin_utc_ns() -> int:
    from tests.support.builders import utc_ns

    return utc_ns("2026-11-23T00:00:00Z")


def _tell_of(device: Any, tell: Any, numbers: dict[int, int], clock: SimulatedClock) -> None:
    add, settle = device.windows.add, device.anonymity.settle
    commit, checkpoint = device.outbox.commit, device.outbox.checkpoint
    taken_in: list[WindowAggregate] = []

    def adding(passage: Passage) -> None:
        add(passage)
        if passage.speed is not None and passage.road_user.is_motor:
            tell("p", numbers[id(passage)])

    def settling(aggregate: WindowAggregate) -> Settlement:
        taken_in[:] = [aggregate]
        return settle(aggregate)  # type: ignore[no-any-return]

    def committing(settlement: Settlement) -> None:
        tell("s", taken_in[0].direction.value, taken_in[0].end_utc_ns - clock.ahead_ns)
        commit(settlement)
        tell("done")

    def keeping(*states: Any) -> None:
        tell("c")
        checkpoint(*states)
        tell("done")

    device.windows.add = adding
    device.anonymity.settle = settling
    device.outbox.commit = committing
    device.outbox.checkpoint = keeping


def _die_at(outbox: Outbox, how: str | None, number: int, draw: float) -> None:
    """Arrange the death: at the n-th statement, or a moment after the n-th COMMIT has begun."""
    seen = 0

    def statement(text: str) -> None:
        nonlocal seen
        if how == "commit" and text != "COMMIT":
            return
        seen += 1
        if how == "statement" and seen == number:
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "commit" and seen == 1 + number // 4:
            threading.Thread(target=_die_soon, args=(0.006 * draw,), daemon=True).start()

    if how in ("statement", "commit"):
        outbox._database.set_trace_callback(statement)


def _die_soon(wait_s: float) -> None:
    time.sleep(wait_s)
    os.kill(os.getpid(), signal.SIGKILL)


class CountsOnDisk:
    """What the file of the outbox holds; rows of the queue never change their counts, so each is read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queued: Counts = Counter()
        self._watched_ns = 0
        self._row = 0

    def counts(self) -> tuple[Counts, Counts, float]:
        """Everything, of that what is not queued yet, and the watched time in all of it (of one direction). [s]"""
        database = sqlite3.connect(self._path, timeout=10)
        try:
            rows = database.execute("SELECT row, body FROM queue WHERE row > ? ORDER BY row", (self._row,)).fetchall()
            bodies = {name: json.loads(body) for name, body in database.execute("SELECT name, body FROM counters")}
        finally:
            database.close()
        for row, body in rows:
            self._row = row
            plain = json.loads(body)
            if plain["kind"] == "flow":
                self._queued += _counted(plain["record"])
                self._watched_ns += _forward(plain["record"])
        carried: Counts = Counter()
        watched_ns = self._watched_ns
        settled = bodies.get("anonymity", {}).get("settled", {})
        for tiling in bodies.get("anonymity", {}).get("tilings", {}).values():
            for name in ("accumulator", "pending"):
                if tiling[name] is not None:
                    carried += _counted(tiling[name])
                    watched_ns += _forward(tiling[name])
        for slot in bodies.get("windows", {}).get("slots", []):
            for aggregate in slot["aggregates"]:
                if aggregate["slot"] > settled.get(aggregate["direction"], 0):
                    carried += _counted(aggregate)
                    watched_ns += _forward(aggregate)
        return self._queued + carried, carried, watched_ns / S


def _counted(plain: dict[str, Any]) -> Counts:
    return Counter({(plain["direction"], edge): count for edge, count in measured_of(plain).items()})


def _forward(plain: dict[str, Any]) -> int:
    return int(plain["watched_ns"]) if plain["direction"] == Direction.FORWARD.value else 0


def _one(passage: Passage) -> Counts:
    assert passage.speed is not None
    histogram = SpeedHistogram.of([round(kmh_from_mps(passage.speed.speed_mps), 9)], BINNING)
    plain = {"direction": passage.direction.value, "histogram": histogram.as_plain()}
    return _counted(plain)


def lives(
    folder: Path,
    broker: Mosquitto,
    account: Account,
    *,
    days: float,
    seed: int,
    file: CountsOnDisk,
    traffic: list[Passage],
) -> Iterator[float]:
    """Lives and deaths until the days are over; yields the simulated instant after each. [s]"""
    chance = random.Random(seed)
    now_s = 0.0
    while now_s < days * 86_400:
        life = Life(folder, broker.url, traffic, begin_s=now_s, until_s=now_s + SIM_S_PER_LIFE, chance=chance)
        assert life.was_killed, f"a life at {now_s:.0f} s ended by itself: {life.told[-3:]}"
        certain, perhaps = life.kept()
        _settle_account(account, life, certain, perhaps, file)
        now_s = life.end_s + DOWN_S
        yield now_s


def _settle_account(account: Account, life: Life, certain: set[int], perhaps: set[int], file: CountsOnDisk) -> None:
    traffic = life._traffic
    sure = account.kept + sum((_one(traffic[number]) for number in certain), Counter())
    more = sure + sum((_one(traffic[number]) for number in perhaps), Counter())
    account.kills += life.was_killed
    last = next((kind for kind, *_ in reversed(life.told) if kind != "t"), None)
    account.kills_in_a_write += last in ("c", "s") and life.was_killed
    account.watched_s += max(life.end_s - life.begin_s, 0.0)
    account.passed += sum(kind == "p" for kind, *_ in life.told)
    found, _, _ = file.counts()
    if found == sure:
        account.kept = sure
    elif found == more:
        account.kept = more
    else:
        account.undecided.append(
            f"life from {life.begin_s:.0f} s: the file holds {found.total()}, expected {sure.total()} or {more.total()}"
        )
        account.kept = found


def a_week_of_kills(
    folder: Path, *, days: float = 7.0, motor_a_day: int = 1500, seed: int = 1, say: Any = None
) -> Verdict:
    """Kills a device again and again through days of traffic, then compares the platform with the account.

    Args:
        folder: For everything.
        days: Of traffic.
        motor_a_day: Motor vehicles on an average day.
        seed: Of traffic and deaths.
        say: Told the simulated hours and the kills so far.
    """
    traffic = [
        passage
        for _, passage in passages(first_day="2026-11-23", days=int(days) + 1, motor_a_day=motor_a_day, seed=seed)
    ]
    account, file = Account(), CountsOnDisk(folder / "outbox.sqlite")
    with Mosquitto(folder / "broker", persistent=True) as broker, Subscriber(broker.port, "snellius/#") as platform:
        now_s = 0.0
        for now_s in lives(folder, broker, account, days=days, seed=seed, file=file, traffic=traffic):
            if say is not None:
                say(now_s / 3600, account.kills)
        none: list[Passage] = []
        last = Life(folder, broker.url, none, begin_s=now_s, until_s=now_s + LAST_S, chance=None)
        assert not last.failed, last.told[-3:]
        account.watched_s += last.end_s - last.begin_s
        found, carried, watched_s = file.counts()
        if found != account.kept:
            account.undecided.append(f"at the end the file holds {found.total()}, expected {account.kept.total()}")
        expected = found.total() - carried.total()
        with suppress(BaseException):
            eventually(lambda: _merged(platform)[0].total() >= expected, within_s=30)
        arrived, doubles, holes = _merged(platform)
    return Verdict(account, arrived, carried, doubles, holes, account.watched_s - watched_s)


def _merged(platform: Subscriber) -> tuple[Counts, int, int]:
    """What the platform has, each (epoch, seq) once; messages that came twice; numbers that are missing."""
    arrived: Counts = Counter()
    seen: set[tuple[str, int]] = set()
    doubles = 0
    for message in list(platform.messages):
        if "/flow/" not in message.topic and not message.topic.endswith("/mix"):
            continue
        plain = json.loads(message.payload)
        name = (plain["epoch"], plain["seq"])
        if name in seen:
            doubles += 1
            continue
        seen.add(name)
        if "/flow/" in message.topic:
            histogram = plain["speed"]["hist"]
            arrived += _counted({"direction": plain["direction"], "histogram": histogram})
    highest = {epoch: max(seq for other, seq in seen if other == epoch) for epoch in {epoch for epoch, _ in seen}}
    return arrived, doubles, sum(highest.values()) - len(seen)
