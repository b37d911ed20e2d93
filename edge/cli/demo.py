"""``snellius demo``: a street, a camera, a broker and a platform on this computer, without any set-up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    annotate: Annotated[
        Path | None,
        typer.Option(help="Write the clip with zone, boxes and speeds drawn in (.mp4).", show_default=False),
    ] = None,
) -> None:
    """Measure a bundled street, publish it to a broker of its own, and compare with the truth.

    Nothing leaves this computer. Ends by itself.

    Example: snellius demo --annotate seen.mp4
    """
    from edge.cli.showing import show

    if not show(annotated_file=annotate):
        raise typer.Exit(1)
