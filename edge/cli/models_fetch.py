"""``snellius models fetch``: the file of a model, from its source or a mirror."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from edge.errors import BadInput
from models import CatalogueError, Model, load_catalogue


def fetch(
    name: Annotated[str, typer.Argument(help="A model of 'snellius models list'.", show_default=False)],
    mirror: Annotated[
        str | None,
        typer.Option(help="A folder, or an address, that holds the file under its own name.", show_default=False),
    ] = None,
    proxy: Annotated[
        str | None, typer.Option(help="Address of a proxy.", show_default="the one in the environment, https_proxy")
    ] = None,
) -> None:
    """Fetch the file of a model, go on where it broke off, and compare it with its checksum.

    Nothing is ever fetched by itself. The files stand in SNELLIUS_MODELS, else in /var/lib/snellius/models, else in the
    user's data folder.

    Example: snellius models fetch yolo11n --mirror /media/usb
    """
    catalogue = load_catalogue()
    model = catalogue.find(name)
    if model.licence in catalogue.licences:
        typer.echo(f"{model.licence}: {catalogue.licences[model.licence]}")
    typer.echo(f"{fetched(model, mirror, proxy)}: as the catalogue says")


def fetched(model: Model, mirror: str | None, proxy: str | None) -> str:
    """Fetch with a progress bar, on a terminal only; the place of the file.

    Raises:
        BadInput: It cannot be fetched, or is another file.
    """
    from models.fetch import fetch as fetch_file

    console = Console(stderr=True)
    columns = (TextColumn(f"fetching {model.name}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("fetching", total=model.size_bytes)
        try:
            file = fetch_file(
                model,
                mirror=mirror,
                proxy=proxy,
                report=lambda done, of: progress.update(task, completed=done, total=of),
            )
        except CatalogueError as error:
            raise BadInput(str(error)) from error
    return str(file)
