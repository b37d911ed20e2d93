"""Coordinates from tape distances between marks: chalk and one tape are a survey.

Least squares adjustment of distances and of whatever coordinates were given as well (Gauss-Newton with damping).
Distances alone leave open where the frame lies and whether it is mirrored. Without given coordinates the frame begins
at the first point and its x runs through the second; the picture tells the rest, because a camera above the road sees
three marks in the same turning sense as they lie. Errors of the marks hang together; the survey that comes out states
one sigma a mark, chosen so that none of the taped distances is claimed to be known better than it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.camera import Floats
from calibration.errors import CalibrationError

WRONG_SIGMAS = 3.9  # of a residual: one right reading in ten thousand is questioned
_STEPS = 100
_CONVERGED_M = 1e-9
_LOOSE = 1e-6  # singular value below which no reading holds a movement, and what still counts as no movement


@dataclass(frozen=True, slots=True)
class Tape:
    """One distance taped on the road.

    Attributes:
        start: Row of the one mark.
        end: Row of the other.
        metres: The reading. [m]
    """

    start: int
    end: int
    metres: float


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """Marks with coordinates.

    Attributes:
        points_m: Shape (n, 2). [m]
        sigma_m: One sigma a mark, each axis, shape (n,). [m]
        says: What does not fit, a sentence each.
    """

    points_m: Floats
    sigma_m: Floats
    says: tuple[str, ...]


def locate_by_tape(
    *,
    names: Sequence[str],
    pixels: Floats,
    given_m: Floats,
    given_sigma_m: float,
    tapes: Sequence[Tape],
    tape_sigma_m: float,
) -> Located:
    """Coordinates of marks from tape distances and given coordinates.

    Args:
        names: What the marks are called.
        pixels: Where they are in the picture, shape (n, 2): tells which way round the frame is. [px]
        given_m: Coordinates as given, NaN where only distances tell, shape (n, 2). [m]
        given_sigma_m: Standard deviation of a given coordinate. [m]
        tapes: The distances.
        tape_sigma_m: Standard deviation of a reading. [m]

    Raises:
        CalibrationError: A mark is held by too few distances; its name is said.
    """
    return _Network(names, pixels, given_m, given_sigma_m, tapes, tape_sigma_m).located()


class _Network:
    """Marks as unknowns, readings as equations."""

    def __init__(
        self,
        names: Sequence[str],
        pixels: Floats,
        given_m: Floats,
        given_sigma_m: float,
        tapes: Sequence[Tape],
        tape_sigma_m: float,
    ) -> None:
        self.names, self.pixels, self.given_m = names, pixels, np.asarray(given_m, dtype=np.float64)
        self.given_sigma_m, self.tape_sigma_m = given_sigma_m, tape_sigma_m
        self.ends = np.array([(tape.start, tape.end) for tape in tapes], dtype=np.intp).reshape(-1, 2)
        self.metres = np.array([tape.metres for tape in tapes], dtype=np.float64)
        self.is_given = np.isfinite(self.given_m).all(axis=1)

    def located(self) -> Located:
        self._require_held()
        origin = self.given_m[self.is_given].mean(axis=0) if self.is_given.any() else np.zeros(2)
        self.given_m = self.given_m - origin
        points = self._best()
        if not self.is_given.any():
            points = self._in_own_frame(points)
        covariance = self._covariance(points)
        return Located(
            points_m=points + origin,
            sigma_m=self._one_sigma(points, covariance),
            says=tuple(self._contradictions(points, covariance)),
        )

    def _require_held(self) -> None:
        """Every mark needs given coordinates, or enough distances: tried at places where no three are on a line."""
        n = len(self.names)
        anywhere = np.random.default_rng(1).uniform(-10.0, 10.0, (n, 2))
        _, values, modes = np.linalg.svd(self._jacobian(anywhere))
        free = modes[np.concatenate((values, np.zeros(2 * n - len(values)))) < _LOOSE].reshape(-1, n, 2)
        if self.is_given.sum() > 1:
            held = np.abs(free).max(axis=(0, 2), initial=0.0) < _LOOSE
        else:  # the frame may move: held is the largest group of marks that keep their distances to two of them
            apart = anywhere[:, None] - anywhere[None]
            stretch = np.einsum("mijk,ijk->mij", free[:, :, None] - free[:, None], apart)
            stiff = np.abs(stretch).max(axis=0, initial=0.0) < _LOOSE
            groups = (stiff[a] & stiff[b] for a, b in np.argwhere(stiff) if a != b)
            held = max(groups, key=np.count_nonzero, default=np.zeros(n, dtype=np.bool_))
        if not held.all():
            which = [name for name, is_held in zip(self.names, held) if not is_held]
            verb = "is" if len(which) == 1 else "are"
            raise CalibrationError(
                f"{', '.join(which)} {verb} not held by the distances: expected coordinates, or at least two distances"
                " from each mark to marks that are held (three marks hold each other)"
            )

    def _best(self) -> Floats:
        """The places that meet the readings and turn as in the picture, or else come nearest to it.

        Distances can be met by a folded network too, and a fit can end in a wrong fold: then others are tried.
        """
        best = None
        for start in self._starts():
            points = self._adjusted(start)
            best = points if best is None else min(best, points, key=self._cost)
            if self._cost(best)[:2] == (False, 0.0):
                break
        assert best is not None  # there is always a start
        return best

    def _starts(self) -> Iterator[Floats]:
        """Places to begin at: from shortest ways along the tapes (Isomap, doi:10.1126/science.290.5500.2319)."""
        n = len(self.names)
        ways = np.full((n, n), np.inf)
        np.fill_diagonal(ways, 0.0)
        for (a, b), metres in zip(self.ends, self.metres):
            ways[a, b] = ways[b, a] = min(metres, ways[a, b])
        for a, b in itertools.combinations(np.flatnonzero(self.is_given), 2):
            ways[a, b] = ways[b, a] = math.dist(self.given_m[a], self.given_m[b])
        for middle in range(n):
            ways = np.minimum(ways, ways[:, middle, None] + ways[None, middle])
        ways[~np.isfinite(ways)] = 2 * np.max(ways, where=np.isfinite(ways), initial=1.0)
        centring = np.eye(n) - 1 / n
        values, vectors = np.linalg.eigh(-0.5 * centring @ ways**2 @ centring)
        shape = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 1e-6))
        rng = np.random.default_rng(2)
        spread = float(np.abs(shape).max())
        trials = [shape, *(shape + rng.normal(0.0, 0.3 * spread, shape.shape) for _ in range(12))]
        for trial in trials:
            for side in ((1.0, 1.0), (1.0, -1.0)):
                yield self._placed(trial * side)

    def _placed(self, shape: Floats) -> Floats:
        """A shape turned and moved onto the given coordinates, as well as it goes."""
        known = np.flatnonzero(self.is_given)
        if not len(known):
            return shape
        start, goal = shape[known], self.given_m[known]
        left, _, right = np.linalg.svd((start - start.mean(axis=0)).T @ (goal - goal.mean(axis=0)))
        turn = left @ np.diag([1.0, np.linalg.det(left @ right)]) @ right
        return np.asarray((shape - start.mean(axis=0)) @ turn + goal.mean(axis=0))

    def _adjusted(self, points: Floats) -> Floats:
        damping, residuals = 1e-3, self._residuals(points)
        for _ in range(_STEPS):
            jacobian = self._jacobian(points)
            normal = jacobian.T @ jacobian
            scale = np.diag(damping * np.diag(normal) + 1e-9 * normal.trace() / len(normal))  # holds the frame, too
            step = np.linalg.solve(normal + scale, jacobian.T @ residuals)
            trial = points + step.reshape(-1, 2)
            after = self._residuals(trial)
            if after @ after < residuals @ residuals:
                points, residuals, damping = trial, after, damping / 5
                if np.abs(step).max() < _CONVERGED_M:
                    break
            else:
                damping *= 4
                if damping > 1e9:
                    break
        return points

    def _cost(self, points: Floats) -> tuple[bool, float, int]:
        """Contradictions first; equal ones are told apart by the turning sense of the marks in the picture."""
        residuals = self._residuals(points)
        freedom = max(1, len(residuals) - points.size + 3)
        chi_square = float(residuals @ residuals)
        return chi_square > 20 * freedom, float(self._turned_triples(points)), round(1e3 * chi_square)

    def _turned_triples(self, points: Floats) -> int:
        """Triples of marks that turn the other way round than in the picture (whose v points down)."""
        triples = np.array(list(itertools.combinations(range(len(points)), 3)), dtype=np.intp)
        if not len(triples):
            return 0
        return int((_turning(points[triples]) * _turning(self.pixels[triples]) > 0).sum())

    def _in_own_frame(self, points: Floats) -> Floats:
        """First mark at the origin, second on the positive x axis."""
        along = points[1] - points[0]
        x, y = along / np.linalg.norm(along)
        return np.asarray((points - points[0]) @ np.array([[x, -y], [y, x]]))

    def _residuals(self, points: Floats) -> Floats:
        apart = points[self.ends[:, 0]] - points[self.ends[:, 1]]
        tapes = (self.metres - np.hypot(apart[:, 0], apart[:, 1])) / self.tape_sigma_m
        given = (self.given_m - points)[self.is_given] / self.given_sigma_m
        return np.concatenate((tapes, given.ravel()))

    def _jacobian(self, points: Floats) -> Floats:
        """Of the readings by the coordinates, in sigmas, shape (readings, 2n)."""
        apart = points[self.ends[:, 0]] - points[self.ends[:, 1]]
        along = apart / np.maximum(np.hypot(apart[:, 0], apart[:, 1]), 1e-9)[:, None] / self.tape_sigma_m
        tapes = np.zeros((len(along), len(points), 2))
        rows = np.arange(len(along))
        tapes[rows, self.ends[:, 0]] = along
        tapes[rows, self.ends[:, 1]] = -along
        given = np.eye(points.size)[np.repeat(self.is_given, 2)] / self.given_sigma_m
        return np.concatenate((tapes.reshape(len(along), -1), given))

    def _covariance(self, points: Floats) -> Floats:
        """Of all coordinates in the frame that makes it smallest (inner constraints), shape (2n, 2n). [m²]"""
        jacobian = self._jacobian(points)
        return np.asarray(np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-12, hermitian=True))

    def _one_sigma(self, points: Floats, covariance: Floats) -> Floats:
        n = len(points)
        blocks = covariance.reshape(n, 2, n, 2)[np.arange(n), :, np.arange(n), :]
        sigmas = np.sqrt(np.linalg.eigvalsh(blocks)[:, -1])
        tapes = self._jacobian(points)[: len(self.metres)] * self.tape_sigma_m
        known = np.sqrt(np.einsum("ij,jk,ik->i", tapes, covariance, tapes))
        claimed = np.hypot(sigmas[self.ends[:, 0]], sigmas[self.ends[:, 1]])
        return np.asarray(sigmas * max(1.0, float((known / claimed).max(initial=1.0))))

    def _contradictions(self, points: Floats, covariance: Floats) -> list[str]:
        """The reading that fits the others least (data snooping, Baarda 1968), if it stands out."""
        jacobian, residuals = self._jacobian(points), self._residuals(points)
        spread = np.sqrt(np.maximum(1 - np.einsum("ij,jk,ik->i", jacobian, covariance, jacobian), 0.0))
        checked = spread > 1e-3  # the others have no second opinion
        stray = np.where(checked, np.abs(residuals) / np.maximum(spread, 1e-3), 0.0)
        if not len(stray) or stray.max() < WRONG_SIGMAS:
            return []
        worst = int(stray.argmax())
        # Residual over its redundancy: how far off the reading itself must be for the others to be right.
        off_m = float(residuals[worst] / spread[worst] ** 2)
        if worst < len(self.metres):
            start, end = (self.names[row] for row in self.ends[worst])
            expected = self.metres[worst] - off_m * self.tape_sigma_m
            return [
                f"distance {start} to {end}: {self.metres[worst]:.2f} m contradicts the others, which say"
                f" {expected:.2f} m"
            ]
        row = int(np.flatnonzero(self.is_given)[(worst - len(self.metres)) // 2])
        axis = "xy"[(worst - len(self.metres)) % 2]
        return [
            f"{self.names[row]}: its {axis} is off by {off_m * self.given_sigma_m:+.2f} m according to the distances"
        ]


def _turning(triples: Floats) -> Floats:
    """Twice the signed area of triangles, shape (m,)."""
    first, second = triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0]
    return np.asarray(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
