"""``snellius models bench``: what each model costs and gives on this device, and which one to use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge.errors import BadInput, SnelliusError
from models import Catalogue, CatalogueError, Model, load_catalogue

if TYPE_CHECKING:
    from edge.cli.benching import Figures, Task

MOST_BUSY = 0.8  # of the time of the clip: the rest of the device wants some too
SAME_RECALL = 0.02
SAME_KMH = 0.1  # median errors that differ by less are the same
SAME_BOX_IOU = 0.5
LEAST_FOUND = 0.9  # of the reference's boxes
NUMBERS = ("direction", "zone_enter_s", "zone_exit_s", "zone_complete")


@dataclass(frozen=True, slots=True)
class Agreement:
    """The boxes of a model beside those of the reference.

    Attributes:
        boxes: Of the reference, in all frames compared.
        found: Share of those that a box of the model overlaps by half or more.
        edge_px: Median difference of their edges; None when none was found. [px]
    """

    boxes: int
    found: float
    edge_px: float | None


@dataclass(frozen=True, slots=True)
class Advice:
    """Which model to use, and why.

    Attributes:
        model: Its name.
        reason: One sentence.
    """

    model: str
    reason: str


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Models of the catalogue.", show_default="all that run here"),
    ] = None,
    clip: Annotated[
        Path | None, typer.Option(help="A clip of the site.", show_default="the bundled street, with its truth")
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="Calibration of its camera.", show_default=False)] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="What was really driven on it, written as edge/demo/truth.json is.", show_default=False),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Of the clip, at most.", show_default="all")] = None,
    write: Annotated[
        Path | None,
        typer.Option(help="Set model.name in this settings file to the recommended one.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Measure a clip with each model that runs here: time, memory, energy, recall, error; and recommend one.

    Each has a process of its own, one after the other. Let the device do nothing else meanwhile.

    Example: snellius models bench --clip street.mp4 --calibration cal.json --write snellius.toml
    """
    from edge.cli.benching import DEMO_CLIP, DEMO_TRUTH, Task

    if (clip is None) != (calibration is None):
        raise BadInput("models bench: --clip and --calibration go together (neither: the bundled street)")
    if truth is not None and clip is None:
        raise BadInput("models bench: --truth goes with --clip (the bundled street has its own)")
    if write is not None:
        from edge.settings import read_toml

        read_toml(write)
    _refuse_unfit(clip, calibration, truth)
    catalogue = load_catalogue()
    candidates, left_out = runnable(catalogue, names or [])
    if not candidates:
        raise BadInput(f"models bench: none can be run here: {'; '.join(f'{k}: {why}' for k, why in left_out.items())}")
    truth = DEMO_TRUTH if clip is None else truth
    task = Task(
        model="",
        clip=str(clip or DEMO_CLIP),
        calibration=None if calibration is None else str(calibration),
        truth=None if truth is None else str(truth),
        seconds=seconds,
    )
    figures: dict[str, Figures] = {}
    for name, found in _measured(candidates, task):
        if isinstance(found, str):
            left_out[name] = found
        else:
            figures[name] = found
    if not figures:
        raise SnelliusError(f"models bench: {'; '.join(f'{name}: {why}' for name, why in left_out.items())}")
    reference = reference_of(catalogue, list(figures))
    agreements = {name: agreement(figures[reference].samples, each.samples) for name, each in figures.items()}
    advice = recommended(figures, agreements, reference)
    if as_json:
        typer.echo(json.dumps(told(task, figures, agreements, reference, advice, left_out), indent=2))
    else:
        Console().print(table(figures, agreements))
        typer.echo("\n".join(_remarks(figures, reference, left_out, is_demo=clip is None)))
        typer.echo(f"\nuse {advice.model}: {advice.reason}")
    if write is not None:
        from edge.cli.choosing import write_model

        write_model(write, advice.model)
        typer.echo(f'{write}: model.name = "{advice.model}"', err=as_json)


