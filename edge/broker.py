"""A broker for one computer: it listens on 127.0.0.1 and nowhere else, and it is gone when its owner is gone.

The demo and the tests talk to a real broker without any set-up. Mosquitto is used when it is installed, else the
broker from the Python package ``iotcore`` (rumqttd). Both run as a child process that ends when the pipe to its
parent closes, so even a parent that is killed leaves nothing behind. Anyone on the same computer may connect:
nothing that must stay private belongs on it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal

from edge.errors import BackendUnavailable, SnelliusError

HOST = "127.0.0.1"
PORT_ATTEMPTS = 5  # another program may take a free port between our finding it and the broker's binding it
START_TIMEOUT_S = 10.0  # a busy Raspberry Pi needs about two
STOP_TIMEOUT_S = 5.0
SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # Debian keeps mosquitto there, outside the PATH of ordinary users

Program = Literal["mosquitto", "iotcore"]

MOSQUITTO_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_dest stderr
log_type error
log_type information
"""
MOSQUITTO_LISTENS = " running"  # its own word: an open port alone could be another program's

# A v5 listener must be named: without a configuration file this broker speaks 3.1.1 on every interface.
RUMQTTD_CONFIG = """\
id = 0
[router]
id = 0
max_connections = 64
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 10
[v5.1]
name = "loopback"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 262144
max_inflight_count = 100
"""

# Waits for the end of its standard input, that is for the end of whoever started it, and takes the broker along.
GUARD = '"$@" </dev/null & broker=$!; read -r line; kill "$broker" 2>/dev/null; wait "$broker"'


class LoopbackBroker:
    """A context manager around a broker on a free port of 127.0.0.1.

    Attributes:
        program: Which broker runs.
        port: Its TCP port; 0 before it has started.

    Raises:
        BackendUnavailable: No broker is installed, or not the one asked for.
        SnelliusError: The broker did not start.
    """

    def __init__(self, program: Program | None = None) -> None:
        self.program: Program = program or ("mosquitto" if mosquitto_program() else "iotcore")
        self.port = 0
        self._running = ExitStack()

    @property
    def url(self) -> str:
        """Address for :class:`edge.publish.Publisher`."""
        return f"mqtt://{HOST}:{self.port}"

    def __enter__(self) -> LoopbackBroker:
        start = self._start_mosquitto if self.program == "mosquitto" else self._start_iotcore
        complaint = ""
        for _ in range(PORT_ATTEMPTS):
            self.port = free_port()
            # The configuration is read once, at the start: nothing stays on disk while the broker runs.
            with tempfile.TemporaryDirectory(prefix="snellius-broker-") as folder:
                complaint = start(Path(folder))
            if not complaint:
                return self
            self._running.close()
        raise SnelliusError(f"{self.program}: expected a broker on {HOST}, got: {complaint}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def _start_mosquitto(self, folder: Path) -> str:
        """Start it; return its complaint, empty when it listens."""
        program = mosquitto_program()
        if program is None:
            raise BackendUnavailable("mosquitto is not installed: apt install mosquitto")
        config, log = folder / "mosquitto.conf", folder / "mosquitto.log"
        config.write_text(MOSQUITTO_CONFIG.format(port=self.port))
        with log.open("wb") as complaints:
            guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "snellius-broker", program, "-c", str(config)],
                stdin=subprocess.PIPE,
                stdout=complaints,
                stderr=complaints,
                start_new_session=True,  # Ctrl-C in the terminal is for the owner, who then ends the broker
            )
        self._running.callback(_end, guard)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and guard.poll() is None:
            said = log.read_text(errors="replace")
            if MOSQUITTO_LISTENS in said:
                return ""
            if "Error" in said:
                break
            time.sleep(0.02)
        return "; ".join(log.read_text(errors="replace").splitlines()) or f"no sign within {START_TIMEOUT_S:.0f} s"

    def _start_iotcore(self, folder: Path) -> str:
        """Start it; return its complaint, empty when it listens."""
        try:
            from iotcore import Broker  # an extra, imported only when chosen
        except ImportError as missing:
            raise BackendUnavailable(
                "no MQTT broker on this computer: apt install mosquitto, or pip install 'snellius[demo]'"
            ) from missing
        config = folder / "rumqttd.toml"
        config.write_text(RUMQTTD_CONFIG.format(port=self.port))
        broker = Broker(config_path=str(config))
        try:
            broker.start(timeout=START_TIMEOUT_S)
        except (OSError, RuntimeError) as failure:
            return str(failure)
        self._running.callback(broker.stop, timeout=STOP_TIMEOUT_S)
        return ""


def mosquitto_program() -> str | None:
    """Where mosquitto is installed; None when it is not."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}")


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _end(guard: subprocess.Popen[bytes]) -> None:
    """Close the pipe and wait until guard and broker are gone."""
    assert guard.stdin is not None
    guard.stdin.close()
    try:
        guard.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(guard.pid, 9)
        guard.wait()
