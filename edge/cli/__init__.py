"""The command line: one file per verb, each glue around plain functions.

Whatever goes wrong for a reason that the person in front of it can mend is one line on standard error and exit code 2;
exit code 1 means that the verb ran and the result is not what was asked for. Verbs import what they need when they are
called, so that help appears at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from edge.cli import (
    calibrate,
    calibrate_capture,
    calibrate_lens,
    calibrate_page,
    calibrate_verify,
    demo,
    doctor,
    init,
    install,
    models,
    models_add,
    models_bench,
    models_export,
    models_fetch,
    privacy,
    replay,
    run,
    status,
    study,
    subscribe,
)
from edge.errors import BadInput, SnelliusError

app = typer.Typer(
    name="snellius",
    help="Measures how fast a street is driven; tells the city only anonymised aggregates.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(name="demo")(demo.demo)
app.command(name="run")(run.run)
app.command(name="replay")(replay.replay)
calibrate.app.command(name="capture")(calibrate_capture.capture)
calibrate.app.command(name="lens")(calibrate_lens.lens)
calibrate.app.command(name="page")(calibrate_page.page)
calibrate.app.command(name="verify")(calibrate_verify.verify)
app.add_typer(calibrate.app, name="calibrate")
models.app.command(name="add")(models_add.add)
models.app.command(name="bench")(models_bench.bench)
models.app.command(name="export")(models_export.export)
models.app.command(name="fetch")(models_fetch.fetch)
app.add_typer(models.app, name="models")
app.add_typer(subscribe.app, name="subscribe")
app.add_typer(study.app, name="study")
app.command(name="doctor")(doctor.doctor)
app.command(name="init")(init.init)
app.command(name="status")(status.status)
app.command(name="install")(install.install)
app.command(name="uninstall")(install.uninstall)
app.command(name="privacy")(privacy.privacy)

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
