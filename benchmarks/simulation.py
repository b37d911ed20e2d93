"""Ten thousand vehicles at twenty poles that nobody chose: where the estimate holds, and what it refuses.

    python -m benchmarks.simulation [--vehicles 10000] [--poles 20] [--seed 1] [--json OUT]

Poles stand 4 to 8 m high and look from side-on to along the street, some through a wide lens; each is surveyed with
0.5 px and 1 cm of noise. Bodies are rounded cars, vans and buses (:mod:`tests.support.passing`), not the hulls that the
estimate assumes. Frame rates go from 25 down to 5 a second, the noise of box edges from 1 to 6 px, white or wandering.
Every vehicle goes through the product's own localiser, tracker, estimator and zone.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibration import Camera, RoadPlane
from calibration.camera import Floats
from calibration.units import kmh_from_mps
from edge.domain import Detections, Direction
from edge.speed import Estimator
from tests.support.passing import (
    EXACT,
    SIZE_PX,
    ZONE_M,
    Drive,
    Noise,
    Shot,
    Solid,
    a_camera,
    a_zone,
    boxes_of,
    followed,
    some_solid,
    surveyed_plane,
)

RATES_HZ = (25.0, 20.0, 15.0, 10.0, 7.5, 5.0)
NOISES_PX = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
KINDS = {"car": 0.75, "van": 0.17, "bus": 0.08}
VIEWS = {"side-on": (60.0, 90.0), "oblique": (25.0, 60.0), "along": (5.0, 25.0)}  # degrees between axis and gaze
WANDER_S = 0.3  # how long a wandering edge keeps its error
OFFSET_SIGMA = 0.012  # of the box, what a vehicle keeps at each edge
BLUNDER_KMH = 5.0
GOOD_RATE_HZ, GOOD_NOISE_PX = 10.0, 3.0
MAX_BIAS_KMH = 0.2
MIN_RECALL = 0.9
MANY = 100  # vehicles that tell a recall to 3 %
NOISES = {"white": False, "wandering": True}
MAX_TRIES = 2000
REACH_M = 28.0  # followed this far to either side of the zone's middle, at the speed there
ONLY = np.zeros(1, dtype=np.intp)  # each vehicle is alone
NOWHERE = np.zeros(1)


@dataclass(frozen=True, slots=True)
class Pole:
    """A camera on a pole, as it stands and as it was surveyed.

    Attributes:
        view: Class of the angle between street and gaze.
        camera: The truth.
        plane: What the survey made of it.
    """

    view: str
    camera: Camera
    plane: RoadPlane


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one vehicle.

    Attributes:
        view: Class of its pole.
        kind: Of body.
        rate_hz: Frames a second. [1/s]
        noise_px: One standard deviation of a box edge. [px]
        is_wandering: Whether that noise is correlated in time.
        true_kmh: Its mean speed through the zone.
        error_kmh: Measured minus true; None when it was not measured.
        sigma_kmh: Stated one standard deviation; None when it was not measured.
        reason: Why it was not measured; ``missed`` when no passage was made of it; None when it was measured.
        passages: Passages made of it.
    """

    view: str
    kind: str
    rate_hz: float
    noise_px: float
    is_wandering: bool
    true_kmh: float
    error_kmh: float | None
    sigma_kmh: float | None
    reason: str | None
    passages: int

    @property
    def is_easy(self) -> bool:
        """Whether frame rate and noise are those for which a recall is promised."""
        return self.rate_hz >= GOOD_RATE_HZ and self.noise_px <= GOOD_NOISE_PX


