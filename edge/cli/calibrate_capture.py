"""``snellius calibrate capture``: help with aiming, then a sharp still without traffic."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import BadInput
from edge.sources.address import kind_of

if TYPE_CHECKING:
    import numpy as np

    from calibration import Calibration
    from calibration.still import Aim, Still
    from edge.detect import Detector
    from edge.domain import Frame
    from edge.settings import SourceSettings

SEEN = 0.375  # score from which a vehicle counts as seen
PERSON = 0.3  # lower for people: a picture too few is taken again, a person too many is kept for a month
FRAMES_LOOKED_AT = 8  # for vehicles; each costs an inference
SMALL_VEHICLE_PX = 24  # the detector misses more and more vehicles that are less wide than this


def capture(
    out: Annotated[Path, typer.Option(help="Where to write the still, a PNG.", show_default=False)],
    source: Annotated[
        str | None,
        typer.Option(
            help="Where frames come from: a video file, rtsp://…, /dev/video0, picamera:. Or --config.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Take the source from this settings file (with its password).", show_default=False),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="How long to look: whatever moves on within half of that is gone.", min=1.0)
    ] = 30.0,
    keep_days: Annotated[int, typer.Option(help="Days until the still may no longer be kept.", min=1, max=366)] = 30,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="An earlier calibration: tells horizon, tilt and zone, and light and focus of the road alone.",
            show_default=False,
        ),
    ] = None,
    with_people: Annotated[
        bool, typer.Option("--with-people", help="Keep the still although it seems to show a person.")
    ] = False,
) -> None:
    """Help with aiming the camera, then take a sharp still without traffic to click in.

    The service must not be using the camera.

    Exit code 0: written. 1: a person stands in the still, nothing written. 2: a file or option cannot be used.

    Example: snellius calibrate capture --source street.mp4 --out still.png
    """
    from calibration import Calibration
    from calibration.still import Still, aim, street_without_traffic
    from edge.assembly import followed_part
    from edge.detect import open_detector
    from edge.domain import Frame
    from models import load_catalogue

    if out.suffix.lower() != ".png":
        raise BadInput(f"{out}: expected a file name that ends with .png")
    earlier = None if calibration is None else Calibration.load(calibration)
    frames, span_s = spread_frames(source_settings(source, config), seconds)
    street, shake_px = street_without_traffic([frame.image_bgr for frame in frames])
    now = datetime.now(timezone.utc).replace(microsecond=0)
    still = Still(image_bgr=street, taken=now, expires=now + timedelta(days=keep_days))
    detector = open_detector(load_catalogue().find())
    aiming = [] if earlier is None else aiming_of(earlier, still)
    road = None if earlier is None else followed_part(earlier)  # the sky may be burnt out
    for line in [
        *_optics(aim(street, road), shake_px),
        *_vehicles(vehicle_widths_px(detector, frames[:: max(1, len(frames) // FRAMES_LOOKED_AT)])),
        *aiming,
    ]:
        typer.echo(line)
    shown = Frame(captured_ns=0, captured_sigma_s=0.0, time_kind=frames[0].time_kind, image_bgr=street)
    people = people_in(detector, shown)
    if people and not with_people:
        typer.echo(
            f"A person seems to stand in the still, at {_places(people)} px. Nothing was written."
            "\nNext: try again when nobody stands there, or say --with-people if it is a thing"
        )
        raise typer.Exit(1)
    still.save(out)
    width, height = still.size_px
    typer.echo(
        f"\nWritten: {out} ({width}x{height}, the middle of {len(frames)} frames over {span_s:.0f} s;"
        f" delete it by {still.expires:%Y-%m-%d})\nNext: snellius calibrate page --still {out} --out FOLDER"
    )


def source_settings(address: str | None, config: Path | None) -> SourceSettings:
    """The source that an address or a settings file names.

    Raises:
        BadInput: Neither or both were given, or the address is wrong.
    """
    from edge.settings import SourceSettings, load_settings

    if (address is None) == (config is None):
        raise BadInput("expected either --source ADDRESS or --config FILE")
    if config is not None:
        return load_settings(config).source
    assert address is not None
    kind_of(address)  # refuses what cannot be opened in one line
    return SourceSettings(url=address)


def spread_frames(source: SourceSettings, seconds: float) -> tuple[list[Frame], float]:
    """Frames spread evenly over the first seconds of a clip or the next seconds of a camera, and their span. [s]

    Raises:
        BadInput: No video, or too short for a still; no pictures from the camera.
    """
    from calibration.still import MIN_FRAMES, frames_to_keep
    from edge.assembly import source_of

    with source_of(source) as opened:
        wanted = frames_to_keep(opened.size_px)
        kept = list(_spread(opened.frames(), seconds, wanted))
    is_short = len(kept) < wanted and _span_s(kept) < 0.9 * seconds
    if kept and is_short and not kind_of(source.url).is_live:  # shorter than asked: look closer
        with source_of(source) as opened:
            kept = list(_spread(opened.frames(), _span_s(kept), wanted))
    if len(kept) < MIN_FRAMES:
        raise BadInput(f"{source.url}: expected at least {MIN_FRAMES} frames, found {len(kept)}: too short for a still")
    return kept, _span_s(kept)


def vehicle_widths_px(detector: Detector, frames: list[Frame]) -> list[float]:
    """Widths of all vehicles seen in some frames. [px]"""
    from edge.domain import VEHICLE_CLASSES

    labels = [road_user.label for road_user in VEHICLE_CLASSES]
    found = [detector.detect(frame) for frame in frames]
    return [
        float(box[2] - box[0])
        for seen in found
        for box, score, label in zip(seen.boxes_xyxy_px, seen.scores, seen.labels)
        if label in labels and score >= SEEN
    ]


def people_in(detector: Detector, shown: Frame) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Boxes of people in a picture, shape (4,) each. [px]"""
    from edge.domain import RoadUser

    seen = detector.detect(shown)
    is_person = (seen.labels == RoadUser.PERSON.label) & (seen.scores >= PERSON)
    return list(seen.boxes_xyxy_px[is_person])


