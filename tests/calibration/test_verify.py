from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from calibration import CalibrationError
from calibration.camera import Floats
from calibration.verify import (
    Readings,
    bland_altman,
    clock_offset,
    passed_of,
    proposed_scale,
    read_passages,
    read_reference,
    verify,
)
from calibration.verify_report import report_html
from edge.cli import app
from tests.calibration.gun import GUN_KMH, OURS_KMH, Street

# ----------------------------------------------------------------------------------------------------------- simulation


def test_a_meter_that_is_right_passes_and_its_interval_holds_the_true_bias() -> None:
    results = [verify((street := Street(seed)).passed(), street.read(offset_s=3.7)).summary() for seed in range(40)]

    assert sum(result["pass"] for result in results) >= 36
    covered = sum(result["bias_low"] <= 0.0 <= result["bias_high"] for result in results)
    assert covered >= 33  # of 40 with probability 0.95 each: fewer has a chance of 0.3 %
    assert np.mean([result["within_u"] for result in results]) == pytest.approx(0.95, abs=0.02)
    expected_sd = math.hypot(OURS_KMH, GUN_KMH, 0.29)
    assert np.mean([result["loa_high"] for result in results]) == pytest.approx(1.96 * expected_sd, rel=0.1)


@pytest.mark.parametrize("bias_kmh", [-2.0, 0.6, 2.5])
def test_a_known_bias_is_found_and_a_large_one_fails(bias_kmh: float) -> None:
    street = Street(3, bias_kmh=bias_kmh)

    result = verify(street.passed(), street.read()).summary()

    assert result["bias_low"] <= bias_kmh <= result["bias_high"]
    assert result["bias_high"] - result["bias_low"] < 0.7
    assert result["pass"] == (abs(bias_kmh) < 1)
    assert any("bias" in line for line in result["shortfalls"]) == (abs(bias_kmh) > 1)


@pytest.mark.parametrize("offset_s", [-412.3, -3.0, 0.0, 3.7, 59.0, 3600.0])
@pytest.mark.parametrize("with_direction", [True, False])
def test_the_clocks_need_not_agree(offset_s: float, with_direction: bool) -> None:
    street = Street(4)

    result = verify(street.passed(), street.read(offset_s=offset_s, with_direction=with_direction)).summary()

    assert result["clock_offset_s"] == pytest.approx(offset_s, abs=0.2)
    assert abs(result["clock_offset_s"] - offset_s) < 4 * result["clock_offset_sigma_s"]
    assert result["clock_offset_rival_s"] is None
    assert result["n"] >= 34


def test_vehicles_that_we_missed_leave_readings_alone_and_the_bias_where_it_was() -> None:
    streets = [Street(seed, bias_kmh=0.4) for seed in range(20)]

    results = [verify(street.passed(missed=0.3), street.read(60)).summary() for street in streets]

    left_out = np.mean([60 - result["n"] for result in results])
    assert 0.25 * 60 <= left_out <= 0.4 * 60
    assert np.mean([result["bias_kmh"] for result in results]) == pytest.approx(0.4, abs=0.06)
    covered = sum(result["bias_low"] <= 0.4 <= result["bias_high"] for result in results)
    assert covered >= 16  # of 20 with probability 0.95 each: fewer has a chance of 0.3 %


def test_a_mistyped_reading_is_named_left_out_and_must_be_resolved() -> None:
    street = Street(6)
    readings = street.read(mistyped=2)

    result = verify(street.passed(), readings).summary()

    assert len(result["suspects"]) == 2
    assert all(each["reference_kmh"] - each["ours_kmh"] > 12 for each in result["suspects"])
    assert all(re.fullmatch(r"gun\.csv line \d+", each["where"]) for each in result["suspects"])
    assert abs(result["bias_kmh"]) < 0.5
    assert not result["pass"]
    assert any(line.startswith("2 readings far from all others") for line in result["shortfalls"])


def test_our_own_blunder_cannot_pass_as_a_mistyped_reading() -> None:
    street = Street(7)
    street.ours_kmh[::10] += 25.0

    assert not verify(street.passed(), street.read(60)).summary()["pass"]


def test_a_stated_sigma_that_is_too_small_fails() -> None:
    street = Street(8)
    street.ours_kmh += street.rng.normal(0.0, 1.1, len(street.ours_kmh))  # 0.5 is stated

    result = verify(street.passed(), street.read(80)).summary()

    assert result["within_u"] < 0.9
    assert any("stated uncertainty is too small" in line for line in result["shortfalls"])


@pytest.mark.parametrize("count", [1, 3, 9])
def test_few_readings_are_told_and_do_not_pass(count: int) -> None:
    street = Street(9)

    result = verify(street.passed(), street.read(count)).summary()

    assert result["n"] <= count
    assert not result["pass"]
    assert any(line.endswith("pairs: expected 10 or more") for line in result["shortfalls"])
    if result["n"] < 2:
        assert result["bias_kmh"] is None


