"""``snellius models add``: a model of one's own in the catalogue of this device."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import BadInput
from models import (
    MAX_BOTTOM_OFFSET,
    CatalogueError,
    Head,
    Model,
    Runtime,
    checksum,
    keep_own,
    load_catalogue,
    own_folder,
)


def add(
    file: Annotated[
        Path, typer.Argument(help="An ONNX file, a folder of OpenVINO or ncnn, or a .pt file.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="What settings will call it: a-z 0-9 . -", show_default="after its file")
    ] = None,
    licence: Annotated[str, typer.Option(help="SPDX identifier, such as AGPL-3.0.")] = "unknown",
    source: Annotated[str | None, typer.Option(help="Where it comes from.", show_default="its file")] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Its class indices on a road, such as car=2,truck=7,bus=5.", show_default="as it says"),
    ] = None,
    bottom_offset: Annotated[
        float, typer.Option(help="How much lower its boxes end than the default's, as a share of their height.")
    ] = 0.0,
) -> None:
    """Copy a model to this device and enter it into the catalogue, after trying it.

    Size, head and classes are read off the file. A .pt file is a pickle: add only what you trust.

    Example: snellius models add city.onnx --licence AGPL-3.0 --classes car=0,truck=1
    """
    model = added(file, name=name, licence=licence, source=source, classes=classes, bottom_offset=bottom_offset)
    shown = ", ".join(f"{user} {list(indices)}" for user, indices in model.classes.items())
    size = "{}x{}".format(*model.input_px) if model.input_px else "the size that its runtime chooses"
    typer.echo(f"{model.name}: {size}, {model.runtime.value}, {shown or 'classes by name'}")
    typer.echo(f'use it: model.name = "{model.name}" in the settings; see what it gains: snellius models bench')


def added(
    file: Path,
    *,
    name: str | None = None,
    licence: str,
    source: str | None = None,
    classes: str | None = None,
    bottom_offset: float = 0.0,
) -> Model:
    """Try a model, copy it into the folder of this device and enter it there.

    Raises:
        BadInput: It is no model that can be run, says nothing of road users, its name is taken by another one, or
            ``bottom_offset`` is no share.
        BackendUnavailable: What runs it is not installed.
    """
    from edge.detect import open_detector
    from edge.detect.described import described

    if not abs(bottom_offset) <= MAX_BOTTOM_OFFSET:
        raise BadInput(
            f"--bottom-offset: expected a share of the height within ±{MAX_BOTTOM_OFFSET}, got {bottom_offset}"
        )
    said = described(file)
    chosen = classes_of(classes) if classes is not None else said.classes
    if not chosen and said.runtime is not Runtime.ULTRALYTICS:
        raise BadInput(f"{file}: names no road user; say which class is what: --classes car=2,truck=7")
    model = Model(
        name=name or re.sub(r"[^a-z0-9.]+", "-", file.stem.lower()).strip("-."),
        summary="Added on this device",
        file=file,
        sha256=checksum(file, str(file)),
        input_px=said.input_px,
        stride=None,
        runtime=said.runtime,
        head=said.head or (None if said.runtime is Runtime.ULTRALYTICS else Head.CLASSIC),
        source=source or file.name,
        licence=licence,
        classes=chosen,
        bottom_offset=bottom_offset,
    )
    refuse_taken(model)
    open_detector(model)
    return kept(model)


def refuse_taken(model: Model) -> None:
    """A name stands for one model, so that published numbers say what produced them.

    Raises:
        BadInput: Another model has it, or it is none.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", model.name):
        raise BadInput(f"--name: expected a-z, 0-9, '.' and '-', got '{model.name}'")
    for other in load_catalogue().models:
        if other.name == model.name and other.sha256 != model.sha256:
            raise BadInput(f"--name: '{model.name}' is another model already; give this one another name")


def kept(model: Model) -> Model:
    """The same, its file in the folder of this device and its entry in the catalogue there.

    Raises:
        BadInput: The folder cannot be written to.
    """
    folder = own_folder()
    ending = "".join(model.file.suffixes[-1:]) if model.file.is_file() else ""
    place = folder / f"{model.name}{ending}"
    partial = folder / f".{place.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if model.file.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(model.file, partial)
            shutil.rmtree(place, ignore_errors=True)
        else:
            shutil.copyfile(model.file, partial)
        partial.replace(place)
        placed = replace(model, file=place)
        keep_own(folder, placed)
    except OSError as refused:
        raise BadInput(f"{folder}: {refused.strerror or refused}") from refused
    except CatalogueError as refused:
        raise BadInput(str(refused)) from refused
    return placed


def classes_of(text: str) -> dict[str, tuple[int, ...]]:
    """``car=2,truck=7`` as the catalogue has it.

    Raises:
        BadInput: It is not written so, or names somebody whom no road knows.
    """
    from edge.domain import RoadUser

    known = [user.value for user in RoadUser]
    found: dict[str, tuple[int, ...]] = {}
    for part in text.split(","):
        user, _, index = part.partition("=")
        if user.strip() not in known or not index.strip().isdigit():
            raise BadInput(f"--classes: expected pairs such as car=2 of {', '.join(known)}, got '{part}'")
        found[user.strip()] = (*found.get(user.strip(), ()), int(index))
    return found
