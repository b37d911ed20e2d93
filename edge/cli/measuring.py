"""Measuring a recorded clip: what ``replay`` does. Files appear whole or not at all."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from calibration import Calibration
from calibration.units import kmh_from_mps
from edge.assembly import (
    Rules,
    counting,
    heed_expiry,
    known_model,
    measuring_pipeline,
    refuse_other_size,
    road_detector,
    road_glance,
)
from edge.cli.annotate import Annotator
from edge.cli.files import written_whole
from edge.clock import ClockAnchor
from edge.domain import Direction, Frame, Passage, Queued, Reason, Release, Settlement
from edge.errors import BadInput
from edge.pipeline import Pipeline
from edge.publish import Native
from edge.service import close_clip, measure
from edge.settings import K_FLOOR, LAB_SLOT_FLOOR_S
from edge.sources.ahead import decoded_ahead
from edge.sources.timing import Timing
from edge.sources.video import VideoFile

TIMEZONE = "Europe/Amsterdam"
SLOT_FLOOR_S = 60
NAME = "replay"  # city and device of what would be published
EPOCH = "00000000"  # numbered afresh in every replay, so that two replays are equal
EXPANDED = 2.0  # coverage factor of what people read: about 95 %


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a clip gave.

    Attributes:
        passages: In the order in which they end.
        releases: What would have been published.
        withheld: Measured vehicles that were too few to be told.
        timing: How the time stamps behaved.
        wall_s: How long it took. [s]
        inferences: How often the detector looked.
        rules: How passages became windows.
        site_id: The site.
        expired: That the calibration had expired when the clip was taken (today, when that was not said), for people;
            None when it was valid.
        camera: What the camera watch saw.
    """

    passages: list[Passage]
    releases: list[Release]
    withheld: int
    timing: Timing
    wall_s: float
    inferences: int
    rules: Rules
    site_id: str
    expired: str | None
    camera: dict[str, Any]

    @property
    def clip_s(self) -> float:
        """Length of the clip: the last frame lasts as long as the others. [s]"""
        return self.timing.span_s + (self.timing.median_step_s or 0.0)

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        reasons = Counter(passage.reason.value for passage in self.passages if passage.reason is not None)
        directions = Counter(passage.direction.value for passage in self.passages)
        return {
            "frames": self.timing.frames,
            "frames_left_out": self.timing.left_out,
            "frames_undecodable": self.timing.undecodable,
            "clip_s": round(self.clip_s, 3),
            "wall_s": round(self.wall_s, 3),
            "inferences": self.inferences,
            "passages": len(self.passages),
            "measured": sum(passage.speed is not None for passage in self.passages),
            "unmeasured": {reason.value: reasons[reason.value] for reason in Reason if reasons[reason.value]},
            "directions": {direction.value: directions[direction.value] for direction in Direction},
            "windows": len(self.releases),
            "withheld": self.withheld,
            "lab": self.rules.lab,
            "camera": self.camera,
            "remarks": [*self.timing.remarks(), *([] if self.expired is None else [self.expired])],
        }

    def messages(self) -> Iterator[str]:
        """The payload of every message that would have been published."""
        native = Native(city=NAME, device=NAME, site=self.site_id, lab=self.rules.lab)
        for seq, release in enumerate(self.releases, start=1):
            queued = Queued(epoch=EPOCH, seq=seq, record=release.record, k=release.k, rule=release.rule)
            for message in native.measurement(queued):
                yield message.payload.decode()


def rules_for(*, limit_kmh: int, lab: bool, k: int | None, slot_s: int | None) -> Rules:
    """How passages become windows, from what was asked for on the command line.

    Raises:
        BadInput: Fewer vehicles or shorter slots than the privacy rule allows.
    """
    least_k, least_slot_s = (1, LAB_SLOT_FLOOR_S) if lab else (K_FLOOR, SLOT_FLOOR_S)
    k = k if k is not None else (1 if lab else 10)
    slot_s = slot_s if slot_s is not None else (LAB_SLOT_FLOOR_S if lab else 900)
    hint = "" if lab else " (less with --lab)"
    if k < least_k:
        raise BadInput(f"--k: expected {least_k} or more vehicles{hint}, got {k}")
    if slot_s < least_slot_s or 86_400 % slot_s:
        raise BadInput(f"--slot-s: expected {least_slot_s} s or more{hint} that divide a day, got {slot_s}")
    bin_kmh = next(width for width in (2, 5, 1) if limit_kmh % width == 0)
    return Rules(k=k, slot_s=slot_s, bin_kmh=bin_kmh, timezone=TIMEZONE, lab=lab)


def instant(text: str | None) -> datetime | None:
    """``--start`` as an instant.

    Raises:
        BadInput: It is no ISO 8601 instant, or has no offset.
    """
    if text is None:
        return None
    wanted = f"--start: expected an instant such as 2026-11-23T07:30:00+01:00, got '{text}'"
    try:
        start = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    except ValueError:
        raise BadInput(wanted) from None
    if start.tzinfo is None:
        raise BadInput(f"{wanted} (its offset is missing)")
    return start


