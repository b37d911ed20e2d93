"""One MQTT connection, from CONNECT to its end, driven by the thread that owns it.

A thin layer over paho that leaves nothing to it but the protocol: no threads, no reconnecting, no queue. Answers and
incoming messages are collected and handed out between two steps, so that nothing of the device runs inside a callback.
Only the reason code of an acknowledgement tells whether the broker took a message (MQTT 5); over 3.1.1 a refusal cannot
be seen, and every acknowledgement counts as taken.

Every connection has a client of its own. What was unanswered when the old one ended is offered again from the queue,
as a new message: consumers know it by its id. The session at the broker lives on, with the device's subscriptions.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from select import select
from typing import Any, Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import SnelliusError
from edge.publish.endpoint import Endpoint
from edge.publish.profiles import Message

MAX_IN_FLIGHT = 10  # enough to fill a slow line; what is not yet in flight stays in the outbox, where nothing is lost
KEEPALIVE_S = 30  # a dead line is noticed within a minute
CONNECT_TIMEOUT_S = 15.0
SESSION_EXPIRY_S = 300  # longer than the will delay: a session that ends would release the will at once
WILL_DELAY_S = 120  # a router that restarts is no news
LARGEST_INCOMING_BYTES = 16_384  # commands are short; the broker throws away what is longer
TOPIC_AND_PROPERTIES_BYTES = 256  # what a packet holds besides its payload, generously

Protocol = Literal["5", "3.1.1"]


class BrokerUnreachable(SnelliusError):
    """No connection: the message says why, in words for a technician, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker said about a message.

    Attributes:
        number: The number that :meth:`Connection.publish` gave it.
        refusal: Why the broker refused it; None when it took it.
    """

    number: int
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message of the platform."""

    topic: str
    payload: bytes
    is_retained: bool


