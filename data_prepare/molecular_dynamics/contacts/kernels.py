"""The criteria of the interactions, compiled: which atoms and rings of a frame are in contact.

Everything compiled stands in this one file: Numba keeps compiled code on disk and makes it again when the file of the
function that is called changes, but does not look at the other files whose functions it has compiled into it.
"""

from __future__ import annotations

from math import acos, degrees, sqrt
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.frames.cell_list import Neighbours

VDW, HBBB, HBSB, HBSS, HP, SB, PC, PS, TS = range(9)  # in the order of `tables.TYPES`
Index = int | np.int64
RING_KINDS: Final = 1 << PC | 1 << PS | 1 << TS


@njit(nogil=True)
def distance(a: NDArray, b: NDArray) -> float:
    """Distance of two points (3,)."""
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return sqrt(x * x + y * y + z * z)


@njit(nogil=True)
def angle(ux: float, uy: float, uz: float, vx: float, vy: float, vz: float) -> float:
    """Angle of two vectors in degrees, 0 to 180; 90 if one of them has no length."""
    norm = sqrt((ux * ux + uy * uy + uz * uz) * (vx * vx + vy * vy + vz * vz))
    if norm == 0.0:
        return 90.0
    return degrees(acos(min(1.0, max(-1.0, (ux * vx + uy * vy + uz * vz) / norm))))


@njit(nogil=True)
def bend(a: NDArray, b: NDArray, c: NDArray) -> float:
    """Angle of a->b to b->c in degrees: 0 where the three points lie on a line in this order."""
    return angle(b[0] - a[0], b[1] - a[1], b[2] - a[2], c[0] - b[0], c[1] - b[1], c[2] - b[2])


@njit(nogil=True)
def folded_angle(u: NDArray, v: NDArray) -> float:
    """Angle of two undirected lines (3,) in degrees, 0 to 90."""
    full = angle(u[0], u[1], u[2], v[0], v[1], v[2])
    return min(full, 180.0 - full)


@njit(nogil=True)
def tilt(normal: NDArray, start: NDArray, end: NDArray) -> float:
    """Angle of a normal to the line from start to end in degrees, 0 to 90."""
    full = angle(normal[0], normal[1], normal[2], end[0] - start[0], end[1] - start[1], end[2] - start[2])
    return min(full, 180.0 - full)


@njit(nogil=True)
def ring_planes(xyz: NDArray, rings: NDArray) -> tuple[NDArray, NDArray]:
    """Centroids and (unnormalised) normals, (rings, 3) each, of rings given by three atoms (rings, 3)."""
    centroids = np.empty((len(rings), 3))
    normals = np.empty((len(rings), 3))
    for r in range(len(rings)):
        a, b, c = xyz[rings[r, 0]], xyz[rings[r, 1]], xyz[rings[r, 2]]
        for k in range(3):
            centroids[r, k] = (a[k] + b[k] + c[k]) / 3.0
            p, q = (k + 1) % 3, (k + 2) % 3
            normals[r, k] = (b[p] - a[p]) * (c[q] - a[q]) - (b[q] - a[q]) * (c[p] - a[p])
    return centroids, normals


@njit(nogil=True)
def in_contact(distance: float, radius_1: float, radius_2: float, epsilon: float) -> bool:
    """Whether two atoms touch; all in Angstrom."""
    return distance < radius_1 + radius_2 + epsilon


@njit(nogil=True)
def is_salt_bridge(distance: float, charge_1: int, charge_2: int, cutoff: float) -> bool:
    """Whether two atoms of opposite charge are within the cutoff (Angstrom)."""
    return charge_1 * charge_2 == -1 and distance <= cutoff


@njit(nogil=True)
def donates(donor: Index, acceptor: Index, start: NDArray, hydrogens: NDArray, xyz: NDArray, cutoff: float) -> bool:
    """Whether a hydrogen of the donor has an angle of donor->H to H->acceptor below the cutoff (degrees).

    `start` and `hydrogens` are those of `hydrogens_of_atoms`, donor and acceptor are atoms.
    """
    for h in range(start[donor], start[donor + 1]):
        if bend(xyz[donor], xyz[hydrogens[h]], xyz[acceptor]) < cutoff:
            return True
    return False


@njit(nogil=True)
def is_pi_cation(centroid: NDArray, normal: NDArray, cation: NDArray, cutoff: float, max_angle: float) -> bool:
    """Whether a cation lies above a ring: distances in Angstrom, angles in degrees."""
    return distance(centroid, cation) <= cutoff and tilt(normal, centroid, cation) <= max_angle


@njit(nogil=True)
def ring_pair(
    centroid_1: NDArray, normal_1: NDArray, centroid_2: NDArray, normal_2: NDArray
) -> tuple[float, float, float]:
    """Distance of the centroids (Angstrom), angle of the normals and psi (degrees, 0 to 90) of two rings.

    psi is the smaller of the two angles between a normal and the line of the centroids.
    """
    psi = min(tilt(normal_1, centroid_1, centroid_2), tilt(normal_2, centroid_1, centroid_2))
    return distance(centroid_1, centroid_2), folded_angle(normal_1, normal_2), psi


