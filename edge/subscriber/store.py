"""What was published, kept exactly once, in one schema for SQLite and PostgreSQL.

A measurement is a row of ``message`` under UNIQUE (device, epoch, seq); a message that comes twice, late or out of turn
changes nothing. The first text under a number stands: the contract says that a number never comes again with another
text, so whatever contradicts it is noted in ``contradiction`` and not believed. Figures are made when they are asked
for, so a late window is in all of them at once.

Deleting is by age since receipt and by number, oldest first, per pole: the numbers below are remembered in
``forgotten``, so they are no gap and do not come back by a re-sent message.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from types import TracebackType

from edge.errors import BadInput
from edge.publish.payload import Flow, Health, Meta, Mix, Status
from edge.subscriber.database import Database, Row, open_database
from edge.subscriber.reading import Numbered, Refused, tolerant

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    device TEXT NOT NULL, epoch TEXT NOT NULL, seq BIGINT NOT NULL,
    kind TEXT NOT NULL, city TEXT NOT NULL, site TEXT NOT NULL, direction TEXT,
    day TEXT NOT NULL, start_ms BIGINT NOT NULL, end_ms BIGINT NOT NULL, clock TEXT NOT NULL,
    vehicles BIGINT, measured BIGINT, mean_kmh DOUBLE PRECISION, v85_kmh DOUBLE PRECISION,
    limit_kmh INTEGER, over_limit BIGINT, over_limit10 BIGINT, coverage DOUBLE PRECISION NOT NULL,
    calibration TEXT NOT NULL, received_ms BIGINT NOT NULL, body TEXT NOT NULL,
    UNIQUE (device, epoch, seq));
CREATE INDEX IF NOT EXISTS message_by_day ON message (device, day);
CREATE TABLE IF NOT EXISTS contradiction (
    device TEXT NOT NULL, epoch TEXT NOT NULL, seq BIGINT NOT NULL, times BIGINT NOT NULL, last_ms BIGINT NOT NULL,
    PRIMARY KEY (device, epoch, seq));
CREATE TABLE IF NOT EXISTS forgotten (
    device TEXT NOT NULL, epoch TEXT NOT NULL, upto BIGINT NOT NULL, PRIMARY KEY (device, epoch));
CREATE TABLE IF NOT EXISTS refused (
    device TEXT NOT NULL, reason TEXT NOT NULL, times BIGINT NOT NULL, last_ms BIGINT NOT NULL,
    PRIMARY KEY (device, reason));
CREATE TABLE IF NOT EXISTS pole (
    device TEXT PRIMARY KEY, meta TEXT, status TEXT, health_ms BIGINT, watched DOUBLE PRECISION);
CREATE TABLE IF NOT EXISTS calibration (
    device TEXT NOT NULL, calibration TEXT NOT NULL, u_rel DOUBLE PRECISION, PRIMARY KEY (device, calibration))
"""
VIEWS = {
    "by_day": """
        SELECT device, site, direction, day, COUNT(*) AS windows, SUM(vehicles) AS vehicles, SUM(measured) AS measured,
            SUM(measured * mean_kmh) / SUM(measured) AS mean_kmh, MAX(limit_kmh) AS limit_kmh,
            SUM(over_limit) AS over_limit, SUM(over_limit10) AS over_limit10,
            SUM(coverage * (end_ms - start_ms)) / SUM(end_ms - start_ms) AS coverage
        FROM message WHERE kind = 'flow' GROUP BY device, site, direction, day""",
}
COLUMNS = (
    "device", "epoch", "seq", "kind", "city", "site", "direction", "day", "start_ms", "end_ms", "clock", "vehicles",
    "measured", "mean_kmh", "v85_kmh", "limit_kmh", "over_limit", "over_limit10", "coverage", "calibration",
    "received_ms", "body",
)  # fmt: skip
INSERT = (
    f"INSERT INTO message ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
    " ON CONFLICT DO NOTHING"
)
DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a batch.

    Attributes:
        new: Stored now.
        known: Stored before, with the same text.
        contradicting: Known by number, with another text: the first stands.
        forgotten: Deleted before by age; not stored again.
    """

    new: int = 0
    known: int = 0
    contradicting: int = 0
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers of a pole that never came.

    Attributes:
        city: City of the pole.
        device: The pole.
        epoch: Name of its database.
        first: First missing number.
        last: Last missing number.
        after_ms: End of the latest window before it, since 1970; None: there is none. [ms]
        before_ms: End of the window after it. [ms]
        is_present: Whether this is the pole's latest epoch: only that can be asked for again.
    """

    city: str
    device: str
    epoch: str
    first: int
    last: int
    after_ms: int | None
    before_ms: int
    is_present: bool


