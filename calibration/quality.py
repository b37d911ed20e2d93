"""How good a calibration is where it matters: over the measurement zone.

Verdict: *good* when the relative speed uncertainty (one sigma, from the calibration alone) is at most 1.5 %
everywhere in the zone, *usable* up to 3 %, else *refuse*. Other findings can only lower it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from calibration.camera import Camera, Floats
from calibration.fit import K1_SIGMA
from calibration.road_plane import RoadPlane, frame_rotation
from calibration.site import Site

GOOD_U_REL = 0.015
USABLE_U_REL = 0.03
HEIGHT_RANGE_M = (2.5, 15.0)  # where cameras on street poles hang
USUAL_HEIGHT_M = 5.5
MOUNT_HEIGHT_SHARE = 0.05  # one sigma of a taped mounting height: the road is not level with the pole's foot
RECOGNISE_PX_PER_M = 125.0  # EN 62676-4: from here a known person can be recognised
IDENTIFY_PX_PER_M = 250.0  # EN 62676-4: from here a stranger can be identified
MIN_VISIBLE_SHARE = 0.5  # of the zone inside the picture
LENS_SOLVED_SHARE = 0.5  # k1 counts as solved when the points halve what was known of it before

_GRID = (33, 11)  # along and across the zone


class Verdict(str, Enum):
    """What a calibration may be used for, best first."""

    GOOD = "good"
    USABLE = "usable"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that lowers the verdict, or should be known.

    Attributes:
        verdict: The best verdict that it leaves.
        says: One plain sentence.
    """

    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True)
class ZoneQuality:
    """What the calibration is worth over the zone.

    Attributes:
        u_rel_median: Median relative speed uncertainty along the axis where the zone is inside the picture, one
            sigma; NaN when nothing of it is.
        u_rel_worst: Largest, one sigma.
        visible_share: Share of the zone inside the picture.
        outside_hull_m: How far the visible zone reaches beyond the surveyed points. [m]
        px_per_m: Pixels on a metre facing the camera, at the nearest visible place of the zone. [px/m]
    """

    u_rel_median: float
    u_rel_worst: float
    visible_share: float
    outside_hull_m: float
    px_per_m: float


