"""One body per vehicle: a path and a size are fitted to all boxes of a trajectory together.

The bottom edge of a box is not one point of a vehicle, so a line through bottom edges is biased. Here the whole body is
projected: for a path along the road, a size and the small constant offsets of the detector's four edges, the silhouette
of the body gives the box that the detector should have drawn in each frame. The parameters that explain all boxes best,
together with weak priors, are found by Levenberg-Marquardt steps on a robust loss (Student's t, as iteratively
re-weighted least squares). An edge that lies on the picture's border is predicted there too, so a truncated box
contributes only the edges that can be seen.

Box errors are not independent from frame to frame. Their lag-one correlation is estimated from the residuals and the
information of the boxes divided by (1 + r) / (1 - r), the variance inflation of the mean of a first-order
autoregressive process (Box, Jenkins & Reinsel, Time Series Analysis, ch. 2). A fit that takes boxes for independent
follows slow errors as if the vehicle moved so; when their correlation is known, the vehicle is fitted once more with
the information that they really have beside that of the priors (generalised least squares in two steps).

A detector's noise grows with the box. What a coarse picture, a lens or wind add is the same number of pixels in every
box. Where the usual noise does not explain a vehicle's boxes, it is fitted with several such noises, and the most
credible one says how far its small boxes may be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.camera import Camera
from edge.domain import Bools, Floats, Trajectory
from edge.speed.bodies import Body

# Parameters: cubic along the axis (4), offset from the axis and its rate (2), log size (3), edge offsets beyond those
# expected of the detector (4) and how much these change from the first box to the last (4)
ALONG, ACROSS, SIZE, OFFSETS, DRIFTS = slice(0, 4), slice(4, 6), slice(6, 9), slice(9, 13), slice(13, 17)
N_PARAMETERS = 17

ACCELERATION_SIGMA_MPS2 = 1.5  # drivers in streets: 1 m/s² is brisk, 3 m/s² is firm braking
JERK_SIGMA_MPS3 = 0.8  # kept up for as long as a zone takes; a hump asks for more and gets it from the boxes
DRIFT_SIGMA_MPS = 0.3  # across the lane
EDGE_SIGMAS_PX = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)  # noise that is the same in large and small boxes; the first is usual
LOG_EDGE_SIGMA = 1.0  # how far from the usual one it may be, one standard deviation of its logarithm
UNUSUAL = 3.0  # twice the logarithm of the odds against another than the usual one
HIDDEN_FACTOR = np.array([8.0, 2.0, 8.0, 20.0])  # how much less an edge is trusted, times the covered share
DEGREES_OF_FREEDOM = 4.0  # of Student's t
FAR_OFF = 10.0  # standard deviations; part of the body would be behind the camera
PRIOR_SCALE_WEIGHT = 20.0  # residuals' worth of belief in the noise figures above
STEPS = 9
CONVERGED = 1e-2  # of a standard deviation, mean over the parameters of the last step
CORRELATION_PRIOR = 0.5  # half of the variance or more lasts 0.2 s: two or three boxes 0.1 s apart tell as much as one
CORRELATION_PRIOR_WEIGHT = 10.0
FITTED_PER_EDGE = 4.0  # parameters that the motion of one edge determines
MOST_LOST = 0.15  # of a correlation: the correction is a first order in 1/n, and fails on few boxes
MAX_CORRELATION = 0.95
MIN_HEADING_SPEED_MPS = 0.5  # slower, and the ratio of the two speeds is no heading
BOXES_AND_EDGES = ((0, 1), (0, 1))  # axes to sum over
EDGES, AXES = np.arange(4), np.array([0, 1, 0, 1])  # left, top, right, bottom, and the picture's axis of each


@dataclass(frozen=True, slots=True, eq=False)
class BodyFit:
    """The best body and path for one trajectory.

    Attributes:
        body: The kind that was fitted.
        parameters: Shape (17,), in the order of the slices above.
        covariance: From the boxes, correlation in time included, shape (17, 17).
        covariance_calibration: Response to the calibration's uncertainty, shape (17, 17).
        weights: Robust weights, 1.25 for an edge where it was predicted and towards 0 far from it, shape (k, 4).
        scale: Spread of the residuals in units of the usual noise, where the body follows the boxes most closely.
        own_scale: That of the fit with the noise that the vehicle's own boxes tell, in units of it.
        edge_sigma_px: The part of that noise that is the same in all boxes, one of ``EDGE_SIGMAS_PX``. [px]
        inflation: How many neighbouring boxes tell as much as one would if they erred independently.
    """

    body: Body
    parameters: Floats
    covariance: Floats
    covariance_calibration: Floats
    weights: Floats
    scale: float
    own_scale: float
    edge_sigma_px: float
    inflation: float


class _Problem:
    """Boxes of one trajectory, everything needed to predict them, and what is believed before they are seen."""

    def __init__(
        self, camera: Camera, body: Body, trajectory: Trajectory, taus_s: Floats, start: Floats, readout_s: float
    ) -> None:
        self.camera, self.body, self.taus_s, self.forward = camera, body, taus_s, 1.0 if start[1] > 0 else -1.0
        self.mean, self.sigma = _prior(body, start)
        self.observed = trajectory.boxes_xyxy_px
        width, height = camera.image_size_px
        self.low = np.array([-0.5, -0.5, -0.5, -0.5])
        self.high = np.array([width, height, width, height]) - 0.5
        extents = self.observed[:, 2:] - self.observed[:, :2]
        self.noise_px = body.edges.noise * np.concatenate([extents, extents], axis=1)
        self.doubt = 1.0 + HIDDEN_FACTOR * trajectory.covered[:, None]
        self.sigmas_px = self.sigmas_with(EDGE_SIGMAS_PX[0])
        self.powers = taus_s[:, None] ** np.arange(4)
        self.progress = taus_s / max(float(np.ptp(taus_s)), 1e-9)
        self.expected = body.edges.expected(self.observed, trajectory.labels)
        top, bottom = self.observed[:, 1], self.observed[:, 3]
        rows = np.column_stack([(top + bottom) / 2, top, (top + bottom) / 2, bottom])
        # A rolling shutter reads row by row, so each edge has an instant of its own; a side is taken at half height
        self.edge_taus_s = taus_s[:, None] + readout_s * ((rows + 0.5) / height - 0.5)
        self.edge_powers = self.edge_taus_s[..., None] ** np.arange(4)

    def sigmas_with(self, edge_sigma_px: float) -> Floats:
        """One standard deviation of every edge if so many pixels of it are the same in every box, shape (k, 4). [px]"""
        return np.asarray(np.hypot(edge_sigma_px, self.noise_px) * self.doubt)

    def linearise(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Standardised differences to the predicted boxes, with derivatives.

        Each edge of a box is made by one point of the hull, so its derivative is that point's. A box that cannot be
        predicted counts as far off and pulls nowhere.

        Args:
            parameters: Shape (17,).

        Returns:
            Differences (k, 4), and derivatives of the prediction by the parameters (k, 4, 17), in units of the noise.
        """
        turn, by_slope = self._heading(parameters)
        made, places = self._makers(parameters, turn)
        edges, by_place = (part[:, EDGES, AXES] for part in self.camera.linearise_points(places))
        by_parameters = self._by_parameters(parameters, made, turn, by_slope, by_place)
        boxes, shifts, extents = self._drawn(parameters, edges)
        by_parameters += shifts[..., None] * self._by_extents(by_parameters, edges)
        by_parameters[:, EDGES, OFFSETS.start + EDGES] = extents
        by_parameters[:, EDGES, DRIFTS.start + EDGES] = extents * self.progress[:, None]
        residuals = (self.observed - np.clip(boxes, self.low, self.high)) / self.sigmas_px
        residuals[np.isnan(boxes)] = FAR_OFF
        return residuals, self._in_noise(by_parameters, boxes)

    def by_camera(self, parameters: Floats) -> Floats:
        """Derivatives of the predicted boxes by the camera's parameters, in units of the noise, shape (k, 4, 11)."""
        _, places = self._makers(parameters, self._heading(parameters)[0])
        edges, slopes = (part[:, EDGES, AXES] for part in self.camera.linearise(places)[:2])
        boxes, shifts, _ = self._drawn(parameters, edges)
        slopes += shifts[..., None] * self._by_extents(slopes, edges)
        return self._in_noise(slopes, boxes)

    def _makers(self, parameters: Floats, turn: Floats) -> tuple[Floats, Floats]:
        """The points of the hull that make the edges, on the body and on the road, shape (k, 4, 3)."""
        points = self.body.hull * np.exp(parameters[SIZE])
        middle = np.zeros((len(self.taus_s), 3))
        middle[:, 0] = self.powers @ parameters[ALONG]
        middle[:, 1] = parameters[4] + parameters[5] * self.taus_s
        pixels = self.camera.project(middle[:, None] + points @ turn)
        makers = np.concatenate([pixels.argmin(axis=1), pixels.argmax(axis=1)], axis=1)  # NaN wins, and shows
        made = points[makers]  # (k, 4, 3)
        places = made @ turn
        places[..., 0] += self.edge_powers @ parameters[ALONG]
        places[..., 1] += parameters[4] + parameters[5] * self.edge_taus_s
        return made, places

    def _drawn(self, parameters: Floats, edges: Floats) -> tuple[Floats, Floats, Floats]:
        """Boxes as the detector draws them around a hull, its shifts in widths and heights, and those, shape (k, 4).

        Widths and heights are those of the part in the picture: of the rest the detector knows nothing.
        """
        seen = np.clip(edges, self.low, self.high)
        extents = np.tile(seen[:, 2:] - seen[:, :2], 2)
        shifts = self.expected + parameters[OFFSETS] + parameters[DRIFTS] * self.progress[:, None]
        return edges + shifts * extents, shifts, extents

    def _by_extents(self, slopes: Floats, edges: Floats) -> Floats:
        """Derivatives of the widths and heights in the picture from those of the edges, each like ``slopes``."""
        seen = np.where(self._is_inside(edges)[..., None], slopes, 0.0)
        return np.tile(seen[:, 2:] - seen[:, :2], (1, 2, 1))

    def _in_noise(self, slopes: Floats, boxes: Floats) -> Floats:
        """Derivatives in units of the noise; an edge at or beyond the picture's border pulls nowhere."""
        slopes /= self.sigmas_px[..., None]
        slopes[~self._is_inside(boxes)] = 0.0
        return slopes

    def _is_inside(self, edges: Floats) -> Bools:
        return np.asarray((edges > self.low) & (edges < self.high))

    def _heading(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Rotation of row vectors from the body to the road, and its derivative by the ratio of the two speeds."""
        slope = parameters[5] / max(abs(parameters[1]), MIN_HEADING_SPEED_MPS)
        norm = np.sqrt(1 + slope**2)
        cosine, sine = self.forward / norm, slope / norm
        by_cosine, by_sine = -self.forward * slope / norm**3, 1 / norm**3
        turn = np.array([[cosine, sine, 0.0], [-sine * self.forward, cosine, 0.0], [0.0, 0.0, 1.0]])
        by_slope = np.array([[by_cosine, by_sine, 0.0], [-by_sine * self.forward, by_cosine, 0.0], [0.0, 0.0, 0.0]])
        return turn, by_slope

    def _by_parameters(
        self, parameters: Floats, made: Floats, turn: Floats, by_slope: Floats, by_place: Floats
    ) -> Floats:
        """Derivative of the hull's bounds by path and size; offsets and drifts left zero, shape (k, 4, 17). [px]"""
        slopes = np.zeros((*made.shape[:2], N_PARAMETERS))
        slopes[..., ALONG] = by_place[..., :1] * self.edge_powers
        slopes[..., 4] = by_place[..., 1]
        slopes[..., 5] = by_place[..., 1] * self.edge_taus_s
        turning = np.einsum("kij,kij->ki", by_place, made @ by_slope)
        rate = max(abs(parameters[1]), MIN_HEADING_SPEED_MPS)
        slopes[..., 5] += turning / rate
        if rate > MIN_HEADING_SPEED_MPS:
            slopes[..., 1] -= turning * parameters[5] * np.sign(parameters[1]) / rate**2
        slopes[..., SIZE] = (by_place @ turn.T) * made
        return slopes


def _prior(body: Body, start: Floats) -> tuple[Floats, Floats]:
    """Mean and one standard deviation of every parameter; the path's place and speed are left free."""
    position, speed, lateral = start
    mean = np.concatenate([[position, speed, 0.0, 0.0, lateral, 0.0], np.log(body.size_m), np.zeros(8)])
    sigma = np.concatenate(
        [
            [1e3, 1e2, ACCELERATION_SIGMA_MPS2 / 2, JERK_SIGMA_MPS3 / 6],
            [1e2, DRIFT_SIGMA_MPS],
            body.size_sigma,
            body.edges.offset_sigma,
            body.edges.drift_sigma,
        ]
    )
    return mean, sigma


def fit_body(
    camera: Camera,
    spreads: Floats,
    beliefs: dict[Body, float],
    trajectory: Trajectory,
    origin_s: float,
    start: Floats,
    readout_s: float = 0.0,
) -> BodyFit:
    """Fit path, size and edge offsets of the most credible kind of body to all boxes of a trajectory.

    Args:
        camera: The camera in the frame of the axis.
        spreads: Principal axes of the camera's uncertainty (one standard deviation), shape (axes, 11).
        beliefs: Kinds of body that it may be, and how probable each is before the fit.
        trajectory: Boxes, at least 3.
        origin_s: Instant at which the path's cubic counts from zero. [s]
        start: First guess: position and speed along the axis, offset from it, shape (3,). [m, m/s, m]
        readout_s: How much later the last row of a picture is exposed than the first. [s]

    Returns:
        The fit with its covariance.
    """
    drafts = []
    for body, belief in beliefs.items():
        problem = _Problem(camera, body, trajectory, trajectory.times_s - origin_s, start, readout_s)
        draft = _minimise(problem, np.zeros(N_PARAMETERS), inflation=1.0)
        inflation = _correlation_inflation(draft.residuals, draft.weights)
        drafts.append((_log_evidence(draft, inflation) + np.log(belief), problem, draft, inflation))
    _, problem, draft, inflation = max(drafts, key=lambda each: each[0])
    own, edge_sigma_px = _with_own_noise(problem, draft, inflation)
    best = own
    if edge_sigma_px != EDGE_SIGMAS_PX[0]:
        inflation = _correlation_inflation(own.residuals, own.weights)
        best = _minimise(problem, own.z, inflation)
    pulls = best.pulls(inflation)
    parameters = problem.mean + problem.sigma * best.z
    return BodyFit(
        body=problem.body,
        parameters=parameters,
        covariance=np.linalg.inv(best.information(pulls)) * np.outer(problem.sigma, problem.sigma),
        covariance_calibration=_calibration_response(problem, best, pulls, spreads),
        weights=best.weights,
        scale=draft.scale,
        own_scale=own.scale,
        edge_sigma_px=edge_sigma_px,
        inflation=inflation,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Minimum:
    """The most probable parameters.

    Attributes:
        z: How many standard deviations of the prior they are from its mean, shape (17,).
        residuals: Standardised differences, observed minus predicted, shape (k, 4).
        by_z: Derivatives of the prediction, shape (k, 4, 17).
        weights: Robust weights, shape (k, 4).
        scale: Spread of the residuals in units of the assumed noise.
    """

    z: Floats
    residuals: Floats
    by_z: Floats
    weights: Floats
    scale: float

    def pulls(self, inflation: float) -> Floats:
        """How much a residual of each edge pulls at z, shape (k, 4, 17)."""
        return self.by_z * (self.weights / (self.scale**2 * inflation))[..., None]

    def information(self, pulls: Floats) -> Floats:
        """What boxes that pull so and priors know about z, shape (17, 17)."""
        return np.asarray(np.tensordot(pulls, self.by_z, BOXES_AND_EDGES) + np.eye(N_PARAMETERS))


def _log_evidence(at: _Minimum, inflation: float) -> float:
    """Logarithm of the marginal likelihood (Laplace), up to a constant shared by all bodies."""
    cost = _cost(at.residuals, at.scale, at.z, inflation) + at.residuals.size * 2 * np.log(at.scale) / inflation
    return float(-0.5 * (cost + np.linalg.slogdet(at.information(at.pulls(inflation)))[1]))


def _linearised(problem: _Problem, z: Floats) -> tuple[Floats, Floats]:
    """Residuals (k, 4), and derivatives of the prediction by the standardised parameters (k, 4, 17)."""
    residuals, by_parameters = problem.linearise(problem.mean + problem.sigma * z)
    return residuals, by_parameters * problem.sigma


def _weigh(residuals: Floats) -> tuple[Floats, float]:
    """Student's t weights and the scale of the residuals, by a few fixed-point steps from the assumed noise."""
    scale = 1.0
    nu = DEGREES_OF_FREEDOM
    for _ in range(3):
        weights = (nu + 1) / (nu + (residuals / scale) ** 2)
        total = PRIOR_SCALE_WEIGHT + residuals.size
        scale = float(np.sqrt((PRIOR_SCALE_WEIGHT + (weights * residuals**2).sum()) / total))
    return (nu + 1) / (nu + (residuals / scale) ** 2), scale


def _minimise(problem: _Problem, z: Floats, inflation: float) -> _Minimum:
    """Levenberg-Marquardt over standardised parameters, re-weighted at every step.

    Args:
        problem: Boxes and priors.
        z: Where to begin, shape (17,).
        inflation: By which the information of the boxes is divided.
    """
    damping = 1e-3
    residuals, by_z = _linearised(problem, z)
    here = _Minimum(z, residuals, by_z, *_weigh(residuals))
    cost = _cost(residuals, here.scale, z, inflation)
    for _ in range(STEPS):
        pulls = here.pulls(inflation)
        information = here.information(pulls)
        gradient = np.tensordot(pulls, here.residuals, BOXES_AND_EDGES) - here.z
        step = np.linalg.solve(information + damping * np.diag(np.diag(information)), gradient)
        z = here.z + step
        residuals, by_z = _linearised(problem, z)
        if _cost(residuals, here.scale, z, inflation) > cost:
            damping *= 10
            if damping > 1e6:
                break
            continue
        damping /= 5
        here = _Minimum(z, residuals, by_z, *_weigh(residuals))
        cost = _cost(residuals, here.scale, z, inflation)
        if np.sqrt(step @ information @ step) < CONVERGED * np.sqrt(N_PARAMETERS):
            break
    return here


def _cost(residuals: Floats, scale: float, z: Floats, inflation: float) -> float:
    nu = DEGREES_OF_FREEDOM
    return float(((nu + 1) * np.log1p((residuals / scale) ** 2 / nu)).sum() / inflation + z @ z)


def _with_own_noise(problem: _Problem, draft: _Minimum, inflation: float) -> tuple[_Minimum, float]:
    """The fit with the most probable noise, which the problem keeps, and its part that all boxes share. [px]

    Compared by the marginal likelihood: residuals alone tell too little, for a fit bends to what it trusts too much.
    """
    fits: list[tuple[float, float, _Minimum]] = []
    for edge_sigma_px in EDGE_SIGMAS_PX if draft.scale > 1.0 else EDGE_SIGMAS_PX[:1]:
        problem.sigmas_px = problem.sigmas_with(edge_sigma_px)
        fit = _minimise(problem, draft.z, inflation)
        scale_prior = PRIOR_SCALE_WEIGHT * (fit.scale**-2 + 2 * np.log(fit.scale))
        cost = (2 * np.log(problem.sigmas_px).sum() + scale_prior) / inflation - 2 * _log_evidence(fit, inflation)
        if fits:
            cost += UNUSUAL + (np.log(edge_sigma_px / EDGE_SIGMAS_PX[0]) / LOG_EDGE_SIGMA) ** 2
        fits.append((float(cost), edge_sigma_px, fit))
    _, edge_sigma_px, fit = min(fits, key=lambda each: each[0])
    problem.sigmas_px = problem.sigmas_with(edge_sigma_px)
    return fit, edge_sigma_px


def _correlation_inflation(residuals: Floats, weights: Floats) -> float:
    """Variance inflation by lag-one correlation of the residuals, pooled over the four edges.

    A fit takes slow errors into its own parameters, so residuals look less correlated than the errors were: with m
    parameters a series the estimate is too low by about (m + 2 m r) / n (Marriott & Pope, Biometrika 41, 1954).
    """
    kept = residuals * np.sqrt(weights)
    n = len(kept)
    square = float((kept**2).mean()) * n
    if n < 2 or square == 0.0:
        return 1.0
    seen = float((kept[1:] * kept[:-1]).sum()) / 4 / square
    lost = min(FITTED_PER_EDGE / n, MOST_LOST)
    corrected = (seen + lost) / (1 - 2 * lost)
    r = (n * corrected + CORRELATION_PRIOR_WEIGHT * CORRELATION_PRIOR) / (n + CORRELATION_PRIOR_WEIGHT)
    r = float(np.clip(r, 0.0, MAX_CORRELATION))
    return (1 + r) / (1 - r)


def _calibration_response(problem: _Problem, at: _Minimum, pulls: Floats, spreads: Floats) -> Floats:
    """Covariance of the parameters from the camera's, by the implicit function theorem at the minimum."""
    by_camera = problem.by_camera(problem.mean + problem.sigma * at.z)
    pull = np.einsum("kij,kic,ac->aj", pulls, by_camera, spreads, optimize=True)
    shifts = problem.sigma * np.linalg.solve(at.information(pulls), pull.T).T
    return np.asarray(shifts.T @ shifts)
