"""Video files with the true presentation time of every frame.

The instant of a frame is the container's presentation time stamp (OpenCV 5 on FFmpeg hands it out exactly), never the
frame number over the nominal rate: with a variable rate that would be a wrong speed. What the file cannot give is told
in :attr:`VideoFile.timing`, and FFmpeg's own remarks about it are kept off the terminal.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import cv2
import numpy as np

from edge.domain import Frame, TimeKind
from edge.errors import BackendUnavailable, BadInput
from edge.sources.timing import RisingStamps, Timing

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET: the timing report says what matters
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

STAMP_SIGMA_S = 0.0005  # half of 1 ms, the coarsest tick that containers in common use round their stamps to
MAX_FRAMES_WITHOUT_RISE = 50  # two seconds at 25 fps with one and the same stamp: the container carries none
BROKEN_OFF_S = 0.5  # files end up to a few frames before their stated length; more is a loss
LOOP_GAP_S = 2.0  # between the rounds of a looped file: vehicles of its end are not those of its beginning
DECODER_THREADS = 1  # two take a seventh more processor time; the detector runs meanwhile
LONGEST_PLAUSIBLE_COUNT = 10**9  # frames; FFmpeg answers absurd counts where it does not know


class VideoFile:
    """Frames of a video file, in order, each later than the one before.

    ``captured_ns`` counts from the first decoded frame. A looped file goes on counting: each round begins
    ``LOOP_GAP_S`` after the last.

    Attributes:
        size_px: Width and height of the picture. [px]
        frame_count: Frames that the container announces, None when it does not say; an estimate for progress.
    """

    def __init__(self, path: str | Path, *, loop: bool = False, stamp_sigma_s: float = STAMP_SIGMA_S) -> None:
        """Opens the file.

        Args:
            path: The file.
            loop: Start again at the end, for ever.
            stamp_sigma_s: One standard deviation of a time stamp. [s]

        Raises:
            BadInput: The file is missing, is no video, or its index is missing.
            BackendUnavailable: This OpenCV was built without FFmpeg.
        """
        self._path = Path(path)
        self._loop = loop
        self._stamp_sigma_s = stamp_sigma_s
        self._capture = self._opened()
        self.size_px = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if 0 < count < LONGEST_PLAUSIBLE_COUNT else None
        rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        self._stamps = RisingStamps(declared_hz=rate_hz if rate_hz > 0 else None)

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._capture.release()

    @property
    def timing(self) -> Timing:
        """How the time stamps of the frames so far behaved."""
        return self._stamps.timing

    def frames(self) -> Iterator[Frame]:
        """The frames whose time stamp rises.

        Raises:
            BadInput: Nothing can be decoded, or no time stamp ever rises.
        """
        start_ns = 0
        while True:
            last_ns = start_ns
            for frame in self._once(start_ns):
                last_ns = frame.captured_ns
                yield frame
            if not self._loop:
                return
            start_ns = last_ns + round(LOOP_GAP_S * 1e9)
            self._capture.release()
            self._capture = self._opened()

    def _once(self, start_ns: int) -> Iterator[Frame]:
        """One round through the file; its first frame gets ``start_ns``."""
        first_ns: int | None = None
        grabbed = decoded = end_ns = 0
        while self._capture.grab():
            grabbed += 1
            stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            is_decoded, image = self._capture.retrieve()
            if not is_decoded:
                continue
            decoded += 1
            end_ns = max(end_ns, stamp_ns)
            if first_ns is None:
                first_ns = stamp_ns
            captured_ns = start_ns + stamp_ns - first_ns
            if self._stamps.accept(captured_ns):
                yield Frame(
                    captured_ns=captured_ns,
                    captured_sigma_s=self._stamp_sigma_s,
                    time_kind=TimeKind.PTS,
                    image_bgr=np.asarray(image, dtype=np.uint8),
                )
            elif decoded == MAX_FRAMES_WITHOUT_RISE:
                self._expect_rising_stamps()
        self._account_for(decoded, max(grabbed, self.frame_count or 0), end_ns)

    def _account_for(self, decoded: int, announced: int, end_ns: int) -> None:
        """Adds what this round through the file did not deliver to the report."""
        if not decoded:
            raise BadInput(f"{self._path}: expected a video, found no frame that can be decoded")
        self._expect_rising_stamps()
        self._stamps.undecodable += announced - decoded
        rate_hz = self._stamps.declared_hz
        if self.frame_count and rate_hz:
            missing_s = (self.frame_count - 1) / rate_hz - end_ns / 1e9
            self._stamps.missing_end_s = missing_s if missing_s > BROKEN_OFF_S else 0.0

    def _expect_rising_stamps(self) -> None:
        if self._stamps.frames < 2:
            raise BadInput(
                f"{self._path}: expected a video with time stamps that rise, found "
                + ("none that does" if self._stamps.timing.left_out else "a single picture")
                + " (speeds cannot be measured without them)"
            )

    def _opened(self) -> cv2.VideoCapture:
        if not self._path.exists():
            raise BadInput(f"{self._path}: no such video file")
        if self._path.is_dir():
            raise BadInput(f"{self._path}: expected a video file, found a directory")
        if not os.access(self._path, os.R_OK):
            raise BadInput(f"{self._path}: this user may not read the video file")
        if cv2.CAP_FFMPEG not in cv2.videoio_registry.getBackends():
            raise BackendUnavailable("video files need OpenCV with FFmpeg: pip install opencv-python-headless")
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, DECODER_THREADS])
        if not capture.isOpened():
            raise BadInput(f"{self._path}: expected a video (mp4, mkv, avi …), found {_found_instead(self._path)}")
        return capture


def _found_instead(path: Path) -> str:
    """What a file that FFmpeg cannot open is, as far as its bytes tell."""
    with path.open("rb") as file:
        head = file.read(4096)
        if not head:
            return "an empty file"
        if head[4:8] == b"ftyp" and b"moov" not in _top_level_boxes(file, path.stat().st_size):
            return "an mp4 without its index (moov): the recording or the copy was cut off"
    printable = sum(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    return "text" if printable == len(head) else "a file that is damaged or of an unknown kind"


def _top_level_boxes(file: BinaryIO, length: int) -> list[bytes]:
    """Kinds of the outermost boxes of an ISO base media file (ISO/IEC 14496-12, 4.2)."""
    kinds = []
    at = 0
    while at + 8 <= length:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        kinds.append(kind)
        if size == 1:  # a 64-bit size follows
            wide = file.read(8)
            size = struct.unpack(">Q", wide)[0] if len(wide) == 8 else 0
        if size < 8:  # 0 means: up to the end of the file
            break
        at += size
    return kinds
