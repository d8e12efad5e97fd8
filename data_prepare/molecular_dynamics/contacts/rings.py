"""Aromatic rings: three atoms define the centroid and the normal of each."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prepare.structure.topology import Topology

HISTIDINES: Final = ("HIS", "HSD", "HSE", "HSP", "HID", "HIE", "HIP")
RINGS: Final[dict[str, tuple[str, str, str]]] = {
    **dict.fromkeys(("PHE", "TYR"), ("CG", "CE1", "CE2")),
    "TRP": ("CD2", "CZ2", "CZ3"),
    **dict.fromkeys(HISTIDINES, ("CG", "CE1", "CD2")),
}


def atoms_of_rings(topology: Topology) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Three atoms (rings, 3) of each aromatic ring, and the one (rings,) with the first name, which stands for it.

    Rings with a missing atom are skipped.
    """
    found, named = [], []
    for name, atoms in zip(topology.residue_names, topology.atoms_by_name, strict=True):
        names = RINGS.get(name, ())
        if names and all(atom in atoms for atom in names):
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
