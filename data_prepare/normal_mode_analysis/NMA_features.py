"""Command: structure -> normal mode features.

    python data_prepare/normal_mode_analysis/NMA_features.py -i PDB -o PREFIX

writes PREFIX.npz with gnm_msf (3, N) and anm_cor (3, N, N).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from data_prepare.errors import InputError, run_command
from data_prepare.files import whole_file
from data_prepare.normal_mode_analysis.elastic_network import NMAFeatures, nma_features
from data_prepare.structure.readers import read_structure
from data_prepare.structure.sequence import ONE_LETTER
from data_prepare.structure.topology import Topology


@dataclass(frozen=True)
class Arguments:
    """Normal mode features of a structure: Gaussian and anisotropic network on C-alpha atoms."""

    input: Annotated[Path, tyro.conf.arg(aliases=["-i"])]
    """PDB or mmCIF file, also gzipped."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Prefix of the npz file to write."""
    debug: bool = False
    """Show the traceback of an error."""


def c_alpha_trace(topology: Topology, xyz: NDArray) -> tuple[Topology, NDArray[np.float64]]:
    """C-alpha atoms of all chains together, of protein residues or of residues with an amino acid's name.

    Returns
    -------
    topology
        Of these atoms: one a residue.
    xyz
        (N, 3) Angstrom.
    """
    atoms = [
        residue_atoms["CA"]
        for residue_atoms, name, protein in zip(
            topology.atoms_by_name, topology.residue_names, topology.is_protein, strict=True
        )
        if "CA" in residue_atoms and (protein or name in ONE_LETTER)
    ]
    if not atoms:
        raise InputError(f"{topology.path}: no C-alpha atoms of a protein in it")
    index = np.array(atoms)
    return topology.subset(index), np.asarray(xyz, np.float64)[index]


def nma_features_of(topology: Topology, xyz: NDArray, available: int | None = None) -> tuple[Topology, NMAFeatures]:
    """C-alpha topology and features of an opened structure.

    Parameters
    ----------
    topology, xyz
        Its atoms and their positions (atoms, 3) in Angstrom.
    available
        Bytes that may be used, by default what is free.

    Raises
    ------
    InputError
        If it has no protein, a C-alpha position cannot be used, or the memory does not suffice.
    """
    trace, positions = c_alpha_trace(topology, xyz)
    try:
        return trace, nma_features(positions, available)
    except InputError as error:
        raise InputError(f"{topology.path}: {error}") from None


def structure_features(path: str | Path, available: int | None = None) -> tuple[Topology, NMAFeatures]:
    """C-alpha topology and features of a structure file; `available` as in `nma_features_of`."""
    return nma_features_of(*read_structure(path), available)


def extract(arguments: Arguments) -> None:
    """Do what `arguments` ask for."""
    _, features = structure_features(arguments.input)
    output = arguments.output.with_name(f"{arguments.output.name}.npz")
    with whole_file(output) as temporary:
        np.savez_compressed(temporary, gnm_msf=features.gnm_msf, anm_cor=features.anm_cor)
    print(output)


def main() -> None:
    """Entry point of the command."""
    arguments = tyro.cli(Arguments, description=__doc__)
    run_command(lambda: extract(arguments), arguments.debug)


if __name__ == "__main__":
    main()
