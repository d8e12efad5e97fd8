"""Topologies of simulation programs: GRO, PSF, PRMTOP; other formats are read by MDTraj."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from data_prepare.structure.atom_records import AtomRecord
from data_prepare.structure.pdb import open_text
from data_prepare.structure.sequence import CAPS_OF_END

# rounded atomic mass -> element
ELEMENT_OF_MASS: Final = {
    **{1: "H", 2: "H", 12: "C", 14: "N", 16: "O", 19: "F", 31: "P", 32: "S", 79: "SE"},
    **{23: "NA", 24: "MG", 35: "CL", 39: "K", 40: "CA", 56: "FE", 65: "ZN"},
}


def _element(mass: str) -> str:
    return ELEMENT_OF_MASS.get(round(float(mass)), "")


def gro_atoms(path: Path) -> Iterator[AtomRecord]:
    """Atoms of a GRO file: residue number, residue name and atom name in columns of 5 characters."""
    with open_text(path) as file:
        next(file)
        for _ in range(int(next(file))):
            line = next(file)
            yield AtomRecord(line[10:15].strip(), "", line[5:10].strip(), line[:5].strip())


def psf_atoms(path: Path) -> Iterator[AtomRecord]:
    """Atoms of a PSF file; a segment is a chain with its first letter as id, as in VMD."""
    with open_text(path) as file:
        count = next(int(line.split()[0]) for line in file if "!NATOM" in line)
        for _ in range(count):
            _, segment, number, residue, name, _, _, mass, *_ = next(file).split()
            code = number.lstrip("-0123456789")
            number = number.removesuffix(code)
            yield AtomRecord(name, _element(mass), residue, number, code, segment[:1], segment)


def prmtop_atoms(path: Path) -> Iterator[AtomRecord]:
    """Atoms of an AMBER PRMTOP file; residues are numbered from 1, and molecules, if listed, are chains.

    Molecules are sets of bonded atoms: disulfides join chains, which end at a terminal oxygen or cap.
    """
    sections = _prmtop_sections(path)
    names, masses = sections["ATOM_NAME"], sections["MASS"]
    starts = [int(first) - 1 for first in sections["RESIDUE_POINTER"]]
    molecule_ends = np.cumsum([int(atoms) for atoms in sections.get("ATOMS_PER_MOLECULE", [])])
    ends = [*starts[1:], len(names)]
    chain = 0  # in its molecule or after
    for number, (residue, start, end) in enumerate(zip(sections["RESIDUE_LABEL"], starts, ends, strict=False), 1):
        molecule = int(np.searchsorted(molecule_ends, start, side="right")) if len(molecule_ends) else None
        for atom in range(start, end):
            key = None if molecule is None else (molecule, chain)
            yield AtomRecord(names[atom], _element(masses[atom]), residue, str(number), chain_key=key)
        chain += residue in CAPS_OF_END or "OXT" in names[start:end]


def _prmtop_sections(path: Path) -> dict[str, list[str]]:
    """%FLAG sections of a PRMTOP file: names have four characters, numbers are separated by blanks."""
    sections: dict[str, list[str]] = {}
    with open_text(path) as file:
        for section in file.read().split("%FLAG ")[1:]:
            flag, form, *lines = (line for line in section.splitlines() if not line.startswith("%COMMENT"))
            names = [line[at : at + 4].strip() for line in lines for at in range(0, len(line), 4)]
            sections[flag.strip()] = names if "a4" in form.lower() else " ".join(lines).split()
    return sections


def mdtraj_atoms(path: Path) -> Iterator[AtomRecord]:
    """Atoms of any topology that MDTraj reads."""
    import mdtraj

    for atom in mdtraj.load_topology(str(path)).atoms:
        residue = atom.residue
        element = "" if atom.element is None or atom.element.symbol == "VS" else atom.element.symbol
        chain = residue.chain
        yield AtomRecord(atom.name, element, residue.name, str(residue.resSeq), "", chain.chain_id or "", chain.index)
