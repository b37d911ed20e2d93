"""Every thread of the running service stumbles, hangs, ends and crashes: it heals, or the process ends or falls silent.

The service is a process of its own with a broker, a status socket and a notify socket. Who ends is started again by
systemd, and who falls silent is killed by it first, which is done by the test here and by a real systemd in
``tests/system/pole.sh``. Either way, everything that had been counted reaches the platform, once.

==========  =======================================  ==================================================================
thread      what it does                             when it fails
==========  =======================================  ==================================================================
main        frames, stages, windows, outbox          a surprise costs who is in view; too many end it; a hang is silence
camera      reads the camera                         opens it again for ever; stuck or ended: the service ends
publisher   outbox to broker                         the service ends
status      answers ``snellius status``              one answer is missing; stuck or ended: the service ends
==========  =======================================  ==================================================================
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pytest

from edge.errors import SnelliusError
from edge.publish.payload import Flow
from edge.status_socket import ask
from tests.support.builders import a_passage
from tests.support.kills import CountsOnDisk
from tests.support.mosquitto import Mosquitto, Subscriber, eventually
from tests.support.pole import configured
from tests.support.simulated import SimulatedClock, SimulatedStreet, a_device

EDGE = Path(__file__).parents[2] / "edge"
THREADS = {"main", "camera", "publisher", "status"}
CARS = 24  # counted before the fault, a window each
WATCHDOG_S = 4.0
SILENCE_S = 1.5 * WATCHDOG_S  # systemd's limit, and some more
PATIENCE_S = 90.0  # on a busy computer


class Systemd:
    """Hears what the service tells it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.said: list[str] = []
        self.heard_s = time.monotonic()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Systemd:
        self._socket.bind(str(self.file))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.file))
        self._thread.join()
        self._socket.close()

    @property
    def silent_s(self) -> float:
        return time.monotonic() - self.heard_s

    def _listen(self) -> None:
        while word := self._socket.recv(4096).decode():
            self.said.append(word)
            if "WATCHDOG=1" in word:
                self.heard_s = time.monotonic()


@dataclass
class Ailing:
    """A running service, and what it has counted."""

    folder: Path
    process: subprocess.Popen[str]
    systemd: Systemd
    platform: Subscriber
    log: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Let the fault happen."""
        (self.folder / "trigger").touch()

    def measures(self) -> bool:
        """Whether it says that frames come, and nothing of a camera that is gone."""
        told = ask(self.folder / "status")
        return told is not None and bool(told["camera"]["frames_per_s"]) and "camera_lost" not in told["reasons"]

    def reasons_told(self) -> set[str]:
        """Every reason that the platform has heard of."""
        return {reason for message in self.platform.on("/status") for reason in json.loads(message.payload)["reasons"]}

    def is_asked(self) -> None:
        """Somebody wants to know how it is, and gets no answer."""
        with pytest.raises(SnelliusError):
            ask(self.folder / "status")

    def ends(self) -> int:
        return self.process.wait(PATIENCE_S)


@contextmanager
def ailing(folder: Path, broker: Mosquitto, platform: Subscriber, fault: str) -> Iterator[Ailing]:
    """The service, measuring and busy sending what it had counted before, with a fault that has not begun yet."""
    config = configured(folder, broker=broker.url, source="/dev/video0")
    count_before(folder)
    with Systemd(folder / "notify") as systemd:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.ailing", fault, folder / "trigger", "run", "--config", config],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join(sys.path),
                "NOTIFY_SOCKET": str(systemd.file),
                "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6)),
            },
        )
        service = Ailing(folder, process, systemd, platform)
        assert process.stderr is not None
        reading = threading.Thread(target=lambda: service.log.extend(process.stderr or ()), daemon=True)
        reading.start()
        try:
            eventually(service.measures, PATIENCE_S, "a service that measures")
            eventually(lambda: platform.on("/flow/forward"), PATIENCE_S, "a publisher at work")
            yield service
        finally:
            process.kill()
            process.wait()
            reading.join()
            process.stderr.close()


def count_before(folder: Path) -> None:
    """Windows that wait for the broker, from an earlier run."""
    clock = SimulatedClock()
    cars = [a_passage(speed_kmh=30.0, middle_s=4.0 + 10 * number) for number in range(CARS)]
    with a_device(folder, SimulatedStreet(cars, clock, until_s=10.0 * CARS + 30), clock) as (_, run):
        run()


def everything_arrives(service: Ailing, broker: Mosquitto) -> None:
    """Another life sends what waits; of what was on disk nothing is lost, and nothing is told twice."""
    counted, _, _ = CountsOnDisk(service.folder / "outbox.sqlite").counts()
    assert counted.total() >= CARS
    clock = SimulatedClock(begin_utc_ns=time.time_ns())  # what waits may not be sent before it was measured

    def numbers() -> dict[tuple[str, int], Flow]:
        flows = [Flow.model_validate_json(message.payload) for message in service.platform.on("/flow/forward")]
        return {(flow.epoch, flow.seq): flow for flow in flows}

    def earlier() -> int:
        return sum(flow.speed.n for flow in numbers().values() if f"{flow.window.start:%Y-%m-%d}" == "2026-11-23")

    with a_device(
        service.folder, SimulatedStreet([], clock, until_s=0.0), clock, url=broker.url, drain_s=PATIENCE_S
    ) as (
        _,
        run,
    ):
        assert run()
    eventually(lambda: earlier() >= CARS, what="everything that had been counted")
    assert earlier() == CARS
    kept, _, _ = CountsOnDisk(service.folder / "outbox.sqlite").counts()
    assert counted - kept == {}


@pytest.fixture
def platform(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    with Subscriber(mosquitto.port, "snellius-lab/#") as listening:
        yield listening


def test_these_are_all_its_threads() -> None:
    """Python's own, that is; those of the inference runtime and of OpenCV can only crash the process."""
    not_of_the_service = {"cli", "study", "subscriber", "demo"}
    files = [path for path in EDGE.rglob("*.py") if path.relative_to(EDGE).parts[0] not in not_of_the_service]
    made = [line for path in files for line in path.read_text().splitlines() if "Thread(" in line]
    assert sorted(re.findall(r'name="(\w+)"', "\n".join(made))) == sorted(THREADS - {"main"})
    assert len(made) == len(THREADS) - 1


