"""Fetches the file of a model: resumed where it broke off, compared with its checksum, from a mirror if there is one.

Only when somebody asks for it; a running device never does. Nothing takes the place of a model file before its
checksum is right, so an interrupted or tampered download leaves what was there.
"""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from models.catalogue import CatalogueError, Model, checksum

TIMEOUT_S = 30.0  # without a byte
CHUNK = 1 << 16
PARTIAL = ".part"

Report = Callable[[int, "int | None"], None]


def fetch(
    model: Model, *, mirror: str | None = None, proxy: str | None = None, report: Report = lambda done, of: None
) -> Path:
    """Put the file of a model in its place.

    Args:
        model: An entry with a ``url``.
        mirror: A folder, or an address without the file's name, to take the file from instead.
        proxy: For http and https; None: the one of the environment (``https_proxy``), if any.
        report: Told how many bytes are there, and of how many if that is known.

    Raises:
        CatalogueError: It cannot be fetched, or what came is not the file of the entry. What had come stays beside its
            place and is gone on with the next time, unless it was wrong.
    """
    if model.url is None:
        raise CatalogueError(f"model {model.name}: comes with Snellius or was added, there is nothing to fetch")
    if model.file.exists() and checksum(model.file, model.name) == model.sha256:
        return model.file
    partial = model.file.with_name(model.file.name + PARTIAL)
    try:
        model.file.parent.mkdir(parents=True, exist_ok=True)
        if mirror is not None and "://" not in mirror:
            _copy(Path(mirror) / model.file.name, partial, report)
        else:
            url = model.url if mirror is None else f"{mirror.rstrip('/')}/{model.file.name}"
            is_resumed = _download(url, partial, model.size_bytes, proxy, report)
            if is_resumed and checksum(partial, model.name) != model.sha256:
                partial.unlink()  # the source has another file than the one that was begun
                _download(url, partial, model.size_bytes, proxy, report)
    except OSError as error:
        raise CatalogueError(f"model {model.name}: {_reason(error)}") from error
    found = checksum(partial, model.name)
    if found != model.sha256:
        partial.unlink()
        raise CatalogueError(
            f"model {model.name}: expected sha256 {model.sha256[:12]}…, fetched {found[:12]}… (not kept; the source has"
            " another file than the catalogue means)"
        )
    partial.replace(model.file)
    return model.file


def _copy(source: Path, partial: Path, report: Report) -> None:
    shutil.copyfile(source, partial)
    report(partial.stat().st_size, partial.stat().st_size)


def _download(url: str, partial: Path, size: int | None, proxy: str | None, report: Report) -> bool:
    """Go on with a download; whether there was something to go on with."""
    had = partial.stat().st_size if partial.exists() else 0
    if size is not None and had >= size:
        return True
    handlers = [] if proxy is None else [urllib.request.ProxyHandler({"http": proxy, "https": proxy})]
    headers = {"User-Agent": "snellius", **({"Range": f"bytes={had}-"} if had else {})}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - of the catalogue or typed by the user
    try:
        answer = urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as refused:
        refused.close()
        if refused.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and had:
            return True
        raise
    with answer:
        is_resumed: bool = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        done = had if is_resumed else 0
        length = answer.headers.get("Content-Length")
        of = size if length is None else done + int(length)
        with partial.open("ab" if is_resumed else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(done, of)
    if of is not None and done < of:
        raise OSError(f"{url}: broke off after {done} of {of} bytes; fetch again to go on")
    return is_resumed


def _reason(error: OSError) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.url}: the server said {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be fetched: {error.reason}"
    return f"{error.filename}: {error.strerror}" if error.strerror and error.filename else str(error)
