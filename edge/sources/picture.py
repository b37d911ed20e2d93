"""Whether a live picture shows a street at all: frozen, black, or too dark to measure.

Looked at twice a second on a small grey copy, so it costs next to nothing. In a live picture something moves within
half a minute, and noise keeps it from ever being the same again. One picture that is sent again and again goes through
an encoder, which draws it anew after every key frame, now a little brighter, now a little darker; it repeats itself.

Limits: a clock that the camera writes into the picture keeps a frozen one alive, and so does an encoder that hardly
ever draws it twice alike (x264 at a constant rate of bits). Whether a picture without any light is night or a cover
cannot be seen in it; what has darkened slowly counts as night.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from edge.domain import CameraState, Pixels

LOOK_S = 0.5
SMALL_PX = (96, 54)  # cells of a hundred pixels and more: single noisy pixels average out
FROZEN_AFTER_S = 30.0
REMEMBERED_S = 60.0  # an encoder comes round to nearly all that it makes of one picture
MOST_FLICKER = 12  # from the darkest to the brightest of a cell; live, least of 30 s: 15 at night, 72 by day
SAME_LEVELS = 1  # by which two pictures may differ in a cell and count as the same,
SAME_SHARE = 0.005  # in so many of the cells
REPEATED_SHARE = 0.2  # of the looks show a picture that was seen before; live: none. Half of it while it is frozen
BLACK_LEVEL = 20  # of 255; the brightest cells lie below
BLACK_SPREAD = 4  # from the darkest to the brightest cells: nothing to see
BLACK_AFTER_S = 2.0
DARK_LEVEL, LIGHT_LEVEL = 45, 52  # median of the cells; about half of the vehicles are lost at 45: docs/measurement.md
DARK_AFTER_S = 10.0  # longer than a passing shadow or an exposure that settles


class _Look(NamedTuple):
    ns: int
    cells: npt.NDArray[np.int16]
    is_repeated: bool


class PictureJudge:
    """Looks at the pictures of one camera.

    Attributes:
        state: WATCHING, FROZEN, BLACK or DARK.
        since_ns: Since when; a frozen picture since it last changed. [ns]
    """

    def __init__(self) -> None:
        self.state = CameraState.WATCHING
        self.since_ns = 0
        self._looked_ns: int | None = None
        self._seen: deque[_Look] = deque()
        self._black_since_ns: int | None = None
        self._other_light_since_ns: int | None = None
        self._is_dark = False

    def look(self, captured_ns: int, image_bgr: Pixels) -> CameraState:
        """Take in a picture, shape (height, width, 3)."""
        if self._looked_ns is not None and 0 <= captured_ns - self._looked_ns < LOOK_S * 1e9:
            return self.state
        self._looked_ns = captured_ns
        cells = cells_of(image_bgr)
        since_ns = {
            CameraState.BLACK: self._black(captured_ns, cells),
            CameraState.DARK: self._dark(captured_ns, cells),
            CameraState.FROZEN: self._frozen(captured_ns, cells),
        }
        found = [(state, since) for state, since in since_ns.items() if since is not None]
        state, since = found[0] if found else (CameraState.WATCHING, captured_ns)
        if state is not self.state:
            self.state, self.since_ns = state, since
        return self.state

    def _frozen(self, now_ns: int, cells: npt.NDArray[np.int16]) -> int | None:
        if self._seen and now_ns < self._seen[-1].ns:  # the camera counts anew
            self._seen.clear()
        while self._seen and now_ns - self._seen[0].ns > REMEMBERED_S * 1e9:
            self._seen.popleft()
        is_repeated = any(_are_same(cells, look.cells) for look in reversed(self._seen))
        self._seen.append(_Look(now_ns, cells, is_repeated))
        late = [look for look in self._seen if now_ns - look.ns <= FROZEN_AFTER_S * 1e9]
        if now_ns - self._seen[0].ns < FROZEN_AFTER_S * 1e9 or _flicker(late) > MOST_FLICKER:
            return None
        asked = REPEATED_SHARE * len(late) / (2 if self.state is CameraState.FROZEN else 1)
        return late[0].ns if sum(look.is_repeated for look in late) >= asked else None

    def _black(self, now_ns: int, cells: npt.NDArray[np.int16]) -> int | None:
        low, high = np.percentile(cells, [1, 99])
        if self._is_dark or high > BLACK_LEVEL or high - low > BLACK_SPREAD:
            self._black_since_ns = None
            return None
        self._black_since_ns = now_ns if self._black_since_ns is None else self._black_since_ns
        return self._black_since_ns if now_ns - self._black_since_ns >= BLACK_AFTER_S * 1e9 else None

    def _dark(self, now_ns: int, cells: npt.NDArray[np.int16]) -> int | None:
        median = float(np.median(cells))
        is_other = median > LIGHT_LEVEL if self._is_dark else median < DARK_LEVEL
        if not is_other or self.state is CameraState.BLACK:
            self._other_light_since_ns = None
        elif self._other_light_since_ns is None:
            self._other_light_since_ns = now_ns
        elif now_ns - self._other_light_since_ns >= DARK_AFTER_S * 1e9:
            self._is_dark = not self._is_dark
            self._other_light_since_ns = None
        return now_ns if self._is_dark else None


def cells_of(image_bgr: Pixels) -> npt.NDArray[np.int16]:
    """The small grey copy that is looked at, of a picture of shape (height, width, 3)."""
    grey = cv2.cvtColor(cv2.resize(image_bgr, SMALL_PX, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    return np.asarray(grey, dtype=np.int16)


def _are_same(cells: npt.NDArray[np.int16], others: npt.NDArray[np.int16]) -> bool:
    change = np.abs(cells - others)
    return bool(change.max() <= SAME_LEVELS and np.count_nonzero(change) <= SAME_SHARE * change.size)


def _flicker(looks: list[_Look]) -> int:
    """Between the brightest and the darkest of a cell, in the cell where that is most. [levels]"""
    cells = np.stack([look.cells for look in looks])
    return int(np.ptp(cells, axis=0).max())
