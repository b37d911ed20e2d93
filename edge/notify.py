"""A word to systemd: ready, stopping, how it is, and that it still makes progress (sd_notify(3)).

Without systemd (``NOTIFY_SOCKET`` not set) nothing is said and nothing fails.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(**words: str) -> None:
    """Tell systemd, for example ``notify(READY="1", STATUS="measuring")``; never fails, never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # abstract: its name begins with a zero byte
        address = "\0" + address[1:]
    said = "\n".join(f"{name}={word}" for name, word in words.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        line.sendto(said.encode(), address)


def watchdog_s() -> float | None:
    """How often systemd wants to hear of progress: half of its limit; None when it does not watch. [s]"""
    limit_us, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not limit_us.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(limit_us) / 1e6 / 2
