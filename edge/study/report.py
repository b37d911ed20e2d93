"""The report: one HTML file in Dutch and English, for the screen, the printer and the ear. Nothing is loaded.

First the answer and how sure it is, in words for residents; then pictures; then tables, method and limits for
engineers. The two languages are switched without a script: two radio buttons and a style sheet. Print shows the chosen
one.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime

from edge.study.beforeafter import V85, Study
from edge.study.effect import FIGURES, PERMUTATIONS, REPLICATES
from edge.study.pictures import Heat, coverage_svg, daily_svg, day_told, distribution_svg, heat_svg, number
from edge.study.words import LANGUAGES, Words

# What makes an answer doubtful; other warnings are for the reader to weigh.
DOUBTS = {"baseline_high", "drifted", "days_remember", "chance", "provenance_changed", "not_known"}

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 17px/1.55 system-ui, "DejaVu Sans", sans-serif; color: #1b1f24; background: #fff; margin: 0; }
.page { max-width: 56rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .6rem 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .5rem; }
.where { color: #4a5159; margin: 0; }
.answer { border-left: .5rem solid #4a5159; background: #f4f6f8; padding: .9rem 1.1rem; margin: 1.2rem 0; }
.answer p { margin: .3rem 0; } .answer p:first-child { font-size: 1.22rem; font-weight: 650; line-height: 1.4; }
.slower { border-color: #1a7f37; background: #eaf6ec; } .faster { border-color: #b42318; background: #fdeceb; }
.know { border-left: .5rem solid #9a6700; background: #fdf5e4; padding: .5rem 1.1rem; }
.know h2 { margin-top: .4rem; } figure { margin: .4rem 0; } figcaption, .note { color: #4a5159; font-size: .92rem; }
svg { width: 100%; height: auto; display: block; } svg text { font-family: system-ui, "DejaVu Sans", sans-serif; }
.scroll { overflow-x: auto; } figure svg { max-width: 46rem; } figure svg.wide { min-width: 40rem; max-width: none; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .35rem .7rem .35rem 0; text-align: left; vertical-align: top; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } th.n { white-space: normal; }
tbody th { font-weight: 600; min-width: 9rem; }
thead th { border-bottom: 2px solid #4a5159; } tbody tr + tr { border-top: 1px solid #d9dee3; }
.switch { display: flex; gap: 1.2rem; max-width: 56rem; margin: 0 auto; padding: .8rem 1rem 0; }
input[name="language"] { position: absolute; opacity: 0; }
.switch label { padding: .25rem .8rem; border: 2px solid #4a5159; border-radius: 1rem; cursor: pointer; }
main { display: none; }
#nl:checked ~ main[lang="nl"], #en:checked ~ main[lang="en"] { display: block; }
#nl:checked ~ .switch label[for="nl"], #en:checked ~ .switch label[for="en"] { background: #1b1f24; color: #fff; }
input:focus-visible ~ .switch label { outline: 3px solid #0b57d0; outline-offset: 2px; }
section { break-inside: avoid; }
@media print { .switch { display: none; } body { font-size: 10.5pt; } .page { max-width: none; padding: 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } figure svg.wide { min-width: 0; } }
@page { size: A4; margin: 14mm; }
"""


def report_html(study: Study, *, heat: Heat | None, now: datetime, first_language: str = "nl", name: str = "") -> str:
    """The whole page.

    Args:
        study: The answered question.
        heat: V85 by day and hour; None: no such picture.
        now: Instant of making, aware.
        first_language: The language that shows first: ``nl`` or ``en``.
        name: Of the street, for people; empty: that of the pole.
    """
    shown = sorted(LANGUAGES.values(), key=lambda words: words.language != first_language)
    title = f"{name or study.question.pole}: {shown[0].headings['title']}"
    inputs = "".join(
        f'<input type="radio" name="language" id="{words.language}"'
        f' aria-label="{words.name}"{" checked" if words is shown[0] else ""}>'
        for words in shown
    )
    labels = "".join(f'<label for="{words.language}" lang="{words.language}">{words.name}</label>' for words in shown)
    return "\n".join(
        [
            f'<!doctype html><html lang="{first_language}"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
            f'{inputs}<div class="switch">{labels}</div>',
            *(_in_language(study, heat, now, name, words) for words in shown),
            "</body></html>",
        ]
    )


