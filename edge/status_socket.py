"""How the running service is, for whoever stands below the pole: a local socket that says one thing and hangs up.

The socket is a file that only the service's own user and root can reach. Who connects gets one JSON object; nothing is
read from him, so nothing can be asked or told. There is no number in it that comes from traffic.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.errors import SnelliusError
from edge.pulse import Pulse

log = logging.getLogger(__name__)

PATIENCE_S = 5.0  # for the other side
LONGEST_BYTES = 65_536
LONGEST_ADDRESS_BYTES = 107  # unix(7); longer paths are reached through the folder's descriptor


class StatusSocket:
    """A context manager that answers as long as it is open; without a folder for the socket it stays silent.

    Attributes:
        pulse: Whether its thread gets on.
    """

    def __init__(self, file: Path, say: Callable[[], dict[str, Any]]) -> None:
        """Nothing is open yet.

        Args:
            file: Where the socket appears.
            say: Makes the answer; called in a thread of its own.
        """
        self._file = file
        self._say = say
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._answer, name="status", daemon=True)
        self.pulse = Pulse(self._thread)

    def __enter__(self) -> StatusSocket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with suppress(FileNotFoundError):
                self._file.unlink()  # of a run that was killed
            earlier = os.umask(0o177)
            try:
                _through_its_folder(self._file, listening.bind)
            finally:
                os.umask(earlier)
            listening.listen(4)
        except OSError as refused:
            listening.close()
            log.info("no status socket at %s (%s)", self._file, refused.strerror)
            return self
        self._socket = listening
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._socket is None:
            return
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(PATIENCE_S)
        self._socket.close()
        with suppress(FileNotFoundError):
            self._file.unlink()

    def _answer(self) -> None:
        assert self._socket is not None
        while True:
            self.pulse.beat(rest_s=math.inf)
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return  # closed
            self.pulse.beat()
            with visitor:
                try:
                    visitor.settimeout(PATIENCE_S)
                    visitor.sendall(json.dumps(self._say()).encode())
                except OSError:
                    continue  # who hangs up early gets nothing
                except Exception:  # one question without an answer; the next may have one
                    log.exception("the status could not be told")


def ask(file: Path) -> dict[str, Any] | None:
    """What the running service says; None when none runs there.

    Raises:
        SnelliusError: This user may not ask, or no sensible answer came.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(PATIENCE_S)
        try:
            _through_its_folder(file, asking.connect)
            told = b""
            while len(told) < LONGEST_BYTES and (more := asking.recv(LONGEST_BYTES)):
                told += more
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise SnelliusError(
                f"{file}: only root and the user of the service may ask (sudo snellius status)"
            ) from None
        except OSError as failure:
            raise SnelliusError(f"{file}: the service does not answer ({failure.strerror or failure})") from None
    try:
        answer = json.loads(told)
    except ValueError:
        raise SnelliusError(f"{file}: expected the status of a service, got something else") from None
    return answer if isinstance(answer, dict) else None


def _through_its_folder(file: Path, use: Callable[[str], object]) -> None:
    """Call with an address of the socket that is short enough."""
    if len(os.fsencode(file)) <= LONGEST_ADDRESS_BYTES:
        use(str(file))
        return
    folder = os.open(file.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        use(f"/proc/self/fd/{folder}/{file.name}")
    finally:
        os.close(folder)
