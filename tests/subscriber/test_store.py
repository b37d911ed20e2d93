"""The store: exactly once, in SQLite and in PostgreSQL alike."""

from __future__ import annotations

import json
import random
import sqlite3
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from edge.errors import BadInput
from edge.publish.payload import Flow, Health, Mix
from edge.subscriber import Added, Numbered, Refused, Store, read_message
from edge.subscriber.database import StoreUnavailable
from tests.support.builders import a_day_mix, a_window
from tests.support.postgresql import PostgreSql
from tests.support.published import DEVICE, EPOCH, SITE, day_window, four_o_clock, published, received
from tests.support.released import a_meta, a_status

DAY_MS = 86_400_000
NOON_MS = 1_795_000_000_000


def some(seqs: range, **names: str) -> list[Numbered]:
    """Windows with these numbers, a quarter of an hour each, that differ in what they count."""
    return [
        received(
            a_window(begin="2026-11-23T06:30:00Z", speeds_kmh=[20.0 + seq % 20] * 12, with_mix=False), seq, **names
        )
        for seq in seqs
    ]


def bodies(store: Store) -> list[str]:
    """Everything in a store, in an order of its own."""
    return sorted(flow.encode().decode() for flow in store.flows()) + sorted(
        mix.encode().decode() for mix in store.mixes()
    )


def test_what_comes_twice_and_out_of_turn_is_stored_once(store: Store) -> None:
    messages = [*some(range(1, 41)), received(a_day_mix(), 41)]
    shuffled = messages * 3
    random.Random(1).shuffle(shuffled)

    added = [store.add(shuffled[at : at + 7]) for at in range(0, len(shuffled), 7)]

    assert sum(each.new for each in added) == 41
    assert sum(each.known for each in added) == 82
    assert bodies(store) == [*sorted(m.body for m in messages[:-1]), messages[-1].body]
    assert store.gaps() == []


def test_the_first_text_under_a_number_stands_and_the_contradiction_is_told(store: Store) -> None:
    (first,) = some(range(5, 6))
    other = received(a_window(speeds_kmh=[50.0] * 12, with_mix=False), 5)

    assert store.add([first]) == Added(new=1)
    assert store.add([other, first]) == Added(known=1, contradicting=1)

    assert bodies(store) == [first.body]
    assert [(device, what, times) for device, what, times, _ in store.counts("contradiction")] == [
        (DEVICE, f"{EPOCH}/5", 1)
    ]


def test_a_batch_that_contradicts_itself_keeps_one(store: Store) -> None:
    (first,) = some(range(5, 6))
    other = received(a_window(speeds_kmh=[50.0] * 12, with_mix=False), 5)

    assert store.add([first, other]) == Added(new=1, contradicting=1)


def test_holes_are_gaps_from_the_first_number_on(store: Store) -> None:
    store.add(some(range(3, 6)) + some(range(9, 11)))
    store.add(some(range(1, 3), device="hvs-0043"))

    assert [(gap.device, gap.first, gap.last, gap.is_present) for gap in store.gaps()] == [
        (DEVICE, 1, 2, True),
        (DEVICE, 6, 8, True),
    ]
    store.add(some(range(1, 9)))
    assert store.gaps() == []


def test_a_hole_of_an_earlier_epoch_cannot_be_asked_for(store: Store) -> None:
    store.add(some(range(1, 2)) + some(range(4, 5)), now_ms=NOON_MS)
    store.add(some(range(1, 3), epoch="00000001"), now_ms=NOON_MS + 1)

    assert [(gap.epoch, gap.first, gap.last, gap.is_present) for gap in store.gaps()] == [(EPOCH, 2, 3, False)]


def test_forgotten_messages_are_no_gap_and_do_not_come_back(store: Store) -> None:
    store.add(some(range(1, 11)), now_ms=NOON_MS - 30 * DAY_MS)
    store.add(some(range(12, 15)), now_ms=NOON_MS)

    assert store.forget(20, now_ms=NOON_MS) == 10
    assert store.forget(20, now_ms=NOON_MS) == 0

    assert store.add(some(range(1, 15))) == Added(new=1, known=3, forgotten=10)  # 11 was missing
    assert store.gaps() == []
    assert sorted(flow.seq for flow in store.flows()) == [11, 12, 13, 14]


