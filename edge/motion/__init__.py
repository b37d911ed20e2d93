"""When the detector must look again: not while nothing moves, and no more often than a speed needs.

:class:`MotionGate` tells whether the road has changed since the detector last looked. :class:`Cadence` tells how soon a
changed road deserves another look. Both decide by pictures and time stamps alone, so that a recording gives the same
numbers each time.
"""

from edge.motion.cadence import Cadence, Followed, is_new, is_travelling
from edge.motion.gate import MotionGate

__all__ = ["Cadence", "Followed", "MotionGate", "is_new", "is_travelling"]
