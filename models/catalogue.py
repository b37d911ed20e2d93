"""What every model file is, and the promise that it is that file.

An entry states source, licence, sha256, input size, head and classes. Entries are checked when the catalogue is read,
files when they are used: :meth:`Model.verified_file` compares the checksum each time, so a half-copied or exchanged
file never measures a street. A file outside the catalogue can be named by its path: Ultralytics runs it, and its name
carries its checksum, so that published numbers still say what produced them.

The catalogue that Snellius ships with is joined by one of this device (:func:`own_folder`): fetched files stand there,
and models that were added or exported have their entries there.
"""

from __future__ import annotations

import hashlib
import json
import os
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
MAX_BOTTOM_OFFSET = 0.1  # of a box's height: further off, a detector has not drawn the vehicle
_OWN_FILES = (".pt", ".onnx", ".engine", ".torchscript")
_SYSTEM = Path("/var/lib/snellius/models")  # beside the outbox of the service
_KEYS = (
    "summary", "file", "sha256", "bytes", "url", "input_px", "stride", "runtime", "head", "source", "licence",
    "classes", "measured", "bottom_offset",
)  # fmt: skip


class CatalogueError(Exception):
    """A wrong catalogue, an unknown model or a file that is not what its entry says, told in one line."""


class Runtime(str, Enum):
    """What runs a model file."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"  # an extra
    NCNN = "ncnn"  # an extra
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
        url: Where ``models fetch`` gets it; None: it is here.
        size_bytes: Of the file at ``url``.
        measured: What was measured of it, for reading.
        bottom_offset: How much lower its boxes end than those of the default, as a share of their height.
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
    url: str | None = None
    size_bytes: int | None = None
    measured: str | None = None
    bottom_offset: float = 0.0

    @property
    def is_fetched(self) -> bool:
        """Whether its file is on this device."""
        return self.file.exists()

    @classmethod
    def of_file(cls, file: Path) -> Model:
        """A file or folder of somebody's own, run by Ultralytics.

        Raises:
            CatalogueError: It cannot be read.
        """
        sha256 = checksum(file, f"model {file}")
        return cls(
            name=f"{re.sub(r'[^a-z0-9.]+', '-', file.stem.lower()).strip('-.')}-{sha256[:8]}",
            summary="A file of one's own",
            file=file,
            sha256=sha256,
            input_px=None,
            stride=None,
            runtime=Runtime.ULTRALYTICS,
            head=None,
            source=file.name,  # where it stood on a workstation tells nobody anything
            licence="unknown",
            classes={},
        )

    def verified_file(self) -> Path:
        """The weights, after comparing them with the checksum.

        Raises:
            CatalogueError: The file is missing, unreadable or another one.
        """
        if self.url is not None and not self.file.exists():
            raise CatalogueError(f"model {self.name}: not on this device (snellius models fetch {self.name})")
        found = checksum(self.file, f"model {self.name}: {self.file}")
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
        models: Entries in the order of the files.
        licences: What the licence of some models means for a city, by its SPDX identifier.
    """

    default: str
    models: tuple[Model, ...]
    licences: Mapping[str, str]

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


def own_folder() -> Path:
    """Where this device keeps models of its own.

    ``SNELLIUS_MODELS`` says; else beside the outbox of the service when that is there; else in the user's data folder.
    """
    said = os.environ.get("SNELLIUS_MODELS")
    if said:
        return Path(said)
    if _SYSTEM.parent.is_dir():
        return _SYSTEM
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "snellius" / "models"


def load_catalogue(file: Path | None = None) -> Catalogue:
    """Read and check a catalogue.

    Args:
        file: A catalogue in TOML; model files stand beside it. None: the one that Snellius ships with, and the one of
            this device if there is one.

    Raises:
        CatalogueError: The file is missing or malformed; names the entry and the key.
    """
    folder = file.parent if file is not None else own_folder()
    document = _read(file or BUNDLED)
    where = (file or BUNDLED).name
    _refuse_other_keys(document, ("default", "models", "licences"), where)
    models = _models(document, file or BUNDLED, folder)
    if file is None and (folder / BUNDLED.name).is_file():
        models += own_models(folder)
        _refuse_twins(models, folder / BUNDLED.name)
    catalogue = Catalogue(
        default=_typed(document, "default", str, where),
        models=models,
        licences=_typed(document, "licences", dict, where) if "licences" in document else {},
    )
    try:
        catalogue.find()
    except CatalogueError as error:
        raise CatalogueError(f"{where}: default: {error}") from None
    return catalogue


