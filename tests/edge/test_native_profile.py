"""Topics and messages of the native dialect, against stored files."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edge.clock import ClockState
from edge.errors import BadInput
from edge.publish import Message, Native, Profile
from edge.publish.payload import CommandResult, Health, Refusal, WatchedSince
from tests.support.released import DEVICE, EPOCH, a_day, a_meta, a_status, a_window, queued

GOLDEN = Path(__file__).parents[1] / "golden" / "native"
NATIVE = Native(city="hilversum", device=DEVICE, site="hvs-snelliuslaan-12")
HEALTH = Health(
    device=DEVICE,
    epoch=EPOCH,
    time=datetime(2026, 11, 23, 7, 0, tzinfo=timezone.utc),
    uptime_s=7200,
    clock=ClockState.SYNCED,
    coverage=WatchedSince(since=datetime(2026, 11, 23, 6, 55, tzinfo=timezone.utc), share=0.998),
    frames_per_s=25.0,
    temperature_c=61,
    throttled=False,
    disk_free=0.82,
)
SAID = {
    "flow": NATIVE.measurement(queued(a_window()))[0],
    "mix": NATIVE.measurement(queued(a_day(), 18844))[0],
    "meta": NATIVE.meta(a_meta())[0],
    "status": NATIVE.status(a_status())[0],
    "health": NATIVE.health(HEALTH)[0],
    "cmd-result": NATIVE.result(
        CommandResult(device=DEVICE, epoch=EPOCH, cmd="resend", id="job-7", ok=False, reason=Refusal.OTHER_EPOCH)
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_messages_are_those_of_the_stored_files(name: str) -> None:
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    assert json.loads(SAID[name].payload) == expected
    assert list(json.loads(SAID[name].payload)) == list(expected)  # the order of the keys is part of what people read


def test_every_stored_file_is_compared() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(SAID)


@pytest.mark.parametrize(
    ("name", "topic", "retain", "expiry_s"),
    [
        ("flow", "snellius/1/hilversum/hvs-0042/flow/forward", False, None),
        ("mix", "snellius/1/hilversum/hvs-0042/mix", False, None),
        ("meta", "snellius/1/hilversum/hvs-0042/meta", True, None),
        ("status", "snellius/1/hilversum/hvs-0042/status", True, None),
        ("health", "snellius/1/hilversum/hvs-0042/health", False, 3600),
        ("cmd-result", "snellius/1/hilversum/hvs-0042/cmd/result", False, None),
    ],
)
def test_topics_retention_and_expiry_are_those_of_the_contract(
    name: str, topic: str, retain: bool, expiry_s: int | None
) -> None:
    message = SAID[name]
    assert message == Message(topic, message.payload, retain, expiry_s, "application/json")


def test_the_platform_speaks_on_ack_and_cmd() -> None:
    assert NATIVE.ack_topic == "snellius/1/hilversum/hvs-0042/ack"
    assert NATIVE.command_topic == "snellius/1/hilversum/hvs-0042/cmd"


def test_lab_mode_has_a_root_of_its_own() -> None:
    lab = Native(city="hilversum", device=DEVICE, site="bench", lab=True)
    assert lab.measurement(queued(a_window()))[0].topic == "snellius-lab/1/hilversum/hvs-0042/flow/forward"


def test_native_is_a_profile() -> None:
    profile: Profile = NATIVE
    assert profile.meta(a_meta())


@pytest.mark.parametrize("device", ["Pole 7", "a/b", "+", "#", "", "-a", "a-", "größe", "a\n"])
def test_a_name_that_does_not_fit_into_a_topic_is_refused_in_one_line(device: str) -> None:
    with pytest.raises(BadInput, match=r"^site.device: expected only a-z, 0-9 and -"):
        Native(city="hilversum", device=device, site="s")
