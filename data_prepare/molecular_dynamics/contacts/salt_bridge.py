"""Salt bridge: an acid oxygen and a base nitrogen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.tables import ACIDIC, BASIC
from data_prepare.structure.topology import Topology


def charges(topology: Topology) -> NDArray[np.int8]:
    """(atoms,) +1 for base nitrogens, -1 for acid oxygens, 0 for all others, by names."""
    result = np.zeros(topology.num_atoms, np.int8)
    for name, atoms, protein in zip(topology.residue_names, topology.atoms_by_name, topology.is_protein, strict=True):
        for charge, table in ((1, BASIC), (-1, ACIDIC)):
            for atom in table.get(name, ()):
                if protein and atom in atoms:
                    result[atoms[atom]] = charge
    return result
