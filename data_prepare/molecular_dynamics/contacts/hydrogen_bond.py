"""Hydrogen bond (hbbb, hbsb, hbss; b for backbone, s for side chain).

Two heavy atoms, neither carbon nor sulfur, are near each other, and a hydrogen of one points at the other.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data_prepare.errors import require
from data_prepare.molecular_dynamics.contacts.geometry import bend
from data_prepare.properties import PAIR_CHANNELS
from data_prepare.structure.topology import Topology

HBBB: Final = 1 << PAIR_CHANNELS["hbbb"]
HBSB: Final = 1 << PAIR_CHANNELS["hbsb"]
HBSS: Final = 1 << PAIR_CHANNELS["hbss"]
# terminal oxygens with other names count as side chain; those of phosphates are in residues such as SEP, too
BACKBONE: Final = ("N", "O", "OP1", "OP2", "O1P", "O2P", "O2'", "O3'", "O4'", "O5'")
NOT_POLAR: Final = ("C", "S")
APART: Final = 1e5  # Angstrom, more than any system measures


class HydrogenBond(NamedTuple):
    """Thresholds; the angle limit is exclusive."""

    hbond_cutoff_dist: float = 3.5
    """hb: donor to acceptor, Angstrom."""
    hbond_cutoff_ang: float = 70.0
    """hb: donor->H to H->acceptor, degrees."""
    hbond_res_diff: int = 1
    """hb: smallest difference of residue numbers within a chain."""
    hbond_of_heavy_atoms: bool = False
    """hb: find bonds by distance and angles of heavy atoms, another definition, for models without hydrogens."""


@njit(nogil=True)
def may_bond(p: Any, q: Any, distance: float, limits: HydrogenBond) -> bool:
    """Whether two atoms (`kernels.ATOM`) bond if a hydrogen points from one at the other."""
    near_in_sequence = p.chain == q.chain and abs(p.number - q.number) < limits.hbond_res_diff
    return p.polar and q.polar and not near_in_sequence and distance <= limits.hbond_cutoff_dist


@njit(nogil=True)
def bond_type(p: Any, q: Any) -> int:
    """HBBB, HBSB or HBSS of two atoms (`kernels.ATOM`)."""
    return (HBSS, HBSB, HBBB)[p.backbone + q.backbone]


@njit(nogil=True)
def donates(donor: Any, acceptor: Any, start: NDArray, hydrogens: NDArray, xyz: NDArray, limits: HydrogenBond) -> bool:
    """Whether a hydrogen of the donor points at the acceptor; see `hydrogens_of_atoms`."""
    for h in range(start[donor], start[donor + 1]):
        if bend(xyz[donor], xyz[hydrogens[h]], xyz[acceptor]) < limits.hbond_cutoff_ang:
            return True
    return False


def hydrogens_of_atoms(
    topology: Topology, xyz: NDArray, heavy: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`start`, `hydrogens`: the i-th of the ascending atoms `heavy` carries `hydrogens[start[i]:start[i + 1]]`.

    In the first frame (atoms, 3), a hydrogen of the protein belongs to the nearest heavy atom of the protein, another
    one to the nearest of its residue. InputError if the residues of `heavy` have no hydrogens.
    """
    is_hydrogen = np.array(topology.elements) == "H"
    own = np.zeros(topology.num_residues, np.bool_)
    own[topology.residue_of_atom[heavy]] = True
    own |= topology.is_protein & (own & topology.is_protein).any()
    place = np.where(topology.is_protein, 0, np.arange(1, topology.num_residues + 1))[topology.residue_of_atom]
    points = np.column_stack([xyz, APART * place])  # in four dimensions: those of other places are far away
    system = own[topology.residue_of_atom]
    hydrogens, candidates = np.flatnonzero(system & is_hydrogen), np.flatnonzero(system & ~is_hydrogen)
    problem = "no hydrogens, which hydrogen bonds require; add them, or find others with --itypes sb pc ps ts hp vdw"
    require(len(hydrogens), f"{topology.path}: {problem}")
    distance, nearest = cKDTree(points[candidates]).query(points[hydrogens])
    owner = np.where(distance < APART, candidates[nearest], -1)  # -1: no heavy atom in its place
    order = np.argsort(owner, kind="stable")
    owner, hydrogens = owner[order], hydrogens[order]
    kept = np.isin(owner, heavy)
    owner, hydrogens = owner[kept], hydrogens[kept]
    return np.append(np.searchsorted(owner, heavy), len(owner)).astype(np.int64), hydrogens