def test_a_forgotten_window_is_gone_from_the_files(tmp_path: Path, server: PostgreSql) -> None:
    told = "hvs-forget-me-please"

    def files_with(folder: Path) -> list[str]:
        return [str(path) for path in folder.rglob("*") if path.is_file() and told.encode() in path.read_bytes()]

    postgresql = server.new_database()
    for url, folder in ((str(tmp_path / "city.sqlite"), tmp_path), (postgresql, server.folder / "base")):
        with Store(url, create=True) as store:
            store.add(some(range(1, 300), device=told), now_ms=NOON_MS - 30 * DAY_MS)
            store.add(some(range(1, 300)), now_ms=NOON_MS)
            store.forget(20, now_ms=NOON_MS)
            left = store.counts("refused")
        assert left == []
        with Store(url) as store:
            assert {flow.device for flow in store.flows()} == {DEVICE}
            store._database.run("DELETE FROM forgotten")  # which remembers the name of the pole, and only that
            store._database.wipe()
        if folder == tmp_path:
            assert files_with(folder) == []
        else:
            import psycopg

            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM (FULL) forgotten")
                connection.execute("VACUUM (FULL) pg_statistic")  # the planner remembers common values
                connection.execute("CHECKPOINT")
            assert files_with(folder) == []


def test_a_lost_connection_is_told_and_made_anew(server: PostgreSql) -> None:
    import psycopg

    url = server.new_database()
    with Store(url, create=True) as store:
        store.add(some(range(1, 3)))
        with psycopg.connect(server.url(), autocommit=True) as administrator:
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.rsplit("/", 1)[1]]
            )
        with pytest.raises(StoreUnavailable):
            store.add(some(range(3, 5)))
        assert store.add(some(range(1, 5))) == Added(new=2, known=2)
        assert store.gaps() == []


def test_a_file_that_another_process_holds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.subscriber.sqlite.BUSY_S", 0.1)
    path = tmp_path / "city.sqlite"
    with Store(str(path), create=True) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            store.add(some(range(1, 3)))
        other.execute("ROLLBACK")
        other.close()
        assert store.add(some(range(1, 3))) == Added(new=2)


def test_windows_are_found_by_device_and_by_site_and_by_day(store: Store) -> None:
    flows = [received(day_window(four_o_clock(f"2026-11-{day}"), [0] + [2] * 25 + [0]), day) for day in range(20, 25)]
    store.add(flows)

    assert [flow.window.day for flow in store.flows(DEVICE, date(2026, 11, 21), date(2026, 11, 22))] == [
        date(2026, 11, 21),
        date(2026, 11, 22),
    ]
    assert len(list(store.flows(SITE))) == 5
    with pytest.raises(BadInput, match="nobody"):
        list(store.flows("nobody"))


def test_what_poles_say_about_themselves_is_remembered(store: Store) -> None:
    store.add(some(range(1, 3)))
    health = Health.model_validate(
        {
            "device": DEVICE, "epoch": EPOCH, "time": "2026-11-23T12:00:00Z", "uptime_s": 5, "clock": "synced",
            "coverage": {"since": "2026-11-23T11:55:00Z", "share": 0.9},
        }
    )  # fmt: skip
    store.hear([a_meta(), a_status(), health])
    store.hear([a_meta()])

    (pole,) = store.poles()
    assert (pole.device, pole.city, pole.site, pole.messages) == (DEVICE, "hilversum", SITE, 2)
    assert pole.meta == a_meta()
    assert pole.status == a_status()
    assert pole.health_ms == round(datetime(2026, 11, 23, 12, tzinfo=timezone.utc).timestamp() * 1000)
    assert store.calibrations() == {(DEVICE, "cal-2026-10-02-a1"): 0.008}


