"""The words of the contract: what a message says, and what it cannot say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from edge.clock import ClockState
from edge.domain import Direction, Flag
from edge.publish import payload
from edge.publish.payload import Ack, Command, Flow, Health, Mix, State, Status, WatchedSince
from tests.support.released import DEVICE, EPOCH, EXAMPLE_COUNTS, a_day, a_meta, a_status, a_window, queued, utc

SITE = "hvs-snelliuslaan-12"


def flow(**changes: Any) -> dict[str, Any]:
    """The example window as a platform reads it."""
    window = replace(a_window(), **changes)
    said: dict[str, Any] = json.loads(Flow.of(queued(window), window, device=DEVICE, site=SITE).encode())
    return said


def test_statistics_are_those_of_the_contracts_example() -> None:
    speed = flow()["speed"]
    assert {key: speed[key] for key in ("n", "mean", "sd", "v15", "v50", "v85")} == {
        "n": 61, "mean": 32.3, "sd": 5.8, "v15": 26.7, "v50": 32.2, "v85": 38.0,
    }  # fmt: skip
    assert flow()["limit"] == {"kmh": 30, "over": 38, "over10": 5}


def test_a_platform_computes_the_same_statistics_from_the_histogram() -> None:
    said = flow()
    histogram = Flow.model_validate(said).speed.hist.read()
    assert round(histogram.quantile_kmh(0.85) or 0, 1) == said["speed"]["v85"]
    assert round(histogram.mean_kmh or 0, 1) == said["speed"]["mean"]
    assert histogram.count_over(said["limit"]["kmh"]) == said["limit"]["over"]


def test_two_windows_merged_by_the_platform_equal_the_window_of_both() -> None:
    morning, noon = a_window(), a_window(counts=EXAMPLE_COUNTS[::-1], over=2)
    read = [
        Flow.model_validate_json(Flow.of(queued(window), window, device=DEVICE, site=SITE).encode()).speed.hist.read()
        for window in (morning, noon)
    ]
    assert read[0] + read[1] == morning.histogram + noon.histogram


def test_below_thirty_vehicles_there_is_no_percentile_and_no_uncertainty() -> None:
    window = a_window(counts=[0] * 10 + [29] + [0] * 14)
    speed = flow(histogram=window.histogram)["speed"]
    assert speed["n"] == 29
    assert [speed[key] for key in ("v15", "v50", "v85", "u_v85")] == [None] * 4
    assert speed["mean"] == 31.0


def test_a_window_tells_what_to_be_careful_about() -> None:
    said = flow(marks=frozenset({Flag.CLOCK_STEP, Flag.LATE}), clock=ClockState.HOLDOVER)
    assert said["quality"]["flags"] == ["few", "late", "clock_step"]
    assert said["window"]["clock"] == "holdover"


def test_times_are_utc_and_coverage_is_never_rounded_up() -> None:
    said = flow(start_utc_ns=utc("2026-11-23 06:30:00") + 123_456_789, watched_ns=1_799_999_000_000)
    assert said["window"]["start"] == "2026-11-23T06:30:00.123000Z"
    assert said["window"]["end"] == "2026-11-23T07:00:00Z"
    assert said["quality"]["coverage"] == 0.999


def test_the_day_mix_counts_bicycles_and_tells_reasons() -> None:
    day = a_day()
    said = json.loads(Mix.of(queued(day), day, device=DEVICE, site=SITE).encode())
    assert said["classes"] == {"car": 900, "truck": 80, "bus": 0, "motorcycle": 0, "bicycle": 412}
    assert said["unmeasured"] == {"short_baseline": 3, "occluded": 7}
    assert (said["free_flow"]["headway_s"], said["free_flow"]["v85"]) == (5.0, 38.0)
    assert said["directions"] == ["forward", "backward"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(("count",), 63, id="count is not measured + unmeasured"),
        pytest.param(("speed", "n"), 60, id="n is not the histogram's"),
        pytest.param(("limit", "over10"), 39, id="more over 40 than over 30"),
        pytest.param(("id",), "hvs-0042/7f3a91c2/1", id="id of another message"),
        pytest.param(("window", "end"), "2026-11-23T06:30:00Z", id="a window without length"),
        pytest.param(("window", "start"), "2026-11-23T06:30:00", id="a time without zone"),
        pytest.param(("quality", "coverage"), 1.01, id="watched longer than it lasted"),
        pytest.param(("quality", "flags"), ["sunny"], id="a flag that is not in the list"),
        pytest.param(("epoch",), "today", id="an epoch that is no 8 hexadecimal digits"),
        pytest.param(("plate",), "AB-12-CD", id="a field that the contract does not name"),
    ],
)
def test_a_message_that_contradicts_itself_or_the_contract_is_refused(path: tuple[str, ...], value: object) -> None:
    said = flow()
    inner = said
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValidationError):
        Flow.model_validate(said)


def test_what_was_said_can_be_read_back() -> None:
    window, day = a_window(direction=Direction.BACKWARD), a_day()
    health = Health(
        device=DEVICE,
        epoch=EPOCH,
        time=datetime(2026, 11, 23, 8, 0, tzinfo=timezone(timedelta(hours=1))),
        uptime_s=300,
        clock=ClockState.SYNCED,
        coverage=WatchedSince(since=datetime(2026, 11, 23, 6, 55, tzinfo=timezone.utc), share=1.0),
    )
    messages: list[payload.Wire] = [
        Flow.of(queued(window), window, device=DEVICE, site=SITE),
        Mix.of(queued(day), day, device=DEVICE, site=SITE),
        a_status(),
        a_meta(),
        health,
        payload.CommandResult(device=DEVICE, epoch=EPOCH, ok=True, cmd="resend", queued=3),
    ]
    for message in messages:
        assert type(message).model_validate_json(message.encode()) == message
    assert json.loads(health.encode())["time"] == "2026-11-23T07:00:00Z"


def test_every_message_names_its_schema_first() -> None:
    assert next(iter(flow())) == "schema"
    assert flow()["schema"] == "snellius.flow/1.0"
    assert next(iter(json.loads(a_meta().encode()))) == "schema"


def test_health_has_no_field_for_a_number_from_traffic() -> None:
    assert set(Health.model_fields) == {
        "schema_", "device", "epoch", "time", "uptime_s", "clock", "coverage", "frames_per_s", "temperature_c",
        "throttled", "disk_free",
    }  # fmt: skip


def test_messages_cannot_be_changed_after_they_were_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_status().state = State.LOST


def test_every_model_of_the_contract_is_frozen_and_closed() -> None:
    models = [each for each in vars(payload).values() if isinstance(each, type) and issubclass(each, BaseModel)]
    models.remove(BaseModel)
    assert len(models) > 20
    assert all(model.model_config.get("frozen") and model.model_config.get("extra") == "forbid" for model in models)


def test_a_command_may_be_as_short_as_its_two_numbers() -> None:
    command = Command.model_validate_json(b'{"from":10,"to":12}')
    assert (command.cmd, command.from_, command.to, command.id) == ("resend", 10, 12, None)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"resend", id="no JSON"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"[" * 100_000, id="deep nesting"),
        pytest.param(b'{"from":3,"to":1}', id="backwards"),
        pytest.param(b'{"from":0,"to":1}', id="zero"),
        pytest.param(b'{"from":1,"to":1e300}', id="larger than a database can hold"),
        pytest.param(b'{"from":1}', id="half a command"),
        pytest.param(b'{"cmd":"reboot","from":1,"to":2}', id="another command"),
        pytest.param(b'{"from":1,"to":2,"shell":"ls"}', id="one word more"),
        pytest.param(b'{"from":1,"to":2,"id":"<script>"}', id="an id with other characters"),
    ],
)
def test_anything_else_is_no_command(text: bytes) -> None:
    with pytest.raises(ValidationError):
        Command.model_validate_json(text)


def test_an_acknowledgement_names_epoch_and_number() -> None:
    assert Ack.model_validate_json(b'{"epoch":"7f3a91c2","upto":0}').upto == 0
    with pytest.raises(ValidationError):
        Ack.model_validate_json(b'{"upto":5}')


def test_a_will_cannot_know_its_time() -> None:
    assert Status(device=DEVICE, epoch=EPOCH, state=State.LOST, sw="1").since is None
