"""BrnoCompSpeed: published tracks of real cars, speeds measured by optical gates.

There is no video: the tracks of two published systems take the place of detector and tracker, so this tests the
estimator for point tracks and its refusals. Which tracks the protocol keeps, which car a track belongs to, when it
crosses the line and every figure come from the evaluation set's scorer. Tracks that the protocol drops are no
passages, but may show a spot of a vehicle that is nearer to the road than others.
"""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
    kept = [list(scorer.usable_tracks({"tracks": [raw]}, truth, to_road)) for raw in tracks["tracks"]]
    usable = [one for ones in kept for one in ones]
    zone_m = _zone(scorer, [track for track, _ in usable], to_road)
    spots = [_spot_of(scorer, track.t, track.road, to_road, zone_m, track.t_line0) for track, _ in usable]
    dropped = [raw for raw, ones in zip(tracks["tracks"], kept) if not ones]
    spots += [_spot_of(scorer, *_places(scorer, raw, truth, to_road), to_road, zone_m) for raw in dropped]
    vehicles = speeds_of_vehicles(
        [spot.told for spot in spots],
        np.array([spot.passed_s for spot in spots]),
        np.array([spot.across_m for spot in spots]),
    )
    passages, reasons = [], Counter[str]()
    for (track, lane), told in zip(usable, vehicles):
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


@dataclass(frozen=True, slots=True)
class _Spot:
    """A spot of a vehicle that was followed.

    Attributes:
        told: What its track says.
        passed_s: When it passes measurement line 0; NaN without a speed. [s]
        across_m: Its place across the road; NaN without a speed. [m]
    """

    told: PointSpeed
    passed_s: float
    across_m: float


def _zone(scorer: ModuleType, tracks: Sequence[Any], to_road: Floats) -> tuple[float, float]:
    """Where vehicles cross the last measurement line and line 0, along the road. [m]"""
    ends = np.array([[*track.entry, 1.0, *track.exit, 1.0] for track in tracks]).reshape(-1, 3)
    first, last = np.median(scorer.to_road(to_road, ends)[:, 1].reshape(-1, 2), axis=0)
    return float(first), float(last)


def _places(scorer: ModuleType, raw: dict[str, Any], truth: dict[str, Any], to_road: Floats) -> tuple[Floats, Floats]:
    """Instants (k,) and places on the road (k, 2) of a track that the protocol drops, off the picture's border."""
    points = np.column_stack([raw["x"], raw["y"], np.ones(len(raw["x"]))])
    low, high = np.full(2, scorer.BORDER), np.array(truth["image_size"]) - scorer.BORDER
    inner = ((points[:, :2] > low) & (points[:, :2] < high)).all(axis=1)
    return np.array(raw["frames"], dtype=np.float64)[inner] / truth["fps"], scorer.to_road(to_road, points[inner])


def _spot_of(
    scorer: ModuleType,
    times_s: Floats,
    road_m: Floats,
    to_road: Floats,
    zone_m: tuple[float, float],
    passed_s: float | None = None,
) -> _Spot:
    """Our estimate for a spot's places on the road, of which the second axis runs along it.

    Where nobody says when it passes line 0, it goes on to there from its nearest place.
    """
    along = road_m[:, 1]
    pixels = scorer.to_road(np.linalg.inv(to_road), np.column_stack([road_m, np.ones(len(road_m))]))
    step_px = 0.5
    ends = np.array(
        [scorer.to_road(to_road, _moved(pixels, axis, sign * step_px)) for axis in (0, 1) for sign in (1, -1)]
    )
    slopes = np.hypot(ends[0, :, 1] - ends[1, :, 1], ends[2, :, 1] - ends[3, :, 1]) / (2 * step_px)
    told = speed_of_points(times_s, along, POINT_SIGMA_PX * slopes, zone_m)
    if told.speed_mps is None:
        return _Spot(told, math.nan, math.nan)
    if passed_s is None:
        nearest = int(np.abs(along - zone_m[1]).argmin())
        passed_s = float(times_s[nearest] + (zone_m[1] - along[nearest]) / told.speed_mps)
    return _Spot(told, passed_s, float(np.median(road_m[:, 0])))


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
