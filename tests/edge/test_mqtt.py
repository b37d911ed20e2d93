"""The publisher against a real mosquitto: killed, refusing, reading and writing back."""

from __future__ import annotations

import json
import logging
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.broker import LoopbackBroker, Program
from edge.domain import PrivacyRule, Release, Settlement
from edge.errors import BadInput, OutboxFull
from edge.outbox import Outbox
from edge.publish import Address, BrokerUnreachable, Connection, Endpoint, Native, Publisher
from edge.publish.mqtt import retry_wait_s
from edge.publish.payload import State, StatusReason
from tests.support.certificates import make_authority, tls_broker
from tests.support.mosquitto import HOST, Heard, Mosquitto, Subscriber, eventually, retained
from tests.support.released import DEVICE, EPOCH, QueueInMemory, a_meta, a_status, a_window

BASE = f"snellius/1/hilversum/{DEVICE}"
NATIVE = Native(city="hilversum", device=DEVICE, site="hvs-snelliuslaan-12")


@pytest.fixture(autouse=True)
def _short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for rounds, so rounds are short here."""
    monkeypatch.setattr("edge.publish.mqtt.POLL_S", 0.02)


@contextmanager
def publishing(url: str, queue: Any, *, native: Native = NATIVE, **options: Any) -> Iterator[Publisher]:
    """A publisher with short waits, which must stop in order and without a failure."""
    waits = {"first_retry_s": 0.1, "refused_retry_s": 0.3}
    publisher = Publisher(queue=queue, native=native, meta=a_meta(), status=a_status(), url=url, **{**waits, **options})
    publisher.start()
    try:
        yield publisher
    finally:
        assert publisher.stop(10), "the publisher did not stop"
    assert publisher.status.failure is None


def numbers(messages: list[Heard]) -> list[int]:
    """Sequence numbers of the windows among the messages."""
    return [json.loads(message.payload)["seq"] for message in messages if "/flow/" in message.topic]


def states(subscriber: Subscriber) -> list[str]:
    return [json.loads(message.payload)["state"] for message in subscriber.on("/status")]


# ------------------------------------------------------------------------------------------------------- the way out


def test_everything_queued_arrives_once_and_in_order(mosquitto: Mosquitto) -> None:
    queue = QueueInMemory(50)
    with Subscriber(mosquitto.port, "snellius/#") as platform:
        with publishing(mosquitto.url, queue) as publisher:
            assert publisher.drain(10)
        eventually(lambda: len(numbers(platform.messages)) >= 50, what="50 windows")
        assert numbers(platform.messages) == list(range(1, 51))
        assert publisher.status.published_utc_ns is not None
    assert queue.unsent == []


def test_messages_say_what_they_are(mosquitto: Mosquitto) -> None:
    with Subscriber(mosquitto.port, "snellius/#") as platform, publishing(mosquitto.url, QueueInMemory(1)):
        (message,) = platform.wait_for(1, "/flow/forward")
    assert message.properties == {"PayloadFormatIndicator": 1, "ContentType": "application/json"}
    assert (message.qos, message.retained, message.topic) == (1, False, f"{BASE}/flow/forward")


def test_who_connects_later_finds_meta_and_status(mosquitto: Mosquitto) -> None:
    with publishing(mosquitto.url, QueueInMemory()) as publisher:
        assert publisher.drain(10)
        with retained(mosquitto.port) as kept:
            assert set(kept) == {f"{BASE}/meta", f"{BASE}/status"}
            assert kept[f"{BASE}/meta"] == a_meta().encode()
            assert kept[f"{BASE}/status"] == a_status().encode()
    with retained(mosquitto.port) as kept:
        assert json.loads(kept[f"{BASE}/status"])["state"] == "stopped"


def test_what_the_service_tells_is_said_at_once(mosquitto: Mosquitto) -> None:
    with (
        Subscriber(mosquitto.port, "snellius/#") as platform,
        publishing(mosquitto.url, QueueInMemory()) as publisher,
    ):
        publisher.tell(a_status(State.MAINTENANCE))
        publisher.tell(a_meta().model_copy(update={"epoch": "00000000"}))
        eventually(lambda: "maintenance" in states(platform))
        eventually(lambda: b"00000000" in platform.on("/meta")[-1].payload)


def test_mqtt_3_1_1_carries_the_same_messages(mosquitto: Mosquitto) -> None:
    queue = QueueInMemory(20)
    with Subscriber(mosquitto.port, "snellius/#", version=4) as platform:
        with publishing(mosquitto.url, queue, protocol="3.1.1") as publisher:
            assert publisher.drain(10)
        eventually(lambda: len(numbers(platform.messages)) >= 20)
        assert numbers(platform.messages) == list(range(1, 21))
    assert queue.unsent == []


def test_lab_messages_stay_under_the_lab_root(mosquitto: Mosquitto) -> None:
    lab = Native(city="hilversum", device=DEVICE, site="bench", lab=True)
    with Subscriber(mosquitto.port, "#") as platform:
        with publishing(mosquitto.url, QueueInMemory(3), native=lab) as publisher:
            assert publisher.drain(10)
        eventually(lambda: len(numbers(platform.messages)) >= 3)
    assert {message.topic.split("/")[0] for message in platform.messages} == {"snellius-lab"}


# --------------------------------------------------------------------------------------------- brokers that come and go


def test_an_unreachable_broker_is_waited_for(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    queue = QueueInMemory(3)
    with publishing(broker.url, queue) as publisher:
        eventually(lambda: publisher.status.trouble, what="the trouble is told")
        waiting = publisher.status
        assert "refused" in (waiting.trouble or "")
        assert not waiting.is_connected
        with broker:
            assert publisher.drain(10)
            assert (publisher.status.is_connected, publisher.status.trouble) == (True, None)
    assert queue.unsent == []


def test_a_broker_killed_and_started_again_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.publish.mqtt.STEADY_S", 0.0)  # short waits every time
    with Mosquitto(tmp_path / "broker", persistent=True) as broker, Outbox(tmp_path / "outbox.sqlite") as outbox:
        heard: list[Heard] = []
        windows = [Release(a_window(), 10, PrivacyRule.CARRY_OVER, 0)] * 10
        with publishing(broker.url, outbox) as publisher:
            for _ in range(3):
                with Subscriber(broker.port, "snellius/#") as platform:
                    for _ in range(3):
                        outbox.commit(Settlement(tuple(windows), {}))
                    eventually(lambda: numbers(platform.messages), what="windows arrive")
                    broker.kill()  # in the middle of sending, or right after
                    outbox.commit(Settlement(tuple(windows), {}))
                    heard += platform.messages
                broker.start()
            with Subscriber(broker.port, "snellius/#") as platform:
                assert publisher.drain(20)
                # what the broker took while nobody listened is a hole in the numbers, and can be asked for again
                if holes := set(range(1, 121)) - set(numbers(heard + platform.messages)):
                    assert outbox.resend(min(holes), max(holes)) >= len(holes)
                    assert publisher.drain(20)
                eventually(lambda: set(numbers(heard + platform.messages)) == set(range(1, 121)), 20, "120 windows")
                heard += platform.messages
        assert outbox.inventory().waiting == 0
        ids = [json.loads(message.payload)["id"] for message in heard if "/flow/" in message.topic]
        assert set(ids) == {f"{DEVICE}/{outbox.epoch}/{seq}" for seq in range(1, 121)}


def test_the_last_will_is_said_when_the_device_vanishes(mosquitto: Mosquitto) -> None:
    script = (
        "import time\n"
        "from tests.support.released import *\n"
        "from edge.publish import Native, Publisher\n"
        "import edge.publish.connection as connection\n"
        "connection.WILL_DELAY_S = 1\n"
        f"native = Native(city='hilversum', device={DEVICE!r}, site='hvs-snelliuslaan-12')\n"
        f"publisher = Publisher(queue=QueueInMemory(), native=native, meta=a_meta(), status=a_status(), "
        f"url={mosquitto.url!r})\n"
        "publisher.start()\nassert publisher.drain(10)\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    with Subscriber(mosquitto.port, "snellius/#") as platform:
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as device:
            assert device.stdout is not None
            assert device.stdout.readline() == b"ready\n"
            assert states(platform)[-1:] == ["ready"]
            device.kill()
        eventually(lambda: states(platform)[-1:] == ["lost"], what="the will")
        said = json.loads(platform.on("/status")[-1].payload)
        assert (said["reasons"], said["since"]) == (["connection_lost"], None)
        with retained(mosquitto.port, f"{BASE}/status") as kept:
            assert json.loads(kept[f"{BASE}/status"])["state"] == "lost"


def test_an_orderly_stop_leaves_no_will(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.publish.connection.WILL_DELAY_S", 0)
    with Subscriber(mosquitto.port, "snellius/#") as platform:
        with publishing(mosquitto.url, QueueInMemory()) as publisher:
            assert publisher.drain(10)
        time.sleep(0.5)  # a will without delay would have come by now
        assert states(platform) == ["ready", "stopped"]


def test_a_reconnect_within_the_delay_is_no_news(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.publish.connection.WILL_DELAY_S", 1)
    will = NATIVE.status(a_status(State.LOST))[0]
    endpoint = Endpoint.of(mosquitto.url, username=DEVICE)
    with Subscriber(mosquitto.port, "snellius/#") as platform:
        Connection(endpoint, client_id=DEVICE, will=will).abandon("router restarts")
        back = Connection(endpoint, client_id=DEVICE, will=will)
        time.sleep(1.5)
        assert states(platform) == []
        back.abandon("power cut")
        eventually(lambda: states(platform) == ["lost"], what="the will")


@contextmanager
def odd_broker(*answers: bytes) -> Iterator[tuple[str, list[socket.socket]]]:
    """Answers each caller's packets with these bytes, one a packet, then only listens; address and callers."""
    callers: list[socket.socket] = []

    def serve(server: socket.socket) -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:
                return
            callers.append(caller)
            for answer in answers:
                caller.recv(65536)
                caller.sendall(answer)

    with socket.create_server((HOST, 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield f"mqtt://{HOST}:{server.getsockname()[1]}", callers
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for caller in callers:
            caller.close()


CONNACK = bytes.fromhex("2003000000")
SUBACK_NOT_AUTHORIZED = bytes.fromhex("9005000100" + "8787")


def test_a_broker_that_takes_but_never_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.publish.mqtt.ANSWER_TIMEOUT_S", 0.3)
    monkeypatch.setattr("edge.publish.mqtt.LEAVE_S", 0.1)
    queue = QueueInMemory(3)
    with odd_broker(CONNACK) as (url, callers), publishing(url, queue) as publisher:
        eventually(lambda: "no answer to a message" in (publisher.status.trouble or ""))
        eventually(lambda: len(callers) >= 2, what="another attempt")
    assert queue.unsent == [1, 2, 3]


@pytest.mark.parametrize(
    ("connack", "most"),
    [
        pytest.param(CONNACK, 10, id="by our own limit"),
        pytest.param(bytes.fromhex("2006000003" + "210004"), 4, id="by the broker's receive maximum"),
    ],
)
def test_few_messages_are_unanswered_at_a_time(connack: bytes, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.publish.mqtt.LEAVE_S", 0.0)
    with odd_broker(connack) as (url, callers), publishing(url, QueueInMemory(50)):
        eventually(lambda: callers)
        eventually(lambda: callers[0].recv(1_000_000, socket.MSG_PEEK).count(b'{"schema":') >= most)
        time.sleep(0.2)  # for one too many
        sent = callers[0].recv(1_000_000)
    assert sent.count(b'{"schema":') == most


def test_a_broker_that_says_nothing_at_all_is_told() -> None:
    with odd_broker() as (url, _), pytest.raises(BrokerUnreachable, match=r"no answer to CONNECT within 0\.3 s"):
        Connection(Endpoint.of(url, username=DEVICE), client_id=DEVICE, timeout_s=0.3)


def test_something_that_does_not_speak_mqtt_is_told() -> None:
    with (
        odd_broker(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (url, _),
        pytest.raises(BrokerUnreachable, match=HOST),
    ):
        Connection(Endpoint.of(url, username=DEVICE), client_id=DEVICE, timeout_s=1)


def test_a_broker_that_refuses_subscriptions_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.publish.mqtt.LEAVE_S", 0.1)
    with (
        odd_broker(CONNACK, SUBACK_NOT_AUTHORIZED) as (url, _),
        publishing(url, QueueInMemory()) as publisher,
    ):
        eventually(lambda: publisher.status.trouble == "the broker refuses subscriptions to ack and cmd")
        assert publisher.status.is_connected


def test_waits_between_attempts_are_random_and_grow_to_five_minutes() -> None:
    chance = random.Random(1)
    waits = {
        failures: [retry_wait_s(failures, 4.0, chance) for _ in range(2000)] for failures in (0, 1, 2, 3, 7, 10_000)
    }
    for failures, bound_s in ((0, 4), (1, 4), (2, 8), (3, 16), (7, 256), (10_000, 300)):
        assert 0 <= min(waits[failures]) < 0.05 * bound_s
        assert 0.95 * bound_s < max(waits[failures]) <= bound_s


@pytest.mark.parametrize("program", ["mosquitto", "iotcore"])
def test_the_broker_of_the_demo_carries_everything(program: Program) -> None:
    if program == "iotcore":
        pytest.importorskip("iotcore", reason="the extra [demo] is not installed")
    queue = QueueInMemory(50)
    with LoopbackBroker(program) as broker, Subscriber(broker.port, "snellius/#") as platform:
        with publishing(broker.url, queue) as publisher:
            assert publisher.drain(10)
            platform.publish(f"{BASE}/cmd", b'{"from":4,"to":6}')
            platform.wait_for(1, "/cmd/result")
            assert publisher.drain(10)
        eventually(lambda: len(numbers(platform.messages)) >= 53)
        assert numbers(platform.messages) == [*range(1, 51), 4, 5, 6]
        eventually(lambda: states(platform) == ["ready", "stopped"])
        assert platform.on("/flow/forward")[0].properties["ContentType"] == "application/json"
        with retained(broker.port) as kept:
            assert set(kept) == {f"{BASE}/meta", f"{BASE}/status"}


# ------------------------------------------------------------------------------------------------ brokers that refuse

READ_ONLY_ACL = (
    f"user {DEVICE}\ntopic write {BASE}/meta\ntopic write {BASE}/status\ntopic read #\nuser platform\ntopic #\n"
)
CONTRACT_ACL = """\
user platform
topic readwrite #
pattern write snellius/1/hilversum/%u/#
pattern read snellius/1/hilversum/%u/cmd
pattern read snellius/1/hilversum/%u/ack
"""


def test_a_refused_window_is_kept_told_and_sent_when_it_is_allowed(tmp_path: Path) -> None:
    queue = QueueInMemory(25)
    with (
        Mosquitto(tmp_path, acl=READ_ONLY_ACL) as broker,
        Subscriber(broker.port, "snellius/#", username="platform") as platform,
        publishing(broker.url, queue) as publisher,
    ):
        eventually(lambda: publisher.status.refused, what="the refusal is told")
        assert set(publisher.status.refused) == {"Not authorized"}
        eventually(lambda: states(platform)[-1:] == ["degraded"])
        assert json.loads(platform.on("/status")[-1].payload)["reasons"] == ["broker_refuses"]
        assert queue.unsent == list(range(1, 26))
        assert not publisher.drain(0.5)
        assert states(platform) == ["ready", "degraded"]  # steady while the refusal lasts

        broker.set_acl(CONTRACT_ACL)
        broker.reload()
        assert publisher.drain(10)
        eventually(lambda: states(platform)[-1:] == ["ready"])
        eventually(lambda: len(numbers(platform.messages)) >= 25)
        assert sorted(numbers(platform.messages)) == list(range(1, 26))
        assert publisher.status.refused == {}
    assert queue.unsent == []


def test_the_access_list_of_the_contract_is_all_that_a_device_needs(tmp_path: Path) -> None:
    queue = QueueInMemory(3)
    with (
        Mosquitto(tmp_path, acl=CONTRACT_ACL) as broker,
        Subscriber(broker.port, "snellius/#", username="platform") as platform,
        publishing(broker.url, queue) as publisher,
    ):
        assert publisher.drain(10)
        platform.publish(f"{BASE}/ack", b'{"epoch":"7f3a91c2","upto":2}')
        platform.publish(f"{BASE}/cmd", b'{"from":2,"to":2}')
        platform.wait_for(1, "/cmd/result")
        assert publisher.drain(10)
        assert publisher.status.refused == {}
        assert queue.acks == [(EPOCH, 2)]


def test_one_refused_direction_does_not_stop_the_other(tmp_path: Path) -> None:
    queue = QueueInMemory(12)
    acl = READ_ONLY_ACL.replace(f"user {DEVICE}\n", f"user {DEVICE}\ntopic write {BASE}/flow/forward\n")
    with (
        Mosquitto(tmp_path, acl=acl) as broker,
        Subscriber(broker.port, "snellius/#", username="platform") as platform,
        publishing(broker.url, queue, refused_retry_s=60),
    ):
        eventually(lambda: set(numbers(platform.messages)) == {1, 3, 5, 7, 9, 11})
        eventually(lambda: queue.unsent == [2, 4, 6, 8, 10, 12])


def test_a_message_too_large_for_the_broker_is_held_and_the_rest_goes_on(tmp_path: Path) -> None:
    queue = QueueInMemory(3)
    queue.replace(2, a_window(counts=[1_000_000_000] * 25))
    largest = 256 + len(BASE) + 900  # between the two sizes
    with (
        Mosquitto(tmp_path, config=f"max_packet_size {largest}") as broker,
        Subscriber(broker.port, "snellius/+/+/+/flow/#") as platform,
        publishing(broker.url, queue) as publisher,
    ):
        eventually(lambda: set(numbers(platform.messages)) == {1, 3})
        assert publisher.status.refused == {"Packet too large": 1}
    assert queue.unsent == [2]


def test_a_wrong_password_is_told_without_the_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = tmp_path / "password"
    secret.write_text("marker-secret\n")
    secret.chmod(0o600)
    (tmp_path / "users").write_text("")
    caplog.set_level(logging.DEBUG)
    with (
        Mosquitto(tmp_path / "broker", config=f"password_file {tmp_path / 'users'}\nallow_anonymous false") as broker,
        publishing(broker.url, QueueInMemory(), password_file=secret) as publisher,
    ):
        eventually(lambda: publisher.status.trouble)
        trouble = publisher.status.trouble or ""
        assert f"the broker refused user '{DEVICE}': Not authorized" in trouble
        assert "marker-secret" not in trouble + repr(publisher) + repr(publisher.status) + caplog.text
        assert "marker-secret" not in repr(vars(publisher)["_endpoint"])


# --------------------------------------------------------------------------------------------------- the platform asks


def test_the_platform_asks_again_for_what_it_misses(mosquitto: Mosquitto) -> None:
    queue = QueueInMemory(10)
    with (
        Subscriber(mosquitto.port, "snellius/#") as platform,
        publishing(mosquitto.url, queue) as publisher,
    ):
        assert publisher.drain(10)
        platform.publish(f"{BASE}/cmd", b'{"cmd":"resend","id":"job-7","epoch":"7f3a91c2","from":4,"to":6}')
        (result,) = platform.wait_for(1, "/cmd/result")
        assert json.loads(result.payload) == {
            "schema": "snellius.cmd-result/1.0", "device": DEVICE, "epoch": EPOCH, "cmd": "resend", "id": "job-7",
            "ok": True, "reason": None, "queued": 3,
        }  # fmt: skip
        eventually(lambda: len(numbers(platform.messages)) == 13)
        assert numbers(platform.messages)[10:] == [4, 5, 6]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(b"rm -rf /", "malformed", id="no JSON"),
        pytest.param(b'{"cmd":"reboot"}', "malformed", id="unknown command"),
        pytest.param(b'{"from":1,"to":2,"epoch":"00000000"}', "other_epoch", id="another epoch"),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_answered_and_counted(
    mosquitto: Mosquitto, text: bytes, reason: str
) -> None:
    with (
        Subscriber(mosquitto.port, "snellius/#") as platform,
        publishing(mosquitto.url, QueueInMemory()) as publisher,
    ):
        assert publisher.drain(10)
        platform.publish(f"{BASE}/cmd", text)
        (result,) = platform.wait_for(1, "/cmd/result")
        said = json.loads(result.payload)
        assert (said["ok"], said["reason"]) == (False, reason)
        assert publisher.status.refused_commands == 1


def test_a_retained_command_is_not_obeyed(mosquitto: Mosquitto) -> None:
    with Subscriber(mosquitto.port, "snellius/#") as platform:
        platform.publish(f"{BASE}/cmd", b'{"from":1,"to":2}', retain=True)
        with publishing(mosquitto.url, QueueInMemory(2)):
            (result,) = platform.wait_for(1, "/cmd/result")
            assert json.loads(result.payload)["reason"] == "retained"


def test_a_retained_acknowledgement_reaches_the_queue(mosquitto: Mosquitto) -> None:
    queue = QueueInMemory()
    with Subscriber(mosquitto.port, "other") as platform:
        platform.publish(f"{BASE}/ack", b'{"epoch":"7f3a91c2","upto":41}', retain=True)
        with publishing(mosquitto.url, queue):
            eventually(lambda: queue.acks == [(EPOCH, 41)])


def test_a_flood_of_nonsense_does_not_stop_the_publisher(mosquitto: Mosquitto) -> None:
    queue = QueueInMemory()
    with (
        Subscriber(mosquitto.port, f"{BASE}/flow/#") as platform,
        publishing(mosquitto.url, queue) as publisher,
    ):
        assert publisher.drain(10)
        for size in range(100):
            platform.publish(f"{BASE}/cmd", b"{" * size * 100)
            platform.publish(f"{BASE}/ack", b"\x00" * size)
        queue.add(1)
        eventually(lambda: numbers(platform.messages) == [1])
        # 100 commands and 99 acknowledgements (an empty one clears a retained word); the broker drops the longest
        eventually(lambda: publisher.status.refused_commands == 199, what="every one counted")


# --------------------------------------------------------------------------------------------------------- surprises


class BrokenQueue(QueueInMemory):
    """Fails as a damaged disk does."""

    def __init__(self, failure: Exception) -> None:
        super().__init__(1)
        self.failure: Exception | None = failure

    def due(self, now_utc_ns: int, limit: int) -> list[Any]:
        if self.failure is not None:
            raise self.failure
        return super().due(now_utc_ns, limit)


def test_a_full_outbox_is_told_and_survived(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.publish.mqtt.FULL_PAUSE_S", 0.05)
    """The platform hears it while it lasts: words about the device do not pass through the outbox."""
    queue = BrokenQueue(OutboxFull("outbox.sqlite: no space left"))
    full = a_status(State.DEGRADED).model_copy(update={"reasons": (StatusReason.OUTBOX_FULL,)})
    with Subscriber(mosquitto.port, "snellius/#") as platform, publishing(mosquitto.url, queue) as publisher:
        eventually(lambda: publisher.status.trouble == "outbox.sqlite: no space left")
        publisher.tell(full)
        eventually(lambda: b"outbox_full" in platform.wait_for(1, "/status")[-1].payload)
        assert publisher.status.is_connected
        queue.failure = None
        assert publisher.drain(10)
        assert publisher.status.trouble is None
    assert queue.unsent == []


def test_a_surprise_ends_the_thread_and_is_told_to_the_service(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = Publisher(
        queue=BrokenQueue(RuntimeError("bit rot")), native=NATIVE, meta=a_meta(), status=a_status(), url=mosquitto.url
    )
    publisher.start()
    eventually(lambda: publisher.status.failure)
    assert publisher.status.failure == "RuntimeError: bit rot"
    assert not publisher.status.is_connected
    assert publisher.stop()
    assert "the publisher ended" in caplog.text


def test_stopping_what_never_started_is_no_error() -> None:
    publisher = Publisher(
        queue=QueueInMemory(), native=NATIVE, meta=a_meta(), status=a_status(), url="mqtt://127.0.0.1:1"
    )
    assert publisher.stop()


# ------------------------------------------------------------------------------------------------- where the broker is


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://127.0.0.1", Address("127.0.0.1", 1883, False)),
        ("mqtt://localhost:18830", Address("localhost", 18830, False)),
        ("mqtt://[::1]:1884", Address("::1", 1884, False)),
        ("mqtts://broker.hilversum.nl", Address("broker.hilversum.nl", 8883, True)),
        ("mqtts://10.0.0.7:443", Address("10.0.0.7", 443, True)),
    ],
)
def test_addresses_have_the_ports_of_the_standard(url: str, expected: Address) -> None:
    assert Address.parse(url) == expected


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        pytest.param("mqtt://broker.hilversum.nl", "expected mqtts://", id="clear text through a network"),
        pytest.param("mqtt://127.0.0.1.example.org", "expected mqtts://", id="a name that only looks local"),
        pytest.param("http://127.0.0.1", "expected mqtt://HOST", id="another protocol"),
        pytest.param("127.0.0.1:1883", "expected mqtt://HOST", id="no protocol"),
        pytest.param("mqtts://", "expected mqtt://HOST", id="no host"),
        pytest.param("mqtts://host:notaport", "expected a port", id="no number"),
        pytest.param("mqtts://host:70000", "expected a port", id="too large a number"),
        pytest.param("mqtts://host/path", "expected mqtt://HOST", id="a path"),
    ],
)
def test_other_addresses_are_refused_in_one_line(url: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=r"^mqtt\.url: " + complaint) as refusal:
        Address.parse(url)
    assert "\n" not in str(refusal.value)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadInput) as refusal:
        Address.parse("mqtts://hvs-0042:marker-secret@broker.hilversum.nl")
    assert "marker-secret" not in str(refusal.value)


def test_a_password_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("marker-secret")
    secret.chmod(0o644)
    with pytest.raises(BadInput, match="everybody on this computer may read") as refusal:
        Endpoint.of("mqtt://localhost", username=DEVICE, password_file=secret)
    assert "marker-secret" not in str(refusal.value)


# ----------------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("tls"))


def test_over_tls_both_sides_prove_who_they_are(tmp_path: Path, authority: Path) -> None:
    queue = QueueInMemory(3)
    with tls_broker(tmp_path, authority) as broker:
        options: dict[str, Any] = {name: authority / file for name, file in (
            ("ca_file", "ca.pem"), ("cert_file", "device.pem"), ("key_file", "device.key"),
        )}  # fmt: skip
        with publishing(f"mqtts://localhost:{broker.port}", queue, **options) as publisher:
            assert publisher.drain(10)
    assert queue.unsent == []


@pytest.mark.parametrize(
    ("certificate", "host", "ca", "complaint"),
    [
        pytest.param("broker", "localhost", "other-ca.pem", "self-signed certificate", id="another authority"),
        pytest.param("broker", "127.0.0.1", "ca.pem", "IP address mismatch", id="another name"),
        pytest.param("expired", "localhost", "ca.pem", "certificate has expired", id="expired"),
    ],
)
def test_a_broker_that_cannot_prove_who_it_is_gets_nothing(
    tmp_path: Path, authority: Path, certificate: str, host: str, ca: str, complaint: str
) -> None:
    with tls_broker(tmp_path, authority, certificate) as broker:
        endpoint = Endpoint.of(f"mqtts://{host}:{broker.port}", username=DEVICE, ca_file=authority / ca)
        with pytest.raises(BrokerUnreachable, match=f"{host}:{broker.port}: certificate refused: .*{complaint}"):
            Connection(endpoint, client_id="doctor")


def test_a_plain_broker_behind_a_tls_address_is_told(mosquitto: Mosquitto) -> None:
    endpoint = Endpoint.of(f"mqtts://localhost:{mosquitto.port}", username=DEVICE)
    with pytest.raises(BrokerUnreachable, match=f"localhost:{mosquitto.port}: "):
        Connection(endpoint, client_id="doctor", timeout_s=2)


def test_verification_cannot_be_switched_off(authority: Path) -> None:
    endpoint = Endpoint.of("mqtts://localhost", username=DEVICE, ca_file=authority / "ca.pem")
    assert endpoint.tls is not None
    assert endpoint.tls.verify_mode is ssl.CERT_REQUIRED
    assert endpoint.tls.check_hostname
    assert endpoint.tls.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param({"ca_file": "nowhere.pem"}, "mqtt.ca_file: cannot read .*No such file", id="no such file"),
        pytest.param({"ca_file": "san"}, "mqtt.ca_file: expected certificates", id="no certificate"),
        pytest.param({"key_file": "device.key"}, "mqtt.key_file: expected mqtt.cert_file", id="a key alone"),
        pytest.param(
            {"cert_file": "device.pem", "key_file": "broker.key"},
            "mqtt.cert_file: expected .* and its key",
            id="not its key",
        ),
    ],
)
def test_certificates_that_do_not_fit_are_refused_in_one_line(
    authority: Path, options: dict[str, str], complaint: str
) -> None:
    files = {name: authority / file for name, file in options.items()}
    with pytest.raises(BadInput, match=complaint) as refusal:
        Endpoint.of("mqtts://localhost", username=DEVICE, **files)
    assert "\n" not in str(refusal.value)
