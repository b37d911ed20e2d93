"""The measurement zone: when a path crosses it, and how fast it was driven through.

The zone lies between the perpendiculars at the two ends of the axis; the site's polygon bounds it sideways. A passage
is the footprint's centre crossing the perpendicular half-way, measured or not. The speed of a passage is the mean speed
through the zone: its length divided by the time between crossing its ends.
"""

from __future__ import annotations

import math

import numpy as np

from edge.domain import Direction, Floats, Passage, Path, Reason, SpeedEstimate

MAX_EXTRAPOLATION_S = 0.5  # beyond the last sighting nobody knows whether the vehicle turned off
MAX_DOUBTFUL_EXTRAPOLATION_S = 0.1  # a path with a problem counts only where it was seen to cross
MAX_END_EXTRAPOLATION_S = 1.5  # half of a 20 m zone at 24 km/h
MIN_SEEN_SHARE = 0.5  # of the zone's length between first and last sighting; less, and the mean speed is a guess
# Police meters in service may err by 3 km/h, above 100 km/h by 3 %: two sigma of what is this vehicle's own stay within
MAX_RANDOM_SIGMA_MPS, MAX_RELATIVE_RANDOM_SIGMA = 0.42, 0.015
MAX_SIGMA_MPS, MAX_RELATIVE_SIGMA = 0.6, 0.05  # the calibration's part included, which the certificate tells
SAME_LANE_M = 2.0
SAME_VEHICLE_S = 0.6  # nobody follows closer; the time of an unmeasured passage is known to a few tenths
OVERLAP_SHARE = 0.7  # of a length: bumper to bumper the middles are a whole length apart
GRADIENT_STEP = 1e-3  # m, m/s, m/s², m/s³
CROSSING_GRID = 65  # a cubic with the accelerations of vehicles turns at most once between two of these
BISECTIONS = 50  # far below a nanosecond


