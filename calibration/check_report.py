"""The page that says what a calibration is worth: one HTML file, drawings inside, nothing loaded from elsewhere.

It is read on a tablet beside the pole and printed for the file, so it says everything in words and numbers as well as
in colour. Intervals are expanded uncertainties (k = 2, about 95 %).
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from calibration.camera import Floats
from calibration.certificate import Calibration
from calibration.quality import (
    GOOD_U_REL,
    IDENTIFY_PX_PER_M,
    RECOGNISE_PX_PER_M,
    USABLE_U_REL,
    Verdict,
    camera_summary,
    privacy_warning,
    verdict_sentence,
)
from calibration.road_plane import RoadPlane, frame_rotation
from calibration.still import Still
from calibration.tape import TapeCheck

EXPANDED = 2.0  # coverage factor of everything on the page
STILL_WIDTH_PX = 960  # of the picture inside the page: enough to see the marks
STILL_QUALITY = 72  # JPEG, 0 to 100; such a street takes about 100 kB
MAGNIFICATIONS = (200, 100, 50, 20, 10, 5, 2, 1)  # of residual arrows, the largest that fits
LONGEST_ARROW = 0.08  # of the picture's width
GRID_STEPS_M = (1.0, 2.0, 5.0, 10.0)
GRID_LINES = 30  # more crowd the picture
LINE_POINTS = 60  # of a line on the road, which a lens bends
CELLS = (48, 16)  # of the map, along and across
PLAN_WIDTH_PX = 900
PLAN_MARGIN_M = 1.5
TALLEST_PLAN = 0.75  # of its width
RULER_M = 5.0
RULER_ROOM_PX = 30  # below the plan
BLUE, RED = "#0b57d0", "#c8102e"

BANDS = (0.0025, 0.005, 0.01, GOOD_U_REL, USABLE_U_REL)  # one sigma; the last two are the limits of the verdict
COLOURS = ("#e7f2ec", "#b9dcc9", "#7cbfa0", "#3d9a78", "#f2b84b", "#c8432f")

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1b1f24; background: #fff; max-width: 60rem;
  margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
.site, .note { color: #57606a; } .site { margin: 0 0 1rem; } .note { font-size: .9rem; margin: .4rem 0; }
.verdict { padding: .7rem 1rem; border-left: .5rem solid; margin: 1rem 0; }
.verdict p { margin: 0; font-weight: 700; } .verdict ul { margin: .3rem 0 0; padding-left: 1.2rem; }
.good { border-color: #1a7f37; background: #eaf6ec; } .usable { border-color: #b7791f; background: #fdf5e4; }
.refuse { border-color: #b42318; background: #fdeceb; }
.warning { padding: .5rem 1rem; border-left: .5rem solid #b7791f; background: #fdf5e4; }
table { border-collapse: collapse; } th, td { padding: .2rem 1.2rem .2rem 0; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid #8c959f; font-size: .9rem; } tbody tr + tr { border-top: 1px solid #e3e6ea; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } .off { font-weight: 700; }
svg { width: 100%; height: auto; display: block; border: 1px solid #d0d7de; }
svg text { font-family: system-ui, "DejaVu Sans", sans-serif; }
.bar { width: 9rem; } .bar span { display: block; height: .7rem; margin-top: .45rem; background: #3d6fa5; }
section { break-inside: avoid; }
@media print { body { font-size: 10.5pt; max-width: none; margin: 0; padding: 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } h2 { margin-top: 1.2rem; } }
@page { size: A4; margin: 15mm; }
"""