@pytest.mark.slow
def test_what_stumbles_once_goes_on_and_nobody_is_started_again(
    tmp_path: Path, mosquitto: Mosquitto, platform: Subscriber
) -> None:
    with ailing(tmp_path, mosquitto, platform, "camera-fails-2,main-stumbles,status-stumbles") as service:
        service.begin()
        service.is_asked()
        eventually(lambda: "camera_lost" in service.reasons_told(), PATIENCE_S, "a status that tells of the camera")
        eventually(service.measures, PATIENCE_S, "a service that measures again")
        eventually(lambda: len(service.systemd.said) > 2 and service.systemd.silent_s < WATCHDOG_S, PATIENCE_S)
        assert service.process.poll() is None
        service.process.send_signal(signal.SIGTERM)
        assert service.ends() == 0
        assert "STOPPING=1" in service.systemd.said
    told = "".join(service.log)
    assert "a stage failed; it goes on with the next frame" in told
    assert "the status could not be told" in told
    everything_arrives(service, mosquitto)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param("camera-hangs", "the thread 'camera' has been stuck for", id="camera hangs"),
        pytest.param("camera-ends", "the thread 'camera' has ended", id="camera ends"),
        pytest.param("publisher-stumbles", "the publisher ended: ZeroDivisionError", id="publisher stumbles"),
        pytest.param("publisher-hangs", "the thread 'publisher' has been stuck for", id="publisher hangs"),
        pytest.param("publisher-ends", "the thread 'publisher' has ended", id="publisher ends"),
        pytest.param("status-hangs", "the thread 'status' has been stuck for", id="status hangs"),
        pytest.param("status-ends", "the thread 'status' has ended", id="status ends"),
        pytest.param("main-stumbles-99", "ZeroDivisionError: a surprise", id="main stumbles without end"),
    ],
)
def test_what_cannot_be_mended_ends_the_service_with_everything_on_disk(
    fault: str, says: str, tmp_path: Path, mosquitto: Mosquitto, platform: Subscriber
) -> None:
    with ailing(tmp_path, mosquitto, platform, fault) as service:
        service.begin()
        if fault.startswith("status"):
            service.is_asked()
        assert service.ends() not in (0, None)
        if fault == "camera-hangs":
            assert "camera_lost" in service.reasons_told()
    assert says in "".join(service.log)
    assert "STOPPING=1" in service.systemd.said
    everything_arrives(service, mosquitto)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("main-hangs", id="main hangs"),
        pytest.param("outbox-hangs", id="a thread hangs with the lock of the outbox"),
    ],
)
def test_a_loop_that_hangs_falls_silent_and_is_killed_as_systemd_does(
    fault: str, tmp_path: Path, mosquitto: Mosquitto, platform: Subscriber
) -> None:
    with ailing(tmp_path, mosquitto, platform, fault) as service:
        eventually(lambda: service.systemd.silent_s < WATCHDOG_S / 2, PATIENCE_S)
        service.begin()
        eventually(lambda: service.systemd.silent_s > SILENCE_S, PATIENCE_S, "silence")
        service.process.send_signal(signal.SIGABRT)
        assert service.ends() == -signal.SIGABRT
    everything_arrives(service, mosquitto)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["camera", "publisher"])  # for main, see the kills in test_chaos.py
def test_a_crash_in_any_thread_loses_nothing_that_was_counted(
    place: str, tmp_path: Path, mosquitto: Mosquitto, platform: Subscriber
) -> None:
    with ailing(tmp_path, mosquitto, platform, f"{place}-crashes") as service:
        service.begin()
        assert service.ends() == -signal.SIGSEGV
    everything_arrives(service, mosquitto)
