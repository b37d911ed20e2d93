"""Someone with a laser gun beside a street whose true speeds are known."""

from __future__ import annotations

import math

import numpy as np

from calibration.verify import Passed, Readings, passed_of

OURS_KMH, GUN_KMH = 0.5, 0.6  # standard deviations in these tests, as stated


class Street:
    """Half an hour of vehicles whose true speeds are known, seen by us and by someone with a gun."""

    def __init__(self, seed: int, *, vehicles: int = 120, bias_kmh: float = 0.0, scale: float = 1.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.times_s = np.cumsum(1.5 + self.rng.exponential(1800 / vehicles - 1.5, vehicles))
        self.true_kmh = self.rng.normal(38.0, 7.0, vehicles).clip(15.0)
        self.forward = self.rng.random(vehicles) < 0.5
        self.ours_kmh = scale * self.true_kmh + bias_kmh + self.rng.normal(0.0, OURS_KMH, vehicles)

    def _direction(self, row: int) -> str:
        return "forward" if self.forward[row] else "backward"

    def passed(self, *, missed: float = 0.0) -> Passed:
        """Our passages, some of them missed."""
        seen = self.rng.random(len(self.times_s)) >= missed
        lateral = np.where(self.forward, -1.5, 1.5)
        table = zip(self.times_s, self.ours_kmh, np.full(len(seen), OURS_KMH), self.forward, lateral)
        return passed_of([(t, v, s, bool(f), d) for (t, v, s, f, d), kept in zip(table, seen) if kept])

    def read(
        self,
        count: int = 40,
        *,
        offset_s: float = 0.0,
        angle_deg: float = 0.0,
        mistyped: int = 0,
        with_direction: bool = True,
        device: str = "",
        high: float = 0.0,
        jitter_s: float = 0.3,
    ) -> Readings:
        """Readings of some of them, in whole km/h, at about the time when they pass."""
        rows = np.sort(self.rng.choice(len(self.times_s), count, replace=False))
        shown = self.true_kmh[rows] * math.cos(math.radians(angle_deg)) + self.rng.normal(0.0, GUN_KMH, count)
        shown = np.round(shown * (1 + high))
        shown[self.rng.choice(count, mistyped, replace=False)] += 18
        return Readings(
            times_s=self.times_s[rows] + offset_s + self.rng.normal(0.0, jitter_s, count),
            read_kmh=shown,
            sigma_kmh=np.full(count, math.hypot(GUN_KMH, 0.29)),
            angle_deg=np.full(count, angle_deg),
            directions=tuple(
                ("forward" if self.forward[row] else "backward") if with_direction else "" for row in rows
            ),
            lanes=("",) * count,
            origin=tuple(f"gun.csv line {number + 2}" for number in range(count)),
            device=device,
        )
