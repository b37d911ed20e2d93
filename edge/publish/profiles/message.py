"""What a profile makes: a message, ready for any MQTT client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.domain import Queued
from edge.publish.payload import Health, Meta, Status


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message.

    Attributes:
        topic: Where it goes.
        payload: UTF-8 text.
        retain: Whether the broker keeps it for those who come later.
        expiry_s: The broker forgets it when it could not deliver it for so long; None: never. [s]
        content_type: Media type of the payload.
    """

    topic: str
    payload: bytes
    retain: bool = False
    expiry_s: int | None = None
    content_type: str = "application/json"


class Profile(Protocol):
    """One dialect. What it does not speak about, it says with no messages."""

    @property
    def greetings(self) -> Mapping[str, bytes]:
        """Topic and word with which a reader says that it has just come: meta is then said again."""

    def measurement(self, queued: Queued) -> Sequence[Message]:
        """A released record."""

    def meta(self, meta: Meta) -> Sequence[Message]:
        """Who measures what, with what, under which rules."""

    def status(self, status: Status) -> Sequence[Message]:
        """How the device is now."""

    def health(self, health: Health) -> Sequence[Message]:
        """That it works."""