def test_clocks_that_fit_in_two_ways_are_told_and_do_not_pass() -> None:
    """Every minute the same platoon: an offset of a minute fits as well as none."""
    times = np.arange(30) * 60.0
    passed = passed_of([(t, 38.0, 0.5, True, -1.5) for t in times])
    readings = Readings(
        times[5:20] + 30.0, np.full(15, 38.0), np.full(15, 0.7), np.zeros(15), ("",) * 15, ("",) * 15, ("line",) * 15
    )

    result = verify(passed, readings).summary()

    assert result["clock_offset_rival_s"] is not None
    assert abs(result["clock_offset_rival_s"] - result["clock_offset_s"]) == pytest.approx(60.0, abs=0.5)
    assert not result["pass"]


def test_readings_of_another_street_find_nobody_they_agree_with() -> None:
    here, elsewhere = Street(10), Street(11)

    result = verify(here.passed(), elsewhere.read(40)).summary()

    assert not result["pass"]


def test_nothing_to_compare_is_an_honest_result() -> None:
    street = Street(12)

    result = verify(passed_of([]), street.read(5)).summary()

    assert (result["n"], result["bias_kmh"], result["clock_offset_s"], result["pass"]) == (0, None, None, False)
    assert len(result["alone"]) == 5


@pytest.mark.parametrize("angle_deg", [8.0, 20.0])
def test_the_angle_of_the_gun_is_corrected(angle_deg: float) -> None:
    street = Street(13)

    result = verify(street.passed(), street.read(angle_deg=angle_deg)).summary()

    assert result["bias_low"] - 0.1 <= 0.0 <= result["bias_high"] + 0.1  # uncorrected: 0.4 and 2.4 km/h


def test_a_speedometer_is_recognised_and_cannot_make_us_pass() -> None:
    street = Street(14)
    passed, readings = street.passed(), street.read(high=0.06)

    suspected = verify(passed, readings).summary()
    told = verify(passed, Readings(**{**_fields(readings), "device": "speedometer"})).summary()

    assert any("is it a speedometer? UNECE Regulation 39" in line for line in suspected["warnings"])
    assert any("no reference" in line for line in told["shortfalls"])
    assert not told["pass"]


def _fields(readings: Readings) -> dict[str, Any]:
    return {name: getattr(readings, name) for name in readings.__dataclass_fields__}


# -------------------------------------------------------------------------------------------------------------- pairing


def some_readings(*rows: tuple[float, float, str, str]) -> Readings:
    """Readings of (time, speed, direction, lane)."""
    n = len(rows)
    times, speeds, directions, lanes = zip(*rows)
    origin = tuple(f"line {number}" for number in range(n))
    return Readings(np.array(times), np.array(speeds), np.full(n, 0.7), np.zeros(n), directions, lanes, origin)


def test_direction_tells_two_vehicles_apart_that_meet() -> None:
    passed = passed_of([(t, v, 0.5, f, 0.0) for t in range(0, 200, 10) for v, f in ((30.0, True), (50.0, False))])
    readings = some_readings(*((float(t), 50.0, "backward", "") for t in range(0, 120, 10)))

    result = verify(passed, readings)

    assert result.summary()["n"] == 12
    assert abs(result.differences_kmh).max() == 0.0


def test_a_lane_tells_two_vehicles_apart_that_drive_side_by_side() -> None:
    """What lane '1' means is learnt from the vehicles that drove alone."""
    alone = [(20.0 * n, 40.0 + n, 0.5, True, -1.5 - 3.5 * (n % 2)) for n in range(12)]
    beside = [(300.0, 44.0, 0.5, True, -1.5), (300.2, 58.0, 0.5, True, -5.0)]
    passed = passed_of(alone + beside)
    readings = some_readings(
        *((t, v, "forward", "1" if d > -3 else "2") for t, v, _, _, d in alone), (300.1, 58.0, "forward", "2")
    )

    result = verify(passed, readings)

    assert result.summary()["ambiguous"] == []
    assert result.summary()["n"] == 13
    assert abs(result.differences_kmh).max() == 0.0


def test_without_a_lane_they_are_left_out_rather_than_chosen_by_speed() -> None:
    alone = [(20.0 * n, 40.0 + n, 0.5, True, -1.5) for n in range(12)]
    passed = passed_of([*alone, (300.0, 44.0, 0.5, True, -1.5), (300.2, 58.0, 0.5, True, -5.0)])
    readings = some_readings(*((t, v, "forward", "") for t, v, *_ in alone), (300.1, 58.0, "forward", ""))

    result = verify(passed, readings).summary()

    assert result["ambiguous"] == ["line 12"]
    assert result["n"] == 12


