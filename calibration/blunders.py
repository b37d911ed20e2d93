"""Which surveyed point is wrong, and whether that can be told at all.

A survey is consistent when its weighted sum of squares fits its degrees of freedom and no single point stands out
(mean-shift outlier test: leaving it out lowers the sum by more than chance would, Baarda 1968 with a Bonferroni bound
over the points). Otherwise the smallest set of rows is looked for whose removal makes the rest consistent. Nothing is
ever left out silently.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np

from calibration.camera import Floats
from calibration.errors import CalibrationError, Contradiction
from calibration.fit import Fit, bending, fit_camera, homography
from calibration.lens import Lens
from calibration.straight import StraightLines
from calibration.survey import MIN_POINTS, Survey

FALSE_ALARM = 1e-4  # of a correct survey being questioned
MAX_BLUNDERS = 3
RIVAL_RISE = 12.0  # rise of the sum of squares below which another explanation is not ruled out (about 1 in 400)
_EXCHANGE_POINTS = 8  # up to here every exchange of two rows is tried; with more, leaving both out tells
_SHORTLIST = 10  # rows combined into pairs
_SHORTLIST_OF_TRIPLES = 7
_HOMOGRAPHY_TRIALS = 300


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What contradicts the rest of a survey.

    Attributes:
        rows: Rows that cannot be trusted, rising; empty when the survey is consistent.
        left_out: Rows that ``fit`` does not rest on; fewer than ``rows`` when it cannot be told which are wrong.
        fit: The most believable camera.
        says: One plain sentence for each finding.
    """

    rows: tuple[int, ...]
    left_out: tuple[int, ...]
    fit: Fit
    says: tuple[str, ...]


