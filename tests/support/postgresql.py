"""A real PostgreSQL of the test's own: made in a temporary folder, on a free port of 127.0.0.1, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.broker import free_port
from tests.support.mosquitto import HOST, eventually

USER = "snellius"
# Ends with whoever holds the other end of its standard input; SIGINT is PostgreSQL's fast shutdown.
GUARD = '"$@" </dev/null & server=$!; read -r line; kill -INT "$server" 2>/dev/null; wait "$server"'
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=40")


class PostgreSql:
    """A running server.

    Attributes:
        port: Its TCP port.
        folder: Its data folder.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.folder = folder
        self._databases = 0

    def url(self, database: str = "postgres") -> str:
        """Address of a database."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"

    def new_database(self) -> str:
        """Address of a database that nobody has used."""
        import psycopg

        self._databases += 1
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE test{self._databases}")
        return self.url(f"test{self._databases}")

    def answers(self) -> bool:
        """Whether it takes connections."""
        import psycopg

        try:
            psycopg.connect(self.url(), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgresql(*, settings: tuple[str, ...] = QUICK) -> Iterator[PostgreSql]:
    """Make a cluster, run it, remove it. PostgreSQL refuses to run as root; then it runs as ``nobody``."""
    initdb, server = _program("initdb"), _program("postgres")
    folder = Path(tempfile.mkdtemp(prefix="snellius-postgresql-"))
    whose: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        whose = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        made = subprocess.run(
            [initdb, "-D", str(folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            capture_output=True, text=True, cwd=folder, **whose,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        running = PostgreSql(free_port(), folder / "data")
        options = [f"listen_addresses={HOST}", f"port={running.port}", f"unix_socket_directories={folder}", *settings]
        arguments = [part for option in options for part in ("-c", option)]
        with (folder / "log").open("wb") as log:
            guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", server, "-D", str(folder / "data"), *arguments],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder, **whose,
            )  # fmt: skip
        try:
            eventually(running.answers, 30.0, "PostgreSQL answers")
            yield running
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait(30)
    finally:
        shutil.rmtree(folder)


def _program(name: str) -> str:
    folders = [
        os.environ.get("PATH", os.defpath),
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
    ]
    found = shutil.which(name, path=":".join(folders))
    if found is None:
        pytest.skip(f"{name} is not installed (apt install postgresql)")
    return found
