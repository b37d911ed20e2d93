"""What a technician measured: points clicked in the picture and taped on the road.

Every complaint names the file, the line, the column, what was expected and what was found.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.camera import Floats
from calibration.errors import CalibrationError

DEFAULT_SIGMA_PX = 1.0  # a careful click on an unzoomed picture
DEFAULT_SIGMA_M = 0.02  # chalk and tape
MIN_POINTS = 4  # a plane seen in perspective has eight unknowns, a point gives two

SURVEY_COLUMNS = ("name", "u_px", "v_px", "x_m", "y_m")
SURVEY_OPTIONAL = ("sigma_px", "sigma_m")
DISTANCE_COLUMNS = ("u1_px", "v1_px", "u2_px", "v2_px", "distance_m")
DISTANCE_OPTIONAL = ("sigma_m",)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """Surveyed points, one a row.

    Attributes:
        names: What the technician calls them.
        pixels: Clicks in the distorted picture, shape (n, 2). [px]
        points_m: Survey coordinates on the road, shape (n, 2). [m]
        sigma_px: Standard deviation of a click, each axis, shape (n,). [px]
        sigma_m: Standard deviation of a coordinate, each axis, shape (n,). [m]
        origin: Where a row came from, for messages: ``survey.csv line 7``.
    """

    names: tuple[str, ...]
    pixels: Floats
    points_m: Floats
    sigma_px: Floats
    sigma_m: Floats
    origin: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def only(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> Survey:
        """The given rows."""
        kept = np.asarray(rows, dtype=np.intp)
        return Survey(
            names=tuple(self.names[row] for row in kept),
            pixels=self.pixels[kept],
            points_m=self.points_m[kept],
            sigma_px=self.sigma_px[kept],
            sigma_m=self.sigma_m[kept],
            origin=tuple(self.origin[row] for row in kept),
        )

    def without(self, rows: Iterable[int]) -> Survey:
        """All but the given rows."""
        left_out = set(rows)
        return self.only([row for row in range(len(self)) if row not in left_out])

    def dropping(self, names: Iterable[str]) -> Survey:
        """All but the named points; raises CalibrationError for a name that is not there."""
        wanted = list(names)
        for name in wanted:
            if name not in self.names:
                raise CalibrationError(f"--drop {name}: no such point; the survey has {', '.join(self.names)}")
        return self.without(self.names.index(name) for name in wanted)

    def require_inside(self, image_size_px: tuple[int, int]) -> None:
        """Raises CalibrationError for the first click that lies outside a picture of that size."""
        width, height = image_size_px
        for origin, name, (u, v) in zip(self.origin, self.names, self.pixels):
            for column, value, size in (("u_px", u, width), ("v_px", v, height)):
                if not -0.5 <= value <= size - 0.5:
                    raise CalibrationError(
                        f"{origin} ({name}): {column}: expected 0 to {size - 1}, got {value:g}"
                        f" (outside a picture of {width}x{height}; is --image-size right?)"
                    )

    def require_spread(self) -> None:
        """Raises CalibrationError when the points tell no plane: too few, two the same, or all but one on a line."""
        if len(self) < MIN_POINTS:
            raise CalibrationError(
                f"{_file_of(self)}: expected at least {MIN_POINTS} points, got {len(self)} (8 or more are advised)"
            )
        for what, places in (("x_m, y_m", self.points_m), ("u_px, v_px", self.pixels)):
            same = np.argwhere(np.triu((places[:, None] == places[None, :]).all(axis=-1), 1))
            if same.size:
                first, second = same[0]
                raise CalibrationError(
                    f"{self.origin[second]} ({self.names[second]}): {what}: the same as {self.names[first]};"
                    " expected a different place for every point"
                )
        for places, sigma, unit in ((self.points_m, self.sigma_m, "m"), (self.pixels, self.sigma_px, "px")):
            line = _on_a_line(places, float(np.median(sigma)))
            if line is not None:
                rows, width = line
                raise CalibrationError(
                    f"{_file_of(self)}: points {', '.join(self.names[row] for row in rows)} lie on one line (within"
                    f" {width:.2g} {unit}); expected points on both sides of the road, at least two off any line"
                )


@dataclass(frozen=True, slots=True, eq=False)
class TapeDistances:
    """Distances taped on the road between two places in the picture.

    Attributes:
        from_px: One end, shape (n, 2). [px]
        to_px: The other end, shape (n, 2). [px]
        distances_m: Tape reading, shape (n,). [m]
        sigma_m: Standard deviation of the reading, shape (n,). [m]
        origin: Where a row came from, for messages.
    """

    from_px: Floats
    to_px: Floats
    distances_m: Floats
    sigma_m: Floats
    origin: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.distances_m)


def parse_image_size(text: str) -> tuple[int, int]:
    """Width and height from ``960x540``; raises CalibrationError for anything else. [px]"""
    match = re.fullmatch(r"(\d{2,5})[xX×](\d{2,5})", text.strip())
    if match is None:
        raise CalibrationError(f"--image-size: expected WIDTHxHEIGHT in pixels such as 960x540, got {text!r}")
    return int(match[1]), int(match[2])


def read_survey(path: Path) -> Survey:
    """Surveyed points from a CSV file with header ``name,u_px,v_px,x_m,y_m`` and optionally ``sigma_px,sigma_m``.

    Raises:
        CalibrationError: The file cannot be read, or a column, row or number is not as expected.
    """
    rows = read_rows(path, SURVEY_COLUMNS, SURVEY_OPTIONAL)
    seen: dict[str, str] = {}
    for origin, row in rows:
        name = row["name"]
        if not name:
            raise CalibrationError(f"{origin}: name: expected a name for the point, got nothing")
        if name in seen:
            raise CalibrationError(f"{origin}: name: expected a new name, got {name!r} again (first in {seen[name]})")
        seen[name] = origin
    return Survey(
        names=tuple(row["name"] for _, row in rows),
        pixels=np.column_stack((_column(rows, "u_px", "pixels"), _column(rows, "v_px", "pixels"))),
        points_m=np.column_stack((_column(rows, "x_m", "metres"), _column(rows, "y_m", "metres"))),
        sigma_px=_sigma_column(rows, "sigma_px", "pixels", DEFAULT_SIGMA_PX),
        sigma_m=_sigma_column(rows, "sigma_m", "metres", DEFAULT_SIGMA_M),
        origin=tuple(origin for origin, _ in rows),
    )


def read_distances(path: Path) -> TapeDistances:
    """Tape distances from a CSV file with header ``u1_px,v1_px,u2_px,v2_px,distance_m`` and optionally ``sigma_m``.

    Raises:
        CalibrationError: The file cannot be read, or a column, row or number is not as expected.
    """
    rows = read_rows(path, DISTANCE_COLUMNS, DISTANCE_OPTIONAL)
    if not rows:
        raise CalibrationError(f"{path.name}: expected at least one distance, got none")
    distances = _column(rows, "distance_m", "metres")
    for (origin, _), distance in zip(rows, distances):
        if distance <= 0:
            raise CalibrationError(f"{origin}: distance_m: expected more than 0 m, got {distance:g}")
    return TapeDistances(
        from_px=np.column_stack((_column(rows, "u1_px", "pixels"), _column(rows, "v1_px", "pixels"))),
        to_px=np.column_stack((_column(rows, "u2_px", "pixels"), _column(rows, "v2_px", "pixels"))),
        distances_m=distances,
        sigma_m=_sigma_column(rows, "sigma_m", "metres", DEFAULT_SIGMA_M),
        origin=tuple(origin for origin, _ in rows),
    )


def read_text(path: Path) -> str:
    """A text file as UTF-8; raises CalibrationError when there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CalibrationError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CalibrationError(f"{path}: expected a file, got a directory") from None
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path}: expected UTF-8 text, got byte 0x{error.object[error.start]:02x}") from None
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read ({error.strerror})") from None


