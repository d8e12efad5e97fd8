"""PDB files. Other readers rename atoms or merge residues that share a number.

Residue names have up to four letters, as in CHARMM and GROMACS, or chain ids two, as in very large structures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from data_prepare.files import open_binary
from data_prepare.structure.atom_records import AtomRecord, Position, topology_of
from data_prepare.structure.sequence import CAPS, ONE_LETTER, align_to_sequence, one_letter_sequence
from data_prepare.structure.topology import Structure, Topology

ATOM_RECORDS = ("ATOM", "HETATM")  # a serial number of six digits may begin right behind ATOM


def open_text(path: Path) -> TextIO:
    """Open a text file, gzipped or not, whatever its name; undecodable bytes are replaced."""
    return TextIOWrapper(open_binary(path), encoding="utf-8", errors="replace")


def first_model(path: Path, lines: Iterable[str]) -> Structure:
    """First model in the lines of a PDB file; `path` appears in messages."""
    atoms: list[str] = []
    after_ter: set[int] = set()  # atoms that directly follow a TER line
    declared: dict[str, list[list[str]]] = {}  # chain id -> SEQRES of each chain of that id
    for line in lines:
        record = line[:6]
        if line.startswith(ATOM_RECORDS):
            atoms.append(line)
        elif record == "SEQRES":
            sequences = declared.setdefault(line[11].strip(), [])
            if line[7:10].strip() == "1" or not sequences:  # serial number 1 begins a sequence
                sequences.append([])
            sequences[-1] += (name for name in line[19:70].split() if name not in CAPS)
        elif record[:3] == "TER":
            after_ter.add(len(atoms))
        elif _ends_model(record) and atoms:
            break
    xyz = _positions(atoms)
    of_pair: dict[str, set[str]] = {}  # possible chain id -> residue names; one modified residue is none
    for line in filter(_may_have_two_letters, atoms):
        of_pair.setdefault(line[20:22], set()).add(line[17:20])
    two_letters = any(len(names) > 1 for names in of_pair.values())
    records = (
        _record(line, index in after_ter, (x, y, z), two_letters)
        for index, (line, (x, y, z)) in enumerate(zip(atoms, xyz.tolist(), strict=True))
    )
    topology = topology_of(path, records, num_declared={key: len(several) for key, several in declared.items()})
    return Structure(_with_declared(topology, declared), xyz[topology.file_index])


def read_models(path: Path) -> Iterator[NDArray[np.float64]]:
    """Positions (atoms of the file, 3) in Angstrom of each model, including alternate locations.

    If a model has the atoms of the first one in another order, their names decide.
    """
    first: list[str] = []
    for atoms in _models(path):
        names = [line[12:27] for line in atoms]  # atom, location, residue, chain, number
        first = first or names
        xyz = _positions(atoms)
        if names != first and len(place := {name: k for k, name in enumerate(names)}) == len(first) == len(names):
            order = [place.get(name, -1) for name in first]
            xyz = xyz if -1 in order else xyz[order]
        yield xyz


def _models(path: Path) -> Iterator[list[str]]:
    """Lines of the atoms of each model."""
    atoms: list[str] = []
    with open_text(path) as lines:
        for line in lines:
            if line.startswith(ATOM_RECORDS):
                atoms.append(line)
            elif _ends_model(line[:6]) and atoms:
                yield atoms
                atoms = []
    if atoms:
        yield atoms


def _ends_model(record: str) -> bool:
    return record[:3] == "END" or record[:5] == "MODEL"


def _positions(atoms: list[str]) -> NDArray[np.float64]:
    """(atoms, 3) Angstrom: columns x, y and z of 8 characters each."""
    columns = "".join(f"{line[30:54]:24}" for line in atoms)
    return np.frombuffer(columns.encode("ascii"), "S8").astype(np.float64).reshape(-1, 3)


def _may_have_two_letters(line: str) -> bool:
    """Whether the chain id may have two letters: the residue name is that of an amino acid without the first."""
    two = line[20].isalnum() and line[21] != " "
    return two and line[17:20] in ONE_LETTER and line[17:21] not in ONE_LETTER


def _record(line: str, after_ter: bool, position: Position, two_letters: bool) -> AtomRecord:
    number, code = line[22:26].strip(), line[26].strip()
    if code.isdigit() and len(number) == 4:  # five digits
        number, code = number + code, ""
    return AtomRecord(
        atom_name=line[12:16].strip(),
        element=line[76:78].strip(),
        residue_name=line[17 : 20 if two_letters else 21].strip().rstrip("+-"),  # CYANA writes the charge
        number=number,
        insertion_code=code,
        chain_id=line[20 if two_letters else 21 : 22].strip(),
        chain_label=line[72:76].strip(),
        after_ter=after_ter,
        position=position,
        alternate=line[16] != " ",
        hetero=line.startswith("HETATM"),
    )


def _with_declared(topology: Topology, declared: dict[str, list[list[str]]]) -> Topology:
    """Topology with declared sequences: the n-th chain of an id gets its n-th SEQRES."""
    waiting = {chain_id: iter(several) for chain_id, several in declared.items()}
    sequences: list[str | None] = []
    sequence_index = topology.sequence_index.copy()
    for chain, chain_id in enumerate(topology.chain_ids):
        names = next(waiting.get(chain_id, iter(())), None)
        sequences.append(None if names is None else one_letter_sequence(names))
        if names is not None:
            residues = np.flatnonzero((topology.chain_of_residue == chain) & topology.is_amino_acid)
            observed = [topology.residue_names[residue] for residue in residues]
            numbers = topology.residue_numbers[residues].tolist()
            sequence_index[residues] = align_to_sequence(observed, numbers, names)
    return replace(topology, declared_sequences=tuple(sequences), sequence_index=sequence_index)