def report_html(
    certificate: Calibration,
    *,
    verdict: Verdict,
    reasons: Sequence[str],
    now: datetime,
    tape: TapeCheck | None = None,
    still: Still | None = None,
) -> str:
    """The whole page.

    Args:
        certificate: The calibration.
        verdict: What it may be used for now, its age and taped distances considered.
        reasons: Why.
        now: The instant of the check, with time zone.
        tape: Its comparison with taped distances.
        still: A picture of the street to draw on, of the size that the calibration is for.
    """
    title = f"Calibration {certificate.id}"
    worst = certificate.quality.u_rel_worst
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy"'
            " content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            f'<p class="site">{html.escape(certificate.site.id)}, limit {certificate.site.limit_kmh} km/h;'
            f" checked {now:%Y-%m-%d %H:%M} UTC</p>",
            f'<div class="verdict {verdict.value}"><p>{html.escape(_capital(verdict_sentence(verdict, worst)))}</p>'
            f"{_listed(reasons)}</div>",
            _section("What was found", _facts_table(certificate, now)),
            _section("In the picture", picture_svg(certificate, still), *_picture_notes(certificate, still)),
            _section("Speed uncertainty over the zone", plan_svg(certificate), *_plan_notes(certificate)),
            _section("Every point", _points_table(certificate)),
            *([] if tape is None else [_section("Taped distances", _tape_table(tape))]),
            _section("Privacy", *_privacy(certificate)),
            '<p class="note">± is the expanded uncertainty (k = 2, about 95 %).'
            f" Solver {html.escape(certificate.solver)}, fingerprint {certificate.fingerprint}.</p>",
            "</body></html>\n",
        ]
    )


# ---------------------------------------------------------------------------------------------------- words and tables


def facts(certificate: Calibration, now: datetime) -> Iterator[tuple[str, str]]:
    """What was found, a line each: a name and a value with its unit."""
    camera, quality = camera_summary(certificate.plane), certificate.quality

    def told(name: str, digits: int, unit: str) -> str:
        value, sigma = camera[name], camera[f"{name}_sigma"]
        if value is None or sigma is None:
            return "not told by the points"
        return f"{value:.{digits}f} ± {EXPANDED * sigma:.{digits}f}{unit}"

    if math.isfinite(quality.u_rel_worst):
        yield (
            "Adds to a speed in the zone",
            f"± {EXPANDED * quality.u_rel_median:.1%} (median), ± {EXPANDED * quality.u_rel_worst:.1%} (worst place)",
        )
    yield "Camera height", told("height_m", 2, " m")
    yield "Tilt below the horizon", told("tilt_deg", 2, "°")
    yield "Focal length", told("focal_px", 0, " px")
    yield "Lens (k1)", told("k1", 3, "")
    if certificate.lens_id is not None:
        yield "Lens told by a board", certificate.lens_id
    yield "Residuals", f"{certificate.rms_px:.2f} px rms over {len(certificate.points)} points"
    if certificate.noise_scale > 1:
        yield (
            "Uncertainties widened",
            f"{certificate.noise_scale:.1f} times, because the residuals are larger than stated",
        )
    if certificate.dropped:
        yield "Left out on purpose", ", ".join(certificate.dropped)
    yield "Solved", f"{certificate.created:%Y-%m-%d}, {_days((now - certificate.created).days)} old"
    left = (certificate.expires - now).days
    yield (
        "Valid until",
        f"{certificate.expires:%Y-%m-%d}, " + ("expired" if certificate.is_expired(now) else f"{_days(left)} left"),
    )
    yield "For pictures of", "{}x{}".format(*certificate.image_size_px)
    yield "Notices a turned camera", "from its own reference" if certificate.reference else "after learning the street"


def _facts_table(certificate: Calibration, now: datetime) -> str:
    return _table([], ([html.escape(name), html.escape(value)] for name, value in facts(certificate, now)))


def _points_table(certificate: Calibration) -> str:
    known = [point.leave_one_out_m for point in certificate.points if point.leave_one_out_m is not None]
    longest = max(known, default=0.0) or 1.0
    rows = []
    for point in certificate.points:
        (du, dv), alone = point.residual_px, point.leave_one_out_m
        bar = "" if alone is None else f'<span style="width:{100 * alone / longest:.0f}%"></span>'
        metres = "-" if alone is None else f"{alone:.3f}"
        rows.append([html.escape(point.name), f"{du:+.2f}", f"{dv:+.2f}", metres, bar])
    return _table(["point", "Δu [px]", "Δv [px]", "without it: off by [m]", ""], rows, numbers=(1, 2, 3), bars=(4,)) + (
        '<p class="note">Δ: click less projection. Without it: how far from its surveyed place the other points put'
        " the click; a point that stands out is worth a second look.</p>"
    )


