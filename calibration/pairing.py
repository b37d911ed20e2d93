"""Which belongs to which, when each has one partner at most."""

from __future__ import annotations

import lap
import numpy as np
import numpy.typing as npt

from calibration.camera import Floats

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]

FAR = 1e6  # the cost of a pair that cannot be


def best_pairs(costs: Floats, possible: Bools) -> tuple[Ints, Ints]:
    """Pair rows with columns: as many as can be, and of those choices the one of least total cost.

    The solver is that of Jonker and Volgenant (Computing 38, 1987, doi:10.1007/BF02278710).

    Args:
        costs: Of every pair, far below :data:`FAR`, shape (n, m).
        possible: Which pairs may be, shape (n, m). One whose cost is no number may not.

    Returns:
        Rows, rising, and the column of each, shape (k,).
    """
    may = possible & (costs < FAR)
    if not may.any():
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    columns = lap.lapjv(np.where(may, costs, FAR), extend_cost=True)[1]
    rows = np.flatnonzero(columns >= 0)
    rows = rows[may[rows, columns[rows]]]
    return rows, columns[rows].astype(np.intp)
