"""A number for each residue, written into the B-factor column of a structure file."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_prepare.errors import InputError
from data_prepare.files import whole_file

if TYPE_CHECKING:
    from data_prepare.structure.topology import Topology

PDB_SUFFIXES: Final = (".pdb", ".ent")
B_FACTOR: Final = slice(60, 66)  # columns 61 to 66 of ATOM and HETATM lines, two decimals
NO_VALUE: Final = 0.0  # of water, ligands and chains that were not asked for


def write_b_factors(
    structure: str | os.PathLike[str],
    values: ArrayLike,
    output: str | os.PathLike[str],
    chain: str | None = None,
) -> None:
    """Copy a structure file with a number for each residue in the B-factor column.

    All atoms of a residue get its number, alternate locations and further models too; all other atoms get 0. Nothing
    else of a PDB file changes; an mmCIF file keeps its content, not its blanks.

    Parameters
    ----------
    structure
        PDB or mmCIF, gzipped or not.
    values
        (N,) one number per residue of `model.inference.inputs.protein_of_structure`, unresolved ones included.
    output
        The copy, of the same form; gzipped if its name ends in .gz.
    chain
        As in `protein_of_structure`.

    Raises
    ------
    InputError
        The structure cannot be read, has another number of residues, or the form of the output is another one.
    """
    from data_prepare.structure.readers import read_topology

    structure, output = Path(structure), Path(output)
    check_copy(structure, output)
    numbers = np.asarray(values, np.float64)
    if not ((numbers > -100) & (numbers < 1000)).all():  # nor NaN
        raise InputError(f"{output}: B-factors have six columns; give numbers between -100 and 1000")
    rows = atom_values(read_topology(structure), numbers, chain)
    copy = _pdb_copy(structure, rows) if _is_pdb(structure) else _mmcif_copy(structure, rows)
    with whole_file(output) as temporary:
        # without time stamp, so that the same numbers give the same bytes
        temporary.write_bytes(gzip.compress(copy, mtime=0) if _is_gzip(output) else copy)


def check_copy(structure: Path, output: Path) -> None:
    """See that a copy of a structure file can have this name.

    Raises
    ------
    InputError
        It is the file itself, or has another form.
    """
    if output.resolve() == structure.resolve():
        raise InputError(f"{output}: this is the structure itself; give the copy another name")
    if _is_pdb(structure) != _is_pdb(output) or output.is_dir():
        form = " or ".join(PDB_SUFFIXES) if _is_pdb(structure) else ".cif or .mmcif"
        raise InputError(f"{output}: the copy of {structure} keeps its form; give it the ending {form}")


def atom_values(topology: Topology, values: NDArray[np.float64], chain: str | None = None) -> NDArray[np.float64]:
    """Numbers of residues -> those of all atoms of a model of the file.

    Parameters
    ----------
    topology
        Of the whole file.
    values, chain
        See `write_b_factors`.

    Returns
    -------
    (atoms of the file,) float64.
    """
    residues = np.flatnonzero(topology.is_protein)  # protein residues among all
    protein = topology.protein
    if chain is not None:
        chosen = [word.strip() for word in chain.split(",")]
        of_chosen = [chain_id in chosen for chain_id in protein.chain_ids]
        residues = residues[np.array(of_chosen)[protein.chain_of_residue]]
        protein = protein.select_chains(chosen)
    sequences, places = protein.full_sequences()
    if len(values) != sum(map(len, sequences)):
        raise InputError(f"{topology.path}: {sum(map(len, sequences))} residues, but {len(values)} numbers for them")
    of_residue = np.full(topology.num_residues, NO_VALUE)
    of_residue[residues] = values[places]
    # an alternate location, which the topology leaves out, follows an atom of its residue
    atoms = np.searchsorted(topology.file_index, np.arange(topology.atoms_in_file), side="right") - 1
    return of_residue[topology.residue_of_atom[atoms]]


def _pdb_copy(path: Path, rows: NDArray[np.float64]) -> bytes:
    """A PDB file with the numbers of the atoms of each model."""
    content = path.read_bytes()
    lines = (gzip.decompress(content) if _is_gzip(path) else content).splitlines(keepends=True)
    row = 0
    for place, line in enumerate(lines):
        if line[:6] in (b"ATOM  ", b"HETATM"):
            if row == len(rows):
                raise InputError(f"{path}: a model has more atoms than the first; leave it out")
            body = line.rstrip(b"\r\n")
            end = line[len(body) :]
            lines[place] = b"%-60b%6.2f%b%b" % (body[: B_FACTOR.start], rows[row], body[B_FACTOR.stop :], end)
            row += 1
        elif line[:3] == b"END" or line[:5] == b"MODEL":
            row = 0
    return b"".join(lines)


def _mmcif_copy(path: Path, rows: NDArray[np.float64]) -> bytes:
    """An mmCIF file with the numbers of the atoms of each model."""
    import gemmi

    document = gemmi.cif.read(str(path))
    block = document.sole_block()
    if not block.find_values("_atom_site.B_iso_or_equiv"):
        block.find_loop("_atom_site.id").get_loop().add_columns(["_atom_site.B_iso_or_equiv"], "?")
    counts: dict[str, int] = {}
    for atom in block.find("_atom_site.", ["B_iso_or_equiv", "?pdbx_PDB_model_num"]):
        model = atom[1] if atom.has(1) else ""
        row = counts.get(model, 0)
        if row == len(rows):
            raise InputError(f"{path}: model {model} has more atoms than the first; leave it out")
        atom[0] = f"{rows[row]:.2f}"
        counts[model] = row + 1
    return document.as_string().encode()


def _is_pdb(path: Path) -> bool:
    return Path(path.name.lower().removesuffix(".gz")).suffix in PDB_SUFFIXES


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"
