"""Records for tests: say only what matters, the rest is an ordinary street."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

from edge.aggregate import Windows
from edge.clock import ClockAnchor, ClockState, utc_ns_of
from edge.domain import (
    Binning,
    DayMix,
    Direction,
    Passage,
    PrivacyRule,
    Provenance,
    Queued,
    Reason,
    Release,
    RoadUser,
    Settlement,
    SpeedEstimate,
    SpeedHistogram,
    VehicleMix,
    WindowAggregate,
    traffic_day,
)

S = 1_000_000_000  # nanoseconds in a second
HILVERSUM = ZoneInfo("Europe/Amsterdam")
BINNING = Binning.for_limit(30)
PROVENANCE = Provenance(calibration="cal-2026-10-02-a1", model="nanodet", software="1.0.0", config="6d2f")
MORNING = "2026-11-23T06:30:00Z"  # a Monday, 07:30 in Hilversum


def utc_ns(text: str) -> int:
    """Nanoseconds since 1970 of `2026-11-23T06:30:00Z`."""
    return utc_ns_of(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc))


def an_anchor(at: str = MORNING, state: ClockState = ClockState.SYNCED) -> ClockAnchor:
    """The source's clock is 0 at this instant."""
    return ClockAnchor(captured_ns=0, utc_ns=utc_ns(at), state=state)


def a_passage(
    *,
    speed_kmh: float | None = 32.0,
    middle_s: float = 60.0,
    lasting_s: float = 2.0,
    direction: Direction = Direction.FORWARD,
    road_user: RoadUser = RoadUser.CAR,
    reason: Reason = Reason.OCCLUDED,
    sigma_random_kmh: float = 0.4,
    sigma_calibration_kmh: float = 0.3,
) -> Passage:
    """A car at 32 km/h, a minute after the source began; without a speed: seen, not measured."""
    speed = None
    if speed_kmh is not None:
        speed = SpeedEstimate(speed_kmh / 3.6, sigma_random_kmh / 3.6, sigma_calibration_kmh / 3.6)
    return Passage(
        direction=direction,
        road_user=road_user,
        entered_ns=round((middle_s - lasting_s / 2) * S),
        left_ns=round((middle_s + lasting_s / 2) * S),
        speed=speed,
        reason=reason if speed_kmh is None else None,
        lateral_m=-0.4,
        samples=40,
        baseline_m=19.0,
        length_m=4.3,
    )


def some_windows(**changes: Any) -> Windows:
    """Windows of a 30 km/h street from Monday 06:30 UTC on."""
    ordinary: dict[str, Any] = {
        "binning": BINNING,
        "limit_kmh": 30,
        "zone": HILVERSUM,
        "anchor": an_anchor(),
        "provenance": PROVENANCE,
    }
    return Windows(**ordinary | changes)


def a_window(
    *,
    speeds_kmh: Iterable[float] = (32.0,) * 12,
    begin: str = MORNING,
    slots: int = 1,
    slot_s: int = 900,
    direction: Direction = Direction.FORWARD,
    unmeasured: int = 0,
    with_mix: bool = True,
    **changes: Any,
) -> WindowAggregate:
    """A watched quarter of an hour with twelve cars."""
    speeds = list(speeds_kmh)
    histogram = SpeedHistogram.of(speeds, BINNING)
    start_utc_ns = utc_ns(begin)
    duration_ns = slots * slot_s * S
    mix = VehicleMix({RoadUser.CAR: len(speeds) + unmeasured}, {Reason.OCCLUDED: unmeasured}, histogram)
    window = WindowAggregate(
        direction=direction,
        start_utc_ns=start_utc_ns,
        end_utc_ns=start_utc_ns + duration_ns,
        slot_s=slot_s,
        slot=start_utc_ns // (slot_s * S),
        day=traffic_day(start_utc_ns, HILVERSUM),
        ends_day=traffic_day(start_utc_ns + duration_ns, HILVERSUM) != traffic_day(start_utc_ns, HILVERSUM),
        limit_kmh=30,
        histogram=histogram,
        unmeasured=unmeasured,
        random_variance_micro=160_000 * len(speeds),  # 0.4 km/h each
        calibration_relative_micro=10_000 * len(speeds),  # 1 % each
        duration_ns=duration_ns,
        watched_ns=duration_ns,
        clock=ClockState.SYNCED,
        provenance=PROVENANCE,
        marks=frozenset(),
        mix=mix if with_mix else None,
    )
    return replace(window, **changes)


def a_day_mix(**changes: Any) -> DayMix:
    """A Monday with 900 cars, 40 trucks and 120 bicycles."""
    speeds = [25.0] * 200 + [32.0] * 400 + [41.0] * 100
    classes = {RoadUser.CAR: 900, RoadUser.TRUCK: 40, RoadUser.BICYCLE: 120}
    unmeasured = {Reason.OCCLUDED: 22, Reason.SHORT_BASELINE: 18}
    mix = DayMix(
        day=date(2026, 11, 23),
        directions=tuple(Direction),
        start_utc_ns=utc_ns("2026-11-23T03:00:00Z"),
        end_utc_ns=utc_ns("2026-11-24T03:00:00Z"),
        duration_ns=86_400 * S,
        watched_ns=86_000 * S,
        measured=900,
        mix=VehicleMix(classes, unmeasured, SpeedHistogram.of(speeds, BINNING)),
        clock=ClockState.SYNCED,
        provenance=PROVENANCE,
        marks=frozenset(),
    )
    return replace(mix, **changes)


def a_queued(record: WindowAggregate | DayMix | None = None, *, seq: int = 18843, epoch: str = "7f3a91c2") -> Queued:
    """A released window as the publisher gets it."""
    return Queued(epoch, seq, record or a_window(with_mix=False), 10, PrivacyRule.CARRY_OVER)


def a_settlement(*records: WindowAggregate | DayMix, not_before: str = MORNING, state: Any = None) -> Settlement:
    """What the anonymity stage hands to the outbox, with these records released."""
    releases = tuple(Release(record, 10, PrivacyRule.CARRY_OVER, utc_ns(not_before)) for record in records)
    return Settlement(releases, state if state is not None else {"settled": {}})
