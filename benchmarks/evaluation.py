"""What the benchmarks share: footage detected once, measured many times, scored by the evaluation set's own scorers."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.showings import Showing, Shown
from calibration import Calibration, parse_image_size, read_site, read_survey, solve
from edge.assembly import known_model, look_of, measuring_pipeline
from edge.cli.measuring import row
from edge.detect import open_detector
from edge.domain import Detections, Floats, Frame, TimeKind
from edge.pipeline import Detector, Glance, PathEstimator
from edge.sources.video import VideoFile
from models import Head, Model, Runtime

ROOT = Path(__file__).resolve().parents[1]
CLICK_PX, TAPE_M = 0.5, 0.01  # what a careful technician leaves
SURVEYED = datetime(2026, 1, 1, tzinfo=timezone.utc)
COCO = {"person": (0,), "bicycle": (1,), "car": (2,), "motorcycle": (3,), "bus": (5,), "truck": (7,)}


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
    def of(
        cls,
        clip: Path,
        model: Model,
        calibration: Calibration,
        keep: Path | None = None,
        *,
        every: int = 1,
        showing: Showing | None = None,
    ) -> Recording:
        """Detect every frame of a clip once.

        Args:
            clip: A video file.
            model: What detects.
            calibration: Tells where in the picture the road is.
            keep: Folder in which detections are kept and looked for, by the checksums of clip and model and by the
                look; None: nowhere.
            every: Only one in so many frames.
            showing: How the pictures are shown to the model; None: as they are.
        """
        shown = "" if showing is None else "-" + showing.name.replace(", ", "-")
        kept = keep and keep / f"{_key(clip, model, calibration)}{shown}.npz"
        if kept is not None and kept.exists():
            return cls.load(kept).one_in(every)
        if kept is not None and every > 1:
            kept = kept.with_name(f"{kept.stem}-every{every}.npz")
            if kept.exists():
                return cls.load(kept)
        look = look_of(model, calibration)
        with VideoFile(clip) as source:
            detector: Detector = (
                open_detector(model, look=look) if showing is None else Shown(model, look, showing, source.size_px[0])
            )
            frames = [
                (frame.captured_ns, frame.captured_sigma_s, frame.time_kind, detector.detect(frame))
                for frame in track(
                    islice(source.frames(), 0, None, every),
                    description=f"detecting {clip.name}",
                    total=source.frame_count and source.frame_count // every,
                    console=Console(stderr=True),
                    transient=True,
                )
            ]
            recording = cls(frames, source.size_px, (source.timing.declared_hz or 25.0) / every)
        if kept is not None:
            recording.save(kept)
        return recording

    @classmethod
    def load(cls, file: Path) -> Recording:
        """Read what :meth:`save` wrote."""
        with np.load(file) as kept:
            ends = np.cumsum(kept["counts"])[:-1]
            columns = (np.split(kept[name], ends) for name in ("boxes_xyxy_px", "scores", "labels"))
            frames = [
                (int(captured_ns), float(sigma_s), TimeKind(kind), Detections(*parts))
                for captured_ns, sigma_s, kind, *parts in zip(
                    kept["captured_ns"], kept["sigma_s"], kept["time_kind"].tolist(), *columns
                )
            ]
            width, height = kept["size_px"].tolist()
            return cls(frames, (width, height), float(kept["declared_hz"]))

    def save(self, file: Path) -> None:
        """Write the detections into a file of arrays."""
        file.parent.mkdir(parents=True, exist_ok=True)
        instants, sigmas, kinds, detections = zip(*self._frames)
        np.savez_compressed(
            file,
            captured_ns=np.array(instants),
            sigma_s=np.array(sigmas),
            time_kind=np.array([kind.value for kind in kinds]),
            counts=np.array([len(found) for found in detections]),
            boxes_xyxy_px=np.concatenate([found.boxes_xyxy_px for found in detections]),
            scores=np.concatenate([found.scores for found in detections]),
            labels=np.concatenate([found.labels for found in detections]),
            size_px=np.array(self.size_px),
            declared_hz=self.declared_hz,
        )

    @property
    def instants_s(self) -> Floats:
        """When the frames were taken, since the first one, shape (frames,). [s]"""
        instants = np.array([frame[0] for frame in self._frames])
        return np.asarray((instants - instants[0]) / 1e9)

    def frames(self) -> Iterable[Frame]:
        """Frames without a picture."""
        width, height = self.size_px
        blank = np.broadcast_to(np.zeros(1, dtype=np.uint8), (height, width, 3))
        for captured_ns, sigma_s, kind, _ in self._frames:
            yield Frame(captured_ns, sigma_s, kind, blank)

    def detect(self, frame: Frame) -> Detections:
        """What the detector saw in that frame."""
        return self._detections[frame.captured_ns]

    def at_rate(self, hertz: float) -> Recording:
        """As a camera of a lower frame rate would have seen it: the first frame of every period."""
        _, first = np.unique(np.floor(self.instants_s * hertz + 1e-6), return_index=True)
        return Recording([self._frames[number] for number in first], self.size_px, hertz)

    def one_in(self, every: int) -> Recording:
        """Only one in so many frames."""
        return type(self)(self._frames[::every], self.size_px, self.declared_hz / every)

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

        return self.with_detections(noisy)

    def with_detections(self, said: Callable[[Detections], Detections]) -> Recording:
        """With something else seen in every frame."""
        frames = [(t, sigma, kind, said(detections)) for t, sigma, kind, detections in self._frames]
        return Recording(frames, self.size_px, self.declared_hz)

    def at_constant_rate(self) -> Recording:
        """With time stamps that are frame number divided by mean rate: what one must not do."""
        instants = np.linspace(self._frames[0][0], self._frames[-1][0], len(self._frames)).round().astype(int)
        frames = [(int(t), *frame[1:]) for t, frame in zip(instants, self._frames)]
        return Recording(frames, self.size_px, self.declared_hz)


def chosen_model(name: str | None, head: str | None = None, bottom_offset: float = 0.0) -> Model:
    """A model of the catalogue, or a file.

    Args:
        name: Of the catalogue, or a path; None: the catalogue's default.
        head: How the answer of a file is read: an ONNX file of COCO classes that runs without Ultralytics; None: the
            file is left to Ultralytics.
        bottom_offset: How much lower the boxes of such a file end than the default's, as a share of their height.
    """
    model = known_model(name)
    if head is None:
        return model
    return replace(model, runtime=Runtime.ONNXRUNTIME, head=Head(head), classes=COCO, bottom_offset=bottom_offset)


class Looks:
    """A detector that is asked once about a frame, however often a clip is measured, and only if the pipeline asks.

    A context: what was seen is kept at its end.

    Args:
        clip: A video file.
        model: What detects.
        calibration: Tells where in the picture the road is.
        keep: Folder in which looks are kept and looked for, as for :meth:`Recording.of`; None: nowhere.
    """

    def __init__(self, clip: Path, model: Model, calibration: Calibration, keep: Path | None = None) -> None:
        self._detector = open_detector(model, look=look_of(model, calibration))
        self._kept = keep and keep / f"{_key(clip, model, calibration)}-looks.npz"
        whole = keep and keep / f"{_key(clip, model, calibration)}.npz"
        kept = next((file for file in (whole, self._kept) if file is not None and file.exists()), None)
        self._frames = Recording.load(kept)._frames if kept is not None else []
        self._seen = {captured_ns: found for captured_ns, _, _, found in self._frames}
        self._size_px = (0, 0)

    def __enter__(self) -> Looks:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._kept is not None and self._size_px != (0, 0):
            self.recording().save(self._kept)

    def detect(self, frame: Frame) -> Detections:
        """What the detector sees in that frame."""
        if frame.captured_ns not in self._seen:
            found = self._detector.detect(frame)
            self._seen[frame.captured_ns] = found
            self._frames.append((frame.captured_ns, frame.captured_sigma_s, frame.time_kind, found))
        self._size_px = frame.size_px
        return self._seen[frame.captured_ns]

    def recording(self) -> Recording:
        """The frames that were looked at, in their order."""
        return Recording(sorted(self._frames, key=lambda frame: frame[0]), self._size_px, 25.0)


def _key(clip: Path, model: Model, calibration: Calibration) -> str:
    """Names what is taken from a model about a clip: by the checksums of both, the look, and what is corrected."""
    look = look_of(model, calibration)
    seen = "x".join(str(side) for side in (*look.region_px, *look.input_px))
    raised = f"-{model.bottom_offset}" if model.bottom_offset else ""
    return f"{clip.stem}-{_checksum(clip)}-{model.name}-{model.sha256[:8]}-{seen}{raised}"


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


def size_of(clip: Path) -> tuple[int, int]:
    """Width and height of a clip's picture. [px]"""
    with VideoFile(clip) as source:
        return source.size_px


