"""From passages to what may leave the device.

:class:`Windows` counts passages by the time at which they happened, in slots of 15 minutes, and forgets them.
:class:`Anonymity` joins slots until they hold enough vehicles, and is the one place where a release is made. Both keep
counters only, both can be stored and restored at any moment, and neither reads a clock, a disk or a network.
"""

from edge.aggregate.anonymity import FLOOR_K, Anonymity
from edge.aggregate.windows import Windows

__all__ = ["FLOOR_K", "Anonymity", "Windows"]
