"""Structure files -> topology (atoms, residues, chains exactly as the file names them) and coordinates.

PDB, GRO and PSF are read here, because readers at hand rename atoms, or merge residues that share a number and so
change the order of the atoms, which has to be that of the trajectory. mmCIF is read with gemmi, PRMTOP and the like
with MDTraj. Text forms may be gzipped. Of alternate locations the first is taken; the topology is that of the first
model.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import gemmi
import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.sequence import ONE_LETTER, one_letter_sequence

if TYPE_CHECKING:
    import mdtraj

STRUCTURE_SUFFIXES: Final = (".pdb", ".ent", ".cif", ".mmcif")
# Names of the heavy atoms of the 20 amino acids start with their element. A file that leaves its element column blank,
# or aligns names to the left, would make CA calcium, CD cadmium and NE neon.
ELEMENT_FROM_FIRST_LETTER: Final = frozenset(
    "N CA C O OXT OT OT1 OT2 OC1 OC2 O1 O2 CB CG CG1 CG2 CD CD1 CD2 CE CE1 CE2 CE3 CZ CZ2 CZ3 CH2 ND1 ND2 NE NE1 NE2 "
    "NZ NH1 NH2 OD1 OD2 OE1 OE2 OG OG1 OH SD SG".split()
)
# rounded atomic mass -> element, for files that have no elements
ELEMENT_OF_MASS: Final = {1: "H", 2: "H", 12: "C", 14: "N", 16: "O", 19: "F", 31: "P", 32: "S", 35: "CL", 79: "SE"}


@dataclass(frozen=True)
class Topology:
    """Atoms, residues and chains in the order of the file.

    Attributes
    ----------
    path
        File it was read from.
    atom_names, elements
        Per atom; elements in upper case ("C", "SE"), "X" if unknown.
    residue_of_atom
        (atoms,) index of the residue of each atom, ascending.
    residue_names, residue_numbers, insertion_codes
        Per residue, as in the file; no insertion code is "".
    chain_of_residue
        (residues,) index of the chain of each residue, ascending. TER ends a chain, also between equal chain ids.
    chain_ids
        Per chain, as in the file, possibly "".
    file_rows
        (atoms,) index of each atom among all atoms of the file, alternate locations included.
    atoms_in_file
        Their number.
    """

    path: Path
    atom_names: tuple[str, ...]
    elements: tuple[str, ...]
    residue_of_atom: NDArray[np.int32]
    residue_names: tuple[str, ...]
    residue_numbers: NDArray[np.int32]
    insertion_codes: tuple[str, ...]
    chain_of_residue: NDArray[np.int32]
    chain_ids: tuple[str, ...]
    file_rows: NDArray[np.int64]
    atoms_in_file: int

    @property
    def num_atoms(self) -> int:
        """Number of atoms, of alternate locations the first."""
        return len(self.atom_names)

    @property
    def num_residues(self) -> int:
        """Number of residues, water and ions included."""
        return len(self.residue_names)

    @cached_property
    def atoms_by_name(self) -> tuple[dict[str, int], ...]:
        """Per residue: atom name -> index of the atom (the first, should a name occur twice)."""
        atoms: tuple[dict[str, int], ...] = tuple({} for _ in range(self.num_residues))
        for index, (name, residue) in enumerate(zip(self.atom_names, self.residue_of_atom, strict=True)):
            atoms[residue].setdefault(name, index)
        return atoms

    @cached_property
    def is_protein(self) -> NDArray[np.bool_]:
        """(residues,) whether a residue has atoms N, CA and C, whatever its name."""
        return np.array([{"N", "CA", "C"} <= atoms.keys() for atoms in self.atoms_by_name], bool)

    @cached_property
    def protein(self) -> Topology:
        """The protein residues alone."""
        return self.subset(np.flatnonzero(self.is_protein[self.residue_of_atom]))

    @property
    def chain_lengths(self) -> list[int]:
        """Residues of each chain."""
        return np.bincount(self.chain_of_residue, minlength=len(self.chain_ids)).tolist()

    def chain_sequences(self) -> list[str]:
        """One-letter sequence of each chain."""
        sequence = one_letter_sequence(self.residue_names)
        ends = np.cumsum(self.chain_lengths)
        return [sequence[end - length : end] for end, length in zip(ends, self.chain_lengths, strict=True)]

    def subset(self, atoms: NDArray[np.intp]) -> Topology:
        """Topology of some atoms (ascending indices); residues and chains without atoms are dropped."""
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
            chain_of_residue=chain_of_residue.astype(np.int32),
            chain_ids=tuple(self.chain_ids[i] for i in chains),
            file_rows=self.file_rows[atoms],
            atoms_in_file=self.atoms_in_file,
        )

    def to_mdtraj(self) -> mdtraj.Topology:
        """The same as an MDTraj topology without bonds. A C-terminal oxygen under another name is called O for DSSP."""
        import mdtraj

        result = mdtraj.Topology()
        chains = [result.add_chain(chain_id) for chain_id in self.chain_ids]
        residues = [
            result.add_residue(name, chains[chain], int(number))
            for name, chain, number in zip(self.residue_names, self.chain_of_residue, self.residue_numbers, strict=True)
        ]
        carbonyl = {}
        for atoms in self.atoms_by_name:
            if "O" not in atoms and (other := next((n for n in ("OT1", "OC1", "O1") if n in atoms), None)):
                carbonyl[atoms[other]] = "O"
        for index, (name, element) in enumerate(zip(self.atom_names, self.elements, strict=True)):
            symbol = mdtraj.element.Element.getBySymbol(element) if element != "X" else mdtraj.element.virtual
            result.add_atom(carbonyl.get(index, name), symbol, residues[self.residue_of_atom[index]])
        return result


class _Builder:
    """Collects the atoms of a model in file order and finds where residues and chains begin."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._atom_names: list[str] = []
        self._symbols: list[str] = []
        self._residue_of_atom: list[int] = []
        self._residues: list[tuple[str, int, str]] = []
        self._chain_of_residue: list[int] = []
        self._chain_ids: list[str] = []
        self._file_rows: list[int] = []
        self._names_in_residue: set[str] = set()
        self._first_name = ""
        self._key: tuple[object, int, str] | None = None
        self._chain_key: object = None
        self._rows = 0

    def add(
        self,
        chain_key: object,
        chain_id: str,
        residue_name: str,
        number: int,
        insertion_code: str,
        atom_name: str,
        symbol: str,
        alternate: bool = False,
    ) -> None:
        """Add an atom; another `chain_key` begins a chain, another number, code or name a residue.

        An atom of an alternate location is left out if the residue has its name already or has another residue name.
        Without alternate locations, the name of the residue's first atom begins the next residue: waters and ions that
        share a number.
        """
        row = self._rows
        self._rows += 1
        key = (chain_key, number, insertion_code)
        if key == self._key:
            same_name = residue_name == self._residues[-1][0]
            if alternate and (not same_name or atom_name in self._names_in_residue):
                return
            begins = not same_name or atom_name == self._first_name
        else:
            begins = True
        if self._chain_key != chain_key or not self._chain_ids:
            self._chain_ids.append(chain_id)
            self._chain_key = chain_key
        if begins:
            self._residues.append((residue_name, number, insertion_code))
            self._chain_of_residue.append(len(self._chain_ids) - 1)
            self._names_in_residue = set()
            self._first_name = atom_name
            self._key = key
        self._names_in_residue.add(atom_name)
        self._atom_names.append(atom_name)
        self._symbols.append(symbol)
        self._residue_of_atom.append(len(self._residues) - 1)
        self._file_rows.append(row)

    def build(self) -> Topology:
        """Topology of what was added."""
        if not self._atom_names:
            raise InputError(f"{self.path}: no atoms in it; expected a structure file")
        residue_of_atom = np.array(self._residue_of_atom, np.int32)
        names_of_residue: list[set[str]] = [set() for _ in self._residues]
        for residue, name in zip(self._residue_of_atom, self._atom_names, strict=True):
            names_of_residue[residue].add(name)
        in_protein = [
            {"N", "CA", "C"} <= names or residue[0] in ONE_LETTER
            for names, residue in zip(names_of_residue, self._residues, strict=True)
        ]
        return Topology(
            path=self.path,
            atom_names=tuple(self._atom_names),
            elements=tuple(
                _element(symbol, name, in_protein[residue])
                for symbol, name, residue in zip(self._symbols, self._atom_names, self._residue_of_atom, strict=True)
            ),
            residue_of_atom=residue_of_atom,
            residue_names=tuple(residue[0] for residue in self._residues),
            residue_numbers=np.array([residue[1] for residue in self._residues], np.int32),
            insertion_codes=tuple(residue[2] for residue in self._residues),
            chain_of_residue=np.array(self._chain_of_residue, np.int32),
            chain_ids=tuple(self._chain_ids),
            file_rows=np.array(self._file_rows, np.int64),
            atoms_in_file=self._rows,
        )


