"""Whether an exported network says what its source says: candidate by candidate, before anything is dropped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edge.detect.heads import Answer
from edge.domain import Floats
from models import Head

NEAR = 10  # of the export's candidates around one of the source
BEST = 100  # candidates of the source that are looked for, in each frame
END_TO_END_CLASSES = 1000  # more than any such network tells apart
SURE = 0.25  # those that a street is measured with
SAME_PX = 1.0  # in the network's input; floating point differs by thousandths
SAME_SCORE = 0.02
MIN_IOU = 0.7  # 8 bits: the same vehicle
MIN_FOUND = 0.9


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an exported network differs from its source.

    Attributes:
        frames: Compared.
        candidates: The source's best, in all frames.
        box_px: Largest difference of an edge, in the network's input. [px]
        box_median_px: Median over the candidates. [px]
        score: Largest difference of a score, of any class.
        sure: Candidates that the source is sure of.
        found: Share of those that overlap with one of the export.
    """

    frames: int
    candidates: int
    box_px: float
    box_median_px: float
    score: float
    sure: int
    found: float

    @property
    def is_same(self) -> bool:
        """Whether they are the same network, but for rounding of floating point."""
        return self.candidates > 0 and self.box_px <= SAME_PX and self.score <= SAME_SCORE

    @property
    def is_alike(self) -> bool:
        """Whether they see the same vehicles: what 8 bits can promise."""
        return self.found >= MIN_FOUND

    def __str__(self) -> str:
        """For people."""
        return (
            f"{self.frames} frames, {self.candidates} candidates: boxes differ by at most {self.box_px:.3g} px (median"
            f" {self.box_median_px:.2g}), scores by at most {self.score:.3g}; {self.found:.0%} of {self.sure} sure ones"
            " found"
        )


def compare(pairs: Iterable[tuple[Answer, Answer]], head: Head) -> Agreement:
    """Look for each of the source's best candidates in the answer of the export.

    Args:
        pairs: Answers of source and export to the same input.
        head: Of both.
    """
    boxes_px: list[float] = []
    scores: list[float] = []
    is_sure: list[bool] = []
    is_found: list[bool] = []
    frames = 0
    for source, export in pairs:
        frames += 1
        wanted, theirs = _candidates(source, head), _candidates(export, head)
        least = max(wanted.least, theirs.least)
        for box, classes in zip(wanted.boxes[:BEST], wanted.scores[:BEST]):
            if classes.max() < least + SAME_SCORE:  # the export may just have left it out
                break
            edges = np.abs(theirs.boxes - box).max(axis=1)
            near = np.argsort(edges, kind="stable")[:NEAR]
            apart = np.abs(np.maximum(theirs.scores[near], least) - np.maximum(classes, least)).max(axis=1)
            best = int((edges[near] + 100.0 * apart).argmin())
            boxes_px.append(float(edges[near[best]]))
            scores.append(float(apart[best]))
            is_sure.append(bool(classes.max() >= SURE))
            is_found.append(bool((_overlaps(box, theirs.boxes[theirs.scores.max(axis=1) >= SURE / 2]) > MIN_IOU).any()))
    sure = np.array(is_sure, dtype=bool)
    return Agreement(
        frames=frames,
        candidates=len(scores),
        box_px=max(boxes_px, default=0.0),
        box_median_px=float(np.median(boxes_px)) if boxes_px else 0.0,
        score=max(scores, default=0.0),
        sure=int(sure.sum()),
        found=float(np.array(is_found)[sure].mean()) if sure.any() else 1.0,
    )


class _Candidates(NamedTuple):
    """Best first: boxes, shape (n, 4), the score of each class, shape (n, classes), and the least score that was told.

    Scores of all classes, because the largest of two that are nearly equal may be another one in the export. A head
    that removes duplicates tells a fixed number of boxes with a class each, several of one box and none below the last.
    """

    boxes: Floats
    scores: Floats
    least: float


def _candidates(answer: Answer, head: Head) -> _Candidates:
    table = answer[0].astype(np.float64)
    if head is Head.END_TO_END:
        boxes, box_of_row = np.unique(table[:, :4], axis=0, return_inverse=True)
        scores = np.zeros((len(boxes), END_TO_END_CLASSES))
        scores[box_of_row.reshape(-1), table[:, 5].astype(np.intp)] = table[:, 4]
        least = float(table[:, 4].min(initial=math.inf))
    else:
        centre, half = table[:2].T, table[2:4].T / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        scores, least = table[4:].T, -math.inf
    order = np.argsort(-scores.max(axis=1), kind="stable")
    return _Candidates(boxes[order], scores[order], least)


def _overlaps(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box with others, shape (n,)."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.clip(sides, 0.0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(common / np.maximum(areas - common, 1e-9))
