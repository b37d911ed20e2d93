"""Messages of a pole as the platform gets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from edge.clock import ClockState, utc_ns_of
from edge.domain import (
    Binning,
    DayMix,
    Direction,
    Floats,
    PrivacyRule,
    Provenance,
    Queued,
    SpeedHistogram,
    WindowAggregate,
    traffic_day,
)
from edge.publish import Message, Native
from edge.publish.payload import Flow
from edge.subscriber import Numbered, read_message
from tests.support.builders import HILVERSUM, PROVENANCE

CITY, DEVICE, SITE, EPOCH = "hilversum", "hvs-0042", "hvs-snelliuslaan-12", "7f3a91c2"
S = 1_000_000_000


def published(record: WindowAggregate | DayMix, seq: int, *, device: str = DEVICE, epoch: str = EPOCH) -> Message:
    """The message about a released record."""
    queued = Queued(epoch, seq, record, 10, PrivacyRule.CARRY_OVER)
    (message,) = Native(city=CITY, device=device, site=SITE).measurement(queued)
    return message


def received(record: WindowAggregate | DayMix, seq: int, *, device: str = DEVICE, epoch: str = EPOCH) -> Numbered:
    """The same, read by the platform."""
    message = published(record, seq, device=device, epoch=epoch)
    read = read_message(message.topic, message.payload)
    assert isinstance(read, Numbered)
    return read


def a_flow(record: WindowAggregate, seq: int = 1, *, device: str = DEVICE) -> Flow:
    """What a window says."""
    flow = received(record, seq, device=device).message
    assert isinstance(flow, Flow)
    return flow


def day_window(
    begin: datetime,
    counts: Sequence[int],
    *,
    hours: float = 24.0,
    coverage: float = 1.0,
    unmeasured: int = 0,
    limit_kmh: int = 30,
    direction: Direction = Direction.FORWARD,
    provenance: Provenance = PROVENANCE,
) -> WindowAggregate:
    """One window from an instant on, with vehicles in (under, bins …, over)."""
    histogram = SpeedHistogram(Binning.for_limit(limit_kmh), tuple(int(c) for c in counts[1:-1]), counts[0], counts[-1])
    start = utc_ns_of(begin.astimezone(timezone.utc))
    end = start + round(hours * 3600) * S
    return WindowAggregate(
        direction=direction,
        start_utc_ns=start,
        end_utc_ns=end,
        slot_s=900,
        slot=0,
        day=traffic_day(end - 1, HILVERSUM),
        ends_day=False,
        limit_kmh=limit_kmh,
        histogram=histogram,
        unmeasured=unmeasured,
        random_variance_micro=250_000 * histogram.n,
        calibration_relative_micro=10_000 * histogram.n,
        duration_ns=end - start,
        watched_ns=round((end - start) * coverage),
        clock=ClockState.SYNCED,
        provenance=provenance,
        marks=frozenset(),
        mix=None,
    )


def with_calibration(name: str) -> Provenance:
    """An ordinary pole with another calibration."""
    return replace(PROVENANCE, calibration=name)


def four_o_clock(day: str) -> datetime:
    """Begin of a traffic day in Hilversum."""
    return datetime.fromisoformat(day).replace(hour=4, tzinfo=HILVERSUM)


def following(begin: datetime, days: int) -> datetime:
    """The same wall time, days later."""
    return (begin.replace(tzinfo=None) + timedelta(days=days)).replace(tzinfo=begin.tzinfo)


def counts_of(speeds_kmh: Floats, limit_kmh: int = 30) -> list[int]:
    """Vehicles in (under, bins …, over)."""
    histogram = SpeedHistogram.of(speeds_kmh.tolist(), Binning.for_limit(limit_kmh))
    return [histogram.under, *histogram.counts, histogram.over]