def _element(symbol: str, name: str, in_protein: bool) -> str:
    """Element of an atom, "X" if it cannot be told."""
    if in_protein and name in ELEMENT_FROM_FIRST_LETTER:
        return name[0]
    symbol = symbol.upper()
    if symbol == "D" or (in_protein and symbol.startswith("H")):  # HG of a serine is no mercury
        return "H"
    if in_protein and name == "SE":
        return "SE"
    if symbol != "X" and gemmi.Element(symbol).atomic_number:  # old files have numbers in these columns
        return symbol
    letter = name.lstrip("0123456789")[:1]
    if letter == "D" and in_protein:  # deuterium
        return "H"
    return letter if letter and letter in "HCNOSP" else "X"


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


def _read_pdb(path: Path) -> tuple[Topology, list[list[tuple[float, float, float]]]]:
    """Topology of the first model of a PDB file, and the positions of all atoms of each model in Angstrom."""
    builder = _Builder(path)
    models: list[list[tuple[float, float, float]]] = [[]]
    chain_breaks = 0
    with _open_text(path) as file:
        for line in file:
            record = line[:6]
            if record in ("ATOM  ", "HETATM"):
                models[-1].append((float(line[30:38]), float(line[38:46]), float(line[46:54])))
                if len(models) == 1:
                    chain_id = line[21].strip()
                    builder.add(
                        chain_key=(chain_id, chain_breaks),
                        chain_id=chain_id,
                        residue_name=line[17:21].strip(),  # CHARMM names have four letters
                        number=_residue_number(line[22:26]),
                        insertion_code=line[26].strip(),
                        atom_name=line[12:16].strip(),
                        symbol=line[76:78].strip(),
                        alternate=line[16] != " ",
                    )
            elif record[:3] == "TER":
                chain_breaks += 1
            elif (record[:3] == "END" or record[:5] == "MODEL") and models[-1]:
                models.append([])
    return builder.build(), [model for model in models if model]


