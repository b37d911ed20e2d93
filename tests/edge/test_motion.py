"""The detector looks when something moves and a speed needs it; whoever passes is measured as if it always looked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from calibration.camera import Camera
from calibration.road_plane import RoadPlane
from calibration.units import kmh_from_mps, mps_from_kmh
from edge.assembly import measuring_pipeline
from edge.detect import Look
from edge.detect.glance import Glance
from edge.domain import Detections, Direction, Floats, Frame, Passage, Pixels, Region, TimeKind
from edge.motion import Cadence, MotionGate
from edge.pipeline import STALE_S
from tests.support.painted import PaintedRoad, Stopping, Weather, a_street
from tests.support.street import a_road, a_vehicle, demo_calibration

NOBODY: Floats = np.empty((0, 4))
ALONG_M, ACROSS_M = (-15.0, 35.0), (-8.0, 8.0)
BACKWARD = Direction.BACKWARD


def a_gate() -> MotionGate:
    return MotionGate(demo_calibration().zone_plane, along_m=ALONG_M, across_m=ACROSS_M)


def a_frame(picture: Pixels, at_s: float = 0.0) -> Frame:
    return Frame(round(at_s * 1e9), 0.0005, TimeKind.PTS, picture)


def on_the_road(along_m: float, across_m: float = -1.5, *, length_m: float = 4.4, height_m: float = 1.5) -> Floats:
    """About the box of a vehicle, in pixels."""
    plane = demo_calibration().zone_plane
    u, v = plane.project(np.array([[along_m, across_m]]))[0]
    scale = plane.pixels_per_metre(np.array([[along_m, across_m]]))[0]
    return np.array([u - scale, v - height_m * scale, u + scale, v])


def with_a_car(picture: Pixels, box: Floats, paint: int = 40) -> Pixels:
    picture = picture.copy()
    left, top, right, bottom = box.round().astype(int)
    picture[max(top, 0) : bottom, max(left, 0) : right] = paint
    return picture


# ------------------------------------------------------------------------------------------------------------ the gate


def test_before_the_detector_has_looked_everything_is_news() -> None:
    gate = a_gate()
    street = a_frame(a_street())
    assert gate.has_changed(street)
    assert gate.has_changed(street)
    gate.looked(NOBODY)
    assert not gate.has_changed(street)


@pytest.mark.parametrize("along_m", [0.0, 10.0, 20.0, 30.0])
def test_a_car_that_appears_is_noticed_in_its_first_frame(along_m: float) -> None:
    box = on_the_road(along_m)
    gate, street = a_gate(), a_street()
    gate.has_changed(a_frame(street))
    gate.looked(NOBODY)
    assert gate.has_changed(a_frame(with_a_car(street, box)))


def test_a_car_that_the_detector_has_seen_is_no_news_until_it_moves() -> None:
    gate, street = a_gate(), a_street()
    parked = with_a_car(street, on_the_road(8.0))
    gate.has_changed(a_frame(parked))
    gate.looked(NOBODY)
    assert not gate.has_changed(a_frame(parked))
    assert gate.has_changed(a_frame(with_a_car(street, on_the_road(8.5))))
    gate.looked(NOBODY)
    assert gate.has_changed(a_frame(street)), "it has left"
    gate.looked(NOBODY)
    assert not gate.has_changed(a_frame(street)), "and leaves no ghost"


@pytest.mark.parametrize("along_m", [2.0, 25.0])
def test_it_tells_where_it_has_changed_with_room_for_a_car(along_m: float) -> None:
    gate, street, box = a_gate(), a_street(), on_the_road(along_m)
    gate.has_changed(a_frame(street))
    gate.looked(NOBODY)
    assert not gate.has_changed(a_frame(street))
    unchanged = gate.changed_px()
    assert unchanged is not None
    assert len(unchanged) == 0
    assert gate.has_changed(a_frame(with_a_car(street, box)))
    changed = gate.changed_px()
    assert changed is not None
    around = np.concatenate([changed[:, :2].min(axis=0), changed[:, 2:].max(axis=0)])
    width, height = box[2] - box[0], box[3] - box[1]
    assert (around[[0, 2]] - box[[0, 2]]) == pytest.approx([0.0, 0.0], abs=max(0.2 * width, 4.0))
    assert box[1] - height < around[1] < box[1] + 0.2 * height
    assert around[3] == pytest.approx(box[3], abs=max(0.2 * height, 4.0))


def test_after_the_camera_has_turned_it_may_have_changed_anywhere() -> None:
    gate, street = a_gate(), a_frame(a_street())
    assert gate.changed_px() is None
    gate.has_changed(street)
    gate.looked(NOBODY)
    gate.turn_to(demo_calibration().zone_plane)
    assert gate.has_changed(street)
    assert gate.changed_px() is None


def test_what_moves_beside_the_road_is_no_news() -> None:
    gate, street = a_gate(), a_street()
    gate.has_changed(a_frame(street))
    gate.looked(NOBODY)
    sky = street.copy()
    sky[:60] = 250
    assert not gate.has_changed(a_frame(sky))


def test_who_looks_at_a_part_knows_that_part_only() -> None:
    gate, street = a_gate(), a_street()
    near, far = on_the_road(2.0), on_the_road(25.0)
    left, top, right, bottom = near.astype(int).tolist()
    part = left - 40, top - 40, right + 40, bottom + 40
    gate.has_changed(a_frame(street))
    gate.looked(NOBODY)
    assert gate.has_changed(a_frame(with_a_car(street, near)))
    assert not gate.has_changed_beyond(part)
    both = cv2.convertScaleAbs(with_a_car(with_a_car(street, near), far), alpha=1.15)  # and the camera opens up
    assert gate.has_changed(a_frame(both))
    assert gate.has_changed_beyond(part)
    gate.looked(near[None], part)
    assert gate.has_changed(a_frame(both)), "the far one has not been looked at"
    assert gate.has_changed(a_frame(cv2.convertScaleAbs(with_a_car(street, far), alpha=1.15)))
    assert gate.has_changed_beyond(part)
    only_near = cv2.convertScaleAbs(with_a_car(street, near), alpha=1.3)
    assert not gate.has_changed(a_frame(only_near)), "the part as it was looked at, the rest as it was before"


@pytest.mark.parametrize("gain", [0.55, 0.8, 1.3, 1.7])
def test_another_exposure_is_no_news_and_hides_nobody(gain: float) -> None:
    gate, street = a_gate(), a_street()
    gate.has_changed(a_frame(street))
    gate.looked(NOBODY)
    assert not gate.has_changed(a_frame(cv2.convertScaleAbs(street, alpha=gain)))
    with_car = with_a_car(street, on_the_road(10.0))
    assert gate.has_changed(a_frame(cv2.convertScaleAbs(with_car, alpha=gain)))


def noisy(picture: Pixels, rng: np.random.Generator, sigma: float) -> Pixels:
    noise = rng.normal(0.0, sigma, picture.shape[:2])
    return np.clip(picture + noise[:, :, None], 0, 255).astype(np.uint8)


def test_at_night_sensor_noise_lets_the_detector_sleep_and_a_car_without_much_light_wakes_it() -> None:
    rng, gate = np.random.default_rng(1), a_gate()
    street = a_street(brightness=22)
    looks = 0
    for number in range(200):
        if gate.has_changed(a_frame(noisy(street, rng, 4.0), number / 10)):
            gate.looked(NOBODY)
            looks += number >= 50
    assert looks < 15
    dim = with_a_car(street, on_the_road(12.0), paint=60)
    assert gate.has_changed(a_frame(noisy(dim, rng, 4.0), 20.1))


@dataclass
class Leaves:
    """A tree's shadow that sways over a part of the road."""

    along_m: float = 6.0

    def __call__(self, picture: Pixels, time_s: float) -> Pixels:
        left, _, right, bottom = on_the_road(self.along_m).round().astype(int)
        sway = round(8 * np.sin(2.1 * time_s) + 5 * np.sin(5.3 * time_s))
        shaded = picture.copy()
        shaded[bottom - 20 : bottom + 25, left + sway : right + 60 + sway] //= 2
        return shaded


