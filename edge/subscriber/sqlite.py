"""The store in a file: one computer, no server. Several processes may share it; they take turns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BadInput
from edge.subscriber.database import Row, StoreUnavailable

BUSY_S = 30.0  # how long one process waits for another to finish its transaction


class Sqlite:
    """A connection to a file; see :class:`edge.subscriber.database.Database`."""

    bins_view = """
        SELECT device, epoch, seq, direction, day, start_ms, end_ms,
            lowest + bin.key * width AS from_kmh, lowest + (bin.key + 1) * width AS to_kmh, bin.value AS vehicles
        FROM (SELECT *, json_extract(body, '$.speed.hist.from') AS lowest,
                  json_extract(body, '$.speed.hist.width') AS width FROM message WHERE kind = 'flow') AS flow,
            json_each(body, '$.speed.hist.counts') AS bin"""

    def __init__(self, path: str, *, create: bool) -> None:
        file = Path(path)
        if file.is_dir() or not (file.exists() or create):
            found = "a directory" if file.is_dir() else "no such file"
            raise BadInput(f"--store: {path}: expected a store written by 'snellius subscribe run', found {found}")
        try:
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power cut
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as error:
            raise BadInput(f"--store: {path}: expected an SQLite file that can be written: {error}") from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        with _free():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Execute a statement."""
        return self._connection.execute(sql, tuple(values)).rowcount

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Execute a statement for each row of values."""
        return self._connection.executemany(sql, rows).rowcount

    def rows(self, sql: str, values: Sequence[object] = ()) -> Iterator[Row]:
        """The rows of a query."""
        with _free():
            yield from self._connection.execute(sql, tuple(values))

    def wipe(self) -> None:
        """Deleted content was overwritten with zeros (``secure_delete``); the log that still holds it is emptied."""
        with _free():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


@contextmanager
def _free() -> Iterator[None]:
    """What another process does to the file is told as unavailable."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"the store: {error}") from error
