"""A street for tests: the calibration of the bundled scene, its camera above a road without pixels, short clips."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from calibration import Calibration, read_site, read_survey, solve
from edge.domain import Direction, RoadUser
from edge.sources.synthetic import ScriptedVehicle, SyntheticRoad
from edge.sources.video import VideoFile
from tests.support.clips import ROOT

BUNDLED = ROOT / "edge" / "demo"
STREET = BUNDLED / "street.mp4"
SIZE_PX = (960, 540)
MADE = datetime.now(timezone.utc) - timedelta(days=22)  # valid, whenever the tests run
LONG_AGO = datetime(2020, 3, 1, 9, 0, tzinfo=timezone.utc)  # a calibration of that day has expired


@cache
def demo_calibration(made: datetime = MADE) -> Calibration:
    """The bundled scene, solved from its survey."""
    solution = solve(read_survey(BUNDLED / "survey.csv"), read_site(BUNDLED / "site.toml"), SIZE_PX)
    return solution.certified(made)


def a_vehicle(
    *, speed_kmh: float = 36.0, middle_s: float = 5.0, direction: Direction = Direction.FORWARD, truck: bool = False
) -> ScriptedVehicle:
    """A car in the right lane of the bundled street that is in the middle of its zone at a chosen instant."""
    lane_m = -1.5 if direction is Direction.FORWARD else 1.5
    if truck:
        return ScriptedVehicle(speed_kmh / 3.6, middle_s, direction, lane_m, 8.5, 2.5, 3.3, road_user=RoadUser.TRUCK)
    return ScriptedVehicle(speed_kmh / 3.6, middle_s, direction, lane_m)


def a_road(
    *vehicles: ScriptedVehicle, lasts_s: float, rate_hz: float = 20.0, box_sigma_px: float = 0.7, seed: int = 1
) -> SyntheticRoad:
    """The bundled street without pixels: its camera looks at scripted vehicles."""
    calibration = demo_calibration()
    site = calibration.site
    middle = site.origin_m + site.axis * site.length_m / 2
    return SyntheticRoad(
        camera=calibration.plane.camera,
        vehicles=vehicles,
        times_s=np.arange(0.0, lasts_s, 1.0 / rate_hz, dtype=np.float64),
        origin_m=(float(middle[0]), float(middle[1])),
        axis=(float(site.axis[0]), float(site.axis[1])),
        box_sigma_px=box_sigma_px,
        time_sigma_s=0.0005,
        seed=seed,
    )


def shortened_street(path: Path, *, frames: int) -> Path:
    """The first frames of the bundled clip, as a clip of its own."""
    with VideoFile(STREET) as street:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20.0, street.size_px)
        for frame in islice(street.frames(), frames):
            writer.write(frame.image_bgr)
        writer.release()
    return path
