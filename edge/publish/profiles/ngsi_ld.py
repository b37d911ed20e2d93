"""FIWARE: ``TrafficFlowObserved`` of the Smart Data Models, through an IoT Agent for JSON.

A window becomes one measure on ``/json/<api key>/<device>-<direction>/attrs`` (with the leading slash that the IoT
Agent expects). Each direction is a device of the IoT Agent and an entity of its own; ``TimeInstant`` is the end of the
window, which the IoT Agent turns into ``observedAt``.

Every measure carries the same closed set of attributes, so that an entity never shows a value that is left over from an
older window: what can be unknown stands inside an object attribute, which is replaced as a whole. The lowest and the
highest speed are not told in any dialect: each belongs to one person. Text holds none of the characters that Orion
refuses. Day mixes, status and health have no place in this data model; the native dialect tells them.

Data model: TrafficFlowObserved 0.0.1, https://github.com/smart-data-models/dataModel.Transportation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints

from edge.clock import ClockState
from edge.domain import DayMix, Direction, Flag, PrivacyRule, Queued
from edge.errors import BadInput
from edge.publish.payload import Flow, Histogram, Instant, Meta, Part, Share, SpeedKmh, Status
from edge.publish.profiles.message import Message

ENTITY_TYPE = "TrafficFlowObserved"
FORBIDDEN = "<>\"'=;()"  # Orion refuses values that hold one of these
API_KEY_PATTERN = r"^[A-Za-z0-9_-]+$"

PlainText = Annotated[str, StringConstraints(pattern=rf"^[^{re.escape(FORBIDDEN)}]*$")]


class SpeedStatistics(Part):
    """What follows from the histogram; what cannot be told is left out."""

    mean: SpeedKmh | None = Field(default=None, description="Mean. [km/h]")
    sd: SpeedKmh | None = Field(default=None, description="Standard deviation. [km/h]")
    v15: SpeedKmh | None = Field(default=None, description="15 % drive this or slower. [km/h]")
    v50: SpeedKmh | None = Field(default=None, description="Median. [km/h]")
    v85: SpeedKmh | None = Field(default=None, description="85 % drive this or slower. [km/h]")
    uV85: SpeedKmh | None = Field(default=None, description="Expanded uncertainty (k = 2) of v85. [km/h]")


class TrafficFlowObserved(Part):
    """The attributes of one measure: the first group as in the data model, the others are ours."""

    TimeInstant: Instant = Field(description="End of the window: observedAt of every attribute.")
    dateObserved: PlainText = Field(description="The window as an ISO 8601 interval, UTC.")
    dateObservedFrom: Instant = Field(description="Begin of the window, UTC.")
    dateObservedTo: Instant = Field(description="End of the window, UTC.")
    laneDirection: Direction = Field(description="Along the axis of the site, or against it.")
    intensity: NonNegativeInt = Field(description="Motor vehicles in the window, measured or not.")
    averageVehicleSpeed: SpeedKmh = Field(description="Mean speed. [km/h]")

    measuredVehicles: NonNegativeInt = Field(description="Motor vehicles with a speed.")
    speedStatistics: SpeedStatistics = Field(description="Percentiles and what else follows from the histogram.")
    speedHistogram: Histogram = Field(description="Motor vehicles by speed; histograms of windows add up.")
    speedLimit: PositiveInt = Field(description="Speed limit. [km/h]")
    vehiclesOverLimit: NonNegativeInt = Field(description="Measured vehicles above the limit.")
    vehiclesOverLimit10: NonNegativeInt = Field(description="Measured vehicles above the limit + 10 km/h.")
    coverage: Share = Field(description="Share of the window in which the street was really watched.")
    qualityFlags: tuple[Flag, ...] = Field(description="What a reader must know.")
    clockState: ClockState = Field(description="How well UTC was known, at worst.")
    privacyK: PositiveInt = Field(description="Measured vehicles in a window, at least.")
    privacyRule: PrivacyRule = Field(description="How that is kept.")
    messageId: PlainText = Field(description="device/epoch/seq: the same window has the same id in every dialect.")
    calibrationId: PlainText = Field(description="Calibration.")
    softwareVersion: PlainText = Field(description="Version of the software.")

    def encode(self) -> bytes:
        """The measure as compact JSON, without what is unknown."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()

    @classmethod
    def of(cls, flow: Flow) -> TrafficFlowObserved:
        """The same window in the words of the data model."""
        # Pydantic's own spelling of an instant, so that the interval and its two ends read alike.
        said: dict[str, Any] = flow.window.model_dump(mode="json", include={"start", "end"})
        speed = flow.speed
        assert speed.mean is not None, "a released window holds vehicles"
        return cls(
            TimeInstant=flow.window.end,
            dateObserved=f"{said['start']}/{said['end']}",
            dateObservedFrom=flow.window.start,
            dateObservedTo=flow.window.end,
            laneDirection=flow.direction,
            intensity=flow.count,
            averageVehicleSpeed=speed.mean,
            measuredVehicles=speed.n,
            speedStatistics=SpeedStatistics(
                mean=speed.mean, sd=speed.sd, v15=speed.v15, v50=speed.v50, v85=speed.v85, uV85=speed.u_v85
            ),
            speedHistogram=speed.hist,
            speedLimit=flow.limit.kmh,
            vehiclesOverLimit=flow.limit.over,
            vehiclesOverLimit10=flow.limit.over10,
            coverage=flow.quality.coverage,
            qualityFlags=flow.quality.flags,
            clockState=flow.window.clock,
            privacyK=flow.privacy.k,
            privacyRule=flow.privacy.rule,
            messageId=flow.id,
            calibrationId=_plain(flow.prov.cal),
            softwareVersion=_plain(flow.prov.sw),
        )


class NgsiLd:
    """Measures for an IoT Agent.

    Attributes:
        greetings: None: an IoT Agent is always there.

    Raises:
        BadInput: The API key does not fit into a topic.
    """

    greetings: Mapping[str, bytes] = MappingProxyType({})

    def __init__(self, *, device: str, site: str, api_key: str) -> None:
        if not re.fullmatch(API_KEY_PATTERN, api_key):
            raise BadInput("mqtt.ngsi_ld_api_key: expected only letters, digits, - and _")
        self._device = device
        self._site = site
        self._base = f"/json/{api_key}"

    def measurement(self, queued: Queued) -> tuple[Message, ...]:
        """A window; the class mix of a day has no place in this data model."""
        record = queued.record
        if isinstance(record, DayMix):
            return ()
        flow = Flow.of(queued, record, device=self._device, site=self._site)
        topic = f"{self._base}/{self._device}-{flow.direction.value}/attrs"
        return (Message(topic, TrafficFlowObserved.of(flow).encode()),)

    def meta(self, meta: Meta) -> tuple[Message, ...]:
        """Nothing: what does not change is provisioned in the IoT Agent."""
        return ()

    def status(self, status: Status) -> tuple[Message, ...]:
        """Nothing."""
        return ()

    def health(self, health: object) -> tuple[Message, ...]:
        """Nothing."""
        return ()


def _plain(text: str) -> str:
    """Text without the characters that Orion refuses."""
    return text.translate({ord(character): "-" for character in FORBIDDEN})