MMCIF_COLUMNS: Final = (
    "label_asym_id",
    "auth_asym_id",
    "label_comp_id",
    "auth_seq_id",
    "?pdbx_PDB_ins_code",
    "label_atom_id",
    "?type_symbol",
    "?label_alt_id",
    "?pdbx_PDB_model_num",
    "Cartn_x",
    "Cartn_y",
    "Cartn_z",
)


def _read_mmcif(path: Path) -> tuple[Topology, list[list[tuple[float, float, float]]]]:
    """The same of an mmCIF file; another label_asym_id begins a chain."""
    table = gemmi.cif.read(str(path)).sole_block().find("_atom_site.", list(MMCIF_COLUMNS))
    builder = _Builder(path)
    models: dict[str, list[tuple[float, float, float]]] = {}

    def text(row: gemmi.cif.Table.Row, column: int) -> str:
        value = gemmi.cif.as_string(row[column]) if row.has(column) else ""
        return "" if value in (".", "?") else value

    for row in table:
        model = text(row, 8)
        position = (gemmi.cif.as_number(row[9]), gemmi.cif.as_number(row[10]), gemmi.cif.as_number(row[11]))
        models.setdefault(model, []).append(position)
        if len(models) == 1:
            builder.add(
                chain_key=text(row, 0),
                chain_id=text(row, 1),
                residue_name=text(row, 2),
                number=int(text(row, 3)),
                insertion_code=text(row, 4),
                atom_name=text(row, 5),
                symbol=text(row, 6),
                alternate=text(row, 7) != "",
            )
    return builder.build(), list(models.values())


