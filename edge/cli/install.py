"""``snellius install`` and ``snellius uninstall``: the program as a service of this computer."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[Path, typer.Option(help="The folder of an image, instead of this computer.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


class CameraKind(str, Enum):
    """Whose devices the service may open."""

    PI = "pi"
    USB = "usb"
    JETSON = "jetson"
    NETWORK = "network"


def install(
    origin: Annotated[
        str | None,
        typer.Argument(
            help="A wheel, a source folder, or a requirement such as snellius==0.2.0. Left out: the version that runs.",
            show_default=False,
        ),
    ] = None,
    camera: Annotated[
        CameraKind | None,
        typer.Option(
            help="Whose devices the service may open. Left out: as before, else what this computer seems to have."
        ),
    ] = None,
    root: Root = Path("/"),
    dry_run: DryRun = False,
) -> None:
    """Install as a service, or upgrade; goes back to the version before when the doctor finds the new one ailing.

    Example: sudo snellius install snellius-0.2.0-py3-none-any.whl
    """
    from edge.installation import Machine
    from edge.installation import install as bring

    bring(Machine(root, is_dry=dry_run, say=typer.echo), origin, camera=camera.value if camera else None)


def uninstall(
    keep_state: Annotated[
        bool, typer.Option("--keep-state", help="Leave settings, calibration, secrets and what waits for the broker.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also when messages wait for the broker: they are lost.")
    ] = False,
    root: Root = Path("/"),
    dry_run: DryRun = False,
) -> None:
    """Remove the service, the program and, unless told otherwise, its state.

    Example: sudo snellius uninstall --keep-state
    """
    from edge.installation import Machine
    from edge.installation import uninstall as remove

    remove(Machine(root, is_dry=dry_run, say=typer.echo), keep_state=keep_state, is_forced=force)