class SurveyFits:
    """Fits of a survey and of its parts, each made once.

    Args:
        survey: The points.
        image_size_px: Size of the picture they were clicked in. [px]
        lens: What a board told about the camera, if it did.
        lines: What is straight in the street, if anything.
    """

    def __init__(
        self,
        survey: Survey,
        image_size_px: tuple[int, int],
        lens: Lens | None = None,
        lines: StraightLines | None = None,
    ) -> None:
        self.survey, self.image_size_px, self.lens, self.lines = survey, image_size_px, lens, lines
        self._fits: dict[frozenset[int], Fit | None] = {}

    def without(self, *rows: int) -> Fit | None:
        """The fit of all rows but these; None when no camera can see the rest so, or fewer than 4 points remain."""
        key = frozenset(rows)
        if key not in self._fits:
            enough = len(self.survey) - len(key) >= MIN_POINTS
            self._fits[key] = self._fit(self.survey.without(key)) if enough else None
        return self._fits[key]

    def _fit(self, survey: Survey) -> Fit | None:
        return fit_camera(survey, self.image_size_px, self.lens, self.lines)

    def cost_without(self, *rows: int) -> float:
        """Sum of squares of that fit, infinite when there is none."""
        fit = self.without(*rows)
        return math.inf if fit is None else fit.chi_square

    @cached_property
    def suspicion(self) -> Suspicion:
        """The rows that contradict the rest.

        Raises:
            CalibrationError: The axes are mirrored.
            Contradiction: So much is wrong that no camera fits.
        """
        everything = self.without()
        if everything is not None and self._explains(()):
            return Suspicion((), (), everything, ())
        self._require_right_handed()
        for size in range(1, MAX_BLUNDERS + 1):
            found = self._explanations(size)
            if found:
                return self._only_exchange() or self._named(found)
        outlier = self._outlier_among_noise()
        if outlier is not None:
            return self._named([(outlier,)])
        exchanged = self._only_exchange()
        if exchanged is not None:
            return exchanged
        if everything is not None and len(self.survey) > MIN_POINTS:
            return Suspicion((), (), everything, ())  # noisier than stated everywhere: the caller widens the covariance
        says = (
            f"{self._file}: no likely camera above the road can see these {len(self.survey)} points like this: at least"
            " one row is wrong, and it cannot be told which; check them all, survey more"
        )
        if everything is None:
            raise Contradiction(says, self.survey.names)
        return Suspicion(tuple(range(len(self.survey))), (), everything, (says,))

    @property
    def _file(self) -> str:
        return self.survey.origin[0].split(" line ")[0]

    def _require_right_handed(self) -> None:
        flipped = replace(self.survey, points_m=self.survey.points_m * (1.0, -1.0))
        mirrored = self._fit(flipped)
        if mirrored is not None and is_consistent(mirrored):
            raise CalibrationError(
                f"{self._file}: x_m, y_m: expected a right-handed frame (seen from above, y to the left"
                " of x), got mirrored axes: exchange x_m and y_m, or change the sign of one"
            )

    def _explanations(self, size: int) -> list[tuple[int, ...]]:
        """Sets of rows without which the rest is consistent, most probable first."""
        rows: Sequence[int] = range(len(self.survey))
        if len(rows) - size < MIN_POINTS:
            return []
        if size > 1 and len(rows) > _SHORTLIST:
            rows = self._shortlist[: _SHORTLIST if size == 2 else _SHORTLIST_OF_TRIPLES]
        chosen_sets = (tuple(sorted(chosen)) for chosen in itertools.combinations(rows, size))
        sets = [chosen for chosen in chosen_sets if self._explains(chosen)]
        return sorted(sets, key=lambda chosen: self.cost_without(*chosen))

    def _explains(self, left_out: tuple[int, ...]) -> bool:
        """Whether the rest is consistent and no further row of it stands out."""
        fit = self.without(*left_out)
        if fit is None or not is_consistent(fit):
            return False
        bound = -2 * math.log(FALSE_ALARM / len(self.survey))  # chi-square with 2 degrees of freedom, exactly
        others = [row for row in range(len(self.survey)) if row not in left_out]
        if len(others) == MIN_POINTS:
            return True
        return all(fit.chi_square - self.cost_without(*left_out, row) <= bound for row in others)

    @cached_property
    def _shortlist(self) -> list[int]:
        """Rows worth combining: those that help most when left out, and those far off a robust homography, by turns."""
        rows = range(len(self.survey))
        helping = sorted(rows, key=self.cost_without)
        straying = list(np.argsort(-robust_misses_px(self.survey)))
        by_turns = itertools.chain.from_iterable(zip(straying, helping))
        return list(dict.fromkeys(int(row) for row in by_turns))

    def _outlier_among_noise(self) -> int | None:
        """A row that stands out although all are noisier than stated (F test with the scale of the rest)."""
        costs = {row: self.cost_without(row) for row in range(len(self.survey))}
        row = min(costs, key=lambda candidate: costs[candidate])
        rest = self.without(row)
        if rest is None or len(rest.survey) <= MIN_POINTS + 1:
            return None
        freedom = rest.degrees_of_freedom
        ratio = (self.cost_without() - costs[row]) / 2 / max(1.0, costs[row] / freedom)
        chance = (1 + 2 * ratio / freedom) ** (-freedom / 2)  # upper tail of F with 2 and `freedom` degrees, exactly
        return row if chance < FALSE_ALARM / len(self.survey) else None

    def _named(self, explanations: list[tuple[int, ...]]) -> Suspicion:
        best = explanations[0]
        rivals = [other for other in explanations if self.cost_without(*other) - self.cost_without(*best) < RIVAL_RISE]
        rows = tuple(sorted(set(itertools.chain.from_iterable(rivals))))
        fit = self.without(*best)
        assert fit is not None  # an explanation is a fit
        if len(rivals) > 1:
            names, number = ", ".join(self.survey.names[row] for row in rows), len(best) if len(best) > 1 else "one"
            says = (
                f"{self._file}: the points contradict each other: {number} of {names} must be wrong;"
                f" {len(self.survey)} points cannot tell which, survey more (or the stated sigmas are too small)"
            )
            return Suspicion(rows, best, fit, (says,))
        if len(best) == 2 and self._exchanged(best) is not None:
            return Suspicion(best, best, fit, (self._say_exchanged(best),))
        says_each = [self._describe(row, fit) for row in best]
        if len(self.survey) - len(best) == MIN_POINTS:
            says_each.append(f"{self._file}: with {len(self.survey)} points that is a guess; survey more")
        return Suspicion(best, best, fit, tuple(says_each))

    def _only_exchange(self) -> Suspicion | None:
        """The one pair of rows whose exchange makes a small survey consistent."""
        if len(self.survey) > _EXCHANGE_POINTS:
            return None
        pairs = itertools.combinations(range(len(self.survey)), 2)
        found = [(pair, fit) for pair in pairs if (fit := self._exchanged(pair)) is not None]
        if len(found) != 1:
            return None
        pair, fit = found[0]
        return Suspicion(pair, pair, fit, (self._say_exchanged(pair),))

    def _exchanged(self, pair: tuple[int, ...]) -> Fit | None:
        """The fit with the clicks of two rows exchanged, when it is consistent."""
        order = np.arange(len(self.survey))
        order[list(pair)] = pair[::-1]
        fit = self._fit(replace(self.survey, pixels=self.survey.pixels[order]))
        return fit if fit is not None and is_consistent(fit) else None

    def _say_exchanged(self, pair: tuple[int, ...]) -> str:
        (first, second), origin, names = pair, self.survey.origin, self.survey.names
        return (
            f"{origin[first]} ({names[first]}) and {origin[second]} ({names[second]}): exchanged;"
            " swapped, they fit all others"
        )

    def _describe(self, row: int, fit: Fit) -> str:
        name, origin = self.survey.names[row], self.survey.origin[row]
        stated, clicked = self.survey.points_m[row], fit.camera.ground(self.survey.pixels[row])
        if not np.isfinite(clicked).all():
            return f"{origin} ({name}): clicked above the horizon that the other points give"
        dx, dy = stated - clicked
        return (
            f"{origin} ({name}): stated at ({stated[0]:.2f}, {stated[1]:.2f}) m, clicked where the other points say"
            f" ({clicked[0]:.2f}, {clicked[1]:.2f}) m: off by {dx:+.2f} m in x and {dy:+.2f} m in y"
        )


