"""Files and messages that nobody meant: a clear line or a right answer, never a crash, a hang, or growth."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from calibration import Calibration, CalibrationError, read_site, read_survey
from edge.errors import SnelliusError
from edge.publish.payload import Ack, Command
from edge.settings import example_toml, load_settings
from edge.sources.video import VideoFile
from tests.support.clips import write_clip
from tests.support.street import BUNDLED, demo_calibration

TOLD = (SnelliusError, CalibrationError)
EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
MOST_FRAMES = 500  # a damaged clip of thirty frames that delivers more has grown

damage = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
    st.tuples(st.just("flip"), st.floats(0, 0.999), st.integers(0, 7)),
    st.tuples(st.just("twice"), st.floats(0, 0.999), st.integers(1, 200)),
    st.tuples(st.just("nonsense"), st.floats(0, 0.999), st.integers(0, 255)),
)
damages = st.lists(damage, min_size=1, max_size=4)


def damaged(body: bytes, wounds: list[tuple[str, float, int]]) -> bytes:
    """The same bytes, cut off, with a bit flipped, with a stretch twice, or with a stretch of nonsense."""
    for kind, share, number in wounds:
        at = int(len(body) * share)
        if kind == "cut":
            body = body[:at]
        elif kind == "flip" and body:
            body = body[:at] + bytes([body[at] ^ (1 << number)]) + body[at + 1 :]
        elif kind == "twice":
            body = body[: at + number] + body[at:]
        elif kind == "nonsense":
            body = body[:at] + bytes([number]) * 16 + body[at + 16 :]
    return body


def told_in_lines(error: Exception) -> None:
    assert str(error).strip()
    assert "Traceback" not in str(error)


@EXAMPLES
@given(damages)
def test_damaged_settings_are_read_or_refused_in_words(tmp_path: Path, wounds: list[tuple[str, float, int]]) -> None:
    path = tmp_path / "snellius.toml"
    path.write_bytes(damaged(example_toml().encode(), wounds))
    try:
        load_settings(path)
    except TOLD as error:
        told_in_lines(error)


@EXAMPLES
@given(damages)
def test_a_damaged_calibration_is_read_or_refused_in_words(
    tmp_path: Path, wounds: list[tuple[str, float, int]]
) -> None:
    whole = tmp_path / "whole.json"
    if not whole.exists():
        demo_calibration().save(whole)
    path = tmp_path / "calibration.json"
    path.write_bytes(damaged(whole.read_bytes(), wounds))
    try:
        Calibration.load(path)
    except TOLD as error:
        told_in_lines(error)


@EXAMPLES
@given(damages, st.booleans())
def test_a_damaged_survey_or_site_is_read_or_refused_in_words(
    tmp_path: Path, wounds: list[tuple[str, float, int]], is_site: bool
) -> None:
    name, read = ("site.toml", read_site) if is_site else ("survey.csv", read_survey)
    path = tmp_path / name
    path.write_bytes(damaged((BUNDLED / name).read_bytes(), wounds))
    try:
        read(path)  # type: ignore[operator]
    except TOLD as error:
        told_in_lines(error)


@EXAMPLES
@given(st.one_of(st.binary(max_size=400), damages))
def test_a_message_of_the_platform_is_understood_or_refused(said: bytes | list[tuple[str, float, int]]) -> None:
    payload = said if isinstance(said, bytes) else damaged(b'{"cmd":"resend","id":"a1","from":1,"to":9}', said)
    with suppress(ValidationError):
        Command.model_validate_json(payload)
    with suppress(ValidationError):
        Ack.model_validate_json(payload)


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_a_damaged_video_ends_or_is_refused_in_words(tmp_path: Path, suffix: str) -> None:
    whole = write_clip(tmp_path / f"whole.{suffix}", frames=30, rate_hz=25.0).read_bytes()
    chance = random.Random(11)
    for number in range(25):
        kind = chance.choice(["cut", "flip", "twice", "nonsense"])
        wounds = [(kind, chance.random() * 0.999, chance.randrange(8)) for _ in range(chance.choice([1, 3, 20]))]
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(damaged(whole, wounds if kind != "cut" else wounds[:1]))
        frames = 0
        try:
            with VideoFile(path) as clip:
                last_ns = -1
                for frame in clip.frames():
                    assert frame.captured_ns > last_ns
                    last_ns = frame.captured_ns
                    frames += 1
                    assert frames <= MOST_FRAMES
        except TOLD as error:
            told_in_lines(error)
