"""Our speeds against a laser gun or a GPS logger: bias, limits of agreement, and an honest pass or fail.

1. **Clock.** The reference's clock differs from ours by an unknown offset. Every offset that puts some reading on some
   passage is tried; the likeliest explains most readings by the time, direction and speed of a passage. When another
   offset is nearly as likely the result says so and does not pass.
2. **Pairs** are then made by time, direction and lane only, each reading with one passage. Speed takes no part, else
   agreement would be chosen, not found. A reading with two candidates that are equally near is left out and counted.
3. **Angle.** A gun that looks along the road at an angle reads the cosine of the speed; readings are divided by it.
4. **Agreement** after Bland and Altman (1986, doi:10.1016/S0140-6736(86)90837-8): mean difference d (ours less
   reference) with its 95 % interval d ± t·s/√n, limits of agreement d ± 1.96·s, and their intervals from the standard
   error s·√(1/n + 1.96²/(2(n − 1))). Assumes differences that are about normal and of a spread that does not depend on
   the speed.
5. **Suspects.** A difference far from all others is a mistyped reading, another vehicle, or a blunder of ours. It is
   named and left out of the figures, and as long as there is one the result does not pass.

Passing needs all of: :data:`MIN_PAIRS` pairs, a bias of at most :data:`MAX_BIAS_KMH`, limits of agreement within
:data:`MAX_ERROR_KMH` (:data:`MAX_ERROR_SHARE` above 100 km/h: what police speed meters are allowed in service), a share
within U that a true 95 % could have given, no suspect, an unambiguous clock, and a reference that is no speedometer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from calibration.camera import Floats
from calibration.errors import CalibrationError
from calibration.pairing import best_pairs
from calibration.survey import read_number, read_rows, read_text

Bools = npt.NDArray[np.bool_]

REFERENCE_COLUMNS = ("time_s", "time", "direction", "lane", "sigma_kmh", "gun_angle_deg", "device")
DIRECTIONS = ("forward", "backward")
DEVICES = ("laser", "gps", "speedometer")
READING_SIGMA_KMH = 0.7  # unless stated: whole numbers on the display (0.3), aim and instant of the reading (0.6)
MAX_GUN_ANGLE_DEG = 45.0  # beyond, one degree of error in the angle is worth 2 % of speed

MIN_PAIRS = 10
MAX_BIAS_KMH = 1.0
MAX_ERROR_KMH = 3.0
MAX_ERROR_SHARE = 0.03
WITHIN_U_CHANCE = 0.01  # a true 95 % gives so few with less than this chance
LIMIT = 1.96

PAIR_WITHIN_S = 2.0  # a gun is read somewhere on the approach, a GPS logger once a second
LEAST_JITTER_S = 0.2
APART_JITTERS = 2.5  # a second passage no further than this from the nearest could be meant as well
TIME_SIGMA_S = 0.7  # while the clock is sought
SPEED_SIGMA_KMH = 4.0  # while the clock is sought: a calibration may be off by that
WRONG_SHARE = 0.1  # of the readings belong to nobody
CLOCK_RIVAL_S = 3.0  # offsets nearer to each other than this pair alike
CLOCK_DOUBT = math.log(100)  # how many times likelier the best offset must be
USUAL_OFFSET_S = 10.0  # of two clocks set by hand; the prior is a Cauchy distribution, which hardly minds minutes
MOST_OFFSETS = 3_000  # that are worth a full look
SAME_LANE_M = 1.7  # half a lane

SUSPECT_KMH = 3.0
SUSPECT_SIGMAS = 4.5
MIN_FOR_SUSPECTS = 6  # fewer cannot say who is the odd one

MIN_FOR_SCALE = 20  # half to fit, half to test
R39 = "UNECE Regulation 39 lets a speedometer read 0 to 10 % + 4 km/h high, never low"


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """Passages, as far as they matter here.

    Attributes:
        times_s: Middle of each passage on the camera's clock, rising, shape (n,). [s]
        speeds_kmh: NaN where a vehicle was seen but not measured, shape (n,). [km/h]
        sigma_kmh: One standard deviation, all contributions, shape (n,). [km/h]
        forward: Whether it drove along the axis, shape (n,).
        lateral_m: Offset from the axis, left positive, shape (n,). [m]
    """

    times_s: Floats
    speeds_kmh: Floats
    sigma_kmh: Floats
    forward: Bools
    lateral_m: Floats

    def __len__(self) -> int:
        return len(self.times_s)


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Reference speeds as they were read.

    Attributes:
        times_s: On the reference's clock, shape (m,). [s]
        read_kmh: What the display showed, shape (m,). [km/h]
        sigma_kmh: One standard deviation of that, shape (m,). [km/h]
        angle_deg: Between the gun's line of sight and the road, shape (m,). [°]
        directions: ``forward``, ``backward`` or empty when not noted.
        lanes: As noted; empty when not.
        origin: Where each came from, for messages.
        is_dated: Whether the times are instants (s since 1970) and not seconds since the first frame.
        device: What kind of reference; empty when not said.
    """

    times_s: Floats
    read_kmh: Floats
    sigma_kmh: Floats
    angle_deg: Floats
    directions: tuple[str, ...]
    lanes: tuple[str, ...]
    origin: tuple[str, ...]
    is_dated: bool = False
    device: str = ""

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def speeds_kmh(self) -> Floats:
        """Along the road: readings over the cosine of the gun's angle. [km/h]"""
        return np.asarray(self.read_kmh / np.cos(np.radians(self.angle_deg)))