def own_models(folder: Path) -> tuple[Model, ...]:
    """The entries of this device's own catalogue; none when it has none.

    Raises:
        CatalogueError: It is malformed.
    """
    file = folder / BUNDLED.name
    if not file.is_file():
        return ()
    document = _read(file)
    _refuse_other_keys(document, ("models",), str(file))
    return _models(document, file, folder)


def keep_own(folder: Path, model: Model) -> None:
    """Enter a model whose file stands in ``folder`` into the catalogue of this device, in place of one of that name.

    Raises:
        CatalogueError: The folder cannot be written to.
    """
    others = [other for other in own_models(folder) if other.name != model.name]
    text = "# Models of this device. Written by 'snellius models add' and 'snellius models export'.\n"
    text += "".join(_written(one) for one in [*others, model])
    partial = folder / f".{BUNDLED.name}"
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / BUNDLED.name)
    except OSError as error:
        raise CatalogueError(f"{folder}: {error.strerror or error}") from error


def _written(model: Model) -> str:
    """An entry as it stands in a catalogue."""
    entries: dict[str, object] = {
        "summary": model.summary,
        "file": model.file.name,
        "sha256": model.sha256,
        "input_px": model.input_px and list(model.input_px),
        "stride": model.stride,
        "runtime": model.runtime.value,
        "head": model.head and model.head.value,
        "source": model.source,
        "licence": model.licence,
        "measured": model.measured,
        "bottom_offset": model.bottom_offset or None,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in entries.items() if value is not None]
    classes = ", ".join(f"{name} = {list(indices)}" for name, indices in model.classes.items())
    return f'\n[models."{model.name}"]\n' + "\n".join([*lines, f"classes = {{ {classes} }}"]) + "\n"


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(f"{file}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{file.name}: not a TOML file: {error}") from error


def _models(document: Mapping[str, object], file: Path, fetched: Path) -> tuple[Model, ...]:
    entries = _typed(document, "models", dict, file.name)
    return tuple(_model(name, entry, file, fetched) for name, entry in entries.items())


def _refuse_twins(models: tuple[Model, ...], own: Path) -> None:
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise CatalogueError(f"{own}: {name}: a model of that name comes with Snellius; give yours another one")


def _model(name: str, entry: object, catalogue: Path, fetched: Path) -> Model:
    where = f"{catalogue.name}: {name}"
    if not _NAME.fullmatch(name):
        raise CatalogueError(f"{where}: expected a name of a-z, 0-9, '.' and '-'")
    if not isinstance(entry, dict):
        raise CatalogueError(f"{where}: expected a table, got {entry!r}")
    _refuse_other_keys(entry, _KEYS, where)
    sha256 = _typed(entry, "sha256", str, where)
    if not _SHA256.fullmatch(sha256):
        raise CatalogueError(f"{where}: sha256: expected 64 hexadecimal digits, got '{sha256}'")
    runtime = _choice(entry, "runtime", Runtime, where)
    is_left_to_it = runtime is Runtime.ULTRALYTICS  # that library reads size, head and classes from the file
    url = _typed(entry, "url", str, where) if "url" in entry else None
    return Model(
        name=name,
        summary=_typed(entry, "summary", str, where),
        file=(catalogue.parent if url is None else fetched) / _typed(entry, "file", str, where),
        sha256=sha256,
        input_px=None if is_left_to_it and "input_px" not in entry else _size(entry, where),
        stride=_stride(entry, where),
        runtime=runtime,
        head=None if is_left_to_it and "head" not in entry else _choice(entry, "head", Head, where),
        source=_typed(entry, "source", str, where),
        licence=_typed(entry, "licence", str, where),
        classes={
            road_user: _indices(indices, f"{where}: classes.{road_user}")
            for road_user, indices in _typed(entry, "classes", dict, where).items()
        },
        url=url,
        size_bytes=_typed(entry, "bytes", int, where) if "bytes" in entry else None,
        measured=_typed(entry, "measured", str, where) if "measured" in entry else None,
        bottom_offset=_bottom_offset(entry, where),
    )


_T = TypeVar("_T")
_E = TypeVar("_E", bound=Enum)


def checksum(path: Path, where: str) -> str:
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


def _bottom_offset(table: Mapping[str, object], where: str) -> float:
    offset = _typed(table, "bottom_offset", float, where) if "bottom_offset" in table else 0.0
    if not abs(offset) <= MAX_BOTTOM_OFFSET:
        raise CatalogueError(
            f"{where}: bottom_offset: expected a share of the height within ±{MAX_BOTTOM_OFFSET}, got {offset}"
        )
    return offset


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
