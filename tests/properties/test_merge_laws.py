"""Merging is addition: any union of windows says the same, in whatever order it was joined."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import ClockState
from edge.domain import DayMix, Flag, Provenance, SpeedHistogram, WindowAggregate
from tests.support.builders import BINNING, S, a_day_mix, a_window, utc_ns

speeds_kmh = st.lists(st.floats(min_value=0, max_value=200), max_size=40)
histograms = speeds_kmh.map(lambda speeds: SpeedHistogram.of(speeds, BINNING))
provenances = st.builds(Provenance, *[st.sampled_from(["a", "b"])] * 4)


@st.composite
def windows(draw):
    start_utc_ns = utc_ns("2026-10-24T00:00:00Z") + draw(st.integers(0, 200)) * 900 * S
    window = a_window(speeds_kmh=draw(speeds_kmh), unmeasured=draw(st.integers(0, 5)))
    return replace(
        window,
        start_utc_ns=start_utc_ns,
        end_utc_ns=start_utc_ns + 900 * S,
        slot=draw(st.integers(1, 200)),
        ends_day=draw(st.booleans()),
        watched_ns=draw(st.integers(0, 900 * S)),
        clock=draw(st.sampled_from(ClockState)),
        provenance=draw(provenances),
        marks=frozenset(draw(st.sets(st.sampled_from(Flag)))),
    )


@given(speeds_kmh, speeds_kmh)
def test_merging_two_windows_equals_measuring_one_long_window(morning, noon):
    merged = SpeedHistogram.of(morning, BINNING) + SpeedHistogram.of(noon, BINNING)
    assert merged == SpeedHistogram.of(morning + noon, BINNING)


@given(histograms, histograms, histograms)
def test_histograms_may_be_merged_in_any_order(one, two, three):
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + SpeedHistogram.empty(BINNING) == one


@given(histograms)
def test_what_a_histogram_says_lies_where_its_vehicles_are(histogram):
    if histogram.n:
        assert BINNING.from_kmh - 1 <= histogram.mean_kmh <= BINNING.to_kmh + 1
    quantiles = [histogram.quantile_kmh(p) for p in (0.15, 0.5, 0.85)]
    known = [quantile for quantile in quantiles if quantile is not None]
    assert known == sorted(known)
    assert histogram.count_over(30) >= histogram.count_over(40)


@given(windows(), windows(), windows())
def test_windows_may_be_merged_in_any_order(one, two, three):
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert (one + two).count == one.count + two.count


@given(windows())
def test_a_window_is_the_same_after_a_stay_on_disk(window):
    assert WindowAggregate.from_plain(json.loads(json.dumps(window.as_plain()))) == window


@given(windows())
def test_a_window_that_was_written_down_holds_no_speed_and_no_instant_of_a_vehicle(window):
    plain = window.as_plain()
    leaves = json.dumps({key: plain[key] for key in plain if key not in ("start_utc_ns", "end_utc_ns", "provenance")})
    assert "." not in leaves.replace("-", "")  # counters are integers: no measured number survives


def test_a_day_mix_is_the_same_after_a_stay_on_disk():
    for mix in (a_day_mix(), a_day_mix(mix=replace(a_day_mix().mix, free_flow=None))):
        assert DayMix.from_plain(json.loads(json.dumps(mix.as_plain()))) == mix


def test_windows_of_different_kinds_do_not_merge():
    with pytest.raises(ValueError, match="different kinds"):
        a_window() + a_window(limit_kmh=50)
    with pytest.raises(ValueError, match="different kinds"):
        a_window() + a_window(with_mix=False)
