"""Does anything grow? ``snellius run`` on the looped bundled street at full speed, watched from outside.

    python -m benchmarks.soak [--video-hours H] [--every S] [--json OUT]

The service runs as it does on a pole: a process of its own, a real broker, an outbox on disk. Its memory, file handles
and threads are read from /proc (handles only by root: the service leaves no core dump and hides from others). The first
tenth of the street's time is warm-up; told is how much the medians of the last tenth lie above those of the tenth after
the warm-up. Exit code 1 when memory grew by more than 5 MB, or handles or threads grew at all. Ctrl-C ends it early and
tells what there is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.evaluation import ROOT
from calibration import read_site, read_survey, solve
from edge.broker import LoopbackBroker
from edge.cli.showing import Platform

BUNDLED = ROOT / "edge" / "demo"
SIZE_PX = (960, 540)
FILMED = datetime(2026, 11, 23, 6, 30, tzinfo=timezone.utc)
MOST_GROWTH_MB = 5.0
TENTHS = 10
STUCK_S = 600.0  # without a window, the service is not measuring
CONFIG = """
[site]
city = "bench"
device = "soak"
[source]
url = "{clip}"
loop = {loop}
pace = "{pace}"
start = {filmed}
[calibration]
file = "calibration.json"
[lab]
enabled = true
[mqtt]
url = "{broker}"
[outbox]
file = "outbox.sqlite"
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """How the process was at one moment.

    Attributes:
        wall_s: Since its start. [s]
        street_s: How much of the street's time it has told about. [s]
        cpu_s: Processor time so far. [s]
        rss_mb: Memory. [MB]
        handles: Open files and sockets.
        threads: Threads.
    """

    wall_s: float
    street_s: float
    cpu_s: float
    rss_mb: float
    handles: int
    threads: int


def main() -> None:
    """Read the command line, run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video-hours", type=float, default=1.0, help="street's time to measure (default: 1)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between samples (default: 10)")
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    arguments = parser.parse_args()
    samples, exit_code = soaked(arguments.video_hours * 3600, arguments.every)
    if arguments.json:
        rows = [asdict(sample) for sample in samples]
        arguments.json.write_text(json.dumps({"exit_code": exit_code, "samples": rows}, indent=1), encoding="utf-8")
    sys.exit(0 if _told(samples) and exit_code == 0 else 1)


def soaked(street_s: float, every_s: float) -> tuple[list[Sample], int]:
    """Run the service until it has told about so much of the street's time; the samples, and its exit code."""
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="snellius-soak-") as folder, LoopbackBroker() as broker:
        config = configured(Path(folder), broker.url)
        with Platform(broker.url) as platform:
            began_s = progressed_s = time.monotonic()
            command = [sys.executable, "-c", "from edge.cli import main; main()", "run", "--config", str(config)]
            with (Path(folder) / "log").open("w+") as log, subprocess.Popen(command, stderr=log, cwd=ROOT) as service:
                while not samples or samples[-1].street_s < street_s:
                    try:
                        time.sleep(every_s)
                    except KeyboardInterrupt:
                        break
                    if service.poll() is not None or time.monotonic() - progressed_s > STUCK_S:
                        log.seek(0)
                        raise SystemExit(f"the service ended or stood still:\n{log.read()[-2000:]}")
                    told_s = max(((flow.window.end - FILMED).total_seconds() for flow in platform.flows), default=0.0)
                    if not samples or told_s > samples[-1].street_s:
                        progressed_s = time.monotonic()
                    samples.append(_sample(service.pid, time.monotonic() - began_s, told_s))
                    Console(stderr=True).print(f"{told_s:5.0f} s of the street, {samples[-1].rss_mb:.1f} MB")
                service.send_signal(signal.SIGTERM)
                return samples, service.wait(60)


def configured(folder: Path, broker_url: str, *, pace: str = "full", loop: bool = True) -> Path:
    """A settings file for the bundled street; the folder gets calibration and outbox as well."""
    solution = solve(read_survey(BUNDLED / "survey.csv"), read_site(BUNDLED / "site.toml"), SIZE_PX)
    solution.certified(datetime.now(timezone.utc)).save(folder / "calibration.json")
    config = folder / "snellius.toml"
    text = CONFIG.format(
        clip=BUNDLED / "street.mp4", filmed=FILMED.isoformat(), broker=broker_url, pace=pace, loop=str(loop).lower()
    )
    config.write_text(text, encoding="utf-8")
    return config


def _sample(pid: int, wall_s: float, street_s: float) -> Sample:
    status = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        if ":" in line
    )
    times = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return Sample(
        wall_s=wall_s,
        street_s=street_s,
        cpu_s=(int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),
        rss_mb=int(status["VmRSS"].split()[0]) * 1024 / 1e6,
        handles=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=int(status["Threads"]),
    )


def _told(samples: list[Sample]) -> bool:
    """Print what became of each figure; whether nothing grew that may not."""
    last_s = samples[-1].street_s
    first = [each for each in samples if last_s / TENTHS <= each.street_s < 2 * last_s / TENTHS] or samples[:1]
    last = [each for each in samples if each.street_s >= last_s * (1 - 1 / TENTHS)]
    table = Table("", "after warm-up", "at the end", "peak", title=f"{last_s / 3600:.2f} hours of the street")
    growth: dict[str, float] = {}
    for name in ("rss_mb", "handles", "threads"):
        begin, end = (statistics.median(getattr(each, name) for each in part) for part in (first, last))
        growth[name] = end - begin
        table.add_row(name, f"{begin:.1f}", f"{end:.1f}", f"{max(getattr(each, name) for each in samples):.1f}")
    Console().print(table)
    Console().print(
        f"{samples[-1].wall_s:.0f} s, {samples[-1].cpu_s:.0f} CPU s: {samples[-1].cpu_s / last_s:.3f} CPU s per video s"
    )
    return growth["rss_mb"] <= MOST_GROWTH_MB and growth["handles"] <= 0 and growth["threads"] <= 0


if __name__ == "__main__":
    main()
