"""One body per vehicle: a path and a size are fitted to all boxes of a trajectory together.

The bottom edge of a box is not one point of a vehicle, so a line through bottom edges is biased. Here the whole body is
projected: for a path along the road, a size and the small constant offsets of the detector's four edges, the silhouette
of the body gives the box that the detector should have drawn in each frame. The parameters that explain all boxes best,
together with weak priors, are found by Levenberg-Marquardt steps on a robust loss (Student's t, as iteratively
re-weighted least squares). An edge that lies on the picture's border is predicted there too, so a truncated box
contributes only the edges that can be seen.

Box errors are not independent from frame to frame. Their lag-one correlation is estimated from the residuals and the
information of the boxes divided by (1 + r) / (1 - r), the variance inflation of the mean of a first-order
autoregressive process (Box, Jenkins & Reinsel, Time Series Analysis, ch. 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.camera import Camera
from edge.domain import Floats, Trajectory
from edge.speed.bodies import Body

# Parameters: cubic along the axis (4), offset from the axis and its rate (2), log size (3), edge offsets (4) and how
# much these change from the first box to the last (4)
ALONG, ACROSS, SIZE, OFFSETS, DRIFTS = slice(0, 4), slice(4, 6), slice(6, 9), slice(9, 13), slice(13, 17)
N_PARAMETERS = 17

ACCELERATION_SIGMA_MPS2 = 1.5  # drivers in streets: 1 m/s² is brisk, 3 m/s² is firm braking
JERK_SIGMA_MPS3 = 1.5
DRIFT_SIGMA_MPS = 0.3  # across the lane
EDGE_SIGMA_PX = 0.7
HIDDEN_FACTOR = np.array([8.0, 2.0, 8.0, 20.0])  # how much less an edge is trusted, times the covered share
DEGREES_OF_FREEDOM = 4.0  # of Student's t
FAR_OFF = 10.0  # standard deviations; part of the body would be behind the camera
PRIOR_SCALE_WEIGHT = 40.0  # residuals' worth of belief in the noise figures above
STEPS = 12
CONVERGED = 1e-3  # of a standard deviation, largest step
CORRELATION_PRIOR = 0.5
CORRELATION_PRIOR_WEIGHT = 10.0
# Finite differences, in units of the prior; place and speed have vague priors, so theirs are small fractions of them
NUDGE_SIZES = np.full(N_PARAMETERS, 1e-3)
NUDGE_SIZES[[0, 1, 4]] = 1e-5
NUDGES = np.diag(NUDGE_SIZES)


@dataclass(frozen=True, slots=True, eq=False)
class BodyFit:
    """The best body and path for one trajectory.

    Attributes:
        body: The kind that was fitted.
        parameters: Shape (17,), in the order of the slices above.
        covariance: From the boxes, correlation in time included, shape (17, 17).
        covariance_calibration: Response to the calibration's uncertainty, shape (17, 17).
        residuals: Standardised differences, observed minus predicted, shape (k, 4).
        weights: Robust weights, 1.25 for an edge where it was predicted and towards 0 far from it, shape (k, 4).
        scale: Spread of the residuals in units of the assumed noise.
        log_evidence: Logarithm of the marginal likelihood (Laplace), up to a constant shared by all bodies.
    """

    body: Body
    parameters: Floats
    covariance: Floats
    covariance_calibration: Floats
    residuals: Floats
    weights: Floats
    scale: float
    log_evidence: float


class _Problem:
    """Boxes of one trajectory and everything needed to predict them."""

    def __init__(self, camera: Camera, body: Body, trajectory: Trajectory, taus_s: Floats, forward: float) -> None:
        self.camera, self.body, self.taus_s, self.forward = camera, body, taus_s, forward
        self.observed = trajectory.boxes_xyxy_px
        width, height = camera.image_size_px
        self.low = np.array([-0.5, -0.5, -0.5, -0.5])
        self.high = np.array([width, height, width, height]) - 0.5
        extents = self.observed[:, 2:] - self.observed[:, :2]
        sides = np.concatenate([extents, extents], axis=1)
        sigmas = np.hypot(EDGE_SIGMA_PX, body.edges.noise * sides)
        self.sigmas_px = sigmas * (1.0 + HIDDEN_FACTOR * trajectory.covered[:, None])
        self.powers = taus_s[:, None] ** np.arange(4)
        self.progress = taus_s / max(float(np.ptp(taus_s)), 1e-9)

    def predict(self, parameters: Floats, camera: Camera | None = None) -> Floats:
        """Boxes for sets of parameters (p, 17), shape (p, k, 4). [px]"""
        centre_s = parameters[:, ALONG] @ self.powers.T
        rates = np.maximum(np.abs(parameters[:, 1]), 0.5)
        slope = parameters[:, 5] / rates  # small: sine and tangent agree
        cosine = self.forward / np.sqrt(1 + slope**2)
        sine = slope / np.sqrt(1 + slope**2)
        centre_d = parameters[:, 4, None] + parameters[:, 5, None] * self.taus_s
        size = np.exp(parameters[:, SIZE])
        points = self.body.hull[None] * size[:, None, :]  # (p, h, 3)
        x = points[..., 0] * cosine[:, None] - points[..., 1] * sine[:, None] * self.forward
        y = points[..., 0] * sine[:, None] + points[..., 1] * cosine[:, None]
        world = np.empty((len(parameters), len(self.taus_s), points.shape[1], 3))
        world[..., 0] = centre_s[:, :, None] + x[:, None, :]
        world[..., 1] = centre_d[:, :, None] + y[:, None, :]
        world[..., 2] = points[:, None, :, 2]
        pixels = (camera or self.camera).project(world)
        low, high = pixels.min(axis=2), pixels.max(axis=2)
        extent = high - low
        offsets = parameters[:, None, OFFSETS] + parameters[:, None, DRIFTS] * self.progress[None, :, None]
        boxes = np.concatenate([low + offsets[..., :2] * extent, high + offsets[..., 2:] * extent], axis=-1)
        return np.asarray(np.clip(boxes, self.low, self.high))

    def residuals(self, boxes: Floats) -> Floats:
        """Standardised differences; a box that cannot be predicted counts as far off and pulls nowhere."""
        return np.asarray(np.nan_to_num((self.observed - boxes) / self.sigmas_px, nan=FAR_OFF))


def _prior(body: Body, start: Floats) -> tuple[Floats, Floats]:
    """Mean and one standard deviation of every parameter; the path's place and speed are left free."""
    position, speed, lateral = start
    mean = np.concatenate(
        [[position, speed, 0.0, 0.0, lateral, 0.0], np.log(body.size_m), body.edges.offset, np.zeros(4)]
    )
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
    displaced: list[Camera],
    body: Body,
    trajectory: Trajectory,
    origin_s: float,
    start: Floats,
) -> BodyFit:
    """Fit path, size and edge offsets of one kind of body to all boxes of a trajectory.

    Args:
        camera: The camera in the frame of the axis.
        displaced: The same camera displaced by each principal axis of its uncertainty (one standard deviation).
        body: Kind of body to fit.
        trajectory: Boxes, at least 3.
        origin_s: Instant at which the path's cubic counts from zero. [s]
        start: First guess: position and speed along the axis, offset from it, shape (3,). [m, m/s, m]

    Returns:
        The fit with its covariance.
    """
    taus = trajectory.times_s - origin_s
    problem = _Problem(camera, body, trajectory, taus, 1.0 if start[1] > 0 else -1.0)
    mean, sigma = _prior(body, start)
    z, jacobian, residuals, weights, scale = _minimise(problem, mean, sigma)
    inflation = _correlation_inflation(residuals, weights)
    weighted = jacobian * (weights / scale**2)[..., None]
    information = np.einsum("kij,kil->jl", weighted, jacobian)
    covariance_z = np.linalg.inv(information / inflation + np.eye(N_PARAMETERS))
    cost = (DEGREES_OF_FREEDOM + 1) * np.log1p((residuals / scale) ** 2 / DEGREES_OF_FREEDOM) + 2 * np.log(scale)
    log_evidence = -0.5 * (cost.sum() / inflation + z @ z - np.linalg.slogdet(covariance_z)[1])
    return BodyFit(
        body=body,
        parameters=mean + sigma * z,
        covariance=covariance_z * np.outer(sigma, sigma),
        covariance_calibration=_calibration_response(problem, displaced, mean, sigma, z, weighted, information),
        residuals=residuals / scale,
        weights=weights,
        scale=scale,
        log_evidence=float(log_evidence),
    )


