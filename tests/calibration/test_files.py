"""Files: what a technician writes is read or complained about in one line; what is certified cannot be altered."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from calibration import Calibration, CalibrationError, parse_image_size, read_distances, read_site, read_survey, solve
from calibration.certificate import homography
from calibration.units import kmh_from_mps, mps_from_kmh
from tests.calibration.surveys import IMAGE_PX, SITE_TOML, SURVEY_CSV, a_camera, a_site, a_survey, written

NOW = datetime(2026, 10, 2, 9, 30, 15, tzinfo=timezone.utc)
HEADER = "name,u_px,v_px,x_m,y_m\n"


def told(call: object, *arguments: object) -> str:
    with pytest.raises(CalibrationError) as error:
        call(*arguments)  # type: ignore[operator]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_survey_is_read_as_written(tmp_path: Path) -> None:
    survey = read_survey(written(tmp_path, "survey.csv", SURVEY_CSV))
    assert survey.names == ("P1", "P2", "P3", "P4")
    np.testing.assert_array_equal(survey.pixels[0], [100.5, 300.0])
    np.testing.assert_array_equal(survey.points_m[3], [0.0, 28.0])
    assert survey.origin[2] == "survey.csv line 4"


def test_blank_lines_spaces_a_byte_order_mark_and_left_out_sigmas_are_fine(tmp_path: Path) -> None:
    text = "\ufeffname, u_px ,v_px,x_m,y_m,sigma_px\n\n A , 1 ,2,3,4,\nB,5,6,7,8,0.25\n"
    survey = read_survey(written(tmp_path, "survey.csv", text))
    assert survey.names == ("A", "B")
    assert survey.sigma_px.tolist() == [1.0, 0.25]
    assert survey.sigma_m.tolist() == [0.02, 0.02]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "survey.csv: expected the header name,u_px,v_px,x_m,y_m[,sigma_px][,sigma_m], got an empty file"),
        ("name,u,v_px,x_m,y_m\n", "survey.csv line 1: unknown column 'u', missing column 'u_px'; expected the header"),
        ("name,u_px,v_px,x_m,y_m,u_px\n", "survey.csv line 1: column 'u_px' twice"),
        ("name;u_px;v_px;x_m;y_m\nA;1;2;3;4\n", "survey.csv line 1: expected commas between the columns, got ';'"),
        (HEADER + 'A,1,2,"12,4",4\n', "survey.csv line 2: x_m: expected metres, got '12,4' (use a decimal point)"),
        (
            HEADER + "A,1,2,12,4,4\n",
            "survey.csv line 2: expected 5 values (name,u_px,v_px,x_m,y_m), got 6 (decimal commas?",
        ),
        (HEADER + "A,1,2,3,4\nB,x,2,3,4\n", "survey.csv line 3: u_px: expected pixels, got 'x'"),
        (HEADER + "A,1,2,nan,4\n", "survey.csv line 2: x_m: expected metres, got 'nan'"),
        (HEADER + "A,1,2,3,inf\n", "survey.csv line 2: y_m: expected metres, got 'inf'"),
        (HEADER + "A,1,2,3,1e999\n", "survey.csv line 2: y_m: expected metres, got '1e999'"),
        (HEADER + "A,1,,3,4\n", "survey.csv line 2: v_px: expected pixels, got nothing"),
        (HEADER + "A,1,2,3\n", "survey.csv line 2: expected 5 values (name,u_px,v_px,x_m,y_m), got 4"),
        (HEADER + "A,1,2,3,4\n\nA,5,6,7,8\n", "survey.csv line 4: name: expected a new name, got 'A' again (first in"),
        (HEADER + ",1,2,3,4\n", "survey.csv line 2: name: expected a name for the point, got nothing"),
        (HEADER + 'A,1,2,3,"4\n', "survey.csv line 2: expected CSV, got"),
        (
            "name,u_px,v_px,x_m,y_m,sigma_m\nA,1,2,3,4,0\n",
            "survey.csv line 2: sigma_m: expected a standard deviation above 0, got 0",
        ),
    ],
)
def test_a_malformed_survey_is_told_with_line_and_column(tmp_path: Path, text: str, says: str) -> None:
    assert told(read_survey, written(tmp_path, "survey.csv", text)).startswith(says)


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff\xe0")
    assert told(read_survey, tmp_path / "none.csv").endswith("none.csv: no such file")
    assert told(read_survey, tmp_path).endswith("expected a file, got a directory")
    assert told(read_survey, tmp_path / "picture.csv").endswith("expected UTF-8 text, got byte 0xff")
    assert told(Calibration.load, tmp_path / "none.json").endswith("none.json: no such file")
    assert told(Calibration.load, tmp_path).endswith("expected a file, got a directory")


@pytest.mark.parametrize("text", ["960", "960*540", "960x", "-960x540", "960.0x540", "9x5", ""])
def test_an_image_size_in_another_form_is_refused(text: str) -> None:
    assert told(parse_image_size, text).startswith("--image-size: expected WIDTHxHEIGHT")


def test_an_image_size_is_read() -> None:
    assert parse_image_size("960x540") == (960, 540)


def test_taped_distances_are_read_and_checked(tmp_path: Path) -> None:
    header = "u1_px,v1_px,u2_px,v2_px,distance_m,sigma_m\n"
    tape = read_distances(written(tmp_path, "tape.csv", header + "1,2,3,4,7.5,0.05\n5,6,7,8,3,\n"))
    assert tape.distances_m.tolist() == [7.5, 3.0]
    assert tape.sigma_m.tolist() == [0.05, 0.02]
    assert "distance_m: expected more than 0 m, got -1" in told(
        read_distances, written(tmp_path, "tape.csv", header + "1,2,3,4,-1,0.05\n")
    )
    assert "at least one distance" in told(read_distances, written(tmp_path, "tape.csv", header))


def test_a_site_is_read_and_knows_its_frame(tmp_path: Path) -> None:
    site = read_site(written(tmp_path, "site.toml", SITE_TOML))
    assert (site.id, site.limit_kmh, site.forward) == ("hvs-snelliuslaan-12", 30, "towards Larenseweg")
    assert site.length_m == pytest.approx(20.0)
    np.testing.assert_allclose(site.axis, [0.0, 1.0])
    # Along the axis x runs from 0 to 20; the corner at x = 0 of the survey lies 3.2 m to the left.
    np.testing.assert_allclose(site.polygon_in_frame_m, [[0, 3.2], [0, -3.3], [20, -3.3], [20, 3.2]], atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "limit_kmh = 30",
            "limit = 30",
            "site.toml line 3: site.limit: unknown key; expected id, limit_kmh, mount_height_m",
        ),
        ("limit_kmh = 30\n", "", "site.toml line 1: [site] misses the key limit_kmh"),
        (
            "limit_kmh = 30",
            "limit_kmh = 300",
            "site.toml line 3: site.limit_kmh: expected a whole number from 5 to 130",
        ),
        (
            "limit_kmh = 30",
            'limit_kmh = "30"',
            "site.toml line 3: site.limit_kmh: expected a whole number from 5 to 130, got '30'",
        ),
        (
            "limit_kmh = 30",
            "limit_kmh = 30\nmount_height_m = nan",
            "site.toml line 4: site.mount_height_m: expected metres",
        ),
        ("hvs-snelliuslaan-12", "Snelliuslaan 12", "site.toml line 2: site.id: expected up to 64 lower-case letters"),
        ("[zone]", "[zones]", "site.toml line 4: unknown block [zones]"),
        (
            ", [6.5, 28.0], [0.0, 28.0]]",
            "]",
            "site.toml line 5: zone.polygon_m: expected at least 3 points [x, y] in metres, got 2",
        ),
        (
            "[6.5, 28.0], [0.0, 28.0]",
            "[0.0, 28.0], [6.5, 28.0]",
            "site.toml line 5: zone.polygon_m: expected corners in order",
        ),
        (
            "[6.5, 8.0]",
            '["6,5", 8.0]',
            "site.toml line 5: zone.polygon_m: expected points [x, y] in metres, got ['6,5', 8.0]",
        ),
        ("[3.2, 28.0]]", "[3.2, 9.0]]", "site.toml line 7: direction.axis_m: expected at least 5 m, got 1.00 m"),
        ("[[3.2, 8.0]", "[[3.2, 8.0], [3.2, 18.0]", "site.toml line 7: direction.axis_m: expected exactly 2 points"),
        (
            "[[3.2, 8.0], [3.2, 28.0]]",
            "[[3.2, 58.0], [3.2, 78.0]]",
            "site.toml line 5: zone.polygon_m: expected a zone between",
        ),
        ('"towards Kerkelanden"', '""', "site.toml line 9: direction.backward: expected text, got ''"),
        ("[site]", "[site", "site.toml: expected TOML: "),
    ],
)
def test_a_wrong_site_is_told_with_line_and_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in SITE_TOML
    assert told(read_site, written(tmp_path, "site.toml", SITE_TOML.replace(old, new, 1))).startswith(says)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    survey = a_survey(a_camera(k1=-0.2), click_px=0.5, tape_m=0.01, seed=2)
    return solve(survey, a_site(mount_height_m=5.6), IMAGE_PX, drop=["P7"]).certified(NOW)


def test_a_calibration_comes_back_as_it_was_saved(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "cal.json"
    calibration.save(path)
    back = Calibration.load(path)
    assert (back.id, back.fingerprint, back.created, back.expires) == (
        calibration.id,
        calibration.fingerprint,
        calibration.created,
        calibration.expires,
    )
    assert (back.site, back.points, back.dropped, back.verdict) == (
        calibration.site,
        calibration.points,
        ("P7",),
        calibration.verdict,
    )
    np.testing.assert_array_equal(back.plane.covariance, calibration.plane.covariance)
    np.testing.assert_array_equal(back.plane.camera.rotation, calibration.plane.camera.rotation)
    assert back.plane.camera.distortion == calibration.plane.camera.distortion
    assert [entry.name for entry in tmp_path.iterdir()] == ["cal.json"]
    back.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_its_id_is_the_date_and_the_beginning_of_the_fingerprint(calibration: Calibration) -> None:
    assert calibration.id == f"cal-2026-10-02-{calibration.fingerprint[:4]}"
    assert len(calibration.fingerprint) == 64


def test_it_expires_after_a_year(calibration: Calibration) -> None:
    assert calibration.expires - calibration.created == timedelta(days=365)
    assert not calibration.is_expired(NOW + timedelta(days=364))
    assert calibration.is_expired(NOW + timedelta(days=366))


def test_the_zone_plane_has_its_origin_where_the_axis_begins(calibration: Calibration) -> None:
    start, middle = calibration.zone_plane.project([[0.0, 0.0], [10.0, 2.0]])
    np.testing.assert_allclose(start, calibration.plane.project([12.0, 0.0]), atol=1e-9)
    np.testing.assert_allclose(middle, calibration.plane.project([22.0, 2.0]), atol=1e-9)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("camera", "focal_px"), 700.0),
        (("site", "site", "limit_kmh"), 50),
        (("expires",), "2036-10-02T09:30:15Z"),
        (("id",), "cal-2026-10-02-0000"),
        (("summary", "verdict"), "good "),
    ],
)
def test_an_altered_calibration_is_refused(
    calibration: Calibration, tmp_path: Path, path: tuple[str, ...], value: object
) -> None:
    file = tmp_path / "cal.json"
    calibration.save(file)
    content = json.loads(file.read_text(encoding="utf-8"))
    block = content
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    file.write_text(json.dumps(content), encoding="utf-8")
    assert "altered since it was solved" in told(Calibration.load, file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{\n]", "cal.json line 2: expected JSON"),
        ("[]", "expected a calibration with schema 'snellius.calibration/1'"),
        (
            '{"schema": "snellius.calibration/9"}',
            "schema: expected 'snellius.calibration/1', got 'snellius.calibration/9'",
        ),
        ('{"schema": "snellius.calibration/1"}', "misses the key 'fingerprint'"),
    ],
)
def test_a_file_that_is_no_calibration_is_told(tmp_path: Path, text: str, says: str) -> None:
    assert says in told(Calibration.load, written(tmp_path, "cal.json", text))


def test_a_place_that_cannot_be_written_is_told(calibration: Calibration, tmp_path: Path) -> None:
    assert "cannot be written" in told(calibration.save, tmp_path / "nowhere" / "cal.json")


def test_the_homography_for_other_tools_maps_undistorted_pixels_to_metres(
    calibration: Calibration, tmp_path: Path
) -> None:
    file = tmp_path / "cal.json"
    calibration.save(file)
    block = json.loads(file.read_text(encoding="utf-8"))["homography"]
    camera = calibration.plane.camera
    places = np.array([[14.0, -2.0], [30.0, 2.0]])
    straight = camera.undistorted(calibration.plane.project(places))
    mapped = np.column_stack((straight, np.ones(2))) @ np.array(block["matrix"]).T
    np.testing.assert_allclose(mapped[:, :2] / mapped[:, 2:] + block["origin_m"], places, atol=1e-6)
    rng = np.random.default_rng(6)
    draws = rng.multivariate_normal(np.zeros(11), calibration.plane.covariance, 3000, method="cholesky")
    origin = np.array(block["origin_m"])
    simulated = np.cov(np.array([homography(camera.perturbed(draw), origin).ravel() for draw in draws]).T)
    np.testing.assert_allclose(np.diag(block["covariance"]), np.diag(simulated), rtol=0.2)


def test_no_certificate_is_made_while_points_contradict_each_other() -> None:
    survey = a_survey(a_camera())
    survey.points_m[3] += (10.0, 0.0)
    solution = solve(survey, a_site(), IMAGE_PX)
    assert "no certificate while P4 contradict" in told(solution.certified, NOW)


def test_metres_per_second_and_kilometres_per_hour() -> None:
    assert kmh_from_mps(10.0) == 36.0
    assert mps_from_kmh(50.0) == pytest.approx(13.8889, abs=1e-4)
