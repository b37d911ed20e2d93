"""What has been clicked and typed so far, complete or not, and the survey and site files that it amounts to."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.camera import Floats
from calibration.errors import CalibrationError
from calibration.geodesy import RD_X_RANGE_M, RD_Y_RANGE_M, metres_around
from calibration.site import Site
from calibration.survey import Survey
from calibration.trilateration import Tape, locate_by_tape

SYSTEMS = ("local", "rd", "wgs84")
MAX_ROWS = 200  # marks, distances, corners: more is no survey, and would keep the device busy
MAX_TEXT = 120

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Mark:
    """A point clicked in the still.

    Attributes:
        id: Number by which distances refer to it.
        name: What the technician calls it.
        u: Click, right of the centre of the top-left pixel. [px]
        v: Click, below it. [px]
        x: First coordinate as typed: metres, or degrees of latitude.
        y: Second coordinate as typed: metres, or degrees of longitude.
        sigma_px: Its own standard deviation of the click as typed; empty: the one of all.
        sigma_m: Its own standard deviation of a coordinate as typed; empty: the one of all.
        is_used: Whether the camera is solved from it; otherwise it is left out on purpose.
    """

    id: int
    name: str
    u: float
    v: float
    x: str
    y: str
    sigma_px: str
    sigma_m: str
    is_used: bool


@dataclass(frozen=True, slots=True)
class Distance:
    """A tape reading between two marks, by their ids, as typed. [m]"""

    start: int
    end: int
    metres: str


@dataclass(frozen=True, slots=True)
class Corner:
    """A place drawn in the picture or typed in metres; the other one follows from the calibration.

    Attributes:
        pixel: Where it was drawn, None when it was typed. [px]
        place_m: What was typed, None when it was drawn. [m]
    """

    pixel: tuple[float, float] | None
    place_m: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything on the page, as it stands.

    Attributes:
        revision: Rises with every change, so that the newest of two copies is known.
        system: What the coordinates of marks are: ``local`` metres, ``rd`` (RD New) or ``wgs84`` degrees.
        sigma_px: Standard deviation of a click, as typed.
        sigma_m: Standard deviation of a coordinate and of a tape reading, as typed.
        marks: Points.
        distances: Tape readings.
        zone: Corners of the zone.
        axis: From and to.
        site: Texts of the fields of ``[site]`` and ``[direction]``, as typed.
    """

    revision: int
    system: str
    sigma_px: str
    sigma_m: str
    marks: tuple[Mark, ...]
    distances: tuple[Distance, ...]
    zone: tuple[Corner, ...]
    axis: tuple[Corner, ...]
    site: Mapping[str, str]

    @classmethod
    def of(cls, survey: Survey | None, site: Site | None) -> Draft:
        """A page that begins empty, or with files that exist; numbers keep the precision that a tape can have."""
        content: dict[str, Any] = {"revision": 1}
        if survey is not None:
            content["points"] = [
                {
                    "id": row + 1, "name": survey.names[row], "u": float(u), "v": float(v),
                    "x": f"{x:.3f}", "y": f"{y:.3f}",
                    "sigma_px": f"{survey.sigma_px[row]:g}", "sigma_m": f"{survey.sigma_m[row]:g}",
                }
                for row, ((u, v), (x, y)) in enumerate(zip(survey.pixels, survey.points_m))
            ]  # fmt: skip
            for key in ("sigma_px", "sigma_m"):
                stated = {point[key] for point in content["points"]}
                if len(stated) == 1:
                    content[key] = stated.pop()
                    for point in content["points"]:
                        point[key] = ""
        if site is not None:
            blocks = site.as_json()
            content["zone"] = [{"x": x, "y": y} for x, y in site.polygon_m]
            content["axis"] = [{"x": x, "y": y} for x, y in site.axis_m]
            texts = {**blocks["site"], "forward": site.forward, "backward": site.backward}
            content["site"] = {key: str(value) for key, value in texts.items()}
        return cls.from_json(content)

    @classmethod
    def from_json(cls, content: Any) -> Draft:
        """A draft as the page sends it.

        Raises:
            CalibrationError: It is not of that form, or absurdly large.
        """
        try:
            draft = cls(
                revision=int(content["revision"]),
                system=_one_of(content.get("system", "local"), SYSTEMS),
                sigma_px=_text(content.get("sigma_px", "0.5")),
                sigma_m=_text(content.get("sigma_m", "0.02")),
                marks=tuple(_mark(row) for row in _rows(content, "points")),
                distances=tuple(
                    Distance(int(row["from"]), int(row["to"]), _text(row["metres"]))
                    for row in _rows(content, "distances")
                ),
                zone=tuple(_corner(row) for row in _rows(content, "zone")),
                axis=tuple(_corner(row) for row in _rows(content, "axis"))[:2],
                site={key: _text(value) for key, value in dict(content.get("site", {})).items() if key in _SITE},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as wrong:
            raise CalibrationError(f"draft: not a draft of this page: {type(wrong).__name__}: {wrong}") from None
        if len({mark.id for mark in draft.marks}) < len(draft.marks):
            raise CalibrationError("draft: two marks with one id")
        return draft

    def as_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads."""
        return {
            "revision": self.revision,
            "system": self.system,
            "sigma_px": self.sigma_px,
            "sigma_m": self.sigma_m,
            "points": [
                {
                    "id": mark.id, "name": mark.name, "u": mark.u, "v": mark.v, "x": mark.x, "y": mark.y,
                    "sigma_px": mark.sigma_px, "sigma_m": mark.sigma_m, "use": mark.is_used,
                }
                for mark in self.marks
            ],
            "distances": [{"from": one.start, "to": one.end, "metres": one.metres} for one in self.distances],
            "zone": [_corner_json(corner) for corner in self.zone],
            "axis": [_corner_json(corner) for corner in self.axis],
            "site": dict(self.site),
        }  # fmt: skip

    def placed(self) -> Placed:
        """Coordinates of the marks, from what was typed and from the tape."""
        return _Placing(self).placed()

    def survey_csv(self, placed: Placed) -> str:
        """``SURVEY.csv`` of the marks that have coordinates, as typed where they were typed."""
        table = io.StringIO()
        write = csv.writer(table, lineterminator="\n").writerow
        write(("name", "u_px", "v_px", "x_m", "y_m", "sigma_px", "sigma_m"))
        for mark in self.marks:
            if mark.id in placed.texts:
                x, y, sigma_m = placed.texts[mark.id]
                write((mark.name, f"{mark.u:.2f}", f"{mark.v:.2f}", x, y, mark.sigma_px or self.sigma_px, sigma_m))
        return table.getvalue()

    def left_out(self, placed: Placed) -> tuple[str, ...]:
        """Names of the marks with coordinates that are left out on purpose."""
        return tuple(mark.name for mark in self.marks if not mark.is_used and mark.id in placed.texts)

    def site_toml(self, polygon_m: Floats, axis_m: Floats) -> str:
        """``SITE.toml``; what was left empty is left out."""
        said = {key: self.site.get(key, "").strip() for key in _SITE}
        lines = ["[site]", f"id = {_quoted(said['id'])}"] if said["id"] else ["[site]"]
        lines += [f"{key} = {_number_or_text(said[key])}" for key in ("limit_kmh", "mount_height_m") if said[key]]
        lines += ["[zone]", f"polygon_m = {_places(polygon_m)}", "[direction]", f"axis_m = {_places(axis_m)}"]
        lines += [f"{key} = {_quoted(said[key])}" for key in ("forward", "backward") if said[key]]
        return "\n".join([*lines, ""])


@dataclass(frozen=True, slots=True)
class Placed:
    """Marks with coordinates.

    Attributes:
        texts: x, y and sigma as they stand in ``SURVEY.csv``, by id of the mark. [m]
        by_tape: Ids of those whose coordinates come from distances.
        problems: What is wrong, with the id of the mark it is about, if it is about one.
    """

    texts: dict[int, tuple[str, str, str]]
    by_tape: frozenset[int]
    problems: tuple[tuple[str, int | None], ...]


class _Placing:
    """From typed coordinates and distances to coordinates in metres."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.problems: list[tuple[str, int | None]] = []
        self.typed = [mark for mark in draft.marks if mark.x.strip() or mark.y.strip()]

    def placed(self) -> Placed:
        degrees = self.draft.system == "wgs84"
        texts = self._from_degrees() if degrees else {m.id: (m.x.strip(), m.y.strip()) for m in self.typed}
        if self.draft.system == "rd":
            self._require_rd()
        sigma_of = {mark.id: mark.sigma_m or self.draft.sigma_m for mark in self.draft.marks}
        told = {identity: (x, y, sigma_of[identity]) for identity, (x, y) in texts.items()}
        tapes = self._tapes()
        if not tapes:
            return Placed(told, frozenset(), tuple(self.problems))
        adjusted = self._adjusted(texts, tapes)
        by_tape = frozenset(adjusted) - frozenset(texts)
        return Placed({**told, **adjusted}, by_tape, tuple(self.problems))

    def _from_degrees(self) -> dict[int, tuple[str, str]]:
        known: dict[int, tuple[float, float]] = {}
        for mark in self.typed:
            latitude = self._degrees(mark, "latitude", mark.x, 90.0)
            longitude = self._degrees(mark, "longitude", mark.y, 180.0)
            if latitude is not None and longitude is not None:
                known[mark.id] = (latitude, longitude)
        if not known:
            return {}
        degrees = np.array(list(known.values()))
        metres = metres_around(degrees, degrees[0])
        return {identity: (f"{x:.3f}", f"{y:.3f}") for identity, (x, y) in zip(known, metres)}

    def _degrees(self, mark: Mark, what: str, text: str, bound: float) -> float | None:
        value = _number(text)
        if value is None or abs(value) > bound:
            example = "52.2248113" if what == "latitude" else "5.1712350"
            got = repr(text) if text.strip() else "nothing"
            self.problems.append((f"{mark.name}: {what}: expected degrees such as {example}, got {got}", mark.id))
            return None
        return value

    def _require_rd(self) -> None:
        for mark in self.typed:
            x, y = _number(mark.x), _number(mark.y)
            if x is None or y is None:
                continue  # the survey's reader says so
            if not (RD_X_RANGE_M[0] <= x <= RD_X_RANGE_M[1] and RD_Y_RANGE_M[0] <= y <= RD_Y_RANGE_M[1]):
                self.problems.append(
                    (
                        f"{mark.name}: expected RD New (x {RD_X_RANGE_M[0]:.0f} to {RD_X_RANGE_M[1]:.0f},"
                        f" y {RD_Y_RANGE_M[0]:.0f} to {RD_Y_RANGE_M[1]:.0f}), got ({x:g}, {y:g})",
                        mark.id,
                    )
                )

    def _tapes(self) -> list[tuple[int, int, float]]:
        """Complete distances, by ids."""
        names = {mark.id: mark.name for mark in self.draft.marks}
        tapes = []
        for one in self.draft.distances:
            if one.start not in names or one.end not in names or not one.metres.strip():
                continue  # a row that is still being filled in
            metres, between = _number(one.metres), f"distance {names[one.start]} to {names[one.end]}"
            if one.start == one.end:
                self.problems.append((f"{between}: expected two different marks", one.start))
            elif metres is None or metres <= 0:
                self.problems.append((f"{between}: expected metres, got {one.metres!r}", None))
            else:
                tapes.append((one.start, one.end, metres))
        return tapes

    def _adjusted(
        self, texts: dict[int, tuple[str, str]], tapes: list[tuple[int, int, float]]
    ) -> dict[int, tuple[str, str, str]]:
        """Coordinates of all marks that the tape or typed coordinates hold."""
        taped = {end for tape in tapes for end in tape[:2]}
        marks = [mark for mark in self.draft.marks if mark.id in taped]
        row_of = {mark.id: row for row, mark in enumerate(marks)}
        given = np.full((len(marks), 2), np.nan)
        for row, mark in enumerate(marks):
            x, y = (_number(text) for text in texts.get(mark.id, ("", "")))
            if x is not None and y is not None:
                given[row] = x, y
        if any(math.isnan(given[row_of[i], 0]) for i in taped & texts.keys()):
            return {}  # typed, but not a number: the survey's reader says so
        sigma_m = _number(self.draft.sigma_m)
        if sigma_m is None or sigma_m <= 0:
            return {}  # the survey's reader says so
        try:
            found = locate_by_tape(
                names=[mark.name for mark in marks],
                pixels=np.array([(mark.u, mark.v) for mark in marks]),
                given_m=given,
                given_sigma_m=sigma_m,
                tapes=[Tape(row_of[start], row_of[end], metres) for start, end, metres in tapes],
                tape_sigma_m=sigma_m,
            )
        except CalibrationError as loose:
            self.problems.append((str(loose), None))
            return {}
        self.problems += [(says, None) for says in found.says]
        return {
            mark.id: (f"{x:.3f}", f"{y:.3f}", f"{max(sigma, 0.001):.3f}")
            for mark, (x, y), sigma in zip(marks, found.points_m, found.sigma_m)
        }


_SITE = ("id", "limit_kmh", "mount_height_m", "forward", "backward")


def _mark(row: Mapping[str, Any]) -> Mark:
    return Mark(
        id=int(row["id"]),
        name=_text(row["name"]).strip(),
        u=_pixel(row["u"]),
        v=_pixel(row["v"]),
        x=_text(row.get("x", "")),
        y=_text(row.get("y", "")),
        sigma_px=_text(row.get("sigma_px", "")),
        sigma_m=_text(row.get("sigma_m", "")),
        is_used=bool(row.get("use", True)),
    )


def _corner(row: Mapping[str, Any]) -> Corner:
    if "u" in row:
        return Corner(pixel=(_pixel(row["u"]), _pixel(row["v"])), place_m=None)
    return Corner(pixel=None, place_m=(_pixel(row["x"]), _pixel(row["y"])))


def _corner_json(corner: Corner) -> dict[str, float]:
    if corner.pixel is not None:
        return {"u": corner.pixel[0], "v": corner.pixel[1]}
    assert corner.place_m is not None  # one of the two
    return {"x": corner.place_m[0], "y": corner.place_m[1]}


def _rows(content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = content.get(key, [])
    if not isinstance(rows, list) or len(rows) > MAX_ROWS:
        raise ValueError(f"{key}: expected a list of at most {MAX_ROWS}")
    return rows


def _one_of(value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"expected one of {', '.join(allowed)}")
    return str(value)


def _text(value: Any) -> str:
    """One line of limited length."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"expected a text of at most {MAX_TEXT} characters")
    return _CONTROL.sub(" ", value)


def _pixel(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or abs(number) > 1e9:
        raise ValueError("expected a finite number")
    return number


def _number(text: str) -> float | None:
    """As the survey's reader takes it: a decimal point, no other sign."""
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def _quoted(text: str) -> str:
    """A TOML basic string; control characters are gone already."""
    return json.dumps(text, ensure_ascii=False)


def _number_or_text(text: str) -> str:
    """A number as TOML writes it; anything else as text, so that the reader names it."""
    value = _number(text)
    if value is None or not math.isfinite(value):
        return _quoted(text)
    return str(int(value)) if value == int(value) else repr(value)


def _places(places_m: Floats) -> str:
    return json.dumps([[round(float(x), 2), round(float(y), 2)] for x, y in places_m])
