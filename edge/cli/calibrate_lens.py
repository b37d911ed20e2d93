"""``snellius calibrate lens``: what a checkerboard in front of the camera tells about its lens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import BadInput

if TYPE_CHECKING:
    from calibration.camera import Floats
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a report.")] = False,
) -> None:
    """Find focal length, principal point and distortion of a camera from a clip of a checkerboard.

    Hold the board near and far, into every corner, tilted to each side, and still now and then. Same picture size and
    focus as on the pole. 'calibrate solve --lens' uses the result.

    Exit code 0: written. 2: the clip does not tell the lens.

    Example: snellius calibrate lens --clip board.mp4 --board 9x6 --square-mm 30 --out lens.json
    """
    from calibration import CalibrationError
    from edge.cli.files import written_whole

    columns_rows = board_size(board)
    if not square_mm > 0:
        raise BadInput(f"--square-mm: expected more than 0 mm, got {square_mm:g}")
    with written_whole(out) as file:
        try:
            found = lens_of_clip(clip, columns_rows, square_mm / 1000)
        except CalibrationError as refused:
            raise BadInput(f"{clip}: {refused}") from None
        file.write_text(json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(found.summary(), indent=2, allow_nan=False))
        return
    for line in told(found):
        typer.echo(line)
    typer.echo(f"\nWritten: {out} ({found.id})\nNext: snellius calibrate solve --lens {out} …")


def board_size(text: str) -> tuple[int, int]:
    """``9x6`` as inner corners in a row and rows.

    Raises:
        BadInput: It is not of that form, has fewer than 3 rows, or as many rows as columns: its turns look alike.
    """
    match = re.fullmatch(r"(\d{1,2})x(\d{1,2})", text)
    if match is None or min(int(match[1]), int(match[2])) < 3 or match[1] == match[2]:
        raise BadInput(f"--board: expected COLUMNSxROWS of inner corners, two different numbers from 3, got '{text}'")
    return int(match[1]), int(match[2])


def lens_of_clip(clip: Path, board: tuple[int, int], square_m: float) -> Lens:
    """The lens that a clip tells.

    Raises:
        BadInput: The clip cannot be read.
        CalibrationError: It does not tell the lens.
    """
    from datetime import datetime, timezone

    from calibration.checkerboard import distinct_views, solve_lens
    from edge.sources.video import VideoFile

    with VideoFile(clip) as source:
        views = distinct_views(_boards(source, board), source.size_px[0])
        return solve_lens(views, source.size_px, board, square_m, datetime.now(timezone.utc))


def _boards(source: VideoFile, board: tuple[int, int]) -> Iterator[Floats]:
    """The corners of every board that is seen whole, looked for now and then."""
    from calibration.checkerboard import corners_of

    due_ns = 0
    for frame in source.frames():
        if frame.captured_ns < due_ns:
            continue
        due_ns = frame.captured_ns + round(LOOK_EVERY_S * 1e9)
        corners = corners_of(frame.image_bgr, board)
        if corners is not None:
            yield corners


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
