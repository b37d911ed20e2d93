"""Latitude and longitude as metres around a place.

Geographic → geocentric → topocentric (IOGP Guidance Note 7-2, methods 9602 and 9836) on the WGS 84 ellipsoid at
height 0. Over the 200 m of a street the flattening of the earth shortens distances by less than 0.1 mm, and 50 m of
height by less than a hundred-thousandth. RD New (EPSG:28992) needs no conversion: its scale differs from the true one
by less than 1.1 in 10,000 everywhere in the Netherlands.
"""

from __future__ import annotations

import numpy as np

from calibration.camera import Floats

SEMI_MAJOR_M = 6_378_137.0
FLATTENING = 1 / 298.257223563
RD_X_RANGE_M = (7_000.0, 300_000.0)  # area of use of EPSG:28992
RD_Y_RANGE_M = (289_000.0, 629_000.0)


def metres_around(degrees: Floats, origin_degrees: Floats) -> Floats:
    """East and north of an origin.

    Args:
        degrees: Latitude and longitude, WGS 84 or ETRS89, shape (n, 2). [°]
        origin_degrees: Latitude and longitude of the origin, shape (2,). [°]

    Returns:
        Shape (n, 2). [m]
    """
    latitude, longitude = np.radians(origin_degrees)
    east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
    north = np.array([-np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude)])
    away = _geocentric(np.asarray(degrees, dtype=np.float64)) - _geocentric(np.asarray([origin_degrees]))
    return np.asarray(np.stack((away @ east, away @ north), axis=-1))


def _geocentric(degrees: Floats) -> Floats:
    latitude, longitude = np.radians(degrees).T
    squared = FLATTENING * (2 - FLATTENING)
    normal = SEMI_MAJOR_M / np.sqrt(1 - squared * np.sin(latitude) ** 2)
    return np.stack(
        (
            normal * np.cos(latitude) * np.cos(longitude),
            normal * np.cos(latitude) * np.sin(longitude),
            normal * (1 - squared) * np.sin(latitude),
        ),
        axis=-1,
    )
