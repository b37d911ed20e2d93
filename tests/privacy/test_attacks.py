"""Attacks on what is told, tried on generated streets: each asks one question and must get no answer.

The guarantee (``docs/privacy``): every released window holds at least k measured vehicles, and no combination of
messages isolates a shorter time or a smaller set of them. The attacker here hears everything that a device says and
knows the source code. What is not promised, knowing the other vehicles of a window, is not attacked.

``SNELLIUS_STREETS`` says how many streets each test draws (default 25; the long run uses thousands).
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edge.aggregate import Anonymity
from edge.assembly import assembled
from edge.clock import ClockAnchor, ClockState
from edge.domain import (
    Counters,
    DayMix,
    Direction,
    Frame,
    Passage,
    Queued,
    Release,
    RoadUser,
    SpeedHistogram,
    WindowAggregate,
)
from edge.publish import Native, PublisherStatus
from edge.publish.payload import Wire
from edge.pulse import Pulse
from edge.service import Service
from edge.settings import CalibrationSettings, OutboxSettings, Settings, SiteSettings, SourceSettings
from edge.sources.synthetic import ScriptedVehicle, SyntheticRoad
from edge.sources.timing import Timing
from tests.support.builders import BINNING, S, a_passage, some_windows, utc_ns
from tests.support.street import a_road, a_vehicle, demo_calibration

SLOT_S = 3600
FRAME_S = 600
LATENESS_S = 60
BEGINS = ["2026-03-28T03:00:00Z", "2026-10-24T02:00:00Z", "2026-11-23T03:00:00Z"]  # 04:00 local; clocks change, or not
MOTOR = [RoadUser.CAR] * 12 + [RoadUser.TRUCK, RoadUser.MOTORCYCLE]
FREE_HEADWAY_S = 5.0

attack = settings(
    max_examples=int(os.environ.get("SNELLIUS_STREETS", "25")),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a street is named by its seed: there is nothing to shrink
    suppress_health_check=[HealthCheck.too_slow],
)
seeds = st.integers(0, 2**32 - 1)
ks = st.sampled_from([5, 10, 20])
traffic_a_day = st.sampled_from([3, 20, 60, 150, 400])


@dataclass(frozen=True)
class Vehicle:
    """A vehicle that really passed: when (s after the begin), which way, what, how fast."""

    time_s: float
    direction: Direction
    road_user: RoadUser
    speed_kmh: float | None

    @property
    def is_counted(self) -> bool:
        """Whether the speed statistics hold it."""
        return self.speed_kmh is not None and self.road_user is not RoadUser.BICYCLE

    def passage(self, begin_s: float = 0.0) -> Passage:
        """What the pipeline makes of it."""
        return a_passage(
            middle_s=self.time_s - begin_s,
            speed_kmh=self.speed_kmh,
            direction=self.direction,
            road_user=self.road_user,
        )


def a_street(seed: int, a_day: int, days: int = 2) -> list[Vehicle]:
    """Random traffic: a quiet night, a busy afternoon, now and then a platoon or a rare class."""
    rng = random.Random(seed)
    vehicles = []
    for _ in range(rng.randrange(a_day * days // 2, a_day * days + 2)):
        time_s = min(max(rng.gauss(12, 5), 0.0), 23.9) * 3600 + rng.randrange(days) * 86_400 + rng.uniform(0, 60)
        for follower in range(rng.choice([1, 1, 1, 4])):
            road_user = RoadUser.BICYCLE if rng.random() < 0.15 else rng.choice(MOTOR)
            vehicles.append(
                Vehicle(
                    round(time_s + 1.7 * follower, 3),
                    rng.choice(tuple(Direction)),
                    road_user,
                    None if rng.random() < 0.1 else round(rng.uniform(12, 66), 2),
                )
            )
    return sorted(vehicles, key=lambda vehicle: vehicle.time_s)


def released(vehicles: Sequence[Vehicle], *, begin: str, k: int, days: int = 2, seed: int = 0) -> list[Release]:
    """Everything that the device releases of this street, to the end of a recording."""
    windows = some_windows(
        anchor=ClockAnchor(0, utc_ns(begin), ClockState.SYNCED),
        slot_s=SLOT_S,
        longest_gap_s=FRAME_S,
        lateness_s=LATENESS_S,
    )
    anonymity = Anonymity(k=k, rng=random.Random(seed))
    releases: list[Release] = []
    waiting = list(vehicles)
    for frame_s in range(0, days * 86_400 + 2 * 3600, FRAME_S):
        while waiting and waiting[0].time_s <= frame_s:
            windows.add(waiting.pop(0).passage())
        for aggregate in windows.close_until(frame_s * S):
            releases += anonymity.settle(aggregate).releases
    for aggregate in windows.finish():
        releases += anonymity.settle(aggregate).releases
    return releases + list(anonymity.finish().releases)


def as_told(releases: Iterable[Release], *, mixes: bool = True) -> list[str]:
    """The messages, with the instant from which they may be sent."""
    native = Native(city="hilversum", device="hvs-0042", site="hvs-snelliuslaan-12")
    chosen = [each for each in releases if mixes or isinstance(each.record, WindowAggregate)]
    return [
        f"{each.not_before_utc_ns} {message.topic} {message.payload.decode()}"
        for seq, each in enumerate(chosen, start=1)
        for message in native.measurement(Queued("7f3a91c2", seq, each.record, each.k, each.rule))
    ]


def flows(releases: Iterable[Release]) -> list[WindowAggregate]:
    return [each.record for each in releases if isinstance(each.record, WindowAggregate)]


# ------------------------------------------------------------------------------------- when did somebody come past?


@attack
@given(seeds, st.sampled_from(BEGINS), ks, traffic_a_day)
def test_when_inside_its_slot_a_vehicle_came_changes_no_window_no_message_time_and_no_size(
    seed: int, begin: str, k: int, a_day: int
) -> None:
    street = a_street(seed, a_day)
    rng = random.Random(seed)
    moved = [
        replace(each, time_s=each.time_s // SLOT_S * SLOT_S + rng.uniform(0.001, SLOT_S - 0.001)) for each in street
    ]
    moved.sort(key=lambda vehicle: vehicle.time_s)
    there, here = (released(each, begin=begin, k=k) for each in (street, moved))
    assert as_told(there, mixes=False) == as_told(here, mixes=False)
    # In the mix of a day only free flow depends on who followed whom.
    without = [
        [replace(each.record.mix, free_flow=None) for each in life if isinstance(each.record, DayMix)]
        for life in (there, here)
    ]
    assert without[0] == without[1]


@attack
@given(seeds, st.sampled_from(BEGINS), ks, traffic_a_day)
def test_a_window_lasts_whole_slots_and_is_sent_within_two_minutes_of_one(
    seed: int, begin: str, k: int, a_day: int
) -> None:
    releases = released(a_street(seed, a_day), begin=begin, k=k)
    slot_ns = SLOT_S * S
    for window in flows(releases):
        assert window.start_utc_ns % slot_ns == 0
        last = window.end_utc_ns % slot_ns == 0
        assert last or window.end_utc_ns == max(each.end_utc_ns for each in flows(releases))  # the recording ended
    ends = {window.end_utc_ns for window in flows(releases)} | set(
        range(utc_ns(begin) // slot_ns * slot_ns, utc_ns(begin) + 60 * slot_ns, slot_ns)
    )
    for release in releases:
        assert any(0 <= release.not_before_utc_ns - end <= 240 * S for end in ends)


# ------------------------------------------------------------------------- what is left when one number is subtracted?


def published_sets(street: Sequence[Vehicle], releases: Sequence[Release], begin: str) -> list[frozenset[int]]:
    """The measured motor vehicles behind every number that is published, by the definitions of the contract.

    Checks on the way that the published number is the size of its set, so that nothing else is counted.
    """
    begin_ns = utc_ns(begin)
    tiles: list[tuple[WindowAggregate, frozenset[int]]] = []
    for window in flows(releases):
        inside = {
            index
            for index, each in enumerate(street)
            if each.direction is window.direction
            and each.is_counted
            and window.start_utc_ns
            <= begin_ns + round(each.time_s * S)
            < max(window.end_utc_ns, window.start_utc_ns + 1)
        }
        assert len(inside) == window.measured
        tiles.append((window, frozenset(inside)))
    sets = [inside for _, inside in tiles]
    for one, other in pairwise(tiles):  # whoever can read two windows can read their sum
        sets.append(one[1] | other[1])
    for release in releases:
        if isinstance(release.record, DayMix):
            sets += _sets_of_a_day(street, release.record, tiles)
    return sets


def _sets_of_a_day(
    street: Sequence[Vehicle], day: DayMix, tiles: Sequence[tuple[WindowAggregate, frozenset[int]]]
) -> list[frozenset[int]]:
    of_day = [inside for window, inside in tiles if window.day == day.day and window.direction in day.directions]
    everyone = frozenset().union(*of_day)
    assert len(everyone) == day.measured
    sets = [everyone]
    for road_user in RoadUser:
        of_class = frozenset(index for index in everyone if street[index].road_user is road_user)
        told = day.mix.classes.get(road_user, 0) if road_user is not RoadUser.PERSON else 0
        assert len(of_class) <= told
        # How many of a class were measured is not told; the class is, with those that were not.
    free = day.mix.free_flow
    if free is not None:
        sets.append(frozenset(index for index in everyone if _is_free(street, index)))
        assert len(sets[-1]) == free.n
    return sets


def _is_free(street: Sequence[Vehicle], index: int) -> bool:
    """Whether a vehicle followed nobody of its direction, bicycles included; the begin of watching counts as one."""
    vehicle = street[index]
    ahead = [each.time_s for each in street[:index] if each.direction is vehicle.direction]
    return vehicle.time_s - (ahead[-1] if ahead else 0.0) > FREE_HEADWAY_S


@attack
@given(seeds, st.sampled_from(BEGINS), ks, traffic_a_day)
def test_no_difference_of_published_numbers_is_about_fewer_than_k_vehicles(
    seed: int, begin: str, k: int, a_day: int
) -> None:
    street = a_street(seed, a_day)
    sets = published_sets(street, released(street, begin=begin, k=k), begin)
    for one, other in combinations(sets, 2):
        for rest in (one - other if other <= one else None, other - one if one <= other else None):
            assert rest is None or not rest or len(rest) >= k
    assert all(len(each) >= k for each in sets)


@attack
@given(seeds, st.sampled_from(BEGINS), ks, st.sampled_from([150, 400]))
def test_a_class_is_told_by_the_day_with_k_or_more_and_so_is_every_sum_of_classes(
    seed: int, begin: str, k: int, a_day: int
) -> None:
    for release in released(a_street(seed, a_day), begin=begin, k=k):
        if isinstance(release.record, DayMix):
            counts = [count for count in release.record.mix.classes.values() if count]
            assert min(counts) >= k
        else:
            assert release.record.mix is None


# -------------------------------------------------------------------------------- does a disturbance make it let go?


@attack
@given(seeds, st.sampled_from(BEGINS), st.sampled_from([20, 60, 150]), st.integers(0, 6))
def test_restarts_steps_of_the_clock_and_a_changing_k_lead_to_no_smaller_window(
    seed: int, begin: str, a_day: int, disturbances: int
) -> None:
    """An attacker pulls the plug or plays with the time server, hoping that a window ends early."""
    street = a_street(seed, a_day)
    rng = random.Random(seed + 1)
    when = sorted(rng.randrange(FRAME_S, 2 * 86_400, FRAME_S) for _ in range(disturbances))
    offset_s, begin_s, k = 0.0, 0.0, 10
    windows, anonymity = _fresh(begin, begin_s, offset_s, k)
    disk = Counters()
    counted: list[Vehicle] = []
    told: list[tuple[int, WindowAggregate]] = []
    waiting = list(street)
    withheld = 0

    def keep(settlements: Iterable[Any], of: Anonymity, smallest: int) -> None:
        nonlocal disk, withheld
        for settlement in settlements:
            told.extend(
                (smallest, each.record) for each in settlement.releases if isinstance(each.record, WindowAggregate)
            )
            withheld += settlement.withheld
            disk = Counters(disk.windows, json.loads(json.dumps(settlement.state)))

    for frame_s in range(0, 2 * 86_400 + 2 * 3600, FRAME_S):
        while waiting and waiting[0].time_s <= frame_s:
            vehicle = waiting.pop(0)
            if vehicle.time_s > begin_s:
                windows.add(vehicle.passage(begin_s))
                counted.append(vehicle)
        keep([anonymity.settle(each) for each in windows.close_until(round((frame_s - begin_s) * S))], anonymity, k)
        while when and when[0] <= frame_s:
            when.pop(0)
            kind = rng.choice(["step", "restart", "restart with another k"])
            if kind == "step":
                offset_s += rng.choice([-7200, -90, 0.4, 90, 7200])
                now_ns = round((frame_s - begin_s) * S)
                windows.reanchor(
                    ClockAnchor(now_ns, utc_ns(begin) + round((frame_s + offset_s) * S), ClockState.SYNCED)
                )
            else:
                disk = Counters(json.loads(json.dumps(windows.state())), disk.anonymity)
                begin_s, k = float(frame_s), rng.choice([5, 10, 20]) if kind != "restart" else k
                windows, anonymity = _fresh(begin, begin_s, offset_s, k)
                windows.restore(disk)
                anonymity.restore(disk)
                keep([anonymity.settle(each) for each in windows.close_until(0)], anonymity, k)
    keep([*map(anonymity.settle, windows.finish()), anonymity.finish()], anonymity, k)
    assert all(window.measured >= smallest for smallest, window in told)
    measured = sum(each.is_counted for each in counted)
    assert sum(window.measured for _, window in told) + withheld == measured
    total = sum((window.histogram for _, window in told), SpeedHistogram.empty(BINNING))
    driven = SpeedHistogram.of([each.speed_kmh for each in counted if each.is_counted and each.speed_kmh], BINNING)
    assert all(ours <= theirs for ours, theirs in zip(total.counts, driven.counts))


def _fresh(begin: str, begin_s: float, offset_s: float, k: int) -> tuple[Any, Anonymity]:
    anchor = ClockAnchor(0, utc_ns(begin) + round((begin_s + offset_s) * S), ClockState.SYNCED)
    return some_windows(anchor=anchor, slot_s=SLOT_S, longest_gap_s=FRAME_S, lateness_s=LATENESS_S), Anonymity(k=k)


@attack
@given(seeds, ks, st.sampled_from([0, 1, 3]))
def test_a_street_where_next_to_nobody_drives_is_silent_until_k_have_passed(seed: int, k: int, a_day: int) -> None:
    """Forty days: the longest silence that a street may need."""
    street = a_street(seed, a_day, days=40)
    told = flows(released(street, begin=BEGINS[0], k=k, days=40))
    for direction in Direction:
        driven = sum(each.is_counted and each.direction is direction for each in street)
        tiles = [window for window in told if window.direction is direction]
        assert all(window.measured >= k for window in tiles)
        assert bool(tiles) is (driven >= k)
        assert driven - sum(window.measured for window in tiles) < k


# ---------------------------------------------------------------------------------------- do other messages tell it?


class _ClockOfTheFrames:
    """The clocks of a machine on which nothing takes time but the next frame."""

    now_ns = 0

    def boottime_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return utc_ns(BEGINS[2]) + self.now_ns

    def is_synced(self) -> bool:
        return True

    def was_synced(self) -> bool:
        return True


class _Ticking:
    """A road whose frames move a clock."""

    def __init__(self, road: SyntheticRoad, clock: _ClockOfTheFrames) -> None:
        self._road, self._clock = road, clock
        self.size_px, self.frame_count = road.size_px, road.frame_count

    @property
    def timing(self) -> Timing:
        return self._road.timing

    def frames(self) -> Iterator[Frame]:
        for frame in self._road.frames():
            self._clock.now_ns = frame.captured_ns
            yield frame


class _Overheard:
    """In place of the publisher: remembers what the service tells, and when."""

    status = PublisherStatus(is_connected=True, address="nowhere")
    pulse = Pulse(Thread(name="none"))

    def __init__(self, clock: _ClockOfTheFrames) -> None:
        self.told: list[tuple[int, bytes]] = []
        self._clock = clock

    def start(self) -> None:
        """There is no network."""

    def tell(self, fact: Wire) -> None:
        self.told.append((self._clock.now_ns, fact.encode()))

    def drain(self, timeout_s: float) -> bool:
        return True

    def stop(self, timeout_s: float) -> bool:
        return True


def _told_about_itself(folder: Path, vehicles: Sequence[ScriptedVehicle]) -> tuple[list[tuple[int, bytes]], int]:
    """What a device says about itself while it looks at these vehicles for a minute, and how many it counted."""
    folder.mkdir()
    demo_calibration().save(folder / "cal.json")
    road = a_road(*vehicles, lasts_s=60.0, rate_hz=8.0)
    clock = _ClockOfTheFrames()
    chosen = Settings.model_construct(
        site=SiteSettings(city="hilversum", device="hvs-0042"),
        source=SourceSettings.model_validate({"url": "none", "pace": "full", "start": BEGINS[2]}),
        calibration=CalibrationSettings(file=folder / "cal.json"),
        outbox=OutboxSettings(file=folder / "outbox.sqlite"),
    )
    passed = []
    with assembled(chosen, clock, source=_Ticking(road, clock), detector=road) as device:
        overheard = _Overheard(clock)
        Service(
            replace(device, publisher=overheard),  # type: ignore[type-var]
            clock=clock,
            stop=threading.Event(),
            paced=False,
            checkpoint_s=10,
            health_s=5,
            drain_s=0,
            outbox_folder=folder,
        ).run(lambda frame, gone: passed.extend(gone))
    epoch = device.outbox.epoch.encode()
    return [(when_ns, fact.replace(epoch, b"")) for when_ns, fact in overheard.told], len(passed)


def test_health_and_status_of_a_busy_street_are_those_of_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.service.temperature_c", lambda: 50)
    monkeypatch.setattr("edge.service.disk_free", lambda folder: 0.5)
    traffic = [a_vehicle(speed_kmh=30 + number, middle_s=4.0 + 3.5 * number) for number in range(15)]
    empty, nobody = _told_about_itself(tmp_path / "empty", [])
    busy, many = _told_about_itself(tmp_path / "busy", traffic)
    assert (nobody, many) == (0, 15)
    assert len(empty) >= 11
    assert empty == busy