def test_a_vehicle_that_we_did_not_measure_is_not_paired_with_its_neighbour() -> None:
    others = [(20.0 * n, 40.0 + n, 0.5, True, -1.5) for n in range(12)]
    passed = passed_of([*others, (300.0, math.nan, math.nan, True, -1.5), (301.6, 41.0, 0.5, True, -1.5)])
    readings = some_readings(*((t, v, "forward", "") for t, v, *_ in others), (300.0, 55.0, "forward", ""))

    result = verify(passed, readings).summary()

    assert (result["n"], result["unmeasured"]) == (12, 1)


def test_the_offset_of_one_clear_pair_is_their_difference() -> None:
    offset = clock_offset(passed_of([(10.0, 40.0, 0.5, True, 0.0)]), some_readings((12.5, 41.0, "", "")))

    assert offset is not None
    assert offset.seconds == 2.5
    assert offset.rival_s is None


# ----------------------------------------------------------------------------------------------------------- statistics


def test_agreement_follows_bland_and_altman() -> None:
    """n = 17, mean -2.1 and s = 38.8 l/min are the peak flow data of the paper (Table 1), worked out there.

    It gives the limits -79.7 and 75.5 with 2 s; here they are taken with 1.96 s.
    """
    differences = np.linspace(-1.0, 1.0, 17)
    differences = -2.1 + 38.8 * differences / differences.std(ddof=1)

    found = bland_altman(differences)

    assert found is not None
    assert found.limits == pytest.approx((-2.1 - 1.96 * 38.8, -2.1 + 1.96 * 38.8))
    assert found.bias_interval == pytest.approx((-22.0, 17.8), abs=0.1)  # the paper: -22.0 to 17.8
    t, error = 2.12, 38.8 * math.sqrt(1 / 17 + 1.96**2 / 32)
    assert found.low_interval[1] - found.low_interval[0] == pytest.approx(2 * t * error, rel=0.001)


def test_limits_of_agreement_hold_what_they_promise() -> None:
    rng = np.random.default_rng(1)
    found = [bland_altman(rng.normal(0.3, 1.0, 25)) for _ in range(400)]

    true_low = 0.3 - 1.96
    covered = np.mean([each is not None and each.low_interval[0] <= true_low <= each.low_interval[1] for each in found])
    assert 0.92 <= covered <= 0.98


def _speeds(scale: float, seed: int = 2, n: int = 60) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    true = rng.normal(40.0, 8.0, n)
    return scale * true + rng.normal(0.0, 0.5, n), true + rng.normal(0.0, 0.7, n)


def test_a_wrong_scale_is_proposed_on_pairs_that_it_was_not_fitted_on_and_never_applied() -> None:
    ours, reference = _speeds(1.05)

    proposed = proposed_scale(ours, reference)

    assert proposed is not None
    assert proposed.factor == pytest.approx(1 / 1.05, abs=0.01)
    assert (proposed.fitted_on, proposed.tried_on) == (30, 30)
    assert abs(proposed.bias_after_kmh) < 0.5 < 1.5 < proposed.bias_before_kmh


def test_no_factor_is_proposed_for_a_right_scale_or_from_few_pairs() -> None:
    proposals = [proposed_scale(*_speeds(1.0, seed)) for seed in range(40)]

    assert sum(proposal is not None for proposal in proposals) <= 4  # one in twenty differs by two sigmas by chance
    assert proposed_scale(*_speeds(1.05, n=19)) is None


# ---------------------------------------------------------------------------------------------------------------- files


def written(street: Street, folder: Path, readings: Readings) -> tuple[Path, Path]:
    """Passages and reference as files."""
    passed = street.passed()
    passages, reference = folder / "passages.jsonl", folder / "gun.csv"
    rows = zip(passed.times_s, passed.speeds_kmh, passed.forward)
    passages.write_text(
        "".join(
            json.dumps(
                {
                    "t_s": round(float(t), 3),
                    "speed_kmh": round(float(v), 2),
                    "sigma_kmh": OURS_KMH,
                    "direction": "forward" if f else "backward",
                    "lateral_m": -1.5,
                }
            )
            + "\n"
            for t, v, f in rows
        )
    )
    lines = [f"{t:.1f},{v:.0f},{d}" for t, v, d in zip(readings.times_s, readings.read_kmh, readings.directions)]
    reference.write_text("\n".join(["time_s,speed_kmh,direction", *lines]))
    return passages, reference


