"""Marker secrets: wherever the device and its doctor speak, and whatever others of the computer can see of them."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge.cli import main
from edge.status_socket import ask
from tests.support.certificates import make_authority, tls_broker
from tests.support.mosquitto import Mosquitto, eventually
from tests.support.pole import configured, running
from tests.support.rtsp import RtspServer

CAMERA, BROKER = "camera-marker-7c1e", "broker-marker-93fa"


@dataclass
class Pole:
    """A device with three secrets: a camera's password, a broker's password, a key."""

    folder: Path
    config: Path
    broker: Mosquitto
    key: str
    said: dict[str, str] = field(default_factory=dict)  # by where it was said or seen

    @property
    def secrets(self) -> list[str]:
        return [CAMERA, BROKER, *(line for line in self.key.splitlines() if line and "KEY" not in line)]

    def snellius(self, *words: str) -> str:
        """Both streams of a verb."""
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said), suppress(SystemExit):
            main([*words, "--config", str(self.config)])
        return said.getvalue()

    def seen_of(self, process: int) -> str:
        """What ps and /proc show of a process and its children: command lines and environments."""
        texts = [
            Path(f"/proc/{each}/{name}").read_bytes().decode(errors="replace")
            for each in [process, *_children(process)]
            for name in ("cmdline", "environ", "comm")
        ]
        shown = subprocess.run(["ps", "axeww", "-o", "args"], capture_output=True, text=True, check=True)
        return "\n".join([*texts, shown.stdout])


def _children(process: int) -> list[int]:
    found = [
        int(each)
        for task in Path(f"/proc/{process}/task").iterdir()
        for each in (task / "children").read_text().split()
    ]
    return found + [grandchild for child in found for grandchild in _children(child)]


@pytest.fixture(scope="module")
def pole(tmp_path_factory: pytest.TempPathFactory) -> Pole:
    """It lives for a moment: with a camera and a broker, then refused by both; everything it says is kept."""
    folder = tmp_path_factory.mktemp("pole")
    (folder / "tls").mkdir()
    authority = make_authority(folder / "tls")
    key = (authority / "device.key").read_text()
    for name, secret in (("camera-password", CAMERA), ("broker-password", BROKER), ("device.key", key)):
        (folder / name).write_text(secret + "\n")
        (folder / name).chmod(0o600)
    users = folder / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(users), "hvs-0042", BROKER], check=True, capture_output=True)
    users.chmod(0o644)
    strict = f"password_file {users}\nallow_anonymous false"
    with RtspServer(size_px=(960, 540)) as camera, tls_broker(folder / "broker", authority, config=strict) as broker:
        config = configured(
            folder,
            broker=f"mqtts://localhost:{broker.port}",
            source=camera.url,
            source_more='username = "viewer"\npassword_file = "camera-password"',
            mqtt_more=f'ca_file = "{authority}/ca.pem"\ncert_file = "{authority}/device.pem"\nkey_file = "device.key"\n'
            'password_file = "broker-password"',
        )
        made = Pole(folder, config, broker, key)
        with running(config) as service:

            def says(what: str) -> bool:
                return what in json.dumps((ask(folder / "status") or {}).get("broker", {}))

            eventually(lambda: says('"connected": true'), 120, "connection")
            made.said["status as JSON"] = made.snellius("status", "--json")
            made.said["status in words"] = made.snellius("status")
            made.said["ps"] = made.seen_of(service.pid)
            made.said["doctor beside the service"] = made.snellius("doctor", "--json")
            camera.kill()
            users.write_text("")
            broker.kill()
            broker.start()
            eventually(lambda: says("refused user"), 120, "a refusal")
            made.said["status in trouble"] = made.snellius("status")
            service.send_signal(signal.SIGTERM)
            made.said["journal"] = service.communicate(timeout=60)[1]
        made.said["doctor in words"] = made.snellius("doctor")
        for name in ("camera-password", "broker-password", "device.key"):
            (folder / name).chmod(0o644)
            made.said[f"run, everybody may read {name}"] = made.snellius("run")
            (folder / name).chmod(0o600)
        (folder / "device.key").write_text(key.replace("-----BEGIN", "-----BEGUN") + CAMERA)
        made.said["run, a broken key"] = made.snellius("run")
        text = config.read_text()
        for name, address, spoilt in (
            ("camera", "rtsp://", f"rtsp://viewer:{CAMERA}@"),
            ("broker", "mqtts://", f"mqtts://hvs-0042:{BROKER}@"),
        ):
            config.write_text(text.replace(address, spoilt))
            made.said[f"run, the password of the {name} in its address"] = made.snellius("run")
        made.said["outbox"] = "".join(
            file.read_bytes().decode("latin-1") for file in folder.iterdir() if file.name.startswith("outbox.sqlite")
        )
    return made


def test_the_device_spoke_wherever_it_can(pole: Pole) -> None:
    """Otherwise the next test proves nothing."""
    assert json.loads(pole.said["status as JSON"])["broker"]["connected"] is True
    assert "connected to localhost" in pole.said["journal"]
    assert "refused user 'hvs-0042'" in pole.said["journal"]
    assert "no pictures from rtsp://127.0.0.1" in pole.said["journal"]
    assert "run\0--config" in pole.said["ps"]
    assert "PYTHONPATH=" in pole.said["ps"]
    assert {"secrets", "broker", "device certificate"} <= {
        check["name"] for check in json.loads(pole.said["doctor beside the service"])["checks"]
    }
    assert "refused user" in " ".join(pole.said["doctor in words"].split())
    for where, text in pole.said.items():
        assert text.strip(), where
    for name in ("camera", "broker"):
        assert "expected no" in pole.said[f"run, the password of the {name} in its address"]
    assert "everybody on this computer may read" in pole.said["run, everybody may read camera-password"]
    assert "mqtt.cert_file: expected a certificate" in pole.said["run, a broken key"]


def test_no_secret_stands_in_anything_that_it_said_or_that_others_see_of_it(pole: Pole) -> None:
    found = [(where, secret[:6]) for where, text in pole.said.items() for secret in pole.secrets if secret in text]
    assert found == []