def _tape_table(tape: TapeCheck) -> str:
    rows = []
    for row, origin in enumerate(tape.tape.origin):
        taped, measured, sigma = tape.tape.distances_m[row], tape.measured_m[row], tape.sigma_m[row]
        share = f"{tape.relative_errors[row]:+.1%}"
        if abs(measured - taped) > EXPANDED * sigma:
            share = f'<span class="off">{share} (outside ±)</span>'
        rows.append([html.escape(origin), f"{taped:.2f}", f"{measured:.2f}", f"{EXPANDED * sigma:.2f}", share])
    return _table(["row", "taped [m]", "calibration [m]", "± [m]", "off by"], rows, numbers=(1, 2, 3, 4)) + (
        f'<p class="note">Beyond what tape and clicks explain: {tape.systematic:.1%} rms; on average'
        f" {tape.relative_errors.mean():+.1%}.</p>"
    )


def _privacy(certificate: Calibration) -> Iterator[str]:
    density = certificate.quality.px_per_m
    warning = privacy_warning(density)
    if warning is not None:
        yield f'<p class="warning">{html.escape(_capital(warning))}. Choose a wider lens or a smaller picture.</p>'
    yield (
        f"<p>{density:.0f} px/m at the nearest place of the zone. From {RECOGNISE_PX_PER_M:.0f} px/m a known person can"
        f" be recognised, from {IDENTIFY_PX_PER_M:.0f} px/m a stranger identified (EN 62676-4).</p>"
    )


def _picture_notes(certificate: Calibration, still: Still | None) -> Iterator[str]:
    yield (
        f'<p class="note">Blue: the zone, with the direction "{html.escape(certificate.site.forward)}". Thin lines: the'
        f" road every {_grid_step_m(certificate):g} m. Dashed: the surveyed points enclose this; beyond it the road is"
        f" not known. Red: click less projection, {_magnification(certificate)} times as long.</p>"
    )
    if still is not None and still.expires is not None:
        yield (
            f'<p class="warning">This page holds a picture of the street: delete it by {still.expires:%Y-%m-%d}.</p>'
        )


def _plan_notes(certificate: Calibration) -> Iterator[str]:
    swatches = []
    for colour, low, high in zip(COLOURS, (0.0, *BANDS), (*BANDS, None)):
        words = f"over {100 * low:g} %" if high is None else f"{100 * low:g} to {100 * high:g} %"
        swatches.append(
            f'<span style="display:inline-block;width:1rem;height:.8rem;background:{colour};border:1px solid #57606a">'
            f"</span> {words}"
        )
    yield f'<p class="note">{" &ensp; ".join(swatches)}</p>'
    yield (
        '<p class="note">Relative speed uncertainty from the calibration alone, one sigma, for a vehicle at that place.'
        f" Good: at most {GOOD_U_REL:.1%} everywhere; usable: {USABLE_U_REL:.0%}. Hatched: outside the picture."
        " Trusted between the surveyed points; beyond them the uncertainty grows quickly.</p>"
    )
    outside = certificate.quality.outside_hull_m
    if outside > 0:
        yield f'<p class="note">The zone reaches {outside:.1f} m beyond the surveyed points.</p>'


def _section(heading: str, *content: str) -> str:
    return f"<section><h2>{heading}</h2>{''.join(content)}</section>"


def _listed(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), bars: Sequence[int] = ()
) -> str:
    """A table of cells that are HTML already."""

    def marked(column: int) -> str:
        return ' class="n"' if column in numbers else ' class="bar"' if column in bars else ""

    head = "".join(f"<th{marked(column)}>{html.escape(text)}</th>" for column, text in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(f'<td{marked(column)}>{cell}</td>' for column, cell in enumerate(row))}</tr>" for row in rows
    )
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if heads else ''}<tbody>{body}</tbody></table>"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"


