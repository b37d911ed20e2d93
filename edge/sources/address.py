"""What the address of a source names.

==========================================  ==========================================================
``street.mp4``, ``file:///srv/street.mp4``  a video file
``rtsp://…``, ``rtsps://…``                 a network camera
``/dev/video0``, ``v4l2:/dev/video0``       a camera on USB or the board
``picamera:``, ``picamera:1``               a camera of a Raspberry Pi, the first or another
==========================================  ==========================================================
"""

from __future__ import annotations

from enum import Enum
from urllib.parse import urlsplit

from edge.errors import BadInput


class SourceKind(str, Enum):
    """Where frames come from."""

    FILE = "file"
    RTSP = "rtsp"
    V4L2 = "v4l2"
    PICAMERA = "picamera"

    @property
    def is_live(self) -> bool:
        """Whether it shows what happens now."""
        return self is not SourceKind.FILE


def kind_of(url: str) -> SourceKind:
    """What an address names.

    Raises:
        BadInput: Nothing that can be opened; or a user or password stands in it.
    """
    parts = urlsplit(url)
    if parts.scheme in ("rtsp", "rtsps"):
        if not parts.hostname:
            raise BadInput(f"expected {parts.scheme}://HOST[:PORT]/PATH, found no host")
        if "@" in parts.netloc:
            raise BadInput("expected no user name or password in the address (see source.username, password_file)")
        return SourceKind.RTSP
    if parts.scheme == "v4l2" or (not parts.scheme and parts.path.startswith("/dev/video")):
        if not parts.path.startswith("/dev/"):
            raise BadInput(f"expected v4l2:/dev/videoN, got '{url}'")
        return SourceKind.V4L2
    if parts.scheme == "picamera":
        if parts.path and not parts.path.isdigit():
            raise BadInput(f"expected picamera: or picamera:N, got '{url}'")
        return SourceKind.PICAMERA
    if parts.scheme not in ("", "file"):
        raise BadInput(
            "expected the path of a video file, rtsp://…, /dev/videoN (or v4l2:/dev/videoN) or picamera:,"
            f" got '{parts.scheme}:…'"
        )
    return SourceKind.FILE
