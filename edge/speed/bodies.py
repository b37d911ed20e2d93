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

from dataclasses import dataclass, replace

import numpy as np

from edge.domain import Floats, Ints, RoadUser


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
        near_bottom_person: The same of a box that was called a person.
    """

    noise: Floats
    offset: Floats
    offset_sigma: Floats
    drift_sigma: Floats
    near_bottom: float = 0.0
    near_bottom_person: float = 0.0

    def expected(self, boxes_xyxy_px: Floats, labels: Ints) -> Floats:
        """Mean constant part of every box's edges as a fraction of the box, shape (k, 4).

        Args:
            boxes_xyxy_px: Shape (k, 4). [px]
            labels: What the detector called each, shape (k,).
        """
        heights = boxes_xyxy_px[:, 3] - boxes_xyxy_px[:, 1]
        nearness = np.clip(np.log(np.maximum(heights, 1.0) / NEAR_PX), 0.0, MAX_NEARNESS)
        expected = np.tile(self.offset, (len(nearness), 1))
        gain = np.where(labels == RoadUser.PERSON.label, self.near_bottom_person, self.near_bottom)
        expected[:, 3] += gain * nearness
        return expected


# A rider far away is one blob from helmet to tyres; near by, the detector draws the person down to the feet, which rest
# on pegs or pedals 0.1 to 0.3 m above the road: 15 to 20 % of the rider's height is then missing at the bottom, unless
# the box is called a motorcycle. Boxes of persons around four rendered riders gain -12 to -25 % for each e-fold, from
# -4 % at 50 px on; boxes of motorcycles end at the tyres at every height.
NEAR_PX = 40.0
MAX_NEARNESS = 1.4


# Measured for the default model looking at the road, on 33 rendered vehicles with exact bounds. The bottom edge of real
# traffic (530 vehicles) agrees: 1.5 % of the height low. How much of the shadow a box takes in differs between scenes:
# their cars have boxes 2.8, 0.7 and 1.9 % low in the mean. It grows with nearness: 0.9 % ± 0.25 % for each e-fold.
# Told apart by maximum likelihood (benchmarks.edges), the bottom edge of a car drifts by 0.4 % or not at all, its sides
# by 4 and 6 %; a part that lasts for 0.15 to 0.3 s has more than half of the other variance. Of lorries and buses there
# are four: their bottom edges drift by more than is believed, with which the bus would now and then be refused a speed.
CAR_EDGES = Edges(
    noise=np.array([0.019, 0.026, 0.019, 0.0145]),
    offset=np.array([0.0, 0.0, 0.0, 0.0125]),
    offset_sigma=np.array([0.026, 0.032, 0.026, 0.0155]),
    drift_sigma=np.array([0.045, 0.045, 0.045, 0.006]),
    near_bottom=0.010,
)
LARGE_EDGES = replace(CAR_EDGES, drift_sigma=np.array([0.045, 0.045, 0.045, 0.012]))  # vans, lorries and buses
RIDER_EDGES = Edges(
    noise=np.array([0.065, 0.045, 0.065, 0.05]),
    offset=np.array([0.0, 0.0, 0.0, 0.0]),
    offset_sigma=np.array([0.07, 0.06, 0.07, 0.03]),
    drift_sigma=np.array([0.06, 0.05, 0.06, 0.035]),
    near_bottom_person=-0.18,
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
        shape_sigma: What bodies that are not the hull do to a speed with exact boxes, one standard deviation as a share
            of the speed. Rendered ones: cars and two-wheelers 0.3 %, lorries and buses 1 % (four of them).
    """

    road_user: RoadUser
    hull: Floats
    size_m: Floats
    size_sigma: Floats
    edges: Edges
    shape_sigma: float


CAR = Body(RoadUser.CAR, _CAR, np.array([4.4, 2.02, 1.52]), np.array([0.10, 0.06, 0.08]), CAR_EDGES, 0.003)
VAN = Body(RoadUser.CAR, _VAN, np.array([5.4, 2.35, 2.3]), np.array([0.12, 0.07, 0.13]), LARGE_EDGES, 0.003)
TRUCK = Body(RoadUser.TRUCK, _LORRY, np.array([7.5, 2.6, 3.1]), np.array([0.25, 0.07, 0.14]), LARGE_EDGES, 0.01)
BUS = Body(RoadUser.BUS, _BUS, np.array([11.5, 2.85, 3.1]), np.array([0.12, 0.06, 0.07]), LARGE_EDGES, 0.01)
MOTORCYCLE = Body(
    RoadUser.MOTORCYCLE, _RIDER, np.array([2.1, 0.85, 1.65]), np.array([0.08, 0.15, 0.09]), RIDER_EDGES, 0.003
)
BICYCLE = Body(RoadUser.BICYCLE, _RIDER, np.array([1.75, 0.65, 1.72]), np.array([0.06, 0.12, 0.07]), RIDER_EDGES, 0.003)
