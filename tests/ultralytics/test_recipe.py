"""Our telling of Ultralytics' speed rule against the library's own ``SpeedEstimator``, on the same tracks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.recipes import Footage, first_five
from calibration.units import kmh_from_mps
from edge.domain import Floats, Trajectory
from models import load_catalogue
from tests.support.street import demo_calibration

RATE_HZ = 20.0
FRAMES = 60
SIZE_PX = (960, 540)


@pytest.fixture
def trajectories() -> list[Trajectory]:
    """Ten vehicles that wander through the picture, each missed in some frames."""
    rng = np.random.default_rng(4)
    found = []
    for number in range(10):
        frames = np.flatnonzero(rng.random(FRAMES) > (0.0 if number < 5 else 0.3))
        velocity = rng.uniform(-4, 4, size=2)
        centres = rng.uniform(250, 400, size=2) + frames[:, None] * velocity + rng.normal(size=(len(frames), 2))
        half = np.array([40.0, 25.0])
        boxes = np.column_stack([centres - half, centres + half])
        found.append(a_trajectory(frames / RATE_HZ, boxes))
    return found


def a_trajectory(times_s: Floats, boxes: Floats) -> Trajectory:
    count = len(times_s)
    return Trajectory(
        times_s=times_s,
        time_sigma_s=0.0,
        boxes_xyxy_px=boxes,
        scores=np.ones(count),
        labels=np.zeros(count, dtype=np.intp),
        positions_m=np.zeros((count, 2)),
        covered=np.zeros(count),
    )


def speeds_of_the_library(trajectories: list[Trajectory], metres_per_px: float) -> dict[int, int]:
    """What SpeedEstimator locks for each track when it is handed our boxes instead of its own."""
    import torch
    from ultralytics.solutions.speed_estimation import SpeedEstimator

    class OnOurTracks(SpeedEstimator):  # type: ignore[misc]
        def extract_tracks(self, im0: Any) -> None:
            now = self.frame_count - 1
            present = [
                (number, trajectory.boxes_xyxy_px[row])
                for number, trajectory in enumerate(trajectories)
                for row in np.flatnonzero(np.abs(trajectory.times_s * RATE_HZ - now) < 0.01)
            ]
            self.track_ids = [number for number, _ in present]
            self.boxes = [torch.tensor(box) for _, box in present]
            self.clss = [0] * len(present)
            self.confs = [1.0] * len(present)

    estimator = OnOurTracks(
        model=str(load_catalogue().find().file),
        fps=RATE_HZ,
        meter_per_pixel=metres_per_px,
        show=False,
        verbose=False,
    )
    locked: dict[int, int] = {}
    for _ in range(FRAMES):
        estimator.process(np.zeros((SIZE_PX[1], SIZE_PX[0], 3), dtype=np.uint8))
        locked |= estimator.spd
    return locked


def test_our_telling_locks_the_speeds_that_the_library_locks(trajectories: list[Trajectory]) -> None:
    footage = Footage(demo_calibration(), np.arange(FRAMES) / RATE_HZ, RATE_HZ)
    ours = {
        number: round(kmh_from_mps(first_five(trajectory, np.arange(len(trajectory)), footage)))
        for number, trajectory in enumerate(trajectories)
    }
    theirs = speeds_of_the_library(trajectories, footage.metres_per_px)
    assert len(set(theirs.values())) > 3
    assert ours == theirs
