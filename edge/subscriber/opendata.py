"""Open data: what was published, as files for people's own tools (spreadsheets, pandas, DuckDB, QGIS, ArcGIS Hub).

Rows are those of the roll-ups: sums of whole windows, so each rests on k vehicles or more and so does every difference
of two of them. Field names are short, lower-case and the same in every file; instants are ISO 8601 in UTC.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from edge.domain import Direction
from edge.errors import BadInput
from edge.publish.payload import Flow
from edge.subscriber.rollup import Grid, Total, merged, roll_up
from edge.subscriber.store import Pole

LICENCES = {
    "CC0-1.0": "http://creativecommons.org/publicdomain/zero/1.0/deed.nl",
    "CC-BY-4.0": "http://creativecommons.org/licenses/by/4.0/deed.nl",
}
DICTIONARY = Path(__file__).with_name("data-dictionary.csv")
RECENT_DAYS = 28  # of the figures beside a pole on the map


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pole stands, told by its owner.

    Attributes:
        longitude: WGS 84. [°]
        latitude: WGS 84. [°]
        name: For people.
    """

    longitude: float
    latitude: float
    name: str


def read_places(text: str, where: str) -> dict[str, Place]:
    """Read a CSV with the columns ``pole,lon,lat`` and optionally ``name``.

    Raises:
        BadInput: A column is missing or a value is no coordinate.
    """
    rows = csv.DictReader(io.StringIO(text))
    missing = {"pole", "lon", "lat"} - set(rows.fieldnames or ())
    if missing:
        raise BadInput(
            f"{where} line 1: expected the columns pole,lon,lat[,name], missing {', '.join(sorted(missing))}"
        )
    places = {}
    for number, row in enumerate(rows, start=2):
        try:
            longitude, latitude = float(row["lon"] or ""), float(row["lat"] or "")
        except ValueError:
            raise BadInput(
                f"{where} line {number}: lon, lat: expected degrees, got '{row['lon']}', '{row['lat']}'"
            ) from None
        if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
            raise BadInput(f"{where} line {number}: lon, lat: expected WGS 84 degrees, got {longitude}, {latitude}")
        places[row["pole"]] = Place(longitude, latitude, row.get("name") or row["pole"])
    return places


def write_open_data(
    poles: Sequence[tuple[Pole, Sequence[Flow]]],
    *,
    zone: ZoneInfo,
    licence: str,
    publisher: str,
    places: Mapping[str, Place],
    now: datetime,
) -> dict[str, str]:
    """Every file by its name.

    Args:
        poles: Windows of every pole.
        zone: Time zone of the streets.
        licence: A key of :data:`LICENCES`, or the address of another licence.
        publisher: Who publishes.
        places: Where poles stand, by device or site; one that is missing has no point on the map.
        now: Instant of the export, aware.
    """
    if licence not in LICENCES and "://" not in licence:
        raise BadInput(f"--licence: expected {', '.join(LICENCES)} or an address, got '{licence}'")
    by_day = [row for pole, flows in poles for row in _rows(pole, flows, Grid.DAY, zone, licence)]
    by_hour = [row for pole, flows in poles for row in _rows(pole, flows, Grid.HOUR, zone, licence)]
    dictionary = DICTIONARY.read_text(encoding="utf-8")
    columns = [row["field"] for row in csv.DictReader(io.StringIO(dictionary)) if row["in"].startswith("tables")]
    files = {
        "speed-by-day.csv": _csv(columns, by_day),
        "speed-by-hour.csv": _csv(columns, by_hour),
        "poles.geojson": _json(_map(poles, places, zone, licence)),
        DICTIONARY.name: dictionary,
    }
    days = [row["day"] for row in by_day]
    files["dataset.json"] = _json(_dataset(licence, publisher, days, sorted(files), now))
    return files


