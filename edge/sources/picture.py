"""Whether a live picture shows a street at all: frozen, black, or too dark to measure.

Looked at twice a second on a small grey copy, so it costs next to nothing. A live picture is never still: noise, light
and leaves move some cell of it within half a minute.

Limits: a clock that the camera writes into the picture keeps a frozen one alive, and so does an encoder whose key
frames flicker by more than :data:`STILL_LEVELS`. Whether a picture without any light is night or a cover cannot be seen
in it; what has darkened slowly counts as night.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.domain import CameraState, Pixels

LOOK_S = 0.5
SMALL_PX = (96, 54)  # cells of a hundred pixels and more: single noisy pixels average out
FROZEN_AFTER_S = 30.0
STILL_LEVELS = 1  # a cell that changed by more is alive
STILL_SHARE = 0.005  # of the cells may flicker by that, as encoders make them when they repeat a picture
BLACK_LEVEL = 20  # of 255; the brightest cells lie below
BLACK_SPREAD = 4  # from the darkest to the brightest cells: nothing to see
BLACK_AFTER_S = 2.0
DARK_LEVEL, LIGHT_LEVEL = 45, 52  # median of the cells; about half of the vehicles are lost at 45: docs/measurement.md
DARK_AFTER_S = 10.0  # longer than a passing shadow or an exposure that settles


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
        self._last_change: tuple[int, npt.NDArray[np.int16]] | None = None
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
        if self._last_change is None or _differ(cells, self._last_change[1]):
            self._last_change = (now_ns, cells)
        changed_ns = self._last_change[0]
        return changed_ns if now_ns - changed_ns >= FROZEN_AFTER_S * 1e9 else None

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


def _differ(cells: npt.NDArray[np.int16], others: npt.NDArray[np.int16]) -> bool:
    change = np.abs(cells - others)
    return bool(change.max() > STILL_LEVELS or np.count_nonzero(change) > STILL_SHARE * change.size)
