"""All contacts of a frame, by one neighbour search for the atom pairs and a look at every ring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.contacts.criteria import PUBLISHED, Criteria
from data_prepare.molecular_dynamics.contacts.geometry import distance, ring_planes
from data_prepare.molecular_dynamics.contacts.hydrogen_bond import donates, hydrogens_of_atoms
from data_prepare.molecular_dynamics.contacts.hydrophobic import hydrophobic_carbons
from data_prepare.molecular_dynamics.contacts.neighbours import neighbour_pairs
from data_prepare.molecular_dynamics.contacts.rings import is_pi_cation, ring_pair, rings
from data_prepare.molecular_dynamics.contacts.salt_bridge import charges, is_salt_bridge
from data_prepare.molecular_dynamics.contacts.tables import (
    ASKED,
    BACKBONE,
    HBSS,
    HP,
    PC,
    PS,
    SB,
    TS,
    TYPES,
    VDW,
)
from data_prepare.molecular_dynamics.contacts.van_der_waals import disulfide_partners, in_contact, radii
from data_prepare.structure import Topology, label_of_residue

HYDROGEN_BONDS: Final = ("hbbb", "hbsb", "hbss")
RING_KINDS: Final = 1 << PC | 1 << PS | 1 << TS
# Numba keeps compiled code on disk and makes it again when this file changes, but not when a file changes whose
# functions are compiled into it: this digest of those files has to be renewed with them (a test tells the new one).
COMPILED_FROM: Final = "eaa557565af00b8c"


class Contacts(NamedTuple):
    """Contacts of one frame: index into `TYPES`, and the two atoms in the order of a contact line."""

    kind: NDArray[np.int8]  # (contacts,)
    atom_1: NDArray[np.int32]  # (contacts,)
    atom_2: NDArray[np.int32]  # (contacts,)


class _Tables(NamedTuple):
    """What the compiled search has to know of the atoms. Arrays of length h are of the heavy protein atoms."""

    heavy: NDArray[np.int64]  # (h,) atom
    radius: NDArray[np.float64]  # (h,) Angstrom
    chain: NDArray[np.int64]  # (h,) code of the chain id
    number: NDArray[np.int64]  # (h,) residue number
    residue: NDArray[np.int64]  # (h,) residue index
    disulfide: NDArray[np.int64]  # (h,) index of the residue at the other end of a disulfide, or -1
    hydrophobic: NDArray[np.bool_]  # (h,)
    charge: NDArray[np.int64]  # (h,) +1, -1, 0
    polar: NDArray[np.bool_]  # (h,) neither carbon nor sulfur
    backbone: NDArray[np.int64]  # (h,) 1 if named N or O
    hydrogen_start: NDArray[np.int64]  # (atoms + 1,)
    hydrogens: NDArray[np.int64]
    cations: NDArray[np.int64]  # atoms
    rings: NDArray[np.int64]  # (rings, 3) atoms
    ring_atom: NDArray[np.int64]  # (rings,) atom that stands for the ring
    rank: NDArray[np.int64]  # (atoms,) place of the atom's label in lexicographic order


class _Limits(NamedTuple):
    """`Criteria` as the compiled search reads them, and its range."""

    sb_cutoff_dist: float
    pc_cutoff_dist: float
    pc_cutoff_ang: float
    ps_cutoff_dist: float
    ps_cutoff_ang: float
    ps_psi_ang: float
    ts_cutoff_dist: float
    ts_cutoff_ang: float
    ts_psi_ang: float
    hbond_cutoff_dist: float
    hbond_cutoff_ang: float
    vdw_epsilon: float
    vdw_res_diff: int
    hbond_res_diff: int
    width: float  # Angstrom: no atom pair farther apart than this is a contact


@njit(nogil=True)
def _atom_pair_kinds(i: int, j: int, xyz: NDArray, tables: _Tables, limits: _Limits, wanted: int) -> int:
    """Interactions of two heavy atoms, as bits 1 << kind."""
    kinds = 0
    a, b = tables.heavy[i], tables.heavy[j]
    separation = distance(xyz[a], xyz[b])
    same_chain = tables.chain[i] == tables.chain[j]
    apart = abs(tables.number[i] - tables.number[j])

    bonded = (same_chain and apart < limits.vdw_res_diff) or tables.disulfide[i] == tables.residue[j]
    if not bonded and in_contact(separation, tables.radius[i], tables.radius[j], limits.vdw_epsilon):
        kinds |= 1 << VDW
        if tables.hydrophobic[i] and tables.hydrophobic[j]:
            kinds |= 1 << HP

    if is_salt_bridge(separation, tables.charge[i], tables.charge[j], limits.sb_cutoff_dist):
        kinds |= 1 << SB

    polar = tables.polar[i] and tables.polar[j] and not (same_chain and apart < limits.hbond_res_diff)
    kind = 1 << (HBSS - tables.backbone[i] - tables.backbone[j])
    if polar and wanted & kind and separation <= limits.hbond_cutoff_dist:
        start, hydrogens = tables.hydrogen_start, tables.hydrogens
        if donates(a, b, start, hydrogens, xyz, limits.hbond_cutoff_ang) or donates(
            b, a, start, hydrogens, xyz, limits.hbond_cutoff_ang
        ):
            kinds |= kind
    return kinds & wanted


@njit(nogil=True)
def _ring_pair_kinds(r: int, s: int, centroids: NDArray, normals: NDArray, limits: _Limits, wanted: int) -> int:
    """Interactions of two rings, as bits 1 << kind."""
    kinds = 0
    separation, normal_angle, psi = ring_pair(centroids[r], normals[r], centroids[s], normals[s])
    if separation <= limits.ps_cutoff_dist and normal_angle <= limits.ps_cutoff_ang and psi <= limits.ps_psi_ang:
        kinds |= 1 << PS
    if separation <= limits.ts_cutoff_dist and 90.0 - normal_angle <= limits.ts_cutoff_ang and psi <= limits.ts_psi_ang:
        kinds |= 1 << TS
    return kinds & wanted


@njit(nogil=True)
def _put(found: NDArray, count: int, kinds: int, i: int, j: int, rank: NDArray) -> int:
    """Add the contacts of a pair and return their number so far, which may be more than `found` holds."""
    for kind in range(9):
        if kinds & (1 << kind):
            if count < len(found):
                found[count, 0] = kind
                found[count, 1] = i if rank[i] <= rank[j] else j
                found[count, 2] = j if rank[i] <= rank[j] else i
            count += 1
    return count


@njit(cache=True, nogil=True)
def _find(frame: NDArray, tables: _Tables, limits: _Limits, wanted: int, found: NDArray) -> int:
    """Write the contacts of a frame (atoms, 3) to found (room, 3: kind, atom 1, atom 2) and return their number.

    Where the number is more than the room, the caller comes again with more.
    """
    xyz = np.empty(frame.shape, np.float64)
    for a in range(len(frame)):
        for k in range(3):
            xyz[a, k] = frame[a, k]
    heavy_xyz = np.empty((len(tables.heavy), 3))
    for i in range(len(tables.heavy)):
        for k in range(3):
            heavy_xyz[i, k] = xyz[tables.heavy[i], k]
    count = 0

    pairs, num_pairs = neighbour_pairs(heavy_xyz, limits.width)
    for p in range(num_pairs):
        i, j = pairs[p, 0], pairs[p, 1]
        kinds = _atom_pair_kinds(i, j, xyz, tables, limits, wanted)
        if kinds:
            count = _put(found, count, kinds, tables.heavy[i], tables.heavy[j], tables.rank)

    if wanted & RING_KINDS:
        centroids, normals = ring_planes(xyz, tables.rings)
        for r in range(len(centroids)):
            for a in tables.cations:
                if is_pi_cation(centroids[r], normals[r], xyz[a], limits.pc_cutoff_dist, limits.pc_cutoff_ang):
                    count = _put(found, count, wanted & (1 << PC), a, tables.ring_atom[r], tables.rank)
            for s in range(r + 1, len(centroids)):
                kinds = _ring_pair_kinds(r, s, centroids, normals, limits, wanted)
                if kinds:
                    count = _put(found, count, kinds, tables.ring_atom[r], tables.ring_atom[s], tables.rank)
    return count


@njit(cache=True, nogil=True)
def _count(frames: NDArray, tables: _Tables, limits: _Limits, wanted: int, rows: NDArray, counts: NDArray) -> None:
    """Add the contacts of frames (frames, atoms, 3) to counts (N, N, 9); rows: atom -> row of the counts."""
    found = np.empty((8 * len(tables.heavy), 3), np.int32)
    for f in range(len(frames)):
        number = _find(frames[f], tables, limits, wanted, found)
        if number > len(found):
            found = np.empty((2 * number, 3), np.int32)
            number = _find(frames[f], tables, limits, wanted, found)
        for c in range(number):
            counts[rows[found[c, 1]], rows[found[c, 2]], found[c, 0]] += 1


def types_asked(itypes: Iterable[str]) -> tuple[str, ...]:
    """Check interaction types: `all` or some of hp sb pc ps ts vdw hb hbbb hbsb hbss.

    Returns
    -------
    The types as asked, without repetition; `all` becomes hp sb pc ps ts vdw hb.
    """
    asked = tuple(dict.fromkeys(itypes))
    if "all" in asked:
        return ASKED
    if unknown := [name for name in asked if name not in (*ASKED, *HYDROGEN_BONDS)]:
        raise InputError(f"unknown interaction type {', '.join(unknown)}; known are all, {', '.join(ASKED)}")
    if not asked:
        raise InputError(f"no interaction type asked for; known are all, {', '.join(ASKED)}")
    return asked


class ContactSearch:
    """Finds the contacts of the protein residues of a system, frame by frame.

    What depends on the first frame (hydrogens' owners, disulfides, hydrophobic carbons) is decided once, here.

    Parameters
    ----------
    topology
        All atoms of the system.
    first_frame
        (atoms, 3) Angstrom: the first frame of the trajectory.
    itypes
        Interaction types, see `types_asked`.
    criteria
        Thresholds.

    Raises
    ------
    InputError
        If hydrogen bonds are asked for and the protein has no hydrogens, or there is no protein residue.
    """

    def __init__(
        self,
        topology: Topology,
        first_frame: NDArray,
        itypes: Sequence[str] = ("all",),
        criteria: Criteria = PUBLISHED,
    ) -> None:
        if not topology.is_protein.any():
            raise InputError(f"{topology.path}: no residue with atoms N, CA and C; contacts need an all-atom protein")
        asked = types_asked(itypes)
        self.topology = topology
        kinds = {kind for name in asked for kind in (HYDROGEN_BONDS if name == "hb" else (name,))}
        self._wanted = sum(1 << bit for bit, name in enumerate(TYPES) if name in kinds)
        xyz = np.asarray(first_frame, np.float64)

        elements = np.array(topology.elements)
        in_protein = topology.is_protein[topology.residue_of_atom]
        heavy = np.flatnonzero(in_protein & (elements != "H"))
        residue = topology.residue_of_atom[heavy].astype(np.int64)
        _, chain_code = np.unique(topology.chain_ids, return_inverse=True)
        names = np.array(topology.atom_names)
        if kinds.intersection(HYDROGEN_BONDS):
            hydrogen_start, hydrogens = hydrogens_of_atoms(topology, xyz)
        else:
            hydrogen_start, hydrogens = np.zeros(topology.num_atoms + 1, np.int64), np.empty(0, np.int64)
        charge = charges(topology)
        ring_atoms, ring_atom = rings(topology)
        radius = radii(topology.subset(heavy))
        _, rank = np.unique(atom_labels(topology), return_inverse=True)
        self._tables = _Tables(
            heavy=heavy.astype(np.int64),
            radius=radius,
            chain=chain_code[topology.chain_of_residue[residue]].astype(np.int64),
            number=topology.residue_numbers[residue].astype(np.int64),
            residue=residue,
            disulfide=disulfide_partners(topology, xyz)[residue].astype(np.int64),
            hydrophobic=hydrophobic_carbons(topology, xyz)[heavy],
            charge=charge[heavy].astype(np.int64),
            polar=~np.isin(elements[heavy], ("C", "S")),
            backbone=np.isin(names[heavy], list(BACKBONE)).astype(np.int64),
            hydrogen_start=hydrogen_start.astype(np.int64),
            hydrogens=hydrogens.astype(np.int64),
            cations=np.flatnonzero(charge == 1).astype(np.int64),
            rings=ring_atoms,
            ring_atom=ring_atom,
            rank=rank.astype(np.int64),
        )
        reach = 2 * radius.max() + criteria.vdw_epsilon
        width = max(reach, criteria.sb_cutoff_dist, criteria.hbond_cutoff_dist) + 1e-6
        self._limits = _Limits(**asdict(criteria), width=width)

    def contacts(self, frame: NDArray) -> Contacts:
        """Contacts of one frame (atoms, 3) in Angstrom, float32 or float64."""
        frame = np.ascontiguousarray(frame)
        room = 8 * len(self._tables.heavy)
        while True:
            found = np.empty((room, 3), np.int32)
            number = _find(frame, self._tables, self._limits, self._wanted, found)
            if number <= room:
                return Contacts(found[:number, 0].astype(np.int8), found[:number, 1], found[:number, 2])
            room = number

    def count(self, frames: NDArray, rows: NDArray, counts: NDArray) -> None:
        """Add the contacts of some frames to a table of residue pairs, without making them one by one.

        Parameters
        ----------
        frames
            (frames, atoms, 3) Angstrom.
        rows
            (atoms,) row of each atom's residue in the table.
        counts
            (N, N, 9) integers, changed in place: row of atom 1, row of atom 2, type as in `TYPES`.
        """
        _count(np.ascontiguousarray(frames), self._tables, self._limits, self._wanted, rows, counts)


def atom_labels(topology: Topology) -> list[str]:
    """`chain:resname:resid[icode]:name` of each atom; an empty chain id is `X`."""
    residues = label_of_residue(topology)
    return [
        f"{residues[residue]}:{name}"
        for residue, name in zip(topology.residue_of_atom, topology.atom_names, strict=True)
    ]


def iter_contacts(
    topology: Topology,
    frames: Iterable[NDArray],
    itypes: Sequence[str] = ("all",),
    criteria: Criteria = PUBLISHED,
    first_frame: NDArray | None = None,
) -> Iterator[Contacts]:
    """Contacts of each frame.

    Parameters
    ----------
    topology
        All atoms of the system.
    frames
        Frames (atoms, 3) in Angstrom.
    itypes, criteria
        See `ContactSearch`.
    first_frame
        First frame of the trajectory, if `frames` does not begin with it.
    """
    search = None
    for frame in frames:
        if search is None:
            search = ContactSearch(topology, frame if first_frame is None else first_frame, itypes, criteria)
        yield search.contacts(frame)
