"""How the edges of a detector's boxes err around rendered vehicles, taken apart by maximum likelihood.

    python -m benchmarks.edges SCENES [--model NAME] [--shown] [--keep DIR] [--json OUT]

An error is a share of the true box, measured where a vehicle is whole and in full view, and the sum of independent
normal parts: a mean of all vehicles; what a vehicle keeps; what changes evenly from its first view to its last (drift);
what lasts for a while (first-order autoregressive, an Ornstein-Uhlenbeck process in time); and white noise. What bottom
edges gain with nearness is taken off, as :mod:`edge.speed.bodies` believes it of cars. Errors more than four times a
vehicle's own spread from its median are left out: the estimate has a robust loss for them. Told apart twice, without
and with drift; ``log L`` says by how much drift makes the boxes more probable. ``--shown`` adds the pictures of
:mod:`benchmarks.showings`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from benchmarks.detectors import KINDS, MAD_TO_SIGMA, clip_of, views_of
from benchmarks.evaluation import Recording, Scorers, chosen_model, scene_survey
from benchmarks.showings import SHOWINGS
from edge.domain import Floats
from edge.speed.bodies import CAR_EDGES, MAX_NEARNESS, NEAR_PX
from models import Model

EDGES = ("left", "top", "right", "bottom")
FAR_OFF = 4.0  # times a vehicle's own spread
LEAST_SPREAD = 0.004  # of the box: under it, boxes are whole pixels
MIN_VIEWS = 8
MIN_VEHICLES = 3
START = np.log([0.02, 0.015, 0.3, 0.015, 0.02])  # kept, lasting, its time, white, drift
TIME_BELIEF = (np.log(0.3), 1.0)  # of the time's logarithm: without a lasting part nothing tells it


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Errors of one edge around one vehicle.

    Attributes:
        times_s: Shape (n,). [s]
        errors: To the right and down are positive, shape (n,). [share of the box]
    """

    times_s: Floats
    errors: Floats


@dataclass(frozen=True, slots=True)
class Parts:
    """One standard deviation of each part of an edge's error, as shares of the box.

    Attributes:
        vehicles: Series that tell.
        mean: Of all vehicles.
        kept: How the constant part differs between vehicles.
        drift: From the first view to the last.
        lasting: What lasts for a while.
        time_s: For how long: correlation falls to 1/e. [s]
        white: From view to view.
        log_likelihood: Of the boxes.
    """

    vehicles: int
    mean: float
    kept: float
    drift: float
    lasting: float
    time_s: float
    white: float
    log_likelihood: float


def taken_apart(series: list[Series], *, drifts: bool) -> Parts:
    """The most probable parts of errors.

    Args:
        series: One for each vehicle, each at least two views long.
        drifts: Whether errors may drift.
    """

    def cost(values: Floats) -> float:
        mean, (kept, lasting, time_s, white, drift) = values[0], np.exp(values[1:])
        total = 0.5 * float((values[3] - TIME_BELIEF[0]) / TIME_BELIEF[1]) ** 2
        for one in series:
            apart_s = np.abs(one.times_s[:, None] - one.times_s)
            covariance = kept**2 + lasting**2 * np.exp(-apart_s / time_s) + white**2 * np.eye(len(apart_s))
            if drifts:
                progress = (one.times_s - one.times_s[0]) / np.ptp(one.times_s)
                covariance += drift**2 * np.outer(progress, progress)
            root = np.linalg.cholesky(covariance)
            total += 0.5 * float((np.linalg.solve(root, one.errors - mean) ** 2).sum())
            total += float(np.log(np.diag(root)).sum())
        return total

    start = np.concatenate([[float(np.mean([one.errors.mean() for one in series]))], START])
    bounds = [(-0.5, 0.5), *[(np.log(1e-4), np.log(1.0))] * 2, (np.log(0.02), np.log(10.0))]
    bounds += [(np.log(1e-3), np.log(1.0)), (np.log(1e-4), np.log(1.0))]
    found = minimize(cost, start, method="L-BFGS-B", bounds=bounds)
    mean, (kept, lasting, time_s, white, drift) = float(found.x[0]), np.exp(found.x[1:]).tolist()
    return Parts(len(series), mean, kept, drift if drifts else 0.0, lasting, time_s, white, -float(found.fun))


def series_of(folder: Path, model: Model, keep: Path | None, *, shown: bool) -> dict[str, dict[str, list[Series]]]:
    """Errors around every vehicle of a folder's scenes, by kind and edge."""
    scorers = Scorers.beside(folder)
    told: dict[str, dict[str, list[Series]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(folder.glob("*.truth.json")):
        truth = json.loads(file.read_text(encoding="utf-8"))
        calibration = scene_survey(scorers, file)
        for showing in (None, *SHOWINGS) if shown else (None,):
            recording = Recording.of(clip_of(file), model, calibration, keep, showing=showing)
            views = defaultdict(list)
            for view in views_of(truth, recording).views:
                if view.is_whole and view.seen is not None:
                    views[view.vehicle, KINDS[view.cls]].append((view.time_s, view.box, view.seen))
            for (_, kind), of in views.items():
                if len(of) < MIN_VIEWS:
                    continue
                times_s, boxes, seen = (np.array(column) for column in zip(*of))
                errors = (seen - boxes) / np.tile(boxes[:, 2:] - boxes[:, :2], 2)
                if kind != "two-wheeler":
                    heights = seen[:, 3] - seen[:, 1]
                    errors[:, 3] -= CAR_EDGES.near_bottom * np.clip(np.log(heights / NEAR_PX), 0.0, MAX_NEARNESS)
                for name, of_edge in zip(EDGES, errors.T):
                    apart = np.abs(of_edge - np.median(of_edge))
                    near = apart <= FAR_OFF * (MAD_TO_SIGMA * np.median(apart) + LEAST_SPREAD)
                    told[kind][name].append(Series(times_s[near], of_edge[near]))
    return told


def main() -> None:
    """Read the command line, measure, print one table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds rendered scenes (*.truth.json beside *.mp4)")
    parser.add_argument("--model", help="a model of the catalogue or a file; default: the catalogue's default")
    parser.add_argument("--shown", action="store_true", help="with the pictures shown in other ways, too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep detections here, and take those that are there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file")
    arguments = parser.parse_args()
    if not any(arguments.folder.glob("*.truth.json")):
        parser.error(f"{arguments.folder}: expected rendered scenes (*.truth.json), found none")
    told = series_of(arguments.folder, chosen_model(arguments.model), arguments.keep, shown=arguments.shown)
    table = Table("", "vehicles", "mean", "kept", "drift", "lasting", "for", "white", "log L", title="% of the box")
    figures: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(dict)
    for kind, edges in told.items():
        table.add_section()
        for name, series in edges.items():
            if len(series) < MIN_VEHICLES:
                continue
            still, drifting = (taken_apart(series, drifts=drifts) for drifts in (False, True))
            figures[kind][name] = [asdict(still), asdict(drifting)]
            for parts in (still, drifting):
                shares = (parts.mean, parts.kept, parts.drift, parts.lasting)
                gain = f"{parts.log_likelihood - still.log_likelihood:+.1f}" if parts is drifting else ""
                table.add_row(
                    *(f"{kind}, {name}" if parts is still else "", str(parts.vehicles)),
                    *(f"{100 * share:.2f}" for share in shares),
                    *(f"{parts.time_s:.2f} s", f"{100 * parts.white:.2f}", gain),
                )
    Console(width=100).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
