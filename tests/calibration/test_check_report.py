"""The report page of ``calibrate check``: complete, readable without colour, and loading nothing from anywhere."""

from __future__ import annotations

import base64
import re
import stat
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from calibration import Calibration, CalibrationError, solve
from calibration.check_report import BANDS, COLOURS, colour, picture_svg, plan_svg, report_html
from calibration.quality import Verdict
from calibration.still import Still
from edge.cli.calibrate import app
from edge.errors import BadInput
from tests.calibration.surveys import IMAGE_PX, a_camera, a_site, a_survey

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
MADE = NOW - timedelta(days=40)
SVG = "{http://www.w3.org/2000/svg}"


def a_certificate(*, k1: float = 0.0, made: datetime = MADE) -> Calibration:
    survey = a_survey(a_camera(k1=k1), click_px=0.5, tape_m=0.01, seed=7)
    return solve(survey, a_site(), IMAGE_PX).certified(made)


def a_still(*, expires: datetime | None = None) -> Still:
    ramp = np.tile(np.linspace(40, 200, IMAGE_PX[0]), (IMAGE_PX[1], 1)).astype(np.uint8)
    return Still(np.dstack((ramp, ramp, ramp)), taken=NOW, expires=expires)


def a_page(certificate: Calibration, **changes: object) -> str:
    ordinary: dict[str, object] = {"verdict": certificate.verdict, "reasons": certificate.reasons, "now": NOW}
    return report_html(certificate, **(ordinary | changes))  # type: ignore[arg-type]


def drawing(svg: str) -> ET.Element:
    return ET.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def certificate() -> Calibration:
    return a_certificate()


def test_the_page_says_verdict_camera_age_expiry_density_and_every_point(certificate: Calibration) -> None:
    page = a_page(certificate)
    summary = certificate.summary()
    for expected in (
        certificate.id,
        "test-street",
        "Good: speeds may be published",
        f"{summary['camera']['height_m']:.2f} ± {2 * summary['camera']['height_m_sigma']:.2f} m",
        "2026-10-14, 40 days old",
        "2027-10-14, 325 days left",
        f"{summary['px_per_m']:.0f} px/m",
        certificate.fingerprint,
    ):
        assert expected in page
    for point in certificate.points:
        assert f"<td>{point.name}</td>" in page
        assert f"{point.residual_px[0]:+.2f}" in page


def test_nothing_is_loaded_from_outside_and_nothing_runs(certificate: Calibration) -> None:
    page = a_page(certificate, still=a_still())
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert re.findall(r"https?://", page) == []
    assert {source.split(",")[0] for source in re.findall(r'(?:href|src)="([^"#]*)"', page)} == {
        "data:image/jpeg;base64"
    }


def test_names_from_a_survey_cannot_write_html() -> None:
    survey = a_survey(a_camera(), click_px=0.5, seed=7)
    evil = type(survey)(
        names=("<script>alert(1)</script>", *survey.names[1:]),
        pixels=survey.pixels,
        points_m=survey.points_m,
        sigma_px=survey.sigma_px,
        sigma_m=survey.sigma_m,
        origin=survey.origin,
    )
    page = a_page(solve(evil, a_site(), IMAGE_PX).certified(MADE))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_an_arrow_begins_where_the_point_should_be_and_leads_towards_the_click(certificate: Calibration) -> None:
    arrows = re.findall(
        r'd="M([-\d.]+) ([-\d.]+)l([-\d.]+) ([-\d.]+)" stroke="#c8102e"', picture_svg(certificate, None)
    )
    assert len(arrows) == len(certificate.points)
    times = int(re.findall(r"(\d+) times as long", a_page(certificate))[0])
    for point, arrow in zip(certificate.points, np.array(arrows, dtype=float)):
        projected = certificate.plane.project(point.point_m)
        assert arrow[:2] == pytest.approx(projected, abs=0.06)
        assert arrow[2:] == pytest.approx(times * (np.array(point.pixel) - projected), abs=0.06)
        assert np.hypot(*arrow[2:]) <= 0.08 * IMAGE_PX[0]


def test_lines_on_the_road_are_bent_as_the_lens_bends_them() -> None:
    def bend_px(certificate: Calibration) -> float:
        (path,) = re.findall(r'd="([^"]*)" stroke="#0b57d0" stroke-width="3.00"', picture_svg(certificate, None))
        side = np.array(re.findall(r"([-\d.]+) ([-\d.]+)", path)[:60], dtype=float)
        across = np.array([-(side[-1] - side[0])[1], (side[-1] - side[0])[0]])
        return float(np.abs((side - side[0]) @ across / np.linalg.norm(across)).max())

    assert bend_px(a_certificate()) < bend_px(a_certificate(k1=-0.28)) / 2


