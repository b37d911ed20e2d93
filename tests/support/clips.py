"""Small video files with properties that a test chooses, and the way to the evaluation footage."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def evaluation_file(name: str) -> Path:
    """A file of the evaluation footage; skips the test when the footage is not there."""
    folder = Path(os.environ.get("SNELLIUS_SHARED", ROOT.parent / "shared"))
    path = folder / name
    if not path.exists():
        pytest.skip(f"evaluation footage not found: {path} (set SNELLIUS_SHARED to its folder)")
    return path


def write_clip(path: Path, *, frames: int = 30, rate_hz: float = 25.0, size_px: tuple[int, int] = (64, 48)) -> Path:
    """A clip at a constant rate; mp4 files have their index (moov) at the end, as a camera writes them."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate_hz, size_px)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((size_px[1], size_px[0], 3), number * 255 // frames, dtype=np.uint8))
    writer.release()
    return path


def cut_off(path: Path, *, into: Path, keep: float) -> Path:
    """A copy that holds only the first share of the bytes."""
    whole = path.read_bytes()
    cut = into / f"{path.stem}-cut{path.suffix}"
    cut.write_bytes(whole[: int(len(whole) * keep)])
    return cut
