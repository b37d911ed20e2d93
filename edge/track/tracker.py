"""One identity per road user, followed in road metres and true seconds.

Every track is a constant-velocity Kalman filter on the road (white acceleration noise), so prediction is right at any
frame rate and through dropped frames: nothing counts frames. Each frame's sightings are assigned to tracks in two
rounds, confident ones first, faint ones as a second chance for tracks that found none (the idea of ByteTrack,
doi:10.1007/978-3-031-20047-2_1). The cost of a pair is the squared Mahalanobis distance on the road plus the change of
apparent size plus the lack of overlap in the picture; the overlap lets a vehicle whose tyres are hidden, and whose
place on the road is therefore wrong, keep its identity. Classes play no part: they flip from frame to frame.

Where boxes are noisier than believed, some of a vehicle's fall outside of its track's gate and begin a second track,
which takes its turn with the first. Two vehicles are never at one place, so two tracks that are, and were never seen in
the same frame, are made one.

Memory is bounded: a track that grows beyond ``MAX_SAMPLES`` forgets every second sample of its older half.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calibration.camera import inverse_2x2
from calibration.pairing import best_pairs
from calibration.road_plane import RoadPlane
from edge.domain import Bools, Floats, Ints, RoadUser, Sightings, Trajectory

ACCELERATION_SIGMA_MPS2 = np.array([3.0, 0.7])  # along: firm braking; across: a lane change
START_SPEED_SIGMA_MPS = np.array([14.0, 1.0])  # before the second sighting nothing is known: 50 km/h either way
START_SCORE = 0.35  # a sighting below this may extend a track, not begin one
GATE = 16.0  # squared Mahalanobis distance, 2 degrees of freedom: passes 99.97 % of right pairs
MIN_OVERLAP = 0.35  # intersection over union that keeps an identity when the place on the road is out of the gate
MIN_RIDER_OVERLAP = 0.25  # the same of a rider whose box ends at the feet now and ended at the tyres before
RIDERS = {user.label for user in (RoadUser.PERSON, RoadUser.BICYCLE, RoadUser.MOTORCYCLE)}
SIZE_SIGMA = np.array([0.35, 0.20])  # natural logarithm of width and height, frame to frame
SIZE_MEMORY = 0.8  # weight of the past in a track's apparent size
LOST_AFTER_S = 1.2  # a van hides a car for this long at walking distance; longer, and it is another vehicle
NEW_LOST_AFTER_S = 0.35  # a track of few sightings has no reliable speed to wait with
FEW_SIGHTINGS = 4
SAME_PLACE = np.array([4.0, 1.5, 8.0, 3.0])  # along, left, their rates [m, m/s]: no two vehicles are so near
MAX_SAMPLES = 512
TRUNCATED_PX = 3.0  # a bottom edge this near to the picture's edge says nothing about the tyres
TRUNCATED_VARIANCE_M2 = 25.0
DUPLICATE_OVERLAP = 0.7  # intersection over own area with a followed box: the same vehicle seen twice


@dataclass(frozen=True, slots=True)
class LiveTrack:
    """A track as it stands now, for drawing.

    Attributes:
        number: Counter within this run; never leaves the process.
        box_xyxy_px: The latest box. [px]
        position_m: Along and left of the axis. [m]
        velocity_mps: Along and left of the axis. [m/s]
        seen: Sightings so far.
        label: Index into :class:`edge.domain.RoadUser` of the latest box.
    """

    number: int
    box_xyxy_px: Floats
    position_m: Floats
    velocity_mps: Floats
    seen: int
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """The sightings of one frame, and what is worked out once for all of them.

    Attributes:
        sightings: The sightings.
        covered: Share of each box that a nearer one covers, shape (n,).
        noise_m2: Covariance of each place on the road, what the picture's edge hides included, shape (n, 2, 2). [m²]
    """

    sightings: Sightings
    covered: Floats
    noise_m2: Floats


_PER_SIGHTING = ("times_s", "boxes", "scores", "labels", "positions_m", "covered")


@dataclass(slots=True, eq=False)
class _Track:
    number: int
    state: Floats  # along, left [m], their rates [m/s]
    covariance: Floats
    size_m: Floats
    last_seen_s: float
    seen: int = 0
    times_s: list[float] = field(default_factory=list)
    boxes: list[Floats] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    positions_m: list[Floats] = field(default_factory=list)
    covered: list[float] = field(default_factory=list)

    def remember(self, scene: _Scene, row: int) -> None:
        sightings, detections = scene.sightings, scene.sightings.detections
        self.last_seen_s = sightings.time_s
        self.seen += 1
        self.times_s.append(sightings.time_s)
        self.boxes.append(detections.boxes_xyxy_px[row])
        self.scores.append(float(detections.scores[row]))
        self.labels.append(int(detections.labels[row]))
        self.positions_m.append(sightings.positions_m[row])
        self.covered.append(float(scene.covered[row]))
        if len(self.times_s) > MAX_SAMPLES:
            self._thin()

    def absorb(self, other: _Track) -> None:
        """Take over the sightings of a track of the same vehicle, and where it is if that was seen later."""
        order = np.argsort(self.times_s + other.times_s)
        for name in _PER_SIGHTING:
            values = getattr(self, name) + getattr(other, name)
            setattr(self, name, [values[row] for row in order])
        if other.last_seen_s > self.last_seen_s:
            self.state, self.covariance, self.size_m = other.state, other.covariance, other.size_m
            self.last_seen_s = other.last_seen_s
        self.seen += other.seen
        while len(self.times_s) > MAX_SAMPLES:
            self._thin()

    @property
    def patience_s(self) -> float:
        return LOST_AFTER_S if self.seen >= FEW_SIGHTINGS else NEW_LOST_AFTER_S

    def _thin(self) -> None:
        half = len(self.times_s) // 2
        for name in _PER_SIGHTING:
            values = getattr(self, name)
            setattr(self, name, values[:half:2] + values[half:])

    def trajectory(self, time_sigma_s: float) -> Trajectory:
        return Trajectory(
            times_s=np.array(self.times_s),
            time_sigma_s=time_sigma_s,
            boxes_xyxy_px=np.array(self.boxes).reshape(-1, 4),
            scores=np.array(self.scores),
            labels=np.array(self.labels, dtype=np.intp),
            positions_m=np.array(self.positions_m).reshape(-1, 2),
            covered=np.array(self.covered),
        )


class Tracker:
    """Follows road users over frames; hands out the trajectory of each one that has gone.

    Args:
        plane: Road plane in the frame of the site's axis, for predicting where a box will appear.
        along_m: Stretch of road that is followed. [m]
        across_m: Its extent left of the axis. [m]
    """

    def __init__(self, plane: RoadPlane, *, along_m: tuple[float, float], across_m: tuple[float, float]) -> None:
        self._plane = plane
        self._low = np.array([along_m[0], across_m[0]])
        self._high = np.array([along_m[1], across_m[1]])
        self._tracks: list[_Track] = []
        self._numbered = 0
        self._time_s: float | None = None
        self._time_sigma_s = 0.0

    @property
    def live(self) -> list[LiveTrack]:
        """Tracks seen in the latest frame, for drawing."""
        return [
            LiveTrack(t.number, t.boxes[-1], t.state[:2].copy(), t.state[2:].copy(), t.seen, t.labels[-1])
            for t in self._tracks
            if t.last_seen_s == self._time_s
        ]

    def turn_to(self, plane: RoadPlane) -> None:
        """Go on with another road plane: the camera has turned a little. Tracks keep their place on the road."""
        self._plane = plane

    def follow(self, sightings: Sightings) -> list[Trajectory]:
        """Take in one frame; return the trajectories of road users that were last seen long enough ago.

        Raises:
            ValueError: the frame is not later than the one before it.
        """
        if self._time_s is not None and sightings.time_s <= self._time_s:
            raise ValueError(f"frames must be in order of time: {sightings.time_s} s after {self._time_s} s")
        self._predict(sightings.time_s)
        self._time_sigma_s = max(self._time_sigma_s, sightings.time_sigma_s)
        self._assign(sightings)
        return self._take(self._lost(sightings.time_s))

    def finish(self) -> list[Trajectory]:
        """End of the recording: the trajectories of everyone still followed."""
        return self._take(list(self._tracks))

    def forget(self) -> None:
        """Follow nobody any more."""
        self._tracks = []

    def _lost(self, time_s: float) -> list[_Track]:
        """Tracks not seen for too long, or not seen and expected outside of the picture: what enters there is new."""
        unseen = [t for t in self._tracks if t.last_seen_s < time_s]
        if not unseen:
            return []
        boxes = self._expected_boxes(np.array([t.state for t in unseen]), np.array([t.size_m for t in unseen]))
        width, height = self._plane.camera.image_size_px
        inside = (boxes[:, 2] > 0) & (boxes[:, 0] < width) & (boxes[:, 3] > 0) & (boxes[:, 1] < height)
        return [t for t, seen in zip(unseen, inside) if not seen or time_s - t.last_seen_s > t.patience_s]

    def _take(self, gone: list[_Track]) -> list[Trajectory]:
        self._tracks = [t for t in self._tracks if t not in gone]
        return [t.trajectory(self._time_sigma_s) for t in gone]

    def _predict(self, time_s: float) -> None:
        dt = 0.0 if self._time_s is None else time_s - self._time_s
        self._time_s = time_s
        if not self._tracks or dt == 0.0:
            return
        transition = np.eye(4)
        transition[[0, 1], [2, 3]] = dt
        noise = np.zeros((4, 4))
        spread = ACCELERATION_SIGMA_MPS2**2
        noise[[0, 1], [0, 1]] = spread * dt**4 / 4
        noise[[2, 3], [2, 3]] = spread * dt**2
        noise[[0, 1, 2, 3], [2, 3, 0, 1]] = np.tile(spread * dt**3 / 2, 2)
        states = np.array([t.state for t in self._tracks]) @ transition.T
        covariances = transition @ np.array([t.covariance for t in self._tracks]) @ transition.T + noise
        for track, state, covariance in zip(self._tracks, states, covariances):
            track.state, track.covariance = state, covariance

    def _assign(self, sightings: Sightings) -> None:
        inside = ((sightings.positions_m > self._low) & (sightings.positions_m < self._high)).all(axis=1)
        usable = sightings.on_road & inside
        scene = _Scene(sightings, _covered(sightings.detections.boxes_xyxy_px), self._noise(sightings))
        strong = sightings.detections.scores >= START_SCORE
        free, orphans = self._match(self._tracks, np.flatnonzero(usable & strong), scene)
        self._match(free, np.flatnonzero(usable & ~strong), scene)
        for row in orphans:
            if not self._is_taken(row, sightings):
                self._begin(scene, row)
        self._join()

    def _join(self) -> None:
        """Make one of any two tracks that are at one place and were never seen in the same frame.

        A box cut by the picture's edge tells no place.
        """
        known = [t for t in self._tracks if t.seen >= FEW_SIGHTINGS]
        states = np.array([t.state for t in known]).reshape(-1, 4)
        is_whole = ~np.logical_or(*self._cut(np.array([t.boxes[-1] for t in known]).reshape(-1, 4)))
        is_near = (np.abs(states[:, None] - states[None]) < SAME_PLACE).all(axis=-1) & is_whole[:, None] & is_whole
        for first, second in np.argwhere(np.triu(is_near, 1)):
            older, younger = known[first], known[second]
            if {older, younger} <= set(self._tracks) and set(older.times_s).isdisjoint(younger.times_s):
                older.absorb(younger)
                self._tracks.remove(younger)

    def _is_taken(self, row: int, sightings: Sightings) -> bool:
        """Whether a sighting already belongs to a track, or shows a vehicle that has one."""
        box = sightings.detections.boxes_xyxy_px[row]
        followed = np.array([t.boxes[-1] for t in self._tracks if t.last_seen_s == sightings.time_s]).reshape(-1, 4)
        return bool((_intersections(box[None], followed)[0] > DUPLICATE_OVERLAP * _areas(box[None])[0]).any())

    def _match(self, tracks: list[_Track], rows: Ints, scene: _Scene) -> tuple[list[_Track], list[int]]:
        """Assign sightings to tracks; returns the tracks that found none and the rows that nobody took."""
        if not tracks or not len(rows):
            return tracks, rows.tolist()
        distances, overlaps, sizes = self._compare(tracks, rows, scene)
        cost = np.minimum(distances, GATE) + sizes + 4.0 * (1.0 - overlaps)
        rides = np.array([t.labels[-1] in RIDERS for t in tracks])[:, None]
        is_rider = rides & (scene.sightings.detections.labels[rows] == RoadUser.PERSON.label)
        possible = (distances < GATE) | (overlaps > np.where(is_rider, MIN_RIDER_OVERLAP, MIN_OVERLAP))
        takers, taken = best_pairs(cost, possible)
        self._update([tracks[i] for i in takers], rows[taken], scene, distances[takers, taken])
        free = [t for i, t in enumerate(tracks) if i not in takers]
        return free, np.delete(rows, taken).tolist()

    def _compare(self, tracks: list[_Track], rows: Ints, scene: _Scene) -> tuple[Floats, Floats, Floats]:
        """Squared Mahalanobis distance, overlap and squared change of size of every pair, shape (tracks, rows)."""
        sightings = scene.sightings
        states = np.array([t.state for t in tracks])
        innovation = sightings.positions_m[rows][None] - states[:, None, :2]
        spread = np.array([t.covariance[:2, :2] for t in tracks])[:, None] + scene.noise_m2[rows][None]
        distances = np.einsum("ijk,ijkl,ijl->ij", innovation, inverse_2x2(spread), innovation)
        known = np.array([t.size_m for t in tracks])
        change = np.log(sightings.sizes_m[rows][None] / known[:, None]) / SIZE_SIGMA
        overlaps = _overlaps(self._expected_boxes(states, known), sightings.detections.boxes_xyxy_px[rows])
        return distances, overlaps, np.minimum((change**2).sum(axis=-1), GATE)

    def _noise(self, sightings: Sightings) -> Floats:
        """Covariance of places on the road, shape (n, 2, 2): what the picture's edge cuts off may be anywhere. [m²]"""
        boxes = sightings.detections.boxes_xyxy_px
        sideways, below = self._cut(boxes)
        hidden_m2 = np.where(sideways, (sightings.sizes_m[:, 0] / 2) ** 2, 0.0) + below * TRUNCATED_VARIANCE_M2
        return np.asarray(sightings.covariances_m2 + hidden_m2[:, None, None] * np.eye(2))

    def _cut(self, boxes: Floats) -> tuple[Bools, Bools]:
        """Which boxes end at a side of the picture, and which at its bottom, shape (n,) each."""
        width, height = self._plane.camera.image_size_px
        sideways = (boxes[:, 0] < TRUNCATED_PX) | (boxes[:, 2] > width - 1 - TRUNCATED_PX)
        return np.asarray(sideways), np.asarray(boxes[:, 3] > height - 1 - TRUNCATED_PX)

    def _expected_boxes(self, states: Floats, sizes_m: Floats) -> Floats:
        """Where the boxes of the tracks should appear, shape (n, 4); NaN off the picture's half space. [px]"""
        feet = self._plane.project(states[:, :2])
        extents = sizes_m * self._plane.pixels_per_metre(states[:, :2])[:, None]
        half = extents[:, 0] / 2
        return np.column_stack([feet[:, 0] - half, feet[:, 1] - extents[:, 1], feet[:, 0] + half, feet[:, 1]])

    def _update(self, tracks: list[_Track], rows: Ints, scene: _Scene, distances: Floats) -> None:
        """Kalman update of tracks with the sightings that they took.

        A sighting far from the prediction counts less (its tyres are probably hidden).
        """
        if not tracks:
            return
        sightings = scene.sightings
        states, before = np.array([t.state for t in tracks]), np.array([t.covariance for t in tracks])
        noise = scene.noise_m2[rows] * np.maximum(1.0, distances / 4.0)[:, None, None]
        gains = before[:, :, :2] @ inverse_2x2(before[:, :2, :2] + noise)
        states += (gains @ (sightings.positions_m[rows] - states[:, :2])[..., None])[..., 0]
        after = before - gains @ before[:, :2]
        after = (after + np.swapaxes(after, 1, 2)) / 2
        for track, row, state, covariance, distance in zip(tracks, rows.tolist(), states, after, distances):
            track.state, track.covariance = state, covariance
            if distance < GATE:
                track.size_m = SIZE_MEMORY * track.size_m + (1 - SIZE_MEMORY) * sightings.sizes_m[row]
            track.remember(scene, row)

    def _begin(self, scene: _Scene, row: int) -> None:
        sightings = scene.sightings
        covariance = np.zeros((4, 4))
        covariance[:2, :2] = scene.noise_m2[row]
        covariance[[2, 3], [2, 3]] = START_SPEED_SIGMA_MPS**2
        state = np.concatenate([sightings.positions_m[row], np.zeros(2)])
        self._numbered += 1
        track = _Track(self._numbered, state, covariance, np.array(sightings.sizes_m[row]), sightings.time_s)
        track.remember(scene, row)
        self._tracks.append(track)


def _areas(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _intersections(first: Floats, second: Floats) -> Floats:
    """Common area of every pair of boxes, shape (n, m). [px²]"""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.clip(high - low, 0.0, None).prod(axis=-1))


def _overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of every pair of boxes, shape (n, m); 0 where a box is not finite."""
    common = _intersections(first, second)
    union = _areas(first)[:, None] + _areas(second)[None] - common
    return np.asarray(np.nan_to_num(np.divide(common, union, out=np.zeros_like(common), where=union > 0)))


def _covered(boxes: Floats) -> Floats:
    """Share of each box that a nearer one (its bottom edge is lower in the picture) covers, shape (n,)."""
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    nearer = boxes[None, :, 3] > boxes[:, None, 3]
    return np.asarray(np.where(nearer, _intersections(boxes, boxes), 0.0).max(axis=1) / _areas(boxes))