# what the search has to know of a heavy atom; records, because each array that a compiled loop takes up costs time
ATOM: Final = np.dtype(
    [
        ("radius", np.float64),  # Angstrom
        ("chain", np.int64),  # code of the chain id
        ("number", np.int64),  # residue number
        ("residue", np.int64),  # residue index
        ("disulfide", np.int64),  # index of the residue at the other end of a disulfide, or -1
        ("charge", np.int64),  # +1, -1, 0
        ("backbone", np.int64),  # 1 if named N or O
        ("hydrophobic", np.bool_),
        ("polar", np.bool_),  # neither carbon nor sulfur
    ],
    align=True,
)


class Tables(NamedTuple):
    """What the search has to know of the atoms: protein atoms only, the h heavy ones first."""

    heavy: NDArray[np.void]  # (h,) of ATOM
    hydrogen_start: NDArray[np.int64]  # (h + 1,)
    hydrogens: NDArray[np.int64]  # atoms
    cations: NDArray[np.int64]  # atoms
    rings: NDArray[np.int64]  # (rings, 3) atoms
    ring_atom: NDArray[np.int64]  # (rings,) atom that stands for the ring
    rank: NDArray[np.int64]  # (atoms,) place of the atom's label in lexicographic order


class Limits(NamedTuple):
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
def _atom_pair_kinds(
    a: Index, b: Index, separation: float, xyz: NDArray, tables: Tables, limits: Limits, wanted: int
) -> int:
    """Interactions of two heavy atoms at a distance, as bits 1 << kind."""
    kinds = 0
    p, q = tables.heavy[a], tables.heavy[b]
    same_chain = p.chain == q.chain
    apart = abs(p.number - q.number)

    bonded = (same_chain and apart < limits.vdw_res_diff) or p.disulfide == q.residue
    if not bonded and in_contact(separation, p.radius, q.radius, limits.vdw_epsilon):
        kinds |= 1 << VDW
        if p.hydrophobic and q.hydrophobic:
            kinds |= 1 << HP

    if is_salt_bridge(separation, p.charge, q.charge, limits.sb_cutoff_dist):
        kinds |= 1 << SB

    polar = p.polar and q.polar and not (same_chain and apart < limits.hbond_res_diff)
    kind = 1 << (HBSS - p.backbone - q.backbone)
    if polar and wanted & kind and separation <= limits.hbond_cutoff_dist:
        start, hydrogens = tables.hydrogen_start, tables.hydrogens
        if donates(a, b, start, hydrogens, xyz, limits.hbond_cutoff_ang) or donates(
            b, a, start, hydrogens, xyz, limits.hbond_cutoff_ang
        ):
            kinds |= kind
    return kinds & wanted


@njit(nogil=True)
def _ring_pair_kinds(r: int, s: int, centroids: NDArray, normals: NDArray, limits: Limits, wanted: int) -> int:
    """Interactions of two rings, as bits 1 << kind."""
    kinds = 0
    separation, normal_angle, psi = ring_pair(centroids[r], normals[r], centroids[s], normals[s])
    if separation <= limits.ps_cutoff_dist and normal_angle <= limits.ps_cutoff_ang and psi <= limits.ps_psi_ang:
        kinds |= 1 << PS
    if separation <= limits.ts_cutoff_dist and 90.0 - normal_angle <= limits.ts_cutoff_ang and psi <= limits.ts_psi_ang:
        kinds |= 1 << TS
    return kinds & wanted


@njit(nogil=True)
def _put(found: NDArray, count: int, kinds: int, a: Index, b: Index, rank: NDArray) -> int:
    """Add the contacts of a pair and return their number so far, which may be more than `found` holds."""
    for kind in range(9):
        if kinds & (1 << kind):
            if count < len(found):
                found[count, 0] = kind
                found[count, 1] = a if rank[a] <= rank[b] else b
                found[count, 2] = b if rank[a] <= rank[b] else a
            count += 1
    return count


@njit(cache=True, nogil=True)
def find_contacts(
    xyz: NDArray, neighbours: Neighbours, tables: Tables, limits: Limits, wanted: int, found: NDArray
) -> int:
    """Contacts of a frame.

    Parameters
    ----------
    xyz
        (atoms, 3) float64, Angstrom, the atoms of `tables`.
    neighbours
        Of all atoms, or of the heavy ones alone, as far as `limits.width` and beyond.
    wanted
        Interactions looked for, as bits 1 << kind.
    found
        (room, 3) int32, written: kind, atom 1, atom 2.

    Returns
    -------
    Their number. Where that is more than the room, the caller comes again with more.
    """
    count = 0
    heavy = len(tables.heavy)
    limit = limits.width * limits.width
    near = np.empty(heavy + 1, np.uint32)
    for a in range(heavy):
        # each pair once; counted instead of branched on, as in the search
        filled = np.uint64(0)
        for b in neighbours.points[neighbours.start[a] : neighbours.stop[a]]:
            x, y, z = xyz[a, 0] - xyz[b, 0], xyz[a, 1] - xyz[b, 1], xyz[a, 2] - xyz[b, 2]
            near[filled] = b
            filled += np.uint64((b > a) & (b < heavy) & (x * x + y * y + z * z <= limit))
        for n in range(filled):
            b = np.int64(near[n])
            x, y, z = xyz[a, 0] - xyz[b, 0], xyz[a, 1] - xyz[b, 1], xyz[a, 2] - xyz[b, 2]
            kinds = _atom_pair_kinds(a, b, sqrt(x * x + y * y + z * z), xyz, tables, limits, wanted)
            if kinds:
                count = _put(found, count, kinds, a, b, tables.rank)

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
