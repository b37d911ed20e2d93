"""The dialects of FIWARE and Home Assistant, against stored files and a real broker."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.assembly import also_spoken, broker_endpoint
from edge.domain import Direction
from edge.errors import BadInput
from edge.publish import HomeAssistant, Message, Native, NgsiLd, Profile, Publisher
from edge.settings import (
    CalibrationSettings,
    LabSettings,
    MqttSettings,
    OutboxSettings,
    Settings,
    SiteSettings,
    SourceSettings,
)
from tests.support.mosquitto import Mosquitto, Subscriber, eventually, retained
from tests.support.released import DEVICE, PROVENANCE, QueueInMemory, a_day, a_meta, a_status, a_window, queued

GOLDEN = Path(__file__).parents[1] / "golden"
SITE = "hvs-snelliuslaan-12"
NATIVE = Native(city="hilversum", device=DEVICE, site=SITE)
NGSI_LD = NgsiLd(device=DEVICE, site=SITE, api_key="street-speed")
HOME_ASSISTANT = HomeAssistant(device=DEVICE, base=NATIVE.base)
DISCOVERY = f"homeassistant/device/{DEVICE}/config"


def stored(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return read


def test_a_window_as_fiware_reads_it() -> None:
    (message,) = NGSI_LD.measurement(queued(a_window()))
    assert message == Message("/json/street-speed/hvs-0042-forward/attrs", message.payload)
    assert json.loads(message.payload) == stored("ngsi-ld/ngsi-ld.json")


def test_what_a_small_window_cannot_tell_is_left_out_inside_one_attribute() -> None:
    few = a_window(direction=Direction.BACKWARD, counts=[0] * 10 + [12] + [0] * 14)
    (message,) = NGSI_LD.measurement(queued(few))
    assert json.loads(message.payload) == stored("ngsi-ld/few.json")
    assert set(json.loads(message.payload)) == set(stored("ngsi-ld/ngsi-ld.json"))


def test_a_name_with_characters_that_orion_refuses_loses_them() -> None:
    odd = replace(a_window(), provenance=replace(PROVENANCE, calibration="cal(2);<x>", software="1.4.0='a'"))
    (message,) = NGSI_LD.measurement(queued(odd))
    said = json.loads(message.payload)
    assert (said["calibrationId"], said["softwareVersion"]) == ("cal-2---x-", "1.4.0--a-")


def test_home_assistant_learns_once_where_each_value_stands() -> None:
    (message,) = HOME_ASSISTANT.meta(a_meta())
    assert message == Message(DISCOVERY, message.payload, retain=True)
    assert json.loads(message.payload) == stored("homeassistant/homeassistant.json")


@pytest.mark.parametrize("profile", [NGSI_LD, HOME_ASSISTANT], ids=lambda profile: type(profile).__name__)
def test_what_a_dialect_does_not_speak_about_it_says_with_no_message(profile: Profile) -> None:
    assert list(profile.status(a_status())) == []
    assert list(profile.measurement(queued(a_day()))) == []


@pytest.mark.parametrize("key", ["", "a/b", "+", "#", "ü", "a b", "a\n"])
def test_a_key_that_does_not_fit_into_a_topic_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(BadInput, match=r"^mqtt.ngsi_ld_api_key: expected only letters, digits, - and _$"):
        NgsiLd(device=DEVICE, site=SITE, api_key=key)


# ------------------------------------------------------------------------------------------------------- with a broker


def a_publisher(url: str, queue: QueueInMemory, *also: Profile) -> Publisher:
    waits = {"first_retry_s": 0.1, "refused_retry_s": 0.2}
    return Publisher(queue=queue, native=NATIVE, also=also, meta=a_meta(), status=a_status(), url=url, **waits)


def test_home_assistant_is_told_again_when_it_starts(mosquitto: Mosquitto) -> None:
    publisher = a_publisher(mosquitto.url, QueueInMemory(), HOME_ASSISTANT)
    with Subscriber(mosquitto.port, "homeassistant/#") as home:
        publisher.start()
        home.wait_for(1, "/config")
        home.publish("homeassistant/status", b"offline")
        home.publish("homeassistant/status", b"online")
        home.wait_for(2, "/config")
        assert publisher.drain(10)
        time.sleep(0.3)
        assert len(home.on("/config")) == 2  # once on arrival, once for "online", not for "offline"
    with retained(mosquitto.port, "homeassistant/#") as found:
        assert set(found) == {DISCOVERY}
    assert publisher.stop()
    assert publisher.status.refused_commands == 0


def test_a_dialect_that_the_broker_refuses_does_not_have_the_other_one_said_again(mosquitto: Mosquitto) -> None:
    acl = f"user {DEVICE}\ntopic readwrite snellius/#\nuser platform\ntopic read #\n"
    with Mosquitto(mosquitto.folder / "strict", acl=acl) as strict:
        queue = QueueInMemory(2)
        publisher = a_publisher(strict.url, queue, NGSI_LD)
        with Subscriber(strict.port, "#", username="platform") as platform:
            publisher.start()
            eventually(lambda: sum(publisher.status.refused.values()) == 2, what="two records held back")
            time.sleep(0.8)  # refused records are offered again four times
            assert len([each for each in platform.messages if "/flow/" in each.topic]) == 2
            assert queue.unsent == [1, 2]
            strict.set_acl(
                acl.replace("topic readwrite snellius/#", "topic readwrite snellius/#\ntopic readwrite /json/#")
            )
            strict.reload()
            eventually(lambda: queue.unsent == [], what="everything taken")
            platform.wait_for(2, "/attrs")
            assert len([each for each in platform.messages if "/flow/" in each.topic]) == 2
        assert publisher.stop()


def test_what_the_platform_asks_for_again_is_said_in_every_dialect(mosquitto: Mosquitto) -> None:
    acl = f"user {DEVICE}\ntopic readwrite snellius/#\nuser platform\ntopic readwrite #\n"
    with Mosquitto(mosquitto.folder / "strict", acl=acl) as strict:
        publisher = a_publisher(strict.url, QueueInMemory(1), NGSI_LD)
        with Subscriber(strict.port, "#", username="platform") as platform:
            publisher.start()
            eventually(lambda: publisher.status.refused, what="a record held back")
            platform.publish(NATIVE.command_topic, b'{"from":1,"to":1}')
            platform.wait_for(2, "/flow/forward")
        assert publisher.stop()


def test_the_access_list_of_the_page_lets_a_device_speak_both_dialects_and_nobody_elses(mosquitto: Mosquitto) -> None:
    page = (GOLDEN.parents[1] / "docs" / "mqtt" / "README.md").read_text(encoding="utf-8")
    acl = page.split("```acl\n", 1)[1].split("```", 1)[0]
    assert "pattern write /json/" in acl
    with Mosquitto(mosquitto.folder / "strict", acl=acl) as strict:
        queue = QueueInMemory(2)
        publisher = a_publisher(strict.url, queue, NGSI_LD, HOME_ASSISTANT)
        publisher.start()
        eventually(lambda: queue.unsent == [], what="everything taken")
        assert publisher.status.trouble is None
        assert publisher.stop()
        elsewhere = QueueInMemory(1)
        stranger = Publisher(
            queue=elsewhere,
            native=Native(city="hilversum", device="hvs-0666", site=SITE),
            also=[NGSI_LD],  # in the name of another device
            meta=a_meta(),
            status=a_status(),
            url=strict.url,
        )
        stranger.start()
        eventually(lambda: stranger.status.refused, what="a stranger refused")
        assert stranger.stop()
        assert elsewhere.unsent == [1]


# -------------------------------------------------------------------------------------------------------- from settings


def some_settings(**mqtt: Any) -> Settings:
    return Settings.model_construct(
        site=SiteSettings(city="hilversum", device=DEVICE),
        source=SourceSettings(url="street.mp4"),
        calibration=CalibrationSettings(file=Path("cal.json")),
        lab=LabSettings(enabled=mqtt.pop("lab", False)),
        mqtt=MqttSettings(**mqtt),
        outbox=OutboxSettings(),
    )


def test_the_settings_say_which_dialects_are_spoken() -> None:
    assert also_spoken(MqttSettings(), NATIVE) == []
    every = MqttSettings(profiles=("native", "homeassistant", "ngsi-ld"), ngsi_ld_api_key="street-speed")
    assert [type(each) for each in also_spoken(every, NATIVE)] == [NgsiLd, HomeAssistant]
    broker_endpoint(some_settings(profiles=("native", "homeassistant"), lab=True))


def test_a_laboratory_never_feeds_the_entities_of_a_city() -> None:
    with pytest.raises(BadInput, match=r"^mqtt.profiles: expected no ngsi-ld in lab mode"):
        broker_endpoint(some_settings(profiles=("native", "ngsi-ld"), ngsi_ld_api_key="a", lab=True))
