"""``snellius calibrate verify``: our speeds against a laser gun or a GPS logger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from calibration.verify import Verification


def verify(
    passages: Annotated[
        Path, typer.Option(help="Passages of a clip, written by 'snellius replay --passages'.", show_default=False)
    ],
    reference: Annotated[
        Path,
        typer.Option(
            help="Reference speeds: CSV with time_s or time, speed_kmh"
            "[,direction,lane,sigma_kmh,gun_angle_deg,device].",
            show_default=False,
        ),
    ],
    report: Annotated[
        Path | None, typer.Option(help="Write the report with its plot, one HTML file.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a report.")] = False,
) -> None:
    """Compare measured speeds with reference speeds of the same vehicles.

    The two clocks need not agree: their difference is found and shown. A gun that looks along the road at an angle
    is corrected by the cosine of gun_angle_deg.

    Exit code 0: passes. 1: does not. 2: a file cannot be used.

    Example: snellius calibrate verify --passages passages.jsonl --reference gun.csv --report verify.html
    """
    from calibration.verify import read_passages, read_reference
    from calibration.verify import verify as compared
    from calibration.verify_report import report_html
    from edge.cli.files import written_whole

    result = compared(read_passages(passages), read_reference(reference))
    if report is not None:
        with written_whole(report) as file:
            file.write_text(report_html(result, f"{passages.name} against {reference.name}"), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(result.summary(), indent=2, allow_nan=False))
    else:
        typer.echo(told(result))
    if result.shortfalls:
        raise typer.Exit(1)


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
