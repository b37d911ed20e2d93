"""Streets on which identities are hard to keep: our tracker against those of a kept library, on identical boxes.

    python -m benchmarks.tracking [--streets 5] [--seed 1] [--json OUT]

Simulated rounded bodies (:mod:`tests.support.passing`) before three poles, with box noise as measured for the bundled
detector: vehicles that meet, hide one another, follow nose to tail or are missed, at 20 and 5 frames a second and at
irregular instants. Who each box shows is known exactly, and everything behind the tracker is the product. ByteTrack and
OC-SORT need the extra ``[bench]``; without it only ours is measured.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.trackers import FEW_BOXES, OURS, Follower, library_followers
from calibration import RoadPlane
from calibration.camera import Floats
from calibration.units import kmh_from_mps
from edge.domain import Direction, Passage, Trajectory
from edge.localise import Localiser
from edge.speed import Estimator
from edge.zones import Turnstile
from tests.support.passing import (
    POLES,
    ZONE_M,
    Drive,
    Noise,
    Shot,
    Solid,
    a_bus,
    a_car,
    a_tracker,
    a_zone,
    known_plane,
    shots,
    some_solid,
)

VIEWS = ("side-on, 5 m high", "oblique, 5.5 m high", "along the street, 8 m high")
LASTS_S = 12.0
TIME_SIGMA_S = 0.0005
HIDDEN_FROM = 0.5  # a box is missed when a nearer one covers half of it
KEPT_SHARE = 0.9  # of a vehicle's boxes in the zone
SAME_PASSAGE_S = 0.45  # between the true and the measured crossing of the zone's middle: half the gap of a platoon
BLUNDER_KMH = 5.0
Vehicles = Sequence[tuple[Solid, Drive]]


@dataclass(frozen=True, slots=True)
class Street:
    """A kind of traffic, and how it is looked at.

    Attributes:
        vehicles: Draws who drives there.
        rate_hz: Frames a second. [1/s]
        is_irregular: Whether frames come 0.02 to 0.15 s apart instead.
        missed: Share of the boxes that the detector does not draw.
    """

    vehicles: Callable[[np.random.Generator], Vehicles]
    rate_hz: float = 20.0
    is_irregular: bool = False
    missed: float = 0.0

    def times_s(self, rng: np.random.Generator) -> Floats:
        """When the frames are taken. [s]"""
        if not self.is_irregular:
            return np.arange(0.0, LASTS_S, 1.0 / self.rate_hz)
        times_s = np.cumsum(rng.uniform(0.02, 0.15, round(LASTS_S / 0.02)))
        return np.asarray(times_s[times_s < LASTS_S])

    def looked_at(self, plane: RoadPlane, rng: np.random.Generator) -> tuple[Vehicles, list[Shot]]:
        """Who drives there, and what the detector sees of it."""
        vehicles = self.vehicles(rng)
        taken = shots(
            plane.camera,
            vehicles,
            self.times_s(rng),
            noise=Noise(),
            score=lambda vehicle, time_s: 0.0 if rng.random() < self.missed else 0.8,
            hidden_from=HIDDEN_FROM,
            seed=int(rng.integers(1 << 30)),
        )
        return vehicles, taken


# ----------------------------------------------------------------------------------------------------------- traffic


def _drive(rng: np.random.Generator, between_kmh: tuple[float, float], middle_s: float, *, forward: bool) -> Drive:
    direction = Direction.FORWARD if forward else Direction.BACKWARD
    return Drive(
        rng.uniform(*between_kmh) / 3.6,
        middle_s=middle_s,
        direction=direction,
        lateral_m=-direction.sign * 1.6 + rng.normal(0.0, 0.15),
    )


def _meeting(rng: np.random.Generator) -> Vehicles:
    """Two cars in opposite directions meet in the zone, and two more."""
    return [
        (some_solid(rng), _drive(rng, (25.0, 55.0), middle_s + rng.uniform(-0.4, 0.4), forward=forward))
        for middle_s in (4.0, 8.0)
        for forward in (True, False)
    ]


def _behind_a_bus(rng: np.random.Generator) -> Vehicles:
    """A slow bus on the near side, and two cars that come towards it."""
    bus = a_bus(), _drive(rng, (20.0, 35.0), 6.0, forward=True)
    return [bus, *((some_solid(rng), _drive(rng, (30.0, 50.0), middle_s, forward=False)) for middle_s in (5.4, 7.0))]


def _platoon(rng: np.random.Generator) -> Vehicles:
    """Six cars 0.9 s apart, all as fast as the first; at 25 km/h they are nose to tail."""
    speed_mps = rng.uniform(25.0, 50.0) / 3.6
    return [(a_car(rng.normal(4.2, 0.2)), Drive(speed_mps, middle_s=3.5 + 0.9 * number)) for number in range(6)]


def _both_ways(rng: np.random.Generator) -> Vehicles:
    """Three cars or vans each way, 2.5 s apart."""
    return [
        (
            some_solid(rng, str(rng.choice(["car", "van"], p=[0.8, 0.2]))),
            _drive(rng, (40.0, 55.0), middle_s + rng.uniform(-0.3, 0.3), forward=forward),
        )
        for forward in (True, False)
        for middle_s in (3.5, 6.0, 8.5)
    ]


STREETS = {
    "cars that meet": Street(_meeting),
    "cars that meet, 5 frames/s": Street(_meeting, rate_hz=5.0),
    "cars hidden by a bus": Street(_behind_a_bus),
    "cars hidden by a bus, 5 frames/s": Street(_behind_a_bus, rate_hz=5.0),
    "dense platoon": Street(_platoon),
    "dense platoon, 5 frames/s": Street(_platoon, rate_hz=5.0),
    "both ways, a third of the boxes missed": Street(_both_ways, missed=0.35),
    "both ways, irregular instants": Street(_both_ways, is_irregular=True),
    "both ways, 5 frames/s": Street(_both_ways, rate_hz=5.0),
}


# -------------------------------------------------------------------------------------------------------- who is who


@dataclass(frozen=True, slots=True)
class Tally:
    """What a tracker made of some vehicles.

    Attributes:
        vehicles: How many were there.
        kept: Those of which one trajectory has nearly all boxes in the zone, and hardly any of another vehicle.
        stitched: Trajectories that show more than one vehicle in the zone.
        measured: Vehicles that got a speed.
        false: Speeds that belong to no vehicle, or to one that has its speed already.
        blunders: Speeds that are off by more than ``BLUNDER_KMH``.
    """

    vehicles: int = 0
    kept: int = 0
    stitched: int = 0
    measured: int = 0
    false: int = 0
    blunders: int = 0

    def __add__(self, other: Tally) -> Tally:
        mine, theirs = asdict(self), asdict(other)
        return Tally(**{name: mine[name] + theirs[name] for name in mine})


def tally(vehicles: Vehicles, taken: Sequence[Shot], trajectories: Sequence[Trajectory], plane: RoadPlane) -> Tally:
    """Identities by the owners of the boxes in the zone, and the passages that the product makes.

    Args:
        vehicles: Who drove.
        taken: What the detector saw.
        trajectories: What a tracker made of it.
        plane: Of the road.
    """
    owners = {
        (shot.time_s, box.tobytes()): int(owner)
        for shot in taken
        for box, owner, along_m in zip(shot.detections.boxes_xyxy_px, shot.owners, shot.along_m)
        if 0.0 < along_m < ZONE_M
    }
    drawn = Counter(owners.values())
    shown = [
        Counter(
            owners[key]
            for key in ((float(t), box.tobytes()) for t, box in zip(each.times_s, each.boxes_xyxy_px))
            if key in owners
        )
        for each in trajectories
    ]
    kept = {
        number
        for boxes in shown
        for number, own in boxes.items()
        if own >= KEPT_SHARE * drawn[number] and sum(boxes.values()) - own <= FEW_BOXES
    }
    errors, false = _errors_kmh(vehicles, _passages(trajectories, plane))
    return Tally(
        vehicles=len(vehicles),
        kept=len(kept),
        stitched=sum(sum(count > FEW_BOXES for count in boxes.values()) > 1 for boxes in shown),
        measured=len(errors),
        false=false,
        blunders=sum(abs(error) > BLUNDER_KMH for error in errors),
    )


def _passages(trajectories: Sequence[Trajectory], plane: RoadPlane) -> list[Passage]:
    estimator, zone, turnstile = Estimator(plane, zone_length_m=ZONE_M), a_zone(), Turnstile()
    paths = (estimator.estimate(trajectory) for trajectory in trajectories)
    made = (zone.passage(path, 0) for path in paths if path is not None)
    return turnstile.admit([passage for passage in made if passage is not None], 0) + turnstile.finish()


def _errors_kmh(vehicles: Vehicles, passages: Sequence[Passage]) -> tuple[list[float], int]:
    """The error of each vehicle that got a speed, and how many speeds are nobody's."""
    errors: dict[int, float] = {}
    false = 0
    for passage in passages:
        if passage.speed is None or passage.halfway_ns is None:
            continue
        late_s = [
            abs(passage.halfway_ns / 1e9 - drive.middle_s)
            if drive.direction is passage.direction and number not in errors
            else np.inf
            for number, (_, drive) in enumerate(vehicles)
        ]
        nearest = int(np.argmin(late_s))
        if late_s[nearest] > SAME_PASSAGE_S:
            false += 1
        else:
            errors[nearest] = kmh_from_mps(passage.speed.speed_mps - vehicles[nearest][1].mean_speed_mps)
    return list(errors.values()), false


