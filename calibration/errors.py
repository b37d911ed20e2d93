"""What can go wrong in a calibration, told in one line."""

from __future__ import annotations


class CalibrationError(Exception):
    """A survey, site or calibration file that cannot be used: what, where, expected and found."""
