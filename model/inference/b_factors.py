"""Write one value per residue into the B-factor column of a structure file."""

from __future__ import annotations

import gzip
from itertools import chain as joined
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_prepare.errors import require
from data_prepare.files import open_binary, whole_file
from model.inference.inputs import select_protein

if TYPE_CHECKING:
    from data_prepare.structure.topology import Topology


def write_b_factors(structure: Path, values: ArrayLike, output: Path, chain: str | None = None) -> None:
    """Copy a structure file with one value per residue in the B-factor column.

    All atoms of a residue get its value, in all alternate locations and models; all other atoms get 0. Nothing else in
    a PDB file changes; an mmCIF file keeps its content but not its layout.

    `values` (N,) are those of the residues of `model.inference.inputs.protein_of_structure`, unresolved ones included,
    with the same `chain`. `structure` is PDB or mmCIF, gzipped or not; `output` has its format and is gzipped if its
    name ends in .gz. InputError if numbers or formats do not fit.
    """
    from data_prepare.structure.readers import read_topology  # imports gemmi, which training nodes may lack

    check_copy(structure, output)
    numbers = np.asarray(values, np.float64)
    fits = ((numbers > -100) & (numbers < 1000)).all()  # NaN does not
    require(fits, f"{output}: a B-factor has six columns; give values between -100 and 1000")
    rows = _values_of_atoms(read_topology(structure), numbers, chain)
    copy = _pdb_copy(structure, rows) if _is_pdb(structure) else _mmcif_copy(structure, rows)
    with whole_file(output) as temporary:  # without a time stamp: equal values give equal bytes
        temporary.write_bytes(gzip.compress(copy, mtime=0) if output.suffix.lower() == ".gz" else copy)


def check_copy(structure: Path, output: Path) -> None:
    """Raise InputError if the copy would replace the structure or has the suffix of another format."""
    require(output.resolve() != structure.resolve(), f"{output}: this is the structure itself; choose another name")
    same = _is_pdb(structure) == _is_pdb(output) and not output.is_dir()
    suffix = ".pdb" if _is_pdb(structure) else ".cif"
    require(same, f"{output}: the copy of {structure} keeps its format; end the name in {suffix}")


def _values_of_atoms(topology: Topology, values: NDArray[np.float64], chain: str | None) -> NDArray[np.float64]:
    """Expand the values of the residues of the chosen chains to all atoms of a model in the file, 0 elsewhere."""
    protein = select_protein(topology, chain)
    sequences, residue_index = protein.full_sequences()
    residues = sum(map(len, sequences))
    require(len(values) == residues, f"{topology.path}: {residues} residues, but {len(values)} values for them")
    rows = np.zeros(topology.atoms_in_file)
    rows[protein.file_index] = values[residue_index][protein.residue_of_atom]
    rows[list(topology.alternates)] = rows[list(topology.alternates.values())]
    return rows


def _pdb_copy(path: Path, rows: NDArray[np.float64]) -> bytes:
    with open_binary(path) as file:
        lines = file.readlines()
    row = 0
    for number, line in enumerate(lines):
        if line.startswith((b"ATOM", b"HETATM")):
            require(row < len(rows), f"{path}: a model has more atoms than the first; remove it")
            body = line.rstrip(b"\r\n")
            lines[number] = b"%-60b%6.2f%b%b" % (body[:60], rows[row], body[66:], line[len(body) :])  # columns 61 to 66
            row += 1
        elif line[:3] == b"END" or line[:5] == b"MODEL":
            row = 0
    return b"".join(lines)


def _mmcif_copy(path: Path, rows: NDArray[np.float64]) -> bytes:
    from data_prepare.structure.mmcif import read_document

    document = read_document(path)
    counts: dict[str, int] = {}  # atoms of each model, over all blocks as they are read
    blocks = [block for block in document if block.find_values("_atom_site.id")]
    for block in blocks:
        if not block.find_values("_atom_site.B_iso_or_equiv"):
            block.find_loop("_atom_site.id").get_loop().add_columns(["_atom_site.B_iso_or_equiv"], "?")
    for atom in joined(*(block.find("_atom_site.", ["B_iso_or_equiv", "?pdbx_PDB_model_num"]) for block in blocks)):
        model = atom[1] if atom.has(1) else ""
        row = counts.get(model, 0)
        require(row < len(rows), f"{path}: model {model} has more atoms than the first; remove it")
        atom[0] = f"{rows[row]:.2f}"
        counts[model] = row + 1
    return document.as_string().encode()


def _is_pdb(path: Path) -> bool:
    from data_prepare.structure.readers import PDB_SUFFIXES, suffix_of  # imports gemmi

    return suffix_of(path) in PDB_SUFFIXES
