"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # some tests load onnxruntime themselves


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running mosquitto on a free loopback port; the test may kill and start it."""
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker
