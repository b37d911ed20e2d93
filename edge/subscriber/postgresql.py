"""The store in PostgreSQL: the real thing for a city. Plain tables and views, no extension."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edge.errors import BackendUnavailable
from edge.subscriber.database import Row, StoreUnavailable

try:
    import psycopg
except ImportError as missing:
    raise BackendUnavailable("a store in PostgreSQL needs: pip install 'snellius[subscriber]'") from missing

CONNECT_TIMEOUT_S = 10
FETCHED_AT_ONCE = 2000


class PostgreSql:
    """A connection that is made anew when it was lost; see :class:`edge.subscriber.database.Database`."""

    bins_view = """
        SELECT device, epoch, seq, direction, day, start_ms, end_ms,
            (hist ->> 'from')::int + (bin.place - 1) * (hist ->> 'width')::int AS from_kmh,
            (hist ->> 'from')::int + bin.place * (hist ->> 'width')::int AS to_kmh,
            bin.vehicles::int AS vehicles
        FROM (SELECT *, body::jsonb -> 'speed' -> 'hist' AS hist FROM message WHERE kind = 'flow') AS flow,
            jsonb_array_elements_text(hist -> 'counts') WITH ORDINALITY AS bin (vehicles, place)"""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection = self._connected()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        with self._reached(), self._connection.transaction():
            yield

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Execute a statement."""
        return self._connection.execute(_spelled(sql), tuple(values)).rowcount

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Execute a statement for each row of values."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_spelled(sql), rows)
            return cursor.rowcount

    def rows(self, sql: str, values: Sequence[object] = ()) -> Iterator[Row]:
        """The rows of a query; a cursor of the server keeps a year of windows out of our memory."""
        with self._reached(), self._connection.transaction(), self._connection.cursor(name="snellius") as cursor:
            cursor.itersize = FETCHED_AT_ONCE
            cursor.execute(_spelled(sql), tuple(values))
            yield from cursor

    def wipe(self) -> None:
        """Write the table anew without the deleted rows; the server empties the old file at once."""
        with self._reached():
            self._connection.execute("VACUUM (FULL) message")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """A connection, made anew when it was lost; what the server or the line does to it is told as unavailable."""
        if self._connection.closed:
            self._connection = self._connected()
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise StoreUnavailable(f"the store: {_line(error)}") from error

    def _connected(self) -> psycopg.Connection[Row]:
        try:
            return psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S)
        except psycopg.Error as error:
            raise StoreUnavailable(f"the store: {_line(error)}") from None


def _spelled(sql: str) -> str:
    return sql.replace("?", "%s")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
