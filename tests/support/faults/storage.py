"""Faults of the card: full, read-only, damaged."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from edge.outbox import LEAST_BYTES, Outbox
from tests.support.builders import S, utc_ns
from tests.support.disks import Card, memory_disk, why_no_mounts
from tests.support.faults.broker import fill, impatient
from tests.support.faults.outcome import PATIENCE_S, Outcome
from tests.support.faults.traffic import cars, directions, utc_s
from tests.support.mosquitto import Mosquitto, Subscriber, broker_away, eventually
from tests.support.received import Received, all_well, told
from tests.support.simulated import SimulatedClock, SimulatedStreet, a_device

FULL_AFTER_H = 2.0  # of the day: then somebody else's file takes what is left of the disk
DISK_BYTES = 3 * 1024 * 1024
CHECKED_S = 130.0  # two checkpoints: by then the device has tried to write
UNWRITABLE = "outbox_unwritable"


def disk_full(folder: Path, *, hours: float = 24.0, is_real: bool = True) -> Outcome:
    """No broker, a street with a window every minute, and a disk that is full for a day.

    A real one is a tmpfs of a megabyte of which another file takes what is left; else the size limit of the outbox is
    as small as it may be.
    """
    clock = SimulatedClock()
    traffic = cars(hours, every_s=20.0)
    reason = why_no_mounts() if is_real else None
    has_disk = is_real and reason is None
    street = SimulatedStreet(iter(traffic), clock, until_s=hours * 3600)
    with ExitStack() as stack:
        broker, platform = stack.enter_context(broker_away(folder / "broker", "snellius-lab/#"))
        place = folder / "disk"
        if has_disk:
            stack.enter_context(memory_disk(place, DISK_BYTES))
        else:
            place.mkdir()
        device, run = stack.enter_context(
            a_device(
                place,
                street,
                clock,
                url=broker.url,
                lab_slot_s=60,
                max_bytes=None if has_disk else LEAST_BYTES + 4096,
                drain_s=PATIENCE_S,
            )
        )
        device.publisher._records_per_s = 1e6
        stack.enter_context(impatient())
        free_b: list[int] = []

        def look(at_s: float, stop: threading.Event) -> None:
            if has_disk and at_s >= FULL_AFTER_H * 3600 and not free_b:
                free_b.append(_fill_up(place))
            if at_s >= hours * 3600 - 60 and not broker.is_running:
                broker.start()
                told(platform, "outbox_full", within_s=PATIENCE_S)

        run(look)
        joined = device.outbox.given_way
        eventually(lambda: device.outbox.inventory().waiting == 0, PATIENCE_S)
        began_s = time.monotonic()
        eventually(lambda: Received(platform).vehicles() >= len(traffic), PATIENCE_S, "every vehicle")
        received = Received(platform)
        healthy_s = time.monotonic() - began_s
    newest = max(received.windows, key=lambda each: str(each["window"]["end"]))
    passed = directions(traffic)
    arrived = {name: received.vehicles(name) for name in passed}
    how = "size limit" if not is_real else "no right to mount, size limit" if reason else "tmpfs of 3 MB, really full"
    return Outcome(
        f"disk full for {hours:.0f} hours ({how})",
        f"waiting windows joined {joined} times"
        + (f"; {free_b[0]:,} B were left when another file took the rest" if free_b else ""),
        f"{received.story}; "
        + ", ".join(f"{arrived[name]} of {n} vehicles {name}" for name, n in passed.items())
        + f" in {len(received.windows)} windows, {received.flags['compacted']} of them joined,"
        f" the newest {'joined' if 'compacted' in newest['quality']['flags'] else 'whole'}",
        None,
        arrived == passed
        and any("outbox_full" in each["reasons"] for each in received.statuses)
        and "compacted" not in newest["quality"]["flags"]
        and received.flags["compacted"] > 0
        and healthy_s < PATIENCE_S,
    )


def _fill_up(place: Path) -> int:
    """Take what is left of a disk; how much that was. [B]"""
    taken = 0
    with suppress(OSError), (place / "somebody-elses-log").open("wb", buffering=0) as log:
        while True:
            taken += log.write(bytes(4096))
    return taken


def read_only(folder: Path) -> Outcome:
    """For half an hour nobody may write: the kernel has made a failing card read-only, then it is mended."""
    clock = SimulatedClock()
    traffic = cars(2.0)
    fails_s, mended_s = 1800.0, 3600.0
    reason = why_no_mounts()
    done: set[str] = set()
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(folder / "broker"))
        platform = stack.enter_context(Subscriber(broker.port, "snellius-lab/#"))
        card: Card | _Refusing = stack.enter_context(Card(folder / "card") if reason is None else _Refusing())
        place = card.folder if isinstance(card, Card) else folder
        device, run = stack.enter_context(
            a_device(
                place,
                SimulatedStreet(iter(traffic), clock, until_s=7200),
                clock,
                url=broker.url,
                lab_slot_s=60,
                drain_s=PATIENCE_S,
            )
        )
        device.publisher._records_per_s = 1e6

        def once(name: str, do: Any) -> None:
            if name not in done:
                done.add(name)
                do()

        def look(at_s: float, stop: threading.Event) -> None:
            if at_s >= fails_s:
                once("fails", card.fail)
            if at_s >= fails_s + CHECKED_S:
                once("told", lambda: told(platform, UNWRITABLE, within_s=PATIENCE_S))
            if at_s >= mended_s:
                once("mended", card.mend)
            if at_s >= mended_s + CHECKED_S:
                once("well", lambda: all_well(platform, within_s=PATIENCE_S))

        run(look)
        eventually(lambda: Received(platform).vehicles() >= len(traffic), PATIENCE_S, "every vehicle")
        received = Received(platform)
    spells = [each for each in received.statuses if each["state"] in ("ready", "degraded")]
    begin_s = clock.ahead_ns / S
    told_s = [utc_s(each["since"]) - begin_s for each in spells if UNWRITABLE in each["reasons"]]
    well_s = [utc_s(each["since"]) - begin_s for each in spells if not each["reasons"]]
    healthy_s = min((at_s for at_s in well_s if at_s >= mended_s), default=None)
    how = "a real ext4 made read-only by its kernel" if reason is None else "no right to mount: the error is injected"
    return Outcome(
        f"disk read-only for half an hour ({how})",
        f"said so {min(told_s, default=float('nan')) - fails_s:.0f} s after it, went on in memory;"
        f" afterwards {'the same' if device.outbox.set_aside is None else 'a new'} file",
        f"{received.story}; {received.vehicles()} of {len(traffic)} vehicles, {received.twice} messages twice",
        None if healthy_s is None else healthy_s - mended_s,
        received.vehicles() == len(traffic) and bool(told_s) and healthy_s is not None and len(received.epochs) == 1,
    )


class _Refusing:
    """Stands in for a card where nothing may be mounted: every transaction is refused."""

    def __enter__(self) -> _Refusing:
        self._real = Outbox._transact
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()

    def fail(self) -> None:
        def refusing(self: Outbox, change: Any, pages: int) -> Any:
            raise sqlite3.OperationalError("attempt to write a readonly database")

        Outbox._transact = refusing  # type: ignore[method-assign]

    def mend(self) -> None:
        Outbox._transact = self._real  # type: ignore[method-assign]


def corrupt(folder: Path, *, times: int = 40, n: int = 40) -> Outcome:
    """Bytes of the database flip while the device is off; then it is switched on."""
    chance = random.Random(7)
    anew = unharmed = taken_over = 0
    refused: list[str] = []
    lies: list[str] = []
    stories: set[str] = set()
    slowest_s = 0.0
    with Mosquitto(folder / "broker") as broker:
        for number in range(times):
            place = folder / str(number)
            place.mkdir(parents=True)
            path = place / "outbox.sqlite"
            with Outbox(path) as outbox:
                fill(outbox, n)
                outbox.checkpoint({"next_ordinal": 1, "slots": []})
                epoch = outbox.epoch
            body = bytearray(path.read_bytes())
            for _ in range(chance.choice((1, 8, 64))):
                body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
            path.write_bytes(body)
            with Subscriber(broker.port, "snellius/#", client_id=f"platform-{number}") as platform:
                began_s = time.monotonic()
                try:
                    waited = _switched_on(place, broker, platform)
                except Exception as error:  # noqa: BLE001  # counted: the promise is that it opens
                    refused.append(repr(error))
                    continue
                slowest_s = max(slowest_s, time.monotonic() - began_s)
                received = Received(platform, is_new=True)
            starts = {each["window"]["start"] for each in received.windows}
            if len(starts) != len(received.windows) or len(received.windows) != waited:
                lies.append(f"{number}: {len(starts)} windows of {waited}")
            if received.epochs == {epoch}:
                unharmed += 1
                lies += [f"{number}: {len(starts)} of {n} windows, same epoch"] if len(starts) != n else []
            else:
                anew += 1
                taken_over += len(starts)
                stories.add(received.story)
                lies += [] if "outbox_new" in received.story and epoch not in received.epochs else [received.story]
    return Outcome(
        f"database damaged, {times} times",
        f"{anew} files set aside, {unharmed} went on as they were, {len(refused)} kept it from starting"
        + (f" ({refused[0]})" if refused else ""),
        f"{anew} new epochs with {taken_over} of their {anew * n} windows: {'; '.join(sorted(stories))};"
        f" {unharmed} old epochs with all {n} windows each; {len(lies)} contradictions"
        + (f" ({lies[0]})" if lies else ""),
        slowest_s,
        not refused and not lies and anew > 0,
    )


def _switched_on(place: Path, broker: Mosquitto, platform: Subscriber) -> int:
    """The service on what the folder holds, until the platform has heard how it is and what waited; how much did."""
    clock = SimulatedClock(begin_utc_ns=utc_ns("2026-12-24T00:00:00Z"))
    street = SimulatedStreet((), clock, until_s=3.0)
    with a_device(place, street, clock, url=broker.url, lab_slot_s=None) as (device, run):
        device.publisher._records_per_s = 1e6
        waiting = device.outbox.inventory().waiting

        def look(at_s: float, stop: threading.Event) -> None:
            if at_s >= 2.0:
                eventually(lambda: _has_all(platform, waiting), PATIENCE_S, "status and windows")
                stop.set()

        run(look)
    return waiting


def _has_all(platform: Subscriber, waiting: int) -> bool:
    received = Received(platform, is_new=True)
    is_told = received.state is not None and "starting" not in received.reasons
    return is_told and len(received.records) >= waiting
