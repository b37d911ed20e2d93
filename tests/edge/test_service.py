"""The running device: what happens between frames, and when something goes wrong."""

from __future__ import annotations

import socket
import sqlite3
import threading
from pathlib import Path
from select import select
from typing import Any

import pytest

from edge.assembly import Device
from edge.clock import ClockState
from edge.domain import CameraState, Direction, Flag, Passage, WindowAggregate
from edge.errors import OutboxUnwritable
from edge.outbox import Outbox
from edge.publish.payload import Health, Status, StatusReason
from edge.service import CAMERA_REASONS, MANY_SURPRISES
from tests.support.builders import MORNING, S, a_passage, utc_ns
from tests.support.simulated import SimulatedClock, SimulatedStreet, a_device, held


def cars(n: int, every_s: float = 5.0) -> list[Passage]:
    return [a_passage(speed_kmh=30.0 + 2 * number, middle_s=4.0 + every_s * number) for number in range(n)]


def windows_of(device: Device) -> list[WindowAggregate]:
    records = [queued.record for queued in device.outbox.due(2**62, 1000)]
    return [record for record in records if isinstance(record, WindowAggregate) and record.measured]


# ------------------------------------------------------------------------------------------------------------ surprises


def test_a_surprise_in_a_stage_costs_at_most_the_vehicles_in_view(tmp_path: Path) -> None:
    clock = SimulatedClock()
    street = SimulatedStreet(cars(8), clock, until_s=60.0, stumbles_s=[24.5])  # the fifth is in view then
    with a_device(tmp_path, street, clock) as (device, run):
        run()
        assert held(device) == 7


def test_surprises_without_end_end_the_service_with_everything_counted_on_disk(tmp_path: Path) -> None:
    clock = SimulatedClock()
    street = SimulatedStreet(cars(8), clock, until_s=60.0, stumbles_s=[30.0 + number for number in range(20)])
    with a_device(tmp_path, street, clock, checkpoint_s=900, lab_slot_s=900) as (device, run):
        with pytest.raises(ZeroDivisionError):
            run()
        in_memory = held(device)
    assert in_memory == 5  # the sixth, at 29 s, was in view at the first surprise
    with a_device(tmp_path, SimulatedStreet([], clock, until_s=0), clock, lab_slot_s=900) as (device, _):
        assert held(device) == in_memory
    assert MANY_SURPRISES > 1


def test_an_orderly_stop_keeps_who_has_passed_and_releases_nothing_early(tmp_path: Path) -> None:
    clock = SimulatedClock()

    def look(at_s: float, stop: threading.Event) -> None:
        if at_s >= 33:
            stop.set()

    with a_device(tmp_path, SimulatedStreet(cars(8), clock, until_s=60.0), clock, lab_slot_s=900) as (device, run):
        assert run(look)
        assert windows_of(device) == []
    with a_device(tmp_path, SimulatedStreet([], clock, until_s=0), clock, lab_slot_s=900) as (device, _):
        assert held(device) == 6


# ---------------------------------------------------------------------------------------------------------- the camera


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (CameraState.LOST, StatusReason.CAMERA_LOST),
        (CameraState.FROZEN, StatusReason.CAMERA_FROZEN),
        (CameraState.DARK, StatusReason.TOO_DARK),
    ],
)
def test_an_hour_without_a_camera_closes_windows_on_time_and_shows_as_coverage(
    tmp_path: Path, state: CameraState, reason: StatusReason
) -> None:
    clock = SimulatedClock()
    street = SimulatedStreet(cars(100, every_s=60.0), clock, until_s=7200.0, away=[(1800.0, 5400.0, state)])
    with a_device(tmp_path, street, clock, lab_slot_s=900) as (device, run):
        run()
        records = [queued.record for queued in device.outbox.due(2**62, 1000)]
    forward = [each for each in records if isinstance(each, WindowAggregate) and each.direction is Direction.FORWARD]
    watched_s = sum(each.watched_ns for each in forward) / S
    assert watched_s == pytest.approx(7200 - 3600, abs=5)
    assert sum(each.duration_ns for each in forward) / S == pytest.approx(7200, abs=2)
    assert all((Flag.TOO_DARK in each.flags) == (state is CameraState.DARK) for each in forward if each.coverage < 0.5)
    assert CAMERA_REASONS[state] is reason


# ---------------------------------------------------------------------------------------------------------- the clock


def test_windows_labelled_while_the_clock_was_unset_get_their_time_when_it_arrives(tmp_path: Path) -> None:
    """Boot in 2024 by a clock without a battery; a time server answers after 40 seconds and knows better."""
    true_ns = utc_ns(MORNING)
    clock = SimulatedClock(begin_utc_ns=utc_ns("2024-01-01T00:00:00Z"), is_set=False)

    def look(at_s: float, stop: threading.Event) -> None:
        if at_s > 40:
            clock.is_set, clock.ahead_ns = True, true_ns

    with a_device(tmp_path, SimulatedStreet(cars(12), clock, until_s=90.0), clock) as (device, run):
        run(look)
        windows = windows_of(device)
    assert sum(each.measured for each in windows) == 12
    assert all(each.clock is not ClockState.UNSET for each in windows)
    assert min(each.start_utc_ns for each in windows) == true_ns
    assert max(each.end_utc_ns for each in windows) <= true_ns + 100 * S
    assert {str(each.day) for each in windows} == {"2026-11-23"}
    assert not any(Flag.CLOCK_STEP in each.flags for each in windows)


