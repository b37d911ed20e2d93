"""What the running service says to whoever stands below the pole."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from edge.errors import SnelliusError
from edge.status_socket import StatusSocket, ask


def test_who_asks_hears_how_the_service_is(tmp_path: Path) -> None:
    with StatusSocket(tmp_path / "status", lambda: {"state": "ready"}):
        assert ask(tmp_path / "status") == {"state": "ready"}
        assert ask(tmp_path / "status") == {"state": "ready"}
    assert ask(tmp_path / "status") is None
    assert not (tmp_path / "status").exists()


def test_nobody_answers_where_no_service_runs(tmp_path: Path) -> None:
    assert ask(tmp_path / "nothing" / "status") is None


def test_a_socket_that_a_killed_service_left_is_no_hindrance(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "status"))
    assert ask(tmp_path / "status") is None
    with StatusSocket(tmp_path / "status", lambda: {"state": "ready"}):
        assert ask(tmp_path / "status") == {"state": "ready"}


def test_only_its_own_user_may_ask(tmp_path: Path) -> None:
    with StatusSocket(tmp_path / "status", dict):
        assert stat.S_IMODE((tmp_path / "status").stat().st_mode) == 0o600


def test_a_folder_with_a_long_name_is_reached_too(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    with StatusSocket(folder / "status", lambda: {"state": "ready"}):
        assert ask(folder / "status") == {"state": "ready"}


def test_without_its_folder_the_service_runs_and_stays_silent(tmp_path: Path) -> None:
    with StatusSocket(tmp_path / "nothing" / "status", dict):
        assert ask(tmp_path / "nothing" / "status") is None


def test_a_visitor_who_says_nothing_and_one_who_hangs_up_keep_nobody_waiting(tmp_path: Path) -> None:
    file = tmp_path / "status"
    with StatusSocket(file, lambda: {"long": "x" * 50_000}), socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(file))
        with socket.socket(socket.AF_UNIX) as hasty:
            hasty.connect(str(file))
        assert ask(file) == {"long": "x" * 50_000}


def test_something_else_behind_the_socket_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "status"))
        other.listen()

        def answer() -> None:
            visitor, _ = other.accept()
            with visitor:
                visitor.sendall(b"hello")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SnelliusError, match="expected the status of a service"):
            ask(tmp_path / "status")
        thread.join()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may ask everybody")
def test_somebody_else_is_told_who_may_ask(tmp_path: Path) -> None:
    with StatusSocket(tmp_path / "status", lambda: json.loads("{}")):
        (tmp_path / "status").chmod(0)
        with pytest.raises(SnelliusError, match="sudo snellius status"):
            ask(tmp_path / "status")
