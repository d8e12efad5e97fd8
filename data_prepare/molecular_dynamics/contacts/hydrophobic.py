"""Hydrophobic contact (hp): a van der Waals contact of two carbons bonded only to carbon and hydrogen."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data_prepare.properties import PAIR_CHANNELS
from data_prepare.structure.topology import Topology

HP: Final = 1 << PAIR_CHANNELS["hp"]
HYDROPHOBIC: Final = frozenset(("ALA", "PHE", "GLY", "ILE", "LEU", "PRO", "VAL", "TRP"))
BONDED_DISTANCE: Final = 1.7  # a hydrophobic carbon has only C and H within it


@njit(nogil=True)
def is_hydrophobic(p: Any, q: Any) -> bool:
    """Whether a van der Waals contact of two atoms (`kernels.ATOM`) is hydrophobic."""
    return p.hydrophobic and q.hydrophobic


def hydrophobic_carbons(
    topology: Topology, xyz: NDArray, ligand: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks (atoms,) of the hydrophobic carbons, and of those bonded to a hydrogen, in the first frame (atoms, 3).

    They are in the residues `HYDROPHOBIC` and in ligands (atoms,). Water and ligands count as bonded too.
    """
    elements = np.array(topology.elements)
    eligible = np.isin(topology.residue_names, list(HYDROPHOBIC))[topology.residue_of_atom]
    if ligand is not None:
        eligible = eligible | ligand
    carbons = np.flatnonzero(eligible & (elements == "C"))

    def touch(others: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the carbons are bonded to one of other atoms."""
        if not others.any():
            return np.zeros(len(carbons), np.bool_)
        return cKDTree(xyz[others]).query(xyz[carbons])[0] <= BONDED_DISTANCE

    hydrophobic, with_hydrogen = np.zeros((2, len(elements)), np.bool_)
    hydrophobic[carbons] = ~touch(~np.isin(elements, ("C", "H")))
    with_hydrogen[carbons] = touch(elements == "H")
    return hydrophobic, with_hydrogen
