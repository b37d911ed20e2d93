"""``snellius calibrate lens``: what a board in front of the camera tells about its lens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import BadInput

if TYPE_CHECKING:
    from calibration.board import Board, View
    from calibration.lens import Lens
    from edge.sources.video import VideoFile

LOOK_EVERY_S = 0.4  # a board in a hand moves little in less


def lens(
    clip: Annotated[
        Path, typer.Option(help="A clip of the board, moved slowly through the whole picture.", show_default=False)
    ],
    board: Annotated[
        str, typer.Option(help="Inner corners of the board in a row, and rows, such as 9x6.", show_default=False)
    ],
    square_mm: Annotated[float, typer.Option(help="Side of a square. [mm]", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where to write the lens.", show_default=False)],
    marker_mm: Annotated[
        float | None, typer.Option(help="It is a ChArUco board: side of a marker. [mm]", show_default=False)
    ] = None,
    markers: Annotated[str, typer.Option(help="Kind of marker: 4x4, 5x5, 6x6, 7x7 or original.")] = "5x5",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a report.")] = False,
) -> None:
    """Find focal length, principal point and distortion of a camera from a clip of a checkerboard or a ChArUco board.

    Hold the board near and far, into every corner, tilted to each side, and still now and then. Same picture size and
    focus as on the pole. 'calibrate solve --lens' uses the result.

    Exit code 0: written. 2: the clip does not tell the lens.

    Example: snellius calibrate lens --clip board.mp4 --board 9x6 --square-mm 30 --out lens.json
    """
    from calibration import CalibrationError
    from edge.cli.files import written_whole

    held = board_of(board, square_mm, marker_mm, markers)
    with written_whole(out) as file:
        try:
            found = lens_of_clip(clip, held)
        except CalibrationError as refused:
            raise BadInput(f"{clip}: {refused}") from None
        file.write_text(json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(found.summary(), indent=2, allow_nan=False))
        return
    for line in told(found):
        typer.echo(line)
    typer.echo(f"\nWritten: {out} ({found.id})\nNext: snellius calibrate solve --lens {out} …")


def board_of(size: str, square_mm: float, marker_mm: float | None, markers: str) -> Board:
    """The board that these options describe.

    Raises:
        BadInput: The size is not of the form 9x6 with 3 rows or more; a checkerboard has as many rows as columns, whose
            turns look alike; a side is wrong, or there are no such markers.
    """
    from calibration.board import MARKERS, Charuco, Checkerboard

    match = re.fullmatch(r"(\d{1,2})x(\d{1,2})", size)
    if match is None or min(int(match[1]), int(match[2])) < 3 or (match[1] == match[2] and marker_mm is None):
        raise BadInput(f"--board: expected COLUMNSxROWS of inner corners, two different numbers from 3, got '{size}'")
    corners = (int(match[1]), int(match[2]))
    if not square_mm > 0:
        raise BadInput(f"--square-mm: expected more than 0 mm, got {square_mm:g}")
    if marker_mm is None:
        return Checkerboard(corners, square_mm / 1000)
    if not 0 < marker_mm < square_mm:
        raise BadInput(
            f"--marker-mm: expected more than 0 and less than the square of {square_mm:g}, got {marker_mm:g}"
        )
    if markers not in MARKERS:
        raise BadInput(f"--markers: expected {', '.join(MARKERS)}, got '{markers}'")
    return Charuco(corners, square_mm / 1000, marker_mm / 1000, markers)


def lens_of_clip(clip: Path, board: Board) -> Lens:
    """The lens that a clip tells.

    Raises:
        BadInput: The clip cannot be read.
        CalibrationError: It does not tell the lens.
    """
    from datetime import datetime, timezone

    from calibration.board import distinct_views, solve_lens
    from edge.sources.video import VideoFile

    with VideoFile(clip) as source:
        views = distinct_views(_views(source, board), source.size_px[0])
        return solve_lens(views, source.size_px, board, datetime.now(timezone.utc))


def _views(source: VideoFile, board: Board) -> Iterator[View]:
    """Every view of the board, looked for now and then."""
    due_ns = 0
    for frame in source.frames():
        if frame.captured_ns < due_ns:
            continue
        due_ns = frame.captured_ns + round(LOOK_EVERY_S * 1e9)
        view = board.look(frame.image_bgr)
        if view is not None:
            yield view


def told(lens: Lens) -> list[str]:
    """The lens for people, with expanded uncertainties."""
    summary = lens.summary()

    def value(name: str, digits: int) -> str:
        if summary[name] == 0 and summary[f"{name}_sigma"] == 0:
            return f"{name} not told from nothing"
        return f"{name} {summary[name]:.{digits}f} ± {2 * summary[f'{name}_sigma']:.{digits}f}"

    return [
        f"{lens.id}: {lens.views} views, corners within {lens.rms_px:.2f} px (rms)",
        f"Focal length {summary['focal_px']:.1f} ± {2 * summary['focal_px_sigma']:.1f} px (k = 2)",
        f"Principal point {summary['centre_u']:.1f} ± {2 * summary['centre_u_sigma']:.1f},"
        f" {summary['centre_v']:.1f} ± {2 * summary['centre_v_sigma']:.1f} px",
        "Distortion " + ", ".join(value(name, 4) for name in ("k1", "k2", "p1", "p2", "k3")),
    ]
