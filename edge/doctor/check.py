"""One finding, and how a check that breaks becomes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from calibration import CalibrationError
from edge.errors import SnelliusError
from models import CatalogueError


class State(str, Enum):
    """Verdict of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        state: Whether it is well.
        says: What was found. Never a secret.
        next: What to do about it, empty when nothing needs doing.
    """

    name: str
    state: State
    says: str
    next: str = ""

    def as_json(self) -> dict[str, str]:
        """As ``doctor --json`` prints it."""
        return {"name": self.name, "state": self.state.value, "says": self.says, "next": self.next}


def guarded(name: str, check: Callable[[], Check], *, next_step: str) -> Check:
    """A check whose errors are its finding."""
    try:
        return check()
    except OSError as error:
        return Check(name, State.FAIL, f"{error.filename or name}: {error.strerror or error}", next_step)
    except (SnelliusError, CalibrationError, CatalogueError) as error:
        return Check(name, State.FAIL, str(error), next_step)
