"""Stacking of two rings: parallel (ps, pi-stacking) or perpendicular (ts, T-stacking).

Psi is the smaller of the two angles between a normal and the line through the centroids.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.geometry import distance, folded_angle, tilt
from data_prepare.properties import PAIR_CHANNELS

PS: Final = 1 << PAIR_CHANNELS["ps"]
TS: Final = 1 << PAIR_CHANNELS["ts"]
PS_SOFT_CUTOFF: Final = 10.0  # Angstrom, an atom of a ring is so near one of the other; bounds a raised threshold
TS_SOFT_CUTOFF: Final = 6.0


class PiStacking(NamedTuple):
    """Thresholds of parallel rings."""

    ps_cutoff_dist: float = 7.0
    """ps: centroid to centroid, Angstrom."""
    ps_cutoff_ang: float = 30.0
    """ps: normal to normal, degrees."""
    ps_psi_ang: float = 45.0
    """ps: psi, degrees."""


class TStacking(NamedTuple):
    """Thresholds of perpendicular rings."""

    ts_cutoff_dist: float = 5.0
    """ts: centroid to centroid, Angstrom."""
    ts_cutoff_ang: float = 30.0
    """ts: deviation of the normals from a right angle, degrees."""
    ts_psi_ang: float = 45.0
    """ts: psi, degrees."""


@njit(nogil=True)
def closest(xyz: NDArray, ring_1: NDArray, ring_2: NDArray) -> float:
    """Smallest distance between the atoms (3,) of two rings."""
    result = np.inf
    for i in ring_1:
        for j in ring_2:
            result = min(result, distance(xyz[i], xyz[j]))
    return result


@njit(nogil=True)
def pair_geometry(
    centroid_1: NDArray, normal_1: NDArray, centroid_2: NDArray, normal_2: NDArray
) -> tuple[float, float, float]:
    """Distance of the centroids, angle of the normals and psi (both 0 to 90) of two rings."""
    psi = min(tilt(normal_1, centroid_1, centroid_2), tilt(normal_2, centroid_1, centroid_2))
    return distance(centroid_1, centroid_2), folded_angle(normal_1, normal_2), psi


@njit(nogil=True)
def is_pi_stacking(distance: float, normal_angle: float, psi: float, limits: PiStacking) -> bool:
    """Whether two rings (see `pair_geometry`) are stacked in parallel."""
    return distance <= limits.ps_cutoff_dist and normal_angle <= limits.ps_cutoff_ang and psi <= limits.ps_psi_ang


@njit(nogil=True)
def is_t_stacking(distance: float, normal_angle: float, psi: float, limits: TStacking) -> bool:
    """Whether two rings (see `pair_geometry`) are stacked perpendicularly."""
    perpendicular = 90.0 - normal_angle <= limits.ts_cutoff_ang
    return distance <= limits.ts_cutoff_dist and perpendicular and psi <= limits.ts_psi_ang
