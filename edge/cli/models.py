"""``snellius models``: which detectors there are."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from models import Catalogue, CatalogueError, Model, load_catalogue

app = typer.Typer(help="Detectors: what there is.", no_args_is_help=True)


@app.callback()
def models() -> None:
    """Detectors: what there is.

    Example: snellius models list
    """


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """List the detectors of the catalogue, and whether their files are what the catalogue says.

    Example: snellius models list
    """
    catalogue = load_catalogue()
    if as_json:
        typer.echo(json.dumps(listing(catalogue), indent=2))
    else:
        Console().print(table(catalogue))


def listing(catalogue: Catalogue) -> dict[str, object]:
    """The catalogue as ``models list --json`` prints it."""
    return {
        "default": catalogue.default,
        "models": [
            {
                "name": model.name,
                "summary": model.summary,
                "file": model.file.name,
                "sha256": model.sha256,
                "input_px": model.input_px and list(model.input_px),
                "runtime": model.runtime.value,
                "head": model.head and model.head.value,
                "classes": sorted(model.classes),
                "licence": model.licence,
                "source": model.source,
                "problem": problem(model),
            }
            for model in catalogue.models
        ],
    }


def table(catalogue: Catalogue) -> Table:
    """The catalogue for people, readable in a terminal of 80 columns."""
    shown = Table("model", "", show_lines=True)
    shown.columns[0].no_wrap = True
    for model in catalogue.models:
        name = f"[bold]{model.name}[/bold]" + ("\ndefault" if model.name == catalogue.default else "")
        size = "{}x{}".format(*model.input_px) if model.input_px else "size as exported"
        wrong = problem(model)
        state = "[green]file ok[/green]" if wrong is None else f"[red]{wrong}[/red]"
        shown.add_row(name, f"{model.summary}\n{size}, {model.runtime.value}, {model.licence}, {state}")
    return shown


def problem(model: Model) -> str | None:
    """What is wrong with the model's file; None when it is the one of the catalogue."""
    try:
        model.verified_file()
    except CatalogueError as error:
        return str(error)
    return None
