"""Which belongs to which, when each has one partner at most."""

from __future__ import annotations

import lap
import numpy as np
import numpy.typing as npt

from calibration.camera import Floats

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]


def best_pairs(costs: Floats, possible: Bools) -> tuple[Ints, Ints]:
    """Pair rows with columns: as many as can be, and of those choices the one of least total cost.

    The solver is that of Jonker and Volgenant (Computing 38, 1987, doi:10.1007/BF02278710). It takes a million for
    infinite, so costs are scaled to reach from 0 to 1, and a pair that cannot be costs more than all others together.

    Args:
        costs: Of every pair, shape (n, m).
        possible: Which pairs may be, shape (n, m). One whose cost is not finite may not.

    Returns:
        Rows, rising, and the column of each, shape (k,).
    """
    may = possible & np.isfinite(costs)
    if not may.any():
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    known = costs[may] - costs[may].min()
    scaled = np.full(costs.shape, min(costs.shape) + 1.0)
    scaled[may] = known / (known.max() or 1.0)
    columns = lap.lapjv(scaled, extend_cost=True)[1]
    rows = np.flatnonzero(columns >= 0)
    rows = rows[may[rows, columns[rows]]]
    return rows, columns[rows].astype(np.intp)
