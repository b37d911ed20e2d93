"""What a Raspberry Pi 5 and a Jetson would have to do: derived from published times of networks, not measured.

    python -m benchmarks.devices FIGURES.json [--json OUT]

FIGURES.json is what ``python -m benchmarks.throughput --json FIGURES.json`` wrote. How often the detector looks at each
street is taken from it: that depends on the street alone, not on the computer. Times a published time of an image, it
is the share of one inference engine that a device would need with that network in the place of ours. Decoding and
everything else is not in it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

EVERY_FRAME, OURS = "every frame", "snellius"
Figures = dict[str, dict[str, list[dict[str, float]]]]  # street, way, rounds


@dataclass(frozen=True, slots=True)
class Published:
    """How long a device needs for an image, as somebody has published it.

    Attributes:
        device: What it is.
        network: What it ran, with the size of its input.
        runtime: By means of what.
        image_ms: Time of one image, the network alone. [ms]
        source: Who says so.
    """

    device: str
    network: str
    runtime: str
    image_ms: float
    source: str


PI_5, ORIN_NANO = "Raspberry Pi 5", "Jetson Orin Nano Super"
PI_GUIDE = "Ultralytics documentation, guide Raspberry Pi (8.4.108)"
PI_GUIDE_BEFORE = "Ultralytics documentation, guide Raspberry Pi (8.4.14)"
JETSON_GUIDE = "Ultralytics documentation, guide NVIDIA Jetson (8.3.51)"
Q_ENGINEERING = "Q-engineering, table of frames a second in its repositories for the Raspberry Pi: 30.0, at 2.9 GHz"
PUBLISHED = (
    Published(PI_5, "NanoDet-Plus 416x416", "NCNN", 1000 / 30.0, Q_ENGINEERING),
    Published(PI_5, "YOLO26n 640x640", "NCNN", 67.03, PI_GUIDE),
    Published(PI_5, "YOLO26n 640x640", "OpenVINO", 104.55, PI_GUIDE),
    Published(PI_5, "YOLO26n 640x640", "onnxruntime", 125.99, PI_GUIDE),
    Published(PI_5, "YOLO11n 640x640", "onnxruntime", 147.20, PI_GUIDE_BEFORE),
    Published(ORIN_NANO, "YOLO11n 640x640", "TensorRT FP16", 4.91, JETSON_GUIDE),
)


def main() -> None:
    """Read the command line, derive, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, help="what benchmarks.throughput --json wrote")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    try:
        rows = derived(json.loads(arguments.figures.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as wrong:
        parser.error(f"{arguments.figures}: expected what benchmarks.throughput --json wrote ({wrong})")
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def looks_per_s(rounds: list[dict[str, float]]) -> float:
    """How often the detector looked, in every round alike. [1/s]"""
    return rounds[0]["inferences"] / rounds[0]["video_s"]


def derived(figures: Figures) -> list[dict[str, Any]]:
    """The share of an inference engine that each published network would take, on each street.

    Args:
        figures: Of :mod:`benchmarks.throughput`.

    Returns:
        A row for each published time: its facts, and ``share``: way of looking to the share, 1 being all of it.
    """
    busy = next(iter(figures.values()))
    looks = {f"{EVERY_FRAME}, {looks_per_s(busy[EVERY_FRAME]):.0f}/s": looks_per_s(busy[EVERY_FRAME])}
    for street, ways in figures.items():
        looks[f"{street}, {looks_per_s(ways[OURS]):.1f}/s"] = looks_per_s(ways[OURS])
    return [
        {
            "device": each.device,
            "network": each.network,
            "runtime": each.runtime,
            "image_ms": round(each.image_ms, 2),
            "source": each.source,
            "share": {name: rate * each.image_ms / 1000 for name, rate in looks.items()},
        }
        for each in PUBLISHED
    ]


def print_table(rows: list[dict[str, Any]]) -> None:
    """One row for each published time, and where it was published."""
    table = Table(
        "", "published, ms", *rows[0]["share"], title="DERIVED, not measured: share of one inference engine, by looks"
    )
    for row in rows:
        name = f"{row['device']}, {row['network']}, {row['runtime']}"
        table.add_row(name, f"{row['image_ms']:.1f}", *(f"{share:.1%}" for share in row["share"].values()))
    console = Console(width=150)
    console.print(table)
    for source in dict.fromkeys(row["source"] for row in rows):
        times = ", ".join(f"{row['image_ms']:.1f}" for row in rows if row["source"] == source)
        console.print(f"{times} ms: {source}", highlight=False)


if __name__ == "__main__":
    main()
