"""The demonstration as a newcomer runs it, and the yardstick that it holds itself to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.cli.showing import BUNDLED, compare
from edge.domain import Direction, Passage
from tests.support.builders import a_passage

TRUTH = json.loads((BUNDLED / "truth.json").read_text())


def _as_driven(*, off_by_kmh: float = 0.0) -> list[Passage]:
    return [
        a_passage(
            speed_kmh=vehicle["mean_speed_zone_kmh"] + off_by_kmh,
            middle_s=(vehicle["zone_enter_s"] + vehicle["zone_exit_s"]) / 2,
            direction=Direction.FORWARD if vehicle["direction"] == 1 else Direction.BACKWARD,
        )
        for vehicle in TRUTH["vehicles"]
    ]


def test_the_true_speeds_compare_with_themselves_without_error() -> None:
    comparison = compare(_as_driven(), TRUTH)
    assert (comparison.true, comparison.false, len(comparison.errors_kmh)) == (18, 0, 18)
    assert comparison.worst_kmh == pytest.approx(0.0, abs=1e-9)
    assert comparison.broken() == []


def test_a_common_error_shows_as_bias() -> None:
    comparison = compare(_as_driven(off_by_kmh=1.5), TRUTH)
    assert comparison.bias_kmh == pytest.approx(1.5)
    assert [sentence for sentence in comparison.broken() if "median" in sentence]


def test_a_missed_vehicle_costs_recall_and_an_invented_one_is_false() -> None:
    driven = _as_driven()
    comparison = compare([*driven[2:], a_passage(middle_s=300.0), a_passage(middle_s=310.0)], TRUTH)
    assert comparison.recall == pytest.approx(16 / 18)
    assert comparison.false == 2
    assert len(comparison.broken()) == 2


def test_nothing_measured_is_told_as_such() -> None:
    comparison = compare([], TRUTH)
    assert comparison.recall == 0
    assert comparison.broken()


@pytest.mark.slow
def test_the_demonstration_ends_by_itself_and_everything_it_claims_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from edge.cli import main; main()", "demo", "--annotate", "seen.mp4"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "SNELLIUS_MQTT__URL": "mqtts://city.example"},
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "They add up to exactly the vehicles that were measured." in done.stdout
    assert "Compared with the truth" in done.stdout
    assert "lab mode" in done.stdout.lower()
    assert (tmp_path / "seen.mp4").stat().st_size > 1_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["seen.mp4"]
