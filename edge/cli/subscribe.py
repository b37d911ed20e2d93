"""``snellius subscribe``: the platform side; keeps what poles publish and adds it up."""

from __future__ import annotations

import json
import multiprocessing
import threading
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import BadInput

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from edge.domain import Direction
    from edge.publish import Endpoint
    from edge.subscriber import Gap, Pole

app = typer.Typer(
    help="The platform side: keep what poles publish, find what is missing, add up, publish open data.",
    no_args_is_help=True,
)

StoreUrl = Annotated[
    str, typer.Option(help="Where to keep: a path (SQLite) or postgresql://[USER@]HOST/NAME.", show_default=False)
]
BrokerUrl = Annotated[str, typer.Option(help="mqtts://HOST[:PORT], or mqtt:// on this computer.", show_default=False)]
Username = Annotated[str, typer.Option(help="MQTT user name of the platform.")]
PasswordFile = Annotated[Path | None, typer.Option(help="File that holds its password.", show_default=False)]
CaFile = Annotated[Path | None, typer.Option(help="Certificates that vouch for the broker.", show_default=False)]
PoleName = Annotated[str | None, typer.Option("--pole", help="A device or site; left out: all.", show_default=False)]
Zone = Annotated[str, typer.Option("--timezone", help="Time zone of the streets.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutFolder = Annotated[Path, typer.Option(help="Folder to write into.", show_default=False)]

SHOWN_GAPS = 50
SILENT_MS = 3_600_000  # health comes every five minutes; an hour without it is an outage
NOT_IN_TABLES = ("windows", "limit_kmh", "share_over10", "flagged")  # --json has them
TABLE_WIDTH = 130  # a narrower terminal wraps lines rather than losing numbers


@dataclass(frozen=True)
class _Work:
    """What a worker needs to begin; travels to its process, so it names files and holds no secret."""

    store: str
    broker: str
    username: str
    password_file: Path | None
    ca_file: Path | None
    client_id: str
    group: str | None
    is_first: bool
    repair: bool


@app.command(name="run")
def run(
    broker: BrokerUrl,
    store: StoreUrl,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Processes that share the measurements.")] = 1,
    client_id: Annotated[str, typer.Option(help="Name of the session at the broker; keep it.")] = "snellius-platform",
    username: Username = "platform",
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    repair: Annotated[bool, typer.Option(help="Ask poles again for what is missing, every ten minutes.")] = True,
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="Delete what was received longer ago, every night.", show_default=False)
    ] = None,
) -> None:
    """Keep everything that poles publish until told to stop (Ctrl-C or SIGTERM); nothing is acknowledged unstored.

    Example: snellius subscribe run --broker mqtt://127.0.0.1 --store city.sqlite
    """
    from edge.cli.run import log_to_stderr, stopped_by_signals
    from edge.subscriber import Store

    _endpoint(broker, username, password_file, ca_file)  # every complaint before anything starts
    with Store(store, create=True):
        pass
    stop = stopped_by_signals()
    log_to_stderr()
    works = [
        _Work(
            store, broker, username, password_file, ca_file,
            client_id if workers == 1 else f"{client_id}-{number}",
            None if workers == 1 else client_id, number == 1, repair and number == 1,
        )
        for number in range(1, workers + 1)
    ]  # fmt: skip
    if keep_days is not None:
        threading.Thread(target=_forget_nightly, args=(store, keep_days, stop), daemon=True).start()
    others = [multiprocessing.get_context("spawn").Process(target=_work_alone, args=(work,)) for work in works[1:]]
    for process in others:
        process.start()
    watch = threading.Thread(target=_stop_with_the_others, args=(others, stop), daemon=True)
    watch.start()
    try:
        _listen(works[0], stop)
    finally:
        for process in others:
            process.terminate()
        for process in others:
            process.join(10)
    if any(process.exitcode not in (0, -15) for process in others):
        raise typer.Exit(1)


def _listen(work: _Work, stop: threading.Event) -> None:
    from edge.subscriber import Listener, Store

    with Store(work.store) as store:
        Listener(
            _endpoint(work.broker, work.username, work.password_file, work.ca_file),
            store,
            client_id=work.client_id,
            group=work.group,
            hears_facts=work.is_first,
            repairs=work.repair,
        ).run(stop)


