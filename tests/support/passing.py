"""Vehicles that pass a pole, with the exact truth: solids, a camera, and a detector that errs as we choose.

The bodies are point clouds on super-ellipsoids and cylinders (rounded hull and cabin, wheels, mirrors, a rider). They
share nothing with the coarse hulls that the speed estimate assumes, so an agreement means something. Boxes bound what
of the cloud falls into the picture, therefore a truncated vehicle has the box of its visible part.

The road is already in the frame of the axis: x along it, y to its left, the zone from 0 to ``ZONE_M``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from calibration import PARAMETERS, Camera, RoadPlane, Site, Survey, solve
from calibration.camera import Floats
from edge.domain import Bools, Detections, Direction, Ints, RoadUser, Trajectory
from edge.localise import Localiser
from edge.track import Tracker
from edge.zones import Zone

SIZE_PX = (960, 540)
ZONE_M = 20.0
ROADSIDE_M = 3.5  # half the carriageway
MIN_PX = 8.0  # smaller than this a detector sees nothing

# ------------------------------------------------------------------------------------------------------------- poles


def a_camera(
    *,
    at_m: tuple[float, float, float] = (-8.0, -6.5, 5.5),
    towards_m: tuple[float, float, float] = (10.0, 0.0, 0.5),
    focal_px: float = 640.0,
    k1: float = 0.0,
) -> Camera:
    """A camera on a pole, aimed at a point."""
    position = np.array(at_m)
    forward = np.array(towards_m) - position
    forward /= np.linalg.norm(forward)
    right = np.array([forward[1], -forward[0], 0.0])
    right /= np.linalg.norm(right)
    return Camera(
        image_size_px=SIZE_PX,
        focal_px=focal_px,
        centre_px=(SIZE_PX[0] / 2 - 0.5, SIZE_PX[1] / 2 - 0.5),
        distortion=(k1, -k1 / 5, 0.0, 0.0, 0.0),
        rotation=np.array([right, np.cross(forward, right), forward]),
        position_m=position,
    )


POLES = {
    "side-on, 5 m high": a_camera(at_m=(10.0, -13.0, 5.0), towards_m=(10.0, 0.0, 0.5), focal_px=520.0),
    "oblique, 5.5 m high": a_camera(),
    "oblique, 7 m high, wide lens": a_camera(
        at_m=(-6.0, -6.0, 7.0), towards_m=(8.0, 0.0, 0.0), focal_px=520.0, k1=-0.25
    ),
    "along the street, 8 m high": a_camera(at_m=(-16.0, -4.0, 8.0), towards_m=(10.0, 0.0, 0.5), focal_px=900.0),
    "along the street, 4 m high, wide lens": a_camera(
        at_m=(-12.0, -4.5, 4.0), towards_m=(10.0, 0.0, 0.5), focal_px=700.0, k1=-0.2
    ),
}


def known_plane(camera: Camera) -> RoadPlane:
    """The road under a camera that is known exactly."""
    hull = np.array([[-30.0, -12.0], [60.0, -12.0], [60.0, 12.0], [-30.0, 12.0]])
    return RoadPlane(camera, np.zeros((len(PARAMETERS), len(PARAMETERS))), hull)


def surveyed_plane(camera: Camera, *, click_px: float = 0.5, tape_m: float = 0.01, seed: int = 0) -> RoadPlane:
    """The road as a technician finds it: marks on both sides and in the middle, clicked and taped with that noise."""
    rng = np.random.default_rng(seed)
    marks = np.array([(x, y) for x in (-6.0, 0.0, 5.0, 10.0, 15.0, 20.0, 26.0) for y in (-ROADSIDE_M, 0.0, ROADSIDE_M)])
    clicks = camera.project(np.column_stack([marks, np.zeros(len(marks))]))
    seen = _in_picture(clicks, margin_px=1.0 + 5 * click_px)  # nobody can click outside of the picture
    marks, clicks = marks[seen], clicks[seen]
    survey = Survey(
        names=tuple(f"P{number}" for number in range(len(marks))),
        pixels=clicks + rng.normal(0.0, click_px, clicks.shape),
        points_m=marks + rng.normal(0.0, tape_m, marks.shape),
        sigma_px=np.full(len(marks), click_px),
        sigma_m=np.full(len(marks), tape_m),
        origin=tuple(f"survey.csv line {row}" for row in range(2, len(marks) + 2)),
    )
    return solve(survey, _SITE, SIZE_PX).plane


_SITE = Site(
    id="test-street",
    limit_kmh=30,
    mount_height_m=None,
    polygon_m=((0.0, -ROADSIDE_M), (ZONE_M, -ROADSIDE_M), (ZONE_M, ROADSIDE_M), (0.0, ROADSIDE_M)),
    axis_m=((0.0, 0.0), (ZONE_M, 0.0)),
    forward="out",
    backward="in",
)


def a_zone(*, length_m: float = ZONE_M, half_width_m: float = ROADSIDE_M) -> Zone:
    """A rectangle over the carriageway."""
    corners = [(0.0, -half_width_m), (length_m, -half_width_m), (length_m, half_width_m), (0.0, half_width_m)]
    return Zone(length_m=length_m, polygon_m=np.array(corners))


# ------------------------------------------------------------------------------------------------------------ bodies


@dataclass(frozen=True, eq=False)
class Solid:
    """A body of a road user.

    Attributes:
        road_user: What it is.
        length_m: Its true length. [m]
        cloud_m: Points of its surface: forward and left of the footprint's centre, up, shape (points, 3). [m]
    """

    road_user: RoadUser
    length_m: float
    cloud_m: Floats


@cache
def _sphere(count: int) -> Floats:
    """Evenly spread directions (golden spiral), shape (count, 3)."""
    steps = np.arange(count) + 0.5
    up = 1 - 2 * steps / count
    turn = np.pi * (1 + math.sqrt(5)) * steps
    level = np.sqrt(1 - up**2)
    return np.column_stack([level * np.cos(turn), level * np.sin(turn), up])


def _rounded(low: Sequence[float], high: Sequence[float], roundness: float, count: int = 260) -> Floats:
    """A super-ellipsoid that fills a cuboid: exponent 2 is an ellipsoid, 10 nearly the cuboid."""
    directions = _sphere(count)
    radius = (np.abs(directions) ** roundness).sum(axis=1) ** (-1 / roundness)
    centre, half = (np.add(low, high)) / 2, np.subtract(high, low) / 2
    return np.asarray(centre + half * directions * radius[:, None])


def _wheels(along_m: Sequence[float], track_m: float, radius_m: float, wide_m: float = 0.2) -> Floats:
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    rim = np.column_stack([radius_m * np.sin(turn), np.zeros(12), radius_m * (1 - np.cos(turn))])
    sides = [-track_m / 2 - wide_m / 2, -track_m / 2 + wide_m / 2, track_m / 2 - wide_m / 2, track_m / 2 + wide_m / 2]
    return np.concatenate([rim + np.array([x, y, 0.0]) for x in along_m for y in (sides if track_m else [-0.06, 0.06])])


def _mirrors(along_m: float, over_m: float, up_m: float) -> Floats:
    return _rounded([along_m - 0.08, -over_m / 2, up_m - 0.1], [along_m + 0.08, over_m / 2, up_m + 0.1], 8.0, 40)


def a_car(length_m: float = 4.4, width_m: float = 1.8, height_m: float = 1.5) -> Solid:
    """A hatchback: rounded hull, narrower rounded cabin, wheels, mirrors. Widths are over the body."""
    x, y, z = length_m, width_m / 2, height_m
    parts = [
        _rounded([-x / 2, -y, 0.2], [x / 2, y, 0.62 * z], 5.0),
        _rounded([-0.46 * x, -0.86 * y, 0.4 * z], [0.24 * x, 0.86 * y, z], 3.0),
        _wheels([-0.3 * x, 0.31 * x], width_m - 0.28, 0.31),
        _mirrors(0.13 * x, width_m + 0.2, 0.64 * z),
    ]
    return Solid(RoadUser.CAR, length_m, np.concatenate(parts))


def a_van(length_m: float = 5.3, width_m: float = 2.0, height_m: float = 2.2) -> Solid:
    """A delivery van: high rounded box, short bonnet, wheels, large mirrors."""
    x, y, z = length_m, width_m / 2, height_m
    parts = [
        _rounded([-x / 2, -y, 0.25], [0.33 * x, y, z], 8.0),
        _rounded([0.0, -0.95 * y, 0.25], [x / 2, 0.95 * y, 0.52 * z], 5.0),
        _wheels([-0.29 * x, 0.33 * x], width_m - 0.3, 0.34),
        _mirrors(0.27 * x, width_m + 0.4, 0.6 * z),
    ]
    return Solid(RoadUser.CAR, length_m, np.concatenate(parts))


def a_bus(length_m: float = 12.0, width_m: float = 2.55, height_m: float = 3.1) -> Solid:
    """A city bus: nearly a box, mirrors ahead of it."""
    x, y, z = length_m, width_m / 2, height_m
    parts = [
        _rounded([-x / 2, -y, 0.25], [x / 2, y, z], 12.0, 420),
        _wheels([-0.23 * x, 0.28 * x], width_m - 0.35, 0.48, 0.3),
        _mirrors(0.5 * x, width_m + 0.4, 0.75 * z),
    ]
    return Solid(RoadUser.BUS, length_m, np.concatenate(parts))


def a_motorcycle(length_m: float = 2.1, height_m: float = 1.65) -> Solid:
    """A motorcycle with a rider who sits upright."""
    x, z = length_m, height_m
    parts = [
        _rounded([-0.4 * x, -0.18, 0.25], [0.35 * x, 0.18, 0.6 * z], 2.5, 120),
        _rounded([-0.25 * x, -0.27, 0.4 * z], [0.12 * x, 0.27, 0.88 * z], 2.5, 120),
        _rounded([-0.12 * x, -0.14, 0.82 * z], [0.06 * x, 0.14, z], 2.0, 60),
        _rounded([0.16 * x, -0.38, 0.57 * z], [0.22 * x, 0.38, 0.63 * z], 4.0, 40),
        _wheels([-0.35 * x, 0.35 * x], 0.0, 0.3),
    ]
    return Solid(RoadUser.MOTORCYCLE, length_m, np.concatenate(parts))


def a_pedestrian() -> Solid:
    """Someone on foot."""
    return Solid(RoadUser.PERSON, 0.5, _rounded([-0.25, -0.25, 0.0], [0.25, 0.25, 1.75], 2.5, 120))


def some_solid(rng: np.random.Generator, kind: str = "car") -> Solid:
    """A car, a van or a bus, as large as they happen to be."""
    if kind == "van":
        return a_van(rng.normal(5.3, 0.4), rng.normal(2.0, 0.06), rng.normal(2.2, 0.25))
    if kind == "bus":
        return a_bus(rng.normal(11.8, 0.7), 2.55, rng.normal(3.1, 0.12))
    return a_car(rng.normal(4.35, 0.35), rng.normal(1.8, 0.06), rng.normal(1.52, 0.09))


# ----------------------------------------------------------------------------------------------------------- driving


@dataclass(frozen=True)
class Drive:
    """How something moves along the road: constant acceleration, parallel to the axis.

    Attributes:
        speed_mps: When its middle is in the middle of the zone; 0 stands. [m/s]
        middle_s: When that is. [s]
        acceleration_mps2: Gain of speed, negative when it brakes. [m/s²]
        direction: Along the axis or against it.
        lateral_m: Offset from the axis, left positive. [m]
        middle_m: Where along the axis it is at ``middle_s``. [m]
    """

    speed_mps: float
    middle_s: float = 5.0
    acceleration_mps2: float = 0.0
    direction: Direction = Direction.FORWARD
    lateral_m: float = -1.6
    middle_m: float = ZONE_M / 2

    def along_m(self, times_s: Floats) -> Floats:
        """Where the footprint's centre is. [m]"""
        tau = np.asarray(times_s) - self.middle_s
        return np.asarray(
            self.middle_m + self.direction.sign * (self.speed_mps * tau + self.acceleration_mps2 * tau**2 / 2)
        )

    def reaches_s(self, ahead_m: float) -> float:
        """When it is this far ahead of the middle, in its own direction. [s]"""
        if self.acceleration_mps2 == 0.0:
            return self.middle_s + ahead_m / self.speed_mps
        root = math.sqrt(self.speed_mps**2 + 2 * self.acceleration_mps2 * ahead_m)
        return self.middle_s + (root - self.speed_mps) / self.acceleration_mps2

    @property
    def mean_speed_mps(self) -> float:
        """Mean speed through the zone: its length over the time between its ends. [m/s]"""
        return ZONE_M / (self.reaches_s(ZONE_M / 2) - self.reaches_s(-ZONE_M / 2))


