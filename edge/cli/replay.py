"""``snellius replay``: the same pipeline on a recorded clip, no frame skipped, with the same numbers each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from edge.errors import BadInput

if TYPE_CHECKING:
    from edge.cli.measuring import Outcome


def replay(
    clip: Annotated[Path, typer.Argument(help="The video file.", show_default=False)],
    calibration: Annotated[
        Path, typer.Option(help="Calibration of this camera, made by 'snellius calibrate solve'.", show_default=False)
    ],
    model: Annotated[
        str | None, typer.Option(help="A model of 'snellius models list'.", show_default="the default one")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="When the first frame was taken, ISO 8601 with offset.", show_default="1970, told as clock unset"
        ),
    ] = None,
    passages: Annotated[
        Path | None, typer.Option(help="Write every passage, a JSON object a line.", show_default=False)
    ] = None,
    aggregates: Annotated[
        Path | None, typer.Option(help="Write what would be published, a JSON object a line.", show_default=False)
    ] = None,
    annotate: Annotated[
        Path | None, typer.Option(help="Write the clip with zone, boxes and speeds drawn in.", show_default=False)
    ] = None,
    lab: Annotated[bool, typer.Option("--lab", help="Allow small and short windows; they are marked as such.")] = False,
    k: Annotated[
        int | None,
        typer.Option(help="Vehicles in a published window, at least.", show_default="10; 1 with --lab"),
    ] = None,
    slot_s: Annotated[
        int | None, typer.Option(help="Length of a slot in seconds.", show_default="900; 10 with --lab")
    ] = None,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="Run the detector on every frame, to compare with.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with the summary.")] = False,
) -> None:
    """Measure a recorded clip.

    Example: snellius replay street.mp4 --calibration cal.json --passages out.jsonl
    """
    from edge.cli.measuring import passages_table, replay_clip

    outcome = replay_clip(
        clip,
        calibration_file=calibration,
        model_name=model,
        start=start,
        lab=lab,
        k=k,
        slot_s=slot_s,
        passages_file=passages,
        aggregates_file=aggregates,
        annotated_file=annotate,
        every_frame=every_frame,
    )
    if as_json:
        typer.echo(json.dumps(outcome.summary(), indent=2))
    else:
        Console().print(passages_table(outcome.passages))
        typer.echo(told(outcome))
    if outcome.timing.missing_end_s:
        raise BadInput(f"{clip}: {outcome.timing.remarks()[0]} (what is there was measured)")


def told(outcome: Outcome) -> str:
    """The summary for people."""
    summary = outcome.summary()
    unmeasured = ", ".join(f"{count} {reason}" for reason, count in summary["unmeasured"].items())
    lines = [
        f"{summary['passages']} vehicles, {summary['measured']} measured"
        + (f", not measured: {unmeasured}" if unmeasured else ""),
        f"{summary['windows']} windows of {outcome.rules.k} vehicles or more"
        + (f"; {summary['withheld']} vehicles withheld, they are too few" if summary["withheld"] else "")
        + (" (lab mode: windows may hold single vehicles)" if outcome.rules.lab else ""),
        *camera_lines(outcome.camera),
        f"{summary['frames']} frames, {summary['clip_s']:.1f} s, measured in {summary['wall_s']:.1f} s",
    ]
    return "\n".join(lines + summary["remarks"])


def camera_lines(camera: dict[str, Any]) -> list[str]:
    """What to say about the camera when it did not simply stand."""
    if not camera["moves"]:
        return []
    turns = ", ".join(f"{name} {angle:+.2f}°" for name, angle in camera["turn_deg"].items())
    after = {"turned": f"measured on, turned by {turns}", "stands": "measured on as calibrated"}
    says = after.get(camera["stance"], "speeds stopped, counting went on")
    return [f"the camera moved {camera['moves']} time{'s' * (camera['moves'] > 1)}: {says}"]
