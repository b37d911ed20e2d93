"""From a picture to a passage: the records of the measuring half of the house.

Instants are integer nanoseconds of the source's own clock, durations float seconds, lengths metres on the road plane.
Arrays are checked at birth and read-only afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]
Pixels = npt.NDArray[np.uint8]
Region = tuple[int, int, int, int]  # of a picture: first column, first row, and one past the last of each [px]


class TimeKind(str, Enum):
    """Where a frame's time stamp comes from, best first."""

    SENSOR = "sensor"  # the camera stamped the exposure
    PTS = "pts"  # presentation time stamp of the container
    ARRIVAL = "arrival"  # when the frame reached this process


class RoadUser(str, Enum):
    """What a detector calls the thing it saw. The order is the index used in ``labels``."""

    CAR = "car"
    TRUCK = "truck"
    BUS = "bus"
    MOTORCYCLE = "motorcycle"
    BICYCLE = "bicycle"
    PERSON = "person"  # never counted as such: a person at vehicle speed on the carriageway is a rider

    @property
    def label(self) -> int:
        """Index of this class in label arrays."""
        return list(RoadUser).index(self)

    @property
    def is_motor(self) -> bool:
        """Whether speed statistics include it."""
        return self in (RoadUser.CAR, RoadUser.TRUCK, RoadUser.BUS, RoadUser.MOTORCYCLE)


VEHICLE_CLASSES = (RoadUser.CAR, RoadUser.TRUCK, RoadUser.BUS, RoadUser.MOTORCYCLE, RoadUser.BICYCLE)


class Direction(str, Enum):
    """Along the site's direction axis, or against it."""

    FORWARD = "forward"
    BACKWARD = "backward"

    @property
    def sign(self) -> int:
        """+1 forward, -1 backward."""
        return 1 if self is Direction.FORWARD else -1


class Reason(str, Enum):
    """Why a vehicle was seen but not measured. A closed list: platforms rely on it."""

    TOO_FEW_SAMPLES = "too_few_samples"  # not enough boxes for a fit
    SHORT_BASELINE = "short_baseline"  # followed over too short a distance
    OCCLUDED = "occluded"  # most boxes hidden or merged with another vehicle
    INCONSISTENT = "inconsistent"  # the boxes contradict one vehicle at one smooth speed
    OUTSIDE_CALIBRATION = "outside_calibration"  # seen only where the calibration does not hold
    CAMERA_MOVED = "camera_moved"  # the camera no longer stands as it was calibrated
    TOO_UNCERTAIN = "too_uncertain"  # a fit exists, its uncertainty is too large to be of use


def _frozen(array: npt.ArrayLike, dtype: type, shape: tuple[int | None, ...], name: str) -> npt.NDArray[Any]:
    """A read-only copy of ``array``; raises ValueError when its shape is not ``shape`` (None: any length)."""
    copy: npt.NDArray[Any] = np.array(array, dtype=dtype)
    if copy.ndim != len(shape) or any(want is not None and got != want for got, want in zip(copy.shape, shape)):
        raise ValueError(f"{name}: expected shape {shape}, got {copy.shape}")
    copy.flags.writeable = False
    return copy


