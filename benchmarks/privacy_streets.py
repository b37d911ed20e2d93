"""The property and attack tests on many more streets than `make test` has time for.

    python -m benchmarks.privacy_streets [--streets 2000] [--json OUT]

Each test draws so many streets of two, three or forty days of its own: quiet and busy ones, with restarts, power cuts,
steps of the clock, changes of k and of summer time. Prints how many were drawn, how long it took, and what failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SUITES = ("tests/properties/test_nobody_is_lost_or_alone.py", "tests/privacy/test_attacks.py")
DRAWN = re.compile(r"(?m)^(\S+::\S+):$|- (\d+) passing,")


def main() -> None:
    """Runs the suites and prints what was tried; exit code 1 when a street broke a promise."""
    parser = argparse.ArgumentParser(description="Property and attack tests on thousands of generated streets.")
    parser.add_argument("--streets", type=int, default=2000, help="For each test.")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--timeout=36000", "--hypothesis-show-statistics", *SUITES],
        cwd=ROOT,
        check=False,
        env=os.environ | {"SNELLIUS_STREETS": str(chosen.streets)},
        capture_output=True,
        text=True,
    )
    drawn: dict[str, int] = {}
    test = ""
    for name, count in DRAWN.findall(done.stdout):
        if name:
            test = name.rpartition("::")[2]
        else:
            drawn[test] = drawn.get(test, 0) + int(count)
    table = Table("test", "streets", box=None)
    for name, count in sorted(drawn.items()):
        table.add_row(name, f"{count:,}")
    table.add_row("together", f"{sum(drawn.values()):,}")
    console = Console(width=160)
    console.print(table)
    wall_s = time.monotonic() - began_s
    failed = done.returncode != 0
    console.print(f"{wall_s:.0f} s; " + ("a promise was broken, see below" if failed else "every promise held"))
    if failed:
        console.print(done.stdout[-8000:], markup=False, highlight=False)
    if chosen.json is not None:
        outcome = {"streets": drawn, "wall_s": round(wall_s, 1), "held": not failed}
        chosen.json.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
