"""Bodies of road users: a hull of points in units of length, width and height, and how large such vehicles are.

A detector's box bounds the silhouette, and a silhouette is not that of a cuboid: bumpers are rounded and stand clear of
the road, the cabin is narrower than the sills, mirrors stick out. Each hull is a coarse convex body with those
features; length, width and height of the individual vehicle are fitted, with the published sizes below as priors.

Sizes (length, width over the mirrors, height; mean and one standard deviation between vehicles):
passenger cars: European new-car means 4.4 x 1.8 x 1.5 m, ICCT European Vehicle Market Statistics pocketbook, mirrors
add 0.2 to 0.25 m in width; vans, trucks and buses: manufacturers' ranges, bounded by Directive 96/53/EC (2.55 m body
width, 4.0 m height, 12.0 m rigid length); two-wheelers: manufacturers' ranges, height with a seated rider.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.domain import Floats, RoadUser


def _mirrored(points: list[tuple[float, float, float]]) -> Floats:
    """The points and their mirror images across the vehicle's middle plane."""
    half = np.array(points)
    return np.concatenate([half, half * np.array([1.0, -1.0, 1.0])])


# forward from the middle (fractions of length), left from the middle (of width), up from the road (of height)
_CAR = _mirrored(
    [
        (0.33, 0.40, 0.00), (-0.33, 0.40, 0.00),  # tyres
        (0.50, 0.25, 0.15), (0.44, 0.42, 0.15), (-0.50, 0.28, 0.20), (-0.45, 0.42, 0.20),  # bumpers
        (0.50, 0.25, 0.42), (0.42, 0.42, 0.50), (-0.50, 0.32, 0.60), (-0.42, 0.42, 0.60),  # bonnet edge and boot
        (0.13, 0.50, 0.62),  # mirrors
        (0.08, 0.30, 1.00), (-0.34, 0.30, 0.98),  # roof
    ]
)  # fmt: skip
_VAN = _mirrored(
    [
        (0.31, 0.40, 0.00), (-0.31, 0.40, 0.00),
        (0.50, 0.28, 0.12), (0.45, 0.42, 0.12), (-0.50, 0.40, 0.15),
        (0.49, 0.28, 0.40), (0.34, 0.50, 0.55),
        (0.22, 0.36, 1.00), (-0.49, 0.37, 1.00),
    ]
)  # fmt: skip
_LORRY = _mirrored(
    [
        (0.36, 0.42, 0.00), (-0.34, 0.42, 0.00),
        (0.50, 0.38, 0.10), (-0.50, 0.42, 0.15),
        (0.47, 0.50, 0.65),
        (0.48, 0.40, 0.95), (0.40, 0.43, 1.00), (-0.50, 0.44, 1.00),
    ]
)  # fmt: skip
# a city bus: long overhangs, flat ends
_BUS = _mirrored(
    [
        (0.27, 0.42, 0.00), (-0.22, 0.42, 0.00),
        (0.50, 0.40, 0.10), (-0.50, 0.42, 0.12),
        (0.49, 0.50, 0.70),
        (0.49, 0.42, 0.97), (-0.50, 0.43, 0.97), (0.45, 0.38, 1.00), (-0.46, 0.38, 1.00),
    ]
)  # fmt: skip
_RIDER = _mirrored(
    [
        (0.33, 0.04, 0.00), (-0.33, 0.05, 0.00),
        (0.50, 0.04, 0.18), (-0.50, 0.04, 0.18),
        (0.18, 0.50, 0.60), (-0.10, 0.30, 0.80), (-0.06, 0.10, 1.00),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """How a detector's boxes differ from the true bounds: left, top, right, bottom edge, as fractions of the box.

    Attributes:
        noise: From frame to frame, one standard deviation, shape (4,).
        offset: Mean constant part, shape (4,); positive is right or down.
        offset_sigma: How the constant part differs between vehicles, shape (4,).
        drift_sigma: How much it changes while the view of the vehicle turns from one end of the fit to the other.
        near_bottom: What the bottom edge gains for each unit of ln(height of the box / ``NEAR_PX``) above 0.
    """

    noise: Floats
    offset: Floats
    offset_sigma: Floats
    drift_sigma: Floats
    near_bottom: float = 0.0

    def expected(self, boxes_xyxy_px: Floats) -> Floats:
        """Mean constant part of every box's edges as a fraction of the box, shape (k, 4)."""
        heights = boxes_xyxy_px[:, 3] - boxes_xyxy_px[:, 1]
        nearness = np.clip(np.log(np.maximum(heights, 1.0) / NEAR_PX), 0.0, MAX_NEARNESS)
        expected = np.tile(self.offset, (len(nearness), 1))
        expected[:, 3] += self.near_bottom * nearness
        return expected


# A rider far away is one blob from helmet to tyres; near by, the detector draws the person down to the feet, which rest
# on pegs or pedals 0.1 to 0.3 m above the road: 15 to 20 % of the rider's height is then missing at the bottom. Four
# rendered riders agree: -1 % at 45 px, -5 % at 70 px, -11 % at 100 px, -18 % at 135 px.
NEAR_PX = 50.0
MAX_NEARNESS = 1.2


# Measured for the default model on 37 rendered vehicles with exact bounds (benchmarks); the bottom edge of real traffic
# (530 vehicles) agrees: 1.5 % of the height low. Other models are better, so this is the careful side. How much of the
# shadow a box takes in differs between scenes: their cars have boxes 3.3, 0.6 and 2.6 % low in the mean.
VEHICLE_EDGES = Edges(
    noise=np.array([0.028, 0.030, 0.028, 0.017]),
    offset=np.array([0.0, 0.0, 0.0, 0.018]),
    offset_sigma=np.array([0.030, 0.030, 0.030, 0.017]),
    drift_sigma=np.array([0.055, 0.045, 0.055, 0.018]),
)
RIDER_EDGES = Edges(
    noise=np.array([0.065, 0.045, 0.065, 0.05]),
    offset=np.array([0.0, 0.0, 0.0, 0.0]),
    offset_sigma=np.array([0.07, 0.04, 0.07, 0.04]),
    drift_sigma=np.array([0.06, 0.05, 0.06, 0.035]),
    near_bottom=-0.16,
)


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A kind of body.

    Attributes:
        road_user: What it is counted as.
        hull: Unit points of the convex body, shape (points, 3).
        size_m: Mean length, width, height, shape (3,). [m]
        size_sigma: One standard deviation of their natural logarithms, shape (3,).
        edges: How boxes drawn around it err.
    """

    road_user: RoadUser
    hull: Floats
    size_m: Floats
    size_sigma: Floats
    edges: Edges


CAR = Body(RoadUser.CAR, _CAR, np.array([4.4, 2.02, 1.52]), np.array([0.10, 0.06, 0.08]), VEHICLE_EDGES)
VAN = Body(RoadUser.CAR, _VAN, np.array([5.4, 2.35, 2.3]), np.array([0.12, 0.07, 0.13]), VEHICLE_EDGES)
TRUCK = Body(RoadUser.TRUCK, _LORRY, np.array([7.5, 2.6, 3.1]), np.array([0.25, 0.07, 0.14]), VEHICLE_EDGES)
BUS = Body(RoadUser.BUS, _BUS, np.array([11.5, 2.85, 3.1]), np.array([0.12, 0.06, 0.07]), VEHICLE_EDGES)
MOTORCYCLE = Body(RoadUser.MOTORCYCLE, _RIDER, np.array([2.1, 0.85, 1.65]), np.array([0.08, 0.15, 0.09]), RIDER_EDGES)
BICYCLE = Body(RoadUser.BICYCLE, _RIDER, np.array([1.75, 0.65, 1.72]), np.array([0.06, 0.12, 0.07]), RIDER_EDGES)
