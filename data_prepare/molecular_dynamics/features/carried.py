"""Which properties of a trajectory the atoms of its topology carry."""

from __future__ import annotations

from typing import Final

import numpy as np

from data_prepare.molecular_dynamics.features.conformation import angle_atoms
from data_prepare.properties import HYDROGEN_BONDS, INTERACTIONS, MD_PROPERTIES
from data_prepare.structure.atom_records import CARBOXYLATE
from data_prepare.structure.sequence import one_letter_sequence
from data_prepare.structure.topology import CARBONYL_OXYGENS, Topology

OF_C_ALPHA: Final = ("rmsf_nor", "corr")
OF_SIDE_CHAINS: Final = ("sasa_mean", "sasa_std", *INTERACTIONS)
HYDROGENS: Final = "hydrogens"
HEAVY_ATOMS: Final = dict(
    zip("GACSTPVNDILMEQKHRFYW", (0, 1, 2, 2, 3, 3, 3, *[4] * 5, *[5] * 3, 6, 7, 7, 8, 10), strict=True)
)
BACKBONE: Final = ("N", "CA", "C", "OT", *CARBONYL_OXYGENS, *CARBOXYLATE)
MAY_LACK: Final = 0.1  # of the residues: badly resolved side chains


def missing_properties(topology: Topology) -> dict[str, str]:
    """Properties that the atoms of a topology do not carry -> the atoms that these need.

    Areas and contacts need the heavy atoms of the side chains (none in glycine), hydrogen bonds a hydrogen in each
    residue but proline, secondary structure the carbonyl oxygen; up to `MAY_LACK` of the residues may lack them.
    """
    if not topology.is_protein.any():
        return dict.fromkeys((name for name in MD_PROPERTIES if name not in OF_C_ALPHA), "atoms other than C-alpha")
    protein = topology.protein
    elements = np.array(protein.elements)
    letters = np.array(list(one_letter_sequence(protein.residue_names)))

    def number(atoms: np.ndarray) -> np.ndarray:
        return np.bincount(protein.residue_of_atom[atoms], minlength=protein.num_residues)

    side_chain = number(~np.isin(elements, ("H", "X")) & ~np.isin(protein.atom_names, BACKBONE))
    complete = np.array([HEAVY_ATOMS.get(letter, 0) for letter in letters])
    without_hydrogen = (number(elements == "H") == 0) & (letters != "P")
    without_oxygen = number(np.isin(protein.atom_names, CARBONYL_OXYGENS)) == 0
    missing: dict[str, str] = {}
    if without_oxygen.mean() > MAY_LACK:
        missing["ss"] = "carbonyl oxygens"
    if (side_chain < complete).mean() > MAY_LACK:
        missing |= dict.fromkeys(OF_SIDE_CHAINS, "side chains")
    elif without_hydrogen.mean() > MAY_LACK:
        missing |= dict.fromkeys(HYDROGEN_BONDS, HYDROGENS)
    if (complete > 1).any() and (angle_atoms(protein)["chi"] < 0).all():
        missing["chi"] = "side chains"
    return missing
