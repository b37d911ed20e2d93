"""Cameras and surveys for calibration tests: a technician with a pole, chalk, a tape and a chosen lack of care."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from calibration import Camera, Site, Survey
from calibration.camera import Floats, rotation_from_vector
from calibration.fit import CENTRE_SIGMA_SHARE, K1_SIGMA, K2_SIGMA, Fit, fit_camera
from calibration.quality import camera_summary
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


def believed_street(rng: np.random.Generator) -> tuple[Camera, Floats]:
    """A camera drawn from what is believed about cameras, and marks that it sees, shape (12, 2). [m]"""
    while True:
        camera = a_camera(
            focal_px=960 * 0.9 * math.exp(rng.normal(0.0, 0.15)),
            height_m=rng.uniform(4.0, 8.0),
            tilt_deg=rng.uniform(12.0, 20.0),
            heading_deg=rng.uniform(5.0, 20.0),
            k1=rng.normal(0.0, K1_SIGMA),
            k2=rng.normal(0.0, K2_SIGMA),
            centre_px=(
                479.5 + rng.normal(0.0, 960 * CENTRE_SIGMA_SHARE),
                269.5 + rng.normal(0.0, 960 * CENTRE_SIGMA_SHARE),
            ),
        )
        clicks = camera.project(np.column_stack((marks_m(), np.zeros(len(marks_m())))))
        if ((clicks > 1) & (clicks < (958, 538))).all() and is_a_lens(camera):
            return camera, marks_m()


def is_a_lens(camera: Camera) -> bool:
    """Whether every corner of the picture shows something: lenses that fold their picture are not built."""
    width, height = camera.image_size_px
    corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)])
    return bool(np.isfinite(camera.undistorted(corners)).all())


def any_street(rng: np.random.Generator) -> tuple[Camera, Floats]:
    """Any pole: 3 to 12 m high, 500 to 2,500 px, along the street or side-on, with or without a lens, 4 to 20 marks."""
    width, height = 1280, 720
    while True:
        position = np.array([0.0, -rng.uniform(2.0, 9.0), rng.uniform(3.0, 12.0)])
        forward = np.array([rng.uniform(-0.5, 1.0) * rng.uniform(8.0, 45.0), 0.0, 0.0]) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        right = rotation_from_vector(math.radians(rng.normal(0.0, 1.5)) * forward) @ right
        k1 = max(rng.normal(0.0, 0.15), -0.35) if rng.random() < 0.6 else 0.0
        camera = Camera(
            image_size_px=(width, height),
            focal_px=math.exp(rng.uniform(math.log(500.0), math.log(2500.0))),
            centre_px=(
                (width - 1) / 2 + rng.normal(0.0, 0.01 * width),
                (height - 1) / 2 + rng.normal(0.0, 0.01 * width),
            ),
            distortion=(k1, -k1 / 4 + rng.normal(0.0, 0.02) if k1 else 0.0, 0.0, 0.0, 0.0),
            rotation=np.array([right, np.cross(forward, right), forward]),
            position_m=position,
        )
        wanted = int(rng.integers(4, 21))
        places = np.column_stack(
            (rng.uniform(-40.0, 70.0, 400), rng.choice([-3.5, 3.5, 0.0, 4.5, -4.5], 400) + rng.normal(0.0, 0.2, 400))
        )
        clicks = camera.project(np.column_stack((places, np.zeros(400))))
        seen = ((clicks > 5) & (clicks < (width - 6, height - 6))).all(axis=1)
        places, clicks = places[seen], clicks[seen]
        if len(places) < wanted + 4 or not is_a_lens(camera):
            continue
        rows = [0]  # spread over the picture, as somebody would choose them who was told to
        while len(rows) < wanted:
            apart = np.linalg.norm(clicks[:, None] - clicks[rows][None], axis=2).min(axis=1) ** 2
            rows.append(int(rng.choice(len(places), p=apart / apart.sum())))
        if np.ptp(places[rows, 1]) > 3.0:  # on both sides of the road
            return camera, places[rows]


DrawnStreet = Callable[[np.random.Generator], tuple[Camera, Floats]]
SCORES = ("focal length", "height", "tilt", "k1", "length on the road")


def survey_scores(street: DrawnStreet, seed: int) -> tuple[float, ...]:
    """Errors of one drawn and surveyed street over their stated sigmas, as in :data:`SCORES`; NaN when unsolved."""
    camera, places = street(np.random.default_rng(seed))
    fit = fit_camera(a_survey(camera, points_m=places, click_px=0.5, tape_m=0.01, seed=seed), camera.image_size_px)
    if fit is None:
        return (math.nan,) * len(SCORES)
    ends_m = np.column_stack((np.quantile(places[:, 0], (0.1, 0.9)), np.zeros(2)))
    return scores_of(fit, camera, ends_m)


def scores_of(fit: Fit, camera: Camera, ends_m: Floats) -> tuple[float, ...]:
    """Errors of a fit over their stated sigmas; the length is that between two places on the road, shape (2, 2)."""
    told, sigma = camera_summary(fit.plane), np.sqrt(np.diag(fit.covariance))
    assert told["tilt_deg_sigma"] is not None
    clicks = camera.project(np.column_stack((ends_m, np.zeros(2))))
    found = fit.camera.ground(clicks)
    length_m = float(np.linalg.norm(found[1] - found[0]))
    return (
        math.log(fit.camera.focal_px / camera.focal_px) / sigma[0],
        (fit.camera.height_m - camera.height_m) / sigma[10],
        math.degrees(fit.camera.tilt_rad - camera.tilt_rad) / told["tilt_deg_sigma"],
        (fit.camera.distortion[0] - camera.distortion[0]) / sigma[3],
        (length_m - float(np.linalg.norm(ends_m[1] - ends_m[0]))) / float(fit.plane.distance_sigma(found[0], found[1])),
    )


def scene_truth(name: str) -> tuple[Camera, Floats, Floats]:
    """Camera, control points [m] and their ideal clicks [px] of a rendered scene; skips the test without the scenes."""
    return truth_of(evaluation_file(f"scenes/{name}.truth.json"))


def truth_of(file: Path) -> tuple[Camera, Floats, Floats]:
    """Camera, control points [m] and their ideal clicks [px] of a truth file."""
    truth = json.loads(file.read_text(encoding="utf-8"))
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
