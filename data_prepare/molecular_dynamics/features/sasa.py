"""Solvent-accessible surface area by the method of Shrake and Rupley (J. Mol. Biol. 1973).

Sphere points, radii and probe are those of `mdtraj.shrake_rupley`, which carries some area of a frame over to the next
one of the same call, so that its results depend on how a trajectory is split.

A neighbour j of atom i buries the points u of the unit sphere around i in a cap: u . v > c, where v is the vector
from i to j and c = (v^2 + R_i^2 - R_j^2) / (2 R_i), |v| times the cosine of the cap's half-angle theta. Points are
sorted into compact patches, most of which are decided at once: a patch of angular radius rho is buried if its centre
is within theta - rho of v, and untouched if its centre is beyond theta + rho.
"""

from __future__ import annotations

from math import cos, pi, sin, sqrt
from typing import Final, NamedTuple

import numpy as np
from mdtraj.geometry.sasa import _ATOMIC_RADII
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.frames.cell_list import Neighbours

PROBE_RADIUS: Final = 0.14  # nm
SPHERE_POINTS: Final = 960
UNKNOWN_RADIUS: Final = 0.17  # nm, of unknown elements
POINTS_PER_PATCH: Final = 13  # on average; the largest patch of 960 points has 16, two vector registers
NEAR: Final = np.float32(0.3)  # nm; closer neighbours come first because they bury most
MARGIN: Final = np.float32(1e-5)  # nm, far above float32 rounding, which then decides no patch
ZERO: Final = np.float32(0)  # float64 constants would turn the compiled loops to float64
ONE: Final = np.float32(1)
NEVER: Final = np.float32(1e9)  # nm, above any scalar product


def sphere_points(number: int = SPHERE_POINTS) -> NDArray[np.float64]:
    """Points (number, 3) on a golden section spiral, evenly spread over the unit sphere."""
    index = np.arange(number)
    y = (2 * index + 1) / number - 1
    radius = np.sqrt(1 - y**2)
    turn = index * pi * (3 - sqrt(5))
    return np.stack([np.cos(turn) * radius, y, np.sin(turn) * radius], axis=1)


def surface_radii(elements: tuple[str, ...]) -> NDArray[np.float64]:
    """Radius (atoms,) of each atom plus the probe in nm; elements are upper case."""
    return np.array([_ATOMIC_RADII.get(e.capitalize(), UNKNOWN_RADIUS) for e in elements]) + PROBE_RADIUS


Count = int | np.int64


class Patches(NamedTuple):
    """Points of the unit sphere in patches; smaller patches are padded with zeros."""

    points: NDArray[np.float32]  # (patches, 3, points of a patch)
    mask: NDArray[np.float32]  # (patches, points of a patch) 1, or 0 for padding
    centres: NDArray[np.float32]  # (3, patches)
    radius: float  # largest angle between a point and the centre of its patch
    number: int  # of points


