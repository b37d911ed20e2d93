"""What each part of the estimate buys: rendered scenes measured again and again, each time without one of its parts.

    python -m benchmarks.ablation FOLDER [--model NAME] [--surveys 3] [--keep FOLDER] [--json OUT]

Vehicles are detected and followed once for every survey (as given, and with the noise of a careful technician); only
the estimate changes. The last row is no part left out, but the plain line through bottom edges. Then the processor time
that the whole estimate takes for each passage, and for tracks drawn out to ten thousand boxes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.evaluation import Recording, Scorers, cell, chosen_model, scene_survey
from calibration import Calibration
from edge.assembly import MARGIN_M, measuring_pipeline
from edge.cli.measuring import row
from edge.domain import Floats, Passage, Reason, Trajectory
from edge.domain import Path as Way
from edge.speed import Estimator, estimator, fit
from edge.speed.bodies import Body
from edge.zones import Turnstile, Zone

LONG_TRACK = 10_000  # boxes
TIMED = 5  # the least of so many counts: what else the computer does only adds
NOTHING = 1e-4  # a prior this narrow leaves a parameter no room
CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """The trajectories of one scene under one survey, in the order in which they ended."""

    truth: dict[str, Any]
    calibration: Calibration
    gone: list[tuple[int, Trajectory]]


class _Notes:
    """Stands in for the estimator and keeps what it is given."""

    def __init__(self) -> None:
        self.trajectories: list[Trajectory] = []

    def estimate(self, trajectory: Trajectory) -> Way | None:
        self.trajectories.append(trajectory)
        return None


def follow(recording: Recording, calibration: Calibration, truth: dict[str, Any]) -> Followed:
    """Localise and follow once."""
    notes = _Notes()
    pipeline = measuring_pipeline(calibration, recording, estimator=notes, has_cadence=True)
    gone: list[tuple[int, Trajectory]] = []
    now_ns = 0
    for frame in recording.frames():
        now_ns = frame.captured_ns
        pipeline.step(frame)
        gone += [(now_ns, trajectory) for trajectory in notes.trajectories[len(gone) :]]
    pipeline.finish()
    return Followed(truth, calibration, gone + [(now_ns, each) for each in notes.trajectories[len(gone) :]])


def passages(followed: Followed) -> list[dict[str, Any]]:
    """The passages of a scene with the estimate as it is now."""
    site = followed.calibration.site
    zone, turnstile = Zone(length_m=site.length_m, polygon_m=site.polygon_in_frame_m), Turnstile()
    ours = Estimator(followed.calibration.zone_plane, zone_length_m=site.length_m, margin_m=MARGIN_M)
    through: list[Passage] = []
    for now_ns, trajectory in followed.gone:
        path = ours.estimate(trajectory)
        passage = None if path is None else zone.passage(path, 0)
        through += turnstile.admit([] if passage is None else [passage], now_ns)
    return [row(passage) for passage in sorted(through + turnstile.finish(), key=lambda passage: passage.left_ns)]


# ------------------------------------------------------------------------------------------------- parts to leave out


@contextmanager
def with_bodies(change: Callable[[Body], Body]) -> Iterator[None]:
    """Every kind of body changed."""
    changed = {user: tuple(map(change, bodies)) for user, bodies in estimator._BODIES.items()}
    with patch.object(estimator, "_BODIES", changed):
        yield


@contextmanager
def with_figures(**figures: Any) -> Iterator[None]:
    """Constants of the fit changed."""
    with ExitStack() as stack:
        for name, value in figures.items():
            stack.enter_context(patch.object(fit, name, value))
        yield


def _edges(**changed: Any) -> Callable[[Body], Body]:
    return lambda body: replace(body, edges=replace(body.edges, **changed))


def _line_only(trajectory: Trajectory) -> Way | None:
    """The straight line through the bottom edges, with no more said about it."""
    line = estimator._straight_line(trajectory)
    if line is None:
        return None
    path = estimator._plain_path(trajectory, line, estimator._votes(trajectory), Reason.INCONSISTENT)
    return path.with_problem(None)


def _lines() -> Any:
    return patch.object(Estimator, "estimate", lambda self, trajectory: _line_only(trajectory))


NARROW = np.full(4, NOTHING)
WITHOUT: dict[str, Callable[[], Any]] = {
    "whole estimate": ExitStack,
    "vehicles of one size": lambda: with_bodies(lambda body: replace(body, size_sigma=np.full(3, NOTHING))),
    "sizes nearly unknown (five times the spread)": lambda: with_bodies(
        lambda body: replace(body, size_sigma=5 * body.size_sigma)
    ),
    "cuboids instead of rounded hulls": lambda: with_bodies(lambda body: replace(body, hull=CORNERS)),
    "constant speed": lambda: with_figures(ACCELERATION_SIGMA_MPS2=NOTHING, JERK_SIGMA_MPS3=NOTHING),
    "no robust loss": lambda: with_figures(DEGREES_OF_FREEDOM=1e6),
    "detector's edges taken as exact in the mean": lambda: with_bodies(
        _edges(offset=np.zeros(4), offset_sigma=NARROW, drift_sigma=NARROW, near_bottom=0.0, near_bottom_person=0.0)
    ),
    "no drift of the edges": lambda: with_bodies(_edges(drift_sigma=NARROW)),
    "riders keep their wheels": lambda: with_bodies(_edges(near_bottom_person=0.0)),
    "shadows as large far away as near": lambda: with_bodies(_edges(near_bottom=0.0)),
    "covered edges believed": lambda: with_figures(HIDDEN_FACTOR=np.zeros(4)),
    "noise grows with the box, no pixels beside": lambda: with_figures(EDGE_SIGMAS_PX=fit.EDGE_SIGMAS_PX[:1]),
    "box noise taken as white": lambda: with_figures(MAX_CORRELATION=0.0),
    "line through bottom edges": _lines,
}


def figures(scorer: Any, scenes: list[Followed]) -> dict[str, float]:
    """Errors of all scenes and surveys together. [km/h]"""
    scored = [scorer.score(scene.truth, passages(scene)) for scene in scenes]
    vehicles = [vehicle for _, rows in scored for vehicle in rows]
    errors: Floats = np.array([vehicle["error_kmh"] for vehicle in vehicles])
    sigmas: Floats = np.array([vehicle["sigma_kmh"] for vehicle in vehicles])
    size = np.abs(errors)
    return {
        "measured": len(errors) / sum(score["true_passages"] for score, _ in scored),
        "false": sum(score["false"] for score, _ in scored),
        "bias": float(errors.mean()),
        "worst bias of a scene": max(abs(float(score["bias"])) for score, _ in scored),
        "median": float(np.median(size)),
        "mean": float(size.mean()),
        "p99": float(np.percentile(size, 99)),
        "worst": float(size.max()),
        "sigma": float(np.median(sigmas)),
        "in 2 sigma": float((size <= 2 * sigmas).mean()),
    }


def costs_ms(scenes: list[Followed]) -> tuple[Floats, Floats]:
    """Processor time of the estimate of everyone who got a path, as followed and drawn out to a long track. [ms]"""
    taken: list[tuple[float, float]] = []
    for scene in scenes:
        ours = Estimator(scene.calibration.zone_plane, zone_length_m=scene.calibration.site.length_m, margin_m=MARGIN_M)
        for _, trajectory in scene.gone:
            path, cost_ms = _timed(ours, trajectory)
            if path is not None:
                taken.append((cost_ms, _timed(ours, drawn_out(trajectory, LONG_TRACK))[1]))
    as_followed, long = np.array(taken).reshape(-1, 2).T
    return as_followed, long


def _timed(ours: Estimator, trajectory: Trajectory) -> tuple[Way | None, float]:
    """A path, and the least processor time of all threads together that it took. [ms]"""
    least_s = np.inf
    for _ in range(TIMED):
        began_s = time.process_time()
        path = ours.estimate(trajectory)
        least_s = min(least_s, time.process_time() - began_s)
    return path, least_s * 1e3


def drawn_out(trajectory: Trajectory, boxes: int) -> Trajectory:
    """The same way with more boxes in between, as if looked at far more often."""
    times_s = np.linspace(trajectory.times_s[0], trajectory.times_s[-1], boxes)

    def between(values: Floats) -> Floats:
        columns = [np.interp(times_s, trajectory.times_s, column) for column in np.atleast_2d(values.T)]
        return np.asarray(np.squeeze(np.column_stack(columns)))

    return replace(
        trajectory,
        times_s=times_s,
        boxes_xyxy_px=between(trajectory.boxes_xyxy_px),
        scores=between(trajectory.scores),
        labels=trajectory.labels[np.searchsorted(trajectory.times_s, times_s)],
        positions_m=between(trajectory.positions_m),
        covered=between(trajectory.covered),
    )


def main() -> None:
    """Read the command line, measure with every part left out in turn, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds *.truth.json beside *.mp4")
    parser.add_argument("--model", help="a model of the catalogue; default: the catalogue's default")
    parser.add_argument("--surveys", type=int, default=3, help="noisy surveys of each scene (default: 3)")
    parser.add_argument("--keep", type=Path, help="folder in which detections are kept")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    truth_files = sorted(arguments.folder.glob("*.truth.json"))
    if not truth_files:
        parser.error(f"{arguments.folder}: expected rendered scenes (*.truth.json), found none")
    scorers = Scorers.beside(arguments.folder)
    model = chosen_model(arguments.model)
    scenes = []
    for file in truth_files:
        clip = file.with_name(file.name.replace(".truth.json", ".mp4"))
        truth = json.loads(file.read_text(encoding="utf-8"))
        recording = Recording.of(clip, model, scene_survey(scorers, file), arguments.keep)
        scenes += [
            follow(recording, scene_survey(scorers, file, seed), truth)
            for seed in (None, *range(1, arguments.surveys + 1))
        ]
    scorer = scorers.module("score_passages")
    found = {}
    for name, change in track(WITHOUT.items(), "leaving out", console=Console(stderr=True), transient=True):
        with change():
            found[name] = figures(scorer, scenes)
    table = Table("", *next(iter(found.values())), title=f"{len(scenes)} surveys of {len(truth_files)} scenes, in km/h")
    for name, values in found.items():
        table.add_row(name, *(cell(value) for value in values.values()))
    Console(width=150).print(table)
    for name, taken in zip(("as followed", f"drawn out to {LONG_TRACK:,} boxes"), costs_ms(scenes)):
        median, p99, worst = np.percentile(taken, [50, 99, 100])
        print(f"{len(taken)} estimates {name}: median {median:.1f} ms, p99 {p99:.1f} ms, slowest {worst:.1f} ms")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
