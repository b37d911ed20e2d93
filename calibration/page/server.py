"""Serves the page to one technician: one secret address, one still, one draft, no one else's scripts.

Every path begins with a token that is drawn anew at each start; without it nothing is answered but 403. The Host
header must name the address that the connection came in at, so that no foreign web page can reach the device through a
name of its own (DNS rebinding), and a write must come from the page itself (Origin). The page may load nothing from
elsewhere and nothing may frame it (Content-Security-Policy).
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import threading
from datetime import datetime, timezone
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from calibration.certificate import Calibration
from calibration.errors import CalibrationError
from calibration.page.draft import Draft
from calibration.page.workbench import Workbench
from calibration.still import Still

LANGUAGES = ("nl", "en")
MAX_BODY_BYTES = 1_000_000  # two hundred marks are a twentieth of it
IDLE_S = 30.0  # a connection that says nothing is closed
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class PageServer(ThreadingHTTPServer):
    """The page on one address, until the calibration is saved.

    Attributes:
        saved: The calibration, None until it was saved.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, *, still: Still, workbench: Workbench, host: str = "127.0.0.1", port: int = 0, language: str | None = None
    ) -> None:
        """Listen, without answering yet.

        Args:
            still: What is clicked in.
            workbench: What judges and saves.
            host: Address to listen at, IPv4.
            port: 0 for any free one.
            language: What the page begins in; None: the browser's own, English when it has neither.

        Raises:
            OSError: The address is in use, or not of this computer.
        """
        self.still, self.workbench, self.language = still, workbench, language
        self.saved: Calibration | None = None
        self._token = secrets.token_urlsafe(18)
        super().__init__((host, port), _Answer)

    @property
    def address(self) -> str:
        """What to open in a browser, 0.0.0.0 left as it is."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/{self._token}/"

    def serve_until_saved(self) -> Calibration | None:
        """Answers until the calibration is saved, or :meth:`shutdown` is called."""
        try:
            self.serve_forever(poll_interval=0.1)
        finally:
            self.server_close()
        return self.saved

    @cached_property
    def files(self) -> dict[str, tuple[str, bytes]]:
        """Everything that can be fetched, by name: kind and content."""
        folder = resources.files("calibration.page") / "static"
        found = {
            item.name: (_KINDS["." + item.name.rsplit(".", 1)[-1]], item.read_bytes()) for item in folder.iterdir()
        }
        found[""] = found.pop("page.html")
        found["still.png"] = ("image/png", self.still.png())
        return found

    def is_secret(self, text: str) -> bool:
        """Whether a text is the token, in a time that does not depend on how much of it is right."""
        return hmac.compare_digest(text.encode(), self._token.encode())

    def begin(self) -> dict[str, Any]:
        """What the page needs to begin with."""
        workbench, still = self.workbench, self.still
        return {
            "key": workbench.key,
            "image_size_px": list(workbench.image_size_px),
            "language": self.language,
            "folder": str(workbench.folder),
            "taken": None if still.taken is None else f"{still.taken:%Y-%m-%d}",
            "expires": None if still.expires is None else f"{still.expires:%Y-%m-%d}",
            "draft": workbench.draft.as_json(),
        }

    def judge(self, content: Any) -> tuple[HTTPStatus, dict[str, Any]]:
        """Keeps a newer draft and says what it amounts to."""
        assessment = self.workbench.update(Draft.from_json(content))
        if assessment is None:
            return HTTPStatus.CONFLICT, {"draft": self.workbench.draft.as_json()}
        return HTTPStatus.OK, self.workbench.as_json(assessment)

    def save(self, content: Any) -> tuple[HTTPStatus, dict[str, Any]]:
        """Saves, or says why not."""
        draft = Draft.from_json(content)
        if draft.revision < self.workbench.draft.revision:
            return HTTPStatus.CONFLICT, {"draft": self.workbench.draft.as_json()}
        self.saved = self.workbench.save(draft, datetime.now(timezone.utc))
        if self.saved is None:
            return HTTPStatus.UNPROCESSABLE_ENTITY, self.workbench.as_json(self.workbench.assess())
        return HTTPStatus.OK, {"id": self.saved.id, "expires": f"{self.saved.expires:%Y-%m-%d}"}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in the middle is no news; anything else is."""
        import sys

        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Answer(BaseHTTPRequestHandler):
    """One request."""

    server: PageServer
    server_version, sys_version = "snellius", ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        name = self._name()
        if name is None:
            return
        if name == "begin":
            self._send_json(HTTPStatus.OK, self.server.begin())
        elif name in self.server.files:
            self._send(HTTPStatus.OK, *self.server.files[name])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        name = self._name()
        if name is None:
            return
        act = {"draft": self.server.judge, "save": self.server.save}.get(name)
        if act is None:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
            return
        content = self._content()
        if content is None:
            return
        try:
            self._send_json(*act(content))
        except CalibrationError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        if self.server.saved is not None:  # told by now; from another thread, because shutdown waits for the server's
            threading.Thread(target=self.server.shutdown, daemon=True).start()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address is a secret."""

    def _name(self) -> str | None:
        """What is asked for, after token and host are checked; None when the request was refused."""
        token, _, name = self.path.lstrip("/").partition("?")[0].partition("/")
        if not self._is_for_us():
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "open the address exactly as it was printed")
        elif not self.server.is_secret(token):
            self._refuse(HTTPStatus.FORBIDDEN, "open the address exactly as it was printed")
        else:
            return name
        return None

    def _is_for_us(self) -> bool:
        """Whether the Host header names the address that the connection came in at."""
        host, _, port = self.headers.get("Host", "").rpartition(":")
        address, own_port = self.connection.getsockname()[:2]
        if port != str(own_port):
            return False
        return host == address or (host == "localhost" and ipaddress.ip_address(address).is_loopback)

    def _content(self) -> dict[str, Any] | None:
        """The JSON object that was sent; None when the request was refused."""
        length, here = self.headers.get("Content-Length", ""), f"http://{self.headers['Host']}"
        if self.headers.get("Origin", here) != here:
            self._refuse(HTTPStatus.FORBIDDEN, "not from another page")
        elif self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        elif not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_BODY_BYTES} bytes")
        else:
            try:
                content = json.loads(self.rfile.read(int(length)))
            except (ValueError, RecursionError):
                content = None
            if isinstance(content, dict):
                return content
            self._refuse(HTTPStatus.BAD_REQUEST, "expected a JSON object")
        return None

    def _refuse(self, status: HTTPStatus, says: str) -> None:
        self.close_connection = True
        self._send(status, "text/plain; charset=utf-8", says.encode())

    def _send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(content, allow_nan=False).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