class Zone:
    """A stretch of road across which speeds are measured.

    Args:
        length_m: Length along the axis; the zone begins at 0. [m]
        polygon_m: Its outline, along and left of the axis, shape (n, 2). [m]

    Raises:
        ValueError: the polygon does not reach the middle of the zone.
    """

    def __init__(self, *, length_m: float, polygon_m: Floats) -> None:
        self.length_m = length_m
        self.polygon_m = np.array(polygon_m, dtype=np.float64)
        self._right_m, self._left_m = _extent_at(self.polygon_m, length_m / 2)

    def passage(self, path: Path, clock_zero_ns: int) -> Passage | None:
        """The passage that a path makes; None when it does not cross the middle of the zone.

        Args:
            path: Where the vehicle was.
            clock_zero_ns: Instant of ``t = 0`` of the path, on the source's clock. [ns]
        """
        middle_s = _crossing(path, path.along, self.length_m / 2)
        if middle_s is None or not self._right_m <= path.lateral_m <= self._left_m:
            return None
        first_s, last_s = path.observed_s
        beyond_s = MAX_EXTRAPOLATION_S if path.problem is None else MAX_DOUBTFUL_EXTRAPOLATION_S
        if not first_s - beyond_s <= middle_s <= last_s + beyond_s:
            return None
        direction = Direction.FORWARD if path.velocity_mps(middle_s) > 0 else Direction.BACKWARD
        enter_s, leave_s = self._ends(path, path.along, direction)
        speed, reason = self._speed(path, direction)
        return Passage(
            direction=direction,
            road_user=path.road_user,
            entered_ns=clock_zero_ns + round(enter_s * 1e9),
            left_ns=clock_zero_ns + round(leave_s * 1e9),
            speed=speed,
            reason=reason,
            lateral_m=path.lateral_m,
            samples=path.samples,
            baseline_m=abs(path.position_m(last_s) - path.position_m(first_s)),
            length_m=path.length_m,
            halfway_ns=None if speed is None else clock_zero_ns + round(middle_s * 1e9),
        )

    def _ends(self, path: Path, along: Floats, direction: Direction) -> tuple[float, float]:
        """Instants of entering and leaving. A vehicle that stands before an end is carried on at its mean speed."""
        ends = (0.0, self.length_m) if direction is Direction.FORWARD else (self.length_m, 0.0)
        crossings = [_crossing(path, along, end) for end in ends]
        middle_s = _crossing(path, along, self.length_m / 2)
        pace = _mean_pace(path, along)
        half_s = self.length_m / 2 / max(pace, 0.1)
        at = path.origin_s if middle_s is None else middle_s
        enter_s = at - half_s if crossings[0] is None else crossings[0]
        leave_s = at + half_s if crossings[1] is None else crossings[1]
        return min(enter_s, leave_s), max(enter_s, leave_s)

    def _speed(self, path: Path, direction: Direction) -> tuple[SpeedEstimate | None, Reason | None]:
        if path.problem is not None:
            return None, path.problem
        seen = np.clip([path.position_m(t) for t in path.observed_s], 0.0, self.length_m)
        if abs(seen[1] - seen[0]) < MIN_SEEN_SHARE * self.length_m or not self._crosses_both_ends(path):
            return None, Reason.SHORT_BASELINE
        speed_mps = self._mean_speed(path, path.along, direction)
        trials = path.along + GRADIENT_STEP * np.eye(4)
        gradient = np.array([self._mean_speed(path, trial, direction) - speed_mps for trial in trials]) / GRADIENT_STEP
        estimate = SpeedEstimate(
            speed_mps=speed_mps,
            sigma_random_mps=math.sqrt(gradient @ path.covariance_random @ gradient),
            sigma_calibration_mps=math.sqrt(gradient @ path.covariance_calibration @ gradient),
        )
        too_random = estimate.sigma_random_mps > max(MAX_RANDOM_SIGMA_MPS, MAX_RELATIVE_RANDOM_SIGMA * speed_mps)
        if too_random or estimate.sigma_mps > max(MAX_SIGMA_MPS, MAX_RELATIVE_SIGMA * speed_mps):
            return None, Reason.TOO_UNCERTAIN
        return estimate, None

    def _crosses_both_ends(self, path: Path) -> bool:
        """Whether it was seen to cross the zone's ends, or was about to: a vehicle that parks inside never does."""
        first_s, last_s = path.observed_s
        crossings = (_crossing(path, path.along, end) for end in (0.0, self.length_m))
        return all(
            at is not None and first_s - MAX_END_EXTRAPOLATION_S <= at <= last_s + MAX_END_EXTRAPOLATION_S
            for at in crossings
        )

    def _mean_speed(self, path: Path, along: Floats, direction: Direction) -> float:
        enter_s, leave_s = self._ends(path, along, direction)
        return self.length_m / (leave_s - enter_s)


class Turnstile:
    """Lets each vehicle through once.

    A detector may draw two boxes on one vehicle, and a track may break and begin again: then several paths tell of one
    vehicle. Two vehicles cannot be in the same place, so of passages whose footprints would overlap at the middle of
    the zone only the best founded one is let through. Passages wait ``hold_s`` for their rivals.

    Args:
        hold_s: How long a passage waits after it became known; tracks of one vehicle end within this of each other. [s]
    """

    def __init__(self, hold_s: float = 6.0) -> None:
        self._hold_ns = round(hold_s * 1e9)
        self._waiting: list[tuple[int, Passage]] = []

    def admit(self, passages: list[Passage], now_ns: int) -> list[Passage]:
        """Take in new passages; return those that waited long enough, in the order in which they left."""
        for passage in passages:
            self._enter(passage, now_ns)
        through = [p for since_ns, p in self._waiting if now_ns - since_ns >= self._hold_ns]
        self._waiting = [(t, p) for t, p in self._waiting if now_ns - t < self._hold_ns]
        return sorted(through, key=lambda p: p.left_ns)

    def finish(self) -> list[Passage]:
        """End of a recording: everyone who still waits."""
        through = sorted((p for _, p in self._waiting), key=lambda p: p.left_ns)
        self._waiting = []
        return through

    def _enter(self, passage: Passage, now_ns: int) -> None:
        rivals = [(t, p) for t, p in self._waiting if _same_place(p, passage)]
        if all(_standing(passage) > _standing(p) for _, p in rivals):
            self._waiting = [pair for pair in self._waiting if pair not in rivals]
            self._waiting.append((now_ns, passage))


