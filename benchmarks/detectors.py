"""What matters of a detector here, for every model that runs here, on the exact boxes of rendered scenes.

    python -m benchmarks.detectors SCENES [--clips CLIPS] [--model NAME]… [--every N] [--keep DIR] [--json OUT]

Models are those of the catalogue whose file and runtime are here; one of one's own is entered with ``snellius models
add`` first. Three tables: what a model costs and what the product makes of its boxes, measured as the device would
(speeds on the scenes, counts on the clips); whether it finds the vehicles in every frame (or one in N), and how true
the edges of their boxes are; what it calls them. ``--every 0`` leaves the last two out.

Boxes are those that the tracker gets. A true box (its visible part, where something hides the rest) and a seen one are
the same when they overlap by :data:`SAME_BOX_IOU` or more, one to one, parked vehicles included. Edges are compared
where a vehicle is whole and in full view: the offset is the median, outwards or downwards positive; the noise is the
spread (1.4826 times the median absolute deviation) about each vehicle's own median.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from benchmarks import clips
from benchmarks.evaluation import Recording, Scorers, cell, scene_survey
from calibration import Calibration
from edge.assembly import APPROACH_M
from edge.cli.benching import Figures, Task
from edge.cli.models_bench import in_its_own_process, runnable
from edge.domain import Detections, Floats, RoadUser
from edge.speed.estimator import MIN_BASELINE_M, MIN_SIGHTINGS
from edge.track.tracker import START_SCORE
from models import Model, load_catalogue

SAME_BOX_IOU = 0.4  # a rider overlaps a motorcycle with its rider by less than a car its true box
HALF_SEEN = 0.5  # share of a vehicle in view; less, and nobody has to find it
WHOLE = 0.98
KINDS = {
    "car": "car",
    "van": "car",
    "truck": "large",
    "bus": "large",
    "motorcycle": "two-wheeler",
    "bicycle": "two-wheeler",
}
NEAR = 0.2  # of the picture's height: a box that high is near
MAD_TO_SIGMA = 1.4826
LABELS = tuple(user.value for user in RoadUser)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A vehicle in one frame, and the box that shows it.

    Attributes:
        vehicle: Which one.
        cls: What it is.
        allowed: Names that are right for it.
        time_s: Since the first frame. [s]
        along_m: Its centre along the road, from the middle of the zone. [m]
        box: Its true box. [px]
        is_whole: Whether nothing hides or cuts it.
        is_near: Whether it is high in the picture.
        seen: The box that shows it; None when none does. [px]
        label: What that is called.
        score: How sure the detector is.
    """

    vehicle: int
    cls: str
    allowed: tuple[str, ...]
    time_s: float
    along_m: float
    box: Floats
    is_whole: bool
    is_near: bool
    seen: Floats | None
    label: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Everything that a detector saw, or did not, of a scene.

    Attributes:
        scene: Its name.
        views: Of the moving vehicles, on the stretch where they are followed.
        passages: Vehicles that cross the whole zone, with the instants of entering and leaving it. [s]
        strays: Boxes on nothing that drives or is parked.
        frames: Of the scene.
    """

    scene: str
    views: list[View]
    passages: dict[int, tuple[float, float]]
    strays: int
    frames: int


def views_of(truth: dict[str, Any], recording: Recording) -> Views:
    """Lay the boxes of a recording over the true ones, frame by frame."""
    origin_s: float = truth["pts_s"][0]
    middle_m, axis = np.mean(truth["zone"]["polygon_m"], axis=0), np.array(truth["road_axis"])
    reach_m = truth["zone"]["length_m"] / 2 + APPROACH_M
    height_px = truth["image_size"][1]
    parked = [np.array(each["box"], dtype=np.float64) for each in truth["parked_vehicles"]]
    moving: dict[int, list[tuple[dict[str, Any], int]]] = defaultdict(list)
    for vehicle in truth["vehicles"]:
        for row, frame in enumerate(vehicle["frames"]["frame"]):
            moving[frame].append((vehicle, row))
    views: list[View] = []
    strays = 0
    true_s = np.array(truth["pts_s"]) - origin_s
    for time_s, frame in zip(recording.instants_s, recording.frames()):
        number = int(np.abs(true_s - time_s).argmin())
        found = recording.detect(frame)
        there = moving[number]
        shows, free = _paired([_shown(vehicle, row) for vehicle, row in there] + parked, found)
        strays += free
        for (vehicle, row), index in zip(there, shows):
            columns = {name: values[row] for name, values in vehicle["frames"].items()}
            along_m = float((np.array([columns["x_m"], columns["y_m"]]) - middle_m) @ axis)
            if columns["visible"] < HALF_SEEN or abs(along_m) > reach_m:
                continue
            box = np.array(columns["box"], dtype=np.float64)
            views.append(
                View(
                    vehicle=vehicle["id"],
                    cls=vehicle["cls"],
                    allowed=tuple(vehicle["coco_ok"]),
                    time_s=float(time_s),
                    along_m=along_m,
                    box=box,
                    is_whole=columns["visible"] >= WHOLE and not columns["truncated"],
                    is_near=bool(box[3] - box[1] >= NEAR * height_px),
                    seen=None if index is None else found.boxes_xyxy_px[index],
                    label="" if index is None else LABELS[int(found.labels[index])],
                    score=0.0 if index is None else float(found.scores[index]),
                )
            )
    return Views(
        scene=truth["name"],
        views=views,
        passages={
            vehicle["id"]: (vehicle["zone_enter_s"] - origin_s, vehicle["zone_exit_s"] - origin_s)
            for vehicle in truth["vehicles"]
            if vehicle["zone_complete"]
        },
        strays=strays,
        frames=len(recording.instants_s),
    )


def _shown(vehicle: dict[str, Any], row: int) -> Floats:
    """What a box may be expected around: the visible part; the whole where that is nothing."""
    frames = vehicle["frames"]
    return np.array(frames["visible_box"][row] or frames["box"][row], dtype=np.float64)


def _paired(true: Sequence[Floats], found: Detections) -> tuple[list[int | None], int]:
    """The box that shows each of the true ones, and how many boxes show nothing."""
    shows: list[int | None] = [None] * len(true)
    if not true or not len(found):
        return shows, len(found)
    overlaps, held = box_overlaps(np.array(true), found.boxes_xyxy_px)
    for i, j in zip(*linear_sum_assignment(-overlaps)):
        if overlaps[i, j] >= SAME_BOX_IOU:
            shows[i] = int(j)
    # A part of a vehicle, or a box around two, is on something.
    is_on_something = held.max(axis=0) > 0.5
    return shows, int((~is_on_something).sum())


def box_overlaps(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """What boxes share, of their union and of the second's own area, shape (of a, of b) each."""
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    common = np.clip(sides, 0.0, None).prod(axis=2)
    areas = [np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9) for boxes in (a, b)]
    return common / (areas[0][:, None] + areas[1] - common), common / areas[1]


