"""A camera above a flat road: every map beside its Jacobian.

Pixels are those of the camera's own, distorted picture: u right, v down, (0, 0) the centre of the top-left pixel.
Metres are right-handed survey coordinates with z up and the road at z = 0. Distortion follows Brown (1966) in
OpenCV's order and sign: normalised coordinates x, y with s = x² + y² become

    x·(1 + k1·s + k2·s² + k3·s³) + 2·p1·x·y + p2·(s + 2·x²)
    y·(1 + k1·s + k2·s² + k3·s³) + p1·(s + 2·y²) + 2·p2·x·y

and pixels are the focal length times that, plus the principal point. Pixels are square. What has no answer is NaN:
points behind the camera, points beyond where the distortion stops being one-to-one, pixels at or above the horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PARAMETERS = (
    "log_focal",
    "centre_u",
    "centre_v",
    "k1",
    "k2",
    "rot_x",
    "rot_y",
    "rot_z",
    "pos_x",
    "pos_y",
    "pos_z",
)
"""Order of the parameters that a survey solves, in every covariance: log of the focal length, principal point [px],
lens terms, a small rotation vector applied on the camera side [rad], camera centre in survey metres [m]."""

MIN_DEPTH_M = 0.05  # nearer to the camera than this nothing can be seen on a road
UNDISTORT_STEPS = 20  # Newton needs 3 to 6 in a sane lens; more means that the pixel has no origin
UNDISTORT_TOLERANCE = 1e-10  # normalised units: a ten-millionth of a pixel


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """Pinhole with Brown distortion over a road plane z = 0 (right-handed survey metres, z up).

    Attributes:
        image_size_px: Width and height of the picture. [px]
        focal_px: Focal length. [px]
        centre_px: Principal point. [px]
        distortion: k1, k2, p1, p2, k3 in OpenCV's order.
        rotation: World to camera (x right, y down, z forward), shape (3, 3).
        position_m: Camera centre in survey metres, shape (3,). [m]
    """

    image_size_px: tuple[int, int]
    focal_px: float
    centre_px: tuple[float, float]
    distortion: tuple[float, float, float, float, float]
    rotation: Floats
    position_m: Floats
    _to_picture: Floats = field(init=False, repr=False)
    _max_radius2: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rotation, position = _read_only(self.rotation, (3, 3)), _read_only(self.position_m, (3,))
        (cu, cv), f = self.centre_px, self.focal_px
        # Without a lens the whole map is one matrix; it is kept transposed for row vectors.
        to_picture = rotation.T @ np.array([[f, 0.0, 0.0], [0.0, f, 0.0], [cu, cv, 1.0]])
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "position_m", position)
        object.__setattr__(self, "_to_picture", _read_only(to_picture, (3, 3)))
        object.__setattr__(self, "_max_radius2", _one_to_one_radius2(self.distortion))

    @property
    def height_m(self) -> float:
        """Height of the camera above the road. [m]"""
        return float(self.position_m[2])

    @property
    def tilt_rad(self) -> float:
        """How far the optical axis points below the horizon. [rad]"""
        return math.asin(min(1.0, max(-1.0, -float(self.rotation[2, 2]))))

    @property
    def has_lens(self) -> bool:
        """Whether the picture is distorted at all."""
        return any(self.distortion)

    def project(self, points_m: npt.ArrayLike) -> Floats:
        """Pixels of points in space.

        Args:
            points_m: Survey coordinates, shape (..., 3). [m]

        Returns:
            Pixels, shape (..., 2); NaN where the point is behind the camera or beyond the lens model. [px]
        """
        points = np.asarray(points_m, dtype=np.float64)
        offsets = points.reshape(-1, 3) - self.position_m
        if not self.has_lens:
            picture = offsets @ self._to_picture
            depth = picture[:, 2:]
            return np.asarray(picture[:, :2] / np.where(depth > MIN_DEPTH_M, depth, np.nan)).reshape(
                *points.shape[:-1], 2
            )
        seen = offsets @ self.rotation.T
        depth = seen[:, 2]
        x, y = (seen[:, :2] / np.where(depth > MIN_DEPTH_M, depth, np.nan)[:, None]).T
        pixels = np.empty((len(x), 2))
        pixels[:, 0], pixels[:, 1] = self._distort(x, y)
        pixels *= self.focal_px
        pixels += self.centre_px
        return pixels.reshape(*points.shape[:-1], 2)

    def linearise_points(self, points_m: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Pixels of points in space with their Jacobian.

        Args:
            points_m: Survey coordinates, shape (..., 3). [m]

        Returns:
            Pixels (..., 2), and their derivatives by the coordinates (..., 2, 3). [px/m]
        """
        _, _, distorted, by_seen = self._linearise_seen(points_m)
        return distorted * self.focal_px + self.centre_px, by_seen @ self.rotation

    def linearise(self, points_m: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Pixels of points in space with both Jacobians.

        Args:
            points_m: Survey coordinates, shape (..., 3). [m]

        Returns:
            Pixels (..., 2); their derivatives by :data:`PARAMETERS` (..., 2, 11); and by the coordinates (..., 2, 3).
            [px/m]
        """
        seen, normalised, distorted, by_seen = self._linearise_seen(points_m)
        by_points = by_seen @ self.rotation
        radius2 = (normalised**2).sum(axis=-1)[..., None]
        by_parameters = np.zeros((*seen.shape[:-1], 2, len(PARAMETERS)))
        by_parameters[..., 0] = self.focal_px * distorted
        by_parameters[..., 0, 1] = by_parameters[..., 1, 2] = 1.0
        by_parameters[..., 3] = self.focal_px * normalised * radius2
        by_parameters[..., 4] = by_parameters[..., 3] * radius2
        for axis in range(3):  # the camera-side rotation: seen × by_seen, which np.cross computes far slower
            one, other = (axis + 1) % 3, (axis + 2) % 3
            by_parameters[..., 5 + axis] = (
                seen[..., None, one] * by_seen[..., other] - seen[..., None, other] * by_seen[..., one]
            )
        by_parameters[..., 8:] = -by_points
        return distorted * self.focal_px + self.centre_px, by_parameters, by_points

    def _linearise_seen(self, points_m: npt.ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
        """Points in the camera's frame (..., 3), their normalised coordinates without and with the lens (..., 2).

        And the derivatives of their pixels by the first, (..., 2, 3).
        """
        seen = (np.asarray(points_m, dtype=np.float64) - self.position_m) @ self.rotation.T
        depth = np.where(seen[..., 2] > MIN_DEPTH_M, seen[..., 2], np.nan)
        x, y = seen[..., 0] / depth, seen[..., 1] / depth
        lens = self._distort_jacobian(x, y) * (self.focal_px / depth)[..., None, None]
        by_seen = np.empty((*x.shape, 2, 3))
        by_seen[..., :2] = lens
        by_seen[..., 2] = -(lens[..., 0] * x[..., None] + lens[..., 1] * y[..., None])
        return seen, np.stack((x, y), axis=-1), np.stack(self._distort(x, y), axis=-1), by_seen

    def ground(self, pixels: npt.ArrayLike) -> Floats:
        """Where pixels meet the road.

        Args:
            pixels: As seen in the distorted picture, shape (..., 2). [px]

        Returns:
            Survey coordinates on z = 0, shape (..., 2); NaN at or above the horizon. [m]
        """
        rays = self._rays(*self._normalised(pixels))
        return np.asarray(self.position_m[:2] + self._reach(rays)[..., None] * rays[..., :2])

    def linearise_ground(self, pixels: npt.ArrayLike) -> tuple[Floats, Floats]:
        """:meth:`ground` with its Jacobian: metres on the road for a pixel in the picture.

        Args:
            pixels: As seen in the distorted picture, shape (..., 2). [px]

        Returns:
            Survey coordinates on z = 0 (..., 2) [m], and their derivatives (..., 2, 2), rows x and y, columns u and v
            [m/px]; NaN at or above the horizon.
        """
        x, y = self._normalised(pixels)
        rays = self._rays(x, y)
        reach = self._reach(rays)
        by_normalised = np.empty((*x.shape, 2, 2))
        for column in (0, 1):
            turn = self.rotation[column]
            along = turn[:2] - rays[..., :2] * (turn[2] / rays[..., 2])[..., None]
            by_normalised[..., column] = reach[..., None] * along
        places = self.position_m[:2] + reach[..., None] * rays[..., :2]
        slopes = by_normalised @ inverse_2x2(self._distort_jacobian(x, y)) / self.focal_px
        return np.asarray(places), np.asarray(slopes)

    def undistorted(self, pixels: npt.ArrayLike) -> Floats:
        """Where pixels would lie in a picture without distortion (same focal length and principal point).

        Args:
            pixels: As seen in the distorted picture, shape (..., 2). [px]

        Returns:
            Pixels, shape (..., 2); NaN where the lens model has no origin for them. [px]
        """
        return np.stack(self._normalised(pixels), axis=-1) * self.focal_px + self.centre_px

    def straighten(self, pixels: npt.ArrayLike) -> tuple[Floats, Floats]:
        """:meth:`undistorted` with its Jacobian.

        Args:
            pixels: As seen in the distorted picture, shape (..., 2). [px]

        Returns:
            Undistorted pixels (..., 2) and their derivatives by the pixels (..., 2, 2); NaN where the lens model has no
            origin for a pixel.
        """
        x, y = self._normalised(pixels)
        straight = np.stack((x, y), axis=-1) * self.focal_px + self.centre_px
        return straight, inverse_2x2(self._distort_jacobian(x, y))

    def perturbed(self, delta: npt.ArrayLike) -> Camera:
        """The camera after a small change of its parameters.

        Args:
            delta: Change of :data:`PARAMETERS`, shape (11,).
        """
        change = np.asarray(delta, dtype=np.float64)
        k1, k2, p1, p2, k3 = self.distortion
        return Camera(
            image_size_px=self.image_size_px,
            focal_px=self.focal_px * math.exp(change[0]),
            centre_px=(self.centre_px[0] + float(change[1]), self.centre_px[1] + float(change[2])),
            distortion=(k1 + float(change[3]), k2 + float(change[4]), p1, p2, k3),
            rotation=rotation_from_vector(change[5:8]) @ self.rotation,
            position_m=self.position_m + change[8:11],
        )

    def _distort(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        k1, k2, p1, p2, k3 = self.distortion
        s = x * x + y * y
        radial = 1.0 + s * (k1 + s * (k2 + s * k3))
        if math.isfinite(self._max_radius2):
            radial = np.where(s < self._max_radius2, radial, np.nan)
        if not (p1 or p2):
            return x * radial, y * radial
        xy = 2.0 * x * y
        return x * radial + p1 * xy + p2 * (s + 2 * x * x), y * radial + p1 * (s + 2 * y * y) + p2 * xy

    def _distort_jacobian(self, x: Floats, y: Floats) -> Floats:
        k1, k2, p1, p2, k3 = self.distortion
        s = x * x + y * y
        radial = 1.0 + s * (k1 + s * (k2 + s * k3))
        slope = 2.0 * (k1 + s * (2.0 * k2 + s * 3.0 * k3))  # d radial / d s, times ds/dx = 2x without the x
        jacobian = np.empty((*x.shape, 2, 2))
        jacobian[..., 0, 0] = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
        jacobian[..., 1, 1] = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
        jacobian[..., 0, 1] = jacobian[..., 1, 0] = slope * x * y + 2 * p1 * x + 2 * p2 * y
        return jacobian

    def _normalised(self, pixels: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Undistorted normalised coordinates of pixels, by Newton's method."""
        seen = (np.asarray(pixels, dtype=np.float64) - self.centre_px) / self.focal_px
        xd, yd = seen[..., 0], seen[..., 1]
        if not self.has_lens:
            return xd, yd
        x, y = xd, yd
        step2 = np.full(x.shape, np.inf)
        for _ in range(UNDISTORT_STEPS):
            there_x, there_y = self._distort(x, y)
            miss_x, miss_y = there_x - xd, there_y - yd
            jacobian = self._distort_jacobian(x, y)
            a, b, d = jacobian[..., 0, 0], jacobian[..., 0, 1], jacobian[..., 1, 1]  # it is symmetric
            determinant = a * d - b * b
            determinant = np.where(determinant == 0.0, np.nan, determinant)
            step_x, step_y = (d * miss_x - b * miss_y) / determinant, (a * miss_y - b * miss_x) / determinant
            x, y = x - step_x, y - step_y
            step2 = step_x * step_x + step_y * step_y
            if not np.any(step2 > UNDISTORT_TOLERANCE**2):
                break
        found = (step2 <= UNDISTORT_TOLERANCE**2) & (x * x + y * y < self._max_radius2)
        return np.where(found, x, np.nan), np.where(found, y, np.nan)

    def _rays(self, x: Floats, y: Floats) -> Floats:
        """Directions of normalised coordinates in the survey frame, shape (..., 3)."""
        turn = self.rotation
        return np.asarray(x[..., None] * turn[0] + y[..., None] * turn[1] + turn[2])

    def _reach(self, rays: Floats) -> Floats:
        """How many ray lengths lie between camera and road; NaN for rays that do not go down."""
        fall = rays[..., 2]
        return np.asarray(-self.position_m[2] / np.where(fall < -1e-12, fall, np.nan))


def inverse_2x2(matrices: Floats) -> Floats:
    """Inverses of 2 by 2 matrices, shape (..., 2, 2); NaN where singular."""
    a, b, c, d = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 0], matrices[..., 1, 1]
    determinant = a * d - b * c
    inverse = np.empty(matrices.shape)
    inverse[..., 0, 0], inverse[..., 0, 1], inverse[..., 1, 0], inverse[..., 1, 1] = d, -b, -c, a
    return np.asarray(inverse / np.where(determinant == 0.0, np.nan, determinant)[..., None, None])


