"""What is straight in the street and bent in the picture tells the lens: kerbs, gutters, edges of buildings.

A lens without distortion shows a straight line as a straight line (Brown 1971, "Close-range camera calibration").
Points clicked along such a line therefore bind the distortion, without metres and without a board: whatever the lens,
freed of distortion they must lie on one line. Lines bind k1 and k2 together with the focal length as k1/f² and k2/f⁴;
the focal length itself comes from the survey, so lines and survey are solved together.

A kerb that bends is no line. Lines that contradict the others are named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.camera import PARAMETERS, Camera, Floats
from calibration.errors import CalibrationError
from calibration.survey import DEFAULT_SIGMA_PX, read_number, read_rows

MIN_ON_LINE = 4  # points: two make any line, the third and fourth tell whether it bends
LENS_TERMS = 5  # of the camera's parameters: log focal, centre u and v, k1, k2
_TURNS = 4  # of weights and direction of a line; it has settled then
_STEPS = (1e-5, 1e-2, 1e-2, 1e-5, 1e-5)  # of these parameters, for the derivative

COLUMNS = ("line", "u_px", "v_px")
OPTIONAL = ("sigma_px",)


@dataclass(frozen=True, slots=True, eq=False)
class StraightLines:
    """Points clicked along lines that are straight in the street.

    Attributes:
        names: Of the lines.
        pixels: Points of each line in the distorted picture, shape (n, 2) each. [px]
        sigma_px: Standard deviation of a click, each axis, shape (n,) each. [px]
        file: Where they came from, for messages.
    """

    names: tuple[str, ...]
    pixels: tuple[Floats, ...]
    sigma_px: tuple[Floats, ...]
    file: str = "lines"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def freedom(self) -> int:
        """Observations less the two unknowns of each line."""
        return sum(len(points) - 2 for points in self.pixels)

    def without(self, row: int) -> StraightLines:
        """All lines but one."""
        kept = [each for each in range(len(self)) if each != row]
        return StraightLines(
            tuple(self.names[each] for each in kept),
            tuple(self.pixels[each] for each in kept),
            tuple(self.sigma_px[each] for each in kept),
            self.file,
        )

    def require_inside(self, image_size_px: tuple[int, int]) -> None:
        """Raises CalibrationError for a click outside a picture of that size, or for a line with too few."""
        width, height = image_size_px
        for name, points in zip(self.names, self.pixels):
            if len(points) < MIN_ON_LINE:
                raise CalibrationError(
                    f"{self.file}: line {name}: expected {MIN_ON_LINE} or more points, got {len(points)}"
                )
            outside = (points < -0.5) | (points > (width - 0.5, height - 0.5))
            if outside.any():
                u, v = points[int(outside.any(axis=1).argmax())]
                raise CalibrationError(
                    f"{self.file}: line {name}: expected points inside a picture of {width}x{height},"
                    f" got ({u:g}, {v:g})"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Bent:
    """How far lines are from straight under a camera, and what a change of its lens would do to that.

    Attributes:
        cost: Weighted sum of squares.
        normal: Normal matrix over the first :data:`LENS_TERMS` parameters, lines eliminated, shape (5, 5).
        slope: Where the cost falls, shape (5,).
    """

    cost: float
    normal: Floats
    slope: Floats


def read_lines(path: Path) -> StraightLines:
    """Lines from a CSV file with header ``line,u_px,v_px`` and optionally ``sigma_px``; a row for each point.

    Raises:
        CalibrationError: The file cannot be read, or a column, row or number is not as expected.
    """
    rows = read_rows(path, COLUMNS, OPTIONAL)
    points: dict[str, list[tuple[float, float, float]]] = {}
    for where, row in rows:
        if not row["line"]:
            raise CalibrationError(f"{where}: line: expected a name for the line, got nothing")
        sigma = read_number(f"{where}: sigma_px", row.get("sigma_px") or str(DEFAULT_SIGMA_PX), "pixels")
        if sigma <= 0:
            raise CalibrationError(f"{where}: sigma_px: expected a standard deviation above 0, got {sigma:g}")
        u, v = (read_number(f"{where}: {column}", row[column], "pixels") for column in ("u_px", "v_px"))
        points.setdefault(row["line"], []).append((u, v, sigma))
    if not points:
        raise CalibrationError(f"{path.name}: expected at least one line, got none")
    tables = [np.array(each) for each in points.values()]
    return StraightLines(
        tuple(points), tuple(each[:, :2] for each in tables), tuple(each[:, 2] for each in tables), path.name
    )


def lines_cost(camera: Camera, lines: StraightLines) -> float:
    """Weighted sum of squares of the distances from straight; infinite where the lens has no origin for a click."""
    straight, by_pixel = camera.straighten(np.vstack(lines.pixels))
    if not np.isfinite(straight).all():
        return math.inf
    return sum(
        float((_offsets(straight[rows], by_pixel[rows], sigma, line) ** 2).sum())
        for rows, sigma, line in _each(straight, by_pixel, lines)
    )


def bent(camera: Camera, lines: StraightLines) -> Bent:
    """How far lines are from straight, linearised; expects clicks that have an origin (:func:`lines_cost`).

    The lines are where they fit best, so what they would gain by moving has no part in the slope.
    """
    clicks = np.vstack(lines.pixels)
    straight, by_pixel = camera.straighten(clicks)
    either_side = []
    for row, step in enumerate(_STEPS):
        change = np.zeros(len(PARAMETERS))
        change[row] = step
        either_side.append([camera.perturbed(sign * change).straighten(clicks) for sign in (1, -1)])
    cost, normal, slope = 0.0, np.zeros((LENS_TERMS, LENS_TERMS)), np.zeros(LENS_TERMS)
    for rows, sigma, line in _each(straight, by_pixel, lines):
        offsets = _offsets(straight[rows], by_pixel[rows], sigma, line)
        there = [[_offsets(x[rows], by[rows], sigma, line) for x, by in sides] for sides in either_side]
        design = np.column_stack([(more - less) / (2 * step) for (more, less), step in zip(there, _STEPS)])
        design = np.nan_to_num(design, nan=0.0)  # where the lens is about to turn back the cost is a wall, not a slope
        along = (straight[rows] - line.middle) @ np.array([-line.across[1], line.across[0]])
        weight = 1 / (sigma * np.linalg.norm(line.across @ by_pixel[rows], axis=1))
        of_line = np.column_stack((along, np.ones(len(along)))) * weight[:, None]  # its own turn and shift
        design -= of_line @ np.linalg.lstsq(of_line, design, rcond=None)[0]
        cost += float(offsets @ offsets)
        normal += design.T @ design
        slope -= design.T @ offsets
    return Bent(cost, normal, slope)


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A line in the undistorted picture: a point on it and its unit normal, shape (2,) each. [px]"""

    middle: Floats
    across: Floats