def aiming_of(earlier: Calibration, still: Still) -> list[str]:
    """Where an earlier calibration puts horizon and zone in this picture.

    Raises:
        BadInput: It was made for another picture size.
    """
    import math

    if earlier.image_size_px != still.size_px:
        want, got = ("x".join(str(side) for side in size) for size in (earlier.image_size_px, still.size_px))
        raise BadInput(f"--calibration: expected one for pictures of {got}, found one for {want}")
    camera, quality = earlier.plane.camera, earlier.quality
    above_px = camera.centre_px[1] - camera.focal_px * math.tan(camera.tilt_rad)
    horizon = f"in the picture, at row {above_px:.0f}" if above_px >= 0 else f"{-above_px:.0f} px above the picture"
    return [
        f"tilt       {math.degrees(camera.tilt_rad):.1f}° below the horizon according to {earlier.id};"
        f" the horizon lies {horizon}",
        f"zone       {quality.visible_share:.0%} in the picture, {quality.px_per_m:.0f} px/m at its nearest place",
    ]


def _span_s(frames: list[Frame]) -> float:
    """Time from the first frame to the last. [s]"""
    return (frames[-1].captured_ns - frames[0].captured_ns) / 1e9 if frames else 0.0


def _spread(frames: Iterator[Frame], seconds: float, wanted: int) -> Iterator[Frame]:
    step_ns, kept, begin_ns = seconds * 1e9 / max(1, wanted - 1), 0, None
    for frame in frames:
        begin_ns = frame.captured_ns if begin_ns is None else begin_ns
        if frame.captured_ns - begin_ns >= kept * step_ns - 1:
            yield frame
            kept += 1
        if kept == wanted:
            return


def _optics(seen: Aim, shake_px: float) -> list[str]:
    focus = "no edges" if seen.edge_sigma_px != seen.edge_sigma_px else f"edges {max(0.3, seen.edge_sigma_px):.1f} px"
    lines = [
        f"focus      {focus} wide (one sigma)",
        f"light      brightness {seen.brightness:.0f} of 255, {seen.burnt_out:.1%} burnt out, {seen.black:.1%} black",
        f"shake      {shake_px:.1f} px, taken out" if shake_px else "shake      none that could be measured",
    ]
    return lines + [f"           {remark}" for remark in seen.remarks]


def _vehicles(widths_px: list[float]) -> list[str]:
    if not widths_px:
        return ["vehicles   none seen: is the street in the picture? wait for one and look again"]
    ordered = sorted(widths_px)
    lines = [
        f"vehicles   {ordered[0]:.0f} to {ordered[-1]:.0f} px wide, median {ordered[len(ordered) // 2]:.0f} px"
        f" ({len(ordered)} sightings, parked ones too)"
    ]
    if ordered[len(ordered) // 2] < SMALL_VEHICLE_PX:
        lines.append(
            f"           too small: below {SMALL_VEHICLE_PX} px vehicles are missed; aim nearer, or use a longer lens"
        )
    return lines


def _places(people: list[np.ndarray[tuple[int], np.dtype[np.float64]]]) -> str:
    return ", ".join(f"({(box[0] + box[2]) / 2:.0f}, {(box[1] + box[3]) / 2:.0f})" for box in people)
