"""Interactions of aromatic rings: pi-cation, pi-stacking and T-stacking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.tables import RINGS
from data_prepare.structure.topology import Topology


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
