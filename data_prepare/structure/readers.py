"""Structure and topology files -> topology, named exactly as in the file, and coordinates.

The suffix decides the reader; all text formats may be gzipped. Atoms keep the order of the file, which is that of the
trajectory. The topology is that of the first model, and of alternate locations the first is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import reading, require
from data_prepare.structure import mmcif, pdb
from data_prepare.structure.atom_records import topology_of
from data_prepare.structure.force_field import gro_atoms, mdtraj_atoms, prmtop_atoms, psf_atoms
from data_prepare.structure.topology import Structure, Topology

PDB_SUFFIXES: Final = (".pdb", ".ent")
STRUCTURE_SUFFIXES: Final = (*PDB_SUFFIXES, ".cif", ".mmcif")
FORCE_FIELD_READERS: Final = {".gro": gro_atoms, ".psf": psf_atoms, ".prmtop": prmtop_atoms, ".parm7": prmtop_atoms}
STRUCTURE_FILE: Final = "a readable PDB or mmCIF file"


def suffix_of(path: str | Path) -> str:
    """Suffix of a file name in lower case, without .gz."""
    return Path(str(path).lower().removesuffix(".gz")).suffix


def is_structure_file(path: str | Path) -> bool:
    """Whether a file is PDB or mmCIF (also gzipped) by its name."""
    return suffix_of(path) in STRUCTURE_SUFFIXES


def is_topology_file(path: str | Path) -> bool:
    """Whether a file is a structure or a topology by its name."""
    return is_structure_file(path) or suffix_of(path) in FORCE_FIELD_READERS


def read_structure(path: str | Path) -> Structure:
    """First model of a structure file, alternate locations dropped; InputError if it cannot be read."""
    path = Path(path)
    require(is_structure_file(path), f"{path}: expected a PDB or mmCIF file")
    with reading(path, STRUCTURE_FILE):
        path.stat()
        if suffix_of(path) in PDB_SUFFIXES:
            with pdb.open_text(path) as file:
                return pdb.first_model(path, file)
        topology, models = mmcif.read_models(path)
        return Structure(topology, models[0][topology.file_index])


def read_topology(path: str | Path) -> Topology:
    """Topology of a topology file, or of the first model of a structure file; InputError if it cannot be read."""
    path = Path(path)
    if is_structure_file(path):
        return read_structure(path).topology
    with reading(path, "a readable topology"):
        path.stat()
        atoms = FORCE_FIELD_READERS.get(suffix_of(path), mdtraj_atoms)
        return topology_of(path, atoms(path))


def read_models(path: str | Path) -> Iterator[NDArray[np.float32]]:
    """Coordinates of one model of a PDB or mmCIF file after the other, all alternate locations included.

    Yields
    ------
    (atoms of the file, 3) float32 in Angstrom.

    Raises
    ------
    InputError
        The file cannot be read, or its models differ in their number of atoms.
    """
    path = Path(path)
    atoms = None
    with reading(path, STRUCTURE_FILE):
        path.stat()
        is_pdb = suffix_of(path) in PDB_SUFFIXES
        for number, model in enumerate(pdb.read_models(path) if is_pdb else mmcif.read_models(path)[1], 1):
            atoms = len(model) if atoms is None else atoms
            require(len(model) == atoms, f"{path}: model {number} has {len(model)} atoms, the first has {atoms}")
            yield model.astype(np.float32)
