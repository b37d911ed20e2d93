"""Home Assistant: one retained discovery message that says which values stand where in the native messages.

Device discovery (one message for the whole device, Home Assistant 2024.11 and later) on
``homeassistant/device/<device>/config``. The values themselves are read from the native topics; nothing is told twice.
Home Assistant says ``online`` on ``homeassistant/status`` when it starts, and the message is then said again: it is
retained, so this matters only to a broker that has lost it.

https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from edge.domain import Direction, Queued
from edge.publish.payload import Health, Meta, Part, State, Status
from edge.publish.profiles.message import Message

PREFIX = "homeassistant"
BIRTH_TOPIC = f"{PREFIX}/status"
BIRTH = b"online"
AVAILABLE = "{{ 'offline' if value_json.state in ['lost', 'stopped'] else 'online' }}"


class DeviceEntry(Part):
    """The device as Home Assistant lists it."""

    ids: tuple[str, ...] = Field(description="Identifiers.")
    name: str = Field(description="Device and site.")
    mf: str = Field(default="Snellius", description="Manufacturer.")
    mdl: str = Field(default="street speed meter", description="Model.")
    sw: str = Field(description="Version of the software.")


class Origin(Part):
    """Who made this message."""

    name: Literal["snellius"] = Field(default="snellius", description="This software.")
    sw: str = Field(description="Its version.")


class Component(Part):
    """One value."""

    p: Literal["sensor"] = Field(default="sensor", description="Platform.")
    unique_id: str = Field(description="Unique in one Home Assistant, for ever.")
    name: str = Field(description="Shown after the name of the device.")
    state_topic: str = Field(description="The native topic that holds the value.")
    value_template: str = Field(description="Where the value stands in the message.")
    unit_of_measurement: str | None = Field(default=None, description="Unit.")
    device_class: Literal["speed", "temperature", "timestamp", "enum"] | None = Field(
        default=None, description="Kind of value."
    )
    state_class: Literal["measurement"] | None = Field(default=None, description="Keeps long-term statistics.")
    entity_category: Literal["diagnostic"] | None = Field(default=None, description="About the device.")
    options: tuple[str, ...] | None = Field(default=None, description="All values there are.")
    force_update: bool | None = Field(default=None, description="A window like the one before is news as well.")


class Discovery(Part):
    """The discovery message of a device."""

    dev: DeviceEntry = Field(description="The device.")
    o: Origin = Field(description="Origin.")
    cmps: dict[str, Component] = Field(description="The values.")
    state_topic: str = Field(description="Where values stand that do not say it themselves.")
    availability_topic: str = Field(description="Where the state of the device stands.")
    availability_template: str = Field(description="Makes online or offline of it.")
    qos: Literal[1] = Field(default=1, description="With which the topics are subscribed.")

    def encode(self) -> bytes:
        """The message as compact JSON, without what is not said."""
        return self.model_dump_json(exclude_none=True).encode()


class HomeAssistant:
    """The discovery message of one device.

    Attributes:
        greetings: What Home Assistant says when it starts.
    """

    greetings: Mapping[str, bytes] = MappingProxyType({BIRTH_TOPIC: BIRTH})

    def __init__(self, *, device: str, base: str) -> None:
        """What it is about.

        Args:
            device: Device id.
            base: Native topic of the device, without a slash at the end.
        """
        self._device = device
        self._base = base

    def measurement(self, queued: Queued) -> tuple[Message, ...]:
        """Nothing: read from the native topics."""
        return ()

    def meta(self, meta: Meta) -> tuple[Message, ...]:
        """The discovery message, retained."""
        discovery = Discovery(
            dev=DeviceEntry(ids=(self._device,), name=f"{meta.site.id} ({self._device})", sw=meta.software.version),
            o=Origin(sw=meta.software.version),
            cmps={component.unique_id: component for component in self._components(meta)},
            state_topic=f"{self._base}/status",
            availability_topic=f"{self._base}/status",
            availability_template=AVAILABLE,
        )
        return (Message(f"{PREFIX}/device/{self._device}/config", discovery.encode(), retain=True),)

    def status(self, status: Status) -> tuple[Message, ...]:
        """Nothing: read from the native topic."""
        return ()

    def health(self, health: Health) -> tuple[Message, ...]:
        """Nothing: read from the native topic."""
        return ()

    def _components(self, meta: Meta) -> Iterator[Component]:
        names = {Direction.FORWARD: meta.site.forward, Direction.BACKWARD: meta.site.backward}
        for direction, name in names.items():
            yield from self._of_windows(direction.value, name)
        health, status = f"{self._base}/health", f"{self._base}/status"
        yield Component(
            unique_id=f"{self._device}_state",
            name="state",
            state_topic=status,
            value_template="{{ value_json.state }}",
            device_class="enum",
            options=tuple(state.value for state in State),
            entity_category="diagnostic",
        )
        yield Component(
            unique_id=f"{self._device}_coverage",
            name="coverage",
            state_topic=health,
            value_template="{{ (value_json.coverage.share * 100) | round(1) }}",
            unit_of_measurement="%",
            state_class="measurement",
            entity_category="diagnostic",
        )
        yield Component(
            unique_id=f"{self._device}_temperature",
            name="processor temperature",
            state_topic=health,
            value_template="{{ value_json.temperature_c }}",
            unit_of_measurement="°C",
            device_class="temperature",
            state_class="measurement",
            entity_category="diagnostic",
        )

    def _of_windows(self, direction: str, name: str) -> Iterator[Component]:
        def value(key: str, label: str, template: str, unit: str, kind: Literal["speed"] | None) -> Component:
            return Component(
                unique_id=f"{self._device}_{direction}_{key}",
                name=f"{label}, {name}",
                state_topic=f"{self._base}/flow/{direction}",
                value_template=template,
                unit_of_measurement=unit,
                device_class=kind,
                state_class="measurement",
                force_update=True,
            )

        yield value("v85", "V85", "{{ value_json.speed.v85 }}", "km/h", "speed")
        yield value("mean", "mean speed", "{{ value_json.speed.mean }}", "km/h", "speed")
        yield value("vehicles", "vehicles in window", "{{ value_json['count'] }}", "vehicles", None)
        share = "{{ (100 * value_json.limit.over / value_json.speed.n) | round(1) }}"
        yield value("over_limit", "over the limit", share, "%", None)
        yield Component(
            unique_id=f"{self._device}_{direction}_window_end",
            name=f"end of window, {name}",
            state_topic=f"{self._base}/flow/{direction}",
            value_template="{{ value_json.window.end }}",
            device_class="timestamp",
        )
