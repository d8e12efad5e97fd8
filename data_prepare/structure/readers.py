"""Structure and topology files -> topology (exactly as the file names things) and coordinates.

PDB, GRO, PSF and PRMTOP are read here, because readers at hand rename atoms, or merge residues that share a number and
so change the order of the atoms, which has to be that of the trajectory. mmCIF is read with gemmi, other forms with
MDTraj. Text forms may be gzipped. Of alternate locations the first is taken; the topology is that of the first model.

Chains: another chain id begins one, and so does TER. Programs also write TER inside a chain, where residues are missing
or are not of the twenty: if the file declares one sequence for the id, the chain goes on; so it does where the next
nitrogen is bonded to the last carbon, or 1 to 49 numbers are left out under the same id. Without chain ids, another
segment name or a number that falls begins a chain.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from math import dist, inf
from pathlib import Path
from typing import Final, TextIO

import gemmi
import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.structure.sequence import one_letter_sequence
from data_prepare.structure.topology import Structure, Topology, TopologyBuilder

STRUCTURE_SUFFIXES: Final = (".pdb", ".ent", ".cif", ".mmcif")
MAX_STEP: Final = 50  # of residue numbers over a TER inside a chain
PEPTIDE_BOND: Final = 2.0  # Angstrom, at most
# rounded atomic mass -> element, for files that have no elements
ELEMENT_OF_MASS: Final = {
    **{1: "H", 2: "H", 12: "C", 14: "N", 16: "O", 19: "F", 31: "P", 32: "S", 79: "SE"},
    **{23: "NA", 24: "MG", 35: "CL", 39: "K", 40: "CA", 56: "FE", 65: "ZN"},
}


def _open_text(path: Path) -> TextIO:
    # remarks in other encodings are no reason to refuse coordinates
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", errors="replace")
    return open(path, errors="replace")


def _residue_number(field: str) -> int:
    """Residue number of a PDB line; beyond 9999 in hybrid-36 (A000 = 10000)."""
    if field[:1].isupper():
        return int(field, 36) - 10 * 36**3 + 10**4
    return int(field)


class _PDBReader:
    """Takes the lines of the first model of a PDB file."""

    def __init__(self, path: Path) -> None:
        self.builder = TopologyBuilder(path)
        self.xyz: list[tuple[float, float, float]] = []
        self._declared: dict[str, list[list[str]]] = {}  # chain id -> SEQRES of each chain of that id
        self._chain_ids: list[str] = []
        self._chain_id = ""
        self._segment = ""
        self._after_ter = False
        self._carbon = (inf, inf, inf)  # position of the last atom named C

    def declare(self, line: str) -> None:
        """Take a SEQRES line; serial number 1 begins a sequence."""
        sequences = self._declared.setdefault(line[11].strip(), [])
        if line[7:10].strip() == "1" or not sequences:
            sequences.append([])
        sequences[-1] += line[19:].split()

    def end_chain(self) -> None:
        """Take a TER line."""
        self._after_ter = True

    def add(self, line: str) -> None:
        """Take an ATOM or HETATM line."""
        position = (float(line[30:38]), float(line[38:46]), float(line[46:54]))
        self.xyz.append(position)
        chain_id = line[21].strip()
        name = line[12:16].strip()
        number = _residue_number(line[22:26])
        segment = "" if chain_id else line[72:76].strip()
        bonded = name == "N" and dist(position, self._carbon) < PEPTIDE_BOND
        if not self._chain_ids or self._begins_chain(chain_id, segment, number, bonded):
            self._chain_ids.append(chain_id)
        self._chain_id, self._segment, self._after_ter = chain_id, segment, False
        if name == "C":
            self._carbon = position
        self.builder.add(
            chain_key=len(self._chain_ids),
            chain_id=chain_id,
            residue_name=line[17:21].strip(),  # CHARMM names have four letters
            number=number,
            insertion_code=line[26].strip(),
            atom_name=name,
            symbol=line[76:78].strip(),
            alternate=line[16] != " ",
        )

    def _begins_chain(self, chain_id: str, segment: str, number: int, bonded: bool) -> bool:
        if chain_id != self._chain_id or segment != self._segment:
            return True
        step = number - (self.builder.last_number or 0)
        if self._after_ter:
            skips = chain_id != "" and 1 < step <= MAX_STEP
            return not (bonded or skips or len(self._declared.get(chain_id, ())) == 1)
        return not chain_id and step < 0

    def topology(self) -> Topology:
        """Topology of what was added."""
        declared = {}
        counts: dict[str, int] = {}
        for chain, chain_id in enumerate(self._chain_ids):
            sequences = self._declared.get(chain_id, [])
            place = counts.get(chain_id, 0)
            counts[chain_id] = place + 1
            if place < len(sequences):
                declared[chain] = sequences[place]
        return self.builder.build(declared=declared)


def _pdb_first_model(path: Path) -> tuple[Topology, NDArray[np.float64]]:
    """Topology and positions (atoms of the file, 3) in Angstrom of the first model of a PDB file."""
    reader = _PDBReader(path)
    with _open_text(path) as file:
        for line in file:
            record = line[:6]
            if record in ("ATOM  ", "HETATM"):
                reader.add(line)
            elif record == "SEQRES":
                reader.declare(line)
            elif record[:3] == "TER":
                reader.end_chain()
            elif (record[:3] == "END" or record[:5] == "MODEL") and reader.xyz:
                break
    return reader.topology(), np.array(reader.xyz)


def _pdb_models(path: Path) -> Iterator[NDArray[np.float64]]:
    """Positions (atoms of the file, 3) of one model after the other."""
    positions: list[str] = []  # columns x, y, z of 8 characters each

    def model() -> NDArray[np.float64]:
        return np.frombuffer("".join(positions).encode(), "S8").astype(np.float64).reshape(-1, 3)

    with _open_text(path) as file:
        for line in file:
            record = line[:6]
            if record in ("ATOM  ", "HETATM"):
                positions.append(line[30:54])
            elif (record[:3] == "END" or record[:5] == "MODEL") and positions:
                yield model()
                positions = []
    if positions:
        yield model()


MMCIF_COLUMNS: Final = (
    "label_asym_id",
    "?auth_asym_id",
    "label_comp_id",
    "?auth_seq_id",
    "?pdbx_PDB_ins_code",
    "label_atom_id",
    "?type_symbol",
    "?label_alt_id",
    "?pdbx_PDB_model_num",
    "?label_seq_id",
    "?label_entity_id",
    "Cartn_x",
    "Cartn_y",
    "Cartn_z",
)


def _mmcif_models(path: Path) -> tuple[Topology, list[NDArray[np.float64]]]:
    """Topology of the first model of an mmCIF file and positions of all models; another label_asym_id is a chain."""
    block = gemmi.cif.read(str(path)).sole_block()
    declared: dict[str, dict[int, str]] = {}  # entity -> place -> residue name (the first of several)
    for entity, number, name in block.find("_entity_poly_seq.", ["entity_id", "num", "mon_id"]):
        declared.setdefault(gemmi.cif.as_string(entity), {}).setdefault(int(number) - 1, gemmi.cif.as_string(name))
    builder = TopologyBuilder(path)
    models: dict[str, list[tuple[float, float, float]]] = {}
    sequences: dict[int, str] = {}

    def text(row: gemmi.cif.Table.Row, column: int) -> str:
        value = gemmi.cif.as_string(row[column]) if row.has(column) else ""
        return "" if value in (".", "?") else value

    for row in block.find("_atom_site.", list(MMCIF_COLUMNS)):
        model = text(row, 8)
        position = (gemmi.cif.as_number(row[11]), gemmi.cif.as_number(row[12]), gemmi.cif.as_number(row[13]))
        models.setdefault(model, []).append(position)
        if len(models) == 1:
            number, entity = text(row, 9), text(row, 10)
            builder.add(
                chain_key=text(row, 0),
                chain_id=text(row, 1) or text(row, 0),
                residue_name=text(row, 2),
                number=int(text(row, 3) or number or 0),
                insertion_code=text(row, 4),
                atom_name=text(row, 5),
                symbol=text(row, 6),
                alternate=text(row, 7) != "",
                place=int(number) - 1 if number and entity in declared else -1,
            )
            if entity in declared:
                names = declared[entity]
                sequences[builder.num_chains - 1] = one_letter_sequence(names[place] for place in sorted(names))
    return builder.build(sequences), [np.array(model) for model in models.values()]


def _gro_topology(path: Path) -> Topology:
    """Topology of a GRO file: fixed columns residue number, residue name, atom name, 5 characters each."""
    builder = TopologyBuilder(path)
    chains = 0
    with _open_text(path) as file:
        next(file)
        for _ in range(int(next(file))):
            line = next(file)
            number = int(line[:5])
            chains += number < (builder.last_number or 0)
            builder.add(chains, "", line[5:10].strip(), number, "", line[10:15].strip(), "")
    return builder.build()


def _psf_topology(path: Path) -> Topology:
    """Topology of a PSF file: lines serial, segment, number, residue, atom, type, charge, mass.

    A segment is a chain; it is printed by its first letter, as VMD does.
    """
    builder = TopologyBuilder(path)
    with _open_text(path) as file:
        count = next(int(line.split()[0]) for line in file if "!NATOM" in line)
        for _ in range(count):
            _, segment, number, residue, name, _, _, mass, *_ = next(file).split()
            code = number.lstrip("-0123456789")
            symbol = ELEMENT_OF_MASS.get(round(float(mass)), "")
            builder.add(segment, segment[:1], residue, int(number.removesuffix(code)), code, name, symbol)
    return builder.build()


def _prmtop_sections(lines: Iterable[str]) -> dict[str, list[str]]:
    """%FLAG sections of a PRMTOP file; names are cut from fields of four characters, numbers at blanks."""
    sections: dict[str, list[str]] = {}
    fields: list[str] = []
    four_letters = False
    for line in lines:
        if line.startswith("%FLAG"):
            fields = sections.setdefault(line.split()[1], [])
        elif line.startswith("%FORMAT"):
            four_letters = "a4" in line.lower()
        elif not line.startswith("%"):
            line = line.rstrip("\n")
            fields += [line[at : at + 4].strip() for at in range(0, len(line), 4)] if four_letters else line.split()
    return sections


def _prmtop_topology(path: Path) -> Topology:
    """Topology of an AMBER PRMTOP file: residues are numbered from 1; a molecule is a chain, as far as it tells."""
    with _open_text(path) as file:
        sections = _prmtop_sections(file)
    names = sections["ATOM_NAME"]
    first_atoms = [int(first) - 1 for first in sections["RESIDUE_POINTER"]]
    masses = sections["MASS"]
    molecule_ends = np.cumsum([int(atoms) for atoms in sections.get("ATOMS_PER_MOLECULE", [])])
    builder = TopologyBuilder(path)
    for residue, (name, first) in enumerate(zip(sections["RESIDUE_LABEL"], first_atoms, strict=False)):
        last = first_atoms[residue + 1] if residue + 1 < len(first_atoms) else len(names)
        molecule = int(np.searchsorted(molecule_ends, first, side="right"))
        for atom in range(first, last):
            symbol = ELEMENT_OF_MASS.get(round(float(masses[atom])), "")
            builder.add(molecule, "", name, residue + 1, "", names[atom], symbol)
    return builder.build()


def _mdtraj_topology(path: Path) -> Topology:
    import mdtraj

    builder = TopologyBuilder(path)
    for atom in mdtraj.load_topology(str(path)).atoms:
        residue = atom.residue
        symbol = "" if atom.element is None or atom.element.symbol == "VS" else atom.element.symbol
        chain_id = residue.chain.chain_id or ""
        builder.add(residue.chain.index, chain_id, residue.name, residue.resSeq, "", atom.name, symbol)
    return builder.build()


TOPOLOGY_READERS: Final = {
    ".gro": _gro_topology,
    ".psf": _psf_topology,
    ".prmtop": _prmtop_topology,
    ".parm7": _prmtop_topology,
}


def _suffix(path: str | Path) -> str:
    """Suffix of a file name in lower case, without .gz."""
    return Path(str(path).lower().removesuffix(".gz")).suffix


def is_structure_file(path: str | Path) -> bool:
    """Whether a file is PDB or mmCIF (also gzipped) by its name."""
    return _suffix(path) in STRUCTURE_SUFFIXES


def is_topology_file(path: str | Path) -> bool:
    """Whether a file is a structure or a topology by its name."""
    return is_structure_file(path) or _suffix(path) in TOPOLOGY_READERS


def _readable(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    return Path(path)


UNREADABLE: Final = (OSError, EOFError, RuntimeError, ValueError, IndexError, zlib.error)


def _first_model(path: Path) -> tuple[Topology, NDArray[np.float64]]:
    """Topology and positions of all atoms of the file's first model, (atoms of the file, 3) in Angstrom."""
    try:
        if _suffix(path) in (".pdb", ".ent"):
            return _pdb_first_model(path)
        topology, models = _mmcif_models(path)
        return topology, models[0]
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable structure file ({error})") from None


