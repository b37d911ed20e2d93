"""Cars for simulated streets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime

from edge.domain import Direction, Passage
from tests.support.builders import a_passage


def cars(hours: float, every_s: float = 40.0) -> list[Passage]:
    """A car every so often, in both directions, at speeds that fill the histogram."""
    chance = random.Random(3)
    return [
        a_passage(
            speed_kmh=max(chance.gauss(31.0, 5.0), 5.0),
            middle_s=5.0 + every_s * number,
            direction=Direction.FORWARD if number % 2 else Direction.BACKWARD,
        )
        for number in range(int((hours * 3600 - 20) / every_s))
    ]


def directions(traffic: Sequence[Passage]) -> dict[str, int]:
    """How many passed each way."""
    return {way.value: sum(car.direction is way for car in traffic) for way in Direction}


def utc_s(text: str) -> float:
    """An instant of a message as seconds since 1970. [s]"""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