def boxes_of(camera: Camera, solid: Solid, drive: Drive, times_s: Floats) -> Floats:
    """Exact bounds of what can be seen of it in each picture, NaN when it cannot be seen, shape (k, 4). [px]"""
    sign = drive.direction.sign
    world = np.empty((len(times_s), len(solid.cloud_m), 3))
    world[..., 0] = drive.along_m(times_s)[:, None] + sign * solid.cloud_m[:, 0]
    world[..., 1] = drive.lateral_m + sign * solid.cloud_m[:, 1]
    world[..., 2] = solid.cloud_m[:, 2]
    pixels = camera.project(world)
    shown = _in_picture(pixels)
    low = np.where(shown[..., None], pixels, np.inf).min(axis=1)
    high = np.where(shown[..., None], pixels, -np.inf).max(axis=1)
    edge = np.array(SIZE_PX) - 0.5
    finite = np.nan_to_num(pixels, nan=0.0)
    low = np.where((finite < -0.5).any(axis=1), -0.5, low)  # what goes on outside is cut at the border
    high = np.where((finite > edge).any(axis=1), edge, high)
    boxes: Floats = np.concatenate([low, high], axis=1)
    boxes[~shown.any(axis=1) | ((high - low).min(axis=1) < MIN_PX)] = np.nan
    return boxes


