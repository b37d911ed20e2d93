"""Cameras and surveys for calibration tests: a technician with a pole, chalk, a tape and a chosen lack of care."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from calibration import Camera, Site, Survey
from calibration.camera import Floats
from tests.support.clips import evaluation_file

IMAGE_PX = (960, 540)
SCENES = ("S1-residential-day", "S2-wide-lens-vfr", "S3-quiet-street")


def a_camera(
    *,
    focal_px: float = 735.0,
    height_m: float = 5.6,
    tilt_deg: float = 16.0,
    heading_deg: float = 15.0,
    roll_deg: float = 0.5,
    k1: float = 0.0,
    k2: float = 0.0,
    p1: float = 0.0,
    p2: float = 0.0,
    centre_px: tuple[float, float] = (479.5, 269.5),
    foot_m: tuple[float, float] = (-2.0, -5.5),
) -> Camera:
    """A camera on a pole beside a street along x, looking along it and a little to the left."""
    heading, tilt, roll = (math.radians(angle) for angle in (heading_deg, tilt_deg, roll_deg))
    forward = np.array([math.cos(tilt) * math.cos(heading), math.cos(tilt) * math.sin(heading), -math.sin(tilt)])
    right = np.array([math.sin(heading), -math.cos(heading), 0.0])
    down = np.cross(forward, right)
    rolled_right = math.cos(roll) * right + math.sin(roll) * down
    return Camera(
        image_size_px=IMAGE_PX,
        focal_px=focal_px,
        centre_px=centre_px,
        distortion=(k1, k2, p1, p2, 0.0),
        rotation=np.array([rolled_right, np.cross(forward, rolled_right), forward]),
        position_m=np.array([*foot_m, height_m]),
    )


def marks_m() -> Floats:
    """Twelve marks on both sides of 40 m of street, shape (12, 2). [m]"""
    left = [(9.0, 4.0), (14.0, 4.2), (22.0, 4.1), (30.0, 4.0), (42.0, 4.1)]
    middle = [(8.0, 0.2), (18.0, 0.0)]
    right = [(8.0, -3.5), (13.0, -3.6), (20.0, -3.5), (27.0, -3.4), (39.0, -3.3)]
    return np.array(sorted(left + middle + right))


def a_survey(
    camera: Camera,
    *,
    points_m: Floats | None = None,
    click_px: float = 0.0,
    tape_m: float = 0.0,
    seed: int = 1,
) -> Survey:
    """Marks clicked and taped with that much noise (sigmas stated: 0.5 px and 1 cm)."""
    rng = np.random.default_rng(seed)
    places = marks_m() if points_m is None else points_m
    clicks = camera.project(np.column_stack((places, np.zeros(len(places)))))
    assert np.isfinite(clicks).all()
    return Survey(
        names=tuple(f"P{number}" for number in range(1, len(places) + 1)),
        pixels=clicks + rng.normal(0.0, click_px, clicks.shape),
        points_m=places + rng.normal(0.0, tape_m, places.shape),
        sigma_px=np.full(len(places), 0.5),
        sigma_m=np.full(len(places), 0.01),
        origin=tuple(f"survey.csv line {row}" for row in range(2, len(places) + 2)),
    )


def a_site(*, mount_height_m: float | None = None) -> Site:
    """A zone of 20 m in that street."""
    return Site(
        id="test-street",
        limit_kmh=30,
        mount_height_m=mount_height_m,
        polygon_m=((12.0, -3.0), (32.0, -3.0), (32.0, 3.0), (12.0, 3.0)),
        axis_m=((12.0, 0.0), (32.0, 0.0)),
        forward="out",
        backward="in",
    )


def scene_truth(name: str) -> tuple[Camera, Floats, Floats]:
    """Camera, control points [m] and their ideal clicks [px] of a rendered scene; skips the test without the scenes."""
    truth = json.loads(evaluation_file(f"scenes/{name}.truth.json").read_text(encoding="utf-8"))
    seen = truth["camera"]
    matrix, lens = seen["K"], seen["dist_opencv"]
    camera = Camera(
        image_size_px=(truth["image_size"][0], truth["image_size"][1]),
        focal_px=matrix[0][0],
        centre_px=(matrix[0][2], matrix[1][2]),
        distortion=(lens["k1"], lens["k2"], lens["p1"], lens["p2"], lens["k3"]),
        rotation=np.array(seen["R_world_to_cam"]),
        position_m=np.array(seen["position_m"]),
    )
    points = truth["control_points"]
    return camera, np.array([p["world_m"] for p in points]), np.array([p["px"] for p in points])


SURVEY_CSV = """name,u_px,v_px,x_m,y_m,sigma_px,sigma_m
P1,100.5,300,0.0,8.0,0.5,0.01
P2,700,310,6.5,8.0,0.5,0.01
P3,400,200,6.5,28.0,0.5,0.01
P4,300,190,0.0,28.0,0.5,0.01
"""

SITE_TOML = """[site]
id = "hvs-snelliuslaan-12"
limit_kmh = 30
[zone]
polygon_m = [[0.0, 8.0], [6.5, 8.0], [6.5, 28.0], [0.0, 28.0]]
[direction]
axis_m = [[3.2, 8.0], [3.2, 28.0]]
forward = "towards Larenseweg"
backward = "towards Kerkelanden"
"""


def written(folder: Path, name: str, text: str) -> Path:
    """A file with that text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def survey_csv(survey: Survey) -> str:
    """A survey as its file."""
    rows = zip(survey.names, survey.pixels, survey.points_m, survey.sigma_px, survey.sigma_m)
    lines = [f"{name},{u:.3f},{v:.3f},{x:.4f},{y:.4f},{px},{m}" for name, (u, v), (x, y), px, m in rows]
    return "\n".join(["name,u_px,v_px,x_m,y_m,sigma_px,sigma_m", *lines, ""])
