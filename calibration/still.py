"""A still picture of the street to click in: sharp, without traffic, and not for ever.

The middle value of every pixel over frames spread over time shows whatever is there more than half of the time: the
street. Passing vehicles and people are gone, unless they stand still for long. Frames are moved back by the shake of
the pole first, so that edges stay as sharp as the camera draws them.

The picture is stored as a PNG for its owner only, and carries the day on which it must be gone.
"""

from __future__ import annotations

import json
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from calibration.camera import Floats
from calibration.errors import CalibrationError

Pixels = npt.NDArray[np.uint8]
_Grey = TypeVar("_Grey", np.uint8, np.float32)

MIN_FRAMES = 9  # a middle value of fewer keeps what stood for a moment
MAX_FRAMES = 41  # more change nothing that can be seen
FRAMES_BYTES = 200_000_000  # of frames held at once: a Raspberry Pi with 1 GB takes 32 of 1920x1080
SHARP_SIGMA_PX = 1.5  # a lens in focus draws edges of 0.7 to 1.2 px; beyond, a click loses half a pixel
DARK_MEAN, BRIGHT_MEAN = 40.0, 215.0  # of 255: marks on the road are hard to see outside
MAX_CLIPPED = 0.05  # share of pixels that are burnt out or black before the picture is called so

