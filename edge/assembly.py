"""From settings and files to parts that fit together: the one module that knows every class.

The parts themselves take plain arguments and never see a settings object.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib import metadata
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from calibration import Calibration, RoadPlane, Verdict
from edge.aggregate import Anonymity, Windows
from edge.aggregate.anonymity import MOST_DELAY_S
from edge.aggregate.windows import LATENESS_S, SLOT_S
from edge.clock import Clock, ClockAnchor, anchor_now, utc_datetime
from edge.detect import Look, look_at_road, open_detector, open_glance
from edge.domain import FREE_FLOW_HEADWAY_S, Binning, Flag, Frame, PrivacyRule, Provenance, Region, SpeedHistogram
from edge.domain.histogram import FEW_N, MIN_N_QUANTILE
from edge.domain.release import DAY_BEGINS_H
from edge.errors import BadInput
from edge.motion import Cadence, MotionGate
from edge.outbox import Outbox
from edge.pipeline import Detector, Glance, PathEstimator, Pipeline
from edge.publish import Endpoint, HomeAssistant, Native, NgsiLd, Profile, Publisher
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
    StatusReason,
    WindowRule,
)
from edge.settings import MqttSettings, Settings, SourceSettings
from edge.sources.address import kind_of
from edge.sources.live import FIRST_PICTURE_S, LiveSource
from edge.sources.opening import open_source
from edge.sources.timing import Timing
from edge.sources.video import VideoFile
from edge.speed import Estimator
from edge.track import Tracker
from edge.trend import Trend
from edge.watch import CameraWatch
from edge.zones import Zone
from models import Model, load_catalogue

APPROACH_M = 15.0  # a vehicle is followed this far before and after the zone, so that its identity is settled inside
MARGIN_M = 5.0  # and fitted this far before and after it
BESIDE_M = 2.0  # and this far beside the zone the whole vehicle is in view
SHOULDER_M = 4.0  # and this far beside it: a boxed vehicle's foot may seem to stand beside the lane
LAB_LATENESS_S = 20.0  # a passage is certain about 10 s after it; who stands longer counts in a later slot, flagged


class FrameSource(Protocol):
    """Anything that delivers frames in order of time."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the picture. [px]"""

    @property
    def frame_count(self) -> int | None:
        """Frames to expect, None when that is not known; an estimate."""

    @property
    def timing(self) -> Timing:
        """How the time stamps of the frames so far behaved."""

    def frames(self) -> Iterator[Frame]:
        """The frames, each later than the one before."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How passages become windows.

    Attributes:
        k: Least number of measured vehicles in a released window.
        slot_s: Length of a slot. [s]
        bin_kmh: Width of a bin of the histogram. [km/h]
        timezone: Where a traffic day begins at 04:00.
        lab: Whether small windows are allowed, told as such.
    """

    k: int
    slot_s: int
    bin_kmh: int
    timezone: str
    lab: bool

    @property
    def short_hash(self) -> str:
        """Changes when a setting changes that matters to the numbers."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]


def software_version() -> str:
    """Version of the installed distribution."""
    return metadata.version("snellius")


def known_model(name: str | None) -> Model:
    """A model of the catalogue; None: its default.

    Raises:
        CatalogueError: There is no such model.
    """
    return load_catalogue().find(name)


def road_detector(model: Model, calibration: Calibration, *, threads: int = 2) -> Detector:
    """The detector of one site: it looks at the road only, as finely as that road needs.

    Raises:
        BadInput: The model's file is not what its entry says.
    """
    return open_detector(model, threads=threads, look=look_of(model, calibration))


def road_glance(model: Model, calibration: Calibration, *, threads: int = 2) -> Glance | None:
    """What looks at a part of the road of one site, with the model of its :func:`road_detector`."""
    return open_glance(model, look_of(model, calibration), threads=threads)


def look_of(model: Model, calibration: Calibration) -> Look:
    """Where and how finely a model looks at a site."""
    return look_on_site(calibration, model_px=model.input_px, stride=model.stride)


def look_on_site(calibration: Calibration, *, model_px: tuple[int, int] | None, stride: int | None) -> Look:
    """Where and how finely to look at a site, see :func:`edge.detect.look_at_road`."""
    site = calibration.site
    left_m = site.polygon_in_frame_m[:, 1]
    low_m, high_m = float(left_m.min()), float(left_m.max())
    return look_at_road(
        calibration.zone_plane,
        followed_m=((-APPROACH_M, site.length_m + APPROACH_M), (low_m - BESIDE_M, high_m + BESIDE_M)),
        zone_m=((0.0, site.length_m), (low_m, high_m)),
        model_px=model_px,
        stride=stride,
    )


def followed_part(calibration: Calibration) -> Region:
    """The part of the picture in which road users are followed: how light and sharp it is matters, the sky does not."""
    return look_on_site(calibration, model_px=None, stride=None).region_px


def measuring_pipeline(
    calibration: Calibration,
    detector: Detector,
    *,
    estimator: PathEstimator | None = None,
    has_gate: bool = False,
    has_cadence: bool = False,
    glance: Glance | None = None,
    readout_s: float = 0.0,
) -> Pipeline:
    """The measuring half of the device for one site.

    Args:
        calibration: Of this site.
        detector: Finds road users.
        estimator: Another one than ours, for comparisons only.
        has_gate: Whether the detector rests while nothing moves; needs real pictures.
        has_cadence: Whether it looks no more often than speeds need.
        glance: Looks at parts of the picture where that is enough; needs the gate.
        readout_s: How much later the camera exposes the last row of a picture than the first. [s]

    Raises:
        BadInput: Nothing of the road near the zone is in the picture, so no gate can watch it.
    """
    site = calibration.site
    plane = calibration.zone_plane
    polygon_m = site.polygon_in_frame_m
    along_m = (-APPROACH_M, site.length_m + APPROACH_M)
    across_m = (float(polygon_m[:, 1].min()) - SHOULDER_M, float(polygon_m[:, 1].max()) + SHOULDER_M)

    def estimator_for(plane: RoadPlane) -> PathEstimator:
        return estimator or Estimator(plane, zone_length_m=site.length_m, margin_m=MARGIN_M, readout_s=readout_s)

    try:
        gate = MotionGate(plane, along_m=along_m, across_m=across_m) if has_gate else None
    except ValueError as nothing:
        raise BadInput(f"calibration {calibration.id}: {nothing}") from None
    return Pipeline(
        plane=plane,
        detector=detector,
        watch=CameraWatch(plane, calibration.reference),
        tracker=Tracker(plane, along_m=along_m, across_m=across_m),
        estimator_for=estimator_for,
        zone=Zone(length_m=site.length_m, polygon_m=polygon_m),
        gate=gate,
        cadence=Cadence(stretch_m=(-MARGIN_M, site.length_m + MARGIN_M)) if has_cadence else None,
        glance=glance,
    )


def refuse_other_size(source: FrameSource, name: str, calibration: Calibration, calibration_name: str) -> None:
    """A calibration holds for one picture size only.

    Raises:
        BadInput: The source delivers another one.
    """
    if tuple(source.size_px) != tuple(calibration.image_size_px):
        want, got = ("x".join(str(side) for side in size) for size in (calibration.image_size_px, source.size_px))
        raise BadInput(f"{name}: expected the {want} pictures that {calibration_name} was made for, found {got}")


def heed_expiry(
    calibration: Calibration, windows: Windows, *, now: datetime, is_allowed: bool, calibration_name: str
) -> None:
    """An expired calibration measures nothing, unless its owner insists; then every window from now on says so.

    Raises:
        BadInput: It has expired, and that was not allowed.
    """
    if not calibration.is_expired(now):
        return
    if not is_allowed:
        raise BadInput(
            f"{calibration_name}: expected a calibration that is valid, found {calibration.id}, expired on"
            f" {calibration.expires:%Y-%m-%d} (survey the site again; calibration.allow_expired = true measures on,"
            " and marks every message)"
        )
    windows.mark_from_now(Flag.CALIBRATION_EXPIRED)


def counting(
    *, calibration: Calibration, model: Model, rules: Rules, anchor: ClockAnchor, rng: random.Random | None = None
) -> tuple[Windows, Anonymity]:
    """The counting half of the device: windows, and the rule by which they may be told.

    Args:
        calibration: Of this site.
        model: The detector.
        rules: How passages become windows.
        anchor: From the source's clock to UTC.
        rng: Draws the delay of each release; None: from the operating system, which nobody can foresee.

    Raises:
        BadInput: The rules do not fit the site.
    """
    limit_kmh = calibration.site.limit_kmh
    try:
        windows = Windows(
            binning=Binning.for_limit(limit_kmh, rules.bin_kmh),
            limit_kmh=limit_kmh,
            zone=ZoneInfo(rules.timezone),
            anchor=anchor,
            provenance=Provenance(
                calibration=calibration.id,
                model=model.name,
                software=software_version(),
                config=rules.short_hash,
            ),
            slot_s=rules.slot_s,
            lateness_s=LAB_LATENESS_S if rules.lab else LATENESS_S,
        )
        return windows, Anonymity(k=rules.k, lab=rules.lab, rng=rng)
    except ValueError as wrong:
        raise BadInput(str(wrong)) from None


@dataclass(frozen=True, slots=True)
class Device:
    """Everything that a running device is made of.

    Attributes:
        source: Where frames come from.
        pipeline: Frames to passages.
        windows: Passages to windows.
        anonymity: Windows to releases.
        trend: What many cars say about the calibration.
        outbox: Releases that wait for the broker.
        publisher: Outbox to broker.
        calibration: Of this site.
        allows_expired: Whether it is used on after it has expired, every message marked.
        follows_clock: Whether the source's clock is CLOCK_BOOTTIME, so that the wall clock can be followed.
        meta: What was said about the device when it was put together.
        status: What was said about the device when it was put together: it is starting.
    """

    source: FrameSource
    pipeline: Pipeline
    windows: Windows
    anonymity: Anonymity
    trend: Trend
    outbox: Outbox
    publisher: Publisher
    calibration: Calibration
    allows_expired: bool
    follows_clock: bool
    meta: Meta
    status: Status


@contextmanager
def assembled(
    settings: Settings, clock: Clock, *, source: FrameSource | None = None, detector: Detector | None = None
) -> Iterator[Device]:
    """A device as the settings say, with the counters that an earlier run left.

    Args:
        settings: What to make.
        clock: The clocks of the machine.
        source: In place of the one in the settings.
        detector: In place of the one in the settings; it is asked at every frame, because it may need no pictures.

    Raises:
        BadInput: A part cannot be made, or the parts do not fit together.
        CalibrationError: The calibration cannot be used.
        CatalogueError: There is no such model.
    """
    is_sparing = detector is None and not settings.model.every_frame
    rules = rules_of(settings)
    broker_endpoint(settings)  # refuses what is wrong before anything is made
    calibration = Calibration.load(settings.calibration.file)
    model = known_model(settings.model.name)
    with ExitStack() as opened:
        if source is None:
            source = source_of(settings.source, size_px=calibration.image_size_px, patience_s=None)
            opened.enter_context(source)
        if not isinstance(source, LiveSource):  # a camera may come back with the right size; a file never will
            refuse_other_size(source, settings.source.url, calibration, str(settings.calibration.file))
        windows, anonymity = counting(
            calibration=calibration, model=model, rules=rules, anchor=_anchor(settings.source, clock)
        )
        heed_expiry(
            calibration,
            windows,
            now=utc_datetime(clock.utc_ns()),
            is_allowed=settings.calibration.allow_expired,
            calibration_name=str(settings.calibration.file),
        )
        outbox = opened.enter_context(
            Outbox(
                settings.outbox.file,
                retention_days=settings.outbox.retention_days,
                max_bytes=settings.outbox.max_mb * 1_000_000,
            )
        )
        counters = outbox.restored()
        windows.restore(counters)
        anonymity.restore(counters)
        trend = Trend(calibration.id)
        trend.restore(counters.trend)
        site_id = settings.site.id or calibration.site.id
        native = Native(city=settings.site.city, device=settings.site.device, site=site_id, lab=rules.lab)
        status = Status(
            device=settings.site.device,
            epoch=outbox.epoch,
            state=State.DEGRADED,
            reasons=(StatusReason.STARTING,),
            since=utc_datetime(clock.utc_ns()),
            sw=software_version(),
        )
        meta = _meta(settings, site_id, calibration, model, rules, outbox.epoch)
        yield Device(
            source=source,
            pipeline=measuring_pipeline(
                calibration,
                detector or road_detector(model, calibration, threads=settings.model.threads),
                has_gate=is_sparing,
                has_cadence=is_sparing,
                glance=road_glance(model, calibration, threads=settings.model.threads) if is_sparing else None,
                readout_s=settings.source.readout_ms / 1e3,
            ),
            windows=windows,
            anonymity=anonymity,
            trend=trend,
            outbox=outbox,
            publisher=Publisher(
                queue=outbox,
                native=native,
                also=also_spoken(settings.mqtt, native),
                meta=meta,
                status=status,
                utc_ns=clock.utc_ns,
                **broker_arguments(settings.mqtt),
            ),
            calibration=calibration,
            allows_expired=settings.calibration.allow_expired,
            follows_clock=isinstance(source, LiveSource),
            meta=meta,
            status=status,
        )


def source_of(
    source: SourceSettings, *, size_px: tuple[int, int] | None = None, patience_s: float | None = FIRST_PICTURE_S
) -> VideoFile | LiveSource:
    """The source of the settings: a context manager whose ``frames()`` are there inside.

    Args:
        source: Which.
        size_px: Width and height that a camera must deliver; None: whatever it does. [px]
        patience_s: How long ``frames()`` of a camera waits for a picture; None: for ever. [s]

    Raises:
        BadInput: A file cannot be opened, or the password of a camera cannot be read.
    """
    return open_source(
        source.url,
        loop=source.loop,
        size_px=size_px,
        username=source.username,
        password_file=source.password_file,
        patience_s=patience_s,
    )


def rules_of(settings: Settings) -> Rules:
    """How passages become windows, in lab mode or not."""
    return Rules(
        k=settings.lab.k if settings.lab.enabled else settings.privacy.k,
        slot_s=settings.lab.slot_s if settings.lab.enabled else SLOT_S,
        bin_kmh=settings.histogram.bin_kmh,
        timezone=settings.site.timezone,
        lab=settings.lab.enabled,
    )


def broker_endpoint(settings: Settings) -> Endpoint:
    """The broker, with everything checked that needs no network; lab windows stay on this computer.

    Raises:
        BadInput: The address, a certificate or a secret is wrong, or it is lab mode with a broker elsewhere.
    """
    arguments = broker_arguments(settings.mqtt)
    arguments.pop("protocol")
    if settings.lab.enabled and "ngsi-ld" in settings.mqtt.profiles:
        raise BadInput("mqtt.profiles: expected no ngsi-ld in lab mode (an entity would be taken for a street)")
    endpoint = Endpoint.of(arguments.pop("url"), username=settings.site.device, **arguments)
    if settings.lab.enabled and not settings.lab.force and not endpoint.address.is_loopback:
        raise BadInput(
            f"lab.enabled: expected a broker on this computer, got {settings.mqtt.url} (lab windows may hold a single "
            "vehicle; lab.force = true if everybody in the picture knows)"
        )
    return endpoint


def broker_arguments(mqtt: MqttSettings) -> dict[str, Any]:
    """The settings of the broker as the publisher takes them."""
    return {
        name: getattr(mqtt, name) for name in type(mqtt).model_fields if name not in ("profiles", "ngsi_ld_api_key")
    }


def also_spoken(mqtt: MqttSettings, native: Native) -> list[Profile]:
    """The dialects of the settings beside the native one."""
    spoken: list[Profile] = []
    if "ngsi-ld" in mqtt.profiles and mqtt.ngsi_ld_api_key is not None:
        spoken.append(NgsiLd(device=native.device, site=native.site, api_key=mqtt.ngsi_ld_api_key))
    if "homeassistant" in mqtt.profiles:
        spoken.append(HomeAssistant(device=native.device, base=native.base))
    return spoken


def _anchor(source: SourceSettings, clock: Clock) -> ClockAnchor:
    """A camera shows now; so does a file played in real time, unless it is said when it was filmed."""
    if kind_of(source.url).is_live:
        return anchor_now(clock)
    if source.start is not None or source.pace == "full":
        return ClockAnchor.of_clip(source.start)
    return replace(anchor_now(clock), captured_ns=0)


def _meta(settings: Settings, site_id: str, calibration: Calibration, model: Model, rules: Rules, epoch: str) -> Meta:
    site = calibration.site
    binning = Binning.for_limit(site.limit_kmh, rules.bin_kmh)
    quality = calibration.quality
    return Meta(
        device=settings.site.device,
        epoch=epoch,
        site=Site(
            id=site_id,
            city=settings.site.city,
            timezone=settings.site.timezone,
            forward=site.forward,
            backward=site.backward,
        ),
        geometry=Geometry(zone_m=site.polygon_m, axis_m=site.axis_m),
        calibration=CalibrationFacts(
            id=calibration.id,
            made=calibration.created.date(),
            verdict=None if calibration.verdict is Verdict.REFUSE else calibration.verdict.value,
            u_rel_speed_median=_known(quality.u_rel_median),
            u_rel_speed_worst=_known(quality.u_rel_worst),
        ),
        model=ModelFacts(name=model.name, sha256=model.sha256),
        software=SoftwareFacts(version=software_version(), cfg=rules.short_hash),
        limits=Limits(
            speed_kmh=site.limit_kmh, percentile_n=MIN_N_QUANTILE, few_n=FEW_N, headway_s=FREE_FLOW_HEADWAY_S
        ),
        window=WindowRule(
            slot_s=rules.slot_s,
            day_begins=f"{DAY_BEGINS_H:02}:00",
            bins=Histogram.of(SpeedHistogram.empty(binning)),
        ),
        privacy=PrivacyFacts(
            k=rules.k,
            rule=PrivacyRule.LAB if rules.lab else PrivacyRule.CARRY_OVER,
            release_delay_s=0 if rules.lab else MOST_DELAY_S,
            retention_days=settings.outbox.retention_days,
        ),
    )


def _known(share: float) -> float | None:
    return round(share, 5) if math.isfinite(share) else None
