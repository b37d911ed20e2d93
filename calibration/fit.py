"""One camera from one survey: errors in clicks and tape readings, weak knowledge of lenses, honest covariance.

Maximum a posteriori over focal length, principal point, k1, k2 and pose. Clicks and surveyed coordinates both carry
errors (errors in variables): the true coordinates are unknowns too and are eliminated exactly in each step, which
gives the Gauss-Helmert weights W = (σ_px²·I + σ_m²·J·Jᵀ)⁻¹ of a point (J: pixels by metres). Levenberg-Marquardt with
exact Jacobians.

A flat road seen once tells eight numbers (a homography); pose, focal length, principal point and lens are eleven.
Hence the priors, which describe cameras on poles in general and give way wherever the points know better:

- principal point within 1 % of the picture's width of its centre, each axis (usual centring of board lenses);
- log focal length around 0.9 widths ± 0.6: between 0.5 and 1.6 widths at one sigma, 6 mm board lens to 2.7 mm wide
  angle and tele;
- k1 = 0 ± 0.25 and k2 = 0 ± 0.1: reaches a wide lens (−0.3 at 100°) at about one sigma.

Lines that are straight in the street (:mod:`calibration.straight`) add their distances from straight to the sum.

A lens that was found with a board takes the place of all of them, with its own covariance; its p1, p2 and k3 are kept
as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from calibration.camera import PARAMETERS, Camera, Floats, inverse_2x2
from calibration.lens import Lens
from calibration.road_plane import RoadPlane, convex_hull
from calibration.straight import LENS_TERMS, StraightLines, bent, lines_cost
from calibration.survey import Survey

CENTRE_SIGMA_SHARE = 0.01  # of the picture's width
FOCAL_PRIOR_WIDTHS = 0.9
LOG_FOCAL_SIGMA = 0.6
K1_SIGMA = 0.25
K2_SIGMA = 0.1

_FOCAL_TRIALS_WIDTHS = (0.4, 0.6, 0.8, 1.0, 1.4, 2.0, 3.0, 5.0)
_WIDE_LENS = (-0.25, 0.0, 0.0, 0.0, 0.0)
_STARTS = 3  # best of the trials that are refined for a few steps; the best of those goes on to the end
_FIRST_STEPS = 5
_MAX_STEPS = 60
_CONVERGED = 1e-9  # relative fall of the cost
_LEVEL = 1e-3  # fall that one more undamped step would promise, relative to the cost
_MAX_DAMPING = 1e10


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The most probable camera of a survey.

    Attributes:
        survey: The points it rests on.
        camera: The camera.
        covariance: Of its parameters, from the stated sigmas and priors, shape (11, 11).
        chi_square: Weighted sum of squares of clicks, coordinates and priors.
        prior_pulls: How many prior sigmas log focal, centre u, centre v, k1, k2 moved, shape (5,); with a lens from a
            board, independent combinations of these.
        lines_freedom: Observations that straight lines added, less their unknowns.
    """

    survey: Survey
    camera: Camera
    covariance: Floats
    chi_square: float
    prior_pulls: Floats
    lines_freedom: int = 0

    @property
    def degrees_of_freedom(self) -> int:
        """Observations and priors less unknowns."""
        return 2 * len(self.survey) + len(self.prior_pulls) - len(PARAMETERS) + self.lines_freedom

    @property
    def residuals_px(self) -> Floats:
        """Click less projection of the coordinates as surveyed, shape (n, 2). [px]"""
        return np.asarray(self.survey.pixels - self.camera.project(_on_road(self.survey.points_m)))

    @property
    def rms_px(self) -> float:
        """Root mean square length of the residuals. [px]"""
        return float(np.sqrt((self.residuals_px**2).sum(axis=1).mean()))

    @property
    def plane(self) -> RoadPlane:
        """The road under this camera."""
        return RoadPlane(camera=self.camera, covariance=self.covariance, hull_m=convex_hull(self.survey.points_m))


