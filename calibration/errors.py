"""What can go wrong in a calibration, told in one line."""

from __future__ import annotations


class CalibrationError(Exception):
    """A survey, site or calibration file that cannot be used: what, where, expected and found."""


class Contradiction(CalibrationError):
    """A well-formed survey whose points contradict each other so that no camera fits.

    Attributes:
        names: The points of which at least one is wrong.
    """

    def __init__(self, says: str, names: tuple[str, ...]) -> None:
        self.names = names
        super().__init__(says)
