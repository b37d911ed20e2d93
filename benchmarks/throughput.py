"""What measuring costs: processor seconds for each second of video, and memory.

    python -m benchmarks.throughput [CLIP --calibration CAL.json] [--json OUT]

Without a clip the bundled street is used. Three ways, each in a process of its own so that memory is its own: decode
only (the floor), the detector on every frame, and the whole device as ``snellius replay`` runs it. Compare ways within
one run; the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.evaluation import ROOT

BUNDLED = ROOT / "edge" / "demo"
WAYS = ("decode only", "detector on every frame", "snellius replay")
MIB = 1 << 10  # ru_maxrss counts KiB


def main() -> None:
    """Read the command line, measure each way, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", help="a video file; default: the bundled street")
    parser.add_argument("--calibration", type=Path, help="calibration of that clip")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    if (arguments.clip is None) != (arguments.calibration is None):
        parser.error("a clip needs its --calibration")
    figures = {way: _apart(way, arguments.clip, arguments.calibration) for way in WAYS}
    table = Table("", "CPU s per video s", "times real time", "peak MiB", title="cost of measuring")
    for way, figure in figures.items():
        table.add_row(
            way, f"{figure['cpu_per_video_s']:.3f}", f"{figure['real_time_factor']:.1f}", f"{figure['peak_mib']:.0f}"
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _apart(way: str, clip: Path | None, calibration: Path | None) -> dict[str, Any]:
    """The figures of one way, measured in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure, (way, clip, calibration))


def measure(way: str, clip: Path | None, calibration_file: Path | None) -> dict[str, Any]:
    """Run one way over the clip; imports and start-up are not in the times."""
    from calibration import Calibration, read_site, read_survey, solve
    from edge.assembly import known_model, measuring_pipeline
    from edge.detect import open_detector
    from edge.sources.video import VideoFile

    with VideoFile(clip or BUNDLED / "street.mp4") as source:
        if calibration_file is None:
            solution = solve(read_survey(BUNDLED / "survey.csv"), read_site(BUNDLED / "site.toml"), source.size_px)
            calibration = solution.certified(datetime(2026, 1, 1, tzinfo=timezone.utc))
        else:
            calibration = Calibration.load(calibration_file)
        detector = open_detector(known_model(None))
        pipeline = measuring_pipeline(calibration, detector)
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        passages = 0
        for frame in source.frames():
            if way == "detector on every frame":
                detector.detect(frame)
            elif way == "snellius replay":
                passages += len(pipeline.step(frame))
        passages += len(pipeline.finish())
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        video_s = source.timing.span_s
    return {
        "video_s": video_s,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "cpu_per_video_s": cpu_s / video_s,
        "real_time_factor": video_s / wall_s,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB,
        "passages": passages,
    }


if __name__ == "__main__":
    main()
