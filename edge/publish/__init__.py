"""Telling the city: from released records to MQTT messages that the broker has acknowledged.

``payload`` holds the words of the contract, ``profiles`` the dialects in which they are said, ``endpoint`` and
``connection`` the way to the broker, and ``mqtt`` the publisher: a thread that empties the outbox and hears the
platform. Records arrive as :class:`edge.domain.Queued`; nothing else about traffic can be said.
"""

from edge.publish.connection import BrokerUnreachable, Connection
from edge.publish.endpoint import Address, Endpoint
from edge.publish.mqtt import Publisher, PublisherStatus, Queue
from edge.publish.profiles import HomeAssistant, Message, Native, NgsiLd, Profile

__all__ = [
    "Address",
    "BrokerUnreachable",
    "Connection",
    "Endpoint",
    "HomeAssistant",
    "Message",
    "Native",
    "NgsiLd",
    "Profile",
    "Publisher",
    "PublisherStatus",
    "Queue",
]
