"""Everything a pole meets, for real and in bulk: what happened, what the platform saw, how long until all was well.

    python -m benchmarks.chaos [--short] [--only WORD]… [--json OUT] [--page docs/operating.md]

A real mosquitto, a real subscriber, real kill -9, a real RTSP server; the loopback interface only, bounded in time. The
full form kills the service through a simulated week and takes about half an hour; ``--short`` is what the tests do.
Every cell of the table is a measured time or something that the subscriber received. A full disk and a failing card are
real file systems where this may mount them (root in most places); the row says so where it may not.
With ``--page`` the table replaces the one between the markers of that page. Exits with 1 when a promise was not kept.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.support.faults import broker, camera, storage, street
from tests.support.faults.outcome import Outcome

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"

Scenario = Callable[[Path], Outcome]


def scenarios(*, short: bool, say: Callable[[float, int], None] | None = None) -> dict[str, Scenario]:
    """Every fault by its name, in the order of the table."""

    def network(kind: str) -> Scenario:
        return lambda folder: broker.network(folder, kind, impatient=short)

    found: dict[str, Scenario] = {
        "service-killed": lambda folder: street.killed(folder, days=0.3 if short else 7.0, say=say),
        "no-broker": lambda folder: street.without_broker(folder, hours=6.0 if short else 72.0),
        "backlog": lambda folder: broker.backlog(folder, n=300 if short else 10_000),
        "broker-killed": lambda folder: broker.broker_killed(folder, times=2 if short else 5, n=100 if short else 500),
        "reset": network("reset"),
        "cut": network("cut"),
        "delay": network("delay"),
        "half-open": network("half-open"),
        "access-list": broker.refused_by_acl,
        "quota": broker.over_quota,
        "size": broker.too_large,
        "certificates": broker.certificates,
        "disk-full": lambda folder: storage.disk_full(folder, hours=6.0 if short else 24.0),
        "read-only": storage.read_only,
        "corrupt": lambda folder: storage.corrupt(folder, times=4 if short else 60),
        "clock": street.clock_steps,
        "camera-size": camera.other_size,
    }
    if not short:  # the same ways as the rows above, or as tests/system/test_overload.py, in minutes of real time
        found |= {
            "disk-limit": lambda folder: storage.disk_full(folder, hours=24.0, is_real=False),
            "camera-lost": camera.lost,
            "camera-frozen": camera.frozen,
            "camera-black": camera.black,
            "camera-dark": camera.dark,
            "starved": camera.starved,
        }
    return found


def markdown(outcomes: list[Outcome]) -> str:
    """The table of the page."""
    lines = ["| fault | what happened | what the platform saw | healthy again after |", "|---|---|---|---|"]
    lines += [
        f"| {each.fault} | {each.happened} | {each.platform}{'' if each.holds else ' **promise not kept**'} |"
        f" {_seconds(each.healthy_s)} |"
        for each in outcomes
    ]
    return "\n".join(lines)


def write_page(page: Path, outcomes: list[Outcome]) -> None:
    """Replace what stands between the markers."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{markdown(outcomes)}\n{END}{after}", encoding="utf-8")


def _seconds(healthy_s: float | None) -> str:
    return "–" if healthy_s is None else f"{healthy_s:.2f} s" if healthy_s < 1 else f"{healthy_s:.1f} s"


def main() -> None:
    """Run the scenarios and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description="Faults, for real and in bulk.")
    parser.add_argument("--short", action="store_true", help="as in the tests")
    parser.add_argument("--only", action="append", metavar="WORD", help="scenarios whose name holds it")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--page", type=Path, help="write the table between the markers of this page")
    asked = parser.parse_args()
    logging.getLogger("edge").setLevel(logging.CRITICAL)  # every fault would be told again by whom it hits
    console = Console(stderr=True)
    outcomes = []

    def say(hours: float, kills: int) -> None:
        if kills % 50 == 0:
            console.print(f"  {hours:.0f} simulated hours, {kills} kills")

    for name, scenario in scenarios(short=asked.short, say=say).items():
        if asked.only and not any(word in name for word in asked.only):
            continue
        console.print(name)
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcomes.append(scenario(Path(folder)))
            except pytest.fail.Exception as failed:  # something did not come to pass; the others are still to be seen
                outcomes.append(Outcome(name, str(failed), "–", None, holds=False))
        if asked.json is not None:  # after each: what was seen is not lost when the rest is broken off
            asked.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=2, ensure_ascii=False) + "\n")
    table = Table("fault", "what happened", "what the platform saw", "healthy after", "", show_lines=True)
    for each in outcomes:
        table.add_row(each.fault, each.happened, each.platform, _seconds(each.healthy_s), "ok" if each.holds else "NOT")
    Console().print(table)
    if asked.page is not None:
        write_page(asked.page, outcomes)
    sys.exit(0 if all(each.holds for each in outcomes) else 1)


if __name__ == "__main__":
    main()
