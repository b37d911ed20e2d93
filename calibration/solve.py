"""From a survey and a site to a judged road plane."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from calibration.blunders import (
    SurveyFits,
    chi_square_bound,
    is_consistent,
    leave_one_out_m,
    require_straight,
)
from calibration.camera import Floats
from calibration.certificate import Calibration, PointRecord
from calibration.drift import Reference
from calibration.errors import CalibrationError
from calibration.fit import Fit
from calibration.lens import Lens
from calibration.quality import Finding, Verdict, ZoneQuality, judge, summary, zone_quality
from calibration.road_plane import RoadPlane
from calibration.site import Site
from calibration.straight import StraightLines
from calibration.survey import Survey

NOISY_CHANCE = 0.05  # residuals larger than chance allows at this level widen the covariance
MIN_CHECKED_POINTS = 6  # with fewer, a wrong one cannot be told from the right ones
CENTRE_PULL_LIMIT = 5.0  # prior sigmas; no lens is mounted that far off, but crops and wrong image sizes look like it


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A solved survey with everything that a technician should know about it.

    Attributes:
        survey: All points that were to be used, the suspects too.
        site: The place.
        plane: The road according to the trusted points.
        dropped: Names left out on purpose.
        rejected: Names that contradict the others; the plane rests on the others.
        residuals_px: Click less projection for every point, shape (n, 2). [px]
        leave_one_out_m: Place of the click according to the other points less place surveyed, shape (n, 2). [m]
        noise_scale: How many times larger the residuals are than stated; 1 when they agree.
        quality: What it is worth over the zone.
        verdict: What it may be used for.
        reasons: Why.
        lens_id: Of the lens that a board told, None without one.
    """

    survey: Survey
    site: Site
    plane: RoadPlane
    dropped: tuple[str, ...]
    rejected: tuple[str, ...]
    residuals_px: Floats
    leave_one_out_m: Floats
    noise_scale: float
    quality: ZoneQuality
    verdict: Verdict
    reasons: tuple[str, ...]
    lens_id: str | None

    @property
    def rms_px(self) -> float:
        """Root mean square length of the residuals of the trusted points. [px]"""
        trusted = [name not in self.rejected for name in self.survey.names]
        return float(np.sqrt((self.residuals_px[trusted] ** 2).sum(axis=1).mean()))

    def summary(self) -> dict[str, Any]:
        """The fixed keys of ``calibrate solve --json``."""
        return summary(
            plane=self.plane,
            quality=self.quality,
            verdict=self.verdict,
            reasons=list(self.reasons),
            points=len(self.survey) - len(self.rejected),
            rejected=list(self.rejected),
            rms_px=self.rms_px,
        )

    def certified(self, created: datetime, reference: Reference | None = None) -> Calibration:
        """The certificate of this solution; raises CalibrationError while points are rejected.

        A solution that is refused for its uncertainty alone still has one: it counts vehicles well, its speeds are
        too uncertain.

        Args:
            created: When it was solved, with time zone.
            reference: How the street looked, to notice that the camera has turned.
        """
        if self.rejected:
            raise CalibrationError(f"no certificate while {', '.join(self.rejected)} contradict the other points")
        return Calibration.certify(
            plane=self.plane,
            site=self.site,
            points=self._records(),
            dropped=self.dropped,
            noise_scale=self.noise_scale,
            verdict=self.verdict,
            reasons=self.reasons,
            created=created,
            reference=reference,
            lens_id=self.lens_id,
        )

    def _records(self) -> tuple[PointRecord, ...]:
        survey = self.survey
        return tuple(
            PointRecord(
                name=survey.names[row],
                pixel=(float(survey.pixels[row, 0]), float(survey.pixels[row, 1])),
                point_m=(float(survey.points_m[row, 0]), float(survey.points_m[row, 1])),
                sigma_px=float(survey.sigma_px[row]),
                sigma_m=float(survey.sigma_m[row]),
                residual_px=(float(self.residuals_px[row, 0]), float(self.residuals_px[row, 1])),
                leave_one_out_m=_length_or_none(self.leave_one_out_m[row]),
            )
            for row in range(len(survey))
        )


