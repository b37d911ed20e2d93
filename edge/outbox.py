"""What was released stays here until the platform has it: exactly once from counter to queue, never silently lost.

SQLite in WAL mode with ``synchronous=FULL``. Releases and the counters that stay behind are written in one transaction,
so a power cut at any instant leaves either both or neither. Every release gets a number without gaps when it is first
handed to the publisher; together with the epoch, a random name made with the database, it is unique for ever. Sent
releases stay for 35 days, so that the platform can ask for a number that it misses.

When the file reaches its size limit, room is made in this order: what the platform has acknowledged, oldest first;
what the broker has taken, oldest first; then the oldest waiting windows of a direction are joined in pairs, so that
totals survive; then the oldest waiting day mix is dropped. The newest is never dropped. The same happens when the disk
has no more room, whoever took it: the file then grows no further, and a small file beside it keeps the room that the
journal of one change needs.

A damaged file is renamed aside and a new epoch begins, with what of the old one can be read, is intact by its checksum,
and was never handed out: those windows have no number yet, so that none can arrive twice. Damage inside a record, which
SQLite does not notice, is found by checksums when the file is opened. A disk that refuses to be written costs nothing
as long as the service runs: changes wait in memory, and the file is opened anew at every attempt.

The file is held exclusively: a second service on it is refused. One object may be used by several threads; a lock lets
one in at a time.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from edge.domain import Counters, DayMix, Flag, PrivacyRule, Queued, Relabelling, Release, Settlement, WindowAggregate
from edge.errors import BadInput, OutboxFull, OutboxUnwritable

log = logging.getLogger(__name__)

RETENTION_DAYS = 35.0  # a platform that was away for a month can still ask for everything
MAX_BYTES = 64 * 1024 * 1024  # more than a year of waiting windows of a busy street
LEAST_BYTES = 256 * 1024  # the counters of both directions and a few dozen windows
RESERVE_BYTES = 1024 * 1024  # more than the journal of any step below; kept on the disk, so that a full one can be left
MOST_FORGOTTEN, MOST_JOINED = 256, 64  # rows in one step of making room, so that its journal stays that small
JOURNAL_PAGES = 64  # then what it holds goes into the file
RESERVED_PAGES = 8  # marking, numbering and joining must work when no new record fits any more
LONGEST_DELAY_NS = 120_000_000_000  # held back for longer: dated by a wall clock that has stepped back since
HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS

_APPLICATION_ID = 0x534E454C  # "SNEL": this file is ours
# The n-th brings a file of schema version n - 1 to version n. An upgrade that fails is taken back after the new version
# has opened the file, so a step only adds: tables, indices, columns with a default. The version before works on such a
# file as if nothing were there; every statement names its columns. A step that cannot be like that raises _OLDEST to
# its number: versions before it then refuse the file.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE identity (epoch TEXT NOT NULL, next_seq INTEGER NOT NULL)",
        "CREATE TABLE counters (name TEXT PRIMARY KEY, body TEXT NOT NULL, crc INTEGER NOT NULL)",
        """CREATE TABLE queue (
            row INTEGER PRIMARY KEY,
            seq INTEGER UNIQUE,
            direction TEXT,
            body TEXT NOT NULL,
            crc INTEGER NOT NULL,
            not_before_utc_ns INTEGER NOT NULL,
            handed_utc_ns INTEGER,
            sent INTEGER NOT NULL DEFAULT 0,
            acked INTEGER NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX waiting ON queue (sent, seq, row)",
    ),
)
_OLDEST = 1  # the oldest schema version whose software can work on a file of the newest
_OLDEST_UNIT = 1 << 16  # user_version holds both: the oldest in its upper half (0: the same as the file's own)
_ENVIRONMENT = (
    "unable to open",
    "locked",
    "disk i/o error",
    "disk is full",
    "permission",
    "readonly",
)  # not the file's own fault

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the outbox holds, for status and doctor.

    Attributes:
        waiting: Releases that the broker has not taken yet.
        archived: Releases that it has taken and that can be sent again.
        joined: Windows that were joined with another since opening, because storage was full.
        dropped_mixes: Day mixes that were dropped since opening, because storage was full.
    """

    waiting: int
    archived: int
    joined: int
    dropped_mixes: int


class Outbox:
    """The queue between measuring and publishing.

    Attributes:
        epoch: Random name of this database, 8 hexadecimal digits.
        set_aside: Why an older file was renamed aside at opening; None when it was sound or there was none.
    """

    epoch: str
    set_aside: str | None

    def __init__(self, path: Path, *, retention_days: float = RETENTION_DAYS, max_bytes: int = MAX_BYTES) -> None:
        """Open the file, or make it (readable by its owner only).

        Args:
            path: The database file; its folder must exist.
            retention_days: How long sent releases can be sent again. [d]
            max_bytes: Largest size of the file; its journal comes on top. [B]

        Raises:
            BadInput: The file cannot be opened or written, is in use, belongs to something else, or was made by a
                newer version of this software.
            ValueError: A limit is too small.
        """
        if max_bytes < LEAST_BYTES or retention_days < 0:
            raise ValueError(f"expected max_bytes ≥ {LEAST_BYTES} and retention_days ≥ 0")
        self._path = Path(path)
        self._retention_ns = round(retention_days * DAY_NS)
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._unwritten: list[Settlement] = []
        self._joined = 0
        self._dropped_mixes = 0
        self._expired_utc_ns: int | None = None
        self.set_aside = None
        self._is_lost = False  # the file must be opened anew
        try:
            self._open()
        except _Damaged as damage:
            self._begin_anew(damage)
        self._keep_reserve()

    # -------------------------------------------------------------------------------------------- the measuring side

    def commit(self, settlement: Settlement) -> None:
        """Queue what was released and keep the counters that stay, in one transaction.

        Raises:
            OutboxFull: It could not be written and no room could be made. The settlement is kept in memory and
                written together with the next one.
        """
        if not all(isinstance(each, Release) for each in settlement.releases):
            raise TypeError("only a Release may leave the device")
        with self._lock:
            self._unwritten.append(settlement)
            self._write(self._insert_unwritten, is_new=True)
            self._unwritten.clear()
            self._forget_journal()

    def checkpoint(self, windows_state: dict[str, Any], trend_state: dict[str, Any] | None = None) -> None:
        """Keep the counters of the open slots, and what the slow checks keep; a restart goes on from here.

        Raises:
            OutboxFull: It could not be written; the checkpoint before stays valid.
        """

        def keep(database: sqlite3.Connection) -> None:
            self._insert_unwritten(database)
            _put_counters(database, "windows", windows_state)
            if trend_state is not None:
                _put_counters(database, "trend", trend_state)

        with self._lock:
            self._write(keep, is_new=bool(self._unwritten))
            self._unwritten.clear()
            self._forget_journal()

    def relabel(self, step: Relabelling, windows_state: dict[str, Any], anonymity_state: dict[str, Any]) -> None:
        """The time has become known: move what waits without a number onto it, with the counters, in one transaction.

        Raises:
            OutboxError: It could not be written; the labels stay as they were, told as unset.
        """

        def move(database: sqlite3.Connection) -> None:
            self._insert_unwritten(database)
            rows = database.execute(
                "SELECT row, body, not_before_utc_ns FROM queue WHERE sent = 0 AND seq IS NULL"
            ).fetchall()
            for row, body, not_before_utc_ns in rows:
                queued = _queued("", 0, body)
                record = step.of(queued.record)
                if record is queued.record:
                    continue
                moved = _body(record, queued.k, queued.rule)
                database.execute(
                    "UPDATE queue SET body = ?, crc = ?, not_before_utc_ns = ? WHERE row = ?",
                    (moved, _checksum(moved), not_before_utc_ns + step.shift_ns, row),
                )
            _put_counters(database, "windows", windows_state)
            _put_counters(database, "anonymity", anonymity_state)

        with self._lock:
            self._write(move)
            self._unwritten.clear()
            self._forget_journal()

    def restored(self) -> Counters:
        """The counters that an earlier run left."""
        with self._lock:
            rows = self._read("SELECT name, body FROM counters")
        bodies: dict[str, dict[str, Any]] = {name: json.loads(body) for name, body in rows}
        return Counters(windows=bodies.get("windows"), anonymity=bodies.get("anonymity"), trend=bodies.get("trend"))

    # -------------------------------------------------------------------------------------------- the publishing side

    def due(self, now_utc_ns: int, limit: int = 10) -> list[Queued]:
        """What may be sent now, oldest first; a number is given here and never changes.

        Whatever was handed out and is not marked as sent is handed out again. Also forgets sent releases that are
        older than the retention.

        Args:
            now_utc_ns: Wall clock. [ns]
            limit: At most so many.
        """
        with self._lock:
            self._expire(now_utc_ns)
            epoch = self.epoch
            rows = self._read(
                "SELECT row, seq, body, not_before_utc_ns FROM queue"
                " WHERE sent = 0 ORDER BY seq IS NULL, seq, row LIMIT ?",
                (limit,),
            )
            handed: list[tuple[int, int | None, str]] = []
            for row, seq, body, not_before_utc_ns in rows:
                if seq is None and now_utc_ns < not_before_utc_ns <= now_utc_ns + LONGEST_DELAY_NS:
                    break  # those behind it wait as well: numbers follow the order of release
                handed.append((row, seq, body))
            numbers = {row: seq for row, seq, _ in handed if seq is not None}
            fresh = [row for row, seq, _ in handed if seq is None]
            if fresh:
                numbers |= self._write(lambda database: _number(database, fresh, now_utc_ns))
            if self.epoch != epoch:  # the file was found damaged just now: what was read from it has other numbers
                return []
        return [_queued(self.epoch, numbers[row], body) for row, _, body in handed]

    def mark_sent(self, seq: int, epoch: str | None = None) -> None:
        """The broker has taken this number; nothing is noted when another epoch has begun meanwhile."""
        with self._lock:
            if epoch not in (None, self.epoch):
                return
            self._write(lambda database: database.execute("UPDATE queue SET sent = 1 WHERE seq = ?", (seq,)))

    def ack(self, epoch: str, upto: int) -> bool:
        """The platform has everything up to this number.

        Returns:
            False when it speaks of another epoch; nothing is changed then.
        """
        if epoch != self.epoch:
            return False
        with self._lock:
            self._write(
                lambda database: database.execute(
                    "UPDATE queue SET sent = 1, acked = 1 WHERE seq <= ?", (_number_of(upto),)
                )
            )
        return True

    def resend(self, first: int, last: int) -> int:
        """Queue numbers again that the platform misses, both ends included.

        Returns:
            How many of them are queued; the others were never given or are past the retention.
        """
        with self._lock:
            return self._write(
                lambda database: (
                    database.execute(
                        "UPDATE queue SET sent = 0, acked = 0 WHERE seq BETWEEN ? AND ?",
                        (_number_of(first), _number_of(last)),
                    ).rowcount
                )
            )

    @property
    def given_way(self) -> int:
        """Windows joined and mixes dropped since opening, because storage was full."""
        return self._joined + self._dropped_mixes

    def inventory(self) -> Inventory:
        """What it holds."""
        with self._lock:
            ((archived, waiting),) = self._read(
                "SELECT count(*) FILTER (WHERE sent), count(*) FILTER (WHERE NOT sent) FROM queue"
            )
        return Inventory(waiting, archived, self._joined, self._dropped_mixes)

    def close(self) -> None:
        """Write everything into the one file and let go of it."""
        with self._lock:
            with suppress(sqlite3.ProgrammingError):  # a disk that refused to the end: it is closed already
                self._forget_journal()
            self._database.close()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------- the file

    def _open(self) -> None:
        if not self._path.parent.is_dir():
            raise BadInput(f"{self._path}: expected an existing folder {self._path.parent}")
        try:
            if not self._path.exists():
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._path.chmod(0o600)
        except OSError as error:
            raise BadInput(
                f"{self._path}: expected a file of this user that can be written: {error.strerror}"
            ) from error
        database = sqlite3.connect(self._path, timeout=2.0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(database)
        except sqlite3.DatabaseError as error:
            database.close()
            if isinstance(error, sqlite3.OperationalError) and any(each in str(error).lower() for each in _ENVIRONMENT):
                hint = "; is another service using it?" if "locked" in str(error) else ""
                raise BadInput(f"{self._path}: {error}{hint}") from error
            raise _Damaged(str(error)) from error
        except UnicodeDecodeError as error:  # the damage stands in what SQLite wanted to say about it
            database.close()
            raise _Damaged("its tables cannot be read") from error
        except (BadInput, _Damaged):
            database.close()
            raise
        self._database = database

    def _prepare(self, database: sqlite3.Connection) -> None:
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            database.execute(f"PRAGMA {pragma}")
        database.execute(f"PRAGMA wal_autocheckpoint = {JOURNAL_PAGES}")
        (owner,) = database.execute("PRAGMA application_id").fetchone()
        (stamp,) = database.execute("PRAGMA user_version").fetchone()
        oldest, version = divmod(stamp, _OLDEST_UNIT)
        (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if owner != _APPLICATION_ID and tables:
            raise BadInput(f"{self._path}: expected an outbox of snellius, found another database")
        if version > len(_MIGRATIONS) and not 0 < oldest <= len(_MIGRATIONS):
            raise BadInput(
                f"{self._path}: made by a newer version (schema {version}, this one knows {len(_MIGRATIONS)})"
            )
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _Damaged(verdict)
        self._page_bytes: int = database.execute("PRAGMA page_size").fetchone()[0]
        self._pages: int = self._max_bytes // self._page_bytes
        database.execute("BEGIN IMMEDIATE")
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                database.execute(statement)
        if version < len(_MIGRATIONS):
            database.execute(f"PRAGMA user_version = {_OLDEST * _OLDEST_UNIT + len(_MIGRATIONS)}")
        if owner != _APPLICATION_ID:
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        if version == 0:
            database.execute("INSERT INTO identity (epoch, next_seq) VALUES (?, 1)", (secrets.token_hex(4),))
        database.execute("COMMIT")
        rows = database.execute("SELECT body, crc FROM counters UNION ALL SELECT body, crc FROM queue")
        if sum(_checksum(body) != crc for body, crc in rows):  # to the last row: an open question would keep its lock
            raise _Damaged("a checksum is wrong")
        identity = database.execute("SELECT epoch FROM identity").fetchall()
        if len(identity) != 1:
            raise _Damaged("it has lost its epoch")
        self.epoch = identity[0][0]

    def _begin_anew(self, damage: Exception) -> None:
        """Set the damaged file aside and go on with a new one, and with what of the old one is beyond doubt."""
        aside = self._rename_aside()
        self._open()
        counters, waiting = _intact(aside)
        with suppress(sqlite3.OperationalError):  # no room: the new file is sound all the same
            self._transact(lambda database: _put_back(database, counters, waiting), self._pages)
        self.set_aside = (
            f"{self._path.name} was damaged ({damage}); kept as {aside.name},"
            f" {len(waiting)} waiting windows {'and the counters ' if counters else ''}taken over"
        )
        log.error("outbox: %s; a new epoch begins", self.set_aside)

    def _rename_aside(self) -> Path:
        """Keep the damaged file for who wants to look; only the newest, so that damage cannot fill the card."""
        aside = self._path.with_name(self._path.name + ".damaged")
        for suffix in ("-wal", "-shm"):
            Path(f"{aside}{suffix}").unlink(missing_ok=True)  # of an earlier accident: it would belong to no file
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").replace(f"{aside}{suffix}")
        self._path.replace(aside)
        return aside

    def _forget_journal(self) -> None:
        """Move the journal into the file and empty it: older states of the counters would tell single vehicles."""
        try:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError as error:
            log.warning("outbox: the journal cannot be emptied (%s); it is tried again with the next change", error)
        self._keep_reserve()

    # ------------------------------------------------------------------------------------------------- room on the disk

    @property
    def _reserve(self) -> Path:
        return self._path.with_name(f"{self._path.name}-reserve")

    def _keep_reserve(self) -> None:
        """Hold room for a journal, as long as the disk has it."""
        if self._reserve.exists():
            return
        try:
            held = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(held, 0, RESERVE_BYTES)
            finally:
                os.close(held)
        except OSError:  # no room: none can be held
            with suppress(OSError):
                self._reserve.unlink()

    def _largest_pages(self) -> int:
        """Pages that the file may have now: by its limit, and by the room on the disk, which others may have taken."""
        free_bytes = self._free_bytes()
        if free_bytes < RESERVE_BYTES and self._reserve.exists():
            with suppress(OSError):
                self._reserve.unlink()
            free_bytes = self._free_bytes()
        pages: int = self._database.execute("PRAGMA page_count").fetchone()[0]
        return min(self._pages, pages + max(free_bytes - RESERVE_BYTES, 0) // self._page_bytes)

    def _free_bytes(self) -> int:
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return self._max_bytes + RESERVE_BYTES  # nobody knows; SQLite will say
        return disk.f_bavail * disk.f_frsize

    # ------------------------------------------------------------------------------------------------------- writing

    def _write(self, change: Callable[[sqlite3.Connection], _T], *, is_new: bool = False) -> _T:
        """Run a change in one transaction, making room as often as it takes; new records leave a few pages free."""
        self._open_again()
        while True:
            try:
                return self._transact(change, self._largest_pages() - (RESERVED_PAGES if is_new else 0))
            except sqlite3.OperationalError as error:
                if "full" not in str(error):
                    raise self._refused(error) from error
            except sqlite3.DatabaseError as damage:
                self._database.close()
                self._begin_anew(damage)
                continue
            if not self._make_room():
                raise OutboxFull(f"{self._path}: no space left, and nothing more can be joined or forgotten")

    def _read(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        """Rows of the file, or of the new one when it turns out to be damaged."""
        self._open_again()
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            raise self._refused(error) from error
        except sqlite3.DatabaseError as damage:
            self._database.close()
            self._begin_anew(damage)
        return self._database.execute(query, values).fetchall()

    def _refused(self, error: sqlite3.OperationalError) -> OutboxUnwritable:
        """The disk refused; the file is opened anew next time, because this connection may never recover."""
        self._is_lost = True
        return OutboxUnwritable(f"{self._path}: cannot be written ({error})")

    def _open_again(self) -> None:
        """After a refusal: a new connection, so that a disk that has recovered is noticed."""
        if not self._is_lost:
            return
        epoch = self.epoch
        with suppress(sqlite3.Error):
            self._database.close()
        try:
            self._open()
        except _Damaged as damage:
            self._begin_anew(damage)
        except BadInput as refused:
            raise OutboxUnwritable(str(refused)) from refused
        self._is_lost = False
        if self.epoch == epoch:
            log.info("outbox: it can be written again")

    def _transact(self, change: Callable[[sqlite3.Connection], _T], pages: int) -> _T:
        self._database.execute(f"PRAGMA max_page_count = {pages}")
        self._database.execute("BEGIN IMMEDIATE")
        try:
            result = change(self._database)
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # after an error of the disk it has rolled back by itself, or never will
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
            raise
        return result

    def _insert_unwritten(self, database: sqlite3.Connection) -> None:
        for settlement in self._unwritten:
            for release in settlement.releases:
                _insert(database, release)
            _put_counters(database, "anonymity", settlement.state)

    def _expire(self, now_utc_ns: int) -> None:
        """Forget sent releases past the retention; at most once an hour, because it writes."""
        if self._expired_utc_ns is not None and 0 <= now_utc_ns - self._expired_utc_ns < HOUR_NS:
            return
        oldest_ns = now_utc_ns - self._retention_ns
        if self._read("SELECT 1 FROM queue WHERE sent = 1 AND handed_utc_ns < ? LIMIT 1", (oldest_ns,)):
            forget = "DELETE FROM queue WHERE sent = 1 AND handed_utc_ns < ?"
            self._write(lambda database: database.execute(forget, (oldest_ns,)))
            self._forget_journal()
        self._expired_utc_ns = now_utc_ns

    def _make_room(self) -> bool:
        """One step of the policy; False when there is nothing left to give."""
        try:
            forgotten, joined, dropped = self._transact(_give_way, self._largest_pages())
            self._forget_journal()
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise self._refused(error) from error
            return False
        except sqlite3.DatabaseError as damage:
            self._database.close()
            self._begin_anew(damage)
            return True
        self._joined += joined
        self._dropped_mixes += dropped
        return bool(forgotten or joined or dropped)


class _Damaged(Exception):
    """The file is not what was written."""


_Intact = tuple[list[tuple[str, str]], list[tuple[str | None, str, int]]]  # counters: name, body; queue: see _put_back


def _intact(aside: Path) -> _Intact:
    """What of a damaged file is beyond doubt: all counters or none, and windows that were never handed out."""
    counters: list[tuple[str, str]] = []
    waiting: list[tuple[str | None, str, int]] = []
    with suppress(sqlite3.Error, OSError, UnicodeDecodeError):
        database = sqlite3.connect(aside, isolation_level=None)  # not read-only: its journal belongs to it
        try:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            for name, body, crc in database.execute("SELECT name, body, crc FROM counters").fetchall():
                if _checksum(body) != crc:
                    counters = []
                    break
                counters.append((name, body))
            for (row,) in database.execute("SELECT row FROM queue WHERE sent = 0 AND seq IS NULL").fetchall():
                with suppress(sqlite3.Error):
                    query = "SELECT direction, body, not_before_utc_ns, crc FROM queue WHERE row = ?"
                    for direction, body, not_before_utc_ns, crc in database.execute(query, (row,)).fetchall():
                        if _checksum(body) == crc:
                            waiting.append((direction, body, not_before_utc_ns))
        finally:
            database.close()
    return counters, waiting


def _put_back(
    database: sqlite3.Connection, counters: list[tuple[str, str]], waiting: list[tuple[str | None, str, int]]
) -> None:
    for name, body in counters:
        database.execute("INSERT INTO counters (name, body, crc) VALUES (?, ?, ?)", (name, body, _checksum(body)))
    for direction, body, not_before_utc_ns in waiting:
        database.execute(
            "INSERT INTO queue (direction, body, crc, not_before_utc_ns) VALUES (?, ?, ?, ?)",
            (direction, body, _checksum(body), not_before_utc_ns),
        )


def _checksum(body: object) -> int:
    return zlib.crc32(str(body).encode())  # damage can turn the text into bytes or nothing: a wrong checksum as well


def _insert(database: sqlite3.Connection, release: Release) -> None:
    record = release.record
    direction = record.direction.value if isinstance(record, WindowAggregate) else None
    body = _body(record, release.k, release.rule)
    database.execute(
        "INSERT INTO queue (direction, body, crc, not_before_utc_ns) VALUES (?, ?, ?, ?)",
        (direction, body, _checksum(body), release.not_before_utc_ns),
    )


def _number_of(seq: int) -> int:
    return min(max(seq, 0), 2**63 - 1)  # what SQLite can hold; a command message can say anything


def _put_counters(database: sqlite3.Connection, name: str, state: dict[str, Any]) -> None:
    body = json.dumps(state, separators=(",", ":"))
    database.execute(
        "INSERT OR REPLACE INTO counters (name, body, crc) VALUES (?, ?, ?)", (name, body, _checksum(body))
    )


def _number(database: sqlite3.Connection, rows: Iterable[int], now_utc_ns: int) -> dict[int, int]:
    (next_seq,) = database.execute("SELECT next_seq FROM identity").fetchone()
    numbers = dict(zip(rows, range(next_seq, next_seq + 1_000_000)))
    database.executemany(
        "UPDATE queue SET seq = ?, handed_utc_ns = ? WHERE row = ?",
        [(seq, now_utc_ns, row) for row, seq in numbers.items()],
    )
    database.execute("UPDATE identity SET next_seq = ?", (next_seq + len(numbers),))
    return numbers


def _give_way(database: sqlite3.Connection) -> tuple[int, int, int]:
    """One step of the policy: how many rows were forgotten, joined with another, dropped."""
    for acked in (1, 0):
        (count,) = database.execute("SELECT count(*) FROM queue WHERE sent = 1 AND acked = ?", (acked,)).fetchone()
        if count:
            forgotten = database.execute(
                "DELETE FROM queue WHERE row IN"
                " (SELECT row FROM queue WHERE sent = 1 AND acked = ? ORDER BY row LIMIT ?)",
                (acked, min(max(count // 8, 1), MOST_FORGOTTEN)),
            ).rowcount
            return forgotten, 0, 0
    joined = _join_oldest(database)
    return 0, joined, 0 if joined else _drop_oldest_mix(database)


def _join_oldest(database: sqlite3.Connection) -> int:
    """Join neighbours of a direction in pairs, in the older half of the waiting windows; returns how many went.

    The shortest pairs go first, the oldest of them before the others, so that no window grows far beyond the rest.
    """
    joined = 0
    for (direction,) in database.execute("SELECT DISTINCT direction FROM queue WHERE direction NOTNULL").fetchall():
        waiting = database.execute(
            "SELECT row, body, not_before_utc_ns FROM queue"
            " WHERE sent = 0 AND seq IS NULL AND direction = ? ORDER BY row",
            (direction,),
        ).fetchall()
        older = waiting[: max(len(waiting) // 2, 2)]
        pairs = sorted(
            zip(older[::2], older[1::2]), key=lambda pair: _duration_ns(pair[0][1]) + _duration_ns(pair[1][1])
        )
        left = MOST_JOINED
        for (row, body, _), (other_row, other_body, not_before_utc_ns) in pairs:
            whole = _join(body, other_body) if left else None
            if whole is None:
                continue
            database.execute("DELETE FROM queue WHERE row = ?", (other_row,))
            database.execute(
                "UPDATE queue SET body = ?, crc = ?, not_before_utc_ns = ? WHERE row = ?",
                (whole, _checksum(whole), not_before_utc_ns, row),
            )
            left -= 1
            joined += 1
    return joined


def _duration_ns(body: str) -> int:
    return int(json.loads(body)["record"]["duration_ns"])


def _drop_oldest_mix(database: sqlite3.Connection) -> int:
    return database.execute(
        "DELETE FROM queue WHERE row IN"
        " (SELECT row FROM queue WHERE direction IS NULL AND sent = 0 AND seq IS NULL ORDER BY row LIMIT 1)"
    ).rowcount


def _body(record: WindowAggregate | DayMix, k: int, rule: PrivacyRule) -> str:
    kind = "flow" if isinstance(record, WindowAggregate) else "mix"
    plain = {"kind": kind, "record": record.as_plain(), "k": k, "rule": rule.value}
    return json.dumps(plain, separators=(",", ":"))


def _queued(epoch: str, seq: int, body: str) -> Queued:
    plain = json.loads(body)
    reader = WindowAggregate if plain["kind"] == "flow" else DayMix
    return Queued(epoch, seq, reader.from_plain(plain["record"]), plain["k"], PrivacyRule(plain["rule"]))


def _join(body: str, other_body: str) -> str | None:
    """Two queued windows as one; None when they count different things or were released under different rules."""
    one, other = _queued("", 0, body), _queued("", 0, other_body)
    if not (isinstance(one.record, WindowAggregate) and isinstance(other.record, WindowAggregate)):
        return None
    if one.rule is not other.rule or not one.record.merges_with(other.record):
        return None
    whole = one.record + other.record
    return _body(replace(whole, marks=whole.marks | {Flag.COMPACTED}), min(one.k, other.k), one.rule)