def some_pole(rng: np.random.Generator, view: str) -> Pole:
    """A pole from which the whole zone can be seen and surveyed.

    Raises:
        RuntimeError: None was found.
    """
    low, high = VIEWS[view]
    for _ in range(MAX_TRIES):
        angle = math.radians(rng.uniform(low, high))
        height, away = rng.uniform(4.0, 8.0), rng.uniform(12.0, 24.0)
        aside = away * math.sin(angle)
        if not 4.0 <= aside <= 16.0:
            continue
        camera = a_camera(
            at_m=(ZONE_M / 2 - away * math.cos(angle), -aside, height),
            towards_m=(ZONE_M / 2 + rng.uniform(-1.0, 1.0), 0.0, 0.5),
            focal_px=rng.uniform(480.0, 900.0),
            k1=float(rng.choice([0.0, 0.0, -0.15])),
        )
        corners = np.array([[x, y, z] for x in (0.0, ZONE_M) for y in (-3.5, 3.5) for z in (0.0, 1.5)])
        pixels = camera.project(corners)
        if not ((pixels > 5.0) & (pixels < np.array(SIZE_PX) - 5.0)).all():  # NaN is not in the picture
            continue
        return Pole(view, camera, surveyed_plane(camera, seed=int(rng.integers(1 << 30))))
    raise RuntimeError(f"no {view} pole sees the zone in {MAX_TRIES} tries")


def some_poles(rng: np.random.Generator, count: int) -> list[Pole]:
    """So many poles, spread over the classes of view."""
    return [some_pole(rng, list(VIEWS)[number % len(VIEWS)]) for number in range(count)]


@dataclass(frozen=True)
class PixelNoise(Noise):
    """Noise of box edges in pixels: white or wandering, beside what a vehicle keeps and the shadow at the bottom.

    Attributes:
        sigma_px: One standard deviation from frame to frame. [px]
        is_wandering: Whether it is correlated over ``WANDER_S``.
    """

    sigma_px: float = 1.0
    is_wandering: bool = False

    def on(self, boxes: Floats, times_s: Floats, rng: np.random.Generator) -> Floats:
        """The boxes as the detector draws them; an edge on the picture's border stays there."""
        errors = rng.normal(size=boxes.shape)
        if self.is_wandering:
            for row in range(1, len(errors)):
                keep = math.exp(-(times_s[row] - times_s[row - 1]) / WANDER_S)
                errors[row] = keep * errors[row - 1] + math.sqrt(1 - keep**2) * errors[row]
        kept = replace(EXACT, constant=self.constant, low_bottom=self.low_bottom, near_bottom=self.near_bottom)
        drawn = kept.on(boxes, times_s, rng) + self.sigma_px * errors
        edge = np.array(SIZE_PX) - 0.5
        low, high = boxes[:, :2] <= -0.5, boxes[:, 2:] >= edge
        drawn[:, :2] = np.where(low, -0.5, drawn[:, :2])
        drawn[:, 2:] = np.where(high, edge, drawn[:, 2:])
        drawn = np.clip(drawn, -0.5, np.tile(edge, 2))
        drawn[:, :2] = np.minimum(drawn[:, :2], drawn[:, 2:] - 1.0)  # no detector draws an empty box
        return drawn


