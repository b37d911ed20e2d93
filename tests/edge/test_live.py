"""Live sources: the newest frame, its instant, and what is said when there is none."""

from __future__ import annotations

import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edge.domain import CameraState, Frame, TimeKind, Unwatched
from edge.errors import BackendUnavailable, BadInput
from edge.sources.address import SourceKind, kind_of
from edge.sources.alignment import ARRIVAL_SIGMA_S, JUMP_S, PROBATION_S, Alignment
from edge.sources.live import CameraGone, LiveSource, Shot
from edge.sources.opening import open_source
from edge.sources.picture import BLACK_AFTER_S, DARK_AFTER_S, FROZEN_AFTER_S, PictureJudge
from tests.support.mosquitto import eventually
from tests.support.rtsp import RtspServer

S = 1_000_000_000
MS = 1_000_000


# ------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("street.mp4", SourceKind.FILE),
        ("file:///srv/street.mp4", SourceKind.FILE),
        ("rtsp://camera.lan:8554/stream1", SourceKind.RTSP),
        ("rtsps://10.0.0.7/stream1", SourceKind.RTSP),
        ("/dev/video0", SourceKind.V4L2),
        ("v4l2:/dev/v4l/by-id/usb-cam", SourceKind.V4L2),
        ("picamera:", SourceKind.PICAMERA),
        ("picamera:1", SourceKind.PICAMERA),
    ],
)
def test_an_address_names_its_kind_of_source(url: str, kind: SourceKind) -> None:
    assert kind_of(url) is kind


@pytest.mark.parametrize("url", ["http://camera/", "rtsp:///stream", "v4l2:video0", "picamera:left", "s3://a/b"])
def test_an_address_that_nothing_can_open_is_refused_with_what_was_expected(url: str) -> None:
    with pytest.raises(BadInput, match="expected"):
        kind_of(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadInput) as refused:
        kind_of("rtsp://viewer:s3cr3t-marker@10.0.0.7/stream1")
    assert "s3cr3t-marker" not in str(refused.value)
    assert "password_file" in str(refused.value)


# ------------------------------------------------------------------------------------------------------ time stamps


def _placed(
    stamps_ns: list[int], arrivals_ns: list[int], alignment: Alignment | None = None
) -> list[tuple[int, TimeKind]]:
    alignment = alignment or Alignment()
    instants = [alignment.place(stamp, arrived) for stamp, arrived in zip(stamps_ns, arrivals_ns)]
    return [(instant.captured_ns, instant.kind) for instant in instants if instant is not None]