def _each(straight: Floats, by_pixel: Floats, lines: StraightLines) -> Iterator[tuple[slice, Floats, _Line]]:
    """Rows, click sigmas and the best line of each."""
    begin = 0
    for sigma in lines.sigma_px:
        rows = slice(begin, begin + len(sigma))
        begin = rows.stop
        yield rows, sigma, _best_line(straight[rows], by_pixel[rows], sigma)


def _best_line(straight: Floats, by_pixel: Floats, sigma_px: Floats) -> _Line:
    """The line that is nearest to the clicks, in pixels of the distorted picture."""
    weights = 1 / sigma_px**2
    middle: Floats = np.zeros(2)
    across: Floats = np.zeros(2)
    for _ in range(_TURNS):
        middle = weights @ straight / weights.sum()
        apart = straight - middle
        across = np.linalg.eigh((apart * weights[:, None]).T @ apart)[1][:, 0]
        weights = 1 / (sigma_px * np.linalg.norm(across @ by_pixel, axis=1)) ** 2
    return _Line(middle, across)


def _offsets(straight: Floats, by_pixel: Floats, sigma_px: Floats, line: _Line) -> Floats:
    """Distances from a line over what a click is uncertain across it, shape (n,)."""
    return np.asarray(
        (straight - line.middle) @ line.across / (sigma_px * np.linalg.norm(line.across @ by_pixel, axis=1))
    )
