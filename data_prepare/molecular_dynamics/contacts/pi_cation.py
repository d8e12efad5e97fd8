"""Pi-cation contact (pc): a base nitrogen, as in salt bridges, above the plane of a ring."""

from __future__ import annotations

from typing import Final, NamedTuple

from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.geometry import distance, tilt
from data_prepare.properties import PAIR_CHANNELS

PC: Final = 1 << PAIR_CHANNELS["pc"]
SOFT_CUTOFF: Final = 10.0  # Angstrom, from the cation to each ring atom; bounds a raised threshold


class PiCation(NamedTuple):
    """Thresholds of pi-cation contacts."""

    pc_cutoff_dist: float = 6.0
    """pc: cation to ring centroid, Angstrom."""
    pc_cutoff_ang: float = 60.0
    """pc: ring normal to the line from centroid to cation, degrees."""


@njit(nogil=True)
def is_pi_cation(
    xyz: NDArray, ring: NDArray, centroid: NDArray, normal: NDArray, cation: NDArray, limits: PiCation
) -> bool:
    """Whether a cation (3,) lies above a ring of atoms (3,)."""
    if distance(centroid, cation) > limits.pc_cutoff_dist or tilt(normal, centroid, cation) > limits.pc_cutoff_ang:
        return False
    reach = 0.0
    for atom in ring:
        reach = max(reach, distance(xyz[atom], cation))
    return reach <= SOFT_CUTOFF
