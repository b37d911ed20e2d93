"""A vehicle as a point on the road: its speed from places and instants alone, leaps and standing ends left out.

Where only points are known (tracks of another system), no body can be fitted. What goes
wrong with such tracks is known, though: the tracked spot jumps from one feature of the vehicle to another, or to
another vehicle; it sticks to the edge of the picture after the vehicle has left; it lasts for a few metres only. So a
track is cut where it leaps, the pieces lose the ends at which they stand, and one speed with one offset a piece is
fitted to the rest by iteratively re-weighted least squares (Student's t). A leap between features of one vehicle then
costs nothing; a leap to a vehicle of another speed shows, and is left out.

A spot above the road moves too fast on its plane: H / (H - h) times, at height h seen from height H. One spot does not
show that. But where several spots of a vehicle are followed, by one track that leaps between them or by several, the
slowest is nearest to the road, and speaks for all.

A point wanders over the vehicle that carries it, so neighbouring points err together; the covariance is inflated by the
lag-one correlation of the residuals (see :mod:`edge.speed.fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.domain import Floats, Ints, Reason

POINT_SIGMA_PX = 6.0  # of the spot that a tracker follows, calibration's own error at a distance included
POINT_SIGMA_M = 0.1  # the spot itself wanders over the vehicle
SLIDE_SIGMA_M = 0.25  # and slides along it as the view turns: between the first point and the last
STEP = 5  # points that a slope spans: shorter, and it is noise
PACE_RANGE = (0.75, 1.33)  # of the usual pace; an end that moves slower or faster is not the vehicle
LEAP_M = 0.6  # at least; a bumper to the next wheel is more
LEAP_SIGMAS = 2.0
MIN_PIECE_POINTS = 4
MIN_PIECE_SHARE = 0.25  # of the points of the largest piece
MIN_BASELINE_M = 6.0
MIN_SPEAKER_M, MIN_SPEAKER_S = 10.0, 0.4  # who speaks for a vehicle was followed for one of them; less is often a roof
MAX_RELATIVE_SIGMA = 0.05  # points know less than bodies; more, and the speed is a guess
MAX_SCALE = 2.5  # residuals this many times the assumed noise: not one vehicle
MAX_CHANGE = 0.15  # of the speed, between the halves of what was seen: braking harder than drivers do, or two vehicles
MIN_HALF_M = 5.0  # a slope over less says nothing
ACCELERATION_SIGMA_MPS2 = 1.0  # in the part of the zone that was not seen
DEGREES_OF_FREEDOM = 4.0  # of Student's t
STEPS = 10
MAX_CORRELATION = 0.95
SPOTS_WITHIN_S = 0.5  # at one line: a lorry of 12 m at 85 km/h; from 0.6 s on, cars that follow each other are joined
SPOTS_WITHIN_M = 1.75  # across the road, half a lane
AGREEING_SIGMAS = 2.0


@dataclass(frozen=True, slots=True)
class PointSpeed:
    """What a track of points says about the speed of the vehicle.

    Attributes:
        speed_mps: Mean speed through the zone, signed along the axis; None when no part of the track travels. [m/s]
        sigma_mps: One standard deviation, calibration excluded; None without a speed. [m/s]
        baseline_m: Distance over which it was followed, leaps excluded. [m]
        samples: Points that the speed rests on.
        problem: Why the speed must not be used; None when it may.
    """

    speed_mps: float | None
    sigma_mps: float | None
    baseline_m: float
    samples: int
    problem: Reason | None


def speed_of_points(times_s: Floats, along_m: Floats, sigmas_m: Floats, zone_m: tuple[float, float]) -> PointSpeed:
    """Mean speed through a zone of a vehicle that was followed as a point.

    Args:
        times_s: Instants, strictly rising, shape (k,). [s]
        along_m: Places along the road, shape (k,). [m]
        sigmas_m: One standard deviation of each place (``POINT_SIGMA_PX`` on the road), shape (k,). [m]
        zone_m: Where the zone begins and ends. Points beyond belong in it too, a few metres on either side. [m]
    """
    pieces, pace_mps = _pieces(times_s, along_m, sigmas_m)
    if not pieces:
        return PointSpeed(None, None, 0.0, 0, Reason.TOO_FEW_SAMPLES)
    pieces = _agreeing(pieces, times_s, along_m)
    rows = np.concatenate(pieces)
    baseline = sum(abs(float(along_m[piece[-1]] - along_m[piece[0]])) for piece in pieces)
    fitted = _fit(times_s, along_m, np.hypot(sigmas_m, POINT_SIGMA_M), pieces, pace_mps)
    sigma = float(
        np.sqrt(
            fitted.variance
            + (SLIDE_SIGMA_M / max(baseline, 1e-9) * fitted.speed_mps) ** 2
            + _unseen_variance(along_m[rows], sum(zone_m) / 2, fitted.speed_mps)
        )
    )
    problem = None
    if baseline < MIN_BASELINE_M:
        problem = Reason.SHORT_BASELINE
    elif fitted.scale > MAX_SCALE or _halves_disagree(max(pieces, key=len), times_s, along_m, fitted.speed_mps):
        problem = Reason.INCONSISTENT
    elif sigma > MAX_RELATIVE_SIGMA * abs(fitted.speed_mps):
        problem = Reason.TOO_UNCERTAIN
    return PointSpeed(fitted.speed_mps, sigma, baseline, len(rows), problem)


def speeds_of_vehicles(told: Sequence[PointSpeed], passed_s: Floats, across_m: Floats) -> list[PointSpeed]:
    """Speeds of tracks of which several may belong to one vehicle.

    Tracks that pass a line nearer to each other than vehicles follow each other are spots of one vehicle. The slowest
    (by its speed and two sigma) and those that agree with it are averaged; all tracks of the vehicle have that speed,
    those whose own may not be used, too. It may be used if the slowest was followed for ``MIN_SPEAKER_M`` or
    ``MIN_SPEAKER_S``.

    Args:
        told: What each track says of itself, by :func:`speed_of_points`.
        passed_s: When each passes one line across the road, shape (tracks,). [s]
        across_m: Where on that line, shape (tracks,). [m]

    Returns:
        What is said of each track, in the same order. A speed does not become surer: spots of one vehicle err together.
    """
    speeds, sigmas = (
        np.array([np.nan if one.problem or value is None else value for one, value in zip(told, values)])
        for values in ([one.speed_mps for one in told], [one.sigma_mps for one in told])
    )
    vehicles = []
    for one, own_s, own_m in zip(told, passed_s, across_m):
        spots = np.flatnonzero(
            (np.abs(passed_s - own_s) < SPOTS_WITHIN_S)
            & (np.abs(across_m - own_m) < SPOTS_WITHIN_M)
            & (speeds * (one.speed_mps or 0.0) > 0.0)
        )
        if not len(spots):
            vehicles.append(one)
            continue
        slowest = spots[np.argmin(np.abs(speeds[spots]) + AGREEING_SIGMAS * sigmas[spots])]
        allowed = AGREEING_SIGMAS * np.hypot(sigmas[spots], sigmas[slowest])
        agreeing = spots[np.abs(speeds[spots]) - abs(speeds[slowest]) <= allowed]
        followed_m = told[slowest].baseline_m
        may_speak = followed_m >= min(MIN_SPEAKER_M, MIN_SPEAKER_S * abs(speeds[slowest]))
        vehicles.append(
            replace(
                told[slowest],
                speed_mps=float(np.average(speeds[agreeing], weights=sigmas[agreeing] ** -2)),
                sigma_mps=float(sigmas[agreeing].min()),
                problem=None if may_speak else Reason.SHORT_BASELINE,
            )
        )
    return vehicles


@dataclass(frozen=True, slots=True)
class _Fit:
    speed_mps: float
    variance: float
    scale: float


def _pieces(times_s: Floats, along_m: Floats, sigmas_m: Floats) -> tuple[list[Ints], float]:
    """The parts of a track without leap or standing end, in order of time, and the usual pace. [m/s]"""
    pace = _usual_pace(times_s, along_m)
    if pace == 0.0:
        return [], 0.0
    surprise = np.abs(np.diff(along_m) - pace * np.diff(times_s))
    noise = np.hypot(sigmas_m[1:], sigmas_m[:-1])
    late = np.maximum(np.diff(times_s) - STEP * np.median(np.diff(times_s)), 0.0)  # a gap: the pace may have changed
    allowed = np.maximum(LEAP_M, LEAP_SIGMAS * noise) + 0.5 * abs(pace) * late
    cuts = np.flatnonzero(surprise > allowed) + 1
    parts = [_without_standing_ends(part, times_s, along_m, pace) for part in np.split(np.arange(len(times_s)), cuts)]
    largest = max(len(part) for part in parts)
    needed = max(MIN_PIECE_POINTS, MIN_PIECE_SHARE * largest)
    return [part for part in parts if len(part) >= needed], pace


def _slopes(times_s: Floats, along_m: Floats) -> tuple[Floats, int]:
    """Speeds over a few points each, and over how many."""
    step = max(1, min(STEP, len(times_s) // 4))
    return (along_m[step:] - along_m[:-step]) / (times_s[step:] - times_s[:-step]), step


def _usual_pace(times_s: Floats, along_m: Floats) -> float:
    """Median speed of the part that moves. [m/s]"""
    if len(times_s) < MIN_PIECE_POINTS:
        return 0.0
    slopes, _ = _slopes(times_s, along_m)
    pace = float(np.median(slopes))
    for _ in range(2):
        moving = np.abs(slopes - pace) < 0.5 * abs(pace)
        if not moving.any():
            return 0.0
        pace = float(np.median(slopes[moving]))
    return pace


def _without_standing_ends(part: Ints, times_s: Floats, along_m: Floats, pace_mps: float) -> Ints:
    """The part from the first to the last slope near the pace; empty when there is none."""
    if len(part) < MIN_PIECE_POINTS:
        return part[:0]
    slopes, step = _slopes(times_s[part], along_m[part])
    usual = np.flatnonzero((slopes / pace_mps > PACE_RANGE[0]) & (slopes / pace_mps < PACE_RANGE[1]))
    return part[usual[0] : usual[-1] + step + 1] if len(usual) else part[:0]


def _fit(times_s: Floats, along_m: Floats, sigmas_m: Floats, pieces: list[Ints], pace_mps: float) -> _Fit:
    """One speed and an offset a piece by iteratively re-weighted least squares."""
    rows = np.concatenate(pieces)
    owner = np.concatenate([np.full(len(piece), number) for number, piece in enumerate(pieces)])
    taus = times_s[rows] - times_s[rows].mean()
    design = np.column_stack([taus, owner[:, None] == np.arange(len(pieces))]) / sigmas_m[rows, None]
    places = along_m[rows] / sigmas_m[rows]
    offsets = [np.median((along_m[rows] - pace_mps * taus)[owner == number]) for number in range(len(pieces))]
    parameters = np.array([pace_mps, *offsets])
    nu = DEGREES_OF_FREEDOM
    residuals, scale = places - design @ parameters, 1.0
    for _ in range(STEPS):
        weights = (nu + 1) / (nu + (residuals / scale) ** 2)
        information = design.T @ (design * weights[:, None])
        parameters = np.linalg.solve(information, design.T @ (weights * places))
        residuals = places - design @ parameters
        weights = (nu + 1) / (nu + (residuals / scale) ** 2)
        scale = max(float(np.sqrt((weights * residuals**2).mean())), 1.0)
    kept = residuals * np.sqrt(weights)
    spread = max(float(kept @ kept), 1e-12)
    correlation = float(np.clip(kept[1:] @ kept[:-1] / spread, 0.0, MAX_CORRELATION))
    inflation = (1 + correlation) / (1 - correlation)
    return _Fit(float(parameters[0]), float(np.linalg.inv(information)[0, 0]) * scale**2 * inflation, scale)


def _unseen_variance(along_m: Floats, middle_m: float, speed_mps: float) -> float:
    """The speed was seen around another place than the middle of the zone; in between it may have changed. [m²/s²]"""
    away_s = abs((along_m.min() + along_m.max()) / 2 - middle_m) / max(abs(speed_mps), 1e-3)
    return float((ACCELERATION_SIGMA_MPS2 * away_s) ** 2)


def _agreeing(pieces: list[Ints], times_s: Floats, along_m: Floats) -> list[Ints]:
    """The slowest piece and those that go about as fast: the others show spots above the road, or other vehicles."""

    def at_most(piece: Ints) -> float:
        baseline = abs(float(along_m[piece[-1]] - along_m[piece[0]]))
        slide = SLIDE_SIGMA_M / max(baseline, 1e-9)
        return abs(_mean_pace(piece, times_s, along_m)) * (1 + AGREEING_SIGMAS * slide)

    pace = _mean_pace(min(pieces, key=at_most), times_s, along_m)
    return [piece for piece in pieces if abs(_mean_pace(piece, times_s, along_m) / pace - 1) < MAX_CHANGE]


def _mean_pace(part: Ints, times_s: Floats, along_m: Floats) -> float:
    return float(np.polyfit(times_s[part] - times_s[part[0]], along_m[part], 1)[0])


def _halves_disagree(part: Ints, times_s: Floats, along_m: Floats, speed_mps: float) -> bool:
    """Whether two halves of a piece show the speeds of different vehicles."""
    halves = np.array_split(part, 2)
    if min(abs(along_m[half[-1]] - along_m[half[0]]) for half in halves) < MIN_HALF_M:
        return False
    first, second = (_mean_pace(half, times_s, along_m) for half in halves)
    return abs(second - first) > MAX_CHANGE * abs(speed_mps)
