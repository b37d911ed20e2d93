"""The pictures of the report as SVG: drawn to be printed and read aloud.

Before and after differ in shape and dash as well as in colour; every picture carries a sentence for those who cannot
see it. Colours keep a contrast of 4.5 to 1 or more on white wherever they carry text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from edge.domain import Floats
from edge.study.beforeafter import V85, Study
from edge.study.figures import speed_quantiles
from edge.study.words import Words

WIDTH_PX, LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 640, 60, 12, 16, 50
BEFORE, AFTER, INK, FAINT, GREY = "#1f5f99", "#b3400f", "#1b1f24", "#e3e6ea", "#5b636c"
HEAT_WIDTH_PX = 860  # of a picture with many columns: a phone scrolls it
HEAT = ("#eef4fa", "#cfe1f1", "#9dc3e3", "#5f9bcb", "#2c6ea8", "#134a7c")  # light to dark; text turns white when dark
DARK = 4  # from this shade on, text is white
LEAST_N = 30


@dataclass(frozen=True, slots=True)
class Heat:
    """V85 by day of the week and time of day.

    Attributes:
        block_h: Length of a block. [h]
        before: V85 by weekday and first hour; None: too few vehicles. [km/h]
        after: The same after.
    """

    block_h: int
    before: Mapping[tuple[int, int], float | None]
    after: Mapping[tuple[int, int], float | None]


def number(value: float, words: Words, digits: int = 1, *, signed: bool = False) -> str:
    """A number as people of that language write it, with a real minus."""
    if not math.isfinite(value):
        return "?"
    text = f"{abs(value):.{digits}f}".replace(".", words.decimal)
    sign = "−" if value < 0 and float(f"{abs(value):.{digits}f}") else "+" if signed else ""
    return f"{sign}{text}"


def day_told(day: date, words: Words) -> str:
    """A date as people of that language write it."""
    return f"{day.day} {words.months[day.month - 1]} {day.year}"


# ------------------------------------------------------------------------------------------------------ distribution


def distribution_svg(study: Study, words: Words) -> str:
    """Share of vehicles by speed: before as a dashed outline, after as bars."""
    binning = study.comparison.binnings[0]
    shares = []
    for weights in study.comparison.weights():
        pooled = weights @ study.comparison.histograms[0]
        shares.append(100 * pooled[1:-1] / pooled.sum())
    before, after = shares
    high = 5 * math.ceil(max(before.max(), after.max()) / 5 + 1e-9)
    frame = _Frame(binning.from_kmh, binning.to_kmh, 0, high, 300)
    limit_kmh = study.comparison.limits_kmh[0]
    sentence = (
        f"{words.headings['distribution']}. {words.axes['limit']} {limit_kmh} {words.kmh}."
        f" V85 {words.axes['before']} {number(study.effect.before[V85], words)},"
        f" {words.axes['after']} {number(study.effect.after[V85], words)} {words.kmh}."
    )
    parts = [frame.begin(sentence)]
    parts += frame.grid_across(range(binning.from_kmh, binning.to_kmh + 1, 10), words.axes["speed"])
    parts += frame.grid_down(_steps(0, high), words.axes["share"])
    steps = [binning.from_kmh + index * binning.width_kmh for index in range(binning.bins)]
    for start, share in zip(steps, after):
        x, y = frame.x(start), frame.y(share)
        wide = frame.x(start + binning.width_kmh) - x
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{wide - 2:.1f}" height="{frame.y(0) - y:.1f}" fill="{AFTER}"'
            ' fill-opacity=".55"/>'
        )
    points = " ".join(
        f"{frame.x(speed):.1f},{frame.y(share):.1f}"
        for start, share in zip(steps, before)
        for speed in (start, start + binning.width_kmh)
    )
    parts.append(
        f'<polyline points="{points}" fill="none" stroke="{BEFORE}" stroke-width="2.5" stroke-dasharray="7 4"/>'
    )
    parts.append(frame.upright(limit_kmh, f"{words.axes['limit']} {limit_kmh}"))
    parts += _legend(frame, words, bars=True)
    return "".join([*parts, "</svg>"])


# ------------------------------------------------------------------------------------------------------- day by day


def daily_svg(study: Study, words: Words) -> str:
    """V85 of every day with its sampling interval; the lines are the V85 of the periods."""
    days = study.days
    values, low, high = v85_by_day(study)
    first, last = study.question.before[0], study.question.after[1]
    bottom = 2 * math.floor((float(np.nanmin(low)) - 0.5) / 2)
    frame = _Frame(0, (last - first).days, bottom, 2 * math.ceil((float(np.nanmax(high)) + 0.5) / 2), 320)
    sentence = (
        f"{words.headings['daily']}. {words.axes['before']}: {number(study.effect.before[V85], words)},"
        f" {words.axes['after']}: {number(study.effect.after[V85], words)} {words.kmh}."
    )
    parts = [frame.begin(sentence)]
    parts += frame.grid_down(_steps(bottom, frame.high), words.axes["v85"])
    parts += _dates(frame, first, last, words)
    for day, value, lower, upper, after in zip(days, values, low, high, study.is_after):
        x, colour = frame.x((day - first).days), AFTER if after else BEFORE
        if math.isnan(value):
            continue
        if math.isfinite(lower) and math.isfinite(upper):
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.y(lower):.1f}" y2="{frame.y(upper):.1f}" stroke="{colour}"'
                ' stroke-opacity=".6"/>'
            )
        parts.append(_mark(x, frame.y(value), is_after=bool(after)))
    for day in study.left_out:
        x = frame.x((day - first).days)
        parts.append(f'<circle cx="{x:.1f}" cy="{frame.y(bottom) - 6:.1f}" r="3.5" fill="none" stroke="{GREY}"/>')
    for (start, end), value, colour in zip(
        (study.question.before, study.question.after),
        (study.effect.before[V85], study.effect.after[V85]),
        (BEFORE, AFTER),
    ):
        if math.isfinite(value):
            y = frame.y(value)
            dash = ' stroke-dasharray="7 4"' if colour == BEFORE else ""
            parts.append(
                f'<line x1="{frame.x((start - first).days):.1f}" x2="{frame.x((end - first).days):.1f}" y1="{y:.1f}"'
                f' y2="{y:.1f}" stroke="{colour}" stroke-width="2"{dash}/>'
            )
    parts += _legend(frame, words, bars=False)
    return "".join([*parts, "</svg>"])


def v85_by_day(study: Study) -> tuple[Floats, Floats, Floats]:
    """V85 of each day of the street and its 95 % interval from sampling (order statistics), each of shape (days,)."""
    street = study.streets[0]
    rows = street.rows_of(study.days)
    histograms = street.histograms[rows]
    n = street.measured[rows]
    reach = 1.96 * np.sqrt(0.85 * 0.15 / np.maximum(n, 1))
    values = speed_quantiles(histograms, street.binning, np.full(len(rows), 0.85))
    low = speed_quantiles(histograms, street.binning, 0.85 - reach)
    high = speed_quantiles(histograms, street.binning, np.minimum(0.85 + reach, 0.999))
    values[n < LEAST_N] = np.nan
    return values, low, high


def coverage_svg(study: Study, words: Words) -> str:
    """Watched share of every day of the two periods."""
    street = study.streets[0]
    first, last = study.question.before[0], study.question.after[1]
    frame = _Frame(0, (last - first).days + 1, 0, 100, 190)
    used = set(study.days)
    mean = float(street.coverage[street.rows_of(study.days)].mean())
    parts = [frame.begin(f"{words.headings['coverage']}: {number(100 * mean, words, 0)} %")]
    parts += frame.grid_down((0, 50, 100), f"{words.axes['coverage']}, %")
    parts += _dates(frame, first, last, words)
    for day, coverage in street.watched.items():
        if not (first <= day <= last):
            continue
        x = frame.x((day - first).days)
        wide = frame.x((day - first).days + 1) - x
        colour = GREY if day not in used else AFTER if day >= study.question.after[0] else BEFORE
        opacity = 0.3 if day not in used else 0.75
        y = frame.y(100 * coverage)
        parts.append(
            f'<rect x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(wide - 1, 0.5):.1f}" height="{frame.y(0) - y:.1f}"'
            f' fill="{colour}" fill-opacity="{opacity}"/>'
        )
    y = frame.y(100 * study.question.least_coverage)
    parts.append(
        f'<line x1="{LEFT_PX}" x2="{WIDTH_PX - RIGHT_PX}" y1="{y:.1f}" y2="{y:.1f}" stroke="{INK}"'
        ' stroke-dasharray="3 3"/>'
    )
    return "".join([*parts, "</svg>"])


# --------------------------------------------------------------------------------------------------------- heat map


def heat_svg(heat: Heat, words: Words) -> str:
    """Two tables of coloured cells, the number in each."""
    hours = [(4 + block * heat.block_h) % 24 for block in range(24 // heat.block_h)]
    known = [value for side in (heat.before, heat.after) for value in side.values() if value is not None]
    if not known:
        return ""
    lowest, span = min(known), max(max(known) - min(known), 1e-9)
    wide_px = HEAT_WIDTH_PX if len(hours) > 8 else WIDTH_PX
    cell, row = (wide_px - LEFT_PX - RIGHT_PX) / len(hours), 24
    one = 8 * row + 22
    sentence = f"{words.headings['heat']}: {number(min(known), words)} – {number(max(known), words)} {words.kmh}"
    parts = [
        f'<svg viewBox="0 0 {wide_px} {2 * one}" class="wide" role="img" aria-label="{html.escape(sentence)}"'
        ' font-size="13">'
    ]
    for side, (name, values) in enumerate((("before", heat.before), ("after", heat.after))):
        top = side * one
        parts.append(f'<text x="0" y="{top + 16}" font-weight="700">{words.axes[name]}</text>')
        for column, hour in enumerate(hours):
            x = LEFT_PX + column * cell
            if len(hours) <= 24:
                parts.append(f'<text x="{x + cell / 2:.1f}" y="{top + 16}" text-anchor="middle">{hour}</text>')
            for weekday in range(7):
                value = values.get((weekday, hour))
                parts.append(_cell(value, x, top + 22 + weekday * row, cell, row, (lowest, span), words))
        parts += [
            f'<text x="{LEFT_PX - 8}" y="{top + 22 + weekday * row + 16}" text-anchor="end">{told}</text>'
            for weekday, told in enumerate(words.weekdays)
        ]
    return "".join([*parts, "</svg>"])


def _cell(
    value: float | None, x: float, y: float, wide: float, high: float, scale: tuple[float, float], words: Words
) -> str:
    box = f'<rect x="{x + 1:.1f}" y="{y + 1}" width="{wide - 2:.1f}" height="{high - 2}"'
    if value is None:
        return f'{box} fill="none" stroke="{FAINT}"/>'
    lowest, span = scale
    shade = min(int((value - lowest) / span * len(HEAT)), len(HEAT) - 1)
    ink = "#ffffff" if shade >= DARK else INK
    told = number(value, words, 0)
    return (
        f'{box} fill="{HEAT[shade]}"/>'
        f'<text x="{x + wide / 2:.1f}" y="{y + 16}" text-anchor="middle" fill="{ink}">{told}</text>'
    )


# ------------------------------------------------------------------------------------------------------------ frame


class _Frame:
    """Where values lie in a picture."""

    def __init__(self, first: float, last: float, low: float, high: float, height_px: int) -> None:
        self.first, self.last, self.low, self.high = first, max(last, first + 1), low, high
        self._height_px = height_px

    def x(self, value: float) -> float:
        return LEFT_PX + (value - self.first) / (self.last - self.first) * (WIDTH_PX - LEFT_PX - RIGHT_PX)

    def y(self, value: float) -> float:
        room = self._height_px - TOP_PX - BOTTOM_PX
        return TOP_PX + (self.high - value) / (self.high - self.low) * room

    def begin(self, sentence: str) -> str:
        return (
            f'<svg viewBox="0 0 {WIDTH_PX} {self._height_px}" role="img" aria-label="{html.escape(sentence)}"'
            f' font-size="15" fill="{INK}">'
        )

    def grid_down(self, values: Sequence[float], title: str) -> Iterator[str]:
        for value in values:
            y = self.y(value)
            yield f'<line x1="{LEFT_PX}" x2="{WIDTH_PX - RIGHT_PX}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>'
            yield f'<text x="{LEFT_PX - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        place = f"translate(14 {(TOP_PX + self._height_px - BOTTOM_PX) / 2:.0f}) rotate(-90)"
        yield f'<text transform="{place}" text-anchor="middle">{html.escape(title)}</text>'

    def grid_across(self, values: Sequence[float], title: str) -> Iterator[str]:
        for value in values:
            x = self.x(value)
            yield f'<text x="{x:.1f}" y="{self._height_px - BOTTOM_PX + 20}" text-anchor="middle">{value:g}</text>'
        x = (LEFT_PX + WIDTH_PX - RIGHT_PX) / 2
        yield f'<text x="{x:.0f}" y="{self._height_px - 8}" text-anchor="middle">{html.escape(title)}</text>'

    def upright(self, value: float, told: str) -> str:
        x = self.x(value)
        return (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP_PX}" y2="{self.y(self.low):.1f}" stroke="{INK}"'
            f' stroke-dasharray="3 3"/><text x="{x + 5:.1f}" y="{TOP_PX + 12}">{html.escape(told)}</text>'
        )


def _dates(frame: _Frame, first: date, last: date, words: Words) -> Iterator[str]:
    """Mondays, as many as have room."""
    days = (last - first).days + 1
    every = 7 * max(1, math.ceil(days / 7 / 6))
    offset = -first.weekday() % 7
    bottom = frame.y(frame.low)
    for ahead in range(offset, days, every):
        day = first + timedelta(days=ahead)
        x = frame.x(ahead)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{bottom + 5:.1f}" stroke="{GREY}"/>'
        yield (
            f'<text x="{x:.1f}" y="{bottom + 21:.1f}" text-anchor="middle">{day.day}'
            f" {words.months[day.month - 1][:3]}</text>"
        )


def _legend(frame: _Frame, words: Words, *, bars: bool) -> Iterator[str]:
    x, y = WIDTH_PX - RIGHT_PX - 196, TOP_PX + 4
    yield (
        f'<rect x="{x - 10}" y="{y - 8}" width="204" height="26" fill="#ffffff" fill-opacity=".85"/>'
        f'<line x1="{x}" x2="{x + 26}" y1="{y + 4}" y2="{y + 4}" stroke="{BEFORE}" stroke-width="2.5"'
        f' stroke-dasharray="7 4"/>'
    )
    yield f'<text x="{x + 32}" y="{y + 9}">{words.axes["before"]}</text>'
    if bars:
        yield f'<rect x="{x + 104}" y="{y - 3}" width="22" height="14" fill="{AFTER}" fill-opacity=".55"/>'
    else:
        yield _mark(x + 13, y + 4, is_after=False)
        yield f'<line x1="{x + 102}" x2="{x + 128}" y1="{y + 4}" y2="{y + 4}" stroke="{AFTER}" stroke-width="2"/>'
        yield _mark(x + 115, y + 4, is_after=True)
    yield f'<text x="{x + 134}" y="{y + 9}">{words.axes["after"]}</text>'


def _mark(x: float, y: float, *, is_after: bool) -> str:
    """A disc before, a square on its tip after."""
    if not is_after:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{BEFORE}"/>'
    return f'<path d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z" fill="{AFTER}"/>'


def _steps(low: float, high: float) -> list[float]:
    every = next(size for size in (1, 2, 5, 10, 20, 50) if (high - low) / size <= 8)
    first = math.ceil(low / every) * every
    return [float(value) for value in range(first, int(high) + 1, every)]
