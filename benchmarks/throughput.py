"""What measuring costs: processor seconds for each second of video, beside what others cost on the same video.

    python -m benchmarks.throughput [FOLDER] [--rounds N] [--seconds S] [--steady-seconds S] [--cores N]
        [--ultralytics-python PATH [--ultralytics-weights FILE] [--ultralytics-graphs FOLDER]] [--json OUT]

FOLDER holds rendered scenes (``*.mp4`` with ``*.truth.json``); default: ``scenes`` beside the project's folder, else
the bundled street. Three streets are taken from it: the busiest scene, the quietest one, and an empty one: the longest
time in which nobody is in the picture of the quietest. Each street is measured

- decode: decoding only, the floor;
- snellius: everything that ``snellius replay`` does with a frame, up to windows that may be told;
- without gate: the same, the detector rests only between the samples that a speed needs;
- every frame: the same, with the detector on every frame;
- network: decoding and our detector on every frame, nothing else;
- ultralytics: ``SpeedEstimator``, which runs ``YOLO.track`` on every frame, at 640 px with onnxruntime and with NCNN.
  Only when the Python of an environment with ultralytics is given. Without weights the network is drawn at random:
  its answers are nonsense, its time is not.

Every measurement is a process of its own; rounds run through all ways one after the other, so that whatever else the
computer does meets them alike. Told are medians of the rounds, and the ratios within each round. What the looks would
cost a Raspberry Pi 5 and a Jetson is derived at the end (:mod:`benchmarks.devices`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import devices
from benchmarks.evaluation import ROOT

BUNDLED = ROOT / "edge" / "demo"
OURS: dict[str, dict[str, Any]] = {
    "snellius": {"has_gate": True, "has_cadence": True},
    "without gate": {"has_gate": False, "has_cadence": True},
    "every frame": {"has_gate": False, "has_cadence": False},
}
STEADY = ("every frame", "network")
MIB = 1 << 10  # ru_maxrss counts KiB
LEAST_EMPTY_S = 4.0
PEER = Path(__file__).with_name("ultralytics_speed.py")


@dataclass(frozen=True, slots=True)
class Street:
    """A stretch of a video.

    Attributes:
        name: What it is an example of.
        clip: The video.
        survey: Of its camera.
        site: Its zone.
        from_s: Where the stretch begins. [s]
        to_s: Where it ends. [s]
    """

    name: str
    clip: Path
    survey: Path
    site: Path
    from_s: float
    to_s: float


def main() -> None:
    """Read the command line, measure each way, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="rendered scenes; default: see above")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of each street, at most")
    parser.add_argument(
        "--steady-seconds", type=float, help="of each street for ways that work alike on every frame; default: all"
    )
    parser.add_argument("--cores", type=int, help="of the processor, at most; with 1 no thread waits in a busy loop")
    parser.add_argument("--ultralytics-python", type=Path, help="the Python of an environment with ultralytics")
    parser.add_argument("--ultralytics-weights", type=Path, help="a .pt file; default: a random YOLO11n")
    parser.add_argument("--ultralytics-graphs", type=Path, help="folder in which its exported graphs are kept")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    if arguments.cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])  # every process begun here keeps it
    folder = arguments.folder or _scenes_beside()
    if folder is not None and not any(folder.glob("*.truth.json")):
        parser.error(f"{folder}: expected rendered scenes (*.mp4 with *.truth.json)")
    with tempfile.TemporaryDirectory() as scratch:
        streets = list(_streets(folder, Path(scratch), arguments.seconds))
        ways = ["decode", *OURS, "network"]
        graphs: dict[str, Path] = {}
        if arguments.ultralytics_python is not None:
            folder = arguments.ultralytics_graphs or Path(scratch) / "graphs"
            graphs = exported(arguments.ultralytics_python, arguments.ultralytics_weights, folder)
            ways += [f"ultralytics {kind}" for kind in graphs]
        figures = {street.name: _rounds(street, ways, arguments, graphs) for street in streets}
    for name, of_street in figures.items():
        _print_street(name, of_street)
    devices.print_table(devices.derived(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- streets


def _scenes_beside() -> Path | None:
    folder = Path(os.environ.get("SNELLIUS_SHARED", ROOT.parent / "shared")) / "scenes"
    return folder if folder.is_dir() else None


def _streets(folder: Path | None, scratch: Path, seconds: float) -> Iterator[Street]:
    """Busy, quiet and empty."""
    if folder is None:
        scenes = [(BUNDLED / "street.mp4", json.loads((BUNDLED / "truth.json").read_text(encoding="utf-8")))]
    else:
        scenes = [
            (file.with_name(file.name.replace(".truth.json", ".mp4")), json.loads(file.read_text(encoding="utf-8")))
            for file in sorted(folder.glob("*.truth.json"))
        ]
    by_traffic = sorted(scenes, key=lambda scene: len(scene[1]["vehicles"]) / scene[1]["pts_s"][-1])
    for name, (clip, truth) in (("busy", by_traffic[-1]), ("quiet", by_traffic[0]), ("empty", by_traffic[0])):
        from_s, to_s = _longest_gap(truth) if name == "empty" else (0.0, truth["pts_s"][-1])
        survey, site = (BUNDLED / "survey.csv", BUNDLED / "site.toml") if folder is None else _site(clip, scratch)
        if to_s - from_s >= LEAST_EMPTY_S:
            yield Street(name, clip, survey, site, from_s, min(to_s, from_s + seconds))


def _longest_gap(truth: dict[str, Any]) -> tuple[float, float]:
    """The longest time in which nobody who moves is in the picture. [s]"""
    instants = truth["pts_s"]
    taken = sorted((vehicle["first_frame"], vehicle["last_frame"]) for vehicle in truth["vehicles"])
    best, free_from = (0.0, 0.0), 0
    for first, last in [*taken, (len(instants) - 1, len(instants) - 1)]:
        if first > free_from and instants[first] - instants[free_from] > best[1] - best[0]:
            best = instants[free_from], instants[first]
        free_from = max(free_from, min(last + 1, len(instants) - 1))
    return best


def _site(clip: Path, scratch: Path) -> tuple[Path, Path]:
    from benchmarks.evaluation import Scorers

    out = scratch / clip.stem
    if not out.exists():
        Scorers.beside(clip.parent).run("scene_to_site", clip.with_name(f"{clip.stem}.truth.json"), out)
    return out / "survey.csv", out / "site.toml"


# ------------------------------------------------------------------------------------------------------------- ways


def _rounds(
    street: Street, ways: list[str], arguments: argparse.Namespace, graphs: dict[str, Path]
) -> dict[str, list[dict[str, float]]]:
    figures: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    steady = street
    if arguments.steady_seconds is not None:
        steady = replace(street, to_s=min(street.to_s, street.from_s + arguments.steady_seconds))
    console = Console(stderr=True)
    for number in range(1, arguments.rounds + 1):
        for way in ways:
            console.print(f"{street.name} street, round {number} of {arguments.rounds}: {way}")
            kind = way.removeprefix("ultralytics ")
            if kind in graphs:
                figure = ultralytics_figures(
                    arguments.ultralytics_python, graphs[kind], steady.clip, steady.from_s, steady.to_s
                )
            else:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    figure = pool.apply(measured, (way, steady if way in STEADY else street))
            figures[way].append(figure)
    return figures


def measured(way: str, street: Street) -> dict[str, float]:
    """Measure a street in one way; imports and start-up are not in the times."""
    from calibration import read_site, read_survey, solve
    from edge.assembly import counting, known_model, measuring_pipeline, road_detector, road_glance
    from edge.cli.measuring import rules_for
    from edge.clock import ClockAnchor
    from edge.domain import Frame
    from edge.service import close_clip, measure
    from edge.sources.ahead import decoded_ahead
    from edge.sources.video import VideoFile

    with VideoFile(street.clip) as source:
        calibration = solve(read_survey(street.survey), read_site(street.site), source.size_px).certified(
            datetime(2026, 1, 1, tzinfo=timezone.utc)
        )
        model = known_model(None)
        detector = road_detector(model, calibration)
        began: list[float] = []
        last_s = 0.0

        def stretch() -> Iterator[Frame]:
            nonlocal last_s
            for frame in source.frames():
                last_s = frame.captured_ns / 1e9
                if last_s > street.to_s:
                    return
                if last_s >= street.from_s:
                    if not began:
                        began.extend((time.perf_counter(), time.process_time(), last_s))
                    yield frame

        inferences = passages = 0
        if way == "decode":
            for _ in stretch():
                pass
        elif way == "network":
            for frame in stretch():
                detector.detect(frame)
                inferences += 1
        else:
            glance = road_glance(model, calibration) if way == "snellius" else None
            pipeline = measuring_pipeline(calibration, detector, glance=glance, **OURS[way])
            rules = rules_for(limit_kmh=calibration.site.limit_kmh, lab=True, k=None, slot_s=None)
            windows, anonymity = counting(
                calibration=calibration, model=model, rules=rules, anchor=ClockAnchor.of_clip(None)
            )
            seen: list[int] = []
            with closing(decoded_ahead(stretch())) as frames:
                for _ in measure(
                    frames,
                    pipeline=pipeline,
                    windows=windows,
                    anonymity=anonymity,
                    watch=lambda frame, gone: seen.append(len(gone)),
                ):
                    pass
            gone, _ = close_clip(pipeline=pipeline, windows=windows, anonymity=anonymity)
            inferences, passages = pipeline.inferences, sum(seen) + len(gone)
        wall_s, cpu_s = time.perf_counter() - began[0], time.process_time() - began[1]
    return _figure(
        video_s=min(last_s, street.to_s) - began[2],
        wall_s=wall_s,
        cpu_s=cpu_s,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB,
        inferences=inferences,
        passages=passages,
    )


def _figure(*, video_s: float, wall_s: float, cpu_s: float, **more: float) -> dict[str, float]:
    return {
        "video_s": video_s,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "cpu_per_video_s": cpu_s / video_s,
        "real_time_factor": video_s / wall_s,
        **more,
    }


def exported(python: Path, weights: Path | None, folder: Path) -> dict[str, Path]:
    """The network of the others in each format, exported by themselves unless the folder holds them already."""
    files = {"onnx": folder / "yolo11n.onnx", "ncnn": folder / "yolo11n_ncnn_model"}
    if not all(file.exists() for file in files.values()):
        _asked(python, "export", str(weights or ""), str(folder), *files)
    return files


def ultralytics_figures(python: Path, graph: Path, clip: Path, from_s: float, to_s: float) -> dict[str, float]:
    """What their SpeedEstimator costs on a stretch of a clip."""
    return _figure(**_asked(python, "measure", str(graph), str(clip), str(from_s), str(to_s)))


def _asked(python: Path, *arguments: str) -> Any:
    """What ``ultralytics_speed.py`` answers in the other environment: the last line that it prints."""
    done = subprocess.run([str(python), str(PEER), *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{PEER.name} {arguments[0]} failed in {python}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


# ------------------------------------------------------------------------------------------------------------ table


def _print_street(name: str, figures: dict[str, list[dict[str, float]]]) -> None:
    """Medians over the rounds; ratios are medians of the ratios within each round."""
    table = Table(
        "",
        "CPU s per video s",
        "× decode",
        "× snellius",
        "× real time",
        "peak MiB",
        "inferences/s",
        "passages",
        title=f"{name} street, {figures['decode'][0]['video_s']:.0f} s",
    )
    for way, rounds in figures.items():
        table.add_row(
            way,
            f"{_median(rounds, 'cpu_per_video_s'):.3f}",
            f"{_ratio(rounds, figures['decode']):.2f}",
            f"{_ratio(rounds, figures['snellius']):.2f}",
            f"{_median(rounds, 'real_time_factor'):.1f}",
            f"{_median(rounds, 'peak_mib'):.0f}",
            f"{_median(rounds, 'inferences') / rounds[0]['video_s']:.1f}",
            f"{_median(rounds, 'passages'):.0f}" if way in OURS else "",
        )
    Console().print(table)


def _median(rounds: list[dict[str, float]], what: str) -> float:
    return statistics.median(figure[what] for figure in rounds)


def _ratio(rounds: list[dict[str, float]], others: list[dict[str, float]]) -> float:
    return statistics.median(one["cpu_per_video_s"] / other["cpu_per_video_s"] for one, other in zip(rounds, others))


if __name__ == "__main__":
    main()