def rain(picture: Pixels, time_s: float) -> Pixels:
    """Bright streaks at random places."""
    rng = np.random.default_rng(round(time_s * 1000))
    wet = picture.copy()
    for x, y in zip(rng.integers(0, 960, 250), rng.integers(0, 520, 250)):
        wet[y : y + 14, x : x + 1] = wet[y : y + 14, x : x + 1] // 2 + 100
    return wet


@pytest.mark.parametrize("weather", [Leaves(), rain], ids=["leaves", "rain"])
def test_the_detector_teaches_the_gate_what_is_no_road_user(weather: Weather) -> None:
    gate, street = a_gate(), a_street()
    looked_s = []
    for number in range(400):
        at_s = number / 10
        if gate.has_changed(a_frame(weather(street, at_s), at_s)):
            gate.looked(NOBODY)
            looked_s.append(at_s)
    assert sum(at_s > 20.0 for at_s in looked_s) < 40, "it looks at a fifth of the pictures or fewer"
    for along_m in (4.0, 6.0, 12.0):
        with_car = with_a_car(street, on_the_road(along_m), paint=25)
        assert gate.has_changed(a_frame(weather(with_car, 41.0), 41.0)), "a car counts as before, there as elsewhere"


@pytest.mark.parametrize("size_px", [(960, 540), (640, 360), (320, 240), (1920, 1080), (800, 600), (333, 187)])
def test_a_road_that_leaves_the_picture_at_every_side_is_watched_up_to_its_edges(size_px: tuple[int, int]) -> None:
    """Looking straight down from 8 m: the road fills the picture."""
    width, height = size_px
    camera = Camera(
        image_size_px=size_px,
        focal_px=0.8 * width,
        centre_px=((width - 1) / 2, (height - 1) / 2),
        distortion=(0.0,) * 5,
        rotation=np.diag([1.0, -1.0, -1.0]),
        position_m=np.array([0.0, 0.0, 8.0]),
    )
    plane = RoadPlane(camera, np.eye(11) * 1e-6, np.array([[-5.0, -5.0], [5.0, -5.0], [5.0, 5.0], [-5.0, 5.0]]))
    gate = MotionGate(plane, along_m=(-40.0, 40.0), across_m=(-40.0, 40.0))
    street = cv2.resize(a_street(), size_px)
    gate.has_changed(a_frame(street))
    gate.looked(NOBODY)
    assert not gate.has_changed(a_frame(street))
    side = width // 6
    for left, top in ((0, 0), (width - side, 0), (0, height - side), (width - side, height - side)):
        changed = street.copy()
        changed[top : top + side, left : left + side] = 20
        assert gate.has_changed(a_frame(changed))


