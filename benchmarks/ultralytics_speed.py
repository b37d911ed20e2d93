"""What the benchmarks ask of an environment with ultralytics; run by its Python.

    PYTHON ultralytics_speed.py export WEIGHTS FOLDER FORMAT…    prints {format: file}; WEIGHTS "": at random
    PYTHON ultralytics_speed.py measure GRAPH CLIP FROM_S TO_S   prints what SpeedEstimator costs on that stretch

Knows nothing of Snellius, because Snellius is not installed there.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGAN_S = time.perf_counter()
os.environ["YOLO_AUTOINSTALL"] = "false"  # it would install packages while it is measured
INPUT_PX = 640
VEHICLES = [1, 2, 3, 5, 7]  # COCO: bicycle, car, motorcycle, bus, truck
MIB = 1 << 10  # ru_maxrss counts KiB


def export(weights: str, folder: str, *formats: str) -> dict[str, str]:
    """The graph in every format that can be made here."""
    import torch
    from ultralytics import YOLO

    Path(folder).mkdir(parents=True, exist_ok=True)
    source = Path(folder) / "yolo11n.pt"
    if weights:
        shutil.copy(weights, source)
    else:
        torch.manual_seed(1)
        YOLO("yolo11n.yaml").save(source)
    return {form: str(YOLO(source).export(format=form, imgsz=INPUT_PX)) for form in formats}


def measure(graph: str, clip: str, from_s: str, to_s: str) -> dict[str, Any]:
    """SpeedEstimator on every frame of a stretch; starting it is told apart."""
    import cv2
    from ultralytics import solutions

    imported_s = time.perf_counter() - BEGAN_S
    capture = cv2.VideoCapture(clip)
    estimator = solutions.SpeedEstimator(
        model=graph, classes=VEHICLES, fps=capture.get(cv2.CAP_PROP_FPS), show=False, verbose=False, imgsz=INPUT_PX
    )
    began_s = began_cpu_s = first_s = last_s = first_result_cpu_s = 0.0
    first_result_s: float | None = None
    frames = 0
    while True:
        at_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        is_read, image = capture.read()
        if not is_read or at_s > float(to_s):
            break
        if at_s < float(from_s):
            continue
        if first_result_s is None:  # the first frame loads the graph
            estimator.process(image.copy())
            first_result_s, first_result_cpu_s = time.perf_counter() - BEGAN_S, time.process_time()
            began_s, began_cpu_s, first_s = time.perf_counter(), time.process_time(), at_s
        estimator.process(image)
        frames, last_s = frames + 1, at_s
    return {
        "video_s": last_s - first_s,
        "wall_s": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - began_cpu_s,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB,
        "inferences": frames,
        "passages": len(estimator.spd),
        "import_s": imported_s,
        "first_result_s": first_result_s,
        "first_result_cpu_s": first_result_cpu_s,
    }


if __name__ == "__main__":
    asked: dict[str, Callable[..., Any]] = {"export": export, "measure": measure}
    sys.stdout.write("\n" + json.dumps(asked[sys.argv[1]](*sys.argv[2:])) + "\n")
