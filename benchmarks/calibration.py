"""Do the intervals of a calibration and of a verification hold what they promise?

    python -m benchmarks.calibration surveys [--count 2000] [--scenes FOLDER] [--json OUT]
    python -m benchmarks.calibration verify [--count 2000] [--json OUT]
    python -m benchmarks.calibration moved FOLDER [--json OUT]

``surveys``: streets are drawn, their marks clicked (0.5 px) and taped (1 cm) and solved; counted is how often the 95 %
interval of focal length, height, tilt, k1 and of a length on the road holds the truth. ``as believed`` draws cameras
from what is believed about cameras, ``any pole`` from 3 to 12 m height, 500 to 2,500 px, along the street and side-on,
with 4 to 20 marks; no survey may be suspected. With a folder of rendered scenes their one camera each is surveyed again
and again: what the points cannot tell (the principal point, and with it the tilt) is then always equally wrong, so its
intervals hold either more or less than 95 %, while lengths on the road hold 95 %.

``verify``: half an hour of traffic, some vehicles read with a laser gun; counted is how often the 95 % interval of the
bias holds the true one, and how often a meter that is right passes.

``moved``: rendered scenes are turned after 13.5 s, by day and in simulated weather; told is when the camera watch
noticed, and whether it raised an alarm over the unturned scene.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from calibration import solve
from calibration.camera import Floats
from calibration.errors import CalibrationError
from calibration.fit import fit_camera
from calibration.verify import verify
from edge.watch import NOTICED_WITHIN_S, CameraWatch, Stance
from tests.calibration.gun import Street
from tests.calibration.surveys import (
    SCORES,
    DrawnStreet,
    a_site,
    a_survey,
    any_street,
    believed_street,
    scores_of,
    survey_scores,
    truth_of,
)
from tests.support.turning import Turner, a_turn
from tests.system.test_moved_camera import ANGLES, WEATHER, a_scene, pictures_of, shown

STREETS: dict[str, DrawnStreet] = {"as believed": believed_street, "any pole": any_street}
READ: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {  # what the session with the gun is like
    "careful": ({"vehicles": 120}, {}, {"count": 40}),
    "few readings": ({"vehicles": 120}, {}, {"count": 12}),
    "no directions noted": ({"vehicles": 120}, {}, {"count": 40, "with_direction": False}),
    "30 % not seen by us": ({"vehicles": 120}, {"missed": 0.3}, {"count": 60}),
    "two mistyped": ({"vehicles": 120}, {}, {"count": 40, "mistyped": 2}),
    "typed late, dense traffic": ({"vehicles": 400}, {"missed": 0.1}, {"count": 60, "jitter_s": 0.8}),
}
TURNED_S, LOOKED_S = 13.5, 27.0


def main() -> None:
    """Read the command line, simulate, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["surveys", "verify", "moved"])
    parser.add_argument("folder", type=Path, nargs="?", help="of rendered scenes, for 'moved'")
    parser.add_argument("--count", type=int, default=2000, help="simulations of each kind (default: 2000)")
    parser.add_argument("--scenes", type=Path, metavar="FOLDER", help="survey the cameras of rendered scenes as well")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file")
    arguments = parser.parse_args()
    if (arguments.what == "moved") != (arguments.folder is not None):
        parser.error("'moved' needs a FOLDER of rendered scenes, the others take none")
    if arguments.what == "surveys":
        figures = surveys(arguments.count, arguments.scenes)
    elif arguments.what == "verify":
        figures = sessions(arguments.count)
    else:
        figures = moved(arguments.folder)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def surveys(count: int, scenes: Path | None) -> dict[str, Any]:
    """Coverage of the intervals of solved surveys."""
    table = Table(
        "streets",
        *SCORES,
        "unsolved",
        "suspected",
        title=f"95 % intervals that hold the truth, of {count} surveys each",
    )
    figures: dict[str, Any] = {}
    for name, street in STREETS.items():
        scores = np.array([survey_scores(street, seed) for seed in range(count)])
        suspected = sum(is_suspected(street, seed) for seed in range(0, count, 20))
        unsolved = int(np.isnan(scores).any(axis=1).sum())
        figures[name] = _coverage(scores) | {
            "unsolved": unsolved,
            "suspected": suspected,
            "looked_at": len(range(0, count, 20)),
        }
        table.add_row(name, *_shares(scores), str(unsolved), f"{suspected} of {len(range(0, count, 20))}")
    for file in sorted(scenes.glob("*.truth.json")) if scenes else []:
        scores = np.array([scene_scores(file, seed) for seed in range(count)])
        figures[file.name.split(".")[0]] = _coverage(scores)
        table.add_row(file.name.split(".")[0], *_shares(scores), "", "")
    Console(width=150).print(table)
    return figures


