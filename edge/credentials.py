"""Secrets stand in files that nobody else may read; what is wrong with one is told without repeating it."""

from __future__ import annotations

import stat
from pathlib import Path

from edge.errors import BadInput


def read_password(what: str, file: Path) -> str:
    """The text of a password file; one newline at its end is not part of it.

    Args:
        what: The setting that names it, for the message.
        file: Holds the password.

    Raises:
        BadInput: It cannot be read, is empty, is no text, or everybody on this computer may read it.
    """
    refuse_exposed(what, file)
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError:
        raise BadInput(f"{what}: expected UTF-8 text in {file}") from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise BadInput(f"{what}: expected a password, {file} is empty")
    return password


def refuse_exposed(what: str, file: Path) -> None:
    """Stop at a secret that cannot be read, or that everybody can read.

    Raises:
        BadInput: It is one of the two.
    """
    try:
        mode = file.stat().st_mode
        with file.open("rb"):
            pass
    except OSError as failure:
        raise BadInput(f"{what}: cannot read {file}: {failure.strerror}") from None
    if mode & stat.S_IROTH:
        raise BadInput(f"{what}: everybody on this computer may read {file} (chmod o= {file})")
