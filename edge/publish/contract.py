"""The contract as files that platforms read: JSON Schema, AsyncAPI 3, a page of all fields, and what FIWARE needs.

Everything is made from the models of :mod:`edge.publish.payload` and of the profiles. ``python -m
edge.publish.contract`` writes it into ``docs/mqtt``, and a test says when that is no longer current.

The schemas are those of a *reader*. What the device sends is open: a later minor version may add fields, and a reader
leaves alone what it does not know. What the device hears is closed: it refuses a word that it does not know. The files
keep to what draft-07 and 2020-12 of JSON Schema have in common, so that AsyncAPI tools and code generators read them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from edge.domain import Direction
from edge.publish import connection as wire
from edge.publish.payload import (
    NAME_PATTERN,
    Ack,
    Command,
    CommandResult,
    Flow,
    Health,
    Meta,
    Mix,
    Status,
    Trial,
    Wire,
)
from edge.publish.profiles.homeassistant import BIRTH, BIRTH_TOPIC, PREFIX, Discovery
from edge.publish.profiles.native import HEALTH_EXPIRY_S, LAB_ROOT, MAJOR, ROOT
from edge.publish.profiles.ngsi_ld import API_KEY_PATTERN, ENTITY_TYPE, TrafficFlowObserved

VERSION = "1.0.0"
DRAFT = "http://json-schema.org/draft-07/schema#"
BINDING = "0.2.0"
VOCABULARY = "urn:snellius:ngsi-ld:"  # names of our own attributes; a city may put an address of its own here
DATA_MODEL = "https://smart-data-models.github.io/dataModel.Transportation"
CORE_CONTEXT = "https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context.jsonld"
OF_THE_DATA_MODEL = (
    "dateObserved", "dateObservedFrom", "dateObservedTo", "laneDirection", "intensity", "averageVehicleSpeed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of message, and where it goes.

    Attributes:
        name: Also the name of its schema file.
        model: What it says.
        address: Topic, with parameters in braces.
        title: For people.
        sent_by: Who says it.
        retain: Whether the broker keeps it.
        expiry_s: The broker forgets it after this; None: never. [s]
        profile: Dialect that it belongs to.
    """

    name: str
    model: type[BaseModel]
    address: str
    title: str
    sent_by: Literal["device", "platform"] = "device"
    retain: bool = False
    expiry_s: int | None = None
    profile: str = "native"


BASE = f"{{root}}/{MAJOR}/{{city}}/{{device}}"
CHANNELS = (
    Channel("flow", Flow, f"{BASE}/flow/{{direction}}", "One direction over one closed window"),
    Channel("mix", Mix, f"{BASE}/mix", "Classes, reasons and free flow of a traffic day"),
    Channel("meta", Meta, f"{BASE}/meta", "Who measures what, with what, under which rules", retain=True),
    Channel("status", Status, f"{BASE}/status", "How the device is now; also the last will", retain=True),
    Channel(
        "health", Health, f"{BASE}/health", "That it works, without a number from traffic", expiry_s=HEALTH_EXPIRY_S
    ),
    Channel("ack", Ack, f"{BASE}/ack", "The platform has stored everything up to here", "platform", retain=True),
    Channel("cmd", Command, f"{BASE}/cmd", "Please send these numbers again", "platform"),
    Channel("cmd-result", CommandResult, f"{BASE}/cmd/result", "What became of a command"),
    Channel("trial", Trial, f"{BASE}/trial", "A technician tries whether the device may publish"),
    Channel(
        "ngsi-ld",
        TrafficFlowObserved,
        "/json/{apiKey}/{device}-{direction}/attrs",
        "A window as a measure for the IoT Agent (profile ngsi-ld)",
        profile="ngsi-ld",
    ),
    Channel(
        "homeassistant",
        Discovery,
        f"{PREFIX}/device/{{device}}/config",
        f"Device discovery, said again when {BIRTH_TOPIC} says {BIRTH.decode()} (profile homeassistant)",
        retain=True,
        profile="homeassistant",
    ),
)
PARAMETERS: dict[str, dict[str, Any]] = {
    "root": {"description": f"{LAB_ROOT} in lab mode only.", "enum": [ROOT, LAB_ROOT], "default": ROOT},
    "city": {"description": f"Name of the city: {NAME_PATTERN}"},
    "device": {"description": f"Name of the device, also its MQTT user name and client id: {NAME_PATTERN}"},
    "direction": {
        "description": "Along the axis of the site, or against it; meta tells what that means.",
        "enum": [direction.value for direction in Direction],
    },
    "apiKey": {"description": f"Of the IoT Agent's service group: {API_KEY_PATTERN}"},
}


# -------------------------------------------------------------------------------------------------------- JSON Schema