def _in_language(study: Study, heat: Heat | None, now: datetime, name: str, words: Words) -> str:
    question = study.question
    periods = f"{_period(question.before, words)} → {_period(question.after, words)}"
    captions = {key: _filled(text, study, words, heat) for key, text in words.captions.items()}
    figures = [
        ("distribution", distribution_svg(study, words)),
        ("daily", daily_svg(study, words)),
        ("heat", heat_svg(heat, words) if heat is not None else ""),
        ("coverage", coverage_svg(study, words)),
    ]
    pictures = [
        _section(
            words.headings[key],
            f'<figure><div class="scroll">{svg}</div><figcaption>{html.escape(captions[key])}</figcaption></figure>',
        )
        for key, svg in figures
        if svg
    ]
    return "\n".join(
        [
            f'<main lang="{words.language}" class="page"><h1>{html.escape(words.headings["title"])}</h1>',
            f'<p class="where">{html.escape(name or question.pole)} · {html.escape(periods)}</p>',
            _answer(study, words),
            _know(study, words),
            *pictures,
            _section(words.headings["table"], _figures_table(study, words)),
            _section(words.headings["variants"], _variants_table(study, words)),
            _section(words.headings["method"], *_paragraphs(words.method, study, words)),
            _section(words.headings["limits"], _listed(words.limits)),
            _section(words.headings["data"], _data(study, words)),
            f'<p class="note">{now:%Y-%m-%d %H:%M} UTC · Snellius</p></main>',
        ]
    )


# ----------------------------------------------------------------------------------------------------- for residents


def verdict(study: Study) -> str:
    """``slower``, ``faster`` or ``unclear``, by V85: its interval, and the check by dealing out the days."""
    effect = study.effect
    if not effect.is_found[V85] or effect.p[V85] > 0.05:
        return "unclear"
    return "slower" if effect.estimate[V85] < 0 else "faster"


def _answer(study: Study, words: Words) -> str:
    effect, found = study.effect, verdict(study)
    over = FIGURES.index("share_over")
    values = {
        "size": number(abs(effect.estimate[V85]), words),
        "estimate": number(effect.estimate[V85], words, signed=True),
        "low": number(effect.low[V85], words, signed=True),
        "high": number(effect.high[V85], words, signed=True),
        "limit": f"{study.comparison.limits_kmh[0]} {words.kmh}",
        "before": number(100 * effect.before[over], words, 0),
        "after": number(100 * effect.after[over], words, 0),
    }
    values["over"] = words.certainty["over"].format(**values)
    doubts = found != "unclear" and any(key in DOUBTS for key, _ in study.warnings)
    return "".join(
        [
            f'<div class="answer {found}"><p>{html.escape(words.answers[found].format(**values))}</p>',
            f"<p>{html.escape(words.certainty[found].format(**values))}</p>",
            f"<p>{html.escape(words.certainty['doubt'])}</p>" if doubts else "",
            "</div>",
        ]
    )


def _know(study: Study, words: Words) -> str:
    if not study.warnings:
        return ""
    told = [words.warnings[key].format(detail) for key, detail in study.warnings]
    return f'<section class="know"><h2>{html.escape(words.headings["know"])}</h2>{_listed(told)}</section>'


# ----------------------------------------------------------------------------------------------------- for engineers


