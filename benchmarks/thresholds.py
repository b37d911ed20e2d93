"""What the thresholds of the detector and the removal of duplicates buy, on scenes and clips.

    python -m benchmarks.thresholds SCENES [--clips CLIPS] [--model NAME] [--keep DIR] [--json OUT]

The network is asked once for every look of the device as it is, and all is kept that it proposes with a score of
:data:`LOWEST` or more, duplicates included; then scenes and clips are measured again and again on these looks, each
time with one figure changed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import detectors
from benchmarks.clips import VIDEO, counted, site_of
from benchmarks.evaluation import (
    Looks,
    Recording,
    Scorers,
    cell,
    chosen_model,
    passages_of,
    scene_survey,
    size_of,
    surveyed,
)
from benchmarks.scenes import Run, figures_of
from calibration import Calibration
from edge.detect import heads
from edge.detect.heads import Candidates
from edge.detect.network import MIN_SCORE, NetworkDetector
from edge.domain import Detections, Frame
from edge.track import tracker
from models import Model

LOWEST = 0.05
OFF = 9.0  # no share of two areas is that large


@dataclass(frozen=True, slots=True)
class Figures:
    """What is set.

    Attributes:
        lowest_score: Of a box that may extend a track: the second chance.
        start_score: Of a box that may begin one.
        overlap: Intersection over union from which two boxes are one vehicle.
        contained: Share of the smaller box that lies in the larger one, from which they are.
        followed: Share of a box that lies in that of a followed vehicle, from which it begins no other.
    """

    lowest_score: float = MIN_SCORE
    start_score: float = tracker.START_SCORE
    overlap: float = heads.MAX_IOU
    contained: float = heads.MAX_CONTAINED
    followed: float = tracker.DUPLICATE_OVERLAP


NOW = Figures()
CHANGES: dict[str, tuple[float, ...]] = {
    "lowest_score": (0.1, 0.15, 0.25, 0.3, NOW.start_score),
    "start_score": (0.25, 0.3, 0.4, 0.45),
    "overlap": (0.4, 0.6, 0.7),
    "contained": (0.6, 0.7, 0.9, OFF),
    "followed": (0.5, 0.85, OFF),
}


def settings() -> dict[str, Figures]:
    """As it is, and with one figure changed."""
    told = {"as it is": NOW}
    for field in fields(Figures):
        for value in CHANGES[field.name]:
            is_off = "off" if value == OFF else str(value)
            told[f"{field.name.replace('_', ' ')} {is_off}"] = replace(NOW, **{field.name: value})
    return told


@contextmanager
def everything_proposed() -> Iterator[None]:
    """The detector keeps weak boxes, duplicates, and riders apart from what they ride."""
    with (
        patch.multiple(heads, MAX_CANDIDATES=3000, MAX_IOU=OFF, MAX_CONTAINED=OFF, MIN_RIDDEN=OFF),
        patch.dict(NetworkDetector.__init__.__kwdefaults__ or {}, min_score=LOWEST),
    ):
        yield


def as_set(found: Detections, chosen: Figures) -> Detections:
    """What the detector says of what the network proposes."""
    sure = found.scores >= chosen.lowest_score
    candidates = Candidates(found.boxes_xyxy_px[sure], found.scores[sure], found.labels[sure]).best_first()
    with patch.multiple(heads, MAX_IOU=chosen.overlap, MAX_CONTAINED=chosen.contained):
        kept = candidates.without_duplicates().with_riders_joined()
    return Detections(kept.boxes_xyxy, kept.scores, kept.labels)


class AsItIs:
    """The detector as it is, around everything that is proposed."""

    region_px = None

    def __init__(self, proposed: Looks) -> None:
        self._proposed = proposed

    def detect(self, frame: Frame) -> Detections:
        """What the detector says of a frame."""
        with everything_proposed():
            found = self._proposed.detect(frame)
        return as_set(found, NOW)


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """A scene or a clip, with everything that was proposed on it."""

    clip: Path
    calibration: Calibration
    proposed: Recording
    truth: dict[str, Any] | None
    directions: str | None


def footage(scenes: Path, clips: Path | None, scorers: Scorers, model: Model, keep: Path | None) -> Iterator[Footage]:
    """Scenes, then clips."""
    for file in sorted(scenes.glob("*.truth.json")):
        clip, calibration = detectors.clip_of(file), scene_survey(scorers, file)
        truth = json.loads(file.read_text(encoding="utf-8"))
        yield Footage(clip, calibration, _proposed(clip, model, calibration, keep), truth, None)
    for clip in sorted(path for path in clips.iterdir() if path.suffix in VIDEO) if clips else ():
        parts = site_of(clip)
        if parts is not None:
            calibration = surveyed(*parts[:2], size_of(clip))
            yield Footage(clip, calibration, _proposed(clip, model, calibration, keep), None, parts[2])


def _proposed(clip: Path, model: Model, calibration: Calibration, keep: Path | None) -> Recording:
    with everything_proposed():
        looks = Looks(clip, model, calibration, keep and keep / "proposed")
    with looks:
        passages_of(AsItIs(looks), calibration, clip=clip)
    return looks.recording()


def measured(chosen: Figures, all_footage: Sequence[Footage], scorers: Scorers, events: Path | None) -> dict[str, Any]:
    """Speeds, counts and boxes with these figures."""
    scorer = scorers.module("score_passages")
    runs: list[Run] = []
    views: list[detectors.Views] = []
    counts: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(patch.multiple(tracker, START_SCORE=chosen.start_score, DUPLICATE_OVERLAP=chosen.followed))
        for each in all_footage:
            recording = each.proposed.with_detections(lambda found: as_set(found, chosen))
            passages = passages_of(recording, each.calibration, every_frame=True)
            if each.truth is not None:
                runs.append(Run(*scorer.score(each.truth, passages)))
                views.append(detectors.views_of(each.truth, recording))
            elif each.directions is not None and events is not None:
                counts += counted(scorers, each.clip, passages, events, each.directions).values()
    return {
        "speeds": figures_of(runs, scenes=len(runs)),
        "boxes": detectors.figures(views),
        "counts": {name: sum(count[name] for count in counts) for name in ("true", "matched", "false")},
    }


def main() -> None:
    """Read the command line, ask the network, measure with every setting, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds *.truth.json beside *.mp4")
    parser.add_argument("--clips", type=Path, help="count on the footage of this folder as well (events.csv)")
    parser.add_argument("--model", help="a model of the catalogue; default: the catalogue's default")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep proposals here, and take those that are there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file")
    arguments = parser.parse_args()
    if not any(arguments.folder.glob("*.truth.json")):
        parser.error(f"{arguments.folder}: expected rendered scenes (*.truth.json), found none")
    scorers = Scorers.beside(arguments.folder)
    events = arguments.clips / "events.csv" if arguments.clips else None
    model = chosen_model(arguments.model)
    all_footage = list(footage(arguments.folder, arguments.clips, scorers, model, arguments.keep))
    told = {
        name: measured(chosen, all_footage, scorers, events)
        for name, chosen in track(settings().items(), "measuring", console=Console(stderr=True), transient=True)
    }
    table = Table(
        *(
            "",
            "measured",
            "false",
            "bias",
            "median",
            "mean",
            "worst",
            "found",
            "car",
            "large",
            "two-wh.",
            "near",
            "strays",
        ),
        "clips",
        title="scenes: errors in km/h; found: share of views, %; strays: boxes a frame; clips: counted of true, false",
        box=None,
    )
    for name, of in told.items():
        speeds, boxes, counts = of["speeds"], of["boxes"], of["counts"]
        table.add_row(
            name,
            f"{speeds['measured']}/{speeds['true']}",
            str(speeds["false"]),
            *(cell(speeds.get(key)) for key in ("bias", "median_abs", "mean_abs", "worst")),
            cell(100 * boxes["found"], 1),
            *(cell(100 * boxes["found_of"][kind], 0) for kind in ("car", "large", "two-wheeler", "near")),
            cell(boxes["strays_a_frame"]),
            f"{counts['matched']}/{counts['true']} {counts['false']}" if counts["true"] else "–",
        )
    Console(width=160).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
