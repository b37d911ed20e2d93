"""What ``doctor`` looks at. Each check stands alone: one that fails hides no other."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Literal

from calibration import Calibration, CalibrationError, Verdict
from edge.assembly import broker_endpoint, known_model
from edge.clock import LinuxClock
from edge.detect import open_detector
from edge.domain import Frame
from edge.errors import BadInput, SnelliusError
from edge.publish import Connection, Endpoint
from edge.service import disk_free, temperature_c
from edge.settings import Settings
from edge.sources.video import VideoFile
from models import CatalogueError

FRAMES_TRIED = 100  # enough to see a rate, a moment's work
TIMED_FRAMES = 5
WARM_UP_FRAMES = 2
LOW_RATE_HZ = 8.0  # fewer frames, and a fast car is seen too seldom inside a zone of 20 m
SLOW_DETECTOR_MS = 100.0  # ten frames a second
DISK_LOW = 0.10
HOT_C, TOO_HOT_C = 75, 82  # a Raspberry Pi slows down at 80 to 85 °C
EXPIRES_SOON = timedelta(days=30)
BROKER_TIMEOUT_S = 5.0
PEM_BEGIN, PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
UTC_TIME = 0x17  # tag of a time with a year of two digits; the other kind has four
EXPLICIT_VERSION = 0xA0  # tag of the optional first field of a certificate


class State(str, Enum):
    """Verdict of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        state: Whether it is well.
        says: What was found.
        next: What to do about it, empty when nothing needs doing.
    """

    name: str
    state: State
    says: str
    next: str = ""

    def as_json(self) -> dict[str, str]:
        """As ``doctor --json`` prints it."""
        return {"name": self.name, "state": self.state.value, "says": self.says, "next": self.next}


def examine(settings: Settings | None) -> Iterator[Check]:
    """Every check that can be made; without settings only those of the computer."""
    if settings is None:
        yield _guarded("model", lambda: _model(None, None))
    else:
        yield _guarded("settings", lambda: _settings(settings))
        source, frame = _source(settings)
        yield source
        yield _guarded("model", lambda: _model(settings.model.name, frame))
        yield from _calibration(settings, frame)
    yield _clock()
    yield _guarded("disk", lambda: _disk(settings))
    temperature = temperature_c()
    if temperature is not None:
        yield _temperature(temperature)
    if settings is not None:
        yield from _broker(settings)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check whose errors are its finding."""
    try:
        return check()
    except OSError as error:
        return Check(name, State.FAIL, f"{error.filename or name}: {error.strerror or error}", NEXT.get(name, ""))
    except (SnelliusError, CalibrationError, CatalogueError) as error:
        return Check(name, State.FAIL, str(error), NEXT.get(name, ""))


NEXT = {
    "settings": "correct the settings file",
    "source": "check source.url: does the file exist, does the camera run?",
    "model": "see: snellius models list",
    "calibration": "see: snellius calibrate solve --help",
    "disk": "make the folder of outbox.file, writable for the user of the service",
    "broker": "check mqtt.url, the network and the broker",
}


def _settings(settings: Settings) -> Check:
    if settings.lab.enabled:
        return Check(
            "settings", State.WARN, "lab mode: windows may hold single vehicles", "lab.enabled = false on a public road"
        )
    return Check("settings", State.OK, f"{settings.site.city}/{settings.site.device}, k = {settings.privacy.k}")


def _source(settings: Settings) -> tuple[Check, Frame | None]:
    """The check, and a frame to try the detector on."""
    frame: Frame | None = None

    def look() -> Check:
        nonlocal frame
        with VideoFile(settings.source.url) as source:
            frame = deque(islice(source.frames(), FRAMES_TRIED), maxlen=1).pop()
            timing, size = source.timing, "x".join(str(side) for side in source.size_px)
        rate_hz = timing.real_hz or 0.0
        remarks = timing.remarks()
        says = f"{size}, {rate_hz:.2f} frames a second, largest gap {timing.largest_gap_s or 0:.2f} s"
        if rate_hz < LOW_RATE_HZ:
            return Check("source", State.WARN, says, f"{LOW_RATE_HZ:.0f} or more frames a second are needed")
        if remarks:
            return Check("source", State.WARN, "; ".join([says, *remarks]), "look at the recording or the camera")
        return Check("source", State.OK, says)

    return _guarded("source", look), frame


def _model(name: str | None, frame: Frame | None) -> Check:
    model = known_model(name)
    detector = open_detector(model)
    if frame is None:
        return Check("model", State.OK, f"{model.name}: checksum right")
    for _ in range(WARM_UP_FRAMES):
        detector.detect(frame)
    began_s = time.perf_counter()
    for _ in range(TIMED_FRAMES):
        detector.detect(frame)
    each_ms = (time.perf_counter() - began_s) / TIMED_FRAMES * 1000
    says = f"{model.name}: checksum right, {each_ms:.0f} ms a frame on this computer"
    if each_ms > SLOW_DETECTOR_MS:
        return Check("model", State.WARN, says, "choose a smaller model, see: snellius models list")
    return Check("model", State.OK, says)


