"""Faults of broker and network: away, slow, silent, refusing, or not who it says it is.

Real mosquitto, real subscriber, real sockets and files, everything on the loopback interface.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import edge.publish.mqtt
from edge.aggregate import Anonymity
from edge.broker import free_port
from edge.domain import PrivacyRule, Release, Settlement
from edge.outbox import Outbox
from edge.publish import Native, Publisher
from tests.support.builders import MORNING, S, a_window
from tests.support.faults.outcome import PATIENCE_S, Outcome, memory_mb
from tests.support.mosquitto import HOST, Heard, Mosquitto, Subscriber, eventually
from tests.support.proxy import Proxy
from tests.support.received import Received, told
from tests.support.released import DEVICE, a_meta, a_status

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
        window, shift_ns = a_window(begin=MORNING, with_mix=False, slot=number + 1), number * 900 * S
        window = replace(window, start_utc_ns=window.start_utc_ns + shift_ns, end_utc_ns=window.end_utc_ns + shift_ns)
        releases.append(Release(window, 10, PrivacyRule.CARRY_OVER, begin_ns))
    outbox.commit(Settlement(tuple(releases), Anonymity(k=10).state()))


def _everything(platform: Subscriber, n: int) -> Callable[[], bool]:
    return lambda: set(Received(platform).numbers) == set(range(1, n + 1))


def _arrived(received: Received, n: int) -> str:
    """How many of the windows have come, and how."""
    return f"{len(received.windows)} of {n} windows, {received.twice} twice with the same number"


def _ask_for_holes(platform: Subscriber, n: int) -> int:
    """As a platform would; returns how many were missing."""
    holes = sorted(set(range(1, n + 1)) - set(Received(platform).numbers))
    if holes:
        command = {"from": holes[0], "to": holes[-1]}
        platform.publish(f"snellius/1/hilversum/{DEVICE}/cmd", json.dumps(command).encode())
    return len(holes)


def broker_killed(folder: Path, *, times: int = 3, n: int = 300) -> Outcome:
    """kill -9 of the broker, again and again, while windows go out."""
    slowest_s, most_waiting = 0.0, 0
    with (
        Mosquitto(folder / "broker", persistent=True) as broker,
        Subscriber(broker.port, "snellius/#") as platform,
        a_publisher(folder, broker.url, records_per_s=50.0) as (outbox, _),
    ):
        for number in range(times):
            fill(outbox, n // times, first=number * (n // times))
            before = len(Received(platform).numbers)
            eventually(lambda: len(Received(platform).numbers) > before, PATIENCE_S)  # noqa: B023  # called at once
            broker.kill()
            time.sleep(1.0)
            most_waiting = max(most_waiting, outbox.inventory().waiting)
            broker.start()
            back_s, had = time.monotonic(), len(Received(platform).numbers)
            eventually(lambda: len(Received(platform).numbers) > had, PATIENCE_S)  # noqa: B023
            slowest_s = max(slowest_s, time.monotonic() - back_s)
        all_of_them = n // times * times
        eventually(lambda: outbox.inventory().waiting == 0, PATIENCE_S)
        missing = _ask_for_holes(platform, all_of_them)
        eventually(_everything(platform, all_of_them), PATIENCE_S, "every window")
        received = Received(platform)
    return Outcome(
        f"broker: kill -9, {times} times",
        f"up to {most_waiting} windows waited; {broker.connections(DEVICE)} connections",
        f"{_arrived(received, all_of_them)}, {missing} asked for again",
        slowest_s,
        set(received.numbers) == set(range(1, all_of_them + 1)),
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
        eventually(lambda: Received(platform).numbers, PATIENCE_S)
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
        received = Received(platform)
    words = {
        "reset": "connection reset",
        "cut": "network down for 2 s",
        "delay": "300 ms each way",
        "half-open": "connection stays open, nothing comes through",
    }
    given_up = f"given up after {noticed_s:.0f} s; " if kind == "half-open" else ""
    return Outcome(
        f"network: {words[kind]}",
        f"{given_up}{broker.connections(DEVICE)} connections",
        _arrived(received, n),
        healthy_s,
        set(received.numbers) == set(range(1, n + 1)),
    )


@contextmanager
def impatient() -> Iterator[None]:
    """A publisher that waits half a second at most before it tries again, so that its patience is not measured."""
    before = edge.publish.mqtt.LONGEST_RETRY_S
    edge.publish.mqtt.LONGEST_RETRY_S = 0.5
    try:
        yield
    finally:
        edge.publish.mqtt.LONGEST_RETRY_S = before


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
        told(platform, "broker_refuses", within_s=PATIENCE_S)
        kept, before = outbox.inventory().waiting, len(Received(platform).records)
        broker.set_acl(all_of_it)
        broker.reload()
        given_s = time.monotonic()
        eventually(_everything(platform, n), PATIENCE_S, "every window")
        healthy_s = time.monotonic() - given_s
        eventually(lambda: not Received(platform).reasons, PATIENCE_S, "status ready")
        received = Received(platform)
    return Outcome(
        "broker refuses by access list",
        f"{kept} windows kept and offered again",
        f"{received.story}; {before}, then {_arrived(received, n)}",
        healthy_s,
        kept == n and "broker_refuses" in received.story,
    )


def too_large(folder: Path, *, n: int = 3) -> Outcome:
    """A broker whose largest packet is smaller than a window."""
    with (
        Mosquitto(folder / "small", config="max_packet_size 700") as broker,
        Subscriber(broker.port, "snellius/#") as platform,
        a_publisher(folder, broker.url) as (outbox, publisher),
    ):
        fill(outbox, n)
        told(platform, "broker_refuses", within_s=PATIENCE_S)
        why, kept, small = dict(publisher.status.refused), outbox.inventory().waiting, Received(platform)
    with Mosquitto(folder / "large") as broker, Subscriber(broker.port, "snellius/#") as platform:
        began_s = time.monotonic()
        with a_publisher(folder, broker.url):
            eventually(_everything(platform, n), PATIENCE_S)
            healthy_s = time.monotonic() - began_s
        large = Received(platform)
    return Outcome(
        "broker's largest packet is too small",
        f"{kept} windows kept: {', '.join(why)}",
        f"{small.story}; {len(small.records)} windows, then {_arrived(large, n)} after the limit was raised",
        healthy_s,
        kept == n and not small.records and "broker_refuses" in small.story,
    )


class QuotaBroker:
    """Speaks just enough MQTT 5 to answer every window with "quota exceeded" (0x97), until told otherwise.

    Attributes:
        is_refusing: Whether windows are refused.
        messages: What it took: a platform behind it would get these.
    """

    def __init__(self) -> None:
        self.is_refusing = True
        self.messages: list[Heard] = []
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
                topic, number = body[2 : 2 + size].decode(), body[2 + size : 4 + size]
                if "/flow/" in topic and self.is_refusing:
                    client.sendall(bytes([0x40, 4]) + number + bytes([0x97, 0]))
                else:
                    payload = body[body.index(b"{", 4 + size) :]  # after the properties, which hold no brace
                    self.messages.append(Heard(topic, payload, retained=False, qos=1, properties={}))
                    client.sendall(bytes([0x40, 2]) + number)
            elif kind >> 4 == 12:  # PINGREQ
                client.sendall(b"\xd0\0")


def over_quota(folder: Path, *, n: int = 8) -> Outcome:
    """A broker that says "quota exceeded" to every window."""
    with closing(QuotaBroker()) as broker, a_publisher(folder, f"mqtt://{HOST}:{broker.port}") as (outbox, publisher):
        fill(outbox, n)
        eventually(lambda: sum(publisher.status.refused.values()) == n, PATIENCE_S, "refusals")
        eventually(lambda: "broker_refuses" in Received(broker).reasons, PATIENCE_S, "status broker_refuses")
        why, kept = ", ".join(publisher.status.refused), outbox.inventory().waiting
        before = len(Received(broker).records)
        broker.is_refusing = False
        began_s = time.monotonic()
        eventually(lambda: outbox.inventory().waiting == 0, PATIENCE_S)
        eventually(lambda: not Received(broker).reasons, PATIENCE_S, "status ready")
        healthy_s, received = time.monotonic() - began_s, Received(broker)
    return Outcome(
        "broker refuses by quota",
        f"{kept} windows kept and offered again: {why}",
        f"{received.story}; {before}, then {_arrived(received, n)}",
        healthy_s,
        kept == n == len(received.windows) and before == 0,
    )


def certificates(folder: Path) -> Outcome:
    """An expired certificate, one of another authority and one of another name; then the right one."""
    folder.mkdir(parents=True, exist_ok=True)
    _make_certificates(folder)
    said: dict[str, str] = {}
    kept = heard = 0
    for name, authority in (("expired", "ca"), ("elsewhere", "ca"), ("broker", "other-ca"), ("broker", "ca")):
        tls_port = free_port()  # the platform comes through the broker's other door
        tls = f"listener {tls_port} {HOST}\ncafile {folder}/ca.pem\ncertfile {folder}/{name}.pem"
        is_right = (name, authority) == ("broker", "ca")
        with (
            Mosquitto(folder / f"{name}-{authority}", config=f"{tls}\nkeyfile {folder}/{name}.key") as broker,
            Subscriber(broker.port, "snellius/#") as platform,
            a_publisher(folder, f"mqtts://localhost:{tls_port}", ca_file=folder / f"{authority}.pem") as (
                outbox,
                publisher,
            ),
        ):
            if not is_right:
                eventually(lambda: "certificate" in (publisher.status.trouble or ""), PATIENCE_S, "a refusal")
                said[name if authority == "ca" else "authority"] = str(publisher.status.trouble)
                fill(outbox, 1, first=len(said) - 1)
                kept = outbox.inventory().waiting
                heard += len(platform.messages)
                continue
            began_s = time.monotonic()
            eventually(_everything(platform, 3), PATIENCE_S, "every window")
            healthy_s, received = time.monotonic() - began_s, Received(platform)
    reasons = "; ".join(f"“{text.split('refused: ')[-1]}”" for text in said.values())
    return Outcome(
        "certificate expired, of another name, of another authority",
        f"{kept} windows kept: {reasons}",
        f"{heard} messages; with the right certificate {_arrived(received, 3)}",
        healthy_s,
        len(said) == 3 == kept and heard == 0 and all("certificate" in text for text in said.values()),
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
        before_mb, began_s = memory_mb(), time.monotonic()
        with a_publisher(folder, broker.url, records_per_s=1e6) as (outbox, _):
            eventually(lambda: outbox.inventory().waiting == 0, 900)
            sent_s, used_mb = time.monotonic() - began_s, memory_mb() - before_mb
        eventually(lambda: len(platform.messages) >= n + 2, PATIENCE_S)  # with meta and status
        eventually(_everything(platform, n), PATIENCE_S, "every window")
        received = Received(platform)
    is_in_order = received.numbers == list(range(1, n + 1))
    paced_s = max(n - edge.publish.mqtt.BURST, 0) / edge.publish.mqtt.RECORDS_PER_S
    return Outcome(
        f"{n:,} windows wait",
        f"sent in {sent_s:.0f} s unpaced (a device takes {paced_s / 60:.0f} min on purpose);"
        f" memory {used_mb:+.0f} MB, this subscriber's included",
        f"{_arrived(received, n)}, {'in order' if is_in_order else 'NOT in order'}",
        sent_s,
        is_in_order,
    )