def test_plain_sql_gets_days_and_bins(store: Store) -> None:
    store.add(some(range(1, 4)))

    rows = list(
        store._database.rows("SELECT device, direction, day, windows, vehicles, measured, over_limit FROM by_day")
    )
    assert rows == [(DEVICE, "forward", "2026-11-23", 3, 36, 36, 0)]
    bins = list(
        store._database.rows(
            "SELECT from_kmh, to_kmh, SUM(vehicles) FROM bins WHERE vehicles > 0 GROUP BY from_kmh, to_kmh ORDER BY 1"
        )
    )
    assert bins == [(20, 22, 24), (22, 24, 12)]  # 21 and 22 in (20, 22], 23 above


# ---------------------------------------------------------------------------------------------------------- refusals


def changed(**parts: object) -> bytes:
    plain = json.loads(published(a_window(with_mix=False), 1).payload)
    for path, value in parts.items():
        inside = plain
        *folders, name = path.split("__")
        for folder in folders:
            inside = inside[folder]
        inside[name] = value
    return json.dumps(plain).encode()


TOPIC = f"snellius/1/hilversum/{DEVICE}/flow/forward"


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        pytest.param(TOPIC.replace("snellius/", "snellius-lab/"), changed(), "topic", id="lab topic"),
        pytest.param(TOPIC, changed(privacy__rule="lab"), "lab", id="lab rule"),
        pytest.param(TOPIC, changed(privacy__k=4), "below_k", id="k below the floor"),
        pytest.param(TOPIC, changed(privacy__k=13), "below_k", id="fewer than it promises"),
        pytest.param(TOPIC, b"\xff{", "malformed", id="no JSON"),
        pytest.param(TOPIC, b"[" * 100_000, "malformed", id="deep JSON"),
        pytest.param(TOPIC, changed(count=11), "malformed", id="counts that do not add up"),
        pytest.param(TOPIC, changed(schema="snellius.flow/2.0"), "malformed", id="another contract"),
        pytest.param(TOPIC.replace(DEVICE, "hvs-0043"), changed(), "other_device", id="speaks for another"),
        pytest.param(TOPIC.replace("forward", "backward"), changed(), "malformed", id="wrong direction"),
    ],
)
def test_a_message_that_breaks_the_contract_is_refused(topic: str, payload: bytes, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        read_message(topic, payload)

    assert refused.value.reason == reason
    assert len(str(refused.value).splitlines()) == 1


def test_a_later_minor_version_is_read_and_kept_whole() -> None:
    payload = changed(schema="snellius.flow/1.7", weather={"rain_mm": 0.4}, quality__visibility_m=900)

    read = read_message(TOPIC, payload)

    assert isinstance(read, Numbered)
    assert isinstance(read.message, Flow)
    assert read.message == received(a_window(with_mix=False), 1).message
    assert json.loads(read.body)["weather"] == {"rain_mm": 0.4}


def test_refusals_are_counted_and_nothing_of_them_is_kept(store: Store) -> None:
    for _ in range(3):
        with pytest.raises(Refused) as refused:
            read_message(TOPIC, changed(privacy__rule="lab"))
        store.refuse(refused.value)

    assert [(device, reason, times) for device, reason, times, _ in store.counts("refused")] == [(DEVICE, "lab", 3)]
    assert list(store.flows()) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("mysql://host/db", "expected postgresql", id="another database"),
        pytest.param("postgresql://me:secret@127.0.0.1/db", "no password", id="password in the address"),
        pytest.param("nowhere.sqlite", "no such file", id="missing file"),
    ],
)
def test_an_address_that_cannot_be_a_store_is_refused(
    url: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=says) as wrong:
        Store(url)
    assert "secret" not in str(wrong.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database\n" * 100)
    with pytest.raises(BadInput):
        Store(str(tmp_path / "notes.txt"))
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE message (text)").connection.close()
    with pytest.raises(BadInput, match="another database"):
        Store(str(tmp_path / "other.sqlite"))


def test_a_mix_is_stored_beside_the_windows(store: Store) -> None:
    mix = received(replace(a_day_mix()), 7)
    assert isinstance(mix.message, Mix)
    store.add([mix])
    assert [each.seq for each in store.mixes(DEVICE)] == [7]
