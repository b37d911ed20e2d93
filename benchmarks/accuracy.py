"""How right the speeds and counts are.

    python -m benchmarks.accuracy scenes FOLDER [--model NAME] [--surveys 20] [--json OUT]
    python -m benchmarks.accuracy clips FOLDER [--model NAME] [--json OUT]

``scenes``: rendered scenes with exact truth (``*.truth.json`` beside ``*.mp4``): the survey as given, surveys with
click and tape noise, fewer frames, noisier boxes, and the recipes of others on identical tracks. ``clips``: real
footage with every pass listed in ``events.csv``; survey, site and direction map of a clip are taken from beside it,
else from ``tests/clips``. Each clip is detected once and measured many times. Scored by the evaluation set's own
scorers.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.evaluation import ROOT, Recording, Scorers, passages_of, percentile, surveyed
from benchmarks.recipes import RECIPES, Recipe
from calibration import Calibration, parse_image_size

CLICK_PX, TAPE_M = 0.5, 0.01  # what a careful technician leaves
VIDEO = (".mp4", ".avi")


def main() -> None:
    """Read the command line, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scenes", "clips"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a model of the catalogue or a file; default: the catalogue's default")
    parser.add_argument("--surveys", type=int, default=20, help="noisy surveys of each scene (default: 20)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder}: expected a folder")
    scorers = Scorers.beside(arguments.folder)
    if arguments.what == "scenes":
        figures = scenes(arguments.folder, scorers, arguments.model, arguments.surveys)
    else:
        figures = clips(arguments.folder, scorers, arguments.model)
    if not figures:
        parser.error(f"{arguments.folder}: holds no {arguments.what}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- scenes


def scenes(folder: Path, scorers: Scorers, model: str | None, surveys: int) -> dict[str, Any]:
    """Every scene of a folder; prints a table for each and the pooled figures."""
    scorer = scorers.module("score_passages")
    figures: dict[str, Any] = {}
    pooled: list[dict[str, Any]] = []
    for truth_file in sorted(folder.glob("*.truth.json")):
        truth = json.loads(truth_file.read_text(encoding="utf-8"))
        recording = Recording.of(truth_file.with_name(truth_file.name.replace(".truth.json", ".mp4")), model)
        with tempfile.TemporaryDirectory() as scratch:
            exact = _survey(scorers, truth_file, Path(scratch) / "exact")
            noisy = [
                _survey(scorers, truth_file, Path(scratch) / str(seed), seed=seed) for seed in range(1, surveys + 1)
            ]
        rows: dict[str, list[tuple[dict[str, Any], list[dict[str, Any]]]]] = {
            name: [scorer.score(truth, passages)] for name, passages in _variants(recording, exact)
        }
        name = f"{surveys} noisy surveys"
        rows[name] = [
            scorer.score(truth, passages_of(recording, calibration))
            for calibration in track(noisy, description=name, console=Console(stderr=True), transient=True)
        ]
        pooled += [passage for _, passages in rows[name] for passage in passages]
        figures[truth["name"]] = _print_scene(truth["name"], rows)
    if pooled:
        figures["pooled"] = _print_pooled(pooled)
    return figures


def _survey(scorers: Scorers, truth_file: Path, out: Path, seed: int | None = None) -> Calibration:
    noise = () if seed is None else ("--click-px", str(CLICK_PX), "--tape-m", str(TAPE_M), "--seed", str(seed))
    size = scorers.run("scene_to_site", truth_file, out, *noise)
    return surveyed(out / "survey.csv", out / "site.toml", parse_image_size(size.strip()))


def _variants(recording: Recording, calibration: Calibration) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Name and passages of every way to measure a scene with the survey as given."""
    rng = np.random.default_rng(1)
    yield "survey as given", passages_of(recording, calibration)
    for hertz in (10, 5):
        step = round(recording.declared_hz / hertz)
        if step > 1:
            yield f"{recording.declared_hz / step:.0f} frames/s", passages_of(recording.every(step), calibration)
    yield "30 % of frames lost", passages_of(recording.dropping(0.3, rng), calibration)
    yield "box noise + 3 %", passages_of(recording.with_noise(0.03, rng), calibration)
    yield "constant rate assumed (wrong)", passages_of(recording.at_constant_rate(), calibration)
    for name, recipe in RECIPES.items():
        yield name, passages_of(recording, calibration, partial(Recipe, recipe))


COLUMNS = {
    "recall": "recall",
    "missed": "missed",
    "false": "false",
    "bias": "bias",
    "median_abs": "median",
    "mean_abs": "mean",
    "p99_abs": "p99",
    "worst": "worst",
    "v85_error": "V85",
    "sigma_median": "σ",
    "within_2_sigma": "in 2 σ",
}


def _print_scene(name: str, rows: dict[str, list[tuple[dict[str, Any], list[dict[str, Any]]]]]) -> dict[str, Any]:
    """Print one row for each way; of several scores the mean, and the extreme of recall, false and worst."""
    table = Table("", *COLUMNS.values(), title=f"{name}: errors in km/h")
    figures = {}
    for way, scored in rows.items():
        figures[way] = _summary([score for score, _ in scored])
        table.add_row(way, *(_text(figures[way].get(column)) for column in COLUMNS))
    Console().print(table)
    return figures


def _summary(scores: list[dict[str, Any]]) -> dict[str, float]:
    extremes = {"recall": min, "false": max, "worst": max, "missed": max}
    summary: dict[str, float] = {}
    for column in COLUMNS:
        values = [len(score[column]) if column == "missed" else score[column] for score in scores if column in score]
        values = [value for value in values if value is not None]
        if values:
            summary[column] = float(extremes.get(column, np.mean)(values))
    return summary


def _text(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if value == int(value) and abs(value) >= 2 else f"{value:.2f}"


def _print_pooled(passages: list[dict[str, Any]]) -> dict[str, float]:
    """Errors of all scenes and noisy surveys together, and whether sigma can be believed."""
    errors = np.array([passage["error_kmh"] for passage in passages])
    sigmas = np.array([passage["sigma_kmh"] for passage in passages])
    size = np.abs(errors)
    figures = {
        "n": float(len(errors)),
        "bias": float(errors.mean()),
        "median_abs": percentile(size, 50),
        "mean_abs": float(size.mean()),
        "p99_abs": percentile(size, 99),
        "worst": float(size.max()),
        "sigma_median": percentile(sigmas, 50),
        "within_1_sigma": float((size <= sigmas).mean()),
        "within_2_sigma": float((size <= 2 * sigmas).mean()),
        "within_3_sigma": float((size <= 3 * sigmas).mean()),
    }
    table = Table("all scenes, noisy surveys", "", title="pooled")
    for name, value in figures.items():
        table.add_row(name, _text(value))
    Console().print(table)
    return figures


# ----------------------------------------------------------------------------------------------------------- clips


def clips(folder: Path, scorers: Scorers, model: str | None) -> dict[str, Any]:
    """Every clip of a folder that has a survey; prints counts for each direction."""
    events = folder / "events.csv"
    if not events.exists():
        raise SystemExit(f"{events}: expected the list of passes, found nothing")
    figures: dict[str, Any] = {}
    table = Table("clip", "direction", "true", "counted", "missed", "false", "measured", title="passes of real footage")
    for clip in sorted(path for path in folder.iterdir() if path.suffix in VIDEO):
        parts = _site_of(clip)
        if parts is None:
            table.add_row(clip.stem, "no survey", *[""] * 5)
            continue
        survey, site, directions = parts
        recording = Recording.of(clip, model)
        passages = passages_of(recording, surveyed(survey, site, recording.size_px))
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "passages.jsonl"
            out.write_text("".join(json.dumps(passage) + "\n" for passage in passages), encoding="utf-8")
            scored = json.loads(scorers.run("score_counts", clip, out, events, "--map", directions, "--json"))
        figures[clip.stem] = scored
        for direction, score in scored.items():
            measured = sum(p["measured"] for p in passages if p["direction"] == direction)
            counts = (score["true"], score["counted"], score["missed"], score["false"], measured)
            table.add_row(clip.stem, direction, *map(str, counts))
    Console().print(table)
    return figures


def _site_of(clip: Path) -> tuple[Path, Path, str] | None:
    """Survey, site and direction map of a clip: from beside it, else from the tests."""
    for folder in (clip.parent, ROOT / "tests" / "clips"):
        survey, site, directions = (folder / f"{clip.stem}.{end}" for end in ("survey.csv", "site.toml", "map"))
        if survey.exists() and site.exists() and directions.exists():
            return survey, site, directions.read_text(encoding="utf-8").strip()
    return None


if __name__ == "__main__":
    main()
