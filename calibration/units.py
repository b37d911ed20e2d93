"""The one place where metres per second become kilometres per hour and back."""

from __future__ import annotations

KMH_PER_MPS = 3.6  # exact: 3600 s/h over 1000 m/km


def kmh_from_mps(speed_mps: float) -> float:
    """Speed in kilometres per hour. [m/s] → [km/h]"""
    return speed_mps * KMH_PER_MPS


def mps_from_kmh(speed_kmh: float) -> float:
    """Speed in metres per second. [km/h] → [m/s]"""
    return speed_kmh / KMH_PER_MPS
