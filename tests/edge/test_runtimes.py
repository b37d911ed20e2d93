"""The contract that every runtime and both heads keep: same frame, same vehicles; a wrong file, one clear line.

What ``make test`` does not install (Ultralytics, gigabytes) is held to it by ``make test-ultralytics``.
"""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.detect import Look, open_detector
from edge.detect.described import described
from edge.domain import Detections, Frame, RoadUser, TimeKind
from edge.errors import BadInput
from models import Head, Model, Runtime, checksum
from tests.support.small_networks import CLASSES, INPUT_PX, Kind, a_picture, a_vehicle, small_network

STREET = {
    (0, 0): (230, 30, 0),  # a narrow car
    (2, 1): (200, 20, 255),  # a wide one
    (4, 0): (20, 180, 120),  # a truck
    (5, 2): (60, 240, 60),
    (1, 2): (140, 110, 0),  # a car that nobody is sure of: below the lowest score
}
READ_BY_US = [kind for kind in Kind if kind.runtime is not Runtime.ULTRALYTICS]


def kinds(chosen: Iterable[Kind] = Kind) -> list[object]:
    return [
        pytest.param(
            kind,
            id=kind.name.lower().replace("_", "-"),
            marks=pytest.mark.skipif(
                importlib.util.find_spec(kind.runtime.value) is None,
                reason=f"{kind.runtime.value} is not installed here",
            ),
        )
        for kind in chosen
    ]


def a_frame(picture: object) -> Frame:
    return Frame(captured_ns=0, captured_sigma_s=0.0, time_kind=TimeKind.PTS, image_bgr=picture)  # type: ignore[arg-type]


def assert_shows(found: Detections, street: dict[tuple[int, int], tuple[int, int, int]], scale: int = 2) -> None:
    expected = sorted(
        (a_vehicle(cell, colour, scale=scale) for cell, colour in street.items()), key=lambda one: -one[1]
    )
    assert found.scores == pytest.approx([score for _, score, _ in expected], abs=1e-3)
    assert [list(RoadUser)[label] for label in found.labels] == [user for _, _, user in expected]
    assert found.boxes_xyxy_px == pytest.approx(np.array([box for box, _, _ in expected]), abs=2e-2)


@pytest.mark.parametrize("kind", kinds())
def test_the_same_frame_shows_the_same_vehicles(kind: Kind, tmp_path: Path) -> None:
    found = open_detector(small_network(kind, tmp_path)).detect(a_frame(a_picture(STREET)))

    assert_shows(found, {cell: colour for cell, colour in STREET.items() if cell != (1, 2)})


@pytest.mark.parametrize("kind", kinds())
def test_an_empty_street_shows_nobody(kind: Kind, tmp_path: Path) -> None:
    found = open_detector(small_network(kind, tmp_path)).detect(a_frame(a_picture({})))

    assert len(found) == 0


@pytest.mark.parametrize("kind", kinds())
def test_a_part_of_the_frame_answers_in_pixels_of_the_frame(kind: Kind, tmp_path: Path) -> None:
    detector = open_detector(small_network(kind, tmp_path), look=Look((64, 32, 64 + 384, 32 + 192), INPUT_PX))
    around = np.full((300, 500, 3), 40, dtype=np.uint8)
    around[32 : 32 + 192, 64 : 64 + 384] = a_picture({(2, 1): (200, 20, 255)})

    found = detector.detect(a_frame(around))

    left, top, right, bottom = a_vehicle((2, 1), (200, 20, 255))[0]
    assert found.boxes_xyxy_px[0] == pytest.approx([left + 64, top + 32, right + 64, bottom + 32], abs=2e-2)


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("offset", [-0.05, 0.05])
def test_boxes_that_end_lower_than_those_of_the_default_are_raised_by_as_much(
    kind: Kind, offset: float, tmp_path: Path
) -> None:
    model, frame = small_network(kind, tmp_path), a_frame(a_picture(STREET))
    drawn = open_detector(model).detect(frame).boxes_xyxy_px

    found = open_detector(replace(model, bottom_offset=offset)).detect(frame).boxes_xyxy_px

    expected = drawn - offset * (drawn[:, 3:] - drawn[:, 1:2]) * np.array([0.0, 0.0, 0.0, 1.0])
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", kinds())
def test_the_next_frame_is_not_the_one_before(kind: Kind, tmp_path: Path) -> None:
    detector = open_detector(small_network(kind, tmp_path), threads=1)
    detector.detect(a_frame(a_picture(STREET)))

    assert_shows(detector.detect(a_frame(a_picture({(3, 1): (20, 220, 90)}))), {(3, 1): (20, 220, 90)})


@pytest.mark.parametrize("kind", kinds(READ_BY_US))
def test_a_file_says_what_it_is(kind: Kind, tmp_path: Path) -> None:
    model = small_network(kind, tmp_path)

    said = described(model.file)

    assert (said.runtime, said.head, said.input_px) == (kind.runtime, kind.head, INPUT_PX)
    if kind.runtime is not Runtime.OPENVINO:  # its folder has names only when Ultralytics wrote it
        assert said.classes == CLASSES


@pytest.mark.parametrize("kind", kinds())
def test_nothing_is_asked_of_the_network_outside(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *name, **options: asked.append(name))

    open_detector(small_network(kind, tmp_path)).detect(a_frame(a_picture(STREET)))

    assert asked == []


# ---------------------------------------------------------------------------------------------------- what is wrong


def _another_checksum(model: Model) -> Model:
    return replace(model, sha256="0" * 64)


def _another_size(model: Model) -> Model:
    return replace(model, input_px=(64, 64))


def _more_classes(model: Model) -> Model:
    return replace(model, classes=CLASSES | {"bus": (40,)})


def _unknown_class(model: Model) -> Model:
    return replace(model, classes={"tram": (1,)})


def _cut_off(model: Model) -> Model:
    """Half of every file is missing, and the entry was made from what was left."""
    for file in [model.file] if model.file.is_file() else sorted(model.file.iterdir()):
        if file.name != "metadata.yaml":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return replace(model, sha256=checksum(model.file, "cut"))


def _weights_cut_off(model: Model) -> Model:
    for file in model.file.glob("*.bin"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return replace(model, sha256=checksum(model.file, "cut"))


def _told(model: Model) -> str:
    with pytest.raises(BadInput) as told:
        open_detector(model)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(_another_checksum, "expected sha256 000000000000…, found", id="another checksum"),
        pytest.param(_cut_off, "not a model that", id="cut off"),
        pytest.param(_another_size, f"expected an input of (64, 64) px, the file has {INPUT_PX}", id="another size"),
        pytest.param(_unknown_class, "classes.tram: expected one of car, truck", id="a class that no road knows"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(
    kind: Kind, spoil: Callable[[Model], Model], says: str, tmp_path: Path
) -> None:
    assert says in _told(spoil(small_network(kind, tmp_path)))


@pytest.mark.parametrize("kind", kinds(kind for kind in Kind if kind.runtime in (Runtime.OPENVINO, Runtime.NCNN)))
def test_weights_cut_off_beside_a_whole_description_are_told_in_one_line(kind: Kind, tmp_path: Path) -> None:
    assert "not a model that" in _told(_weights_cut_off(small_network(kind, tmp_path)))


@pytest.mark.parametrize("kind", kinds(kind for kind in READ_BY_US if kind.head is Head.CLASSIC))
def test_classes_that_a_file_does_not_have_are_told_in_one_line(kind: Kind, tmp_path: Path) -> None:
    assert "expected an output [1, 45 or more, candidates] for the classes asked for" in _told(
        _more_classes(small_network(kind, tmp_path))
    )
