from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import accumulate, islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.domain import Frame, TimeKind
from edge.errors import BadInput
from edge.sources.ahead import BYTES_AHEAD, FEWEST_AHEAD, MOST_AHEAD, decoded_ahead
from edge.sources.timing import RisingStamps
from edge.sources.video import LOOP_GAP_S, VideoFile
from tests.support.clips import cut_off, evaluation_file, write_clip
from tests.support.mosquitto import eventually
from tests.support.street import STREET


def test_frames_carry_their_presentation_time_since_the_first(tmp_path: Path) -> None:
    with VideoFile(write_clip(tmp_path / "street.mp4", frames=10, rate_hz=20.0)) as clip:
        frames = list(clip.frames())
    assert [frame.captured_ns for frame in frames] == [number * 50_000_000 for number in range(10)]
    assert {frame.time_kind for frame in frames} == {TimeKind.PTS}
    assert all(frame.captured_sigma_s == pytest.approx(0.0005) for frame in frames)
    assert frames[0].size_px == clip.size_px == (64, 48)
    assert clip.frame_count == 10


def test_an_irregular_clip_keeps_the_exact_time_of_every_frame() -> None:
    truth = json.loads(evaluation_file("scenes/S2-wide-lens-vfr.truth.json").read_text())
    with VideoFile(evaluation_file("scenes/S2-wide-lens-vfr.mp4")) as clip:
        times_s = [frame.captured_ns / 1e9 for frame in clip.frames()]
        timing = clip.timing
    np.testing.assert_allclose(times_s, np.array(truth["pts_s"]) - truth["pts_s"][0], atol=1e-6)
    steps_s = np.diff(truth["pts_s"])
    assert timing.largest_gap_s == pytest.approx(steps_s.max(), abs=1e-6)
    assert timing.median_step_s == pytest.approx(np.median(steps_s), abs=1e-5)


def test_a_last_stamp_of_zero_is_left_out_and_counted() -> None:
    with VideoFile(evaluation_file("clips/parkway-approach-320x240.avi")) as clip:
        times_ns = [frame.captured_ns for frame in clip.frames()]
    assert np.all(np.diff(times_ns) > 0)
    assert len(times_ns) == 1698
    assert (clip.timing.backward, clip.timing.duplicate, clip.timing.undecodable) == (1, 0, 1)


def test_frames_that_do_not_decode_are_counted() -> None:
    with VideoFile(evaluation_file("clips/city-street-parked-cars-vfr.mp4")) as clip:
        times_ns = [frame.captured_ns for frame in clip.frames()]
    assert np.all(np.diff(times_ns) > 0)
    assert (len(times_ns), clip.timing.undecodable, clip.timing.missing_end_s) == (734, 20, 0.0)
    assert clip.timing.remarks() == ["20 of 754 frames could not be decoded"]