def _work_alone(work: _Work) -> None:
    """A worker in a process of its own."""
    from edge.cli.run import log_to_stderr, stopped_by_signals

    stop = stopped_by_signals()
    log_to_stderr()
    _listen(work, stop)


def _stop_with_the_others(others: list[multiprocessing.context.SpawnProcess], stop: threading.Event) -> None:
    """A worker that ends takes all along: whoever supervises us starts everything again."""
    while not stop.wait(1.0):
        if not all(process.is_alive() for process in others):
            stop.set()


def _forget_nightly(url: str, keep_days: int, stop: threading.Event) -> None:
    """Delete once now and then once a day; a store that is away is tried again in an hour."""
    import logging

    from edge.errors import SnelliusError
    from edge.subscriber import Store

    log = logging.getLogger(__name__)

    def forgot() -> bool:
        try:
            with Store(url) as store:
                log.info("deleted %d measurements older than %d days", store.forget(keep_days), keep_days)
        except SnelliusError as away:
            log.warning("nothing was deleted: %s", away)
            return False
        return True

    while not stop.is_set():
        stop.wait(86_400.0 if forgot() else 3_600.0)


@app.command(name="gaps")
def gaps(store: StoreUrl, pole: PoleName = None, as_json: AsJson = False) -> None:
    """Say what is missing: numbers that never came, poles without a sign of life, messages not believed or refused.

    Exit code 0: no number is missing. 1: some are.

    Example: snellius subscribe gaps --store city.sqlite
    """
    from edge.subscriber import Store

    with Store(store) as opened:
        poles = _poles(opened.poles(), pole)
        found = _of_poles(opened.gaps(), poles)
        contradictions, refusals = opened.counts("contradiction"), opened.counts("refused")
        now_ms = round(datetime.now(timezone.utc).timestamp() * 1000)
        silent = [
            each for each in poles
            if each.health_ms is not None and now_ms - each.health_ms > SILENT_MS
        ]  # fmt: skip
    missing = sum(gap.last - gap.first + 1 for gap in found)
    if as_json:
        plain = {
            "missing": missing,
            "gaps": [
                {
                    "device": gap.device, "epoch": gap.epoch, "from": gap.first, "to": gap.last,
                    "after": _told_ms(gap.after_ms), "before": _told_ms(gap.before_ms), "can_be_asked": gap.is_present,
                }
                for gap in found
            ],
            "contradictions": [{"device": d, "number": n, "times": t} for d, n, t, _ in contradictions],
            "silent": [{"device": each.device, "since": _told_ms(each.health_ms)} for each in silent],
            "refused": [{"device": d, "reason": r, "times": t} for d, r, t, _ in refusals],
        }  # fmt: skip
        typer.echo(json.dumps(plain, indent=2))
    else:
        typer.echo(f"{missing} messages are missing in {len(found)} gaps")
        for gap in found[:SHOWN_GAPS]:
            after = _told_ms(gap.after_ms) or "the beginning"
            asked = "" if gap.is_present else " (an earlier epoch: gone)"
            typer.echo(f"  {gap.device} {gap.first} to {gap.last}, from {after} to {_told_ms(gap.before_ms)}{asked}")
        if len(found) > SHOWN_GAPS:
            typer.echo(f"  … and {len(found) - SHOWN_GAPS} more (--json shows all)")
        for each in silent:
            typer.echo(f"  {each.device}: no sign of life since {_told_ms(each.health_ms)}")
        for device, what, times, _ in contradictions:
            typer.echo(f"  {device} contradicts itself at {what}, {times} times; the first text stands")
        for device, reason, times, _ in refusals:
            typer.echo(f"  {device or '?'}: {times} messages refused: {reason}")
    if found:
        raise typer.Exit(1)


@app.command(name="resend")
def resend(
    store: StoreUrl,
    broker: BrokerUrl,
    pole: PoleName = None,
    username: Username = "platform",
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
) -> None:
    """Ask poles to send again what is missing; a running 'subscribe run' takes it in.

    Example: snellius subscribe resend --store city.sqlite --broker mqtt://127.0.0.1
    """
    from edge.subscriber import Store, ask_again

    endpoint = _endpoint(broker, username, password_file, ca_file)
    with Store(store) as opened:
        found = _of_poles(opened.gaps(), _poles(opened.poles(), pole))
    present = [gap for gap in found if gap.is_present]
    if present:
        ask_again(endpoint, present, client_id=f"{username}-resend")
    lost = len(found) - len(present)
    typer.echo(
        f"asked for {len(present)} gaps of {len({gap.device for gap in present})} poles"
        + (f"; {lost} gaps of an earlier epoch are gone" if lost else "")
    )


