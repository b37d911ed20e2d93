"""File systems of their own, small enough to fill and real enough to fail. Mounting needs the right to."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

CARD_BYTES = 8 * 1024 * 1024


@cache
def why_no_mounts() -> str | None:
    """Why nothing can be mounted here; None when it can."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            with memory_disk(folder / "memory", 65_536), Card(folder / "card"):
                return None
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or str(error).encode()
            return str(said.decode().strip().splitlines()[0])


@contextmanager
def memory_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """A tmpfs of a few bytes on a new folder."""
    folder.mkdir()
    _do("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder))
    try:
        yield
    finally:
        _do("umount", "--lazy", str(folder))


class Card:
    """A card with ext4, as a file behind a loop device; it may fail while it is written to.

    After a failure the kernel lets nobody write any more (``errors=remount-ro``), as with a card that wears out. It is
    mended as a technician would do it: what it holds is copied, checked, and put in its place.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._image = folder.with_name(folder.name + ".img")
        self._mounted = 0

    def __enter__(self) -> Card:
        self.folder.mkdir()
        with self._image.open("wb") as image:
            image.truncate(CARD_BYTES)
        _do("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        for _ in range(self._mounted):
            _do("umount", "--lazy", str(self.folder))

    def fail(self) -> None:
        """From now on it is read-only, whoever has a file open."""
        _do("mount", "-o", "remount,abort", str(self.folder))

    def mend(self) -> None:
        """Another card in its place that holds the same, after its check."""
        copy = self._image.with_suffix(f".{self._mounted}")
        shutil.copyfile(self._image, copy)
        subprocess.run(["e2fsck", "-fy", str(copy)], capture_output=True, env=_PATH)  # tells by its code what it mended
        self._image = copy
        self._mount()

    def _mount(self) -> None:
        _do("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder))
        self._mounted += 1


_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, env=_PATH)
