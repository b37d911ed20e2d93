"""Days that a study leaves out: public holidays, school holidays, bad weather. Each with its reason, for the report."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from edge.errors import BackendUnavailable, BadInput
from edge.study.words import SCHOOL_HOLIDAY

CONDITION = re.compile(r"([a-z_0-9]+)\s*([<>])\s*(-?[0-9.]+)")


def public_holidays(first: date, last: date, country: str = "NL") -> dict[date, str]:
    """Public holidays of a country between two days, both included.

    Raises:
        BackendUnavailable: The extra 'study' is missing.
        BadInput: The country is not known.
    """
    try:
        import holidays
    except ImportError as missing:
        raise BackendUnavailable(
            "public holidays need: pip install 'snellius[study]' (or leave them in: --holidays none)"
        ) from missing
    try:
        languages = holidays.country_holidays(country).supported_languages
        found = holidays.country_holidays(
            country,
            years=range(first.year, last.year + 1),
            language=country.lower() if country.lower() in languages else None,
        )
    except NotImplementedError:
        raise BadInput(f"--holidays: expected a country code like NL, or none, got '{country}'") from None
    return {day: name for day, name in sorted(found.items()) if first <= day <= last}


def school_holidays(text: str, where: str) -> dict[date, str]:
    """Read a CSV with the columns ``from,to`` and optionally ``name``; both days are included.

    Raises:
        BadInput: A column is missing, or a row holds no days.
    """
    days: dict[date, str] = {}
    for line, row in _rows(text, where, ("from", "to")):
        first, last = _day(row["from"], f"{where} line {line}: from"), _day(row["to"], f"{where} line {line}: to")
        if last < first or (last - first).days > 366:
            raise BadInput(f"{where} line {line}: to: expected a day up to a year after {first}, got {last}")
        for number in range((last - first).days + 1):
            days[first + timedelta(days=number)] = row.get("name") or SCHOOL_HOLIDAY
    return days


def bad_weather(text: str, where: str, conditions: Sequence[str]) -> dict[date, str]:
    """Days of a CSV with the column ``day`` and one for each quantity, on which a condition holds.

    Args:
        text: The CSV.
        where: Its name, for errors.
        conditions: ``rain_mm>10``, ``min_c<0``, …; any of them leaves a day out.

    Raises:
        BadInput: A column is missing, a value is no number, or a condition cannot be read.
    """
    parsed = []
    for condition in conditions:
        match = CONDITION.fullmatch(condition.strip())
        if match is None:
            raise BadInput(f"--leave-out: expected a condition like 'rain_mm>10', got '{condition}'")
        parsed.append((match[1], match[2], float(match[3])))
    days: dict[date, str] = {}
    for line, row in _rows(text, where, ("day", *(name for name, _, _ in parsed))):
        day = _day(row["day"], f"{where} line {line}: day")
        for (name, sign, bound), condition in zip(parsed, conditions):
            try:
                value = float(row[name])
            except ValueError:
                raise BadInput(f"{where} line {line}: {name}: expected a number, got '{row[name]}'") from None
            if (value > bound) if sign == ">" else (value < bound):
                days[day] = condition
    return days


def _rows(text: str, where: str, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    rows = csv.DictReader(io.StringIO(text))
    missing = [name for name in needed if name not in (rows.fieldnames or ())]
    if missing:
        raise BadInput(f"{where} line 1: expected the columns {','.join(needed)}, missing {', '.join(missing)}")
    for number, row in enumerate(rows, start=2):
        yield number, {name: value or "" for name, value in row.items() if name is not None}


def _day(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise BadInput(f"{where}: expected a day like 2026-11-23, got '{text}'") from None
