"""What ``models export`` refuses before anything is loaded; what it makes is tested by ``make test-ultralytics``."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cli import main
from tests.support.reference_detector import CLIP
from tests.support.street import demo_calibration


@pytest.fixture
def site(tmp_path: Path) -> list[str]:
    demo_calibration().save(tmp_path / "cal.json")
    return ["--clip", str(CLIP), "--calibration", str(tmp_path / "cal.json")]


def test_a_still_of_another_size_is_told_in_one_line(
    site: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "still.png"), np.zeros((360, 640, 3), dtype=np.uint8))

    with pytest.raises(SystemExit, match="2"):
        main(["models", "export", "yolo11n", *site, "--int8", "--still", str(tmp_path / "still.png")])

    said = capsys.readouterr().err.strip()
    assert said.endswith("still.png: expected a 960x540 picture as the calibration has, found 640x360")
    assert "\n" not in said


def test_a_still_without_8_bits_is_told(site: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["models", "export", "yolo11n", *site, "--still", "still.png"])

    assert "--still: goes with --int8, whose ranges it widens" in capsys.readouterr().err
