"""What every model file is, and the promise that it is that file.

An entry states source, licence, sha256, input size, head and classes. Entries are checked when the catalogue is read,
files when they are used: :meth:`Model.verified_file` compares the checksum each time, so a half-copied or exchanged
file never measures a street. A file outside the catalogue can be named by its path: Ultralytics runs it, and its name
carries its checksum, so that published numbers still say what produced them.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUNDLED = Path(__file__).with_name("catalogue.toml")

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OWN_FILES = (".pt", ".onnx", ".engine", ".torchscript")
_KEYS = ("summary", "file", "sha256", "input_px", "stride", "runtime", "head", "source", "licence", "classes")


class CatalogueError(Exception):
    """A wrong catalogue, an unknown model or a file that is not what its entry says, told in one line."""


class Runtime(str, Enum):
    """What runs a model file."""

    ONNXRUNTIME = "onnxruntime"
    ULTRALYTICS = "ultralytics"  # the extra: files of people's own


class Head(str, Enum):
    """How the answer of a network is read."""

    CLASSIC = "classic"  # [1, 4 + classes, candidates]: centre, size, a score for each class
    END_TO_END = "end-to-end"  # [1, candidates, 6]: corners, score, class; duplicates already removed


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the catalogue.

    Attributes:
        name: What settings and ``--model`` call it.
        summary: What it is good for, in one sentence.
        file: Where its weights stand.
        sha256: Checksum that the file must have.
        input_px: Width and height of the network's input; None: the runtime knows. [px]
        stride: Its sides may be any multiple of this instead; None: they are as they are. [px]
        runtime: What runs it.
        head: How its answer is read; None: the runtime knows.
        source: Where it comes from.
        licence: SPDX identifier.
        classes: Road user (``car``, ``truck``, …) to the network's class indices; empty: the runtime knows.
    """

    name: str
    summary: str
    file: Path
    sha256: str
    input_px: tuple[int, int] | None
    stride: int | None
    runtime: Runtime
    head: Head | None
    source: str
    licence: str
    classes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of_file(cls, file: Path) -> Model:
        """A file or folder of somebody's own, run by Ultralytics.

        Raises:
            CatalogueError: It cannot be read.
        """
        sha256 = _sha256(file, f"model {file}")
        return cls(
            name=f"{re.sub(r'[^a-z0-9.]+', '-', file.stem.lower()).strip('-.')}-{sha256[:8]}",
            summary="A file of one's own",
            file=file,
            sha256=sha256,
            input_px=None,
            stride=None,
            runtime=Runtime.ULTRALYTICS,
            head=None,
            source=str(file),
            licence="unknown",
            classes={},
        )

    def verified_file(self) -> Path:
        """The weights, after comparing them with the checksum.

        Raises:
            CatalogueError: The file is missing, unreadable or another one.
        """
        found = _sha256(self.file, f"model {self.name}: {self.file}")
        if found != self.sha256:
            raise CatalogueError(
                f"model {self.name}: {self.file.name}: expected sha256 {self.sha256[:12]}…, found {found[:12]}…"
                " (the file is damaged or another one; copy it again)"
            )
        return self.file


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All known models.

    Attributes:
        default: Name of the model that is used when none is named.
        models: Entries in the order of the file.
    """

    default: str
    models: tuple[Model, ...]

    def find(self, name: str | None = None) -> Model:
        """The entry called ``name``, or the default; or the model file of one's own with that path.

        Raises:
            CatalogueError: No such entry or file.
        """
        wanted = self.default if name is None else name
        for model in self.models:
            if model.name == wanted:
                return model
        if "/" in wanted or wanted.endswith(_OWN_FILES):
            return Model.of_file(Path(wanted))
        known = ", ".join(model.name for model in self.models)
        raise CatalogueError(f"model '{wanted}': not in the catalogue; known: {known}")


def load_catalogue(file: Path = BUNDLED) -> Catalogue:
    """Read and check a catalogue.

    Args:
        file: A catalogue in TOML; model files stand beside it.

    Raises:
        CatalogueError: The file is missing or malformed; names the entry and the key.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(f"{file}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{file.name}: not a TOML file: {error}") from error
    _refuse_other_keys(document, ("default", "models"), file.name)
    entries = _typed(document, "models", dict, file.name)
    catalogue = Catalogue(
        default=_typed(document, "default", str, file.name),
        models=tuple(_model(name, entry, file) for name, entry in entries.items()),
    )
    try:
        catalogue.find()
    except CatalogueError as error:
        raise CatalogueError(f"{file.name}: default: {error}") from None
    return catalogue