def rotation_from_vector(vector_rad: npt.ArrayLike) -> Floats:
    """Rotation matrix of an axis times an angle (Rodrigues' formula), shape (3, 3)."""
    x, y, z = (float(component) for component in np.asarray(vector_rad))
    angle = math.sqrt(x * x + y * y + z * z)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-7:  # below this the series is exact to double precision
        return np.asarray(np.eye(3) + cross + 0.5 * cross @ cross)
    return np.asarray(np.eye(3) + math.sin(angle) / angle * cross + (1 - math.cos(angle)) / angle**2 * cross @ cross)


def _one_to_one_radius2(distortion: tuple[float, float, float, float, float]) -> float:
    """Squared normalised radius at which the radial distortion turns back: smallest positive root of its derivative.

    Tangential terms are left out: in any usable lens they move that radius by less than the margin to the picture's
    corner.
    """
    k1, k2, _, _, k3 = distortion
    if k3:
        roots = np.roots(np.array([7 * k3, 5 * k2, 3 * k1, 1.0]))
        return min((float(root.real) for root in roots if abs(root.imag) < 1e-12 and root.real > 0), default=math.inf)
    # 1 + 3·k1·s + 5·k2·s² = 0, written so that it also holds for k2 = 0.
    inside = 9 * k1 * k1 - 20 * k2
    if inside < 0:
        return math.inf
    divisors = (-3 * k1 - math.sqrt(inside), -3 * k1 + math.sqrt(inside))
    return min((2 / divisor for divisor in divisors if divisor > 1e-12), default=math.inf)


def _read_only(array: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    copy = np.array(array, dtype=np.float64)
    if copy.shape != shape:
        raise ValueError(f"expected shape {shape}, got {copy.shape}")
    copy.flags.writeable = False
    return copy