def _standing(passage: Passage) -> tuple[bool, float]:
    """How well founded a passage is: measured ones first, then by the stretch they rest on."""
    return passage.speed is not None, passage.baseline_m * passage.samples


def _same_place(a: Passage, b: Passage) -> bool:
    """Whether two passages would have two vehicles overlap at the middle of the zone."""
    if a.direction is not b.direction or abs(a.lateral_m - b.lateral_m) > SAME_LANE_M:
        return False
    apart_s = abs(a.middle_ns - b.middle_ns) / 1e9
    if a.speed is None or b.speed is None:
        return apart_s < SAME_VEHICLE_S
    lengths = [p.length_m for p in (a, b) if p.length_m is not None]
    speed = max(a.speed.speed_mps, b.speed.speed_mps)
    return apart_s * speed < OVERLAP_SHARE * (sum(lengths) / len(lengths) if lengths else 0.0)


def _crossing(path: Path, along: Floats, position_m: float) -> float | None:
    """Instant at which the path is at a position; beyond the sightings it goes on at its last speed. [s]"""
    first, last = (t - path.origin_s for t in path.observed_s)
    grid = np.linspace(first, last, CROSSING_GRID)
    ahead = np.polynomial.polynomial.polyval(grid, along) - position_m
    changes = np.flatnonzero(ahead[:-1] * ahead[1:] <= 0)
    if len(changes):
        middle = int(changes[len(changes) // 2])
        return path.origin_s + _bisect(along, position_m, float(grid[middle]), float(grid[middle + 1]))
    slope = along[1:] * np.array([1.0, 2.0, 3.0])
    candidates = []
    for tau, short, outward in ((first, float(ahead[0]), -1.0), (last, float(ahead[-1]), 1.0)):
        speed = float(np.polynomial.polynomial.polyval(tau, slope))
        wait = -short / speed if speed else math.inf
        if wait * outward >= 0 and math.isfinite(wait):
            candidates.append(tau + wait)
    return path.origin_s + min(candidates, key=abs) if candidates else None


def _bisect(along: Floats, position_m: float, low: float, high: float) -> float:
    """Where the cubic takes a value that it passes between two instants."""

    def ahead(tau: float) -> float:
        return float(((along[3] * tau + along[2]) * tau + along[1]) * tau + along[0]) - position_m

    rises = ahead(high) >= ahead(low)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if (ahead(middle) > 0) == rises:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _mean_pace(path: Path, along: Floats) -> float:
    first, last = (t - path.origin_s for t in path.observed_s)
    ends = np.polynomial.polynomial.polyval(np.array([first, last]), along)
    return abs(float(ends[1] - ends[0])) / max(last - first, 1e-9)


def _extent_at(polygon_m: Floats, along_m: float) -> tuple[float, float]:
    """Where the perpendicular at ``along_m`` cuts the outline: rightmost and leftmost offset. [m]"""
    following = np.roll(polygon_m, -1, axis=0)
    cuts = []
    for (s0, d0), (s1, d1) in zip(polygon_m, following):
        if (s0 - along_m) * (s1 - along_m) <= 0 and s0 != s1:
            cuts.append(d0 + (along_m - s0) / (s1 - s0) * (d1 - d0))
    if len(cuts) < 2:
        raise ValueError(f"zone polygon does not reach the middle of the axis, {along_m:.2f} m along it")
    return min(cuts), max(cuts)
