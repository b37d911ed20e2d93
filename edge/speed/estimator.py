"""Trajectory in, path out: which boxes to use, which body fits, and whether the result may be believed.

Everything that looks wrong becomes a reason, never a speed: too few boxes, too short a stretch, boxes that contradict
one body at one smooth speed, a fit that knows too little. Nothing is clamped into plausibility.
"""

from __future__ import annotations

import numpy as np

from calibration.road_plane import RoadPlane
from edge.domain import Floats, Path, Reason, RoadUser, Trajectory
from edge.speed.bodies import BICYCLE, BUS, CAR, MOTORCYCLE, TRUCK, VAN, Body
from edge.speed.fit import ALONG, EDGE_SIGMAS_PX, SIZE, BodyFit, fit_body

MIN_TRAVEL_M = 3.0  # less is a standing vehicle whose boxes jitter
MIN_SIGHTINGS = 5  # fewer do not show that anything travelled
MIN_ONE_WAY_SHARE = 0.6  # a vehicle goes one way; boxes that hop between parked cars go to and fro
MIN_SEEN_SHARE = 0.3  # of the travel, outside the longest leap between two sightings: else two things were seen
WAY_PARTS = 12
JITTER_M = 1.0  # how far the boxes of a standing vehicle wander
MIN_SAMPLES = 5  # fewer boxes cannot contradict each other
MIN_BASELINE_M = 6.0
MAX_SHAPE_SIGMA = 0.03  # of the speed: so far outside the surveyed points nobody knows the road
BORDER_PX = 2.0  # nearer to the picture's edge than this, a box is cut by it
MAX_SAMPLES_FITTED = 96  # more adds time, not knowledge: neighbouring boxes err together
MAX_ACCELERATION_MPS2 = 6.0  # beyond full braking of a car on a street
MIN_WEIGHT = 0.25  # mean robust weight of a box's edges; below, the fit does not explain the box
MIN_EXPLAINED_SHARE = 0.5  # of the boxes; fewer, and most of them show something else
MAX_SCALE = 1.6  # residuals this many times the usual noise: not one body (right fits: 0.6 to 1.5)
MAX_OWN_SCALE = 1.9  # times their own noise, if no two boxes err together: a second body leaves a pattern
MAX_TOLD_SCALE = 1.1  # times a noise in pixels that they tell, if any two err together; a second body is no such noise
MAX_WHITE_INFLATION = 2.0  # less than without a word from the vehicle's own boxes (3.0)
RIDER_SPEED_MPS = 7.5  # a person faster than this on the carriageway sits on a motorcycle, slower on a bicycle
PEDESTRIAN_SPEED_MPS = 2.8  # runners are slower
MIN_VOTE = 0.12  # share of the confidence that makes a class worth fitting

_BODIES = {
    RoadUser.CAR: (CAR, VAN),
    RoadUser.TRUCK: (TRUCK, VAN),
    RoadUser.BUS: (BUS, VAN),
    RoadUser.MOTORCYCLE: (MOTORCYCLE,),
    RoadUser.BICYCLE: (BICYCLE,),
}