def _in_picture(pixels: Floats, margin_px: float = 0.0) -> Bools:
    low, high = margin_px - 0.5, np.array(SIZE_PX) - 0.5 - margin_px
    return np.asarray(((pixels >= low) & (pixels <= high)).all(axis=-1))  # NaN is not in it


# Left, top, right, bottom edge: how much more or less than the mean edge each wanders, measured (edge.speed.bodies)
EDGE_FACTORS = np.array([0.96, 1.31, 0.96, 0.73])
KEPT = (0.024, 0.02, 0.024, 0.0144)  # what a vehicle keeps at each edge, measured (benchmarks.edges)


@dataclass(frozen=True)
class Noise:
    """How a detector's boxes err, in shares of the box's width (left, right) or height (top, bottom).

    White and slow part are those of the mean edge, together 2.0 %; :data:`EDGE_FACTORS` tells them apart.

    Attributes:
        white: From frame to frame, one standard deviation.
        slow: A part that wanders over ``slow_s`` (first-order autoregressive), one standard deviation.
        slow_s: Its correlation time. [s]
        constant: A part that a vehicle keeps, one standard deviation, left, top, right, bottom.
        low_bottom: How far below the tyres the bottom edge of a small box lies in the mean.
        near_bottom: What that gains for each unit of ln(height of the box / 40 px) above 0: the shadow (measured on
            rendered cars, 0.9 % ± 0.25 %).
        floor_px: Least noise of an edge. [px]
        slow_px: A part of so many pixels that wanders over ``slow_s``, one standard deviation. [px]
    """

    white: float = 0.017
    slow: float = 0.010
    slow_s: float = 0.3
    constant: tuple[float, float, float, float] = KEPT
    low_bottom: float = 0.0125
    near_bottom: float = 0.009
    floor_px: float = 0.5
    slow_px: float = 0.0

    def on(self, boxes: Floats, times_s: Floats, rng: np.random.Generator) -> Floats:
        """The boxes as the detector draws them; an edge on the picture's border stays there."""
        extents = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        share = self.white * EDGE_FACTORS * rng.normal(size=boxes.shape) + self.constant * rng.normal(size=4)
        slow = rng.normal(size=4)
        wander = np.empty_like(boxes)
        for row, step_s in enumerate(np.diff(times_s, prepend=times_s[:1])):
            keep = math.exp(-step_s / self.slow_s)
            slow = keep * slow + math.sqrt(1 - keep**2) * rng.normal(size=4)
            wander[row] = slow
        share += self.slow * EDGE_FACTORS * wander
        share[:, 3] += self.low_bottom + self.near_bottom * np.log(np.maximum(extents[:, 1] / 40.0, 1.0))
        drawn = boxes + share * extents + self.slow_px * wander + rng.normal(0.0, self.floor_px, boxes.shape)
        edge = np.array(SIZE_PX) - 0.5
        drawn = np.clip(drawn, -0.5, np.tile(edge, 2))
        at_low, at_high = boxes[:, :2] <= -0.5, boxes[:, 2:] >= edge
        drawn[:, :2] = np.where(at_low, -0.5, drawn[:, :2])
        drawn[:, 2:] = np.where(at_high, edge, drawn[:, 2:])
        return drawn


