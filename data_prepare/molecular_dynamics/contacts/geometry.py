"""Compiled distances and angles: points and vectors (3,), angles in degrees."""

from __future__ import annotations

from math import acos, degrees, sqrt

from numba import njit
from numpy.typing import NDArray


@njit(nogil=True)
def distance(a: NDArray, b: NDArray) -> float:
    """Distance between two points."""
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return sqrt(x * x + y * y + z * z)


@njit(nogil=True)
def angle(ux: float, uy: float, uz: float, vx: float, vy: float, vz: float) -> float:
    """Angle between two vectors, 0 to 180; 90 if one has length zero."""
    norm = sqrt((ux * ux + uy * uy + uz * uz) * (vx * vx + vy * vy + vz * vz))
    if norm == 0.0:
        return 90.0
    return degrees(acos(min(1.0, max(-1.0, (ux * vx + uy * vy + uz * vz) / norm))))


@njit(nogil=True)
def bend(a: NDArray, b: NDArray, c: NDArray) -> float:
    """Angle between a->b and b->c, 0 if the points lie on a line in this order."""
    return angle(b[0] - a[0], b[1] - a[1], b[2] - a[2], c[0] - b[0], c[1] - b[1], c[2] - b[2])


@njit(nogil=True)
def folded_angle(u: NDArray, v: NDArray) -> float:
    """Angle between two undirected lines, 0 to 90."""
    full = angle(u[0], u[1], u[2], v[0], v[1], v[2])
    return min(full, 180.0 - full)


@njit(nogil=True)
def tilt(normal: NDArray, start: NDArray, end: NDArray) -> float:
    """Angle between a normal and the line from start to end, 0 to 90."""
    full = angle(normal[0], normal[1], normal[2], end[0] - start[0], end[1] - start[1], end[2] - start[2])
    return min(full, 180.0 - full)