def patches_of(points: NDArray) -> Patches:
    """Sort points (points, 3) of the unit sphere into patches around the nearest of evenly spread centres."""
    centres = sphere_points(max(1, len(points) // POINTS_PER_PATCH))
    cosine = points @ centres.T  # (points, patches)
    patch = cosine.argmax(axis=1)
    order = np.argsort(patch, kind="stable")
    slot = np.arange(len(points)) - np.searchsorted(patch[order], patch[order])  # within the patch
    size = int(slot.max()) + 1
    sorted_points = np.zeros((len(centres), 3, size), np.float32)
    sorted_points[patch[order], :, slot] = points[order]
    mask = np.zeros((len(centres), size), np.float32)
    mask[patch[order], slot] = 1
    radius = float(np.arccos(cosine.max(axis=1).min()))
    return Patches(sorted_points, mask, np.ascontiguousarray(centres.T, np.float32), radius, len(points))


@njit(nogil=True, fastmath={"contract"})
def _bury(points: NDArray, number: Count, caps: NDArray, begin: Count, end: Count, left: NDArray) -> None:
    """Set `left` (n,) to 0 at those of the first `number` points (3, n) that lie in one of the caps `begin` to `end`.

    Caps (4, m) are vectors and limits of the scalar product with them; `end` - `begin` is a multiple of four.
    """
    x, y, z = points[0], points[1], points[2]
    for cap in range(begin, end, 4):
        # four at a time; unsigned, because signed indices are checked for negative values at every step
        i = np.uint64(cap)
        j, k, m = i + np.uint64(1), i + np.uint64(2), i + np.uint64(3)
        ix, iy, iz, it = caps[0, i], caps[1, i], caps[2, i], caps[3, i]
        jx, jy, jz, jt = caps[0, j], caps[1, j], caps[2, j], caps[3, j]
        kx, ky, kz, kt = caps[0, k], caps[1, k], caps[2, k], caps[3, k]
        mx, my, mz, mt = caps[0, m], caps[1, m], caps[2, m], caps[3, m]
        for p in range(number):
            buried = (
                (x[p] * ix + y[p] * iy + z[p] * iz > it)
                | (x[p] * jx + y[p] * jy + z[p] * jz > jt)
                | (x[p] * kx + y[p] * ky + z[p] * kz > kt)
                | (x[p] * mx + y[p] * my + z[p] * mz > mt)
            )
            left[p] = ZERO if buried else left[p]


@njit(nogil=True)
def _pad(caps: NDArray, number: Count) -> Count:
    """Pad caps with empty ones to a multiple of four; returns the new number."""
    end = (number + 3) // 4 * 4
    for n in range(number, end):
        caps[0, n] = caps[1, n] = caps[2, n] = ZERO
        caps[3, n] = NEVER
    return end


@njit(cache=True, nogil=True, fastmath={"contract"})
def _residue_areas(
    xyz: NDArray, radii: NDArray, residue: NDArray, sphere: Patches, neighbours: Neighbours, areas: NDArray
) -> None:
    """Add the areas (nm^2) of the atoms of one frame (atoms, 3), float32 nm, to those of their residues (N,)."""
    num_patches, size = sphere.mask.shape
    centres = sphere.centres
    cos_rho, sin_rho = np.float32(cos(sphere.radius)), np.float32(sin(sphere.radius))
    most = 0
    for i in range(len(xyz)):
        most = max(most, neighbours.stop[i] - neighbours.start[i])
    # vector to each neighbour, and limits of the scalar product with it, above which ...
    whole = np.empty((4, most + 3), np.float32)  # ... a patch, by its centre, is buried as a whole
    x, y, z, whole_limit = whole[0], whole[1], whole[2], whole[3]
    limit = np.empty(most, np.float32)  # ... a point is buried
    touch_limit = np.empty(most, np.float32)  # ... a patch, by its centre, may be buried in part
    other, squared = np.empty(most, np.float32), np.empty(most, np.float32)
    touching = np.empty(most, np.uint32)
    caps = np.empty((4, most + 3), np.float32)
    left = np.empty(num_patches, np.float32)
    patch = np.empty(num_patches, np.uint32)
    some = np.empty((3, num_patches), np.float32)
    points_left = np.empty(size, np.float32)
    for i in range(len(xyz)):
        radius = radii[i]
        mine = neighbours.points[neighbours.start[i] : neighbours.stop[i]]
        count = len(mine)

        # near neighbours fill from the front, others from the back
        front, back = np.uint64(0), np.uint64(count - 1)
        for n in range(count):
            j = mine[n]
            vx, vy, vz = xyz[j, 0] - xyz[i, 0], xyz[j, 1] - xyz[i, 1], xyz[j, 2] - xyz[i, 2]
            near = vx * vx + vy * vy + vz * vz < NEAR * NEAR
            slot = front if near else back
            x[slot], y[slot], z[slot], other[slot] = vx, vy, vz, radii[j]
            front += np.uint64(near)
            back -= np.uint64(1) - np.uint64(near)
        # loops that write a single array are vectorised
        for n in range(count):
            squared[n] = x[n] * x[n] + y[n] * y[n] + z[n] * z[n]
        for n in range(count):
            limit[n] = (squared[n] + (radius - other[n]) * (radius + other[n])) / (radius + radius)
        for n in range(count):
            rest = squared[n] - limit[n] * limit[n]
            shift = limit[n] * cos_rho + np.sqrt(rest if rest > ZERO else ZERO) * sin_rho + MARGIN
            whole_limit[n] = shift if limit[n] < np.sqrt(squared[n]) * cos_rho else NEVER
        for n in range(count):
            rest = squared[n] - limit[n] * limit[n]
            shift = limit[n] * cos_rho - np.sqrt(rest if rest > ZERO else ZERO) * sin_rho - MARGIN
            touch_limit[n] = shift if limit[n] > -np.sqrt(squared[n]) * cos_rho else -NEVER

        # patches that no single neighbour buries
        end = _pad(whole, count)
        num_near = np.int64(front + np.uint64(3)) // 4 * 4
        for p in range(num_patches):
            left[p] = ONE
        _bury(centres, num_patches, whole, 0, num_near, left)
        filled = np.uint64(0)
        for p in range(num_patches):
            patch[filled] = p
            filled += np.uint64(left[p] > ZERO)
        num_left = np.int64(filled)
        for n in range(num_left):
            p = patch[n]
            some[0, n], some[1, n], some[2, n] = centres[0, p], centres[1, p], centres[2, p]
            left[n] = ONE
        _bury(some, num_left, whole, num_near, end, left)

        free = 0
        for n in range(num_left):
            if left[n] == ZERO:
                continue
            p = patch[n]
            cx, cy, cz = centres[0, p], centres[1, p], centres[2, p]
            filled = np.uint64(0)
            for m in range(count):
                touching[filled] = m
                filled += np.uint64(cx * x[m] + cy * y[m] + cz * z[m] > touch_limit[m])
            num_caps = np.int64(filled)
            for c in range(num_caps):
                m = touching[c]
                caps[0, c], caps[1, c], caps[2, c], caps[3, c] = x[m], y[m], z[m], limit[m]
            mask = sphere.mask[p]
            for m in range(size):
                points_left[m] = mask[m]
            _bury(sphere.points[p], size, caps, 0, _pad(caps, num_caps), points_left)
            for m in range(size):
                free += 1 if points_left[m] > ZERO else 0
        areas[residue[i]] += 4 * pi * radius**2 * free / sphere.number


class SurfaceAreas:
    """Mean and standard deviation of the solvent-accessible areas of N residues.

    Atoms have `surface_radii` and residues 0 to N - 1, (atoms,) each; `points` (points, 3) are on the unit sphere.
    """

    def __init__(self, radii: NDArray, residue_of_atom: NDArray, points: NDArray | None = None) -> None:
        self._radii = radii.astype(np.float32)
        self._residue = residue_of_atom.astype(np.int64)
        self._sphere = patches_of(sphere_points() if points is None else points)
        self._sums = np.zeros((2, int(residue_of_atom.max()) + 1))  # of the areas and of their squares

    def residues(self, xyz: NDArray, neighbours: Neighbours) -> NDArray[np.float64]:
        """Areas (N,) in nm^2 of a frame (atoms, 3), nm; `neighbours` are for at least the radii of the atoms."""
        areas = np.zeros(self._sums.shape[1])
        frame = np.ascontiguousarray(xyz, np.float32)
        _residue_areas(frame, self._radii, self._residue, self._sphere, neighbours, areas)
        return areas

    def add(self, xyz: NDArray, neighbours: Neighbours) -> None:
        """Add a frame; see `residues`."""
        areas = self.residues(xyz, neighbours)
        self._sums += areas, areas**2

    def result(self, frames: int) -> dict[str, NDArray]:
        """`sasa_mean` and `sasa_std` (population), (N,) float32 in nm^2."""
        mean, square = self._sums / frames
        std = np.sqrt(np.maximum(square - mean**2, 0.0))
        return {"sasa_mean": mean.astype(np.float32), "sasa_std": std.astype(np.float32)}