EXACT = Noise(white=0.0, slow=0.0, constant=(0.0, 0.0, 0.0, 0.0), low_bottom=0.0, near_bottom=0.0, floor_px=0.0)


def boxed(
    plane: RoadPlane,
    times_s: Floats,
    boxes_xyxy_px: Floats,
    road_user: RoadUser = RoadUser.CAR,
    *,
    time_sigma_s: float = 0.0005,
) -> Trajectory:
    """A trajectory of these boxes, of those that stand on the road."""
    labels = np.full(len(boxes_xyxy_px), road_user.label)
    detections = Detections(boxes_xyxy_px, np.full(len(labels), 0.8), labels)
    placed = Localiser(plane).locate(0.0, time_sigma_s, detections)
    on_road = np.flatnonzero(placed.on_road)
    return Trajectory(
        times_s=np.asarray(times_s)[on_road],
        time_sigma_s=time_sigma_s,
        boxes_xyxy_px=detections.boxes_xyxy_px[on_road],
        scores=detections.scores[on_road],
        labels=detections.labels[on_road],
        positions_m=placed.positions_m[on_road],
        covered=np.zeros(len(on_road)),
    )


def a_trajectory(
    plane: RoadPlane,
    solid: Solid,
    drive: Drive,
    *,
    camera: Camera | None = None,
    noise: Noise = EXACT,
    rate_hz: float = 20.0,
    time_sigma_s: float = 0.0005,
    rng: np.random.Generator | None = None,
) -> Trajectory:
    """What a perfect tracker collects of one road user.

    Args:
        plane: What is believed of the road.
        solid: Its body.
        drive: How it moves.
        camera: The true camera, when it is not the one that is believed.
        noise: Of the detector.
        rate_hz: Frames a second. [1/s]
        time_sigma_s: Stated uncertainty of an instant. [s]
        rng: For the noise.
    """
    reach_s = 30.0 / max(drive.speed_mps, 3.0)
    times_s = drive.middle_s + np.arange(-reach_s, reach_s, 1.0 / rate_hz, dtype=np.float64)
    exact = boxes_of(camera or plane.camera, solid, drive, times_s)
    seen = np.isfinite(exact).all(axis=1)
    drawn = noise.on(exact[seen], times_s[seen], rng or np.random.default_rng(0))
    return boxed(plane, times_s[seen], drawn, solid.road_user, time_sigma_s=time_sigma_s)