class _AsSent(GenerateJsonSchema):
    """Whatever is always sent is required, also what has a default."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return True


def schema_of(channel: Channel) -> dict[str, Any]:
    """The JSON Schema of a message, for those who read it."""
    leaves_out_nulls = not issubclass(channel.model, Wire)
    mode: JsonSchemaMode = "validation" if channel.sent_by == "platform" or leaves_out_nulls else "serialization"
    generator = GenerateJsonSchema if leaves_out_nulls else _AsSent
    made: dict[str, Any] = channel.model.model_json_schema(mode=mode, schema_generator=generator)
    if channel.sent_by == "device":
        made = _opened(made)
    named = made["properties"].get("schema")
    if named is not None:
        major = re.escape(named["const"].rpartition(".")[0])
        made["properties"]["schema"] = {
            "type": "string",
            "pattern": rf"^{major}\.[0-9]+$",
            "description": Wire.model_fields["schema_"].description,
            "examples": [named["const"]],
        }
    return {"$schema": DRAFT, **_in_common(made)}


def _opened(schema: Any) -> Any:
    """Without the word that forbids further fields."""
    if isinstance(schema, list):
        return [_opened(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _opened(value) for key, value in schema.items() if not (key == "additionalProperties" and value is False)
    }


def _in_common(schema: Any) -> Any:
    """Pairs in words that both drafts know: ``items`` with a fixed length in place of ``prefixItems``."""
    if isinstance(schema, list):
        return [_in_common(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    said = {key: _in_common(value) for key, value in schema.items()}
    items = said.pop("prefixItems", None)
    if items is not None:
        if any(each != items[0] for each in items):
            raise ValueError("a pair of two different things cannot be said in draft-07")
        said["items"] = items[0]
    return said


# ----------------------------------------------------------------------------------------------------------- AsyncAPI


def asyncapi(examples: Mapping[str, Any]) -> dict[str, Any]:
    """The AsyncAPI 3 document of the device.

    Args:
        examples: A message for each channel that has one, by its name.
    """
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Snellius street speed meter",
            "version": VERSION,
            "description": "What a device on a street pole says and hears over MQTT. 'send' is what the device sends. "
            "Statistics of windows of k or more vehicles; nothing about single ones.",
            "license": {"name": "EUPL-1.2", "url": "https://joinup.ec.europa.eu/collection/eupl"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "{broker}",
                "protocol": "mqtts",
                "protocolVersion": "5",
                "description": "The city's broker. TLS 1.2 or later, verified; 3.1.1 as a setting.",
                "variables": {"broker": {"description": "Host and port.", "default": "mqtt.example.org:8883"}},
                "security": [{"type": "userPassword"}, {"type": "X509"}],
                "bindings": {
                    "mqtt": {
                        "clientId": "{device}",
                        "cleanSession": False,
                        "lastWill": {
                            "topic": f"{BASE}/status",
                            "qos": 1,
                            "message": "A status message with state 'lost'.",
                            "retain": True,
                        },
                        "keepAlive": wire.KEEPALIVE_S,
                        "sessionExpiryInterval": wire.SESSION_EXPIRY_S,
                        "maximumPacketSize": wire.LARGEST_INCOMING_BYTES,
                        "bindingVersion": BINDING,
                    }
                },
            }
        },
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": {_operation_name(channel): _operation(channel) for channel in CHANNELS},
        "components": {"messages": {channel.name: _message(channel, examples) for channel in CHANNELS}},
    }


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "address": channel.address,
        "title": channel.title,
        "messages": {channel.name: {"$ref": f"#/components/messages/{channel.name}"}},
        "parameters": {name: PARAMETERS[name] for name in re.findall(r"{(\w+)}", channel.address)},
    }


def _operation_name(channel: Channel) -> str:
    verb = "send" if channel.sent_by == "device" else "hear"
    return verb + "".join(word.capitalize() for word in channel.name.split("-"))


def _operation(channel: Channel) -> dict[str, Any]:
    binding: dict[str, Any] = {"qos": 1, "retain": channel.retain, "bindingVersion": BINDING}
    if channel.expiry_s is not None:
        binding["messageExpiryInterval"] = channel.expiry_s
    return {
        "action": "send" if channel.sent_by == "device" else "receive",
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": channel.title,
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{channel.name}"}],
        "bindings": {"mqtt": binding},
    }


def _message(channel: Channel, examples: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": channel.name,
        "title": channel.title,
        "summary": channel.model.__doc__,
        "contentType": "application/json",
        "payload": {"$ref": f"./schemas/{channel.name}.schema.json"},
        "bindings": {"mqtt": {"payloadFormatIndicator": 1, "bindingVersion": BINDING}},
    }
    if channel.name in examples:
        message["examples"] = [{"name": channel.name, "payload": examples[channel.name]}]
    return message


# -------------------------------------------------------------------------------------------------------------- FIWARE


def ngsi_ld_context() -> dict[str, Any]:
    """The @context of the attributes that an entity carries."""
    names = [name for name in TrafficFlowObserved.model_fields if name != "TimeInstant"]
    return {
        "@context": [
            {ENTITY_TYPE: f"{DATA_MODEL}/{ENTITY_TYPE}"}
            | {name: f"{DATA_MODEL}/{name}" if name in OF_THE_DATA_MODEL else VOCABULARY + name for name in names},
            CORE_CONTEXT,
        ]
    }


def service_group() -> dict[str, Any]:
    """The body that makes the IoT Agent understand the measures (POST /iot/services)."""
    attributes = [
        {"object_id": name, "name": name, "type": _agent_type(name)}
        for name in TrafficFlowObserved.model_fields
        if name != "TimeInstant"
    ]
    return {
        "services": [
            {
                "apikey": "<mqtt.ngsi_ld_api_key>",
                "resource": "/iot/json",
                "entity_type": ENTITY_TYPE,
                "explicitAttrs": True,
                "timestamp": True,
                "attributes": attributes,
            }
        ]
    }


def _agent_type(name: str) -> str:
    """NGSI type of an attribute, as the IoT Agent library calls it."""
    schema = TrafficFlowObserved.model_json_schema()
    attribute = _resolved(schema["properties"][name], schema)
    if attribute.get("format") == "date-time":
        return "DateTime"
    return {"integer": "Integer", "number": "Number", "string": "Text"}.get(attribute["type"], "StructuredValue")


# ------------------------------------------------------------------------------------------------------ the field page


def fields_markdown() -> str:
    """Every field of every message on one page."""
    lines = [
        "# Fields",
        "",
        "Generated by `python -m edge.publish.contract`. The unit stands in brackets; a field with `null` in its type",
        "can be unknown. What the words of the closed lists mean is told in [README.md](README.md#closed-lists).",
    ]
    for channel in CHANNELS:
        schema = schema_of(channel)
        who = "" if channel.sent_by == "device" else ", from the platform to the device"
        lines += ["", f"## {channel.name}", "", f"{channel.title}{who}. Topic `{channel.address}`, QoS 1"]
        lines[-1] += (", retained." if channel.retain else ".") + f" [Schema](schemas/{channel.name}.schema.json)."
        lines += ["", "| field | type | meaning |", "|---|---|---|"]
        lines += [
            f"| `{path}` | {kind} | {' '.join(meaning.split())} |" for path, kind, meaning in _rows(schema, schema)
        ]
    return "\n".join(lines) + "\n"


def _rows(schema: Mapping[str, Any], root: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in schema["properties"].items():
        inner = _resolved(field, root)
        yield prefix + name, _kind(field, root), field.get("description", inner.get("description", ""))
        options = [_resolved(each, root) for each in inner.get("anyOf", [inner])]
        for option in options:
            if "properties" in option:
                yield from _rows(option, root, f"{prefix}{name}.")
            elif isinstance(option.get("additionalProperties"), dict):
                value = _resolved(option["additionalProperties"], root)
                if "properties" in value:
                    yield from _rows(value, root, f"{prefix}{name}.*.")


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return root["$defs"][reference.rpartition("/")[2]] if reference else schema


def _kind(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """A type in a few words."""
    inner = _resolved(schema, root)
    if "anyOf" in inner:
        return " or ".join(_kind(each, root) for each in inner["anyOf"])
    words = inner.get("enum") or ([inner["const"]] if "const" in inner else None)
    if words:
        return ", ".join(f"`{word}`" for word in words)
    if inner.get("type") == "array":
        return f"list of {_kind(inner['items'], root)}"
    if isinstance(inner.get("additionalProperties"), dict):
        keys = _kind(inner["propertyNames"], root) if "propertyNames" in inner else "name"
        return f"object of {keys} → {_kind(inner['additionalProperties'], root)}"
    return str(inner.get("format") or inner["type"])


# --------------------------------------------------------------------------------------------------------- all of them


def files(examples: Mapping[str, Any]) -> dict[str, str]:
    """Every generated file: path below ``docs/mqtt`` → text.

    Args:
        examples: A message for each channel that has one, by its name.
    """
    made = {f"schemas/{channel.name}.schema.json": _json(schema_of(channel)) for channel in CHANNELS}
    return made | {
        "asyncapi.json": _json(asyncapi(examples)),
        "fields.md": fields_markdown(),
        "ngsi-ld/context.jsonld": _json(ngsi_ld_context()),
        "ngsi-ld/service-group.json": _json(service_group()),
    }


def stored_examples(golden: Path) -> dict[str, Any]:
    """The stored messages (``PROFILE/NAME.json``) that serve as examples, by the name of their channel."""
    found = {channel.name: golden / channel.profile / f"{channel.name}.json" for channel in CHANNELS}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items() if path.exists()}


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    project = Path(__file__).parents[2]
    folder = project / "docs" / "mqtt"
    for name, text in files(stored_examples(project / "tests" / "golden")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{folder}\n")
