"""Network cameras (RTSP) and cameras on USB or the board (V4L2), through OpenCV.

Opening and reading give up after seconds: without these limits OpenCV waits for half a minute, inside code that nobody
can interrupt. RTSP runs over TCP, because UDP loses packets and half a picture measures nothing. Addresses may hold a
password, so nothing here repeats one.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import cv2
import numpy as np

from edge.errors import BackendUnavailable
from edge.sources.live import CameraGone, Shot

os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET: it would repeat the address
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5")  # s; read when the first device is opened
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
MOST_PLAUSIBLE_HZ = 240.0  # FFmpeg states 90000 where it does not know


class CvCamera:
    """A camera that OpenCV has opened."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        self.declared_hz = rate_hz if 0 < rate_hz <= MOST_PLAUSIBLE_HZ else None

    def read(self) -> Shot:
        """The next picture, with the stamp of its container or driver.

        Raises:
            CameraGone: None came in time, or the stream has ended.
        """
        if not self._capture.grab():
            raise CameraGone(f"no picture within {READ_TIMEOUT_S:.0f} s, or the stream ended")
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        is_decoded, image = self._capture.retrieve()
        if not is_decoded:
            raise CameraGone("a picture that cannot be decoded")
        return Shot(np.asarray(image, dtype=np.uint8), stamp_ns if stamp_ns > 0 else None)

    def close(self) -> None:
        """Let go of the device or connection."""
        self._capture.release()


def open_stream(url: str, *, username: str | None = None, password: str | None = None) -> CvCamera:
    """Opens a network camera.

    Args:
        url: rtsp:// or rtsps://, without a user.
        username: For the camera.
        password: For the camera.

    Raises:
        CameraGone: It does not answer, or not with a video.
        BackendUnavailable: This OpenCV was built without FFmpeg.
    """
    if cv2.CAP_FFMPEG not in cv2.videoio_registry.getBackends():
        raise BackendUnavailable("network cameras need OpenCV with FFmpeg: pip install opencv-python-headless")
    parts = urlsplit(url)
    if username is not None:
        user = quote(username, safe="") + (f":{quote(password, safe='')}" if password is not None else "")
        parts = parts._replace(netloc=f"{user}@{parts.netloc}")
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(OPEN_TIMEOUT_S * 1000)]
    limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(READ_TIMEOUT_S * 1000)]
    capture = cv2.VideoCapture(urlunsplit(parts), cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        capture.release()
        raise CameraGone(f"no answer within {OPEN_TIMEOUT_S:.0f} s, refused, or no video")
    return CvCamera(capture)


def open_device(device: str, *, size_px: tuple[int, int] | None = None) -> CvCamera:
    """Opens a camera on USB or the board.

    Args:
        device: Such as /dev/video0.
        size_px: Width and height to ask it for; it may give another. [px]

    Raises:
        CameraGone: There is no such device, or it is no camera.
    """
    if not Path(device).exists():
        raise CameraGone(f"no device {device}")
    if not os.access(device, os.R_OK | os.W_OK):
        raise CameraGone(f"this user may not use {device} (is it in the group video?)")
    wanted = [] if size_px is None else [cv2.CAP_PROP_FRAME_WIDTH, size_px[0], cv2.CAP_PROP_FRAME_HEIGHT, size_px[1]]
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2, [*wanted, cv2.CAP_PROP_BUFFERSIZE, 4])
    if not capture.isOpened():
        capture.release()
        raise CameraGone(f"{device} is no camera, or another program uses it")
    return CvCamera(capture)