def fit_camera(
    survey: Survey, image_size_px: tuple[int, int], lens: Lens | None = None, lines: StraightLines | None = None
) -> Fit | None:
    """The most probable camera above the road; None when no camera above it can see the points like that.

    Args:
        survey: At least 4 points, not on a line (:meth:`Survey.require_spread`).
        image_size_px: Width and height of the picture they were clicked in. [px]
        lens: What a board told about the camera; None: what is known of cameras on poles in general.
        lines: What is straight in the street.
    """
    problem = _Problem(survey, image_size_px, lens, lines)
    starts = sorted(problem.starts(), key=lambda state: state.cost)[:_STARTS]
    advanced = [problem.refine(state, _FIRST_STEPS) for state in starts]
    if not advanced:
        return None
    return problem.settled(problem.refine(min(advanced, key=lambda state: state.cost), _MAX_STEPS))


def bending(lines: StraightLines, image_size_px: tuple[int, int], lens: Lens | None = None) -> float:
    """What lines are from straight under the lens that suits them best: weighted sum of squares, priors included."""
    means, covariance = _general_prior(image_size_px) if lens is None else _prior_of(lens)
    precision = np.linalg.inv(covariance)
    camera = Camera(
        image_size_px=image_size_px,
        focal_px=math.exp(means[0]),
        centre_px=(float(means[1]), float(means[2])),
        distortion=(float(means[3]), float(means[4]), *(lens.distortion[2:] if lens is not None else (0.0, 0.0, 0.0))),
        rotation=np.eye(3),
        position_m=np.zeros(3),
    )

    def cost_of(camera: Camera) -> tuple[float, Floats]:
        pull = np.array([math.log(camera.focal_px), *camera.centre_px, *camera.distortion[:2]]) - means
        return lines_cost(camera, lines) + float(pull @ precision @ pull), pull

    (cost, pull), damping = cost_of(camera), 1e-3
    for _ in range(_MAX_STEPS):
        found = bent(camera, lines)
        normal, slope = found.normal + precision, found.slope - precision @ pull
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slope)
        tried = camera.perturbed(np.concatenate((step, np.zeros(len(PARAMETERS) - LENS_TERMS))))
        cost_then, pull_then = cost_of(tried)
        if cost_then > cost:
            damping *= 10
            if damping > _MAX_DAMPING:
                break
            continue
        fall, camera, cost, pull, damping = cost - cost_then, tried, cost_then, pull_then, max(damping / 10, 1e-12)
        if fall <= _CONVERGED * (cost + 1.0):
            break
    return cost


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Where a refinement stands.

    Attributes:
        camera: The camera, in centred coordinates.
        points_m: The true coordinates as far as clicks and tape tell, centred, shape (n, 2). [m]
        cost: Weighted sum of squares.
        damping: Of the next step.
    """

    camera: Camera
    points_m: Floats
    cost: float
    damping: float


class _Problem:
    """The least-squares problem of one survey, in coordinates about its centre (RD New has six digits)."""

    def __init__(
        self, survey: Survey, image_size_px: tuple[int, int], lens: Lens | None, lines: StraightLines | None
    ) -> None:
        self._survey, self._size, self._lens, self._lines = survey, image_size_px, lens, lines
        self._origin = survey.points_m.mean(axis=0)
        self._surveyed = survey.points_m - self._origin
        self._variance_px, self._variance_m = survey.sigma_px**2, survey.sigma_m**2
        self._prior_means, covariance = _general_prior(image_size_px) if lens is None else _prior_of(lens)
        # rows that turn deviations into independent ones of size one: the inverse of the Cholesky factor
        self._whitening = np.linalg.inv(np.linalg.cholesky(covariance))

    def starts(self) -> list[_State]:
        """Cameras to begin with, from homographies and a range of focal lengths; with a wide lens where none fits."""
        if self._lens is not None:
            return self._visible([self._camera_with_lens(self._lens.focal_px, self._lens.distortion)])
        plane = homography(self._surveyed, self._survey.pixels)
        focal_lengths = [share * self._size[0] for share in _FOCAL_TRIALS_WIDTHS]
        found = self._visible([self._camera_from(plane, focal_px) for focal_px in focal_lengths])
        return found or self._visible([self._camera_with_lens(focal_px, _WIDE_LENS) for focal_px in focal_lengths])

    def _visible(self, cameras: list[Camera | None]) -> list[_State]:
        states = [_State(c, self._surveyed, self._cost(c, self._surveyed), 1e-3) for c in cameras if c is not None]
        return [state for state in states if math.isfinite(state.cost)]

    def refine(self, state: _State, steps: int) -> _State:
        """At most so many Levenberg-Marquardt steps; ends earlier where the cost no longer falls."""
        for _ in range(steps):
            advanced = self._step(state)
            if advanced is None:
                return state
            fall, state = state.cost - advanced.cost, advanced
            if fall <= _CONVERGED * (state.cost + 1.0):
                return state
        return state

    def settled(self, state: _State) -> Fit | None:
        """The fit of a refined state; None when it stands on a slope: the walls of the model stopped it."""
        normal, slope, _ = self._normal_equations(state.camera, state.points_m)
        if float(slope @ np.linalg.solve(normal, slope)) > _LEVEL * (state.cost + 1.0):
            return None
        return self._fit(state, normal)

    def _step(self, state: _State) -> _State | None:
        normal, slope, blocks = self._normal_equations(state.camera, state.points_m)
        damping = state.damping
        while damping < _MAX_DAMPING:
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slope)
            camera = state.camera.perturbed(step)
            points = self._surveyed + np.einsum("nij,nj->ni", blocks.gain, blocks.miss - blocks.by_camera @ step)
            cost = self._cost(camera, points)
            if cost <= state.cost:
                return _State(camera, points, cost, max(damping / 10, 1e-12))
            damping *= 10
        return None

    def _fit(self, state: _State, normal: Floats) -> Fit:
        scale = np.sqrt(np.diag(normal))  # metres, pixels and lens terms differ by many orders of magnitude
        return Fit(
            survey=self._survey,
            camera=_moved(state.camera, self._origin),
            covariance=np.linalg.inv(normal / np.outer(scale, scale)) / np.outer(scale, scale),
            chi_square=state.cost,
            prior_pulls=self._pulls(state.camera),
            lines_freedom=0 if self._lines is None else self._lines.freedom,
        )

    def _pulls(self, camera: Camera) -> Floats:
        k1, k2 = camera.distortion[:2]
        values = np.array([math.log(camera.focal_px), *camera.centre_px, k1, k2])
        return np.asarray(self._whitening @ (values - self._prior_means))

    def _cost(self, camera: Camera, points: Floats) -> float:
        """Weighted sum of squares; infinite where the camera cannot see the points or lies under the road."""
        if camera.height_m <= 0:
            return math.inf
        clicks = ((self._survey.pixels - camera.project(_on_road(points))) ** 2).sum(axis=1) / self._variance_px
        tape = ((points - self._surveyed) ** 2).sum(axis=1) / self._variance_m
        cost = float((clicks + tape).sum() + (self._pulls(camera) ** 2).sum())
        if self._lines is not None and math.isfinite(cost):
            cost += lines_cost(camera, self._lines)
        return cost if math.isfinite(cost) else math.inf

    def _normal_equations(self, camera: Camera, points: Floats) -> tuple[Floats, Floats, _Blocks]:
        """Normal matrix and slope over the camera's parameters with the points eliminated."""
        projected, by_camera, by_space = camera.linearise(_on_road(points))
        by_points = by_space[..., :2]
        miss = self._survey.pixels - projected - np.einsum("nij,nj->ni", by_points, self._surveyed - points)
        across = self._variance_m[:, None, None] * np.swapaxes(by_points, -1, -2)
        weights = inverse_2x2(by_points @ across + self._variance_px[:, None, None] * np.eye(2))
        weighted = np.swapaxes(by_camera, -1, -2) @ weights
        normal, slope = (weighted @ by_camera).sum(axis=0), np.einsum("npi,ni->p", weighted, miss)
        priors = len(self._prior_means)
        normal[:priors, :priors] += self._whitening.T @ self._whitening
        slope[:priors] -= self._whitening.T @ self._pulls(camera)
        if self._lines is not None:
            lines = bent(camera, self._lines)
            normal[:LENS_TERMS, :LENS_TERMS] += lines.normal
            slope[:LENS_TERMS] += lines.slope
        return normal, slope, _Blocks(miss=miss, by_camera=by_camera, gain=across @ weights)

    def _camera_from(self, plane: Floats, focal_px: float) -> Camera | None:
        """Camera of a homography road → picture at a given focal length, no lens; None when it lies under the road."""
        cu, cv = self._prior_means[1:3]
        columns = np.linalg.inv(np.array([[focal_px, 0, cu], [0, focal_px, cv], [0, 0, 1]])) @ plane
        columns *= 2 / (np.linalg.norm(columns[:, 0]) + np.linalg.norm(columns[:, 1]))
        if columns[2, 2] < 0:
            columns = -columns
        left, _, right = np.linalg.svd(
            np.column_stack((columns[:, 0], columns[:, 1], np.cross(columns[:, 0], columns[:, 1])))
        )
        rotation = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        position = -rotation.T @ columns[:, 2]
        if position[2] <= 0:
            return None
        return Camera(
            image_size_px=self._size,
            focal_px=focal_px,
            centre_px=(float(cu), float(cv)),
            distortion=(0.0, 0.0, 0.0, 0.0, 0.0),
            rotation=rotation,
            position_m=position,
        )

    def _camera_with_lens(self, focal_px: float, distortion: tuple[float, float, float, float, float]) -> Camera | None:
        """As :meth:`_camera_from`, from clicks freed of an assumed distortion; None also where they have no origin."""
        cu, cv = self._prior_means[1:3]
        lens = Camera(
            image_size_px=self._size,
            focal_px=focal_px,
            centre_px=(float(cu), float(cv)),
            distortion=distortion,
            rotation=np.eye(3),
            position_m=np.zeros(3),
        )
        pixels = lens.undistorted(self._survey.pixels)
        if not np.isfinite(pixels).all():
            return None
        camera = self._camera_from(homography(self._surveyed, pixels), focal_px)
        return None if camera is None else replace(camera, distortion=lens.distortion)


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """What a step of the camera does to the eliminated points.

    Attributes:
        miss: Click less projection as linearised at the surveyed coordinates, shape (n, 2). [px]
        by_camera: Derivative of the projection by the parameters, shape (n, 2, 11).
        gain: Metres that a point moves for a pixel of remaining miss, shape (n, 2, 2). [m/px]
    """

    miss: Floats
    by_camera: Floats
    gain: Floats