@app.command(name="rollup")
def rollup(
    store: StoreUrl,
    pole: Annotated[str, typer.Option("--pole", help="A device or site.", show_default=False)],
    by: Annotated[str, typer.Option(help="quarter, hour, day, week, or weekday-hour: a typical week.")] = "day",
    first: Annotated[str | None, typer.Option("--from", help="First traffic day.", show_default=False)] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last traffic day.", show_default=False)] = None,
    direction: Annotated[str | None, typer.Option(help="forward or backward; left out: both.")] = None,
    timezone_name: Zone = "Europe/Amsterdam",
    as_json: AsJson = False,
) -> None:
    """Add windows up; a window is never cut, so rows of a quiet street are longer.

    Example: snellius subscribe rollup --store city.sqlite --pole hvs-0042 --by hour --from 2026-11-23 --to 2026-11-23
    """
    from edge.subscriber import Grid, Store, roll_up, weekday_hours
    from edge.subscriber.opendata import figures_of

    kinds = [*(grid.value for grid in Grid), "weekday-hour"]
    if by not in kinds:
        raise BadInput(f"--by: expected {', '.join(kinds)}, got '{by}'")
    way = told_way(direction)
    zone = told_zone(timezone_name)
    with Store(store) as opened:
        flows = list(opened.flows(pole, _day("--from", first), _day("--to", last)))
    rows: list[dict[str, object]] = []
    if by == "weekday-hour":
        week = weekday_hours(flows, zone, way)
        names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
        rows = [
            {"weekday": names[block.weekday], "hour": block.hour, "hours": block.hours, **figures_of(block.total)}
            for block in week.blocks
        ]
        if not as_json:
            typer.echo(f"blocks of {week.block_h} h; {week.placed:.0%} of the vehicles lie within one")
    else:
        for cell in roll_up(flows, Grid(by), zone, way):
            start, end = (f"{instant.astimezone(zone):%Y-%m-%d %H:%M}" for instant in (cell.start, cell.end))
            rows.append({"from": start, "to": end, "cells": cell.cells, **figures_of(cell.total)})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


@app.command(name="export")
def export(
    store: StoreUrl,
    out: OutFolder,
    licence: Annotated[str, typer.Option(help="CC0-1.0, CC-BY-4.0, or the address of another.")] = "CC0-1.0",
    publisher: Annotated[str, typer.Option(help="Who publishes.")] = "",
    places: Annotated[
        Path | None, typer.Option(help="Where poles stand: CSV with pole,lon,lat[,name].", show_default=False)
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="First traffic day.", show_default=False)] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last traffic day.", show_default=False)] = None,
    timezone_name: Zone = "Europe/Amsterdam",
) -> None:
    """Write open data: CSV by day and hour, GeoJSON of the poles, a data dictionary, a description for a catalogue.

    Example: snellius subscribe export --store city.sqlite --out open-data --publisher "City of Hilversum"
    """
    from edge.cli.files import written_whole
    from edge.subscriber import Store, read_places, write_open_data

    zone = told_zone(timezone_name)
    known = {} if places is None else read_places(read_text(places), str(places))
    days = _day("--from", first), _day("--to", last)
    with Store(store) as opened:
        poles = [(pole, list(opened.flows(pole.device, *days))) for pole in opened.poles()]
    files = write_open_data(
        poles, zone=zone, licence=licence, publisher=publisher, places=known, now=datetime.now(timezone.utc)
    )
    _folder(out)
    for name, text in files.items():
        with written_whole(out / name) as file:
            file.write_text(text, encoding="utf-8")
    lacking = [pole.device for pole, _ in poles if pole.device not in known and pole.site not in known]
    typer.echo(f"{out}: {', '.join(files)}; {len(poles)} poles")
    if lacking:
        typer.echo(
            f"without a point on the map (--places): {', '.join(lacking[:10])}{' …' if len(lacking) > 10 else ''}"
        )


