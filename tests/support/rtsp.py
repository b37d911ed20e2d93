"""A real RTSP server that can be killed and come back on the same port with another picture."""

from __future__ import annotations

import subprocess
import tempfile
from enum import Enum
from pathlib import Path
from types import TracebackType

import pytest

from edge.broker import free_port

SYSTEM_PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).parent / "rtsp_server.py"
SEND = "rtph264pay name=pay0 pt=96"
ROUNDS = 50  # of a clip that is shown on and on: of forty seconds, longer than anybody looks at it


class Showing(Enum):
    """What the camera makes of a clip."""

    ONCE = "the clip, once for each client"
    ON_AND_ON = "the clip, again and again"
    NIGHT = "the clip with a tenth of its contrast"
    COVERED = "black"
    STILL = "one picture of the clip, for ever"


class RtspServer:
    """GStreamer's server on a free port of 127.0.0.1, with a moving test picture or a clip.

    Args:
        size_px: Width and height of the test picture. [px]
        rate_hz: Pictures a second. [1/s]
        clip: An H.264 file to show in place of the test picture.
        showing: How.
    """

    def __init__(
        self,
        *,
        size_px: tuple[int, int] = (320, 240),
        rate_hz: int = 20,
        clip: Path | None = None,
        showing: Showing = Showing.ONCE,
    ) -> None:
        self.size_px = size_px
        self.rate_hz = rate_hz
        self.clip = clip
        self.showing = showing
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/street"

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if self._folder is not None:
            self._folder.cleanup()

    def start(self) -> None:
        """Start it, again if need be, and wait until it listens."""
        who = "single" if self.clip is not None and self.showing is Showing.ONCE else "shared"
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SCRIPT), str(self.port), who, self._launch()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            _, said = self._process.communicate(timeout=10)
            if "No module named 'gi'" in said or "not available" in said:
                pytest.skip("no RTSP server (apt install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-bad)")
            pytest.fail(f"the RTSP server ended: {said}")

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _launch(self) -> str:
        encode = f"openh264enc gop-size={self.rate_hz} ! {SEND}"
        if self.clip is None:
            width, height = self.size_px
            return (
                f"videotestsrc is-live=true pattern=ball flip=true ! video/x-raw,format=I420,width={width},"
                f"height={height},framerate={self.rate_hz}/1 ! {encode}"
            )
        if self.showing is Showing.ONCE:
            return f"filesrc location={self.clip} ! qtdemux ! h264parse config-interval=-1 ! {SEND}"
        rounds = f"splitmuxsrc location={self._rounds(self.clip)}/*.mp4 ! h264parse config-interval=-1"
        if self.showing is Showing.ON_AND_ON:
            return f"{rounds} ! {SEND}"
        if self.showing is Showing.STILL:
            picture = f"imagefreeze is-live=true ! video/x-raw,framerate={self.rate_hz}/1"
            return f"{rounds} ! openh264dec ! {picture} ! {encode}"
        light = "contrast=0.0 saturation=0.0" if self.showing is Showing.COVERED else "contrast=0.1"
        return f"{rounds} ! openh264dec ! videobalance {light} ! {encode}"

    def _rounds(self, clip: Path) -> str:
        """A folder in which the clip stands many times."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="rounds-")
            for number in range(ROUNDS):
                (Path(self._folder.name) / f"{number:03}.mp4").symlink_to(clip)
        return self._folder.name
