"""How much lower a model's boxes end than those of the default: what ``bottom_offset`` in the catalogue is.

    python -m benchmarks.bottoms CLIPS --weights FILE [--head classic] [--keep DIR]

Both look at the same frames of real footage (one in two, as the device would). Boxes of moving vehicles that are whole
and that both see are compared; the estimate is made for the default's. A median for each clip, then the mean of clips.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.clips import VIDEO, site_of
from benchmarks.detectors import box_overlaps
from benchmarks.evaluation import Recording, chosen_model, size_of, surveyed
from edge.detect.heads import CUT_PX
from edge.domain import Detections, Floats, RoadUser
from models import Head

EVERY = 2
VEHICLES = [RoadUser.CAR.label, RoadUser.TRUCK.label, RoadUser.BUS.label]
SAME_IOU = 0.6
STANDS_IOU = 0.75  # with a box of 0.4 s before: it did not move
BEFORE_S = 0.4
FEW = 50  # pairs: too few for a median


def differences(default: Recording, other: Recording) -> Floats:
    """How much lower the other's boxes end, as shares of the height of the default's, one for each pair of boxes."""
    lower: list[float] = []
    earlier: list[tuple[float, Floats]] = []
    size = np.array(default.size_px)
    for frame in default.frames():
        now_s = frame.captured_ns / 1e9
        boxes, others = (_vehicles(recording.detect(frame)) for recording in (default, other))
        while len(earlier) > 1 and earlier[1][0] <= now_s - BEFORE_S:
            earlier.pop(0)
        if earlier and earlier[0][0] <= now_s - BEFORE_S and len(boxes) and len(others):
            stands = (box_overlaps(boxes, earlier[0][1])[0] > STANDS_IOU).any(axis=1)
            whole = (boxes[:, :2] > CUT_PX).all(axis=1) & (boxes[:, 2:] < size - 1 - CUT_PX).all(axis=1)
            overlaps = box_overlaps(boxes, others)[0]
            for row in np.flatnonzero(whole & ~stands):
                column = int(overlaps[row].argmax())
                if overlaps[row, column] > SAME_IOU and overlaps[:, column].argmax() == row:
                    lower.append(float((others[column, 3] - boxes[row, 3]) / (boxes[row, 3] - boxes[row, 1])))
        earlier.append((now_s, boxes))
    return np.array(lower)


def _vehicles(found: Detections) -> Floats:
    return found.boxes_xyxy_px[np.isin(found.labels, VEHICLES)]


def main() -> None:
    """Read the command line, look at every surveyed clip with both models, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of clips")
    parser.add_argument("--weights", required=True, metavar="FILE", help="an ONNX file of COCO classes")
    parser.add_argument("--head", default=Head.CLASSIC.value, choices=[head.value for head in Head])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep detections here, and take those that are there")
    arguments = parser.parse_args()
    models = [chosen_model(None), chosen_model(arguments.weights, arguments.head)]
    medians = []
    table = Table("clip", "pairs", "lower by", "of them the middle half", title="shares of the height")
    for clip in sorted(path for path in arguments.folder.iterdir() if path.suffix in VIDEO):
        parts = site_of(clip)
        if parts is None:
            continue
        calibration = surveyed(parts[0], parts[1], size_of(clip))
        seen = [Recording.of(clip, model, calibration, arguments.keep, every=EVERY) for model in models]
        lower = differences(*seen)
        if len(lower) < FEW:
            table.add_row(clip.stem, str(len(lower)), "too few", "")
            continue
        low, median, high = np.percentile(lower, [25, 50, 75])
        medians.append(median)
        table.add_row(clip.stem, str(len(lower)), f"{median:+.4f}", f"{low:+.3f} to {high:+.3f}")
    Console(width=120).print(table)
    if len(medians) < 2:
        parser.error(
            f"{arguments.folder}: expected two clips with {FEW} moving vehicles' boxes or more, found {len(medians)}"
        )
    print(f"mean {np.mean(medians):+.4f} ± {np.std(medians, ddof=1) / math.sqrt(len(medians)):.4f}")


if __name__ == "__main__":
    main()
