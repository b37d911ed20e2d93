"""How dark a street may become before vehicles are lost or measured wrong: the ground of the limit of ``too_dark``.

    python -m benchmarks.darkness FOLDER [--scene NAME]… [--light SHARE]… [--json OUT]

FOLDER holds rendered scenes (``*.truth.json`` beside ``*.mp4``). Each is taken as what a small sensor at its highest
gain just exposes well, then the light is taken away in steps: pictures become darker as the light does, the noise of
the sensor stays. Every step is measured by everything that ``snellius replay`` does with a frame, and scored by the
evaluation set's own scorer. Told beside it: what the judge of live pictures sees, the median of its cells.

The noise: a white pixel is 300 electrons (a pixel of some 5,000 at sixteen times its base gain), each pixel has the
shot noise of its light and 3 electrons of read noise, drawn anew in every frame. Light and grey level are related by a
gamma of 2.2. Not in it: head lamps, which these scenes have none of, the blur of longer exposures, and what a camera
does against noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.evaluation import Scorers, cell, scene_survey
from edge.assembly import known_model, measuring_pipeline, road_detector
from edge.cli.measuring import row
from edge.domain import CameraState, Pixels
from edge.sources.picture import PictureJudge, cells_of
from edge.sources.video import VideoFile

WHITE_ELECTRONS = 300.0
READ_ELECTRONS = 3.0
GAMMA = 2.2
LIGHTS = tuple(2.0**-stop for stop in range(9))
COLUMNS = ("scene", "light", "level", "state", "true", "measured", "false", "median", "p90", "worst")


class Dusk:
    """Takes light away from pictures.

    Args:
        light: What is left of it, from 0 to 1.
        seed: Of the noise.
    """

    def __init__(self, light: float, seed: int = 1) -> None:
        self._electrons = (WHITE_ELECTRONS * light * (np.arange(256) / 255.0) ** GAMMA).astype(np.float32)
        self._rng = np.random.default_rng(seed)

    def over(self, image_bgr: Pixels) -> Pixels:
        """The picture in that light, shape (height, width, 3)."""
        electrons = self._electrons[image_bgr]
        noise = self._rng.standard_normal(image_bgr.shape, dtype=np.float32)
        seen = np.clip(electrons + noise * np.sqrt(electrons + READ_ELECTRONS**2), 0.0, WHITE_ELECTRONS)
        return np.asarray(np.rint(255.0 * (seen / WHITE_ELECTRONS) ** (1.0 / GAMMA)), dtype=np.uint8)


def measured(clip: Path, truth_file: Path, scorers: Scorers, light: float) -> dict[str, Any]:
    """One scene in one light."""
    calibration = scene_survey(scorers, truth_file)
    pipeline = measuring_pipeline(
        calibration, road_detector(known_model(None), calibration), has_gate=True, has_cadence=True
    )
    judge, dusk = PictureJudge(), Dusk(light)
    levels, states, passages = [], [], []
    with VideoFile(clip) as source:
        what = f"{clip.stem}, light {light:.4f}"
        for frame in track(source.frames(), what, source.frame_count, console=Console(stderr=True), transient=True):
            dark = replace(frame, image_bgr=dusk.over(frame.image_bgr))
            states.append(judge.look(dark.captured_ns, dark.image_bgr))
            levels.append(float(np.median(cells_of(dark.image_bgr))))
            passages += pipeline.step(dark)
    passages += pipeline.finish()
    rows = [row(passage) for passage in sorted(passages, key=lambda passage: passage.left_ns)]
    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    score, vehicles = scorers.module("score_passages").score(truth, rows)
    errors = np.abs([vehicle["error_kmh"] for vehicle in vehicles])
    return {
        "scene": truth["name"],
        "light": light,
        "level": round(float(np.median(levels)), 1),
        "state": states[-1].value if states else CameraState.OPENING.value,
        "true": score["true_passages"],
        "measured": score["measured"],
        "false": score["false"],
        "median": float(np.median(errors)) if len(errors) else None,
        "p90": float(np.percentile(errors, 90)) if len(errors) else None,
        "worst": float(errors.max()) if len(errors) else None,
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The table: errors in km/h, levels of 255."""
    table = Table(*COLUMNS, title="less and less light: errors in km/h")
    for each in rows:
        table.add_row(*(each[name] if isinstance(each[name], str) else cell(each[name]) for name in COLUMNS))
    Console(width=120).print(table)


def main() -> None:
    """Read the command line, measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scene", action="append", default=[], metavar="NAME", help="only scenes whose file holds it")
    parser.add_argument("--light", action="append", type=float, default=[], metavar="SHARE", help="of the scene's own")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file")
    asked = parser.parse_args()
    scorers = Scorers.beside(asked.folder)
    cv2.setNumThreads(1)
    truth_files = [
        file
        for file in sorted(asked.folder.glob("*.truth.json"))
        if not asked.scene or any(name in file.name for name in asked.scene)
    ]
    if not truth_files:
        parser.error(f"{asked.folder}: expected *.truth.json beside *.mp4")
    rows = []
    for light in asked.light or LIGHTS:
        for file in truth_files:
            clip = file.with_name(file.name.replace(".truth.json", ".mp4"))
            rows.append(measured(clip, file, scorers, light))
            print(json.dumps(rows[-1]), flush=True)
    show(rows)
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
