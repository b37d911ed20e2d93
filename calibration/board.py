"""A lens from a board that is held before the camera, near and far, tilted, and in the corners of the picture.

The board is a checkerboard, which must be seen whole, or a ChArUco board, whose markers tell which corners are seen, so
that a part of it in the very corner of the picture counts as well.

Zhang 2000 (doi:10.1109/34.888718) through OpenCV finds the most probable lens; the covariance is made here, from the
Jacobian of the projection with the pose of each view eliminated, because OpenCV tells single deviations only and the
terms of a lens are strongly correlated. Terms that the board cannot tell from nothing are set to 0: they would only
carry noise into the corners of the picture.

The covariance rests on corner errors that are independent, of the size that the residuals show. A board that is not
flat, or a lens that refocuses, breaks that; both show as larger residuals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import cv2
import numpy as np

from calibration.camera import Floats
from calibration.errors import CalibrationError
from calibration.lens import Lens
from calibration.still import Pixels

MIN_VIEWS = 8  # fewer do not tell tilt from focal length
MAX_VIEWS = 30  # more change nothing but the time it takes
MIN_CORNERS = 12  # of a view: its pose has six unknowns, and fewer corners tell hardly more than that
NEW_VIEW_SHARE = 0.04  # of the picture's width: corners that moved less on average are the same view
MIN_COVERED = 9  # of 16 fields of the picture that corners fell into: a lens is told by its edges
MAX_FOCAL_SIGMA = 0.01  # relative: above, the board was always held flat towards the camera
MAX_RMS_PX = 1.0  # of a board that is flat and sharp: 0.1 to 0.5 px
MIN_CORNER_SIGMA_PX = 0.1  # errors of neighbouring corners are alike, so they average out less than their number says
BLURRED_VIEW = 3.0  # times the typical residual: the board moved, or was bent
TOLD_SIGMAS = 3.0  # a term that is smaller is not told from nothing

MARKERS = {
    "4x4": cv2.aruco.DICT_4X4_250,
    "5x5": cv2.aruco.DICT_5X5_250,
    "6x6": cv2.aruco.DICT_6X6_250,
    "7x7": cv2.aruco.DICT_7X7_250,
    "original": cv2.aruco.DICT_ARUCO_ORIGINAL,
}
"""Kinds of marker on a ChArUco board. The smaller dictionaries of a kind are the beginning of the larger ones."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Corners of a board in one picture.

    Attributes:
        numbers: Which corners, row by row from 0, rising, shape (n,).
        pixels: Where they are, shape (n, 2). [px]
    """

    numbers: np.ndarray[Any, np.dtype[np.intp]]
    pixels: Floats

    def moved_from(self, other: View) -> float:
        """Mean distance of the corners that both show; infinite when they share too few. [px]"""
        _, mine, theirs = np.intersect1d(self.numbers, other.numbers, return_indices=True)
        if len(mine) < MIN_CORNERS:
            return float("inf")
        return float(np.linalg.norm(self.pixels[mine] - other.pixels[theirs], axis=1).mean())


class Board(Protocol):
    """Something flat with corners at known places."""

    @property
    def corners(self) -> tuple[int, int]:
        """Inner corners in a row, and rows."""

    @property
    def square_m(self) -> float:
        """Side of a square. [m]"""

    def look(self, image_bgr: Pixels) -> View | None:
        """Its corners in a picture; None when it is not seen."""


@dataclass(frozen=True, slots=True)
class Checkerboard:
    """Squares only.

    Attributes:
        corners: Inner corners in a row, and rows.
        square_m: Side of a square. [m]
    """

    corners: tuple[int, int]
    square_m: float

    def look(self, image_bgr: Pixels) -> View | None:
        """Its corners in a picture; None when it is not seen whole."""
        grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
        found, pixels = cv2.findChessboardCornersSB(grey, self.corners, flags=cv2.CALIB_CB_ACCURACY)
        if not found:
            return None
        places = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
        return View(np.arange(len(places)), places)


class Charuco:
    """Squares with markers in the white ones (Garrido-Jurado et al. 2014, doi:10.1016/j.patcog.2014.01.005).

    Args:
        corners: Inner corners in a row, and rows.
        square_m: Side of a square. [m]
        marker_m: Side of a marker, less than that of a square. [m]
        markers: One of :data:`MARKERS`.
    """

    def __init__(self, corners: tuple[int, int], square_m: float, marker_m: float, markers: str) -> None:
        self.corners, self.square_m = corners, square_m
        squares = (corners[0] + 1, corners[1] + 1)
        self._detectors = []
        for is_legacy in (False, True):  # boards drawn before OpenCV 4.6 begin with the other colour
            board = cv2.aruco.CharucoBoard(
                squares, square_m, marker_m, cv2.aruco.getPredefinedDictionary(MARKERS[markers])
            )
            board.setLegacyPattern(is_legacy)
            self._detectors.append(cv2.aruco.CharucoDetector(board))

    def look(self, image_bgr: Pixels) -> View | None:
        """Its corners in a picture; None when too few are seen."""
        grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
        for detector in list(self._detectors):
            pixels, numbers, _, _ = detector.detectBoard(grey)
            if numbers is None or len(numbers) < MIN_CORNERS:
                continue
            self._detectors = [detector]  # it is one of the two
            order = np.argsort(numbers.ravel())
            return View(
                numbers.ravel()[order].astype(np.intp), np.asarray(pixels, dtype=np.float64).reshape(-1, 2)[order]
            )
        return None


def distinct_views(found: Iterable[View], width_px: int) -> list[View]:
    """Views in which the board was held differently from all earlier ones, at most :data:`MAX_VIEWS`, spread evenly."""
    distinct: list[View] = []
    for view in found:
        if all(view.moved_from(each) >= NEW_VIEW_SHARE * width_px for each in distinct):
            distinct.append(view)
    if len(distinct) <= MAX_VIEWS:
        return distinct
    return [distinct[row] for row in np.linspace(0, len(distinct) - 1, MAX_VIEWS).round().astype(int)]


def solve_lens(views: list[View], image_size_px: tuple[int, int], board: Board, created: datetime) -> Lens:
    """The lens that saw a board like that.

    Args:
        views: The board in different places.
        image_size_px: Width and height of the pictures. [px]
        board: What was held. Its size does not change the lens, only the distances at which it is thought.
        created: The instant of the solution, with time zone.

    Raises:
        CalibrationError: Too few views, too little of the picture covered, no tilt, or residuals that no lens has.
    """
    columns, rows = board.corners
    if len(views) < MIN_VIEWS:
        raise CalibrationError(
            f"the {columns}x{rows} board was seen in {len(views)} different places, expected {MIN_VIEWS} or more: move"
            " it slowly through the picture (is that the number of inner corners?)"
        )
    points = np.zeros((columns * rows, 3))
    points[:, :2] = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * board.square_m
    fitted = _Fitted(views, points, image_size_px, 0)
    kept = [view for view, rms in zip(views, fitted.view_rms_px) if rms <= BLURRED_VIEW * np.median(fitted.view_rms_px)]
    _require_cover(kept, image_size_px)
    fitted = _Fitted(kept, points, image_size_px, 0)
    flags = 0
    for terms, flag in ((slice(7, 8), cv2.CALIB_FIX_K3), (slice(5, 7), cv2.CALIB_ZERO_TANGENT_DIST)):
        term = fitted.values[terms]
        if term @ np.linalg.solve(fitted.covariance[terms, terms], term) < TOLD_SIGMAS**2 * len(term):
            flags |= flag
            fitted = _Fitted(kept, points, image_size_px, flags)
    if fitted.rms_px > MAX_RMS_PX:
        raise CalibrationError(
            f"corners lie {fitted.rms_px:.1f} px (rms) from where a lens would show them, expected at most"
            f" {MAX_RMS_PX:g}: is the board flat, the picture sharp?"
        )
    focal_sigma = float(np.sqrt(fitted.covariance[0, 0]))
    if focal_sigma > MAX_FOCAL_SIGMA:
        raise CalibrationError(
            f"the focal length is told to {focal_sigma:.1%} only, expected {MAX_FOCAL_SIGMA:.0%}: tilt the board more,"
            " by 30 to 45 degrees to each side"
        )
    log_focal, centre_u, centre_v, k1, k2, p1, p2, k3 = fitted.values.tolist()
    return Lens.named(
        created=created,
        image_size_px=image_size_px,
        focal_px=float(np.exp(log_focal)),
        centre_px=(centre_u, centre_v),
        distortion=(k1, k2, p1, p2, k3),
        covariance=fitted.covariance,
        rms_px=fitted.rms_px,
        views=len(kept),
    )


class _Fitted:
    """OpenCV's solution for some views, with the covariance of the lens.

    Attributes:
        values: The parameters in the order of :data:`calibration.lens.LENS_PARAMETERS`, shape (8,).
        covariance: Of these, zero for terms held at 0, shape (8, 8).
        rms_px: Root mean square distance of the corners. [px]
        view_rms_px: The same for each view, shape (n,). [px]
    """

    def __init__(self, views: list[View], points: Floats, image_size_px: tuple[int, int], flags: int) -> None:
        width, height = image_size_px
        start = np.array([[width, 0.0, (width - 1) / 2], [0.0, width, (height - 1) / 2], [0.0, 0.0, 1.0]])
        _, matrix, terms, turns, shifts = cv2.calibrateCamera(
            [points[view.numbers].astype(np.float32) for view in views],
            [view.pixels.astype(np.float32) for view in views],
            image_size_px,
            start,
            np.zeros(5),
            flags=flags | cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_FIX_ASPECT_RATIO,
            criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10),
        )
        distortion = np.asarray(terms, dtype=np.float64).ravel()[:5]
        focal = float(matrix[0, 0])
        self.values = np.array([np.log(focal), matrix[0, 2], matrix[1, 2], *distortion])
        solved = [0, 1, 2, 3, 4]
        solved += [] if flags & cv2.CALIB_ZERO_TANGENT_DIST else [5, 6]
        solved += [] if flags & cv2.CALIB_FIX_K3 else [7]
        normal, squares, view_rms = np.zeros((len(solved), len(solved))), 0.0, []
        for view, turn, shift in zip(views, turns, shifts):
            projected, jacobian = cv2.projectPoints(points[view.numbers], turn, shift, matrix, distortion)
            misses = view.pixels - np.asarray(projected, dtype=np.float64).reshape(-1, 2)
            slopes = np.asarray(jacobian, dtype=np.float64)
            pose, rest = slopes[:, :6], slopes[:, 6:15]
            by_lens = np.column_stack((focal * (rest[:, 0] + rest[:, 1]), rest[:, 2:]))[:, solved]
            # Schur complement: what the view tells about the lens once its own pose is free
            free = by_lens - pose @ np.linalg.lstsq(pose, by_lens, rcond=None)[0]
            normal += free.T @ free
            squares += float((misses**2).sum())
            view_rms.append(float(np.sqrt((misses**2).sum(axis=1).mean())))
        corners = sum(len(view.numbers) for view in views)
        freedom = 2 * corners - 6 * len(views) - len(solved)
        variance = max(squares / freedom, MIN_CORNER_SIGMA_PX**2)
        scale = np.sqrt(np.diag(normal))
        self.covariance = np.zeros((8, 8))
        inverse = np.linalg.inv(normal / np.outer(scale, scale)) / np.outer(scale, scale)
        self.covariance[np.ix_(solved, solved)] = variance * inverse
        self.rms_px = float(np.sqrt(squares / corners))
        self.view_rms_px = np.array(view_rms)


def _require_cover(views: list[View], image_size_px: tuple[int, int]) -> None:
    fields = np.floor(4 * (np.vstack([view.pixels for view in views]) + 0.5) / np.array(image_size_px)).clip(0, 3)
    covered = len(np.unique(fields, axis=0))
    if covered < MIN_COVERED:
        raise CalibrationError(
            f"the board covered {covered} of 16 fields of the picture, expected {MIN_COVERED} or more: hold it into the"
            " corners as well"
        )