def figures(scenes: Sequence[Views]) -> dict[str, Any]:
    """Passages, share of views found, edges and names, of all scenes together."""
    views = [view for scene in scenes for view in scene.views]
    return {
        "passages": sum(len(scene.passages) for scene in scenes),
        "passages_seen": sum(_is_seen(scene, vehicle) for scene in scenes for vehicle in scene.passages),
        "found": _share(view.seen is not None for view in views),
        "sure": _share(view.score >= START_SCORE for view in views),
        "found_of": {
            kind: _share(view.seen is not None for view in views if KINDS[view.cls] == kind)
            for kind in dict.fromkeys(KINDS.values())
        }
        | {"near": _share(view.seen is not None for view in views if view.is_near)},
        "strays_a_frame": sum(scene.strays for scene in scenes) / sum(scene.frames for scene in scenes),
        "edges": {edge: _edge(scenes, edge) for edge in ("bottom", "top", "sides")},
        "right_class": _share(view.label in view.allowed for view in views if view.seen is not None),
        "called": {
            cls: dict(Counter(view.label for view in views if view.cls == cls and view.seen is not None))
            for cls in KINDS
            if any(view.cls == cls for view in views)
        },
    }


def _is_seen(scene: Views, vehicle: int) -> bool:
    """Whether the boxes in the zone are as many, and as far apart, as a speed needs."""
    enters_s, leaves_s = scene.passages[vehicle]
    along_m = [
        view.along_m
        for view in scene.views
        if view.vehicle == vehicle and view.seen is not None and enters_s <= view.time_s <= leaves_s
    ]
    return len(along_m) >= MIN_SIGHTINGS and max(along_m) - min(along_m) >= MIN_BASELINE_M


