"""How right the speeds and counts are.

    python -m benchmarks.accuracy scenes FOLDER [--surveys 20] [--weights FILE --head end-to-end] [--plots DIR]
    python -m benchmarks.accuracy clips FOLDER
    python -m benchmarks.accuracy brno FOLDER

``scenes``: rendered scenes with exact truth (``*.truth.json`` beside ``*.mp4``). ``clips``: real footage with every
pass listed in ``events.csv``; survey, site and direction map of a clip (``STEM.survey.csv``, ``STEM.site.toml``,
``STEM.map``) are taken from beside it, else from ``tests/clips``. ``brno``: tracks and true speeds of BrnoCompSpeed.
Each prints its tables, scored by the evaluation set's own scorers (``../eval`` beside FOLDER, or in the folder that
SNELLIUS_SHARED names), and takes ``--json OUT``.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from benchmarks import brno, clips, plots, scenes
from benchmarks.evaluation import Scorers, chosen_model
from models import Head


def main() -> None:
    """Read the command line, measure, print tables, write JSON and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scenes", "clips", "brno"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a model of the catalogue or a file; default: the catalogue's default")
    parser.add_argument(
        "--weights", action="append", default=[], metavar="FILE", help="measure with this ONNX file as well; repeatable"
    )
    parser.add_argument(
        "--head",
        action="append",
        default=[],
        choices=[head.value for head in Head],
        help="how its answer is read, one for each --weights (default: classic)",
    )
    parser.add_argument(
        "--bottom-offset",
        action="append",
        default=[],
        type=float,
        metavar="SHARE",
        help="how much lower its boxes end than the default's, one for each --weights (default: 0)",
    )
    parser.add_argument("--surveys", type=int, default=20, help="noisy surveys of each scene (default: 20)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time (default: all cores)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep detections here, and take those that are there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw errors and uncertainty into this folder")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder}: expected a folder")
    if len(arguments.head) not in (0, len(arguments.weights)):
        parser.error(f"--head: expected one for each of {len(arguments.weights)} --weights, got {len(arguments.head)}")
    if len(arguments.bottom_offset) not in (0, len(arguments.weights)):
        given = len(arguments.bottom_offset)
        parser.error(f"--bottom-offset: expected one for each of {len(arguments.weights)} --weights, got {given}")
    if arguments.plots:
        plots.require()
    scorers = Scorers.beside(arguments.folder)
    heads = arguments.head or [Head.CLASSIC.value] * len(arguments.weights)
    offsets = arguments.bottom_offset or [0.0] * len(arguments.weights)
    models = [chosen_model(arguments.model), *map(chosen_model, arguments.weights, heads, offsets)]
    if arguments.what == "scenes":
        figures = scenes.measure(
            arguments.folder, scorers, models, surveys=arguments.surveys, keep=arguments.keep, jobs=arguments.jobs
        )
    elif arguments.what == "clips":
        figures = clips.measure(arguments.folder, scorers, models, keep=arguments.keep)
    else:
        figures = brno.measure(arguments.folder, scorers)
    if figures is None:
        parser.error(f"{arguments.folder}: holds no {arguments.what}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if arguments.plots:
        plots.draw(arguments.what, figures, arguments.plots)


if __name__ == "__main__":
    main()
