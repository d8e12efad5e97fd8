"""Hydrogen bond: two heavy atoms, neither carbon nor sulfur, one of which has a hydrogen that points at the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data_prepare.errors import InputError
from data_prepare.structure.topology import Topology


def hydrogens_of_atoms(topology: Topology, xyz: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hydrogens of each heavy atom: a hydrogen belongs to its nearest heavy atom of the protein.

    Parameters
    ----------
    topology
        All atoms.
    xyz
        (atoms, 3) Angstrom, the first frame.

    Returns
    -------
    start, hydrogens
        Atom a carries the atoms `hydrogens[start[a]:start[a + 1]]`.

    Raises
    ------
    InputError
        If no protein residue has a hydrogen.
    """
    is_hydrogen = np.array(topology.elements) == "H"
    in_protein = topology.is_protein[topology.residue_of_atom]
    hydrogens = np.flatnonzero(is_hydrogen & in_protein)
    heavy = np.flatnonzero(~is_hydrogen & in_protein)
    if len(hydrogens) == 0:
        raise InputError(
            f"{topology.path}: no hydrogens in the protein, so hydrogen bonds (hb) cannot be found; "
            "add hydrogens or leave hb out"
        )
    _, nearest = cKDTree(xyz[heavy]).query(xyz[hydrogens])
    owner = heavy[nearest]
    order = np.argsort(owner, kind="stable")
    start = np.searchsorted(owner[order], np.arange(topology.num_atoms + 1))
    return start, hydrogens[order]
