"""The road as the camera sees it, and how well that is known.

A :class:`RoadPlane` is a camera over z = 0 with the joint covariance of everything the survey solved. Uncertainties
follow the law of propagation of the GUM (JCGM 100:2008, 5.1.2): exact Jacobians, first order. Pixel noise and
calibration are kept apart, because the first averages out over vehicles and the second does not.

Outside the convex hull of the surveyed points nobody measured whether the road is still flat. There the uncertainty
also holds a vertical curvature of the road of 1 / 2 km (one sigma): a rise z looks like a shift of z/H times the
distance from the pole's foot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.camera import PARAMETERS, Camera, Floats, inverse_2x2

Bools = npt.NDArray[np.bool_]

ROAD_CURVATURE_PER_M = 1 / 2000  # one sigma; streets are laid out with vertical radii of about 1 km and more
SLOPE_STEP_M = 0.05  # central difference of an exact Jacobian: its error is far below 1e-4 of the result


@dataclass(frozen=True, slots=True, eq=False)
class GroundPoints:
    """Points on the road surface.

    Attributes:
        positions_m: Survey coordinates, NaN where there are none, shape (..., 2). [m]
        covariances_m2: From pixel noise only, shape (..., 2, 2). [m²]
        on_road: False where the pixel lies on or above the horizon, shape (...).
    """

    positions_m: Floats
    covariances_m2: Floats
    on_road: Bools


@dataclass(frozen=True, slots=True, eq=False)
class RoadPlane:
    """Pixels to metres on the road and back, with uncertainty.

    Attributes:
        camera: The camera above it.
        covariance: Of :data:`calibration.camera.PARAMETERS`, shape (11, 11).
        hull_m: Convex hull of the surveyed points, counter-clockwise, shape (m, 2). [m]
    """

    camera: Camera
    covariance: Floats
    hull_m: Floats

    def __post_init__(self) -> None:
        size = len(PARAMETERS)
        covariance, hull = np.array(self.covariance, dtype=np.float64), np.array(self.hull_m, dtype=np.float64)
        if covariance.shape != (size, size):
            raise ValueError(f"covariance: expected shape {(size, size)}, got {covariance.shape}")
        if hull.ndim != 2 or hull.shape[1] != 2 or len(hull) < 3:
            raise ValueError(f"hull_m: expected shape (3 or more, 2), got {hull.shape}")
        covariance.flags.writeable = hull.flags.writeable = False
        object.__setattr__(self, "covariance", covariance)
        object.__setattr__(self, "hull_m", hull)

    def locate(self, pixels: npt.ArrayLike, sigma_px: npt.ArrayLike) -> GroundPoints:
        """Where pixels meet the road, with the covariance that their noise causes.

        Args:
            pixels: Shape (..., 2). [px]
            sigma_px: Standard deviation of u and v, anything that broadcasts to the shape of ``pixels``. [px]
        """
        positions, slopes = self.camera.linearise_ground(pixels)
        scaled = slopes * np.broadcast_to(sigma_px, positions.shape)[..., None, :]
        return GroundPoints(
            positions_m=positions,
            covariances_m2=np.asarray(scaled @ np.swapaxes(scaled, -1, -2)),
            on_road=np.asarray(np.isfinite(positions).all(axis=-1)),
        )

    def project(self, points_m: npt.ArrayLike) -> Floats:
        """Pixels of points on the road (..., 2) or in space (..., 3); NaN where they cannot be seen. [px]"""
        return self.camera.project(_in_space(points_m))

    def pixels_per_metre(self, points_m: npt.ArrayLike) -> Floats:
        """Scale of the picture at road points for lengths across the line of sight, lens distortion left aside.

        Args:
            points_m: Points on the road, shape (..., 2). [m]

        Returns:
            Focal length over depth, shape (...); NaN behind the camera. [px/m]
        """
        depth = (_in_space(points_m) - self.camera.position_m) @ self.camera.rotation[2]
        return np.asarray(self.camera.focal_px / np.where(depth > 0, depth, np.nan))

    def position_sensitivity(self, points_m: npt.ArrayLike) -> Floats:
        """How the located position of a road point moves with each calibration parameter.

        From the implicit function: the pixel stays, so J_ground · dX + J_parameters · dθ = 0.

        Args:
            points_m: Points on the road, shape (..., 2). [m]

        Returns:
            Shape (..., 2, 11); NaN where the point cannot be seen. [m per unit of the parameter]
        """
        _, by_parameters, by_points = self.camera.linearise(_in_space(points_m))
        return np.asarray(-(inverse_2x2(by_points[..., :2]) @ by_parameters))

    def position_covariance(self, points_m: npt.ArrayLike) -> Floats:
        """Covariance of located road points from the calibration alone, shape (..., 2, 2). [m²]

        Shared by every vehicle: it does not shrink with more frames. Outside the surveyed hull it includes the
        unknown road shape.
        """
        points = np.asarray(points_m, dtype=np.float64)
        moves = self.position_sensitivity(points)
        outside = self.distance_to_hull_m(points)
        rise = ROAD_CURVATURE_PER_M * outside**2 / 2
        shift = (points - self.camera.position_m[:2]) * (rise / self.camera.height_m)[..., None]
        spread = moves @ self.covariance @ np.swapaxes(moves, -1, -2)
        return np.asarray(spread + shift[..., :, None] * shift[..., None, :])

    def relative_speed_sigma(self, points_m: npt.ArrayLike, direction: npt.ArrayLike) -> Floats:
        """One-sigma relative error of a speed measured at a point along a direction, from the calibration alone.

        A true displacement d·ds is seen as d·ds + (∂A/∂X · d)·dθ·ds with A the :meth:`position_sensitivity`; the
        relative scale error along d is dᵀ(∂A/∂X · d)dθ. Outside the surveyed hull it includes the unknown road shape.

        Args:
            points_m: Points on the road, shape (..., 2). [m]
            direction: Unit vector of the motion, shape (2,) or (..., 2).

        Returns:
            Fractions, shape (...); NaN where the point cannot be seen.
        """
        points, along = np.asarray(points_m, dtype=np.float64), np.asarray(direction, dtype=np.float64)
        gradient = self.relative_speed_gradient(points, along)
        variance = np.einsum("...i,ij,...j->...", gradient, self.covariance, gradient)
        outside = self.distance_to_hull_m(points)
        away = np.abs(
            np.einsum("...i,...i->...", points - self.camera.position_m[:2], np.broadcast_to(along, points.shape))
        )
        shape = ROAD_CURVATURE_PER_M * outside * (outside / 2 + away) / self.camera.height_m
        return np.asarray(np.sqrt(variance + shape**2))

    def relative_speed_gradient(self, points_m: npt.ArrayLike, direction: npt.ArrayLike) -> Floats:
        """Derivative of the relative speed error by :data:`PARAMETERS`, shape (..., 11); arguments as above."""
        points = np.asarray(points_m, dtype=np.float64)
        along = np.broadcast_to(np.asarray(direction, dtype=np.float64), points.shape)
        ahead = self.position_sensitivity(points + along * SLOPE_STEP_M)
        behind = self.position_sensitivity(points - along * SLOPE_STEP_M)
        return np.asarray(np.einsum("...i,...ip->...p", along, ahead - behind) / (2 * SLOPE_STEP_M))

    def distance_sigma(self, from_m: npt.ArrayLike, to_m: npt.ArrayLike) -> Floats:
        """One-sigma error, from the calibration alone, of the distance between two located road points. [m]

        Divided by the distance it is the relative calibration error of a mean speed between them. Errors common to
        both ends cancel.

        Args:
            from_m: Points on the road, shape (..., 2). [m]
            to_m: The other ends, same shape. [m]
        """
        start, end = np.asarray(from_m, dtype=np.float64), np.asarray(to_m, dtype=np.float64)
        along = end - start
        along = along / np.linalg.norm(along, axis=-1, keepdims=True)
        foot, height = self.camera.position_m[:2], self.camera.height_m
        gradient = np.einsum(
            "...i,...ip->...p", along, self.position_sensitivity(end) - self.position_sensitivity(start)
        )
        rises = [ROAD_CURVATURE_PER_M * self.distance_to_hull_m(points) ** 2 / 2 for points in (start, end)]
        shifts = [
            np.einsum("...i,...i->...", along, points - foot) * rise / height
            for points, rise in zip((start, end), rises)
        ]
        variance = np.einsum("...i,ij,...j->...", gradient, self.covariance, gradient)
        return np.asarray(np.sqrt(variance + shifts[0] ** 2 + shifts[1] ** 2))

    def distance_to_hull_m(self, points_m: npt.ArrayLike) -> Floats:
        """How far road points lie outside the surveyed hull, 0 inside, shape (...). [m]"""
        points = np.asarray(points_m, dtype=np.float64)[..., None, :]
        edges = np.roll(self.hull_m, -1, axis=0) - self.hull_m
        offsets = points - self.hull_m
        inside = (edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0] >= 0).all(axis=-1)
        share = np.einsum("...i,...i->...", offsets, np.broadcast_to(edges, offsets.shape)) / np.einsum(
            "ij,ij->i", edges, edges
        )
        nearest = offsets - np.clip(share, 0.0, 1.0)[..., None] * edges
        return np.where(inside, 0.0, np.sqrt(np.einsum("...i,...i->...", nearest, nearest).min(axis=-1)))

    def in_frame(self, origin_m: npt.ArrayLike, axis: npt.ArrayLike) -> RoadPlane:
        """The same road, expressed so that x runs along ``axis`` from ``origin_m`` and y to its left.

        Args:
            origin_m: New origin in present coordinates, shape (2,). [m]
            axis: Direction of the new x, shape (2,); any length.
        """
        turn = np.eye(3)
        turn[:2, :2] = frame_rotation(axis)
        origin = np.append(np.asarray(origin_m, dtype=np.float64), 0.0)
        spread = np.eye(len(PARAMETERS))
        spread[8:, 8:] = turn
        camera = Camera(
            image_size_px=self.camera.image_size_px,
            focal_px=self.camera.focal_px,
            centre_px=self.camera.centre_px,
            distortion=self.camera.distortion,
            rotation=self.camera.rotation @ turn.T,
            position_m=turn @ (self.camera.position_m - origin),
        )
        return RoadPlane(
            camera=camera,
            covariance=spread @ self.covariance @ spread.T,
            hull_m=(self.hull_m - origin[:2]) @ turn[:2, :2].T,
        )


def frame_rotation(axis: npt.ArrayLike) -> Floats:
    """Rotation into a frame whose x runs along ``axis`` and whose y points to its left, shape (2, 2)."""
    x, y = np.asarray(axis, dtype=np.float64) / np.linalg.norm(np.asarray(axis, dtype=np.float64))
    return np.array([[x, y], [-y, x]])


def convex_hull(points_m: npt.ArrayLike) -> Floats:
    """Corners of the convex hull, counter-clockwise (Andrew's monotone chain), shape (m, 2). [m]"""
    points = sorted({(float(x), float(y)) for x, y in np.asarray(points_m, dtype=np.float64)})

    def chain(ordered: list[tuple[float, float]]) -> list[tuple[float, float]]:
        corners: list[tuple[float, float]] = []
        for x, y in ordered:
            while len(corners) > 1:
                (ax, ay), (bx, by) = corners[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                corners.pop()
            corners.append((x, y))
        return corners[:-1]

    return np.array(chain(points) + chain(points[::-1]), dtype=np.float64)


def _in_space(points_m: npt.ArrayLike) -> Floats:
    points = np.asarray(points_m, dtype=np.float64)
    if points.shape[-1] == 3:
        return points
    return np.concatenate((points, np.zeros((*points.shape[:-1], 1))), axis=-1)
