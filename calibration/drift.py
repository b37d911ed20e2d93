"""Does the camera still stand as it was calibrated? Static corners of the picture tell, and by how much it has turned.

A :class:`Reference` remembers some hundred corners of the street: where each lies and how a window of 15 by 15 pixels
around it looks, without its brightness and contrast. Comparing a picture with it (:meth:`Reference.compare`):

1. Each window is followed to where it lies now by inverse compositional alignment (Baker and Matthews 2004,
   doi:10.1023/B:VISI.0000011205.11775.fd) of patches without mean and contrast, so that a darker picture is the same
   picture. When too few are found nearby, the strongest are searched for within :data:`SEARCH_RAD`.
2. Whatever does not look like its window takes no part: traffic, rain, a shadow that has moved on, a parked car that
   has left.
3. The displacements are explained by one rotation of the camera, through its full model with lens. The rotation that
   most of them agree on is found from pairs (RANSAC, Fischler and Bolles 1981, doi:10.1145/358669.358692), then fitted
   to all that agree with Tukey's weights.

Privacy: the windows lie apart from each other (at least :data:`APART_PX`), so they never join into a picture; together
they cover a few percent of it, each is smaller than a face at the 125 px/m where people become recognisable, and they
are chosen in a still from which people and vehicles were removed. A reference learnt by the service stays in memory.

Limits: a camera that was carried sideways (a leaning pole) shifts near corners more than far ones; only rotation is
estimated, and :func:`turned` widens the uncertainty for that. Writing burnt into the picture never moves; corners are
spread over the whole picture so that it stays a minority.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from calibration.camera import PARAMETERS, Camera, Floats, rotation_from_vector
from calibration.errors import CalibrationError
from calibration.road_plane import RoadPlane

Grey = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]

PATCH_PX = 15
APART_PX = 24.0  # between corners: windows never touch
GRID = (6, 4)  # cells across and down; corners are taken evenly from them
CORNERS_PER_CELL = 5
MIN_CORNERS = 24  # fewer do not cover the picture
CORNER_BLOCK_PX = 7
MAX_CORNERS = 1500  # looked at before they are taken evenly
CORNER_QUALITY = 0.02  # of the strongest corner of the picture (Shi and Tomasi 1994, doi:10.1109/CVPR.1994.323794)
SMOOTHING_PX = 1.0  # noise of one pixel would be a corner otherwise
MAX_SWING = 8.0  # grey levels between the pictures of one still minute: more, and something moved there
MAX_SWING_RATIO = 3.0  # of the median over the picture: in the dark and in rain everything flickers

MIN_LIKENESS = 0.75  # correlation of a window with its reference
STILL_LIKENESS = 0.5  # with itself a second ago: the same thing, in noise
STEPS = 6
MAX_STEP_PX = 1.5  # a longer one leaves the hill that the slope was taken on
MAX_WAY_PX = 4.0  # alignment does not find back from further away
SETTLED_PX = 0.02
SEARCH_RAD = math.radians(2.0)
SEARCHED = 48  # corners that take part in the wide search
SEARCH_TOLERANCE_PX = 2.5
TOLERANCE_PX = 1.2
PAIRS = 80
NEARLY_ALL = 0.9  # of the corners agree on no rotation: no other one has to be tried
REFITS = 4  # the weights have settled then, mostly sooner
MIN_AGREEING = 12
MIN_AGREEING_SHARE = 0.5  # of the windows that are found: below, there is no majority
MIN_CELLS = 5  # of the grid that the agreeing corners come from: one moving shadow does not fill them
COMMON_PX = 0.06  # what all corners share: compression, one-sided light; does not shrink with their number
MAX_SIGMA_RAD = math.radians(0.04)  # of a comparison; less sure, it says nothing

PIVOT_SHARE = 0.15  # of a rotation: a pole that leans also carries the camera sideways, and near corners show it
_ROTATION = slice(PARAMETERS.index("rot_x"), PARAMETERS.index("rot_z") + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What one picture says about the camera.

    Attributes:
        tested: Corners that could be looked for: in the picture, not hidden.
        found: Corners whose window was found.
        agreeing: Of these, how many one rotation explains.
        changed: Share of the tested corners at which the picture stands as still as before and yet is not the
            reference: 0 in traffic or at night, near 1 when the camera looks elsewhere. None without a picture before.
        rotation_rad: Camera-side rotation from the reference, shape (3,); None when no majority tells one. [rad]
        covariance: Of the rotation, shape (3, 3). [rad²]
    """

    tested: int
    found: int
    agreeing: int
    changed: float | None
    rotation_rad: Floats | None
    covariance: Floats | None


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Static corners of the street as the calibrated camera saw them.

    Attributes:
        pixels: Where the corners lie, in the distorted picture, shape (n, 2), strongest first. [px]
        windows: Their surroundings without mean and contrast, scaled to ±127, shape (n, 15, 15).
    """

    pixels: Floats
    windows: npt.NDArray[np.int8]
    _patches: Grey = field(init=False, repr=False)
    _slopes: Grey = field(init=False, repr=False)
    _solvers: Grey = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pixels, windows = np.array(self.pixels, dtype=np.float64), np.array(self.windows, dtype=np.int8)
        if pixels.ndim != 2 or pixels.shape[1] != 2 or windows.shape != (len(pixels), PATCH_PX, PATCH_PX):
            raise ValueError(f"reference: expected n corners and n windows, got {pixels.shape} and {windows.shape}")
        if len(pixels) < MIN_CORNERS:
            raise ValueError(f"reference: expected {MIN_CORNERS} or more corners, got {len(pixels)}")
        pixels.flags.writeable = windows.flags.writeable = False
        full = windows.astype(np.float32)
        inner = full[:, 1:-1, 1:-1].reshape(len(full), -1)
        patches, norm = _normalised(inner)
        slopes = np.stack([full[:, 1:-1, 2:] - full[:, 1:-1, :-2], full[:, 2:, 1:-1] - full[:, :-2, 1:-1]], axis=-1)
        slopes = slopes.reshape(len(full), -1, 2) / (2 * norm[:, None, None])
        # Only the part of a shift that neither brightness nor contrast could explain.
        slopes = slopes - slopes.mean(axis=1, keepdims=True)
        slopes = slopes - patches[..., None] * np.einsum("np,npk->nk", patches, slopes)[:, None]
        normal = np.einsum("npk,npl->nkl", slopes, slopes)
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "windows", windows)
        object.__setattr__(self, "_patches", patches)
        object.__setattr__(self, "_slopes", slopes)
        object.__setattr__(self, "_solvers", np.linalg.pinv(normal))

    def __len__(self) -> int:
        return len(self.pixels)

    @classmethod
    def learn(cls, pictures: Sequence[npt.NDArray[np.uint8]], hidden: Floats | None = None) -> Reference | None:
        """Choose corners in the median of some pictures of one still camera.

        Args:
            pictures: One still, or several pictures of the same place a second or more apart, shape (height, width, 3).
            hidden: Boxes (left, top, right, bottom) in which vehicles or people were seen, shape (m, 4). [px]

        Returns:
            None when the pictures have too few corners that stand still.
        """
        if all(picture.min() == picture.max() for picture in pictures):
            return None  # darkness or a covered lens: not worth a second of looking for corners
        middle, allowed = _middle_of(pictures)
        for left, top, right, bottom in [] if hidden is None else hidden:
            margin = PATCH_PX // 2 + 1
            rows = slice(max(0, int(top) - margin), max(0, int(bottom) + margin + 1))
            allowed[rows, max(0, int(left) - margin) : max(0, int(right) + margin + 1)] = 0
        corners = _corners(middle, allowed)
        if len(corners) < MIN_CORNERS:
            return None
        patches, _ = _normalised(_sampled(middle, corners, PATCH_PX).reshape(len(corners), -1))
        scaled = np.rint(127 * patches / np.abs(patches).max(axis=1, keepdims=True))
        return cls(corners, scaled.astype(np.int8).reshape(-1, PATCH_PX, PATCH_PX))

    def as_json(self) -> dict[str, Any]:
        """The block ``reference`` of ``CAL.json``."""
        return {
            "pixels": np.round(self.pixels, 2).tolist(),
            "window_px": PATCH_PX,
            "windows": base64.b64encode(self.windows.tobytes()).decode("ascii"),
        }

    @classmethod
    def from_json(cls, block: Mapping[str, Any], where: str) -> Reference:
        """Read back what :meth:`as_json` wrote; raises CalibrationError when it is malformed."""
        try:
            if block["window_px"] != PATCH_PX:
                raise ValueError(f"window_px: expected {PATCH_PX}, got {block['window_px']}")
            windows = np.frombuffer(base64.b64decode(block["windows"], validate=True), dtype=np.int8)
            return cls(np.array(block["pixels"], dtype=np.float64), windows.reshape(-1, PATCH_PX, PATCH_PX))
        except (KeyError, TypeError, ValueError) as wrong:
            raise CalibrationError(f"{where}: reference: not one made by `calibrate solve`: {wrong}") from None

    def compare(
        self,
        camera: Camera,
        grey: Grey,
        *,
        hidden: Floats,
        expected_rad: Floats,
        before: Grey | None = None,
    ) -> Comparison:
        """What a picture says about where the camera points.

        Args:
            camera: As it stood when the reference was made.
            grey: The picture, made by :func:`smoothed`.
            hidden: Boxes of vehicles and people, shape (m, 4). [px]
            expected_rad: The rotation to begin from, shape (3,). [rad]
            before: An earlier picture, made by :func:`smoothed`, a second or so before.
        """
        rays = _far_points(camera, self)
        places, found, tested = self._follow(camera, rays, grey, hidden, expected_rad)
        rotation = self._agreed(camera, rays, places, found, expected_rad)
        if rotation is None:
            wide = self._search(camera, rays, grey, hidden, expected_rad)
            if wide is not None:
                at = self._follow(camera, rays, grey, hidden, wide)
                better = self._agreed(camera, rays, at[0], at[1], wide)
                if better is not None:
                    (places, found, tested), rotation = at, better
        changed = None if before is None else self._changed(grey, before, tested, found)
        if rotation is None:
            return Comparison(int(tested.sum()), int(found.sum()), 0, changed, None, None)
        vector, covariance, agreeing = rotation
        return Comparison(int(tested.sum()), int(found.sum()), agreeing, changed, vector, covariance)

    def _follow(
        self, camera: Camera, rays: Floats, grey: Grey, hidden: Floats, rotation_rad: Floats
    ) -> tuple[Floats, Bools, Bools]:
        """Places of the corners from where a rotation puts them; which were found, which could be looked for."""
        start = _rotated(camera, rotation_rad).project(rays)
        tested = _inside(start, grey.shape) & ~_hidden(start, hidden)
        rows = np.flatnonzero(tested)
        places, found = np.array(start), np.zeros(len(self), dtype=bool)
        if not len(rows):
            return places, found, tested
        reference, slopes, solvers = self._patches[rows], self._slopes[rows], self._solvers[rows]
        at = start[rows]
        for _ in range(STEPS):
            now, _ = _normalised(_sampled(grey, at, PATCH_PX - 2).reshape(len(rows), -1))
            miss = np.einsum("npk,np->nk", slopes, reference - now)
            step = np.clip(np.einsum("nkl,nl->nk", solvers, miss), -MAX_STEP_PX, MAX_STEP_PX)
            at = np.clip(at + step, start[rows] - MAX_WAY_PX - 1, start[rows] + MAX_WAY_PX + 1)
            likeness = np.einsum("np,np->n", reference, now)  # one step before the end: it hardly changes there
            if np.abs(step).max() < SETTLED_PX:
                break
        near = np.abs(at - start[rows]).max(axis=1) <= MAX_WAY_PX
        places[rows], found[rows] = at, (likeness > MIN_LIKENESS) & near
        return places, found, tested

    def _search(self, camera: Camera, rays: Floats, grey: Grey, hidden: Floats, expected_rad: Floats) -> Floats | None:
        """A rough rotation from looking for the strongest corners in a wide surrounding; None when none agrees."""
        start = _rotated(camera, expected_rad).project(rays)
        tested = _inside(start, grey.shape) & ~_hidden(start, hidden)
        rows = np.flatnonzero(tested)[:SEARCHED]
        reach = math.ceil(camera.focal_px * math.tan(SEARCH_RAD)) + PATCH_PX // 2
        height, width = grey.shape
        hits, kept = [], []
        for row in rows:
            u, v = (round(float(x)) for x in start[row])
            left, top = max(0, u - reach), max(0, v - reach)
            around = grey[top : min(height, v + reach + 1), left : min(width, u + reach + 1)]
            window = self.windows[row].astype(np.float32)
            likeness = cv2.matchTemplate(around, window, cv2.TM_CCOEFF_NORMED)
            _, best, _, (column, line) = cv2.minMaxLoc(likeness)
            if best > MIN_LIKENESS:
                hits.append((left + column + PATCH_PX // 2, top + line + PATCH_PX // 2))
                kept.append(row)
        if len(kept) < MIN_AGREEING:
            return None
        slopes = _rotation_slopes(_rotated(camera, expected_rad), rays[kept])
        found = _consensus(slopes, np.array(hits) - start[kept], SEARCH_TOLERANCE_PX)
        if found is None or found[1].sum() < max(MIN_AGREEING // 2, 0.25 * len(kept)):
            return None
        return _composed(found[0], expected_rad)

    def _agreed(
        self, camera: Camera, rays: Floats, places: Floats, found: Bools, rotation_rad: Floats
    ) -> tuple[Floats, Floats, int] | None:
        """The rotation that most found corners agree on, its covariance, and how many agree; None without majority."""
        rows = np.flatnonzero(found)
        if len(rows) < MIN_AGREEING:
            return None
        vector = np.array(rotation_rad, dtype=np.float64)
        turned_camera = _rotated(camera, vector)
        slopes = _rotation_slopes(turned_camera, rays[rows])
        start = _consensus(slopes, places[rows] - turned_camera.project(rays[rows]), TOLERANCE_PX)
        if start is None:
            return None
        vector = _composed(start[0], vector)
        for _ in range(REFITS):
            miss = places[rows] - _rotated(camera, vector).project(rays[rows])
            seen: Bools = np.asarray(np.isfinite(miss).all(axis=1))
            miss = np.where(seen[:, None], miss, 0.0)
            length = np.where(seen, np.hypot(*miss.T), np.inf)
            scale = max(1.4826 * float(middle_of(np.minimum(length, TOLERANCE_PX))), 0.1)
            weight = np.clip(1 - (length / min(4.7 * scale, TOLERANCE_PX)) ** 2, 0.0, None) ** 2
            normal = np.einsum("n,nki,nkj->ij", weight, slopes, slopes)
            if np.linalg.cond(normal) > 1e8:
                return None
            step_rad = np.linalg.solve(normal, np.einsum("n,nki,nk->i", weight, slopes, miss))
            vector = _composed(step_rad, vector)
            if np.abs(step_rad).max() * camera.focal_px < SETTLED_PX / 10:
                break
        agreeing: Bools = np.asarray(weight > 0)
        if agreeing.sum() < max(MIN_AGREEING, MIN_AGREEING_SHARE * len(rows)):
            return None
        if len(np.unique(_cells(self.pixels[rows[agreeing]], camera.image_size_px))) < MIN_CELLS:
            return None
        variance = float(np.einsum("n,nk,nk->", weight, miss, miss) / (2 * max(float(weight.sum()) - 1.5, 1.0)))
        covariance = np.linalg.inv(normal) * max(variance, 0.05**2)
        covariance = covariance + np.eye(3) * (COMMON_PX / camera.focal_px) ** 2
        if math.sqrt(float(np.linalg.eigvalsh(covariance)[-1])) > MAX_SIGMA_RAD:
            return None
        return vector, covariance, int(agreeing.sum())

    def _changed(self, grey: Grey, before: Grey, tested: Bools, found: Bools) -> float | None:
        """Share of the tested corners that stand as still as before and are not the reference."""
        if tested.sum() < MIN_AGREEING:
            return None
        rows = np.flatnonzero(tested & ~found)
        if not len(rows):
            return 0.0
        at = np.clip(self.pixels[rows], PATCH_PX, np.array(grey.shape[::-1]) - PATCH_PX - 1)
        now, _ = _normalised(_sampled(grey, at, PATCH_PX - 2).reshape(len(rows), -1))
        then, _ = _normalised(_sampled(before, at, PATCH_PX - 2).reshape(len(rows), -1))
        still = np.einsum("np,np->n", now, then) > STILL_LIKENESS
        return float(still.sum() / tested.sum())


def read_reference_corners(path: Path, image_size_px: tuple[int, int]) -> Reference:
    """The reference from a still without traffic.

    Raises:
        CalibrationError: There is no such picture, it has another size, or it has too few corners.
    """
    if not path.is_file():
        raise CalibrationError(f"{path}: expected a picture, found {'a directory' if path.is_dir() else 'nothing'}")
    picture = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if picture is None:
        raise CalibrationError(f"{path}: expected a picture (PNG or JPEG), found something else")
    size_px = (picture.shape[1], picture.shape[0])
    if size_px != image_size_px:
        (width, height), (other_width, other_height) = image_size_px, size_px
        raise CalibrationError(f"{path}: expected {width}x{height} pixels, found {other_width}x{other_height}")
    reference = Reference.learn([np.asarray(picture, dtype=np.uint8)])
    if reference is None:
        raise CalibrationError(
            f"{path}: expected {MIN_CORNERS} corners or more to recognise the street by, found fewer"
        )
    return reference


def smoothed(picture: npt.NDArray[np.uint8]) -> Grey:
    """Brightness of a colour picture as the comparison wants it, shape (height, width)."""
    return np.asarray(_blurred(picture), dtype=np.float32)


def _blurred(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), SMOOTHING_PX), dtype=np.uint8)


def middle_of(values: npt.ArrayLike) -> Floats:
    """Median along the first axis, without the care for NaN that costs most of the time of ``np.median``."""
    ordered = np.sort(values, axis=0)
    return np.asarray((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def turned(plane: RoadPlane, rotation_rad: Floats, covariance: Floats) -> RoadPlane:
    """The road as seen by the camera after it has turned, with what that adds to its uncertainty.

    Where the camera was carried to is not known; a share of the rotation stands for it (:data:`PIVOT_SHARE`). Its
    shift along the road moves every position alike and so changes no speed.

    Args:
        plane: As calibrated.
        rotation_rad: Camera-side rotation since then, shape (3,). [rad]
        covariance: Of the rotation, shape (3, 3). [rad²]
    """
    change = np.zeros(len(PARAMETERS))
    change[_ROTATION] = rotation_rad
    spread = np.eye(len(PARAMETERS))
    spread[_ROTATION, _ROTATION] = rotation_from_vector(rotation_rad)
    total = spread @ plane.covariance @ spread.T
    total[_ROTATION, _ROTATION] += covariance + np.outer(rotation_rad, rotation_rad) * PIVOT_SHARE**2
    return RoadPlane(camera=plane.camera.perturbed(change), covariance=total, hull_m=plane.hull_m)


def _normalised(patches: npt.NDArray[np.float32]) -> tuple[Grey, Grey]:
    """Patches (n, p) without mean, of unit length, and the lengths that they had."""
    centred = patches - patches.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("np,np->n", centred, centred))
    norm = np.maximum(norm, 1e-3)
    return np.asarray(centred / norm[:, None], dtype=np.float32), np.asarray(norm, dtype=np.float32)


def _sampled(grey: Grey, centres: Floats, side: int) -> Grey:
    """Windows around sub-pixel places, bilinear, shape (n, side, side)."""
    reach = np.arange(side, dtype=np.float32) - side // 2
    across = np.broadcast_to(centres[:, 0, None, None].astype(np.float32) + reach, (len(centres), side, side))
    down = np.broadcast_to(centres[:, 1, None, None].astype(np.float32) + reach[:, None], (len(centres), side, side))
    shape = (len(centres) * side, side)
    sampled = cv2.remap(
        grey, across.reshape(shape), down.reshape(shape), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled, dtype=np.float32).reshape(len(centres), side, side)


def _middle_of(pictures: Sequence[npt.NDArray[np.uint8]]) -> tuple[Grey, npt.NDArray[np.uint8]]:
    """Median of several pictures, and a mask of what stood still in them: 255, else 0; shape (height, width)."""
    greys = np.stack([_blurred(picture) for picture in pictures])
    still = np.full(greys.shape[1:], 255, dtype=np.uint8)
    if len(greys) > 1:
        spread = greys.max(axis=0) - greys.min(axis=0)
        swings = (spread > max(MAX_SWING, MAX_SWING_RATIO * float(np.median(spread)))).astype(np.uint8)
        swing = cv2.morphologyEx(swings, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))  # single pixels are noise
        still[cv2.dilate(swing, np.ones((PATCH_PX, PATCH_PX), np.uint8)) > 0] = 0
    return np.median(greys, axis=0, overwrite_input=True).astype(np.float32), still


def _corners(grey: Grey, allowed: npt.NDArray[np.uint8]) -> Floats:
    """Corners spread over the picture, strongest of each cell first, shape (n, 2). [px]"""
    height, width = grey.shape
    border = PATCH_PX
    inside = np.zeros_like(allowed)
    inside[border : height - border, border : width - border] = allowed[
        border : height - border, border : width - border
    ]
    find: Any = cv2.goodFeaturesToTrack  # its stubs do not say that a picture without corners gives None
    found = find(grey, MAX_CORNERS, CORNER_QUALITY, APART_PX, mask=inside, blockSize=CORNER_BLOCK_PX)
    if found is None:
        return np.empty((0, 2))
    corners = found.reshape(-1, 2).astype(np.float64)
    rank: dict[int, int] = {}
    ranked = []
    for order, (corner, cell) in enumerate(zip(corners, _cells(corners, (width, height)).tolist())):
        rank[cell] = rank.get(cell, 0) + 1
        if rank[cell] <= CORNERS_PER_CELL:
            ranked.append((rank[cell], order, corner))
    ranked.sort(key=lambda entry: entry[:2])
    return np.array([corner for _, _, corner in ranked]).reshape(-1, 2)


def _cells(pixels: Floats, size_px: tuple[int, int]) -> Ints:
    """Numbers of the cells of the grid in which pixels lie, shape (n,)."""
    across, down = (pixels * GRID / size_px).astype(np.intp).T
    return np.asarray(across + GRID[0] * down)


def _inside(pixels: Floats, shape: tuple[int, ...]) -> Bools:
    limit = np.array(shape[1::-1]) - PATCH_PX // 2 - 2
    with np.errstate(invalid="ignore"):
        return np.asarray(((pixels > PATCH_PX // 2 + 1) & (pixels < limit)).all(axis=1))


def _hidden(pixels: Floats, boxes: Floats) -> Bools:
    margin = PATCH_PX // 2 + 2
    low, high = boxes[None, :, :2] - margin, boxes[None, :, 2:] + margin
    with np.errstate(invalid="ignore"):
        inside = np.asarray((pixels[:, None] > low) & (pixels[:, None] < high))
    covering: Bools = np.asarray(inside.all(axis=2))
    return np.asarray(covering.any(axis=1))


@lru_cache(maxsize=1)
def _far_points(camera: Camera, reference: Reference) -> Floats:
    """Points in space that its pixels show; the distance does not matter to a rotation, shape (n, 3). [m]"""
    straight = (camera.undistorted(reference.pixels) - camera.centre_px) / camera.focal_px
    rays = np.column_stack((straight, np.ones(len(straight))))
    return np.asarray(camera.position_m + 100.0 * rays @ camera.rotation)


def _rotated(camera: Camera, rotation_rad: Floats) -> Camera:
    change = np.zeros(len(PARAMETERS))
    change[_ROTATION] = rotation_rad
    return camera.perturbed(change)


def _rotation_slopes(camera: Camera, rays: Floats) -> Floats:
    """How pixels move with a small rotation, shape (n, 2, 3). [px/rad]"""
    return camera.linearise(rays)[1][..., _ROTATION]


def _composed(small_rad: Floats, rotation_rad: Floats) -> Floats:
    """The rotation vector of a small rotation after another one."""
    vector, _ = cv2.Rodrigues(rotation_from_vector(small_rad) @ rotation_from_vector(rotation_rad))
    return np.asarray(vector, dtype=np.float64).ravel()


def _consensus(slopes: Floats, shifts_px: Floats, tolerance_px: float) -> tuple[Floats, Bools] | None:
    """The small rotation that most shifts agree on, tried from pairs of corners; the same answer every time."""
    unturned = np.hypot(*shifts_px.T) < tolerance_px
    if unturned.mean() >= NEARLY_ALL:
        return np.zeros(3), unturned
    draw = np.random.default_rng(len(shifts_px))
    first, second = draw.integers(0, len(shifts_px), (2, PAIRS))
    apart = first != second
    rows = np.column_stack((first, second))[apart]
    design, seen = slopes[rows].reshape(-1, 4, 3), shifts_px[rows].reshape(-1, 4)
    normal = np.einsum("nki,nkj->nij", design, design)
    sane = np.linalg.cond(normal) < 1e7
    if not sane.any():
        return None
    tries = np.linalg.solve(normal[sane], np.einsum("nki,nk->ni", design[sane], seen[sane])[..., None])[..., 0]
    tries = np.vstack((np.zeros(3), tries))
    miss = np.linalg.norm(shifts_px[None] - np.einsum("nki,ti->tnk", slopes, tries), axis=2)
    agreeing = miss < tolerance_px
    best = int(agreeing.sum(axis=1).argmax())
    return tries[best], np.asarray(agreeing[best])
