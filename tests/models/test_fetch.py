from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.cli.models import app
from models import CatalogueError, Model, load_catalogue
from models.fetch import fetch

CONTENT = bytes(range(256)) * 4000  # about a megabyte


class Origin:
    """A server on loopback that knows ranges and can hang up half-way."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.asked: list[tuple[str, str | None]] = []
        self.breaks_off_after: int | None = None
        self.knows_ranges = True
        origin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                origin.asked.append((self.path, wanted))
                if self.path.endswith("absent.pt"):
                    self.send_error(404)
                    return
                first = 0
                if wanted is not None and origin.knows_ranges:
                    first = int(wanted.removeprefix("bytes=").rstrip("-"))
                    if first >= len(origin.content):
                        self.send_error(416)
                        return
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(origin.content) - first))
                self.end_headers()
                last = len(origin.content) if origin.breaks_off_after is None else first + origin.breaks_off_after
                self.wfile.write(origin.content[first:last])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    origin = Origin()
    thread = threading.Thread(target=origin.server.serve_forever, daemon=True)
    thread.start()
    yield origin
    origin.server.shutdown()
    origin.server.server_close()
    thread.join(10)


def a_model(folder: Path, origin: Origin, file: str = "net.pt") -> Model:
    return replace(
        load_catalogue().find(),
        name="net",
        file=folder / "models" / file,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        url=f"{origin.url}/release/{file}",
    )


def test_a_file_is_fetched_and_told_as_it_grows(tmp_path: Path, origin: Origin) -> None:
    told: list[tuple[int, int | None]] = []

    file = fetch(a_model(tmp_path, origin), report=lambda done, of: told.append((done, of)))

    assert file.read_bytes() == CONTENT
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_what_is_here_already_is_not_asked_for(tmp_path: Path, origin: Origin) -> None:
    model = a_model(tmp_path, origin)
    fetch(model)
    fetch(model)

    assert len(origin.asked) == 1


def test_a_broken_download_leaves_no_model_and_is_gone_on_with(tmp_path: Path, origin: Origin) -> None:
    model = a_model(tmp_path, origin)
    origin.breaks_off_after = 300_000
    with pytest.raises(CatalogueError, match=r"model net: .*broke off after 300000 of 1024000 bytes; fetch again"):
        fetch(model)
    assert not model.file.exists()
    origin.breaks_off_after = None

    assert fetch(model).read_bytes() == CONTENT
    assert origin.asked[-1] == ("/release/net.pt", "bytes=300000-")


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_source_with_another_file_than_was_begun_is_begun_anew(
    tmp_path: Path, origin: Origin, knows_ranges: bool
) -> None:
    model = a_model(tmp_path, origin)
    model.file.parent.mkdir()
    model.file.with_name("net.pt.part").write_bytes(b"of yesterday" * 1000)
    origin.knows_ranges = knows_ranges

    assert fetch(model).read_bytes() == CONTENT


def test_a_complete_part_is_only_checked(tmp_path: Path, origin: Origin) -> None:
    model = a_model(tmp_path, origin)
    model.file.parent.mkdir()
    model.file.with_name("net.pt.part").write_bytes(CONTENT)

    assert fetch(model).read_bytes() == CONTENT
    assert len(origin.asked) == 1  # the server said that there is no more


def test_another_file_is_refused_and_not_kept(tmp_path: Path, origin: Origin) -> None:
    model = a_model(tmp_path, origin)
    origin.content = CONTENT[:-1] + b"!"

    with pytest.raises(CatalogueError, match=r"model net: expected sha256 [0-9a-f]{12}…, fetched [0-9a-f]{12}… \("):
        fetch(model)
    assert list(model.file.parent.iterdir()) == []


def test_a_model_that_is_there_survives_a_failed_fetch(tmp_path: Path, origin: Origin) -> None:
    model = a_model(tmp_path, origin)
    model.file.parent.mkdir()
    model.file.write_bytes(b"an older one")
    origin.content = b"wrong"

    with pytest.raises(CatalogueError, match="expected sha256"):
        fetch(model)
    assert model.file.read_bytes() == b"an older one"


def test_a_mirror_may_be_a_folder_or_an_address(tmp_path: Path, origin: Origin) -> None:
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb" / "net.pt").write_bytes(CONTENT)
    model = a_model(tmp_path, origin)

    assert fetch(model, mirror=str(tmp_path / "usb")).read_bytes() == CONTENT
    assert origin.asked == []
    model.file.unlink()
    fetch(model, mirror=f"{origin.url}/mirror/")
    assert origin.asked == [("/mirror/net.pt", None)]


def test_a_proxy_is_asked_for_the_whole_address(tmp_path: Path, origin: Origin) -> None:
    model = replace(a_model(tmp_path, origin), url="http://models.example/net.pt")

    assert fetch(model, proxy=origin.url).read_bytes() == CONTENT
    assert origin.asked == [("http://models.example/net.pt", None)]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        pytest.param({"file": "absent.pt"}, r"model net: .*absent\.pt: the server said 404", id="not there"),
        pytest.param({"mirror": "/nowhere"}, r"model net: /nowhere/net\.pt: No such file", id="no such mirror"),
        pytest.param({"mirror": "http://127.0.0.1:9"}, "model net: cannot be fetched: .*refused", id="nobody answers"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_one_line(
    tmp_path: Path, origin: Origin, changed: dict[str, str], says: str
) -> None:
    with pytest.raises(CatalogueError, match=says) as told:
        fetch(a_model(tmp_path, origin, changed.get("file", "net.pt")), mirror=changed.get("mirror"))
    assert "\n" not in str(told.value)


def test_a_model_that_is_not_here_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLIUS_MODELS", str(tmp_path))
    model = load_catalogue().find("yolo11n")

    assert model.file == tmp_path / "yolo11n.pt"
    with pytest.raises(CatalogueError, match=r"not on this device \(snellius models fetch yolo11n\)"):
        model.verified_file()


def test_the_licence_is_said_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLIUS_MODELS", str(tmp_path))
    (tmp_path / "usb").mkdir()

    result = CliRunner().invoke(app, ["fetch", "yolo11n", "--mirror", str(tmp_path / "usb")])

    assert "AGPL-3.0" in result.output
    assert "complete source" in result.output
    assert "yolo11n.pt: No such file" in str(result.exception)


def test_only_asking_fetches() -> None:
    """Nothing but the verb knows how to fetch, so no service start can."""
    root = Path(__file__).resolve().parents[2]
    users = [
        file.relative_to(root).as_posix()
        for folder in ("edge", "models", "calibration")
        for file in (root / folder).rglob("*.py")
        if "models.fetch" in file.read_text(encoding="utf-8")
    ]
    assert users == ["edge/cli/models_fetch.py"]
