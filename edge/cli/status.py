"""``snellius status``: what the running service says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

GATE = {"on": "on: the detector rests while nothing changes", "off": "off: the detector looks at every frame"}
COLOURS = {"ready": "green", "degraded": "yellow"}


def status(
    config: Annotated[
        Path | None,
        typer.Option(help="The settings file. Left out: the service that 'snellius install' made.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how the running service is: state, camera, clock and broker. Exit code 1: it does not run.

    Example: sudo snellius status
    """
    from edge.errors import SnelliusError
    from edge.settings import ServiceSettings, load_settings
    from edge.status_socket import ask

    file = (load_settings(config).service if config is not None else ServiceSettings()).status_socket
    told = ask(file)
    if told is None:
        raise SnelliusError(f"no service answers at {file} (is it running? systemctl status snellius)")
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    console = Console(highlight=False)
    console.print(f"[bold {COLOURS.get(told['state'], 'red')}]{told['state']}[/]", ", ".join(told["reasons"]))
    for name, says in in_words(told):
        console.print(f"  {name:10} {says}", markup=False)


def in_words(told: dict[str, Any]) -> list[tuple[str, str]]:
    """The answer as a technician reads it: what, and how it is."""
    broker, camera = told["broker"], told["camera"]
    frame = "none yet" if camera["last_frame_s"] is None else f"{camera['last_frame_s']:.1f} s ago"
    rate = "" if camera["frames_per_s"] is None else f", {camera['frames_per_s']:.1f} a second"
    fault = f" ({camera['trouble']})" if camera["trouble"] else ""
    link = "connected to" if broker["connected"] else "no connection to"
    trouble = f" ({broker['trouble']})" if broker["trouble"] else ""
    return [
        ("device", f"{told['device']}, snellius {told['version']}, running for {_long(told['uptime_s'])}"),
        ("camera", f"last frame {frame}{rate}, {'x'.join(map(str, camera['size_px']))}{fault}"),
        ("watch", str(camera["watch"])),
        ("gate", GATE[told["gate"]]),
        ("coverage", f"{told['coverage']:.1%} of the street's time since the service started"),
        ("clock", str(told["clock"])),
        ("broker", f"{link} {broker['address']}{trouble}"),
        ("queue", f"{told['queue']} messages wait"),
        ("published", told["last_publish"] or "nothing since the service started"),
    ]


def _long(seconds: int) -> str:
    """A duration in the units that fit it."""
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    return (
        f"{days} days {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
    )
