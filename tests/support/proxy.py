"""A network between a device and its broker that can go wrong in the ways that networks do."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType

HOST = "127.0.0.1"
RESET_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class Proxy:
    """Passes bytes between clients and a port of this computer, until told to misbehave.

    Attributes:
        delay_s: Every piece of data waits so long. [s]
        is_swallowing: Data vanishes, connections stay: a router that lost its memory, a half-open connection.
        is_down: New connections are closed at once.
        port: Where clients connect.
    """

    def __init__(self, to_port: int) -> None:
        self.delay_s = 0.0
        self.is_swallowing = False
        self.is_down = False
        self._to_port = to_port
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(5)

    def reset(self) -> None:
        """Every connection ends with a reset."""
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
        self.cut()

    def cut(self) -> None:
        """Every connection ends."""
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._pairs = []

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_down:
                client.close()
                continue
            try:
                server = socket.create_connection((HOST, self._to_port), timeout=5)
            except OSError:
                client.close()
                continue
            self._pairs.append((client, server))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            source.settimeout(None)
            while data := source.recv(65536):
                if self.is_swallowing:
                    continue
                if self.delay_s:
                    time.sleep(self.delay_s)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
