"""Faults of a real network camera and of the processor, under the service as a process of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from edge.publish.payload import StatusReason
from tests.support.faults.outcome import PATIENCE_S, Outcome
from tests.support.mosquitto import Mosquitto, Subscriber, eventually
from tests.support.pole import configured, running
from tests.support.received import Received, all_well, told
from tests.support.rtsp import RtspServer, Showing
from tests.support.street import STREET

BLIND_HEALTHS = 2  # health messages in a row that tell of no watched time, before the camera is mended
WATCHED_SHARE = 0.9  # of the time between two health messages: the street is watched again
DUTY_S = (0.04, 0.36)  # the process may run so long, then it must wait so long: a tenth of one core
# Reasons of the computer on which this runs: no time server, a watch that needs longer than us, other load.
OF_THE_COMPUTER = frozenset({"clock_unset", "clock_holdover", "camera_unchecked"})
OF_ITS_LOAD = frozenset({"frame_rate"})


def camera(folder: Path, reason: StatusReason, name: str, spoil: Callable[[RtspServer], None]) -> Outcome:
    """A camera restarts wrong, and later right.

    Args:
        folder: For everything.
        reason: The status that the platform must hear.
        name: Of the fault.
        spoil: Changes the server before it starts again; a camera that is lost stays away.
    """
    with _a_street(folder) as (server, platform, _):
        before, began_s = len(platform.messages), time.monotonic()
        server.kill()
        if reason is not StatusReason.CAMERA_LOST:
            spoil(server)
            server.start()
        told(platform, reason.value, within_s=PATIENCE_S, since=before)
        told_s = time.monotonic() - began_s
        eventually(lambda: _blind(platform, before), PATIENCE_S, "no watched time")
        server.kill()
        server.clip, server.showing = STREET, Showing.ON_AND_ON
        mended_s = time.monotonic()
        server.start()
        all_well(platform, within_s=PATIENCE_S, since=before, but=OF_THE_COMPUTER | OF_ITS_LOAD)
        healthy_s = time.monotonic() - mended_s
        back = len(platform.messages)
        eventually(lambda: _watched(platform, back), PATIENCE_S, "watched again")
        spell = Received(platform, since=before)
    return Outcome(
        name,
        f"told {told_s:.1f} s after the restart",
        f"{spell.story_without(OF_THE_COMPUTER | OF_ITS_LOAD)}; shares of watched time in the health messages:"
        f" {_list(spell.shares_watched)}",
        healthy_s,
        any(reason.value in each["reasons"] for each in spell.statuses) and 0.0 in spell.shares_watched,
    )


def _blind(platform: Subscriber, since: int) -> bool:
    return Received(platform, since=since).shares_watched[-BLIND_HEALTHS:] == [0.0] * BLIND_HEALTHS


def _watched(platform: Subscriber, since: int) -> bool:
    return max(Received(platform, since=since).shares_watched, default=0.0) > WATCHED_SHARE


def _list(shares: list[float]) -> str:
    return ", ".join(f"{share:.2f}" for share in shares)


def lost(folder: Path) -> Outcome:
    return camera(folder, StatusReason.CAMERA_LOST, "RTSP camera: power cut", lambda server: None)


def other_size(folder: Path) -> Outcome:
    def spoil(server: RtspServer) -> None:
        server.clip, server.size_px = None, (640, 480)

    return camera(folder, StatusReason.CAMERA_SIZE, "RTSP camera restarts with another resolution", spoil)


def frozen(folder: Path) -> Outcome:
    return camera(
        folder, StatusReason.CAMERA_FROZEN, "RTSP camera restarts with a frozen picture", _shows(Showing.STILL)
    )


def black(folder: Path) -> Outcome:
    return camera(folder, StatusReason.CAMERA_BLACK, "RTSP camera restarts with its cover on", _shows(Showing.COVERED))


def dark(folder: Path) -> Outcome:
    return camera(folder, StatusReason.TOO_DARK, "RTSP camera: too dark to measure", _shows(Showing.NIGHT))


def _shows(what: Showing) -> Callable[[RtspServer], None]:
    def spoil(server: RtspServer) -> None:
        server.showing = what

    return spoil


def starved(folder: Path) -> Outcome:
    """The service gets a tenth of a core: it is stopped nine tenths of the time, on the core it is bound to."""
    with _a_street(folder) as (_, platform, service):
        begin, rss_mb = len(platform.messages), _resident_mb(service)
        with _starving(service):
            told(platform, StatusReason.FRAME_RATE.value, within_s=PATIENCE_S, since=begin)
            heard = len(platform.messages)
            eventually(lambda: len(Received(platform, since=heard).shares_watched) > 2, PATIENCE_S, "health messages")
            shares = Received(platform, since=heard).shares_watched[1:]
            grown_mb = _resident_mb(service) - rss_mb
        ended_s, back = time.monotonic(), len(platform.messages)
        eventually(lambda: _watched(platform, back), PATIENCE_S, "watched again")
        healthy_s, after = time.monotonic() - ended_s, Received(platform, since=back).shares_watched
        is_alive, spell = service.poll() is None, Received(platform, since=begin)
    return Outcome(
        "processor: the service gets a tenth of one core",
        f"memory {grown_mb:+.1f} MB; the process {'lived on' if is_alive else 'ended'}",
        f"{spell.story_without(OF_THE_COMPUTER)}; shares of watched time in the health messages: {_list(shares)} in it,"
        f" {_list(after)} afterwards",
        healthy_s,
        is_alive and max(shares) < 0.5 and grown_mb < 60,
    )


@contextmanager
def _a_street(folder: Path) -> Iterator[tuple[RtspServer, Subscriber, Popen[str]]]:
    """Camera, platform and the service between them, all well."""
    with (
        RtspServer(clip=STREET, showing=Showing.ON_AND_ON) as server,
        Mosquitto(folder / "broker") as broker,
        Subscriber(broker.port, "snellius-lab/#") as platform,
        running(configured(folder, broker=broker.url, source=server.url)) as service,
    ):
        all_well(platform, within_s=PATIENCE_S, but=OF_THE_COMPUTER | OF_ITS_LOAD)
        yield server, platform, service


@contextmanager
def _starving(service: Popen[str]) -> Iterator[None]:
    """The process runs on one core, and only a part of the time."""
    cores = os.sched_getaffinity(service.pid)
    os.sched_setaffinity(service.pid, {min(cores)})
    is_over = threading.Event()

    def starve() -> None:
        while not is_over.is_set():
            service.send_signal(signal.SIGSTOP)
            is_over.wait(DUTY_S[1])
            service.send_signal(signal.SIGCONT)
            is_over.wait(DUTY_S[0])

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        service.send_signal(signal.SIGCONT)
        os.sched_setaffinity(service.pid, cores)


def _resident_mb(service: Popen[str]) -> float:
    pages = int(Path(f"/proc/{service.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
