"""Files that a verb writes appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.errors import BadInput


@contextmanager
def written_whole(path: Path, *, is_private: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes otherwise.

    Args:
        path: Where the file is to appear.
        is_private: Readable for its owner only, for what shows a street.

    Raises:
        BadInput: The folder does not exist or cannot be written to, or ``path`` is a folder.
    """
    if path.is_dir():
        raise BadInput(f"{path}: expected a file to write, found a directory")
    try:
        handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as refused:
        raise BadInput(f"{path}: cannot be written: {refused.strerror}") from None
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        if not is_private:
            partial.chmod(0o666 & ~_umask())  # mkstemp makes files for the owner only
        partial.replace(path)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