def _refuse_unfit(clip: Path | None, calibration: Path | None, truth: Path | None) -> None:
    """Find bad input before minutes of measuring."""
    if clip is not None and calibration is not None:
        from calibration import Calibration
        from edge.assembly import refuse_other_size
        from edge.sources.video import VideoFile

        site = Calibration.load(calibration)
        with VideoFile(clip) as source:
            refuse_other_size(source, str(clip), site, str(calibration))
    if truth is not None:
        try:
            vehicles = json.loads(truth.read_text(encoding="utf-8"))["vehicles"]
            is_right = all({*NUMBERS, "mean_speed_zone_kmh"} <= set(vehicle) for vehicle in vehicles)
        except OSError as refused:
            raise BadInput(f"{truth}: {refused.strerror or refused}") from None
        except (ValueError, KeyError, TypeError):
            is_right = False
        if not is_right:
            raise BadInput(f"{truth}: expected JSON with vehicles, each with {', '.join(NUMBERS)}, mean_speed_zone_kmh")


def runnable(catalogue: Catalogue, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Models whose file and runtime are here, and why the others are not tried.

    Raises:
        BadInput: A name is not in the catalogue.
    """
    known = {model.name: model for model in catalogue.models}
    for name in names:
        if name not in known:
            raise BadInput(f"model '{name}': not in the catalogue; known: {', '.join(known)}")
    problems = {name: _problem(known[name]) for name in dict.fromkeys(names or known)}
    can = [name for name, problem in problems.items() if problem is None]
    return can, {name: problem for name, problem in problems.items() if problem is not None}


def _problem(model: Model) -> str | None:
    if not model.is_fetched and model.url is not None:
        return f"not here (snellius models fetch {model.name})"
    if find_spec(model.runtime.value) is None:
        return f"needs {model.runtime.value}, which is not installed"
    try:
        model.verified_file()
    except CatalogueError as wrong:
        return str(wrong)
    return None


def _measured(names: Sequence[str], task: Task) -> Iterator[tuple[str, Figures | str]]:
    """Each model with its figures, or with what went wrong."""
    console = Console(stderr=True)
    for i, name in enumerate(names, start=1):
        with console.status(f"measuring with {name}, {i} of {len(names)}"):
            yield name, in_its_own_process(replace(task, model=name))


def in_its_own_process(task: Task) -> Figures | str:
    """The figures of one model, or what went wrong."""
    from edge.cli.benching import Against, Figures

    done = subprocess.run(
        [sys.executable, "-c", "from edge.cli.benching import answer; answer()"],
        input=json.dumps(asdict(task)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode < 0:
        return f"its process was ended by signal {-done.returncode}; 9 means that memory ran out"
    if done.returncode:
        return f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    said: dict[str, Any] = json.loads(done.stdout)
    if "problem" in said:
        return str(said["problem"])
    against = said.pop("against")
    return Figures(**said, against=None if against is None else Against(**against))


def reference_of(catalogue: Catalogue, names: Sequence[str]) -> str:
    """Which model the others are compared with: the default in floating point where it is there, else the default."""
    unquantised = catalogue.default.removesuffix("-int8")
    return next((name for name in (unquantised, catalogue.default) if name in names), names[0])


def agreement(reference: Sequence[Sequence[Sequence[float]]], model: Sequence[Sequence[Sequence[float]]]) -> Agreement:
    """Look for each box of the reference in the same frame of a model."""
    import numpy as np

    edges_px: list[float] = []
    boxes = 0
    for wanted, there in zip(reference, model):
        boxes += len(wanted)
        theirs = np.array(there, dtype=np.float64).reshape(-1, 4)
        for box in np.array(wanted, dtype=np.float64).reshape(-1, 4):
            sides = np.minimum(theirs[:, 2:], box[2:]) - np.maximum(theirs[:, :2], box[:2])
            shared = sides.clip(min=0).prod(axis=1)
            union = (theirs[:, 2:] - theirs[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared
            iou = shared / union
            if len(iou) and iou.max() >= SAME_BOX_IOU:
                edges_px.append(float(np.abs(theirs[iou.argmax()] - box).mean()))
    return Agreement(
        boxes=boxes,
        found=len(edges_px) / boxes if boxes else 1.0,
        edge_px=float(np.median(edges_px)) if edges_px else None,
    )


def recommended(figures: Mapping[str, Figures], agreements: Mapping[str, Agreement], reference: str) -> Advice:
    """The quickest of the models that measure as well as the best one, among those that keep up with the clip."""
    swift = {name: each for name, each in figures.items() if each.busy <= MOST_BUSY}
    if not swift:
        name = min(figures, key=lambda name: figures[name].busy)
        return Advice(
            name,
            f"it keeps up best, but needs {figures[name].busy:.2f} s for a second of the clip: too long, frames may be"
            " dropped.",
        )
    judged = {name: each.against for name, each in swift.items() if each.against is not None}
    if judged:
        most = max(each.measured / each.vehicles for each in judged.values())
        good = {name: each for name, each in judged.items() if each.measured / each.vehicles >= most - SAME_RECALL}
        fewest = min(each.false for each in good.values())
        good = {name: each for name, each in good.items() if each.false == fewest}
        least_kmh = min(_or_inf(each.median_kmh) for each in good.values())
        equals = [name for name, each in good.items() if _or_inf(each.median_kmh) <= least_kmh + SAME_KMH]
        name = min(equals, key=lambda name: swift[name].ms_median)
        won = judged[name]
        error = "" if won.median_kmh is None else f" with a median error of {won.median_kmh:.2f} km/h"
        says = f"it measures {won.measured} of {won.vehicles} vehicles{error}, {won.false} false"
    else:
        if reference in swift:
            wanted = swift[reference].measured
            alike = (name for name, each in swift.items() if each.measured == wanted)
            equals = [name for name in alike if name == reference or agreements[name].found >= LEAST_FOUND]
        else:
            equals = [max(swift, key=lambda name: agreements[name].found)]
        name = min(equals, key=lambda name: swift[name].ms_median)
        boxes = f"it finds {agreements[name].found:.0%} of the boxes of {reference}"
        says = f"{boxes} and measures {swift[name].measured} vehicles"
    others = len(swift) - 1
    if others == 0 and len(figures) > 1:
        rank = "and is the only one that leaves time for the rest of the device"
    elif others == 0:
        rank = "and no other model was tried"
    elif len(equals) > 1:
        rank = f"and is the quickest of {len(equals)} that are as good"
    else:
        rank = "and no other is as good"
    return Advice(name, f"{says}, {rank} ({swift[name].ms_median:.0f} ms a look).")


def _or_inf(value: float | None) -> float:
    return float("inf") if value is None else value


def table(figures: Mapping[str, Figures], agreements: Mapping[str, Agreement]) -> Table:
    """The figures for people; a dash where nobody can say."""
    shown = Table("", "ms", "p95", "cpu", "MiB", "busy", "J", "count", "measured", "false", "km/h", "agrees", box=None)
    shown.padding = (0, 1, 0, 0)
    for name, each in figures.items():
        against = each.against
        shown.add_row(
            name,
            f"{each.ms_median:.1f}",
            f"{each.ms_p95:.1f}",
            f"{each.cpu_ms:.1f}",
            f"{each.peak_mib:.0f}",
            f"{each.busy:.0%}",
            "-" if each.joules is None else f"{each.joules:.2f}",
            f"{each.passages}",
            f"{each.measured}" if against is None else f"{against.measured}/{against.vehicles}",
            "-" if against is None else f"{against.false}",
            "-" if against is None or against.median_kmh is None else f"{against.median_kmh:.2f}",
            f"{agreements[name].found:.0%}",
        )
    return shown


def _remarks(
    figures: Mapping[str, Figures], reference: str, left_out: Mapping[str, str], *, is_demo: bool
) -> Iterator[str]:
    frames = len(figures[reference].samples)
    yield "ms, p95, J: of a look; cpu: its processor time, ms; busy: time of measuring for the time of the clip"
    yield "count: vehicles; km/h: median error"
    yield f"agrees: finds so many of the boxes of {reference}, in {frames} frames"
    if all(each.against is None for each in figures.values()):
        yield "nobody knows what was really driven: a model that finds more than the reference may be better, or wrong"
    if is_demo:
        yield "on the bundled street; a site may differ: --clip and --calibration"
    for name, why in left_out.items():
        yield f"{name}: {why}"


def told(
    task: Task,
    figures: Mapping[str, Figures],
    agreements: Mapping[str, Agreement],
    reference: str,
    advice: Advice,
    left_out: Mapping[str, str],
) -> dict[str, object]:
    """What ``--json`` prints."""
    rows: list[dict[str, object]] = []
    for name, each in figures.items():
        row = {key: value for key, value in asdict(each).items() if key != "samples"}
        against = each.against
        row["recall"] = None if against is None else against.measured / against.vehicles
        rows.append({"name": name, **row, "agreement": asdict(agreements[name])})
    return {
        "clip": task.clip,
        "seconds": task.seconds,
        "reference": reference,
        "models": rows,
        "not_run": dict(left_out),
        "recommended": advice.model,
        "reason": advice.reason,
    }