def _figures_table(study: Study, words: Words) -> str:
    effect, alone, table = study.effect, study.alone, words.table
    limit_kmh = study.comparison.limits_kmh[0]
    with_comparison = bool(study.question.comparison)
    heads = [table["figure"], table["before"], table["after"], table["change"], table["interval"], table["p"]]
    heads += [table["alone"]] if with_comparison else []
    rows = []
    for index, key in enumerate(FIGURES):
        share = key.startswith("share")
        scale, digits = (100.0, 1) if share else (1.0, 0 if key == "volume" else 1)

        def told(value: float, scale: float = scale, digits: int = digits, *, signed: bool = False) -> str:
            return number(scale * value, words, digits, signed=signed)

        row = [
            f"{words.figures[key].format(limit=limit_kmh, limit10=limit_kmh + 10)} ({words.units[key]})",
            told(effect.before[index]),
            told(effect.after[index]),
            told(effect.estimate[index], signed=True),
            f"{told(effect.low[index], signed=True)} … {told(effect.high[index], signed=True)}",
            number(effect.p[index], words, 3),
        ]
        row += [told(alone.estimate[index], signed=True)] if with_comparison else []
        rows.append(row)
    return _table(heads, rows)


def _variants_table(study: Study, words: Words) -> str:
    table = words.table
    rows = []
    for each in study.variants:
        told = table["none"]
        if each.effect is not None:
            three = (each.effect.estimate, each.effect.low, each.effect.high)
            ends = [number(end[V85], words, signed=True) for end in three]
            told = f"{ends[0]} ({ends[1]} … {ends[2]})"
        rows.append([words.variants[each.key].format(each.detail), f"{each.days[0]} + {each.days[1]}", told])
    return _table([table["variant"], table["days"], table["v85"]], rows)


def _data(study: Study, words: Words) -> str:
    table = words.table
    before, after = (int(side.sum()) for side in (~study.is_after, study.is_after))
    rows = [
        [table["periods"], f"{_period(study.question.before, words)}; {_period(study.question.after, words)}"],
        [table["usable"], f"{before} + {after}"],
        [table["vehicles"], " + ".join(f"{n}" for n in study.vehicles)],
        [table["history"], f"{study.history_days}"],
    ]
    for pole, (first, second) in study.calibrations.items():
        told = ", ".join(sorted(first))
        told += f" ({table['same']})" if first == second else f" → {', '.join(sorted(second))}"
        rows.append([f"{table['calibrations']}, {pole}", told])
    rows += [[f"{table['provenance']}, {pole}", "; ".join(sorted(names))] for pole, names in study.provenances.items()]
    counted = sorted(Counter(study.left_out.values()).items())
    reasons = [[_reason(reason, words), str(count)] for reason, count in counted]
    parts = [_table(None, rows, numbers=False)]
    if reasons:
        parts.append(_table([f"{table['left_out']}: {table['reason']}", table["count"]], reasons))
    return "".join(parts)


def _reason(reason: str, words: Words) -> str:
    """A reason in the reader's language; names of holidays and conditions stay as they are."""
    for english, told in words.reasons.items():
        if reason.startswith(english):
            return told + reason.removeprefix(english)
    return reason


def _paragraphs(texts: Iterable[str], study: Study, words: Words) -> list[str]:
    values = {
        "replicates": REPLICATES,
        "permutations": PERMUTATIONS,
        "freedom": number(float(study.effect.freedom[V85]), words, 0),
        "calibration": number(float(study.u_calibration[V85]), words, 2),
    }
    return [f"<p>{html.escape(text.format(**values))}</p>" for text in texts]


# ------------------------------------------------------------------------------------------------------------ pieces


def _filled(text: str, study: Study, words: Words, heat: Heat | None) -> str:
    return text.format(
        before=_period(study.question.before, words),
        after=_period(study.question.after, words),
        limit=study.comparison.limits_kmh[0],
        hours=heat.block_h if heat is not None else 1,
        least=f"{100 * study.question.least_coverage:.0f} %",
    )


def _period(period: tuple[date, date], words: Words) -> str:
    first, last = period
    return f"{day_told(first, words)} – {day_told(last, words)}"


def _section(heading: str, *parts: str) -> str:
    return f"<section><h2>{html.escape(heading)}</h2>{''.join(parts)}</section>"


def _listed(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _table(heads: Sequence[str] | None, rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    style = ' class="n"' if numbers else ""
    head = ""
    if heads is not None:
        first, *others = (html.escape(text) for text in heads)
        cells = "".join(f'<th scope="col"{style}>{text}</th>' for text in others)
        head = f'<thead><tr><th scope="col">{first}</th>{cells}</tr></thead>'
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td{style}>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