def test_a_gate_without_road_in_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing of the road"):
        MotionGate(demo_calibration().zone_plane, along_m=(0.0, 20.0), across_m=(300.0, 310.0))


# --------------------------------------------------------------------------------------------------------- the cadence


STRETCH_M = (-5.0, 25.0)


@dataclass(frozen=True)
class Someone:
    position_m: Floats
    velocity_mps: Floats
    seen: int = 10


def driving(speed_kmh: float, seen: int = 10, at_m: float = 10.0) -> Someone:
    return Someone(np.array([at_m, 1.5]), np.array([mps_from_kmh(speed_kmh), 0.0]), seen)


def test_the_faster_the_fastest_the_sooner_the_next_look() -> None:
    cadence = Cadence(stretch_m=STRETCH_M)
    waits = [cadence.wait_s([driving(speed), driving(10.0)]) for speed in (15.0, 30.0, 50.0, 80.0, 110.0)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 2 * waits[-2]


def test_a_smaller_sigma_costs_more_looks() -> None:
    fast = [driving(90.0)]
    assert Cadence(stretch_m=STRETCH_M, sigma_mps=0.05).wait_s(fast) < Cadence(
        stretch_m=STRETCH_M, sigma_mps=0.3
    ).wait_s(fast)


def test_who_is_new_or_not_yet_seen_is_looked_at_soon() -> None:
    cadence = Cadence(stretch_m=STRETCH_M)
    assert cadence.wait_s([]) <= 0.1
    assert cadence.wait_s([driving(15.0), driving(0.0, seen=1)]) <= 0.1
    assert cadence.wait_s([driving(15.0)]) > 0.1


def test_who_is_off_the_stretch_needs_no_samples() -> None:
    cadence = Cadence(stretch_m=STRETCH_M)
    on_it = cadence.wait_s([driving(90.0)])
    assert cadence.wait_s([driving(90.0, at_m=-6.0)]) == on_it  # it will be there before the next look
    assert cadence.wait_s([driving(90.0, at_m=-14.0)]) > on_it
    assert cadence.wait_s([driving(90.0, at_m=30.0)]) > cadence.wait_s([driving(90.0, at_m=-14.0)])
    assert cadence.wait_s([driving(90.0, at_m=30.0), driving(30.0, at_m=-14.0)]) <= 0.2
    assert cadence.wait_s([driving(90.0, at_m=30.0), driving(0.0, seen=1, at_m=-14.0)]) <= 0.1


# -------------------------------------------------------------------------------------------------------- the pipeline

TRAFFIC = (
    a_vehicle(speed_kmh=31.0, middle_s=4.0),
    a_vehicle(speed_kmh=45.0, middle_s=5.0, direction=BACKWARD),
    a_vehicle(speed_kmh=54.0, middle_s=15.0),
)


def measured(road: PaintedRoad, *, sparing: bool) -> list[Passage]:
    pipeline = measuring_pipeline(demo_calibration(), road, has_gate=sparing, has_cadence=sparing)
    passages = [passage for frame in road.frames() for passage in pipeline.step(frame)] + pipeline.finish()
    assert pipeline.inferences == len(road.looks)
    return sorted(passages, key=lambda passage: passage.middle_ns)


class PaintedPart:
    """Looks at a part of a painted road, and sees of a vehicle what is in it.

    Attributes:
        looks: Parts that were looked at. [px]
        looked_s: When, on the road's clock. [s]
    """

    input_px = (300, 220)

    def __init__(self, road: PaintedRoad) -> None:
        self._road = road
        self.looks: list[Region] = []
        self.looked_s: list[float] = []

    def look_at(self, region_px: Region) -> None:
        self.looks.append(region_px)

    def detect(self, frame: Frame) -> Detections:
        x0, y0, x1, y1 = self.looks[-1]
        found = self._road.detect(frame)
        self.looked_s.append(self._road.looks.pop())  # that was no look at the whole road
        boxes = np.clip(found.boxes_xyxy_px, [x0, y0, x0, y0], [x1, y1, x1, y1])
        seen = (boxes[:, 2:] - boxes[:, :2] > 1.0).all(axis=1)
        return Detections(boxes[seen], found.scores[seen], found.labels[seen])


def test_one_who_drives_alone_is_glanced_at_and_measured_alike() -> None:
    roads = [PaintedRoad(a_road(TRAFFIC[1], lasts_s=8.0, rate_hz=20.0)) for _ in range(2)]
    whole = measured(roads[0], sparing=True)
    small = PaintedPart(roads[1])
    glance = Glance(Look((0, 0, 960, 540), (960, 540)), small)
    pipeline = measuring_pipeline(demo_calibration(), roads[1], has_gate=True, has_cadence=True, glance=glance)
    passages = [passage for frame in roads[1].frames() for passage in pipeline.step(frame)] + pipeline.finish()
    assert passages == whole
    assert len(passages) == 1
    assert len(small.looks) > len(roads[1].looks)
    assert small.looked_s[0] < roads[1].looks[1], "from its first sight on, as long as it is small"
    assert len(small.looks) + len(roads[1].looks) == pipeline.inferences


def test_who_comes_while_another_is_glanced_at_is_seen_at_once() -> None:
    road = PaintedRoad(a_road(*TRAFFIC[:2], lasts_s=9.0, rate_hz=20.0))
    small = PaintedPart(road)
    glance = Glance(Look((0, 0, 960, 540), (960, 540)), small)
    pipeline = measuring_pipeline(demo_calibration(), road, has_gate=True, has_cadence=True, glance=glance)
    passages = [passage for frame in road.frames() for passage in pipeline.step(frame)] + pipeline.finish()
    assert [passage.direction for passage in passages] == [vehicle.direction for vehicle in TRAFFIC[:2]]
    assert small.looks


def a_wild_night(picture: Pixels, time_s: float) -> Pixels:
    """Dark, with leaves and rain, a camera that changes its exposure, and noise."""
    dim = rain(Leaves()(picture, time_s), time_s) // 5
    return noisy(cv2.convertScaleAbs(dim, alpha=1.0 + 0.2 * np.sin(time_s)), np.random.default_rng(1), 2.0)


@pytest.mark.parametrize(
    ("weather", "share"),
    [pytest.param(None, 0.35, id="day"), pytest.param(a_wild_night, 0.7, id="wild night")],
)
def test_everyone_is_measured_with_a_fraction_of_the_looks(weather: Weather | None, share: float) -> None:
    frames_hz, lasts_s = 20.0 if weather is None else 10.0, 20.0
    road = PaintedRoad(a_road(*TRAFFIC, lasts_s=lasts_s, rate_hz=frames_hz), weather=weather)
    passages = measured(road, sparing=True)
    assert len(passages) == len(TRAFFIC)
    for vehicle, passage in zip(TRAFFIC, passages):
        assert passage.direction is vehicle.direction
        assert passage.speed is not None
        tolerance_mps = max(2 * passage.speed.sigma_mps, 0.02 * vehicle.speed_mps)
        assert passage.speed.speed_mps == pytest.approx(vehicle.speed_mps, abs=tolerance_mps)
        assert kmh_from_mps(passage.speed.sigma_mps) < 1.2
    assert len(road.looks) < share * lasts_s * frames_hz


def test_an_empty_street_is_looked_at_now_and_then() -> None:
    road = PaintedRoad(a_road(lasts_s=12.0, rate_hz=10.0))
    assert measured(road, sparing=True) == []
    assert len(road.looks) == 1 + 11 // STALE_S


def test_who_waits_in_the_zone_stays_known_while_the_detector_rests() -> None:
    """It stands before the middle of the zone and goes on: one passage, not two and not none."""
    waiting = Stopping(mps_from_kmh(30.0), middle_s=4.0, lateral_m=-1.5, stops_at_m=-3.0, stands_s=9.0)
    always = PaintedRoad(a_road(waiting, lasts_s=22.0, rate_hz=10.0))
    rested = PaintedRoad(a_road(waiting, lasts_s=22.0, rate_hz=10.0))
    (expected,) = measured(always, sparing=False)
    (passage,) = measured(rested, sparing=True)
    assert passage.direction is expected.direction
    assert passage.reason is expected.reason
    assert len(rested.looks) < len(always.looks) / 2


def test_a_parked_car_that_starts_is_seen_from_its_first_metre() -> None:
    starts = Stopping(mps_from_kmh(30.0), middle_s=2.0, lateral_m=-1.5, stops_at_m=-9.0, stands_s=8.0)
    road = PaintedRoad(a_road(starts, lasts_s=12.0, rate_hz=10.0))
    measured(road, sparing=True)
    goes_s = starts.middle_s - 9.0 / starts.speed_mps + 8.0
    assert any(goes_s < look <= goes_s + 0.2 for look in road.looks)


def test_the_same_pictures_give_the_same_looks_and_passages() -> None:
    roads = [PaintedRoad(a_road(*TRAFFIC[:1], lasts_s=8.0, rate_hz=10.0), weather=Leaves()) for _ in range(2)]
    first, second = (measured(road, sparing=True) for road in roads)
    assert first == second
    assert roads[0].looks == roads[1].looks


def test_frames_out_of_order_are_refused_also_while_nothing_moves() -> None:
    pipeline = measuring_pipeline(demo_calibration(), PaintedRoad(a_road(lasts_s=1.0)), has_gate=True, has_cadence=True)
    frame = a_frame(a_street(), 1.0)
    pipeline.step(frame)
    with pytest.raises(ValueError, match="in order of time"):
        pipeline.step(replace(frame))