def _set(record: object, name: str, array: npt.ArrayLike, dtype: type, *shape: int | None) -> None:
    object.__setattr__(record, name, _frozen(array, dtype, shape, name))


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture and when it was taken.

    Attributes:
        captured_ns: Middle of the exposure, on the source's monotonic clock (files: since the first frame). [ns]
        captured_sigma_s: One standard deviation of that instant. [s]
        time_kind: Where the instant comes from.
        image_bgr: Picture, shape (height, width, 3).
    """

    captured_ns: int
    captured_sigma_s: float
    time_kind: TimeKind
    image_bgr: Pixels

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height. [px]"""
        return self.image_bgr.shape[1], self.image_bgr.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What the detector saw in one frame.

    Attributes:
        boxes_xyxy_px: Left, top, right, bottom edges; pixel centres at integers, shape (n, 4). [px]
        scores: Confidence 0 to 1, shape (n,).
        labels: Index into :class:`RoadUser`, shape (n,).
    """

    boxes_xyxy_px: Floats
    scores: Floats
    labels: Ints

    def __post_init__(self) -> None:
        _set(self, "boxes_xyxy_px", self.boxes_xyxy_px, np.float64, None, 4)
        n = len(self.boxes_xyxy_px)
        _set(self, "scores", self.scores, np.float64, n)
        _set(self, "labels", self.labels, np.intp, n)

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Detections:
        """An empty street."""
        return cls(np.empty((0, 4)), np.empty(0), np.empty(0, dtype=np.intp))


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """Detections of one frame with their place on the road.

    Attributes:
        time_s: Instant of the frame, since the pipeline's first frame. [s]
        time_sigma_s: One standard deviation of that instant. [s]
        detections: The boxes the rows belong to.
        positions_m: Bottom-centre of each box on the road: along the axis, left of the axis, shape (n, 2). [m]
        covariances_m2: Their covariance from pixel noise, shape (n, 2, 2). [m²]
        sizes_m: Width and height of the box at the depth of that point, shape (n, 2). [m]
        on_road: False where the point lies on or above the horizon, shape (n,).
    """

    time_s: float
    time_sigma_s: float
    detections: Detections
    positions_m: Floats
    covariances_m2: Floats
    sizes_m: Floats
    on_road: Bools

    def __post_init__(self) -> None:
        n = len(self.detections)
        _set(self, "positions_m", self.positions_m, np.float64, n, 2)
        _set(self, "covariances_m2", self.covariances_m2, np.float64, n, 2, 2)
        _set(self, "sizes_m", self.sizes_m, np.float64, n, 2)
        _set(self, "on_road", self.on_road, np.bool_, n)


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """The boxes of one road user, in order of time.

    Attributes:
        times_s: Instants, strictly rising, shape (k,). [s]
        time_sigma_s: One standard deviation of an instant. [s]
        boxes_xyxy_px: Boxes, shape (k, 4). [px]
        scores: Confidences, shape (k,).
        labels: Index into :class:`RoadUser`, shape (k,).
        positions_m: Bottom-centre on the road (along, left of the axis), shape (k, 2). [m]
        covered: Share of the box that a nearer box of its frame covers, shape (k,).
    """

    times_s: Floats
    time_sigma_s: float
    boxes_xyxy_px: Floats
    scores: Floats
    labels: Ints
    positions_m: Floats
    covered: Floats

    def __post_init__(self) -> None:
        _set(self, "times_s", self.times_s, np.float64, None)
        k = len(self.times_s)
        if k > 1 and not np.all(np.diff(self.times_s) > 0):
            raise ValueError("times_s: expected strictly rising instants")
        _set(self, "boxes_xyxy_px", self.boxes_xyxy_px, np.float64, k, 4)
        _set(self, "scores", self.scores, np.float64, k)
        _set(self, "labels", self.labels, np.intp, k)
        _set(self, "positions_m", self.positions_m, np.float64, k, 2)
        _set(self, "covered", self.covered, np.float64, k)

    def __len__(self) -> int:
        return len(self.times_s)

    def rows(self, rows: Ints) -> Trajectory:
        """Part of the trajectory, by rising row numbers."""
        return Trajectory(
            times_s=self.times_s[rows],
            time_sigma_s=self.time_sigma_s,
            boxes_xyxy_px=self.boxes_xyxy_px[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            positions_m=self.positions_m[rows],
            covered=self.covered[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """How one road user moved along the road, as fitted to all its boxes.

    The position of the footprint's centre along the axis is a cubic in time:
    ``s(t) = along[0] + along[1]·τ + along[2]·τ² + along[3]·τ³`` with ``τ = t - origin_s``.

    Attributes:
        origin_s: Instant from which τ counts. [s]
        along: Coefficients of the cubic, shape (4,). [m, m/s, m/s², m/s³]
        covariance_random: Their covariance from boxes and timing, shape (4, 4).
        covariance_calibration: Their covariance from the calibration, shape (4, 4).
        lateral_m: Offset of the centre from the axis, left positive. [m]
        observed_s: First and last instant at which it was seen. [s]
        samples: Boxes the fit rests on.
        road_user: What it was.
        length_m: Length of the body, None when unknown. [m]
        problem: Why no speed may be derived from it; None when one may.
    """

    origin_s: float
    along: Floats
    covariance_random: Floats
    covariance_calibration: Floats
    lateral_m: float
    observed_s: tuple[float, float]
    samples: int
    road_user: RoadUser
    length_m: float | None
    problem: Reason | None

    def __post_init__(self) -> None:
        _set(self, "along", self.along, np.float64, 4)
        _set(self, "covariance_random", self.covariance_random, np.float64, 4, 4)
        _set(self, "covariance_calibration", self.covariance_calibration, np.float64, 4, 4)

    def position_m(self, time_s: float) -> float:
        """Position along the axis. [m]"""
        tau = time_s - self.origin_s
        return float(np.polynomial.polynomial.polyval(tau, self.along))

    def velocity_mps(self, time_s: float) -> float:
        """Speed along the axis, signed. [m/s]"""
        tau = time_s - self.origin_s
        return float(np.polynomial.polynomial.polyval(tau, self.along[1:] * np.array([1.0, 2.0, 3.0])))

    def with_problem(self, problem: Reason | None) -> Path:
        """The same path, with the verdict on it."""
        return replace(self, problem=problem)


@dataclass(frozen=True, slots=True)
class SpeedEstimate:
    """Mean speed through the zone with the two parts of its uncertainty kept apart.

    Attributes:
        speed_mps: Mean speed of the footprint's centre through the zone. [m/s]
        sigma_random_mps: One standard deviation from boxes and timing; averages out over vehicles. [m/s]
        sigma_calibration_mps: One standard deviation shared by every vehicle of this calibration. [m/s]
    """

    speed_mps: float
    sigma_random_mps: float
    sigma_calibration_mps: float

    @property
    def sigma_mps(self) -> float:
        """One standard deviation, all contributions. [m/s]"""
        return math.hypot(self.sigma_random_mps, self.sigma_calibration_mps)


@dataclass(frozen=True, slots=True)
class Passage:
    """A road user went through the zone. Knows no track, no positions, and cannot be serialised.

    Attributes:
        direction: Along the axis or against it.
        road_user: What it was.
        entered_ns: When its reference crossed the zone's first end, on the source's clock. [ns]
        left_ns: When its reference crossed the other end. [ns]
        speed: The measurement; None when it could not be measured.
        reason: Why it could not be measured; None when it was.
        lateral_m: Median offset from the axis, left positive. [m]
        samples: Boxes the estimate rests on.
        baseline_m: Distance along the road over which it was followed. [m]
        length_m: Estimated vehicle length, None when unknown. [m]
        halfway_ns: When its reference crossed the middle of the zone; None when it was not measured. [ns]
    """

    direction: Direction
    road_user: RoadUser
    entered_ns: int
    left_ns: int
    speed: SpeedEstimate | None
    reason: Reason | None
    lateral_m: float
    samples: int
    baseline_m: float
    length_m: float | None
    halfway_ns: int | None = None

    def __post_init__(self) -> None:
        if (self.speed is None) == (self.reason is None):
            raise ValueError("a passage has either a speed or a reason why not")

    @property
    def middle_ns(self) -> int:
        """Half-way between entering and leaving: the instant that assigns the passage to a window. [ns]"""
        return (self.entered_ns + self.left_ns) // 2