@pytest.mark.parametrize("clip", ["clips/city-street-parked-cars-vfr.mp4", "clips/parkway-approach-320x240.avi"])
def test_decoding_a_difficult_clip_prints_nothing(clip: str) -> None:
    program = (
        "import sys; from edge.sources.video import VideoFile; print(sum(1 for _ in VideoFile(sys.argv[1]).frames()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(evaluation_file(clip))], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert int(done.stdout) > 700


@pytest.mark.parametrize(
    ("stamps_ns", "kept", "duplicate", "backward"),
    [
        pytest.param([0, 10, 20], [0, 10, 20], 0, 0, id="all rise"),
        pytest.param([0, 10, 10, 20], [0, 10, 20], 1, 0, id="one repeats"),
        pytest.param([0, 20, 10, 30], [0, 20, 30], 0, 1, id="one steps back"),
        pytest.param(
            [0, 20, 10, 15, 20, 30], [0, 20, 30], 1, 2, id="a step back is followed by stamps still too early"
        ),
    ],
)
def test_only_stamps_that_rise_pass(stamps_ns: list[int], kept: list[int], duplicate: int, backward: int) -> None:
    stamps = RisingStamps()
    assert [stamp for stamp in stamps_ns if stamps.accept(stamp)] == kept
    assert (stamps.timing.frames, stamps.timing.duplicate, stamps.timing.backward) == (len(kept), duplicate, backward)


def test_the_real_rate_is_told_beside_the_declared_one() -> None:
    stamps = RisingStamps(declared_hz=25.0)
    for number in range(22):
        stamps.accept(round(number / 21.0 * 1e9))
    assert stamps.timing.real_hz == pytest.approx(21.0)
    assert stamps.timing.remarks() == ["declared 25.00 frames a second, really 21.00 (time stamps are used)"]


@pytest.mark.parametrize(
    ("steps_ms", "median_ms"), [([40], 40), ([40, 40, 80], 40), ([80, 40, 120], 80), ([40, 80], 40)]
)
def test_the_median_step_is_the_middle_one(steps_ms: list[int], median_ms: int) -> None:
    stamps = RisingStamps()
    for stamp_ms in [0, *accumulate(steps_ms)]:
        stamps.accept(stamp_ms * 1_000_000)
    assert stamps.timing.median_step_s == pytest.approx(median_ms / 1000)


def test_a_looped_file_that_breaks_off_is_told_in_every_round(tmp_path: Path) -> None:
    with VideoFile(cut_off(STREET, into=tmp_path, keep=0.1), loop=True) as clip:
        frames = clip.frames()
        first = next(frames)
        later = next(frame for frame in frames if frame.captured_ns > 20e9)  # the clip has 40 s, what is left has 5
    assert first.captured_ns == 0
    assert later.captured_ns > 20e9
    assert clip.timing.missing_end_s > 30


def test_a_looped_clip_goes_on_counting_after_a_stated_gap(tmp_path: Path) -> None:
    with VideoFile(write_clip(tmp_path / "street.mp4", frames=3, rate_hz=20.0), loop=True) as clip:
        times_s = [frame.captured_ns / 1e9 for frame in islice(clip.frames(), 8)]
    second = 0.1 + LOOP_GAP_S
    third = second + 0.1 + LOOP_GAP_S
    assert times_s == pytest.approx([0, 0.05, 0.1, second, second + 0.05, second + 0.1, third, third + 0.05])


def test_a_file_that_breaks_off_delivers_what_is_there_and_says_what_is_missing(tmp_path: Path) -> None:
    with VideoFile(cut_off(STREET, into=tmp_path, keep=0.4)) as clip:
        frames = sum(1 for _ in clip.frames())
    assert 100 < frames < 700
    assert clip.timing.missing_end_s == pytest.approx((800 - frames) * 0.05, abs=0.06)
    assert clip.timing.remarks() == [f"the file breaks off: its last {clip.timing.missing_end_s:.1f} s are missing"]


def _missing(folder: Path) -> Path:
    return folder / "nothing.mp4"


def _directory(folder: Path) -> Path:
    return folder


def _text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("this is no video\n" * 500)
    return folder / "text.mp4"


def _empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def _without_index(folder: Path) -> Path:
    return cut_off(write_clip(folder / "camera.mp4"), into=folder, keep=0.5)


def _noise(folder: Path) -> Path:
    (folder / "noise.mp4").write_bytes(np.random.default_rng(1).bytes(5000))
    return folder / "noise.mp4"


def _picture(folder: Path) -> Path:
    cv2.imwrite(str(folder / "still.png"), np.zeros((48, 64, 3), dtype=np.uint8))
    return folder / "still.png"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        pytest.param(_missing, "no such video file", id="missing"),
        pytest.param(_directory, "found a directory", id="directory"),
        pytest.param(_text, "found text", id="text"),
        pytest.param(_empty, "found an empty file", id="empty"),
        pytest.param(_without_index, "without its index (moov)", id="mp4 cut off before its index"),
        pytest.param(_noise, "damaged or of an unknown kind", id="noise"),
        pytest.param(_picture, "found a single picture", id="a still"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(made: Callable[[Path], Path], says: str, tmp_path: Path) -> None:
    path = made(tmp_path)
    with pytest.raises(BadInput) as refused, VideoFile(path) as clip:
        list(clip.frames())
    assert str(refused.value).startswith(f"{path}: ")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


class _StuckClock:
    """A capture whose every frame says that it was taken at the same instant."""

    def grab(self) -> bool:
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((48, 64, 3), dtype=np.uint8)

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}.get(what, 0.0)

    def release(self) -> None:
        pass


class _StuckFile(VideoFile):
    def _opened(self) -> cv2.VideoCapture:
        return _StuckClock()  # type: ignore[return-value]


def test_a_file_whose_time_stands_still_is_refused() -> None:
    with _StuckFile("stuck.avi") as clip, pytest.raises(BadInput, match="time stamps that rise, found none that does"):
        list(clip.frames())


# ------------------------------------------------------------------------------------------------------- decoded ahead


def numbered_frames(n: int, read: list[int], rows: int = 1) -> Iterator[Frame]:
    for number in range(n):
        read.append(number)
        yield Frame(number, 0.0, TimeKind.PTS, np.zeros((rows, 1, 3), dtype=np.uint8))


def test_frames_decoded_ahead_are_the_same_in_the_same_order() -> None:
    assert [frame.captured_ns for frame in decoded_ahead(numbered_frames(100, []))] == list(range(100))


@pytest.mark.parametrize(
    ("rows", "ahead"),
    [
        pytest.param(1, MOST_AHEAD, id="small pictures"),
        pytest.param(BYTES_AHEAD // 3 // 5, 5, id="large pictures"),
        pytest.param(BYTES_AHEAD, FEWEST_AHEAD, id="pictures that memory was not planned for"),
    ],
)
def test_no_more_is_decoded_ahead_than_memory_was_planned_for(rows: int, ahead: int) -> None:
    read: list[int] = []
    with closing(decoded_ahead(numbered_frames(100, read, rows))) as frames:
        next(frames)
        eventually(lambda: len(read) > ahead, 20.0)
        time.sleep(0.2)
    assert len(read) == ahead + 1


def test_what_a_source_raises_comes_after_its_last_frame() -> None:
    def breaking_off() -> Iterator[Frame]:
        yield from numbered_frames(2, [])
        raise BadInput("street.mp4: it broke off")

    frames = decoded_ahead(breaking_off())
    assert [next(frames).captured_ns, next(frames).captured_ns] == [0, 1]
    with pytest.raises(BadInput, match="it broke off"):
        next(frames)


def test_who_leaves_early_leaves_no_thread_behind() -> None:
    with closing(decoded_ahead(numbered_frames(100, []))) as frames:
        next(frames)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoder")]
