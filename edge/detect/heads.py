"""Reading a network's answer: pure functions on arrays.

Every candidate's score is the largest among the classes that the road knows; other classes (trains, benches, traffic
lights) are not asked, so a van that looks a little more like a train than like a truck is still a truck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.domain import Floats, Ints, RoadUser

MAX_CANDIDATES = 300  # far more than a street holds; bounds the time of a frame full of noise
MAX_IOU = 0.5  # two boxes that share more are one vehicle
MAX_CONTAINED = 0.8  # so is a box of which more lies inside a better one: a cab in its lorry
MIN_RIDDEN = 0.3  # of the smaller box lies in the other when one rides the other
CUT_PX = 2.0  # a box that ends nearer to where the picture ends is cut there
TINY = 1e-9  # stands for an area of nothing
MACHINES = (RoadUser.MOTORCYCLE.label, RoadUser.BICYCLE.label)

Answer = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What a network proposes for one picture.

    Attributes:
        boxes_xyxy: Left, top, right, bottom in edges of the network's input, shape (n, 4).
        scores: Confidence 0 to 1, falling, shape (n,).
        labels: Label of the best class, shape (n,).
    """

    boxes_xyxy: Floats
    scores: Floats
    labels: Ints

    def best_first(self) -> Candidates:
        """The same in the order of falling scores, at most :data:`MAX_CANDIDATES`."""
        order = np.argsort(-self.scores, kind="stable")[:MAX_CANDIDATES]
        return self._of(order)

    def without_duplicates(self) -> Candidates:
        """One box a vehicle, whatever its class: the best ones, and those that no better one covers.

        Expects falling scores. Greedy: a box that was dropped covers nothing itself.
        """
        left, top, right, bottom = self.boxes_xyxy.T
        areas = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
        width = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
        height = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        smaller = np.minimum(areas[:, None], areas)
        covers = (shared > MAX_IOU * (areas[:, None] + areas - shared)) | (shared > MAX_CONTAINED * smaller)
        kept = np.ones(len(self.scores), dtype=bool)
        for row in range(len(kept)):
            if kept[row]:
                kept[row + 1 :] &= ~covers[row, row + 1 :]
        return self._of(np.flatnonzero(kept))

    def with_riders_joined(self) -> Candidates:
        """Riders and what they ride are one: the rider's box, down to where the machine ends, called by the machine.

        Detectors tell them as two. A rider's box then ends at the feet, 14 to 30 % of the height above the tyres; sides
        of machines err by twice as much as those of riders (exact boxes of rendered motorcycles and a bicycle).
        """
        boxes, scores, labels = self.boxes_xyxy.copy(), self.scores.copy(), self.labels.copy()
        is_free = labels == RoadUser.PERSON.label
        kept = np.ones(len(labels), dtype=bool)
        for machine in np.flatnonzero(np.isin(labels, MACHINES)):
            low = np.maximum(boxes[machine, :2], boxes[:, :2])
            high = np.minimum(boxes[machine, 2:], boxes[:, 2:])
            areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), TINY)
            share = np.clip(high - low, 0, None).prod(axis=1) / np.minimum(areas, areas[machine])
            is_above = boxes[:, 1::2].sum(axis=1) < boxes[machine, 1::2].sum()
            share = np.where(is_free & is_above, share, 0.0)
            rider = int(share.argmax())
            if share[rider] > MIN_RIDDEN:
                boxes[rider, 3] = max(boxes[rider, 3], boxes[machine, 3])
                scores[rider], labels[rider] = max(scores[rider], scores[machine]), labels[machine]
                is_free[rider] = kept[machine] = False
        return Candidates(boxes[kept], scores[kept], labels[kept]).best_first()

    def _of(self, rows: Ints) -> Candidates:
        return Candidates(self.boxes_xyxy[rows], self.scores[rows], self.labels[rows])


def raised(boxes_xyxy_px: Floats, share: float, last_px: float) -> Floats:
    """Boxes whose bottom edges are moved up by a share of the height; those that the picture cuts end where they did.

    Args:
        boxes_xyxy_px: Shape (n, 4). [px]
        share: Of the height; negative moves them down.
        last_px: Where the picture ends. [px]
    """
    moved, bottom = boxes_xyxy_px.copy(), boxes_xyxy_px[:, 3]
    to = np.minimum(bottom - share * (bottom - boxes_xyxy_px[:, 1]), last_px)
    moved[:, 3] = np.where(bottom < last_px - CUT_PX, to, bottom)
    return moved


def read_classic(answer: Answer, class_indices: Ints, class_labels: Ints, min_score: float) -> Candidates:
    """Read [1, 4 + classes, n]: centre x, centre y, width, height, then a score for each class (YOLOv8, YOLO11).

    Args:
        answer: Output of the network; sizes in edges of its input.
        class_indices: The network's classes that are of interest, shape (c,).
        class_labels: Their labels, shape (c,).
        min_score: Weaker candidates are dropped.

    Returns:
        Vehicles without duplicates, best first.
    """
    scores = answer[0, 4 + class_indices]
    best = scores.max(axis=0)
    rows = np.flatnonzero(best >= min_score)
    centre_x, centre_y, width, height = answer[0, :4, rows].astype(np.float64).T
    boxes = np.stack((centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2), axis=1)
    labels = class_labels[scores[:, rows].argmax(axis=0)]
    return (
        Candidates(boxes, best[rows].astype(np.float64), labels).best_first().without_duplicates().with_riders_joined()
    )


def read_end_to_end(answer: Answer, class_indices: Ints, class_labels: Ints, min_score: float) -> Candidates:
    """Read [1, n, 6]: left, top, right, bottom, score, class (YOLO26, YOLOv10).

    These networks remove duplicates of one class themselves, not those of two classes.
    Arguments and result as for :func:`read_classic`.
    """
    table = answer[0].astype(np.float64)
    matches = table[:, 5:6] == class_indices
    rows = np.flatnonzero((table[:, 4] >= min_score) & matches.any(axis=1))
    labels = class_labels[matches[rows].argmax(axis=1)]
    return Candidates(table[rows, :4], table[rows, 4], labels).best_first().without_duplicates().with_riders_joined()
