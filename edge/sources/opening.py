"""From the address of a source to its frames: the one place where a source is opened."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge.credentials import read_password
from edge.errors import BadInput
from edge.sources.address import SourceKind, kind_of
from edge.sources.live import FIRST_PICTURE_S, LiveSource
from edge.sources.video import VideoFile


def open_source(
    url: str,
    *,
    loop: bool = False,
    size_px: tuple[int, int] | None = None,
    username: str | None = None,
    password_file: Path | None = None,
    patience_s: float | None = FIRST_PICTURE_S,
) -> VideoFile | LiveSource:
    """Opens a source; a context manager. A live one opens its camera inside, again and again while that fails.

    Args:
        url: See :mod:`edge.sources.address`.
        loop: Start a file again at its end.
        size_px: Width and height that a live source must deliver; None: whatever it does. [px]
        username: For a network camera.
        password_file: Holds the password for it.
        patience_s: How long ``frames()`` of a live source waits for a frame; None: for ever. [s]

    Raises:
        BadInput: The address is wrong, a file cannot be opened, or the password cannot be read.
        BackendUnavailable: What such a camera needs is not installed.
    """
    kind = kind_of(url)
    path = urlsplit(url).path
    if username is not None and kind is not SourceKind.RTSP:
        raise BadInput(f"source.username: expected only with a network camera (rtsp://), got it with '{url}'")
    if kind is SourceKind.FILE:
        return VideoFile(unquote(path) if url.startswith("file:") else url, loop=loop)
    if kind is SourceKind.RTSP:
        from edge.sources.stream import open_stream

        password = None if password_file is None else read_password("source.password_file", password_file)
        return LiveSource(
            lambda: open_stream(url, username=username, password=password),
            name=url,
            size_px=size_px,
            patience_s=patience_s,
        )
    if kind is SourceKind.V4L2:
        from edge.sources.stream import open_device

        return LiveSource(lambda: open_device(path, size_px=size_px), name=path, size_px=size_px, patience_s=patience_s)
    from edge.sources.picamera import driver, open_picamera

    driver()  # told now, not again and again by the thread
    return LiveSource(
        lambda: open_picamera(int(path or 0), size_px=size_px), name=url, size_px=size_px, patience_s=patience_s
    )
