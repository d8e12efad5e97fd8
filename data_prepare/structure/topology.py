"""Atoms, residues and chains of a system, named as the file names them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError, InputWarning
from data_prepare.structure.sequence import ONE_LETTER, one_letter_sequence

if TYPE_CHECKING:
    import mdtraj

CARBONYL_OXYGENS: Final = ("O", "OT1", "OC1", "O1")  # the others at the end of a chain


@dataclass(frozen=True)
class Topology:
    """Atoms, residues and chains as named and ordered in the file; `x_of_y` is the index of each y's x."""

    path: Path  # for messages
    atom_names: tuple[str, ...]
    elements: tuple[str, ...]  # per atom in upper case ("C", "SE"), "X" if unknown
    residue_of_atom: NDArray[np.int32]  # (atoms,) ascending
    residue_names: tuple[str, ...]
    residue_numbers: NDArray[np.int64]  # (residues,)
    insertion_codes: tuple[str, ...]  # per residue, "" for none
    is_protein: NDArray[np.bool_]  # (residues,) has N, CA and C and is part of a chain, see `atom_records.in_protein`
    is_cap: NDArray[np.bool_]  # (residues,) acetyl, amide and the like at chain ends, see `atom_records.caps_of`
    chain_of_residue: NDArray[np.int32]  # (residues,) ascending
    chain_ids: tuple[str, ...]  # possibly ""
    chain_labels: tuple[str, ...]  # label_asym_id of mmCIF files, segment of PSF and PDB files, otherwise ""
    declared_sequences: tuple[str | None, ...]  # per chain in one letter, as in SEQRES or `_entity_poly_seq`
    sequence_index: NDArray[np.int32]  # (residues,) index in the declared sequence of the chain, -1 if unknown
    file_index: NDArray[np.int64]  # (atoms,) index among all atoms of the file, alternate locations included
    atoms_in_file: int
    alternates: Mapping[int, int]  # atom in the file that is left out -> another one there of its residue

    @property
    def num_atoms(self) -> int:
        """Number of atoms, without alternate locations."""
        return len(self.atom_names)

    @property
    def num_residues(self) -> int:
        """Number of residues, including water and ions."""
        return len(self.residue_names)

    @cached_property
    def atoms_by_name(self) -> tuple[dict[str, int], ...]:
        """Per residue: atom name -> index of the first atom of this name."""
        atoms: tuple[dict[str, int], ...] = tuple({} for _ in range(self.num_residues))
        for index, (name, residue) in enumerate(zip(self.atom_names, self.residue_of_atom, strict=True)):
            atoms[residue].setdefault(name, index)
        return atoms

    @cached_property
    def is_amino_acid(self) -> NDArray[np.bool_]:
        """(residues,) whether a residue is protein or has only the name of an amino acid, as in C-alpha traces."""
        incomplete = [not {"N", "CA", "C"} <= atoms.keys() for atoms in self.atoms_by_name]
        return self.is_protein | (np.array([name in ONE_LETTER for name in self.residue_names]) & incomplete)

    @cached_property
    def protein_atoms(self) -> NDArray[np.intp]:
        """Indices of the atoms of protein residues, ascending."""
        return np.flatnonzero(self.is_protein[self.residue_of_atom])

    @cached_property
    def protein(self) -> Topology:
        """Topology of the protein residues."""
        return self.subset(self.protein_atoms)

    @cached_property
    def is_traced(self) -> NDArray[np.bool_]:
        """(residues,) whether its C-alpha atom shows the motion of a residue: protein, or those of a C-alpha model.

        Such a model has only amino acids without N or C.
        """
        if self.is_protein.any():
            return self.is_protein
        return self.is_amino_acid & np.array(["CA" in atoms for atoms in self.atoms_by_name])

    @cached_property
    def traced_atoms(self) -> NDArray[np.intp]:
        """Indices of the atoms of traced residues, ascending."""
        return np.flatnonzero(self.is_traced[self.residue_of_atom])

    @cached_property
    def traced(self) -> Topology:
        """Topology of the traced residues."""
        return self.subset(self.traced_atoms)

    @cached_property
    def molecule_atoms(self) -> NDArray[np.intp]:
        """Indices of the atoms of traced residues and caps, ascending."""
        return np.flatnonzero((self.is_traced | self.is_cap)[self.residue_of_atom])

    @property
    def chain_lengths(self) -> list[int]:
        """Residues of each chain."""
        return np.bincount(self.chain_of_residue, minlength=len(self.chain_ids)).tolist()

    def chain_sequences(self) -> list[str]:
        """One-letter sequence of each chain, without unresolved residues."""
        sequence = one_letter_sequence(self.residue_names)
        ends = np.cumsum(self.chain_lengths)
        return [sequence[end - length : end] for end, length in zip(ends, self.chain_lengths, strict=True)]

    def full_sequences(self) -> tuple[list[str], NDArray[np.int64]]:
        """One-letter sequence of each chain, and the ascending index (residues,) of each residue in all of them joined.

        Declared sequences include unresolved residues. A chain whose declared sequence is missing or, with an
        InputWarning, does not match its residues has the sequence of the residues with coordinates.
        """
        sequences: list[str] = []
        residue_index = [np.zeros(0, np.int64)]
        total = 0
        for chain, observed in enumerate(self.chain_sequences()):
            declared = self.declared_sequences[chain]
            index = self.sequence_index[self.chain_of_residue == chain]
            if declared is not None and (index[0] < 0 or (np.diff(index) <= 0).any()):
                name = self.chain_ids[chain] or "X"
                problem = "ignoring its declared sequence, which does not match the residues with coordinates"
                warnings.warn(f"{self.path}: chain {name}: {problem}", InputWarning, stacklevel=2)
                declared = None
            if declared is None:
                declared, index = observed, np.arange(len(observed))
            letters = np.array(list(declared))
            letters[index] = list(observed)  # where the two differ, the coordinates count
            sequences.append("".join(letters))
            residue_index.append(total + index)
            total += len(letters)
        return sequences, np.concatenate(residue_index)

    def subset(self, atoms: NDArray[np.intp]) -> Topology:
        """Topology of some atoms (ascending indices), without empty residues and chains."""
        residues, residue_of_atom = np.unique(self.residue_of_atom[atoms], return_inverse=True)
        chains, chain_of_residue = np.unique(self.chain_of_residue[residues], return_inverse=True)
        return Topology(
            path=self.path,
            atom_names=tuple(self.atom_names[i] for i in atoms),
            elements=tuple(self.elements[i] for i in atoms),
            residue_of_atom=residue_of_atom.astype(np.int32),
            residue_names=tuple(self.residue_names[i] for i in residues),
            residue_numbers=self.residue_numbers[residues],
            insertion_codes=tuple(self.insertion_codes[i] for i in residues),
            is_protein=self.is_protein[residues],
            is_cap=self.is_cap[residues],
            chain_of_residue=chain_of_residue.astype(np.int32),
            chain_ids=tuple(self.chain_ids[i] for i in chains),
            chain_labels=tuple(self.chain_labels[i] for i in chains),
            declared_sequences=tuple(self.declared_sequences[i] for i in chains),
            sequence_index=self.sequence_index[residues],
            file_index=self.file_index[atoms],
            atoms_in_file=self.atoms_in_file,
            alternates=self.alternates,
        )

    def atoms_of_chains(self, chain_ids: Sequence[str]) -> NDArray[np.intp]:
        """Ascending indices of the atoms of the chains with these ids; InputError if an id does not exist.

        An id that no chain has counts as a label.
        """
        labels = [chain_id for chain_id in chain_ids if chain_id not in self.chain_ids]
        if unknown := [label for label in labels if label not in self.chain_labels]:
            pairs = zip(self.chain_ids, self.chain_labels, strict=True)
            known = ", ".join(dict.fromkeys(chain_id or label or "(blank)" for chain_id, label in pairs))
            raise InputError(f"{self.path}: no chain {', '.join(unknown)}; it has {known}")
        names = zip(self.chain_ids, self.chain_labels, strict=True)
        wanted = np.array([chain_id in chain_ids or label in labels for chain_id, label in names])
        return np.flatnonzero(wanted[self.chain_of_residue][self.residue_of_atom])

    def select_chains(self, chain_ids: Sequence[str]) -> Topology:
        """Topology of the chains with these ids; see `atoms_of_chains`."""
        return self.subset(self.atoms_of_chains(chain_ids))

    def to_mdtraj(self) -> mdtraj.Topology:
        """MDTraj topology without bonds, with C-terminal oxygens renamed to O for DSSP."""
        import mdtraj

        result = mdtraj.Topology()
        chains = [result.add_chain(chain_id) for chain_id in self.chain_ids]
        residues = [
            result.add_residue(name, chains[chain], int(number))
            for name, chain, number in zip(self.residue_names, self.chain_of_residue, self.residue_numbers, strict=True)
        ]
        carbonyl = {}
        for atoms in self.atoms_by_name:
            if "O" not in atoms and (other := next((n for n in CARBONYL_OXYGENS if n in atoms), None)):
                carbonyl[atoms[other]] = "O"
        for index, (name, element) in enumerate(zip(self.atom_names, self.elements, strict=True)):
            symbol = mdtraj.element.Element.getBySymbol(element) if element != "X" else mdtraj.element.virtual
            result.add_atom(carbonyl.get(index, name), symbol, residues[self.residue_of_atom[index]])
        return result


class Structure(NamedTuple):
    """One conformation."""

    topology: Topology
    xyz: NDArray[np.float64]  # (atoms, 3) Angstrom

    def subset(self, atoms: NDArray[np.intp]) -> Structure:
        """Structure of some atoms; see `Topology.subset`."""
        return Structure(self.topology.subset(atoms), self.xyz[atoms])

    def select_chains(self, chain_ids: Sequence[str]) -> Structure:
        """Structure of the chains with these ids; see `Topology.atoms_of_chains`."""
        return self.subset(self.topology.atoms_of_chains(chain_ids))


def label_of_residue(topology: Topology) -> list[str]:
    """`chain:name:number[code]` of each residue; an empty chain id becomes `X`."""
    chain_ids = [topology.chain_ids[chain] or "X" for chain in topology.chain_of_residue]
    fields = zip(chain_ids, topology.residue_names, topology.residue_numbers, topology.insertion_codes, strict=True)
    return [f"{chain_id}:{name}:{number}{code}" for chain_id, name, number, code in fields]
