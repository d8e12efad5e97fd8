"""Solvent-accessible surface by the method of Shrake and Rupley (J. Mol. Biol. 1973).

The same sphere points, radii and probe as `mdtraj.shrake_rupley`, frame by frame: MDTraj's own routine lets a little of
each frame's area leak into the next one of the same call, so that its results depend on how a trajectory is cut.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Final, NamedTuple

import numpy as np
from mdtraj.geometry.sasa import _ATOMIC_RADII
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.neighbours import neighbour_pairs

PROBE_RADIUS: Final = 0.14  # nm
SPHERE_POINTS: Final = 960
UNKNOWN_RADIUS: Final = 0.17  # nm, of an element that cannot be told
COMPILED_FROM: Final = "7757c284d4abf51a"  # of contacts/neighbours.py, see contacts/search.py


def sphere_points(number: int = SPHERE_POINTS) -> NDArray[np.float64]:
    """Points (number, 3) spread evenly over the unit sphere along a golden section spiral."""
    index = np.arange(number)
    y = (2 * index + 1) / number - 1
    radius = np.sqrt(1 - y**2)
    turn = index * pi * (3 - sqrt(5))
    return np.stack([np.cos(turn) * radius, y, np.sin(turn) * radius], axis=1)


def surface_radii(elements: tuple[str, ...]) -> NDArray[np.float64]:
    """Radius of each atom and the probe in nm; elements in upper case."""
    return np.array([_ATOMIC_RADII.get(e.capitalize(), UNKNOWN_RADIUS) for e in elements]) + PROBE_RADIUS


Points = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # x, y, z of the sphere points


class _Scratch(NamedTuple):
    """Room for the neighbours and the points of one atom."""

    cap: NDArray[np.float64]  # (neighbours,) cosine of the half-angle of the cap that each neighbour buries
    plane: NDArray[np.float64]  # (neighbours, 4) its direction and where its plane cuts it
    alive: NDArray[np.int32]  # (points,) points that no neighbour so far has buried


@njit(nogil=True)
def _accessible_points(
    i: int, xyz: NDArray, radii: NDArray, points: Points, neighbours: NDArray, start: int, stop: int, room: _Scratch
) -> int:
    """Sphere points of atom i that lie in no sphere of the atoms neighbours[start:stop].

    A point x_i + R_i u is in the sphere of j where u . (x_j - x_i) > (d_ij^2 + R_i^2 - R_j^2) / (2 R_i). Neighbours are
    taken by the size of the cap that they bury, the largest first, so that few points are left after a few of them.
    """
    cap, plane, alive = room
    px, py, pz = points
    count = stop - start
    for n in range(count):
        j = neighbours[start + n]
        x, y, z = xyz[j, 0] - xyz[i, 0], xyz[j, 1] - xyz[i, 1], xyz[j, 2] - xyz[i, 2]
        squared = x * x + y * y + z * z
        cut = (squared + radii[i] ** 2 - radii[j] ** 2) / (2 * radii[i])
        cosine = cut / max(sqrt(squared), 1e-12)
        m = n
        while m > 0 and cap[m - 1] > cosine:
            cap[m] = cap[m - 1]
            for k in range(4):
                plane[m, k] = plane[m - 1, k]
            m -= 1
        cap[m] = cosine
        plane[m, 0], plane[m, 1], plane[m, 2], plane[m, 3] = x, y, z, cut
    left = len(px)
    for p in range(left):
        alive[p] = p
    for n in range(count):
        if left == 0:
            break
        x, y, z, cut = plane[n, 0], plane[n, 1], plane[n, 2], plane[n, 3]
        kept = 0
        for p in range(left):
            point = alive[p]
            alive[kept] = point
            # counted instead of branched on: the outcome is a coin toss that no processor foresees
            kept += 1 if px[point] * x + py[point] * y + pz[point] * z <= cut else 0
        left = kept
    return left


@njit(cache=True, nogil=True)
def _residue_areas(frame: NDArray, radii: NDArray, residue: NDArray, points: Points, areas: NDArray) -> None:
    """Write the areas (N,) of the residues of one frame (atoms, 3) in nm."""
    atoms = len(frame)
    xyz = np.empty((atoms, 3))
    widest = 0.0
    for a in range(atoms):
        widest = max(widest, radii[a])
        for k in range(3):
            xyz[a, k] = frame[a, k]
    pairs, num_pairs = neighbour_pairs(xyz, 2 * widest)

    # neighbours of each atom, one atom after the other
    start = np.zeros(atoms + 1, np.int64)
    for p in range(num_pairs):
        start[pairs[p, 0] + 1] += 1
        start[pairs[p, 1] + 1] += 1
    for a in range(atoms):
        start[a + 1] += start[a]
    filled = np.zeros(atoms, np.int64)
    neighbours = np.empty(2 * num_pairs, np.int64)
    most = 0
    for p in range(num_pairs):
        i, j = pairs[p, 0], pairs[p, 1]
        x, y, z = xyz[i, 0] - xyz[j, 0], xyz[i, 1] - xyz[j, 1], xyz[i, 2] - xyz[j, 2]
        if x * x + y * y + z * z < (radii[i] + radii[j]) ** 2:
            neighbours[start[i] + filled[i]] = j
            neighbours[start[j] + filled[j]] = i
            filled[i] += 1
            filled[j] += 1
            most = max(most, filled[i], filled[j])

    room = _Scratch(np.empty(most), np.empty((most, 4)), np.empty(len(points[0]), np.int32))
    for n in range(len(areas)):
        areas[n] = 0.0
    for a in range(atoms):
        free = _accessible_points(a, xyz, radii, points, neighbours, start[a], start[a] + filled[a], room)
        areas[residue[a]] += 4 * pi * radii[a] ** 2 * free / len(points[0])


def residue_sasa(
    frames: NDArray, radii: NDArray, residue_of_atom: NDArray, points: NDArray | None = None
) -> NDArray[np.float64]:
    """Solvent-accessible area of each residue.

    Parameters
    ----------
    frames
        (frames, atoms, 3) nm.
    radii
        (atoms,) nm, probe included, see `surface_radii`.
    residue_of_atom
        (atoms,) 0 to N - 1.
    points
        (points, 3) on the unit sphere, by default 960.

    Returns
    -------
    (frames, N) nm^2.
    """
    x, y, z = np.ascontiguousarray((sphere_points() if points is None else points).T)
    areas = np.empty((len(frames), int(residue_of_atom.max()) + 1))
    for frame, row in zip(frames, areas, strict=True):
        _residue_areas(np.ascontiguousarray(frame), radii, residue_of_atom, (x, y, z), row)
    return areas
