"""The command line: one file per verb, each glue around plain functions.

Whatever goes wrong for a reason that the person in front of it can mend is one line on standard error and exit code 2;
exit code 1 means that the verb ran and the result is not what was asked for. A verb is imported when it is called, and
imports what it needs when it runs, so that help appears at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from edge.errors import BadInput, SnelliusError

VERBS = {  # and what it does, in so few words that 80 columns hold them
    "demo": "Measure the bundled street, with a broker of its own.",
    "run": "Measure and publish until told to stop.",
    "replay": "Measure a recorded clip.",
    "doctor": "Say everything that is wrong, each with the next step.",
    "init": "Write a first settings file.",
    "status": "Say how the running service is.",
    "install": "Install as a service, or upgrade.",
    "uninstall": "Remove the service and the program.",
    "privacy": "Say what this device does with data.",
    "calibrate": "From clicks and tape to a certified calibration.",
    "models": "Detectors: what there is, adding, comparing.",
    "subscribe": "The platform side: keep, find gaps, add up, publish.",
    "study": "Before and after a measure: how much, and how sure.",
}
MODULES = {"uninstall": "install"}  # where a verb does not have a file of its own name


class _Verbs(TyperGroup):
    """Verbs that are known by name until one is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": {name: TyperCommand(name, help=VERBS[name]) for name in VERBS}})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        return name, _command(str(name)), rest


def _an_app(**options: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **options)


app = _an_app(name="snellius", cls=_Verbs, no_args_is_help=True)


@app.callback()
def snellius() -> None:
    """Measures how fast a street is driven; tells the city only anonymised aggregates."""


def _command(name: str) -> Any:
    """The command of a verb, or of a group of verbs; its type is the argument parser's own affair."""
    module, holder = import_module(f"edge.cli.{MODULES.get(name, name)}"), _an_app()
    holder.callback()(snellius)
    if hasattr(module, "app"):
        holder.add_typer(module.app, name=name)
    else:
        holder.command(name=name)(getattr(module, name))
    group = get_command(holder)
    assert isinstance(group, TyperGroup)
    return group.commands[name]


_WrongUse = typer.BadParameter.__base__  # typer exports only this child of the error for wrong use


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one verb and ends the process with its exit code."""
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else list(arguments)))


def _exit_code(arguments: list[str]) -> int:
    try:
        result = app(args=arguments, prog_name="snellius", standalone_mode=False)
    except typer.Abort:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing may be written at shutdown either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        line, code = told
        sys.stderr.write(f"{line}\n")
        return code
    return result if isinstance(result, int) else 0


def _told(error: Exception) -> tuple[str, int] | None:
    """What the person in front of it should read, and the exit code; None for a fault of ours."""
    if _WrongUse is not None and isinstance(error, _WrongUse):
        return _wrong_use(error), 2
    if isinstance(error, BadInput) or _is_of_a_library(error):
        return str(error), 2
    return (str(error), 1) if isinstance(error, SnelliusError) else None


def _wrong_use(error: Exception) -> str:
    message = str(getattr(error, "format_message", error.__str__)())
    if "\n" in message:  # a verb without arguments: the message is its help
        return message
    verb = getattr(getattr(error, "ctx", None), "command_path", "snellius")
    return f"{verb}: {message[:1].lower()}{message[1:].rstrip('.')} (see: {verb} --help)"


def _is_of_a_library(error: Exception) -> bool:
    """Whether calibration or models complain; they are not imported to find out, calibration costs numpy."""
    libraries = (("calibration", "CalibrationError"), ("models", "CatalogueError"))
    kinds = [getattr(sys.modules[name], kind) for name, kind in libraries if name in sys.modules]
    return isinstance(error, tuple(kinds))
