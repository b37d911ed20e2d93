"""A session with a laser gun beside the street: typed, paired in memory, summed up without anybody in it."""

from __future__ import annotations

import io
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.verify_report import report_html
from edge.assembly import measuring_pipeline
from edge.cli import app
from edge.cli.typed import Session, Typist, at_its_pace, beside_the_street
from edge.domain import Direction, Frame
from edge.sources.synthetic import ScriptedVehicle, SyntheticRoad
from tests.support.builders import a_passage
from tests.support.rtsp import RtspServer
from tests.support.street import LONG_AGO, STREET, a_road, a_vehicle, demo_calibration, shortened_street

SLOW_S = 3.2  # from the vehicle to Enter, in these tests


def traffic() -> list[ScriptedVehicle]:
    rng = random.Random(8)
    return [
        a_vehicle(
            speed_kmh=rng.uniform(25.0, 60.0),
            middle_s=5.0 + 5.0 * number,
            direction=Direction.FORWARD if number % 3 else Direction.BACKWARD,
        )
        for number in range(13)
    ]


class Technician:
    """Types every vehicle's true speed some seconds after it has passed; stands in for the keyboard."""

    def __init__(self, vehicles: list[ScriptedVehicle], road: SyntheticRoad, more: dict[float, str]) -> None:
        rng = random.Random(2)
        self.is_over = False
        self._road = road
        self._to_type = sorted(
            [
                (
                    vehicle.middle_s + SLOW_S + rng.gauss(0.0, 0.3),
                    f"{vehicle.speed_mps * 3.6:.0f} {vehicle.direction.value[0]}",
                )
                for vehicle in vehicles
            ]
            + list(more.items())
        )
        self._now_s = 0.0

    def frames(self) -> Iterator[Frame]:
        for frame in self._road.frames():
            self._now_s = frame.captured_ns / 1e9
            yield frame

    def lines(self) -> Iterator[str]:
        while self._to_type and self._to_type[0][0] <= self._now_s:
            yield self._to_type.pop(0)[1]


def a_session(more: dict[float, str] | None = None, lasts_s: float = 600.0) -> tuple[Session, list[str]]:
    vehicles = traffic()
    road = a_road(*vehicles, lasts_s=76.0, rate_hz=10)
    technician = Technician(vehicles, road, more or {})
    session, shown = Session(device="laser"), list[str]()
    pipeline = measuring_pipeline(demo_calibration(), road)
    beside_the_street(technician.frames(), pipeline, session, typed=technician, lasts_s=lasts_s, say=shown.append)
    return session, shown


def test_what_is_typed_is_paired_and_shown_while_the_street_goes_on() -> None:
    session, shown = a_session({30.0: "thirty", 31.0: "99", 31.5: "-"})
    result = session.result.summary(with_single=False)
    assert result["n"] == 13
    assert result["clock_offset_s"] == pytest.approx(SLOW_S, abs=0.3)
    assert abs(result["bias_kmh"]) < 1.5  # the scripted vehicles are cuboids
    assert "expected a speed such as 38 or 38 f, got 'thirty'" in shown
    assert any(line.endswith("99 km/h taken back") for line in shown)
    pairs = [line for line in shown if "ours" in line]
    assert len({line.split()[0] for line in pairs}) == 13
    assert any("1 min:" in line and "bias" in line for line in shown)
    assert not any("99.0" in line for line in pairs)


def test_q_and_the_time_that_was_given_end_it() -> None:
    session, shown = a_session({20.0: "q"})
    assert session.is_over
    assert shown.count("ended") == 1
    assert len(session.readings) <= 4
    short, _ = a_session(lasts_s=12.0)
    assert not short.is_over
    assert len(short.readings) <= 2


def test_nothing_typed_is_an_honest_result() -> None:
    session = Session()
    session.see([a_passage(speed_kmh=30.0, middle_s=float(t)) for t in range(0, 100, 10)])
    assert list(session.news()) == []
    assert session.result.summary()["n"] == 0
    assert session.result.shortfalls == ("0 pairs: expected 10 or more",)
    assert "no reading yet" in session.progress(60.0)


@pytest.mark.parametrize("words", ["", "0", "301", "38 x y z", "38 north east", "-5", "3 8 f f"])
def test_what_is_no_reading_is_not_taken_for_one(words: str) -> None:
    session = Session()
    assert session.hear(words, 1.0).startswith("expected a speed")
    assert len(session.readings) == 0


@pytest.mark.parametrize(
    ("words", "kmh", "direction", "lane"),
    [
        ("38", 38.0, "", ""),
        (" 38,5 F\n", 38.5, "forward", ""),
        ("7 b", 7.0, "backward", ""),
        ("52.5 f 2", 52.5, "forward", "2"),
        ("52 left", 52.0, "", "left"),
    ],
)
def test_a_reading_may_name_direction_and_lane(words: str, kmh: float, direction: str, lane: str) -> None:
    session = Session(angle_deg=20.0)
    session.hear(words, 1.0)
    readings = session.readings
    assert (readings.read_kmh.tolist(), readings.directions, readings.lanes) == ([kmh], (direction,), (lane,))
    assert readings.speeds_kmh[0] == pytest.approx(kmh / np.cos(np.radians(20.0)))


