"""Does a calibration reproduce distances that were taped on the road afterwards?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibration.camera import Floats
from calibration.errors import CalibrationError
from calibration.quality import GOOD_U_REL, USABLE_U_REL, Finding, Verdict
from calibration.road_plane import RoadPlane
from calibration.survey import DEFAULT_SIGMA_PX, TapeDistances

INCONSISTENT_SIGMAS = 4.0  # a single distance off by more is named


@dataclass(frozen=True, slots=True, eq=False)
class TapeCheck:
    """Taped distances against the calibration's.

    Attributes:
        tape: What was taped.
        measured_m: The same distances according to the calibration, shape (n,). [m]
        noise_m: One sigma of their difference from tape and clicks, shape (n,). [m]
        sigma_m: The same with the calibration's own uncertainty, shape (n,). [m]
    """

    tape: TapeDistances
    measured_m: Floats
    noise_m: Floats
    sigma_m: Floats

    @property
    def relative_errors(self) -> Floats:
        """Measured over taped, less one, shape (n,)."""
        return np.asarray(self.measured_m / self.tape.distances_m - 1)

    @property
    def systematic(self) -> float:
        """Root mean square relative error beyond what tape and clicks explain: the calibration's share."""
        noise = self.noise_m / self.tape.distances_m
        return math.sqrt(max(0.0, float((self.relative_errors**2 - noise**2).mean())))

    @property
    def findings(self) -> list[Finding]:
        """What the distances say against the calibration."""
        bound = next((bound for bound in (USABLE_U_REL, GOOD_U_REL) if self.systematic > bound), None)
        findings = []
        if bound is not None:
            findings.append(
                Finding(
                    Verdict.REFUSE if bound == USABLE_U_REL else Verdict.USABLE,
                    f"the {len(self.tape)} taped distances disagree by {self.systematic:.1%} (rms beyond tape and"
                    f" clicks; on average {self.relative_errors.mean():+.1%}), more than {bound:.1%}",
                )
            )
        for origin, measured, taped, sigma in zip(
            self.tape.origin, self.measured_m, self.tape.distances_m, self.sigma_m
        ):
            if abs(measured - taped) > INCONSISTENT_SIGMAS * sigma:
                is_large = abs(measured / taped - 1) > USABLE_U_REL
                findings.append(
                    Finding(
                        Verdict.USABLE if is_large else Verdict.GOOD,
                        f"{origin}: taped {taped:.2f} m, the calibration gives {measured:.2f} ± {2 * sigma:.2f} m",
                    )
                )
        return findings


def compare_with_tape(plane: RoadPlane, tape: TapeDistances) -> TapeCheck:
    """Taped distances against a calibration.

    Raises:
        CalibrationError: An end lies outside the picture or at or above the horizon.
    """
    width, height = plane.camera.image_size_px
    ends = []
    for number, pixels in ((1, tape.from_px), (2, tape.to_px)):
        located = plane.locate(pixels, DEFAULT_SIGMA_PX)
        inside = np.all((pixels >= -0.5) & (pixels <= (width - 0.5, height - 0.5)), axis=1)
        for origin, pixel, is_inside, on_road in zip(tape.origin, pixels, inside, located.on_road):
            if not is_inside or not on_road:
                expected = f"a pixel of the {width}x{height} picture" if not is_inside else "a place below the horizon"
                raise CalibrationError(
                    f"{origin}: u{number}_px, v{number}_px: expected {expected}, got ({pixel[0]:g}, {pixel[1]:g})"
                )
        ends.append(located)
    start, end = ends
    apart = end.positions_m - start.positions_m
    measured = np.linalg.norm(apart, axis=1)
    along = apart / measured[:, None]
    clicks = np.einsum("ni,nij,nj->n", along, start.covariances_m2 + end.covariances_m2, along)
    noise = np.sqrt(tape.sigma_m**2 + clicks)
    shared = plane.distance_sigma(start.positions_m, end.positions_m)
    return TapeCheck(tape=tape, measured_m=measured, noise_m=noise, sigma_m=np.hypot(noise, shared))