def _steps_s(placed: list[tuple[int, TimeKind]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.diff([captured for captured, _ in placed]) / 1e9


def _jitter_ns(rng: np.random.Generator, n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Delays of a network: 20 ms, and a tail."""
    return (20e6 + rng.exponential(15e6, n)).astype(np.int64)


def test_steps_come_from_the_stamps_and_not_from_the_jitter_of_the_network() -> None:
    rng = np.random.default_rng(1)
    taken = 777 * S + np.arange(1500) * 40 * MS
    arrived = taken - 777 * S + 50 * S + _jitter_ns(rng, len(taken))
    placed = _placed(taken.tolist(), arrived.tolist())
    assert {kind for _, kind in placed} == {TimeKind.PTS}
    assert np.abs(_steps_s(placed) - 0.040).max() < 0.0002
    # and they lie where they belong: the smallest delay remains
    true = 50 * S + np.arange(1500)[-len(placed) :] * 40 * MS
    assert np.abs([at - t for (at, _), t in zip(placed, true)]).max() < 60 * MS


def test_a_camera_whose_clock_drifts_is_followed() -> None:
    rng = np.random.default_rng(2)
    true = np.arange(90_000) * 40 * MS  # an hour
    stamps = (true * (1 + 80e-6)).astype(np.int64)
    placed = _placed((5 * S + stamps).tolist(), (true + _jitter_ns(rng, len(true))).tolist())
    assert {kind for _, kind in placed} == {TimeKind.PTS}
    at_s = np.array([at for at, _ in placed]) / 1e9
    over_a_second = at_s[25:] - at_s[:-25]  # as long as a vehicle is in a zone: 0.1 % of its speed, and the drift
    assert np.abs(over_a_second - 1).max() < 1.3e-3
    assert np.abs(np.array([at for at, _ in placed]) - true[-len(placed) :]).max() < 100 * MS


def test_stamps_that_count_frames_at_a_nominal_rate_are_not_believed() -> None:
    """ "25 frames a second" that are really 21: believed, every vehicle would be 19 % faster."""
    rng = np.random.default_rng(3)
    number = np.arange(400)
    arrived = (number / 21 * 1e9).astype(np.int64) + _jitter_ns(rng, len(number))
    alignment = Alignment()
    placed = _placed((S + number * 40 * MS).tolist(), arrived.tolist(), alignment)
    assert alignment.distrust is not None
    assert {kind for _, kind in placed} == {TimeKind.ARRIVAL}
    assert np.mean(_steps_s(placed)) == pytest.approx(1 / 21, rel=0.01)


def test_a_server_that_sends_what_it_has_stored_first_is_still_believed() -> None:
    rng = np.random.default_rng(4)
    taken = np.arange(500) * 40 * MS
    arrived = np.maximum(taken, 2 * S + np.arange(500) * 2 * MS) + _jitter_ns(rng, 500)  # two seconds in a burst
    alignment = Alignment()
    placed = _placed((S + taken).tolist(), arrived.tolist(), alignment)
    assert alignment.distrust is None
    assert np.abs(_steps_s(placed) - 0.040).max() < 0.0005


@pytest.mark.parametrize("jump_s", [3.0, -3.0, 3600.0, -3600.0], ids=["ahead", "back", "an-hour-ahead", "an-hour-back"])
def test_a_jump_of_the_stamps_costs_seconds_and_no_wrong_instants(jump_s: float) -> None:
    rng = np.random.default_rng(5)
    taken = np.arange(1000) * 40 * MS
    stamps = 4000 * S + taken + np.where(np.arange(1000) >= 500, int(jump_s * 1e9), 0)
    alignment = Alignment()
    placed = _placed(stamps.tolist(), (taken + _jitter_ns(rng, 1000)).tolist(), alignment)
    assert alignment.jumps == 1
    error_s = np.array([at for at, _ in placed])[-300:] / 1e9 - taken[-300:] / 1e9
    assert np.abs(error_s).max() < 0.2


def test_stamps_that_keep_jumping_are_given_up() -> None:
    taken = np.arange(3000) * 40 * MS
    stamps = S + taken + np.arange(3000) // 300 * 10 * S
    alignment = Alignment()
    placed = _placed(stamps.tolist(), taken.tolist(), alignment)
    assert alignment.distrust is not None
    assert placed[-1] == (int(taken[-1]), TimeKind.ARRIVAL)


def test_a_stalled_connection_that_catches_up_keeps_its_instants() -> None:
    taken = np.arange(1000) * 40 * MS
    arrived = taken + 20 * MS
    arrived[500:575] = taken[575] + 20 * MS + np.arange(75) * MS  # three seconds come at once
    arrived[575:] += 75 * MS
    alignment = Alignment()
    placed = _placed((S + taken).tolist(), arrived.tolist(), alignment)
    assert alignment.jumps == 0
    assert np.abs(_steps_s(placed) - 0.040).max() < 0.0005


def test_without_a_stamp_the_arrival_is_used_with_its_larger_uncertainty() -> None:
    instant = Alignment().place(None, 5 * S)
    assert instant is not None
    assert (instant.captured_ns, instant.sigma_s, instant.kind) == (5 * S, ARRIVAL_SIGMA_S, TimeKind.ARRIVAL)
    assert ARRIVAL_SIGMA_S > 0.01
    assert JUMP_S < PROBATION_S


# --------------------------------------------------------------------------------------------------------- pictures


def _street(rng: np.random.Generator, level: float = 110.0, noise: float = 2.0) -> Any:
    """A picture with light and dark parts, and noise."""
    gradient = np.linspace(0.5, 1.5, 192, dtype=np.float32)[None, :, None] * level
    spread = noise * rng.standard_normal((108, 192, 3), dtype=np.float32)
    return np.clip(gradient + spread, 0, 255).astype(np.uint8)


def _cover(rng: np.random.Generator) -> Any:
    return np.clip(6 + 2 * rng.standard_normal((108, 192, 3), dtype=np.float32), 0, 255).astype(np.uint8)


def _judged(pictures: Iterator[Any], seconds: float) -> list[tuple[float, CameraState]]:
    judge = PictureJudge()
    return [(at / 2, judge.look(round(at * S / 2), next(pictures))) for at in range(int(seconds * 2))]


def test_a_live_street_is_watched_although_nothing_moves_on_it() -> None:
    rng = np.random.default_rng(1)
    pictures = (_street(rng) for _ in count())
    assert {state for _, state in _judged(pictures, 120)} == {CameraState.WATCHING}


def test_a_picture_that_does_not_change_is_frozen_since_its_last_change() -> None:
    still = _street(np.random.default_rng(1))
    judge = PictureJudge()
    states = {at: judge.look(at * S, still) for at in range(100, 200)}
    assert states[100 + int(FROZEN_AFTER_S) - 1] is CameraState.WATCHING
    assert states[100 + int(FROZEN_AFTER_S)] is CameraState.FROZEN
    assert judge.since_ns == 100 * S
    assert judge.look(201 * S, _street(np.random.default_rng(2), level=90)) is CameraState.WATCHING


def test_a_frozen_picture_that_the_encoder_makes_flicker_is_still_frozen() -> None:
    rng = np.random.default_rng(1)
    still = _street(rng).astype(np.int16)
    blocks = [np.kron(rng.integers(-2, 3, (12, 12)), np.ones((9, 16)))[..., None] for _ in range(20)]
    drawn = [np.clip(still + block, 0, 255).astype(np.uint8) for block in blocks]  # nearly every cell differs
    assert _judged(cycle(drawn), 60)[-1][1] is CameraState.FROZEN


def test_a_camera_whose_clock_is_put_back_is_judged_anew() -> None:
    still = _street(np.random.default_rng(1))
    judge = PictureJudge()
    states = [judge.look(at * S, still) for at in [*range(100, 140), *range(40)]]
    frozen = states.index(CameraState.FROZEN)
    assert frozen == FROZEN_AFTER_S
    assert states[40] is CameraState.WATCHING
    assert states[40 + int(FROZEN_AFTER_S)] is CameraState.FROZEN


def test_the_same_street_after_every_vehicle_is_not_frozen() -> None:
    """A camera that takes all noise away shows the empty street alike, time and again."""
    empty = _street(np.random.default_rng(1), noise=0.0)
    passing = empty.copy()
    passing[50:60, 90:110] += 40

    def quiet() -> Iterator[Any]:
        for number in count():
            yield passing if number % 40 < 2 else empty  # a second of each twenty

    assert {state for _, state in _judged(quiet(), 120)} == {CameraState.WATCHING}


def test_a_cover_is_black_and_dusk_is_dark() -> None:
    rng = np.random.default_rng(1)

    def covered() -> Iterator[Any]:
        for number in count():
            yield _street(rng) if number < 20 else _cover(rng)

    def dusk() -> Iterator[Any]:
        for number in count():
            yield _street(rng, level=max(110 - number * 0.5, 3))

    after = dict(_judged(covered(), 60))
    assert after[10 + BLACK_AFTER_S + 1] is CameraState.BLACK
    assert after[59.5] is CameraState.BLACK
    falling = _judged(dusk(), 200)
    assert CameraState.BLACK not in {state for _, state in falling}
    assert falling[-1][1] is CameraState.DARK


def test_headlamps_and_a_passing_shadow_do_not_switch_the_night_on_and_off() -> None:
    rng = np.random.default_rng(1)

    def night() -> Iterator[Any]:
        for number in count():
            picture = _street(rng, level=12)
            if number % 20 < 6:
                picture[30:80, 60:130] = 240
            yield picture

    def shadow() -> Iterator[Any]:
        for number in count():
            yield _street(rng, level=12 if 40 <= number < 40 + int(DARK_AFTER_S) else 110)

    assert {state for at, state in _judged(night(), 100) if at > DARK_AFTER_S + 1} == {CameraState.DARK}
    assert {state for _, state in _judged(shadow(), 100)} == {CameraState.WATCHING}


# ------------------------------------------------------------------------------------------- the thread and its camera


class ScriptedCamera:
    """A camera whose pictures come from a function of the number of the picture; None: it gives up."""

    declared_hz = 100.0

    def __init__(self, picture: Callable[[int], Any], interval_s: float = 0.01) -> None:
        self._picture = picture
        self._interval_s = interval_s
        self._number = 0
        self.is_closed = False

    def read(self) -> Shot:
        time.sleep(self._interval_s)
        image = self._picture(self._number)
        self._number += 1
        if image is None:
            raise CameraGone("unplugged")
        return Shot(image, None)

    def close(self) -> None:
        self.is_closed = True


def _noise(width: int = 64, height: int = 48) -> Callable[[int], Any]:
    return lambda number: np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_the_newest_frame_wins_and_the_overtaken_ones_are_counted() -> None:
    with LiveSource(lambda: ScriptedCamera(_noise()), name="camera") as source:
        first = source.next_frame(10)
        time.sleep(0.5)
        newest = source.next_frame(10)
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert first is not None
    assert newest is not None
    assert now_ns - newest.captured_ns < 0.4e9  # not the one that came right after the first
    assert source.overtaken > 5
    assert newest.time_kind is TimeKind.ARRIVAL


def test_a_camera_that_goes_away_is_opened_again_and_time_goes_on_meanwhile() -> None:
    opened: list[ScriptedCamera] = []
    back = threading.Event()

    def camera() -> ScriptedCamera:
        if opened and not back.is_set():
            raise CameraGone("no route to host")
        opened.append(ScriptedCamera(lambda number: _noise()(number) if number < 20 or back.is_set() else None))
        return opened[-1]

    with LiveSource(camera, name="camera", first_retry_s=0.05) as source:
        moments = source.moments()
        frames = [moment for moment in (next(moments) for _ in range(3)) if isinstance(moment, Frame)]
        assert frames
        lost = next(moment for moment in moments if isinstance(moment, Unwatched) and moment.state is CameraState.LOST)
        assert source.report.says == "no route to host"
        assert lost.since_ns >= frames[-1].captured_ns
        back.set()
        again = next(moment for moment in moments if isinstance(moment, Frame))
        assert again.captured_ns > lost.captured_ns
        eventually(lambda: source.report.state is CameraState.WATCHING)
    assert opened[0].is_closed


def test_a_driver_that_raises_anything_does_not_end_the_watching() -> None:
    def stumbling(number: int) -> Any:
        if number == 3:
            raise ZeroDivisionError
        return _noise()(number)

    with LiveSource(lambda: ScriptedCamera(stumbling), name="camera", first_retry_s=0.02) as source:
        frames = source.frames()
        assert len([next(frames) for _ in range(5)]) == 5


def test_pictures_of_another_size_are_withheld_until_the_right_one_is_back() -> None:
    def changing(number: int) -> Any:
        return _noise(64, 48)(number) if number < 30 or number > 120 else _noise(128, 96)(number)

    with LiveSource(lambda: ScriptedCamera(changing), name="camera", size_px=(64, 48)) as source:
        eventually(lambda: source.report.state is CameraState.OTHER_SIZE)
        assert source.report.says == "pictures of 128x96, expected 64x48"
        eventually(lambda: source.report.state is CameraState.WATCHING)
        frame = source.next_frame(5)
    assert frame is not None
    assert frame.size_px == (64, 48)


def test_a_person_does_not_wait_for_ever_for_a_camera_that_is_not_there() -> None:
    with open_source("/dev/video73", patience_s=0.5) as source, pytest.raises(BadInput, match="no device /dev/video73"):
        next(source.frames())


def test_the_size_of_a_camera_is_that_of_its_first_picture() -> None:
    with LiveSource(lambda: ScriptedCamera(_noise(80, 60)), name="camera") as source:
        assert source.size_px == (80, 60)


# -------------------------------------------------------------------------------------------------------- picamera2


class FakePicamera2:
    """What is used of picamera2, with the sensor's stamps."""

    camera_controls: ClassVar[dict[str, Any]] = {"FrameDurationLimits": (33_333, 120_000, 33_333)}
    configured: ClassVar[dict[str, Any]] = {}

    def __init__(self, index: int) -> None:
        if index > 0:
            raise IndexError("list index out of range")
        self._number = 0

    def create_video_configuration(self, main: dict[str, Any]) -> dict[str, Any]:
        type(self).configured = main
        return main

    def configure(self, configuration: dict[str, Any]) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def capture_request(self, *, wait: bool) -> int:
        assert not wait
        self._number += 1
        return self._number

    def wait(self, job: int, timeout: float) -> Any:
        assert timeout <= 10
        time.sleep(0.01)
        width, height = self.configured["size"]
        return types.SimpleNamespace(
            make_array=lambda name: _noise(width, height)(job),
            get_metadata=lambda: {"SensorTimestamp": 1000 * S + job * 33_333_000},
            release=lambda: None,
        )


def test_a_raspberry_pi_camera_gives_the_instants_of_its_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", types.SimpleNamespace(Picamera2=FakePicamera2))  # type: ignore[arg-type]
    with open_source("picamera:", size_px=(96, 64)) as source:
        frame = next(source.frames())
        assert source.timing.declared_hz == pytest.approx(30.0, rel=0.01)
    assert frame.time_kind is TimeKind.SENSOR
    assert (frame.captured_ns - 1000 * S) % 33_333_000 == 0
    assert frame.captured_sigma_s < 0.001
    assert FakePicamera2.configured["format"] == "RGB888"


def test_a_missing_camera_of_the_board_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", types.SimpleNamespace(Picamera2=FakePicamera2))  # type: ignore[arg-type]
    with open_source("picamera:1", patience_s=0.5) as source, pytest.raises(BadInput, match="camera 1 of the board"):
        next(source.frames())


def test_without_picamera2_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)  # type: ignore[arg-type]
    with pytest.raises(BackendUnavailable, match="apt install python3-picamera2"):
        open_source("picamera:")


# -------------------------------------------------------------------------------------------------- a real RTSP server


def test_a_network_camera_that_restarts_with_another_resolution_is_not_measured_until_it_is_right_again(
    tmp_path: Path,
) -> None:
    password = tmp_path / "password"
    password.write_text("s3cr3t-marker\n")
    password.chmod(0o600)
    with RtspServer(size_px=(320, 240), rate_hz=20) as server:
        source = open_source(server.url, size_px=(320, 240), username="viewer", password_file=password, patience_s=60)
        with source:
            frames = source.frames()
            taken = [next(frames) for _ in range(40)]
            assert {frame.time_kind for frame in taken} == {TimeKind.PTS}
            steps_s = np.diff([frame.captured_ns for frame in taken]) / 1e9
            # the server's own clock: whole frames, whatever the load of this machine
            assert np.abs(steps_s / 0.05 - np.round(steps_s / 0.05)).max() < 0.05
            report = _live(source)
            server.kill()
            eventually(lambda: report().state is CameraState.LOST, within_s=30)
            server.size_px = (640, 480)
            server.start()
            eventually(lambda: report().state is CameraState.OTHER_SIZE, within_s=60)
            server.kill()
            server.size_px = (320, 240)
            server.start()
            eventually(lambda: report().state is CameraState.WATCHING, within_s=60)
            again = next(frames)
    assert again.size_px == (320, 240)
    assert again.captured_ns > taken[-1].captured_ns


def _live(source: Any) -> Callable[[], Any]:
    return lambda: source.report


def test_a_server_that_does_not_answer_costs_seconds_and_says_so() -> None:
    """A socket that accepts and stays silent: OpenCV alone would wait for half a minute inside its own code."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with open_source(f"rtsp://127.0.0.1:{port}/street", patience_s=14) as source:
            began_s = time.monotonic()
            with pytest.raises(BadInput, match="no answer within 10 s"):
                next(source.frames())
        assert time.monotonic() - began_s < 25


def test_a_device_file_that_is_no_camera_is_told(tmp_path: Path) -> None:
    if os.access("/dev/null", os.R_OK):
        with open_source("v4l2:/dev/null", patience_s=2) as source, pytest.raises(BadInput, match="no camera"):
            next(source.frames())