@dataclass(frozen=True, slots=True)
class Offset:
    """The reference's clock less the camera's.

    Attributes:
        seconds: Best estimate. [s]
        sigma_s: One standard deviation; NaN from a single pair. [s]
        rival_s: Another offset that is nearly as likely; None when there is none. [s]
    """

    seconds: float
    sigma_s: float
    rival_s: float | None


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which reading belongs to which passage.

    Attributes:
        pairs: Reading and passage; only passages with a speed.
        unmeasured: Readings of vehicles that were seen and not measured.
        ambiguous: Readings with two equally near passages.
        alone: Readings without any passage.
    """

    pairs: tuple[tuple[int, int], ...]
    unmeasured: tuple[int, ...]
    ambiguous: tuple[int, ...]
    alone: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Differences, ours less the reference, after Bland and Altman; intervals hold 95 %.

    Attributes:
        bias_kmh: Mean difference. [km/h]
        bias_interval: [km/h]
        sd_kmh: Standard deviation of the differences. [km/h]
        limits: Between which 95 % of differences lie. [km/h]
        low_interval: Of the lower limit. [km/h]
        high_interval: Of the upper limit. [km/h]
    """

    bias_kmh: float
    bias_interval: tuple[float, float]
    sd_kmh: float
    limits: tuple[float, float]
    low_interval: tuple[float, float]
    high_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ScaleProposal:
    """A factor on our speeds, fitted on every other pair and tried on the rest. Nothing is changed by it.

    Attributes:
        factor: What our speeds would be multiplied by.
        sigma: One standard deviation.
        fitted_on: Pairs that it was fitted on.
        tried_on: Pairs held back.
        bias_before_kmh: Mean difference of the held-back pairs without the factor. [km/h]
        bias_after_kmh: And with it. [km/h]
    """

    factor: float
    sigma: float
    fitted_on: int
    tried_on: int
    bias_before_kmh: float
    bias_after_kmh: float


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """The result.

    Attributes:
        readings: All reference speeds.
        passed: All passages.
        offset: Between the clocks; None when nothing could be paired.
        pairing: Which belongs to which.
        suspects: Pairs (rows of ``pairing.pairs``) that were left out of the figures.
        ours_kmh: Our speeds of the other pairs, shape (n,). [km/h]
        reference_kmh: The reference's, shape (n,). [km/h]
        expanded_kmh: U (k = 2) of their difference, shape (n,). [km/h]
        agreement: None with fewer than two pairs.
        scale: A factor that would help; None when there is none to propose.
        shortfalls: Why it does not pass; empty: it passes.
        warnings: What else a reader must know.
    """

    readings: Readings
    passed: Passed
    offset: Offset | None
    pairing: Pairing
    suspects: tuple[int, ...]
    ours_kmh: Floats
    reference_kmh: Floats
    expanded_kmh: Floats
    agreement: Agreement | None
    scale: ScaleProposal | None
    shortfalls: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def differences_kmh(self) -> Floats:
        """Ours less the reference. [km/h]"""
        return np.asarray(self.ours_kmh - self.reference_kmh)

    @property
    def within_u(self) -> float | None:
        """Share of differences within their expanded uncertainty (k = 2); None without pairs."""
        return within_share(self.differences_kmh, self.expanded_kmh) if len(self.ours_kmh) else None

    def summary(self, *, with_single: bool = True) -> dict[str, Any]:
        """What ``calibrate verify --json`` prints.

        Args:
            with_single: Whether single readings may be named; after a live session only their numbers are.
        """
        pairing = self.pairing
        left_out = (pairing.ambiguous, pairing.alone, self.suspects)
        single: dict[str, Any] = {
            "ambiguous": [self.readings.origin[row] for row in pairing.ambiguous],
            "alone": [self.readings.origin[row] for row in pairing.alone],
            "suspects": [self._suspect(row) for row in self.suspects],
        }
        return {
            "n": len(self.ours_kmh),
            **_agreement_keys(self.agreement),
            "within_u": _rounded(self.within_u),
            "clock_offset_s": None if self.offset is None else _rounded(self.offset.seconds),
            "clock_offset_sigma_s": None if self.offset is None else _rounded(self.offset.sigma_s),
            "clock_offset_rival_s": None if self.offset is None else _rounded(self.offset.rival_s),
            "pass": not self.shortfalls,
            "shortfalls": list(self.shortfalls),
            "warnings": list(self.warnings),
            "readings": len(self.readings),
            "passages": len(self.passed),
            "unmeasured": len(pairing.unmeasured),
            **(single if with_single else dict(zip(single, map(len, left_out)))),
            "scale": None if self.scale is None else _scale_keys(self.scale),
        }

    def _suspect(self, row: int) -> dict[str, Any]:
        reading, passage = self.pairing.pairs[row]
        return {
            "where": self.readings.origin[reading],
            "reference_kmh": _rounded(float(self.readings.speeds_kmh[reading])),
            "ours_kmh": _rounded(float(self.passed.speeds_kmh[passage])),
        }


