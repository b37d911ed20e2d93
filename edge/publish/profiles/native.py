"""The device's own dialect: the topics and messages of the contract.

``snellius/1/<city>/<device>/…``; the major version of the contract stands in the root. In lab mode the root is
``snellius-lab``, so that a demonstration can never be taken for a street.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from edge.domain import DayMix, Queued
from edge.errors import BadInput
from edge.publish.payload import NAME_PATTERN, CommandResult, Flow, Health, Meta, Mix, Status, Trial
from edge.publish.profiles.message import Message

ROOT = "snellius"
LAB_ROOT = "snellius-lab"
MAJOR = "1"
HEALTH_EXPIRY_S = 3600  # an hour-old health message would be news of the past


class Native:
    """Topics and messages of one device.

    Attributes:
        device: Device id; also MQTT client id and user name.
        site: Site id.
        base: Topic of the device, without a slash at the end.
        ack_topic: Where the platform acknowledges.
        command_topic: Where the platform asks.
        greetings: None: retained messages wait for who comes later.

    Raises:
        BadInput: A name does not fit into a topic.
    """

    greetings: Mapping[str, bytes] = MappingProxyType({})

    def __init__(self, *, city: str, device: str, site: str, lab: bool = False) -> None:
        for what, name in (("site.city", city), ("site.device", device), ("site.id", site)):
            if not re.fullmatch(NAME_PATTERN, name):
                raise BadInput(f"{what}: expected only a-z, 0-9 and - (neither first nor last), got '{name}'")
        self.device = device
        self.site = site
        self.base = f"{LAB_ROOT if lab else ROOT}/{MAJOR}/{city}/{device}"
        self.ack_topic = f"{self.base}/ack"
        self.command_topic = f"{self.base}/cmd"

    def measurement(self, queued: Queued) -> tuple[Message, ...]:
        """A window on ``flow/<direction>``, a traffic day on ``mix``; neither is retained."""
        record = queued.record
        if isinstance(record, DayMix):
            mix = Mix.of(queued, record, device=self.device, site=self.site)
            return (Message(f"{self.base}/mix", mix.encode()),)
        flow = Flow.of(queued, record, device=self.device, site=self.site)
        return (Message(f"{self.base}/flow/{flow.direction.value}", flow.encode()),)

    def meta(self, meta: Meta) -> tuple[Message, ...]:
        """Retained."""
        return (Message(f"{self.base}/meta", meta.encode(), retain=True),)

    def status(self, status: Status) -> tuple[Message, ...]:
        """Retained; also the form of the last will."""
        return (Message(f"{self.base}/status", status.encode(), retain=True),)

    def health(self, health: Health) -> tuple[Message, ...]:
        """Forgotten by the broker after an hour."""
        return (Message(f"{self.base}/health", health.encode(), expiry_s=HEALTH_EXPIRY_S),)

    def result(self, result: CommandResult) -> Message:
        """The answer to a command."""
        return Message(f"{self.command_topic}/result", result.encode())

    def trial(self, trial: Trial) -> Message:
        """A technician tries whether the device may publish."""
        return Message(f"{self.base}/trial", trial.encode())