# ------------------------------------------------------------------------------------------------------ in the picture


def picture_svg(certificate: Calibration, still: Still | None) -> str:
    """Zone, metre grid and residual arrows where the camera sees them, over the still when there is one."""
    plane, site = certificate.plane, certificate.site
    width, height = certificate.image_size_px
    unit = width / 960  # line widths and letters are drawn for a picture of 960 px
    ground = f'<rect width="{width}" height="{height}" fill="#f6f8fa"/>' if still is None else _embedded(still)
    grid, hull = ("#b6bec7", "#57606a") if still is None else ("#ffffff", "#ffe08a")
    grid_style = f'stroke="{grid}" stroke-width="{unit:.2f}" opacity=".7"'
    hull_style = f'stroke="{hull}" stroke-width="{1.5 * unit:.2f}" stroke-dasharray="{6 * unit:g}"'
    zone_style = f'stroke="{BLUE}" stroke-width="{3 * unit:.2f}" fill="{BLUE}" fill-opacity=".10"'
    axis_style = f'stroke="{BLUE}" stroke-width="{2 * unit:.2f}" marker-end="url(#way)"'
    return "".join(
        [
            f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Zone and residuals in the picture">',
            f"<defs>{_arrow_head('tip', RED)}{_arrow_head('way', BLUE)}</defs>{ground}",
            '<g transform="translate(.5 .5)" fill="none">',  # pixel (0, 0) is the middle of the first one
            *(_polyline(plane, line, grid_style) for line in _grid_lines(certificate)),
            _polyline(plane, np.vstack((plane.hull_m, plane.hull_m[:1])), hull_style),
            _polyline(plane, np.array([*site.polygon_m, site.polygon_m[0]]), zone_style),
            _polyline(plane, np.array(site.axis_m), axis_style),
            *_residual_arrows(certificate, unit),
            "</g></svg>",
        ]
    )


def _arrow_head(name: str, fill: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" markerHeight="5" orient="auto">'
        f'<path d="M0 0L8 4L0 8Z" fill="{fill}"/></marker>'
    )


def _embedded(still: Still) -> str:
    """The picture inside the page, small."""
    width, height = still.size_px
    content = base64.b64encode(still.jpeg(width_px=STILL_WIDTH_PX, quality=STILL_QUALITY)).decode("ascii")
    return (
        f'<image href="data:image/jpeg;base64,{content}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
    )


def _residual_arrows(certificate: Calibration, unit: float) -> Iterator[str]:
    times = _magnification(certificate)
    width = certificate.image_size_px[0]
    for point in certificate.points:
        (u, v), (du, dv) = point.pixel, point.residual_px
        u, v = u - du, v - dv
        yield f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{4 * unit:.1f}" stroke="#fff" fill="{RED}"/>'
        yield (
            f'<path d="M{u:.1f} {v:.1f}l{times * du:.1f} {times * dv:.1f}" stroke="{RED}"'
            f' stroke-width="{2.5 * unit:.2f}" marker-end="url(#tip)"/>'
        )
        yield _label(u, v, point.name, unit=unit, on_the_left=u > 0.9 * width)


def _magnification(certificate: Calibration) -> int:
    longest = max(math.hypot(*point.residual_px) for point in certificate.points)
    room = LONGEST_ARROW * certificate.image_size_px[0]
    return next((times for times in MAGNIFICATIONS if times * longest <= room), 1)


def _grid_step_m(certificate: Calibration) -> float:
    polygon_m = certificate.site.polygon_in_frame_m
    span = float((polygon_m.max(axis=0) - polygon_m.min(axis=0)).sum())
    return next((step for step in GRID_STEPS_M if span / step <= GRID_LINES), GRID_STEPS_M[-1])


