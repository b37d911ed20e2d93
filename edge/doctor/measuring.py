"""Whether this computer can measure with this model, this calibration and this camera as it hangs now."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

import numpy as np

from calibration import Calibration, CalibrationError, Verdict
from calibration.drift import smoothed
from edge.assembly import known_model
from edge.detect import open_detector
from edge.doctor.check import Check, State, guarded
from edge.domain import Detections, Frame
from edge.settings import Settings
from edge.watch import CHANGED_SHARE, CameraWatch, Stance

TIMED_FRAMES = 5
WARM_UP_FRAMES = 2
SLOW_DETECTOR_MS = 100.0  # ten frames a second
EXPIRES_SOON = timedelta(days=30)
CALIBRATE = "calibrate again: snellius calibrate page"


def model(name: str | None, frame: Frame | None, threads: int = 2) -> Check:
    """Whether the weights are those of the catalogue, and how long a frame takes here."""

    def look() -> Check:
        chosen = known_model(name)
        detector = open_detector(chosen, threads=threads)
        if frame is None:
            return Check("model", State.OK, f"{chosen.name}: checksum right")
        for _ in range(WARM_UP_FRAMES):
            detector.detect(frame)
        began_s = time.perf_counter()
        for _ in range(TIMED_FRAMES):
            detector.detect(frame)
        each_ms = (time.perf_counter() - began_s) / TIMED_FRAMES * 1000
        says = f"{chosen.name}: checksum right, {each_ms:.0f} ms a frame on this computer"
        if each_ms > SLOW_DETECTOR_MS:
            return Check("model", State.WARN, says, "choose a smaller model, see: snellius models list")
        return Check("model", State.OK, says)

    return guarded("model", look, next_step="see: snellius models list; a wrong checksum: install again")


def calibration(settings: Settings, frames: Sequence[Frame]) -> Iterator[Check]:
    """Age, verdict, whether it is for these pictures and this site, and whether the camera stands as calibrated."""
    try:
        found = Calibration.load(settings.calibration.file)
    except CalibrationError as error:
        yield Check("calibration", State.FAIL, str(error), "make one: snellius calibrate page")
        return
    yield _age(found, is_allowed=settings.calibration.allow_expired)
    fits = not frames or tuple(frames[-1].size_px) == tuple(found.image_size_px)
    if not fits:
        want, got = ("x".join(map(str, size)) for size in (found.image_size_px, frames[-1].size_px))
        says = f"calibrated for {want}, the source gives {got}"
        yield Check("image size", State.FAIL, says, f"set the camera back, or {CALIBRATE}")
    elif frames:
        yield _drift(found, frames)
    if settings.site.id is not None and settings.site.id != found.site.id:
        says = f"the settings say {settings.site.id}, the calibration says {found.site.id}"
        yield Check("site", State.WARN, says, "is this the calibration of this pole? correct site.id")


def _age(found: Calibration, *, is_allowed: bool) -> Check:
    now = datetime.now(timezone.utc)
    says = f"{found.id}, {(now - found.created).days} days old, verdict {found.verdict.value}"
    if found.is_expired(now):
        says = f"{says}, expired on {found.expires.date()}"
        if is_allowed:
            marked = f"{says}; calibration.allow_expired: measured on, every message is marked"
            return Check("calibration", State.WARN, marked, CALIBRATE)
        return Check("calibration", State.FAIL, says, CALIBRATE)
    if found.verdict is Verdict.REFUSE:
        return Check("calibration", State.FAIL, f"{says}: {'; '.join(found.reasons)}", CALIBRATE)
    if found.expires - now < EXPIRES_SOON or found.verdict is Verdict.USABLE:
        return Check("calibration", State.WARN, f"{says}, expires on {found.expires.date()}", CALIBRATE)
    return Check("calibration", State.OK, says)


def _drift(found: Calibration, frames: Sequence[Frame]) -> Check:
    """As the service watches it, over the few seconds that were looked at; vehicles are not taken out."""
    if found.reference is None:
        says = "the calibration has no picture to compare with; the service learns one while it runs"
        return Check("drift", State.OK, says)
    watch = CameraWatch(found.zone_plane, found.reference)
    for frame in frames:
        watch.look(frame, Detections.none())
    greys = [smoothed(frame.image_bgr) for frame in frames[-2:]]
    last = found.reference.compare(
        found.zone_plane.camera, greys[-1], hidden=np.empty((0, 4)), expected_rad=np.zeros(3), before=greys[0]
    )
    looks_elsewhere = last.changed is not None and last.changed > CHANGED_SHARE
    if watch.stance is Stance.MOVED or looks_elsewhere:
        return Check("drift", State.FAIL, "the camera does not stand as calibrated", f"turn it back, or {CALIBRATE}")
    if last.rotation_rad is None:
        says = "too little of the calibrated street is to be seen to compare"
        return Check("drift", State.WARN, says, "look again by daylight, without a vehicle before the camera")
    return Check("drift", State.OK, f"stands within {math.degrees(np.abs(last.rotation_rad).max()):.2f}° of calibrated")
