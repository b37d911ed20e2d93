"""The page that shows how our speeds agree with a reference: one HTML file with its plot inside, nothing loaded."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator

import numpy as np

from calibration.verify import (
    MAX_BIAS_KMH,
    MAX_ERROR_KMH,
    MAX_ERROR_SHARE,
    MIN_PAIRS,
    Agreement,
    Verification,
)

WIDTH_PX, HEIGHT_PX = 760, 400
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 62, 150, 18, 48
LEAST_SPAN_KMH = 4.0  # either side of zero, so that a good result does not look scattered

RULE = (
    f"Passes with {MIN_PAIRS} pairs or more, a bias of at most {MAX_BIAS_KMH:g} km/h, limits of agreement within"
    f" {MAX_ERROR_KMH:g} km/h ({100 * MAX_ERROR_SHARE:g} % above 100 km/h), as many differences within U as 95 % let"
    " expect, no suspect reading, clocks that fit in one way only, and a reference that is not a speedometer."
)

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 50rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { font-weight: 700; padding: .6rem 1rem; border-left: .5rem solid; }
.pass { border-color: #1a7f37; background: #eaf6ec; } .fail { border-color: #b42318; background: #fdeceb; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; } svg { max-width: 100%; height: auto; }
.note { color: #57606a; font-size: .9rem; }
"""


def report_html(result: Verification, title: str, *, with_single: bool = True) -> str:
    """The whole page; without single vehicles it shows bias and limits of agreement only."""
    verdict = "pass" if not result.shortfalls else "fail"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            f'<p class="verdict {verdict}">{verdict.capitalize()}</p>',
            _listed(result.shortfalls),
            _listed(result.warnings),
            "<h2>Agreement</h2>",
            _table([(html.escape(name), html.escape(value)) for name, value in figures(result)]),
            plot_svg(result, with_single=with_single),
            "<h2>Readings far from all others</h2>" if result.suspects and with_single else "",
            _listed(suspects(result) if with_single else []),
            f'<p class="note">{html.escape(RULE)}</p>',
            '<p class="note">Differences are ours less the reference. Intervals and limits of agreement after Bland and'
            " Altman (1986). U is the expanded uncertainty (k = 2) of our speed and the reference together.</p>",
            "</body></html>",
        ]
    )


def figures(result: Verification) -> Iterator[tuple[str, str]]:
    """What was found, by name, for people."""
    agreement, offset = result.agreement, result.offset
    yield "pairs", f"{len(result.ours_kmh)} of {len(result.readings)} readings, {len(result.passed)} passages"
    if agreement is not None:
        low, high = agreement.bias_interval
        yield "bias", f"{agreement.bias_kmh:+.2f} km/h (95 %: {low:+.2f} to {high:+.2f})"
        (a, b), (c, d) = agreement.low_interval, agreement.high_interval
        yield (
            "limits of agreement",
            f"{agreement.limits[0]:+.2f} km/h ({a:+.2f} to {b:+.2f}) and {agreement.limits[1]:+.2f} km/h"
            f" ({c:+.2f} to {d:+.2f})",
        )
    if result.within_u is not None:
        yield "within U", f"{result.within_u:.0%}"
    if offset is not None:
        sigma = "" if math.isnan(offset.sigma_s) else f" ± {2 * offset.sigma_s:.2f}"
        since = " since 1970: when our clock was 0" if result.readings.is_dated else ""
        yield "reference clock less ours", f"{offset.seconds:+.2f}{sigma} s{since}"
    left = [
        (len(result.suspects), "far from all others"),
        (len(result.pairing.ambiguous), "between two passages"),
        (len(result.pairing.unmeasured), "of vehicles that we saw and did not measure"),
        (len(result.pairing.alone), "without a passage"),
    ]
    if any(count for count, _ in left):
        yield "left out", ", ".join(f"{count} {what}" for count, what in left if count)
    if result.scale is not None:
        scale = result.scale
        yield (
            "proposed factor (not applied)",
            f"{scale.factor:.4f} ± {2 * scale.sigma:.4f}, fitted on {scale.fitted_on} pairs; on the {scale.tried_on}"
            f" others it turns a bias of {scale.bias_before_kmh:+.2f} into {scale.bias_after_kmh:+.2f} km/h",
        )


def suspects(result: Verification) -> list[str]:
    """The readings that are far from all others."""
    rows = result.summary()["suspects"]
    return [
        f"{row['where']}: reference {row['reference_kmh']:.1f} km/h, ours {row['ours_kmh']:.1f} km/h" for row in rows
    ]


