"""The words of the contract: every message that the device sends or understands, as a frozen model.

The models are the contract. JSON Schema and documentation are made from them, the device writes with them and the
platform side reads with them. Closed lists are enumerations; what a reader could recompute is checked here, so a
message that contradicts itself is never sent. Every statistic is a function of the histogram beside it, rounded to
0.1 km/h: finer than any of them is known.

Only :meth:`Flow.of` and :meth:`Mix.of` read records, and both take a :class:`edge.domain.Queued`, which exists for
released records only.
"""

from __future__ import annotations

import math
from datetime import date as Date
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from edge.clock import utc_datetime
from edge.domain import (
    FREE_FLOW_HEADWAY_S,
    Binning,
    ClockState,
    DayMix,
    Direction,
    Flag,
    PrivacyRule,
    Provenance,
    Queued,
    Reason,
    SpeedHistogram,
    WindowAggregate,
)

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"  # what MQTT topics, Orion and file names all allow
SPEED_DIGITS = 1
COVERAGE_SCALE = 1000


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(timezone.utc)


Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
Epoch = Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
Instant = Annotated[AwareDatetime, AfterValidator(_utc)]
Share = Annotated[float, Field(ge=0, le=1)]
SpeedKmh = Annotated[float, Field(ge=0)]


Number = Annotated[int, Field(ge=1, le=2**53 - 1)]  # what JSON readers everywhere keep exactly