Rows = list[tuple[str, dict[str, str]]]


def read_rows(path: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> Rows:
    """The rows of a CSV file as origin and cells by column; raises CalibrationError when it is not as expected."""
    lines = csv.reader(read_text(path).splitlines(), strict=True)
    expected = ",".join(required) + "".join(f"[,{name}]" for name in optional)
    header: list[str] | None = None
    rows: Rows = []
    try:
        for cells in lines:
            where = f"{path.name} line {lines.line_num}"
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if header is None:
                header = values
                _check_header(where, header, required, optional, expected)
                continue
            if len(values) != len(header):
                hint = " (decimal commas? use a point)" if len(values) > len(header) else ""
                raise CalibrationError(
                    f"{where}: expected {len(header)} values ({','.join(header)}), got {len(values)}{hint}"
                )
            rows.append((where, dict(zip(header, values))))
    except csv.Error as error:
        raise CalibrationError(f"{path.name} line {lines.line_num}: expected CSV, got {error}") from None
    if header is None:
        raise CalibrationError(f"{path.name}: expected the header {expected}, got an empty file")
    return rows


def _check_header(
    where: str, header: list[str], required: tuple[str, ...], optional: tuple[str, ...], expected: str
) -> None:
    if len(header) == 1 and ";" in header[0]:
        raise CalibrationError(f"{where}: expected commas between the columns, got ';' (save as CSV with commas)")
    problems = [f"unknown column {name!r}" for name in header if name not in required + optional]
    problems += [f"missing column {name!r}" for name in required if name not in header]
    problems += [f"column {name!r} twice" for name in dict.fromkeys(header) if header.count(name) > 1]
    if problems:
        raise CalibrationError(f"{where}: {', '.join(problems)}; expected the header {expected}")


def _column(rows: Rows, name: str, unit: str) -> Floats:
    return np.array([read_number(f"{origin}: {name}", row[name], unit) for origin, row in rows], dtype=np.float64)


def _sigma_column(rows: Rows, name: str, unit: str, default: float) -> Floats:
    if not rows or name not in rows[0][1]:
        return np.full(len(rows), default)
    sigmas = [read_number(f"{origin}: {name}", row[name], unit) if row[name] else default for origin, row in rows]
    for (origin, _), sigma in zip(rows, sigmas):
        if sigma <= 0:
            raise CalibrationError(f"{origin}: {name}: expected a standard deviation above 0, got {sigma:g}")
    return np.array(sigmas, dtype=np.float64)


def read_number(where: str, text: str, unit: str) -> float:
    """A finite number with a decimal point; raises CalibrationError for anything else."""
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    hint = " (use a decimal point)" if re.fullmatch(r"[+-]?\d*,\d+", text) else ""
    raise CalibrationError(f"{where}: expected {unit}, got {repr(text) if text else 'nothing'}{hint}")


def _file_of(survey: Survey) -> str:
    return survey.origin[0].split(" line ")[0] if survey.origin else "survey"


def _on_a_line(places: Floats, sigma: float) -> tuple[list[int], float] | None:
    """Rows on one line when at most one row lies off it, and how far they stray; None when the points spread."""
    everyone = list(range(len(places)))
    for left_out in [None, *everyone]:
        rows = [row for row in everyone if row != left_out]
        centred = places[rows] - places[rows].mean(axis=0)
        along, across = np.linalg.svd(centred, full_matrices=False)[1] / math.sqrt(len(rows))
        if across < max(3 * sigma, 0.01 * along):
            return rows, float(across)
    return None
