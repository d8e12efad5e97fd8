"""Contacts of aromatic rings; three atoms define the centroid and the normal of each.

Pi-cation contact (pc): a base nitrogen, as in salt bridges, above the plane of a ring. Stacking of two rings: parallel
(ps, pi-stacking) or perpendicular (ts, T-stacking); psi is the smaller of the two angles between a normal and the line
through the centroids.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.geometry import distance, folded_angle, tilt
from data_prepare.properties import PAIR_CHANNELS
from data_prepare.structure.topology import Topology

PC: Final = 1 << PAIR_CHANNELS["pc"]
PS: Final = 1 << PAIR_CHANNELS["ps"]
TS: Final = 1 << PAIR_CHANNELS["ts"]
HISTIDINES: Final = ("HIS", "HSD", "HSE", "HSP", "HID", "HIE", "HIP")
RINGS: Final[dict[str, tuple[str, str, str]]] = {
    **dict.fromkeys(("PHE", "TYR"), ("CG", "CE1", "CE2")),
    "TRP": ("CD2", "CZ2", "CZ3"),
    **dict.fromkeys(HISTIDINES, ("CG", "CE1", "CD2")),
}


class PiCation(NamedTuple):
    """Thresholds of pi-cation contacts."""

    pc_cutoff_dist: float = 6.0
    """pc: cation to ring centroid, Angstrom."""
    pc_cutoff_ang: float = 60.0
    """pc: ring normal to the line from centroid to cation, degrees."""


class PiStacking(NamedTuple):
    """Thresholds of parallel rings."""

    ps_cutoff_dist: float = 7.0
    """ps: centroid to centroid, Angstrom."""
    ps_cutoff_ang: float = 30.0
    """ps: normal to normal, degrees."""
    ps_psi_ang: float = 45.0
    """ps: psi, degrees."""


class TStacking(NamedTuple):
    """Thresholds of perpendicular rings."""

    ts_cutoff_dist: float = 5.0
    """ts: centroid to centroid, Angstrom."""
    ts_cutoff_ang: float = 30.0
    """ts: deviation of the normals from a right angle, degrees."""
    ts_psi_ang: float = 45.0
    """ts: psi, degrees."""


def atoms_of_rings(topology: Topology) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Three atoms (rings, 3) of each aromatic ring, and the one (rings,) with the first name, which stands for it.

    Rings with a missing atom are skipped.
    """
    found, named = [], []
    for name, atoms, protein in zip(topology.residue_names, topology.atoms_by_name, topology.is_protein, strict=True):
        names = RINGS.get(name, ())
        if protein and names and all(atom in atoms for atom in names):
            found.append([atoms[atom] for atom in names])
            named.append(atoms[min(names)])
    return np.array(found, np.int64).reshape(-1, 3), np.array(named, np.int64)


@njit(nogil=True)
def planes(xyz: NDArray, rings: NDArray) -> tuple[NDArray, NDArray]:
    """Centroids and unnormalised normals, (rings, 3) each, of rings of three atoms (rings, 3)."""
    centroids = np.empty((len(rings), 3))
    normals = np.empty((len(rings), 3))
    for r in range(len(rings)):
        a, b, c = xyz[rings[r, 0]], xyz[rings[r, 1]], xyz[rings[r, 2]]
        for k in range(3):
            centroids[r, k] = (a[k] + b[k] + c[k]) / 3.0
            p, q = (k + 1) % 3, (k + 2) % 3
            normals[r, k] = (b[p] - a[p]) * (c[q] - a[q]) - (b[q] - a[q]) * (c[p] - a[p])
    return centroids, normals


@njit(nogil=True)
def is_pi_cation(centroid: NDArray, normal: NDArray, cation: NDArray, limits: PiCation) -> bool:
    """Whether a cation (3,) lies above a ring."""
    near = distance(centroid, cation) <= limits.pc_cutoff_dist
    return near and tilt(normal, centroid, cation) <= limits.pc_cutoff_ang


@njit(nogil=True)
def pair_geometry(
    centroid_1: NDArray, normal_1: NDArray, centroid_2: NDArray, normal_2: NDArray
) -> tuple[float, float, float]:
    """Distance of the centroids, angle of the normals and psi (both 0 to 90) of two rings."""
    psi = min(tilt(normal_1, centroid_1, centroid_2), tilt(normal_2, centroid_1, centroid_2))
    return distance(centroid_1, centroid_2), folded_angle(normal_1, normal_2), psi


@njit(nogil=True)
def is_pi_stacking(distance: float, normal_angle: float, psi: float, limits: PiStacking) -> bool:
    """Whether two rings (see `pair_geometry`) are stacked in parallel."""
    return distance <= limits.ps_cutoff_dist and normal_angle <= limits.ps_cutoff_ang and psi <= limits.ps_psi_ang


@njit(nogil=True)
def is_t_stacking(distance: float, normal_angle: float, psi: float, limits: TStacking) -> bool:
    """Whether two rings (see `pair_geometry`) are stacked perpendicularly."""
    perpendicular = 90.0 - normal_angle <= limits.ts_cutoff_ang
    return distance <= limits.ts_cutoff_dist and perpendicular and psi <= limits.ts_psi_ang