def _model(name: str, entry: object, catalogue: Path) -> Model:
    where = f"{catalogue.name}: {name}"
    if not _NAME.fullmatch(name):
        raise CatalogueError(f"{where}: expected a name of a-z, 0-9, '.' and '-'")
    if not isinstance(entry, dict):
        raise CatalogueError(f"{where}: expected a table, got {entry!r}")
    _refuse_other_keys(entry, _KEYS, where)
    sha256 = _typed(entry, "sha256", str, where)
    if not _SHA256.fullmatch(sha256):
        raise CatalogueError(f"{where}: sha256: expected 64 hexadecimal digits, got '{sha256}'")
    return Model(
        name=name,
        summary=_typed(entry, "summary", str, where),
        file=catalogue.parent / _typed(entry, "file", str, where),
        sha256=sha256,
        input_px=_size(entry, where),
        stride=_stride(entry, where),
        runtime=_choice(entry, "runtime", Runtime, where),
        head=_choice(entry, "head", Head, where),
        source=_typed(entry, "source", str, where),
        licence=_typed(entry, "licence", str, where),
        classes={
            road_user: _indices(indices, f"{where}: classes.{road_user}")
            for road_user, indices in _typed(entry, "classes", dict, where).items()
        },
    )


_T = TypeVar("_T")
_E = TypeVar("_E", bound=Enum)


def _sha256(path: Path, where: str) -> str:
    """Checksum of a file, or of the names and contents of a folder's files."""
    try:
        if not path.is_dir():
            return hashlib.sha256(path.read_bytes()).hexdigest()
        together = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            together.update(f"{file.relative_to(path)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return together.hexdigest()
    except OSError as error:
        raise CatalogueError(f"{where}: {error.strerror or error}") from error


def _refuse_other_keys(table: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise CatalogueError(f"{where}: unknown key '{key}'; known: {', '.join(known)}")


def _typed(table: Mapping[str, object], key: str, kind: type[_T], where: str) -> _T:
    if key not in table:
        raise CatalogueError(f"{where}: {key} is missing")
    value = table[key]
    if not isinstance(value, kind):
        raise CatalogueError(f"{where}: {key}: expected a {kind.__name__}, got {value!r}")
    return value


def _choice(table: Mapping[str, object], key: str, choices: type[_E], where: str) -> _E:
    value = _typed(table, key, str, where)
    try:
        return choices(value)
    except ValueError:
        known = ", ".join(choice.value for choice in choices)
        raise CatalogueError(f"{where}: {key}: expected one of {known}, got '{value}'") from None


def _size(table: Mapping[str, object], where: str) -> tuple[int, int]:
    size = _indices(table.get("input_px"), f"{where}: input_px")
    if len(size) != 2 or min(size) < 1:
        raise CatalogueError(f"{where}: input_px: expected [width, height] in pixels, got {list(size)}")
    return size[0], size[1]


def _stride(table: Mapping[str, object], where: str) -> int | None:
    stride = table.get("stride")
    if stride is None:
        return None
    if type(stride) is not int or stride < 1 or any(side % stride for side in _size(table, where)):
        raise CatalogueError(f"{where}: stride: expected a whole number that divides input_px, got {stride!r}")
    return stride


def _indices(value: object, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(type(item) is int and item >= 0 for item in value):
        raise CatalogueError(f"{where}: expected a list of whole numbers, got {value!r}")
    return tuple(value)
