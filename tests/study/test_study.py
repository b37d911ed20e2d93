"""A whole study on a simulated Snelliuslaan: the answer, what is left out, and what a reader is told."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from benchmarks.study import shares as street_shares
from edge.cli import main
from edge.domain import Direction
from edge.errors import BadInput
from edge.publish.payload import Flow
from edge.study import Question, Study, StudyRefused, bad_weather, days_of, public_holidays, school_holidays, study
from edge.study.effect import FIGURES
from edge.study.pictures import Heat
from edge.study.plan import plan_of
from edge.study.report import report_html, verdict
from edge.study.words import LANGUAGES
from edge.subscriber import Numbered, Store
from tests.support.builders import HILVERSUM
from tests.support.published import a_flow, day_window, following, four_o_clock, with_calibration
from tests.support.snelliuslaan import AFTER, BEFORE, COMPARISON, FIRST, LAST, STREET, published_months

V85 = FIGURES.index("v85")
U_REL = {STREET: {"cal-2026-10-02-a1": 0.008}, COMPARISON: {"cal-2026-10-02-a1": 0.008}}
MONDAY = four_o_clock("2026-01-05")
Windows = dict[str, list[Flow]]


@pytest.fixture(scope="module")
def messages() -> list[Numbered]:
    """What the two poles published in sixteen weeks."""
    return list(published_months())


@pytest.fixture(scope="module")
def windows(messages: list[Numbered]) -> Windows:
    """The same by pole."""
    found: Windows = {STREET: [], COMPARISON: []}
    for numbered in messages:
        assert isinstance(numbered.message, Flow)
        found[numbered.message.device].append(numbered.message)
    return found


@pytest.fixture(scope="module")
def answered(windows: Windows) -> Study:
    """The question of the street, with everything that is advised."""
    return study(a_question(), windows, U_REL)


def a_question(**changes: object) -> Question:
    asked = Question(
        pole=STREET,
        comparison=(COMPARISON,),
        before=BEFORE,
        after=AFTER,
        exclusions=public_holidays(FIRST, LAST),
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


def keys(answer: Study) -> list[str]:
    return [key for key, _ in answer.warnings]


def test_the_effect_of_the_humps_is_found(answered: Study) -> None:
    effect = answered.effect

    assert verdict(answered) == "slower"
    for index in range(3):  # mean, V50, V85: the humps take 3 km/h from each
        assert effect.low[index] <= -3.0 <= effect.high[index]
        assert effect.high[index] - effect.low[index] < 1.6
    assert effect.low[5] <= 0.0 <= effect.high[5]  # no traffic left
    assert answered.warnings == ()
    assert answered.history_days >= 28


def test_the_keys_of_the_summary_are_those_that_checks_read(answered: Study) -> None:
    summary = json.loads(json.dumps(answered.summary(), allow_nan=False))

    assert {"effects", "days", "vehicles", "warnings"} <= set(summary)
    assert {"mean", "v50", "v85", "share_over", "volume"} <= set(summary["effects"])
    for effect in summary["effects"].values():
        assert effect["low"] <= effect["estimate"] <= effect["high"]
    assert summary["days"]["before"] + summary["days"]["after"] == len(answered.days)


def test_holidays_are_left_out_with_their_names(answered: Study) -> None:
    assert answered.left_out[date(2026, 4, 27)] == "Koningsdag"
    assert answered.left_out[date(2026, 5, 14)] == "Hemelvaartsdag"
    assert date(2026, 4, 27) not in answered.days


def test_days_watched_too_little_are_left_out_and_told(answered: Study) -> None:
    assert "watched too little" in answered.left_out.values()
    rows = answered.streets[0].rows_of(answered.days)
    assert answered.streets[0].coverage[rows].min() >= 0.7


def test_the_answer_holds_when_asked_differently(answered: Study) -> None:
    variants = {each.key: each for each in answered.variants}

    assert {"first_half", "second_half", "working_days", "with_exclusions", "no_comparison", "whole_history",
            "coverage", "direction"} == set(variants)  # fmt: skip
    for each in answered.variants:
        assert each.effect is not None
        assert each.effect.high[V85] < 0


def test_without_a_comparison_street_the_season_is_not_told_apart(windows: Windows) -> None:
    answer = study(a_question(comparison=()), windows, U_REL)

    assert "no_comparison" in keys(answer)
    assert answer.effect.estimate[V85] < -3.0  # the trend of both streets is in it


def test_weeks_in_which_nothing_happened_are_not_called_slower(windows: Windows) -> None:
    quiet = a_question(before=(FIRST, date(2026, 2, 22)), after=BEFORE)
    answer = study(quiet, windows, U_REL)

    assert verdict(answer) == "unclear"
    assert "no_history" in keys(answer)


def test_a_changed_calibration_of_unknown_uncertainty_is_refused_and_a_known_one_is_carried(windows: Windows) -> None:
    changed = {
        pole: [
            flow.model_copy(update={"prov": flow.prov.model_copy(update={"cal": "cal-new"})})
            if pole == STREET and flow.window.day >= date(2026, 4, 1)
            else flow
            for flow in flows
        ]
        for pole, flows in windows.items()
    }
    with pytest.raises(StudyRefused, match="--u-calibration"):
        study(a_question(), changed, U_REL)

    known = {**U_REL, STREET: {**U_REL[STREET], "cal-new": 0.015}}
    carried, same = study(a_question(), changed, known), study(a_question(), windows, U_REL)
    assert "calibration_changed" in keys(carried)
    before, after = carried.effect.before[V85], carried.effect.after[V85]
    own = np.hypot(0.008 * before, 0.015 * after)
    assert carried.u_calibration[V85] == pytest.approx(own, rel=0.05)
    assert carried.effect.high[V85] - carried.effect.low[V85] > same.effect.high[V85] - same.effect.low[V85] + 0.5


def test_a_period_before_that_was_chosen_for_its_high_speeds_is_told(windows: Windows) -> None:
    fast = [flow for flow in windows[STREET] if flow.window.day < BEFORE[0]]
    shifted = []
    for flow in fast:  # the weeks before the period were 2 km/h slower
        counts = (*flow.speed.hist.counts[1:], 0)
        hist = flow.speed.hist.model_copy(
            update={"counts": counts, "under": flow.speed.hist.under + flow.speed.hist.counts[0]}
        )
        shifted.append(flow.model_copy(update={"speed": flow.speed.model_copy(update={"hist": hist})}))
    rest = [flow for flow in windows[STREET] if flow.window.day >= BEFORE[0]]
    answer = study(a_question(), {**windows, STREET: shifted + rest}, U_REL)

    assert "baseline_high" in keys(answer)
    (whole,) = [each for each in answer.variants if each.key == "whole_history"]
    assert whole.effect is not None
    assert whole.effect.estimate[V85] > answer.effect.estimate[V85] + 0.5


def test_a_new_speed_limit_is_counted_against_one_limit_in_both_periods() -> None:
    rng = np.random.default_rng(4)
    flows = []
    for number in range(42):
        begin = following(four_o_clock("2026-03-02"), number)
        limit = 50 if number < 21 else 30
        counts = rng.multinomial(900, np.r_[0, np.full(20, 0.05), np.zeros(6 if limit == 30 else 16)])
        flows.append(a_flow(day_window(begin, counts.tolist(), limit_kmh=limit), number + 1, device=STREET))
    asked = a_question(comparison=(), before=(date(2026, 3, 2), date(2026, 3, 22)),
                       after=(date(2026, 3, 23), date(2026, 4, 12)), exclusions=None)  # fmt: skip
    answer = study(asked, {STREET: flows}, U_REL)

    assert "limit_changed" in keys(answer)
    assert answer.comparison.limits_kmh == (30,)
    assert answer.effect.before[3] == pytest.approx(0.5, abs=0.02)
    assert answer.effect.after[3] == pytest.approx(0.5, abs=0.02)


def test_too_few_days_are_refused(windows: Windows) -> None:
    with pytest.raises(StudyRefused, match="too few usable days"):
        study(a_question(before=(date(2026, 3, 2), date(2026, 3, 3))), windows, U_REL)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"after": (date(2026, 3, 20), date(2026, 4, 20))}, id="overlap"),
        pytest.param({"before": (date(2026, 3, 20), date(2026, 3, 2))}, id="backwards"),
        pytest.param({"comparison": (STREET,)}, id="compared with itself"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        a_question(**changes)


# --------------------------------------------------------------------------------------------------------------- days


def test_hours_take_only_windows_that_lie_within_them() -> None:
    begin = four_o_clock("2026-03-02")
    flows = [
        a_flow(day_window(begin + timedelta(hours=3 * number), [0] + [1] * 25 + [0], hours=3), number + 1)
        for number in range(8)
    ]  # 04-07, 07-10, 10-13, 13-16, 16-19, …
    found = days_of("p", flows, zone=HILVERSUM, least_coverage=0.5, hours=(7, 19))
    assert found.measured.tolist() == [100]
    assert found.coverage.tolist() == [1.0]

    cut = days_of("p", flows, zone=HILVERSUM, least_coverage=0.5, hours=(8, 16))
    assert cut.measured.tolist() == [50]  # 07-10 is not cut
    assert cut.volumes.tolist() == pytest.approx([50 * 8 / 6])


def test_a_day_is_made_up_for_the_time_that_nobody_watched() -> None:
    flow = a_flow(day_window(four_o_clock("2026-03-02"), [0] + [4] * 25 + [0], hours=24, coverage=0.8))
    found = days_of("p", [flow], zone=HILVERSUM, least_coverage=0.7)
    assert found.volumes.tolist() == pytest.approx([125])
    assert found.measured.tolist() == [100]


def test_a_window_over_two_days_spoils_both() -> None:
    flow = a_flow(day_window(four_o_clock("2026-03-02"), [0] + [4] * 25 + [0], hours=30))
    with_another = [flow, a_flow(day_window(four_o_clock("2026-03-05"), [0] + [4] * 25 + [0]), 2)]
    found = days_of("p", with_another, zone=HILVERSUM, least_coverage=0.7)
    assert found.days == (date(2026, 3, 5),)
    assert set(found.left_out) == {date(2026, 3, 2), date(2026, 3, 3)}


def test_exclusions_from_files() -> None:
    school = school_holidays("from,to,name\n2026-04-25,2026-04-27,May holiday\n2026-05-01,2026-05-01,\n", "s.csv")
    assert school == {date(2026, 4, 25): "May holiday", date(2026, 4, 26): "May holiday",
                      date(2026, 4, 27): "May holiday", date(2026, 5, 1): "school holiday"}  # fmt: skip
    weather = bad_weather("day,rain_mm,min_c\n2026-03-01,12.5,3\n2026-03-02,0,-2\n2026-03-03,1,1\n", "w.csv",
                          ["rain_mm>10", "min_c<0"])  # fmt: skip
    assert weather == {date(2026, 3, 1): "rain_mm>10", date(2026, 3, 2): "min_c<0"}


@pytest.mark.parametrize(
    ("read", "says"),
    [
        pytest.param(lambda: school_holidays("from\n", "s.csv"), "line 1.*to", id="missing column"),
        pytest.param(
            lambda: school_holidays("from,to\n2026-05-02,2026-05-01\n", "s.csv"), "line 2: to", id="backwards"
        ),
        pytest.param(lambda: bad_weather("day,rain_mm\n1 May,3\n", "w.csv", ["rain_mm>1"]), "line 2: day", id="no day"),
        pytest.param(lambda: bad_weather("day\n", "w.csv", ["rain"]), "rain_mm>10", id="no condition"),
        pytest.param(lambda: public_holidays(FIRST, LAST, "XX"), "country code", id="no country"),
    ],
)
def test_a_wrong_file_of_exclusions_is_told(read: object, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read()  # type: ignore[operator]


# ------------------------------------------------------------------------------------------------------------- report


@pytest.fixture(scope="module")
def page(answered: Study) -> str:
    heat = Heat(12, {(0, 4): 38.0, (0, 16): 41.0}, {(0, 4): 35.0, (0, 16): None})
    return report_html(answered, heat=heat, now=datetime(2026, 6, 1, tzinfo=timezone.utc), name="Snelliuslaan <12>")


def test_the_report_loads_nothing_and_runs_nothing(page: str) -> None:
    assert not re.search(r"<script|<link|<img|<iframe|src=|@import|url\(|https?:", page)
    assert "default-src 'none'" in page
    assert "Snelliuslaan &lt;12&gt;" in page


def test_the_report_says_the_answer_first_in_both_languages(page: str) -> None:
    dutch, english = page.split('<main lang="en"')
    for text, answer in ((dutch, "langzamer gereden"), (english, "drive more slowly")):
        start = text.index("<h1>")
        assert start < text.index(answer) < text.index("<svg")


def test_every_picture_of_the_report_can_be_read_aloud(page: str) -> None:
    pictures = re.findall(r"<svg [^>]*>", page)
    assert len(pictures) == 8
    for picture in pictures:
        assert 'role="img"' in picture
        assert re.search(r'aria-label="[^"]{20,}"', picture)


def test_both_languages_have_the_same_words() -> None:
    english, dutch = LANGUAGES["en"], LANGUAGES["nl"]

    def places(text: str) -> list[str]:
        return sorted(re.findall(r"{\w*}", text))

    for name in ("figures", "units", "answers", "certainty", "headings", "captions", "axes", "table", "warnings",
                 "variants", "reasons"):  # fmt: skip
        ours, theirs = getattr(english, name), getattr(dutch, name)
        assert ours.keys() == theirs.keys()
        for key, text in ours.items():
            assert places(text) == places(theirs[key]), (name, key)
    assert [places(text) for text in english.method] == [places(text) for text in dutch.method]
    assert len(english.limits) == len(dutch.limits)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_stands_out_from_what_it_is_on() -> None:
    from edge.study import pictures

    for colour in (pictures.BEFORE, pictures.AFTER, pictures.INK, pictures.GREY):
        assert contrast(colour, "#ffffff") >= 4.5
    for shade, colour in enumerate(pictures.HEAT):
        assert contrast("#ffffff" if shade >= pictures.DARK else pictures.INK, colour) >= 4.5


# -------------------------------------------------------------------------------------------------------- command line


@pytest.fixture(scope="module")
def city(messages: list[Numbered], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("city") / "city.sqlite"
    with Store(str(path), create=True) as store:
        store.add(messages)
    return path


def snellius(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_the_verb_answers_and_writes_the_report(city: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    code, out, err = snellius(
        capsys, "study", "run", "--store", city, "--pole", STREET, "--before", "2026-03-02..2026-03-29",
        "--after", "2026-04-20..2026-05-17", "--comparison", COMPARISON, "--report", report, "--json",
    )  # fmt: skip

    assert (code, err) == (0, "")
    assert json.loads(out)["effects"]["v85"]["high"] < -2
    assert "<svg" in report.read_text(encoding="utf-8")


def test_the_plan_tells_what_can_be_seen(city: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = ("--history", "2026-01-26..2026-03-29")
    code, out, _ = snellius(
        capsys, "study", "plan", "--store", city, "--pole", STREET, "--comparison", COMPARISON, *history, "--json"
    )

    assert code == 0
    detectable = json.loads(out)["detectable"]
    assert [row["days"] for row in detectable] == sorted(row["days"] for row in detectable)
    assert detectable[0]["v85"] > detectable[-1]["v85"] > 0
    # 0.5 km/h of its own on each street, 4 weeks: 2.9 * sqrt(2 * 2 * 0.5**2 / 28) and the sampling of 1,100 vehicles
    (four_weeks,) = [row for row in detectable if row["days"] == 28]
    assert 0.4 < four_weeks["mean"] < 0.9


def test_a_comparison_street_that_shares_the_weather_shows_smaller_changes() -> None:
    rng = np.random.default_rng(6)
    weather = rng.normal(0, 1.5, 56)
    streets = []
    for mean_kmh in (33.0, 31.0):
        shares = street_shares(mean_kmh + weather + rng.normal(0, 0.2, 56), 6.0)
        flows = [
            a_flow(
                day_window(following(four_o_clock("2026-01-05"), day), rng.multinomial(2000, share).tolist()), day + 1
            )
            for day, share in enumerate(shares)
        ]
        streets.append(days_of(f"street {mean_kmh}", flows, zone=HILVERSUM, least_coverage=0.7))

    together, alone = (plan_of(chosen, {}).rows[3] for chosen in (streets, streets[:1]))
    assert alone.days == 28
    # alone: 1.5 km/h between days, (2.0 + 0.85) * sqrt(2 / 28) of it; the interval of a standard deviation of 49 days
    assert alone.mean == pytest.approx(2.86 * 1.5 * math.sqrt(2 / 28), rel=0.3)
    assert together.mean == pytest.approx(2.86 * math.hypot(0.2, 0.2) * math.sqrt(2 / 28), rel=0.4)


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        pytest.param({"--pole": "nobody"}, 2, "nobody", id="no such pole"),
        pytest.param({"--before": "2026-03-02"}, 2, "--before", id="one day"),
        pytest.param({"--hours": "19-7"}, 2, "--hours", id="hours backwards"),
        pytest.param({"--before": "2025-03-02..2025-03-29"}, 1, "too few usable days", id="before there was a pole"),
        pytest.param({"--limit": "31"}, 2, "--limit", id="limit between edges"),
        pytest.param({"--language": "fr"}, 2, "nl or en", id="unknown language"),
    ],
)
def test_what_cannot_be_answered_is_one_clear_line(
    changes: dict[str, str], code: int, says: str, city: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"--store": str(city), "--pole": STREET, "--before": "2026-03-02..2026-03-29",
               "--after": "2026-04-20..2026-05-17"} | changes  # fmt: skip
    ended, _, err = snellius(capsys, "study", "run", *[part for option in options.items() for part in option])

    assert ended == code
    assert says in err
    assert err.count("\n") == 1


def test_directions_can_be_asked_alone(windows: Windows) -> None:
    answer = study(a_question(direction=Direction.FORWARD), windows, U_REL)
    assert answer.vehicles[0] < 0.6 * sum(flow.speed.n for flow in windows[STREET] if flow.window.day <= BEFORE[1])
    assert "direction" not in {each.key for each in answer.variants}


def test_another_calibration_on_the_comparison_street_counts_as_well(windows: Windows) -> None:
    assert with_calibration("cal-x").calibration == "cal-x"
    changed = {
        **windows,
        COMPARISON: [
            flow.model_copy(update={"prov": flow.prov.model_copy(update={"cal": "cal-x"})})
            if flow.window.day >= AFTER[0]
            else flow
            for flow in windows[COMPARISON]
        ],
    }
    answer = study(a_question(u_calibration=0.01), changed, U_REL)
    assert ("calibration_changed", COMPARISON) in answer.warnings
