"""The page's other half: what a draft amounts to, what is kept and saved, and who is let in."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from calibration import Calibration, CalibrationError, Survey, read_site, read_survey, solve
from calibration.drift import Reference
from calibration.lens import Lens
from calibration.page import Draft, PageServer, Workbench
from calibration.still import Still
from calibration.straight import StraightLines
from edge.cli import app
from edge.cli.calibrate_page import address_of, invitation
from edge.errors import BadInput
from tests.calibration.surveys import IMAGE_PX, a_camera, a_site, a_survey, marks_m

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
SITE_TEXTS = {"id": "test-street", "limit_kmh": "30", "forward": "out", "backward": "in"}


def a_still() -> Still:
    picture = np.full((IMAGE_PX[1], IMAGE_PX[0], 3), 90, dtype=np.uint8)
    return Still(image_bgr=picture, taken=NOON, expires=NOON + timedelta(days=30))


def a_workbench(folder: Path, **begin: Any) -> Workbench:
    return Workbench(image_size_px=IMAGE_PX, folder=folder, **begin)


def a_draft(survey: Survey | None = None, **changes: Any) -> Draft:
    """A complete draft, as a technician would leave it, with changes."""
    content = Draft.of(survey or a_survey(a_camera(), click_px=0.5, tape_m=0.01, seed=7), a_site()).as_json()
    content["site"] = SITE_TEXTS
    return Draft.from_json(content | {"revision": 5} | changes)


def told(bench: Workbench, draft: Draft) -> dict[str, Any]:
    assessment = bench.update(draft)
    assert assessment is not None
    return bench.as_json(assessment)


def with_point(draft: Draft, row: int, **changes: Any) -> Draft:
    content = draft.as_json()
    content["points"][row] |= changes
    return Draft.from_json(content)


# ------------------------------------------------------------------------------------------------- what it amounts to


def test_a_complete_draft_is_judged_as_the_command_line_judges_its_files(tmp_path: Path) -> None:
    bench = a_workbench(tmp_path)
    answer = told(bench, a_draft())
    saved = bench.save(a_draft(), NOON)
    assert saved is not None
    again = solve(read_survey(tmp_path / "survey.csv"), read_site(tmp_path / "site.toml"), IMAGE_PX)

    assert (answer["verdict"], answer["wrong"], answer["todo"], answer["can_save"]) == ("good", [], [], True)
    assert answer["summary"] == json.loads(json.dumps(again.summary()))
    assert saved.summary()["camera"] == pytest.approx(again.summary()["camera"])
    assert Calibration.load(tmp_path / "cal.json").id == saved.id


def test_an_empty_page_says_what_is_missing_in_order(tmp_path: Path) -> None:
    answer = told(a_workbench(tmp_path), Draft.of(None, None))

    assert [one["code"] for one in answer["todo"]] == ["marks", "axis", "zone", "site"]
    assert (answer["wrong"], answer["verdict"], answer["can_save"]) == ([], None, False)


def test_residuals_and_grid_appear_before_a_zone_is_drawn(tmp_path: Path) -> None:
    answer = told(a_workbench(tmp_path), a_draft(zone=[], axis=[]))

    assert answer["verdict"] is None
    assert answer["reasons"] == []
    assert len(answer["grid"]) > 10
    assert all(mark["off_m"] < 0.3 for mark in answer["marks"].values())
    assert {"axis", "zone"} == {one["code"] for one in answer["todo"]}


def test_a_typo_is_named_with_its_mark_and_not_saved(tmp_path: Path) -> None:
    bench, draft = a_workbench(tmp_path), a_draft()
    wrong = with_point(draft, 4, x=f"{float(draft.marks[4].x) + 10:.3f}")
    answer = told(bench, wrong)

    assert answer["verdict"] == "refuse"
    assert "survey.csv line 6 (P5): stated at" in answer["reasons"][0]
    assert [mark for mark, row in answer["marks"].items() if row["suspect"]] == ["5"]
    assert bench.save(wrong, NOON) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft.json"]


def test_a_suspect_that_is_left_out_on_purpose_is_remembered(tmp_path: Path) -> None:
    bench, draft = a_workbench(tmp_path), a_draft()
    without = with_point(draft, 4, x=f"{float(draft.marks[4].x) + 10:.3f}", use=False)
    saved = bench.save(without, NOON)

    assert saved is not None
    assert saved.dropped == ("P5",)
    assert "P5" in (tmp_path / "survey.csv").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"x": "12,4"}, "survey.csv line 3 (P2): x_m: expected metres, got '12,4'", id="a decimal comma"),
        pytest.param({"y": ""}, "survey.csv line 3 (P2): y_m: expected metres, got nothing", id="half a coordinate"),
        pytest.param({"y": "four"}, "survey.csv line 3 (P2): y_m: expected metres, got 'four'", id="a word"),
        pytest.param({"name": "P1"}, "survey.csv line 3 (P1): name: expected a new name, got 'P1'", id="a name twice"),
        pytest.param({"u": 2000.0}, "survey.csv line 3 (P2): u_px: expected 0 to 959", id="outside the picture"),
    ],
)
def test_what_cannot_be_read_is_said_as_the_reader_says_it(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    (line,) = told(a_workbench(tmp_path), with_point(a_draft(), 1, **changes))["wrong"]

    assert line["says"].startswith(says)
    assert line["mark"] == 2


def test_a_zone_drawn_in_the_picture_becomes_metres(tmp_path: Path) -> None:
    places = [(12.0, -3.0), (32.0, -3.0), (32.0, 3.0), (12.0, 3.0)]
    pixels = a_camera().project([(x, y, 0.0) for x, y in places])
    answer = told(a_workbench(tmp_path), a_draft(zone=[{"u": u, "v": v} for u, v in pixels]))

    found = np.array([(corner["x"], corner["y"]) for corner in answer["zone"]])
    assert np.abs(found - places).max() < 0.15
    assert answer["can_save"]


def test_a_corner_in_the_sky_is_said(tmp_path: Path) -> None:
    zone = [{"u": 100, "v": 400}, {"u": 800, "v": 400}, {"u": 480, "v": 5}]
    answer = told(a_workbench(tmp_path), a_draft(zone=zone))

    assert [one["says"] for one in answer["wrong"]] == [
        "zone: corner 3 lies at or above the horizon: expected a place on the road"
    ]
    assert not answer["can_save"]


def test_a_wrong_word_about_the_place_does_not_hide_the_verdict(tmp_path: Path) -> None:
    answer = told(a_workbench(tmp_path), a_draft(site={**SITE_TEXTS, "id": "Dorpsstraat 1", "limit_kmh": "30"}))

    assert "site.id: expected up to 64 lower-case letters" in answer["wrong"][0]["says"]
    assert (answer["verdict"], answer["can_save"]) == ("good", False)


def test_tape_alone_makes_a_survey(tmp_path: Path) -> None:
    places = marks_m()
    blank = a_draft()
    content = blank.as_json()
    for point in content["points"]:
        point["x"] = point["y"] = ""
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    pairs = {tuple(sorted((a, int(b)))) for a in range(12) for b in np.argsort(apart[a])[1:6]}
    content["distances"] = [{"from": a + 1, "to": b + 1, "metres": f"{apart[a, b]:.2f}"} for a, b in sorted(pairs)]
    pixels = a_camera().project([(x, y, 0.0) for x, y in a_site().polygon_m])
    ends = a_camera().project([(x, y, 0.0) for x, y in a_site().axis_m])
    content |= {"zone": [{"u": u, "v": v} for u, v in pixels], "axis": [{"u": u, "v": v} for u, v in ends]}
    bench = a_workbench(tmp_path)
    answer = told(bench, Draft.from_json(content))

    assert (answer["wrong"], answer["todo"]) == ([], [])
    assert answer["verdict"] == "good"
    assert answer["summary"]["camera"]["height_m"] == pytest.approx(5.6, abs=0.15)
    assert all(mark["taped"] for mark in answer["marks"].values())
    saved = bench.save(Draft.from_json(content), NOON)
    assert saved is not None
    assert saved.site.length_m == pytest.approx(20.0, abs=0.2)


def test_degrees_and_rd_are_other_words_for_the_same_street(tmp_path: Path) -> None:
    survey = a_survey(a_camera(), seed=7)
    latitude, longitude = 52.2248, 5.1712
    # Metres to degrees with the local radii of curvature: right to 0.1 mm over a street.
    bend = np.sqrt(1 - 0.00669438 * np.sin(np.radians(latitude)) ** 2)
    north = np.radians(1) * 6378137 * (1 - 0.00669438) / bend**3
    east = np.radians(1) * 6378137 / bend * np.cos(np.radians(latitude))
    heights = []
    for system, texts in (
        ("rd", [(f"{x + 141000:.3f}", f"{y + 471000:.3f}") for x, y in survey.points_m]),
        ("wgs84", [(f"{latitude + y / north:.9f}", f"{longitude + x / east:.9f}") for x, y in survey.points_m]),
    ):
        content = a_draft(survey, system=system, zone=[], axis=[]).as_json()
        for point, (x, y) in zip(content["points"], texts):
            point["x"], point["y"] = x, y
        bench = a_workbench(tmp_path / system)
        assessment = bench.update(Draft.from_json(content))
        assert assessment is not None
        assert assessment.solution is not None, assessment.wrong
        heights.append(assessment.solution.plane.camera.height_m)

    assert heights == pytest.approx([5.6, 5.6], abs=0.02)


def test_coordinates_of_another_system_are_noticed(tmp_path: Path) -> None:
    said = told(a_workbench(tmp_path / "a"), a_draft(system="rd"))["wrong"]
    assert said[0]["says"].startswith("P1: expected RD New (x 7000 to 300000, y 289000 to 629000), got (8.")
    said = told(a_workbench(tmp_path / "b"), with_point(a_draft(system="wgs84"), 0, x="141000"))["wrong"]
    assert said[0]["says"].startswith("P1: latitude: expected degrees such as 52.2248113, got '141000'")


# -------------------------------------------------------------------------------------------------------- what is kept


def test_a_killed_server_goes_on_with_the_draft(tmp_path: Path) -> None:
    survey, site = a_survey(a_camera(), seed=7), a_site()
    first = a_workbench(tmp_path, survey=survey, site=site)
    first.update(with_point(replace(first.draft, revision=9), 0, name="gully"))
    again = a_workbench(tmp_path, survey=survey, site=site)

    assert again.draft.marks[0].name == "gully"
    assert again.key == first.key


def test_other_files_begin_another_draft(tmp_path: Path) -> None:
    a_workbench(tmp_path, survey=a_survey(a_camera(), seed=7)).update(a_draft())
    other = a_workbench(tmp_path, survey=a_survey(a_camera(), click_px=0.5, seed=8))

    assert other.draft.revision == 1


def test_the_certificate_remembers_how_the_street_looked(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    blocks = np.kron(rng.integers(40, 200, (27, 48, 1)), np.ones((20, 20, 3))).astype(np.uint8)
    reference = Reference.learn([blocks])
    saved = a_workbench(tmp_path, reference=reference).save(a_draft(), NOON)

    assert reference is not None
    assert saved is not None
    again = Calibration.load(tmp_path / "cal.json").reference
    assert again is not None
    assert again.as_json() == reference.as_json()


def a_lens(*, focal_px: float = 735.0, size_px: tuple[int, int] = IMAGE_PX) -> Lens:
    """What a board would have told about the camera of these tests."""
    covariance = np.diag([0.002, 1.0, 1.0, 0.005, 0.005, 0.0, 0.0, 0.0]) ** 2
    return Lens.named(
        created=NOON, image_size_px=size_px, focal_px=focal_px, centre_px=(479.5, 269.5),
        distortion=(0.001, 0.001, 0.0, 0.0, 0.0), covariance=covariance, rms_px=0.1, views=12,
    )  # fmt: skip


def test_a_lens_that_is_known_beforehand_is_used_and_named(tmp_path: Path) -> None:
    without = told(a_workbench(tmp_path / "a"), a_draft())
    bench = a_workbench(tmp_path / "b", lens=a_lens())
    answer, saved = told(bench, a_draft()), bench.save(a_draft(), NOON)

    assert saved is not None
    assert saved.lens_id == a_lens().id
    assert answer["summary"]["u_rel_speed"]["worst"] < without["summary"]["u_rel_speed"]["worst"]


def test_the_lens_of_another_camera_is_refused_or_said(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="expected pictures of 640x480"):
        a_workbench(tmp_path, lens=a_lens(size_px=(640, 480)))
    answer = told(a_workbench(tmp_path, lens=a_lens(focal_px=1200.0)), a_draft())

    assert answer["wrong"][0]["says"].startswith("--lens: expected the lens of this camera, got lens-2026-11-23-")
    assert not answer["can_save"]


def some_lines(sag_px: float = 0.0) -> StraightLines:
    """Two kerbs of the street, of which the right one is no straight line when it sags."""
    along = np.linspace(9.0, 45.0, 9)
    left, right = (a_camera().project(np.column_stack((along, np.full(9, y), np.zeros(9)))) for y in (3.2, -3.4))
    right = right + sag_px * np.column_stack((np.sin(np.linspace(0.0, np.pi, 9)), np.zeros(9)))
    return StraightLines(("left", "right"), (left, right), (np.full(9, 0.5), np.full(9, 0.5)), "lines.csv")


def test_straight_lines_that_are_known_beforehand_are_used_or_named(tmp_path: Path) -> None:
    without = told(a_workbench(tmp_path / "a"), a_draft())["summary"]["camera"]
    through = told(a_workbench(tmp_path / "b", lines=some_lines()), a_draft())
    assert through["can_save"]
    assert through["summary"]["camera"]["k1_sigma"] < without["k1_sigma"]
    bent = told(a_workbench(tmp_path / "c", lines=some_lines(sag_px=15.0)), a_draft())
    assert bent["wrong"][0]["says"].startswith("lines.csv: expected lines that")
    assert not bent["can_save"]


def test_an_older_copy_never_replaces_a_newer_one(tmp_path: Path) -> None:
    bench = a_workbench(tmp_path)
    bench.update(a_draft(revision=9))

    assert bench.update(a_draft(revision=8)) is None
    assert bench.draft.revision == 9


def test_a_draft_for_another_still_is_refused(tmp_path: Path) -> None:
    a_workbench(tmp_path)
    with pytest.raises(CalibrationError, match="expected a draft for a still of 640x480, found one for 960x540"):
        Workbench(image_size_px=(640, 480), folder=tmp_path)
    (tmp_path / "draft.json").write_text("{")
    with pytest.raises(CalibrationError, match="delete it to begin anew"):
        a_workbench(tmp_path)


def test_nothing_is_half_saved(tmp_path: Path) -> None:
    bench = a_workbench(tmp_path)
    bench.save(a_draft(), NOON)
    before = {name: (tmp_path / name).read_bytes() for name in ("survey.csv", "site.toml")}
    (tmp_path / "cal.json").unlink()
    (tmp_path / "cal.json").mkdir()  # the last of the three cannot be written

    with pytest.raises(CalibrationError, match="cannot be written"):
        bench.save(a_draft(a_survey(a_camera(), click_px=0.5, tape_m=0.01, seed=8)), NOON)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({}, id="empty"),
        pytest.param({"revision": 1, "points": "P1"}, id="no list"),
        pytest.param(
            {"revision": 1, "points": [{"id": 1, "name": "P1", "u": float("nan"), "v": 1}]}, id="not a number"
        ),
        pytest.param({"revision": 1, "system": "feet"}, id="unknown system"),
        pytest.param({"revision": 1, "sigma_m": "0" * 1000}, id="a very long text"),
        pytest.param({"revision": 1, "zone": [{"u": 1, "v": 1}] * 1000}, id="a thousand corners"),
        pytest.param({"revision": 1, "points": [{"id": 1, "name": "P1", "u": 1, "v": 1}] * 2}, id="one id twice"),
    ],
)
def test_what_is_no_draft_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(CalibrationError, match="draft: "):
        Draft.from_json(content)


def test_names_cannot_break_out_of_the_files(tmp_path: Path) -> None:
    name, forward = 'kerb, "east"\nx', 'to "A" \\ \u2028 end'
    draft = with_point(a_draft(site={**SITE_TEXTS, "forward": forward}), 0, name=name)
    bench = a_workbench(tmp_path)

    assert bench.save(draft, NOON) is not None
    assert read_survey(tmp_path / "survey.csv").names[0] == 'kerb, "east" x'
    assert read_site(tmp_path / "site.toml").forward == 'to "A" \\   end'


# -------------------------------------------------------------------------------------------------------- who is let in


@contextmanager
def served(folder: Path) -> Iterator[PageServer]:
    server = PageServer(still=a_still(), workbench=a_workbench(folder))
    thread = threading.Thread(target=server.serve_until_saved)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(timeout=5)


def ask(
    server: PageServer, name: str, *, body: object = None, token: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request; ``token`` in place of the right one."""
    host, port = server.server_address[:2]
    secret = server.address.split("/")[3] if token is None else token
    connection = http.client.HTTPConnection(str(host), int(port), timeout=20)
    sent = {"Content-Type": "application/json"} if body is not None else {}
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
    connection.request("GET" if body is None else "POST", f"/{secret}/{name}", content, {**sent, **headers})
    reply = connection.getresponse()
    answer = reply.status, dict(reply.getheaders()), reply.read()
    connection.close()
    return answer


