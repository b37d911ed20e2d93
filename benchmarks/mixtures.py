"""Trajectories that show two vehicles: each is refused, or has the speed of one of them.

    python -m benchmarks.mixtures [--each 1500] [--seed 1] [--json OUT]

At the poles of :mod:`benchmarks.simulation`, with box noise as measured for the bundled detector in half of the cases
and 1 to 6 px of white or wandering noise in the others, the boxes of a car become those of another vehicle: for good
(an identity switch), for a while, drawn around both, or drawn around the car and a parked one. They go to the estimator
as they are: no tracker that might have told them apart is asked.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.evaluation import cell
from benchmarks.simulation import (
    BLUNDER_KMH,
    NOISES_PX,
    OFFSET_SIGMA,
    RATES_HZ,
    REACH_M,
    PixelNoise,
    Pole,
    some_poles,
)
from calibration.units import kmh_from_mps
from edge.domain import Bools, Direction, Floats
from edge.speed import Estimator
from tests.support.passing import ZONE_M, Drive, Noise, a_zone, boxed, boxes_of, some_solid

POLES = 20
GAPS_M = (5.0, 10.0)  # between the middles of two vehicles in one lane
NO_PASSAGE = "no passage"
SWITCHED, STRAYED = "another from some place on", "another for a while"
MERGED, PARKED = "two in one box for a while", "the car and a parked one"
KINDS = (SWITCHED, STRAYED, MERGED, PARKED)


@dataclass(frozen=True, slots=True)
class Mixture:
    """What became of a trajectory that shows two vehicles.

    Attributes:
        kind: How they were mixed.
        view: Class of the pole.
        speeds_kmh: True speeds of those whose speed would be right.
        measured_kmh: None when it was refused.
        reason: Why it was refused; None when it was measured.
    """

    kind: str
    view: str
    speeds_kmh: tuple[float, ...]
    measured_kmh: float | None
    reason: str | None

    @property
    def error_kmh(self) -> float:
        """Distance from the nearest of the true speeds; 0 when nothing was measured."""
        if self.measured_kmh is None:
            return 0.0
        return min(abs(self.measured_kmh - speed) for speed in self.speeds_kmh)


def _as_one(kind: str, own: Floats, others: Floats, is_later: Bools, is_met: Bools) -> Floats:
    """The boxes of two vehicles as one trajectory shows them, each shape (k, 4), the masks (k,)."""
    low, high = np.fmin(own[:, :2], others[:, :2]), np.fmax(own[:, 2:], others[:, 2:])  # NaN of one that is not seen
    around_both = np.concatenate([low, high], axis=1)
    common = np.minimum(own[:, 2:], others[:, 2:]) - np.maximum(own[:, :2], others[:, :2])
    shown: dict[str, tuple[Bools, Floats]] = {
        SWITCHED: (is_later, others),
        STRAYED: (is_met, others),
        MERGED: (is_met, around_both),
        PARKED: (common.min(axis=1) > 0.0, around_both),
    }
    mask, boxes = shown[kind]
    return np.where(mask[:, None], boxes, own)


def mixed(kind: str, pole: Pole, rng: np.random.Generator) -> Mixture:
    """One trajectory with everything about it left to chance."""
    direction = list(Direction)[int(rng.integers(2))]
    speed_mps = rng.uniform(15.0, 70.0) / 3.6
    first = Drive(speed_mps, direction=direction, lateral_m=-direction.sign * 1.6 + rng.normal(0.0, 0.2))
    met_s = first.reaches_s(rng.uniform(2.0, ZONE_M - 2.0) - ZONE_M / 2)
    second = _other(kind, first, met_s, rng)
    noise, rate_hz = _noise(rng), float(rng.choice(RATES_HZ))
    reach_s = REACH_M / speed_mps
    times_s = first.middle_s + np.arange(-reach_s, reach_s, 1.0 / rate_hz)
    own, others = (
        noise.on(boxes_of(pole.camera, some_solid(rng, body), drive, times_s), times_s, rng)
        for body, drive in (("car", first), (str(rng.choice(["car", "car", "van"])), second))
    )
    lasts_s = rng.uniform(0.2, 0.7) * ZONE_M / speed_mps
    boxes = _as_one(kind, own, others, times_s > met_s, np.abs(times_s - met_s) < lasts_s / 2)
    seen = np.isfinite(boxes).all(axis=1)
    path = Estimator(pole.plane, zone_length_m=ZONE_M).estimate(boxed(pole.plane, times_s[seen], boxes[seen]))
    passage = None if path is None else a_zone().passage(path, 0)
    return Mixture(
        kind=kind,
        view=pole.view,
        speeds_kmh=tuple(kmh_from_mps(drive.speed_mps) for drive in (first, second) if drive.speed_mps > 0),
        measured_kmh=None if passage is None or passage.speed is None else kmh_from_mps(passage.speed.speed_mps),
        reason=NO_PASSAGE if passage is None else passage.reason and passage.reason.value,
    )


def _other(kind: str, first: Drive, met_s: float, rng: np.random.Generator) -> Drive:
    """The vehicle that the car is mixed with where it is at an instant: before or behind it, or parked beside it."""
    if kind == PARKED:
        place_m = float(first.along_m(np.array(met_s)))
        return Drive(0.0, middle_m=place_m, lateral_m=first.lateral_m * 2.2)
    gap_m = float(rng.choice([-1.0, 1.0])) * rng.uniform(*GAPS_M)
    speed_mps = first.speed_mps * (rng.uniform(0.6, 1.5) if rng.random() < 0.7 else 1.0)
    middle_m = float(first.along_m(np.array(met_s))) + first.direction.sign * gap_m
    lateral_m = -first.direction.sign * 1.6 + rng.normal(0.0, 0.2)
    return Drive(speed_mps, middle_s=met_s, middle_m=middle_m, direction=first.direction, lateral_m=lateral_m)


def _noise(rng: np.random.Generator) -> Noise:
    if rng.random() < 0.5:
        return Noise()
    sigma_px, is_wandering = float(rng.choice(NOISES_PX)), bool(rng.random() < 0.5)
    return PixelNoise(constant=(OFFSET_SIGMA,) * 4, sigma_px=sigma_px, is_wandering=is_wandering)


def mixtures(*, each: int, seed: int) -> list[Mixture]:
    """So many trajectories of each kind, at the poles of one draw."""
    poles = some_poles(np.random.default_rng(seed), POLES)
    turns = [(number, index, kind) for number in range(each) for index, kind in enumerate(KINDS)]
    shown = track(turns, description="mixing", console=Console(stderr=True), transient=True)
    return [
        mixed(kind, poles[number % POLES], np.random.default_rng([seed, number, index]))
        for number, index, kind in shown
    ]


def main() -> None:
    """Read the command line, mix, print a table, write JSON; exit 1 when anything was measured wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=1500, help="trajectories of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    arguments = parser.parse_args()
    found = mixtures(each=arguments.each, seed=arguments.seed)
    wrong = f"over {BLUNDER_KMH:g}"
    table = Table("boxes of a car that become", "n", "measured", "p99", "worst", wrong, "refused", title="km/h")
    for kind in KINDS:
        of = [mixture for mixture in found if mixture.kind == kind]
        errors = np.array([mixture.error_kmh for mixture in of if mixture.measured_kmh is not None])
        reasons = Counter(mixture.reason for mixture in of if mixture.reason is not None)
        table.add_row(
            kind,
            f"{len(of)}",
            f"{len(errors)}",
            cell(float(np.percentile(errors, 99)) if len(errors) else None),
            cell(float(errors.max()) if len(errors) else None),
            f"{(errors > BLUNDER_KMH).sum()}",
            ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()),
        )
    Console(width=140).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")
    raise SystemExit(1 if any(mixture.error_kmh > BLUNDER_KMH for mixture in found) else 0)


if __name__ == "__main__":
    main()
