"""Interactions of aromatic rings: pi-cation, pi-stacking and T-stacking."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.geometry import distance, folded_angle, tilt
from data_prepare.molecular_dynamics.contacts.tables import RINGS
from data_prepare.structure import Topology


@njit(nogil=True)
def is_pi_cation(centroid: NDArray, normal: NDArray, cation: NDArray, cutoff: float, max_angle: float) -> bool:
    """Whether a cation lies above a ring: distances in Angstrom, angles in degrees."""
    return distance(centroid, cation) <= cutoff and tilt(normal, centroid, cation) <= max_angle


@njit(nogil=True)
def ring_pair(
    centroid_1: NDArray, normal_1: NDArray, centroid_2: NDArray, normal_2: NDArray
) -> tuple[float, float, float]:
    """Distance of the centroids (Angstrom), angle of the normals and psi (degrees, 0 to 90) of two rings.

    psi is the smaller of the two angles between a normal and the line of the centroids.
    """
    psi = min(tilt(normal_1, centroid_1, centroid_2), tilt(normal_2, centroid_1, centroid_2))
    return distance(centroid_1, centroid_2), folded_angle(normal_1, normal_2), psi


def rings(topology: Topology) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Aromatic rings of the protein; a ring with a missing atom is left out.

    Returns
    -------
    atoms
        (rings, 3) the atoms that give centroid and normal.
    named_atom
        (rings,) the atom that stands for the ring in a contact line: the alphabetically smallest name.
    """
    found, named = [], []
    for name, atoms, protein in zip(topology.residue_names, topology.atoms_by_name, topology.is_protein, strict=True):
        names = RINGS.get(name, ())
        if protein and names and all(atom in atoms for atom in names):
            found.append([atoms[atom] for atom in names])
            named.append(atoms[min(names)])
    return np.array(found, np.int64).reshape(-1, 3), np.array(named, np.int64)
