"""Real footage with every pass listed by eye: who was counted, who was missed, who was made up."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.evaluation import ROOT, Looks, Scorers, passages_of, size_of, surveyed
from edge.assembly import road_glance
from models import Model

VIDEO = (".mp4", ".avi")
COLUMNS = ("true", "counted", "matched", "missed", "false")


def measure(folder: Path, scorers: Scorers, models: list[Model], *, keep: Path | None) -> dict[str, Any] | None:
    """Every clip of a folder that has a survey; prints counts for each model and direction.

    Args:
        folder: Holds the clips and ``events.csv``.
        scorers: Of the evaluation set.
        models: The detectors to measure with, one after the other.
        keep: Folder for detections, see :class:`Looks`.

    Returns:
        The scorer's figures of each model and clip; None of nothing.
    """
    events = folder / "events.csv"
    if not events.exists():
        return None
    figures: dict[str, Any] = {}
    table = Table("model", "clip", "direction", *COLUMNS, "measured", title="passes of real footage")
    for model in models:
        figures[model.name] = {}
        for clip in sorted(path for path in folder.iterdir() if path.suffix in VIDEO):
            parts = site_of(clip)
            if parts is None:
                table.add_row(model.name, clip.stem, "no survey")
                continue
            survey, site, directions = parts
            calibration = surveyed(survey, site, size_of(clip))
            with Looks(clip, model, calibration, keep) as looks:
                passages = passages_of(looks, calibration, clip=clip, glance=road_glance(model, calibration))
            scored = counted(scorers, clip, passages, events, directions)
            for direction, score in scored.items():
                score["measured"] = sum(p["measured"] for p in passages if p["direction"] == direction)
                table.add_row(model.name, clip.stem, direction, *(str(score[name]) for name in (*COLUMNS, "measured")))
            figures[model.name][clip.stem] = scored
    Console(width=160).print(table)
    return figures


def counted(
    scorers: Scorers, clip: Path, passages: list[dict[str, Any]], events: Path, directions: str
) -> dict[str, dict[str, Any]]:
    """The scorer's figures for each direction."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "passages.jsonl"
        out.write_text("".join(json.dumps(passage) + "\n" for passage in passages), encoding="utf-8")
        told: dict[str, dict[str, Any]] = json.loads(
            scorers.run("score_counts", clip, out, events, "--map", directions, "--json")
        )
    return told


def site_of(clip: Path) -> tuple[Path, Path, str] | None:
    """Survey, site and direction map of a clip: from beside it, else from the tests."""
    for folder in (clip.parent, ROOT / "tests" / "clips"):
        survey, site, directions = (folder / f"{clip.stem}.{end}" for end in ("survey.csv", "site.toml", "map"))
        if survey.exists() and site.exists() and directions.exists():
            return survey, site, directions.read_text(encoding="utf-8").strip()
    return None
