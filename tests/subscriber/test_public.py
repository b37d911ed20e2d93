"""What the public gets: files that its own tools open, and a page for each pole."""

from __future__ import annotations

import csv
import json
import re
from datetime import date, datetime, timezone
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from geojson_pydantic import FeatureCollection

from edge.cli import main
from edge.domain import SpeedHistogram
from edge.errors import BadInput
from edge.publish.payload import Flow, Health
from edge.subscriber import Store, page_html, read_places
from tests.support.builders import BINNING, HILVERSUM, a_day_mix
from tests.support.published import received
from tests.support.released import a_meta
from tests.support.snelliuslaan import COMPARISON, STREET, published_months


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two poles, ten days around the change of the clocks; one of them has said what it is."""
    path = tmp_path_factory.mktemp("city") / "city.sqlite"
    with Store(str(path), create=True) as store:
        store.add(list(published_months(first=date(2026, 3, 24), last=date(2026, 4, 2))))
        store.hear([a_meta().model_copy(update={"device": STREET})])
    return path


@pytest.fixture(scope="module")
def files(city: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `subscribe export` wrote."""
    folder = tmp_path_factory.mktemp("open")
    places = folder / "places.csv"
    places.write_text(f"pole,lon,lat,name\n{STREET},5.1767,52.2242,Snelliuslaan 12\n")
    with pytest.raises(SystemExit) as ended:
        main(
            ["subscribe", "export", "--store", str(city), "--out", str(folder / "data"), "--publisher",
             "Gemeente Hilversum", "--places", str(places), "--licence", "CC-BY-4.0"]
        )  # fmt: skip
    assert ended.value.code in (0, None)
    return folder / "data"


def all_flows(city: Path) -> list[Flow]:
    with Store(str(city)) as store:
        return list(store.flows())


def dictionary(files: Path) -> list[dict[str, str]]:
    with (files / "data-dictionary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_pandas_reads_days_that_add_up_to_what_was_published(files: Path, city: Path) -> None:
    days = pd.read_csv(files / "speed-by-day.csv", parse_dates=["start_utc", "end_utc", "day"])

    assert days["start_utc"].dt.tz is not None
    assert set(days["direction"]) == {"forward", "backward", "both"}
    both = days[days["direction"] == "both"]
    assert both["measured"].sum() == sum(flow.speed.n for flow in all_flows(city))
    assert (days["measured"] >= 10).all()
    assert days["share_over"].between(0, 1).all()
    assert set(days["licence"]) == {"CC-BY-4.0"}
    changed = days[(days["day"] == "2026-03-28") & (days["direction"] == "both")]  # its night loses an hour
    assert ((changed["end_utc"] - changed["start_utc"]).dt.total_seconds() == 23 * 3600).all()

    one_day = SpeedHistogram.empty(BINNING)
    for flow in all_flows(city):
        if flow.device == STREET and flow.window.day == date(2026, 3, 25):
            one_day = one_day + flow.speed.hist.read()
    row = both[(both["pole"] == STREET) & (both["day"] == "2026-03-25")]
    assert row["v85_kmh"].item() == pytest.approx(one_day.quantile_kmh(0.85), abs=0.05)


def test_duckdb_reads_hours_and_joins_them_with_the_dictionary(files: Path, city: Path) -> None:
    hours = files / "speed-by-hour.csv"
    with duckdb.connect() as database:
        (measured, shortest, types) = database.execute(
            "SELECT SUM(measured), MIN(cells), ANY_VALUE(typeof(start_utc)) FROM read_csv(?) WHERE direction <> 'both'",
            [str(hours)],
        ).fetchone()  # type: ignore[misc]
        named = database.execute("SELECT field FROM read_csv(?)", [str(files / "data-dictionary.csv")]).fetchall()
    assert measured == sum(flow.speed.n for flow in all_flows(city))
    assert shortest == 1
    assert types.startswith("TIMESTAMP")
    header = hours.read_text(encoding="utf-8").splitlines()[0].split(",")
    assert set(header) <= {field for (field,) in named}
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,30}", field) for field in header)  # what ArcGIS leaves as it is


def test_a_geojson_validator_accepts_the_map(files: Path) -> None:
    text = (files / "poles.geojson").read_text(encoding="utf-8")
    poles = FeatureCollection.model_validate_json(text)  # RFC 7946, strict about geometry

    by_name = {feature.properties["pole"]: feature for feature in poles.features if feature.properties}
    placed = by_name[STREET]
    assert placed.geometry is not None
    assert tuple(placed.geometry.coordinates)[:2] == (5.1767, 52.2242)
    assert placed.properties is not None
    assert placed.properties["name"] == "Snelliuslaan 12"
    assert placed.properties["forward"] == "towards Larenseweg"
    assert placed.properties["v85_kmh"] > 30
    assert by_name[COMPARISON].geometry is None
    fields = {row["field"] for row in dictionary(files)}
    assert {name for feature in poles.features for name in feature.properties or {}} <= fields


def test_the_dictionary_describes_every_field_in_two_languages(files: Path) -> None:
    rows = dictionary(files)
    assert len({row["field"] for row in rows}) == len(rows)
    assert all(row["type"] and row["description_en"] and row["description_nl"] for row in rows)