def _general_prior(image_size_px: tuple[int, int]) -> tuple[Floats, Floats]:
    """Mean and covariance of log focal, centre u, centre v, k1, k2 for cameras on poles in general."""
    width, height = image_size_px
    means = np.array([math.log(FOCAL_PRIOR_WIDTHS * width), (width - 1) / 2, (height - 1) / 2, 0.0, 0.0])
    centre_sigma = CENTRE_SIGMA_SHARE * width
    return means, np.diag(np.array([LOG_FOCAL_SIGMA, centre_sigma, centre_sigma, K1_SIGMA, K2_SIGMA]) ** 2)


def _prior_of(lens: Lens) -> tuple[Floats, Floats]:
    """The same for a camera whose lens a board told; p1, p2 and k3 stay fixed, what is unknown of them is in here."""
    k1, k2 = lens.distortion[:2]
    return np.array([math.log(lens.focal_px), *lens.centre_px, k1, k2]), lens.covariance[:5, :5]


def homography(points_m: Floats, pixels: Floats) -> Floats:
    """Road → picture by the normalised direct linear transform (Hartley 1997, doi:10.1109/34.601246), shape (3, 3)."""
    (road, to_road), (picture, to_picture) = _normalised(points_m), _normalised(pixels)
    x, y, one, zero = road[:, 0], road[:, 1], np.ones(len(road)), np.zeros((len(road), 3))
    plane = np.column_stack((x, y, one))
    rows = np.concatenate(
        (
            np.hstack((plane, zero, -picture[:, :1] * plane)),
            np.hstack((zero, plane, -picture[:, 1:] * plane)),
        )
    )
    null = np.linalg.svd(rows)[2][-1].reshape(3, 3)
    return np.asarray(np.linalg.inv(to_picture) @ null @ to_road)


def _normalised(points: Floats) -> tuple[Floats, Floats]:
    """Points with mean 0 and mean square √2, and the matrix that makes them so."""
    centre = points.mean(axis=0)
    scale = math.sqrt(2.0 / float(((points - centre) ** 2).sum(axis=1).mean()))
    matrix = np.array([[scale, 0.0, -scale * centre[0]], [0.0, scale, -scale * centre[1]], [0.0, 0.0, 1.0]])
    return (points - centre) * scale, matrix


def _moved(camera: Camera, by_m: Floats) -> Camera:
    shift = np.zeros(len(PARAMETERS))
    shift[8:10] = by_m
    return camera.perturbed(shift)


def _on_road(points_m: Floats) -> Floats:
    return np.column_stack((points_m, np.zeros(len(points_m))))
