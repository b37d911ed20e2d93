"""The first settings file: valid, for the right eyes, never over another one without a word."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge.cli import main
from edge.settings import load_settings
from tests.support.clips import ROOT

GIVEN = [
    "--city",
    "hilversum",
    "--device",
    "hvs-0042",
    "--source",
    "street.mp4",
    "--broker",
    "mqtts://mqtt.example.org",
]


def _init(out: Path, *options: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["init", "--out", str(out), *options])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_what_it_writes_can_be_used_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "snellius.toml"
    assert _init(out, *GIVEN) == 0
    settings = load_settings(out)
    assert (settings.site.city, settings.site.device) == ("hilversum", "hvs-0042")
    assert settings.mqtt.url == "mqtts://mqtt.example.org"
    assert settings.mqtt.password_file == tmp_path / "credentials" / "mqtt-password"
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    told = capsys.readouterr().out
    assert f"snellius calibrate page --still still.png --out {tmp_path}" in told
    assert f"snellius doctor --config {out}" in told


def test_every_verb_that_it_names_as_the_next_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _init(tmp_path / "snellius.toml", *GIVEN)
    named = [
        line.split("snellius ", 1)[1].split() for line in capsys.readouterr().out.splitlines() if "  snellius " in line
    ]
    assert len(named) == 3
    for words in named:
        verb = words[: next(place for place, word in enumerate(words) if word.startswith("-"))]
        with pytest.raises(SystemExit) as ended:
            main([*verb, "--help"])
        assert ended.value.code == 0


def test_a_file_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "snellius.toml"
    out.write_text("mine")
    assert _init(out, *GIVEN) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert _init(out, *GIVEN, "--force") == 0
    assert load_settings(out).site.device == "hvs-0042"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--city", "Den Haag"], "init: site.city: expected only a-z"),
        (["--broker", "mqtt.example.org"], "init: mqtt.url: expected mqtt://"),
        (["--source", "ftp://camera"], "init: source.url: expected"),
    ],
)
def test_a_wrong_answer_is_one_line_and_nothing_is_written(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _init(tmp_path / "snellius.toml", *GIVEN, *options) == 2
    told = capsys.readouterr().err
    assert told.startswith(says)
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named_where_nobody_can_be_asked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge", "init", "--out", str(tmp_path / "snellius.toml"), *GIVEN[2:]]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("--city: missing")


def test_it_asks_a_person_for_what_is_missing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edge", "init", "--out", str(tmp_path / "snellius.toml"), *GIVEN[4:]]
    with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE, text=True) as asking:
        os.write(ours, b"hilversum\nhvs-0042\n")
        said, _ = asking.communicate(timeout=120)
    os.close(ours)
    os.close(theirs)
    assert "City, as it stands in the topics" in said
    assert asking.returncode == 0
    assert load_settings(tmp_path / "snellius.toml").site.device == "hvs-0042"