def _rows(pole: Pole, flows: Sequence[Flow], grid: Grid, zone: ZoneInfo, licence: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for direction in (*Direction, None):
        rows += [
            {
                "pole": pole.device,
                "site": pole.site,
                "direction": "both" if direction is None else direction.value,
                "start_utc": f"{cell.start:%Y-%m-%dT%H:%M:%SZ}",
                "end_utc": f"{cell.end:%Y-%m-%dT%H:%M:%SZ}",
                "day": cell.day.isoformat(),
                "cells": cell.cells,
                **figures_of(cell.total),
                "licence": licence,
            }
            for cell in roll_up(flows, grid, zone, direction)
        ]
    return rows


def figures_of(total: Total) -> dict[str, object]:
    """The figures of a row, under the names of the data dictionary."""
    histogram = total.histogram
    return {
        "windows": total.windows,
        "vehicles": total.vehicles,
        "measured": histogram.n,
        "per_hour": _rounded(total.vehicles_per_h, 1),
        "mean_kmh": _rounded(histogram.mean_kmh, 1),
        "v50_kmh": _rounded(histogram.quantile_kmh(0.50), 1),
        "v85_kmh": _rounded(histogram.quantile_kmh(0.85), 1),
        "limit_kmh": total.limit_kmh,
        "share_over": round(total.share_over(), 4),
        "share_over10": round(total.share_over(10), 4),
        "coverage": round(total.coverage, 3),
        "flagged": int(total.has_flags),
    }


def _map(
    poles: Sequence[tuple[Pole, Sequence[Flow]]], places: Mapping[str, Place], zone: ZoneInfo, licence: str
) -> dict[str, object]:
    """A FeatureCollection (RFC 7946), a point a pole with the figures of its latest four weeks."""
    features = []
    for pole, flows in poles:
        place = places.get(pole.device) or places.get(pole.site)
        properties: dict[str, object] = {
            "pole": pole.device,
            "site": pole.site,
            "name": place.name if place else pole.site,
            "city": pole.city,
            "forward": pole.meta.site.forward if pole.meta else None,
            "backward": pole.meta.site.backward if pole.meta else None,
        }
        days = roll_up(flows, Grid.DAY, zone)
        if days:
            recent = [
                cell for cell in days
                if cell.day > days[-1].day - timedelta(days=RECENT_DAYS)
                and cell.total.limit_kmh == days[-1].total.limit_kmh
                and cell.total.histogram.binning == days[-1].total.histogram.binning
            ]  # fmt: skip
            properties |= {
                "start_utc": f"{recent[0].start:%Y-%m-%dT%H:%M:%SZ}",
                "end_utc": f"{recent[-1].end:%Y-%m-%dT%H:%M:%SZ}",
                **figures_of(merged([cell.total for cell in recent])),
            }
        geometry = {"type": "Point", "coordinates": [place.longitude, place.latitude]} if place else None
        features.append(
            {
                "type": "Feature",
                "id": pole.device,
                "geometry": geometry,
                "properties": properties | {"licence": licence},
            }
        )
    return {"type": "FeatureCollection", "licence": licence, "features": features}


def _dataset(
    licence: str, publisher: str, days: Sequence[object], files: Iterable[str], now: datetime
) -> dict[str, object]:
    """A DCAT description, for a catalogue."""
    formats = {"csv": "text/csv", "geojson": "application/geo+json"}
    return {
        "@context": {"dcat": "http://www.w3.org/ns/dcat#", "dct": "http://purl.org/dc/terms/"},
        "@type": "dcat:Dataset",
        "dct:title": [
            {"@language": "en", "@value": "Speeds on our streets"},
            {"@language": "nl", "@value": "Snelheden in onze straten"},
        ],
        "dct:description": [
            {
                "@language": "en",
                "@value": "Anonymised speeds of motor vehicles, measured by Snellius poles. Every row adds up published"
                " windows of 10 vehicles or more; no row and no difference of rows tells of fewer.",
            },
            {
                "@language": "nl",
                "@value": "Geanonimiseerde snelheden van motorvoertuigen, gemeten door Snellius-palen. Elke rij telt"
                " gepubliceerde meetvensters van 10 voertuigen of meer op; geen rij en geen verschil van rijen gaat"
                " over minder.",
            },
        ],
        "dct:license": LICENCES.get(licence, licence),
        "dct:publisher": publisher,
        "dct:modified": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "dct:temporal": {"dcat:startDate": min(days, key=str), "dcat:endDate": max(days, key=str)} if days else None,
        "dcat:distribution": [
            {"@type": "dcat:Distribution", "dct:title": name, "dcat:mediaType": formats[name.rsplit(".", 1)[-1]]}
            for name in files
        ],
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _csv(names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _json(plain: object) -> str:
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