def plot_svg(result: Verification, *, with_single: bool = True) -> str:
    """Differences over the mean of both, with bias and limits of agreement."""
    if result.agreement is None:
        return ""
    means, differences = (result.ours_kmh + result.reference_kmh) / 2, result.differences_kmh
    if not with_single:
        means, differences = means.mean(keepdims=True), differences[:0]
    edges = [*differences, *result.agreement.low_interval, *result.agreement.high_interval]
    span = max(LEAST_SPAN_KMH, 1.1 * float(np.max(np.abs(edges))))
    first, last = 10 * math.floor(float(means.min()) / 10), 10 * math.ceil(float(means.max()) / 10 + 1e-9)
    draw = _Axes(first, max(last, first + 10), span)
    parts = [
        f'<svg viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" role="img" font-family="system-ui, sans-serif" font-size="13"'
        ' xmlns="http://www.w3.org/2000/svg"><title>Difference of the two speeds over their mean</title>',
        *draw.grid(),
        *draw.lines(result.agreement),
        *(
            f'<circle cx="{draw.across(x):.1f}" cy="{draw.down(y):.1f}" r="4" fill="#0b5cad" fill-opacity=".7"/>'
            for x, y in zip(means, differences)
        ),
        "</svg>",
    ]
    return "\n".join(parts)


class _Axes:
    """Where speeds and differences lie in the plot."""

    def __init__(self, first_kmh: float, last_kmh: float, span_kmh: float) -> None:
        self._first, self._last, self._span = first_kmh, last_kmh, span_kmh

    def across(self, speed_kmh: float) -> float:
        share = (speed_kmh - self._first) / (self._last - self._first)
        return LEFT_PX + share * (WIDTH_PX - LEFT_PX - RIGHT_PX)

    def down(self, difference_kmh: float) -> float:
        share = (self._span - difference_kmh) / (2 * self._span)
        return TOP_PX + share * (HEIGHT_PX - TOP_PX - BOTTOM_PX)

    def grid(self) -> Iterator[str]:
        bottom, right = HEIGHT_PX - BOTTOM_PX, WIDTH_PX - RIGHT_PX
        step = 10 if self._last - self._first <= 80 else 20
        for speed in range(int(self._first), int(self._last) + 1, step):
            x = self.across(speed)
            yield f'<line x1="{x:.1f}" y1="{TOP_PX}" x2="{x:.1f}" y2="{bottom}" stroke="#e4e7eb"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#57606a">{speed}</text>'
        every = next(size for size in (1, 2, 5, 10, 20, 50, 100, 200) if self._span / size <= 6)
        reach = int(self._span // every) * every
        for difference in range(-reach, reach + 1, every):
            y = self.down(difference)
            colour = "#8c959f" if difference == 0 else "#e4e7eb"
            yield f'<line x1="{LEFT_PX}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{colour}"/>'
            label = f"{difference:+d}" if difference else "0"
            yield f'<text x="{LEFT_PX - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#57606a">{label}</text>'
        middle = (LEFT_PX + right) / 2
        yield f'<text x="{middle}" y="{HEIGHT_PX - 8}" text-anchor="middle">mean of both, km/h</text>'
        yield (
            f'<text transform="translate(16 {(TOP_PX + bottom) / 2}) rotate(-90)" text-anchor="middle">'
            "ours less reference, km/h</text>"
        )

    def lines(self, agreement: Agreement) -> Iterator[str]:
        right = WIDTH_PX - RIGHT_PX
        for name, at, (low, high), colour in (
            ("bias", agreement.bias_kmh, agreement.bias_interval, "#1a7f37"),
            ("limit", agreement.limits[0], agreement.low_interval, "#b54708"),
            ("limit", agreement.limits[1], agreement.high_interval, "#b54708"),
        ):
            top, height = self.down(high), self.down(low) - self.down(high)
            yield (
                f'<rect x="{LEFT_PX}" y="{top:.1f}" width="{right - LEFT_PX}" height="{height:.1f}" fill="{colour}"'
                ' fill-opacity=".12"/>'
            )
            y = self.down(at)
            dash = "" if name == "bias" else ' stroke-dasharray="6 4"'
            yield (
                f'<line x1="{LEFT_PX}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{colour}" stroke-width="2"'
                f"{dash}/>"
            )
            yield f'<text x="{right + 8}" y="{y + 4:.1f}" fill="{colour}">{name} {at:+.2f} km/h</text>'


def _listed(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows) + "</table>"