class Estimator:
    """Derives the path of a vehicle from its boxes.

    Args:
        plane: Road plane in the frame of the site's axis.
        zone_length_m: The zone reaches from 0 to this along the axis. [m]
        margin_m: Boxes this far outside of the zone still take part in the fit. [m]
        readout_s: How much later the last row of a picture is exposed than the first; its instant is that of the
            middle row. [s]
    """

    def __init__(
        self, plane: RoadPlane, *, zone_length_m: float, margin_m: float = 5.0, readout_s: float = 0.0
    ) -> None:
        self._plane = plane
        self._window_m = (-margin_m, zone_length_m + margin_m)
        self._zone_length_m = zone_length_m
        self._readout_s = readout_s
        self._unsurveyed = RoadPlane(plane.camera, np.zeros_like(plane.covariance), plane.hull_m)
        values, axes = np.linalg.eigh(plane.covariance)
        self._spreads = (axes * np.sqrt(np.clip(values, 0.0, None))).T

    def estimate(self, trajectory: Trajectory) -> Path | None:
        """The path of a road user; None for one that stood, strolled, or was seen too briefly to say it moved."""
        trajectory = _while_moving(trajectory)
        line = _straight_line(trajectory)
        if line is None:
            return None
        votes = _votes(trajectory)
        if votes.get(RoadUser.PERSON, 0.0) > 0.5 and abs(line[1]) < PEDESTRIAN_SPEED_MPS:
            return None
        chosen = self._choose(trajectory)
        if len(chosen.times_s) < MIN_SAMPLES:
            return _plain_path(trajectory, line, votes, Reason.TOO_FEW_SAMPLES)
        fit, origin_s = self._fit(chosen, votes)
        return self._judge(chosen, fit, origin_s)

    def _choose(self, trajectory: Trajectory) -> Trajectory:
        """Boxes in and near the zone, thinned evenly when there are very many.

        A box cut by two edges of the picture shows a vehicle that is leaving it; its place cannot be told.
        """
        along = trajectory.positions_m[:, 0]
        near = (along > self._window_m[0]) & (along < self._window_m[1])
        width, height = self._plane.camera.image_size_px
        inner = trajectory.boxes_xyxy_px * np.array([1, 1, -1, -1]) + np.array([0, 0, width - 1, height - 1])
        rows = np.flatnonzero(near & ((inner < BORDER_PX).sum(axis=1) < 2))
        if len(rows) > MAX_SAMPLES_FITTED:
            rows = rows[np.linspace(0, len(rows) - 1, MAX_SAMPLES_FITTED).round().astype(np.intp)]
        return trajectory.rows(rows)

    def _fit(self, chosen: Trajectory, votes: dict[RoadUser, float]) -> tuple[BodyFit, float]:
        """The most credible body among the kinds that the detector named."""
        along, across = chosen.positions_m.T
        position = _theil_sen(chosen.times_s, along)
        origin_s = float(chosen.times_s[0] + chosen.times_s[-1]) / 2
        start = np.array([position[0] + position[1] * origin_s, position[1], np.median(across)])
        beliefs = _bodies_for(votes, abs(start[1]))
        return fit_body(self._plane.camera, self._spreads, beliefs, chosen, origin_s, start, self._readout_s), origin_s

    def _judge(self, chosen: Trajectory, fit: BodyFit, origin_s: float) -> Path:
        """The fitted path with its covariance, and what is wrong with it."""
        explained = np.flatnonzero(fit.weights.mean(axis=1) > MIN_WEIGHT)
        if len(explained) < MIN_SAMPLES:
            explained = np.arange(len(chosen))
        along = fit.parameters[ALONG]
        shape = self._shape_sigma(float(fit.parameters[4]))
        path = Path(
            origin_s=origin_s,
            along=along,
            covariance_random=fit.covariance[ALONG, ALONG]
            + _timing_covariance(chosen, origin_s, abs(along[1]))
            + _scale_covariance(along, fit.body.shape_sigma),
            covariance_calibration=fit.covariance_calibration[ALONG, ALONG] + _scale_covariance(along, shape),
            lateral_m=float(fit.parameters[4]),
            observed_s=(float(chosen.times_s[explained[0]]), float(chosen.times_s[explained[-1]])),
            samples=len(explained),
            road_user=fit.body.road_user,
            length_m=float(np.exp(fit.parameters[SIZE][0])),
            problem=None,
        )
        if shape > MAX_SHAPE_SIGMA:
            return path.with_problem(Reason.OUTSIDE_CALIBRATION)
        return path.with_problem(_problem(path, fit, len(explained) / len(chosen)))

    def _shape_sigma(self, lateral_m: float) -> float:
        """One relative standard deviation of a speed from the unknown shape of the road outside the surveyed points."""
        ends = np.array([[0.0, lateral_m], [self._zone_length_m, lateral_m]])
        return float(self._unsurveyed.distance_sigma(ends[0], ends[1])) / self._zone_length_m


def _problem(path: Path, fit: BodyFit, explained_share: float) -> Reason | None:
    """Why a fit must not become a speed; None when it may."""
    first, last = path.observed_s
    if abs(path.position_m(last) - path.position_m(first)) < MIN_BASELINE_M:
        return Reason.SHORT_BASELINE
    if explained_share < MIN_EXPLAINED_SHARE:
        return Reason.OCCLUDED
    speeds = [path.velocity_mps(t) for t in (first, path.origin_s, last)]
    ends_s = np.array([first, last]) - path.origin_s
    accelerations = np.abs(2 * path.along[2] + 6 * path.along[3] * ends_s)
    turns_back = min(speeds) * max(speeds) <= 0
    if turns_back or accelerations.max() > MAX_ACCELERATION_MPS2 or _is_scattered(fit):
        return Reason.INCONSISTENT
    return None


def _is_scattered(fit: BodyFit) -> bool:
    """Whether the boxes differ by more from those of one body than their noise explains."""
    if fit.inflation < MAX_WHITE_INFLATION:
        return fit.own_scale > MAX_OWN_SCALE
    _, *told, _ = EDGE_SIGMAS_PX  # without the usual one, and the largest, which stands for any more
    return fit.scale > MAX_SCALE and not (fit.edge_sigma_px in told and fit.own_scale <= MAX_TOLD_SCALE)


def _votes(trajectory: Trajectory) -> dict[RoadUser, float]:
    """Share of the confidence that each class received."""
    total = np.bincount(trajectory.labels, weights=trajectory.scores, minlength=len(RoadUser))
    return {user: float(total[user.label] / total.sum()) for user in RoadUser if total[user.label] > 0}