def _share(holds: Iterable[bool]) -> float | None:
    told = list(holds)
    return sum(told) / len(told) if told else None


def _edge(scenes: Sequence[Views], edge: str) -> dict[str, float | None]:
    """Offset and noise of an edge, in pixels and as a share of the box's height or width."""
    errors_px: list[Floats] = []
    shares: list[Floats] = []
    for scene in scenes:
        of: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for view in scene.views:
            if view.is_whole and view.seen is not None:
                outwards = (view.seen - view.box) * (-1, -1, 1, 1)
                width, height = view.box[2:] - view.box[:2]
                columns, side = {"bottom": ((3,), height), "top": ((1,), height), "sides": ((0, 2), width)}[edge]
                of[view.vehicle] += [(float(outwards[column]), float(outwards[column] / side)) for column in columns]
        for both in map(np.array, of.values()):
            errors_px.append(both[:, 0])
            shares.append(both[:, 1])
    if not errors_px:
        return {"offset_px": None, "noise_px": None, "offset": None, "noise": None}
    return {
        "offset_px": float(np.median(np.concatenate(errors_px))),
        "noise_px": _noise(errors_px),
        "offset": float(np.median(np.concatenate(shares))),
        "noise": _noise(shares),
    }


def _noise(of_each: Sequence[Floats]) -> float:
    about_own = np.concatenate([values - np.median(values) for values in of_each])
    return float(MAD_TO_SIGMA * np.median(np.abs(about_own)))


# ------------------------------------------------------------------------------------------------------- the product


def product(model: Model, truth_file: Path, calibration: Calibration) -> Figures:
    """What a model costs and what the product makes of its boxes, in a process of its own.

    Raises:
        SystemExit: The model cannot be run.
    """
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "calibration.json"
        calibration.save(saved)
        task = Task(
            model=model.name, clip=str(clip_of(truth_file)), calibration=str(saved), truth=str(truth_file), seconds=None
        )
        found = in_its_own_process(task)
    if isinstance(found, str):
        raise SystemExit(f"{model.name}: {found}")
    return found


# ----------------------------------------------------------------------------------------------------------- tables


def print_product(told: dict[str, dict[str, Any]], scenes: Sequence[str]) -> None:
    """What a model costs and what the product makes of its boxes."""
    table = Table(
        "", "ms", "p95", "cpu", "MiB", "busy", *(scene.partition("-")[0] for scene in scenes), "clips", box=None
    )
    table.title = (
        "ms, p95: of a look, on the first scene; cpu: its processor time, ms; MiB: most memory; busy: time"
        " of measuring for the time of the scene;"
        " scenes: measured of true, false, median, worst error in km/h; clips: counted of true, false"
    )
    for name, of in told.items():
        first = next(iter(of["scenes"].values()))
        counts = [score for clip in of["clips"].values() for score in clip.values()]
        sums = {key: sum(count[key] for count in counts) for key in ("matched", "true", "false")}
        table.add_row(
            name,
            *(cell(first[key], 0) for key in ("ms_median", "ms_p95", "cpu_ms", "peak_mib")),
            f"{first['busy']:.0%}",
            *(_told_of(scene["against"]) for scene in of["scenes"].values()),
            f"{sums['matched']}/{sums['true']} {sums['false']}" if counts else "–",
        )
    Console(width=160).print(table)


def _told_of(against: dict[str, Any] | None) -> str:
    if against is None:
        return "–"
    errors = " ".join(cell(against[key]) for key in ("median_kmh", "worst_kmh"))
    return f"{against['measured']}/{against['vehicles']} {against['false']} {errors}"


