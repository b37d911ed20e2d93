"""Surveyed points in, road plane with covariance out.

A technician clicks marks in a still picture and tapes where they lie on the road. From that this library solves the
camera (focal length, principal point, lens, pose) together with how sure it is, names rows that contradict the
others, judges the result over the measurement zone, and keeps it as a dated, tamper-evident certificate::

    solution = solve(read_survey(Path("survey.csv")), read_site(Path("site.toml")), (960, 540))
    calibration = solution.certified(created=now)
    calibration.plane.camera.ground([480.0, 300.0])  # metres on the road

It knows no camera device, model or broker, and never imports the application.
"""

from calibration.camera import PARAMETERS, Camera
from calibration.certificate import Calibration
from calibration.errors import CalibrationError, Contradiction
from calibration.quality import Verdict
from calibration.road_plane import GroundPoints, RoadPlane
from calibration.site import Site, read_site
from calibration.solve import Solution, solve
from calibration.survey import Survey, TapeDistances, parse_image_size, read_distances, read_survey

__all__ = [
    "PARAMETERS",
    "Calibration",
    "CalibrationError",
    "Camera",
    "Contradiction",
    "GroundPoints",
    "RoadPlane",
    "Site",
    "Solution",
    "Survey",
    "TapeDistances",
    "Verdict",
    "parse_image_size",
    "read_distances",
    "read_site",
    "read_survey",
    "solve",
]
