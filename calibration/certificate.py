"""``CAL.json``: a calibration that can be carried, dated, checked and refused.

The fingerprint is the SHA-256 of everything else in the file in canonical form; an altered file is refused. The id
(``cal-2026-10-02-7f3a``: date and first four digits of the fingerprint) goes into every published message.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from calibration.camera import PARAMETERS, Camera, Floats
from calibration.drift import Reference
from calibration.errors import CalibrationError
from calibration.quality import Verdict, ZoneQuality, zone_quality
from calibration.quality import summary as quality_summary
from calibration.road_plane import RoadPlane
from calibration.site import Site
from calibration.survey import read_text

SCHEMA = "snellius.calibration/1"
SOLVER = "joint-map/1"  # rises with every change that could alter a published number
VALID_FOR = timedelta(days=365)  # poles lean, brackets loosen, roads are resurfaced


@dataclass(frozen=True, slots=True)
class PointRecord:
    """A surveyed point as the certificate remembers it.

    Attributes:
        name: What the technician called it.
        pixel: Click in the distorted picture. [px]
        point_m: Survey coordinates. [m]
        sigma_px: Standard deviation of the click, each axis. [px]
        sigma_m: Standard deviation of a coordinate, each axis. [m]
        residual_px: Click less projection. [px]
        leave_one_out_m: How far from its surveyed place the other points put the click; None when they cannot tell. [m]
    """

    name: str
    pixel: tuple[float, float]
    point_m: tuple[float, float]
    sigma_px: float
    sigma_m: float
    residual_px: tuple[float, float]
    leave_one_out_m: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A certified calibration of one camera at one site.

    Attributes:
        id: ``cal-DATE-FINGERPRINT``.
        fingerprint: SHA-256 over everything else, 64 hexadecimal digits.
        created: When it was solved.
        expires: From when on it is no longer trusted.
        solver: Name and version of the method.
        plane: The road, in survey coordinates.
        site: The place.
        points: The points it rests on.
        dropped: Names left out on purpose.
        noise_scale: How many times larger the residuals are than stated; 1 when they agree.
        verdict: What it may be used for, as judged when solved.
        reasons: Why.
        reference: How the street looked, to notice that the camera has turned; None when no still was given.
        lens_id: Of the lens that a board told (``LENS.json``); None when the points alone tell the lens.
    """

    id: str
    fingerprint: str
    created: datetime
    expires: datetime
    solver: str
    plane: RoadPlane
    site: Site
    points: tuple[PointRecord, ...]
    dropped: tuple[str, ...]
    noise_scale: float
    verdict: Verdict
    reasons: tuple[str, ...]
    reference: Reference | None
    lens_id: str | None

    @property
    def image_size_px(self) -> tuple[int, int]:
        """Width and height of the picture it holds for. [px]"""
        return self.plane.camera.image_size_px

    @property
    def zone_plane(self) -> RoadPlane:
        """The road with x along the site's axis from its begin and y to its left."""
        return self.plane.in_frame(self.site.origin_m, self.site.axis)

    @property
    def quality(self) -> ZoneQuality:
        """What it is worth over the zone."""
        return zone_quality(self.plane, self.site)

    @property
    def rms_px(self) -> float:
        """Root mean square length of the residuals. [px]"""
        return math.sqrt(sum(du * du + dv * dv for du, dv in (p.residual_px for p in self.points)) / len(self.points))

    def is_expired(self, now: datetime) -> bool:
        """Whether it is no longer trusted at an instant (with time zone)."""
        return now >= self.expires

    @classmethod
    def certify(
        cls,
        *,
        plane: RoadPlane,
        site: Site,
        points: tuple[PointRecord, ...],
        dropped: tuple[str, ...],
        noise_scale: float,
        verdict: Verdict,
        reasons: tuple[str, ...],
        created: datetime,
        valid_for: timedelta = VALID_FOR,
        reference: Reference | None = None,
        lens_id: str | None = None,
    ) -> Calibration:
        """A new certificate with its fingerprint and id; ``created`` needs a time zone."""
        start = created.astimezone(timezone.utc).replace(microsecond=0)
        unsigned = cls(
            id="",
            fingerprint="",
            created=start,
            expires=start + valid_for,
            solver=SOLVER,
            plane=plane,
            site=site,
            points=points,
            dropped=dropped,
            noise_scale=noise_scale,
            verdict=verdict,
            reasons=reasons,
            reference=reference,
            lens_id=lens_id,
        )
        return cls.from_json(_signed(unsigned._content()), "certificate")

    def save(self, path: Path) -> None:
        """Write ``CAL.json``, whole or not at all.

        Raises:
            CalibrationError: The place cannot be written.
        """
        text = json.dumps(_signed(self._content()), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).chmod(0o644)
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be written ({error.strerror})") from None

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read ``CAL.json``.

        Raises:
            CalibrationError: Missing, a directory, broken JSON, another schema, altered, or a key is missing or wrong.
        """
        try:
            content = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise CalibrationError(f"{path} line {error.lineno}: expected JSON: {error.msg}") from None
        return cls.from_json(content, str(path))

    @classmethod
    def from_json(cls, content: Any, where: str) -> Calibration:
        """A calibration from the content of ``CAL.json``; raises CalibrationError as :meth:`load`."""
        if not isinstance(content, dict) or "schema" not in content:
            raise CalibrationError(
                f"{where}: expected a calibration with schema {SCHEMA!r} (made by `calibrate solve`)"
            )
        if content["schema"] != SCHEMA:
            raise CalibrationError(f"{where}: schema: expected {SCHEMA!r}, got {content['schema']!r}")
        try:
            _require_unaltered(content, where)
            return cls._read(content, where)
        except KeyError as missing:
            raise CalibrationError(f"{where}: misses the key {missing}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise CalibrationError(f"{where}: not a calibration: {error}") from None

    @classmethod
    def _read(cls, content: dict[str, Any], where: str) -> Calibration:
        camera, covariance = content["camera"], content["covariance"]
        if tuple(covariance["parameters"]) != PARAMETERS:
            raise CalibrationError(f"{where}: covariance.parameters: expected {', '.join(PARAMETERS)}")
        width, height = content["image_size_px"]
        k1, k2, p1, p2, k3 = camera["distortion"]
        return cls(
            id=content["id"],
            fingerprint=content["fingerprint"],
            created=_instant(content["created"]),
            expires=_instant(content["expires"]),
            solver=content["solver"],
            plane=RoadPlane(
                camera=Camera(
                    image_size_px=(int(width), int(height)),
                    focal_px=camera["focal_px"],
                    centre_px=(camera["centre_px"][0], camera["centre_px"][1]),
                    distortion=(k1, k2, p1, p2, k3),
                    rotation=np.array(camera["rotation"]),
                    position_m=np.array(camera["position_m"]),
                ),
                covariance=np.array(covariance["matrix"]),
                hull_m=np.array(content["hull_m"]),
            ),
            site=Site.from_json(content["site"], where),
            points=tuple(_point(row) for row in content["survey"]),
            dropped=tuple(content["dropped"]),
            noise_scale=content["noise_scale"],
            verdict=Verdict(content["summary"]["verdict"]),
            reasons=tuple(content["summary"]["reasons"]),
            reference=Reference.from_json(content["reference"], where) if "reference" in content else None,
            lens_id=content.get("lens"),
        )

    def summary(self) -> dict[str, Any]:
        """The fixed keys of ``calibrate check --json``."""
        return quality_summary(
            plane=self.plane,
            quality=self.quality,
            verdict=self.verdict,
            reasons=list(self.reasons),
            points=len(self.points),
            rejected=[],
            rms_px=self.rms_px,
        )

    def _content(self) -> dict[str, Any]:
        camera = self.plane.camera
        return {
            "schema": SCHEMA,
            "created": self.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "expires": self.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "solver": self.solver,
            "summary": self.summary(),
            "image_size_px": list(self.image_size_px),
            "camera": {
                "focal_px": camera.focal_px,
                "centre_px": list(camera.centre_px),
                "distortion": list(camera.distortion),
                "rotation": camera.rotation.tolist(),
                "position_m": camera.position_m.tolist(),
            },
            "covariance": {"parameters": list(PARAMETERS), "matrix": self.plane.covariance.tolist()},
            "homography": _homography_block(self.plane),
            "hull_m": self.plane.hull_m.tolist(),
            "survey": [
                {
                    "name": point.name,
                    "pixel": list(point.pixel),
                    "point_m": list(point.point_m),
                    "sigma_px": point.sigma_px,
                    "sigma_m": point.sigma_m,
                    "residual_px": list(point.residual_px),
                    "leave_one_out_m": point.leave_one_out_m,
                }
                for point in self.points
            ],
            **({} if self.lens_id is None else {"lens": self.lens_id}),
            "dropped": list(self.dropped),
            "noise_scale": self.noise_scale,
            "site": self.site.as_json(),
            **({} if self.reference is None else {"reference": self.reference.as_json()}),
        }


def homography(camera: Camera, origin_m: Floats) -> Floats:
    """Undistorted pixel → metres on the road less ``origin_m``, of unit norm, shape (3, 3)."""
    intrinsic = np.array(
        [[camera.focal_px, 0, camera.centre_px[0]], [0, camera.focal_px, camera.centre_px[1]], [0, 0, 1]]
    )
    shift = camera.rotation @ (np.append(origin_m, 0.0) - camera.position_m)
    inverse = np.linalg.inv(intrinsic @ np.column_stack((camera.rotation[:, 0], camera.rotation[:, 1], shift)))
    return np.asarray(inverse / np.linalg.norm(inverse) * np.sign(inverse[2, 2] or 1.0))


def _homography_block(plane: RoadPlane) -> dict[str, Any]:
    """For other tools: the plane as a homography with its covariance (row-major, rank 8 or less)."""
    origin = np.round(plane.hull_m.mean(axis=0))
    steps = 1e-3 * np.sqrt(np.diag(plane.covariance))  # a thousandth of a sigma: linear, and far above rounding
    columns = [
        (homography(plane.camera.perturbed(step), origin) - homography(plane.camera.perturbed(-step), origin)).ravel()
        / (2 * size)
        for step, size in zip(np.diag(steps), steps)
    ]
    jacobian = np.column_stack(columns)
    return {
        "maps": "undistorted pixel to metres less origin_m",
        "origin_m": origin.tolist(),
        "matrix": homography(plane.camera, origin).tolist(),
        "covariance": (jacobian @ plane.covariance @ jacobian.T).tolist(),
    }


def _signed(content: dict[str, Any]) -> dict[str, Any]:
    fingerprint = _fingerprint(content)
    rest = {key: value for key, value in content.items() if key != "schema"}
    identity = f"cal-{content['created'][:10]}-{fingerprint[:4]}"
    return {"schema": content["schema"], "id": identity, "fingerprint": fingerprint, **rest}


def _fingerprint(content: Mapping[str, Any]) -> str:
    covered = {key: value for key, value in content.items() if key not in ("id", "fingerprint")}
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _require_unaltered(content: dict[str, Any], where: str) -> None:
    fingerprint = _fingerprint(content)
    if content["fingerprint"] != fingerprint or content["id"] != f"cal-{content['created'][:10]}-{fingerprint[:4]}":
        raise CalibrationError(f"{where}: altered since it was solved (its fingerprint does not match); solve it again")


def _instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def _point(row: Mapping[str, Any]) -> PointRecord:
    (u, v), (x, y), (du, dv) = row["pixel"], row["point_m"], row["residual_px"]
    return PointRecord(
        name=row["name"],
        pixel=(u, v),
        point_m=(x, y),
        sigma_px=row["sigma_px"],
        sigma_m=row["sigma_m"],
        residual_px=(du, dv),
        leave_one_out_m=row["leave_one_out_m"],
    )
