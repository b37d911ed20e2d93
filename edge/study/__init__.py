"""Did the measure work? Before and after a change of a street, from the windows that its pole has published.

``days`` turns windows into days, ``exclusions`` says which do not count, ``effect`` compares two periods with days as
the unit, ``beforeafter`` asks the whole question with its warnings and variants, ``plan`` says beforehand how many days
it takes, and ``report`` is the page for residents and engineers.
"""

from edge.study.beforeafter import Question, Study, StudyRefused, study
from edge.study.days import Days, days_of
from edge.study.effect import FIGURES, Comparison, Effect, effect_of
from edge.study.exclusions import bad_weather, public_holidays, school_holidays

__all__ = [
    "FIGURES",
    "Comparison",
    "Days",
    "Effect",
    "Question",
    "Study",
    "StudyRefused",
    "bad_weather",
    "days_of",
    "effect_of",
    "public_holidays",
    "school_holidays",
    "study",
]
