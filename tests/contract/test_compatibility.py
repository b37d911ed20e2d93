"""What was published once is understood for ever within a major version.

``released/1.0`` holds the schemas and some messages of version 1.0 of the contract. A change that makes a test here
fail needs a new major version (``snellius/2/…``), beside which the old one is spoken for a while. Closed lists are
closed: a new word in one is such a change as well. Adding a field is not.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.publish.contract import CHANNELS, schema_of
from tests.contract.reading import breaking_changes, generated_parsers, validator

RELEASED = Path(__file__).parent / "released" / "1.0"
OLD: dict[str, Any] = json.loads((RELEASED / "schemas.json").read_text(encoding="utf-8"))
NOW = {channel.name: schema_of(channel) for channel in CHANNELS}
MESSAGES = [json.loads(line) for line in (RELEASED / "messages.jsonl").read_text(encoding="utf-8").splitlines()]

Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("name", OLD)
def test_a_reader_of_version_1_0_stumbles_over_nothing(name: str) -> None:
    assert name in NOW, "a kind of message was removed"
    assert breaking_changes(OLD[name], NOW[name]) == []


def test_messages_of_version_1_0_are_valid_today() -> None:
    assert {each["channel"] for each in MESSAGES} == {
        "flow", "mix", "meta", "status", "health", "cmd-result", "ngsi-ld", "homeassistant",
    }  # fmt: skip
    for each in MESSAGES:
        validator(NOW[each["channel"]]).validate(each["message"])


def test_messages_of_version_1_0_are_understood_by_the_parsers_of_today(tmp_path: Path) -> None:
    parsers = generated_parsers(tmp_path)
    for each in MESSAGES:
        parsers[each["channel"]].model_validate(each["message"])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda flow: flow["properties"].pop("count"), id="a field removed"),
        pytest.param(lambda flow: flow["$defs"]["Speed"]["properties"].pop("v85"), id="a field inside removed"),
        pytest.param(lambda flow: flow["properties"]["seq"].update(type="string"), id="a number becomes text"),
        pytest.param(lambda flow: flow["properties"]["count"].update(type="number"), id="a whole number becomes any"),
        pytest.param(lambda flow: flow["required"].remove("site"), id="a field may be missing"),
        pytest.param(lambda flow: flow["$defs"]["Flag"]["enum"].append("rain"), id="a closed list grows"),
        pytest.param(lambda flow: flow["$defs"]["Flag"]["enum"].remove("few"), id="a closed list shrinks"),
        pytest.param(
            lambda flow: flow["properties"].update(count={"anyOf": [flow["properties"]["count"], {"type": "null"}]}),
            id="a field may be null",
        ),
        pytest.param(lambda flow: flow["$defs"]["Speed"]["properties"]["v85"]["anyOf"].pop(), id="never null any more"),
        pytest.param(
            lambda flow: flow["$defs"]["Histogram"]["properties"]["counts"]["items"].update(type="number"),
            id="counts become shares",
        ),
        pytest.param(lambda flow: flow["$defs"]["Speed"]["properties"]["unit"].update(const="m/s"), id="another unit"),
        pytest.param(lambda flow: flow["properties"]["schema"].update(pattern="^x$"), id="another name"),
        pytest.param(
            lambda flow: flow["$defs"]["Window"]["properties"]["start"].pop("format"), id="an instant becomes any text"
        ),
    ],
)
def test_a_change_that_breaks_readers_is_noticed(change: Change) -> None:
    flow = copy.deepcopy(NOW["flow"])
    assert breaking_changes(NOW["flow"], flow) == []
    change(flow)
    assert len(breaking_changes(NOW["flow"], flow)) >= 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda flow: flow["properties"].update(rain_mm={"type": "number"}), id="a field added"),
        pytest.param(
            lambda flow: flow["$defs"]["Quality"]["properties"].update(visibility_m={"type": "integer"}),
            id="a field added inside",
        ),
        pytest.param(
            lambda flow: flow["properties"]["count"].update(description="All."), id="other words of explanation"
        ),
    ],
)
def test_a_change_that_only_adds_is_allowed(change: Change) -> None:
    flow = copy.deepcopy(NOW["flow"])
    change(flow)
    assert breaking_changes(NOW["flow"], flow) == []
