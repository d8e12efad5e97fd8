"""Neighbour search: points sorted into cubic cells, so that near pairs are found without looking at all of them."""

from __future__ import annotations

from math import floor

import numpy as np
from numba import njit
from numpy.typing import NDArray

MAX_CELLS_PER_AXIS = 128  # points far apart get larger cells instead of more of them


@njit(nogil=True)
def sort_into_cells(points: NDArray, width: float) -> tuple[NDArray, NDArray, NDArray]:
    """Sort points into cells of at least `width` on each side.

    Parameters
    ----------
    points
        (n, 3) finite coordinates.
    width
        Range of the search, same unit.

    Returns
    -------
    order
        (n,) point indices, cell after cell.
    start
        (cells + 1,) where each cell begins in `order`.
    cells
        (3,) number of cells on each axis; the cell (x, y, z) has the index (x * cells[1] + y) * cells[2] + z.
    """
    n = len(points)
    lowest = np.empty(3)
    side = np.empty(3)
    cells = np.empty(3, np.int64)
    for k in range(3):
        low = high = points[0, k] if n else 0.0
        for i in range(n):
            low, high = min(low, points[i, k]), max(high, points[i, k])
        lowest[k], extent = low, high - low
        cells[k] = min(MAX_CELLS_PER_AXIS, max(1, floor(extent / width)))
        side[k] = max(width, extent / cells[k])
    start = np.zeros(cells[0] * cells[1] * cells[2] + 1, np.int64)
    cell_of_point = np.empty(n, np.int64)
    for i in range(n):
        index = 0
        for k in range(3):
            index = index * cells[k] + min(cells[k] - 1, floor((points[i, k] - lowest[k]) / side[k]))
        cell_of_point[i] = index
        start[index + 1] += 1
    for c in range(len(start) - 1):
        start[c + 1] += start[c]
    order = np.empty(n, np.int64)
    filled = np.zeros(len(start), np.int64)
    for i in range(n):
        cell = cell_of_point[i]
        order[start[cell] + filled[cell]] = i
        filled[cell] += 1
    return order, start, cells


@njit(nogil=True)
def neighbour_pairs(points: NDArray, width: float) -> tuple[NDArray, int]:
    """All pairs (i, j), i != j, each once, that are not farther apart than `width`.

    Parameters
    ----------
    points
        (n, 3) float64.
    width
        Range, same unit.

    Returns
    -------
    pairs
        (room, 2) integers, in no particular order.
    count
        How many rows of it are filled.
    """
    order, start, cells = sort_into_cells(points, width)
    pairs = np.empty((max(64, 32 * len(points)), 2), np.int64)
    count = 0
    limit = width * width
    for x in range(cells[0]):
        for y in range(cells[1]):
            for z in range(cells[2]):
                here = (x * cells[1] + y) * cells[2] + z
                # half of the 26 neighbouring cells, and the cell itself: each pair of cells once
                for step in range(14):
                    code = step + 13  # 13 is (0, 0, 0) of the 27 offsets in base 3
                    ox, oy, oz = x + code // 9 - 1, y + code // 3 % 3 - 1, z + code % 3 - 1
                    if ox >= cells[0] or oy < 0 or oy >= cells[1] or oz < 0 or oz >= cells[2]:
                        continue
                    there = (ox * cells[1] + oy) * cells[2] + oz
                    for a in range(start[here], start[here + 1]):
                        i = order[a]
                        for b in range(a + 1 if there == here else start[there], start[there + 1]):
                            j = order[b]
                            dx = points[i, 0] - points[j, 0]
                            dy = points[i, 1] - points[j, 1]
                            dz = points[i, 2] - points[j, 2]
                            if dx * dx + dy * dy + dz * dz <= limit:
                                if count == len(pairs):
                                    larger = np.empty((2 * count, 2), np.int64)
                                    for p in range(count):
                                        larger[p, 0], larger[p, 1] = pairs[p, 0], pairs[p, 1]
                                    pairs = larger
                                pairs[count, 0] = i
                                pairs[count, 1] = j
                                count += 1
    return pairs, count
