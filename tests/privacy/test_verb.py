"""``snellius privacy`` says what the settings lead to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge.cli import main

SETTINGS = """
[site]
city = "hilversum"
device = "hvs-0042"
[source]
url = "/dev/street"
[calibration]
file = "cal.json"
[outbox]
file = "/var/lib/snellius/outbox.sqlite"
retention_days = 21
"""


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["privacy", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out, err


def facts(capsys: pytest.CaptureFixture[str], folder: Path, more: str = "") -> dict[str, Any]:
    file = folder / "snellius.toml"
    file.write_text(SETTINGS + more, encoding="utf-8")
    code, out, err = said(capsys, "--config", str(file), "--json")
    assert (code, err) == (0, "")
    read: dict[str, Any] = json.loads(out)
    return read


def test_it_names_every_file_every_topic_and_the_one_receiver(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = facts(capsys, tmp_path, '[mqtt]\nurl = "mqtts://mqtt.hilversum.example"\n')
    (file,) = found["writes"]
    assert (file["path"], file["kept_days"]) == ("/var/lib/snellius/outbox.sqlite", 21)
    base = "snellius/1/hilversum/hvs-0042"
    assert {each["topic"] for each in found["sends"]} == {
        f"{base}/{name}" for name in ("flow/<direction>", "mix", "meta", "status", "health", "cmd/result", "trial")
    }
    assert {each["topic"] for each in found["hears"]} == {f"{base}/ack", f"{base}/cmd"}
    assert found["receiver"] == {"address": "mqtt.hilversum.example:8883", "encrypted": True, "this_computer": False}
    assert (found["rule"]["k"], found["rule"]["slot_s"], found["rule"]["release_delay_s"]) == (10, 900, 120.0)
    assert found["warnings"] == []


def test_other_dialects_are_told_where_they_are_spoken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = '[mqtt]\nprofiles = ["native", "ngsi-ld", "homeassistant"]\nngsi_ld_api_key = "secret-key"\n'
    found = facts(capsys, tmp_path, more)
    topics = {each["topic"] for each in found["sends"]}
    assert {"/json/<key>/hvs-0042-<direction>/attrs", "homeassistant/device/hvs-0042/config"} <= topics
    assert "secret-key" not in json.dumps(found)
    assert "homeassistant/status" in {each["topic"] for each in found["hears"]}


def test_lab_mode_and_a_smaller_k_are_not_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, tmp_path, "[lab]\nenabled = true\nk = 2\n")
    assert (found["rule"]["name"], found["rule"]["k"], found["rule"]["release_delay_s"]) == ("lab", 2, 0.0)
    assert any("single vehicle" in warning for warning in found["warnings"])
    assert all(each["topic"].startswith("snellius-lab/") for each in found["sends"])
    code, out, _ = said(capsys, "--config", str(tmp_path / "snellius.toml"))
    assert code == 0
    assert out.startswith("WARNING: Lab mode")


def test_without_a_file_it_says_what_holds_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys)
    assert (code, err) == (0, "")
    for word in ("10 measured vehicles", "35 days", "15 minutes", "carry-over", "Never", "Not guaranteed"):
        assert word in out


def test_a_missing_file_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, "--config", str(tmp_path / "none.toml"))
    assert (code, out, err) == (2, "", f"{tmp_path / 'none.toml'}: no such settings file\n")
