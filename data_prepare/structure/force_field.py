"""Topologies of simulation programs: GRO, PSF, PRMTOP; other formats are read by MDTraj."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import gemmi
import numpy as np

from data_prepare.structure.atom_records import AtomRecord
from data_prepare.structure.pdb import open_text

# rounded atomic mass -> element
ELEMENT_OF_MASS: Final = {
    **{1: "H", 2: "H", 12: "C", 14: "N", 16: "O", 19: "F", 31: "P", 32: "S", 79: "SE"},
    **{23: "NA", 24: "MG", 35: "CL", 39: "K", 40: "CA", 56: "FE", 65: "ZN"},
}


LIGHTEST: Final = 0.9  # mass of an atom; virtual sites and Drude particles have less
HEAVIEST_OF_HYDROGEN: Final = 4.1  # hydrogens that got mass from their neighbours have 3 or 4
HEAVIEST_OF_NEIGHBOUR: Final = 16.5  # carbon, nitrogen and oxygen may have given mass to their hydrogens


def _element(mass: float, name: str) -> str:
    """Element by mass and name: with repartitioned masses nitrogen has that of carbon."""
    letter = name.lstrip("0123456789")[:1]
    if HEAVIEST_OF_HYDROGEN < mass < HEAVIEST_OF_NEIGHBOUR and letter in ("C", "N", "O"):
        return letter
    return "H" if LIGHTEST < mass < HEAVIEST_OF_HYDROGEN else ELEMENT_OF_MASS.get(round(mass), "")


def gro_atoms(path: Path) -> Iterator[AtomRecord]:
    """Atoms of a GRO file: residue number, residue name and atom name in columns of 5 characters, positions in nm."""
    with open_text(path) as file:
        next(file)
        for _ in range(int(next(file))):
            line = next(file)
            point = line.find(".", 20)
            width = line.find(".", point + 1) - point  # of a number: the distance of the decimal points
            x, y, z = (10 * float(line[20 + k * width : 20 + (k + 1) * width]) for k in range(3))
            yield AtomRecord(line[10:15].strip(), "", line[5:10].strip(), line[:5].strip(), position=(x, y, z))


def psf_atoms(path: Path) -> Iterator[AtomRecord]:
    """Atoms of a PSF file; a segment is a chain with its first letter as id, as in VMD, which may leave it blank."""
    with open_text(path) as file:
        count = next(int(line.split()[0]) for line in file if "!NATOM" in line)
        for _ in range(count):
            fields = next(file).split()
            if not re.match(r"-?\d", fields[2]):
                fields.insert(1, "")
            _, segment, number, residue, name, _, _, mass, *_ = fields
            code = number.lstrip("-0123456789")
            yield AtomRecord(
                atom_name=name,
                element=_element(float(mass), name),
                residue_name=residue,
                number=number.removesuffix(code),
                insertion_code=code,
                chain_id=segment[:1],
                chain_key=segment or None,
                chain_label=segment,
                virtual=float(mass) < LIGHTEST,
            )


def prmtop_atoms(path: Path) -> Iterator[AtomRecord]:
    """Atoms of an AMBER PRMTOP file; residues are numbered from 1, and molecules, if listed, are chains.

    Molecules are sets of bonded atoms: disulfides join chains, see `begins_chain`.
    """
    sections = _prmtop_sections(path)
    names, masses = sections["ATOM_NAME"], list(map(float, sections["MASS"]))
    if "ATOMIC_NUMBER" not in sections:
        elements = [_element(mass, name) for mass, name in zip(masses, names, strict=True)]
    else:  # 0 or less of virtual sites
        elements = [gemmi.Element(max(int(number), 0)).name.upper() for number in sections["ATOMIC_NUMBER"]]
    starts = [int(first) - 1 for first in sections["RESIDUE_POINTER"]]
    molecule_ends = np.cumsum([int(atoms) for atoms in sections.get("ATOMS_PER_MOLECULE", [])])
    ends = [*starts[1:], len(names)]
    for number, (residue, start, end) in enumerate(zip(sections["RESIDUE_LABEL"], starts, ends, strict=False), 1):
        molecule = int(np.searchsorted(molecule_ends, start, side="right")) if len(molecule_ends) else None
        for atom in range(start, end):
            virtual = masses[atom] < LIGHTEST
            yield AtomRecord(names[atom], elements[atom], residue, str(number), chain_key=molecule, virtual=virtual)


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
