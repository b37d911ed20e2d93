"""The detector once more, written for the eye: loops, no buffers, nothing shared with the product.

``python -m tests.support.reference_detector`` stores what it finds in three frames of the demo clip, and what the
network answered, under ``tests/golden/detections.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "edge" / "demo" / "street.mp4"
WEIGHTS = ROOT / "models" / "nanodet_int8.onnx"
GOLDEN = ROOT / "tests" / "golden" / "detections.json"
FRAMES = (40, 150, 300)
CLASSES = ["person", "bicycle", "car", "motorcycle", "bus", "truck"]
LOWEST_SCORE = 0.2


def clip_frames(numbers: tuple[int, ...] = FRAMES) -> dict[int, Any]:
    """Frames of the demo clip by number."""
    capture = cv2.VideoCapture(str(CLIP))
    found = {}
    for number in range(max(numbers) + 1):
        ok, image = capture.read()
        assert ok, f"{CLIP.name} ends before frame {number}"
        if number in numbers:
            found[number] = image
    capture.release()
    return found


def network_answer(image: Any) -> Any:
    """The network's raw answer, shape (10, candidates), for a 960x540 frame: 640x360 between 12 grey rows each side."""
    assert image.shape == (540, 960, 3)
    small = cv2.resize(image, (640, 360), interpolation=cv2.INTER_LINEAR)
    grey = np.full((12, 640, 3), 114, dtype=np.uint8)
    letterboxed = np.concatenate([grey, small, grey])
    blue, green, red = (letterboxed[:, :, channel].astype(np.float32) / 255 for channel in range(3))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact sums on every processor
    session = onnxruntime.InferenceSession(str(WEIGHTS), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": np.stack([red, green, blue])[None]})[0][0]


def candidates_of(answer: Any) -> list[dict[str, Any]]:
    """Every column with a road user's score of at least 0.2, as the network gives it."""
    found = []
    for column in answer.T:
        score = max(column[4:])
        if score >= LOWEST_SCORE:
            scores = [float(score) for score in column[4:]]
            found.append({"centre_and_size": [float(value) for value in column[:4]], "scores": scores})
    return found


def vehicles_of(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Candidates in frame pixels (centres at integers) without duplicates, best first."""
    boxes: list[dict[str, Any]] = []
    for candidate in candidates:
        x, y, width, height = candidate["centre_and_size"]
        edges = [x - width / 2, y - height / 2 - 12, x + width / 2, y + height / 2 - 12]
        frame = [edge * 1.5 - 0.5 for edge in edges]
        box = [max(-0.5, frame[0]), max(-0.5, frame[1]), min(959.5, frame[2]), min(539.5, frame[3])]
        score = max(candidate["scores"])
        label = CLASSES[candidate["scores"].index(score)]
        boxes.append({"box": box, "edges": edges, "score": score, "label": label})
    boxes.sort(key=lambda box: -box["score"])
    kept: list[dict[str, Any]] = []
    for found in boxes:
        if not any(_is_same(found["edges"], better["edges"]) for better in kept):
            kept.append(found)
    return [{key: found[key] for key in ("box", "score", "label")} for found in kept]


def _is_same(box: list[float], better: list[float]) -> bool:
    width = min(box[2], better[2]) - max(box[0], better[0])
    height = min(box[3], better[3]) - max(box[1], better[1])
    if width <= 0 or height <= 0:
        return False
    shared = width * height
    area, better_area = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, better))
    return shared / (area + better_area - shared) > 0.5 or shared / min(area, better_area) > 0.8


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return {key: _rounded(item) for key, item in value.items()} if isinstance(value, dict) else value


def _frame_record(number: int, image: Any) -> dict[str, Any]:
    candidates = _rounded(candidates_of(network_answer(image)))
    return {"frame": number, "candidates": candidates, "vehicles": _rounded(vehicles_of(candidates))}


if __name__ == "__main__":
    records = [_frame_record(number, image) for number, image in clip_frames().items()]
    GOLDEN.write_text(json.dumps({"classes": CLASSES, "frames": records}) + "\n", encoding="utf-8")
