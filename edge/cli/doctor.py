"""``snellius doctor``: every problem at once, with the next step for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def doctor(
    config: Annotated[
        Path | None,
        typer.Option(help="The settings file. Left out: only this computer is checked.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say everything that is wrong at once, with the next step for each.

    Looks at settings, secrets, camera, model, calibration, clock, disk, temperature, power, certificates and broker,
    and tries whether the broker takes a message. Exit code 1: something fails.

    Example: snellius doctor --config /etc/snellius/snellius.toml
    """
    from edge.doctor import State, examine

    checks = list(examine(config))
    is_ok = all(check.state is not State.FAIL for check in checks)
    if as_json:
        typer.echo(json.dumps({"checks": [check.as_json() for check in checks], "ok": is_ok}, indent=2))
    else:
        console = Console(soft_wrap=True, highlight=False)
        colours = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}
        for check in checks:
            console.print(f"[{colours[check.state]}]{check.state.value:4}[/] [bold]{check.name}[/]: ", end="")
            console.print(check.says, markup=False)
            if check.next:
                console.print(f"     → {check.next}", markup=False)
    if not is_ok:
        raise typer.Exit(1)
