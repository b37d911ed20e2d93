"""What the benchmarks say about looking less often, and about devices that nobody measured on, is told right."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import devices, sparing


def a_row(t_s: float, speed_kmh: float | None = 30.0, direction: str = "forward") -> dict[str, Any]:
    return {"t_s": t_s, "speed_kmh": speed_kmh, "measured": speed_kmh is not None, "direction": direction}


def test_a_passage_that_only_every_frame_has_is_lost_and_the_others_have_changed_by_what_they_have() -> None:
    every_frame = [a_row(5.0), a_row(5.2, 40.0, "backward"), a_row(9.0, 50.0), a_row(20.0)]
    sparingly = [a_row(5.1, 30.4), a_row(5.3, 39.7, "backward"), a_row(9.0, 50.0), a_row(30.0)]

    told = sparing.changes(every_frame, sparingly)

    assert told["lost"] == 1
    assert told["rms_change"] == pytest.approx(((0.4**2 + 0.3**2 + 0.0) / 3) ** 0.5)


def test_a_vehicle_that_is_seen_but_no_longer_measured_is_lost_too() -> None:
    assert sparing.changes([a_row(5.0)], [a_row(5.0, None)]) == {"lost": 1, "rms_change": None}
    assert sparing.changes([a_row(5.0, None)], [a_row(5.0, None)]) == {"lost": 0, "rms_change": None}


def a_round(looks: int, video_s: float) -> list[dict[str, float]]:
    return [{"inferences": looks, "video_s": video_s}]


def test_the_share_of_an_engine_is_published_time_times_looks() -> None:
    figures = {
        "busy": {"every frame": a_round(60, 3.0), "snellius": a_round(320, 40.0)},
        "empty": {"every frame": a_round(60, 3.0), "snellius": a_round(4, 20.0)},
    }

    rows = devices.derived(figures)

    assert len(rows) == len(devices.PUBLISHED)
    for row, published in zip(rows, devices.PUBLISHED):
        engine = published.image_ms / 1000
        assert list(row["share"].values()) == pytest.approx([20 * engine, 8 * engine, 0.2 * engine])
        assert list(row["share"]) == ["every frame, 20/s", "busy, 8.0/s", "empty, 0.2/s"]
        assert row["source"]
