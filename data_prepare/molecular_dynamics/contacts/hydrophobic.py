"""Hydrophobic contact: a van der Waals contact of two carbons that are bonded to carbon and hydrogen only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data_prepare.molecular_dynamics.contacts.tables import CARBON_NEIGHBOUR_DISTANCE, HYDROPHOBIC
from data_prepare.structure.topology import Topology


def hydrophobic_carbons(topology: Topology, xyz: NDArray) -> NDArray[np.bool_]:
    """Carbons of hydrophobic residues that have only carbon and hydrogen within 1.7 Angstrom.

    Parameters
    ----------
    topology
        All atoms: water and ligands count as neighbours.
    xyz
        (atoms, 3) Angstrom, the first frame.

    Returns
    -------
    (atoms,) mask.
    """
    elements = np.array(topology.elements)
    residue = np.array([name in HYDROPHOBIC for name in topology.residue_names]) & topology.is_protein
    eligible = (elements == "C") & residue[topology.residue_of_atom]
    other = np.flatnonzero(~np.isin(elements, ("C", "H")))
    carbons = np.flatnonzero(eligible)
    if len(carbons) and len(other):
        distance, _ = cKDTree(xyz[other]).query(xyz[carbons])
        eligible[carbons[distance <= CARBON_NEIGHBOUR_DISTANCE]] = False
    return eligible
