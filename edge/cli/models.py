"""``snellius models``: which detectors there are."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge.cli import models_add, models_bench, models_export, models_fetch
from models import Catalogue, CatalogueError, Model, load_catalogue

app = typer.Typer(help="Detectors: what there is, fetching, adding, exporting, comparing.", no_args_is_help=True)


@app.callback()
def models() -> None:
    """Detectors: what there is, fetching, adding, exporting, comparing.

    Example: snellius models list
    """


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """List the detectors of the catalogue, whether their files are what it says, and what their licences mean.

    Example: snellius models list
    """
    catalogue = load_catalogue()
    if as_json:
        typer.echo(json.dumps(listing(catalogue), indent=2))
    else:
        Console().print(table(catalogue))
        for line in licence_lines(catalogue):
            Console().print(line)


app.command("add")(models_add.add)
app.command("bench")(models_bench.bench)
app.command("export")(models_export.export)
app.command("fetch")(models_fetch.fetch)


def listing(catalogue: Catalogue) -> dict[str, object]:
    """The catalogue as ``models list --json`` prints it."""
    return {
        "default": catalogue.default,
        "licences": dict(catalogue.licences),
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
                "url": model.url,
                "measured": model.measured,
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
        size = f"up to {size}" if model.stride else size
        lines = [escape(model.summary), f"{size}, {model.runtime.value}, {model.licence}, {_state(model)}"]
        shown.add_row(name, "\n".join([*lines, *([escape(model.measured)] if model.measured else [])]))
    return shown


def licence_lines(catalogue: Catalogue) -> list[str]:
    """What the licences of the models mean for a city."""
    used = {model.licence for model in catalogue.models}
    return [f"{name}: {text}" for name, text in catalogue.licences.items() if name in used]


def _state(model: Model) -> str:
    if not model.is_fetched and model.url is not None:
        return f"not here (snellius models fetch {model.name})"
    wrong = problem(model)
    return "[green]file ok[/green]" if wrong is None else f"[red]{wrong}[/red]"


def problem(model: Model) -> str | None:
    """What is wrong with the model's file; None when it is the one of the catalogue."""
    try:
        model.verified_file()
    except CatalogueError as error:
        return str(error)
    return None
