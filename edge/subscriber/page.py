"""What was sent today: a page for each pole that residents can open. Static, one file, nothing loaded.

It shows every message of the day as it was sent, no more: what a resident sees here is all that the city got.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from edge.domain import Direction, SpeedHistogram
from edge.publish.payload import Flow, Mix
from edge.subscriber.store import Pole

BAR_PX, BARS_HIGH_PX, AXIS_PX = 18, 110, 22

_STYLE = """
:root { color-scheme: light; }
body { font: 17px/1.55 system-ui, "DejaVu Sans", sans-serif; color: #1b1f24; background: #fff; max-width: 46rem;
  margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
.note { color: #4a5159; font-size: .92rem; } a { color: #0b4fad; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #4a5159; font-size: .9rem; }
tbody tr + tr { border-top: 1px solid #d9dee3; } svg { max-width: 100%; height: auto; }
pre { background: #f4f6f8; padding: .8rem; overflow-x: auto; font-size: .8rem; }
@media (max-width: 32rem) { table, thead th { font-size: .73rem; } thead th { white-space: normal; }
  th, td { padding-right: .3rem; } }
@media print { body { font-size: 10.5pt; max-width: none; } details { display: none; } }
"""


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of the page in one language."""

    language: str
    other: str
    title: str
    sums: str
    nothing: str
    sent: str
    columns: tuple[str, ...]
    histogram: str
    kmh_axis: str
    day_message: str
    classes: dict[str, str]
    not_sent: str
    never: str
    last: str
    made: str


NL = _Words(
    language="nl",
    other="English",
    title="Wat mat deze paal op {day}?",
    sums="{vehicles} motorvoertuigen geteld in {windows} berichten, {measured} met een snelheid. {over} van de gemeten"
    " reden harder dan {limit} km/u.",
    nothing="Op deze dag is nog niets verzonden. In een rustige straat kan dat uren duren: de paal wacht tot {k}"
    " voertuigen zijn gemeten.",
    sent="Alles wat is verzonden",
    columns=("tijd", "geteld", "gemeten", "gemiddeld", "V85", "boven {limit}"),
    histogram="Hoeveel voertuigen hoe hard reden",
    kmh_axis="km/u",
    day_message="Dagbericht over {day}: {classes}.",
    classes={"car": "auto's", "truck": "vrachtwagens", "bus": "bussen", "motorcycle": "motoren en brommers",
             "bicycle": "fietsen"},
    not_sent="Wat niet is verzonden",
    never="Geen beeld, kenteken of gezicht, en geen tijd of snelheid van één voertuig: die worden niet verzonden en"
    " niet bewaard. Elk bericht gaat over {k} gemeten voertuigen of meer. V85: 85 van de 100 reden dit of"
    " langzamer; leeg bij minder dan 30 voertuigen.",
    last="Het laatste bericht, letterlijk",
    made="Gemaakt {now}. Paal {device}.",
)  # fmt: skip
EN = _Words(
    language="en",
    other="Nederlands",
    title="What did this pole measure on {day}?",
    sums="{vehicles} motor vehicles counted in {windows} messages, {measured} with a speed. {over} of the measured"
    " drove faster than {limit} km/h.",
    nothing="Nothing was sent on this day yet. On a quiet street this can take hours: the pole waits until {k} vehicles"
    " are measured.",
    sent="Everything that was sent",
    columns=("time", "counted", "measured", "mean", "V85", "over {limit}"),
    histogram="How many vehicles drove how fast",
    kmh_axis="km/h",
    day_message="Message about the day {day}: {classes}.",
    classes={"car": "cars", "truck": "lorries", "bus": "buses", "motorcycle": "motorcycles and mopeds",
             "bicycle": "bicycles"},
    not_sent="What was not sent",
    never="No picture, number plate or face, and no time or speed of a single vehicle: they are neither sent nor kept."
    " Every message is about {k} measured vehicles or more. V85: 85 of 100 drove this or slower; empty below 30"
    " vehicles.",
    last="The latest message, word for word",
    made="Made {now}. Pole {device}.",
)  # fmt: skip
WORDS = {"nl": NL, "en": EN}


def page_html(
    pole: Pole,
    day: date,
    flows: Sequence[Flow],
    mixes: Sequence[Mix],
    *,
    zone: ZoneInfo,
    now: datetime,
    language: str,
    other_page: str,
) -> str:
    """The whole page.

    Args:
        pole: Whose.
        day: Traffic day.
        flows: Its windows of that day.
        mixes: Its day mixes of that day.
        zone: Time zone of the street.
        now: Instant of making, aware.
        language: ``nl`` or ``en``.
        other_page: File name of the page in the other language.
    """
    words = WORDS[language]
    when = f"{day.day}-{day.month}-{day.year}" if language == "nl" else f"{day:%Y-%m-%d}"
    promised = [each.privacy.k for each in flows] or [pole.meta.privacy.k if pole.meta else 10]
    title = words.title.format(day=when)
    site = pole.meta.site if pole.meta else None
    parts = [
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{html.escape(f'{pole.site}: {title}')}</title><style>{_STYLE}</style></head><body><main>",
        f'<p class="note">{html.escape(pole.site)} · <a lang="{"en" if language == "nl" else "nl"}"'
        f' href="{html.escape(other_page)}">{words.other}</a></p>',
        f"<h1>{html.escape(title)}</h1>",
        _sums(flows, words, min(promised)),
    ]
    if flows:
        parts += [f"<h2>{words.histogram}</h2>", _bars(flows, words), f"<h2>{words.sent}</h2>"]
        for direction in Direction:
            meaning = (site.forward if direction is Direction.FORWARD else site.backward) if site else direction.value
            parts.append(_table(meaning, [each for each in flows if each.direction is direction], words, zone))
    parts += [f"<p>{_mix_sentence(mix, words, when)}</p>" for mix in mixes]
    parts += [f"<h2>{words.not_sent}</h2><p>{words.never.format(k=min(promised))}</p>"]
    if flows:
        latest = json.dumps(json.loads(flows[-1].encode()), indent=1, ensure_ascii=False)
        parts.append(f"<details><summary>{words.last}</summary><pre>{html.escape(latest)}</pre></details>")
    made = words.made.format(now=f"{now.astimezone(zone):%Y-%m-%d %H:%M}", device=pole.device)
    parts += [f'<p class="note">{html.escape(made)}</p></main></body></html>']
    return "\n".join(parts)


def _sums(flows: Sequence[Flow], words: _Words, k: int) -> str:
    if not flows:
        return f"<p>{words.nothing.format(k=k)}</p>"
    figures = {
        "vehicles": sum(each.count for each in flows),
        "windows": len(flows),
        "measured": sum(each.speed.n for each in flows),
        "over": sum(each.limit.over for each in flows),
        "limit": flows[-1].limit.kmh,
    }
    return f"<p>{words.sums.format(**figures)}</p>"


def _table(meaning: str, flows: Sequence[Flow], words: _Words, zone: ZoneInfo) -> str:
    if not flows:
        return ""
    heads = "".join(f'<th scope="col">{name.format(limit=flows[-1].limit.kmh)}</th>' for name in words.columns)
    rows = []
    for each in flows:
        start, end = (instant.astimezone(zone) for instant in (each.window.start, each.window.end))
        cells = (each.count, each.speed.n, _told(each.speed.mean, words), _told(each.speed.v85, words), each.limit.over)
        rows.append(
            f'<tr><th scope="row">{start:%H:%M} – {end:%H:%M}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    return (
        f'<h3>{html.escape(meaning)}</h3><div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _told(speed_kmh: float | None, words: _Words) -> str:
    if speed_kmh is None:
        return "–"
    text = f"{speed_kmh:.1f}"
    return text.replace(".", ",") if words.language == "nl" else text


def _bars(flows: Sequence[Flow], words: _Words) -> str:
    """Both directions together; windows with other bins (a changed limit) are left out of the picture."""
    histogram = flows[-1].speed.hist.read()
    total = SpeedHistogram.empty(histogram.binning)
    for each in flows:
        read = each.speed.hist.read()
        if read.binning == histogram.binning:
            total = total + read
    binning, counts = total.binning, total.counts
    most, limit = max(1, *counts), flows[-1].limit.kmh
    width, height = BAR_PX * binning.bins, BARS_HIGH_PX + AXIS_PX
    told = [f"{binning.from_kmh + i * binning.width_kmh}+: {count}" for i, count in enumerate(counts) if count]
    described = f"{words.histogram}: {', '.join(told)}"
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(described)}" font-size="12">']
    for index, count in enumerate(counts):
        high = BARS_HIGH_PX * count / most
        colour = "#b3400f" if binning.from_kmh + index * binning.width_kmh >= limit else "#2f6690"
        parts.append(
            f'<rect x="{index * BAR_PX + 1}" y="{BARS_HIGH_PX - high:.1f}" width="{BAR_PX - 2}" height="{high:.1f}"'
            f' fill="{colour}"/>'
        )
    for speed in range(binning.from_kmh, binning.to_kmh, 10):
        x = (speed - binning.from_kmh) / binning.width_kmh * BAR_PX
        parts.append(f'<text x="{x:.0f}" y="{height - 5}" fill="#1b1f24">{speed}</text>')
    parts.append(f'<text x="{width}" y="{height - 5}" text-anchor="end" fill="#1b1f24">{words.kmh_axis}</text></svg>')
    return "".join(parts)


def _mix_sentence(mix: Mix, words: _Words, day: str) -> str:
    named = mix.classes.model_dump()
    told = ", ".join(f"{count} {words.classes[name]}" for name, count in named.items() if count)
    return html.escape(words.day_message.format(day=day, classes=told))