@dataclass(frozen=True, slots=True)
class Pole:
    """What is known about a pole.

    Attributes:
        device: Its name.
        city: Its city.
        site: Its site, by the latest measurement.
        meta: What it last said about itself; None: nothing yet.
        status: Its last status; None: nothing yet.
        health_ms: When it last said that it works, since 1970; None: never heard. [ms]
        messages: Measurements in the store.
        last_ms: End of its latest window, since 1970. [ms]
    """

    device: str
    city: str
    site: str
    meta: Meta | None
    status: Status | None
    health_ms: int | None
    messages: int
    last_ms: int


class Store:
    """The measurements of a city. A context manager; one connection, for one thread.

    Raises:
        BadInput: The address is wrong.
        BackendUnavailable: An extra is missing.
        StoreUnavailable: The database is away at the moment.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        self._database: Database = open_database(url, create=create)
        if create:
            self._create()
        elif not self._is_store():
            self.close()
            raise BadInput(
                f"--store: {url}: expected a store written by 'snellius subscribe run', found another database"
            )

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._database.close()

    # ---------------------------------------------------------------------------------------------------- taking in

    def add(self, batch: Sequence[Numbered], *, now_ms: int | None = None) -> Added:
        """Store measurements, all or none of the batch; safe to repeat.

        Raises:
            StoreUnavailable: Nothing was stored.
        """
        if not batch:
            return Added()
        received_ms = _now_ms() if now_ms is None else now_ms
        rows = [_row(each, received_ms) for each in batch]
        with self._database.transaction():
            floors = self._floors({(row[0], row[1]) for row in rows})
            wanted = [row for row in rows if row[2] > floors.get((row[0], row[1]), 0)]
            new = self._database.run_many(INSERT, wanted) if wanted else 0
            contradicting = self._note_contradictions(wanted, received_ms) if new < len(wanted) else 0
        return Added(new, len(wanted) - new - contradicting, contradicting, len(rows) - len(wanted))

    def hear(self, facts: Sequence[Meta | Status | Health]) -> None:
        """Remember the latest that poles say about themselves; health carries no number from traffic.

        Raises:
            StoreUnavailable: Nothing was stored.
        """
        if not facts:
            return
        with self._database.transaction():
            for fact in facts:
                values: dict[str, object]
                if isinstance(fact, Health):
                    values = {"health_ms": _ms(fact.time), "watched": fact.coverage.share}
                else:
                    kind = "meta" if isinstance(fact, Meta) else "status"
                    values = {kind: fact.model_dump_json(by_alias=True)}
                self._upsert("pole", {"device": fact.device}, values)
                if isinstance(fact, Meta):
                    key = {"device": fact.device, "calibration": fact.calibration.id}
                    self._upsert("calibration", key, {"u_rel": fact.calibration.u_rel_speed_median})

    def refuse(self, refusal: Refused) -> None:
        """Count a message that was not taken; nothing of it is kept."""
        with self._database.transaction():
            self._database.run(
                "INSERT INTO refused (device, reason, times, last_ms) VALUES (?, ?, 1, ?) ON CONFLICT (device, reason)"
                " DO UPDATE SET times = refused.times + 1, last_ms = excluded.last_ms",
                (refusal.device, refusal.reason, _now_ms()),
            )

    # ------------------------------------------------------------------------------------------------------ reading

    def flows(self, pole: str | None = None, first: date | None = None, last: date | None = None) -> Iterator[Flow]:
        """Windows of a pole (or all), by the traffic days in which they end, oldest first; ends included."""
        where, values = self._chosen(pole, first, last)
        query = f"SELECT body FROM message WHERE kind = 'flow'{where} ORDER BY end_ms, device, direction, seq"  # noqa: S608
        for (body,) in self._database.rows(query, values):
            yield tolerant(Flow, body)

    def mixes(self, pole: str | None = None, first: date | None = None, last: date | None = None) -> Iterator[Mix]:
        """Day mixes likewise."""
        where, values = self._chosen(pole, first, last)
        query = f"SELECT body FROM message WHERE kind = 'mix'{where} ORDER BY end_ms, device, seq"  # noqa: S608
        for (body,) in self._database.rows(query, values):
            yield tolerant(Mix, body)

    def poles(self) -> list[Pole]:
        """Every pole that has published a measurement, by name."""
        latest = {
            device: (city, site, end_ms)
            for device, city, site, end_ms in self._database.rows(
                "SELECT device, city, site, end_ms FROM message WHERE (device, end_ms) IN"
                " (SELECT device, MAX(end_ms) FROM message GROUP BY device)"
            )
        }
        counts: dict[str, int] = dict(self._database.rows("SELECT device, COUNT(*) FROM message GROUP BY device"))
        said = {row[0]: row[1:] for row in self._database.rows("SELECT device, meta, status, health_ms FROM pole")}
        poles = []
        for device, (city, site, end_ms) in sorted(latest.items()):
            meta, status, health_ms = said.get(device, (None, None, None))
            poles.append(
                Pole(
                    device=device,
                    city=city,
                    site=site,
                    meta=None if meta is None else tolerant(Meta, meta),
                    status=None if status is None else tolerant(Status, status),
                    health_ms=health_ms,
                    messages=counts[device],
                    last_ms=end_ms,
                )
            )
        return poles

    def calibrations(self) -> dict[tuple[str, str], float | None]:
        """Relative one-sigma uncertainty of the speed by device and calibration, as the poles said."""
        query = "SELECT device, calibration, u_rel FROM calibration"
        return {(device, name): u_rel for device, name, u_rel in self._database.rows(query)}

    def gaps(self) -> list[Gap]:
        """Numbers that never came, oldest first. What is missing at the end shows when the next message comes."""
        query = """
            SELECT city, device, epoch, before_seq + 1, seq - 1, before_ms, end_ms
            FROM (SELECT city, device, epoch, seq, end_ms, LAG(end_ms) OVER run AS before_ms,
                      COALESCE(LAG(seq) OVER run, (SELECT upto FROM forgotten
                          WHERE forgotten.device = message.device AND forgotten.epoch = message.epoch), 0) AS before_seq
                  FROM message WINDOW run AS (PARTITION BY device, epoch ORDER BY seq)) AS numbered
            WHERE seq > before_seq + 1 ORDER BY end_ms, device, seq"""
        newest: dict[str, tuple[int, str]] = {}
        for device, epoch, received_ms in self._database.rows(
            "SELECT device, epoch, MAX(received_ms) FROM message GROUP BY device, epoch"
        ):
            newest[device] = max(newest.get(device, (0, "")), (received_ms, epoch))
        return [
            Gap(city, device, epoch, first, last, after_ms, before_ms, is_present=newest[device][1] == epoch)
            for city, device, epoch, first, last, after_ms, before_ms in self._database.rows(query)
        ]

    def counts(self, table: str) -> list[tuple[str, str, int, int]]:
        """Contradictions or refusals: device, what, how often, when last."""
        if table == "refused":
            query = "SELECT device, reason, times, last_ms FROM refused ORDER BY device, reason"
        else:
            query = "SELECT device, epoch || '/' || seq, times, last_ms FROM contradiction ORDER BY device, epoch, seq"
        return [(device, what, times, last_ms) for device, what, times, last_ms in self._database.rows(query)]

    # ---------------------------------------------------------------------------------------------------- forgetting

    def forget(self, days: int, *, now_ms: int | None = None) -> int:
        """Delete what was received longer ago, for good; how many measurements that were."""
        before_ms = (_now_ms() if now_ms is None else now_ms) - days * DAY_MS
        with self._database.transaction():
            self._database.run(
                "INSERT INTO forgotten (device, epoch, upto)"
                " SELECT device, epoch, MAX(seq) FROM message WHERE received_ms < ? GROUP BY device, epoch"
                " ON CONFLICT (device, epoch) DO UPDATE SET upto = excluded.upto",
                (before_ms,),
            )
            gone = self._database.run(
                "DELETE FROM message WHERE seq <= (SELECT upto FROM forgotten"
                " WHERE forgotten.device = message.device AND forgotten.epoch = message.epoch)"
            )
        self._database.wipe()
        return gone

    # ----------------------------------------------------------------------------------------------------- inside

    def _create(self) -> None:
        with self._database.transaction():
            for statement in SCHEMA.split(";"):
                self._database.run(statement)
            for name, query in (VIEWS | {"bins": self._database.bins_view}).items():
                self._database.run(f"DROP VIEW IF EXISTS {name}")
                self._database.run(f"CREATE VIEW {name} AS {query}")

    def _upsert(self, table: str, key: Mapping[str, object], values: Mapping[str, object]) -> None:
        """Set columns of the row with this key, which may be new. Names are ours, never a message's."""
        names = (*key, *values)
        settings = ", ".join(f"{name} = excluded.{name}" for name in values)
        self._database.run(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
            f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {settings}",
            (*key.values(), *values.values()),
        )

    def _is_store(self) -> bool:
        try:
            with self._database.transaction():
                list(self._database.rows("SELECT device, body FROM message WHERE 1 = 0"))
        except Exception as error:
            if type(error).__name__ in ("OperationalError", "UndefinedTable", "UndefinedColumn", "StoreUnavailable"):
                return False
            raise
        return True

    def _floors(self, runs: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
        marks = ", ".join(["(?, ?)"] * len(runs))
        query = f"SELECT device, epoch, upto FROM forgotten WHERE (device, epoch) IN (VALUES {marks})"  # noqa: S608
        values = [name for run in runs for name in run]
        return {(device, epoch): upto for device, epoch, upto in self._database.rows(query, values)}

    def _note_contradictions(self, rows: Sequence[Row], now_ms: int) -> int:
        """Compare with what stands under the same numbers."""
        marks = ", ".join(["(?, ?, ?)"] * len(rows))
        query = f"SELECT device, epoch, seq, body FROM message WHERE (device, epoch, seq) IN (VALUES {marks})"  # noqa: S608
        keys = [part for row in rows for part in row[:3]]
        standing = {(device, epoch, seq): body for device, epoch, seq, body in self._database.rows(query, keys)}
        others = [row[:3] for row in rows if standing[row[0], row[1], row[2]] != row[-1]]
        for key in others:
            self._database.run(
                "INSERT INTO contradiction (device, epoch, seq, times, last_ms) VALUES (?, ?, ?, 1, ?)"
                " ON CONFLICT (device, epoch, seq)"
                " DO UPDATE SET times = contradiction.times + 1, last_ms = excluded.last_ms",
                (*key, now_ms),
            )
        return len(others)

    def _chosen(self, pole: str | None, first: date | None, last: date | None) -> tuple[str, list[object]]:
        where, values = "", list[object]()
        if pole is not None:
            column = "device" if self._knows("device", pole) else "site"
            if column == "site" and not self._knows("site", pole):
                raise BadInput(f"pole '{pole}': expected a device or site in the store, found none of that name")
            where, values = f" AND {column} = ?", [pole]
        for comparison, day in ((">=", first), ("<=", last)):
            if day is not None:
                where, values = f"{where} AND day {comparison} ?", [*values, day.isoformat()]
        return where, values

    def _knows(self, column: str, name: str) -> bool:
        query = f"SELECT 1 FROM message WHERE {column} = ? LIMIT 1"  # noqa: S608 - one of two names
        return next(iter(list(self._database.rows(query, (name,)))), None) is not None


def _row(numbered: Numbered, received_ms: int) -> Row:
    """Values in the order of ``COLUMNS``."""
    message = numbered.message
    window = message.window
    head = (message.device, message.epoch, message.seq)
    when = (window.day.isoformat(), _ms(window.start), _ms(window.end), window.clock.value)
    tail = (message.quality.coverage, message.prov.cal, received_ms, numbered.body)
    if isinstance(message, Mix):
        return (*head, "mix", numbered.city, message.site, None, *when, *(None,) * 7, *tail)
    figures = (message.count, message.speed.n, message.speed.mean, message.speed.v85)
    limit = (message.limit.kmh, message.limit.over, message.limit.over10)
    return (*head, "flow", numbered.city, message.site, message.direction.value, *when, *figures, *limit, *tail)


def _ms(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