def require_straight(lines: StraightLines, image_size_px: tuple[int, int], lens: Lens | None) -> None:
    """Raises CalibrationError when no lens makes all lines straight; names the one that bends if that can be told."""

    def agree(some: StraightLines) -> bool:
        return bending(some, image_size_px, lens) <= chi_square_bound(some.freedom, FALSE_ALARM)

    if agree(lines):
        return
    odd = [name for row, name in enumerate(lines.names) if len(lines) > 1 and agree(lines.without(row))]
    expected = f"{lines.file}: expected lines that one lens makes straight, each within its clicks"
    if len(odd) == 1:
        raise CalibrationError(f"{expected}; line {odd[0]} bends: leave it out, or click it again")
    which = f"one of {', '.join(odd)} bends" if odd else "several bend"
    raise CalibrationError(f"{expected}; {which} (or the stated sigma_px is too small)")


def is_consistent(fit: Fit) -> bool:
    """Whether the sum of squares is what the stated sigmas and priors let expect."""
    return fit.chi_square <= chi_square_bound(fit.degrees_of_freedom, FALSE_ALARM)


def chi_square_bound(degrees_of_freedom: int, chance: float) -> float:
    """Value that a chi-square variable exceeds with this chance.

    Wilson and Hilferty 1931 (doi:10.1073/pnas.17.12.684): right to 3 % for 2 degrees of freedom and chances down to
    1e-4, better beyond.
    """
    spread = 2 / (9 * degrees_of_freedom)
    return degrees_of_freedom * float(1 - spread + NormalDist().inv_cdf(1 - chance) * math.sqrt(spread)) ** 3


def robust_misses_px(survey: Survey) -> Floats:
    """How far each click lies from the homography through four points that fits half of all points best.

    Least median of squares (Rousseeuw 1984, doi:10.1080/01621459.1984.10477105) over all or 300 fixed random
    quadruples. It knows no lens: a guide where to look, not a judgement.

    Returns:
        Shape (n,), infinite where the homography puts a point beyond the horizon. [px]
    """
    n = len(survey)
    quadruples = list(itertools.combinations(range(n), MIN_POINTS))
    if len(quadruples) > _HOMOGRAPHY_TRIALS:
        quadruples = random.Random(1).sample(quadruples, _HOMOGRAPHY_TRIALS)  # noqa: S311 the same survey, the same answer
    road = np.column_stack((survey.points_m - survey.points_m.mean(axis=0), np.ones(n)))
    best = np.full(n, math.inf)
    for quadruple in quadruples:
        rows = list(quadruple)
        picture = road @ homography(road[rows, :2], survey.pixels[rows]).T
        ahead = picture[:, 2] * picture[rows[0], 2] > 0
        misses = np.full(n, math.inf)
        misses[ahead] = np.linalg.norm(picture[ahead, :2] / picture[ahead, 2:] - survey.pixels[ahead], axis=1)
        if np.median(misses) < np.median(best):
            best = misses
    return best


def leave_one_out_m(fits: SurveyFits, left_out: tuple[int, ...] = ()) -> Floats:
    """Where each click lies on the road according to the other points, less where it was surveyed.

    Args:
        fits: Fits of the survey.
        left_out: Rows that are not trusted; they judge nobody.

    Returns:
        Shape (n, 2); NaN where too few points remain to tell. [m]
    """
    misses = np.full((len(fits.survey), 2), np.nan)
    for row in range(len(fits.survey)):
        fit = fits.without(*left_out, row)
        if fit is not None:
            misses[row] = fit.camera.ground(fits.survey.pixels[row]) - fits.survey.points_m[row]
    return misses