def read_topology(path: str | Path) -> Topology:
    """Topology of the first model of a structure or topology file.

    Raises
    ------
    InputError
        If the file is missing or cannot be read.
    """
    path = _readable(path)
    if is_structure_file(path):
        return _first_model(path)[0]
    try:
        return TOPOLOGY_READERS.get(_suffix(path), _mdtraj_topology)(path)
    except InputError:
        raise
    except Exception as error:  # every reader of MDTraj raises its own kind
        raise InputError(f"{path}: not a readable topology ({type(error).__name__}: {error})") from None


def topology_of_pdb_text(path: Path, text: str) -> Topology:
    """Topology of PDB text that is kept in another file: `path` is named in messages."""
    reader = _PDBReader(path)
    try:
        for line in text.splitlines():
            if line[:6] in ("ATOM  ", "HETATM"):
                reader.add(line)
            elif line[:3] == "TER":
                reader.end_chain()
    except (ValueError, IndexError) as error:
        raise InputError(f"{path}: not readable as PDB text ({error})") from None
    return reader.topology()


def read_models(path: str | Path) -> Iterator[NDArray[np.float32]]:
    """Coordinates of one model of a PDB or mmCIF file after the other, all alternate locations included.

    Yields
    ------
    (atoms of the file, 3) float32 in Angstrom.

    Raises
    ------
    InputError
        If the file cannot be read or models differ in their number of atoms.
    """
    path = _readable(path)
    atoms = None
    try:
        models = _pdb_models(path) if _suffix(path) in (".pdb", ".ent") else iter(_mmcif_models(path)[1])
        for number, model in enumerate(models, 1):
            if atoms is not None and len(model) != atoms:
                raise InputError(f"{path}: model {number} has {len(model)} atoms, the first has {atoms}")
            atoms = len(model)
            yield model.astype(np.float32)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable structure file ({error})") from None


def read_structure(path: str | Path) -> Structure:
    """Topology and coordinates of the first model: (atoms, 3) in Angstrom, alternate locations left out."""
    path = _readable(path)
    if not is_structure_file(path):
        raise InputError(f"{path}: expected a PDB or mmCIF file")
    topology, xyz = _first_model(path)
    return Structure(topology, xyz[topology.file_index])
