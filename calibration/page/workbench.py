"""Judges a draft with the code of ``calibrate solve``, says what to draw over the still, and saves.

A draft is written out as the files that it would be saved as, and read back by their readers, so that the page and the
command line can never disagree about a survey.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from calibration.camera import Floats
from calibration.certificate import Calibration
from calibration.drift import Reference
from calibration.errors import CalibrationError, Contradiction
from calibration.lens import Lens
from calibration.next_point import best_next_point
from calibration.page.draft import Corner, Draft, Placed
from calibration.page.overlay import grid_lines, heat_cells, in_both, or_none, outline
from calibration.quality import Verdict, privacy_warning
from calibration.road_plane import RoadPlane
from calibration.site import Site, read_site
from calibration.solve import Solution, solve
from calibration.straight import StraightLines
from calibration.survey import MIN_POINTS, Survey, read_survey

SCHEMA = "snellius.draft/1"
SURVEY, SITE, CERTIFICATE, DRAFT = "survey.csv", "site.toml", "cal.json", "draft.json"
_PROVISIONAL = {"id": "draft", "limit_kmh": "50", "forward": "forward", "backward": "backward"}


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """What a draft amounts to.

    Attributes:
        wrong: Lines that say what contradicts or cannot be read, with the id of the mark each is about.
        todo: What is missing: a code for the page, with numbers or names.
        placed: Marks with coordinates.
        survey: The marks that have them, None while they cannot be read.
        solution: The camera; over a provisional zone while none is drawn. None while there is none.
        site: The place, None while it is incomplete.
        zone_m: Corners of the zone, shape (n, 2), NaN where unknown. [m]
        axis_m: Ends of the direction, likewise.
        is_judged: Whether the camera was judged over the zone that is drawn.
    """

    wrong: tuple[tuple[str, int | None], ...]
    todo: tuple[dict[str, Any], ...]
    placed: Placed
    survey: Survey | None
    solution: Solution | None
    site: Site | None
    zone_m: Floats
    axis_m: Floats
    is_judged: bool

    @property
    def can_save(self) -> bool:
        """Whether nothing is wrong or missing, and speeds may be published."""
        solved = self.solution is not None and self.solution.verdict is not Verdict.REFUSE
        return solved and self.site is not None and not self.wrong and not self.todo


class Workbench:
    """One still, one folder, one draft.

    Every method may be called from any thread; they take turns.

    Attributes:
        image_size_px: Width and height of the still. [px]
        folder: Where the files go.
        draft: As it stands.
        key: Same for the same work: under it the browser keeps its own copy.
    """

    def __init__(
        self,
        *,
        image_size_px: tuple[int, int],
        folder: Path,
        survey: Survey | None = None,
        site: Site | None = None,
        reference: Reference | None = None,
        lens: Lens | None = None,
        lines: StraightLines | None = None,
    ) -> None:
        """Continue the draft in the folder, or begin with a survey and a site.

        Args:
            image_size_px: Width and height of the still. [px]
            folder: Where the files go.
            survey: Points to begin with.
            site: Zone and direction to begin with.
            reference: Corners of the still, for the certificate.
            lens: What a board told about this camera.
            lines: What is straight in the street.

        Raises:
            CalibrationError: The folder cannot be written, a click of the survey or of a line lies outside the still,
                or the draft there or the lens belongs to a picture of another size.
        """
        if survey is not None:
            survey.require_inside(image_size_px)
        if lens is not None:
            lens.require_size(image_size_px)
        if lines is not None:
            lines.require_inside(image_size_px)
        self.image_size_px, self.folder = image_size_px, folder
        self._reference, self._lens, self._lines = reference, lens, lines
        begun = Draft.of(survey, site)
        began = json.dumps([list(image_size_px), begun.as_json()], sort_keys=True)
        self.began = hashlib.sha256(began.encode()).hexdigest()[:16]
        self.key = hashlib.sha256(f"{folder.absolute()} {self.began}".encode()).hexdigest()[:16]
        self._lock = threading.Lock()
        self._provisional: tuple[str, Solution] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as refused:
            raise CalibrationError(f"{folder}: expected a folder to write to ({refused.strerror})") from None
        self.draft = self._kept() or begun
        self._keep()

    def update(self, draft: Draft) -> Assessment | None:
        """Keeps and judges a newer draft; None when the one here is newer.

        Raises:
            CalibrationError: It cannot be kept: the disk is full, or gone.
        """
        with self._lock:
            if draft.revision < self.draft.revision:
                return None
            self.draft = draft
            self._keep()
            return self._assess(draft)

    def assess(self) -> Assessment:
        """What the draft amounts to."""
        with self._lock:
            return self._assess(self.draft)

    def save(self, draft: Draft, created: datetime) -> Calibration | None:
        """Writes survey, site and calibration, all or none; None, and nothing written, when something is amiss.

        Args:
            draft: What to save.
            created: Now, with time zone.

        Raises:
            CalibrationError: A file cannot be written.
        """
        with self._lock:
            self.draft = draft
            self._keep()
            assessment = self._assess(draft)
            if not assessment.can_save:
                return None
            assert assessment.solution is not None  # can_save says so
            calibration = assessment.solution.certified(created, self._reference)
            survey_csv = draft.survey_csv(assessment.placed)
            site_toml = draft.site_toml(assessment.zone_m, assessment.axis_m)
            self._write_all(survey_csv, site_toml, calibration)
            return calibration

    def as_json(self, assessment: Assessment) -> dict[str, Any]:
        """An assessment as the page reads it: what to say and what to draw, in pixels of the still."""
        solution = assessment.solution
        answer: dict[str, Any] = {
            "revision": self.draft.revision,
            "wrong": [{"says": says, "mark": mark} for says, mark in assessment.wrong],
            "todo": list(assessment.todo),
            "marks": {str(mark): row for mark, row in self._marks(assessment).items()},
            "can_save": assessment.can_save,
            "verdict": None,
            "reasons": [],
            "summary": None,
            "privacy": None,
            "zone": [],
            "axis": [],
            "outline": [],
            "grid": [],
            "heat": [],
            "next": None,
        }
        if solution is None:
            return answer
        plane = solution.plane
        answer |= {
            "zone": in_both(plane, assessment.zone_m),
            "axis": in_both(plane, assessment.axis_m),
            "outline": outline(plane, assessment.zone_m),
            "grid": grid_lines(plane, solution.site, solution.survey.points_m),
        }
        if not assessment.is_judged:
            # The zone is provisional: what is said of it is of no use, what is said of the points is.
            answer["reasons"] = [says for says in solution.reasons if "zone" not in says]
            return answer
        summary = solution.summary()
        advice = best_next_point(
            plane,
            solution.site,
            solution.survey.points_m,
            sigma_px=float(np.median(solution.survey.sigma_px)),
            sigma_m=float(np.median(solution.survey.sigma_m)),
        )
        return answer | {
            "verdict": solution.verdict.value,
            "reasons": list(solution.reasons),
            "summary": summary,
            "privacy": privacy_warning(summary["px_per_m"]),
            "heat": heat_cells(plane, solution.site),
            "next": None
            if advice is None
            else {"u": advice.pixel[0], "v": advice.pixel[1], "then": advice.u_rel_worst, "now": advice.u_rel_now},
        }

    def _assess(self, draft: Draft) -> Assessment:
        placed = draft.placed()
        wrong, todo = list(placed.problems), self._missing(draft, placed)
        with tempfile.TemporaryDirectory(prefix="snellius-draft-") as staged:
            survey = self._survey(draft, placed, Path(staged), wrong)
            base = None if survey is None else self._solved(draft, placed, survey, None, wrong)
            nowhere = np.empty((0, 2))
            if survey is None or base is None:
                return Assessment(tuple(wrong), tuple(todo), placed, survey, None, None, nowhere, nowhere, False)
            zone_m = self._on_road(base.plane, draft.zone, "zone: corner {}", wrong)
            axis_m = self._on_road(base.plane, draft.axis, "direction: end {}", wrong)
            site, judged = None, None
            if len(axis_m) == 2 and len(zone_m) >= 3 and np.isfinite(zone_m).all() and np.isfinite(axis_m).all():
                site, judged = self._site(draft, zone_m, axis_m, Path(staged), wrong)
            over_zone = None if judged is None else self._solved(draft, placed, survey, judged, wrong)
        is_judged, solution = over_zone is not None, over_zone or base
        return Assessment(tuple(wrong), tuple(todo), placed, survey, solution, site, zone_m, axis_m, is_judged)

    def _missing(self, draft: Draft, placed: Placed) -> list[dict[str, Any]]:
        todo: list[dict[str, Any]] = []
        unplaced = [mark.name for mark in draft.marks if mark.id not in placed.texts]
        usable = sum(mark.is_used for mark in draft.marks if mark.id in placed.texts)
        if len(draft.marks) < MIN_POINTS:
            todo.append({"code": "marks", "n": len(draft.marks)})
        if unplaced:
            todo.append({"code": "metres", "names": unplaced})
        elif usable < MIN_POINTS <= len(draft.marks):
            todo.append({"code": "used", "n": usable})
        if len(draft.axis) < 2:
            todo.append({"code": "axis"})
        if len(draft.zone) < 3:
            todo.append({"code": "zone"})
        empty = [key for key in _PROVISIONAL if not draft.site.get(key, "").strip()]
        if empty:
            todo.append({"code": "site", "keys": empty})
        return todo

    def _survey(self, draft: Draft, placed: Placed, folder: Path, wrong: list[tuple[str, int | None]]) -> Survey | None:
        """The marks as the survey's reader takes them; a complaint goes to ``wrong``."""
        if not placed.texts:
            return None
        path = folder / SURVEY
        path.write_text(draft.survey_csv(placed), encoding="utf-8")
        try:
            survey = read_survey(path)
            survey.require_inside(self.image_size_px)
        except CalibrationError as error:
            wrong.append(self._about(str(error), draft, placed))
            return None
        return survey

    def _about(self, says: str, draft: Draft, placed: Placed) -> tuple[str, int | None]:
        """A complaint with the mark whose row it names."""
        row = re.match(rf"{re.escape(SURVEY)} line (\d+)", says)
        marks = [mark for mark in draft.marks if mark.id in placed.texts]
        if row is None or not 0 <= int(row[1]) - 2 < len(marks):
            return says, None
        mark = marks[int(row[1]) - 2]
        return (says if f"({mark.name})" in says else says.replace(row[0], f"{row[0]} ({mark.name})", 1)), mark.id

    def _solved(
        self, draft: Draft, placed: Placed, survey: Survey, site: Site | None, wrong: list[tuple[str, int | None]]
    ) -> Solution | None:
        """The camera over a site, or over a provisional one, which is kept while only the zone changes."""
        left_out = draft.left_out(placed)
        if len(survey) - len(left_out) < MIN_POINTS:
            return None
        if site is not None:
            return solve(survey, site, self.image_size_px, left_out, lens=self._lens, lines=self._lines)
        version = draft.survey_csv(placed) + repr(left_out)
        if self._provisional is None or self._provisional[0] != version:
            try:
                around = _around(survey.dropping(left_out).points_m)
                solution = solve(survey, around, self.image_size_px, left_out, lens=self._lens, lines=self._lines)
            except Contradiction as contradiction:
                wrong.append((str(contradiction), None))
                return None
            except CalibrationError as error:
                wrong.append(self._about(str(error), draft, placed))
                return None
            self._provisional = version, solution
        return self._provisional[1]

    def _on_road(
        self, plane: RoadPlane, corners: Sequence[Corner], what: str, wrong: list[tuple[str, int | None]]
    ) -> Floats:
        places = np.full((len(corners), 2), np.nan)
        for row, corner in enumerate(corners):
            if corner.place_m is not None:
                places[row] = corner.place_m
            else:
                places[row] = plane.camera.ground(np.array(corner.pixel)).round(2)
            if not np.isfinite(places[row]).all():
                wrong.append(
                    (f"{what.format(row + 1)} lies at or above the horizon: expected a place on the road", None)
                )
        return places

    def _site(
        self, draft: Draft, zone_m: Floats, axis_m: Floats, folder: Path, wrong: list[tuple[str, int | None]]
    ) -> tuple[Site | None, Site | None]:
        """The site if it is complete and right; and one to judge the zone by, with stand-ins for wrong texts."""
        complete = all(draft.site.get(key, "").strip() for key in _PROVISIONAL)
        path = folder / SITE
        try:
            if complete:
                path.write_text(draft.site_toml(zone_m, axis_m), encoding="utf-8")
                site = read_site(path)
                return site, site
        except CalibrationError as error:
            wrong.append((str(error), None))
        stand_in = Draft.from_json({"revision": 0, "site": _PROVISIONAL})
        path.write_text(stand_in.site_toml(zone_m, axis_m), encoding="utf-8")
        try:
            return None, read_site(path)
        except CalibrationError as error:
            if not complete:
                wrong.append((str(error), None))
            return None, None

    def _marks(self, assessment: Assessment) -> dict[int, dict[str, Any]]:
        """What is known of each mark that has coordinates."""
        solution, survey, placed = assessment.solution, assessment.survey, assessment.placed
        known: dict[int, dict[str, Any]] = {
            identity: {"x": x, "y": y, "sigma_m": sigma, "taped": identity in placed.by_tape}
            for identity, (x, y, sigma) in placed.texts.items()
        }
        if solution is None or survey is None:
            return known
        rows = {mark.name: mark.id for mark in self.draft.marks}
        projected = solution.plane.project(survey.points_m)
        alone = {
            name: float(np.hypot(*vector)) for name, vector in zip(solution.survey.names, solution.leave_one_out_m)
        }
        for row, name in enumerate(survey.names):
            off_m = alone.get(name, math.nan)
            known[rows[name]] |= {
                "pu": or_none(projected[row, 0]),
                "pv": or_none(projected[row, 1]),
                "off_m": or_none(off_m),
                "suspect": name in solution.rejected,
            }
        return known

    def _kept(self) -> Draft | None:
        """The draft in the folder, if it began with the same files."""
        path = self.folder / DRAFT
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise CalibrationError(f"{path}: expected a draft of this page; delete it to begin anew") from None
        if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
            raise CalibrationError(f"{path}: expected a draft with schema {SCHEMA!r}; delete it to begin anew")
        if content.get("image_size_px") != list(self.image_size_px):
            had, now = ("x".join(map(str, size)) for size in (content.get("image_size_px", ()), self.image_size_px))
            raise CalibrationError(
                f"{path}: expected a draft for a still of {now}, found one for {had}; use another --out, or delete it"
            )
        return Draft.from_json(content.get("draft")) if content.get("began") == self.began else None

    def _keep(self) -> None:
        content = {
            "schema": SCHEMA,
            "began": self.began,
            "image_size_px": list(self.image_size_px),
            "draft": self.draft.as_json(),
        }
        staged = None
        try:
            handle, staged = tempfile.mkstemp(dir=self.folder, prefix=f".{DRAFT}.")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            Path(staged).replace(self.folder / DRAFT)
        except OSError as refused:
            if staged is not None:
                Path(staged).unlink(missing_ok=True)
            raise CalibrationError(f"{self.folder}: cannot be written ({refused.strerror})") from None

    def _write_all(self, survey_csv: str, site_toml: str, calibration: Calibration) -> None:
        """All three files or none: written aside first, and moved in with the old ones put back on failure.

        The certificate comes last and holds survey and site itself: whatever happens in between, it is whole.
        """
        names = (SURVEY, SITE, CERTIFICATE)
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".saving-") as name:
                staged, before = Path(name), Path(name) / "before"
                before.mkdir()
                (staged / SURVEY).write_text(survey_csv, encoding="utf-8")
                (staged / SITE).write_text(site_toml, encoding="utf-8")
                calibration.save(staged / CERTIFICATE)
                had = [file for file in names if (self.folder / file).exists()]
                for file in had:
                    os.link(self.folder / file, before / file)
                try:
                    for file in names:
                        (staged / file).replace(self.folder / file)
                except OSError:
                    for file in names:
                        if file in had:
                            (before / file).replace(self.folder / file)
                        elif not (staged / file).exists():
                            (self.folder / file).unlink()
                    raise
        except OSError as refused:
            raise CalibrationError(f"{self.folder}: cannot be written ({refused.strerror})") from None


def _around(points_m: Floats) -> Site:
    """A provisional zone around the marks, to solve by while none is drawn."""
    middle = points_m.mean(axis=0)
    along = np.linalg.svd(points_m - middle, full_matrices=False)[2][0]
    spread = np.abs((points_m - middle) @ along).max() + 5.0
    aside = np.array([-along[1], along[0]]) * 3.0
    start, end = middle - spread * along, middle + spread * along
    corners = [start - aside, end - aside, end + aside, start + aside]
    return Site(
        id="draft",
        limit_kmh=50,
        mount_height_m=None,
        polygon_m=tuple((float(x), float(y)) for x, y in corners),
        axis_m=((float(start[0]), float(start[1])), (float(end[0]), float(end[1]))),
        forward="forward",
        backward="backward",
    )
