"""The files for platforms are current, agree with each other and with what the device really says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge.clock import ClockState
from edge.domain import Direction, Flag, PrivacyRule, Reason
from edge.publish import HomeAssistant, Message, NgsiLd
from edge.publish.contract import CHANNELS, files, stored_examples
from edge.publish.payload import Refusal, State, StatusReason
from tests.contract.reading import DOCS, SCHEMAS, asyncapi, channel_of, closed, schema, validator
from tests.edge.test_native_profile import NATIVE, SAID
from tests.support.clips import ROOT
from tests.support.released import DEVICE, a_meta, a_window, queued

GOLDEN = ROOT / "tests" / "golden"
EVERYTHING_SAID: list[Message] = [
    *SAID.values(),
    *NgsiLd(device=DEVICE, site="hvs-snelliuslaan-12", api_key="street-speed").measurement(queued(a_window())),
    *HomeAssistant(device=DEVICE, base=NATIVE.base).meta(a_meta()),
]


def test_the_files_are_those_of_the_models() -> None:
    made = files(stored_examples(GOLDEN))
    stored = {
        str(path.relative_to(DOCS)): path.read_text(encoding="utf-8")
        for path in DOCS.rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    assert stored == made, "run: python -m edge.publish.contract"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_file_is_a_schema(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(schema(name))
    jsonschema.Draft202012Validator.check_schema(
        schema(name) | {"$schema": jsonschema.Draft202012Validator.META_SCHEMA["$schema"]}
    )


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_stored_message_is_valid_and_holds_nothing_unnamed(path: Path) -> None:
    name = path.stem if path.parent.name == "native" else path.parent.name
    message = json.loads(path.read_text(encoding="utf-8"))
    validator(schema(name)).validate(message)
    validator(closed(schema(name))).validate(message)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("flow", {"count": -1}, id="less than none"),
        pytest.param("flow", {"direction": "north"}, id="a direction that is not in the list"),
        pytest.param("flow", {"schema": "snellius.flow/2.0"}, id="another major version"),
        pytest.param("flow", {"seq": 0}, id="a number that is never given"),
        pytest.param("flow", {"epoch": "today"}, id="no epoch"),
        pytest.param("mix", {"classes": {"car": 1}}, id="classes left out"),
        pytest.param("health", {"time": "yesterday"}, id="no instant"),
        pytest.param("status", {"state": "fine"}, id="a state that is not in the list"),
        pytest.param("ngsi-ld", {"messageId": "a(b)"}, id="a character that Orion refuses"),
        pytest.param("homeassistant", {"cmps": {"a": {"p": "camera"}}}, id="a camera"),
    ],
)
def test_the_schemas_refuse_what_the_contract_does_not_say(name: str, change: dict[str, Any]) -> None:
    folder = "native" if (GOLDEN / "native" / f"{name}.json").exists() else name
    message = json.loads((GOLDEN / folder / f"{name}.json").read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        validator(schema(name)).validate(message | change)


@pytest.mark.parametrize(
    "message",
    [{"from": 0, "to": 1}, {"from": 1}, {"from": 1, "to": 2, "shell": "ls"}, {"cmd": "reboot", "from": 1, "to": 2}],
)
def test_what_the_device_hears_is_closed(message: dict[str, Any]) -> None:
    validator(schema("cmd")).validate({"from": 1, "to": 2})
    validator(schema("ack")).validate({"epoch": "7f3a91c2", "upto": 0})
    with pytest.raises(jsonschema.ValidationError):
        validator(schema("cmd")).validate(message)


def test_asyncapi_and_json_schema_tell_of_the_same_messages() -> None:
    document = asyncapi()
    payloads = {name: message["payload"] for name, message in document["components"]["messages"].items()}
    assert payloads == {name: {"$ref": f"./schemas/{name}.schema.json"} for name in SCHEMAS}
    assert set(document["channels"]) == set(SCHEMAS) == {channel.name for channel in CHANNELS}
    for name, channel in document["channels"].items():
        assert channel["messages"] == {name: {"$ref": f"#/components/messages/{name}"}}
        assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", channel["address"]))
    for operation in document["operations"].values():
        name = operation["channel"]["$ref"].rpartition("/")[2]
        assert operation["messages"] == [{"$ref": f"#/channels/{name}/messages/{name}"}]


def test_every_example_of_the_document_is_valid() -> None:
    examples = {
        name: example["payload"]
        for name, message in asyncapi()["components"]["messages"].items()
        for example in message.get("examples", ())
    }
    assert set(examples) == {"flow", "mix", "meta", "status", "health", "cmd-result", "ngsi-ld", "homeassistant"}
    for name, example in examples.items():
        validator(schema(name)).validate(example)


@pytest.mark.parametrize("message", EVERYTHING_SAID, ids=lambda message: message.topic)
def test_topic_retention_and_expiry_are_those_of_the_document(message: Message) -> None:
    name = channel_of(message.topic)
    (operation,) = (each for each in asyncapi()["operations"].values() if each["channel"]["$ref"].endswith(f"/{name}"))
    binding = operation["bindings"]["mqtt"]
    assert (binding["qos"], binding["retain"], binding.get("messageExpiryInterval")) == (
        1, message.retain, message.expiry_s,
    )  # fmt: skip
    assert asyncapi()["components"]["messages"][name]["contentType"] == message.content_type
    assert operation["action"] == "send"


def test_the_platform_speaks_where_the_document_says() -> None:
    assert [channel_of(NATIVE.ack_topic), channel_of(NATIVE.command_topic)] == ["ack", "cmd"]
    received = {name for name, each in asyncapi()["operations"].items() if each["action"] == "receive"}
    assert received == {"hearAck", "hearCmd"}


def test_every_field_is_explained() -> None:
    rows = [
        line.split("|")
        for line in (DOCS / "fields.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    assert len(rows) > 150
    assert [row[1] for row in rows if not row[3].strip()] == []


@pytest.mark.parametrize(
    "words",
    [ClockState, Direction, Flag, PrivacyRule, Reason, Refusal, State, StatusReason],
    ids=lambda each: each.__name__,
)
def test_every_word_of_a_closed_list_is_explained_for_platforms(words: Any) -> None:
    page = (DOCS / "README.md").read_text(encoding="utf-8")
    assert [word.value for word in words if f"`{word.value}`" not in page] == []
