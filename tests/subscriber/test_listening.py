"""Through a real broker into real databases: everything that poles publish is in both stores, once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.cli import main
from edge.domain import SpeedHistogram, WindowAggregate
from edge.publish import Endpoint, Message
from edge.subscriber import Listener, Store, ask_again
from edge.subscriber.database import StoreUnavailable
from edge.subscriber.listening import UNANSWERED
from tests.support.builders import BINNING, a_window
from tests.support.mosquitto import HOST, Mosquitto, eventually
from tests.support.postgresql import PostgreSql
from tests.support.published import CITY, published
from tests.support.traffic import numbered, passages, told

DEVICES = ("hvs-0042", "hvs-0043")
LOSSLESS = "max_queued_messages 0\nmax_inflight_messages 0"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "mosquitto", config=LOSSLESS) as running:
        yield running


def endpoint(broker: Mosquitto) -> Endpoint:
    return Endpoint.of(broker.url, username="platform")


@contextmanager
def listening(broker: Mosquitto, url: str, client_id: str, group: str | None = None) -> Iterator[Listener]:
    """A worker in a thread of its own."""
    stop = threading.Event()
    failures: list[Exception] = []
    made: list[Listener] = []
    ready = threading.Event()

    def work() -> None:
        try:
            with Store(url, create=True) as store:
                made.append(Listener(endpoint(broker), store, client_id=client_id, group=group, repairs=False))
                ready.set()
                made[0].run(stop)
        except Exception as failure:  # noqa: BLE001 - shown below
            failures.append(failure)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(30)
        assert failures == []
        eventually(lambda: made[0].is_listening, 30, "the broker has the subscriptions")
        yield made[0]
    finally:
        stop.set()
        thread.join(60)
    assert failures == []


class Street:
    """Poles: publish what they are told to, and send again what is asked for."""

    def __init__(self, broker: Mosquitto, messages: dict[str, dict[int, Message]]) -> None:
        self._messages = messages
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, "street", protocol=MQTTProtocolVersion.MQTTv5)
        self.client.max_queued_messages_set(0)
        self.client.on_message = self._asked
        self.client.connect(HOST, broker.port)
        self.client.subscribe(f"snellius/1/{CITY}/+/cmd", 1)
        self.client.loop_start()

    def publish(self, messages: list[Message]) -> None:
        sent = [self.client.publish(message.topic, message.payload, 1) for message in messages]
        for each in sent:
            each.wait_for_publish(60)

    def _asked(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        device = message.topic.split("/")[3]
        command = json.loads(message.payload)
        for seq in range(command["from"], command["to"] + 1):
            again = self._messages[device].get(seq)
            if again is not None:
                client.publish(again.topic, again.payload, 1)


@contextmanager
def a_street(broker: Mosquitto, messages: dict[str, dict[int, Message]]) -> Iterator[Street]:
    street = Street(broker, messages)
    try:
        yield street
    finally:
        street.client.disconnect()
        street.client.loop_stop()


@pytest.fixture(scope="module")
def month() -> tuple[dict[str, dict[int, Message]], dict[str, list[WindowAggregate]]]:
    """Thirty days of two poles through the real windows and the real rule: messages and records by device."""
    messages: dict[str, dict[int, Message]] = {}
    windows: dict[str, list[WindowAggregate]] = {}
    for number, device in enumerate(DEVICES):
        traffic = passages(first_day="2026-10-10", days=30, motor_a_day=(150, 300)[number], seed=number)
        queued = numbered(told(traffic, first_day="2026-10-10", seed=number), epoch=f"0000000{number}")
        messages[device] = {
            each.seq: published(each.record, each.seq, device=device, epoch=each.epoch) for each in queued
        }
        windows[device] = [each.record for each in queued if isinstance(each.record, WindowAggregate)]
    return messages, windows


def test_thirty_days_of_two_poles_are_the_same_in_both_stores_and_add_up_to_what_was_sent(
    month: tuple[dict[str, dict[int, Message]], dict[str, list[WindowAggregate]]],
    broker: Mosquitto,
    server: PostgreSql,
    tmp_path: Path,
) -> None:
    messages, windows = month
    rng = random.Random(7)
    sent: list[Message] = []
    lost = 0
    for by_seq in messages.values():
        kept = [message for seq, message in by_seq.items() if not (20 <= seq < 27 or rng.random() < 0.03)]
        last = max(by_seq)
        if by_seq[last] not in kept:
            kept.append(by_seq[last])
        lost += len(by_seq) - len(kept)
        sent += kept + rng.sample(kept, len(kept) // 10)  # a tenth comes twice
    for at in range(0, len(sent), 40):  # out of turn, within bounds and beyond
        block = sent[at : at + 40]
        rng.shuffle(block)
        sent[at : at + 40] = block
    total = sum(map(len, messages.values()))
    urls = {"sqlite": str(tmp_path / "city.sqlite"), "postgresql": server.new_database()}
    assert lost > 15

    with ExitStack() as opened:
        listeners = [opened.enter_context(listening(broker, url, f"to-{name}")) for name, url in urls.items()]
        street = opened.enter_context(a_street(broker, messages))
        street.publish(sent)
        for listener in listeners:
            eventually(lambda listener=listener: listener.tally["new"] == total - lost, 60, "what was sent is stored")
        with Store(urls["sqlite"]) as store:
            gaps = store.gaps()
            assert sum(gap.last - gap.first + 1 for gap in gaps) == lost
            assert all(gap.is_present for gap in gaps)
            ask_again(endpoint(broker), gaps, client_id="platform-resend")
        for listener in listeners:
            eventually(lambda listener=listener: listener.tally["new"] == total, 60, "what was missing is stored")

    contents = {}
    for name, url in urls.items():
        with Store(url) as store:
            assert store.gaps() == []
            assert store.counts("contradiction") == []
            flows, mixes = list(store.flows()), list(store.mixes())
            contents[name] = [each.encode() for each in (*flows, *mixes)]
            for device, recorded in windows.items():
                mine = [flow for flow in flows if flow.device == device]
                whole = SpeedHistogram.empty(BINNING)
                for flow in mine:
                    whole = whole + flow.speed.hist.read()
                truth = SpeedHistogram.empty(BINNING)
                for window in recorded:
                    truth = truth + window.histogram
                assert whole == truth
                assert sum(flow.count for flow in mine) == sum(window.count for window in recorded)
            bodies = sorted(body for (body,) in store._database.rows("SELECT body FROM message"))
            assert bodies == sorted(m.payload.decode() for by_seq in messages.values() for m in by_seq.values())
    assert contents["sqlite"] == contents["postgresql"]


def test_workers_share_the_messages_and_lose_none(broker: Mosquitto, tmp_path: Path) -> None:
    url = str(tmp_path / "city.sqlite")
    messages = {DEVICES[0]: {seq: published(a_window(with_mix=False), seq) for seq in range(1, 201)}}
    with ExitStack() as opened:
        workers = [opened.enter_context(listening(broker, url, f"worker-{n}", group="workers")) for n in (1, 2)]
        street = opened.enter_context(a_street(broker, messages))
        street.publish(list(messages[DEVICES[0]].values()))
        eventually(lambda: sum(worker.tally["new"] for worker in workers) == 200, 30)
        shares = [worker.tally["new"] for worker in workers]
    assert min(shares) > 20
    assert sum(worker.tally["known"] for worker in workers) == 0


def test_while_the_store_is_away_the_broker_keeps_and_memory_stays_small(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.subscriber.listening.RETRY_S", (0.05, 0.1))
    away = threading.Event()
    largest = 0
    add = Store.add

    def sometimes(store: Store, batch: list[object], **more: object) -> object:
        nonlocal largest
        largest = max(largest, len(batch))
        if away.is_set():
            raise StoreUnavailable("the store: on holiday")
        return add(store, batch, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "add", sometimes)
    count = 3 * UNANSWERED
    messages = {DEVICES[0]: {seq: published(a_window(with_mix=False), seq) for seq in range(1, count + 1)}}
    url = str(tmp_path / "city.sqlite")
    with listening(broker, url, "platform") as worker, a_street(broker, messages) as street:
        street.publish([messages[DEVICES[0]][1]])
        eventually(lambda: worker.tally["new"] == 1, 30)
        away.set()
        street.publish([message for seq, message in messages[DEVICES[0]].items() if seq > 1])
        eventually(lambda: largest > 0, 30)
        time.sleep(0.5)
        assert worker.tally["new"] == 1
        away.clear()
        eventually(lambda: worker.tally["new"] + worker.tally["known"] >= count, 60)
    with Store(url) as store:
        assert store.gaps() == []
        assert len(list(store.flows())) == count
    assert largest <= UNANSWERED


def test_what_comes_while_nobody_listens_waits_at_the_broker(broker: Mosquitto, tmp_path: Path) -> None:
    url = str(tmp_path / "city.sqlite")
    messages = {DEVICES[0]: {seq: published(a_window(with_mix=False), seq) for seq in range(1, 31)}}
    with a_street(broker, messages) as street:
        with listening(broker, url, "platform") as worker:
            street.publish([messages[DEVICES[0]][1]])
            eventually(lambda: worker.tally["new"] == 1, 30)
        street.publish([message for seq, message in messages[DEVICES[0]].items() if seq > 1])
        with listening(broker, url, "platform") as worker:
            eventually(lambda: worker.tally["new"] == 29, 30)


def test_the_verb_survives_a_kill_and_repairs_what_is_missing(
    broker: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(tmp_path / "city.sqlite")
    messages = {DEVICES[0]: {seq: published(a_window(with_mix=False), seq) for seq in range(1, 61)}}

    def started() -> subprocess.Popen[bytes]:
        program = Path(sys.executable).with_name("snellius")
        asked = ["subscribe", "run", "--broker", broker.url, "--store", url, "--workers", "2"]
        with (tmp_path / "log").open("ab") as log:
            return subprocess.Popen([str(program), *asked], stderr=log, start_new_session=True)

    def stored() -> int:
        try:
            with Store(url) as store:
                return len(list(store.flows()))
        except Exception:  # noqa: BLE001 - not there yet
            return -1

    process = started()
    try:
        eventually(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().count("listening") >= 2, 60)
        with a_street(broker, messages) as street:
            street.publish([messages[DEVICES[0]][seq] for seq in range(1, 21)])
            eventually(lambda: stored() == 20, 30)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            street.publish([messages[DEVICES[0]][seq] for seq in range(21, 61) if not 30 <= seq < 35])
            process = started()
            eventually(lambda: stored() == 55, 60)
            with pytest.raises(SystemExit) as ended:
                main(["subscribe", "gaps", "--store", url, "--json"])
            assert ended.value.code == 1
            assert json.loads(capsys.readouterr().out)["gaps"][0]["from"] == 30
            with pytest.raises(SystemExit) as ended:
                main(["subscribe", "resend", "--store", url, "--broker", broker.url])
            assert ended.value.code in (0, None)
            assert "asked for 1 gaps of 1 poles" in capsys.readouterr().out
            eventually(lambda: stored() == 60, 30)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
