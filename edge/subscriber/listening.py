"""From the broker to the store: nothing is acknowledged before it is stored, and nothing is asked for faster than that.

The session at the broker outlives us, so what comes while we are away waits there. A message is acknowledged (PUBACK)
after the transaction that holds it; the broker sends at most :data:`UNANSWERED` unacknowledged messages, so a slow
database slows the broker and never fills our memory. When the store is away, the batch in hand is offered again until
it is in. Whatever is lost all the same (a broker that dropped its queue) shows as a gap and is asked for again.

Several workers share the measurements through a shared subscription (``$share``); the first also hears what poles say
about themselves. Each worker has a client id of its own that must not change, or its session waits in vain.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import SnelliusError
from edge.publish.payload import Command, CommandResult, Health, Meta, Status
from edge.subscriber.database import StoreUnavailable
from edge.subscriber.reading import Numbered, Refused, read_message
from edge.subscriber.store import Gap, Store

UNANSWERED = 500  # messages that the broker may send before we acknowledge: about half a megabyte
BATCH_S = 0.2  # a transaction a message would be slow, and nobody needs a window sooner
SESSION_EXPIRY_S = 7 * 86_400  # a weekend and a repair
KEEPALIVE_S = 30
RETRY_S = (1.0, 60.0)  # shortest and longest wait before trying broker or store again
REPAIR_S = 600.0  # how often gaps are looked for
ASKED_AGAIN_S = 3600.0  # a pole that is off is asked again after so long
ASKED_AT_MOST = 1000  # numbers in one command, so that no pole is busy with the past for long
MEASUREMENTS = ("snellius/1/+/+/flow/+", "snellius/1/+/+/mix")
FACTS = ("snellius/1/+/+/meta", "snellius/1/+/+/status", "snellius/1/+/+/health", "snellius/1/+/+/cmd/result")

log = logging.getLogger(__name__)


class _Address(Protocol):
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class Broker(Protocol):
    """Where the broker is, and who we are there."""

    @property
    def address(self) -> _Address:
        """Host and port."""

    @property
    def username(self) -> str:
        """MQTT user name."""

    @property
    def password(self) -> str | None:
        """Its password."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Verifying context; None without TLS."""


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A message that is not yet acknowledged."""

    mid: int
    topic: str
    payload: bytes


class Listener:
    """One worker. Use it from one thread.

    Attributes:
        is_listening: Whether the broker has confirmed the subscriptions since the start.
        tally: How many messages were ``new``, ``known``, ``contradicting``, ``forgotten``, ``refused`` or ``facts``.
    """

    def __init__(
        self, broker: Broker, store: Store, *, client_id: str, group: str | None = None, hears_facts: bool = True,
        repairs: bool = True,
    ) -> None:  # fmt: skip
        """Prepare.

        Args:
            broker: Where to listen.
            store: Where to keep; used from the thread that calls :meth:`run`.
            client_id: Name of the session at the broker; the same after a restart.
            group: Name of the shared subscription; None: this worker hears every measurement.
            hears_facts: Whether to keep meta, status and health: one worker of a group.
            repairs: Whether to ask poles for what is missing: one worker of a group.
        """
        self.is_listening = False
        self.tally: Counter[str] = Counter()
        self._broker = broker
        self._store = store
        shared = "" if group is None else f"$share/{group}/"
        self._topics = [f"{shared}{topic}" for topic in MEASUREMENTS] + (list(FACTS) if hears_facts else [])
        self._repairs = repairs
        self._asked_s: dict[tuple[str, str, int], float] = {}
        self._waiting: list[_Unanswered] = []
        self._lost: str | None = None
        self._client = client_of(broker, client_id, lasting=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def run(self, stop: threading.Event) -> None:
        """Listen until told to stop; an unreachable broker or store is tried again for ever."""
        wait_s = RETRY_S[0]
        while not stop.is_set():
            try:
                connect(self._client, self._broker, lasting=True)
            except OSError as failure:
                self._lost = str(failure)
            else:
                self._lost = None
                began_s = time.monotonic()
                self._serve(stop)
                if time.monotonic() - began_s > RETRY_S[1]:
                    wait_s = RETRY_S[0]
            self._waiting.clear()  # the broker sends again what was not acknowledged
            if not stop.is_set():
                log.warning("no connection to the broker: %s; next attempt in %.0f s", self._lost, wait_s)
                stop.wait(wait_s)
                wait_s = min(2 * wait_s, RETRY_S[1])

    def _serve(self, stop: threading.Event) -> None:
        flushed_s = repaired_s = time.monotonic()
        while self._lost is None and not stop.is_set():
            outcome = self._client.loop(BATCH_S / 4)
            if outcome != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._lost = self._lost or mqtt.error_string(outcome)
            now_s = time.monotonic()
            if self._waiting and (len(self._waiting) >= UNANSWERED // 2 or now_s - flushed_s >= BATCH_S):
                self._keep(stop)
                flushed_s = now_s
            if self._repairs and now_s - repaired_s >= REPAIR_S:
                self._repair()
                repaired_s = now_s
        self._keep(stop)
        self._client.disconnect()
        self._client.loop(BATCH_S)

    def _keep(self, stop: threading.Event) -> None:
        """Store what is in hand, then acknowledge it; a store that is away is waited for."""
        wait_s = RETRY_S[0]
        while self._waiting:
            try:
                self._store_batch(self._waiting)
            except StoreUnavailable as away:
                log.warning("%s; next attempt in %.0f s", away, wait_s)
                if stop.wait(wait_s):
                    return  # not acknowledged: it comes again
                wait_s = min(2 * wait_s, KEEPALIVE_S / 2)
                if self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    return
                continue
            for each in self._waiting:
                self._client.ack(each.mid, 1)
            self._waiting.clear()

    def _store_batch(self, batch: Sequence[_Unanswered]) -> None:
        measurements: list[Numbered] = []
        facts: list[Meta | Status | Health] = []
        for each in batch:
            try:
                message = read_message(each.topic, each.payload)
            except Refused as refusal:
                log.warning("refused: %s", refusal)
                self._store.refuse(refusal)
                self.tally["refused"] += 1
                continue
            if isinstance(message, Numbered):
                measurements.append(message)
            elif isinstance(message, CommandResult):
                log.info("%s answers %s: %s", message.device, message.id, message.reason or f"{message.queued} queued")
            else:
                facts.append(message)
        self._store.hear(facts)
        added = self._store.add(measurements)
        self.tally.update(
            new=added.new,
            known=added.known,
            contradicting=added.contradicting,
            forgotten=added.forgotten,
            facts=len(facts),
        )
        if added.contradicting:
            log.warning("%d messages contradict what stands under their number; the first stands", added.contradicting)

    def _repair(self) -> None:
        """Ask for what is missing, each gap at most once an hour."""
        now_s = time.monotonic()
        try:
            gaps = [gap for gap in self._store.gaps() if gap.is_present]
        except StoreUnavailable as away:
            log.warning("%s", away)
            return
        due = [gap for gap in gaps if now_s - self._asked_s.get(_key(gap), -ASKED_AGAIN_S) >= ASKED_AGAIN_S]
        self._asked_s = {_key(gap): self._asked_s.get(_key(gap), -ASKED_AGAIN_S) for gap in gaps}
        for topic, payload in commands(due):
            self._client.publish(topic, payload, qos=1)
        self._asked_s.update({_key(gap): now_s for gap in due})
        if due:
            log.info("asked for %d gaps of %d poles", len(due), len({gap.device for gap in due}))

    def _on_connect(
        self, client: mqtt.Client, data: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, said: Properties | None
    ) -> None:
        if reason.is_failure:
            self._lost = f"the broker refused user '{self._broker.username}': {reason}"
            return
        client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(
        self, client: mqtt.Client, data: Any, mid: int, reasons: list[ReasonCode], said: Properties | None
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._lost = f"the broker refuses user '{self._broker.username}' a subscription"
        else:
            self.is_listening = True
            log.info("listening")

    def _on_disconnect(
        self, client: mqtt.Client, data: Any, flags: mqtt.DisconnectFlags, reason: ReasonCode, said: Properties | None
    ) -> None:
        self._lost = self._lost or str(reason)

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        self._waiting.append(_Unanswered(message.mid, message.topic, bytes(message.payload)))


def client_of(broker: Broker, client_id: str, *, lasting: bool) -> mqtt.Client:
    """An MQTT 5 client that acknowledges only when told to (``lasting``), with its proofs, not yet connected."""
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=False,
        manual_ack=lasting,
    )
    client.username_pw_set(broker.username, broker.password)
    if broker.tls is not None:
        client.tls_set_context(broker.tls)
    return client


def connect(client: mqtt.Client, broker: Broker, *, lasting: bool) -> None:
    """Open the connection; the answer of the broker comes later.

    Raises:
        OSError: It cannot be reached, or its certificate is wrong.
    """
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no annotation here
    properties.ReceiveMaximum = UNANSWERED
    properties.SessionExpiryInterval = SESSION_EXPIRY_S if lasting else 0
    client.connect(
        broker.address.host, broker.address.port, KEEPALIVE_S, clean_start=not lasting, properties=properties
    )


def commands(gaps: Iterable[Gap]) -> list[tuple[str, bytes]]:
    """Topic and payload of the commands that ask for gaps."""
    asked = []
    for gap in gaps:
        for first in range(gap.first, gap.last + 1, ASKED_AT_MOST):
            last = min(first + ASKED_AT_MOST - 1, gap.last)
            command = Command.model_validate(
                {"id": f"gap-{gap.epoch}-{first}", "epoch": gap.epoch, "from": first, "to": last}
            )
            asked.append((f"snellius/1/{gap.city}/{gap.device}/cmd", command.model_dump_json(by_alias=True).encode()))
    return asked


def ask_again(broker: Broker, gaps: Iterable[Gap], *, client_id: str, timeout_s: float = 30.0) -> int:
    """Ask poles to send what is missing; how many commands the broker took.

    Raises:
        SnelliusError: The broker cannot be reached, refuses us, or does not take a command.
    """
    asked = commands(gaps)
    client = client_of(broker, client_id, lasting=False)
    answers: list[ReasonCode] = []
    client.on_connect = lambda client, data, flags, reason, said: answers.append(reason)
    try:
        connect(client, broker, lasting=False)
    except OSError as failure:
        raise SnelliusError(f"--broker: {broker.address}: {failure}") from None
    refused: list[str] = []
    client.on_publish = lambda client, data, mid, reason, said: (
        refused.append(str(reason)) if reason.is_failure else None
    )
    client.loop_start()
    try:
        deadline_s = time.monotonic() + timeout_s
        while not answers and time.monotonic() < deadline_s:
            time.sleep(0.02)
        if not answers or answers[0].is_failure:
            why = answers[0] if answers else f"no answer within {timeout_s:g} s"
            raise SnelliusError(f"--broker: {broker.address}: user '{broker.username}' is refused: {why}")
        for sent in [client.publish(topic, payload, qos=1) for topic, payload in asked]:
            sent.wait_for_publish(max(deadline_s - time.monotonic(), 0.1))
            if not sent.is_published():
                raise SnelliusError(f"--broker: {broker.address}: a command was not taken within {timeout_s:g} s")
    finally:
        client.disconnect()
        client.loop_stop()
    if refused:
        raise SnelliusError(f"--broker: user '{broker.username}' may not publish to 'cmd': {refused[0]}")
    return len(asked)


def _key(gap: Gap) -> tuple[str, str, int]:
    return gap.device, gap.epoch, gap.first
