"""A street for days or a year: ordinary traffic through the real windows and the real privacy rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from edge.aggregate import Anonymity, Windows
from edge.clock import ClockAnchor, ClockState
from edge.domain import Direction, Passage, Queued, Reason, Release, RoadUser, SpeedEstimate
from tests.support.builders import BINNING, HILVERSUM, PROVENANCE, S, utc_ns

SLOT_S = 900
LATENESS_S = 60
# Motor vehicles by local hour, shares of a day: a street where people live (peaks at 8 and 17 h).
BY_HOUR = (
    0.5, 0.3, 0.2, 0.2, 0.4, 1.0, 3.0, 7.5, 8.5, 5.5, 5.0, 5.2,
    5.6, 5.6, 6.0, 6.6, 8.0, 8.6, 6.5, 5.0, 4.0, 3.2, 2.4, 1.2,
)  # fmt: skip
CLASSES = {RoadUser.CAR: 90, RoadUser.TRUCK: 6, RoadUser.BUS: 2, RoadUser.MOTORCYCLE: 2}
UNMEASURED_SHARE = 0.04


@dataclass(frozen=True)
class Told:
    """A release, and when the device may send it."""

    release: Release
    sent_utc_ns: int


def passages(
    *, first_day: str, days: int, motor_a_day: int, bicycles_a_day: int = 0, seed: int = 0
) -> Iterator[tuple[int, Passage]]:
    """Passages in the order of time, with their UTC; numbers a day vary as chance lets them.

    Args:
        first_day: Local date of the first day, from midnight.
        days: How many.
        motor_a_day: Motor vehicles on an average day, both directions together.
        bicycles_a_day: Bicycles on an average day.
        seed: Of chance.
    """
    rng = random.Random(seed)
    begin_utc_ns = utc_ns(f"{first_day}T00:00:00Z")
    midnight = datetime.fromisoformat(first_day).replace(tzinfo=HILVERSUM)
    users, weights = list(CLASSES), list(CLASSES.values())
    for day in range(days):
        today = midnight + timedelta(days=day)  # the same wall time on the next date, also when the clocks change
        for hour, share in enumerate(BY_HOUR):
            hour_utc = today.replace(hour=hour).astimezone(timezone.utc)
            hour_ns = utc_ns(hour_utc.strftime("%Y-%m-%dT%H:%M:%SZ"))
            motor = _poisson(rng, motor_a_day * share / sum(BY_HOUR))
            kinds = rng.choices(users, weights, k=motor)
            kinds += [RoadUser.BICYCLE] * _poisson(rng, bicycles_a_day * share / sum(BY_HOUR))
            when = sorted((hour_ns + rng.randrange(3600 * S), kind) for kind in kinds)
            for utc, kind in when:
                yield utc, _passage(rng, utc - begin_utc_ns, kind)


def told(traffic: Iterator[tuple[int, Passage]], *, first_day: str, k: int = 10, seed: int = 0) -> Iterator[Told]:
    """What the device releases of this traffic, in the order of release; the end is that of a recording."""
    begin_utc_ns = utc_ns(f"{first_day}T00:00:00Z")
    windows = Windows(
        binning=BINNING,
        limit_kmh=30,
        zone=HILVERSUM,
        anchor=ClockAnchor(0, begin_utc_ns, ClockState.SYNCED),
        provenance=PROVENANCE,
        lateness_s=LATENESS_S,
        longest_gap_s=SLOT_S,
    )
    anonymity = Anonymity(k=k, rng=random.Random(seed))
    frame_ns: int | None = None
    for _, passage in traffic:
        if frame_ns is None:
            frame_ns = passage.middle_ns // (SLOT_S * S) * (SLOT_S * S)
            windows.close_until(frame_ns)
        while frame_ns + (SLOT_S + LATENESS_S) * S <= passage.middle_ns:  # a frame just after each slot has closed
            frame_ns += SLOT_S * S
            for aggregate in windows.close_until(frame_ns + LATENESS_S * S):
                for release in anonymity.settle(aggregate).releases:
                    yield Told(release, max(release.not_before_utc_ns, begin_utc_ns + frame_ns + LATENESS_S * S))
        windows.add(passage)
    for settlement in (*map(anonymity.settle, windows.finish()), anonymity.finish()):
        for release in settlement.releases:
            yield Told(release, release.not_before_utc_ns)


def numbered(releases: Iterator[Told], *, epoch: str = "7f3a91c2") -> list[Queued]:
    """Releases as the outbox hands them out."""
    return [
        Queued(epoch, seq, each.release.record, each.release.k, each.release.rule)
        for seq, each in enumerate(releases, start=1)
    ]


def _passage(rng: random.Random, middle_ns: int, kind: RoadUser) -> Passage:
    is_measured = kind is RoadUser.BICYCLE or rng.random() >= UNMEASURED_SHARE
    speed_kmh = max(rng.gauss(18, 3) if kind is RoadUser.BICYCLE else rng.gauss(32, 6), 3.0)
    return Passage(
        direction=rng.choice(tuple(Direction)),
        road_user=kind,
        entered_ns=middle_ns - S,
        left_ns=middle_ns + S,
        speed=SpeedEstimate(speed_kmh / 3.6, 0.1, 0.08) if is_measured else None,
        reason=None if is_measured else rng.choice(tuple(Reason)),
        lateral_m=0.0,
        samples=40,
        baseline_m=19.0,
        length_m=4.3,
    )


def _poisson(rng: random.Random, mean: float) -> int:
    """How many arrive in a stretch of time when arrivals are independent."""
    count, waited = 0, rng.expovariate(1.0)
    while waited < mean:
        count, waited = count + 1, waited + rng.expovariate(1.0)
    return count
