"""What the camera sees: its real rate, its time stamps, and whether the picture is sharp and lit well enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np

from calibration import Calibration, CalibrationError
from calibration.still import BRIGHT_MEAN, DARK_MEAN, MAX_CLIPPED, SHARP_SIGMA_PX, Aim, aim
from edge.assembly import followed_part, source_of
from edge.doctor.check import Check, State, guarded
from edge.domain import Frame, Region
from edge.service import LEAST_RATE_HZ
from edge.settings import Settings
from edge.sources.address import kind_of
from edge.sources.timing import Timing

FRAMES_TRIED = 100  # enough to see a rate, a moment's work
FRAMES_KEPT = 4  # one a second or so: what is looked at more closely
PATIENCE_S = 15.0  # a camera on the network opens in a few seconds
BLACK_MEAN = 8.0  # of 255
SMALL_PX = (96, 54)
STILL_LEVELS = 2  # of 255; encoders make that of a picture that is repeated
STILL_AFTER_S = 2.0
FASTER = f"{LEAST_RATE_HZ:.0f} or more frames a second are needed"
OPEN = "check source.url: does the file exist, does the camera have power and network?"


def examine(settings: Settings, told: Mapping[str, Any] | None) -> tuple[list[Frame], list[Check]]:
    """Frames to look at further, and what was found.

    Args:
        settings: Which source.
        told: What the running service says, which has a live camera to itself; None: none runs.
    """
    if told is not None and kind_of(settings.source.url).is_live:
        return [], [_as_told(told["camera"])]
    kept: list[Frame] = []
    timing: Timing | None = None

    def look() -> Check:
        nonlocal timing
        with source_of(settings.source, patience_s=PATIENCE_S) as source:
            for number, frame in enumerate(islice(source.frames(), FRAMES_TRIED), start=1):
                if number % (FRAMES_TRIED // FRAMES_KEPT) == 0 or not kept:
                    kept.append(frame)
            timing, size = source.timing, "x".join(str(side) for side in source.size_px)
        rate_hz = timing.real_hz or 0.0
        says = f"{size}, {rate_hz:.2f} frames a second"
        return (
            Check("source", State.OK, says) if rate_hz >= LEAST_RATE_HZ else Check("source", State.WARN, says, FASTER)
        )

    checks = [guarded("source", look, next_step=OPEN)]
    if timing is not None and kept:
        checks += [_time_stamps(timing), *picture(kept, _road(settings, kept[-1].size_px))]
    return kept, checks


def _as_told(camera: Mapping[str, Any]) -> Check:
    """A camera that the running service has to itself."""
    age_s, rate_hz = camera["last_frame_s"], camera["frames_per_s"]
    if camera["trouble"]:
        return Check("source", State.FAIL, f"the running service says: {camera['trouble']}", OPEN)
    if age_s is None or age_s > PATIENCE_S:
        since = "since it started" if age_s is None else f"for {age_s:.0f} s"
        return Check("source", State.FAIL, f"the running service has had no frame {since}", OPEN)
    says = f"the running service gets {rate_hz or 0:.2f} frames a second (stop it, and the picture is looked at too)"
    is_enough = rate_hz is None or rate_hz >= LEAST_RATE_HZ
    return Check("source", State.OK, says) if is_enough else Check("source", State.WARN, says, FASTER)


def _time_stamps(timing: Timing) -> Check:
    remarks = timing.remarks()
    if remarks:
        return Check("time stamps", State.WARN, "; ".join(remarks), "look at the recording or the camera")
    return Check("time stamps", State.OK, f"they rise; largest gap {timing.largest_gap_s or 0:.2f} s")


def _road(settings: Settings, size_px: tuple[int, int]) -> Region | None:
    """The part of the picture where it is measured; None: no calibration for such pictures tells."""
    try:
        found = Calibration.load(settings.calibration.file)
    except CalibrationError:
        return None  # told by the check of the calibration
    return followed_part(found) if tuple(found.image_size_px) == tuple(size_px) else None


def picture(frames: Sequence[Frame], road: Region | None = None) -> list[Check]:
    """Whether the picture lives, and how sharp and how bright it is where it is measured.

    Args:
        frames: Some seconds of them.
        road: The part that matters; None: all of it. [px]
    """
    brightness = aim(frames[-1].image_bgr).brightness
    if brightness < BLACK_MEAN:
        says = f"the picture is black (mean {brightness:.0f} of 255)"
        return [Check("exposure", State.FAIL, says, "take the cover off the lens; at night: more light on the street")]
    seen, where = aim(frames[-1].image_bgr, road), "the whole picture" if road is None else "around the road"
    checks = [_exposure(seen, where), _sharpness(seen, where)]
    seen_s = (frames[-1].captured_ns - frames[0].captured_ns) / 1e9
    if seen_s >= STILL_AFTER_S and _is_still(frames):
        says = f"the picture did not change at all in {seen_s:.0f} s: the camera may be frozen"
        checks.insert(
            0, Check("picture", State.WARN, says, "wave before the lens; if nothing changes, switch it off and on")
        )
    return checks


def _is_still(frames: Sequence[Frame]) -> bool:
    """Whether a small grey copy stays as it is: noise, light and leaves move some cell of a live picture."""
    small = [
        cv2.resize(cv2.cvtColor(frame.image_bgr, cv2.COLOR_BGR2GRAY), SMALL_PX, interpolation=cv2.INTER_AREA)
        for frame in frames
    ]
    cells = np.stack(small).astype(np.int16)
    return bool(np.ptp(cells, axis=0).max() <= STILL_LEVELS)


def _exposure(seen: Aim, where: str) -> Check:
    says = f"mean {seen.brightness:.0f} of 255, {seen.burnt_out:.0%} burnt out, {seen.black:.0%} black ({where})"
    if seen.brightness < DARK_MEAN or seen.black > MAX_CLIPPED:
        return Check("exposure", State.WARN, f"too dark: {says}", "more exposure or gain; at night this is as it is")
    if seen.brightness > BRIGHT_MEAN or seen.burnt_out > MAX_CLIPPED:
        return Check("exposure", State.WARN, f"too bright: {says}", "less exposure; is the sun in the picture?")
    return Check("exposure", State.OK, says)


def _sharpness(seen: Aim, where: str) -> Check:
    if math.isnan(seen.edge_sigma_px):
        return Check("sharpness", State.WARN, "no edges to be seen", "is the lens covered, fogged or far out of focus?")
    says = f"edges are {seen.edge_sigma_px:.1f} px wide, one sigma ({where})"
    if seen.edge_sigma_px > SHARP_SIGMA_PX:
        return Check("sharpness", State.WARN, f"out of focus: {says}", "clean the lens, then focus it")
    return Check("sharpness", State.OK, says)
