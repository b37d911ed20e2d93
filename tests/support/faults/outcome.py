"""One line of the table of faults."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 180.0  # for anything that is waited for, on a busy computer


@dataclass(frozen=True)
class Outcome:
    """What a fault led to; every cell was measured, or read from what the platform received.

    Attributes:
        fault: What went wrong.
        happened: What the device did.
        platform: What the platform saw.
        healthy_s: From the end of the fault until all was well; None where the fault does not end. [s]
        holds: Whether the promise was kept.
    """

    fault: str
    happened: str
    platform: str
    healthy_s: float | None
    holds: bool


def memory_mb() -> float:
    """Resident memory of this process now. [MB]"""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