def read_passages(path: Path) -> Passed:
    """Passages as ``snellius replay --passages`` writes them.

    Raises:
        CalibrationError: The file cannot be read, or a line is not as expected.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            rows.append(_passage(line, f"{path.name} line {number}"))
    return passed_of(rows)


def passed_of(rows: Sequence[tuple[float, float, float, bool, float]]) -> Passed:
    """Passages from (time, speed or NaN, sigma, forward, lateral offset), in any order."""
    table = np.array(sorted(rows), dtype=np.float64).reshape(-1, 5)
    return Passed(table[:, 0], table[:, 1], table[:, 2], table[:, 3] > 0, table[:, 4])


def read_reference(path: Path) -> Readings:
    """Reference speeds from a CSV file.

    Columns: ``speed_kmh`` and ``time_s`` or ``time``; optionally ``direction``, ``lane``, ``sigma_kmh``,
    ``gun_angle_deg`` and ``device`` (laser, gps, speedometer).

    Raises:
        CalibrationError: The file cannot be read, or a column, row or value is not as expected.
    """
    rows = read_rows(path, ("speed_kmh",), REFERENCE_COLUMNS)
    if not rows:
        raise CalibrationError(f"{path.name}: expected at least one reading, got none")
    if ("time_s" in rows[0][1]) == ("time" in rows[0][1]):
        raise CalibrationError(f"{path.name} line 1: expected either a column 'time_s' or a column 'time'")
    is_dated = "time" in rows[0][1]
    speeds = [_between(f"{at}: speed_kmh", row["speed_kmh"], "km/h", 1.0, 300.0) for at, row in rows]
    angles = [
        _between(f"{at}: gun_angle_deg", row.get("gun_angle_deg") or "0", "degrees", 0.0, MAX_GUN_ANGLE_DEG)
        for at, row in rows
    ]
    usual = str(READING_SIGMA_KMH)
    sigmas = [_between(f"{at}: sigma_kmh", row.get("sigma_kmh") or usual, "km/h", 1e-3, 50.0) for at, row in rows]
    devices = {_one_of(f"{at}: device", row.get("device", ""), DEVICES) for at, row in rows} - {""}
    if len(devices) > 1:
        raise CalibrationError(f"{path.name}: device: expected one kind of reference, got {', '.join(sorted(devices))}")
    return Readings(
        times_s=np.array(
            [
                _instant_s(f"{at}: time", row["time"]) if is_dated else read_number(f"{at}: time_s", row["time_s"], "s")
                for at, row in rows
            ]
        ),
        read_kmh=np.array(speeds),
        sigma_kmh=np.array(sigmas),
        angle_deg=np.array(angles),
        directions=tuple(_one_of(f"{at}: direction", row.get("direction", ""), DIRECTIONS) for at, row in rows),
        lanes=tuple(row.get("lane", "") for _, row in rows),
        origin=tuple(at for at, _ in rows),
        is_dated=is_dated,
        device=next(iter(devices), ""),
    )


def verify(passed: Passed, readings: Readings, *, offsets_s: tuple[float, float] | None = None) -> Verification:
    """Pair, compare and judge.

    Args:
        passed: Our passages.
        readings: The reference.
        offsets_s: Least and largest offset of its clock that can be, when that is known. [s]
    """
    offset = clock_offset(passed, readings, offsets_s=offsets_s)
    nobody = Pairing((), (), (), tuple(range(len(readings))))
    pairing = nobody if offset is None else pair(passed, readings, offset.seconds)
    if offset is not None and pairing.pairs:
        late_s = [readings.times_s[r] - passed.times_s[p] for r, p in pairing.pairs]
        spread_s = 1.4826 * float(np.median(np.abs(late_s - np.median(late_s))))
        known = spread_s / math.sqrt(len(late_s)) if len(late_s) > 1 else math.nan
        offset = Offset(float(np.median(late_s)), known, offset.rival_s)
    which = np.array(pairing.pairs, dtype=np.intp).reshape(-1, 2)
    ours, reference = passed.speeds_kmh[which[:, 1]], readings.speeds_kmh[which[:, 0]]
    expanded = 2 * np.hypot(passed.sigma_kmh[which[:, 1]], readings.sigma_kmh[which[:, 0]])
    odd = _odd_ones(ours - reference, expanded)
    ours, reference, expanded = ours[~odd], reference[~odd], expanded[~odd]
    agreement = bland_altman(ours - reference)
    return Verification(
        readings=readings,
        passed=passed,
        offset=offset,
        pairing=pairing,
        suspects=tuple(int(row) for row in np.flatnonzero(odd)),
        ours_kmh=ours,
        reference_kmh=reference,
        expanded_kmh=expanded,
        agreement=agreement,
        scale=proposed_scale(ours, reference),
        shortfalls=tuple(_shortfalls(ours, reference, expanded, agreement, int(odd.sum()), offset, readings)),
        warnings=tuple(_warnings(ours, reference, pairing, readings)),
    )


def clock_offset(passed: Passed, readings: Readings, *, offsets_s: tuple[float, float] | None = None) -> Offset | None:
    """The likeliest offset of the reference's clock, None when no reading can belong to a passage.

    The likelihood of an offset takes each reading either as one of the nearest fitting passage (normal in time and
    speed) or as nobody's (any time, any speed of the street).
    """
    possible = _fitting(passed, readings)
    gaps = readings.times_s[:, None] - passed.times_s[None]
    if offsets_s is not None:
        possible &= (gaps >= offsets_s[0]) & (gaps <= offsets_s[1])
    if not possible.any():
        return None
    tries = np.unique(np.round(gaps[possible], 1))
    if len(tries) > MOST_OFFSETS:  # those that most gaps between a reading and a passage speak for
        known = np.sort(gaps[possible])
        votes = np.searchsorted(known, tries + TIME_SIGMA_S) - np.searchsorted(known, tries - TIME_SIGMA_S)
        tries = np.sort(tries[np.argsort(-votes, kind="stable")[:MOST_OFFSETS]])
    speeds = passed.speeds_kmh[np.isfinite(passed.speeds_kmh)]
    usual, spread = (float(np.mean(speeds)), max(float(np.std(speeds)), 5.0)) if len(speeds) else (40.0, 15.0)
    span_s = max(float(np.ptp(passed.times_s)), 10.0)
    by_speed = (
        stats.norm.logpdf(readings.speeds_kmh[:, None] - passed.speeds_kmh[None], 0.0, SPEED_SIGMA_KMH)
        - stats.norm.logpdf(readings.speeds_kmh, usual, spread)[:, None]
    )
    by_speed = np.where(possible, np.nan_to_num(by_speed, nan=0.0), -np.inf)
    by_speed += math.log(span_s / (TIME_SIGMA_S * math.sqrt(2 * math.pi)))
    scores = np.array([_likelihood(gaps - offset, by_speed) for offset in tries])
    if not readings.is_dated:
        scores -= np.log1p((tries / USUAL_OFFSET_S) ** 2)
    best = float(tries[scores.argmax()])
    rivals = (np.abs(tries - best) > CLOCK_RIVAL_S) & (scores > scores.max() - CLOCK_DOUBT)
    rival = float(tries[rivals][scores[rivals].argmax()]) if rivals.any() else None
    chosen = np.abs(gaps - best) < PAIR_WITHIN_S
    late = [float(row[np.abs(row - best).argmin()]) for row in np.where(possible & chosen, gaps, np.inf)]
    near = [value for value in late if math.isfinite(value)]
    return Offset(float(np.median(near)) if near else best, math.nan, rival)


def pair(passed: Passed, readings: Readings, offset_s: float) -> Pairing:
    """One passage for each reading, by time, direction and lane; never by speed."""
    possible = _fitting(passed, readings)
    late = np.where(possible, readings.times_s[:, None] - offset_s - passed.times_s[None], np.inf)
    nearest = np.abs(late).min(axis=1, initial=np.inf)
    close = nearest[nearest <= PAIR_WITHIN_S]
    jitter_s = max(1.4826 * float(np.median(close)) if len(close) else 0.0, LEAST_JITTER_S)
    reach_s = min(max(4 * jitter_s, 1.0), PAIR_WITHIN_S)
    late = _in_their_lanes(late, reach_s, passed, readings)
    taken = _one_to_one(np.abs(late), reach_s)
    pairs, unmeasured, ambiguous = [], [], []
    for reading, passage in sorted(taken.items()):
        distance = abs(late[reading, passage])
        others = [
            rival
            for rival in np.flatnonzero(np.abs(late[reading]) < distance + APART_JITTERS * jitter_s)
            if rival != passage and rival not in taken.values()
        ]
        if others:
            ambiguous.append(reading)
        elif math.isnan(passed.speeds_kmh[passage]):
            unmeasured.append(reading)
        else:
            pairs.append((reading, passage))
    alone = tuple(row for row in range(len(readings)) if row not in taken)
    return Pairing(tuple(pairs), tuple(unmeasured), tuple(ambiguous), alone)


def bland_altman(differences_kmh: Floats) -> Agreement | None:
    """Mean difference and limits of agreement with their 95 % intervals; None for fewer than two differences."""
    n = len(differences_kmh)
    if n < 2:
        return None
    bias, sd = float(np.mean(differences_kmh)), float(np.std(differences_kmh, ddof=1))
    t = float(stats.t.ppf(0.975, n - 1))
    reach = t * sd / math.sqrt(n)
    limit_reach = t * sd * math.sqrt(1 / n + LIMIT**2 / (2 * (n - 1)))
    low, high = bias - LIMIT * sd, bias + LIMIT * sd
    return Agreement(
        bias_kmh=bias,
        bias_interval=(bias - reach, bias + reach),
        sd_kmh=sd,
        limits=(low, high),
        low_interval=(low - limit_reach, low + limit_reach),
        high_interval=(high - limit_reach, high + limit_reach),
    )


def proposed_scale(ours_kmh: Floats, reference_kmh: Floats) -> ScaleProposal | None:
    """A factor that clearly helps pairs it has not seen; None when there is none.

    Fitted by least squares on every other pair. Proposed when it differs from 1 by more than two of its standard
    deviations and at least halves the bias of the held-back pairs.
    """
    if len(ours_kmh) < MIN_FOR_SCALE:
        return None
    fit, held = slice(0, None, 2), slice(1, None, 2)
    power = float(ours_kmh[fit] @ ours_kmh[fit])
    factor = float(ours_kmh[fit] @ reference_kmh[fit]) / power
    rest = reference_kmh[fit] - factor * ours_kmh[fit]
    sigma = math.sqrt(float(rest @ rest) / (len(rest) - 1) / power)
    before = float(np.mean(ours_kmh[held] - reference_kmh[held]))
    after = float(np.mean(factor * ours_kmh[held] - reference_kmh[held]))
    if abs(factor - 1) <= 2 * sigma or abs(after) > abs(before) / 2:
        return None
    return ScaleProposal(factor, sigma, len(rest), len(ours_kmh) - len(rest), before, after)


def within_share(differences_kmh: Floats, expanded_kmh: Floats) -> float:
    """Share of differences within their expanded uncertainty."""
    return float(np.mean(np.abs(differences_kmh) <= expanded_kmh))


def _shortfalls(
    ours: Floats,
    reference: Floats,
    expanded: Floats,
    agreement: Agreement | None,
    suspects: int,
    offset: Offset | None,
    readings: Readings,
) -> list[str]:
    says = []
    if len(ours) < MIN_PAIRS:
        says.append(f"{len(ours)} pairs: expected {MIN_PAIRS} or more")
    if offset is not None and offset.rival_s is not None:
        says.append(
            f"the clocks may differ by {offset.seconds:.1f} s or by {offset.rival_s:.1f} s: more readings would tell"
        )
    if suspects:
        says.append(
            f"{suspects} reading{'s' * (suspects > 1)} far from all others: mistyped, another vehicle, or a blunder of"
            " ours; correct or remove what is wrong"
        )
    if readings.device == "speedometer":
        says.append(f"a speedometer is no reference: {R39}")
    if agreement is None:
        return says
    if abs(agreement.bias_kmh) > MAX_BIAS_KMH:
        says.append(f"bias {agreement.bias_kmh:+.2f} km/h: expected at most {MAX_BIAS_KMH:g} km/h either way")
    allowed = max(MAX_ERROR_KMH, MAX_ERROR_SHARE * float(np.mean(reference)))
    if max(-agreement.limits[0], agreement.limits[1]) > allowed:
        low, high = agreement.limits
        says.append(f"limits of agreement {low:+.2f} to {high:+.2f} km/h: expected within ±{allowed:g} km/h")
    inside = round(within_share(ours - reference, expanded) * len(ours))
    if stats.binom.cdf(inside, len(ours), 0.95) < WITHIN_U_CHANCE:
        says.append(f"{inside} of {len(ours)} differences within U: the stated uncertainty is too small")
    return says


def _warnings(ours: Floats, reference: Floats, pairing: Pairing, readings: Readings) -> list[str]:
    says = []
    above = reference - ours
    allowed = 0.1 * ours + 4.0
    if readings.device == "speedometer":
        fits = int(((above >= -1.0) & (above <= allowed + 1.0)).sum())
        says.append(f"{R39}; {fits} of {len(ours)} readings fit that")
    elif len(ours) >= MIN_FOR_SUSPECTS and above.mean() > 1.0 and (above > -1.0).mean() >= 0.9:
        says.append(f"the reference reads higher than we do, by {above.mean():.1f} km/h: is it a speedometer? {R39}")
    if len(pairing.ambiguous):
        says.append(f"{len(pairing.ambiguous)} readings lie between two passages and were left out")
    if len(pairing.alone):
        says.append(f"{len(pairing.alone)} readings without a passage were left out")
    if len(ours) and not any(readings.angle_deg) and readings.device in ("", "laser"):
        says.append("no gun angle is noted: at 10° a gun reads 1.5 % low, at 20° 6 %")
    return says


def _odd_ones(differences: Floats, expanded: Floats) -> Bools:
    """Which differences are far from all others."""
    if len(differences) < MIN_FOR_SUSPECTS:
        return np.zeros(len(differences), dtype=bool)
    away = np.abs(differences - np.median(differences))
    spread = 1.4826 * float(np.median(away))
    bound = np.maximum(np.maximum(SUSPECT_SIGMAS * spread, SUSPECT_SIGMAS * expanded / 2), SUSPECT_KMH)
    return np.asarray(away > bound)


def _fitting(passed: Passed, readings: Readings) -> Bools:
    """Which passage has the direction that a reading notes, shape (readings, passages)."""
    told = np.array([direction != "" for direction in readings.directions], dtype=bool)
    forward = np.array([direction == DIRECTIONS[0] for direction in readings.directions], dtype=bool)
    return np.asarray(~told[:, None] | (forward[:, None] == passed.forward[None]))


def _likelihood(late_s: Floats, by_speed: Floats) -> float:
    """Log likelihood ratio of all readings, each of its likeliest passage or of nobody."""
    each = (by_speed - 0.5 * (late_s / TIME_SIGMA_S) ** 2).max(axis=1)
    return float(np.logaddexp(math.log(WRONG_SHARE), math.log1p(-WRONG_SHARE) + each).sum())


def _in_their_lanes(late_s: Floats, reach_s: float, passed: Passed, readings: Readings) -> Floats:
    """Times late, infinite where a passage drove beside the lane that a reading notes.

    What lane a name means is learnt from the readings that have only one passage in reach.
    """
    result = np.array(late_s)
    within = np.abs(late_s) <= reach_s
    noted = list(zip(readings.lanes, readings.directions))
    for lane in sorted(set(noted)):
        rows = np.array([row for row, name in enumerate(noted) if name == lane and lane[0]], dtype=np.intp)
        sure = rows[within[rows].sum(axis=1) == 1]
        if not len(sure):
            continue
        middle_m = float(np.median(passed.lateral_m[within[sure].argmax(axis=1)]))
        beside = np.abs(passed.lateral_m - middle_m) > SAME_LANE_M
        result[np.ix_(rows, np.flatnonzero(beside))] = np.inf
    return result


def _one_to_one(apart_s: Floats, reach_s: float) -> dict[int, int]:
    """The passage of each reading, so that the most are paired and their times fit best."""
    rows, passages = best_pairs(apart_s, apart_s <= reach_s)
    return dict(zip(rows.tolist(), passages.tolist()))


def _passage(line: str, where: str) -> tuple[float, float, float, bool, float]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise CalibrationError(f"{where}: expected a JSON object: {error.msg}") from None
    if not isinstance(row, dict):
        raise CalibrationError(f"{where}: expected a JSON object, got {type(row).__name__}")
    if row.get("direction") not in DIRECTIONS:
        raise CalibrationError(f"{where}: direction: expected forward or backward, got {row.get('direction')!r}")
    is_measured = row.get("speed_kmh") is not None
    speed = _of_json(row, "speed_kmh", where) if is_measured else math.nan
    sigma = _of_json(row, "sigma_kmh", where) if is_measured else math.nan
    lateral = _of_json(row, "lateral_m", where) if row.get("lateral_m") is not None else math.nan
    return _of_json(row, "t_s", where), speed, sigma, row["direction"] == DIRECTIONS[0], lateral


def _of_json(row: Mapping[str, Any], key: str, where: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CalibrationError(f"{where}: {key}: expected a number, got {value!r}")
    return float(value)


def _between(where: str, text: str, unit: str, low: float, high: float) -> float:
    value = read_number(where, text, unit)
    if not low <= value <= high:
        raise CalibrationError(f"{where}: expected {low:g} to {high:g} {unit}, got {value:g}")
    return value


def _one_of(where: str, text: str, known: tuple[str, ...]) -> str:
    if text and text not in known:
        raise CalibrationError(f"{where}: expected {', '.join(known)} or nothing, got {text!r}")
    return text


def _instant_s(where: str, text: str) -> float:
    """Seconds since 1970; without an offset the time counts as UTC, which only moves the clock offset."""
    try:
        instant = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    except ValueError:
        raise CalibrationError(
            f"{where}: expected an instant such as 2026-11-23T07:30:00+01:00, got {text!r}"
        ) from None
    return (instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)).timestamp()


def _agreement_keys(agreement: Agreement | None) -> dict[str, Any]:
    names = ("bias_kmh", "bias_low", "bias_high", "sd_kmh", "loa_low", "loa_high")
    if agreement is None:
        return dict.fromkeys((*names, "loa_low_interval", "loa_high_interval"))
    values = (agreement.bias_kmh, *agreement.bias_interval, agreement.sd_kmh, *agreement.limits)
    return {
        **{name: _rounded(value) for name, value in zip(names, values)},
        "loa_low_interval": [_rounded(edge) for edge in agreement.low_interval],
        "loa_high_interval": [_rounded(edge) for edge in agreement.high_interval],
    }


def _scale_keys(scale: ScaleProposal) -> dict[str, Any]:
    return {
        "factor": round(scale.factor, 5),
        "sigma": round(scale.sigma, 5),
        "fitted_on": scale.fitted_on,
        "tried_on": scale.tried_on,
        "bias_before_kmh": _rounded(scale.bias_before_kmh),
        "bias_after_kmh": _rounded(scale.bias_after_kmh),
        "applied": False,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