def test_everything_that_the_page_names_is_served_and_allows_nothing_foreign(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        for name, kind in (
            ("", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript"), ("still.png", "image/png"),
            ("begin", "application/json"),
        ):  # fmt: skip
            status, headers, body = ask(server, name)
            assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
            assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store"
            assert body
        page = ask(server, "")[2].decode()
        assert "http" not in page.replace("http-equiv", "")
        assert "style=" not in page
        assert "onclick" not in page
        assert ask(server, "../survey.csv")[0] == 404


def test_nothing_is_answered_without_the_token(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        for token in ("", "x", server.address.split("/")[3][:-1], "begin"):
            for name in ("", "begin", "still.png", "page.js"):
                status, _, body = ask(server, name, token=token)
                assert (status, body) == (403, b"open the address exactly as it was printed")
        assert ask(server, "draft", token="x", body={"revision": 1})[0] == 403
    with served(tmp_path / "other") as other:
        assert other.address.split("/")[3] != server.address.split("/")[3]


def test_foreign_names_and_foreign_pages_are_refused(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        port = server.server_address[1]
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.2:{port}", ""):
            assert ask(server, "begin", Host=host)[0] == 421
        assert ask(server, "begin", Host=f"localhost:{port}")[0] == 200
        assert ask(server, "draft", body={"revision": 1}, Origin="http://evil.example")[0] == 403
        assert ask(server, "draft", body={"revision": 1}, Origin="null")[0] == 403
        assert ask(server, "draft", body={"revision": 1}, **{"Content-Type": "text/plain"})[0] == 415
        assert ask(server, "draft", body=b"[1]")[0] == 400
        assert ask(server, "draft", body=b"[" * 100_000)[0] == 400
        assert ask(server, "draft", body=b"", **{"Content-Length": "9999999"})[0] == 413
        assert ask(server, "draft", body={"points": []})[0] == 400
        assert ask(server, "nothing", body={})[0] == 404


def test_saving_ends_the_page(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        assert json.loads(ask(server, "begin")[2])["draft"]["points"] == []
        status, _, body = ask(server, "draft", body=a_draft(zone=[]).as_json())
        assert (status, json.loads(body)["can_save"]) == (200, False)
        assert ask(server, "save", body=a_draft(zone=[]).as_json())[0] == 422
        assert ask(server, "draft", body=a_draft(revision=4).as_json())[0] == 409
        status, _, body = ask(server, "save", body=a_draft(revision=6).as_json())
        assert status == 200
    assert server.saved is not None
    assert server.saved.id == json.loads(body)["id"] == Calibration.load(tmp_path / "cal.json").id


# ---------------------------------------------------------------------------------------------------- the command line


def test_the_page_opens_to_a_network_only_when_told_and_says_so() -> None:
    assert address_of("127.0.0.1:8017") == ("127.0.0.1", 8017)
    assert address_of("localhost:0") == ("127.0.0.1", 0)
    assert not any("Warning" in line for line in invitation("http://127.0.0.1:1/t/", "127.0.0.1"))
    assert any(line.startswith("Warning: the page is open") for line in invitation("http://0.0.0.0:1/t/", "0.0.0.0"))
    for wrong in ("8017", "127.0.0.1", "pole:8017", "127.0.0.1:99999", "::1:80"):
        with pytest.raises(BadInput, match=r"--listen: expected ADDRESS:PORT such as 127.0.0.1:8017"):
            address_of(wrong)


def test_an_expired_still_is_refused(tmp_path: Path) -> None:
    old = Still(image_bgr=a_still().image_bgr, taken=NOON - timedelta(days=4000), expires=NOON - timedelta(days=3970))
    old.save(tmp_path / "still.png")
    result = CliRunner().invoke(
        app, ["calibrate", "page", "--still", str(tmp_path / "still.png"), "--out", str(tmp_path / "out")]
    )

    assert "expired on 2016-01-10; delete it and take a new one" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_survey_of_another_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="outside a picture of 320x240"):
        Workbench(image_size_px=(320, 240), folder=tmp_path, survey=a_survey(a_camera()))
