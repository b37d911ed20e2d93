"""Faults of days: no broker, a clock that is wrong, a service that is killed again and again."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import edge.publish.mqtt
from edge.outbox import Outbox
from tests.support.builders import MORNING, S, utc_ns
from tests.support.faults.broker import a_publisher, impatient
from tests.support.faults.outcome import PATIENCE_S, Outcome, memory_mb
from tests.support.faults.traffic import cars, utc_s
from tests.support.kills import a_week_of_kills
from tests.support.mosquitto import Mosquitto, Subscriber, broker_away, eventually
from tests.support.received import Received
from tests.support.simulated import SimulatedClock, SimulatedStreet, a_device


def without_broker(folder: Path, *, hours: float = 72.0) -> Outcome:
    """Nobody to talk to for days; then the broker is there."""
    clock = SimulatedClock()
    traffic = cars(hours)
    memories_mb: list[float] = []

    def look(at_s: float, stop: threading.Event) -> None:
        if at_s % 3600 == 0:
            memories_mb.append(memory_mb())

    street = SimulatedStreet(iter(traffic), clock, until_s=hours * 3600)
    with a_device(folder, street, clock, lab_slot_s=None) as (_, run):
        run(look)
    with Outbox(folder / "outbox.sqlite") as outbox:
        waiting = outbox.inventory().waiting
    grown_mb = memories_mb[-1] - memories_mb[len(memories_mb) // 4]
    with Mosquitto(folder / "broker") as broker, Subscriber(broker.port, "snellius/#") as platform:
        began_s = time.monotonic()
        with a_publisher(folder, broker.url, records_per_s=edge.publish.mqtt.RECORDS_PER_S) as (outbox, _):
            eventually(lambda: outbox.inventory().waiting == 0, 600)
        healthy_s = time.monotonic() - began_s
        eventually(lambda: len(Received(platform).records) >= waiting, PATIENCE_S)
        received = Received(platform)
    in_order = received.numbers == list(range(1, waiting + 1))
    return Outcome(
        f"no broker for {hours:.0f} hours",
        f"{waiting} windows and day mixes waited; memory {grown_mb:+.1f} MB over the last three quarters",
        f"{len(received.records)} messages {'in order' if in_order else 'NOT in order'}, {received.vehicles()} of"
        f" {len(traffic)} vehicles (fewer than k at the end are withheld)",
        healthy_s,
        in_order and len(traffic) - received.vehicles() < 20 and grown_mb < 10,
    )


def clock_steps(folder: Path) -> Outcome:
    """No network and so no time for eleven minutes; then steps forward and back, and a leap second."""
    true_ns, set_s, network_s = utc_ns(MORNING), 600, 660
    clock = SimulatedClock(begin_utc_ns=utc_ns("2024-01-01T00:00:00Z"), is_set=False)
    traffic = cars(2.0)
    steps = ((set_s, true_ns), (2400, true_ns + 3600 * S), (4200, true_ns), (6000, true_ns - S))
    with ExitStack() as stack:
        stack.enter_context(impatient())
        broker, platform = stack.enter_context(broker_away(folder / "broker", "snellius-lab/#"))
        street = SimulatedStreet(iter(traffic), clock, until_s=7200)
        device, run = stack.enter_context(
            a_device(folder, street, clock, url=broker.url, lab_slot_s=60, drain_s=PATIENCE_S)
        )
        device.publisher._records_per_s = 1e6

        def look(at_s: float, stop: threading.Event) -> None:
            for from_s, ahead_ns in steps:
                if at_s >= from_s:
                    clock.is_set, clock.ahead_ns = True, ahead_ns
            if at_s >= network_s and not broker.is_running:
                broker.start()
                eventually(lambda: Received(platform).state == "ready", PATIENCE_S, "status ready")

        run(look)
        eventually(lambda: Received(platform).vehicles() >= len(traffic), PATIENCE_S, "every vehicle")
        received = Received(platform)
    ready_s = min(utc_s(each["since"]) for each in received.statuses if each["state"] == "ready")
    states = {each["window"]["clock"] for each in received.windows}
    earliest_s = min(utc_s(each["window"]["start"]) for each in received.windows)
    return Outcome(
        "clock set ten minutes late, then +1 h, −1 h, a leap second",
        f"the first window begins {earliest_s - true_ns / S:+.0f} s from when it was measured",
        f"{received.story}; {received.vehicles()} of {len(traffic)} vehicles in {len(received.windows)} windows, clock"
        f" {' or '.join(sorted(states))}; {received.flags['clock_step']} of them flagged clock_step",
        ready_s - (true_ns / S + set_s),
        received.vehicles() == len(traffic)
        and received.flags["clock_step"] >= 1
        and states <= {"synced", "holdover"}
        and abs(earliest_s - true_ns / S) < 60,
    )


def killed(folder: Path, *, days: float = 7.0, say: Any = None) -> Outcome:
    """kill -9 of the service through a week."""
    folder.mkdir(parents=True, exist_ok=True)
    verdict = a_week_of_kills(folder, days=days, say=say)
    account = verdict.account
    return Outcome(
        f"service: kill -9, {account.kills} times in {days:g} simulated days",
        f"{account.kills_in_a_write} kills inside a write;"
        f" {verdict.coverage_lost_s / max(account.kills, 1):.0f} s of coverage lost a kill",
        f"{verdict.arrived.total()} vehicles told + {verdict.remaining.total()} carried = {account.kept.total()} kept;"
        f" {verdict.lost} lost, {verdict.double} double, {verdict.doubles} messages twice, {verdict.holes} holes",
        None,
        verdict.holds,
    )
