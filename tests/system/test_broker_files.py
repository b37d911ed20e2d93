"""The ready files of the broker, in a real mosquitto: who may do what, and what waits for a platform that is away."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.broker import free_port, mosquitto_program
from tests.support.certificates import make_authority
from tests.support.clips import ROOT
from tests.support.mosquitto import eventually

FILES = ROOT / "docs" / "broker"
BASE = "snellius/1/hilversum"
MANY = 1500  # more than mosquitto keeps by default


class Broker:
    """mosquitto with the files as they are, but for folders and the port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.ca = make_authority(folder) / "ca.pem"
        config = (FILES / "snellius.conf").read_text()
        for place, here in (
            ("/etc/mosquitto/certs/", f"{folder}/"),
            ("/etc/mosquitto/", f"{folder}/"),
            ("listener 8883", f"listener {self.port} 127.0.0.1"),
        ):
            assert place in config
            config = config.replace(place, here)
        debian = f"user root\npersistence true\npersistence_location {folder}/\nlog_dest file {folder}/log\n"
        (folder / "mosquitto.conf").write_text(debian + config)
        (folder / "snellius.acl").write_text((FILES / "snellius.acl").read_text())
        (folder / "snellius.users").touch()
        for file in ("snellius.acl", "snellius.users"):
            (folder / file).chmod(0o600)
        for name in ("hvs-0042", "hvs-0043", "platform"):
            subprocess.run(["mosquitto_passwd", "-b", "snellius.users", name, f"{name}-secret"], cwd=folder, check=True)
        self.start()

    def start(self) -> None:
        program = mosquitto_program()
        assert program is not None
        self.process = subprocess.Popen([program, "-c", str(self.folder / "mosquitto.conf")], stderr=subprocess.DEVNULL)
        log = self.folder / "log"
        eventually(lambda: log.exists() and "running" in log.read_text(), what="mosquitto runs")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        (self.folder / "log").unlink()

    def client(self, name: str, password: str | None = None, *, session_s: int = 0) -> Client:
        return Client(self, name, password or f"{name}-secret", session_s)


class Client:
    """A device or the platform, as far as it matters here."""

    def __init__(self, broker: Broker, name: str, password: str, session_s: int) -> None:
        self.heard: list[str] = []
        self.verdicts: dict[int, str] = {}
        self.came_in: str | None = None
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)
        client.username_pw_set(name, password)
        client.tls_set(str(broker.ca), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        client.max_inflight_messages_set(100)
        client.on_connect = lambda *said: setattr(self, "came_in", str(said[3]))
        client.on_message = lambda _, __, message: self.heard.append(message.topic)
        client.on_publish = lambda _, __, number, reason, ___: self.verdicts.update({number: str(reason)})
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_s
        client.connect("localhost", broker.port, properties=properties, clean_start=session_s == 0)
        client.loop_start()
        eventually(lambda: self.came_in, what=f"an answer to {name}")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str) -> str:
        number = self._client.publish(topic, b"{}", qos=1).mid
        eventually(lambda: number in self.verdicts, what=topic)
        return self.verdicts[number]

    def publish_many(self, topic: str, count: int) -> None:
        numbers = [self._client.publish(topic, b"{}", qos=1).mid for _ in range(count)]
        eventually(lambda: all(number in self.verdicts for number in numbers), within_s=60, what="all were taken")
        assert {self.verdicts[number] for number in numbers} <= {"Success", "No matching subscribers"}

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, 1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    running = Broker(tmp_path_factory.mktemp("broker"))
    try:
        yield running
    finally:
        running.stop()


def test_a_device_speaks_in_its_own_name_only(broker: Broker) -> None:
    with broker.client("hvs-0042") as device:
        for topic in ("flow/forward", "mix", "meta", "status", "health", "cmd/result", "trial"):
            assert device.publish(f"{BASE}/hvs-0042/{topic}") in ("Success", "No matching subscribers")
        assert device.publish(f"{BASE}/hvs-0043/flow/forward") == "Not authorized"
        assert device.publish("snellius/1/amersfoort/hvs-0042/flow/forward") == "Not authorized"


def test_a_device_hears_what_is_meant_for_it_and_nothing_else(broker: Broker) -> None:
    with broker.client("hvs-0042") as device, broker.client("platform") as platform, broker.client("hvs-0043") as other:
        device.subscribe(f"{BASE}/#")
        platform.subscribe(f"{BASE}/#")
        time.sleep(0.5)
        other.publish(f"{BASE}/hvs-0043/flow/forward")
        platform.publish(f"{BASE}/hvs-0043/cmd")
        platform.publish(f"{BASE}/hvs-0042/cmd")
        eventually(lambda: len(platform.heard) == 3)
        eventually(lambda: device.heard == [f"{BASE}/hvs-0042/cmd"])
        assert platform.publish(f"{BASE}/hvs-0042/flow/forward") == "Not authorized", "nor may the platform invent any"


@pytest.mark.parametrize(("name", "password"), [("hvs-0042", "wrong"), ("stranger", "stranger-secret")])
def test_who_is_not_known_stays_outside(broker: Broker, name: str, password: str) -> None:
    with broker.client(name, password) as stranger:
        assert stranger.came_in == "Not authorized"


def test_nothing_is_lost_while_the_platform_is_away_and_the_broker_restarts(broker: Broker) -> None:
    with broker.client("platform", session_s=3600) as platform:
        platform.subscribe(f"{BASE}/+/flow/+")
        time.sleep(0.5)
    with broker.client("hvs-0042") as device:
        device.publish_many(f"{BASE}/hvs-0042/flow/forward", MANY)
    broker.stop()
    broker.start()
    with broker.client("platform", session_s=3600) as platform:
        eventually(lambda: len(platform.heard) >= MANY, within_s=60, what="everything that waited")
        assert len(platform.heard) == MANY
