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


def hydrophobic_carbons(topology: Topology, xyz: NDArray) -> NDArray[np.bool_]:
    """Mask (atoms,) of the hydrophobic carbons in the first frame (atoms, 3); water and ligands count as bonded too."""
    elements = np.array(topology.elements)
    residue = np.array([name in HYDROPHOBIC for name in topology.residue_names]) & topology.is_protein
    eligible = (elements == "C") & residue[topology.residue_of_atom]
    other = np.flatnonzero(~np.isin(elements, ("C", "H")))
    carbons = np.flatnonzero(eligible)
    if len(carbons) and len(other):
        distance, _ = cKDTree(xyz[other]).query(xyz[carbons])
        eligible[carbons[distance <= BONDED_DISTANCE]] = False
    return eligible