def zone_grid(site: Site) -> Floats:
    """Places spread over the zone (its polygon between the ends of the axis), survey coordinates, shape (n, 2). [m]"""
    corners = site.polygon_in_frame_m
    low, high = corners.min(axis=0), corners.max(axis=0)
    low[0], high[0] = max(low[0], 0.0), min(high[0], site.length_m)
    margin = 1e-6 * (high - low)  # keeps the edge of a rectangle inside itself
    along, across = (np.linspace(low[i] + margin[i], high[i] - margin[i], _GRID[i]) for i in (0, 1))
    grid = np.stack(np.meshgrid(along, across, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(grid[_inside(grid, corners)] @ frame_rotation(site.axis) + site.origin_m)


def zone_quality(plane: RoadPlane, site: Site) -> ZoneQuality:
    """The relative speed uncertainty and visibility of the zone."""
    grid = zone_grid(site)
    width, height = plane.camera.image_size_px
    pixels = plane.project(grid)
    visible = ((pixels >= -0.5) & (pixels <= (width - 0.5, height - 0.5))).all(axis=-1)
    seen = grid[visible]
    known = plane.relative_speed_sigma(seen, site.axis) if len(seen) else np.array([math.nan])
    camera = plane.camera
    depths = (np.column_stack((grid, np.zeros(len(grid)))) - camera.position_m) @ camera.rotation[2]
    return ZoneQuality(
        u_rel_median=float(np.median(known)),
        u_rel_worst=float(known.max()),
        visible_share=float(visible.mean()),
        outside_hull_m=float(plane.distance_to_hull_m(seen if len(seen) else grid).max()),
        px_per_m=float(camera.focal_px / depths[visible].min()) if visible.any() else 0.0,
    )


def judge(
    plane: RoadPlane, site: Site, quality: ZoneQuality, more: Iterable[Finding] = ()
) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons, from the zone, the camera's height and what else was found."""
    return lowered(Verdict.GOOD, [], [*more, *_height_findings(plane, site), *_zone_findings(quality)])


def lowered(verdict: Verdict, reasons: list[str], findings: Iterable[Finding]) -> tuple[Verdict, list[str]]:
    """A verdict and its reasons after further findings."""
    found = list(findings)
    worst = max([verdict, *(finding.verdict for finding in found)], key=list(Verdict).index)
    return worst, reasons + [finding.says for finding in found]


def camera_summary(plane: RoadPlane) -> dict[str, float | None]:
    """Focal length, height, tilt and k1, each with one sigma; k1 is None when the points hardly tell it."""
    camera, sigma = plane.camera, np.sqrt(np.diag(plane.covariance))
    solved = sigma[3] < LENS_SOLVED_SHARE * K1_SIGMA
    return {
        "focal_px": camera.focal_px,
        "focal_px_sigma": float(camera.focal_px * sigma[0]),
        "height_m": camera.height_m,
        "height_m_sigma": float(sigma[10]),
        "tilt_deg": math.degrees(camera.tilt_rad),
        "tilt_deg_sigma": math.degrees(_tilt_sigma_rad(camera, plane.covariance)),
        "k1": camera.distortion[0] if solved else None,
        "k1_sigma": float(sigma[3]) if solved else None,
    }


def summary(
    *,
    plane: RoadPlane,
    quality: ZoneQuality,
    verdict: Verdict,
    reasons: list[str],
    points: int,
    rejected: list[str],
    rms_px: float,
) -> dict[str, Any]:
    """The fixed keys of ``calibrate solve --json`` and ``calibrate check --json``; NaN becomes null."""
    return {
        "verdict": verdict.value,
        "reasons": reasons,
        "points": points,
        "rejected": rejected,
        "rms_px": rms_px,
        "camera": camera_summary(plane),
        "u_rel_speed": {"median": _or_none(quality.u_rel_median), "worst": _or_none(quality.u_rel_worst)},
        "px_per_m": quality.px_per_m,
        "zone_visible": quality.visible_share,
        "zone_outside_survey_m": quality.outside_hull_m,
    }


def verdict_sentence(verdict: Verdict, u_rel_worst: float) -> str:
    """A verdict in words; ``u_rel_worst`` is the largest relative speed uncertainty in the zone, one sigma."""
    if verdict is Verdict.REFUSE or not math.isfinite(u_rel_worst):
        return f"{verdict.value}: speeds may not be published."
    note = ", with a larger uncertainty" if verdict is Verdict.USABLE else ""
    return (
        f"{verdict.value}: speeds may be published{note}. The calibration adds at most {200 * u_rel_worst:.1f} %"
        " (U, k = 2) to a speed in the zone."
    )


def privacy_warning(px_per_m: float) -> str | None:
    """What a picture that sharp could be used for; None below 125 px/m."""
    if px_per_m >= IDENTIFY_PX_PER_M:
        return f"{px_per_m:.0f} px/m: sharp enough to identify people (EN 62676-4: {IDENTIFY_PX_PER_M:.0f})"
    if px_per_m >= RECOGNISE_PX_PER_M:
        return f"{px_per_m:.0f} px/m: sharp enough to recognise people (EN 62676-4: {RECOGNISE_PX_PER_M:.0f})"
    return None


def _height_findings(plane: RoadPlane, site: Site) -> list[Finding]:
    height, sigma = plane.camera.height_m, math.sqrt(plane.covariance[10, 10])
    if site.mount_height_m is not None:
        mount = site.mount_height_m
        if abs(height - mount) <= 3 * math.hypot(sigma, MOUNT_HEIGHT_SHARE * mount):
            return []
        expected, ratio = f"mount_height_m says {mount:.2f} m", height / mount
    else:
        low, high = HEIGHT_RANGE_M
        if low <= height <= high:
            return []
        expected = f"expected {low:g} to {high:g} m (or the true mount_height_m in the site file)"
        ratio = height / USUAL_HEIGHT_M
    hint = ""
    if 2.5 < ratio < 4.2:
        hint = "; feet given as metres look like that"
    elif ratio < 0.4:
        hint = "; metres that are too small, or a picture of another size, look like that"
    return [Finding(Verdict.REFUSE, f"camera height {height:.2f} ± {2 * sigma:.2f} m: {expected}{hint}")]


def _zone_findings(quality: ZoneQuality) -> list[Finding]:
    findings = []
    if not math.isfinite(quality.u_rel_worst):
        return [Finding(Verdict.REFUSE, "the zone cannot be seen: it lies outside the picture or behind the camera")]
    if quality.visible_share < 1:
        limit = Verdict.REFUSE if quality.visible_share < MIN_VISIBLE_SHARE else Verdict.USABLE
        share = max(0.01, 1 - quality.visible_share)
        findings.append(Finding(limit, f"{share:.0%} of the zone lies outside the picture"))
    if quality.u_rel_worst > GOOD_U_REL:
        verdict, bound = (
            (Verdict.USABLE, GOOD_U_REL) if quality.u_rel_worst <= USABLE_U_REL else (Verdict.REFUSE, USABLE_U_REL)
        )
        says = f"speed uncertainty reaches {quality.u_rel_worst:.1%} in the zone, more than {bound:.1%}"
        if quality.outside_hull_m > 1:
            says += f"; the zone reaches {quality.outside_hull_m:.1f} m beyond the surveyed points"
        else:
            says += "; survey more points in and around the zone"
        findings.append(Finding(verdict, says))
    elif quality.outside_hull_m > 1:
        findings.append(
            Finding(
                Verdict.GOOD,
                f"the zone reaches {quality.outside_hull_m:.1f} m beyond the surveyed points (uncertainty includes it)",
            )
        )
    return findings


def _tilt_sigma_rad(camera: Camera, covariance: Floats) -> float:
    """From sin(tilt) = −R[2,2] and δR = [w]× R for a small camera-side rotation w."""
    turn = np.array([camera.rotation[1, 2], -camera.rotation[0, 2]])
    return math.sqrt(float(turn @ covariance[5:7, 5:7] @ turn)) / math.cos(camera.tilt_rad)


def _inside(points: Floats, polygon: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Even-odd rule for points (n, 2) and a polygon (m, 2)."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    spans = (start[:, 1] > y) != (end[:, 1] > y)
    rise = np.where(end[:, 1] == start[:, 1], np.inf, end[:, 1] - start[:, 1])
    left = x < start[:, 0] + (y - start[:, 1]) * (end[:, 0] - start[:, 0]) / rise
    return np.asarray((spans & left).sum(axis=1) % 2 == 1)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
