"""All contacts of a frame: who can take part is decided once, the compiled loops then go over the frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.contacts.criteria import PUBLISHED, Criteria
from data_prepare.molecular_dynamics.contacts.hydrogen_bond import hydrogens_of_atoms
from data_prepare.molecular_dynamics.contacts.hydrophobic import hydrophobic_carbons
from data_prepare.molecular_dynamics.contacts.kernels import ATOM, Limits, Tables, find_contacts
from data_prepare.molecular_dynamics.contacts.rings import rings
from data_prepare.molecular_dynamics.contacts.salt_bridge import charges
from data_prepare.molecular_dynamics.contacts.tables import ASKED, BACKBONE, TYPES
from data_prepare.molecular_dynamics.contacts.van_der_waals import disulfide_partners, radii
from data_prepare.molecular_dynamics.frames.cell_list import Neighbours, neighbour_lists
from data_prepare.structure.topology import Topology, label_of_residue

HYDROGEN_BONDS: Final = ("hbbb", "hbsb", "hbss")


class Contacts(NamedTuple):
    """Contacts of one frame: index into `TYPES`, and the two atoms in the order of a contact line."""

    kind: NDArray[np.int8]  # (contacts,)
    atom_1: NDArray[np.int32]  # (contacts,)
    atom_2: NDArray[np.int32]  # (contacts,)


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
        self.atoms = protein_atoms(topology)
        self.num_heavy = int((elements[self.atoms] != "H").sum())
        heavy = self.atoms[: self.num_heavy]
        place = np.full(topology.num_atoms, -1, np.int64)  # of each atom of the system among those of the protein
        place[self.atoms] = np.arange(len(self.atoms))
        residue = topology.residue_of_atom[heavy]
        _, chain_code = np.unique(topology.chain_ids, return_inverse=True)
        names = np.array(topology.atom_names)
        if kinds.intersection(HYDROGEN_BONDS):
            owner_start, hydrogens = hydrogens_of_atoms(topology, xyz)
            hydrogen_start = np.append(owner_start[heavy], len(hydrogens))
        else:
            hydrogen_start, hydrogens = np.zeros(self.num_heavy + 1, np.int64), np.empty(0, np.int64)
        charge = charges(topology)
        ring_atoms, ring_atom = rings(topology)
        radius = radii(topology.subset(heavy))
        _, rank = np.unique(atom_labels(topology), return_inverse=True)
        records = np.empty(self.num_heavy, ATOM)
        records["radius"] = radius
        records["chain"] = chain_code[topology.chain_of_residue[residue]]
        records["number"] = topology.residue_numbers[residue]
        records["residue"] = residue
        records["disulfide"] = disulfide_partners(topology, xyz)[residue]
        records["charge"] = charge[heavy]
        records["backbone"] = np.isin(names[heavy], list(BACKBONE))
        records["hydrophobic"] = hydrophobic_carbons(topology, xyz)[heavy]
        records["polar"] = ~np.isin(elements[heavy], ("C", "S"))
        self._tables = Tables(
            heavy=records,
            hydrogen_start=hydrogen_start.astype(np.int64),
            hydrogens=place[hydrogens],
            cations=place[np.flatnonzero(charge == 1)],
            rings=place[ring_atoms],
            ring_atom=place[ring_atom],
            rank=rank[self.atoms].astype(np.int64),
        )
        width = max(2 * radius.max() + criteria.vdw_epsilon, criteria.sb_cutoff_dist, criteria.hbond_cutoff_dist) + 1e-6
        self._limits = Limits(**asdict(criteria), width=width)
        self.reach = np.full(self.num_heavy, width / 2)
        self._room = 8 * self.num_heavy  # contacts that a frame may have at first

    def contacts_among(self, xyz: NDArray[np.float64], neighbours: Neighbours) -> Contacts:
        """Contacts of one frame of which a neighbour search has been made.

        Parameters
        ----------
        xyz
            (n, 3) Angstrom, the atoms `self.atoms`.
        neighbours
            Of these atoms, or of the heavy ones alone: each with a reach of at least `self.reach`.

        Returns
        -------
        Contacts with atoms as places in `self.atoms`.
        """
        room = self._room
        while True:
            found = np.empty((room, 3), np.int32)  # one a call: threads search frames at the same time
            number = find_contacts(xyz, neighbours, self._tables, self._limits, self._wanted, found)
            if number <= room:
                return Contacts(found[:number, 0].astype(np.int8), found[:number, 1], found[:number, 2])
            self._room = room = 2 * number

    def contacts(self, frame: NDArray) -> Contacts:
        """Contacts of one frame (atoms, 3) of the system in Angstrom."""
        xyz = frame[self.atoms].astype(np.float64)
        kind, atom_1, atom_2 = self.contacts_among(xyz, neighbour_lists(xyz[: self.num_heavy], self.reach))
        atoms = self.atoms.astype(np.int32)
        return Contacts(kind, atoms[atom_1], atoms[atom_2])


def protein_atoms(topology: Topology) -> NDArray[np.intp]:
    """Atoms of the protein residues, the heavy ones first."""
    atoms = np.flatnonzero(topology.is_protein[topology.residue_of_atom])
    is_hydrogen = np.array(topology.elements)[atoms] == "H"
    return np.concatenate([atoms[~is_hydrogen], atoms[is_hydrogen]])


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