def test_the_map_has_the_colour_of_the_uncertainty_at_each_place(certificate: Calibration) -> None:
    root = drawing(plan_svg(certificate))
    fills = [cell.get("fill") for cell in root.findall(f"{SVG}g/{SVG}rect")]
    assert len(fills) == 48 * 16
    assert max(COLOURS.index(str(fill)) for fill in fills) <= COLOURS.index(colour(certificate.quality.u_rel_worst))
    middle = certificate.zone_plane.relative_speed_sigma([10.0 - 10.0 / 48, 3.0 / 16], (1.0, 0.0))
    # columns run along the zone, rows from right to left of the axis; this is the 24th column, just left of the axis
    assert fills[23 * 16 + 8] == colour(float(middle))


def test_the_two_limits_of_the_verdict_are_where_the_warm_colours_begin() -> None:
    assert BANDS[-2:] == (0.015, 0.03)
    assert (colour(0.0149), colour(0.0151), colour(0.031)) == COLOURS[-3:]


def test_what_the_camera_cannot_see_is_hatched_not_coloured() -> None:
    survey = a_survey(a_camera(), click_px=0.5, tape_m=0.01, seed=7)
    site = a_site()
    near = type(site)(
        id=site.id, limit_kmh=30, mount_height_m=None, forward="out", backward="in",
        polygon_m=((0.0, -3.0), (32.0, -3.0), (32.0, 3.0), (0.0, 3.0)), axis_m=((0.0, 0.0), (32.0, 0.0)),
    )  # fmt: skip
    certificate = solve(survey, near, IMAGE_PX).certified(MADE)
    fills = [cell.get("fill") for cell in drawing(plan_svg(certificate)).findall(f"{SVG}g/{SVG}rect")]
    hidden = fills.count("url(#hatch)") / len(fills)
    assert hidden == pytest.approx(1 - certificate.quality.visible_share, abs=0.05)
    assert hidden > 0.1


def test_the_still_becomes_part_of_the_page_small_and_with_its_date(certificate: Calibration) -> None:
    page = a_page(certificate, still=a_still(expires=NOW + timedelta(days=30)))
    (encoded,) = re.findall(r'href="data:image/jpeg;base64,([^"]+)"', page)
    image = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), dtype=np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape[1] <= 960
    assert "delete it by 2026-12-23" in page


def test_an_expired_calibration_and_its_reason_stand_on_top(certificate: Calibration) -> None:
    later = certificate.expires + timedelta(days=1)
    page = a_page(certificate, verdict=Verdict.REFUSE, reasons=["expired on 2027-10-14"], now=later)
    assert '<div class="verdict refuse">' in page
    assert page.index("expired on 2027-10-14") < page.index("What was found")
    assert "2027-10-14, expired" in page


def test_the_verb_writes_the_page_with_picture_and_tape(tmp_path: Path) -> None:
    a_certificate(made=datetime.now(timezone.utc)).save(tmp_path / "cal.json")
    plane = Calibration.load(tmp_path / "cal.json").plane
    ends = plane.project([[14.0, -2.0], [24.0, -2.0]])
    row = ",".join(f"{value:.2f}" for value in ends.ravel())
    (tmp_path / "tape.csv").write_text(f"u1_px,v1_px,u2_px,v2_px,distance_m\n{row},10.00\n", encoding="utf-8")
    a_still().save(tmp_path / "still.png")
    out = tmp_path / "report.html"
    arguments = ["check", "--calibration", tmp_path / "cal.json", "--distances", tmp_path / "tape.csv"]
    result = run(*arguments, "--still", tmp_path / "still.png", "--report", out)
    assert result.exit_code == 0, result.output
    assert f"Written: {out}" in result.stdout.replace("\n", "")
    page = out.read_text(encoding="utf-8")
    assert "Taped distances" in page
    assert "tape.csv line 2" in page
    assert "data:image/jpeg" in page
    assert stat.S_IMODE(out.stat().st_mode) == 0o600  # it shows the street, as the still does


def test_a_still_that_does_not_fit_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    a_certificate(made=datetime.now(timezone.utc)).save(tmp_path / "cal.json")
    other = Still(np.zeros((480, 640, 3), np.uint8), taken=None, expires=None)
    other.save(tmp_path / "other.png")
    a_still(expires=NOW - timedelta(days=3650)).save(tmp_path / "old.png")
    arguments = ["check", "--calibration", tmp_path / "cal.json", "--report", tmp_path / "report.html", "--still"]
    for name, says in (("other.png", "expected the 960x540 picture"), ("old.png", "expired on"), ("no.png", "no such")):
        error = run(*arguments, tmp_path / name).exception
        assert isinstance(error, (BadInput, CalibrationError))
        assert says in str(error)
    assert not (tmp_path / "report.html").exists()


def test_a_still_without_a_report_is_wrong_use(tmp_path: Path) -> None:
    a_certificate().save(tmp_path / "cal.json")
    a_still().save(tmp_path / "still.png")
    error = run("check", "--calibration", tmp_path / "cal.json", "--still", tmp_path / "still.png").exception
    assert isinstance(error, BadInput)
    assert "--report" in str(error)
