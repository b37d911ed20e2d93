"""Which surveyed point is wrong, and whether that can be told at all.

A survey is consistent when its weighted sum of squares fits its degrees of freedom and no single point stands out (mean-shift outlier
test: leaving it out lowers the sum by more than chance would, Baarda 1968 with a Bonferroni bound over the points). Otherwise the
smallest set of rows is looked for whose removal makes the rest consistent. Nothing is ever left out silently.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from calibration.camera import Floats
from calibration.errors import CalibrationError
from calibration.fit import Fit, fit_camera
from calibration.survey import MIN_POINTS, Survey

FALSE_ALARM = 1e-4  # of a correct survey being questioned
MAX_BLUNDERS = 3
RIVAL_LOG_RATIO = 12.0  # rise of the sum of squares below which another explanation is not ruled out (about 1 in 400)
_SHORTLIST = 10  # rows combined into pairs and triples


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What contradicts the rest of a survey.

    Attributes:
        rows: Rows that cannot be trusted; empty when the survey is consistent.
        is_certain: False when one of the rows is wrong and it cannot be told which.
        says: One plain sentence for each finding.
    """

    rows: tuple[int, ...]
    is_certain: bool
    says: tuple[str, ...]


class SurveyFits:
    """Fits of a survey and of its parts, each made once.

    Args:
        survey: The points.
        image_size_px: Size of the picture they were clicked in. [px]
    """

    def __init__(self, survey: Survey, image_size_px: tuple[int, int]) -> None:
        self.survey, self.image_size_px = survey, image_size_px
        self._fits: dict[frozenset[int], Fit | None] = {}

    def without(self, *rows: int) -> Fit | None:
        """The fit of all rows but these; None when no camera can see the rest so, or fewer than 4 points remain."""
        key = frozenset(rows)
        if key not in self._fits:
            enough = len(self.survey) - len(key) >= MIN_POINTS
            self._fits[key] = fit_camera(self.survey.without(key), self.image_size_px) if enough else None
        return self._fits[key]

    def cost_without(self, *rows: int) -> float:
        """Sum of squares of that fit, infinite when there is none."""
        fit = self.without(*rows)
        return math.inf if fit is None else fit.chi_square

    @cached_property
    def suspicion(self) -> Suspicion:
        """The rows that contradict the rest."""
        fit = self.without()
        if fit is not None and is_consistent(fit) and not self._standing_out():
            return Suspicion((), True, ())
        self._require_right_handed()
        for size in range(1, MAX_BLUNDERS + 1):
            found = self._explanations(size)
            if found:
                return self._named(found)
        outlier = self._outlier_among_noise()
        if outlier is not None:
            return self._named([(outlier,)])
        if fit is not None:
            return Suspicion((), True, ())  # noisier than stated everywhere: the caller widens the covariance
        everyone = tuple(range(len(self.survey)))
        return Suspicion(
            everyone, False, ("no camera above the road can see the points like this: several rows must be wrong",)
        )

    def _standing_out(self) -> bool:
        fit = self.without()
        assert fit is not None
        bound = -2 * math.log(FALSE_ALARM / len(self.survey))  # chi-square with 2 degrees of freedom, exactly
        return any(fit.chi_square - self.cost_without(row) > bound for row in range(len(self.survey)))

    def _require_right_handed(self) -> None:
        flipped = Survey(
            names=self.survey.names,
            pixels=self.survey.pixels,
            points_m=self.survey.points_m * (1.0, -1.0),
            sigma_px=self.survey.sigma_px,
            sigma_m=self.survey.sigma_m,
            origin=self.survey.origin,
        )
        mirrored = fit_camera(flipped, self.image_size_px)
        if mirrored is not None and is_consistent(mirrored):
            raise CalibrationError(
                f"{self.survey.origin[0].split(' line ')[0]}: x_m, y_m: expected a right-handed frame (seen from above, y to the left"
                " of x), got mirrored axes: exchange x_m and y_m, or change the sign of one"
            )

    def _explanations(self, size: int) -> list[tuple[int, ...]]:
        """Sets of rows without which the rest is consistent, most probable first."""
        rows: Sequence[int] = range(len(self.survey))
        if len(rows) - size < MIN_POINTS:
            return []
        if size > 1 and len(rows) > _SHORTLIST:
            rows = sorted(rows, key=self._suspect_rank)[:_SHORTLIST]
        sets = [chosen for chosen in itertools.combinations(rows, size) if self._explains(chosen)]
        return sorted(sets, key=lambda chosen: self.cost_without(*chosen))

    def _explains(self, rows: tuple[int, ...]) -> bool:
        fit = self.without(*rows)
        return fit is not None and is_consistent(fit)

    def _suspect_rank(self, row: int) -> float:
        return self.cost_without(row)

    def _outlier_among_noise(self) -> int | None:
        """A row that stands out although the whole survey is noisier than stated (F test with the scale of the rest)."""
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
        rivals = [
            other for other in explanations if self.cost_without(*other) - self.cost_without(*best) < RIVAL_LOG_RATIO
        ]
        if len(rivals) > 1:
            rows = tuple(sorted(set(itertools.chain.from_iterable(rivals))))
            names = ", ".join(self.survey.names[row] for row in rows)
            many = "one" if len(best) == 1 else f"{len(best)}"
            return Suspicion(
                rows,
                False,
                (
                    f"the points contradict each other: {many} of {names} must be wrong; {len(self.survey)} points cannot"
                    " tell which, survey more",
                ),
            )
        swapped = self._swapped(best)
        if swapped:
            return Suspicion(best, True, (swapped,))
        return Suspicion(best, True, tuple(self._describe(row, best) for row in best))

    def _swapped(self, rows: tuple[int, ...]) -> str | None:
        if len(rows) != 2:
            return None
        order = np.arange(len(self.survey))
        order[list(rows)] = rows[::-1]
        exchanged = Survey(
            names=self.survey.names,
            pixels=self.survey.pixels[order],
            points_m=self.survey.points_m,
            sigma_px=self.survey.sigma_px,
            sigma_m=self.survey.sigma_m,
            origin=self.survey.origin,
        )
        fit = fit_camera(exchanged, self.image_size_px)
        if fit is None or not is_consistent(fit):
            return None
        (first, second), origin, names = rows, self.survey.origin, self.survey.names
        return f"{origin[first]} ({names[first]}) and {origin[second]} ({names[second]}): exchanged; swapped, they fit all others"

    def _describe(self, row: int, left_out: tuple[int, ...]) -> str:
        fit = self.without(*left_out)
        assert fit is not None
        name, origin = self.survey.names[row], self.survey.origin[row]
        stated, clicked = self.survey.points_m[row], fit.camera.ground(self.survey.pixels[row])
        if not np.isfinite(clicked).all():
            return f"{origin} ({name}): clicked above the horizon that the other points give"
        dx, dy = stated - clicked
        return (
            f"{origin} ({name}): stated at ({stated[0]:.2f}, {stated[1]:.2f}) m, clicked where the other points say"
            f" ({clicked[0]:.2f}, {clicked[1]:.2f}) m: off by {dx:+.2f} m in x and {dy:+.2f} m in y"
        )


def is_consistent(fit: Fit) -> bool:
    """Whether the sum of squares is what the stated sigmas and priors let expect."""
    return fit.chi_square <= chi_square_bound(fit.degrees_of_freedom, FALSE_ALARM)


def chi_square_bound(degrees_of_freedom: int, chance: float) -> float:
    """Value that a chi-square variable exceeds with this chance.

    Wilson and Hilferty 1931 (doi:10.1073/pnas.17.12.684): right to 3 % for 2 degrees of freedom and chances down to 1e-4, better beyond.
    """
    spread = 2 / (9 * degrees_of_freedom)
    return degrees_of_freedom * float(1 - spread + NormalDist().inv_cdf(1 - chance) * math.sqrt(spread)) ** 3


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