def test_what_an_earlier_boot_left_without_a_time_keeps_its_label(tmp_path: Path) -> None:
    old = SimulatedClock(begin_utc_ns=utc_ns("2024-01-01T00:00:00Z"), is_set=False)
    with a_device(tmp_path, SimulatedStreet(cars(6), old, until_s=60.0), old) as (device, run):
        run()
        assert {each.clock for each in windows_of(device)} == {ClockState.UNSET}
        before = [(each.start_utc_ns, each.end_utc_ns) for each in windows_of(device)]
    new = SimulatedClock(begin_utc_ns=utc_ns("2024-01-01T02:00:00Z"), is_set=False)

    def look(at_s: float, stop: threading.Event) -> None:
        if at_s > 30:
            new.is_set, new.ahead_ns = True, utc_ns(MORNING)

    with a_device(tmp_path, SimulatedStreet(cars(6), new, until_s=60.0), new) as (device, run):
        run(look)
        windows = windows_of(device)
    assert [(each.start_utc_ns, each.end_utc_ns) for each in windows if each.clock is ClockState.UNSET] == before
    assert sum(each.measured for each in windows) == 12


def test_a_clock_that_is_never_set_is_told_and_nothing_waits_for_it(tmp_path: Path) -> None:
    clock = SimulatedClock(is_set=False)
    with a_device(tmp_path, SimulatedStreet(cars(6), clock, until_s=60.0), clock) as (device, run):
        run()
        windows = windows_of(device)
    assert {each.clock for each in windows} == {ClockState.UNSET}
    assert sum(each.measured for each in windows) == 6


@pytest.mark.parametrize("step_s", [3600, -3600], ids=["forward", "back"])
def test_a_step_of_a_clock_that_was_right_is_flagged_and_nobody_is_lost(tmp_path: Path, step_s: int) -> None:
    clock = SimulatedClock()

    def look(at_s: float, stop: threading.Event) -> None:
        clock.ahead_ns = utc_ns(MORNING) + (step_s * S if at_s > 33 else 0)

    with a_device(tmp_path, SimulatedStreet(cars(12), clock, until_s=90.0), clock) as (device, run):
        run(look)
        windows = windows_of(device)
    assert sum(each.measured for each in windows) == 12
    assert any(Flag.CLOCK_STEP in each.flags for each in windows)
    assert any(abs(each.start_utc_ns - utc_ns(MORNING)) > 1000 * S for each in windows)


def test_a_leap_second_breaks_no_slot(tmp_path: Path) -> None:
    clock = SimulatedClock()

    def look(at_s: float, stop: threading.Event) -> None:
        clock.ahead_ns = utc_ns(MORNING) - (S if at_s > 30 else 0)  # 23:59:60 is 23:59:59 once more

    with a_device(tmp_path, SimulatedStreet(cars(12), clock, until_s=90.0), clock) as (device, run):
        run(look)
        windows = windows_of(device)
    assert sum(each.measured for each in windows) == 12
    assert not any(Flag.CLOCK_STEP in each.flags for each in windows)


# ------------------------------------------------------------------------------------------------------- a bad disk


def test_a_disk_that_refuses_for_a_while_costs_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimulatedClock()
    told: list[tuple[StatusReason, ...]] = []
    writes = Outbox._transact

    def refusing(self: Outbox, change: Any, pages: int) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    def look(at_s: float, stop: threading.Event) -> None:
        monkeypatch.setattr(Outbox, "_transact", refusing if 20 < at_s < 40 else writes)

    with a_device(tmp_path, SimulatedStreet(cars(12), clock, until_s=90.0), clock, checkpoint_s=5) as (device, run):
        tell = device.publisher.tell

        def telling(fact: Any) -> None:
            told.extend([fact.reasons] if isinstance(fact, Status) else [])
            tell(fact)

        monkeypatch.setattr(device.publisher, "tell", telling)
        run(look)
        assert held(device) == 12
    assert any(StatusReason.OUTBOX_UNWRITABLE in reasons for reasons in told)
    assert StatusReason.OUTBOX_UNWRITABLE not in told[-1]


def test_damage_found_while_running_begins_a_new_epoch_and_keeps_what_is_counted(tmp_path: Path) -> None:
    clock = SimulatedClock()
    path = tmp_path / "outbox.sqlite"
    epochs = []
    with a_device(tmp_path, SimulatedStreet(cars(12), clock, until_s=90.0), clock, lab_slot_s=900, checkpoint_s=5) as (
        device,
        run,
    ):

        def look(at_s: float, stop: threading.Event) -> None:
            if at_s == 40.0:
                device.outbox._database.execute("PRAGMA cache_size = 0")  # what is in memory is not read again
                with path.open("r+b") as file:
                    file.seek(4096)
                    file.write(b"\xff" * (path.stat().st_size - 4096))
            epochs.append(device.outbox.epoch)

        run(look)
        assert held(device) == 12
        assert len(set(epochs)) == 2
        assert "damaged" in (device.outbox.set_aside or "")
        assert device.publisher._status.epoch == epochs[-1]