def _gro_topology(path: Path) -> Topology:
    """Topology of a GRO file: fixed columns residue number, residue name, atom name, 5 characters each."""
    builder = _Builder(path)
    with _open_text(path) as file:
        next(file)
        for _ in range(int(next(file))):
            line = next(file)
            builder.add(0, "", line[5:10].strip(), int(line[:5]), "", line[10:15].strip(), "")
    return builder.build()


def _psf_topology(path: Path) -> Topology:
    """Topology of a PSF file: lines serial, segment, number, residue, atom, type, charge, mass.

    A segment is a chain; it is printed by its first letter, as VMD does.
    """
    builder = _Builder(path)
    with _open_text(path) as file:
        count = next(int(line.split()[0]) for line in file if "!NATOM" in line)
        for _ in range(count):
            _, segment, number, residue, name, _, _, mass, *_ = next(file).split()
            code = number.lstrip("-0123456789")
            symbol = ELEMENT_OF_MASS.get(round(float(mass)), "")
            builder.add(segment, segment[:1], residue, int(number.removesuffix(code)), code, name, symbol)
    return builder.build()


def _mdtraj_topology(path: Path) -> Topology:
    import mdtraj

    builder = _Builder(path)
    for atom in mdtraj.load_topology(str(path)).atoms:
        residue = atom.residue
        symbol = "" if atom.element is None or atom.element.symbol == "VS" else atom.element.symbol
        chain_id = residue.chain.chain_id or ""
        builder.add(residue.chain.index, chain_id, residue.name, residue.resSeq, "", atom.name, symbol)
    return builder.build()


def _suffix(path: str | Path) -> str:
    """Suffix of a file name in lower case, without .gz."""
    return Path(str(path).lower().removesuffix(".gz")).suffix


def is_structure_file(path: str | Path) -> bool:
    """Whether a file is PDB or mmCIF (also gzipped) by its name."""
    return _suffix(path) in STRUCTURE_SUFFIXES


def _readable(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    return Path(path)


def _read_structure_file(path: Path) -> tuple[Topology, list[list[tuple[float, float, float]]]]:
    try:
        return _read_pdb(path) if _suffix(path) in (".pdb", ".ent") else _read_mmcif(path)
    except InputError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, IndexError, zlib.error) as error:
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
        return _read_structure_file(path)[0]
    try:
        reader = {".gro": _gro_topology, ".psf": _psf_topology}.get(_suffix(path), _mdtraj_topology)
        return reader(path)
    except InputError:
        raise
    except Exception as error:  # every reader of MDTraj raises its own kind
        raise InputError(f"{path}: not a readable topology ({type(error).__name__}: {error})") from None


def read_models(path: str | Path) -> NDArray[np.float32]:
    """Coordinates of all models of a PDB or mmCIF file, all alternate locations included.

    Returns
    -------
    (models, atoms of the file, 3) float32 in Angstrom.

    Raises
    ------
    InputError
        If models differ in their number of atoms.
    """
    _, models = _read_structure_file(_readable(path))
    counts = {len(model) for model in models}
    if len(counts) > 1:
        raise InputError(f"{path}: models have between {min(counts)} and {max(counts)} atoms; they must be equal")
    return np.array(models, np.float32)


def read_structure(path: str | Path) -> tuple[Topology, NDArray[np.float64]]:
    """Topology and coordinates of the first model: (atoms, 3) in Angstrom, alternate locations left out."""
    path = _readable(path)
    if not is_structure_file(path):
        raise InputError(f"{path}: expected a PDB or mmCIF file")
    topology, models = _read_structure_file(path)
    return topology, np.array(models[0])[topology.file_rows]


def label_of_residue(topology: Topology) -> Sequence[str]:
    """`chain:name:number[code]` of each residue; an empty chain id is `X`."""
    return [
        f"{topology.chain_ids[chain] or 'X'}:{name}:{number}{code}"
        for name, number, code, chain in zip(
            topology.residue_names,
            topology.residue_numbers,
            topology.insertion_codes,
            topology.chain_of_residue,
            strict=True,
        )
    ]
