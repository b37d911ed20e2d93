"""Nothing that was released is lost, doubled, or grows without bound."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import edge.outbox
from edge.domain import DayMix, Direction, Flag
from edge.errors import BadInput, OutboxFull
from edge.outbox import LEAST_BYTES, RESERVE_BYTES, Outbox
from tests.support.builders import S, a_day_mix, a_passage, a_settlement, a_window, some_windows, utc_ns

NOW = utc_ns("2026-11-23T08:00:00Z")
DAY = 86_400 * S
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox.sqlite"


def quarters(count, *, direction=Direction.FORWARD, cars=12, first=0):
    """Released windows, one quarter of an hour after the other."""
    begin = utc_ns("2026-11-01T00:00:00Z")
    windows = []
    for number in range(first, first + count):
        window = a_window(direction=direction, speeds_kmh=[32.0] * cars, with_mix=False)
        start_utc_ns = begin + number * 900 * S
        windows.append(_moved(window, start_utc_ns))
    return windows


def _moved(window, start_utc_ns):
    return replace(window, start_utc_ns=start_utc_ns, end_utc_ns=start_utc_ns + 900 * S, slot=start_utc_ns // (900 * S))


def everything(outbox, now=NOW):
    """All that waits, marked as sent as it goes."""
    queued = []
    while batch := outbox.due(now, 10):
        queued += batch
        for each in batch:
            outbox.mark_sent(each.seq)
    return queued


# ------------------------------------------------------------------------------------------------- queue and numbers


def test_what_was_committed_comes_out_as_it_went_in_oldest_first_and_numbered_without_gaps(path):
    records = [*quarters(3), a_day_mix(), *quarters(2, first=3)]
    with Outbox(path) as outbox:
        for record in records:
            outbox.commit(a_settlement(record))
        queued = outbox.due(NOW, 100)
    assert [each.record for each in queued] == records
    assert [each.seq for each in queued] == [1, 2, 3, 4, 5, 6]
    assert {each.epoch for each in queued} == {outbox.epoch}
    assert re.fullmatch("[0-9a-f]{8}", outbox.epoch)


def test_what_is_not_marked_as_sent_is_handed_out_again_under_the_same_number(path):
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(3)))
        first = outbox.due(NOW, 2)
        outbox.mark_sent(first[0].seq)
        again = outbox.due(NOW, 2)
    assert again[0] == first[1]
    assert [each.seq for each in again] == [2, 3]


def test_numbers_and_epoch_survive_a_restart(path):
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(2)))
        epoch, sent = outbox.epoch, everything(outbox)
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(1, first=2)))
        assert outbox.epoch == epoch
        assert [each.seq for each in [*sent, *outbox.due(NOW)]] == [1, 2, 3]


def test_a_release_that_must_wait_waits_and_so_does_what_came_after_it(path):
    with Outbox(path) as outbox:
        first, second = quarters(2)
        outbox.commit(a_settlement(first, not_before="2026-11-23T08:01:30Z"))
        outbox.commit(a_settlement(second, not_before="2026-11-23T08:00:00Z"))
        assert outbox.due(NOW) == []
        assert [each.record for each in outbox.due(NOW + 90 * S)] == [first, second]


def test_a_release_dated_by_a_clock_that_was_set_back_does_not_wait_for_years(path):
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(1), not_before="2031-01-01T00:00:00Z"))
        assert len(outbox.due(NOW)) == 1


def test_the_platform_can_ask_again_for_what_it_misses(path):
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(5)))
        sent = everything(outbox)
        assert outbox.due(NOW) == []
        assert outbox.resend(2, 3) == 2
        assert everything(outbox) == sent[1:3]
        assert outbox.resend(4, 99) == 2
        assert outbox.resend(-(10**30), 10**30) == 5


def test_an_acknowledgement_of_another_epoch_changes_nothing(path):
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(2)))
        outbox.due(NOW)
        assert not outbox.ack("00000000", 2)
        assert outbox.inventory().waiting == 2
        assert outbox.ack(outbox.epoch, 1)
        assert [each.seq for each in outbox.due(NOW)] == [2]


def test_sent_windows_are_forgotten_after_35_days_and_waiting_ones_never(path):
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(3)))
        for each in outbox.due(NOW, 2):
            outbox.mark_sent(each.seq)
        outbox.due(NOW + 34 * DAY, 0)
        assert outbox.inventory().archived == 2
        outbox.due(NOW + 36 * DAY, 0)
        assert (outbox.inventory().archived, outbox.inventory().waiting) == (0, 1)
        assert outbox.resend(1, 2) == 0


def test_what_is_forgotten_is_gone_from_the_file(path):
    marker = "cal-marker-of-a-forgotten-window"
    window = quarters(1)[0]
    marked = replace(window, provenance=replace(window.provenance, calibration=marker))
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(marked))
        everything(outbox)
        assert marker.encode() in path.read_bytes()
        outbox.due(NOW + 36 * DAY)
        traces = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert marker.encode() not in traces


def test_only_a_release_can_be_queued(path):
    with Outbox(path) as outbox, pytest.raises(TypeError, match="only a Release"):
        outbox.commit(replace(a_settlement(), releases=(a_passage(),)))


def test_queueing_a_passage_does_not_pass_the_type_checker(tmp_path):
    script = tmp_path / "leak.py"
    script.write_text(
        textwrap.dedent(
            """
            from edge.domain import Passage, Settlement
            from edge.outbox import Outbox

            def leak(outbox: Outbox, passage: Passage) -> None:
                outbox.commit(passage)
                outbox.commit(Settlement(releases=(passage,), state={}))
            """
        )
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", str(script)]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    errors = [line for line in answer.stdout.splitlines() if "leak.py" in line and "error:" in line]
    assert len(errors) == 2, answer.stdout + answer.stderr
    assert all("Passage" in line for line in errors)


# -------------------------------------------------------------------------------------------------- counters, power


def test_counters_of_both_stages_come_back_after_a_restart(path):
    with Outbox(path) as outbox:
        assert outbox.restored().windows is None
        outbox.checkpoint({"next_ordinal": 7, "slots": []})
        outbox.commit(a_settlement(state={"settled": {"forward": 6}}))
    with Outbox(path) as outbox:
        assert outbox.restored().windows == {"next_ordinal": 7, "slots": []}
        assert outbox.restored().anonymity == {"settled": {"forward": 6}}


def test_a_release_and_its_counters_are_written_both_or_neither(tmp_path):
    """A process dies inside the transaction, at every hundredth step of the database engine."""
    program = """
        import os, sys
        from pathlib import Path
        from edge.outbox import Outbox
        from tests.support.builders import a_settlement, a_window

        def die_at(step, path):
            steps = iter(range(step))
            outbox = Outbox(path)
            outbox.commit(a_settlement(state={"settled": {"forward": 0}}))
            outbox._database.set_progress_handler(lambda: os._exit(9) if next(steps, None) is None else 0, 1)
            window = a_window(with_mix=False)
            outbox.commit(a_settlement(window, window, state={"settled": {"forward": 1}}))
            os._exit(0)

        for step in range(0, 100_000, 20):
            path = Path(sys.argv[1]) / f"{step}.sqlite"
            child = os.fork()
            if child == 0:
                die_at(step, path)
            died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
            with Outbox(path) as outbox:
                settled = outbox.restored().anonymity["settled"]["forward"]
                print(died, outbox.set_aside, outbox.inventory().waiting, settled)
            if not died:
                break
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    lines = answer.stdout.splitlines()
    assert len(lines) > 5, answer.stderr
    assert set(lines[:-1]) <= {"True None 0 0", "True None 2 1"}
    assert lines[-1] == "False None 2 1"


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_writer_leaves_a_sound_file_in_which_releases_and_counters_agree(path, seed):
    """kill -9 in the middle of committing, at a random moment."""
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from edge.outbox import Outbox
        from tests.support.builders import a_settlement, a_window
        outbox = Outbox(Path({str(path)!r}))
        number = 0
        print("ready", flush=True)
        while True:
            number += 1
            outbox.commit(a_settlement(a_window(with_mix=False), state={{"settled": {{"forward": number}}}}))
        """
    )
    writer = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"ready\n"
    threading.Event().wait(random.Random(seed).uniform(0.02, 0.3))
    writer.kill()
    writer.wait()
    writer.stdout.close()
    with Outbox(path) as outbox:
        assert outbox.set_aside is None
        settled = (outbox.restored().anonymity or {"settled": {"forward": 0}})["settled"]["forward"]
        assert outbox.inventory().waiting == settled
        assert [each.seq for each in everything(outbox)] == list(range(1, settled + 1))


def test_older_checkpoints_are_not_left_in_the_journal_when_a_window_leaves(path):
    with Outbox(path) as outbox:
        for number in range(20):
            outbox.checkpoint({"marker": f"minute-{number:02}"})
        outbox.commit(a_settlement(*quarters(1)))
        traces = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert b"minute-19" in traces
    assert b"minute-18" not in traces


def test_two_threads_may_write_and_send_at_once(path):
    with Outbox(path) as outbox:
        sent = []

        def publisher():
            while len(sent) < 60:
                for each in outbox.due(NOW, 10):
                    outbox.mark_sent(each.seq)
                    sent.append(each.seq)

        thread = threading.Thread(target=publisher)
        thread.start()
        for window in quarters(60):
            outbox.commit(a_settlement(window))
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert sent == list(range(1, 61))


# ----------------------------------------------------------------------------------------------------- storage limits


def totals(records):
    windows = [each for each in records if not isinstance(each, DayMix)]
    return {way: sum(each.measured for each in windows if each.direction is way) for way in Direction}


def test_a_full_outbox_joins_the_oldest_waiting_windows_and_keeps_every_vehicle_and_the_newest_window(path):
    committed = []
    with Outbox(path, max_bytes=LEAST_BYTES) as outbox:
        for first in range(0, 400, 20):
            batch = [
                window
                for number in range(first, first + 20)
                for direction in Direction
                for window in quarters(1, direction=direction, cars=10 + number % 7, first=number)
            ]
            outbox.commit(a_settlement(*batch))
            committed += batch
        inventory = outbox.inventory()
        assert inventory.joined > 0
        assert inventory.waiting < 800
        assert path.stat().st_size <= LEAST_BYTES
        waiting = [each.record for each in outbox.due(NOW, 1000)]
    assert totals(waiting) == totals(committed)
    assert waiting[-1] == committed[-1]
    assert any(Flag.COMPACTED in each.flags for each in waiting)
    assert Flag.COMPACTED not in waiting[-1].flags


def sent_and_forgotten(outbox, limit=1000):
    for each in outbox.due(NOW, limit):
        outbox.mark_sent(each.seq)


def test_a_full_outbox_forgets_what_the_platform_has_before_it_touches_what_waits(path):
    with Outbox(path, max_bytes=LEAST_BYTES) as outbox:
        outbox.commit(a_settlement(*quarters(120)))
        outbox.due(NOW, 120)
        outbox.ack(outbox.epoch, 60)
        sent_and_forgotten(outbox)
        while outbox.inventory().archived == 120:
            outbox.commit(a_settlement(*quarters(10, first=120)))
        assert outbox.inventory().joined == 0
        assert outbox.resend(61, 120) == 60
        assert 0 < outbox.resend(1, 60) < 60


def test_numbers_that_were_handed_out_are_never_joined(path):
    with Outbox(path, max_bytes=LEAST_BYTES) as outbox:
        outbox.commit(a_settlement(*quarters(10)))
        handed = outbox.due(NOW, 10)
        for first in range(10, 410, 20):
            outbox.commit(a_settlement(*quarters(20, first=first)))
        assert outbox.inventory().joined > 0
        waiting = outbox.due(NOW, 1000)
        assert waiting[:10] == handed
        assert [each.seq for each in waiting] == list(range(1, len(waiting) + 1))
        assert totals([each.record for each in waiting])[Direction.FORWARD] == 410 * 12


def test_day_mixes_give_way_last_and_the_newest_stays(path):
    with Outbox(path, max_bytes=LEAST_BYTES) as outbox:
        for number in range(40):
            outbox.commit(a_settlement(*[a_day_mix(measured=10 * number + each) for each in range(10)]))
        assert outbox.inventory().dropped_mixes > 0
        assert outbox.due(NOW, 1000)[-1].record.measured == 399


def test_when_no_room_can_be_made_it_says_so_and_the_window_is_written_later(path):
    committed, handed = [], []
    with Outbox(path, max_bytes=LEAST_BYTES) as outbox:

        def fill_while_the_broker_never_answers():
            for first in range(0, 1000, 10):
                committed.extend(quarters(10, first=first))
                outbox.commit(a_settlement(*committed[-10:]))
                handed[:] = outbox.due(NOW, 1000)

        with pytest.raises(OutboxFull, match="no space left"):
            fill_while_the_broker_never_answers()
        assert len(handed) == len(committed) - 10
        for each in handed:
            outbox.mark_sent(each.seq)
        outbox.checkpoint({"slots": []})
        assert [each.record for each in outbox.due(NOW, 1000)] == committed[-10:]


# ------------------------------------------------------------------------------------------------- damage, wrong files


def test_the_file_is_readable_by_its_owner_only(path):
    with Outbox(path) as outbox:
        outbox.checkpoint({"slots": []})
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def filled(path, count=40):
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(count)))
        outbox.checkpoint({"slots": []})
        return outbox.epoch


@pytest.mark.parametrize("seed", range(12))
def test_a_file_with_flipped_bytes_is_set_aside_or_still_tells_the_truth(path, seed):
    epoch = filled(path)
    rng = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(3):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    with Outbox(path) as outbox:
        if outbox.set_aside is None:
            assert [each.record for each in outbox.due(NOW, 100)] == quarters(40)
            return
        assert outbox.epoch != epoch
        assert path.with_name(path.name + ".damaged").read_bytes() == bytes(content)
        taken_over = [each.record for each in outbox.due(NOW, 100)]
        assert taken_over == [record for record in quarters(40) if record in taken_over], "intact ones, in order, once"
        outbox.commit(a_settlement(*quarters(1)))
        assert [each.seq for each in outbox.due(NOW, 100)] == list(range(1, len(taken_over) + 2))


@pytest.mark.parametrize(
    "spoil",
    [lambda content: b"", lambda content: content[: len(content) // 2], lambda content: b"hello" * 500],
    ids=["emptied", "cut in half", "overwritten"],
)
def test_a_ruined_file_does_not_stop_the_pole(path, spoil):
    filled(path)
    path.write_bytes(spoil(path.read_bytes()))
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(1)))
        assert len(outbox.due(NOW)) == 1


def test_a_changed_number_inside_a_window_is_noticed(path):
    filled(path)
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE queue SET body = replace(body, '\"unmeasured\":0', '\"unmeasured\":1')")
    database.close()
    with Outbox(path) as outbox:
        assert "checksum" in outbox.set_aside


def test_a_second_service_on_the_same_file_is_refused(path):
    with Outbox(path), pytest.raises(BadInput, match="another service"):
        Outbox(path)


def test_somebody_elses_database_is_refused_and_left_alone(path):
    database = sqlite3.connect(path)
    with database:
        database.execute("CREATE TABLE photos (id INTEGER)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(BadInput, match="expected an outbox of snellius"):
        Outbox(path)
    database = sqlite3.connect(path)
    assert database.execute("SELECT name FROM sqlite_schema").fetchall() == [("photos",)]
    database.close()
    assert len(path.read_bytes()) == len(before)


ADDED = ("ALTER TABLE queue ADD COLUMN note TEXT NOT NULL DEFAULT ''", "CREATE TABLE extra (x INTEGER)")


def test_an_upgrade_that_only_adds_can_be_taken_back_and_made_again(path, monkeypatch):
    """The new version opens the file and fails; the old one goes on with it, then the new one once more."""
    epoch = filled(path, count=1)
    now, numbers = edge.outbox._MIGRATIONS, []
    for number, migrations in enumerate([(*now, ADDED), now, (*now, ADDED)], start=1):
        monkeypatch.setattr(edge.outbox, "_MIGRATIONS", migrations)
        with Outbox(path) as outbox:
            assert (outbox.epoch, outbox.set_aside) == (epoch, None)
            outbox.commit(a_settlement(*quarters(1, first=number)))
            outbox.checkpoint({"next_ordinal": number, "slots": []})
            assert outbox.restored().windows["next_ordinal"] == number
            numbers += [each.seq for each in everything(outbox)]
    assert numbers == [1, 2, 3, 4]


def test_a_version_that_cannot_work_on_a_changed_file_says_so_and_changes_nothing(path, monkeypatch):
    filled(path)
    monkeypatch.setattr(edge.outbox, "_MIGRATIONS", (*edge.outbox._MIGRATIONS, ADDED))
    monkeypatch.setattr(edge.outbox, "_OLDEST", 2)
    Outbox(path).close()
    monkeypatch.undo()
    before = path.read_bytes()
    with pytest.raises(BadInput, match="newer version"):
        Outbox(path)
    assert path.read_bytes() == before


def test_a_disk_without_room_lets_the_file_grow_no_further_and_no_vehicle_is_lost(path, monkeypatch):
    """Somebody else has filled the disk; the file is far from its limit."""
    count = 200
    with Outbox(path) as outbox:
        outbox.commit(a_settlement(*quarters(50)))
        size = path.stat().st_size
        monkeypatch.setattr(Outbox, "_free_bytes", lambda self: 0)
        for first in range(50, count, 10):
            outbox.commit(a_settlement(*quarters(10, first=first)))
        assert path.stat().st_size <= size
        assert outbox.given_way > 0
        records = [each.record for each in outbox.due(NOW, 1000)]
    assert sum(record.measured for record in records) == 12 * count
    assert Flag.COMPACTED not in records[-1].flags


def test_room_for_the_journal_is_held_and_takes_no_more_than_that(path):
    with Outbox(path) as outbox:
        assert outbox._reserve.stat().st_size == RESERVE_BYTES
        assert stat.S_IMODE(outbox._reserve.stat().st_mode) == 0o600
        assert set(outbox._reserve.read_bytes()) == {0}


def test_a_file_of_a_newer_version_is_refused(path):
    filled(path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(BadInput, match="newer version"):
        Outbox(path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BadInput, match="expected an existing folder"):
        Outbox(tmp_path / "nowhere" / "outbox.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="can be written"):
        Outbox(tmp_path / "outbox.sqlite")


def test_limits_that_cannot_work_are_refused(path):
    with pytest.raises(ValueError, match="max_bytes"):
        Outbox(path, max_bytes=1000)


def test_the_journal_holds_no_older_state_of_the_counters(tmp_path: Path) -> None:
    """Else the steps from checkpoint to checkpoint would tell the speed class and the minute of single vehicles."""
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        windows = some_windows()
        windows.close_until(0)
        for minute in range(12):
            windows.add(a_passage(middle_s=30 + 60 * minute, speed_kmh=20 + 2 * minute))
            windows.close_until((60 + 60 * minute) * S)
            outbox.checkpoint(windows.state())
        kept = b"".join(file.read_bytes() for file in tmp_path.glob("outbox.sqlite*"))
        assert len(set(re.findall(rb'"counts":\[([0-9,]+)\]', kept))) <= 2
