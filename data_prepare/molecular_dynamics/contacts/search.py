"""All contacts of a frame. The eligible atoms are determined once; compiled loops then search each frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import require
from data_prepare.molecular_dynamics.contacts.hydrogen_bond import BACKBONE, NOT_POLAR, hydrogens_of_atoms
from data_prepare.molecular_dynamics.contacts.hydrophobic import hydrophobic_carbons
from data_prepare.molecular_dynamics.contacts.kernels import ATOM, Criteria, SearchAtoms, find_contacts
from data_prepare.molecular_dynamics.contacts.rings import atoms_of_rings
from data_prepare.molecular_dynamics.contacts.salt_bridge import charges
from data_prepare.molecular_dynamics.contacts.van_der_waals import disulfides, radii
from data_prepare.molecular_dynamics.frames.cell_list import Neighbours, neighbour_lists
from data_prepare.properties import INTERACTIONS
from data_prepare.structure.topology import Topology, label_of_residue

HYDROGEN_BONDS: Final = ("hbbb", "hbsb", "hbss")
ALL: Final = ("hp", "sb", "pc", "ps", "ts", "vdw", "hb")  # in the order of a contact file
PUBLISHED: Final = Criteria()


class Contacts(NamedTuple):
    """Contacts of one frame, (contacts,) each, with the two atoms in the order of a contact line."""

    channel: NDArray[np.int8]  # index into `INTERACTIONS`
    atom_1: NDArray[np.int32]
    atom_2: NDArray[np.int32]


def single_interactions(itypes: Iterable[str]) -> set[str]:
    """Members of `INTERACTIONS` in names among which `all` and `hb` stand for several."""
    named = {name for itype in itypes for name in (ALL if itype == "all" else (itype,))}
    return {name for itype in named for name in (HYDROGEN_BONDS if itype == "hb" else (itype,))}


class ContactSearch:
    """Finds the contacts of the protein residues of a system, frame by frame.

    The first frame (atoms, 3) of the trajectory, Angstrom, decides on owners of hydrogens, disulfides and hydrophobic
    carbons. `itypes` are `all`, `hb` or members of `INTERACTIONS`. InputError if the system has no protein residue, or
    no hydrogens for hydrogen bonds.
    """

    def __init__(
        self,
        topology: Topology,
        first_frame: NDArray,
        itypes: Iterable[str] = ("all",),
        criteria: Criteria = PUBLISHED,
    ) -> None:
        where = f"{topology.path}: no residue with atoms N, CA and C"
        require(topology.is_protein.any(), f"{where}; contacts require an all-atom protein")
        interactions = single_interactions(itypes)
        self._wanted = sum(1 << INTERACTIONS.index(name) for name in interactions)
        self._criteria = criteria
        xyz = np.asarray(first_frame, np.float64)
        elements = np.array(topology.elements)
        self.atoms = heavy_atoms_first(topology)  # of the protein
        self.num_heavy = int((elements[self.atoms] != "H").sum())
        heavy = self.atoms[: self.num_heavy]
        index = np.full(topology.num_atoms, -1, np.int64)  # of each atom of the system in `self.atoms`
        index[self.atoms] = np.arange(len(self.atoms))
        hydrogen_start, hydrogens = np.zeros(self.num_heavy + 1, np.int64), np.empty(0, np.int64)
        if not interactions.isdisjoint(HYDROGEN_BONDS):
            owner_start, hydrogens = hydrogens_of_atoms(topology, xyz)
            hydrogen_start = np.append(owner_start[heavy], len(hydrogens))

        residue = topology.residue_of_atom[heavy]
        charge = charges(topology)
        ring_atoms, ring_atom = atoms_of_rings(topology)
        records = np.empty(self.num_heavy, ATOM)
        records["radius"] = radii(topology.subset(heavy))
        records["chain"] = topology.chain_of_residue[residue]
        if criteria.chains.chains_by_letter:
            records["chain"] = np.unique(topology.chain_ids, return_inverse=True)[1][records["chain"]]
        records["number"] = topology.residue_numbers[residue]
        cysteine, bonded = disulfides(topology, xyz)
        records["cysteine"] = cysteine[residue]
        records["charge"] = charge[heavy]
        records["backbone"] = np.isin(np.array(topology.atom_names)[heavy], BACKBONE)
        records["hydrophobic"] = hydrophobic_carbons(topology, xyz)[heavy]
        records["polar"] = ~np.isin(elements[heavy], NOT_POLAR)
        self._search_atoms = SearchAtoms(
            heavy=records,
            hydrogen_start=hydrogen_start.astype(np.int64),
            hydrogens=index[hydrogens],
            cations=index[np.flatnonzero(charge == 1)],
            rings=index[ring_atoms],
            ring_atom=index[ring_atom],
            rank=np.unique(atom_labels(topology), return_inverse=True)[1][self.atoms].astype(np.int64),
            disulfides=bonded,
        )
        self._cutoff = 1e-6 + max(
            2 * records["radius"].max() + criteria.van_der_waals.vdw_epsilon,
            criteria.salt_bridge.sb_cutoff_dist,
            criteria.hydrogen_bond.hbond_cutoff_dist,
        )
        self.radii = np.full(self.num_heavy, self._cutoff / 2)  # Angstrom; their sums cover all contacts
        self._room = 8 * self.num_heavy  # contacts per frame; grows on demand

    def contacts_among(self, xyz: NDArray[np.float64], neighbours: Neighbours) -> Contacts:
        """Contacts of a frame (n, 3) of `self.atoms`, Angstrom, with atoms numbered likewise.

        `neighbours` are of these atoms, or of the heavy ones alone, for radii of at least `self.radii`.
        """
        room = self._room
        while True:
            found = np.empty((room, 3), np.int32)  # one per call: threads search in parallel
            limits = self._criteria, self._cutoff, self._wanted
            number = find_contacts(xyz, neighbours, self._search_atoms, *limits, found)
            if number <= room:
                return Contacts(found[:number, 0].astype(np.int8), found[:number, 1], found[:number, 2])
            self._room = room = 2 * number

    def contacts(self, frame: NDArray) -> Contacts:
        """Contacts of one frame (atoms, 3) of the system in Angstrom."""
        xyz = frame[self.atoms].astype(np.float64)
        channel, atom_1, atom_2 = self.contacts_among(xyz, neighbour_lists(xyz[: self.num_heavy], self.radii))
        atoms = self.atoms.astype(np.int32)
        return Contacts(channel, atoms[atom_1], atoms[atom_2])


def heavy_atoms_first(topology: Topology) -> NDArray[np.intp]:
    """Atoms of the protein residues, hydrogens last."""
    atoms = topology.protein_atoms
    return atoms[np.argsort(np.array(topology.elements)[atoms] == "H", kind="stable")]


def atom_labels(topology: Topology) -> list[str]:
    """`chain:resname:resid[icode]:name` of each atom; an empty chain id becomes `X`."""
    residues = label_of_residue(topology)
    return [f"{residues[r]}:{name}" for r, name in zip(topology.residue_of_atom, topology.atom_names, strict=True)]