class Part(BaseModel):
    """A piece of a message: frozen, and nothing in it that the contract does not name."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Wire(Part):
    """A whole message that the device sends."""

    schema_: str = Field(alias="schema", description="Name and version: a new minor version only adds.")

    def encode(self) -> bytes:
        """The message as compact JSON, UTF-8, keys in the order of the contract."""
        return self.model_dump_json(by_alias=True).encode()


# --------------------------------------------------------------------------------------------------- measurement


class Histogram(Part):
    """Measured motor vehicles by speed; bins are open below and closed above, so nobody at the limit is over it."""

    from_: NonNegativeInt = Field(alias="from", description="Lower edge of the first bin. [km/h]")
    width: PositiveInt = Field(description="Width of every bin. [km/h]")
    counts: tuple[NonNegativeInt, ...] = Field(min_length=1, description="Vehicles in each bin.")
    under: NonNegativeInt = Field(description="Vehicles at or below the first edge.")
    over: NonNegativeInt = Field(description="Vehicles above the last edge (top-coded).")

    @classmethod
    def of(cls, histogram: SpeedHistogram) -> Histogram:
        """The counts of a histogram."""
        return cls.model_validate(histogram.as_plain())

    def read(self) -> SpeedHistogram:
        """The counts as a histogram that can be added to others and asked for any statistic."""
        return SpeedHistogram(Binning(self.from_, self.width, len(self.counts)), self.counts, self.under, self.over)


class SpeedStatistics(Part):
    """A histogram and what follows from it."""

    unit: Literal["km/h"] = Field(default="km/h", description="Unit of every speed in this message.")
    n: NonNegativeInt = Field(description="Measured motor vehicles: all of the histogram.")
    hist: Histogram = Field(description="Vehicles by speed.")
    mean: SpeedKmh | None = Field(description="Mean by bin middles. [km/h]")
    sd: SpeedKmh | None = Field(description="Standard deviation with Sheppard's correction. [km/h]")
    v15: SpeedKmh | None = Field(description="15 % drive this or slower; null below n = 30. [km/h]")
    v50: SpeedKmh | None = Field(description="Median; null below n = 30. [km/h]")
    v85: SpeedKmh | None = Field(description="85 % drive this or slower; null below n = 30. [km/h]")

    @model_validator(mode="after")
    def _counts_everyone_once(self) -> SpeedStatistics:
        counted = self.hist.under + sum(self.hist.counts) + self.hist.over
        if counted != self.n:
            raise ValueError(f"n: expected the {counted} vehicles of the histogram, got {self.n}")
        return self


class Speed(SpeedStatistics):
    """Speeds of a window."""

    u_v85: SpeedKmh | None = Field(
        description="Expanded uncertainty (k = 2) of v85: sampling, random and calibration parts; null with it. [km/h]"
    )


class FreeFlow(SpeedStatistics):
    """Speeds of the motor vehicles that followed no other."""

    headway_s: float = Field(gt=0, description="A longer gap to the vehicle ahead counts as free. [s]")


class Window(Part):
    """The stretch of time that a flow message is about."""

    start: Instant = Field(description="Begin, UTC.")
    end: Instant = Field(description="End, UTC; the next window of this direction begins here or later.")
    slot_s: PositiveInt = Field(description="Length of a slot. [s]")
    slots: PositiveInt = Field(description="Slots in this window.")
    day: Date = Field(description="Traffic day (from 04:00 local time) in which it ends.")
    clock: ClockState = Field(description="How well UTC was known, at worst.")


class Day(Part):
    """The traffic day that a mix message is about."""

    start: Instant = Field(description="Begin, UTC.")
    end: Instant = Field(description="End, UTC.")
    day: Date = Field(description="The traffic day (from 04:00 local time).")
    clock: ClockState = Field(description="How well UTC was known, at worst.")


class Limit(Part):
    """The speed limit and how many drove faster."""

    kmh: PositiveInt = Field(description="Speed limit. [km/h]")
    over: NonNegativeInt = Field(description="Measured vehicles above the limit.")
    over10: NonNegativeInt = Field(description="Measured vehicles above the limit + 10 km/h.")


class Quality(Part):
    """How good a window is."""

    coverage: Share = Field(description="Share of the time in which the street was really watched.")
    unmeasured: NonNegativeInt = Field(description="Motor vehicles seen but not measured.")
    flags: tuple[Flag, ...] = Field(description="What a reader must know.")


class Classes(Part):
    """Vehicles by class."""

    car: NonNegativeInt = Field(description="Cars, most vans among them.")
    truck: NonNegativeInt = Field(description="Lorries, large vans among them.")
    bus: NonNegativeInt = Field(description="Buses.")
    motorcycle: NonNegativeInt = Field(description="Motorcycles and mopeds.")
    bicycle: NonNegativeInt = Field(description="Bicycles: counted here only, never in speed statistics.")


class DayQuality(Part):
    """How good a day is."""

    coverage: Share = Field(description="Share of the time in which the street was really watched.")
    flags: tuple[Flag, ...] = Field(description="What a reader must know.")


class Privacy(Part):
    """What was guaranteed."""

    k: PositiveInt = Field(description="Measured vehicles in a window, at least.")
    rule: PrivacyRule = Field(description="How that is kept.")


class Prov(Part):
    """What produced the numbers."""

    cal: str = Field(description="Calibration.")
    model: str = Field(description="Detector model.")
    sw: str = Field(description="Version of the software.")
    cfg: str = Field(description="Short hash of the settings that matter to the numbers.")

    @classmethod
    def of(cls, provenance: Provenance) -> Prov:
        """The short names of a provenance."""
        return cls(cal=provenance.calibration, model=provenance.model, sw=provenance.software, cfg=provenance.config)


class Numbered(Wire):
    """A message with a number: unique by device, epoch and seq, so that a consumer can store it once."""

    id: str = Field(description="device/epoch/seq: unique for ever.")
    device: Name = Field(description="The device that measured.")
    epoch: Epoch = Field(description="Random name of the device's database; a new one starts at seq 1.")
    seq: Number = Field(description="Rises by one within the epoch: a hole is a message not received.")
    site: Name = Field(description="Where it measured.")

    @model_validator(mode="after")
    def _id_says_the_same(self) -> Numbered:
        expected = f"{self.device}/{self.epoch}/{self.seq}"
        if self.id != expected:
            raise ValueError(f"id: expected '{expected}', got '{self.id}'")
        return self


class Flow(Numbered):
    """One direction over one closed window."""

    schema_: Literal["snellius.flow/1.0"] = Field(default="snellius.flow/1.0", alias="schema")
    direction: Direction = Field(description="Which way; meta tells what it means here.")
    window: Window = Field(description="When.")
    count: NonNegativeInt = Field(description="Motor vehicles, measured or not.")
    speed: Speed = Field(description="How fast they drove.")
    limit: Limit = Field(description="Against the speed limit.")
    quality: Quality = Field(description="How good the numbers are.")
    privacy: Privacy = Field(description="What was guaranteed.")
    prov: Prov = Field(description="What produced the numbers.")

    @model_validator(mode="after")
    def _adds_up(self) -> Flow:
        if self.count != self.speed.n + self.quality.unmeasured:
            raise ValueError(f"count: expected measured + unmeasured, got {self.count}")
        if not self.limit.over10 <= self.limit.over <= self.speed.n:
            raise ValueError(f"limit: expected over10 ≤ over ≤ n, got {self.limit}")
        if self.window.end <= self.window.start:
            raise ValueError("window: expected an end after the start")
        return self

    @classmethod
    def of(cls, queued: Queued, window: WindowAggregate, *, device: str, site: str) -> Flow:
        """The message about a released window; ``window`` is the record of ``queued``."""
        histogram, limit_kmh = window.histogram, window.limit_kmh
        return cls(
            id=f"{device}/{queued.epoch}/{queued.seq}",
            device=device,
            epoch=queued.epoch,
            seq=queued.seq,
            site=site,
            direction=window.direction,
            window=Window(
                start=_instant(window.start_utc_ns),
                end=_instant(window.end_utc_ns),
                slot_s=window.slot_s,
                slots=window.slots,
                day=window.day,
                clock=window.clock,
            ),
            count=window.count,
            speed=Speed.model_validate(_statistics(histogram) | {"u_v85": _kmh(window.u_v85_kmh)}),
            limit=Limit(
                kmh=limit_kmh, over=histogram.count_over(limit_kmh), over10=histogram.count_over(limit_kmh + 10)
            ),
            quality=Quality(coverage=_coverage(window.coverage), unmeasured=window.unmeasured, flags=window.flags),
            privacy=Privacy(k=queued.k, rule=queued.rule),
            prov=Prov.of(window.provenance),
        )


class Mix(Numbered):
    """Classes, reasons and free flow of a traffic day; only when every class counts k or more, or none."""

    schema_: Literal["snellius.mix/1.0"] = Field(default="snellius.mix/1.0", alias="schema")
    directions: tuple[Direction, ...] = Field(min_length=1, description="Directions counted here.")
    window: Day = Field(description="When.")
    classes: Classes = Field(description="Vehicles of each class, measured or not.")
    unmeasured: dict[Reason, PositiveInt] = Field(description="Motor vehicles without a speed, by reason.")
    free_flow: FreeFlow | None = Field(
        description="Speeds of those who followed nobody; null when they or the others are fewer than k."
    )
    quality: DayQuality = Field(description="How good the numbers are.")
    privacy: Privacy = Field(description="What was guaranteed.")
    prov: Prov = Field(description="What produced the numbers.")

    @classmethod
    def of(cls, queued: Queued, day: DayMix, *, device: str, site: str) -> Mix:
        """The message about a released day; ``day`` is the record of ``queued``."""
        free = day.mix.free_flow
        return cls(
            id=f"{device}/{queued.epoch}/{queued.seq}",
            device=device,
            epoch=queued.epoch,
            seq=queued.seq,
            site=site,
            directions=day.directions,
            window=Day(start=_instant(day.start_utc_ns), end=_instant(day.end_utc_ns), day=day.day, clock=day.clock),
            classes=Classes.model_validate({road_user.value: count for road_user, count in day.mix.classes.items()}),
            unmeasured={reason: count for reason, count in day.mix.unmeasured.items() if count},
            free_flow=None
            if free is None
            else FreeFlow.model_validate(_statistics(free) | {"headway_s": FREE_FLOW_HEADWAY_S}),
            quality=DayQuality(coverage=_coverage(day.coverage), flags=day.flags),
            privacy=Privacy(k=queued.k, rule=queued.rule),
            prov=Prov.of(day.provenance),
        )


# ----------------------------------------------------------------------------------------------- about the device


class State(str, Enum):
    """How the device is. A closed list."""

    READY = "ready"  # measures, and everything is as it should be
    DEGRADED = "degraded"  # runs, but something costs coverage or quality: see the reasons
    MAINTENANCE = "maintenance"  # a technician works on it
    STOPPED = "stopped"  # ended in order
    LOST = "lost"  # the broker has not heard from it: power, network or crash


class StatusReason(str, Enum):
    """Why it is not simply ready. A closed list: platforms rely on it."""

    STARTING = "starting"  # not yet measuring after a start
    CAMERA_LOST = "camera_lost"  # no frames
    CAMERA_FROZEN = "camera_frozen"  # the picture does not change
    CAMERA_BLACK = "camera_black"  # the picture is black
    CAMERA_MOVED = "camera_moved"  # does not stand as calibrated
    CAMERA_UNCHECKED = "camera_unchecked"  # nothing of the street can be recognised: a turn would go unnoticed
    CAMERA_SIZE = "camera_size"  # pictures of another size than calibrated
    FRAME_RATE = "frame_rate"  # too few frames come, or too few of them are measured
    TOO_DARK = "too_dark"  # not enough light to measure
    CALIBRATION_OLD = "calibration_old"  # has expired; what is measured with it is flagged
    CALIBRATION_DRIFT = "calibration_drift"  # the traffic has looked different for a while; windows are flagged
    CLOCK_UNSET = "clock_unset"  # no time since the last boot
    CLOCK_HOLDOVER = "clock_holdover"  # no time server at the moment
    HOT = "hot"  # slowed down by heat
    UNDERVOLTAGE = "undervoltage"  # slowed down by its power supply
    BROKER_REFUSES = "broker_refuses"  # the broker refuses messages; they are kept and offered again
    OUTBOX_FULL = "outbox_full"  # old windows were joined to make room
    OUTBOX_UNWRITABLE = "outbox_unwritable"  # the disk refuses: what is counted waits in memory
    OUTBOX_NEW = "outbox_new"  # the database was damaged: a new epoch began
    CONNECTION_LOST = "connection_lost"  # said by the last will


class Status(Wire):
    """Retained: how the device is now."""

    schema_: Literal["snellius.status/1.0"] = Field(default="snellius.status/1.0", alias="schema")
    device: Name = Field(description="Who says it.")
    epoch: Epoch = Field(description="Of its database.")
    state: State = Field(description="How it is.")
    reasons: tuple[StatusReason, ...] = Field(default=(), description="Why it is not simply ready.")
    since: Instant | None = Field(default=None, description="Since when; null when the device cannot know (last will).")
    sw: str = Field(description="Version of the software.")


class Site(Part):
    """Where the device measures."""

    id: Name = Field(description="Name of the site.")
    city: Name = Field(description="As in the topic.")
    timezone: str = Field(description="Of the street (IANA); traffic days begin at 04:00 there.")
    forward: str = Field(description="What direction 'forward' means here.")
    backward: str = Field(description="What direction 'backward' means here.")


class Geometry(Part):
    """What is measured: the zone on the road, in the metres of the survey."""

    zone_m: tuple[tuple[float, float], ...] = Field(min_length=3, description="Corners of the zone. [m]")
    axis_m: tuple[tuple[float, float], tuple[float, float]] = Field(description="From, to: 'forward'. [m]")
    crs: str | None = Field(default=None, description="EPSG code of the metres; null for a local frame.")


class CalibrationFacts(Part):
    """The calibration in use."""

    id: str = Field(description="Name of the calibration.")
    made: Date | None = Field(default=None, description="When it was solved.")
    verdict: Literal["good", "usable"] | None = Field(default=None, description="How well it was solved.")
    u_rel_speed_median: float | None = Field(default=None, ge=0, description="One-sigma share of the speed.")
    u_rel_speed_worst: float | None = Field(default=None, ge=0, description="One-sigma share of the speed.")


class ModelFacts(Part):
    """The detector in use."""

    name: str = Field(description="As in 'snellius models list'.")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        default=None, description="Checksum of the model file."
    )


class SoftwareFacts(Part):
    """The software in use."""

    name: Literal["snellius"] = Field(default="snellius", description="This software.")
    version: str = Field(description="Its version.")
    cfg: str = Field(description="Short hash of the settings that matter to the numbers.")


class Limits(Part):
    """Numbers that the statistics rest on."""

    speed_kmh: PositiveInt = Field(description="Speed limit of the site. [km/h]")
    percentile_n: PositiveInt = Field(description="Fewer vehicles have no percentile.")
    few_n: PositiveInt = Field(description="Fewer vehicles carry the flag 'few'.")
    headway_s: float = Field(gt=0, description="A longer gap to the vehicle ahead counts as free flow. [s]")


class WindowRule(Part):
    """How time is cut."""

    slot_s: PositiveInt = Field(description="Windows are whole slots. [s]")
    day_begins: str = Field(pattern="^[0-2][0-9]:[0-5][0-9]$", description="Local time at which a traffic day begins.")
    bins: Histogram = Field(description="An empty histogram: the bins of this site.")


class PrivacyFacts(Part):
    """What residents were promised."""

    k: PositiveInt = Field(description="Measured vehicles in a window, at least.")
    rule: PrivacyRule = Field(description="How that is kept.")
    release_delay_s: float = Field(ge=0, description="A window leaves at random within this time after its slot. [s]")
    retention_days: PositiveInt | None = Field(default=None, description="The device forgets what it sent after this.")


class Meta(Wire):
    """Retained: who measures what, with what, under which rules."""

    schema_: Literal["snellius.meta/1.0"] = Field(default="snellius.meta/1.0", alias="schema")
    device: Name = Field(description="Who measures.")
    epoch: Epoch = Field(description="Of its database.")
    site: Site = Field(description="Where.")
    geometry: Geometry = Field(description="What is measured.")
    calibration: CalibrationFacts = Field(description="With which calibration.")
    model: ModelFacts = Field(description="With which detector.")
    software: SoftwareFacts = Field(description="With which software.")
    limits: Limits = Field(description="Numbers that the statistics rest on.")
    window: WindowRule = Field(description="How time is cut.")
    privacy: PrivacyFacts = Field(description="What residents were promised.")


class WatchedSince(Part):
    """The share of a stretch of time in which the street was really watched."""

    since: Instant = Field(description="Begin of the stretch, UTC.")
    share: Share = Field(description="Watched share of it.")


class Health(Wire):
    """Every five minutes: that it works, also on a street where nothing may be told. No number comes from traffic."""

    schema_: Literal["snellius.health/1.0"] = Field(default="snellius.health/1.0", alias="schema")
    device: Name = Field(description="Who says it.")
    epoch: Epoch = Field(description="Of its database.")
    time: Instant = Field(description="When it was said, UTC.")
    uptime_s: NonNegativeInt = Field(description="Since the service started. [s]")
    clock: ClockState = Field(description="How well UTC is known.")
    coverage: WatchedSince = Field(description="Since the last message of this kind.")
    frames_per_s: float | None = Field(default=None, ge=0, description="Rate of the camera. [1/s]")
    temperature_c: int | None = Field(default=None, description="Of the processor, whole degrees. [°C]")
    throttled: bool | None = Field(default=None, description="Slowed down by heat or power supply.")
    disk_free: Share | None = Field(default=None, description="Share of the disk that is free.")


# -------------------------------------------------------------------------------------------- platform to device


class Ack(Part):
    """The platform has stored everything up to a number."""

    epoch: Epoch = Field(description="Of the numbered messages.")
    upto: Annotated[int, Field(ge=0, le=2**53 - 1)] = Field(description="Stored up to this number, for good.")


class Command(Part):
    """Please send numbers ``from`` to ``to`` again. There is no other command."""

    cmd: Literal["resend"] = Field(default="resend", description="The only one.")
    id: Annotated[str, Field(pattern="^[A-Za-z0-9_.:-]{1,64}$")] | None = Field(
        default=None, description="Comes back in the result."
    )
    epoch: Epoch | None = Field(default=None, description="Refused when it is not the present one.")
    from_: Number = Field(alias="from", description="First number.")
    to: Number = Field(description="Last number.")

    @model_validator(mode="after")
    def _forward(self) -> Command:
        if self.to < self.from_:
            raise ValueError(f"to: expected {self.from_} or more, got {self.to}")
        return self


class Refusal(str, Enum):
    """Why a command was not carried out. A closed list."""

    MALFORMED = "malformed"  # not the JSON that the contract names
    RETAINED = "retained"  # a retained command would come back with every connection
    OTHER_EPOCH = "other_epoch"  # numbers of another epoch are gone


class CommandResult(Wire):
    """What became of a command. What was malformed is not repeated."""

    schema_: Literal["snellius.cmd-result/1.0"] = Field(default="snellius.cmd-result/1.0", alias="schema")
    device: Name = Field(description="Who answers.")
    epoch: Epoch = Field(description="Of its database.")
    cmd: Literal["resend", "ack"] | None = Field(default=None, description="What was asked; null when malformed.")
    id: str | None = Field(default=None, description="As in the command.")
    ok: bool = Field(description="Whether it was carried out.")
    reason: Refusal | None = Field(default=None, description="Why not.")
    queued: NonNegativeInt | None = Field(default=None, description="Messages that will be sent again.")


class Trial(Wire):
    """Said by ``snellius doctor`` to see whether the broker lets the device publish. Nobody needs to listen."""

    schema_: Literal["snellius.trial/1.0"] = Field(default="snellius.trial/1.0", alias="schema")
    device: Name = Field(description="Who tries.")
    time: Instant = Field(description="When, UTC.")


# -------------------------------------------------------------------------------------------------- from records


def _statistics(histogram: SpeedHistogram) -> dict[str, object]:
    return {
        "n": histogram.n,
        "hist": Histogram.of(histogram),
        "mean": _kmh(histogram.mean_kmh),
        "sd": _kmh(histogram.sd_kmh),
        "v15": _kmh(histogram.quantile_kmh(0.15)),
        "v50": _kmh(histogram.quantile_kmh(0.50)),
        "v85": _kmh(histogram.quantile_kmh(0.85)),
    }


def _kmh(speed_kmh: float | None) -> float | None:
    return None if speed_kmh is None else round(speed_kmh, SPEED_DIGITS)


def _coverage(share: float) -> float:
    """Rounded down: 1.0 is said only of a window that was watched to the last frame."""
    return math.floor(min(share, 1.0) * COVERAGE_SCALE + 1e-9) / COVERAGE_SCALE


def _instant(utc_ns: int) -> datetime:
    """Whole milliseconds are enough to name a window."""
    return utc_datetime(utc_ns // 1_000_000 * 1_000_000)
