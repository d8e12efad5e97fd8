"""Neighbour search with a cell list, which compares only points in adjacent cells."""

from __future__ import annotations

from math import floor
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

MAX_CELLS_PER_AXIS: Final = 128  # points far apart have larger cells, not more
ROUNDING: Final = 1e-6  # relative, a few times the rounding of float32
ZERO: Final = np.float32(0)


class Neighbours(NamedTuple):
    """Neighbours of point i are `points[start[i]:stop[i]]`, in no particular order."""

    start: NDArray[np.int64]  # (n,)
    stop: NDArray[np.int64]  # (n,)
    points: NDArray[np.uint32]  # unsigned, because compiled loops check signed indices for negative values


@njit(nogil=True)
def _sort_into_cells(points: NDArray, width: float) -> tuple[NDArray, NDArray, NDArray, NDArray, float]:
    """Sort points (n, 3) into cells of at least `width` on each side.

    Returns the points (n,) cell by cell, the start of each cell among them, the number of cells along each axis (the
    index of cell (x, y, z) is (x * cells[1] + y) * cells[2] + z), and the corner and longest side of their box.
    """
    n = len(points)
    lowest = np.empty(3)
    side = np.empty(3)
    cells = np.empty(3, np.int64)
    longest = 0.0
    for k in range(3):
        low = high = np.float64(points[0, k])
        for i in range(n):
            low, high = min(low, points[i, k]), max(high, points[i, k])
        lowest[k], extent = low, high - low
        cells[k] = min(MAX_CELLS_PER_AXIS, max(1, floor(extent / width)))
        side[k] = max(width, extent / cells[k])
        longest = max(longest, extent)
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
    order = np.empty(n, np.uint32)
    filled = np.zeros(len(start), np.int64)
    for i in range(n):
        cell = cell_of_point[i]
        order[start[cell] + filled[cell]] = i
        filled[cell] += 1
    return order, start, cells, lowest, longest


@njit(cache=True, nogil=True, fastmath={"contract"})
def neighbour_lists(points: NDArray, radii: NDArray) -> Neighbours:
    """All pairs of finite points (n, 3) no farther apart than the sum of their positive radii (n,).

    Distances are float32: pairs beyond the sum by no more than rounding may be included.
    """
    n = len(points)
    start, stop = np.zeros(n, np.int64), np.zeros(n, np.int64)
    found = np.empty(80 * n, np.uint32)
    if n == 0:
        return Neighbours(start, stop, found)
    widest = 0.0
    for i in range(n):
        widest = max(widest, radii[i])
    order, first, cells, lowest, extent = _sort_into_cells(points, 2 * widest)
    slack = ROUNDING * extent
    x, y, z = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    r = np.empty(n, np.float32)
    for m in range(n):
        i = order[m]
        x[m], y[m], z[m] = points[i, 0] - lowest[0], points[i, 1] - lowest[1], points[i, 2] - lowest[2]
        r[m] = radii[i] + slack

    # points of the 27 cells around a cell
    near = np.empty(n, np.uint32)
    nx, ny, nz = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    nr = np.empty(n, np.float32)
    beyond = np.empty(n, np.float32)  # squared distance minus the squared sum of the radii
    filled = np.uint64(0)
    for a in range(cells[0]):
        for b in range(cells[1]):
            for c in range(cells[2]):
                here = (a * cells[1] + b) * cells[2] + c
                if first[here] == first[here + 1]:
                    continue
                count = 0
                for oa in range(max(a - 1, 0), min(a + 2, cells[0])):
                    for ob in range(max(b - 1, 0), min(b + 2, cells[1])):
                        column = (oa * cells[1] + ob) * cells[2]
                        for m in range(first[column + max(c - 1, 0)], first[column + min(c + 2, cells[2])]):
                            near[count] = order[m]
                            nx[count], ny[count], nz[count], nr[count] = x[m], y[m], z[m], r[m]
                            count += 1
                for m in range(first[here], first[here + 1]):
                    i = order[m]
                    xi, yi, zi, ri = x[m], y[m], z[m], r[m]
                    for p in range(count):
                        dx, dy, dz, dr = nx[p] - xi, ny[p] - yi, nz[p] - zi, nr[p] + ri
                        beyond[p] = dx * dx + dy * dy + dz * dz - dr * dr
                    if filled + np.uint64(count) > np.uint64(len(found)):
                        larger = np.empty(2 * len(found) + count, np.uint32)
                        for p in range(filled):
                            larger[p] = found[p]
                        found = larger
                    start[i] = filled
                    for p in range(count):
                        found[filled] = near[p]
                        # counting avoids an unpredictable branch
                        filled += np.uint64((beyond[p] <= ZERO) & (near[p] != i))
                    stop[i] = filled
    return Neighbours(start, stop, found)