def test_the_catalogue_is_told_licence_and_period(files: Path) -> None:
    dataset = json.loads((files / "dataset.json").read_text(encoding="utf-8"))
    assert dataset["dct:license"] == "http://creativecommons.org/licenses/by/4.0/deed.nl"
    assert dataset["dct:publisher"] == "Gemeente Hilversum"
    assert dataset["dct:temporal"] == {"dcat:startDate": "2026-03-24", "dcat:endDate": "2026-04-02"}
    assert {part["dct:title"] for part in dataset["dcat:distribution"]} == {
        path.name for path in files.iterdir() if path.name != "dataset.json"
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("pole,lon\n", "lat", id="missing column"),
        pytest.param("pole,lon,lat\np,5,north\n", "line 2", id="no number"),
        pytest.param("pole,lon,lat\np,140000,470000\n", "WGS 84", id="RD metres"),
    ],
)
def test_places_that_are_no_degrees_are_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read_places(text, "places.csv")


# ------------------------------------------------------------------------------------------------- page for residents


def a_page(city: Path, language: str, day: date = date(2026, 3, 25)) -> str:
    with Store(str(city)) as store:
        pole = next(pole for pole in store.poles() if pole.device == STREET)
        flows = list(store.flows(STREET, day, day))
        mix = received(a_day_mix(), 999).message
        return page_html(
            pole, day, flows, [mix] if flows else [],  # type: ignore[list-item]
            zone=HILVERSUM, now=datetime(2026, 3, 26, tzinfo=timezone.utc), language=language,
            other_page=f"{STREET}.en.html",
        )  # fmt: skip


@pytest.mark.parametrize(("language", "says"), [("nl", "geteld in"), ("en", "counted in")])
def test_the_page_of_a_pole_shows_every_message_of_the_day(city: Path, language: str, says: str) -> None:
    page = a_page(city, language)
    flows = [flow for flow in all_flows(city) if flow.device == STREET and flow.window.day == date(2026, 3, 25)]

    assert f"{sum(flow.count for flow in flows)} motor" in page
    assert says in page
    assert page.count("<tr>") == len(flows) + 2  # and the heads of two directions
    assert "towards Larenseweg" in page
    assert f'lang="{language}"' in page
    assert not re.search(r"<script|<link|<img|src=|@import|url\(|https?:", page)


def test_the_page_of_a_day_without_messages_says_why_that_can_be(city: Path) -> None:
    page = a_page(city, "en", date(2026, 1, 1))
    assert "Nothing was sent" in page
    assert "<table" not in page


def test_the_verb_writes_a_page_in_each_language(city: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(
            ["subscribe", "page", "--store", str(city), "--out", str(tmp_path), "--pole", STREET, "--day", "2026-03-25"]
        )
    assert ended.value.code in (0, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{STREET}.en.html", f"{STREET}.html"]
    assert f'href="{STREET}.html"' in (tmp_path / f"{STREET}.en.html").read_text(encoding="utf-8")


# -------------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["rollup", "--pole", "nobody"], "nobody", id="no such pole"),
        pytest.param(["rollup", "--pole", STREET, "--by", "month"], "--by", id="no such grid"),
        pytest.param(["rollup", "--pole", STREET, "--from", "yesterday"], "--from", id="no day"),
        pytest.param(["rollup", "--pole", STREET, "--timezone", "Hilversum"], "--timezone", id="no zone"),
        pytest.param(["rollup", "--pole", STREET, "--direction", "left"], "--direction", id="no direction"),
        pytest.param(["page", "--pole", "nobody", "--out", "pages"], "nobody", id="no page"),
        pytest.param(["export", "--out", "data", "--licence", "mine"], "--licence", id="no licence"),
        pytest.param(["resend", "--broker", "mqtt://city.example"], "--broker", id="broker in clear text"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    arguments: list[str],
    says: str,
    city: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["subscribe", *arguments, "--store", str(city)])
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert says in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("by", ["quarter", "hour", "day", "week", "weekday-hour"])
def test_roll_ups_are_printed_and_told_as_json(by: str, city: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for form in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["subscribe", "rollup", "--store", str(city), "--pole", STREET, "--by", by, *form])
        assert ended.value.code in (0, None)
        told.append(capsys.readouterr().out)
    rows = json.loads(told[1])
    assert told[0].count("\n") >= len(rows)
    assert sum(row["measured"] for row in rows) > 1000
    assert all(row["measured"] >= 10 for row in rows)


def test_a_pole_without_a_sign_of_life_is_told(city: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(city.read_bytes())
    told = {"epoch": "7f3a91c2", "uptime_s": 5, "clock": "synced"}
    now = datetime.now(timezone.utc)
    with Store(str(copy)) as store:
        for device, time in ((STREET, datetime(2026, 4, 2, tzinfo=timezone.utc)), (COMPARISON, now)):
            watched = {"since": time, "share": 1.0}
            store.hear([Health.model_validate({**told, "device": device, "time": time, "coverage": watched})])
    with pytest.raises(SystemExit):
        main(["subscribe", "gaps", "--store", str(copy), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["silent"] == [{"device": STREET, "since": "2026-04-02T00:00:00Z"}]
    assert found["missing"] == 0


def test_forgetting_is_told(city: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(city.read_bytes())
    with pytest.raises(SystemExit):
        main(["subscribe", "forget", "--store", str(copy), "--keep-days", "1"])
    assert capsys.readouterr().out == "deleted 0 measurements\n"
