"""The way to the platform: secrets, certificates, the broker, and whether it really lets the device publish."""

from __future__ import annotations

import socket
import ssl
import stat
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edge.assembly import broker_endpoint
from edge.doctor.check import Check, State, guarded
from edge.errors import BadInput, SnelliusError
from edge.publish import Connection, Endpoint, Native
from edge.publish.payload import Trial
from edge.settings import Settings

EXPIRES_SOON = timedelta(days=30)
BROKER_TIMEOUT_S = 5.0
PEM_BEGIN, PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
UTC_TIME = 0x17  # tag of a time with a year of two digits; the other kind has four
EXPLICIT_VERSION = 0xA0  # tag of the optional first field of a certificate
REACH = "check mqtt.url, the network and the broker"
REPLACE = "replace the certificate, see: Rotate credentials in docs/operating.md"


def examine(settings: Settings) -> Iterator[Check]:
    """From the files of this computer to the broker's answer."""
    exposed = list(_secrets(settings))
    yield from exposed
    if settings.mqtt.cert_file is not None:
        file = settings.mqtt.cert_file
        yield guarded("device certificate", lambda: _validity("device certificate", _first(file)), next_step=REPLACE)
    if any(check.state is State.FAIL and check.says.startswith("mqtt.") for check in exposed):
        yield Check("broker", State.FAIL, "not tried: a secret cannot be used", "see the check of the secrets")
        return
    try:
        endpoint = broker_endpoint(settings)
    except SnelliusError as error:
        yield Check("broker", State.FAIL, str(error), "correct the settings under [mqtt]")
        return
    if endpoint.tls is not None:
        yield guarded(
            "broker certificate",
            lambda: _validity("broker certificate", _broker_certificate(endpoint)),
            next_step="check mqtt.ca_file and the clock; the broker's name must stand in its certificate",
        )
    yield guarded("broker", lambda: _tried(endpoint, settings), next_step=REACH)


def _secrets(settings: Settings) -> Iterator[Check]:
    """Whether each secret can be read, and by nobody else."""
    files = {
        "mqtt.password_file": settings.mqtt.password_file,
        "mqtt.key_file": settings.mqtt.key_file,
        "source.password_file": settings.source.password_file,
    }
    given = {name: file for name, file in files.items() if file is not None}
    for name, file in given.items():
        try:
            mode = file.stat().st_mode
            with file.open("rb"):
                pass
        except PermissionError:
            yield Check("secrets", State.FAIL, f"{name}: {file}: not readable for this user", "sudo snellius doctor …")
            continue
        except OSError as failure:
            yield Check("secrets", State.FAIL, f"{name}: {file}: {failure.strerror}", f"put the file at {file}")
            continue
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            says = f"{name}: everybody on this computer may read {file}"
            yield Check("secrets", State.FAIL, says, f"chmod o= {file}, and change the secret: it was not one")
        elif not file.stat().st_size:
            yield Check("secrets", State.FAIL, f"{name}: {file} is empty", "put the secret into the file")
        else:
            yield Check("secrets", State.OK, f"{name}: readable, and not for everybody")


def _tried(endpoint: Endpoint, settings: Settings) -> Check:
    """Connects under a name of its own, so that a running service keeps its connection, publishes, and takes leave."""
    mqtt, site = settings.mqtt, settings.site
    connection = Connection(
        endpoint, client_id=f"{endpoint.username}-doctor", protocol=mqtt.protocol, timeout_s=BROKER_TIMEOUT_S
    )
    native = Native(city=site.city, device=site.device, site=site.id or site.device, lab=settings.lab.enabled)
    trial = native.trial(Trial(device=site.device, time=datetime.now(timezone.utc)))
    deadline_s = time.monotonic() + BROKER_TIMEOUT_S
    connection.publish(trial)
    answers = connection.take_answers()
    while not answers and connection.end is None and time.monotonic() < deadline_s:
        connection.step(0.1)
        answers = connection.take_answers()
    connection.close()
    says = f"{endpoint.address} lets {endpoint.username} in"
    if not answers:
        why = "no answer to a message" if time.monotonic() >= deadline_s else "hung up on a message"
        return Check("broker", State.FAIL, f"{says}, but {why} on {trial.topic}", "look at the broker's log")
    if answers[0].refusal is not None:
        acl = f"allow user {endpoint.username} to write {native.base}/#"
        return Check("broker", State.FAIL, f"{says}, but refuses {trial.topic}: {answers[0].refusal}", acl)
    if mqtt.protocol != "5":
        unknown = f"{says}; over MQTT 3.1.1 it cannot be seen whether it takes messages"
        return Check("broker", State.WARN, unknown, 'mqtt.protocol = "5" if the broker knows it')
    return Check("broker", State.OK, f"{says} and takes messages on {native.base}/#")


def _first(file: Path) -> bytes:
    """The first certificate of a PEM file in DER."""
    pem = file.read_text(encoding="ascii", errors="replace")
    try:
        return ssl.PEM_cert_to_DER_cert(pem[pem.index(PEM_BEGIN) : pem.index(PEM_END) + len(PEM_END)])
    except ValueError:
        raise BadInput(f"mqtt.cert_file: expected a certificate (PEM) in {file}") from None


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
        return Check(name, State.FAIL, f"expired on {ends:%Y-%m-%d}", REPLACE)
    if days < EXPIRES_SOON.days:
        return Check(name, State.WARN, says, REPLACE)
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