def test_the_verb_tells_writes_and_judges(tmp_path: Path) -> None:
    street = Street(20)
    passages, reference = written(street, tmp_path, street.read(offset_s=5.0))
    files = ["--passages", str(passages), "--reference", str(reference)]
    report = tmp_path / "report.html"

    spoken = CliRunner().invoke(app, ["calibrate", "verify", *files, "--report", str(report)])
    printed = CliRunner().invoke(app, ["calibrate", "verify", *files, "--json"])

    assert spoken.exit_code == 0, spoken.output
    assert spoken.output.startswith("pass\n")
    assert "limits of agreement" in spoken.output
    result = json.loads(printed.output)
    assert result["pass"] is True
    assert result["clock_offset_s"] == pytest.approx(5.0, abs=0.2)
    page = report.read_text(encoding="utf-8")
    assert page.count("<circle") == result["n"]
    assert not re.search(r"(src|href)=|url\(|@import|<script", page)


def test_the_verb_ends_with_1_when_it_does_not_pass(tmp_path: Path) -> None:
    street = Street(21, bias_kmh=3.0)
    passages, reference = written(street, tmp_path, street.read())

    done = CliRunner().invoke(app, ["calibrate", "verify", "--passages", str(passages), "--reference", str(reference)])

    assert done.exit_code == 1
    assert done.output.startswith("fail\n  - bias +")


def test_the_report_escapes_what_others_wrote() -> None:
    street = Street(22)

    page = report_html(verify(street.passed(), street.read()), "<script>alert(1)</script>")

    assert "<script>" not in page


def test_readings_may_be_dated_and_carry_angle_sigma_and_device(tmp_path: Path) -> None:
    file = tmp_path / "gun.csv"
    file.write_text(
        "time,speed_kmh,lane,sigma_kmh,gun_angle_deg,device\n"
        "1970-01-01T00:00:10Z,30,1,0.4,,laser\n1970-01-01T01:00:20+01:00,30,2,,60,laser\n".replace(",60,", ",30,")
    )

    readings = read_reference(file)

    assert readings.is_dated
    assert readings.times_s.tolist() == [10.0, 20.0]
    assert readings.sigma_kmh.tolist() == [0.4, 0.7]
    np.testing.assert_allclose(readings.speeds_kmh, [30.0, 30.0 / math.cos(math.radians(30.0))])
    assert (readings.lanes, readings.device) == (("1", "2"), "laser")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "gun.csv: expected the header", id="empty"),
        pytest.param("time_s,speed_kmh\n", "gun.csv: expected at least one reading", id="only a header"),
        pytest.param("speed_kmh\n30\n", "gun.csv line 1: expected either a column 'time_s' or", id="no time"),
        pytest.param("time_s,time,speed_kmh\n1,1,30\n", "gun.csv line 1: expected either a column", id="two times"),
        pytest.param("time_s,speed\n1,30\n", "gun.csv line 1: unknown column 'speed'", id="other column"),
        pytest.param("time_s,speed_kmh\n1,fast\n", "gun.csv line 2: speed_kmh: expected km/h, got 'fast'", id="word"),
        pytest.param("time_s,speed_kmh\n1,0\n", "gun.csv line 2: speed_kmh: expected 1 to 300 km/h, got 0", id="zero"),
        pytest.param(
            "time_s,speed_kmh,direction\n1,30,north\n", "line 2: direction: expected forward, backward", id="direction"
        ),
        pytest.param(
            "time_s,speed_kmh,gun_angle_deg\n1,30,80\n", "line 2: gun_angle_deg: expected 0 to 45", id="angle"
        ),
        pytest.param("time,speed_kmh\nnoon,30\n", "line 2: time: expected an instant such as", id="no instant"),
        pytest.param(
            "time_s,speed_kmh,device\n1,30,gps\n2,30,laser\n", "device: expected one kind of reference", id="two kinds"
        ),
    ],
)
def test_a_bad_reference_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "gun.csv"
    file.write_text(text)

    with pytest.raises(CalibrationError, match=re.escape(says)):
        read_reference(file)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("{", "p.jsonl line 2: expected a JSON object", id="broken"),
        pytest.param("[1]", "p.jsonl line 2: expected a JSON object, got list", id="list"),
        pytest.param(
            '{"t_s": 1}', "p.jsonl line 2: direction: expected forward or backward, got None", id="no direction"
        ),
        pytest.param('{"direction": "forward"}', "p.jsonl line 2: t_s: expected a number, got None", id="no time"),
        pytest.param(
            '{"t_s": 1, "direction": "forward", "speed_kmh": 30}', "line 2: sigma_kmh: expected a number", id="no sigma"
        ),
    ],
)
def test_a_bad_passage_is_one_clear_line(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"t_s": 1.5, "direction": "forward", "speed_kmh": null}\n' + line)

    with pytest.raises(CalibrationError, match=re.escape(says)):
        read_passages(file)
