"""The examples of the page for platform developers do what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from typing import Any

import pytest

from edge.domain import Direction, SpeedHistogram
from edge.publish import Native
from edge.settings import example_toml
from tests.contract.reading import DOCS
from tests.support.mosquitto import HOST, Mosquitto, Subscriber, eventually
from tests.support.released import BINNING_30, DEVICE, EXAMPLE_COUNTS, a_window, queued

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (DOCS / "README.md").read_text(encoding="utf-8")
NATIVE = Native(city="hilversum", device=DEVICE, site="hvs-snelliuslaan-12")
NOON = (0, 1, 0, 4, 9, 2, 7, 2, 6, 3, 7, 4, 9, 9, 14, 2, 2, 1, 0, 0, 0, 0, 3, 0, 1)
WINDOWS = [
    queued(a_window(direction=direction, counts=counts), seq)
    for seq, (direction, counts) in enumerate(
        [(Direction.FORWARD, EXAMPLE_COUNTS), (Direction.BACKWARD, NOON), (Direction.FORWARD, NOON)], start=1
    )
]


def blocks(language: str) -> list[str]:
    """The pieces of code of one language, in the order of the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def said_by_the_device(platform: Subscriber) -> None:
    for each in (*WINDOWS, WINDOWS[0]):  # the first one twice
        (message,) = NATIVE.measurement(each)
        platform.publish(message.topic, message.payload)


def test_the_python_example_stores_once_and_computes_the_v85_of_a_day(mosquitto: Mosquitto) -> None:
    reading, printing = blocks("python")
    space: dict[str, Any] = {}
    exec(reading, space)
    subscribed = threading.Event()
    client = space["client"]
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(HOST, mosquitto.port)
    client.loop_start()
    try:
        assert subscribed.wait(10)
        with Subscriber(mosquitto.port, "nothing", client_id="device") as device:
            said_by_the_device(device)
        eventually(lambda: len(space["stored"]) == 3, what="three windows stored")
    finally:
        client.disconnect()
        client.loop_stop()
    exec(printing, space)
    whole = sum(
        (SpeedHistogram(BINNING_30, counts) for counts in (EXAMPLE_COUNTS, NOON, NOON)),
        SpeedHistogram.empty(BINNING_30),
    )
    assert space["v85"](space["day"]) == pytest.approx(whole.quantile_kmh(0.85))


def test_the_mosquitto_sub_example_prints_every_window(mosquitto: Mosquitto) -> None:
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto_sub is not installed (apt install mosquitto-clients)")
    (line,) = blocks("sh")
    _, *options = [word.strip("'") for word in line.split()]
    with Mosquitto(mosquitto.folder / "talkative", config="log_type all") as broker:
        command = ["mosquitto_sub", "-h", HOST, "-p", str(broker.port), *options, "-C", "4", "-W", "20"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            log = broker.folder / "mosquitto.log"
            eventually(lambda: "Sending SUBACK to platform-1" in log.read_text(), what="mosquitto_sub subscribed")
            with Subscriber(broker.port, "nothing", client_id="device") as device:
                said_by_the_device(device)
            heard, _ = reader.communicate(timeout=20)
    assert reader.returncode == 0
    assert [json.loads(each.split(" ", 1)[1])["seq"] for each in heard.splitlines()] == [1, 2, 3, 1]


def test_the_node_red_example_is_a_flow_whose_wires_lead_somewhere() -> None:
    nodes = json.loads(blocks("json")[0])
    names = {node["id"] for node in nodes}
    targets = {target for node in nodes for wire in node.get("wires", []) for target in wire}
    assert targets | {node["broker"] for node in nodes if node["type"] == "mqtt in"} <= names
    read = set(re.findall(r"f\.([a-z_.0-9]+)", next(node["func"] for node in nodes if node["type"] == "function")))
    (message,) = NATIVE.measurement(WINDOWS[0])
    assert [path for path in read if not _has(json.loads(message.payload), path)] == []


def test_the_telegraf_example_is_toml_and_reads_fields_that_exist() -> None:
    (text,) = blocks("toml")
    (source,) = tomllib.loads(text)["inputs"]["mqtt_consumer"]
    (form,) = source["json_v2"]
    (message,) = NATIVE.measurement(WINDOWS[0])
    paths = [form["timestamp_path"], *(each["path"].partition("|")[0] for each in form["tag"] + form["field"])]
    assert [path for path in paths if not _has(json.loads(message.payload), path)] == []


def test_the_settings_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`mqtt\.(\w+)`", PAGE))
    assert named == {"profiles", "ngsi_ld_api_key"}
    assert all(f"{name} =" in example_toml() for name in named)


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE)
    assert links
    assert [link for link in links if not (DOCS / link).exists()] == []


def _has(message: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(message, dict) or key not in message:
            return False
        message = message[key]
    return True
