"""Faults that a pole meets, one function each: what happened, what the platform saw, how long until all was well.

Real mosquitto, real subscriber, real sockets and files, everything on the loopback interface. The short form is part of
the tests, the long form is ``python -m benchmarks.chaos``.
"""

from __future__ import annotations

import json
import random
import resource
import socket
import sqlite3
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edge.publish.connection
import edge.publish.mqtt
from edge.clock import ClockState
from edge.domain import CameraState, Direction, Flag, Passage, PrivacyRule, Release, Settlement, WindowAggregate
from edge.outbox import LEAST_BYTES, Outbox
from edge.publish import Native, Publisher
from edge.publish.payload import StatusReason
from edge.sources.opening import open_source
from tests.support.builders import MORNING, S, a_passage, a_window, utc_ns
from tests.support.kills import a_week_of_kills
from tests.support.mosquitto import HOST, Mosquitto, Subscriber, eventually
from tests.support.proxy import Proxy
from tests.support.released import DEVICE, a_meta, a_status
from tests.support.rtsp import RtspServer
from tests.support.simulated import SimulatedClock, SimulatedStreet, a_device, held

PATIENCE_S = 180.0  # for anything that is waited for, on a busy computer
CARS_A_WINDOW = 12


@dataclass(frozen=True)
class Outcome:
    """One line of the table.

    Attributes:
        fault: What went wrong.
        happened: What the device did.
        platform: What the platform saw.
        healthy_s: From the end of the fault until all was well; None where the fault does not end. [s]
        holds: Whether the promise was kept.
    """

    fault: str
    happened: str
    platform: str
    healthy_s: float | None
    holds: bool


# ------------------------------------------------------------------------------------------------- a queue and a broker


@contextmanager
def a_publisher(
    folder: Path, url: str, *, records_per_s: float = 1000.0, **how: Any
) -> Iterator[tuple[Outbox, Publisher]]:
    """An outbox and its publisher, retrying soon so that the waiting is not measured."""
    with Outbox(folder / "outbox.sqlite") as outbox:
        publisher = Publisher(
            queue=outbox,
            native=Native(city="hilversum", device=DEVICE, site="hvs-snelliuslaan-12"),
            meta=a_meta().model_copy(update={"epoch": outbox.epoch}),
            status=a_status().model_copy(update={"epoch": outbox.epoch}),
            url=url,
            first_retry_s=0.5,
            refused_retry_s=1.0,
            records_per_s=records_per_s,
            **how,
        )
        publisher.start()
        try:
            yield outbox, publisher
        finally:
            publisher.stop()


def fill(outbox: Outbox, n: int, *, first: int = 0) -> None:
    """Windows of twelve cars, one after the other."""
    plain = a_window(with_mix=False)
    begin_ns = plain.start_utc_ns
    releases = []
    for number in range(first, first + n):
        window = a_window(begin=MORNING, with_mix=False, slot=number + 1)
        shift_ns = number * 900 * S
        window = _shifted(window, shift_ns)
        releases.append(Release(window, 10, PrivacyRule.CARRY_OVER, begin_ns))
    outbox.commit(Settlement(tuple(releases), {}))


def _shifted(window: WindowAggregate, shift_ns: int) -> WindowAggregate:
    from dataclasses import replace

    return replace(window, start_utc_ns=window.start_utc_ns + shift_ns, end_utc_ns=window.end_utc_ns + shift_ns)


def numbers_of(platform: Subscriber) -> list[int]:
    """Numbers of windows in the order of arrival."""
    return [json.loads(message.payload)["seq"] for message in list(platform.messages) if "/flow/" in message.topic]


def _everything(platform: Subscriber, n: int) -> Callable[[], bool]:
    return lambda: set(numbers_of(platform)) == set(range(1, n + 1))


def _memory_mb() -> float:
    """Resident memory now. [MB]"""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _ask_for_holes(platform: Subscriber, n: int) -> int:
    """As a platform would; returns how many were missing."""
    holes = sorted(set(range(1, n + 1)) - set(numbers_of(platform)))
    if holes:
        command = {"from": holes[0], "to": holes[-1]}
        platform.publish(f"snellius/1/hilversum/{DEVICE}/cmd", json.dumps(command).encode())
    return len(holes)