def replay_clip(
    clip: Path,
    *,
    calibration_file: Path,
    model_name: str | None,
    start: str | None,
    lab: bool,
    k: int | None,
    slot_s: int | None,
    passages_file: Path | None,
    aggregates_file: Path | None,
    annotated_file: Path | None,
    every_frame: bool = False,
) -> Outcome:
    """Measures a clip and writes what was asked for.

    The detector looks as often as the running device would; ``every_frame``: at every frame, to compare with.

    Raises:
        BadInput: Something does not exist, is malformed or does not fit; nothing was written then.
        CalibrationError: The calibration cannot be used.
        CatalogueError: There is no such model.
    """
    calibration = Calibration.load(calibration_file)
    model = known_model(model_name)
    rules = rules_for(limit_kmh=calibration.site.limit_kmh, lab=lab, k=k, slot_s=slot_s)
    taken = instant(start)
    anchor = ClockAnchor.of_clip(taken)
    with ExitStack() as opened:
        source = opened.enter_context(VideoFile(clip))
        refuse_other_size(source, str(clip), calibration, str(calibration_file))
        windows, anonymity = counting(calibration=calibration, model=model, rules=rules, anchor=anchor)
        now = taken or datetime.now(timezone.utc)
        heed_expiry(calibration, windows, now=now, is_allowed=True, calibration_name=str(calibration_file))
        pipeline = measuring_pipeline(
            calibration,
            road_detector(model, calibration),
            has_gate=not every_frame,
            has_cadence=not every_frame,
            glance=None if every_frame else road_glance(model, calibration),
        )
        files = [
            opened.enter_context(written_whole(file)) if file is not None else None
            for file in (passages_file, aggregates_file, annotated_file)
        ]
        passages: list[Passage] = []
        settlements: list[Settlement] = []
        began_s = time.monotonic()
        with (
            _annotated(files[2], source, calibration, pipeline) as draw,
            _progress(source.frame_count) as advance,
            closing(decoded_ahead(source.frames())) as frames,
        ):

            def watch(frame: Frame | None, gone: list[Passage]) -> None:
                passages.extend(gone)
                if frame is not None:
                    draw(frame, gone)
                    advance()

            settlements += measure(frames, pipeline=pipeline, windows=windows, anonymity=anonymity, watch=watch)
            gone, last = close_clip(pipeline=pipeline, windows=windows, anonymity=anonymity)
            passages += gone
            settlements += last
        outcome = Outcome(
            passages=sorted(passages, key=lambda passage: (passage.left_ns, passage.entered_ns)),
            releases=[release for settlement in settlements for release in settlement.releases],
            withheld=sum(settlement.withheld for settlement in settlements),
            timing=source.timing,
            wall_s=time.monotonic() - began_s,
            inferences=pipeline.inferences,
            rules=rules,
            site_id=calibration.site.id,
            expired=_expiry(calibration, now),
            camera=pipeline.watch.summary(),
        )
        _write_lines(files[0], [json.dumps(row(passage)) for passage in outcome.passages])
        _write_lines(files[1], list(outcome.messages()))
    return outcome


def _expiry(calibration: Calibration, now: datetime) -> str | None:
    if not calibration.is_expired(now):
        return None
    return f"{calibration.id} expired on {calibration.expires:%Y-%m-%d}: every window is flagged calibration_expired"


def row(passage: Passage) -> dict[str, Any]:
    """A passage as a line of ``PASSAGES.jsonl``: for the technician who recorded the clip."""
    speed = passage.speed
    return {
        "t_s": round(passage.middle_ns / 1e9, 4),
        "enter_s": round(passage.entered_ns / 1e9, 4),
        "exit_s": round(passage.left_ns / 1e9, 4),
        "direction": passage.direction.value,
        "class": passage.road_user.value,
        "measured": speed is not None,
        "reason": passage.reason.value if passage.reason is not None else None,
        "speed_kmh": None if speed is None else round(kmh_from_mps(speed.speed_mps), 3),
        "sigma_kmh": None if speed is None else round(kmh_from_mps(speed.sigma_mps), 4),
        "sigma_random_kmh": None if speed is None else round(kmh_from_mps(speed.sigma_random_mps), 4),
        "lateral_m": round(passage.lateral_m, 3),
        "samples": passage.samples,
        "baseline_m": round(passage.baseline_m, 3),
        "length_m": None if passage.length_m is None else round(passage.length_m, 2),
    }


def passages_table(passages: list[Passage]) -> Table:
    """Passages for people; U is the expanded uncertainty (k = 2, about 95 %)."""
    table = Table("time", "direction", "what", "speed", "U", "samples", box=None)
    for passage in passages:
        speed = passage.speed
        table.add_row(
            f"{passage.middle_ns / 1e9:.1f} s",
            passage.direction.value,
            passage.road_user.value,
            f"{kmh_from_mps(speed.speed_mps):.1f} km/h" if speed else "not measured",
            f"± {EXPANDED * kmh_from_mps(speed.sigma_mps):.1f}"
            if speed
            else passage.reason.value
            if passage.reason
            else "",
            str(passage.samples),
        )
    return table


def _write_lines(file: Path | None, lines: list[str]) -> None:
    if file is not None:
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@contextmanager
def _annotated(
    file: Path | None, source: VideoFile, calibration: Calibration, pipeline: Pipeline
) -> Iterator[Callable[[Frame, list[Passage]], None]]:
    """Draws frames into a file, or does nothing when none was asked for."""
    if file is None:
        yield lambda frame, gone: None
        return
    with Annotator(
        file,
        size_px=source.size_px,
        rate_hz=source.timing.declared_hz,
        plane=calibration.zone_plane,
        polygon_m=calibration.site.polygon_in_frame_m,
    ) as annotator:

        def draw(frame: Frame, gone: list[Passage]) -> None:
            assert pipeline.view is not None
            annotator.draw(frame, pipeline.view, gone)

        yield draw


@contextmanager
def _progress(frames: int | None) -> Iterator[Callable[[], None]]:
    """A bar on standard error, on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("measuring"), BarColumn(), TextColumn("{task.completed} frames"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("measuring", total=frames)
        yield lambda: progress.advance(task)