def is_suspected(street: DrawnStreet, seed: int) -> bool:
    """Whether a point of a right survey is called wrong."""
    camera, places = street(np.random.default_rng(seed))
    survey = a_survey(camera, points_m=places, click_px=0.5, tape_m=0.01, seed=seed)
    try:
        return bool(solve(survey, a_site(), camera.image_size_px).rejected)
    except CalibrationError as refused:  # four marks of which three lie on a line are refused, and rightly so
        return "on one line" not in str(refused)


def scene_scores(truth: Path, seed: int) -> tuple[float, ...]:
    """Errors of one noisy survey of a rendered scene over their stated sigmas."""
    camera, points, clicks = truth_of(truth)
    rng = np.random.default_rng(seed)
    survey = a_survey(camera, points_m=points, tape_m=0.01, seed=seed)
    noisy = clicks + rng.normal(0.0, 0.5, clicks.shape)
    fit = fit_camera(replace(survey, pixels=noisy), camera.image_size_px)
    assert fit is not None
    corners = np.array(json.loads(truth.read_text(encoding="utf-8"))["zone"]["polygon_m"])
    return scores_of(fit, camera, corners[[0, 2]])


def sessions(count: int) -> dict[str, Any]:
    """Coverage of the bias interval of sessions with a laser gun."""
    table = Table("session", "bias held", "pairs", "suspects", "passes", title=f"{count} sessions each; true bias 0.3")
    figures: dict[str, Any] = {}
    for name, (traffic, ours, gun) in READ.items():
        held, pairs, suspects, passes = [], [], [], []
        for seed in range(count):
            street = Street(seed, bias_kmh=0.3, **traffic)
            result = verify(street.passed(**ours), street.read(offset_s=3.7, **gun)).summary()
            pairs.append(result["n"])
            suspects.append(len(result["suspects"]))
            passes.append(result["pass"])
            if result["bias_low"] is not None:
                held.append(result["bias_low"] <= 0.3 <= result["bias_high"])
        figures[name] = {
            "held": float(np.mean(held)),
            "sessions": len(held),
            "pairs": float(np.mean(pairs)),
            "suspects": float(np.mean(suspects)),
            "passes": float(np.mean(passes)),
        }
        table.add_row(
            name,
            f"{100 * np.mean(held):.1f} %",
            f"{np.mean(pairs):.1f}",
            f"{np.mean(suspects):.2f}",
            f"{100 * np.mean(passes):.0f} %",
        )
    Console().print(table)
    return figures


def moved(folder: Path) -> dict[str, Any]:
    """When the camera watch notices a turn, and what it says of a camera that stands."""
    degrees = [f"{angle:g}°" for angle in ANGLES]
    table = Table(
        "scene", "weather", *degrees, "false alarms", title=f"seconds until noticed (bound: {NOTICED_WITHIN_S:g} s)"
    )
    figures: dict[str, Any] = {}
    for truth in sorted(folder.glob("*.truth.json")):
        name = truth.name.split(".")[0]
        with tempfile.TemporaryDirectory() as scratch:
            video, calibration = a_scene(truth, Path(scratch))
        camera = calibration.plane.camera
        turners = {angle: Turner(camera, a_turn(angle, (0.8, 0.5, 0.33))) for angle in ANGLES}
        for weather, change in WEATHER.items():
            still = CameraWatch(calibration.zone_plane)
            watches = {angle: CameraWatch(calibration.zone_plane) for angle in ANGLES}
            noticed = dict.fromkeys(ANGLES, math.nan)
            for frame in pictures_of(video):
                now_s = frame.captured_ns / 1e9
                if now_s > LOOKED_S:
                    break
                shown(still, frame, change)
                for angle, watch in watches.items():
                    picture = turners[angle](frame.image_bgr) if now_s >= TURNED_S else frame.image_bgr
                    shown(watch, replace(frame, image_bgr=picture), change)
                    if watch.stance is Stance.MOVED and math.isnan(noticed[angle]):
                        noticed[angle] = now_s - TURNED_S
            figures[f"{name} {weather}"] = {"noticed_s": noticed, "false_alarms": still.moves}
            table.add_row(name, weather, *(f"{noticed[angle]:.1f}" for angle in ANGLES), str(still.moves))
    Console(width=120).print(table)
    return figures


def _coverage(scores: Floats) -> dict[str, float]:
    return dict(zip(SCORES, (np.abs(scores) < 1.96).mean(axis=0).tolist()))


def _shares(scores: Floats) -> list[str]:
    return [f"{100 * share:.1f} %" for share in (np.abs(scores) < 1.96).mean(axis=0)]


if __name__ == "__main__":
    main()