def broker_killed(folder: Path, *, times: int = 3, n: int = 300) -> Outcome:
    """kill -9 of the broker, again and again, while windows go out."""
    slowest_s, missing = 0.0, 0
    with (
        Mosquitto(folder / "broker", persistent=True) as broker,
        Subscriber(broker.port, "snellius/#") as platform,
        a_publisher(folder, broker.url, records_per_s=50.0) as (outbox, _),
    ):
        for number in range(times):
            fill(outbox, n // times, first=number * (n // times))
            before = len(numbers_of(platform))
            eventually(lambda: len(numbers_of(platform)) > before, PATIENCE_S)  # noqa: B023  # called at once
            broker.kill()
            time.sleep(1.0)
            broker.start()
            back_s, had = time.monotonic(), len(numbers_of(platform))
            eventually(lambda: len(numbers_of(platform)) > had, PATIENCE_S)  # noqa: B023
            slowest_s = max(slowest_s, time.monotonic() - back_s)
        all_of_them = n // times * times
        eventually(lambda: outbox.inventory().waiting == 0, PATIENCE_S)
        missing = _ask_for_holes(platform, all_of_them)
        eventually(_everything(platform, all_of_them), PATIENCE_S, "every window")
        arrived = numbers_of(platform)
    return Outcome(
        f"broker: kill -9, {times} times",
        "windows waited in the outbox; reconnected by itself",
        f"{all_of_them} of {all_of_them} windows, {len(arrived) - len(set(arrived))} twice with the same number,"
        f" {missing} asked for again",
        slowest_s,
        set(arrived) == set(range(1, all_of_them + 1)),
    )


def network(folder: Path, kind: str, *, n: int = 60, impatient: bool = True) -> Outcome:
    """A network that resets, cuts, delays, or swallows everything while connections seem to live (half-open)."""
    if kind == "delay":
        n = min(n, 30)
    with ExitStack() as stack:
        if impatient and kind == "half-open":
            stack.enter_context(_patience(answer_s=4.0))
        broker = stack.enter_context(Mosquitto(folder / "broker"))
        platform = stack.enter_context(Subscriber(broker.port, "snellius/#"))
        proxy = stack.enter_context(Proxy(broker.port))
        outbox, publisher = stack.enter_context(
            a_publisher(folder, f"mqtt://{HOST}:{proxy.port}", records_per_s=30.0 if kind != "half-open" else 1000.0)
        )
        fill(outbox, n // 2)
        eventually(lambda: numbers_of(platform), PATIENCE_S)
        if kind == "reset":
            proxy.reset()
        elif kind == "cut":
            proxy.is_down = True
            proxy.cut()
        elif kind == "delay":
            proxy.delay_s = 0.3
        else:
            eventually(lambda: outbox.inventory().waiting == 0, PATIENCE_S)
            proxy.is_swallowing = True
        fill(outbox, n - n // 2, first=n // 2)
        noticed_s = 0.0
        if kind == "half-open":
            began_s = time.monotonic()
            eventually(lambda: not publisher.status.is_connected, PATIENCE_S, "the silence is noticed")
            noticed_s = time.monotonic() - began_s
            proxy.cut()
        elif kind == "cut":
            time.sleep(2.0)
        healed_s = time.monotonic()
        proxy.is_down, proxy.is_swallowing, proxy.delay_s = False, False, 0.0 if kind != "delay" else proxy.delay_s
        eventually(_everything(platform, n), PATIENCE_S, "every window")
        healthy_s = time.monotonic() - healed_s
        arrived = numbers_of(platform)
    words = {
        "reset": "connection reset: connected again",
        "cut": "network down for 2 s: waited and connected again",
        "delay": "300 ms each way: went on, slower",
        "half-open": f"connection open, nothing comes through: given up after {noticed_s:.0f} s, connected again",
    }
    return Outcome(
        f"network: {kind}",
        words[kind],
        f"{n} of {n} windows, {len(arrived) - len(set(arrived))} twice with the same number",
        healthy_s,
        set(arrived) == set(range(1, n + 1)),
    )


@contextmanager
def _patience(*, answer_s: float) -> Iterator[None]:
    """A publisher that gives an answer less time than the minute of a real one."""
    before = edge.publish.mqtt.ANSWER_TIMEOUT_S
    edge.publish.mqtt.ANSWER_TIMEOUT_S = answer_s
    try:
        yield
    finally:
        edge.publish.mqtt.ANSWER_TIMEOUT_S = before


def refused_by_acl(folder: Path, *, n: int = 20) -> Outcome:
    """Rights are missing for the windows, then given."""
    some = f"user {DEVICE}\ntopic readwrite snellius/1/hilversum/{DEVICE}/status\n"
    all_of_it = f"user {DEVICE}\ntopic readwrite snellius/#\nuser platform\ntopic readwrite snellius/#\n"
    with (
        Mosquitto(folder / "broker", acl=some + "user platform\ntopic readwrite snellius/#\n") as broker,
        Subscriber(broker.port, "snellius/#", username="platform") as platform,
        a_publisher(folder, broker.url) as (outbox, publisher),
    ):
        fill(outbox, n)
        eventually(lambda: publisher.status.refused, PATIENCE_S, "a refusal")
        eventually(
            lambda: any(b"broker_refuses" in each.payload for each in platform.on("/status")[-1:]),
            PATIENCE_S,
            "the status says so",
        )
        kept = outbox.inventory().waiting
        broker.set_acl(all_of_it)
        broker.reload()
        given_s = time.monotonic()
        eventually(_everything(platform, n), PATIENCE_S, "every window")
        healthy_s = time.monotonic() - given_s
        eventually(lambda: b"broker_refuses" not in platform.on("/status")[-1].payload, PATIENCE_S)
    return Outcome(
        "broker refuses by access list",
        f"{kept} windows kept and offered again; status broker_refuses, which went away by itself",
        f"nothing, then {n} of {n} windows",
        healthy_s,
        kept == n,
    )


def too_large(folder: Path) -> Outcome:
    """A broker whose largest packet is smaller than a window."""
    with (
        Mosquitto(folder / "small", config="max_packet_size 700") as broker,
        a_publisher(folder, broker.url) as (outbox, publisher),
    ):
        fill(outbox, 3)
        eventually(lambda: publisher.status.refused, PATIENCE_S, "a refusal")
        why = dict(publisher.status.refused)
        kept = outbox.inventory().waiting
    with (
        Mosquitto(folder / "large") as broker,
        Subscriber(broker.port, "snellius/#") as platform,
        a_publisher(folder, broker.url),
    ):
        began_s = time.monotonic()
        eventually(_everything(platform, 3), PATIENCE_S)
        healthy_s = time.monotonic() - began_s
    return Outcome(
        "broker's largest packet is too small",
        f"not sent, {kept} windows kept: {', '.join(why)}",
        "3 of 3 windows after the limit was raised",
        healthy_s,
        kept == 3,
    )


class QuotaBroker:
    """Speaks just enough MQTT 5 to answer every publish with "quota exceeded" (0x97), until told otherwise."""

    def __init__(self) -> None:
        self.is_refusing = True
        self.taken: list[bytes] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, suppress(OSError, IndexError, struct.error):
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        while True:
            kind = stream.read(1)[0]
            length = shift = 0
            while True:
                byte = stream.read(1)[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
            body = stream.read(length)
            if kind >> 4 == 1:  # CONNECT
                client.sendall(bytes([0x20, 3, 0, 0, 0]))
            elif kind >> 4 == 8:  # SUBSCRIBE: grant QoS 1 to each of the topics
                at, granted = 2 + 1 + body[2], 0
                while at < len(body):
                    at += 2 + struct.unpack(">H", body[at : at + 2])[0] + 1
                    granted += 1
                client.sendall(bytes([0x90, 3 + granted]) + body[:2] + b"\0" + b"\1" * granted)
            elif kind >> 4 == 3:  # PUBLISH
                size = struct.unpack(">H", body[:2])[0]
                is_window = b"/flow/" in body[2 : 2 + size]
                number = body[2 + size : 4 + size]
                if is_window and self.is_refusing:
                    client.sendall(bytes([0x40, 4]) + number + bytes([0x97, 0]))
                else:
                    self.taken += [body] if is_window else []
                    client.sendall(bytes([0x40, 2]) + number)
            elif kind >> 4 == 12:  # PINGREQ
                client.sendall(b"\xd0\0")


def over_quota(folder: Path, *, n: int = 8) -> Outcome:
    """A broker that says "quota exceeded" to every window."""
    with closing(QuotaBroker()) as broker, a_publisher(folder, f"mqtt://{HOST}:{broker.port}") as (outbox, publisher):
        fill(outbox, n)
        eventually(lambda: sum(publisher.status.refused.values()) == n, PATIENCE_S, "refusals")
        why, kept = ", ".join(publisher.status.refused), outbox.inventory().waiting
        broker.is_refusing = False
        began_s = time.monotonic()
        eventually(lambda: outbox.inventory().waiting == 0, PATIENCE_S)
        healthy_s = time.monotonic() - began_s
    return Outcome(
        "broker refuses by quota",
        f"{kept} windows kept and offered again: {why}",
        f"nothing, then {len(broker.taken)} of {n} windows",
        healthy_s,
        kept == n == len(broker.taken),
    )


def certificates(folder: Path) -> Outcome:
    """An expired certificate, one of another authority and one of another name; then the right one."""
    folder.mkdir(parents=True, exist_ok=True)
    _make_certificates(folder)
    said = {}
    healthy_s = 0.0
    for name, authority in (("expired", "ca"), ("elsewhere", "ca"), ("broker", "other-ca"), ("broker", "ca")):
        tls = f"cafile {folder}/ca.pem\ncertfile {folder}/{name}.pem\nkeyfile {folder}/{name}.key"
        is_right = (name, authority) == ("broker", "ca")
        with (
            Mosquitto(folder / f"{name}-{authority}", tls=tls) as broker,
            a_publisher(folder, f"mqtts://localhost:{broker.port}", ca_file=folder / f"{authority}.pem") as (
                outbox,
                publisher,
            ),
        ):
            if not is_right:
                eventually(lambda: publisher.status.trouble, PATIENCE_S, "a refusal")
                said[name if authority == "ca" else "authority"] = str(publisher.status.trouble)
                fill(outbox, 1, first=len(said) - 1)
                continue
            began_s = time.monotonic()
            eventually(lambda: outbox.inventory().waiting == 0, PATIENCE_S)
            healthy_s = time.monotonic() - began_s
    reasons = "; ".join(f"“{text.split('refused: ')[-1]}”" for text in said.values())
    return Outcome(
        "certificate expired, of another name, of another authority",
        f"refused, windows kept: {reasons}",
        "3 of 3 windows with the right certificate",
        healthy_s,
        len(said) == 3 and all("certificate" in text for text in said.values()),
    )


def _make_certificates(folder: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    for authority in ("ca", "other-ca"):
        openssl(
            "req",
            "-x509",
            *key,
            "-keyout",
            f"{authority}.key",
            "-out",
            f"{authority}.pem",
            "-subj",
            f"/CN={authority}",
            "-days",
            "30",
        )
    for name, days, alternative in (
        ("broker", "30", "localhost"),
        ("elsewhere", "30", "elsewhere"),
        ("expired", "-1", "localhost"),
    ):
        (folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{alternative}\n")
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={alternative}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", days, "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip


def backlog(folder: Path, *, n: int = 10_000) -> Outcome:
    """So many windows wait, then the broker is there; the pace is lifted, so that the device is what is measured."""
    with Outbox(folder / "outbox.sqlite") as outbox:
        fill(outbox, n)
    with (
        Mosquitto(folder / "broker", config="max_queued_messages 0") as broker,
        Subscriber(broker.port, "snellius/#") as platform,
    ):
        before_mb, began_s = _memory_mb(), time.monotonic()
        with a_publisher(folder, broker.url, records_per_s=1e6) as (outbox, _):
            eventually(lambda: outbox.inventory().waiting == 0, 900)
            sent_s, used_mb = time.monotonic() - began_s, _memory_mb() - before_mb
        eventually(lambda: len(numbers_of(platform)) >= n, PATIENCE_S)
        arrived = numbers_of(platform)
    paced_s = max(n - edge.publish.mqtt.BURST, 0) / edge.publish.mqtt.RECORDS_PER_S
    return Outcome(
        f"{n:,} windows wait",
        f"all sent in {sent_s:.0f} s unpaced (a device takes {paced_s / 60:.0f} min on purpose);"
        f" memory {used_mb:+.0f} MB, this subscriber's included",
        f"{len(arrived):,} windows in order, none twice",
        sent_s,
        arrived == list(range(1, n + 1)),
    )


# ---------------------------------------------------------------------------------------------------- simulated streets


def _cars(hours: float, every_s: float = 40.0) -> list[Passage]:
    """A car every so often, in both directions, at speeds that fill the histogram."""
    chance = random.Random(3)
    return [
        a_passage(
            speed_kmh=max(chance.gauss(31.0, 5.0), 5.0),
            middle_s=5.0 + every_s * number,
            direction=Direction.FORWARD if number % 2 else Direction.BACKWARD,
        )
        for number in range(int((hours * 3600 - 20) / every_s))
    ]


def without_broker(folder: Path, *, hours: float = 72.0) -> Outcome:
    """Nobody to talk to for days; then the broker is there."""
    clock = SimulatedClock()
    cars = _cars(hours)
    memory_mb: list[float] = []

    def look(at_s: float, stop: threading.Event) -> None:
        if at_s % 3600 == 0:
            memory_mb.append(_memory_mb())

    street = SimulatedStreet(iter(cars), clock, until_s=hours * 3600)
    with a_device(folder, street, clock, lab_slot_s=None) as (_, run):
        run(look)
    with Outbox(folder / "outbox.sqlite") as outbox:
        waiting = outbox.inventory().waiting
    grown_mb = memory_mb[-1] - memory_mb[len(memory_mb) // 4]
    with Mosquitto(folder / "broker") as broker, Subscriber(broker.port, "snellius/#") as platform:
        began_s = time.monotonic()
        with a_publisher(folder, broker.url, records_per_s=edge.publish.mqtt.RECORDS_PER_S) as (outbox, _):
            eventually(lambda: outbox.inventory().waiting == 0, 600)
        healthy_s = time.monotonic() - began_s
        eventually(lambda: len(_records(platform)) >= waiting, PATIENCE_S)
        records = _records(platform)
    told = sum(record["speed"]["n"] for record in records if "speed" in record)
    in_order = [record["seq"] for record in records] == list(range(1, waiting + 1))
    return Outcome(
        f"no broker for {hours:.0f} hours",
        f"measured on; {waiting} windows and day mixes waited; memory {grown_mb:+.1f} MB over the last three quarters",
        f"{len(records)} messages in order, {told} of {len(cars)} vehicles; fewer than k at the end are withheld",
        healthy_s,
        in_order and len(cars) - told < 20 and grown_mb < 10,
    )


def _records(platform: Subscriber) -> list[dict[str, Any]]:
    return [
        json.loads(each.payload) for each in list(platform.messages) if "/flow/" in each.topic or "/mix" in each.topic
    ]


def disk_full(folder: Path, *, hours: float = 24.0) -> Outcome:
    """A card with room for a few hundred windows, no broker, and a street with a window every minute."""
    clock = SimulatedClock()
    cars = _cars(hours, every_s=20.0)
    reasons: set[StatusReason] = set()
    street = SimulatedStreet(iter(cars), clock, until_s=hours * 3600)
    with a_device(folder, street, clock, lab_slot_s=60, max_bytes=LEAST_BYTES + 4096) as (device, run):
        tell = device.publisher.tell

        def telling(fact: Any) -> None:
            reasons.update(getattr(fact, "reasons", ()))
            tell(fact)

        device.publisher.tell = telling  # type: ignore[method-assign]
        run()
        windows = [
            each.record for each in device.outbox.due(2**62, 100_000) if isinstance(each.record, WindowAggregate)
        ]
        joined = device.outbox.given_way
    measured = {
        direction: sum(each.measured for each in windows if each.direction is direction) for direction in Direction
    }
    passed = {direction: sum(car.direction is direction for car in cars) for direction in Direction}
    newest = max(windows, key=lambda each: each.end_utc_ns)
    return Outcome(
        f"disk full for {hours:.0f} hours",
        f"oldest waiting windows joined {joined} times; status {', '.join(sorted(each.value for each in reasons))}",
        f"{sum(measured.values())} of {len(cars)} vehicles in {len(windows)} windows, each direction"
        " complete; the newest window whole",
        None,
        measured == passed
        and StatusReason.OUTBOX_FULL in reasons
        and Flag.COMPACTED not in newest.flags
        and any(Flag.COMPACTED in each.flags for each in windows),
    )


def disk_refuses(folder: Path) -> Outcome:
    """Every write fails for half an hour: read-only, or broken."""
    clock = SimulatedClock()
    cars = _cars(2.0)
    reasons: list[tuple[StatusReason, ...]] = []
    writes = Outbox._transact
    healthy_s: list[float] = []

    def refusing(self: Outbox, change: Any, pages: int) -> Any:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    with a_device(folder, SimulatedStreet(iter(cars), clock, until_s=7200), clock, lab_slot_s=60) as (device, run):
        tell = device.publisher.tell

        def telling(fact: Any) -> None:
            if hasattr(fact, "reasons"):
                reasons.append(fact.reasons)
                if reasons[-1] != (StatusReason.OUTBOX_UNWRITABLE,) and clock.now_ns >= 3600 * S:
                    healthy_s.append(clock.now_ns / S - 3600)
            tell(fact)

        def look(at_s: float, stop: threading.Event) -> None:
            Outbox._transact = refusing if 1800 < at_s < 3600 else writes  # type: ignore[method-assign]

        device.publisher.tell = telling  # type: ignore[method-assign]
        try:
            run(look)
        finally:
            Outbox._transact = writes  # type: ignore[method-assign]
        kept = held(device)
    return Outcome(
        "disk refuses to be written for half an hour",
        "went on in memory, opened the file anew at every attempt; status outbox_unwritable",
        f"{kept} of {len(cars)} vehicles",
        min(healthy_s, default=None),
        kept == len(cars) and any(StatusReason.OUTBOX_UNWRITABLE in each for each in reasons) and bool(healthy_s),
    )


def corrupt(folder: Path, *, times: int = 40) -> Outcome:
    """Bytes of the database flip while the device is off."""
    chance = random.Random(7)
    aside = salvaged = sound = refused = 0
    worst = 1.0
    for number in range(times):
        place = folder / str(number)
        place.mkdir(parents=True)
        path = place / "outbox.sqlite"
        with Outbox(path) as outbox:
            fill(outbox, 40)
            outbox.checkpoint({"next_ordinal": 1, "slots": []})
        body = bytearray(path.read_bytes())
        for _ in range(chance.choice((1, 8, 64))):
            body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        path.write_bytes(body)
        try:
            with Outbox(path) as outbox:
                waiting = len(outbox.due(2**62, 1000))
                if outbox.set_aside is None:
                    sound += 1
                    worst = min(worst, waiting / 40)
                else:
                    aside += 1
                    salvaged += waiting
        except Exception:  # noqa: BLE001  # counted: the promise is that it opens
            refused += 1
    return Outcome(
        f"database damaged, {times} times",
        f"{aside} files set aside, new epoch, {salvaged} of their {aside * 40} windows taken over;"
        f" {sound} were not harmed",
        "status outbox_new; the new epoch",
        0.0,
        not refused and worst == 1.0 and aside > 0,
    )


def clock_steps(folder: Path) -> Outcome:
    """Set late, stepped forward and back, a leap second."""
    true_ns = utc_ns(MORNING)
    clock = SimulatedClock(begin_utc_ns=utc_ns("2024-01-01T00:00:00Z"), is_set=False)
    cars = _cars(2.0)
    ahead = ((600, true_ns), (2400, true_ns + 3600 * S), (4200, true_ns), (6000, true_ns - S))

    def look(at_s: float, stop: threading.Event) -> None:
        for from_s, ahead_ns in ahead:
            if at_s >= from_s:
                clock.is_set, clock.ahead_ns = True, ahead_ns

    with a_device(folder, SimulatedStreet(iter(cars), clock, until_s=7200), clock, lab_slot_s=60) as (device, run):
        run(look)
        windows = [
            each.record for each in device.outbox.due(2**62, 100_000) if isinstance(each.record, WindowAggregate)
        ]
    told = sum(each.measured for each in windows)
    stepped = sum(Flag.CLOCK_STEP in each.flags for each in windows if each.direction is Direction.FORWARD)
    unset = sum(each.clock is ClockState.UNSET for each in windows)
    return Outcome(
        "clock set ten minutes late, then +1 h, −1 h, a leap second",
        "labels made before were moved; a step closes the slot, flagged",
        f"{told} of {len(cars)} vehicles; {stepped} windows clock_step, {unset} with clock unset",
        0.0,
        told == len(cars) and 1 <= stepped <= 4 and unset == 0,
    )


def camera_away(folder: Path, state: CameraState) -> Outcome:
    """An hour without a picture that can be measured."""
    clock = SimulatedClock()
    cars = _cars(3.0)
    street = SimulatedStreet(iter(cars), clock, until_s=10_800, away=[(3600.0, 7200.0, state)])
    with a_device(folder, street, clock, lab_slot_s=900) as (device, run):
        run()
        windows = [each.record for each in device.outbox.due(2**62, 1000) if isinstance(each.record, WindowAggregate)]
    forward = [each for each in windows if each.direction is Direction.FORWARD]
    watched_s = sum(each.watched_ns for each in forward) / S
    return Outcome(
        f"camera {state.value} for an hour",
        "windows closed on time",
        f"coverage tells of {watched_s / 3600:.2f} of 3 hours, 0 in the windows between",
        0.0,
        abs(watched_s - 7200) < 10 and min(each.coverage for each in forward) == 0.0,
    )


# -------------------------------------------------------------------------------------------------------- a real camera


def rtsp_restart() -> Outcome:
    """The camera restarts with another resolution, and later with the right one."""
    with RtspServer(size_px=(320, 240)) as server:
        source = open_source(server.url, size_px=(320, 240), patience_s=PATIENCE_S)
        with source:
            frames = source.frames()
            before = next(frames)
            server.kill()
            lost_s = _until(source, CameraState.LOST)
            server.size_px = (640, 480)
            server.start()
            other_s = _until(source, CameraState.OTHER_SIZE)
            server.kill()
            _until(source, CameraState.LOST)
            server.size_px = (320, 240)
            server.start()
            healthy_s = _until(source, CameraState.WATCHING)
            after = next(frames)
    return Outcome(
        "RTSP camera restarts with another resolution",
        f"lost after {lost_s:.1f} s, other size noticed {other_s:.1f} s after the restart;"
        " nothing measured until it was right",
        "status camera_lost, camera_size, then ready; coverage without that time",
        healthy_s,
        after.size_px == (320, 240) and after.captured_ns > before.captured_ns,
    )


def _until(source: Any, state: CameraState) -> float:
    began_s = time.monotonic()
    eventually(lambda: source.report.state is state, PATIENCE_S, state.value)
    return time.monotonic() - began_s


def starved(*, seconds: float = 20.0) -> Outcome:
    """A processor that manages two frames a second of twenty."""
    with RtspServer(size_px=(320, 240)) as server, open_source(server.url, patience_s=PATIENCE_S) as source:
        frames = source.frames()
        next(frames)
        before_mb, ages_s, began_s = _memory_mb(), [], time.monotonic()
        while time.monotonic() - began_s < seconds:
            time.sleep(0.5)
            frame = next(frames)
            ages_s.append((time.clock_gettime_ns(time.CLOCK_BOOTTIME) - frame.captured_ns) / 1e9)
        grown_mb, overtaken = _memory_mb() - before_mb, getattr(source, "overtaken", 0)
    ages_s.sort()
    return Outcome(
        "processor too slow: 2 of 20 frames a second",
        f"newest frame taken, {overtaken} overtaken; middle age {ages_s[len(ages_s) // 2]:.2f} s;"
        f" memory {grown_mb:+.1f} MB",
        "status frame_rate, coverage without that time",
        None,
        overtaken > 3 * len(ages_s) and ages_s[len(ages_s) // 2] < 1.0 and grown_mb < 20,
    )


def killed(folder: Path, *, days: float = 7.0, say: Any = None) -> Outcome:
    """kill -9 of the service through a week."""
    folder.mkdir(parents=True, exist_ok=True)
    verdict = a_week_of_kills(folder, days=days, say=say)
    account = verdict.account
    return Outcome(
        f"service: kill -9, {account.kills} times in {days:g} simulated days",
        f"went on from its counters; {account.kills_in_a_write} kills inside a write;"
        f" {verdict.coverage_lost_s / max(account.kills, 1):.0f} s of coverage lost a kill",
        f"{verdict.arrived.total()} vehicles told + {verdict.remaining.total()} carried = {account.kept.total()} kept;"
        f" {verdict.lost} lost, {verdict.double} double, {verdict.doubles} messages twice, {verdict.holes} holes",
        None,
        verdict.holds,
    )
