"""An authority with certificates for a test, made by openssl, and a broker that asks for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.mosquitto import Mosquitto


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path) -> Path:
    """A folder with a certificate authority, a broker's certificate (for localhost), an expired one and a device's."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    use = ["-addext", "keyUsage=critical,keyCertSign"]  # Python 3.13 insists on what RFC 5280 asks
    for name in ("ca", "other-ca"):
        openssl(
            folder, "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", *use
        )
    (folder / "san").write_text(
        "subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\nbasicConstraints=CA:FALSE\n"
    )
    for name, days in (("broker", "2"), ("device", "2"), ("expired", "-1")):
        openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", days, "-extfile", "san",
        )  # fmt: skip
    for file in folder.glob("*.key"):
        file.chmod(0o600)
    return folder


def tls_broker(
    folder: Path, authority: Path, certificate: str = "broker", *, acl: str | None = None, config: str = ""
) -> Mosquitto:
    return Mosquitto(
        folder,
        tls=f"cafile {authority / 'ca.pem'}\ncertfile {authority / certificate}.pem\n"
        f"keyfile {authority / certificate}.key\nrequire_certificate true",
        acl=acl,
        config=config,
    )
