"""Who keeps an identity: our tracker against those of a kept library, on identical detections.

ByteTrack (doi:10.1007/978-3-031-20047-2_1) and OC-SORT (arXiv 2203.14360) are those of ``trackers``, from the extra
``[bench]``; without it only ours is measured. Everything behind the tracker is the product, so a broken or stitched
track shows in the passages too. Boxes are compared with the true ones of a rendered scene.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.evaluation import Recording
from calibration import Calibration
from edge.assembly import APPROACH_M, MARGIN_M, SHOULDER_M
from edge.cli.measuring import row
from edge.domain import Floats, Sightings, Trajectory
from edge.localise import Localiser
from edge.speed import Estimator
from edge.track import Tracker
from edge.track.tracker import START_SCORE, _covered
from edge.zones import Turnstile, Zone

OURS = "ours"
MIN_OVERLAP = 0.4  # intersection over union at which a tracked box shows a true one
MIN_VISIBLE = 0.3  # less of a vehicle nobody is asked to see
FEW_BOXES = 3  # a track that strays onto another vehicle for so short a time is not stitched


class Follower(Protocol):
    """Anything that turns sightings into trajectories."""

    def follow(self, sightings: Sightings) -> list[Trajectory]:
        """Take in one frame; trajectories that have ended."""
        ...

    def finish(self) -> list[Trajectory]:
        """The trajectories that are still followed."""
        ...


class LibraryTracker:
    """A tracker of the library ``trackers`` in place of ours.

    Args:
        library: Its tracker object.
    """

    def __init__(self, library: Any) -> None:
        import supervision

        self._library = library
        self._new_detections = supervision.Detections
        self._rows: dict[int, list[tuple[Sightings, int]]] = defaultdict(list)

    def follow(self, sightings: Sightings) -> list[Trajectory]:
        """Hand the boxes on the road to the library; trajectories come at the end."""
        rows = np.flatnonzero(sightings.on_road)
        detections = sightings.detections
        tracked = self._library.update(
            self._new_detections(
                xyxy=detections.boxes_xyxy_px[rows].astype(np.float32),
                confidence=detections.scores[rows].astype(np.float32),
                class_id=detections.labels[rows],
                data={"row": rows},
            )
        )
        if len(tracked):
            for number, line in zip(tracked.tracker_id, tracked.data["row"]):
                if number >= 0:
                    self._rows[int(number)].append((sightings, int(line)))
        return []

    def finish(self) -> list[Trajectory]:
        """A trajectory for each identity."""
        return [_trajectory(lines) for lines in self._rows.values()]


def _trajectory(lines: list[tuple[Sightings, int]]) -> Trajectory:
    found = [(sightings.detections, line) for sightings, line in lines]
    return Trajectory(
        times_s=np.array([sightings.time_s for sightings, _ in lines]),
        time_sigma_s=max(sightings.time_sigma_s for sightings, _ in lines),
        boxes_xyxy_px=np.array([detections.boxes_xyxy_px[line] for detections, line in found]),
        scores=np.array([detections.scores[line] for detections, line in found]),
        labels=np.array([detections.labels[line] for detections, line in found]),
        positions_m=np.array([sightings.positions_m[line] for sightings, line in lines]),
        covered=np.array([_covered(detections.boxes_xyxy_px)[line] for detections, line in found]),
    )


def followers(calibration: Calibration, hertz: float) -> dict[str, Callable[[], Follower]]:
    """Every tracker that is installed here, by name."""
    polygon_m = calibration.site.polygon_in_frame_m

    def ours() -> Follower:
        return Tracker(
            calibration.zone_plane,
            along_m=(-APPROACH_M, calibration.site.length_m + APPROACH_M),
            across_m=(float(polygon_m[:, 1].min()) - SHOULDER_M, float(polygon_m[:, 1].max()) + SHOULDER_M),
        )

    return {OURS: ours, **library_followers(hertz)}


def library_followers(hertz: float) -> dict[str, Callable[[], Follower]]:
    """The trackers of the library ``trackers`` by name; none where it is not installed.

    They have the thresholds of the product's detector; everything else is as in the library.

    Args:
        hertz: Frame rate, which they count by. [Hz]
    """
    try:
        from trackers import ByteTrackTracker, OCSORTTracker
    except ImportError:
        return {}
    return {
        "ByteTrack": lambda: LibraryTracker(
            ByteTrackTracker(
                frame_rate=hertz, track_activation_threshold=START_SCORE, high_conf_det_threshold=START_SCORE
            )
        ),
        "OC-SORT": lambda: LibraryTracker(OCSORTTracker(frame_rate=hertz, high_conf_det_threshold=START_SCORE)),
    }


def follow(
    recording: Recording, calibration: Calibration, follower: Follower
) -> tuple[list[Trajectory], list[dict[str, Any]]]:
    """The trajectories of a recording and the passages that the product makes of them."""
    plane, site = calibration.zone_plane, calibration.site
    localiser = Localiser(plane)
    trajectories = []
    for time_s, frame in zip(recording.instants_s, recording.frames()):
        sightings = localiser.locate(float(time_s), frame.captured_sigma_s, recording.detect(frame))
        trajectories += follower.follow(sightings)
    trajectories += follower.finish()
    estimator = Estimator(plane, zone_length_m=site.length_m)
    zone = Zone(length_m=site.length_m, polygon_m=site.polygon_in_frame_m)
    paths = (estimator.estimate(trajectory) for trajectory in trajectories)
    made = [zone.passage(path, 0) for path in paths if path is not None]
    turnstile = Turnstile()
    passages = turnstile.admit([passage for passage in made if passage is not None], 0) + turnstile.finish()
    return trajectories, [row(passage) for passage in sorted(passages, key=lambda passage: passage.left_ns)]


def identities(truth: dict[str, Any], trajectories: Iterable[Trajectory], seen_s: Floats) -> dict[str, float]:
    """How well the boxes of trajectories keep to one vehicle each.

    Args:
        truth: Of a rendered scene.
        trajectories: On its time stamps, since the first frame.
        seen_s: Instants of the frames that the trackers were given, since the first one, shape (frames,). [s]

    Returns:
        ``found``: share of the true boxes (moving vehicles in and near the zone, whole in the picture, at least 30 %
        visible) that some trajectory shows; ``switches``: changes of identity along a vehicle; ``fragments``: times
        that a vehicle is lost and found again; ``stitched``: trajectories that show more than one vehicle.
    """
    instants_s = np.array(truth["pts_s"]) - truth["pts_s"][0]
    frames_seen = {int(np.abs(instants_s - instant).argmin()) for instant in seen_s}
    middle_m, axis = np.mean(truth["zone"]["polygon_m"], axis=0), np.array(truth["road_axis"])
    reach_m = truth["zone"]["length_m"] / 2 + MARGIN_M
    tracked: dict[int, list[tuple[int, Floats]]] = defaultdict(list)
    for number, trajectory in enumerate(trajectories):
        frames = np.abs(np.subtract.outer(trajectory.times_s, instants_s)).argmin(axis=1)
        for frame, box in zip(frames, trajectory.boxes_xyxy_px):
            tracked[int(frame)].append((number, box))
    real: dict[int, list[tuple[int, Floats]]] = defaultdict(list)
    for vehicle, of in enumerate(truth["vehicles"]):
        columns = (of["frames"][name] for name in ("frame", "x_m", "y_m", "box", "truncated", "visible"))
        for frame, x_m, y_m, box, truncated, visible in zip(*columns):
            is_near = abs((np.array([x_m, y_m]) - middle_m) @ axis) <= reach_m
            if frame in frames_seen and is_near and not truncated and visible >= MIN_VISIBLE:
                real[frame].append((vehicle, np.array(box, dtype=np.float64)))
    shown: dict[int, list[int | None]] = defaultdict(list)
    for frame in sorted(real):
        numbers = _pair(real[frame], tracked.get(frame, []))
        for (vehicle, _), shows in zip(real[frame], numbers):
            shown[vehicle].append(shows)
    return _summary(shown)


def _pair(real: list[tuple[int, Floats]], tracked: list[tuple[int, Floats]]) -> list[int | None]:
    """The trajectory that shows each true box of a frame, None where none does."""
    numbers: list[int | None] = [None] * len(real)
    if tracked:
        a, b = (np.array([box for _, box in boxes]) for boxes in (real, tracked))
        sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
        common = np.clip(sides, 0.0, None).prod(axis=2)
        areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
        overlaps = common / (areas[0][:, None] + areas[1] - common)
        for i, j in zip(*linear_sum_assignment(-overlaps)):
            if overlaps[i, j] >= MIN_OVERLAP:
                numbers[i] = tracked[j][0]
    return numbers


def _summary(shown: dict[int, list[int | None]]) -> dict[str, float]:
    boxes = found = switches = fragments = 0
    vehicles_of: dict[int, int] = defaultdict(int)
    for numbers in shown.values():
        seen = [number for number in numbers if number is not None]
        boxes += len(numbers)
        found += len(seen)
        switches += sum(a != b for a, b in pairwise(seen))
        starts = sum(a is None and b is not None for a, b in zip([None, *numbers], numbers))
        fragments += max(0, starts - 1)
        for number in set(seen):
            vehicles_of[number] += seen.count(number) >= FEW_BOXES
    return {
        "found": found / boxes if boxes else float("nan"),
        "switches": switches,
        "fragments": fragments,
        "stitched": sum(vehicles > 1 for vehicles in vehicles_of.values()),
    }
