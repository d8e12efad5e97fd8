"""Salt bridge (sb): an acid oxygen near a base nitrogen."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.rings import HISTIDINES
from data_prepare.properties import PAIR_CHANNELS
from data_prepare.structure.topology import Topology

SB: Final = 1 << PAIR_CHANNELS["sb"]
CHARGES: Final[dict[tuple[str, str], int]] = (
    dict.fromkeys((("ASP", "OD1"), ("ASP", "OD2"), ("GLU", "OE1"), ("GLU", "OE2")), -1)
    | dict.fromkeys((("LYS", "NZ"), ("ARG", "NH1"), ("ARG", "NH2")), 1)
    | {(residue, atom): 1 for residue in HISTIDINES for atom in ("ND1", "NE2")}
)
CHARGED: Final = frozenset(residue for residue, _ in CHARGES)


class SaltBridge(NamedTuple):
    """Thresholds."""

    sb_cutoff_dist: float = 4.0
    """sb: acid oxygen to base nitrogen, Angstrom."""


@njit(nogil=True)
def is_salt_bridge(p: Any, q: Any, distance: float, limits: SaltBridge) -> bool:
    """Whether two atoms (`kernels.ATOM`) of opposite charge are near each other."""
    return p.charge * q.charge == -1 and distance <= limits.sb_cutoff_dist


def charges(topology: Topology) -> NDArray[np.int64]:
    """Charges (atoms,): -1 for acid oxygens, +1 for base nitrogens (also the cations of pi-cation contacts)."""
    result = np.zeros(topology.num_atoms, np.int64)
    for name, atoms in zip(topology.residue_names, topology.atoms_by_name, strict=True):
        for atom, index in atoms.items() if name in CHARGED else ():
            result[index] = CHARGES.get((name, atom), 0)
    return result
