from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.errors import BadInput, BadSettings
from edge.settings import Settings, example_toml, load_settings, reference_markdown
from tests.support.clips import ROOT

SMALLEST = """
[site]
city = "hilversum"
device = "hvs-0042"
[source]
url = "street.mp4"
[calibration]
file = "cal.json"
"""


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("SNELLIUS_") and "__" in name:
            monkeypatch.delenv(name)


def _written(folder: Path, text: str, mode: int = 0o640) -> Path:
    path = folder / "snellius.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def _problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadSettings) as refused:
        load_settings(_written(folder, text))
    return refused.value.problems


def test_four_keys_are_enough_and_the_rest_has_defaults(tmp_path: Path) -> None:
    settings = load_settings(_written(tmp_path, SMALLEST))
    assert (settings.privacy.k, settings.lab.enabled, settings.site.timezone) == (10, False, "Europe/Amsterdam")
    assert settings.mqtt.url == "mqtt://127.0.0.1:1883"


def test_relative_paths_start_at_the_settings_file(tmp_path: Path) -> None:
    text = SMALLEST + '[outbox]\nfile = "state/outbox.sqlite"\n'
    settings = load_settings(_written(tmp_path, text))
    assert settings.source.url == str(tmp_path / "street.mp4")
    assert settings.calibration.file == tmp_path / "cal.json"
    assert settings.outbox.file == tmp_path / "state" / "outbox.sqlite"


def test_a_secret_that_systemd_hands_over_goes_before_the_file_that_only_root_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SMALLEST + '[mqtt]\npassword_file = "credentials/mqtt-password"\nca_file = "ca.pem"\n'
    path = _written(tmp_path, text)
    assert load_settings(path).mqtt.password_file == tmp_path / "credentials" / "mqtt-password"

    handed = tmp_path / "run"
    handed.mkdir()
    (handed / "mqtt-password").write_text("")
    (handed / "ca.pem").write_text("")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    settings = load_settings(path)
    assert settings.mqtt.password_file == handed / "mqtt-password"
    assert settings.mqtt.ca_file == tmp_path / "ca.pem", "only what stands in the folder credentials"


@pytest.mark.parametrize("url", ["/clips/a street.mp4", "file:///clips/a%20street.mp4"])
def test_a_file_address_and_a_path_mean_the_same(url: str, tmp_path: Path) -> None:
    settings = load_settings(_written(tmp_path, SMALLEST.replace("street.mp4", url)))
    assert settings.source.url == "/clips/a street.mp4"


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLIUS_SITE__DEVICE", "hvs-0043")
    monkeypatch.setenv("SNELLIUS_PRIVACY__K", "12")
    settings = load_settings(_written(tmp_path, SMALLEST))
    assert (settings.site.device, settings.site.city, settings.privacy.k) == ("hvs-0043", "hilversum", 12)


def test_every_wrong_setting_is_told_at_once(tmp_path: Path) -> None:
    text = """
[site]
city = "Hilversum Noord"
devise = "hvs-0042"
timezone = "Europe/Hilversum"
[source]
url = "rtsp://user:hunter2@camera/stream"
start = "2026-01-01T08:00:00"
[privacy]
k = 4
[mqtt]
url = "mqtt://user:hunter2@broker"
[sorce]
url = "street.mp4"
"""
    problems = _problems(tmp_path, text)
    named = {problem.partition(":")[0] for problem in problems}
    assert named == {
        "site.city",
        "site.device",
        "site.devise",
        "site.timezone",
        "source.url",
        "source.start",
        "privacy.k",
        "mqtt.url",
        "sorce",
        "calibration",
    }
    assert "site.devise: unknown setting (did you mean site.device?)" in problems
    assert "hunter2" not in "".join(problems)
    assert all("\n" not in problem for problem in problems)


def test_a_wrong_setting_in_the_environment_is_told_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNELLIUS_LAB__SLOT_S", "5")
    monkeypatch.setenv("SNELLIUS_LABB__K", "5")
    problems = _problems(tmp_path, SMALLEST)
    assert any("lab.slot_s" in problem and "SNELLIUS_LAB__SLOT_S" in problem for problem in problems)


def test_an_unknown_section_in_the_environment_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLIUS_LABB__K", "5")
    assert _problems(tmp_path, SMALLEST) == ["labb: unknown section (from the environment, SNELLIUS_LABB__K)"]


def test_an_environment_name_without_a_section_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLIUS_SHARED", "/somewhere")
    load_settings(_written(tmp_path, SMALLEST))


def test_settings_that_name_a_secret_are_refused_when_everybody_can_read_them(tmp_path: Path) -> None:
    text = SMALLEST + '[mqtt]\npassword_file = "password"\n'
    assert load_settings(_written(tmp_path, text, 0o640)).mqtt.password_file == tmp_path / "password"
    with pytest.raises(BadSettings, match=r"mqtt\.password_file set, but everybody on this computer may read"):
        load_settings(_written(tmp_path, text, 0o644))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[site\n", "expected TOML", id="broken"),
        pytest.param("k = 12,4\n", "line 1", id="broken, with its line"),
        pytest.param("\x00\x01", "expected TOML", id="binary"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(BadInput, match=says) as refused:
        load_settings(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_a_missing_settings_file_and_a_directory_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such settings file"):
        load_settings(tmp_path / "nothing.toml")
    with pytest.raises(BadInput, match="found a directory"):
        load_settings(tmp_path)


def test_the_example_file_is_current_and_can_be_loaded() -> None:
    example = ROOT / "docs" / "settings.example.toml"
    assert example.read_text(encoding="utf-8") == example_toml(), "python -m edge.settings > docs/settings.example.toml"
    assert load_settings(example).site.device == "hvs-0042"


def test_the_reference_page_is_current() -> None:
    page = ROOT / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == reference_markdown(), (
        "python -m edge.settings reference > docs/settings.md"
    )


def test_every_setting_can_be_written_as_the_example_shows_it(tmp_path: Path) -> None:
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line else line
        for line in example_toml().splitlines()
    )
    settings = load_settings(_written(tmp_path, uncommented))
    assert isinstance(settings, Settings)
    assert settings.site.id == "hvs-snelliuslaan-12"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        pytest.param(
            'profiles = ["ngsi-ld"]',
            "mqtt.profiles: expected 'native' among the profiles, and each of them once",
            id="alone",
        ),
        pytest.param(
            'profiles = ["native", "native"]',
            "mqtt.profiles: expected 'native' among the profiles, and each of them once",
            id="twice",
        ),
        pytest.param(
            'profiles = ["native", "ngsi-ld"]', "mqtt: expected ngsi_ld_api_key for the profile ngsi-ld", id="no key"
        ),
        pytest.param(
            'ngsi_ld_api_key = "a/b"', "mqtt.ngsi_ld_api_key: expected only letters, digits, - and _", id="no topic"
        ),
        pytest.param(
            'profiles = ["native", "sparkplug"]',
            "mqtt.profiles.1: expected 'native', 'ngsi-ld' or 'homeassistant', got 'sparkplug'",
            id="unknown",
        ),
    ],
)
def test_a_wrong_choice_of_dialects_is_explained(lines: str, problem: str, tmp_path: Path) -> None:
    assert _problems(tmp_path, SMALLEST + f"[mqtt]\n{lines}\n") == [problem]
