"""Van der Waals contact (vdw): two heavy atoms closer than the sum of their radii plus a margin.

Pairs near in sequence are skipped, and so are cysteines (CYS) whose residue numbers are those of a disulfide.
"""

from __future__ import annotations

import warnings
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data_prepare.errors import InputWarning
from data_prepare.properties import PAIR_CHANNELS
from data_prepare.structure.topology import Topology

VDW: Final = 1 << PAIR_CHANNELS["vdw"]
RADII: Final[dict[str, float]] = {
    **{"H": 1.20, "C": 1.70, "N": 1.55, "O": 1.52, "S": 1.80, "SE": 1.90, "P": 1.80},
    **{"F": 1.47, "CL": 1.75, "BR": 1.85, "I": 1.98, "B": 1.92, "SI": 2.10, "AS": 1.85},
    **{"NA": 2.27, "MG": 1.73, "K": 2.75, "CA": 2.31, "ZN": 1.39, "CU": 1.40, "NI": 1.63},
}
UNKNOWN_RADIUS: Final = 1.70
DISULFIDE_DISTANCE: Final = 2.1  # two SG closer than this are bonded


class VanDerWaals(NamedTuple):
    """Thresholds of van der Waals and hydrophobic contacts; the distance limit is exclusive."""

    vdw_epsilon: float = 0.5
    """vdw, hp: margin added to the sum of the radii, Angstrom."""
    vdw_res_diff: int = 2
    """vdw, hp: smallest difference of residue numbers within a chain."""


@njit(nogil=True)
def is_van_der_waals(p: Any, q: Any, distance: float, limits: VanDerWaals) -> bool:
    """Whether two heavy atoms (`kernels.ATOM`) touch and are neither near in sequence nor in a disulfide."""
    near_in_sequence = p.chain == q.chain and abs(p.number - q.number) < limits.vdw_res_diff
    bonded = near_in_sequence or p.disulfide == q.cysteine or q.disulfide == p.cysteine
    return not bonded and distance < p.radius + q.radius + limits.vdw_epsilon


def radii(topology: Topology) -> NDArray[np.float64]:
    """Van der Waals radii (atoms,) in Angstrom; unknown elements have 1.7, with a warning."""
    if unknown := sorted(set(topology.elements) - RADII.keys()):
        problem = f"no van der Waals radius of {', '.join(unknown)}; using {UNKNOWN_RADIUS} A"
        warnings.warn(f"{topology.path}: {problem}", InputWarning, stacklevel=2)
    return np.array([RADII.get(element, UNKNOWN_RADIUS) for element in topology.elements])


def disulfides(topology: Topology, xyz: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`cysteine`, `disulfide` (residues,): residues i and j are bonded if `disulfide[i] == cysteine[j]`, or reversed.

    Bonds are those of GetContacts: in the first frame (atoms, 3) the sulfurs SG near those of a residue number have
    exactly one other number, whatever their chains; all CYS with these two numbers count as bonded. Force fields that
    name bonded cysteines otherwise (CYX) have none.
    """
    numbers = topology.residue_numbers
    is_cysteine = np.array([name == "CYS" for name in topology.residue_names], bool)
    known, index = np.unique(numbers[is_cysteine], return_inverse=True)
    partner = np.full(len(known), -2, np.int64)
    sulfur = np.flatnonzero(np.array(topology.atom_names) == "SG")
    if len(sulfur) > 1:
        number_of = numbers[topology.residue_of_atom[sulfur]].tolist()
        near: dict[int, set[int]] = {number: set() for number in number_of}
        for i, j in cKDTree(xyz[sulfur]).query_pairs(DISULFIDE_DISTANCE):
            if np.linalg.norm(xyz[sulfur[i]] - xyz[sulfur[j]]) < DISULFIDE_DISTANCE:
                near[number_of[i]].add(number_of[j])
                near[number_of[j]].add(number_of[i])
        for k, number in enumerate(known.tolist()):
            others = near.get(number, set()) - {number}
            if len(others) == 1 and np.isin(list(others), known).all():
                partner[k] = np.searchsorted(known, others.pop())
    cysteine, disulfide = np.full(topology.num_residues, -1, np.int64), np.full(topology.num_residues, -2, np.int64)
    cysteine[is_cysteine], disulfide[is_cysteine] = index, partner[index]
    return cysteine, disulfide
