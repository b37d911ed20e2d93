"""Released records as the publisher finds them, and a queue in memory that hands them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timezone

from edge.clock import ClockState, utc_ns_of
from edge.domain import (
    Binning,
    DayMix,
    Direction,
    PrivacyRule,
    Provenance,
    Queued,
    Reason,
    RoadUser,
    SpeedHistogram,
    VehicleMix,
    WindowAggregate,
)
from edge.publish.payload import (
    CalibrationFacts,
    Geometry,
    Histogram,
    Limits,
    Meta,
    ModelFacts,
    PrivacyFacts,
    Site,
    SoftwareFacts,
    State,
    Status,
    WindowRule,
)

EPOCH = "7f3a91c2"
DEVICE = "hvs-0042"
PROVENANCE = Provenance("cal-2026-10-02-a1", "nanodet-640", "1.4.0", "6d2f")
BINNING_30 = Binning.for_limit(30)

# The histogram that stands as the example in the contract.
EXAMPLE_COUNTS = (0, 0, 0, 0, 2, 1, 2, 2, 6, 10, 7, 4, 9, 9, 4, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0)


def utc(text: str) -> int:
    """Nanoseconds since 1970 of ``2026-11-23 06:30:00`` in UTC."""
    return utc_ns_of(datetime.fromisoformat(text).replace(tzinfo=timezone.utc))


def a_window(
    *, direction: Direction = Direction.FORWARD, counts: Sequence[int] = EXAMPLE_COUNTS, over: int = 0
) -> WindowAggregate:
    """Half an hour of a 30 km/h street on a Monday morning; 3 vehicles unmeasured, 3.6 s unwatched."""
    histogram = SpeedHistogram(BINNING_30, tuple(counts), over=over)
    return WindowAggregate(
        direction=direction,
        start_utc_ns=utc("2026-11-23 06:30:00"),
        end_utc_ns=utc("2026-11-23 07:00:00"),
        slot_s=900,
        slot=2,
        day=date(2026, 11, 23),
        ends_day=False,
        limit_kmh=30,
        histogram=histogram,
        unmeasured=3,
        random_variance_micro=250_000 * histogram.n,  # (0.5 km/h)² each
        calibration_relative_micro=10_000 * histogram.n,  # 1 % each
        duration_ns=1_800_000_000_000,
        watched_ns=1_796_400_000_000,
        clock=ClockState.SYNCED,
        provenance=PROVENANCE,
        marks=frozenset(),
        mix=None,
    )


def a_day() -> DayMix:
    """A whole Monday, both directions."""
    free = SpeedHistogram(BINNING_30, EXAMPLE_COUNTS)
    return DayMix(
        day=date(2026, 11, 23),
        directions=(Direction.FORWARD, Direction.BACKWARD),
        start_utc_ns=utc("2026-11-23 03:00:00"),
        end_utc_ns=utc("2026-11-24 03:00:00"),
        duration_ns=86_400_000_000_000,
        watched_ns=86_400_000_000_000,
        measured=970,
        mix=VehicleMix(
            {RoadUser.CAR: 900, RoadUser.TRUCK: 80, RoadUser.BICYCLE: 412},
            {Reason.OCCLUDED: 7, Reason.SHORT_BASELINE: 3},
            free,
        ),
        clock=ClockState.HOLDOVER,
        provenance=PROVENANCE,
        marks=frozenset(),
    )


def queued(record: WindowAggregate | DayMix, seq: int = 18843) -> Queued:
    """A record with its number."""
    return Queued(EPOCH, seq, record, 10, PrivacyRule.CARRY_OVER)


def a_status(state: State = State.READY) -> Status:
    """Ready since the morning."""
    since = datetime(2026, 11, 23, 5, 0, tzinfo=timezone.utc)
    return Status(device=DEVICE, epoch=EPOCH, state=state, since=since, sw="1.4.0")


def a_meta() -> Meta:
    """Everything about the example site."""
    return Meta(
        device=DEVICE,
        epoch=EPOCH,
        site=Site(
            id="hvs-snelliuslaan-12",
            city="hilversum",
            timezone="Europe/Amsterdam",
            forward="towards Larenseweg",
            backward="towards Kerkelanden",
        ),
        geometry=Geometry(
            zone_m=((0.0, 8.0), (6.5, 8.0), (6.5, 28.0), (0.0, 28.0)), axis_m=((3.2, 8.0), (3.2, 28.0)), crs=None
        ),
        calibration=CalibrationFacts(
            id="cal-2026-10-02-a1",
            made=date(2026, 10, 2),
            verdict="good",
            u_rel_speed_median=0.008,
            u_rel_speed_worst=0.012,
        ),
        model=ModelFacts(name="nanodet-640", sha256="0" * 64),
        software=SoftwareFacts(version="1.4.0", cfg="6d2f"),
        limits=Limits(speed_kmh=30, percentile_n=30, few_n=100, headway_s=5.0),
        window=WindowRule(slot_s=900, day_begins="04:00", bins=Histogram.of(SpeedHistogram.empty(BINNING_30))),
        privacy=PrivacyFacts(k=10, rule=PrivacyRule.CARRY_OVER, release_delay_s=120.0, retention_days=35),
    )


class QueueInMemory:
    """A queue with the manners of the outbox: what was handed out and not marked is handed out again."""

    epoch = EPOCH

    def __init__(self, count: int = 0) -> None:
        self.records: dict[int, Queued] = {}
        self.sent: set[int] = set()
        self.acks: list[tuple[str, int]] = []
        self.add(count)

    def add(self, count: int) -> None:
        """Queue more windows, by turns of either direction."""
        for seq in range(len(self.records) + 1, len(self.records) + count + 1):
            direction = Direction.FORWARD if seq % 2 else Direction.BACKWARD
            self.records[seq] = queued(a_window(direction=direction), seq)

    def replace(self, seq: int, record: WindowAggregate) -> None:
        """Put another record under a number."""
        self.records[seq] = replace(self.records[seq], record=record)

    @property
    def unsent(self) -> list[int]:
        """Numbers that the broker has not taken."""
        return [seq for seq in sorted(self.records) if seq not in self.sent]

    def due(self, now_utc_ns: int, limit: int) -> list[Queued]:
        """Oldest first."""
        return [self.records[seq] for seq in self.unsent[:limit]]

    def mark_sent(self, seq: int, epoch: str) -> None:
        """The broker has it."""
        self.sent.add(seq)

    def ack(self, epoch: str, upto: int) -> bool:
        """Remembered, for the test."""
        self.acks.append((epoch, upto))
        return epoch == self.epoch

    def resend(self, first: int, last: int) -> int:
        """Both ends included."""
        again = {seq for seq in self.records if first <= seq <= last}
        self.sent -= again
        return len(again)