def test_a_wrong_reading_from_long_ago_cannot_move_the_clock() -> None:
    """Offsets that nobody needs for typing are not tried, however well they fit."""
    session = Session()
    session.see([a_passage(speed_kmh=30.0 + number, middle_s=20.0 * number) for number in range(20)])
    for number in range(12):
        session.hear(f"{30 + number}", 20.0 * number + 100.0)  # fits with an offset of 100 s
    offset = session.result.offset
    assert offset is None or -3.0 <= offset.seconds <= 20.0


def test_the_summary_names_no_vehicle() -> None:
    session = Session()
    session.see([a_passage(speed_kmh=30.0 + 0.7 * number, middle_s=20.0 * number) for number in range(20)])
    for number in range(20):
        session.hear(f"{30 + 0.7 * number + (25 if number == 7 else 0):.0f}", 20.0 * number + 2.0)
    result = session.result
    summary, page = result.summary(with_single=False), report_html(result, "session", with_single=False)
    assert (summary["suspects"], summary["alone"], summary["ambiguous"]) == (1, 0, 0)
    assert not any(isinstance(value, list) and len(value) > 2 for value in summary.values())
    assert "<circle" not in page
    assert "reading 8" not in page + json.dumps(summary)
    assert page.count("<circle") == 0 < report_html(result, "session").count("<circle")


def test_lines_wait_for_the_camera_and_end_with_the_input() -> None:
    typist = Typist(io.StringIO("38\n\n40 f\n"))
    heard: list[str] = []
    deadline_s = time.monotonic() + 30.0
    while not typist.is_over and time.monotonic() < deadline_s:
        heard += list(typist.lines())
    assert heard == ["38\n", "40 f\n"]


def test_a_recorded_street_keeps_its_pace_and_stops_when_told() -> None:
    road = a_road(lasts_s=0.5, rate_hz=10)
    began_s = time.monotonic()
    assert len(list(at_its_pace(road.frames(), threading.Event()))) == 5
    assert time.monotonic() - began_s >= 0.39
    stop = threading.Event()
    stop.set()
    assert list(at_its_pace(road.frames(), stop)) == []


# ------------------------------------------------------------------------------------------------------------- the verb


def settings_file(folder: Path, clip: Path | str, **calibration: Any) -> Path:
    demo_calibration(**calibration).save(folder / "cal.json")
    file = folder / "snellius.toml"
    file.write_text(
        f'[site]\ncity = "hilversum"\ndevice = "hvs-0042"\n[source]\nurl = "{clip}"\n'
        '[calibration]\nfile = "cal.json"\n[mqtt]\nurl = "mqtt://127.0.0.1:1"\n[outbox]\nfile = "outbox.sqlite"\n',
        encoding="utf-8",
    )
    file.chmod(0o600)
    return file


def test_the_verb_runs_a_session_and_writes_the_summary_only(tmp_path: Path) -> None:
    clip = shortened_street(tmp_path / "street.mp4", frames=40)
    config = settings_file(tmp_path, clip)
    before = set(tmp_path.iterdir())
    report = tmp_path / "report.html"
    done = CliRunner().invoke(
        app,
        ["calibrate", "verify", "--live", "--config", str(config), "--minutes", "1", "--json", "--report", str(report)],
        input="38 f\n41\n",
    )
    assert done.exit_code == 1, done.output  # two readings cannot pass
    summary = json.loads(done.stdout)
    assert summary["calibration"] == demo_calibration().id
    assert (summary["readings"], summary["pass"]) == (2, False)
    assert set(tmp_path.iterdir()) == before | {report}


def test_a_network_camera_serves_a_session_as_well(tmp_path: Path) -> None:
    with RtspServer(clip=STREET) as server:
        config = settings_file(tmp_path, server.url)
        arguments = ["calibrate", "verify", "--live", "--config", str(config), "--minutes", "1", "--json"]
        done = CliRunner().invoke(app, arguments, input="38 f\n")  # one reading, then the end of the input
    assert done.exit_code == 1, done.output or done.exception
    assert json.loads(done.stdout)["readings"] == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--live"], "--live: expected --config FILE"),
        ([], "expected --passages FILE and --reference FILE, or --live"),
        (["--live", "--config", "CONFIG", "--passages", "p.jsonl"], "neither --passages nor --reference"),
        (["--live", "--config", "CONFIG", "--device", "radar"], "--device: expected laser, gps, speedometer"),
        (["--live", "--config", "CONFIG"], "expected a calibration that is valid"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, options: list[str], says: str) -> None:
    config = settings_file(tmp_path, STREET, made=LONG_AGO)
    done = CliRunner().invoke(
        app, ["calibrate", "verify", *(str(config) if each == "CONFIG" else each for each in options)]
    )
    assert done.exit_code != 0
    assert says in str(done.exception)