class Connection:
    """A connection that is open from its birth.

    Attributes:
        in_flight_limit: How many unanswered messages the broker accepts, :data:`MAX_IN_FLIGHT` at most.
        is_deaf: Whether the broker refused a subscription: the platform then cannot ask for anything.
        end: Why the connection ended; None while it lives.

    Raises:
        BrokerUnreachable: It could not be made.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        client_id: str,
        protocol: Protocol = "5",
        will: Message | None = None,
        subscriptions: Sequence[str] = (),
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.in_flight_limit = MAX_IN_FLIGHT
        self.is_deaf = False
        self.end: str | None = None
        self._endpoint = endpoint
        self._is_5 = protocol == "5"
        self._subscriptions = tuple(subscriptions)
        self._largest_bytes: int | None = None
        self._connack: ReasonCode | None = None
        self._answers: list[Answer] = []
        self._incoming: list[Incoming] = []
        self._client = self._make_client(client_id, will, timeout_s)
        self._open(timeout_s)

    def publish(self, message: Message) -> int | None:
        """Hand a message to the broker.

        Returns:
            Its number, which its answer will carry; None when the connection has ended.
        """
        if self.end is not None:
            return None
        properties = _publish_properties(message) if self._is_5 else None
        handed = self._client.publish(message.topic, message.payload, 1, message.retain, properties)
        if handed.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._ended(mqtt.error_string(handed.rc))
            return None
        return handed.mid

    def fits(self, message: Message) -> bool:
        """Whether the broker accepts packets of this size (MQTT 5; an older broker does not say)."""
        size = len(message.payload) + len(message.topic) + TOPIC_AND_PROPERTIES_BYTES
        return self._largest_bytes is None or size <= self._largest_bytes

    def step(self, timeout_s: float) -> None:
        """Wait for the network, at most so long, and take in what came; :attr:`end` says when it is over."""
        if self.end is None:
            outcome = self._turn(timeout_s)
            if outcome != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._ended(mqtt.error_string(outcome))
        if self.end is not None:
            self._let_go()

    def take_answers(self) -> list[Answer]:
        """The answers since the last call."""
        taken, self._answers = self._answers, []
        return taken

    def take_incoming(self) -> list[Incoming]:
        """The platform's messages since the last call."""
        taken, self._incoming = self._incoming, []
        return taken

    def close(self) -> None:
        """Take leave: the broker then keeps the last will to itself."""
        if self.end is None:
            self._client.disconnect()
            self._client.loop_write()  # closes the socket
            self._ended("closed by the device")
        self._let_go()

    def abandon(self, why: str) -> None:
        """Hang up without taking leave."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._ended(why)
        self._let_go()

    def _turn(self, timeout_s: float) -> MQTTErrorCode:
        """One turn of the protocol. paho's own loop would listen on a port of the loopback interface for a moment."""
        client = self._client
        sock = client.socket()
        if sock is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        waiting = sock.pending() if isinstance(sock, ssl.SSLSocket) else 0
        readable, writable, _ = select([sock], [sock] if client.want_write() else [], [], 0.0 if waiting else timeout_s)
        outcome = MQTTErrorCode.MQTT_ERR_SUCCESS
        if readable or waiting:
            outcome = client.loop_read()
        if outcome == MQTTErrorCode.MQTT_ERR_SUCCESS and writable:
            outcome = client.loop_write()
        return outcome if outcome != MQTTErrorCode.MQTT_ERR_SUCCESS else client.loop_misc()

    def _make_client(self, client_id: str, will: Message | None, timeout_s: float) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if self._is_5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if self._is_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = timeout_s
        client.max_inflight_messages_set(MAX_IN_FLIGHT)
        client.username_pw_set(self._endpoint.username, self._endpoint.password)
        if self._endpoint.tls is not None:
            client.tls_set_context(self._endpoint.tls)
        if will is not None:
            client.will_set(will.topic, will.payload, 1, will.retain, self._will_properties(will))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        return client

    def _open(self, timeout_s: float) -> None:
        address = self._endpoint.address
        deadline_s = time.monotonic() + timeout_s
        try:
            if self._is_5:
                properties = _properties(PacketTypes.CONNECT)
                properties.SessionExpiryInterval = SESSION_EXPIRY_S
                properties.MaximumPacketSize = LARGEST_INCOMING_BYTES
                # Never a clean start: it would end the old session, and the end of a session releases its will.
                self._client.connect(address.host, address.port, KEEPALIVE_S, clean_start=False, properties=properties)
            else:
                self._client.connect(address.host, address.port, KEEPALIVE_S)
        except ssl.SSLCertVerificationError as refused:
            raise BrokerUnreachable(f"{address}: certificate refused: {refused.verify_message}") from None
        except OSError as failure:
            raise BrokerUnreachable(f"{address}: {failure.strerror or failure}") from None
        while self._connack is None and self.end is None and time.monotonic() < deadline_s:
            self.step(0.1)
        if self._connack is None:
            why = self.end or f"no answer to CONNECT within {timeout_s:g} s"
            self.abandon(why)
            raise BrokerUnreachable(f"{address}: {why}")
        if self._connack.is_failure:
            self.abandon(str(self._connack))
            raise BrokerUnreachable(f"{address}: the broker refused user '{self._endpoint.username}': {self._connack}")
        if self._subscriptions:
            self._client.subscribe([(topic, 1) for topic in self._subscriptions])

    def _will_properties(self, will: Message) -> Properties | None:
        if not self._is_5:
            return None
        properties = _properties(PacketTypes.WILLMESSAGE)
        properties.WillDelayInterval = WILL_DELAY_S
        properties.ContentType = will.content_type
        properties.PayloadFormatIndicator = 1
        return properties

    def _let_go(self) -> None:
        """Untie the knot of client and callbacks, so that the client's sockets close with this object."""
        client = self._client
        client.on_connect = client.on_disconnect = client.on_publish = client.on_message = client.on_subscribe = None

    def _ended(self, why: str) -> None:
        self.end = self.end or why

    def _on_connect(
        self, client: mqtt.Client, data: Any, flags: Any, reason: ReasonCode, said: Properties | None
    ) -> None:
        self._connack = reason
        self._largest_bytes = getattr(said, "MaximumPacketSize", None)
        self.in_flight_limit = min(MAX_IN_FLIGHT, getattr(said, "ReceiveMaximum", MAX_IN_FLIGHT))

    def _on_disconnect(
        self, client: mqtt.Client, data: Any, flags: Any, reason: ReasonCode, said: Properties | None
    ) -> None:
        self._ended(str(reason))

    def _on_publish(
        self, client: mqtt.Client, data: Any, number: int, reason: ReasonCode, said: Properties | None
    ) -> None:
        self._answers.append(Answer(number, str(reason) if reason.is_failure else None))

    def _on_subscribe(
        self, client: mqtt.Client, data: Any, number: int, reasons: list[ReasonCode], said: Properties | None
    ) -> None:
        self.is_deaf = any(reason.is_failure for reason in reasons)

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        self._incoming.append(Incoming(message.topic, bytes(message.payload), message.retain))


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho has no annotation here


def _publish_properties(message: Message) -> Properties:
    properties = _properties(PacketTypes.PUBLISH)
    properties.PayloadFormatIndicator = 1
    properties.ContentType = message.content_type
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    return properties
