"""What can go wrong, as a tree.

::

    SnelliusError                 one clear line for the person in front of it
    ├── BadInput                  wrong use or a bad file: exit code 2
    │   ├── BadSettings           one or more wrong settings, all told at once
    │   └── BackendUnavailable    an extra or a system part is missing; says what to install
    └── OutboxError               the outbox could not be written; what was to be written is kept in memory
        ├── OutboxFull            it reached its size limit, or the disk is full, and no room could be made
        └── OutboxUnwritable      the disk refuses: read-only, broken

The calibration library has its own :class:`calibration.CalibrationError`; the command line treats it as bad input.
"""

from __future__ import annotations


class SnelliusError(Exception):
    """Base of every error that is told to people as one line, without a traceback."""


class BadInput(SnelliusError):
    """Wrong use or bad input: what, where, expected and found."""


class BadSettings(BadInput):
    """One or more settings are wrong.

    Attributes:
        problems: One line for each wrong setting.
    """

    def __init__(self, where: str, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{where}: {problem}" for problem in problems))


class BackendUnavailable(BadInput):
    """An optional part is not installed; the message says what to type."""


class OutboxError(SnelliusError):
    """The outbox could not be written; what was to be written is kept in memory and tried again."""


class OutboxFull(OutboxError):
    """The outbox reached its size limit, or the disk is full, and no room could be made."""


class OutboxUnwritable(OutboxError):
    """The disk refuses to be written: read-only, broken."""