def _calibration(settings: Settings, frame: Frame | None) -> Iterator[Check]:
    try:
        calibration = Calibration.load(settings.calibration.file)
    except CalibrationError as error:
        yield Check("calibration", State.FAIL, str(error), NEXT["calibration"])
        return
    now = datetime.now(timezone.utc)
    age_days = (now - calibration.created).days
    says = f"{calibration.id}, {age_days} days old, verdict {calibration.verdict.value}"
    again = "calibrate again: snellius calibrate solve"
    if calibration.is_expired(now):
        says = f"{says}, expired on {calibration.expires.date()}"
        if settings.calibration.allow_expired:
            marked = f"{says}; calibration.allow_expired: measured on, every message is marked"
            yield Check("calibration", State.WARN, marked, again)
        else:
            yield Check("calibration", State.FAIL, says, again)
    elif calibration.verdict is Verdict.REFUSE:
        yield Check("calibration", State.FAIL, f"{says}: {'; '.join(calibration.reasons)}", again)
    elif calibration.expires - now < EXPIRES_SOON or calibration.verdict is Verdict.USABLE:
        yield Check("calibration", State.WARN, f"{says}, expires on {calibration.expires.date()}", again)
    else:
        yield Check("calibration", State.OK, says)
    if frame is not None and tuple(frame.size_px) != tuple(calibration.image_size_px):
        want, got = ("x".join(map(str, size)) for size in (calibration.image_size_px, frame.size_px))
        says = f"calibrated for {want}, the source gives {got}"
        yield Check("image size", State.FAIL, says, f"set the camera back, or {again}")
    if settings.site.id is not None and settings.site.id != calibration.site.id:
        yield Check(
            "site",
            State.WARN,
            f"the settings say {settings.site.id}, the calibration says {calibration.site.id}",
            "is this the calibration of this pole?",
        )


def _clock() -> Check:
    clock = LinuxClock()
    if clock.is_synced():
        return Check("clock", State.OK, f"synchronised, {datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}")
    return Check(
        "clock",
        State.WARN,
        "not synchronised at this moment; speeds do not depend on it, window times do",
        "allow network time (NTP): timedatectl",
    )


def _disk(settings: Settings | None) -> Check:
    folder = settings.outbox.file.parent if settings is not None else Path.cwd()
    usage = shutil.disk_usage(folder)
    free = disk_free(folder)
    says = f"{free:.0%} of {usage.total / 1e9:.0f} GB free at {folder}"
    if settings is not None and not os.access(folder, os.W_OK):
        return Check("disk", State.FAIL, f"{folder}: this user may not write there", NEXT["disk"])
    if free < DISK_LOW:
        return Check("disk", State.WARN, says, "make room")
    return Check("disk", State.OK, says)


def _temperature(temperature: int) -> Check:
    says = f"processor at {temperature} °C"
    if temperature >= TOO_HOT_C:
        return Check("temperature", State.FAIL, says, "shade or ventilate the housing")
    if temperature >= HOT_C:
        return Check("temperature", State.WARN, says, "shade or ventilate the housing")
    return Check("temperature", State.OK, says)


def _broker(settings: Settings) -> Iterator[Check]:
    mqtt = settings.mqtt
    try:
        endpoint = broker_endpoint(settings)
    except SnelliusError as error:
        yield Check("broker", State.FAIL, str(error), NEXT["broker"])
        return
    yield _guarded("broker", lambda: _reached(endpoint, mqtt.protocol))
    if endpoint.tls is not None:
        yield _guarded("broker certificate", lambda: _validity("broker certificate", _broker_certificate(endpoint)))
    if mqtt.cert_file is not None:
        pem = mqtt.cert_file.read_text()
        first = pem[pem.index(PEM_BEGIN) : pem.index(PEM_END) + len(PEM_END)]
        yield _guarded("device certificate", lambda: _validity("device certificate", ssl.PEM_cert_to_DER_cert(first)))


def _reached(endpoint: Endpoint, protocol: Literal["5", "3.1.1"]) -> Check:
    """Connects and takes leave; under a name of its own, so that a running service keeps its connection."""
    connection = Connection(
        endpoint, client_id=f"{endpoint.username}-doctor", protocol=protocol, timeout_s=BROKER_TIMEOUT_S
    )
    connection.close()
    return Check("broker", State.OK, f"{endpoint.address} lets {endpoint.username} in")


def _broker_certificate(endpoint: Endpoint) -> bytes:
    """The broker's certificate in DER."""
    address = endpoint.address
    assert endpoint.tls is not None
    with (
        socket.create_connection((address.host, address.port), timeout=BROKER_TIMEOUT_S) as plain,
        endpoint.tls.wrap_socket(plain, server_hostname=address.host) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def _validity(name: str, der: bytes) -> Check:
    ends = not_after(der)
    days = (ends - datetime.now(timezone.utc)).days
    says = f"valid until {ends:%Y-%m-%d}, {days} days left"
    if days < 0:
        return Check(name, State.FAIL, f"expired on {ends:%Y-%m-%d}", "replace the certificate")
    if days < EXPIRES_SOON.days:
        return Check(name, State.WARN, says, "replace the certificate in time")
    return Check(name, State.OK, says)


def not_after(der: bytes) -> datetime:
    """Until when a certificate is valid (RFC 5280, 4.1: Certificate.tbsCertificate.validity.notAfter).

    Raises:
        BadInput: It is no certificate.
    """
    try:
        certificate = _elements(_elements(der)[0][1])
        fields = [body for tag, body in _elements(certificate[0][1]) if tag != EXPLICIT_VERSION]
        tag, text = _elements(fields[3])[1]  # after serial number, signature algorithm and issuer
        pattern = "%y%m%d%H%M%SZ" if tag == UTC_TIME else "%Y%m%d%H%M%SZ"
        return datetime.strptime(text.decode("ascii"), pattern).replace(tzinfo=timezone.utc)
    except (IndexError, ValueError):
        raise BadInput("expected an X.509 certificate, found something else") from None


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of the elements of a DER sequence's content (X.690, 8.1)."""
    found = []
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        found.append((tag, der[at : at + length]))
        at += length
    return found
