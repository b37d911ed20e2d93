"""Writing a chosen model into a settings file that somebody else wrote: that one line, and nothing else of it."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

from edge.cli.files import written_whole
from edge.errors import BadInput
from edge.settings import read_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SECTION = re.compile(r"\s*\[\s*model\s*\]\s*(#.*)?$")
_ANY_SECTION = re.compile(r"\s*\[")
_NAME = re.compile(r"""(\s*name\s*=\s*)("[^"\\]*"|'[^']*')(.*)$""", re.DOTALL)


def write_model(settings: Path, name: str) -> None:
    """Set ``model.name``; comments, order, owner and mode stay as they are, and the file changes whole or not at all.

    Raises:
        BadInput: It cannot be read or written, or sets the model in a way that is not changed here.
    """
    document = read_toml(settings)
    place = settings.resolve()  # a link goes on pointing there
    text = place.read_bytes().decode("utf-8")
    changed = with_model(text, name)
    section = document.get("model", {})
    wanted = {**document, "model": {**section, "name": name}} if isinstance(section, dict) else None
    try:
        is_right = tomllib.loads(changed) == wanted
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise BadInput(
            f'{settings}: model: expected a section [model] to write into; write model.name = "{name}" there'
        )
    was = place.stat()
    with written_whole(place, is_private=True) as partial:
        partial.write_bytes(changed.encode())
        if os.geteuid() == 0:
            os.chown(partial, was.st_uid, was.st_gid)
        partial.chmod(stat.S_IMODE(was.st_mode))


def with_model(text: str, name: str) -> str:
    """The text of a settings file with ``model.name`` in its section, which is added when it is missing."""
    lines = text.splitlines(keepends=True)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    begin = next((i for i, line in enumerate(lines) if _SECTION.match(line.rstrip())), None)
    if begin is None:
        gap = "" if not lines or lines[-1].endswith("\n") else end
        return f'{text}{gap}{end}[model]{end}name = "{name}"{end}'
    for i in range(begin + 1, len(lines)):
        if _ANY_SECTION.match(lines[i]):
            break
        if found := _NAME.match(lines[i]):
            lines[i] = f'{found[1]}"{name}"{found[3]}'
            return "".join(lines)
    if not lines[begin].endswith("\n"):
        lines[begin] += end
    lines.insert(begin + 1, f'name = "{name}"{end}')
    return "".join(lines)
