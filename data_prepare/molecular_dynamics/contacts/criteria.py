"""Thresholds of the interactions, named as the options of the command."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Final

from data_prepare.errors import InputError


@dataclass(frozen=True)
class Criteria:
    """Distances in Angstrom, angles in degrees, residue differences as numbers of residues.

    A van der Waals or hydrophobic contact is closer than the sum of the radii plus `vdw_epsilon`; every other distance
    and every angle may equal its threshold, except the angle of a hydrogen bond.
    """

    sb_cutoff_dist: float = 4.0  # salt bridge: acid oxygen to base nitrogen
    pc_cutoff_dist: float = 6.0  # pi-cation: cation to ring centroid
    pc_cutoff_ang: float = 60.0  # pi-cation: ring normal to centroid->cation
    ps_cutoff_dist: float = 7.0  # pi-stacking: centroid to centroid
    ps_cutoff_ang: float = 30.0  # pi-stacking: normal to normal
    ps_psi_ang: float = 45.0  # pi-stacking: normal to line of centroids, the smaller of the two
    ts_cutoff_dist: float = 5.0  # T-stacking, likewise
    ts_cutoff_ang: float = 30.0  # T-stacking: deviation of the normals from 90 degrees
    ts_psi_ang: float = 45.0
    hbond_cutoff_dist: float = 3.5  # hydrogen bond: donor to acceptor
    hbond_cutoff_ang: float = 70.0  # hydrogen bond: donor->H to H->acceptor
    vdw_epsilon: float = 0.5  # van der Waals and hydrophobic: what is added to the radii
    vdw_res_diff: int = 2  # van der Waals and hydrophobic: smallest difference of residue numbers within a chain
    hbond_res_diff: int = 1  # hydrogen bond, likewise

    def __post_init__(self) -> None:
        """Refuse thresholds that no distance or angle can be compared with."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isfinite(value) and value >= 0):
                raise InputError(f"--{field.name} {value}: expected a number >= 0")


PUBLISHED: Final = Criteria()
