"""What the benchmarks share: footage detected once, measured many times, scored by the evaluation set's own scorers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from calibration import Calibration, read_site, read_survey, solve
from edge.assembly import known_model, measuring_pipeline
from edge.cli.measuring import row
from edge.detect import open_detector
from edge.domain import Detections, Floats, Frame, TimeKind
from edge.pipeline import PathEstimator
from edge.sources.video import VideoFile

ROOT = Path(__file__).resolve().parents[1]
SURVEYED = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Recording:
    """The detections of a clip, frame by frame: stands in for source and detector.

    Attributes:
        size_px: Width and height of the picture. [px]
        declared_hz: Frame rate that the container states. [Hz]
    """

    def __init__(
        self,
        frames: list[tuple[int, float, TimeKind, Detections]],
        size_px: tuple[int, int],
        declared_hz: float,
    ) -> None:
        self._frames = frames
        self._detections = {captured_ns: detections for captured_ns, _, _, detections in frames}
        self.size_px = size_px
        self.declared_hz = declared_hz

    @classmethod
    def of(cls, clip: Path, model: str | None) -> Recording:
        """Detect every frame of a clip once."""
        detector = open_detector(known_model(model))
        with VideoFile(clip) as source:
            frames = [
                (frame.captured_ns, frame.captured_sigma_s, frame.time_kind, detector.detect(frame))
                for frame in track(
                    source.frames(),
                    description=f"detecting {clip.name}",
                    total=source.frame_count,
                    console=Console(stderr=True),
                    transient=True,
                )
            ]
            return cls(frames, source.size_px, source.timing.declared_hz or 25.0)

    def frames(self) -> Iterable[Frame]:
        """Frames without a picture."""
        width, height = self.size_px
        blank = np.broadcast_to(np.zeros(1, dtype=np.uint8), (height, width, 3))
        for captured_ns, sigma_s, kind, _ in self._frames:
            yield Frame(captured_ns, sigma_s, kind, blank)

    def detect(self, frame: Frame) -> Detections:
        """What the detector saw in that frame."""
        return self._detections[frame.captured_ns]

    def every(self, step: int) -> Recording:
        """As a camera with a lower frame rate would have seen it."""
        return Recording(self._frames[::step], self.size_px, self.declared_hz / step)

    def dropping(self, share: float, rng: np.random.Generator) -> Recording:
        """With a share of the frames lost at random."""
        kept = [frame for frame in self._frames if rng.random() >= share]
        return Recording(kept, self.size_px, self.declared_hz)

    def with_noise(self, share: float, rng: np.random.Generator) -> Recording:
        """With white noise on every box edge, a share of the box's width or height."""

        def noisy(detections: Detections) -> Detections:
            boxes = detections.boxes_xyxy_px
            sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
            return Detections(
                boxes + rng.normal(size=boxes.shape) * share * sides, detections.scores, detections.labels
            )

        frames = [(t, sigma, kind, noisy(detections)) for t, sigma, kind, detections in self._frames]
        return Recording(frames, self.size_px, self.declared_hz)

    def at_constant_rate(self) -> Recording:
        """With time stamps that are frame number divided by mean rate: what one must not do."""
        instants = np.linspace(self._frames[0][0], self._frames[-1][0], len(self._frames)).round().astype(int)
        frames = [(int(t), *frame[1:]) for t, frame in zip(instants, self._frames)]
        return Recording(frames, self.size_px, self.declared_hz)


def passages_of(
    recording: Recording,
    calibration: Calibration,
    estimator: Callable[[Calibration], PathEstimator] | None = None,
) -> list[dict[str, Any]]:
    """The passages of a recording, as ``snellius replay --passages`` writes them."""
    pipeline = measuring_pipeline(calibration, recording, estimator=estimator and estimator(calibration))
    passages = [passage for frame in recording.frames() for passage in pipeline.step(frame)] + pipeline.finish()
    return [row(passage) for passage in sorted(passages, key=lambda passage: passage.left_ns)]


def surveyed(survey: Path, site: Path, size_px: tuple[int, int]) -> Calibration:
    """Solve a survey; the calibration is used whatever its verdict."""
    return solve(read_survey(survey), read_site(site), size_px).certified(SURVEYED)


@dataclass(frozen=True, slots=True)
class Scorers:
    """The scorers of the evaluation set.

    Attributes:
        folder: Where they stand.
    """

    folder: Path

    @classmethod
    def beside(cls, evaluation_folder: Path) -> Scorers:
        """Those that stand beside an evaluation folder, else those that ``SNELLIUS_SHARED`` points to.

        Raises:
            SystemExit: There are none.
        """
        shared = Path(os.environ.get("SNELLIUS_SHARED", ROOT.parent / "shared"))
        for folder in (evaluation_folder.resolve().parent / "eval", shared / "eval"):
            if (folder / "score_passages.py").exists():
                return cls(folder)
        raise SystemExit(f"no scorers beside {evaluation_folder} (set SNELLIUS_SHARED to the folder that holds eval/)")

    def module(self, name: str) -> ModuleType:
        """A scorer as a module."""
        spec = importlib.util.spec_from_file_location(name, self.folder / f"{name}.py")
        if spec is None or spec.loader is None:
            raise ImportError(f"{self.folder / name}.py is no module")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def run(self, name: str, *arguments: str | Path) -> str:
        """A scorer as a program; returns what it prints."""
        command = [sys.executable, self.folder / f"{name}.py", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def percentile(values: Floats, percent: float) -> float:
    """A percentile as a plain number; NaN of nothing."""
    return float(np.percentile(values, percent)) if len(values) else float("nan")