def _grid_lines(certificate: Calibration) -> Iterator[Floats]:
    """Lines along and across the zone at whole steps from its begin, survey coordinates, shape (2, 2) each. [m]"""
    site, step = certificate.site, _grid_step_m(certificate)
    low = np.floor(site.polygon_in_frame_m.min(axis=0) / step) * step
    high = np.ceil(site.polygon_in_frame_m.max(axis=0) / step) * step
    turn = frame_rotation(site.axis)
    for x in np.arange(low[0], high[0] + step / 2, step):
        yield np.array([[x, low[1]], [x, high[1]]]) @ turn + site.origin_m
    for y in np.arange(low[1], high[1] + step / 2, step):
        yield np.array([[low[0], y], [high[0], y]]) @ turn + site.origin_m


def _polyline(plane: RoadPlane, corners_m: Floats, style: str) -> str:
    """A line on the road, bent as the lens bends it and broken where it cannot be seen."""
    share = np.linspace(0.0, 1.0, LINE_POINTS, endpoint=False)[:, None]
    sides = [start + share * (end - start) for start, end in pairwise(corners_m)]
    pixels = plane.project(np.vstack((*sides, corners_m[-1:])))
    width, height = plane.camera.image_size_px
    near = np.all(np.abs(pixels - (width / 2, height / 2)) < 4 * max(width, height), axis=1)  # NaN is not near
    path, is_drawn = "", False
    for (u, v), is_near in zip(pixels, near.tolist()):
        if is_near:
            path += f"{'L' if is_drawn else 'M'}{u:.1f} {v:.1f}"
        is_drawn = is_near
    return f'<path d="{path}" {style}/>'


# ---------------------------------------------------------------------------------------------------------- from above