def _bodies_for(votes: dict[RoadUser, float], speed_mps: float) -> dict[Body, float]:
    """Kinds of body worth fitting, with the belief that the detector's labels lend them."""
    votes = dict(votes)
    rider = votes.pop(RoadUser.PERSON, 0.0)
    if rider:
        mount = RoadUser.MOTORCYCLE if speed_mps > RIDER_SPEED_MPS else RoadUser.BICYCLE
        votes[mount] = votes.get(mount, 0.0) + rider
    strongest = max(votes.values())
    beliefs: dict[Body, float] = {}
    for user, share in votes.items():
        if share < MIN_VOTE and share < strongest:
            continue
        for body in _BODIES[user]:
            beliefs[body] = beliefs.get(body, 0.0) + share / len(_BODIES[user])
    return beliefs


def _theil_sen(times_s: Floats, positions_m: Floats) -> tuple[float, float]:
    """Offset and slope of a line by the median of pairwise slopes (Theil 1950, Sen 1968), on at most 60 points."""
    rows = np.unique(np.linspace(0, len(times_s) - 1, 60).round().astype(np.intp))
    t, s = times_s[rows], positions_m[rows]
    i, j = np.triu_indices(len(t), 1)
    slope = float(np.median((s[j] - s[i]) / (t[j] - t[i])))
    return float(np.median(s - slope * t)), slope


def _straight_line(trajectory: Trajectory) -> tuple[float, float] | None:
    """Offset and speed along the axis from the bottom edges; None for what did not travel one way along the road."""
    if len(trajectory) < MIN_SIGHTINGS:
        return None
    along = trajectory.positions_m[:, 0]
    ends = max(1, min(5, len(along) // 3))
    travel = abs(float(np.median(along[-ends:]) - np.median(along[:ends])))
    leap = float(np.abs(np.diff(along)).max())
    if travel < MIN_ONE_WAY_SHARE * _way_m(along) or travel - leap < max(MIN_TRAVEL_M, MIN_SEEN_SHARE * travel):
        return None
    return _theil_sen(trajectory.times_s, along)


def _way_m(along_m: Floats) -> float:
    """Distance covered to and fro, between the medians of a dozen stretches, so that jitter does not add up. [m]"""
    medians = [float(np.median(part)) for part in np.array_split(along_m, min(WAY_PARTS, len(along_m)))]
    return float(np.abs(np.diff(medians)).sum())


def _while_moving(trajectory: Trajectory) -> Trajectory:
    """The trajectory without the time that the vehicle stood before it set off and after it stopped for good."""
    along = trajectory.positions_m[:, 0]
    ends = max(1, min(5, len(along) // 3))
    away_from_start = np.flatnonzero(np.abs(along - np.median(along[:ends])) > JITTER_M)
    away_from_end = np.flatnonzero(np.abs(along - np.median(along[-ends:])) > JITTER_M)
    if not len(away_from_start) or not len(away_from_end):
        return trajectory
    first = max(0, int(away_from_start[0]) - ends)
    last = min(len(along), int(away_from_end[-1]) + 1 + ends)
    return trajectory.rows(np.arange(first, last)) if last - first >= MIN_SIGHTINGS else trajectory


def _timing_covariance(chosen: Trajectory, origin_s: float, speed_mps: float) -> Floats:
    """Position and speed from uncertain instants: independent position errors of speed times their sigma."""
    design = (chosen.times_s - origin_s)[:, None] ** np.arange(2)
    covariance = np.zeros((4, 4))
    covariance[:2, :2] = np.linalg.inv(design.T @ design) * (chosen.time_sigma_s * speed_mps) ** 2
    return covariance


def _scale_covariance(along: Floats, sigma: float) -> Floats:
    """What an unknown scale does: speed and its changes grow together."""
    scaled = along * np.array([0.0, 1.0, 1.0, 1.0])
    return np.asarray(sigma**2 * np.outer(scaled, scaled))


def _plain_path(
    trajectory: Trajectory, line: tuple[float, float], votes: dict[RoadUser, float], problem: Reason
) -> Path:
    """A path good enough to count with: the straight line through the bottom edges."""
    offset, slope = line
    origin_s = float(trajectory.times_s[0] + trajectory.times_s[-1]) / 2
    bodies = _bodies_for(votes, abs(slope))
    return Path(
        origin_s=origin_s,
        along=np.array([offset + slope * origin_s, slope, 0.0, 0.0]),
        covariance_random=np.zeros((4, 4)),
        covariance_calibration=np.zeros((4, 4)),
        lateral_m=float(np.median(trajectory.positions_m[:, 1])),
        observed_s=(float(trajectory.times_s[0]), float(trajectory.times_s[-1])),
        samples=len(trajectory),
        road_user=max(bodies, key=lambda body: bodies[body]).road_user,
        length_m=None,
        problem=problem,
    )
