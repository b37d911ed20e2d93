"""Over any street: every released window holds k vehicles or more, and every one measured is released exactly once.

Streets are drawn as bursts of traffic between silences, over days with and without a change of the clocks, with
restarts (orderly ones, and power cuts between checkpoints), and with k changed on the way. The environment variable
SNELLIUS_STREETS says how many streets each test draws.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.aggregate import Anonymity
from edge.clock import ClockAnchor, ClockState
from edge.domain import Counters, DayMix, Direction, Flag, RoadUser, SpeedHistogram, WindowAggregate, traffic_day
from tests.support.builders import BINNING, HILVERSUM, S, a_passage, some_windows, utc_ns

SLOT_S = 3600
FRAME_S = 1800  # a frame every half slot: enough for windows, and days pass quickly
BEGINS = ["2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z", "2026-11-23T06:37:12Z"]  # the first two: clocks change

bursts = st.lists(
    st.tuples(
        st.integers(0, 3 * 86_400),  # when [s]
        st.integers(1, 25),  # how many vehicles, two seconds apart
        st.sampled_from(Direction),
        st.sampled_from([RoadUser.CAR] * 6 + [RoadUser.TRUCK, RoadUser.BICYCLE]),
        st.sampled_from([True] * 4 + [False]),  # measured?
    ),
    max_size=25,
)
restarts = st.lists(
    st.tuples(
        st.integers(1, 3 * 86_400),  # when [s]
        st.sampled_from(["orderly", "power cut"]),
        st.sampled_from([5, 600, 20_000]),  # how long it is off [s]
        st.sampled_from([5, 10, 20]),  # k from then on
    ),
    max_size=4,
)


@dataclass
class Pole:
    """A device from one power-up to the next; what is on disk outlives it."""

    begin_utc_ns: int
    k: int = 10
    released: list[tuple[int, Any]] = field(default_factory=list)  # with the k of that moment
    withheld: int = 0
    counted: list[float] = field(default_factory=list)
    at_risk: list[float] = field(default_factory=list)  # counted since the last checkpoint
    lost_at_most: int = 0
    disk: Counters = field(default_factory=Counters)
    source_began_s: float = 0.0

    def __post_init__(self):
        self.power_up(0.0)

    def power_up(self, now_s):
        """A new source clock that begins at 0, and the counters from disk."""
        self.source_began_s = now_s
        anchor = ClockAnchor(0, self.begin_utc_ns + round(now_s * S), ClockState.SYNCED)
        self.windows = some_windows(anchor=anchor, slot_s=SLOT_S, longest_gap_s=FRAME_S)
        self.anonymity = Anonymity(k=self.k)
        on_disk = Counters(json.loads(json.dumps(self.disk.windows)), json.loads(json.dumps(self.disk.anonymity)))
        self.windows.restore(on_disk)
        self.anonymity.restore(on_disk)

    def power_cut(self):
        self.lost_at_most += len(self.at_risk)
        self.at_risk = []

    def checkpoint(self):
        self.disk = Counters(self.windows.state(), self.disk.anonymity)
        self.at_risk = []

    def drive_by(self, when_s, speed_kmh, direction, road_user, measured):
        self.windows.add(
            a_passage(
                middle_s=when_s - self.source_began_s,
                speed_kmh=speed_kmh if measured else None,
                direction=direction,
                road_user=road_user,
            )
        )
        if measured and road_user.is_motor:
            self.counted.append(speed_kmh)
            self.at_risk.append(speed_kmh)

    def frame(self, now_s):
        for aggregate in self.windows.close_until(round((now_s - self.source_began_s) * S)):
            self.keep(self.anonymity.settle(aggregate))

    def finish(self):
        for aggregate in self.windows.finish():
            self.keep(self.anonymity.settle(aggregate))
        self.keep(self.anonymity.finish())

    def keep(self, settlement):
        self.released += [(self.k, release.record) for release in settlement.releases]
        self.withheld += settlement.withheld
        self.disk = Counters(self.disk.windows, settlement.state)

    @property
    def flows(self):
        return [record for _, record in self.released if isinstance(record, WindowAggregate)]

    @property
    def mixes(self):
        return [record for _, record in self.released if isinstance(record, DayMix)]


def lived_through(begin, traffic, interruptions):
    """Three days and a bit of one pole."""
    pole = Pole(utc_ns(begin))
    vehicles = [
        (when_s + 2.0 * number, 15.0 + (when_s + 7 * number) % 40, *rest)
        for when_s, count, *rest in traffic
        for number in range(count)
    ]
    off_until_s = -1.0
    events = sorted(
        [(float(now_s), 1, ()) for now_s in range(0, 3 * 86_400 + 7200, FRAME_S)]
        + [(vehicle[0] + 1.0, 0, vehicle) for vehicle in vehicles]
        + [(float(when_s), 2, tuple(rest)) for when_s, *rest in interruptions],
        key=lambda event: event[:2],
    )
    for now_s, what, details in events:
        if now_s < off_until_s:
            continue
        if off_until_s > 0:
            pole.power_up(off_until_s)
            pole.frame(off_until_s)
            off_until_s = -1.0
        if what == 0 and details[0] > pole.source_began_s:
            pole.drive_by(*details)
        elif what == 1:
            pole.frame(now_s)
            if now_s % SLOT_S == 0:  # half a slot after the slot before has closed
                pole.checkpoint()
        elif what == 2:
            how, off_s, k = details
            pole.checkpoint() if how == "orderly" else pole.power_cut()
            pole.k, off_until_s = k, now_s + off_s
    if off_until_s > 0:
        pole.power_up(off_until_s)
        pole.frame(off_until_s)
    pole.finish()
    return pole


street = settings(
    max_examples=int(os.environ.get("SNELLIUS_STREETS", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@street
@given(st.sampled_from(BEGINS), bursts, restarts)
def test_no_window_is_ever_released_below_k_and_no_class_of_a_mix_is_rare(begin, traffic, interruptions):
    for k, record in lived_through(begin, traffic, interruptions).released:
        if isinstance(record, WindowAggregate):
            assert record.measured >= k
            assert record.mix is None
        else:
            assert all(count == 0 or count >= k for count in record.mix.classes.values())
            free = record.mix.free_flow
            assert free is None or (free.n >= k and (free.n == record.measured or record.measured - free.n >= k))


@street
@given(st.sampled_from(BEGINS), bursts, restarts)
def test_every_measured_vehicle_is_released_exactly_once_or_reported_as_withheld(begin, traffic, interruptions):
    pole = lived_through(begin, traffic, interruptions)
    total = sum(window.measured for window in pole.flows) + pole.withheld
    assert len(pole.counted) - pole.lost_at_most <= total <= len(pole.counted)


@street
@given(st.sampled_from(BEGINS), bursts)
def test_without_a_power_cut_the_released_speeds_are_the_speeds_that_were_driven(begin, traffic):
    pole = lived_through(begin, traffic, [(100_000, "orderly", 5, 10), (200_000, "orderly", 600, 10)])
    released = sum((window.histogram for window in pole.flows), SpeedHistogram.empty(BINNING))
    driven = SpeedHistogram.of(pole.counted, BINNING)
    assert released.n + pole.withheld == driven.n
    assert all(ours <= theirs for ours, theirs in zip(released.counts, driven.counts))


@street
@given(st.sampled_from(BEGINS), bursts, restarts)
def test_windows_of_a_direction_follow_each_other_and_keep_to_traffic_days(begin, traffic, interruptions):
    pole = lived_through(begin, traffic, interruptions)
    for direction in Direction:
        tiles = [window for window in pole.flows if window.direction is direction]
        assert all(earlier.end_utc_ns <= later.start_utc_ns for earlier, later in pairwise(tiles))
        for tile in tiles:
            last_day = traffic_day(tile.end_utc_ns - 1, HILVERSUM)
            assert tile.day == last_day
            assert (Flag.MULTI_DAY in tile.flags) is (traffic_day(tile.start_utc_ns, HILVERSUM) != last_day)
            assert 0 <= tile.coverage <= 1


@street
@given(st.sampled_from(BEGINS), bursts, restarts)
def test_a_mix_and_the_windows_of_its_day_count_the_same_vehicles_so_their_difference_tells_nothing(
    begin, traffic, interruptions
):
    pole = lived_through(begin, traffic, interruptions)
    told = defaultdict(int)
    for window in pole.flows:
        told[window.day, window.direction] += window.count
    for mix in pole.mixes:
        motor = sum(count for road_user, count in mix.mix.classes.items() if road_user.is_motor)
        assert motor == sum(told[mix.day, direction] for direction in mix.directions)
