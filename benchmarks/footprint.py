"""What starting costs, and what stays in memory: the verbs as people start them, each in a process of its own.

    python -m benchmarks.footprint [--rounds N] [--json OUT]
        [--ultralytics-python PATH [--ultralytics-weights FILE] [--ultralytics-graphs FOLDER]]

- help: ``snellius --help`` from start to end;
- first look: ``snellius run`` on the bundled street, in real time, from its start until a frame has been measured;
- peak: the most memory that this ``run`` had after ``--seconds`` of the street;
- the same for ultralytics' ``SpeedEstimator``, when the Python of an environment with it is given.

Wall times depend on what else the computer does; CPU seconds hardly. Told are the medians of the rounds.
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
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.evaluation import ROOT
from benchmarks.soak import BUNDLED, configured
from benchmarks.throughput import exported, ultralytics_figures

SNELLIUS = [sys.executable, "-c", "from edge.cli import main; main()"]
MEASURED = "status: "  # the service's first word about itself comes after its first frame
PATIENCE_S = 120.0
TARGETS = {"help": 0.3, "first look": 2.0}  # seconds
MOST_MIB = 250e6 / (1 << 20)


def main() -> None:
    """Read the command line, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the street in run (default: 20)")
    parser.add_argument("--ultralytics-python", type=Path, help="the Python of an environment with ultralytics")
    parser.add_argument("--ultralytics-weights", type=Path, help="a .pt file; default: a random YOLO11n")
    parser.add_argument("--ultralytics-graphs", type=Path, help="folder in which its exported graphs are kept")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, list[dict[str, float]]] = {"snellius --help": [], "snellius run": []}
    with tempfile.TemporaryDirectory() as scratch:
        config = configured(Path(scratch), "mqtt://127.0.0.1:9", pace="real", loop=False)  # nobody listens there
        graphs: dict[str, Path] = {}
        if arguments.ultralytics_python is not None:
            folder = arguments.ultralytics_graphs or Path(scratch) / "graphs"
            graphs = exported(arguments.ultralytics_python, arguments.ultralytics_weights, folder)
        for _ in range(arguments.rounds):
            figures["snellius --help"].append(_helped())
            figures["snellius run"].append(_ran(config, arguments.seconds))
            for kind, graph in graphs.items():
                clip = BUNDLED / "street.mp4"
                figure = ultralytics_figures(arguments.ultralytics_python, graph, clip, 0.0, arguments.seconds)
                figures.setdefault(f"ultralytics {kind}", []).append(figure)
    _print(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _helped() -> dict[str, float]:
    began_s = time.perf_counter()
    process = subprocess.Popen([*SNELLIUS, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("snellius --help failed")
    return {"first_result_s": time.perf_counter() - began_s, "first_result_cpu_s": _used(usage)["cpu_s"]}


def _ran(config: Path, seconds: float) -> dict[str, float]:
    """``snellius run`` until so much of the street has gone by; when its first frame was measured, and what it took."""
    began_s = time.perf_counter()
    command = [*SNELLIUS, "run", "--config", str(config)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    first_s: float | None = None
    said = []
    for line in process.stderr:
        said.append(line)
        if MEASURED in line:
            first_s = time.perf_counter() - began_s
            first_cpu_s = _cpu_s(process.pid)
            break
    if first_s is None:
        process.wait(PATIENCE_S)
        raise SystemExit("snellius run measured nothing:\n" + "".join(said[-10:]))
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    _, _, usage = os.wait4(process.pid, 0)
    return {"first_result_s": first_s, "first_result_cpu_s": first_cpu_s, **_used(usage)}


def _cpu_s(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def _used(usage: Any) -> dict[str, float]:
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / (1 << 10)}  # it counts KiB


def _print(figures: dict[str, list[dict[str, float]]]) -> None:
    table = Table("", "first result, s", "CPU s until then", "peak MiB", title="footprint (medians)")
    for name, rounds in figures.items():
        table.add_row(
            name,
            f"{_median(rounds, 'first_result_s'):.2f}",
            f"{_median(rounds, 'first_result_cpu_s'):.2f}",
            f"{_median(rounds, 'peak_mib'):.0f}" if "peak_mib" in rounds[0] else "",
        )
    Console().print(table)
    Console().print(
        f"aims on an idle computer: help {TARGETS['help']} s, first look {TARGETS['first look']} s, run at most"
        f" {MOST_MIB:.0f} MiB (250 MB)"
    )


def _median(rounds: list[dict[str, float]], what: str) -> float:
    return statistics.median(figure[what] for figure in rounds)


if __name__ == "__main__":
    main()
