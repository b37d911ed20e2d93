"""``python -m edge`` is ``snellius``. From a bare wheel, with nothing installed, it can install and nothing else.

sudo python3 snellius-0.1.0-py3-none-any.whl/edge install
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

if not __package__:  # the folder itself was named: what lies in it must not pass for modules of the world
    sys.path[0] = str(Path(__file__).parents[1])

from edge.errors import SnelliusError


def main() -> int:
    """Runs the verb; from a bare wheel ``install`` only."""
    if find_spec("typer") is not None:
        from edge.cli import main as snellius

        snellius()
    from edge.installation import CAMERAS, Machine, install

    parser = argparse.ArgumentParser(prog="snellius", description="Installs the wheel that it stands in.")
    verb = parser.add_subparsers(required=True).add_parser("install")
    verb.add_argument("--camera", choices=CAMERAS, help="whose devices the service may open")
    verb.add_argument("--dry-run", action="store_true", help="say what would be done")
    options = parser.parse_args()
    try:
        machine = Machine(Path("/"), is_dry=options.dry_run, say=lambda line: print(line, flush=True))  # noqa: T201
        install(machine, camera=options.camera)
    except SnelliusError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
