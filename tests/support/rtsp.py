"""A real RTSP server that can be killed and come back on the same port with another picture."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

import pytest

from edge.broker import free_port

SYSTEM_PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).parent / "rtsp_server.py"


class RtspServer:
    """GStreamer's server on a free port of 127.0.0.1, with a moving test picture or a clip."""

    def __init__(self, *, size_px: tuple[int, int] = (320, 240), rate_hz: int = 20, clip: Path | None = None) -> None:
        self.size_px = size_px
        self.rate_hz = rate_hz
        self.clip = clip
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

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

    def start(self) -> None:
        """Start it, again if need be, and wait until it listens."""
        arguments = [str(self.port), *map(str, self.size_px), str(self.rate_hz)]
        arguments += [] if self.clip is None else [str(self.clip)]
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SCRIPT), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