def _linearised(problem: _Problem, mean: Floats, sigma: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Residuals (k, 4) and their derivative by the standardised parameters (k, 4, 17)."""
    trials = np.concatenate([z[None], z[None] + NUDGES])
    boxes = problem.predict(mean + sigma * trials)
    residuals = problem.residuals(boxes[0])
    slopes = np.nan_to_num((boxes[0] - boxes[1:]) / (problem.sigmas_px * NUDGE_SIZES[:, None, None]))
    return residuals, np.moveaxis(slopes, 0, -1)


def _weigh(residuals: Floats) -> tuple[Floats, float]:
    """Student's t weights and the scale of the residuals, by a few fixed-point steps from the assumed noise."""
    scale = 1.0
    nu = DEGREES_OF_FREEDOM
    for _ in range(3):
        weights = (nu + 1) / (nu + (residuals / scale) ** 2)
        total = PRIOR_SCALE_WEIGHT + residuals.size
        scale = float(np.sqrt((PRIOR_SCALE_WEIGHT + (weights * residuals**2).sum()) / total))
    return (nu + 1) / (nu + (residuals / scale) ** 2), scale


def _minimise(problem: _Problem, mean: Floats, sigma: Floats) -> tuple[Floats, Floats, Floats, Floats, float]:
    """Levenberg-Marquardt over standardised parameters, re-weighted at every step."""
    z = np.zeros(N_PARAMETERS)
    residuals, jacobian = _linearised(problem, mean, sigma, z)
    damping = 1e-3
    weights, scale = _weigh(residuals)
    cost = _cost(residuals, scale, z)
    for _ in range(STEPS):
        weighted = jacobian * (weights / scale**2)[..., None]
        information = np.einsum("kij,kil->jl", weighted, jacobian) + np.eye(N_PARAMETERS)
        gradient = -np.einsum("kij,ki->j", weighted, residuals) - z
        step = np.linalg.solve(information + damping * np.diag(np.diag(information)), gradient)
        trial = z + step
        new_residuals, new_jacobian = _linearised(problem, mean, sigma, trial)
        new_cost = _cost(new_residuals, scale, trial)
        if new_cost > cost:
            damping *= 10
            if damping > 1e6:
                break
            continue
        done = np.sqrt(step @ information @ step) < CONVERGED * np.sqrt(N_PARAMETERS)
        z, residuals, jacobian, damping = trial, new_residuals, new_jacobian, damping / 5
        weights, scale = _weigh(residuals)
        cost = _cost(residuals, scale, z)
        if done:
            break
    return z, jacobian, residuals, weights, scale


def _cost(residuals: Floats, scale: float, z: Floats) -> float:
    nu = DEGREES_OF_FREEDOM
    return float(((nu + 1) * np.log1p((residuals / scale) ** 2 / nu)).sum() + z @ z)


def _correlation_inflation(residuals: Floats, weights: Floats) -> float:
    """Variance inflation by lag-one correlation of the residuals, pooled over the four edges."""
    kept = residuals * np.sqrt(weights)
    square = (kept**2).mean() * len(kept)
    if len(kept) < 2 or square == 0.0:
        return 1.0
    lagged = (kept[1:] * kept[:-1]).sum() / 4
    prior = CORRELATION_PRIOR_WEIGHT * square / len(kept)
    r = float(np.clip((lagged + CORRELATION_PRIOR * prior) / (square + prior), 0.0, 0.9))
    return (1 + r) / (1 - r)


def _calibration_response(
    problem: _Problem,
    displaced: list[Camera],
    mean: Floats,
    sigma: Floats,
    z: Floats,
    weighted: Floats,
    information: Floats,
) -> Floats:
    """Covariance of the parameters from the camera's, by the implicit function theorem at the minimum."""
    parameters = (mean + sigma * z)[None]
    here = problem.predict(parameters)[0]
    moved = np.array([problem.predict(parameters, camera)[0] - here for camera in displaced]) / problem.sigmas_px
    pull = np.einsum("kij,cki->cj", weighted, np.nan_to_num(moved))
    shifts = sigma * np.linalg.solve(information + np.eye(N_PARAMETERS), pull.T).T
    return np.asarray(shifts.T @ shifts)