@app.command(name="page")
def page(
    store: StoreUrl,
    out: OutFolder,
    pole: PoleName = None,
    day: Annotated[str | None, typer.Option(help="Traffic day; left out: today.", show_default=False)] = None,
    timezone_name: Zone = "Europe/Amsterdam",
) -> None:
    """Write a page for each pole that shows residents what was sent on a day, in Dutch and English.

    Example: snellius subscribe page --store city.sqlite --out public
    """
    from edge.cli.files import written_whole
    from edge.subscriber import Store, page_html

    zone = told_zone(timezone_name)
    now = datetime.now(timezone.utc)
    shown = _day("--day", day) or (now.astimezone(zone) - timedelta(hours=4)).date()
    _folder(out)
    with Store(store) as opened:
        poles = _poles(opened.poles(), pole)
        for each in poles:
            flows = list(opened.flows(each.device, shown, shown))
            mixes = list(opened.mixes(each.device, shown, shown))
            for language in ("nl", "en"):
                names = {"nl": f"{each.device}.html", "en": f"{each.device}.en.html"}
                text = page_html(
                    each, shown, flows, mixes, zone=zone, now=now, language=language,
                    other_page=names["en" if language == "nl" else "nl"],
                )  # fmt: skip
                with written_whole(out / names[language]) as file:
                    file.write_text(text, encoding="utf-8")
    typer.echo(f"{out}: pages of {len(poles)} poles for {shown}")


@app.command(name="forget")
def forget(
    store: StoreUrl,
    keep_days: Annotated[int, typer.Option(min=1, help="Delete what was received longer ago.", show_default=False)],
) -> None:
    """Delete old measurements for good, down to the bytes on the disk.

    Example: snellius subscribe forget --store city.sqlite --keep-days 400
    """
    from edge.subscriber import Store

    with Store(store) as opened:
        typer.echo(f"deleted {opened.forget(keep_days)} measurements")


# --------------------------------------------------------------------------------------------------- what people typed


def _endpoint(url: str, username: str, password_file: Path | None, ca_file: Path | None) -> Endpoint:
    from edge.publish import Endpoint

    try:
        return Endpoint.of(url, username=username, password_file=password_file, ca_file=ca_file)
    except BadInput as wrong:
        names = {"mqtt.url": "--broker", "mqtt.password_file": "--password-file", "mqtt.ca_file": "--ca-file"}
        told = str(wrong)
        for key, option in names.items():
            told = told.replace(key, option)
        raise BadInput(told) from None


def _day(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{option}: expected a day like 2026-11-23, got '{text}'") from None


def told_way(text: str | None) -> Direction | None:
    """A direction, as typed."""
    from edge.domain import Direction

    try:
        return None if text is None else Direction(text)
    except ValueError:
        raise BadInput(f"--direction: expected forward or backward, got '{text}'") from None


def told_zone(name: str) -> ZoneInfo:
    """A time zone, as typed."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput(f"--timezone: expected a name like Europe/Amsterdam, got '{name}'") from None


def read_text(path: Path) -> str:
    """A text file that somebody named."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as failure:
        raise BadInput(
            f"{path}: cannot be read: {getattr(failure, 'strerror', None) or 'expected UTF-8 text'}"
        ) from None


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        raise BadInput(f"{path}: expected a folder to write into: {refused.strerror}") from None


def _of_poles(gaps: list[Gap], poles: list[Pole]) -> list[Gap]:
    devices = {pole.device for pole in poles}
    return [gap for gap in gaps if gap.device in devices]


def _poles(poles: list[Pole], name: str | None) -> list[Pole]:
    chosen = [pole for pole in poles if name in (None, pole.device, pole.site)]
    if name is not None and not chosen:
        raise BadInput(f"--pole: expected a device or site in the store, found no '{name}'")
    return chosen


def _told_ms(instant_ms: int | None) -> str | None:
    if instant_ms is None:
        return None
    return f"{datetime.fromtimestamp(instant_ms / 1000, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def _print_table(rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        typer.echo("nothing was published in this time")
        return
    names = [name for name in rows[0] if name not in NOT_IN_TABLES]
    table = Table(*names, box=None)
    for row in rows:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in names))
    Console(width=max(Console().width, TABLE_WIDTH)).print(table)
