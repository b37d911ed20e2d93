"""A year of a street under the privacy rule: what is released, in windows of what length, and how late.

    python -m benchmarks.privacy_year [--days 365] [--k 10] [--json OUT]

Streets of 100, 300, 1,000 and 3,000 motor vehicles a day (both directions together), with the changes of the clocks,
400 bicycles a day, and 4 % of the vehicles unmeasured, through the real windows and the real rule. Beside it, what
plain suppression of 15-minute windows below k would lose, and how far the V85 of a day of 1,000 vehicles or more,
merged from its windows, lies from the exact one.
"""

from __future__ import annotations

import argparse
import json
import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibration.units import kmh_from_mps
from edge.domain import DayMix, Direction, Floats, Passage, SpeedHistogram, WindowAggregate, traffic_day
from tests.support.builders import BINNING, HILVERSUM
from tests.support.traffic import SLOT_S, Told, passages, told

FIRST_DAY = "2026-01-01"
STREETS = (100, 300, 1000, 3000)
BICYCLES_A_DAY = 400
ENOUGH_N = 1000  # for a V85 to be compared with the exact one
HOUR_NS = 3600 * 10**9


class Street:
    """What truly passed, kept for comparison while the device forgets it."""

    def __init__(self, motor_a_day: int, days: int) -> None:
        self._motor_a_day = motor_a_day
        self._days = days
        self.times_ns: dict[Direction, list[int]] = {direction: [] for direction in Direction}
        self.by_day: dict[Any, list[float]] = defaultdict(list)
        self.by_slot: dict[tuple[Direction, int], int] = defaultdict(int)

    def traffic(self) -> Iterator[tuple[int, Passage]]:
        """The passages, noted as they pass."""
        for utc_ns, passage in passages(
            first_day=FIRST_DAY, days=self._days, motor_a_day=self._motor_a_day, bicycles_a_day=BICYCLES_A_DAY, seed=1
        ):
            if passage.speed is not None and passage.road_user.is_motor:
                self.times_ns[passage.direction].append(utc_ns)
                self.by_day[traffic_day(utc_ns, HILVERSUM)].append(kmh_from_mps(passage.speed.speed_mps))
                self.by_slot[passage.direction, utc_ns // (SLOT_S * 10**9)] += 1
            yield utc_ns, passage

    def delays_h(self, window: WindowAggregate, sent_utc_ns: int) -> Floats:
        """From passing to leaving the device, for every vehicle of a window. [h]"""
        times_ns = self.times_ns[window.direction]
        inside = times_ns[
            bisect_right(times_ns, window.start_utc_ns - 1) : bisect_right(times_ns, window.end_utc_ns - 1)
        ]
        return (sent_utc_ns - np.array(inside, dtype=np.float64)) / HOUR_NS


def a_year(motor_a_day: int, days: int, k: int) -> dict[str, Any]:
    """One street: what the table says about it."""
    street = Street(motor_a_day, days)
    every: list[Told] = list(told(street.traffic(), first_day=FIRST_DAY, k=k))
    flows = [(each, each.release.record) for each in every if isinstance(each.release.record, WindowAggregate)]
    windows = [window for _, window in flows]
    driven = sum(map(len, street.times_ns.values()))
    released = sum(window.measured for window in windows)
    lengths_h = [(window.end_utc_ns - window.start_utc_ns) / HOUR_NS for window in windows]
    delays_h = np.concatenate([street.delays_h(window, each.sent_utc_ns) for each, window in flows])
    suppressed = sum(count for count in street.by_slot.values() if count < k)
    return {
        "motor_a_day": motor_a_day,
        "measured": driven,
        "released_share": released / driven,
        "least_n": min(window.measured for window in windows),
        "windows": len(windows),
        "windows_a_day": len(windows) / days,
        "length_h": {
            "median": statistics.median(lengths_h),
            "p95": float(np.quantile(lengths_h, 0.95)),
            "most": max(lengths_h),
        },
        "delay_h": {"median": float(np.median(delays_h)), "p95": float(np.quantile(delays_h, 0.95))},
        "mixes": sum(isinstance(each.release.record, DayMix) for each in every),
        "suppression_would_lose": suppressed / driven,
        "v85_error_kmh": _v85_errors(street, windows),
    }


def _v85_errors(street: Street, windows: list[WindowAggregate]) -> dict[str, float] | None:
    """Mean absolute and largest error of the V85 of a day; None when no day has enough vehicles. [km/h]"""
    merged: dict[Any, SpeedHistogram] = defaultdict(lambda: SpeedHistogram.empty(BINNING))
    for window in windows:
        merged[window.day] += window.histogram
    errors = [
        abs((merged[day].quantile_kmh(0.85) or 0.0) - float(np.quantile(speeds, 0.85)))
        for day, speeds in street.by_day.items()
        if len(speeds) >= ENOUGH_N and merged[day].n == len(speeds)
    ]
    return {"days": len(errors), "mean": statistics.fmean(errors), "most": max(errors)} if errors else None


def _table(years: list[dict[str, Any]]) -> Table:
    table = Table(
        "vehicles a day", "measured", "released", "least n", "windows a day", "length (h): median", "95 %", "most",
        "delay (h): median", "95 %", "day mixes", "suppression would lose", "V85 error (km/h): mean", "most", box=None,
    )  # fmt: skip
    for year in years:
        error = year["v85_error_kmh"]
        table.add_row(
            f"{year['motor_a_day']:,}",
            f"{year['measured']:,}",
            f"{year['released_share']:.2%}",
            str(year["least_n"]),
            f"{year['windows_a_day']:.1f}",
            *(f"{year['length_h'][name]:.2f}" for name in ("median", "p95", "most")),
            *(f"{year['delay_h'][name]:.2f}" for name in ("median", "p95")),
            str(year["mixes"]),
            f"{year['suppression_would_lose']:.0%}",
            *("", "") if error is None else (f"{error['mean']:.3f}", f"{error['most']:.3f}"),
        )
    return table


def main() -> None:
    """Simulates every street and prints the table."""
    parser = argparse.ArgumentParser(description="A year of a street under the privacy rule.")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    years = [
        a_year(street, chosen.days, chosen.k) for street in track(STREETS, "simulating", console=Console(stderr=True))
    ]
    Console(width=200).print(_table(years))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(years, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
