"""A day of a street through the real windows, outbox, publisher and broker, read with parsers made from the files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from edge.clock import ClockState
from edge.domain import Settlement
from edge.outbox import Outbox
from edge.publish import HomeAssistant, Native, NgsiLd, Publisher
from edge.publish.payload import Health, WatchedSince
from edge.publish.profiles.ngsi_ld import FORBIDDEN
from tests.contract.reading import channel_of, closed, generated_parsers, schema, validator
from tests.support.mosquitto import Heard, Mosquitto, Subscriber
from tests.support.released import DEVICE, EPOCH, a_meta, a_status
from tests.support.traffic import passages, told

DAY = "2026-11-22"  # with its night, so that the traffic day of the 22nd is whole
SITE = "hvs-snelliuslaan-12"
CITY = "hilversum"
BASE = f"snellius/1/{CITY}/{DEVICE}"
AFTERWARDS = datetime(2026, 11, 24, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A parser for each message, generated from the schema files."""
    return generated_parsers(tmp_path_factory.mktemp("parsers"))


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Heard]]:
    """Everything that a platform hears of two days of a street of 1,500 vehicles a day, in every profile."""
    folder = tmp_path_factory.mktemp("day")
    with ExitStack() as opened:
        opened.enter_context(pytest.MonkeyPatch.context()).setattr("edge.publish.mqtt.POLL_S", 0.02)
        broker = opened.enter_context(Mosquitto(folder / "mosquitto"))
        outbox = opened.enter_context(Outbox(folder / "outbox.sqlite"))
        traffic = passages(first_day=DAY, days=2, motor_a_day=1500, bicycles_a_day=400, seed=1)
        for each in told(traffic, first_day=DAY, seed=1):
            outbox.commit(Settlement((each.release,), {}))
        waiting = outbox.inventory().waiting
        platform = opened.enter_context(Subscriber(broker.port, "#"))
        native = Native(city=CITY, device=DEVICE, site=SITE)
        publisher = Publisher(
            queue=outbox,
            native=native,
            also=(
                NgsiLd(device=DEVICE, site=SITE, api_key="street-speed"),
                HomeAssistant(device=DEVICE, base=native.base),
            ),
            meta=a_meta(),
            status=a_status(),
            url=broker.url,
            utc_ns=lambda: int(AFTERWARDS.timestamp()) * 10**9,
        )
        publisher.start()
        publisher.tell(
            Health(
                device=DEVICE,
                epoch=EPOCH,
                time=AFTERWARDS,
                uptime_s=3600,
                clock=ClockState.SYNCED,
                coverage=WatchedSince(since=AFTERWARDS - timedelta(minutes=5), share=0.998),
            )
        )
        assert publisher.drain(60)
        platform.publish(f"{BASE}/cmd", json.dumps({"from": 3, "to": 4, "id": "hole-1"}).encode())
        platform.publish(f"{BASE}/cmd", b"reboot")
        platform.wait_for(2, "/cmd/result")
        assert publisher.drain(20)
        numbered = [
            message for message in platform.messages if "/flow/" in message.topic or message.topic.endswith("/mix")
        ]
        assert len(numbered) == waiting + 2
        assert publisher.stop()
        platform.wait_for(2, "/status")
        yield [message for message in platform.messages if not message.topic.endswith("/cmd")]


def test_a_generated_parser_understands_every_message_of_every_profile(
    heard: list[Heard], parsers: dict[str, Any]
) -> None:
    kinds = Counter()
    for message in heard:
        kind = channel_of(message.topic)
        parsers[kind].model_validate_json(message.payload)
        kinds[kind] += 1
    assert set(kinds) == {"flow", "mix", "meta", "status", "health", "cmd-result", "ngsi-ld", "homeassistant"}
    assert kinds["flow"] > 150
    assert kinds["ngsi-ld"] == kinds["flow"]  # the two that were sent again as well


def test_every_message_is_valid_for_an_independent_judge_and_holds_nothing_unnamed(heard: list[Heard]) -> None:
    judges = {
        name: (validator(schema(name)), validator(closed(schema(name))))
        for name in map(channel_of, {m.topic for m in heard})
    }
    for message in heard:
        for judge in judges[channel_of(message.topic)]:
            judge.validate(json.loads(message.payload))


def test_a_reader_of_today_understands_a_later_minor_version(heard: list[Heard], parsers: dict[str, Any]) -> None:
    message = json.loads(next(each.payload for each in heard if "/flow/" in each.topic))
    message |= {"schema": "snellius.flow/1.7", "weather": {"rain_mm": 0.4}}
    message["quality"] |= {"visibility_m": 900}
    assert parsers["flow"].model_validate(message).count == message["count"]
    validator(schema("flow")).validate(message)


