"""A real mosquitto that can be killed and come back on the same port, and a subscriber that remembers what it heard."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.broker import free_port, mosquitto_program

HOST = "127.0.0.1"


def eventually(holds: Callable[[], object], within_s: float = 10.0, what: str = "") -> None:
    """Wait until something becomes true; fail the test when it does not."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {within_s:g} s: {what or holds}")
        time.sleep(0.01)


class Mosquitto:
    """A mosquitto process on a free port of 127.0.0.1, with its state in a folder of the test.

    ``config`` adds lines to the configuration; ``acl`` is the text of an access list (give user names to clients then);
    ``persistent`` keeps retained messages and sessions across restarts.
    """

    def __init__(
        self, folder: Path, *, config: str = "", acl: str | None = None, persistent: bool = False, tls: str = ""
    ) -> None:
        program = mosquitto_program()
        if program is None:
            pytest.skip("mosquitto is not installed (apt install mosquitto)")
        self.program = program
        self.folder = folder
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.set_acl(acl)
        lines = [f"listener {self.port} {HOST}", tls, "allow_anonymous true", "log_dest stderr"]
        lines += [f"acl_file {folder / 'acl'}"] if acl is not None else []
        # autosave_on_changes: a broker that is killed has lost nothing that it has acknowledged
        lines += (
            [
                "persistence true",
                f"persistence_location {folder}/",
                "autosave_on_changes true",
                "autosave_interval 1",
                "max_queued_messages 0",  # of a platform that is away: as many as come
            ]
            if persistent
            else ["persistence false"]
        )
        lines += ["user root", config]  # started by root it would else lose the right to read the test's folder
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, again if need be, and wait until it listens."""
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.program, "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        eventually(self._listens, what="mosquitto listens")

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not killed since."""
        return self._process is not None

    @property
    def saved(self) -> bytes:
        """What a persistent broker has on its disk."""
        database = self.folder / "mosquitto.db"
        return database.read_bytes() if database.exists() else b""

    def connections(self, client_id: str) -> int:
        """How often a client has come, since the first start."""
        log = (self.folder / "mosquitto.log").read_text(errors="replace")
        return sum("New client connected" in line and f" as {client_id} " in line for line in log.splitlines())

    def set_acl(self, acl: str | None) -> None:
        """Change the access list; a running broker reads it again."""
        if acl is not None:
            (self.folder / "acl").write_text(acl)
            (self.folder / "acl").chmod(0o600)

    def reload(self) -> None:
        """Have the running broker read its access list again."""
        assert self._process is not None
        self._process.send_signal(1)

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"mosquitto ended: {(self.folder / 'mosquitto.log').read_text()}")
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Heard:
    """One message as a subscriber got it."""

    topic: str
    payload: bytes
    retained: bool
    qos: int
    properties: dict[str, Any]


class Subscriber:
    """A client of the platform: subscribes with a lasting session, remembers, reconnects by itself."""

    def __init__(
        self,
        port: int,
        *topics: str,
        client_id: str = "platform",
        username: str | None = None,
        version: int = mqtt.MQTTv5,
    ) -> None:
        self.messages: list[Heard] = []
        self.connections = 0
        self._topics = topics
        self._subscribed = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion(version),
            clean_session=False if version == mqtt.MQTTv311 else None,
        )
        if username is not None:
            self._client.username_pw_set(username)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        properties = None
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 3600
            self._client.connect(HOST, port, keepalive=5, clean_start=False, properties=properties)
        else:
            self._client.connect(HOST, port, keepalive=5)

    def __enter__(self) -> Subscriber:
        self._client.loop_start()
        assert self._subscribed.wait(10), "no subscription within 10 s"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Say something as the platform, and wait until the broker has it."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def on(self, suffix: str) -> list[Heard]:
        """Messages of topics that end so."""
        return [message for message in self.messages if message.topic.endswith(suffix)]

    def wait_for(self, count: int, suffix: str = "", within_s: float = 10.0) -> list[Heard]:
        """Wait for a number of messages."""
        eventually(lambda: len(self.on(suffix)) >= count, within_s, f"{count} messages on …{suffix}")
        return self.on(suffix)

    def _on_connect(
        self, client: mqtt.Client, data: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        if not reason.is_failure:
            self.connections += 1
            client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed.set()

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        properties: dict[str, Any] = {}
        if message.properties is not None:
            properties = message.properties.json()  # type: ignore[no-untyped-call]
        self.messages.append(Heard(message.topic, bytes(message.payload), message.retain, message.qos, properties))


@contextmanager
def broker_away(folder: Path, topic: str) -> Iterator[tuple[Mosquitto, Subscriber]]:
    """A broker that is down and knows the platform: ``start()`` it, and whoever is back first, nothing passes it by.

    A broker without a memory gives nobody what came before somebody subscribed, and a device may be quicker to connect.
    """
    with Mosquitto(folder, persistent=True) as broker, Subscriber(broker.port, topic) as platform:
        eventually(lambda: topic.encode() in broker.saved, what="the subscription is on the disk")
        broker.kill()
        yield broker, platform


@contextmanager
def retained(port: int, pattern: str = "#") -> Iterator[dict[str, bytes]]:
    """What a platform that connects now finds: topic → payload of the retained messages."""
    with Subscriber(port, pattern, client_id="newcomer") as newcomer:
        time.sleep(0.2)
        yield {message.topic: message.payload for message in newcomer.messages if message.retained}
