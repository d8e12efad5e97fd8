"""Structure and topology files -> topology and coordinates, with the names and the atom order of the file.

The suffix selects the reader; text formats may be gzipped. The first model and alternate location are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError, reading, require
from data_prepare.structure import mmcif, pdb
from data_prepare.structure.atom_records import topology_of
from data_prepare.structure.force_field import gro_atoms, mdtraj_atoms, prmtop_atoms, psf_atoms
from data_prepare.structure.topology import Structure, Topology

PDB_SUFFIXES: Final = (".pdb", ".ent")
STRUCTURE_SUFFIXES: Final = (*PDB_SUFFIXES, ".cif", ".mmcif")
FORCE_FIELD_READERS: Final = {".psf": psf_atoms, ".prmtop": prmtop_atoms, ".parm7": prmtop_atoms, ".gro": gro_atoms}
# the most informative first: PDB and mmCIF have chains and elements, PSF segments and masses
TOPOLOGY_SUFFIXES: Final = (*STRUCTURE_SUFFIXES, *FORCE_FIELD_READERS)
STRUCTURE_FILE: Final = "a readable PDB or mmCIF file"
NETCDF_SUFFIXES: Final = (".nc", ".netcdf", ".ncdf")
TRAJECTORY_SUFFIXES: Final = (".xtc", ".trr", ".dcd", *NETCDF_SUFFIXES)


def suffix_of(path: str | Path) -> str:
    """Suffix of a file name in lower case, without .gz."""
    return Path(str(path).lower().removesuffix(".gz")).suffix


def is_structure_file(path: str | Path) -> bool:
    """Whether a file name is that of a PDB or mmCIF file, also gzipped."""
    return suffix_of(path) in STRUCTURE_SUFFIXES


def find_structure(folder: Path, name: str) -> Path:
    """The PDB or mmCIF file NAME.pdb, NAME.cif, ... of a folder, also gzipped; InputError if there is none."""
    paths = (folder / f"{name}{suffix}{gz}" for suffix in STRUCTURE_SUFFIXES for gz in ("", ".gz"))
    found = next(filter(Path.is_file, paths), None)
    if found is None:
        raise InputError(f"{folder}: no structure of {name} ({name}.pdb, .cif, ...); add it")
    return found


def read_structure(path: str | Path) -> Structure:
    """First model of a PDB or mmCIF file, without alternate locations; InputError if it cannot be read."""
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
    """Topology of a structure or topology file; InputError if it cannot be read."""
    path = Path(path)
    if is_structure_file(path):
        return read_structure(path).topology
    require(suffix_of(path) not in TRAJECTORY_SUFFIXES, f"{path}: a trajectory; give its topology in its place")
    with reading(path, "a readable topology"):
        path.stat()
        atoms = FORCE_FIELD_READERS.get(suffix_of(path), mdtraj_atoms)
        return topology_of(path, atoms(path))


def read_models(path: str | Path) -> Iterator[NDArray[np.float32]]:
    """Coordinates (atoms of the file, 3), float32 in Angstrom, of each model of a PDB or mmCIF file.

    Alternate locations are included. InputError if the file cannot be read or its models differ in size.
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
