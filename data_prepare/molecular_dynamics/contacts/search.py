"""All contacts of a frame. The eligible atoms are determined once; compiled loops then search each frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import require
from data_prepare.molecular_dynamics.contacts.heavy_hydrogen_bond import bonded_atoms, roles
from data_prepare.molecular_dynamics.contacts.hydrogen_bond import BACKBONE, NOT_POLAR, hydrogens_of_atoms
from data_prepare.molecular_dynamics.contacts.hydrophobic import hydrophobic_carbons
from data_prepare.molecular_dynamics.contacts.kernels import ATOM, Criteria, SearchAtoms, find_contacts
from data_prepare.molecular_dynamics.contacts.ligand import OF_HYDROGEN, ligand_charges, types_with_ligands
from data_prepare.molecular_dynamics.contacts.rings import atoms_of_rings
from data_prepare.molecular_dynamics.contacts.salt_bridge import charges
from data_prepare.molecular_dynamics.contacts.selection import Selections
from data_prepare.molecular_dynamics.contacts.van_der_waals import disulfides, radii
from data_prepare.molecular_dynamics.frames.cell_list import Neighbours, neighbour_lists
from data_prepare.properties import HYDROGEN_BONDS, INTERACTIONS, PAIR_CHANNELS
from data_prepare.structure.topology import Topology, label_of_residue

ALL: Final = ("hp", "sb", "pc", "ps", "ts", "vdw", "hb")  # in the order of a contact file
OF_RINGS: Final = [PAIR_CHANNELS[name] for name in ("pc", "ps", "ts")]
PUBLISHED: Final = Criteria()


class Contacts(NamedTuple):
    """Contacts of one frame, (contacts,) each, with the two atoms in the order of a contact line."""

    channel: NDArray[np.int8]  # index into `INTERACTIONS`, with ligands into `ligand.LINE_TYPES`
    atom_1: NDArray[np.int32]
    atom_2: NDArray[np.int32]


def single_interactions(itypes: Iterable[str]) -> set[str]:
    """Members of `INTERACTIONS` in names among which `all` and `hb` stand for several."""
    named = {name for itype in itypes for name in (ALL if itype == "all" else (itype,))}
    return {name for itype in named for name in (HYDROGEN_BONDS if itype == "hb" else (itype,))}


class ContactSearch:
    """Finds the contacts of the protein residues of a system, or between two selections, frame by frame.

    The first frame (atoms, 3) of the trajectory, Angstrom, decides on owners of hydrogens, disulfides, hydrophobic
    carbons and charges of ligands. `itypes` are `all`, `hb` or members of `INTERACTIONS`. InputError if the system has
    no protein residue, or no hydrogens for hydrogen bonds.

    With selections, one atom of a contact is in `sele` and the other in `sele2`; all atoms of a ring must be in it. As
    in GetContacts, hydrophobic carbons of a `sele2` of its own also need a hydrogen within 1.7 A.
    """

    def __init__(
        self,
        topology: Topology,
        first_frame: NDArray,
        itypes: Iterable[str] = ("all",),
        criteria: Criteria = PUBLISHED,
        selections: Selections | None = None,
    ) -> None:
        if selections is None:
            where = f"{topology.path}: no residue with atoms N, CA and C"
            require(topology.is_protein.any(), f"{where}; contacts require an all-atom protein")
        interactions = single_interactions(itypes)
        self._wanted = sum(1 << INTERACTIONS.index(name) for name in interactions)
        self._criteria = criteria
        xyz = np.asarray(first_frame, np.float64)
        elements = np.array(topology.elements)
        protein = topology.is_protein[topology.residue_of_atom]
        members = protein if selections is None else selections.members & (protein | (elements != "X"))
        heavy = np.flatnonzero(members & (elements != "H"))
        hydrogen_start, hydrogens = np.zeros(len(heavy) + 1, np.int64), np.empty(0, np.int64)
        self._all_bonds = interactions.issuperset(HYDROGEN_BONDS)  # bonds of ligands are neither hbbb, hbsb nor hbss
        by_heavy_atoms = criteria.hydrogen_bond.hbond_of_heavy_atoms
        if not interactions.isdisjoint(HYDROGEN_BONDS):
            hydrogen_start, hydrogens = (
                bonded_atoms(xyz, heavy) if by_heavy_atoms else hydrogens_of_atoms(topology, xyz, heavy)
            )
        # hydrogens of the protein are present in any case: features share the atoms and their neighbours
        light = (
            np.flatnonzero(protein & (elements == "H"))
            if selections is None
            else np.sort(hydrogens[elements[hydrogens] == "H"])
        )
        self.atoms = np.concatenate([heavy, light])
        self.num_heavy = len(heavy)
        index = np.full(topology.num_atoms, -1, np.int64)  # of each atom of the system in `self.atoms`
        index[self.atoms] = np.arange(len(self.atoms))

        residue = topology.residue_of_atom[heavy]
        charge = charges(topology)
        cations = heavy[charge[heavy] == 1]
        ring_atoms, ring_atom = atoms_of_rings(topology)
        hydrophobic, with_hydrogen = hydrophobic_carbons(topology, xyz, selections.ligand if selections else None)
        if selections is None:
            within = protein[ring_atom]
        else:
            within = np.any([side[ring_atoms].all(axis=1) for side in selections.sides], axis=0)
            if selections.ligand is not None:
                charge = np.where(charge == 0, ligand_charges(topology, xyz, selections.ligand), charge)
        rings, ring_atom = index[ring_atoms[within]], index[ring_atom[within]]
        records = np.empty(self.num_heavy, ATOM)
        records["radius"] = radii(topology.subset(heavy))
        records["chain"] = chain_codes(topology, criteria)[residue]
        records["number"] = topology.residue_numbers[residue]
        cysteine, disulfide = disulfides(topology, xyz)
        records["cysteine"], records["disulfide"] = cysteine[residue], disulfide[residue]
        records["charge"] = charge[heavy]
        records["backbone"] = np.isin(np.array(topology.atom_names)[heavy], BACKBONE)
        records["hydrophobic"] = hydrophobic[heavy]
        records["role"] = roles(topology)[heavy] if by_heavy_atoms else 0
        records["polar"] = ~np.isin(elements[heavy], NOT_POLAR)
        self._search_atoms = SearchAtoms(
            heavy=records,
            hydrogen_start=hydrogen_start,
            hydrogens=index[hydrogens],
            cations=index[cations],
            rings=rings,
            ring_atom=ring_atom,
            rank=atom_ranks(topology)[self.atoms],
        )
        self._cutoff = 1e-6 + max(
            2 * records["radius"].max(initial=0.0) + criteria.van_der_waals.vdw_epsilon,
            criteria.salt_bridge.sb_cutoff_dist,
            criteria.hydrogen_bond.hbond_cutoff_dist,
        )
        self.radii = np.full(self.num_heavy, self._cutoff / 2)  # Angstrom; their sums cover all contacts
        self._room = 8 * self.num_heavy  # contacts per frame; grows on demand
        self._sides: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
        self._ligand: NDArray[np.bool_] | None = None
        if selections is not None:
            self._set_sides(selections, heavy, with_hydrogen[heavy])

    def _set_sides(self, selections: Selections, heavy: NDArray, with_hydrogen: NDArray[np.bool_]) -> None:
        """Which atoms may be at either side of a contact of each channel: two masks (9, heavy)."""
        sides = []
        for mask in selections.sides:
            side = np.tile(mask[heavy], (len(INTERACTIONS), 1))
            if selections.solvent is not None:
                side[OF_HYDROGEN] &= ~selections.solvent[heavy]
            if selections.ligand is not None and not self._all_bonds:
                side[OF_HYDROGEN] &= ~selections.ligand[heavy]
            rings = self._search_atoms.rings
            side[np.array(OF_RINGS)[:, None], self._search_atoms.ring_atom] = mask[heavy][rings].all(axis=1)
            sides.append(side)
        if selections.sele2 is not None:
            sides[1][PAIR_CHANNELS["hp"]] &= with_hydrogen
        self._sides = sides[0], sides[1]
        if selections.ligand is not None and selections.ligand[heavy].any():
            self._ligand = selections.ligand[heavy]

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
                break
            self._room = room = 2 * number
        found = found[:number]
        if self._sides is not None:
            found = self._between_selections(found)
        return Contacts(found[:, 0].astype(np.int8), found[:, 1], found[:, 2])

    def _between_selections(self, found: NDArray[np.int32]) -> NDArray[np.int32]:
        """The contacts between the selections, with the types of ligands."""
        assert self._sides is not None
        one, two = self._sides
        channel, a, b = found.T
        found = found[(one[channel, a] & two[channel, b]) | (two[channel, a] & one[channel, b])]
        if self._ligand is None:
            return found
        atoms = self._search_atoms.heavy
        return types_with_ligands(found, self._ligand, atoms["charge"], atoms["backbone"] == 1)

    def contacts(self, frame: NDArray) -> Contacts:
        """Contacts of one frame (atoms, 3) of the system in Angstrom."""
        xyz = frame[self.atoms].astype(np.float64)
        channel, atom_1, atom_2 = self.contacts_among(xyz, neighbour_lists(xyz[: self.num_heavy], self.radii))
        atoms = self.atoms.astype(np.int32)
        return Contacts(channel, atoms[atom_1], atoms[atom_2])


def heavy_atoms_first(topology: Topology) -> NDArray[np.intp]:
    """Atoms of the protein residues, hydrogens last, as in a search without selections."""
    atoms = topology.protein_atoms
    return atoms[np.argsort(np.array(topology.elements)[atoms] == "H", kind="stable")]


def chain_codes(topology: Topology, criteria: Criteria) -> NDArray[np.int64]:
    """What two residues of one chain share (residues,); see `Chains`."""
    if criteria.chains.chains_by_letter:
        return np.unique(topology.chain_ids, return_inverse=True)[1][topology.chain_of_residue].astype(np.int64)
    return topology.chain_of_residue.astype(np.int64)


def atom_labels(topology: Topology) -> list[str]:
    """`chain:resname:resid[icode]:name` of each atom; an empty chain id becomes `X`."""
    residues = label_of_residue(topology)
    return [f"{residues[r]}:{name}" for r, name in zip(topology.residue_of_atom, topology.atom_names, strict=True)]


def atom_ranks(topology: Topology) -> NDArray[np.int64]:
    """Lexicographic ranks (atoms,) of the labels of atoms."""
    return np.unique(atom_labels(topology), return_inverse=True)[1].astype(np.int64)
