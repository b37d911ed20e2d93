"""Where the broker is and how the device proves who it is.

Anything that is not this computer needs TLS, and TLS is always verified. Secrets come from files, are read once and
stand in no representation, log line or error.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edge.credentials import read_password, refuse_exposed
from edge.errors import BadInput

PLAIN_PORT = 1883
TLS_PORT = 8883


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port of a broker.

    Attributes:
        host: Name or number.
        port: TCP port.
        is_tls: Whether the connection is encrypted and the broker verified.
    """

    host: str
    port: int
    is_tls: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read ``mqtt://HOST[:PORT]`` or ``mqtts://HOST[:PORT]``.

        Raises:
            BadInput: It is something else, names a user or password, or would send in clear text through a network.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise BadInput("mqtt.url: expected a port from 1 to 65535 and a well-formed host") from None
        if "@" in parts.netloc:
            raise BadInput("mqtt.url: expected no user name or password in the address (use mqtt.password_file)")
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise BadInput(f"mqtt.url: expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT], got '{url}'")
        if port == 0:
            raise BadInput("mqtt.url: expected a port from 1 to 65535, got 0")
        is_tls = parts.scheme == "mqtts"
        address = cls(parts.hostname, port or (TLS_PORT if is_tls else PLAIN_PORT), is_tls)
        if not is_tls and not address.is_loopback:
            raise BadInput(f"mqtt.url: expected mqtts:// for a broker on another computer, got '{url}'")
        return address

    @property
    def is_loopback(self) -> bool:
        """Whether it is this computer, as far as the name says so by itself."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker with the proofs for it.

    Attributes:
        address: Where it is.
        username: Who the device says it is.
        password: Never shown.
        tls: Verifying context; None without TLS.
    """

    address: Address
    username: str
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)

    @classmethod
    def of(
        cls,
        url: str,
        *,
        username: str,
        password_file: Path | None = None,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
    ) -> Endpoint:
        """Read the files and check that they fit together.

        Args:
            url: ``mqtt://HOST[:PORT]`` (this computer only) or ``mqtts://HOST[:PORT]``.
            username: MQTT user name: the device id.
            password_file: Holds the password; one newline at the end is not part of it.
            ca_file: Certificates that vouch for the broker; None: those of the system.
            cert_file: The device's own certificate.
            key_file: Its key; None: in ``cert_file``.

        Raises:
            BadInput: The address or a file is wrong, or other users of this computer can read a secret.
        """
        address = Address.parse(url)
        certificates = {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
        if not address.is_tls:
            given = [f"mqtt.{name}" for name, file in certificates.items() if file is not None]
            if given:
                raise BadInput(f"{', '.join(given)}: expected an address that begins with mqtts://, got '{url}'")
        if key_file is not None and cert_file is None:
            raise BadInput("mqtt.key_file: expected mqtt.cert_file beside it")
        password = None if password_file is None else read_password("mqtt.password_file", password_file)
        tls = _verifying_context(ca_file, cert_file, key_file) if address.is_tls else None
        return cls(address, username, password, tls)


class _TidySocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho would leave that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        """As its parent."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _verifying_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later, with certificate and host name verified."""
    try:
        context = ssl.create_default_context(cafile=ca_file)  # with a file: nobody else is trusted
    except ssl.SSLError:
        raise BadInput(f"mqtt.ca_file: expected certificates (PEM) in {ca_file}") from None
    except OSError as failure:
        raise BadInput(f"mqtt.ca_file: cannot read {ca_file}: {failure.strerror}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _TidySocket
    if cert_file is not None:
        refuse_exposed("mqtt.key_file", key_file or cert_file)
        try:
            # The empty password: a key that needs one must fail here, not ask at a terminal that nobody sees.
            context.load_cert_chain(cert_file, key_file, password="")
        except ssl.SSLError:
            raise BadInput(
                f"mqtt.cert_file: expected a certificate (PEM) in {cert_file} and its key, without password, "
                f"in {key_file or cert_file}"
            ) from None
        except OSError as failure:
            raise BadInput(f"mqtt.cert_file: cannot read {cert_file}: {failure.strerror}") from None
    return context