_CHUNK = b"snellius-still\0"  # keyword of the PNG text chunk (PNG, third edition, 11.3.3.2)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_REBLUR_PX = 1.0
_SHAKE_WIDTH_PX = 480  # frames are compared at about this width: a tenth of a pixel is still told apart
_SHAKE_STEPS = 8
_ALIKE = 60.0  # of 255: what differs by more from the typical picture moved by itself
_MIN_SHAKE_PX = 0.1  # less is not worth an interpolation, which itself costs sharpness
_MAX_SHAKE_PX = 20.0  # more is no shake: the comparison was misled


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A street without traffic.

    Attributes:
        image_bgr: Picture, shape (height, width, 3).
        taken: When it was taken, with time zone; None for a picture from elsewhere.
        expires: From when on it may no longer be kept; None for a picture from elsewhere.
    """

    image_bgr: Pixels
    taken: datetime | None
    expires: datetime | None

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height. [px]"""
        return self.image_bgr.shape[1], self.image_bgr.shape[0]

    def is_expired(self, now: datetime) -> bool:
        """Whether it should be gone at an instant (with time zone)."""
        return self.expires is not None and now >= self.expires

    def png(self) -> bytes:
        """The picture as a PNG, with its dates if it has them."""
        encoded = cv2.imencode(".png", self.image_bgr)[1].tobytes()
        if self.taken is None or self.expires is None:
            return encoded
        dates = {"taken": f"{self.taken:%Y-%m-%dT%H:%M:%SZ}", "expires": f"{self.expires:%Y-%m-%dT%H:%M:%SZ}"}
        header = len(_SIGNATURE) + 25  # the first chunk, IHDR, has 13 bytes of content
        text = _png_chunk(b"tEXt", _CHUNK + json.dumps(dates).encode("latin-1"))
        return encoded[:header] + text + encoded[header:]

    def jpeg(self, *, width_px: int, quality: int) -> bytes:
        """The picture as a smaller JPEG without its dates, for a page that tells them.

        Args:
            width_px: Its width at most. [px]
            quality: 0 to 100.
        """
        scale = min(1.0, width_px / self.size_px[0])
        small = cv2.resize(self.image_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    def save(self, path: Path) -> None:
        """Write the PNG, readable for its owner only, whole or not at all.

        Raises:
            CalibrationError: The place cannot be written.
        """
        if path.is_dir():
            raise CalibrationError(f"{path}: expected a file to write, found a directory")
        try:
            handle, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.stem}-")  # mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(self.png())
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be written ({error.strerror})") from None

    @classmethod
    def load(cls, path: Path) -> Still:
        """Read a picture: one of :meth:`save` with its dates, or any PNG or JPEG without.

        Raises:
            CalibrationError: Missing, a directory, or no picture.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise CalibrationError(f"{path}: no such picture") from None
        except IsADirectoryError:
            raise CalibrationError(f"{path}: expected a picture, found a directory") from None
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be read ({error.strerror})") from None
        # As stored: a picture that is turned by an Exif mark would have other pixels than the camera's frames.
        image = None
        if content:
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags)
        if image is None:
            raise CalibrationError(f"{path}: expected a PNG or JPEG picture (snellius calibrate capture makes one)")
        dates = _dates(content, path)
        return cls(np.asarray(image, dtype=np.uint8), taken=dates.get("taken"), expires=dates.get("expires"))


@dataclass(frozen=True, slots=True)
class Aim:
    """What a picture says about lens and exposure.

    Attributes:
        edge_sigma_px: Blur of its sharper edges, one sigma; NaN when it has no edges. [px]
        brightness: Mean, 0 to 255.
        burnt_out: Share of pixels without any more light to give.
        black: Share of pixels without any light.
    """

    edge_sigma_px: float
    brightness: float
    burnt_out: float
    black: float

    @property
    def remarks(self) -> list[str]:
        """What to do about it, a sentence each; empty when all is well."""
        said = []
        if math.isnan(self.edge_sigma_px):
            said.append("no edges to be seen: is the lens covered, or the night too dark?")
        elif self.edge_sigma_px > SHARP_SIGMA_PX:
            said.append(f"out of focus: edges are {self.edge_sigma_px:.1f} px wide, {SHARP_SIGMA_PX} or less is sharp")
        if self.brightness < DARK_MEAN or self.black > MAX_CLIPPED:
            said.append("too dark to see marks well: come back in daylight, or give the camera more light")
        if self.brightness > BRIGHT_MEAN or self.burnt_out > MAX_CLIPPED:
            said.append("too bright: parts are burnt out; wait for a cloud or lower the exposure")
        return said


def aim(image_bgr: Pixels, part_px: tuple[int, int, int, int] | None = None) -> Aim:
    """What a picture says about lens and exposure.

    Args:
        image_bgr: Picture, shape (height, width, 3).
        part_px: The part that matters: first column, first row, and one past the last of each; None: all of it. [px]
    """
    if part_px is not None:
        x0, y0, x1, y1 = part_px
        image_bgr = image_bgr[y0:y1, x0:x1]
    grey = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
    return Aim(
        edge_sigma_px=edge_sigma_px(grey),
        brightness=float(grey.mean()),
        burnt_out=float((grey >= 252).mean()),
        black=float((grey <= 3).mean()),
    )


def edge_sigma_px(grey: Pixels) -> float:
    """How wide the sharper edges of a picture are: one sigma of a Gaussian blur. [px]

    At an edge of blur σ, one more blur of σ₀ lowers the gradient by R = √(σ² + σ₀²) / σ, so σ = σ₀ / √(R² − 1)
    (Zhuo and Sim 2011, doi:10.1016/j.patcog.2011.03.009). The lower quartile over the strongest edges: soft shadows are
    edges too. Central differences blur by a third of a square pixel themselves, which is taken out again.

    Returns:
        NaN when there are no edges.
    """
    sharp = grey.astype(np.float32)
    soft = np.asarray(cv2.GaussianBlur(sharp, (0, 0), _REBLUR_PX), dtype=np.float32)
    steep, less_steep = _steepness(sharp), _steepness(soft)
    ridge = steep >= cv2.dilate(steep, np.ones((3, 3), np.uint8))  # the middle of an edge, where the formula holds
    enough = max(8.0, float(np.quantile(steep, 0.98)))
    ratio2 = (steep[ridge & (steep >= enough)] / np.maximum(less_steep[ridge & (steep >= enough)], 1e-6)) ** 2
    ratio2 = ratio2[ratio2 > 1.0 + 1e-3]
    if len(ratio2) < 20:
        return math.nan
    blur2 = _REBLUR_PX**2 / (np.quantile(ratio2, 0.75) - 1) - 1 / 3
    return math.sqrt(max(0.0, float(blur2)))


def frames_to_keep(size_px: tuple[int, int]) -> int:
    """How many frames of that size a still is made of, so that they fit into memory."""
    return max(MIN_FRAMES, min(MAX_FRAMES, FRAMES_BYTES // (3 * size_px[0] * size_px[1])))


def street_without_traffic(frames: Sequence[Pixels]) -> tuple[Pixels, float]:
    """The middle value of every pixel over frames of one size, each moved back by its shake.

    Args:
        frames: Spread over time, shape (height, width, 3) each.

    Returns:
        The picture, and the shake that was taken out, root mean square. [px]

    Raises:
        CalibrationError: Fewer than ``MIN_FRAMES`` frames.
    """
    if len(frames) < MIN_FRAMES:
        raise CalibrationError(f"a still: expected at least {MIN_FRAMES} frames spread over time, got {len(frames)}")
    shifts = _shake_px(frames)
    steady = [_moved_back(frame, shift) for frame, shift in zip(frames, shifts)]
    middle = len(steady) // 2
    street = np.empty_like(steady[0])
    for row in range(len(street)):  # one row at a time: the frames are held once, not twice
        street[row] = np.partition(np.stack([frame[row] for frame in steady]), middle, axis=0)[middle]
    return street, float(np.sqrt((shifts**2).sum(axis=1).mean()))


def _slope(image: npt.NDArray[np.float32], *, across: bool) -> npt.NDArray[np.float32]:
    """Central differences of neighbours."""
    kernel = np.array([[-0.5, 0.0, 0.5]], dtype=np.float32)
    return np.asarray(cv2.filter2D(image, -1, kernel if across else kernel.T), dtype=np.float32)


def _steepness(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(np.hypot(_slope(image, across=True), _slope(image, across=False)))


def _shake_px(frames: Sequence[Pixels]) -> Floats:
    """How far each frame is shifted from the typical one, shape (n, 2). [px]

    Gauss-Newton on the grey values (Lucas and Kanade 1981) over what looks like the middle value of all frames:
    traffic does not, and so has no say.
    """
    scale = min(1.0, _SHAKE_WIDTH_PX / frames[0].shape[1])
    small = [
        cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for frame in frames
    ]
    typical = np.median(np.stack(small), axis=0).astype(np.float32)
    typical = np.asarray(cv2.GaussianBlur(typical, (0, 0), 1.0), dtype=np.float32)
    slopes = np.stack((_slope(typical, across=True), _slope(typical, across=False)))
    soft = [np.asarray(cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 1.0), dtype=np.float32) for frame in small]
    shifts = np.array([_shift_px(frame, typical, slopes) for frame in soft]) / scale
    length = np.hypot(shifts[:, 0], shifts[:, 1])
    shifts[(length < _MIN_SHAKE_PX) | (length > _MAX_SHAKE_PX)] = 0.0
    return np.asarray(shifts)


def _shift_px(
    frame: npt.NDArray[np.float32], typical: npt.NDArray[np.float32], slopes: npt.NDArray[np.float32]
) -> Floats:
    """Shift of a frame against the typical one, shape (2,). [px]"""
    shift = np.zeros(2)
    for _ in range(_SHAKE_STEPS):
        difference = _moved_back(frame, shift).astype(np.float32) - typical
        still = np.abs(difference) < _ALIKE
        gx, gy, unlike = slopes[0][still], slopes[1][still], difference[still]
        normal = np.array([[gx @ gx, gx @ gy], [gx @ gy, gy @ gy]], dtype=np.float64)
        if not np.linalg.det(normal) > 0:
            return np.zeros(2)  # nothing but one colour
        shift -= np.linalg.solve(normal, np.array([gx @ unlike, gy @ unlike], dtype=np.float64))
    return shift


def _moved_back(frame: npt.NDArray[_Grey], shift_px: Floats) -> npt.NDArray[_Grey]:
    if not shift_px.any():
        return frame
    back = np.array([[1.0, 0.0, -shift_px[0]], [0.0, 1.0, -shift_px[1]]])
    height, width = frame.shape[:2]
    moved = cv2.warpAffine(frame, back, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=frame.dtype)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _dates(content: bytes, path: Path) -> dict[str, datetime]:
    """The dates that :meth:`Still.png` wrote; empty for a picture from elsewhere."""
    at = len(_SIGNATURE)
    while content.startswith(_SIGNATURE) and at + 8 <= len(content):
        (length,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        body = content[at + 8 : at + 8 + length]
        if kind == b"tEXt" and body.startswith(_CHUNK):
            try:
                dates = json.loads(body[len(_CHUNK) :])
                return {
                    key: datetime.strptime(dates[key], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
                    for key in ("taken", "expires")
                }
            except (ValueError, KeyError, TypeError):
                raise CalibrationError(f"{path}: expected the dates of a still, found a damaged text chunk") from None
        at += 12 + length
    return {}
