"""Streets on which identities are hard to keep: told rightly, and ours keeps them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.trackers import OURS
from benchmarks.tracking import STREETS, VIEWS, Street, Tally, compare, follow, tally
from edge.domain import Trajectory
from tests.support.passing import POLES, a_tracker, known_plane


@pytest.mark.parametrize("street", STREETS.values(), ids=STREETS.keys())
def test_our_tracker_stitches_nobody_and_keeps_nearly_all(street: Street) -> None:
    found = compare(street, streets=1, seed=4)[OURS]
    assert found.vehicles >= len(VIEWS) * 3
    assert found.stitched == 0
    assert found.blunders == 0
    assert found.vehicles - found.kept <= 2


def test_exchanged_identities_are_told() -> None:
    """Two cars meet, and from the middle on each trajectory goes on with the other one's boxes."""
    plane = known_plane(POLES["along the street, 8 m high"])
    vehicles, taken = STREETS["cars that meet"].looked_at(plane, np.random.default_rng(3))
    trajectories = follow(a_tracker(plane), plane, taken)
    right = tally(vehicles, taken, trajectories, plane)
    assert (right.vehicles, right.kept, right.stitched) == (4, 4, 0)
    one, other = (each for each in trajectories if each.times_s[0] < 4.0 < each.times_s[-1])
    wrong = tally(vehicles, taken, [*_exchanged(one, other, 4.0), *_exchanged(other, one, 4.0)], plane)
    assert wrong == Tally(vehicles=4, kept=0, stitched=2)


def _exchanged(one: Trajectory, other: Trajectory, from_s: float) -> list[Trajectory]:
    before = one.rows(np.flatnonzero(one.times_s < from_s))
    after = other.rows(np.flatnonzero(other.times_s >= from_s))
    columns = ("times_s", "boxes_xyxy_px", "scores", "labels", "positions_m", "covered")
    joined = {name: np.concatenate([getattr(before, name), getattr(after, name)]) for name in columns}
    return [Trajectory(time_sigma_s=one.time_sigma_s, **joined)]
