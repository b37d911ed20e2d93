from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
import pytest

from calibration.camera import Floats
from calibration.drift import Reference
from edge.domain import Detections, Flag, Frame, Pixels, Reason, TimeKind
from edge.sources.video import VideoFile
from edge.watch import BLIND_AFTER_S, CHECK_S, LEARN_FROM, NOTICED_WITHIN_S, CameraWatch, Stance
from tests.support.builders import S, a_passage
from tests.support.street import STREET, demo_calibration
from tests.support.turning import Turner, a_turn, in_the_dark, turned_camera

BLACK = np.zeros((540, 960, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    """The bundled street, a second apart."""
    with VideoFile(STREET) as street:
        return [frame.image_bgr for frame in islice(street.frames(), 0, 240, 20)]


@pytest.fixture(scope="module")
def reference(pictures: list[Pixels]) -> Reference:
    learnt = Reference.learn(pictures[:LEARN_FROM])
    assert learnt is not None
    return learnt


@pytest.fixture(scope="module")
def seen_after(pictures: list[Pixels]) -> Callable[[float], list[Pixels]]:
    """The street as seen after the camera has turned down by an angle. [°]"""
    made: dict[float, list[Pixels]] = {0.0: pictures}

    def after(angle: float) -> list[Pixels]:
        if angle not in made:
            turner = Turner(demo_calibration().plane.camera, a_turn(angle))
            made[angle] = [turner(picture) for picture in pictures]
        return made[angle]

    return after


class Watched:
    """A camera watch that is shown a picture each second."""

    def __init__(self, reference: Reference | None) -> None:
        self.plane = demo_calibration().zone_plane
        self.watch = CameraWatch(self.plane, reference)
        self.now_s = 0.0
        self.impaired: list[Flag | None] = []
        self.noticed_s: float | None = None

    def sees(self, pictures: Iterable[Pixels]) -> None:
        for picture in pictures:
            frame = Frame(
                captured_ns=round(self.now_s * S), captured_sigma_s=0.0, time_kind=TimeKind.PTS, image_bgr=picture
            )
            plane = self.watch.look(frame, Detections.none())
            self.plane = self.plane if plane is None else plane
            if self.noticed_s is None and self.watch.stance is Stance.MOVED:
                self.noticed_s = self.now_s
            self.impaired.append(self.watch.impaired_by)
            self.now_s += CHECK_S

    def turned_by(self) -> Floats:
        return np.degrees(self.watch.turn_rad)


SeenAfter = Callable[[float], list[Pixels]]


def test_a_camera_that_stands_is_left_alone(reference: Reference, pictures: list[Pixels]) -> None:
    watched = Watched(reference)
    watched.sees(pictures)

    assert watched.watch.stance is Stance.STANDS
    assert watched.impaired == [None] * len(pictures)
    assert watched.watch.moves == 0


@pytest.mark.parametrize("angle", [0.1, 0.25, 0.5])
def test_after_a_small_turn_measuring_goes_on_with_the_turned_road(
    reference: Reference, seen_after: SeenAfter, angle: float
) -> None:
    watched = Watched(reference)
    watched.sees(seen_after(0.0)[:4])  # at 0, 1, 2, 3 s; it turns right after
    watched.sees(seen_after(angle)[4:10])

    assert watched.noticed_s is not None
    assert watched.noticed_s - 3.0 <= NOTICED_WITHIN_S
    assert watched.watch.stance is Stance.TURNED
    np.testing.assert_allclose(watched.turned_by(), [angle, 0.0, 0.0], atol=0.01)
    points = np.array([[2.0, -1.0, 0.0], [18.0, 1.0, 0.0]])
    truth = turned_camera(demo_calibration().zone_plane.camera, a_turn(angle))
    np.testing.assert_allclose(watched.plane.project(points), truth.project(points), atol=0.15)
    assert watched.impaired[:5] == [None] * 5
    assert watched.impaired[6:9] == [Flag.CAMERA_MOVED] * 3  # noticed at 6 s, at rest at 8 s
    assert watched.impaired[9] is None


def test_after_a_large_turn_speeds_stop_until_the_camera_is_put_back(
    reference: Reference, seen_after: SeenAfter
) -> None:
    watched = Watched(reference)
    watched.sees(seen_after(0.0)[:4])
    watched.sees(seen_after(1.5)[:10])
    assert watched.watch.stance is Stance.MOVED
    assert watched.impaired[-1] is Flag.CAMERA_MOVED

    watched.sees(seen_after(0.0)[:7])

    assert watched.watch.stance is Stance.STANDS
    assert watched.impaired[-1] is None
    np.testing.assert_array_equal(watched.plane.covariance, demo_calibration().zone_plane.covariance)


def test_a_camera_that_suddenly_looks_elsewhere_has_moved(reference: Reference, pictures: list[Pixels]) -> None:
    watched = Watched(reference)
    watched.sees(pictures[:4])
    watched.sees(np.ascontiguousarray(picture[:, ::-1]) for picture in pictures[4:10])

    assert watched.watch.stance is Stance.MOVED
    assert watched.noticed_s is not None
    assert watched.noticed_s - 3.0 <= NOTICED_WITHIN_S + CHECK_S  # one more: nothing stands still at first


def test_a_gust_is_no_move(reference: Reference, seen_after: SeenAfter) -> None:
    watched = Watched(reference)
    watched.sees(seen_after(0.0)[:4])
    watched.sees(seen_after(0.5)[4:6])
    watched.sees(seen_after(0.0)[6:12])

    assert watched.watch.moves == 0


def test_a_pole_that_sways_has_not_moved(reference: Reference, seen_after: SeenAfter) -> None:
    watched = Watched(reference)
    for number in range(16):
        watched.sees([seen_after((0.0, 0.2, 0.0, -0.2)[number % 4])[number % 12]])

    assert watched.watch.moves == 0


@pytest.mark.parametrize("after", [pytest.param(BLACK, id="night"), pytest.param(None, id="dusk")])
def test_nothing_is_claimed_in_the_dark(reference: Reference, pictures: list[Pixels], after: Pixels | None) -> None:
    watched = Watched(reference)
    watched.sees(pictures[:5])
    watched.sees([after] * 12 if after is not None else [in_the_dark(in_the_dark(each)) for each in pictures])

    assert watched.watch.stance is Stance.STANDS
    assert watched.watch.moves == 0


@pytest.mark.parametrize("after", [BLACK, np.full_like(BLACK, 200)], ids=["night", "fog"])
def test_a_watch_that_recognises_nothing_says_so_until_it_sees_again(
    reference: Reference, pictures: list[Pixels], after: Pixels
) -> None:
    watched = Watched(reference)
    watched.sees(pictures[:5])
    assert not watched.watch.is_blind
    watched.sees([after] * round(BLIND_AFTER_S - 2))
    assert not watched.watch.is_blind  # a lorry before the lens
    watched.sees([after] * 4)
    assert watched.watch.is_blind
    assert watched.watch.moves == 0
    watched.sees(pictures[5:7])
    assert not watched.watch.is_blind


def test_a_watch_that_cannot_learn_says_so_too() -> None:
    watched = Watched(None)
    watched.sees([BLACK] * round(BLIND_AFTER_S + 2))
    assert watched.watch.is_blind


def test_without_a_reference_one_is_learnt_in_the_first_seconds(seen_after: SeenAfter) -> None:
    watched = Watched(None)
    watched.sees(seen_after(0.0)[: LEARN_FROM - 1])
    assert watched.watch.stance is Stance.LEARNING
    assert watched.watch.summary()["reference"] == "none"

    watched.sees(seen_after(0.0)[LEARN_FROM - 1 : 7])
    assert watched.watch.stance is Stance.STANDS
    assert watched.watch.summary()["reference"] == "learnt"

    watched.sees(seen_after(0.25)[7:12])
    assert watched.watch.stance is Stance.TURNED
    assert watched.watch.summary()["turn_deg"]["down"] == pytest.approx(0.25, abs=0.01)


def test_nothing_can_be_learnt_from_black_pictures() -> None:
    watched = Watched(None)
    watched.sees([BLACK] * 12)

    assert watched.watch.stance is Stance.LEARNING
    assert watched.impaired == [None] * 12


def test_the_reference_of_the_certificate_tells_of_a_turn_before_the_start(
    reference: Reference, seen_after: SeenAfter
) -> None:
    watched = Watched(reference)
    watched.sees(seen_after(0.25)[:6])

    assert watched.watch.summary()["reference"] == "certificate"
    assert watched.watch.stance is Stance.TURNED
    assert watched.watch.judged(a_passage(middle_s=1.0)).reason is Reason.CAMERA_MOVED


def test_frames_between_two_looks_cost_nothing(reference: Reference, pictures: list[Pixels]) -> None:
    watch = CameraWatch(demo_calibration().zone_plane, reference)
    unreadable = np.empty((0, 0, 3), dtype=np.uint8)
    for number in range(40):
        picture = pictures[0] if number % 20 == 0 else unreadable  # a look at it would fail
        frame = Frame(captured_ns=number * S // 20, captured_sigma_s=0.0, time_kind=TimeKind.PTS, image_bgr=picture)
        watch.look(frame, Detections.none())

    assert watch.stance is Stance.STANDS


# ------------------------------------------------------------------------------------------------------------- passages


def test_passages_lose_their_speed_from_the_last_right_look_to_the_turned_road(
    reference: Reference, seen_after: SeenAfter
) -> None:
    watched = Watched(reference)
    watched.sees(seen_after(0.0)[:5])  # the last right look is at 4 s
    watched.sees(seen_after(0.5)[5:12])  # noticed at 7 s, at rest at 9 s

    def reason(middle_s: float) -> Reason | None:
        return watched.watch.judged(a_passage(middle_s=middle_s, lasting_s=1.0)).reason

    assert [reason(at) for at in (1.0, 2.9)] == [None, None]
    assert [reason(at) for at in (3.2, 4.5, 6.0, 8.0, 9.8)] == [Reason.CAMERA_MOVED] * 5
    assert [reason(at) for at in (10.2, 30.0)] == [None, None]


def test_a_passage_that_had_no_speed_keeps_its_reason(reference: Reference, seen_after: SeenAfter) -> None:
    watched = Watched(reference)
    watched.sees(seen_after(0.0)[:4] + seen_after(1.5)[4:9])

    unmeasured = a_passage(speed_kmh=None, middle_s=6.0, reason=Reason.OCCLUDED)
    assert watched.watch.judged(unmeasured) is unmeasured


def test_what_is_suspected_when_a_recording_ends_counts_as_doubt(reference: Reference, seen_after: SeenAfter) -> None:
    watched = Watched(reference)
    watched.sees(seen_after(0.0)[:6] + seen_after(0.5)[6:7])
    assert watched.watch.judged(a_passage(middle_s=6.0)).reason is None

    watched.watch.finish()

    assert watched.watch.judged(a_passage(middle_s=6.0)).reason is Reason.CAMERA_MOVED
    assert watched.watch.judged(a_passage(middle_s=2.0)).reason is None


def test_turning_adds_the_unknown_sideways_shift_to_the_uncertainty(
    reference: Reference, seen_after: SeenAfter
) -> None:
    watched = Watched(reference)
    watched.sees(seen_after(0.0)[:4] + seen_after(0.5)[4:10])

    before, after = demo_calibration().zone_plane.covariance, watched.plane.covariance
    added = math.sqrt(after[5, 5] - before[5, 5])  # about the camera's axis to the right: tilt

    assert math.degrees(added) == pytest.approx(0.15 * 0.5, rel=0.1)
