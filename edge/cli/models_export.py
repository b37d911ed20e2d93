"""``snellius models export``: from PyTorch weights to a file for a pole, compared with its source."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import BadInput, SnelliusError
from models.export import Format

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from calibration import Calibration
    from edge.detect.agreement import Agreement
    from edge.detect.letterbox import Canvas
    from edge.domain import Pixels
    from models import Model
    from models.export import Source

MODEL_PX = (640, 384)


def export(
    weights: Annotated[str, typer.Argument(help="A model of the catalogue, or a .pt file.", show_default=False)],
    clip: Annotated[Path, typer.Option(help="A clip of the site: compared on its frames.", show_default=False)],
    calibration: Annotated[
        Path, typer.Option(help="Calibration of the site: the input takes the shape of its road.", show_default=False)
    ],
    kind: Annotated[Format, typer.Option("--format", help="What to write; an engine is untested.")] = Format.ONNX,
    int8: Annotated[
        bool, typer.Option("--int8", help="8 bits, with ranges from frames of the clip and from --still.")
    ] = False,
    still: Annotated[
        list[Path] | None,
        typer.Option(help="A still of the site, by 'calibrate capture': other light for --int8. Repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What settings will call it.", show_default="after all this")] = None,
    licence: Annotated[str, typer.Option(help="SPDX identifier of a file of your own.")] = "AGPL-3.0",
    frames: Annotated[int, typer.Option(min=1, max=500, help="Frames to compare on.")] = 50,
) -> None:
    """Export weights for a pole, compare with the source on frames of the site, and enter the result.

    On a workstation, with the extra [ultralytics]. Nothing is entered when the export says something else than its
    source: exit code 1.

    Example: snellius models export yolo11n --clip street.mp4 --calibration cal.json --format ncnn
    """
    from calibration import Calibration
    from edge.assembly import look_on_site
    from edge.detect.letterbox import Canvas, Letterbox
    from models import load_catalogue
    from models.export import Source

    if still and not int8:
        raise BadInput("--still: goes with --int8, whose ranges it widens")
    site = Calibration.load(calibration)
    model = load_catalogue().find(weights)
    look = look_on_site(site, model_px=MODEL_PX, stride=32)
    canvas = Canvas(Letterbox.fit(look.region_px, look.input_px))
    stills = [canvas.draw(_still(file, site)).copy() for file in still or ()]
    with tempfile.TemporaryDirectory() as scratch:
        source = Source(model.verified_file())
        blobs = list(_blobs(clip, canvas, frames, site, str(calibration)))
        pictures = [*blobs, *stills] if int8 else None
        file = source.export(kind, Path(scratch), input_px=look.input_px, pictures=pictures)
        size = "x".join(str(side) for side in look.input_px)
        chosen = name or f"{model.name}-{kind.value}-{size}{'-int8' if int8 else ''}"
        entered, agreement = verified(file, source, blobs, kind, chosen, model, licence, is_8_bits=int8)
    typer.echo(f"{entered.name}: {agreement}")
    typer.echo(f'use it: model.name = "{entered.name}" in the settings')


def verified(
    file: Path,
    source: Source,
    blobs: list[npt.NDArray[np.float32]],
    kind: Format,
    name: str,
    model: Model,
    licence: str,
    *,
    is_8_bits: bool,
) -> tuple[Model, Agreement]:
    """Compare an export with its source and enter it into the catalogue of this device.

    Raises:
        SnelliusError: It says something else than its source; nothing is entered.
        BadInput: It cannot be loaded, or compared.
    """
    from edge.cli.models_add import kept, refuse_taken
    from edge.detect import network_of
    from edge.detect.agreement import compare
    from edge.detect.described import Description, described
    from models import Head, Model, Runtime, checksum

    if kind.runtime is Runtime.ULTRALYTICS:
        raise BadInput(f"{file.name}: an engine is added where it was made: snellius models add")
    said = described(file)
    entry = Model(
        name=name,
        summary=f"Exported from {model.name}",
        file=file,
        sha256=checksum(file, str(file)),
        input_px=said.input_px,
        stride=None,
        runtime=kind.runtime,
        head=said.head,
        source=model.source,
        licence=model.licence if model.licence != "unknown" else licence,
        classes=Description(said.runtime, said.input_px, said.head, source.names).classes,
        bottom_offset=model.bottom_offset,
    )
    refuse_taken(entry)
    head = said.head or Head.CLASSIC
    network = network_of(entry, file, threads=2)
    agreement = compare(
        ((source.answer(blob, end_to_end=head is Head.END_TO_END), network.answer(blob)) for blob in blobs), head
    )
    if not (agreement.is_same or (is_8_bits and agreement.is_alike)):
        raise SnelliusError(f"{name}: says something else than {model.name}, not entered: {agreement}")
    return kept(entry), agreement


def _still(file: Path, site: Calibration) -> Pixels:
    """A picture of the site without traffic.

    Raises:
        BadInput: It is of another size than the calibration.
    """
    from calibration.still import Still

    found = Still.load(file)
    if found.size_px != tuple(site.image_size_px):
        want, got = ("x".join(map(str, size)) for size in (site.image_size_px, found.size_px))
        raise BadInput(f"--still {file}: expected a {want} picture as the calibration has, found {got}")
    return found.image_bgr


def _blobs(
    clip: Path, canvas: Canvas, frames: int, site: Calibration, site_name: str
) -> Iterator[npt.NDArray[np.float32]]:
    """What the network will see in frames spread over a clip.

    Raises:
        BadInput: The clip is of another size than the calibration.
    """
    from edge.assembly import refuse_other_size
    from edge.sources.video import VideoFile

    with VideoFile(clip) as source:
        refuse_other_size(source, str(clip), site, site_name)
        step = max(1, (source.frame_count or frames) // frames)
        for frame in islice(source.frames(), 0, step * frames, step):
            yield canvas.draw(frame.image_bgr).copy()
