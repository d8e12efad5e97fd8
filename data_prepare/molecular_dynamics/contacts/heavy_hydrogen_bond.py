"""Hydrogen bonds of models without hydrogens: another definition, by heavy atoms alone, which is used only on request.

A donor and an acceptor are near each other, and each faces away from the heavy atoms bonded to the other: the angles
X-D-A and D-A-Y are at least 90 degrees. Source of the angles: McDonald and Thornton (J. Mol. Biol. 1994).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data_prepare.molecular_dynamics.contacts.geometry import bend
from data_prepare.structure.sequence import ONE_LETTER
from data_prepare.structure.topology import Topology

DONOR: Final = 1
ACCEPTOR: Final = 2
BONDED_DISTANCE: Final = 1.9  # Angstrom, of heavy atoms in the first frame; carbon to sulfur has 1.8
SMALLEST_ANGLE: Final = 90.0  # degrees
BACKBONE_ROLES: Final = {"N": DONOR, **dict.fromkeys(("O", "OXT", "OT1", "OT2", "OC1", "OC2"), ACCEPTOR)}
# by the letter of the residue
SIDE_CHAIN_ROLES: Final = {
    "R": dict.fromkeys(("NE", "NH1", "NH2"), DONOR),
    "K": {"NZ": DONOR},
    "W": {"NE1": DONOR},
    "N": {"ND2": DONOR, "OD1": ACCEPTOR},
    "Q": {"NE2": DONOR, "OE1": ACCEPTOR},
    "D": dict.fromkeys(("OD1", "OD2"), ACCEPTOR),
    "E": dict.fromkeys(("OE1", "OE2"), ACCEPTOR),
    "H": dict.fromkeys(("ND1", "NE2"), DONOR | ACCEPTOR),
    "S": {"OG": DONOR | ACCEPTOR},
    "T": {"OG1": DONOR | ACCEPTOR},
    "Y": {"OH": DONOR | ACCEPTOR},
}


def roles(topology: Topology) -> NDArray[np.int64]:
    """Roles (atoms,) of the atoms of the protein: 0, or `DONOR` and `ACCEPTOR` in any combination."""
    result = np.zeros(topology.num_atoms, np.int64)
    for name, atoms, protein in zip(topology.residue_names, topology.atoms_by_name, topology.is_protein, strict=True):
        letter = ONE_LETTER.get(name, "")
        for atom, role in {**BACKBONE_ROLES, **SIDE_CHAIN_ROLES.get(letter, {})}.items() if protein else ():
            if atom in atoms and (letter, atom) != ("P", "N"):
                result[atoms[atom]] = role
    return result


def bonded_atoms(xyz: NDArray, heavy: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`start`, `bonded`: the i-th of the atoms `heavy` is bonded to `bonded[start[i]:start[i + 1]]` in a frame."""
    pairs = cKDTree(xyz[heavy]).query_pairs(BONDED_DISTANCE, output_type="ndarray")
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    return np.searchsorted(pairs[:, 0], np.arange(len(heavy) + 1)).astype(np.int64), heavy[pairs[:, 1]]


@njit(nogil=True)
def bonds_by_heavy_atoms(a: Any, b: Any, p: Any, q: Any, start: NDArray, bonded: NDArray, xyz: NDArray) -> bool:
    """Whether two atoms near each other (indices, and records of `kernels.ATOM`) bond; see `bonded_atoms`."""
    roles_fit = (p.role & DONOR and q.role & ACCEPTOR) or (q.role & DONOR and p.role & ACCEPTOR)
    return bool(roles_fit) and _faces(a, b, start, bonded, xyz) and _faces(b, a, start, bonded, xyz)


@njit(nogil=True)
def _faces(a: Any, b: Any, start: NDArray, bonded: NDArray, xyz: NDArray) -> bool:
    behind = 0
    for k in range(start[a], start[a + 1]):
        behind += bend(xyz[bonded[k]], xyz[a], xyz[b]) > 180.0 - SMALLEST_ANGLE
    return behind == 0