# ------------------------------------------------------------------------------------------------------- whole streets


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame as a detector sees it, and what each box really is.

    Attributes:
        time_s: When. [s]
        detections: The boxes.
        owners: Number of the vehicle that each box shows, shape (n,).
        along_m: Where its footprint's centre truly is along the axis, shape (n,). [m]
    """

    time_s: float
    detections: Detections
    owners: Ints
    along_m: Floats

    def with_boxes(self, boxes_xyxy_px: Floats) -> Shot:
        """The same shot with other boxes on the same vehicles."""
        return replace(self, detections=Detections(boxes_xyxy_px, self.detections.scores, self.detections.labels))


def shots(
    camera: Camera,
    vehicles: Sequence[tuple[Solid, Drive]],
    times_s: Floats,
    *,
    noise: Noise = EXACT,
    score: Callable[[int, float], float] = lambda vehicle, time_s: 0.8,
    hidden_from: float = 1.0,
    seed: int = 0,
) -> list[Shot]:
    """What a detector sees of a street.

    Args:
        camera: The camera.
        vehicles: Who is there and how they move.
        times_s: When the frames are taken. [s]
        noise: Of the boxes.
        score: Confidence for a vehicle at an instant; 0 is no box.
        hidden_from: A box is missed when nearer ones cover this share of it.
        seed: Of the noise.
    """
    rng = np.random.default_rng(seed)
    boxes = np.array([boxes_of(camera, solid, drive, times_s) for solid, drive in vehicles])
    drawn = np.array([noise.on(track, times_s, rng) for track in boxes])
    along_m = np.array([drive.along_m(times_s) for _, drive in vehicles])
    taken = []
    for row, time_s in enumerate(times_s):
        scores = np.array([score(number, float(time_s)) for number in range(len(vehicles))])
        seen = np.isfinite(boxes[:, row]).all(axis=1) & (scores > 0) & (_hidden(boxes[:, row]) < hidden_from)
        labels = np.array([solid.road_user.label for solid, _ in vehicles])
        detections = Detections(drawn[seen, row], scores[seen], labels[seen])
        taken.append(Shot(float(time_s), detections, np.flatnonzero(seen), along_m[seen, row]))
    return taken


def _hidden(boxes: Floats) -> Floats:
    """Largest share of each box that one nearer box covers; 1 is all of it, shape (n,)."""
    hidden = np.zeros(len(boxes))
    for mine, box in enumerate(boxes):
        for other in boxes[boxes[:, 3] > box[3]]:
            width, height = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
            if width > 0 and height > 0:
                hidden[mine] = max(hidden[mine], width * height / np.prod(box[2:] - box[:2]))
    return hidden


def a_tracker(plane: RoadPlane) -> Tracker:
    """A tracker over the zone, 25 m before and after it and 4 m beside it."""
    aside_m = ROADSIDE_M + 4.0
    return Tracker(plane, along_m=(-25.0, ZONE_M + 25.0), across_m=(-aside_m, aside_m))


def followed(plane: RoadPlane, taken: Sequence[Shot]) -> list[Trajectory]:
    """All trajectories of a street, in the order in which they ended."""
    localiser, tracker = Localiser(plane), a_tracker(plane)
    gone: list[Trajectory] = []
    for shot in taken:
        gone += tracker.follow(localiser.locate(shot.time_s, 0.0005, shot.detections))
    return gone + tracker.finish()


@dataclass(frozen=True, eq=False)
class Identity:
    """Whose boxes a trajectory is made of, sample by sample.

    Attributes:
        trajectory: What the tracker made.
        owners: Numbers of the vehicles, shape (k,).
        along_m: Where those truly were, shape (k,). [m]
    """

    trajectory: Trajectory
    owners: Ints
    along_m: Floats


def identities(plane: RoadPlane, taken: Sequence[Shot]) -> list[Identity]:
    """All trajectories of a street with their owners."""
    truth = {
        (shot.time_s, box.tobytes()): (owner, along_m)
        for shot in taken
        for box, owner, along_m in zip(shot.detections.boxes_xyxy_px, shot.owners, shot.along_m)
    }
    found = []
    for trajectory in followed(plane, taken):
        rows = [truth[float(t), box.tobytes()] for t, box in zip(trajectory.times_s, trajectory.boxes_xyxy_px)]
        found.append(Identity(trajectory, np.array([row[0] for row in rows]), np.array([row[1] for row in rows])))
    return found