# ------------------------------------------------------------------------------------------------------- the contest


def follow(follower: Follower, plane: RoadPlane, taken: Sequence[Shot]) -> list[Trajectory]:
    """The trajectories that a tracker makes of a street."""
    localiser = Localiser(plane)
    gone: list[Trajectory] = []
    for shot in taken:
        gone += follower.follow(localiser.locate(shot.time_s, TIME_SIGMA_S, shot.detections))
    return gone + follower.finish()


def compare(street: Street, *, streets: int, seed: int) -> dict[str, Tally]:
    """Every tracker on the same streets before every pole.

    Args:
        street: What drives there.
        streets: Draws for each pole.
        seed: Of the draws.
    """
    tallies: dict[str, Tally] = {}
    for place, view in enumerate(VIEWS):
        plane = known_plane(POLES[view])
        for number in range(streets):
            vehicles, taken = street.looked_at(plane, np.random.default_rng([seed, place, number]))
            rate_hz = len(taken) / LASTS_S
            for name, new in _followers(plane, rate_hz):
                found = tally(vehicles, taken, follow(new(), plane, taken), plane)
                tallies[name] = tallies.get(name, Tally()) + found
    return tallies


def _followers(plane: RoadPlane, rate_hz: float) -> Iterator[tuple[str, Callable[[], Follower]]]:
    yield OURS, lambda: a_tracker(plane)
    yield from library_followers(rate_hz).items()


def main() -> None:
    """Read the command line, compare, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streets", type=int, default=5, help="draws of each street for each pole (default: 5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    found = {
        name: compare(street, streets=arguments.streets, seed=arguments.seed)
        for name, street in track(STREETS.items(), "following", console=Console(stderr=True), transient=True)
    }
    table = Table("", *Tally.__annotations__, title="identities in the zone, and what the product measures with them")
    for street, tallies in found.items():
        table.add_section()
        for name, figures in tallies.items():
            table.add_row(f"{street}: {name}", *map(str, asdict(figures).values()))
    Console(width=140).print(table)
    if arguments.json:
        written = {street: {name: asdict(of) for name, of in tallies.items()} for street, tallies in found.items()}
        arguments.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
