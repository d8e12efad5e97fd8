"""Solvent-accessible surface by the method of Shrake and Rupley (J. Mol. Biol. 1973).

The same sphere points, radii and probe as `mdtraj.shrake_rupley`, frame by frame: MDTraj's own routine lets a little of
each frame's area leak into the next one of the same call, so that its results depend on how a trajectory is cut.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Final

import numpy as np
from mdtraj.geometry.sasa import _ATOMIC_RADII
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.neighbours import neighbour_pairs

PROBE_RADIUS: Final = 0.14  # nm
SPHERE_POINTS: Final = 960
UNKNOWN_RADIUS: Final = 0.17  # nm, of an element that cannot be told


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


@njit(cache=True, nogil=True)
def _accessible_points(
    i: int, xyz: NDArray, radii: NDArray, points: NDArray, neighbours: NDArray, start: int, stop: int, work: NDArray
) -> int:
    """Sphere points of atom i that lie in no sphere of the atoms neighbours[start:stop].

    A point x_i + R_i u is in the sphere of j where u . (x_j - x_i) > (d_ij^2 + R_i^2 - R_j^2) / (2 R_i).
    """
    count = stop - start
    for n in range(count):
        j = neighbours[start + n]
        x, y, z = xyz[j, 0] - xyz[i, 0], xyz[j, 1] - xyz[i, 1], xyz[j, 2] - xyz[i, 2]
        work[n, 0], work[n, 1], work[n, 2] = x, y, z
        work[n, 3] = (x * x + y * y + z * z + radii[i] ** 2 - radii[j] ** 2) / (2 * radii[i])
    accessible = 0
    last = 0  # points follow each other on the spiral: what buried the last one often buries the next
    for p in range(len(points)):
        buried = False
        for n in range(count):
            m = n + last
            if m >= count:
                m -= count
            if points[p, 0] * work[m, 0] + points[p, 1] * work[m, 1] + points[p, 2] * work[m, 2] > work[m, 3]:
                buried = True
                last = m
                break
        if not buried:
            accessible += 1
    return accessible


@njit(cache=True, nogil=True)
def _residue_areas(frame: NDArray, radii: NDArray, residue: NDArray, points: NDArray, areas: NDArray) -> None:
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

    work = np.empty((max(1, most), 4))
    for n in range(len(areas)):
        areas[n] = 0.0
    for a in range(atoms):
        free = _accessible_points(a, xyz, radii, points, neighbours, start[a], start[a] + filled[a], work)
        areas[residue[a]] += 4 * pi * radii[a] ** 2 * free / len(points)


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
    points = sphere_points() if points is None else points
    areas = np.empty((len(frames), int(residue_of_atom.max()) + 1))
    for frame, row in zip(frames, areas, strict=True):
        _residue_areas(np.ascontiguousarray(frame), radii, residue_of_atom, points, row)
    return areas
