"""BrnoCompSpeed: published tracks of real cars, speeds measured by optical gates.

There is no video: the tracks of two published systems take the place of detector and tracker, so this tests the
estimator for point tracks and its refusals. Which tracks the protocol keeps, which car a track belongs to, when it
crosses the line and every figure come from the evaluation set's scorer.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.evaluation import Scorers, cell
from calibration.units import kmh_from_mps
from edge.domain import Floats
from edge.speed import POINT_SIGMA_PX, PointSpeed, speed_of_points, speeds_of_vehicles

CALIBRATION = "optimal_calib"
RULE = "median5"  # of the data set, the bar for a mean error
OURS = "ours"
MAX_ERROR_KMH = 10.0
MAX_WITHOUT_SPEED = 0.02  # share of the valid cars that may be refused a speed
COLUMNS = {
    "recall_all": "recall",
    "recall_valid": "of valid",
    "recall_valid_with_speed": "with speed",
    "extra": "no car's",
    "bias": "bias",
    "mae": "mean",
    "median": "median",
    "p95": "p95",
    "p99": "p99",
    "max": "worst",
    "u_median": "σ",
    "u_coverage_2u": "in 2 σ",
}


def measure(folder: Path, scorers: Scorers) -> dict[str, Any] | None:
    """Every session and kind of track of a folder; prints one table.

    Args:
        folder: Holds folders of sessions: ``ground_truth.json``, ``calibration.json``, ``tracks_*.json.gz``.
        scorers: Of the evaluation set.

    Returns:
        The scorer's figures of each set of tracks and estimator, and the targets not met; None of nothing.
    """
    scorer = scorers.module("score_brno")
    figures: dict[str, Any] = {}
    for truth_file in sorted(folder.rglob("ground_truth.json")):
        session = truth_file.parent
        for tracks_file in sorted(session.glob("tracks_*.json.gz")):
            name = f"{session.name.removeprefix('brnocompspeed-')}/{tracks_file.name[7:-8]}"
            figures[name] = measure_tracks(scorer, tracks_file)
    if not figures:
        return None
    _print(figures)
    return figures


def measure_tracks(scorer: ModuleType, tracks_file: Path, rules: Sequence[str] | None = None) -> dict[str, Any]:
    """Figures of our estimator, and of the scorer's own, on the tracks of one system for one session.

    Args:
        scorer: The scorer's module.
        tracks_file: Stands beside the session's truth and calibration.
        rules: The scorer's estimators to compare with, :data:`RULE` among them; None: all.
    """
    truth, tracks = _read(tracks_file.with_name("ground_truth.json")), _read(tracks_file)
    camera = _read(tracks_file.with_name("calibration.json"))[CALIBRATION]
    to_road = np.array(camera["derived"]["H_image_to_road_metres"])
    theirs = scorer.reference(truth, tracks, to_road, rules or tuple(scorer.ESTIMATORS))
    passages, reasons = [], Counter[str]()
    usable = list(scorer.usable_tracks(tracks, truth, to_road))
    spots = [speed_of(scorer, track, to_road) for track, _ in usable]
    passed_s = np.array([track.t_line0 for track, _ in usable])
    across_m = np.array([np.median(track.road[:, 0]) for track, _ in usable])
    for (track, lane), told in zip(usable, speeds_of_vehicles(spots, passed_s, across_m)):
        reasons["measured" if told.problem is None else told.problem.value] += 1
        passage = {"t_line0": track.t_line0, "lane": lane, "speed_kmh": None}
        if told.problem is None and told.speed_mps is not None and told.sigma_mps is not None:
            passage |= {"speed_kmh": kmh_from_mps(abs(told.speed_mps)), "u_kmh": kmh_from_mps(told.sigma_mps)}
        passages.append(passage)
    ours = scorer.score(truth, passages)
    return {
        "estimators": {OURS: ours, **theirs},
        "tracks": dict(reasons),
        "best_mae": min(figures["mae"] for figures in theirs.values()),
        "not_met": _not_met(ours, theirs[RULE]),
    }


def speed_of(scorer: ModuleType, track: Any, to_road: Floats) -> PointSpeed:
    """Our estimate for a track of the scorer: places along the road, and the zone between first and last line.

    Args:
        scorer: The scorer's module.
        track: One of its tracks.
        to_road: Homography from pixels to metres; the second axis runs along the road, shape (3, 3).
    """
    across, along = track.road.T
    to_pixels = np.linalg.inv(to_road)
    pixels = scorer.to_road(to_pixels, np.column_stack([across, along, np.ones(len(along))]))
    step_px = 0.5
    ends = np.array(
        [scorer.to_road(to_road, _moved(pixels, axis, sign * step_px)) for axis in (0, 1) for sign in (1, -1)]
    )
    slopes = np.hypot(ends[0, :, 1] - ends[1, :, 1], ends[2, :, 1] - ends[3, :, 1]) / (2 * step_px)
    first, last = (scorer.to_road(to_road, np.array([[*end, 1.0]]))[0, 1] for end in (track.entry, track.exit))
    return speed_of_points(track.t, along, POINT_SIGMA_PX * slopes, (float(first), float(last)))


def _moved(pixels: Floats, axis: int, by_px: float) -> Floats:
    """Homogeneous points, moved along one axis of the picture."""
    moved = np.column_stack([pixels, np.ones(len(pixels))])
    moved[:, axis] += by_px
    return moved


def _not_met(ours: dict[str, Any], rule: dict[str, Any]) -> list[str]:
    """Targets that our estimator misses, the data set's rule being the bar."""
    missed = []
    if ours["mae"] > rule["mae"]:
        missed.append("mean")
    if ours["recall_valid"] != rule["recall_valid"]:
        missed.append("of valid")
    if ours["recall_valid_with_speed"] < rule["recall_valid_with_speed"] - MAX_WITHOUT_SPEED:
        missed.append("with speed")
    if ours["max"] > MAX_ERROR_KMH:
        missed.append("worst")
    return missed


def _read(file: Path) -> Any:
    data = file.read_bytes()
    return json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)


def _print(figures: dict[str, Any]) -> None:
    table = Table("", *COLUMNS.values(), "target not met", title=f"BrnoCompSpeed, {CALIBRATION}: errors in km/h")
    for name, of in figures.items():
        table.add_section()
        table.add_row(f"[bold]{name}")
        for estimator, score in of["estimators"].items():
            missed = ", ".join(of["not_met"]) if estimator == OURS else ""
            table.add_row(estimator, *(cell(score.get(column)) for column in COLUMNS), missed)
    Console(width=160).print(table)
