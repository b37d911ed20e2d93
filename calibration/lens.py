"""``LENS.json``: what a board in front of the camera told about its lens, to be used by every survey of that camera.

Focal length, principal point and distortion in the model of :mod:`calibration.camera`, with their covariance. It holds
for one camera at one picture size, zoom and focus. The id (``lens-2026-10-02-7f3a``: date and first four digits of the
SHA-256 of everything else) goes into the calibration; an altered file is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from calibration.camera import Floats
from calibration.errors import CalibrationError
from calibration.survey import read_text

SCHEMA = "snellius.lens/1"
LENS_PARAMETERS = ("log_focal", "centre_u", "centre_v", "k1", "k2", "p1", "p2", "k3")
"""Order of the covariance: log of the focal length, principal point [px], Brown's terms."""


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """A camera's inside.

    Attributes:
        id: ``lens-DATE-FINGERPRINT``.
        created: When it was found, with time zone.
        image_size_px: Width and height of the picture it holds for. [px]
        focal_px: Focal length. [px]
        centre_px: Principal point. [px]
        distortion: k1, k2, p1, p2, k3; 0 where the board did not tell a term from nothing.
        covariance: Of :data:`LENS_PARAMETERS`, shape (8, 8); zero for terms that are 0.
        rms_px: Root mean square distance of corners from where they should be. [px]
        views: Pictures of the board it rests on.
    """

    id: str
    created: datetime
    image_size_px: tuple[int, int]
    focal_px: float
    centre_px: tuple[float, float]
    distortion: tuple[float, float, float, float, float]
    covariance: Floats
    rms_px: float
    views: int

    def require_size(self, image_size_px: tuple[int, int]) -> None:
        """Raises CalibrationError unless it holds for pictures of that size."""
        if self.image_size_px != image_size_px:
            want, got = ("x".join(map(str, size)) for size in (self.image_size_px, image_size_px))
            raise CalibrationError(f"{self.id}: expected pictures of {want}, for which the lens was found, got {got}")

    def as_json(self) -> dict[str, Any]:
        """The content of ``LENS.json``."""
        return {"schema": SCHEMA, "id": self.id, **self._content()}

    def summary(self) -> dict[str, Any]:
        """What ``calibrate lens --json`` prints: each value, and again with ``_sigma``."""
        sigmas = np.sqrt(np.diag(self.covariance))
        values = dict(zip(LENS_PARAMETERS, (self.focal_px, *self.centre_px, *self.distortion)))
        told: dict[str, Any] = {"id": self.id, "views": self.views, "rms_px": self.rms_px}
        for (name, value), sigma in zip(values.items(), sigmas.tolist()):
            called = "focal_px" if name == "log_focal" else name
            told |= {called: value, f"{called}_sigma": sigma * self.focal_px if name == "log_focal" else sigma}
        return told

    @classmethod
    def named(
        cls,
        *,
        created: datetime,
        image_size_px: tuple[int, int],
        focal_px: float,
        centre_px: tuple[float, float],
        distortion: tuple[float, float, float, float, float],
        covariance: Floats,
        rms_px: float,
        views: int,
    ) -> Lens:
        """A new lens with its id; ``created`` needs a time zone."""
        instant = created.astimezone(timezone.utc).replace(microsecond=0)
        nameless = cls("", instant, image_size_px, focal_px, centre_px, distortion, covariance, rms_px, views)
        return cls(
            _identity(nameless._content()),
            instant,
            image_size_px,
            focal_px,
            centre_px,
            distortion,
            covariance,
            rms_px,
            views,
        )

    @classmethod
    def load(cls, path: Path) -> Lens:
        """Read ``LENS.json``.

        Raises:
            CalibrationError: Missing, broken JSON, another schema, altered, or a key is missing or wrong.
        """
        try:
            content = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise CalibrationError(f"{path} line {error.lineno}: expected JSON: {error.msg}") from None
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise CalibrationError(f"{path}: expected a lens with schema {SCHEMA!r} (made by `calibrate lens`)")
        try:
            width, height = content["image_size_px"]
            k1, k2, p1, p2, k3 = (float(term) for term in content["distortion"])
            lens = cls(
                id=content["id"],
                created=datetime.strptime(content["created"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc),
                image_size_px=(int(width), int(height)),
                focal_px=float(content["focal_px"]),
                centre_px=(float(content["centre_px"][0]), float(content["centre_px"][1])),
                distortion=(k1, k2, p1, p2, k3),
                covariance=np.array(content["covariance"]["matrix"], dtype=np.float64),
                rms_px=float(content["rms_px"]),
                views=int(content["views"]),
            )
            is_whole = lens.covariance.shape == (8, 8) and lens.id == _identity(lens._content())
        except KeyError as missing:
            raise CalibrationError(f"{path}: misses the key {missing}") from None
        except (TypeError, ValueError, IndexError) as error:
            raise CalibrationError(f"{path}: not a lens: {error}") from None
        if not is_whole:
            raise CalibrationError(f"{path}: altered since it was found (its id does not match); find it again")
        return lens

    def _content(self) -> dict[str, Any]:
        return {
            "created": self.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "image_size_px": list(self.image_size_px),
            "focal_px": self.focal_px,
            "centre_px": list(self.centre_px),
            "distortion": list(self.distortion),
            "covariance": {"parameters": list(LENS_PARAMETERS), "matrix": self.covariance.tolist()},
            "rms_px": self.rms_px,
            "views": self.views,
        }


def _identity(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"lens-{content['created'][:10]}-{hashlib.sha256(canonical.encode('ascii')).hexdigest()[:4]}"
