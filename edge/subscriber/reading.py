"""Messages of poles, read as the contract asks of a consumer: strict in what is known, open to later versions.

A later minor version may say more than we know: what has an unknown name is left aside, and the whole text is kept. A
message that contradicts the contract, its topic or the privacy rule is refused with its reason, and never stored.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from edge.domain import PrivacyRule
from edge.errors import SnelliusError
from edge.publish.payload import CommandResult, Flow, Health, Meta, Mix, Status

LEAST_K = 5  # the floor of the privacy rule: what claims less is no measurement of a street
TOPIC = re.compile(
    r"snellius/1/(?P<city>[a-z0-9-]+)/(?P<device>[a-z0-9-]+)/"
    r"(?P<kind>flow/(?:forward|backward)|mix|meta|status|health|cmd/result)"
)
SCHEMA = re.compile(r"(snellius\.[a-z-]+/1)\.[0-9]+")

AnyModel = TypeVar("AnyModel", bound=BaseModel)


class Refused(SnelliusError):
    """A message that is not taken.

    Attributes:
        device: Who sent it, by its topic; empty when the topic is no pole's.
        reason: Short and of a closed list: ``topic``, ``malformed``, ``other_device``, ``lab``, ``below_k``.
    """

    def __init__(self, device: str, reason: str, detail: str) -> None:
        self.device = device
        self.reason = reason
        super().__init__(f"{device or '?'}: {reason}: {detail}")


@dataclass(frozen=True, slots=True)
class Numbered:
    """A measurement as it came.

    Attributes:
        city: City by the topic.
        message: What it says.
        body: Its whole text.
    """

    city: str
    message: Flow | Mix
    body: str


Fact = Meta | Status | Health | CommandResult
_KINDS: dict[str, type[Flow | Mix | Meta | Status | Health | CommandResult]] = {
    "flow": Flow,
    "mix": Mix,
    "meta": Meta,
    "status": Status,
    "health": Health,
    "cmd": CommandResult,
}


def read_message(topic: str, payload: bytes) -> Numbered | Fact:
    """Understand a message of a pole.

    Raises:
        Refused: It contradicts the contract, its topic or the privacy rule.
    """
    parts = TOPIC.fullmatch(topic)
    if parts is None:
        raise Refused("", "topic", f"expected a topic of the contract, got '{topic}'")
    device = parts["device"]
    try:
        message = tolerant(_KINDS[parts["kind"].split("/")[0]], payload)
    except (ValueError, RecursionError) as error:
        raise Refused(device, "malformed", " ".join(str(error).split())[:200]) from None
    if message.device != device:
        raise Refused(device, "other_device", f"speaks for '{message.device}'")
    if not isinstance(message, Flow | Mix):
        return message
    _keeps_the_promise(message, parts["kind"])
    return Numbered(parts["city"], message, payload.decode())


def tolerant(model: type[AnyModel], payload: bytes | str) -> AnyModel:
    """Read a message of this major version, whatever its minor version adds.

    Raises:
        ValueError: It is not JSON, or not what the contract says.
    """
    try:
        return model.model_validate_json(payload)
    except ValidationError:
        plain = json.loads(payload)  # perhaps a later minor version
    if isinstance(plain, dict) and isinstance(plain.get("schema"), str):
        plain["schema"] = SCHEMA.sub(r"\1.0", plain["schema"])
    try:
        return model.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        unknown = [problem["loc"] for problem in error.errors() if problem["type"] == "extra_forbidden"]
        if len(unknown) < error.error_count():
            raise
    for place in unknown:
        inside = plain
        for name in place[:-1]:
            inside = inside[name]
        del inside[place[-1]]
    return model.model_validate_json(json.dumps(plain))


def _keeps_the_promise(message: Flow | Mix, kind: str) -> None:
    """Stop at what would let a figure rest on fewer than k vehicles."""
    if message.privacy.rule is PrivacyRule.LAB:
        raise Refused(message.device, "lab", "a demonstration is no street")
    if message.privacy.k < LEAST_K:
        raise Refused(message.device, "below_k", f"k: expected {LEAST_K} or more, got {message.privacy.k}")
    if isinstance(message, Mix):
        return
    if kind != f"flow/{message.direction.value}":
        raise Refused(message.device, "malformed", f"direction '{message.direction.value}' on {kind}")
    if message.speed.n < message.privacy.k:
        raise Refused(message.device, "below_k", f"n: expected {message.privacy.k} or more, got {message.speed.n}")
