"""The place: limit, measurement zone and direction axis, as written in ``SITE.toml``."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.camera import Floats
from calibration.errors import CalibrationError
from calibration.road_plane import frame_rotation
from calibration.survey import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MIN_AXIS_M = 5.0  # a car's length: over less, a mean speed through the zone means little
LIMIT_RANGE_KMH = (5, 130)

_KEYS = {
    "site": ("id", "limit_kmh", "mount_height_m"),
    "zone": ("polygon_m",),
    "direction": ("axis_m", "forward", "backward"),
}

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Site:
    """Where and in which direction speed is measured.

    Attributes:
        id: Name in topics: lower-case letters, digits, hyphens.
        limit_kmh: Speed limit. [km/h]
        mount_height_m: Height of the camera as taped, None when it was not. [m]
        polygon_m: Bounds the zone laterally; survey coordinates. [m]
        axis_m: From and to; the zone ends at the perpendiculars through them. [m]
        forward: What traffic along the axis is called.
        backward: What traffic against it is called.
    """

    id: str
    limit_kmh: int
    mount_height_m: float | None
    polygon_m: Points
    axis_m: tuple[tuple[float, float], tuple[float, float]]
    forward: str
    backward: str

    @property
    def origin_m(self) -> Floats:
        """Where the axis begins, survey coordinates, shape (2,). [m]"""
        return np.array(self.axis_m[0])

    @property
    def length_m(self) -> float:
        """Length of the zone along the axis. [m]"""
        return math.dist(*self.axis_m)

    @property
    def axis(self) -> Floats:
        """Unit vector of "forward", shape (2,)."""
        return (np.array(self.axis_m[1]) - self.origin_m) / self.length_m

    @property
    def polygon_in_frame_m(self) -> Floats:
        """The polygon with x along the axis from its begin and y to its left, shape (m, 2). [m]"""
        return np.asarray((np.array(self.polygon_m) - self.origin_m) @ frame_rotation(self.axis).T)

    def as_json(self) -> dict[str, Any]:
        """The blocks of ``SITE.toml``, for the certificate."""
        site: dict[str, Any] = {"id": self.id, "limit_kmh": self.limit_kmh}
        if self.mount_height_m is not None:
            site["mount_height_m"] = self.mount_height_m
        return {
            "site": site,
            "zone": {"polygon_m": [list(corner) for corner in self.polygon_m]},
            "direction": {
                "axis_m": [list(end) for end in self.axis_m],
                "forward": self.forward,
                "backward": self.backward,
            },
        }

    @classmethod
    def from_json(cls, blocks: Mapping[str, Any], where: str, text: str = "") -> Site:
        """A checked site from the blocks of ``SITE.toml``.

        Args:
            blocks: ``site``, ``zone`` and ``direction``.
            where: Name of the file, for messages.
            text: What the file says, to tell the line of a wrong key.

        Raises:
            CalibrationError: A key is missing, unknown or has an impossible value.
        """
        return _Reader(blocks, where, text).site()


def read_site(path: Path) -> Site:
    """The site from a TOML file; raises CalibrationError when it cannot be read or is not as expected."""
    text = read_text(path)
    try:
        blocks = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CalibrationError(f"{path.name}: expected TOML: {error}") from None
    return Site.from_json(blocks, path.name, text)


class _Reader:
    """Checks the blocks of a site one key after the other."""

    def __init__(self, blocks: Mapping[str, Any], where: str, text: str) -> None:
        self._blocks, self._where, self._lines = blocks, where, text.splitlines()
        for name in blocks:
            if name not in _KEYS:
                raise self._wrong(name, None, f"unknown block [{name}]; expected {', '.join(f'[{b}]' for b in _KEYS)}")
        for name, keys in _KEYS.items():
            block = blocks.get(name)
            if not isinstance(block, Mapping):
                raise self._wrong(name, None, f"missing block [{name}] with {', '.join(keys)}")
            for key in block:
                if key not in keys:
                    raise self._wrong(name, key, f"unknown key; expected {', '.join(keys)}")

    def site(self) -> Site:
        start, end = self._points("direction", "axis_m", exactly=2)
        if math.dist(start, end) < MIN_AXIS_M:
            raise self._wrong(
                "direction", "axis_m", f"expected at least {MIN_AXIS_M:g} m, got {math.dist(start, end):.2f} m"
            )
        return Site(
            id=self._id(),
            limit_kmh=self._limit(),
            mount_height_m=self._mount_height(),
            polygon_m=self._polygon((start, end)),
            axis_m=(start, end),
            forward=self._text("direction", "forward"),
            backward=self._text("direction", "backward"),
        )

    def _id(self) -> str:
        text = self._text("site", "id")
        if not re.fullmatch(r"[a-z0-9-]{1,64}", text):
            raise self._wrong("site", "id", f"expected up to 64 lower-case letters, digits and hyphens, got {text!r}")
        return text

    def _limit(self) -> int:
        value, (low, high) = self._value("site", "limit_kmh"), LIMIT_RANGE_KMH
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong("site", "limit_kmh", f"expected a whole number from {low} to {high}, got {value!r}")
        return value

    def _mount_height(self) -> float | None:
        if "mount_height_m" not in self._blocks["site"]:
            return None
        value = self._value("site", "mount_height_m")
        if not _is_number(value) or not 0.5 <= value <= 100:
            raise self._wrong("site", "mount_height_m", f"expected metres above the road, got {value!r}")
        return float(value)

    def _polygon(self, axis: Points) -> Points:
        polygon: Points = self._points("zone", "polygon_m", at_least=3)
        if not _is_simple(polygon):
            raise self._wrong("zone", "polygon_m", "expected corners in order around the zone, got edges that cross")
        along = frame_rotation(np.subtract(axis[1], axis[0])) @ (np.array(polygon) - axis[0]).T
        if along[0].max() <= 0 or along[0].min() >= math.dist(*axis):
            raise self._wrong(
                "zone", "polygon_m", "expected a zone between the ends of direction.axis_m, got one beside it"
            )
        return polygon

    def _text(self, block: str, key: str) -> str:
        value = self._value(block, key)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(block, key, f"expected text, got {value!r}")
        return value

    def _points(self, block: str, key: str, *, exactly: int | None = None, at_least: int = 0) -> Any:
        value = self._value(block, key)
        wanted = f"exactly {exactly}" if exactly is not None else f"at least {at_least}"
        if not isinstance(value, list) or (len(value) != exactly if exactly is not None else len(value) < at_least):
            got = f"{len(value)}" if isinstance(value, list) else repr(value)
            raise self._wrong(block, key, f"expected {wanted} points [x, y] in metres, got {got}")
        for point in value:
            if not isinstance(point, list) or len(point) != 2 or not all(_is_number(part) for part in point):
                raise self._wrong(block, key, f"expected points [x, y] in metres, got {point!r}")
        return tuple((float(x), float(y)) for x, y in value)

    def _value(self, block: str, key: str) -> Any:
        if key not in self._blocks[block]:
            raise self._wrong(block, None, f"[{block}] misses the key {key}")
        return self._blocks[block][key]

    def _wrong(self, block: str, key: str | None, says: str) -> CalibrationError:
        return CalibrationError(f"{self._where}{self._line(block, key)}: {f'{block}.{key}: ' if key else ''}{says}")

    def _line(self, block: str, key: str | None) -> str:
        current = ""
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[([^\]]+)\]", line):
                current = header[1].strip()
                if key is None and current == block:
                    return f" line {number}"
            elif key is not None and current == block and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
                return f" line {number}"
        return ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_simple(polygon: Points) -> bool:
    """Whether no two edges cross and the corners enclose an area."""
    corners = len(polygon)
    area = sum(ax * by - bx * ay for (ax, ay), (bx, by) in zip(polygon, polygon[1:] + polygon[:1])) / 2
    if abs(area) < 1e-6:
        return False
    edges = [(polygon[i], polygon[(i + 1) % corners]) for i in range(corners)]
    apart = ((i, j) for i in range(corners) for j in range(i + 2, corners) if (j + 1) % corners != i)
    return not any(_cross(edges[i], edges[j]) for i, j in apart)


def _cross(one: Points, other: Points) -> bool:
    def side(line: Points, point: tuple[float, float]) -> float:
        (ax, ay), (bx, by) = line
        return (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax)

    return side(one, other[0]) * side(one, other[1]) <= 0 and side(other, one[0]) * side(other, one[1]) <= 0
