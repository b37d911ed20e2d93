"""What the store asks of a database, in the SQL that SQLite and PostgreSQL share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol
from urllib.parse import urlsplit

from edge.errors import BadInput, SnelliusError

Row = tuple[Any, ...]


class StoreUnavailable(SnelliusError):
    """The database cannot be reached or is busy at the moment: try again later, nothing was stored."""


class Database(Protocol):
    """One connection.

    Statements use ``?`` for values. Transactions, queries and wiping raise :class:`StoreUnavailable` when the database
    is away or busy.

    Attributes:
        bins_view: SELECT of the view ``bins``, the one that the two must spell differently.
    """

    bins_view: str

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing."""

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Execute a statement; how many rows it touched."""

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Execute a statement for each row of values; how many rows were touched in all."""

    def rows(self, sql: str, values: Sequence[object] = ()) -> Iterator[Row]:
        """The rows of a query, fetched bit by bit."""

    def wipe(self) -> None:
        """Overwrite or give back the room of deleted rows, so that their content is gone."""

    def close(self) -> None:
        """End the connection."""


def open_database(url: str, *, create: bool) -> Database:
    """Connect.

    Args:
        url: ``postgresql://[USER@]HOST[:PORT]/NAME``, ``sqlite:///PATH`` or simply a path.
        create: Make a SQLite file that does not exist.

    Raises:
        BadInput: The address is wrong or names a password, or the file does not exist.
        BackendUnavailable: PostgreSQL needs the extra 'subscriber'.
        StoreUnavailable: The database does not answer.
    """
    parts = urlsplit(url)
    if parts.scheme in ("postgresql", "postgres"):
        if parts.password is not None or "password=" in parts.query:
            raise BadInput("--store: expected no password in the address (use ~/.pgpass or PGPASSFILE)")
        from edge.subscriber.postgresql import PostgreSql

        return PostgreSql(url)
    if parts.scheme not in ("", "sqlite") or (parts.scheme == "sqlite" and not url.startswith("sqlite:///")):
        raise BadInput(f"--store: expected postgresql://…, sqlite:///PATH or a path, got '{url}'")
    from edge.subscriber.sqlite import Sqlite

    return Sqlite(url.removeprefix("sqlite:///"), create=create)