def test_numbers_have_no_gap_and_what_comes_twice_is_the_same(heard: list[Heard]) -> None:
    by_number: dict[int, bytes] = {}
    for message in heard:
        if channel_of(message.topic) in ("flow", "mix"):
            number = json.loads(message.payload)["seq"]
            assert by_number.setdefault(number, message.payload) == message.payload
    assert sorted(by_number) == list(range(1, len(by_number) + 1))


def test_both_dialects_tell_of_the_same_windows(heard: list[Heard]) -> None:
    native = {m["id"]: m for m in (json.loads(h.payload) for h in heard if channel_of(h.topic) == "flow")}
    fiware = [json.loads(h.payload) for h in heard if channel_of(h.topic) == "ngsi-ld"]
    assert {each["messageId"] for each in fiware} == set(native)
    for each in fiware:
        window = native[each["messageId"]]
        assert each["TimeInstant"] == each["dateObservedTo"] == window["window"]["end"]
        assert (each["intensity"], each["laneDirection"]) == (window["count"], window["direction"])
        assert each["speedHistogram"] == window["speed"]["hist"]
        assert each["speedStatistics"].get("v85") == window["speed"]["v85"]


def test_an_entity_hears_its_windows_oldest_first(heard: list[Heard]) -> None:
    first_time: dict[str, list[str]] = {}
    known = set()
    for message in heard:
        if channel_of(message.topic) == "ngsi-ld":
            measure = json.loads(message.payload)
            if measure["messageId"] not in known:
                first_time.setdefault(message.topic, []).append(measure["TimeInstant"])
            known.add(measure["messageId"])
    assert set(first_time) == {f"/json/street-speed/{DEVICE}-{way}/attrs" for way in ("forward", "backward")}
    assert all(instants == sorted(instants) for instants in first_time.values())


def test_no_value_holds_a_character_that_orion_refuses(heard: list[Heard]) -> None:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from (text for key, inner in value.items() for text in (key, *texts(inner)))
        elif isinstance(value, list):
            yield from (text for inner in value for text in texts(inner))

    for message in heard:
        if channel_of(message.topic) == "ngsi-ld":
            assert not [text for text in texts(json.loads(message.payload)) if set(text) & set(FORBIDDEN)]


def test_attributes_are_the_same_closed_set_in_every_measure_and_none_is_null(heard: list[Heard]) -> None:
    measures = [json.loads(message.payload) for message in heard if channel_of(message.topic) == "ngsi-ld"]
    assert len({frozenset(measure) for measure in measures}) == 1
    names = set(measures[0])
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name) for name in names)
    assert not {name for name in names if name.lower().startswith(("min", "max"))}  # one person's speed
    assert all(value is not None for measure in measures for value in measure.values())


def test_home_assistant_finds_each_of_its_values_in_a_native_message(heard: list[Heard]) -> None:
    jinja = pytest.importorskip("jinja2")  # the language of the templates; comes with the code generator
    (discovery,) = (json.loads(each.payload) for each in heard if channel_of(each.topic) == "homeassistant")
    latest = {message.topic: json.loads(message.payload) for message in heard}
    shown = {
        name: jinja.Template(component["value_template"]).render(value_json=latest[component["state_topic"]])
        for name, component in discovery["cmps"].items()
    }
    last = latest[f"{BASE}/flow/forward"]
    assert shown[f"{DEVICE}_forward_v85"] == str(last["speed"]["v85"])
    assert shown[f"{DEVICE}_forward_vehicles"] == str(last["count"])
    assert float(shown[f"{DEVICE}_forward_over_limit"]) == pytest.approx(
        100 * last["limit"]["over"] / last["speed"]["n"], abs=0.05
    )
    assert shown[f"{DEVICE}_forward_window_end"] == last["window"]["end"]
    assert shown[f"{DEVICE}_state"] == "stopped"
    assert shown[f"{DEVICE}_coverage"] == "99.8"
    available = jinja.Template(discovery["availability_template"])
    assert available.render(value_json=latest[discovery["availability_topic"]]) == "offline"
    assert available.render(value_json={"state": "degraded"}) == "online"


def test_the_day_holds_windows_with_and_without_percentiles(heard: list[Heard]) -> None:
    speeds = [json.loads(message.payload)["speed"] for message in heard if channel_of(message.topic) == "flow"]
    assert {speed["v85"] is None for speed in speeds} == {True, False}
    assert min(speed["n"] for speed in speeds) >= 10