def test_an_unwritable_outbox_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        epoch = outbox.epoch

        def refusing(self: Outbox, change: Any, pages: int) -> Any:
            raise sqlite3.OperationalError("attempt to write a readonly database")

        with monkeypatch.context() as patch:
            patch.setattr(Outbox, "_transact", refusing)
            with pytest.raises(OutboxUnwritable, match="readonly"):
                outbox.checkpoint({"next_ordinal": 7, "slots": []})
        outbox.checkpoint({"next_ordinal": 8, "slots": []})
        assert outbox.epoch == epoch
        assert outbox.set_aside is None
        assert outbox.restored().windows == {"next_ordinal": 8, "slots": []}


# ------------------------------------------------------------------------------------------------------ heat and power


@pytest.mark.parametrize(
    ("firmware", "millidegrees", "reasons"),
    [
        pytest.param("1", "50000", {StatusReason.UNDERVOLTAGE}, id="under-voltage now"),
        pytest.param("2", "50000", {StatusReason.HOT}, id="frequency capped now"),
        pytest.param("4", "50000", {StatusReason.HOT}, id="throttled now"),
        pytest.param("8", "50000", {StatusReason.HOT}, id="soft temperature limit now"),
        pytest.param("5000d", "50000", {StatusReason.HOT, StatusReason.UNDERVOLTAGE}, id="both now"),
        pytest.param("50000", "50000", set(), id="both, but earlier"),
        pytest.param("0", "82000", {StatusReason.HOT}, id="82 degrees"),
        pytest.param("0", "81000", set(), id="81 degrees"),
        pytest.param(None, "85000", {StatusReason.HOT}, id="no Raspberry Pi, 85 degrees"),
        pytest.param("no number", "no number", set(), id="files that say nothing"),
    ],
)
def test_heat_and_a_weak_supply_are_told_as_long_as_they_last(
    firmware: str | None, millidegrees: str, reasons: set[StatusReason], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttled, zone = tmp_path / "get_throttled", tmp_path / "temp"
    monkeypatch.setattr("edge.machine.THROTTLED", throttled)
    monkeypatch.setattr("edge.machine.THERMAL_ZONE", zone)
    told: list[tuple[float, set[StatusReason]]] = []
    health: list[Health] = []
    clock = SimulatedClock()

    def look(at_s: float, stop: threading.Event) -> None:
        is_strained = 100 <= at_s < 500
        zone.write_text(f"{millidegrees if is_strained else 50_000}\n")
        if firmware is not None:
            throttled.write_text(f"{firmware if is_strained else 0}\n")

    with a_device(tmp_path, SimulatedStreet(cars(12), clock, until_s=700.0), clock, lab_slot_s=300) as (device, run):
        tell = device.publisher.tell

        def telling(fact: Any) -> None:
            if isinstance(fact, Status):
                told.append((clock.now_ns / S, set(fact.reasons)))
            if isinstance(fact, Health):
                health.append(fact)
            tell(fact)

        monkeypatch.setattr(device.publisher, "tell", telling)
        run(look)
        assert held(device) == 12, "strain costs nobody"
    strained = [(at_s, said) for at_s, said in told if said & {StatusReason.HOT, StatusReason.UNDERVOLTAGE}]
    assert [said for _, said in strained] == ([reasons] if reasons else [])
    if reasons:
        assert strained[0][0] == pytest.approx(100, abs=11)
        assert told[-1][0] == pytest.approx(500, abs=11)
        assert not told[-1][1] & {StatusReason.HOT, StatusReason.UNDERVOLTAGE}
    hot, cool = health  # after 300 and 600 s
    assert hot.temperature_c == (int(millidegrees) // 1000 if millidegrees.isdigit() else None)
    is_throttled = firmware in ("1", "2", "4", "8", "5000d")
    assert hot.throttled == (None if firmware in (None, "no number") else is_throttled)
    assert cool.temperature_c == 50


# ------------------------------------------------------------------------------------------------------------ systemd


def test_systemd_hears_that_it_is_ready_makes_progress_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000000")
        clock = SimulatedClock()
        with a_device(tmp_path, SimulatedStreet([], clock, until_s=35.0), clock) as (_, run):
            run()
        heard = []
        while select([systemd], [], [], 0)[0]:
            heard.append(systemd.recv(4096).decode())
    assert heard[0].startswith("READY=1")
    assert heard[-1] == "STOPPING=1"
    assert sum("WATCHDOG=1" in each for each in heard) == 4  # at 0, 10, 20 and 30 s


def test_without_systemd_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge.notify import notify, watchdog_s

    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notify(READY="1")
    assert watchdog_s() is None