def solve(
    survey: Survey,
    site: Site,
    image_size_px: tuple[int, int],
    drop: Iterable[str] = (),
    *,
    lens: Lens | None = None,
    lines: StraightLines | None = None,
) -> Solution:
    """Solve and judge a survey.

    Args:
        survey: Surveyed points.
        site: The place.
        image_size_px: Width and height of the picture they were clicked in. [px]
        drop: Names of points to leave out on purpose.
        lens: What a board told about this camera.
        lines: What is straight in the street.

    Raises:
        CalibrationError: The survey cannot be solved at all: too few points, points on a line, a click outside the
            picture, mirrored axes, an unknown name to drop; a lens of another picture size; a lens or lines that
            contradict points which agree with each other; a line that bends. Contradiction: No camera fits, and it
            cannot be told which points are wrong.
    """
    dropped = tuple(dict.fromkeys(drop))
    used = survey.dropping(dropped)
    used.require_inside(image_size_px)
    used.require_spread()
    if lines is not None:
        lines.require_inside(image_size_px)
        require_straight(lines, image_size_px, lens)
    fits = SurveyFits(used, image_size_px, lens, lines)
    if lens is not None:
        _require_lens_of_this_camera(fits, lens)
    if lines is not None:
        _require_lines_of_this_picture(fits, lines)
    suspicion = fits.suspicion
    fit = suspicion.fit
    noise_scale = _noise_scale(fit)
    plane = RoadPlane(camera=fit.camera, covariance=fit.covariance * noise_scale**2, hull_m=fit.plane.hull_m)
    quality = zone_quality(plane, site)
    findings = [Finding(Verdict.REFUSE, says) for says in suspicion.says]
    findings += _survey_findings(fit, noise_scale)
    verdict, reasons = judge(plane, site, quality, findings)
    projected = plane.project(used.points_m)
    return Solution(
        survey=used,
        site=site,
        plane=plane,
        dropped=dropped,
        rejected=tuple(used.names[row] for row in suspicion.rows),
        residuals_px=used.pixels - projected,
        leave_one_out_m=leave_one_out_m(fits, suspicion.left_out),
        noise_scale=noise_scale,
        quality=quality,
        verdict=verdict,
        reasons=tuple(reasons),
        lens_id=None if lens is None else lens.id,
    )


def _require_lens_of_this_camera(fits: SurveyFits, lens: Lens) -> None:
    """Points that fit together without the lens, and do not with it, were not seen through it."""
    lens.require_size(fits.image_size_px)
    through_it = fits.without()
    if through_it is not None and is_consistent(through_it):
        return
    in_general = SurveyFits(fits.survey, fits.image_size_px).without()
    if in_general is not None and is_consistent(in_general):
        raise CalibrationError(
            f"--lens: expected the lens of this camera, got {lens.id} (focal length {lens.focal_px:.0f} px); the points"
            f" agree with each other and with a focal length of {in_general.camera.focal_px:.0f} px"
        )


def _require_lines_of_this_picture(fits: SurveyFits, lines: StraightLines) -> None:
    """Points that fit together without the lines, and do not with them: what was clicked is not straight."""
    with_them = fits.without()
    if with_them is not None and is_consistent(with_them):
        return
    alone = SurveyFits(fits.survey, fits.image_size_px, fits.lens).without()
    if alone is not None and is_consistent(alone):
        raise CalibrationError(
            f"{lines.file}: expected lines that are straight in the street, got {', '.join(lines.names)}; the points"
            " agree with each other and with another lens than these lines need"
        )


def _noise_scale(fit: Fit) -> float:
    """Birge ratio when the residuals are larger than chance allows, else 1."""
    if fit.chi_square <= chi_square_bound(fit.degrees_of_freedom, NOISY_CHANCE):
        return 1.0
    return math.sqrt(fit.chi_square / fit.degrees_of_freedom)


def _survey_findings(fit: Fit, noise_scale: float) -> list[Finding]:
    findings = []
    if len(fit.survey) < MIN_CHECKED_POINTS:
        findings.append(
            Finding(
                Verdict.USABLE, f"only {len(fit.survey)} points: a wrong one could go unnoticed; 8 or more are advised"
            )
        )
    if noise_scale > 1:
        findings.append(
            Finding(
                Verdict.GOOD,
                f"the residuals are {noise_scale:.1f} times larger than the stated sigmas let expect;"
                " the uncertainties are widened by that",
            )
        )
    pull = max(abs(fit.prior_pulls[1]), abs(fit.prior_pulls[2]))
    if pull > CENTRE_PULL_LIMIT:
        centre = fit.camera.centre_px
        findings.append(
            Finding(
                Verdict.REFUSE,
                f"the lens would look at pixel ({centre[0]:.0f}, {centre[1]:.0f}), far from the picture's centre:"
                " is --image-size right, is the picture cropped?",
            )
        )
    return findings


def _length_or_none(vector_m: Floats) -> float | None:
    length = float(np.hypot(*vector_m))
    return length if math.isfinite(length) else None