@dataclass(frozen=True, slots=True)
class _Plan:
    """From metres along and left of the axis to a drawing with the axis to the right.

    Attributes:
        low_m: Least coordinates that are drawn. [m]
        high_m: Largest. [m]
    """

    low_m: Floats
    high_m: Floats

    @property
    def scale(self) -> float:
        """Drawn units for a metre."""
        span = self.high_m - self.low_m
        return float(min(PLAN_WIDTH_PX / span[0], TALLEST_PLAN * PLAN_WIDTH_PX / span[1]))

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the drawing."""
        width, height = (self.high_m - self.low_m) * self.scale
        return float(width), float(height)

    def at(self, points_m: npt.ArrayLike) -> Floats:
        """Places in the drawing, shape (..., 2)."""
        points = np.asarray(points_m, dtype=np.float64)
        x = points[..., 0] - self.low_m[0]
        y = self.high_m[1] - points[..., 1]
        return np.asarray(np.stack((x, y), axis=-1) * self.scale)

    def path(self, points_m: npt.ArrayLike) -> str:
        """A closed shape."""
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in self.at(points_m)) + "Z"


def plan_svg(certificate: Calibration) -> str:
    """The zone from above, coloured by its relative speed uncertainty, with the surveyed points and the camera."""
    site, plane = certificate.site, certificate.zone_plane
    polygon_m = site.polygon_in_frame_m
    points_m = (np.array([point.point_m for point in certificate.points]) - site.origin_m) @ frame_rotation(site.axis).T
    everything = np.vstack((polygon_m, points_m, plane.camera.position_m[:2]))
    plan = _Plan(everything.min(axis=0) - PLAN_MARGIN_M, everything.max(axis=0) + PLAN_MARGIN_M)
    width, height = plan.size
    bottom = height + RULER_ROOM_PX
    (x1, y1), (x2, _) = plan.at([(0.0, 0.0), (site.length_m, 0.0)])
    foot_x, foot_y = plan.at(plane.camera.position_m[:2])
    return "".join(
        [
            f'<svg viewBox="0 0 {width:.0f} {bottom:.0f}" role="img" aria-label="Speed uncertainty from above">',
            '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse"'
            ' patternTransform="rotate(45)"><rect width="6" height="6" fill="#fff"/>'
            '<path d="M0 0V6" stroke="#8c959f" stroke-width="2"/></pattern>'
            f'<clipPath id="zone"><path d="{plan.path(polygon_m)}"/></clipPath>{_arrow_head("ahead", BLUE)}</defs>',
            f'<rect width="{width:.0f}" height="{bottom:.0f}" fill="#fff"/>',
            '<g clip-path="url(#zone)" shape-rendering="crispEdges">',
            *_cells(plane, polygon_m, site.length_m, plan),
            "</g>",
            f'<path d="{plan.path(polygon_m)}" fill="none" stroke="{BLUE}" stroke-width="2"/>',
            f'<path d="{plan.path(plane.hull_m)}" fill="none" stroke="#57606a" stroke-dasharray="6"/>',
            f'<path d="M{x1:.1f} {y1:.1f}H{x2:.1f}" stroke="{BLUE}" stroke-width="2" marker-end="url(#ahead)"/>',
            *_marks(certificate, plan.at(points_m), width),
            f'<path d="M{foot_x - 8:.1f} {foot_y + 7:.1f}h16l-8 -15z" fill="#1b1f24"/>',
            _label(foot_x + 4, foot_y + 11, "camera", on_the_left=foot_x > 0.9 * width),
            f'<path d="M12 {bottom - 10:.1f}h{RULER_M * plan.scale:.1f}" stroke="#1b1f24" stroke-width="3"/>',
            _label(4, bottom - 9, f"{RULER_M:g} m"),
            "</svg>",
        ]
    )


def _marks(certificate: Calibration, places: Floats, width: float) -> Iterator[str]:
    """The surveyed points from above."""
    for point, (x, y) in zip(certificate.points, places):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#1b1f24" stroke="#fff"/>'
        yield _label(x, y, point.name, on_the_left=x > 0.95 * width)


def _cells(plane: RoadPlane, polygon_m: Floats, length_m: float, plan: _Plan) -> Iterator[str]:
    """The zone between the ends of its axis in cells, coloured by the uncertainty in their middles."""
    low, high = polygon_m.min(axis=0), polygon_m.max(axis=0)
    low[0], high[0] = max(low[0], 0.0), min(high[0], length_m)
    step = (high - low) / CELLS
    along, across = (low[i] + step[i] * (np.arange(CELLS[i]) + 0.5) for i in (0, 1))
    middles = np.stack(np.meshgrid(along, across, indexing="ij"), axis=-1).reshape(-1, 2)
    pixels = plane.project(middles)
    last_px = np.array(plane.camera.image_size_px) - 0.5
    visible = np.asarray(np.all((pixels >= -0.5) & (pixels <= last_px), axis=1))
    sigmas = plane.relative_speed_sigma(middles, (1.0, 0.0))
    width, height = step * plan.scale
    for (x, y), sigma, is_seen in zip(plan.at(middles), sigmas.tolist(), visible.tolist()):
        fill = colour(sigma) if is_seen else "url(#hatch)"
        yield (
            f'<rect x="{x - width / 2:.2f}" y="{y - height / 2:.2f}" width="{width:.2f}" height="{height:.2f}"'
            f' fill="{fill}"/>'
        )


def colour(u_rel: float) -> str:
    """The colour of a relative speed uncertainty (one sigma, a fraction)."""
    return COLOURS[int(np.searchsorted(BANDS, u_rel))]


def _label(x: float, y: float, text: str, *, unit: float = 1.0, on_the_left: bool = False) -> str:
    """Words beside a place, with a bright rim so that they can be read on anything."""
    side, anchor = (-8, "end") if on_the_left else (8, "start")
    return (
        f'<text x="{x + side * unit:.1f}" y="{y - 7 * unit:.1f}" text-anchor="{anchor}" font-size="{13 * unit:.1f}"'
        f' fill="#1b1f24" stroke="#fff" stroke-width="{3 * unit:.1f}" paint-order="stroke">{html.escape(text)}</text>'
    )