def passages_of(
    recording: Recording | Detector,
    calibration: Calibration,
    *,
    clip: Path | None = None,
    every_frame: bool = False,
    glance: Glance | None = None,
    estimator: PathEstimator | None = None,
) -> list[dict[str, Any]]:
    """The passages of a recording, as ``snellius replay --passages`` writes them.

    Args:
        recording: What a detector sees in each frame, if it is asked.
        calibration: Of the site.
        clip: The file of the recording: its pictures tell the motion gate when the detector may rest. Without them it
            only looks no more often than speeds need. A detector that is no recording needs it.
        every_frame: The detector looks at every frame.
        glance: Looks at parts of the pictures; with a clip only.
        estimator: Another one than ours, to compare with.
    """
    pipeline = measuring_pipeline(
        calibration,
        recording,
        estimator=estimator,
        has_gate=clip is not None and not every_frame,
        has_cadence=not every_frame,
        glance=glance,
    )
    with VideoFile(clip) if clip is not None else nullcontext() as source:
        if source is not None:
            frames: Iterable[Frame] = source.frames()
        elif isinstance(recording, Recording):
            frames = recording.frames()
        else:
            raise TypeError("a detector needs the pictures of a clip")
        passages = [passage for frame in frames for passage in pipeline.step(frame)] + pipeline.finish()
    return [row(passage) for passage in sorted(passages, key=lambda passage: passage.left_ns)]


def surveyed(survey: Path, site: Path, size_px: tuple[int, int]) -> Calibration:
    """Solve a survey; the calibration is used whatever its verdict."""
    return solve(read_survey(survey), read_site(site), size_px).certified(SURVEYED)


def scene_survey(scorers: Scorers, truth_file: Path, seed: int | None = None) -> Calibration:
    """The survey of a rendered scene: as given, or with the noise of a careful technician."""
    noise = () if seed is None else ("--click-px", str(CLICK_PX), "--tape-m", str(TAPE_M), "--seed", str(seed))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        size = scorers.run("scene_to_site", truth_file, out, *noise)
        return surveyed(out / "survey.csv", out / "site.toml", parse_image_size(size.strip()))


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


def cell(value: float | None, digits: int = 2) -> str:
    """A figure as a table shows it."""
    if value is None or not math.isfinite(value):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"