def drive_past(pole: Pole, rng: np.random.Generator) -> Outcome:
    """One vehicle with everything about it left to chance, from boxes to passage."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    rate_hz, noise_px = float(rng.choice(RATES_HZ)), float(rng.choice(NOISES_PX))
    is_wandering = bool(rng.random() < 0.5)
    direction = list(Direction)[int(rng.integers(2))]
    speed_mps = rng.uniform(15.0, 70.0) / 3.6
    most_mps2 = min(1.0, 0.75 * speed_mps**2 / (2 * REACH_M))  # nobody comes below half of the speed
    drive = Drive(
        speed_mps,
        acceleration_mps2=float(np.clip(rng.normal(0.0, 0.4), -most_mps2, most_mps2)) if rng.random() < 0.5 else 0.0,
        direction=direction,
        lateral_m=-direction.sign * 1.6 + rng.normal(0.0, 0.2),
    )
    noise = PixelNoise(constant=(OFFSET_SIGMA,) * 4, sigma_px=noise_px, is_wandering=is_wandering)
    passages = list(_passages(pole, some_solid(rng, kind), drive, noise, rate_hz, rng))
    true_kmh = kmh_from_mps(drive.mean_speed_mps)
    best = max(passages, key=lambda p: (p[0] is not None, p[3]), default=(None, None, "missed", 0))
    return Outcome(
        view=pole.view,
        kind=kind,
        rate_hz=rate_hz,
        noise_px=noise_px,
        is_wandering=is_wandering,
        true_kmh=true_kmh,
        error_kmh=None if best[0] is None else best[0] - true_kmh,
        sigma_kmh=best[1],
        reason=best[2],
        passages=len(passages),
    )


def _passages(
    pole: Pole, solid: Solid, drive: Drive, noise: PixelNoise, rate_hz: float, rng: np.random.Generator
) -> Iterator[tuple[float | None, float | None, str | None, int]]:
    """Speed, sigma, reason and samples of every passage that the product makes of one vehicle."""
    reach_s = REACH_M / drive.speed_mps
    times = (
        drive.middle_s + rng.uniform(0.0, 1.0 / rate_hz) + np.arange(-reach_s, reach_s, 1.0 / rate_hz, dtype=np.float64)
    )
    exact = boxes_of(pole.camera, solid, drive, times)
    seen = np.isfinite(exact).all(axis=1)
    taken = [
        Shot(float(time_s), Detections(box[None], np.array([0.8]), np.array([solid.road_user.label])), ONLY, NOWHERE)
        for time_s, box in zip(times[seen], noise.on(exact[seen], times[seen], rng))
    ]
    estimator, zone = Estimator(pole.plane, zone_length_m=ZONE_M), a_zone()
    for trajectory in followed(pole.plane, taken):
        path = estimator.estimate(trajectory)
        passage = None if path is None else zone.passage(path, 0)
        if passage is None:
            continue
        if passage.speed is None:
            yield None, None, passage.reason.value if passage.reason else None, passage.samples
        else:
            speed = passage.speed
            yield kmh_from_mps(speed.speed_mps), kmh_from_mps(speed.sigma_mps), None, passage.samples


def simulate(*, vehicles: int, poles: int, seed: int) -> list[Outcome]:
    """Vehicles spread evenly over poles, the poles over the classes of view."""
    places = some_poles(np.random.default_rng(seed), poles)
    turns = track(range(vehicles), description="driving past", console=Console(stderr=True), transient=True)
    return [drive_past(places[number % poles], np.random.default_rng([seed, number])) for number in turns]


def figures(outcomes: list[Outcome]) -> dict[str, float]:
    """Recall, errors and coverage of a set of outcomes. [km/h]"""
    measured = [outcome for outcome in outcomes if outcome.error_kmh is not None]
    errors = np.array([outcome.error_kmh for outcome in measured], dtype=np.float64)
    sigmas = np.array([outcome.sigma_kmh for outcome in measured], dtype=np.float64)
    size = np.abs(errors)
    found: dict[str, float] = {"n": len(outcomes), "recall": len(measured) / max(len(outcomes), 1)}
    if not len(measured):
        return found
    return found | {
        "bias": float(errors.mean()),
        "bias_sigma": float(errors.std() / math.sqrt(len(errors))),
        "median": float(np.median(size)),
        "p99": float(np.percentile(size, 99)),
        "worst": float(size.max()),
        "blunders": float((size > BLUNDER_KMH).sum()),
        "sigma": float(np.median(sigmas)),
        "within_2_sigma": float((size <= 2 * sigmas).mean()),
        "twice": float(sum(outcome.passages > 1 for outcome in outcomes)),
    }


def groups(outcomes: list[Outcome]) -> dict[str, list[Outcome]]:
    """Everything together and by what may matter."""
    easy = [outcome for outcome in outcomes if outcome.is_easy]
    parts = {"all": outcomes, f"from {GOOD_RATE_HZ:g} frames/s, up to {GOOD_NOISE_PX:g} px": easy}
    parts |= {f"  {view}": [outcome for outcome in easy if outcome.view == view] for view in VIEWS}
    parts |= {
        f"  {GOOD_NOISE_PX:g} px {noise}, {view}": _seen(easy, view, GOOD_NOISE_PX, is_wandering)
        for view in VIEWS
        for noise, is_wandering in NOISES.items()
    }
    parts |= {view: [outcome for outcome in outcomes if outcome.view == view] for view in VIEWS}
    parts |= {kind: [outcome for outcome in outcomes if outcome.kind == kind] for kind in KINDS}
    parts |= {f"{rate:g} frames/s": [outcome for outcome in outcomes if outcome.rate_hz == rate] for rate in RATES_HZ}
    parts |= {f"{px:g} px": [outcome for outcome in outcomes if outcome.noise_px == px] for px in NOISES_PX}
    parts |= {
        name: [outcome for outcome in outcomes if outcome.is_wandering is is_wandering]
        for name, is_wandering in NOISES.items()
    }
    return {name: part for name, part in parts.items() if part}


def _seen(outcomes: list[Outcome], view: str, noise_px: float, is_wandering: bool) -> list[Outcome]:
    return [
        outcome
        for outcome in outcomes
        if (outcome.view, outcome.noise_px, outcome.is_wandering) == (view, noise_px, is_wandering)
    ]


def missed_promises(outcomes: list[Outcome]) -> list[str]:
    """What was promised and is not so, a sentence each."""
    said = []
    blunders = figures(outcomes).get("blunders", 0.0)
    if blunders:
        said.append(f"{blunders:.0f} measured vehicles are off by more than {BLUNDER_KMH:g} km/h")
    for view in VIEWS:
        part = [outcome for outcome in outcomes if outcome.view == view]
        found, easy = figures(part), figures([outcome for outcome in part if outcome.is_easy])
        if abs(found.get("bias", 0.0)) > MAX_BIAS_KMH:
            said.append(f"{view}: bias {found['bias']:+.2f} km/h")
        if easy["n"] and easy["recall"] < MIN_RECALL:
            said.append(f"{view}: recall {easy['recall']:.1%} where {MIN_RECALL:.0%} is promised")
    easy_ones = [outcome for outcome in outcomes if outcome.is_easy]
    for view, noise_px, (noise, is_wandering) in product(VIEWS, NOISES_PX, NOISES.items()):
        found = figures(_seen(easy_ones, view, noise_px, is_wandering))
        if found["n"] >= MANY and found["recall"] < MIN_RECALL:
            said.append(f"{view}, {noise_px:g} px {noise}: recall {found['recall']:.1%}")
    return said


def main() -> None:
    """Read the command line, simulate, print a table, write JSON; exit 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vehicles", type=int, default=10_000)
    parser.add_argument("--poles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures and every outcome to this file")
    arguments = parser.parse_args()
    outcomes = simulate(vehicles=arguments.vehicles, poles=arguments.poles, seed=arguments.seed)
    found = {name: figures(part) for name, part in groups(outcomes).items()}
    columns = ("n", "recall", "bias", "median", "p99", "worst", "blunders", "sigma", "within_2_sigma", "twice")
    table = Table("vehicles", *columns, title="simulated vehicles: errors in km/h")
    for name, row in found.items():
        cells = [f"{row[c]:.0f}" if c in ("n", "blunders", "twice") else f"{row[c]:.2f}" for c in columns if c in row]
        table.add_row(name, *cells)
    Console(width=140).print(table)
    reasons = [outcome.reason for outcome in outcomes if outcome.reason]
    print("not measured:", {reason: reasons.count(reason) for reason in sorted(set(reasons))})
    broken = missed_promises(outcomes)
    print("\n".join(broken) or "every promise was kept")
    if arguments.json:
        written = {"figures": found, "broken": broken, "outcomes": [asdict(outcome) for outcome in outcomes]}
        arguments.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