def print_boxes(told: dict[str, dict[str, Any]]) -> None:
    """Whether it finds the vehicles, and how true their edges are."""
    table = Table(
        *(
            "",
            "passages",
            "found",
            "car",
            "large",
            "two-wh.",
            "near",
            "sure",
            "strays",
            "bottom",
            "noise",
            "sides",
            "noise",
        ),
        box=None,
        title="found, sure: share of views, %; strays: boxes a frame; edges: offset and noise px and % of the box",
    )
    for name, of in told.items():
        boxes = of["boxes"]
        if boxes is None:
            return
        edges = [boxes["edges"][edge] for edge in ("bottom", "sides")]
        table.add_row(
            name,
            f"{boxes['passages_seen']}/{boxes['passages']}",
            _percent(boxes["found"]),
            *(_percent(boxes["found_of"][kind]) for kind in ("car", "large", "two-wheeler", "near")),
            _percent(boxes["sure"]),
            cell(boxes["strays_a_frame"]),
            *(
                f"{cell(edge[what + '_px'], 1)} px {_percent(edge[what], 1)}"
                for edge in edges
                for what in ("offset", "noise")
            ),
        )
    Console(width=160).print(table)


def print_names(told: dict[str, dict[str, Any]]) -> None:
    """What it calls them."""
    table = Table("", "true", *LABELS, title="what a model calls the vehicles that it finds, % of views", box=None)
    for name, of in told.items():
        for cls, called in (of["boxes"] or {"called": {}})["called"].items():
            views = sum(called.values())
            table.add_row(name, cls, *(_percent(called.get(label, 0) / views) if views else "–" for label in LABELS))
    Console(width=160).print(table)


def _percent(share: float | None, digits: int = 0) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}"


def main() -> None:
    """Read the command line, look at scenes and clips with each model, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds *.truth.json beside *.mp4")
    parser.add_argument("--clips", type=Path, help="count on the footage of this folder as well (events.csv)")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="of the catalogue; repeatable (default: all that run here)",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep detections here, and take those that are there")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="look for boxes in one of N frames; 0: in none"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file")
    arguments = parser.parse_args()
    truth_files = sorted(arguments.folder.glob("*.truth.json"))
    if not truth_files:
        parser.error(f"{arguments.folder}: expected rendered scenes (*.truth.json), found none")
    scorers = Scorers.beside(arguments.folder)
    catalogue = load_catalogue()
    names, left_out = runnable(catalogue, arguments.model)
    told = {
        name: _told(catalogue.find(name), truth_files, scorers, arguments.keep, every=arguments.every) for name in names
    }
    if arguments.clips:
        counts = clips.measure(arguments.clips, scorers, [catalogue.find(name) for name in names], keep=arguments.keep)
        for name, of in (counts or {}).items():
            told[name]["clips"] = of
    print_product(told, [file.name.removesuffix(".truth.json") for file in truth_files])
    print_boxes(told)
    print_names(told)
    for name, why in left_out.items():
        Console().print(f"{name}: {why}", markup=False)
    if arguments.json:
        arguments.json.write_text(json.dumps({"models": told, "not_run": left_out}, indent=1) + "\n", encoding="utf-8")


def _told(
    model: Model, truth_files: Sequence[Path], scorers: Scorers, keep: Path | None, *, every: int
) -> dict[str, Any]:
    """One model on all scenes."""
    seen: list[Views] = []
    scenes: dict[str, Any] = {}
    for file in truth_files:
        truth = json.loads(file.read_text(encoding="utf-8"))
        calibration = scene_survey(scorers, file)
        scenes[truth["name"]] = asdict(replace(product(model, file, calibration), samples=[]))
        if every:
            seen.append(views_of(truth, Recording.of(clip_of(file), model, calibration, keep, every=every)))
    return {"scenes": scenes, "clips": {}, "boxes": figures(seen) if seen else None}


def clip_of(truth_file: Path) -> Path:
    """The clip that a truth file is about."""
    return truth_file.with_name(truth_file.name.replace(".truth.json", ".mp4"))


if __name__ == "__main__":
    main()
