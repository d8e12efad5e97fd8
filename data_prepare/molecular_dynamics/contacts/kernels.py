"""The compiled search: which atoms and rings of a frame are in contact, by the rules of the interactions.

Numba caches compiled code on disk and checks only the file of the called function, not those of the functions inlined
into it. So a factory makes the search; its closure, a part of Numba's key, holds a digest of all files of this folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.heavy_hydrogen_bond import bonds_by_heavy_atoms
from data_prepare.molecular_dynamics.contacts.hydrogen_bond import HydrogenBond, bond_type, donates, may_bond
from data_prepare.molecular_dynamics.contacts.hydrophobic import HP, is_hydrophobic
from data_prepare.molecular_dynamics.contacts.pi_cation import PC, PiCation, is_pi_cation
from data_prepare.molecular_dynamics.contacts.rings import planes
from data_prepare.molecular_dynamics.contacts.salt_bridge import SB, SaltBridge, is_salt_bridge
from data_prepare.molecular_dynamics.contacts.stacking import (
    PS,
    PS_SOFT_CUTOFF,
    TS,
    TS_SOFT_CUTOFF,
    PiStacking,
    TStacking,
    closest,
    is_pi_stacking,
    is_t_stacking,
    pair_geometry,
)
from data_prepare.molecular_dynamics.contacts.van_der_waals import VDW, VanDerWaals, is_van_der_waals
from data_prepare.molecular_dynamics.frames.cell_list import Neighbours
from data_prepare.properties import INTERACTIONS

NUM_INTERACTIONS: Final = len(INTERACTIONS)
Index = int | np.int64

# a heavy atom as the rules need it; records, because each further array slows the compiled loop down
ATOM: Final = np.dtype(
    [
        ("radius", np.float64),  # Angstrom
        ("chain", np.int64),  # see `Chains`
        ("number", np.int64),  # residue number
        ("cysteine", np.int64),  # see `disulfides`
        ("disulfide", np.int64),
        ("charge", np.int64),  # +1, -1, 0
        ("backbone", np.int64),  # 1 if in the backbone
        ("hydrophobic", np.bool_),
        ("polar", np.bool_),  # neither carbon nor sulfur
        ("role", np.int64),  # see `heavy_hydrogen_bond.roles`
    ],
    align=True,
)


class SearchAtoms(NamedTuple):
    """The protein atoms, with the h heavy ones first; atoms are indices among them."""

    heavy: NDArray[np.void]  # (h,) of ATOM
    hydrogen_start: NDArray[np.int64]  # (h + 1,)
    hydrogens: NDArray[np.int64]  # atoms; for bonds of heavy atoms, the heavy atoms bonded to each
    cations: NDArray[np.int64]  # atoms
    rings: NDArray[np.int64]  # (rings, 3) atoms
    ring_atom: NDArray[np.int64]  # (rings,) atom that stands for the ring
    rank: NDArray[np.int64]  # (atoms,) lexicographic rank of the atom's label


class Chains(NamedTuple):
    """What one chain is where residues near in sequence are skipped."""

    chains_by_letter: bool = False
    """Take chains with the same letter for one, as GetContacts does; by default the topology tells them apart."""


class Criteria(NamedTuple):
    """Thresholds of all interactions: lengths in Angstrom, angles in degrees."""

    van_der_waals: VanDerWaals = VanDerWaals()
    hydrogen_bond: HydrogenBond = HydrogenBond()
    salt_bridge: SaltBridge = SaltBridge()
    pi_cation: PiCation = PiCation()
    pi_stacking: PiStacking = PiStacking()
    t_stacking: TStacking = TStacking()
    chains: Chains = Chains()


@njit(nogil=True)
def _interactions_of_atoms(
    a: Index, b: Index, distance: float, xyz: NDArray, atoms: SearchAtoms, criteria: Criteria, wanted: int
) -> int:
    """Interactions of two heavy atoms, as bits."""
    found = 0
    p, q = atoms.heavy[a], atoms.heavy[b]
    if is_van_der_waals(p, q, distance, criteria.van_der_waals):
        found |= VDW
        if is_hydrophobic(p, q):
            found |= HP
    if is_salt_bridge(p, q, distance, criteria.salt_bridge):
        found |= SB
    limits = criteria.hydrogen_bond
    bond = bond_type(p, q)
    if wanted & bond and may_bond(p, q, distance, limits):
        start, hydrogens = atoms.hydrogen_start, atoms.hydrogens
        if limits.hbond_of_heavy_atoms:
            if bonds_by_heavy_atoms(a, b, p, q, start, hydrogens, xyz):
                found |= bond
        elif donates(a, b, start, hydrogens, xyz, limits) or donates(b, a, start, hydrogens, xyz, limits):
            found |= bond
    return found & wanted


@njit(nogil=True)
def _interactions_of_rings(
    r: int, s: int, centroids: NDArray, normals: NDArray, xyz: NDArray, rings: NDArray, criteria: Criteria
) -> int:
    """Interactions of two rings, as bits."""
    found = 0
    distance, normal_angle, psi = pair_geometry(centroids[r], normals[r], centroids[s], normals[s])
    if is_pi_stacking(distance, normal_angle, psi, criteria.pi_stacking):
        found |= PS if closest(xyz, rings[r], rings[s]) <= PS_SOFT_CUTOFF else 0
    if is_t_stacking(distance, normal_angle, psi, criteria.t_stacking):
        found |= TS if closest(xyz, rings[r], rings[s]) <= TS_SOFT_CUTOFF else 0
    return found


@njit(nogil=True)
def _put(found: NDArray, count: int, interactions: int, a: Index, b: Index, rank: NDArray) -> int:
    """Add the contacts of a pair; returns the number of contacts so far, which may exceed the room in `found`."""
    for channel in range(NUM_INTERACTIONS):
        if interactions & (1 << channel):
            if count < len(found):
                found[count, 0] = channel
                found[count, 1] = a if rank[a] <= rank[b] else b
                found[count, 2] = b if rank[a] <= rank[b] else a
            count += 1
    return count


def _compiled_search(digest: int) -> Callable[..., int]:
    """The search, compiled for the rules with this digest."""

    @njit(cache=True, nogil=True)  # fmt: skip
    def find_contacts(
        xyz: NDArray,
        neighbours: Neighbours,
        atoms: SearchAtoms,
        criteria: Criteria,
        cutoff: float,
        wanted: int,
        found: NDArray,
    ) -> int:
        """Write the contacts of a frame (atoms, 3) to `found` (room, 3): channel, atom 1, atom 2; returns their number.

        If it exceeds the room, call again with more. No atoms beyond `cutoff` (Angstrom), which `neighbours` cover, are
        in contact. `wanted` has a bit 1 << channel for each interaction to find.
        """
        assert digest  # puts it into the closure
        count = 0
        heavy = len(atoms.heavy)
        near = np.empty(heavy + 1, np.uint32)
        for a in range(heavy):
            # each pair once; counting avoids an unpredictable branch
            filled = np.uint64(0)
            for b in neighbours.points[neighbours.start[a] : neighbours.stop[a]]:
                x, y, z = xyz[a, 0] - xyz[b, 0], xyz[a, 1] - xyz[b, 1], xyz[a, 2] - xyz[b, 2]
                near[filled] = b
                filled += np.uint64((b > a) & (b < heavy) & (x * x + y * y + z * z <= cutoff * cutoff))
            for n in range(filled):
                b = np.int64(near[n])
                x, y, z = xyz[a, 0] - xyz[b, 0], xyz[a, 1] - xyz[b, 1], xyz[a, 2] - xyz[b, 2]
                distance = sqrt(x * x + y * y + z * z)
                interactions = _interactions_of_atoms(a, b, distance, xyz, atoms, criteria, wanted)
                if interactions:
                    count = _put(found, count, interactions, a, b, atoms.rank)

        if wanted & (PC | PS | TS):
            centroids, normals = planes(xyz, atoms.rings)
            for r in range(len(centroids)):
                for a in atoms.cations:
                    if is_pi_cation(xyz, atoms.rings[r], centroids[r], normals[r], xyz[a], criteria.pi_cation):
                        count = _put(found, count, wanted & PC, a, atoms.ring_atom[r], atoms.rank)
                for s in range(r + 1, len(centroids)):
                    interactions = _interactions_of_rings(r, s, centroids, normals, xyz, atoms.rings, criteria) & wanted
                    if interactions:
                        count = _put(found, count, interactions, atoms.ring_atom[r], atoms.ring_atom[s], atoms.rank)
        return count

    return find_contacts


def _digest_of_rules() -> int:
    """Digest of the files in this folder and of the channel order."""
    digest = hashlib.sha256(repr(INTERACTIONS).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big") | 1  # not 0


find_contacts: Final = _compiled_search(_digest_of_rules())
