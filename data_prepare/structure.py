"""Structure files -> topology (atoms, residues, chains exactly as the file names them) and coordinates.

PDB and mmCIF, also gzipped, are read with gemmi; GRO here, because readers at hand rename its atoms; PSF, PRMTOP and
the like with MDTraj. Of alternate locations the first is taken; the topology is that of the first model.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

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


@dataclass
class _Builder:
    """Collects atoms in file order; a change of chain key or residue key starts a new one."""

    path: Path

    def __post_init__(self) -> None:
        self.atom_names: list[str] = []
        self.elements: list[str] = []
        self.residue_of_atom: list[int] = []
        self.residues: list[tuple[str, int, str]] = []
        self.chain_of_residue: list[int] = []
        self.chain_ids: list[str] = []
        self.file_rows: list[int] = []

    def add_chain(self, chain_id: str) -> None:
        self.chain_ids.append(chain_id)

    def add_residue(self, name: str, number: int, insertion_code: str) -> None:
        self.residues.append((name, number, insertion_code))
        self.chain_of_residue.append(len(self.chain_ids) - 1)

    def add_atom(self, name: str, element: str, row: int) -> None:
        self.atom_names.append(name)
        self.elements.append(element)
        self.residue_of_atom.append(len(self.residues) - 1)
        self.file_rows.append(row)

    def build(self, atoms_in_file: int) -> Topology:
        if not self.atom_names:
            raise InputError(f"{self.path}: no atoms in it; expected a structure file")
        topology = Topology(
            path=self.path,
            atom_names=tuple(self.atom_names),
            elements=tuple(self.elements),
            residue_of_atom=np.array(self.residue_of_atom, np.int32),
            residue_names=tuple(residue[0] for residue in self.residues),
            residue_numbers=np.array([residue[1] for residue in self.residues], np.int32),
            insertion_codes=tuple(residue[2] for residue in self.residues),
            chain_of_residue=np.array(self.chain_of_residue, np.int32),
            chain_ids=tuple(self.chain_ids),
            file_rows=np.array(self.file_rows, np.int64),
            atoms_in_file=atoms_in_file,
        )
        # a residue is emptied when all its atoms are alternates of an earlier one
        return topology.subset(np.arange(topology.num_atoms))


def _element(symbol: str, name: str, in_protein: bool) -> str:
    """Element of an atom, "X" if it cannot be told."""
    if in_protein and name in ELEMENT_FROM_FIRST_LETTER:
        return name[0]
    symbol = symbol.upper()
    if symbol == "D" or (in_protein and symbol.startswith("H")):  # HG of a serine is no mercury
        return "H"
    if symbol not in ("", "X"):
        return symbol
    letters = name.lstrip("0123456789")
    return letters[0] if letters and letters[0] in "HCNOSP" else "X"


def _gemmi_structure(path: Path) -> gemmi.Structure:
    try:
        suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
        if suffix.lower() in (".pdb", ".ent"):
            structure = gemmi.read_pdb(str(path), split_chain_on_ter=True)
        else:
            structure = gemmi.read_structure(str(path), merge_chain_parts=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: not a readable structure file ({error})") from None
    if len(structure) == 0:
        raise InputError(f"{path}: no atoms in it; expected a structure file")
    return structure


def _gemmi_topology(path: Path, model: gemmi.Model) -> Topology:
    builder = _Builder(path)
    row = 0
    for chain in model:
        builder.add_chain(chain.name)
        seen: set[tuple[int, str, str]] = set()
        previous = None
        for residue in chain:
            number, code = residue.seqid.num, residue.seqid.icode.strip()
            if number is None:
                raise InputError(f"{path}: residue {residue.name} of chain {chain.name} has no number")
            # residues of one number and code are alternates of each other where their atoms say so
            alternate = previous == (number, code) and all(atom.has_altloc() for atom in residue)
            if not alternate:
                builder.add_residue(residue.name, number, code)
                seen = set()
            previous = (number, code)
            names = {atom.name for atom in residue}
            in_protein = {"N", "CA", "C"} <= names or residue.name in ONE_LETTER
            for atom in residue:
                key = (number, code, atom.name)
                first = not (alternate or (atom.has_altloc() and key in seen))
                if first:
                    builder.add_atom(atom.name, _element(atom.element.name, atom.name, in_protein), row)
                    seen.add(key)
                row += 1
    return builder.build(row)


def _gro_topology(path: Path) -> Topology:
    """Topology of a GRO file: fixed columns residue number, residue name, atom name, 5 characters each."""
    opener = gzip.open if path.suffix == ".gz" else open
    builder = _Builder(path)
    builder.add_chain("")
    try:
        with opener(path, "rt") as file:
            next(file)
            count = int(next(file))
            previous = None
            for row in range(count):
                line = next(file)
                key = (line[5:10].strip(), int(line[:5]))
                name = line[10:15].strip()
                if key != previous:
                    builder.add_residue(*key, "")
                    previous = key
                builder.add_atom(name, _element("", name, key[0] in ONE_LETTER), row)
    except (StopIteration, ValueError, UnicodeDecodeError, OSError):
        raise InputError(f"{path}: not a readable GRO file") from None
    return builder.build(count)


def _mdtraj_topology(path: Path) -> Topology:
    import mdtraj

    try:
        source = mdtraj.load_topology(str(path))
    except Exception as error:  # every reader of MDTraj raises its own kind
        raise InputError(f"{path}: not a readable topology ({type(error).__name__}: {error})") from None
    builder = _Builder(path)
    for chain in source.chains:
        builder.add_chain(chain.chain_id or "")
        for residue in chain.residues:
            builder.add_residue(residue.name, residue.resSeq, "")
            for atom in residue.atoms:
                symbol = atom.element.symbol if atom.element is not None else ""
                builder.add_atom(
                    atom.name,
                    _element("" if symbol == "VS" else symbol, atom.name, residue.name in ONE_LETTER),
                    atom.index,
                )
    return builder.build(source.n_atoms)


def is_structure_file(path: str | Path) -> bool:
    """Whether a file is PDB or mmCIF (also gzipped) by its name."""
    name = str(path).lower().removesuffix(".gz")
    return name.endswith(STRUCTURE_SUFFIXES)


def read_topology(path: str | Path) -> Topology:
    """Topology of the first model of a structure or topology file.

    Raises
    ------
    InputError
        If the file is missing or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if is_structure_file(path):
        return _gemmi_topology(path, _gemmi_structure(path)[0])
    if str(path).lower().removesuffix(".gz").endswith(".gro"):
        return _gro_topology(path)
    return _mdtraj_topology(path)


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
    path = Path(path)
    structure = _gemmi_structure(path)
    frames = [
        np.array([atom.pos.tolist() for chain in model for residue in chain for atom in residue], np.float32)
        for model in structure
    ]
    if len({len(frame) for frame in frames}) > 1:
        counts = sorted({len(frame) for frame in frames})
        raise InputError(f"{path}: models have between {counts[0]} and {counts[-1]} atoms; they must be equal")
    return np.stack(frames)


def read_structure(path: str | Path) -> tuple[Topology, NDArray[np.float64]]:
    """Topology and coordinates of the first model: (atoms, 3) in Angstrom, alternate locations left out."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not is_structure_file(path):
        raise InputError(f"{path}: expected a PDB or mmCIF file")
    model = _gemmi_structure(path)[0]
    topology = _gemmi_topology(path, model)
    positions = [atom.pos.tolist() for chain in model for residue in chain for atom in residue]
    return topology, np.array(positions)[topology.file_rows]


def label_of_residue(topology: Topology, chain_default: str = "X") -> Sequence[str]:
    """`chain:name:number[code]` of each residue; an empty chain id is `X`."""
    return [
        f"{topology.chain_ids[chain] or chain_default}:{name}:{number}{code}"
        for name, number, code, chain in zip(
            topology.residue_names,
            topology.residue_numbers,
            topology.insertion_codes,
            topology.chain_of_residue,
            strict=True,
        )
    ]
