"""Atom records of a file -> topology: where residues and chains begin, and the element of each atom."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import dist, inf
from pathlib import Path
from typing import Final, NamedTuple

import gemmi
import numpy as np

from data_prepare.errors import require
from data_prepare.structure.sequence import CAPS, CAPS_OF_END, CAPS_OF_START, ONE_LETTER
from data_prepare.structure.topology import Topology

MAX_STEP: Final = 50  # largest step of residue numbers across a TER inside a chain
PEPTIDE_BOND: Final = 2.0  # Angstrom, at most
SAME_RESIDUE: Final = 3.0  # Angstrom to the nearest other atom of a residue, at most
# heavy atoms of the 20 amino acids: their element is the first letter, never calcium (CA), cadmium (CD) or neon (NE)
ELEMENT_FROM_FIRST_LETTER: Final = frozenset(
    "N CA C O OXT OT OT1 OT2 OC1 OC2 O1 O2 CB CG CG1 CG2 CD CD1 CD2 CE CE1 CE2 CE3 CZ CZ2 CZ3 CH2 ND1 ND2 NE NE1 NE2 "
    "NZ NH1 NH2 OD1 OD2 OE1 OE2 OG OG1 OH SD SG".split()
)
CARBOXYLATE: Final = frozenset(("OXT", "OT2", "OC2", "O2"))  # only at the end of a chain
AMMONIUM: Final = frozenset(("H2", "HT2", "2H", "2HT"))  # only at the start
FIRST_WITHOUT_COLUMN: Final = 10**4  # residue number for which four columns are too few
HEAVIEST: Final = 98  # largest atomic number of an element; symbols such as OG (118) are atom names

Position = tuple[float, float, float]
NOWHERE: Final[Position] = (inf, inf, inf)


class AtomRecord(NamedTuple):
    """One atom as in the file; strings are "" where the file has none."""

    atom_name: str
    element: str
    residue_name: str
    number: str  # of the residue, as written
    insertion_code: str = ""
    chain_id: str = ""
    chain_key: Hashable = None  # what separates chains in formats that do so: label_asym_id, PSF segment, molecule
    chain_label: str = ""  # another name of the chain: label_asym_id of an mmCIF file, segment of a PSF or PDB file
    after_ter: bool = False  # follows a TER line
    position: Position = NOWHERE  # Angstrom
    alternate: bool = False  # has several locations
    sequence_index: int = -1  # of the residue in the declared sequence of its chain
    hetero: bool = False  # HETATM, or outside the polymers that the file declares
    virtual: bool = False  # no atom: a Drude particle, a lone pair, a site without mass


class _Residue(NamedTuple):
    """Atoms of a residue, which may stand apart in the file."""

    first: AtomRecord
    atoms: dict[str, AtomRecord]  # the first of each name
    members: list[tuple[int, AtomRecord]]  # index in the file
    dropped: list[int]  # index in the file of atoms of other alternate locations

    def add(self, index: int, atom: AtomRecord) -> None:
        self.atoms.setdefault(atom.atom_name, atom)
        self.members.append((index, atom))

    def is_missing(self, atom: AtomRecord) -> bool:
        """Whether an atom that stands elsewhere in the file belongs to this residue: another name, and close to it."""
        if atom.residue_name != self.first.residue_name or atom.atom_name in self.atoms:
            return False
        return atom.position == NOWHERE or any(
            dist(atom.position, other.position) < SAME_RESIDUE for other in self.atoms.values()
        )

    def is_bonded_to(self, last: _Residue) -> bool:
        """Whether there is a peptide bond from the residue before."""
        places = last.atoms.get("C", last.first).position, self.atoms.get("N", self.first).position
        return "C" in last.atoms and "N" in self.atoms and dist(*places) < PEPTIDE_BOND

    @property
    def has_backbone(self) -> bool:
        return {"N", "CA", "C"} <= self.atoms.keys()


def residues_of(records: Iterable[AtomRecord]) -> list[_Residue]:
    """Residues in the order of their first atoms.

    Another residue number, insertion code or name begins a residue, a TER line too, and so does a second atom with the
    name of the residue's first: waters and ions may share a number. Atoms that other ones separate from their residue,
    such as hydrogens after all heavy atoms, return to it, but not across a TER line; see `_Residue.is_missing`. An atom
    of an alternate location is dropped if its residue already has an atom of this name or has another residue name, and
    so are virtual sites.
    """
    residues: list[_Residue] = []
    latest: dict[Hashable, _Residue] = {}  # the last residue of a place and name
    place: Hashable = None
    current: _Residue | None = None
    for index, atom in enumerate(records):
        if atom.virtual and current:
            current.dropped.append(index)
            continue
        if atom.after_ter:
            latest.clear()
        before, place = place, (atom.chain_key, atom.chain_id, atom.chain_label, atom.number, atom.insertion_code)
        if current and place == before and not atom.after_ter:
            same_name = atom.residue_name == current.first.residue_name
            if atom.alternate and (not same_name or atom.atom_name in current.atoms):
                current.dropped.append(index)
                continue
            if same_name and atom.atom_name != current.first.atom_name:
                current.add(index, atom)
                continue
        earlier = latest.get((place, atom.residue_name))
        if earlier and atom.alternate and atom.atom_name in earlier.atoms:
            earlier.dropped.append(index)
            continue
        if earlier and earlier.is_missing(atom):
            current = earlier
        else:
            current = latest[place, atom.residue_name] = _Residue(atom, {}, [], [])
            residues.append(current)
        current.add(index, atom)
    return residues


def residue_number(text: str, last: int | None) -> int:
    """Number of a residue as programs write it, after a residue with the number `last`.

    Beyond 9999, four columns hold hexadecimal numbers (VMD: 2710 follows 9999; OpenMM: A000), hybrid-36 (A000, later
    a000) or only stars. Of several readings, the one that continues the numbers counts.
    """
    decimal = int(text) if text.lstrip("-").isdecimal() else None
    following = 1 if last is None else last + 1
    if decimal is not None and following < FIRST_WITHOUT_COLUMN:
        return decimal
    readings = [] if decimal is None else [decimal]
    if text[:1].isalpha() and text.isalnum() and text.isascii():  # hybrid-36
        lower = 26 * 36 ** (len(text) - 1) if text[0].islower() else 0
        readings.append(int(text, 36) - 10 * 36 ** (len(text) - 1) + 10 ** len(text) + lower)
    if re.fullmatch("[0-9a-fA-F]+", text):
        readings += [int(text, 16), int(text, 16) - 10 * 16 ** (len(text) - 1) + 10 ** len(text)]
    return next((number for number in readings if number in (last, following)), next(iter(readings), following))


def begins_chain(
    residue: _Residue, number: int, last: _Residue, last_number: int, used: set[int], num_declared: int
) -> bool:
    """Whether a chain begins at a residue.

    Formats that separate chains (`chain_key`) decide themselves; without positions (PSF, PRMTOP) a segment or molecule
    may hold several, which end at terminal oxygens and caps or where a number comes again. Otherwise another chain id
    begins a chain; a peptide bond, or a single sequence that the file declares for the chain id, continues it. Between
    two residues without such a bond, a chain begins at

    - another segment name,
    - TER, unless up to `MAX_STEP` - 1 residue numbers are missing: programs also write TER at gaps,
    - a smaller residue number, unless it lies in a gap of the numbers of the chain, as behind an inserted domain,
    - the next residue number, if the ends have the atoms of termini or caps.

    So a gap in one chain, where numbers are missing, stays in the chain. `used` are the numbers in the chain.
    """
    here, before = residue.first, last.first
    caps = before.residue_name in CAPS_OF_END or here.residue_name in CAPS_OF_START
    if here.chain_key is not None:
        ends = caps or (last.has_backbone and not CARBOXYLATE.isdisjoint(last.atoms))
        again = number < last_number and number in used
        return here.chain_key != before.chain_key or (here.position == NOWHERE and (ends or again))
    if here.chain_id != before.chain_id:
        return True
    if residue.is_bonded_to(last) or num_declared == 1:
        return False
    if here.chain_label != before.chain_label:
        return True
    step = number - last_number
    if here.after_ter:
        return not (here.chain_id and 1 < step <= MAX_STEP)
    if step < 0:
        return not (min(used) < number < max(used) and number not in used)
    termini = bool(CARBOXYLATE & last.atoms.keys() or AMMONIUM & residue.atoms.keys())
    return step == 1 and (caps or (residue.has_backbone and last.has_backbone and termini))


def in_protein(residues: Sequence[_Residue], chain_of_residue: Sequence[int]) -> list[bool]:
    """Whether each residue is part of a protein: it has N, CA and C, and is no ligand, cofactor or free amino acid.

    A peptide bond decides. Without one, as between two gaps, an amino acid counts unless it is HETATM or outside the
    polymers that the file declares. In files without positions a residue beside others with a backbone counts, too.
    """
    pairs = list(pairwise(zip(residues, chain_of_residue, strict=True)))
    bonded = [residue.is_bonded_to(last) for (last, _), (residue, _) in pairs]
    beside = [a.has_backbone and b.has_backbone and i == j for (a, i), (b, j) in pairs]
    result = []
    for index, residue in enumerate(residues):
        links = beside if residue.first.position == NOWHERE else bonded
        linked = any(links[max(index - 1, 0) : index + 1])
        free = residue.first.hetero or residue.first.residue_name not in ONE_LETTER
        result.append(residue.has_backbone and (linked or not free))
    return result


def caps_of(residues: Sequence[_Residue], chain_of_residue: Sequence[int], protein: Sequence[bool]) -> list[bool]:
    """Whether each residue is a cap: beside the protein in its chain, with a name of `CAPS` or a peptide bond to it."""
    result = [False] * len(residues)
    for (i, last), (j, residue) in pairwise(enumerate(residues)):
        if chain_of_residue[i] == chain_of_residue[j] and protein[i] != protein[j]:
            cap = i if protein[j] else j
            result[cap] |= residues[cap].first.residue_name in CAPS or residue.is_bonded_to(last)
    return result


def topology_of(
    path: Path,
    records: Iterable[AtomRecord],
    sequences: Mapping[Hashable, str] | None = None,
    num_declared: Mapping[str, int] | None = None,
) -> Topology:
    """Topology of the atoms of a file, residue after residue; `path` appears in messages.

    `sequences` maps `chain_key` to the declared one-letter sequence, `num_declared` a chain id to the number of
    sequences that the file declares for it. See `residues_of` and `begins_chain`.
    """
    sequences, num_declared = sequences or {}, num_declared or {}
    every = list(records)
    residues = residues_of(every)
    require(residues, f"{path}: no atoms found; expected a structure or topology file")
    numbers: list[int] = []
    chain_starts: list[int] = []  # index of the first residue of each chain
    used: set[int] = set()
    for index, residue in enumerate(residues):
        last = residues[index - 1]
        same_id = index > 0 and residue.first.chain_id == last.first.chain_id
        number = residue_number(residue.first.number, numbers[-1] if same_id else None)
        declared = num_declared.get(residue.first.chain_id, 0)
        if index == 0 or begins_chain(residue, number, last, numbers[-1], used, declared):
            chain_starts.append(index)
            used = set()
        used.add(number)
        numbers.append(number)
    atoms = [atom for residue in residues for _, atom in residue.members]
    chains = [residues[start].first for start in chain_starts]
    chain_of_residue = np.repeat(np.arange(len(chains), dtype=np.int32), np.diff([*chain_starts, len(residues)]))
    protein = in_protein(residues, chain_of_residue.tolist())
    sizes = np.array([len(residue.members) for residue in residues])
    topology = Topology(
        path=path,
        atom_names=tuple(atom.atom_name for atom in atoms),
        elements=tuple(atom.element for atom in atoms),
        residue_of_atom=np.repeat(np.arange(len(residues), dtype=np.int32), sizes),
        residue_names=tuple(residue.first.residue_name for residue in residues),
        residue_numbers=np.array(numbers, np.int64),
        insertion_codes=tuple(residue.first.insertion_code for residue in residues),
        chain_of_residue=chain_of_residue,
        is_protein=np.array(protein),
        is_cap=np.array(caps_of(residues, chain_of_residue.tolist(), protein)),
        chain_ids=tuple(chain.chain_id for chain in chains),
        chain_labels=tuple(chain.chain_label for chain in chains),
        declared_sequences=tuple(sequences.get(chain.chain_key) for chain in chains),
        sequence_index=np.array([residue.first.sequence_index for residue in residues], np.int32),
        file_index=np.array([index for residue in residues for index, _ in residue.members], np.int64),
        atoms_in_file=len(every),
        alternates={index: residue.members[0][0] for residue in residues for index in residue.dropped},
    )
    amino_acid = topology.is_amino_acid[topology.residue_of_atom]
    return replace(topology, elements=tuple(map(_element, topology.elements, topology.atom_names, amino_acid)))


def _element(symbol: str, name: str, in_protein: bool) -> str:
    """Element of an atom, "X" if unknown."""
    if in_protein and name in ELEMENT_FROM_FIRST_LETTER:
        return name[0]
    symbol = symbol.upper()
    if symbol == "D" or (in_protein and symbol.startswith("H")):  # HG of a serine is not mercury
        return "H"
    if in_protein and name == "SE":
        return "SE"
    if symbol != "X" and 0 < gemmi.Element(symbol).atomic_number <= HEAVIEST:  # old files have numbers here
        return symbol
    letter = name.lstrip("0123456789")[:1]
    if letter == "D" and in_protein:  # deuterium
        return "H"
    return letter if letter and letter in "HCNOSP" else "X"
