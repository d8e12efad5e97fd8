"""Van der Waals contact: heavy protein atoms closer than their radii and a margin."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data_prepare.molecular_dynamics.contacts.tables import DISULFIDE_DISTANCE, RADII, UNKNOWN_RADIUS
from data_prepare.structure.topology import Topology


def radii(topology: Topology) -> NDArray[np.float64]:
    """Van der Waals radius (atoms,) in Angstrom; elements without one get 1.7 and a warning."""
    if unknown := sorted(set(topology.elements) - RADII.keys()):
        warnings.warn(
            f"{topology.path}: no van der Waals radius of element {', '.join(unknown)}; {UNKNOWN_RADIUS} A is used",
            stacklevel=2,
        )
    return np.array([RADII.get(element, UNKNOWN_RADIUS) for element in topology.elements])


def disulfide_partners(topology: Topology, xyz: NDArray) -> NDArray[np.int32]:
    """Residue at the other end of a disulfide, -1 for none.

    Parameters
    ----------
    topology
        All atoms.
    xyz
        (atoms, 3) Angstrom, the first frame.

    Returns
    -------
    (residues,) residue indices.
    """
    partner = np.full(topology.num_residues, -1, np.int32)
    sulfur = [
        (residue, atoms["SG"])
        for residue, (name, atoms) in enumerate(zip(topology.residue_names, topology.atoms_by_name, strict=True))
        if name.startswith("CY") and "SG" in atoms and topology.is_protein[residue]
    ]
    if len(sulfur) > 1:
        residues, atoms = np.array(sulfur).T
        for i, j in cKDTree(xyz[atoms]).query_pairs(DISULFIDE_DISTANCE):
            if np.linalg.norm(xyz[atoms[i]] - xyz[atoms[j]]) < DISULFIDE_DISTANCE:
                partner[residues[i]], partner[residues[j]] = residues[j], residues[i]
    return partner
