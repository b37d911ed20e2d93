"""Pictures as a camera would have taken them after it has turned, and in weather."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from calibration import PARAMETERS, Camera
from calibration.camera import Floats
from edge.domain import Pixels

DOWN, LEFT, ROLL = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)  # how a camera turns, about its own axes


def a_turn(degrees: float, about: Sequence[float] = DOWN) -> Floats:
    """A rotation vector. [rad]"""
    return math.radians(degrees) * np.array(about)


def turned_camera(camera: Camera, rotation_rad: Floats) -> Camera:
    """The camera after a turn about its own centre."""
    change = np.zeros(len(PARAMETERS))
    change[5:8] = rotation_rad
    return camera.perturbed(change)


class Turner:
    """Makes the picture of a turned camera from that of the unturned one; what was outside it is black."""

    def __init__(self, camera: Camera, rotation_rad: Floats) -> None:
        width, height = camera.image_size_px
        columns, lines = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
        turned = turned_camera(camera, rotation_rad)
        straight = (turned.undistorted(np.stack((columns, lines), axis=-1)) - turned.centre_px) / turned.focal_px
        rays = np.concatenate((straight, np.ones((height, width, 1))), axis=-1) @ turned.rotation
        origin = camera.project(camera.position_m + 100 * rays).astype(np.float32)
        self._across, self._down = origin[..., 0], origin[..., 1]

    def __call__(self, picture: Pixels) -> Pixels:
        return np.asarray(cv2.remap(picture, self._across, self._down, cv2.INTER_LINEAR), dtype=np.uint8)


def in_the_dark(picture: Pixels) -> Pixels:
    return np.asarray(picture * 0.2, dtype=np.uint8)


def in_noise(picture: Pixels) -> Pixels:
    noise = np.random.default_rng(int(picture[::40, ::40].sum())).normal(0.0, 15.0, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), dtype=np.uint8)


def in_rain(picture: Pixels) -> Pixels:
    """Six hundred streaks, others in every picture."""
    rng = np.random.default_rng(int(picture[::40, ::40].sum()))
    height, width = picture.shape[:2]
    wet = picture.copy()
    for u, v, length in zip(rng.integers(0, width, 600), rng.integers(0, height, 600), rng.integers(8, 30, 600)):
        cv2.line(wet, (int(u), int(v)), (int(u) + 2, int(v + length)), (200, 200, 200), 1)
    return np.asarray(cv2.addWeighted(picture, 0.4, wet, 0.6, 0), dtype=np.uint8)


def in_half_shadow(picture: Pixels) -> Pixels:
    """The shadow of a building has reached the lower left of the street."""
    height, width = picture.shape[:2]
    shade = np.zeros((height, width), dtype=np.float32)
    outline = np.array([[0, 0.3], [0.5, 0.2], [1, 0.55], [1, 1], [0, 1]]) * [width, height]
    cv2.fillPoly(shade, [outline.astype(np.int32)], 1.0)
    return np.asarray(picture * (1 - 0.55 * cv2.GaussianBlur(shade, (0, 0), 3)[..., None]), dtype=np.uint8)


def in_fog(picture: Pixels) -> Pixels:
    return np.asarray(picture * 0.35 + 120, dtype=np.uint8)
