"""``snellius calibrate verify``: our speeds against a laser gun or a GPS logger."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.errors import BadInput

if TYPE_CHECKING:
    from calibration.verify import Verification
    from edge.cli.typed import Session
    from edge.settings import Settings


def verify(
    passages: Annotated[
        Path | None,
        typer.Option(help="Passages of a clip, written by 'snellius replay --passages'.", show_default=False),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Reference speeds: CSV with time_s or time, speed_kmh"
            "[,direction,lane,sigma_kmh,gun_angle_deg,device].",
            show_default=False,
        ),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Beside the street: type readings, see the pairs.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="With --live: the settings file; its source and calibration are used.", show_default=False),
    ] = None,
    minutes: Annotated[float, typer.Option(help="With --live: how long at most.", min=0.1, max=480.0)] = 15.0,
    gun_angle_deg: Annotated[
        float, typer.Option(help="With --live: between the gun's line of sight and the road.", min=0.0, max=45.0)
    ] = 0.0,
    device: Annotated[str, typer.Option(help="With --live: laser, gps or speedometer.", show_default="not told")] = "",
    report: Annotated[
        Path | None,
        typer.Option(help="Write the report, one HTML file; after --live without single vehicles.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a report.")] = False,
) -> None:
    """Compare measured speeds with reference speeds of the same vehicles, from files or live.

    The two clocks need not agree: their difference is found and shown. A gun that looks along the road at an angle
    is corrected by the cosine of its angle.

    Live, the service must not be using the camera. Nothing is published; readings and passages stay in memory and on
    the screen, only the summary is kept.

    Exit code 0: passes. 1: does not. 2: a file cannot be used.

    Example: snellius calibrate verify --live --config snellius.toml --minutes 15 --gun-angle-deg 8
    """
    from calibration.verify_report import report_html
    from edge.cli.files import written_whole

    summary: dict[str, Any]
    if live:
        if config is None or passages is not None or reference is not None:
            raise BadInput("--live: expected --config FILE, and neither --passages nor --reference")
        result, calibration_id = beside_the_camera(config, minutes, gun_angle_deg, device, is_quiet=as_json)
        title = f"{calibration_id}, {datetime.now(timezone.utc):%Y-%m-%d}, typed readings"
        summary = {"calibration": calibration_id, **result.summary(with_single=False)}
    else:
        if passages is None or reference is None or config is not None:
            raise BadInput("expected --passages FILE and --reference FILE, or --live and --config FILE")
        result = of_files(passages, reference)
        title, summary = f"{passages.name} against {reference.name}", result.summary()
    if report is not None:
        with written_whole(report) as file:
            file.write_text(report_html(result, title, with_single=not live), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(summary, indent=2, allow_nan=False))
    else:
        typer.echo(told(result))
    if result.shortfalls:
        raise typer.Exit(1)


def of_files(passages: Path, reference: Path) -> Verification:
    """The comparison of two files; raises CalibrationError when one cannot be used."""
    from calibration.verify import read_passages, read_reference
    from calibration.verify import verify as compared

    return compared(read_passages(passages), read_reference(reference))


def beside_the_camera(
    config: Path, minutes: float, gun_angle_deg: float, device: str, *, is_quiet: bool
) -> tuple[Verification, str]:
    """A session with the source of the settings file; the comparison, and the id of the calibration.

    Args:
        config: The settings file.
        minutes: How long at most.
        gun_angle_deg: Between the gun's line of sight and the road. [°]
        device: What kind of reference.
        is_quiet: Whether standard output is kept for the result; lines go to standard error then.

    Raises:
        BadInput: A file, an option or the source cannot be used.
    """
    from calibration.verify import DEVICES
    from edge.cli.run import forget_on_crash
    from edge.cli.typed import HELP, Session
    from edge.settings import load_settings

    if device and device not in DEVICES:
        raise BadInput(f"--device: expected {', '.join(DEVICES)}, got '{device}'")
    forget_on_crash()
    session = Session(angle_deg=gun_angle_deg, device=device)

    def say(line: str) -> None:
        typer.echo(line, err=is_quiet)

    say(HELP)
    return hold(load_settings(config), session, lasts_s=60 * minutes, say=say)


def hold(
    settings: Settings, session: Session, *, lasts_s: float, say: Callable[[str], None]
) -> tuple[Verification, str]:
    """Holds a session; the comparison, and the id of the calibration.

    Raises:
        BadInput: The calibration has expired, or does not fit the source, or the source cannot be opened.
    """
    from calibration import Calibration
    from edge.assembly import known_model, measuring_pipeline, refuse_other_size, road_detector, source_of
    from edge.cli.run import stopped_by_signals
    from edge.cli.typed import Typist, at_its_pace, beside_the_street
    from edge.sources.video import VideoFile

    file = settings.calibration.file
    calibration = Calibration.load(file)
    if calibration.is_expired(datetime.now(timezone.utc)) and not settings.calibration.allow_expired:
        raise BadInput(
            f"{file}: expected a calibration that is valid, found {calibration.id}, expired on"
            f" {calibration.expires:%Y-%m-%d} (survey the site again)"
        )
    pipeline = measuring_pipeline(
        calibration,
        road_detector(known_model(settings.model.name), calibration, threads=settings.model.threads),
        readout_s=settings.source.readout_ms / 1e3,
    )
    stop = stopped_by_signals()
    with source_of(settings.source, size_px=calibration.image_size_px) as source:
        if isinstance(source, VideoFile):  # a camera is asked for that size, and asked again
            refuse_other_size(source, settings.source.url, calibration, str(file))
        frames = at_its_pace(source.frames(), stop)
        try:
            beside_the_street(frames, pipeline, session, typed=Typist(), lasts_s=lasts_s, say=say)
        except BadInput as lost:  # the camera went away: what was typed until then still counts
            if not len(session.readings):
                raise
            say(str(lost))
    return session.result, calibration.id


def told(result: Verification) -> str:
    """The report for a terminal."""
    from calibration.verify_report import RULE, figures, suspects

    return "\n".join(
        [
            "pass" if not result.shortfalls else "fail",
            *(f"  - {line}" for line in (*result.shortfalls, *result.warnings)),
            *(f"  - {line}" for line in suspects(result)),
            *(f"{name}: {value}" for name, value in figures(result)),
            RULE,
        ]
    )
