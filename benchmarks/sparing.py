"""What looking less costs: footage measured on every frame, with the cadence, with the gate, and with glances as well.

    python -m benchmarks.sparing FOLDER [--weights FILE --head classic]… [--keep DIR] [--json OUT]

FOLDER holds ``scenes`` (``*.truth.json`` beside ``*.mp4``) and ``clips`` (with ``events.csv``). Each is detected once
with the catalogue's default network, an 8-bit one, and once with each file that is named, such as the same network in
32-bit; then it is measured in four ways on the same detections, with the survey as given. Only what glances see is
detected anew, by networks whose input has no fixed size. Scenes are scored by their exact truth, clips by the passes
that people listed, both with the scorers of the evaluation set. Beside the scores stand the passages that only "every
frame" has, and how far the speeds of the others lie from its.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.clips import VIDEO, counted, site_of
from benchmarks.detectors import clip_of
from benchmarks.evaluation import Recording, Scorers, cell, chosen_model, passages_of, scene_survey, size_of, surveyed
from calibration import Calibration
from edge.assembly import road_glance
from edge.domain import Detections, Floats, Frame, Region
from edge.pipeline import Glance
from models import Head, Model

EVERY_FRAME = "every frame"
GATED = "gate and cadence"
GLANCING = "with glances"
WAYS = (EVERY_FRAME, "cadence", GATED, GLANCING)
SAME_S = 1.0  # passages of one vehicle in two ways do not lie further apart
COLUMNS = {
    "looks": "looks",
    "glances": "glances",
    "frames": "of frames",
    "true": "true",
    "measured": "measured",
    "counted": "counted",
    "false": "false",
    "median_abs": "median",
    "worst": "worst",
    "sigma": "median σ",
    "lost": "lost",
    "rms_change": "rms change",
}
Score = Callable[[list[dict[str, Any]]], dict[str, Any]]


class CountedLooks(Recording):
    """A recording that counts how often the detector was asked."""

    looks = 0

    def detect(self, frame: Frame) -> Detections:
        """What the detector saw in that frame."""
        self.looks += 1
        return super().detect(frame)


class CountedGlances:
    """Glances that are counted.

    Args:
        glance: What glances.
    """

    def __init__(self, glance: Glance) -> None:
        self._glance = glance
        self.looks = 0

    def part(self, needed_xyxy_px: Floats) -> Region | None:
        """The part of the frame that would be looked at."""
        return self._glance.part(needed_xyxy_px)

    def detect(self, frame: Frame, part_px: Region, before: Detections, changed_px: Floats) -> Detections | None:
        """What is in the frame."""
        self.looks += 1
        return self._glance.detect(frame, part_px, before, changed_px)


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """A scene or a clip with what is needed to measure and to score it."""

    clip: Path
    calibration: Calibration
    score: Score


def main() -> None:
    """Read the command line, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds the folders scenes and clips")
    parser.add_argument("--model", help="a model of the catalogue; default: the catalogue's default")
    parser.add_argument(
        "--weights", action="append", default=[], metavar="FILE", help="measure with this ONNX file as well; repeatable"
    )
    parser.add_argument(
        "--head",
        choices=[head.value for head in Head],
        default=Head.CLASSIC.value,
        help="of --weights; default: classic",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep detections here, and take those that are there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file")
    arguments = parser.parse_args()
    scorers = Scorers.beside(arguments.folder / "scenes")
    footage = [*_scenes(arguments.folder / "scenes", scorers), *_clips(arguments.folder / "clips", scorers)]
    if not footage:
        parser.error(f"{arguments.folder}: expected scenes/*.truth.json or clips/events.csv")
    models = [chosen_model(arguments.model), *(chosen_model(file, arguments.head) for file in arguments.weights)]
    pairs = [(each, model) for each in footage for model in models]
    figures = [
        row
        for each, model in track(pairs, "measuring", console=Console(stderr=True), transient=True)
        for row in compared(each, model, arguments.keep)
    ]
    _print(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def compared(footage: Footage, model: Model, keep: Path | None) -> Iterator[dict[str, Any]]:
    """The figures of one footage and detector in each way."""
    recording = CountedLooks.of(footage.clip, model, footage.calibration, keep)
    assert isinstance(recording, CountedLooks)
    every_frame: list[dict[str, Any]] = []
    for way in WAYS:
        recording.looks = 0
        small = road_glance(model, footage.calibration) if way == GLANCING else None
        glance = None if small is None else CountedGlances(small)
        passages = passages_of(
            recording,
            footage.calibration,
            clip=footage.clip if way in (GATED, GLANCING) else None,
            every_frame=way == EVERY_FRAME,
            glance=glance,
        )
        every_frame = every_frame or passages
        yield {
            "footage": footage.clip.stem,
            "model": model.name,
            "way": way,
            "looks": recording.looks,
            "glances": glance.looks if glance is not None else 0,
            "frames": len(recording.instants_s),
            **footage.score(passages),
            **changes(every_frame, passages),
        }


def changes(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, float | int | None]:
    """Passages of one way that another has lost, and what became of the speeds of the others. [km/h]"""
    left = list(after)
    lost, differences = 0, []
    for passage in before:
        same = [
            other
            for other in left
            if other["direction"] == passage["direction"] and abs(other["t_s"] - passage["t_s"]) <= SAME_S
        ]
        if not same:
            lost += 1
            continue
        other = min(same, key=lambda other: abs(float(other["t_s"]) - float(passage["t_s"])))
        left.remove(other)
        if passage["measured"] and other["measured"]:
            differences.append(other["speed_kmh"] - passage["speed_kmh"])
        elif passage["measured"]:
            lost += 1
    return {"lost": lost, "rms_change": float(np.sqrt(np.mean(np.square(differences)))) if differences else None}


def _scenes(folder: Path, scorers: Scorers) -> Iterator[Footage]:
    scorer = scorers.module("score_passages")
    for file in sorted(folder.glob("*.truth.json")):
        truth = json.loads(file.read_text(encoding="utf-8"))

        def score(passages: list[dict[str, Any]], truth: dict[str, Any] = truth) -> dict[str, Any]:
            told = scorer.score(truth, passages)[0]
            names = {"true": "true_passages", "sigma": "sigma_median"}
            wanted = ("true", "measured", "false", "bias", "median_abs", "worst", "sigma")
            return {name: told.get(names.get(name, name)) for name in wanted}

        yield Footage(clip_of(file), scene_survey(scorers, file), score)


def _clips(folder: Path, scorers: Scorers) -> Iterator[Footage]:
    events = folder / "events.csv"
    if not events.exists():
        return
    for clip in sorted(path for path in folder.iterdir() if path.suffix in VIDEO):
        parts = site_of(clip)
        if parts is None:
            continue
        survey, site, directions = parts

        def score(passages: list[dict[str, Any]], clip: Path = clip, directions: str = directions) -> dict[str, Any]:
            told = counted(scorers, clip, passages, events, directions).values()
            total = {name: sum(each[of] for each in told) for name, of in (("true", "true"), ("counted", "matched"))}
            measured = sum(passage["measured"] for passage in passages)
            return total | {"false": sum(each["false"] for each in told), "measured": measured}

        yield Footage(clip, surveyed(survey, site, size_of(clip)), score)


def _print(figures: list[dict[str, Any]]) -> None:
    table = Table(
        "", *COLUMNS.values(), title="looking less often: errors in km/h; lost and change: against every frame"
    )
    before = None
    for row in figures:
        if before != (row["footage"], row["model"]):
            before = row["footage"], row["model"]
            table.add_section()
            table.add_row(f"[bold]{row['footage']}[/bold], {row['model']}")
        table.add_row(row["way"], *(cell(row.get(column)) for column in COLUMNS))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
