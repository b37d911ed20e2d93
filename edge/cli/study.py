"""``snellius study``: did the measure work, and how long must be measured to tell."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.subscribe import AsJson, StoreUrl, Zone, read_text, told_way, told_zone
from edge.errors import BadInput

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from edge.publish.payload import Flow
    from edge.study import Question, Study
    from edge.study.pictures import Heat

app = typer.Typer(help="Before and after a change of a street: how much, and how sure.", no_args_is_help=True)

HISTORY_DAYS = 365  # of the pole before the period before, against regression to the mean
WEATHER_CONDITIONS = ("rain_mm>10",)

PoleName = Annotated[
    str, typer.Option("--pole", help="The street with the measure: a device or site.", show_default=False)
]
Comparison = Annotated[
    list[str] | None, typer.Option("--comparison", help="A street without the measure; repeat it.", show_default=False)
]
Holidays = Annotated[str, typer.Option(help="Country whose public holidays are left out, or none.")]
School = Annotated[
    Path | None, typer.Option(help="School holidays to leave out: CSV with from,to[,name].", show_default=False)
]
Weather = Annotated[
    Path | None, typer.Option(help="Weather by day: CSV with day and quantities (rain_mm, …).", show_default=False)
]
LeaveOut = Annotated[
    list[str] | None,
    typer.Option(
        "--leave-out", help="Days to leave out by --weather, like 'rain_mm>10'; repeat it.", show_default=False
    ),
]
WayOption = Annotated[str | None, typer.Option("--direction", help="forward or backward; left out: both.")]
LeastCoverage = Annotated[float, typer.Option(min=0.1, max=1, help="Days that were watched less are left out.")]


@app.command(name="run")
def run(
    store: StoreUrl,
    pole: PoleName,
    before: Annotated[str, typer.Option(help="Traffic days before, like 2026-03-02..2026-03-29.", show_default=False)],
    after: Annotated[str, typer.Option(help="Traffic days after.", show_default=False)],
    comparison: Comparison = None,
    report: Annotated[Path | None, typer.Option(help="Write the report, one HTML file.", show_default=False)] = None,
    name: Annotated[str, typer.Option(help="Name of the street in the report.")] = "",
    language: Annotated[str, typer.Option(help="Language that the report shows first: nl or en.")] = "nl",
    direction: WayOption = None,
    hours: Annotated[str | None, typer.Option(help="Only these local hours, like 7-19.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(help="Count against this limit.  [km/h]", show_default=False)] = None,
    least_coverage: LeastCoverage = 0.7,
    holidays: Holidays = "NL",
    school: School = None,
    weather: Weather = None,
    leave_out: LeaveOut = None,
    u_calibration: Annotated[
        float | None,
        typer.Option(
            min=0, max=20, help="One-sigma uncertainty of a calibration that told none.  [%]", show_default=False
        ),
    ] = None,
    timezone_name: Zone = "Europe/Amsterdam",
    as_json: AsJson = False,
) -> None:
    """Compare a street before and after a measure, with 95 % intervals and a report for residents and engineers.

    Exit code 0: answered, also when nothing was found. 1: the data cannot answer it. 2: wrong use.

    Example: snellius study run --store city.sqlite --pole hvs-0042 --before 2026-03-02..2026-03-29
    --after 2026-04-27..2026-05-24 --comparison hvs-0043 --report report.html
    """
    from edge.cli.files import written_whole
    from edge.study import Question, study
    from edge.study.report import report_html
    from edge.subscriber import Store

    if language not in ("nl", "en"):
        raise BadInput(f"--language: expected nl or en, got '{language}'")
    zone = told_zone(timezone_name)
    periods = _period("--before", before), _period("--after", after)
    first_day = periods[0][0] - timedelta(days=HISTORY_DAYS)
    question = Question(
        pole=pole,
        comparison=tuple(comparison or ()),
        before=periods[0],
        after=periods[1],
        direction=told_way(direction),
        hours=_hours(hours),
        least_coverage=least_coverage,
        exclusions=_exclusions(first_day, periods[1][1], holidays, school, weather, leave_out),
        limit_kmh=limit,
        u_calibration=None if u_calibration is None else u_calibration / 100,
        zone=zone,
    )
    windows: dict[str, list[Flow]] = {}
    with Store(store) as opened:
        for each in (pole, *question.comparison):
            windows[each] = list(opened.flows(each, first_day, periods[1][1]))
        told = opened.calibrations()
    devices = {each: {flow.device for flow in flows} for each, flows in windows.items()}
    result = study(
        question,
        windows,
        {each: {name: u_rel for (device, name), u_rel in told.items() if device in devices[each]} for each in windows},
    )
    if report is not None:
        heat = _heat(question, windows[pole], zone)
        page = report_html(result, heat=heat, now=datetime.now(timezone.utc), first_language=language, name=name)
        with written_whole(report) as file:
            file.write_text(page, encoding="utf-8")
    typer.echo(json.dumps(result.summary(), indent=2, allow_nan=False) if as_json else in_words(result))


@app.command(name="plan")
def plan(
    store: StoreUrl,
    pole: PoleName,
    comparison: Comparison = None,
    history: Annotated[
        str | None, typer.Option(help="Traffic days to learn from; left out: all.", show_default=False)
    ] = None,
    direction: WayOption = None,
    least_coverage: LeastCoverage = 0.7,
    holidays: Holidays = "NL",
    school: School = None,
    weather: Weather = None,
    leave_out: LeaveOut = None,
    timezone_name: Zone = "Europe/Amsterdam",
    as_json: AsJson = False,
) -> None:
    """Say how many days before and after it takes to see which change, from the pole's own history.

    Example: snellius study plan --store city.sqlite --pole hvs-0042 --comparison hvs-0043
    """
    from edge.study import days_of
    from edge.study.plan import plan_of
    from edge.subscriber import Store

    zone = told_zone(timezone_name)
    period = (None, None) if history is None else _period("--history", history)
    names = (pole, *(comparison or ()))
    with Store(store) as opened:
        windows = {each: list(opened.flows(each, *period)) for each in names}
    streets = [
        days_of(
            each, windows[each], zone=zone, least_coverage=least_coverage,
            direction=told_way(direction) if each == pole else None,
        )
        for each in names
    ]  # fmt: skip
    days = [flow.window.day for flows in windows.values() for flow in flows]
    found = plan_of(streets, _exclusions(min(days), max(days), holidays, school, weather, leave_out))
    if as_json:
        typer.echo(json.dumps(found.summary(), indent=2, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    typer.echo(
        f"Learned from {found.days} days of {pole}"
        + (f" and {', '.join(names[1:])}" if len(names) > 1 else " (a comparison street makes changes easier to see)")
        + ". A change of this size is found in 80 of 100 studies:"
    )
    heads = ("mean, km/h", "V50, km/h", "V85, km/h", "share over, points", "volume, %")
    table = Table("days before = days after", *heads, box=None)
    for row in found.rows:
        cells = [f"{row.mean:.1f}", f"{row.v50:.1f}", f"{row.v85:.1f}", f"{100 * row.share_over:.1f}"]
        table.add_row(str(row.days), *cells, f"{100 * row.volume:.0f}")
    Console().print(table)


def in_words(result: Study) -> str:
    """The answer for a terminal."""
    from edge.study.report import verdict
    from edge.study.words import ENGLISH

    effect, limit_kmh = result.effect, result.comparison.limits_kmh[0]
    told = {"slower": "slower", "faster": "faster", "unclear": "not clear from these data"}[verdict(result)]
    lines = [f"{told}; {len(result.days)} days, {sum(result.vehicles)} vehicles measured"]
    for index, (key, name) in enumerate(ENGLISH.figures.items()):
        scale, digits = (100, 1) if key.startswith("share") else (1, 0 if key == "volume" else 1)
        change, low, high = (scale * end[index] for end in (effect.estimate, effect.low, effect.high))
        sides = [f"{scale * side[index]:8.{digits}f}" for side in (effect.before, effect.after)]
        interval = f"{change:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f}) {ENGLISH.units[key]}"
        lines.append(f"  {name.format(limit=limit_kmh, limit10=limit_kmh + 10):42} {' → '.join(sides)}   {interval}")
    lines += [f"  - {ENGLISH.warnings[key].format(detail)}" for key, detail in result.warnings]
    return "\n".join(lines)


def _heat(question: Question, flows: list[Flow], zone: ZoneInfo) -> Heat:
    """V85 by day and hour of both periods, in the longer of their blocks."""
    from edge.study.pictures import Heat
    from edge.subscriber import weekday_hours

    exclusions = question.exclusions or {}
    weeks = []
    for first, last in (question.before, question.after):
        chosen = [each for each in flows if first <= each.window.day <= last and each.window.day not in exclusions]
        weeks.append((chosen, weekday_hours(chosen, zone, question.direction)))
    block_h = max(week.block_h for _, week in weeks)
    weeks = [(chosen, weekday_hours(chosen, zone, question.direction, block_h=block_h)) for chosen, _ in weeks]
    before, after = (
        {(block.weekday, block.hour): block.total.histogram.quantile_kmh(0.85) for block in week.blocks}
        for _, week in weeks
    )
    return Heat(block_h, before, after)


def _exclusions(
    first: date, last: date, country: str, school: Path | None, weather: Path | None, conditions: list[str] | None
) -> dict[date, str]:
    from edge.study import bad_weather, public_holidays, school_holidays

    if conditions and weather is None:
        raise BadInput("--leave-out: expected --weather beside it")
    left_out: dict[date, str] = {}
    if weather is not None:
        left_out |= bad_weather(read_text(weather), str(weather), conditions or WEATHER_CONDITIONS)
    if school is not None:
        left_out |= school_holidays(read_text(school), str(school))
    if country.lower() != "none":
        left_out |= public_holidays(first, last, country)
    return left_out


def _period(option: str, text: str) -> tuple[date, date]:
    try:
        first, last = (date.fromisoformat(part) for part in text.split(".."))
    except ValueError:
        raise BadInput(f"{option}: expected two days like 2026-03-02..2026-03-29, got '{text}'") from None
    return first, last


def _hours(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 0 <= int(first) < int(last) <= 24):
        raise BadInput(f"--hours: expected two hours of a day like 7-19, got '{text}'")
    return int(first), int(last)
