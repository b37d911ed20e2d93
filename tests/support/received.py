"""What a platform makes of the messages that have reached it: every word and number of it was sent by the device."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any, Protocol

from tests.support.mosquitto import Heard, Subscriber, eventually


class Listening(Protocol):
    """Whatever hears a device."""

    messages: list[Heard]


class Received:
    """The messages of one device up to now, or from one moment on.

    Attributes:
        heard: The messages, in the order of arrival.
    """

    def __init__(self, platform: Listening, *, since: int = 0, is_new: bool = False) -> None:
        """Take in what has arrived.

        Args:
            platform: What it has heard.
            since: Leave out so many of the first messages.
            is_new: Leave out what the broker had kept from before the platform was there.
        """
        self.heard: list[Heard] = [each for each in list(platform.messages)[since:] if not (is_new and each.retained)]

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """Windows and day mixes, in the order of arrival, repeated ones included."""
        return [_plain(each.payload) for each in self.heard if "/flow/" in each.topic or each.topic.endswith("/mix")]

    @property
    def numbers(self) -> list[int]:
        """Of the records, in the order of arrival."""
        return [record["seq"] for record in self.records]

    @cached_property
    def windows(self) -> list[dict[str, Any]]:
        """Windows, each (epoch, seq) once."""
        once = {(record["epoch"], record["seq"]): record for record in reversed(self.records) if "speed" in record}
        return list(reversed(once.values()))

    @property
    def twice(self) -> int:
        """Messages that came again with the same number."""
        return len(self.records) - len({(record["epoch"], record["seq"]) for record in self.records})

    @property
    def epochs(self) -> set[str]:
        """In whatever came."""
        return {_plain(each.payload)["epoch"] for each in self.heard if each.topic.endswith("/status")} | {
            record["epoch"] for record in self.records
        }

    def vehicles(self, direction: str | None = None) -> int:
        """Measured, in one direction or all."""
        return sum(each["speed"]["n"] for each in self.windows if direction in (None, each["direction"]))

    @property
    def mean_kmh(self) -> float | None:
        """Of everybody who was measured; None of nobody. [km/h]"""
        means = [(each["speed"]["mean"], each["speed"]["n"]) for each in self.windows if each["speed"]["n"]]
        return sum(mean * n for mean, n in means) / sum(n for _, n in means) if means else None

    def hours(self, direction: str = "forward") -> tuple[float, float]:
        """How long the windows of a direction last together, and for how long of it the street was watched. [h]"""
        lasting = [
            ((_instant(each["window"]["end"]) - _instant(each["window"]["start"])).total_seconds() / 3600, each)
            for each in self.windows
            if each["direction"] == direction
        ]
        return sum(hours for hours, _ in lasting), sum(hours * each["quality"]["coverage"] for hours, each in lasting)

    @property
    def flags(self) -> Counter[str]:
        """How many windows carry each."""
        return Counter(flag for each in self.windows for flag in each["quality"]["flags"])

    @property
    def shares_watched(self) -> list[float]:
        """Told by the health messages, each since the one before."""
        return [_plain(each.payload)["coverage"]["share"] for each in self.heard if each.topic.endswith("/health")]

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """Every word about how it is, in the order of arrival."""
        return [_plain(each.payload) for each in self.heard if each.topic.endswith("/status")]

    @property
    def reasons(self) -> set[str]:
        """Of the newest status; nothing before the first."""
        return set(self.statuses[-1]["reasons"]) if self.statuses else set()

    @property
    def state(self) -> str | None:
        """Of the newest status."""
        return self.statuses[-1]["state"] if self.statuses else None

    @property
    def story(self) -> str:
        """The statuses in a row, repeated ones once: ``degraded (camera_lost) → ready``."""
        return self.story_without(frozenset())

    def story_without(self, reasons: frozenset[str]) -> str:
        """The same, with these reasons left out; who is degraded by nothing else counts as ready."""
        words = []
        for each in self.statuses:
            left = [reason for reason in each["reasons"] if reason not in reasons]
            is_well = each["state"] == "degraded" and not left
            words.append("ready" if is_well else f"{each['state']} ({', '.join(left)})" if left else each["state"])
        return " → ".join(word for word, _ in groupby(words)) or "no status"


@lru_cache(maxsize=50_000)  # whoever waits asks again and again
def _plain(payload: bytes) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(payload)
    return plain


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def told(platform: Subscriber, reason: str, *, within_s: float, since: int = 0) -> None:
    """Wait until the newest status gives this reason."""
    eventually(lambda: reason in Received(platform, since=since).reasons, within_s, f"status {reason}")


def all_well(platform: Subscriber, *, within_s: float, since: int = 0, but: frozenset[str] = frozenset()) -> None:
    """Wait until the newest status gives no reason, or only those that are allowed."""

    def is_well() -> bool:
        received = Received(platform, since=since)
        return received.state in ("ready", "degraded") and received.reasons <= but

    eventually(is_well, within_s, "status ready")
