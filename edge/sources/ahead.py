"""Frames of a recording, decoded ahead: while the detector looks at one, a thread makes the next ones ready.

Order and content are those of the source, so a recording gives the same numbers as without.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from edge.domain import Frame

FEWEST_AHEAD, MOST_AHEAD = 2, 16  # made ready while the road is empty and the detector rests, for when somebody comes
BYTES_AHEAD = 24 << 20  # of pictures that wait, when they are large
GIVES_WAY = 5  # niceness, which Linux keeps by thread: who is ahead can wait for who is waited for


def decoded_ahead(frames: Iterator[Frame]) -> Generator[Frame, None, None]:
    """The same frames, read by a thread of its own from the first one on: nobody else may read them then.

    Close it (``contextlib.closing``) before the source. What the source raises is raised where its next frame would
    have come.
    """
    pool = ThreadPoolExecutor(1, "decoder", initializer=os.nice, initargs=(GIVES_WAY,))
    try:
        ready = deque([pool.submit(next, frames, None)])
        while (frame := ready.popleft().result()) is not None:
            while len(ready) < min(max(BYTES_AHEAD // frame.image_bgr.nbytes, FEWEST_AHEAD), MOST_AHEAD):
                ready.append(pool.submit(next, frames, None))
            yield frame
    finally:
        pool.shutdown(cancel_futures=True)
