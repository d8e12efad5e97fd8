"""Vector arithmetic of the compiled loops, in scalars: array expressions would compile and run several times longer."""

from __future__ import annotations

from math import acos, degrees, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True)
def distance(a: NDArray, b: NDArray) -> float:
    """Distance of two points (3,)."""
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return sqrt(x * x + y * y + z * z)


@njit(nogil=True)
def angle(ux: float, uy: float, uz: float, vx: float, vy: float, vz: float) -> float:
    """Angle of two vectors in degrees, 0 to 180; 90 if one of them has no length."""
    norm = sqrt((ux * ux + uy * uy + uz * uz) * (vx * vx + vy * vy + vz * vz))
    if norm == 0.0:
        return 90.0
    return degrees(acos(min(1.0, max(-1.0, (ux * vx + uy * vy + uz * vz) / norm))))


@njit(nogil=True)
def bend(a: NDArray, b: NDArray, c: NDArray) -> float:
    """Angle of a->b to b->c in degrees: 0 where the three points lie on a line in this order."""
    return angle(b[0] - a[0], b[1] - a[1], b[2] - a[2], c[0] - b[0], c[1] - b[1], c[2] - b[2])


@njit(nogil=True)
def folded_angle(u: NDArray, v: NDArray) -> float:
    """Angle of two undirected lines (3,) in degrees, 0 to 90."""
    full = angle(u[0], u[1], u[2], v[0], v[1], v[2])
    return min(full, 180.0 - full)


@njit(nogil=True)
def tilt(normal: NDArray, start: NDArray, end: NDArray) -> float:
    """Angle of a normal to the line from start to end in degrees, 0 to 90."""
    full = angle(normal[0], normal[1], normal[2], end[0] - start[0], end[1] - start[1], end[2] - start[2])
    return min(full, 180.0 - full)


@njit(nogil=True)
def ring_planes(xyz: NDArray, rings: NDArray) -> tuple[NDArray, NDArray]:
    """Centroids and (unnormalised) normals, (rings, 3) each, of rings given by three atoms (rings, 3)."""
    centroids = np.empty((len(rings), 3))
    normals = np.empty((len(rings), 3))
    for r in range(len(rings)):
        a, b, c = xyz[rings[r, 0]], xyz[rings[r, 1]], xyz[rings[r, 2]]
        for k in range(3):
            centroids[r, k] = (a[k] + b[k] + c[k]) / 3.0
            p, q = (k + 1) % 3, (k + 2) % 3
            normals[r, k] = (b[p] - a[p]) * (c[q] - a[q]) - (b[q] - a[q]) * (c[p] - a[p])
    return centroids, normals
