"""One model on one clip, in a process of its own: what ``models bench`` starts for each.

The clip is measured as the device would, looks are timed where the pipeline asks for them, and once a second of the
clip the model is asked besides, so that its boxes can be compared with those of another one. Pictures and boxes stay
in memory; figures and boxes go to the parent through a pipe.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from calibration import Calibration, CalibrationError, read_site, read_survey, solve
from edge.assembly import known_model, measuring_pipeline, road_detector, road_glance
from edge.domain import Detections, Frame, Passage
from edge.errors import SnelliusError
from edge.machine import energy_j
from edge.pipeline import Detector
from edge.sources.video import VideoFile
from models import CatalogueError

DEMO = Path(__file__).parents[1] / "demo"
DEMO_CLIP, DEMO_TRUTH = DEMO / "street.mp4", DEMO / "truth.json"
WARM_UP_LOOKS = 2  # not timed: the first ones make buffers
SAMPLE_S, MOST_SAMPLES = 1.0, 60  # of the clip, between frames on which boxes are compared
SEEN = 0.375  # score from which a vehicle counts as seen
SETTLES_S = 1.0  # before the end of a stretch: who leaves the zone later may not be complete


@dataclass(frozen=True, slots=True)
class Task:
    """What a process is asked.

    Attributes:
        model: Name in the catalogue.
        clip: A video file.
        calibration: Of its camera; None: the clip is the bundled street.
        truth: What was really driven; None: nobody knows.
        seconds: Of the clip, at most; None: all. [s]
    """

    model: str
    clip: str
    calibration: str | None
    truth: str | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Against:
    """Compared with what was really driven.

    Attributes:
        vehicles: That went through the whole zone.
        measured: Of these.
        false: Passages of nobody.
        bias_kmh: Mean error. [km/h]
        median_kmh: Median absolute error; None when nobody was measured. [km/h]
        worst_kmh: Largest absolute error. [km/h]
    """

    vehicles: int
    measured: int
    false: int
    bias_kmh: float | None
    median_kmh: float | None
    worst_kmh: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model costs and gives.

    Attributes:
        looks: How often the pipeline asked it for the whole road.
        ms_median: Of a look, with letterbox and duplicates. [ms]
        ms_p95: 95 of 100 looks take at most so long. [ms]
        cpu_ms: Processor time of a look, all threads together, median: the same on a busy computer. [ms]
        peak_mib: Most memory of the whole process. [MiB]
        busy: Time of measuring for each second of the clip; above 1 the device drops frames.
        joules: Of the processor for a look; None where the computer does not tell. [J]
        passages: Vehicles counted.
        measured: Of these, with a speed.
        against: Compared with the truth; None when nobody knows it.
        samples: Boxes (left, top, right, bottom) of what it is sure of, in frames a second apart. [px]
    """

    looks: int
    ms_median: float
    ms_p95: float
    cpu_ms: float
    peak_mib: float
    busy: float
    joules: float | None
    passages: int
    measured: int
    against: Against | None
    samples: list[list[list[float]]]


class Timed:
    """A detector that notes how long each look takes and what energy it costs."""

    def __init__(self, detector: Detector) -> None:
        self.ms: list[float] = []
        self.cpu_ms: list[float] = []
        self.joules: list[float] = []
        self._detector = detector

    def detect(self, frame: Frame) -> Detections:
        """What the detector says."""
        before_j, began_s, began_cpu_s = energy_j(), time.perf_counter(), time.process_time()
        found = self._detector.detect(frame)
        self.ms.append((time.perf_counter() - began_s) * 1e3)
        self.cpu_ms.append((time.process_time() - began_cpu_s) * 1e3)
        after_j = energy_j()
        if before_j is not None and after_j is not None and after_j >= before_j:  # the counter begins anew now and then
            self.joules.append(after_j - before_j)
        return found


def demo_calibration() -> Calibration:
    """The bundled street, solved from its survey."""
    with VideoFile(DEMO_CLIP) as clip:
        solution = solve(read_survey(DEMO / "survey.csv"), read_site(DEMO / "site.toml"), clip.size_px)
    return solution.certified(datetime.now(timezone.utc))


def benched(task: Task) -> Figures:
    """Measure the clip with the model, here.

    Raises:
        SnelliusError: The model cannot be run, or the clip not be read.
        CalibrationError: The calibration cannot be used.
        CatalogueError: There is no such model.
    """
    calibration = demo_calibration() if task.calibration is None else Calibration.load(Path(task.calibration))
    model = known_model(task.model)
    detector, glance = road_detector(model, calibration), road_glance(model, calibration)
    timed = Timed(detector)
    pipeline = measuring_pipeline(calibration, timed, has_gate=True, has_cadence=True, glance=glance)
    passages: list[Passage] = []
    samples: list[list[list[float]]] = []
    last_s = beside_s = 0.0
    with VideoFile(task.clip) as source:
        began_s = time.perf_counter()
        for frame in source.frames():
            at_s = frame.captured_ns / 1e9
            if task.seconds is not None and at_s >= task.seconds:
                break
            last_s = at_s
            passages += pipeline.step(frame)
            if at_s >= len(samples) * SAMPLE_S and len(samples) < MOST_SAMPLES:
                asked_s = time.perf_counter()
                found = detector.detect(frame)
                samples.append(np.round(found.boxes_xyxy_px[found.scores >= SEEN], 2).tolist())
                beside_s += time.perf_counter() - asked_s
        passages += pipeline.finish()
        took_s = time.perf_counter() - began_s - beside_s
    looks_ms = timed.ms[WARM_UP_LOOKS:] or timed.ms
    if not looks_ms or last_s == 0.0:
        raise SnelliusError(f"{task.clip}: nothing on it moves, so no look could be timed")
    peak_mib = _peak_mib()  # before the comparison, which is no part of measuring
    return Figures(
        looks=len(timed.ms),
        ms_median=statistics.median(looks_ms),
        ms_p95=float(np.percentile(looks_ms, 95)),
        cpu_ms=statistics.median(timed.cpu_ms[WARM_UP_LOOKS:] or timed.cpu_ms),
        peak_mib=peak_mib,
        busy=took_s / last_s,
        joules=statistics.fmean(timed.joules) if timed.joules else None,
        passages=len(passages),
        measured=sum(passage.speed is not None for passage in passages),
        against=None if task.truth is None else _against(passages, Path(task.truth), last_s),
        samples=samples,
    )


def _against(passages: Sequence[Passage], truth_file: Path, last_s: float) -> Against | None:
    from edge.cli.showing import compare

    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    for vehicle in truth["vehicles"]:  # who had not left by the end is nobody's fault, and no false passage either
        vehicle["zone_complete"] = vehicle["zone_complete"] and vehicle["zone_exit_s"] <= last_s - SETTLES_S
    found = compare(passages, truth)
    if found.true == 0:
        return None
    is_any = bool(found.errors_kmh)
    return Against(
        vehicles=found.true,
        measured=len(found.errors_kmh),
        false=found.false,
        bias_kmh=found.bias_kmh if is_any else None,
        median_kmh=found.median_kmh if is_any else None,
        worst_kmh=found.worst_kmh if is_any else None,
    )


def _peak_mib() -> float:
    """Of this program alone: what getrusage tells includes the process that started it. [MiB]"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def answer() -> None:
    """Read a task from standard input, write figures, or what is wrong, to standard output."""
    try:
        told: dict[str, Any] = asdict(benched(Task(**json.load(sys.stdin))))
    except (SnelliusError, CalibrationError, CatalogueError) as wrong:
        told = {"problem": str(wrong)}
    json.dump(told, sys.stdout)
