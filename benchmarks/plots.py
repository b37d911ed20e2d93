"""Errors and uncertainty as pictures, for people who would rather look than read a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.domain import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from scipy.stats import norm

OURS = "noisy surveys"  # the way in which each vehicle is measured most often, ends with this
OTHER = "every frame: line through bottom centres"
SHOWN = "ways"  # the way in which pictures are shown in several ways ends with this
INK, FAINT = "#1f5f8b", "#c9772b"


def require() -> None:
    """Say early that a picture cannot be drawn.

    Raises:
        SystemExit: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise SystemExit("--plots needs: pip install 'snellius[bench]'") from None
    mpl.use("Agg")


def draw(what: str, figures: dict[str, Any], folder: Path) -> None:
    """Draw what a benchmark measured into PNG files.

    Args:
        what: ``scenes``, ``clips`` or ``brno``.
        figures: What it returned.
        folder: Where the files go; made when it does not exist.
    """
    require()
    folder.mkdir(parents=True, exist_ok=True)
    {"scenes": _scenes, "clips": _clips, "brno": _brno}[what](figures, folder)


def _scenes(figures: dict[str, Any], folder: Path) -> None:
    vehicles = figures["vehicles"]
    ours = [v for v in vehicles if v["way"].endswith(OURS) and ":" not in v["way"]]
    other = [v for v in vehicles if v["way"] == OTHER]
    shown = [v for v in vehicles if v["way"].endswith(SHOWN)]
    _figure(folder / "error-by-speed.png", lambda axes: _by_number(axes, ours, other, "true_kmh", "true speed [km/h]"))
    _figure(
        folder / "error-by-distance.png",
        lambda axes: _by_number(axes, ours, other, "distance_m", "distance from the camera in mid-zone [m]"),
    )
    _figure(folder / "error-by-class.png", lambda axes: _by_class(axes, ours, other))
    _figure(folder / "sigma.png", lambda axes: _calibration_of_sigma(axes, ours, shown))


def _clips(figures: dict[str, Any], folder: Path) -> None:
    def bars(axes: Axes) -> None:
        rows = [
            (f"{clip}\n{direction}", score)
            for clips in figures.values()
            for clip, directions in clips.items()
            for direction, score in directions.items()
        ]
        places = np.arange(len(rows))
        for shift, (name, colour) in zip((-0.27, 0.0, 0.27), (("true", "#888888"), ("matched", INK), ("false", FAINT))):
            axes.barh(places + shift, [score[name] for _, score in rows], height=0.27, color=colour, label=name)
        axes.set_yticks(places, [name for name, _ in rows], fontsize=7)
        axes.set_xlabel("passes")
        axes.legend()

    _figure(folder / "passes.png", bars)


def _brno(figures: dict[str, Any], folder: Path) -> None:
    def points(axes: Axes) -> None:
        sets = [name for name in figures if "/" in name]
        names = list(dict.fromkeys(estimator for name in sets for estimator in figures[name]["estimators"]))
        for place, estimator in enumerate(names):
            values = [figures[name]["estimators"][estimator]["mae"] for name in sets]
            strong = estimator == "ours"
            axes.plot(
                values, np.arange(len(sets)), "o", ms=9 if strong else 4, color=INK if strong else f"C{place}",
                label=estimator,
            )  # fmt: skip
        axes.set_yticks(np.arange(len(sets)), sets)
        axes.set_xlabel("mean absolute error [km/h]")
        axes.set_xlim(left=0.0)
        axes.legend(fontsize=7)

    _figure(folder / "brno.png", points)


def _figure(file: Path, fill: Callable[[Axes], None]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    fill(axes)
    figure.savefig(file, dpi=130)


def _by_number(axes: Axes, ours: list[dict[str, Any]], other: list[dict[str, Any]], key: str, label: str) -> None:
    for vehicles, colour, mark, name in (
        (other, FAINT, "x", "line through bottom centres"),
        (ours, INK, ".", "Snellius, noisy surveys"),
    ):
        axes.plot(_column(vehicles, key), _column(vehicles, "error_kmh"), mark, color=colour, alpha=0.5, label=name)
    axes.axhline(0.0, color="black", lw=0.8)
    axes.set_xlabel(label)
    axes.set_ylabel("measured − true [km/h]")
    axes.legend()


def _by_class(axes: Axes, ours: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    classes = sorted({vehicle["cls"] for vehicle in ours})
    for shift, vehicles, colour in ((-0.18, ours, INK), (0.18, other, FAINT)):
        errors = [_column([v for v in vehicles if v["cls"] == cls], "error_kmh") for cls in classes]
        axes.boxplot(
            [values if len(values) else [np.nan] for values in errors],
            positions=np.arange(len(classes)) + shift, widths=0.3, whis=(0, 100),
            medianprops={"color": colour}, boxprops={"color": colour}, whiskerprops={"color": colour},
            capprops={"color": colour},
        )  # fmt: skip
    axes.axhline(0.0, color="black", lw=0.8)
    axes.set_xticks(np.arange(len(classes)), [f"{cls}\n{_count(ours, cls)} vehicles" for cls in classes])
    axes.set_ylabel("measured − true [km/h]")
    axes.set_title("left: Snellius, noisy surveys; right: a line through bottom centres (whiskers: all)", fontsize=9)


def _count(vehicles: list[dict[str, Any]], cls: str) -> int:
    return len({(vehicle["scene"], vehicle["id"]) for vehicle in vehicles if vehicle["cls"] == cls})


def _calibration_of_sigma(axes: Axes, ours: list[dict[str, Any]], shown: list[dict[str, Any]]) -> None:
    ratios, of_shown = (
        np.abs(_column(vehicles, "error_kmh")) / _column(vehicles, "sigma_kmh") for vehicles in (ours, shown)
    )
    widths = np.linspace(0.0, 4.0, 81)
    axes.plot(widths, 2 * norm.cdf(widths) - 1, color="black", lw=0.8, label="normal distribution")
    for scene in sorted({vehicle["scene"] for vehicle in ours}):
        own = ratios[[vehicle["scene"] == scene for vehicle in ours]]
        axes.plot(widths, _shares(own, widths), lw=1, alpha=0.6, label=scene)
    axes.plot(widths, _shares(ratios, widths), color=INK, lw=1.5, label="all scenes, as they are")
    axes.plot(widths, _shares(of_shown, widths), color=INK, lw=3, label="all scenes, shown in several ways")
    axes.fill_between([1.95, 2.05], 0.90, 0.98, color=FAINT, alpha=0.6, label="asked for at 2 σ")
    axes.set_xlabel("k")
    axes.set_ylabel("share of errors within k σ")
    axes.legend(fontsize=8)


def _shares(ratios: Floats, widths: Floats) -> Floats:
    return np.array([(ratios <= width).mean() for width in widths])


def _column(vehicles: list[dict[str, Any]], key: str) -> Floats:
    return np.array([vehicle[key] for vehicle in vehicles], dtype=np.float64)
