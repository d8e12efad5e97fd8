"""Atom records of a file -> topology: where chains and residues begin, and the element of each atom."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from math import dist, inf
from pathlib import Path
from typing import Final, NamedTuple

import gemmi
import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import require
from data_prepare.structure.topology import Topology

MAX_STEP: Final = 50  # largest step of residue numbers across a TER inside a chain
PEPTIDE_BOND: Final = 2.0  # Angstrom, at most
# heavy atoms of the 20 amino acids: their element is the first letter, never calcium (CA), cadmium (CD) or neon (NE)
ELEMENT_FROM_FIRST_LETTER: Final = frozenset(
    "N CA C O OXT OT OT1 OT2 OC1 OC2 O1 O2 CB CG CG1 CG2 CD CD1 CD2 CE CE1 CE2 CE3 CZ CZ2 CZ3 CH2 ND1 ND2 NE NE1 NE2 "
    "NZ NH1 NH2 OD1 OD2 OE1 OE2 OG OG1 OH SD SG".split()
)

Position = tuple[float, float, float]
NOWHERE: Final[Position] = (inf, inf, inf)


class AtomRecord(NamedTuple):
    """One atom as in the file; strings are "" where the file has none."""

    atom_name: str
    element: str
    residue_name: str
    number: int  # of the residue
    insertion_code: str = ""
    chain_id: str = ""
    chain_key: Hashable = None  # what separates chains in formats that do so: label_asym_id, PSF segment, molecule
    segment: str = ""  # of a PDB file without chain ids
    after_ter: bool = False  # follows a TER line
    position: Position = NOWHERE  # Angstrom
    alternate: bool = False  # has several locations
    sequence_index: int = -1  # of the residue in the declared sequence of its chain


def begins_chain(atom: AtomRecord, last: AtomRecord, last_carbon: Position, num_declared: int) -> bool:
    """Whether a chain begins at an atom: at another chain id, and after TER.

    Programs also write TER inside a chain, at gaps and modified residues. The chain continues if the file declares a
    single sequence for its id, if the next nitrogen is bonded to the last carbon, or if up to `MAX_STEP` - 1 residue
    numbers are missing. Without chain ids, another segment name or a smaller residue number begins a chain.

    `last` is the first atom of the previous residue, `last_carbon` the position of the last atom named C, and
    `num_declared` the number of sequences that the file declares for the chain id.
    """
    if atom.chain_key is not None:
        return atom.chain_key != last.chain_key
    if (atom.chain_id, atom.segment) != (last.chain_id, last.segment):
        return True
    step = atom.number - last.number
    if not atom.after_ter:
        return atom.chain_id == "" and step < 0
    bonded = atom.atom_name == "N" and dist(atom.position, last_carbon) < PEPTIDE_BOND
    gap = atom.chain_id != "" and 1 < step <= MAX_STEP
    return not (bonded or gap or num_declared == 1)


def topology_of(
    path: Path,
    records: Iterable[AtomRecord],
    sequences: Mapping[Hashable, str] | None = None,
    num_declared: Mapping[str, int] | None = None,
) -> Topology:
    """Topology of the atoms of a file, in order; `path` appears in messages.

    Another residue number, insertion code or name begins a residue, and so does a second atom with the name of the
    residue's first: waters and ions may share a number. An atom of an alternate location is dropped if its residue
    already has an atom of this name or has another residue name.

    `sequences` maps `chain_key` to the declared one-letter sequence, `num_declared` a chain id to the number of
    sequences that the file declares for it.
    """
    sequences, num_declared = sequences or {}, num_declared or {}
    atoms: list[AtomRecord] = []
    file_index: list[int] = []
    residue_starts: list[int] = []  # index of the first atom of each residue
    chain_starts: list[int] = []  # index of the first residue of each chain
    names: set[str] = set()  # of the atoms in the current residue
    last_carbon = NOWHERE
    atoms_in_file = 0
    for atom in records:
        atoms_in_file += 1
        last = atoms[residue_starts[-1]] if atoms else atom
        new_chain = not atoms or begins_chain(atom, last, last_carbon, num_declared.get(atom.chain_id, 0))
        new_residue = new_chain or atom.number != last.number or atom.insertion_code != last.insertion_code
        if atom.atom_name == "C":
            last_carbon = atom.position
        if not new_residue:
            same_name = atom.residue_name == last.residue_name
            if atom.alternate and (not same_name or atom.atom_name in names):
                continue
            new_residue = not same_name or atom.atom_name == last.atom_name
        if new_chain:
            chain_starts.append(len(residue_starts))
        if new_residue:
            residue_starts.append(len(atoms))
            names = set()
        names.add(atom.atom_name)
        atoms.append(atom)
        file_index.append(atoms_in_file - 1)
    require(atoms, f"{path}: no atoms found; expected a structure or topology file")
    residues = [atoms[start] for start in residue_starts]
    chains = [residues[start] for start in chain_starts]
    topology = Topology(
        path=path,
        atom_names=tuple(atom.atom_name for atom in atoms),
        elements=tuple(atom.element for atom in atoms),
        residue_of_atom=_owners(residue_starts, len(atoms)),
        residue_names=tuple(residue.residue_name for residue in residues),
        residue_numbers=np.array([residue.number for residue in residues], np.int32),
        insertion_codes=tuple(residue.insertion_code for residue in residues),
        chain_of_residue=_owners(chain_starts, len(residues)),
        chain_ids=tuple(chain.chain_id for chain in chains),
        declared_sequences=tuple(sequences.get(chain.chain_key) for chain in chains),
        sequence_index=np.array([residue.sequence_index for residue in residues], np.int32),
        file_index=np.array(file_index, np.int64),
        atoms_in_file=atoms_in_file,
    )
    in_protein = topology.is_amino_acid[topology.residue_of_atom]
    return replace(topology, elements=tuple(map(_element, topology.elements, topology.atom_names, in_protein)))


def _owners(starts: list[int], total: int) -> NDArray[np.int32]:
    """Index of the group of each of `total` members, given the first member of each group."""
    return np.repeat(np.arange(len(starts), dtype=np.int32), np.diff([*starts, total]))


def _element(symbol: str, name: str, in_protein: bool) -> str:
    """Element of an atom, "X" if unknown."""
    if in_protein and name in ELEMENT_FROM_FIRST_LETTER:
        return name[0]
    symbol = symbol.upper()
    if symbol == "D" or (in_protein and symbol.startswith("H")):  # HG of a serine is not mercury
        return "H"
    if in_protein and name == "SE":
        return "SE"
    if symbol != "X" and gemmi.Element(symbol).atomic_number:  # old files have numbers in these columns
        return symbol
    letter = name.lstrip("0123456789")[:1]
    if letter == "D" and in_protein:  # deuterium
        return "H"
    return letter if letter and letter in "HCNOSP" else "X"
