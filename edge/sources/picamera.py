"""The camera on a Raspberry Pi, through picamera2, which the sensor's own time stamps come with.

picamera2 belongs to the system (``apt install python3-picamera2``); it is imported when such a camera is opened.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.errors import BackendUnavailable
from edge.sources.live import CameraGone, Shot

READ_TIMEOUT_S = 5.0
DEFAULT_SIZE_PX = (1280, 720)


class PiCamera:
    """A camera that picamera2 has started."""

    def __init__(self, camera: Any) -> None:
        self._camera = camera
        limits = camera.camera_controls.get("FrameDurationLimits")
        self.declared_hz = 1e6 / limits[2] if limits and limits[2] else None

    def read(self) -> Shot:
        """The next picture. The sensor stamps it with CLOCK_BOOTTIME (libcamera, controls::SensorTimestamp).

        Raises:
            CameraGone: None came in time.
        """
        job = self._camera.capture_request(wait=False)
        try:
            request = self._camera.wait(job, timeout=READ_TIMEOUT_S)
        except TimeoutError:
            raise CameraGone(f"no picture within {READ_TIMEOUT_S:.0f} s") from None
        try:
            image = np.array(request.make_array("main"), dtype=np.uint8)
            stamp_ns = request.get_metadata().get("SensorTimestamp")
        finally:
            request.release()
        return Shot(image, stamp_ns, is_boottime=True)

    def close(self) -> None:
        """Stop it and let others use it."""
        self._camera.stop()
        self._camera.close()


def driver() -> Any:
    """The class of picamera2.

    Raises:
        BackendUnavailable: It is not installed.
    """
    try:
        from picamera2 import Picamera2
    except ImportError as missing:
        raise BackendUnavailable("source 'picamera:' needs: apt install python3-picamera2") from missing
    return Picamera2


def open_picamera(index: int, *, size_px: tuple[int, int] | None = None) -> PiCamera:
    """Opens a camera of a Raspberry Pi.

    Args:
        index: 0 for the first.
        size_px: Width and height of the picture. [px]

    Raises:
        CameraGone: There is no such camera, or another program uses it.
        BackendUnavailable: See :func:`driver`.
    """
    try:
        camera = driver()(index)
        # "RGB888" of libcamera lies in memory as blue, green, red: what the rest of the house calls BGR
        camera.configure(
            camera.create_video_configuration(main={"size": size_px or DEFAULT_SIZE_PX, "format": "RGB888"})
        )
        camera.start()
    except (IndexError, RuntimeError, OSError) as failure:
        raise CameraGone(f"camera {index} of the board: {failure}") from failure
    return PiCamera(camera)
