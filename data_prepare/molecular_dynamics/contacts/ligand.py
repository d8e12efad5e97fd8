"""Contacts with ligands: the types of GetContacts, and the charges of ligands.

| type | contact |
|---|---|
| hbls, hblb, hbll | hydrogen bond of a ligand with a side chain, with a backbone, with a ligand |
| sblp, sbpl, sbll | salt bridge of a ligand's anion with a protein, a protein's anion with a ligand, within ligands |
| hplp, hpll | hydrophobic contact of a ligand with anything else, with a ligand |

Van der Waals contacts keep their type. A salt bridge with one ligand stands in a file twice, as sb, too.

A ligand's anions are both oxygens of a carboxylate: a carbon with three neighbours within 1.95 A in the first frame,
one carbon and two oxygens, the first two in the order of the file at an angle within 5 degrees of 120. Its cations are
the metals in `METALS`. Each of its carbons is hydrophobic that has only C and H within 1.7 A.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data_prepare.properties import HYDROGEN_BONDS, INTERACTIONS, PAIR_CHANNELS
from data_prepare.structure.topology import Topology

METALS: Final = ("MG", "MN", "RH", "ZN", "FE", "BI", "AS", "AG")
NEIGHBOUR_DISTANCE: Final = 1.95  # Angstrom
SP2_ANGLE: Final = 120.0  # degrees
SP2_TOLERANCE: Final = 5.0
# types of contact lines between two atoms; the first are the channels of the features
LINE_TYPES: Final = (*INTERACTIONS, "hbls", "hblb", "hbll", "sblp", "sbpl", "sbll", "hplp", "hpll")
TYPE: Final = {name: index for index, name in enumerate(LINE_TYPES)}
OF_HYDROGEN: Final = [PAIR_CHANNELS[name] for name in HYDROGEN_BONDS]


def ligand_charges(topology: Topology, xyz: NDArray, ligand: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Charges (atoms,), -1, 0 or 1, of the atoms of ligands in the first frame (atoms, 3)."""
    elements = np.array(topology.elements)
    result = np.zeros(topology.num_atoms, np.int64)
    result[ligand & np.isin(elements, METALS)] = 1
    carbons = np.flatnonzero(ligand & (elements == "C"))
    near = cKDTree(xyz).query_ball_point(xyz[carbons], NEIGHBOUR_DISTANCE)
    for carbon, atoms in zip(carbons.tolist(), near, strict=True):
        bonded = sorted((atom for atom in atoms if atom != carbon), key=topology.file_index.__getitem__)
        if sorted(elements[bonded]) != ["C", "O", "O"]:
            continue
        u, v = xyz[bonded[0]] - xyz[carbon], xyz[bonded[1]] - xyz[carbon]
        angle = np.degrees(np.arccos(u @ v / (np.linalg.norm(u) * np.linalg.norm(v))))
        if abs(angle - SP2_ANGLE) < SP2_TOLERANCE:
            oxygens = np.array(bonded)[elements[bonded] == "O"]
            result[oxygens[ligand[oxygens]]] = -1
    return result


def types_with_ligands(
    found: NDArray[np.int32], ligand: NDArray[np.bool_], charge: NDArray[np.int64], backbone: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Contacts (contacts, 3), channel and atoms, with the types in `LINE_TYPES`; the properties are of atoms."""
    channel, a, b = found.T
    number = ligand[a].astype(int) + ligand[b]
    kind = channel.copy()

    def rename(channels: int | list[int], ligands: int, names: NDArray | int) -> None:
        kind[:] = np.where(np.isin(channel, channels) & (number == ligands), names, kind)

    to_backbone = np.where(ligand[a], backbone[b], backbone[a])
    rename(OF_HYDROGEN, 1, np.where(to_backbone, TYPE["hblb"], TYPE["hbls"]))
    rename(OF_HYDROGEN, 2, TYPE["hbll"])
    rename(TYPE["hp"], 1, TYPE["hplp"])
    rename(TYPE["hp"], 2, TYPE["hpll"])
    anion = np.where(charge[a] < 0, a, b)
    rename(TYPE["sb"], 1, np.where(ligand[anion], TYPE["sblp"], TYPE["sbpl"]))
    rename(TYPE["sb"], 2, TYPE["sbll"])
    again = found[(channel == TYPE["sb"]) & (number == 1)]
    return np.concatenate([np.stack([kind, a, b], axis=1), again])
