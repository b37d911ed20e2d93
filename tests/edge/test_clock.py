"""From the clock of a source to the time on the wall."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest

from edge.clock import ClockAnchor, ClockState, LinuxClock, anchor_now, utc_datetime, utc_ns_of
from tests.support.builders import S


@dataclass
class WallClock:
    """A machine whose clocks say what the test wants."""

    boot_ns: int = 100 * S
    wall_ns: int = 1_700_000_000 * S
    synced_now: bool = True
    synced_once: bool = True

    def boottime_ns(self) -> int:
        return self.boot_ns

    def utc_ns(self) -> int:
        return self.wall_ns

    def is_synced(self) -> bool:
        return self.synced_now

    def was_synced(self) -> bool:
        return self.synced_once


def test_an_anchor_carries_any_instant_over_and_back():
    anchor = ClockAnchor(captured_ns=5 * S, utc_ns=1_700_000_000 * S, state=ClockState.SYNCED)
    assert anchor.utc_of(65 * S) == 1_700_000_060 * S
    assert anchor.captured_of(anchor.utc_of(-3)) == -3


def test_a_clip_without_a_start_lies_in_1970_and_says_so():
    assert ClockAnchor.of_clip(None) == ClockAnchor(0, 0, ClockState.UNSET)


def test_a_clip_starts_where_it_is_told_to():
    start = datetime(2026, 11, 23, 7, 30, tzinfo=timezone(timedelta(hours=1)))
    anchor = ClockAnchor.of_clip(start)
    assert utc_datetime(anchor.utc_of(2 * S)) == datetime(2026, 11, 23, 6, 30, 2, tzinfo=timezone.utc)


def test_a_start_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="expected a time zone"):
        ClockAnchor.of_clip(datetime(2026, 11, 23, 7, 30))  # noqa: DTZ001


def test_instants_keep_every_microsecond():
    instant = datetime(2286, 11, 20, 17, 46, 39, 999_999, tzinfo=timezone.utc)
    assert utc_datetime(utc_ns_of(instant)) == instant


def test_a_disciplined_clock_is_synced():
    anchor = anchor_now(WallClock())
    assert anchor == ClockAnchor(100 * S, 1_700_000_000 * S, ClockState.SYNCED)


def test_a_pole_that_lost_its_network_is_in_holdover():
    before = anchor_now(WallClock(synced_once=False))
    assert anchor_now(WallClock(synced_now=False, synced_once=False), before).state is ClockState.HOLDOVER
    assert anchor_now(WallClock(synced_now=False)).state is ClockState.HOLDOVER


def test_a_pole_that_never_heard_the_time_says_so_until_it_does():
    unset = anchor_now(WallClock(synced_now=False, synced_once=False))
    assert unset.state is ClockState.UNSET
    assert anchor_now(WallClock(synced_now=False, synced_once=False), unset).state is ClockState.UNSET
    assert anchor_now(WallClock(), unset).state is ClockState.SYNCED


def test_a_step_of_the_wall_clock_is_seen_against_the_anchor_before():
    before = anchor_now(WallClock())
    after = anchor_now(WallClock(boot_ns=160 * S, wall_ns=1_700_000_055 * S))
    assert before.step_ns(after) == -5 * S


def test_the_worse_of_two_states_wins():
    assert ClockState.SYNCED | ClockState.HOLDOVER is ClockState.HOLDOVER
    assert ClockState.UNSET | ClockState.SYNCED is ClockState.UNSET
    assert ClockState.SYNCED | ClockState.SYNCED is ClockState.SYNCED


@pytest.mark.parametrize(
    ("age_s", "is_synced", "was_synced"),
    [
        pytest.param(60, True, True, id="a minute ago"),
        pytest.param(30_000, True, True, id="eight hours ago, as long as the kernel trusts it"),
        pytest.param(-1, True, True, id="the answer itself set the clock back"),
        pytest.param(40_000, False, True, id="half a day ago"),
        pytest.param(None, False, False, id="never since the last boot"),
    ],
)
def test_where_the_kernel_may_not_be_asked_the_last_answer_of_a_time_server_tells(
    age_s, is_synced, was_synced, tmp_path, monkeypatch
):
    class Forbidden:
        def adjtimex(self, kernel):
            ctypes.set_errno(errno.EPERM)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Forbidden())
    monkeypatch.setattr(LinuxClock, "TIMESYNC_FLAG", tmp_path / "synchronized")
    if age_s is not None:
        (tmp_path / "synchronized").touch()
        os.utime(tmp_path / "synchronized", (time.time() - age_s,) * 2)
    assert (LinuxClock().is_synced(), LinuxClock().was_synced()) == (is_synced, was_synced)


def test_the_real_machine_answers():
    clock = LinuxClock()
    first = clock.boottime_ns()
    assert clock.boottime_ns() >= first
    assert clock.utc_ns() > 1_600_000_000 * S
    assert clock.is_synced() in (True, False)
    assert clock.was_synced() in (True, False)
