"""Frames of a recording, decoded ahead: while the detector looks at one, a thread makes the next ones ready.

Order and content are those of the source, so a recording gives the same numbers as without.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from edge.domain import Frame

FRAMES_AHEAD = 4  # three frames pass between two looks; each waits in memory with its whole picture


def decoded_ahead(frames: Iterator[Frame]) -> Generator[Frame, None, None]:
    """The same frames, read by a thread of its own from the first one on: nobody else may read them then.

    Close it (``contextlib.closing``) before the source. What the source raises is raised where its next frame would
    have come.
    """
    pool = ThreadPoolExecutor(1, "decoder")
    try:
        ready = deque(pool.submit(next, frames, None) for _ in range(FRAMES_AHEAD))
        while (frame := ready.popleft().result()) is not None:
            ready.append(pool.submit(next, frames, None))
            yield frame
    finally:
        pool.shutdown(cancel_futures=True)
