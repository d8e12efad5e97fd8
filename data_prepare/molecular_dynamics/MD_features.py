"""Command: trajectory -> residue table and pair array.

    python data_prepare/molecular_dynamics/MD_features.py -p PDB -t TRAJ [-i CONTACTS] -o PREFIX

writes PREFIX_res_feature.csv (a row per residue) and PREFIX_pair_feature.npz (key `array`, (N, N, 10)). Chains that the
periodic box has broken are made whole; for a contact file of such a trajectory ask for the same (`--whole`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from data_prepare.errors import run_command
from data_prepare.files import whole_file
from data_prepare.molecular_dynamics.features.accumulators import MDFeatures, md_features
from data_prepare.molecular_dynamics.frames.trajectory import Chunk, count_frames, read_chunks
from data_prepare.structure.readers import read_topology


@dataclass(frozen=True)
class Arguments:
    """Residue and pair features of a molecular dynamics trajectory."""

    pdb: Annotated[Path, tyro.conf.arg(aliases=["-p"])]
    """Topology with hydrogens: PDB, mmCIF, GRO, PSF or PRMTOP."""
    trajectory: Annotated[Path, tyro.conf.arg(aliases=["-t"])]
    """XTC, DCD, TRR, NetCDF or multi-model PDB with the same atoms."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Prefix of the two files to write."""
    interactions: Annotated[Path | None, tyro.conf.arg(aliases=["-i"])] = None
    """Contact file of get_dynamic_contacts.py; without it contacts are found on the way."""
    debug: bool = False
    """Show the traceback of an error."""


def write_features(features: MDFeatures, prefix: Path) -> tuple[Path, Path]:
    """Write the residue table and the pair array; returns their paths."""
    table = prefix.with_name(f"{prefix.name}_res_feature.csv")
    array = prefix.with_name(f"{prefix.name}_pair_feature.npz")
    with whole_file(table) as temporary:
        features.residue.to_csv(temporary, index=False)
    with whole_file(array) as temporary:
        np.savez_compressed(temporary, array=features.pair)
    return table, array


def extract(arguments: Arguments) -> None:
    """Do what `arguments` ask for."""
    topology = read_topology(arguments.pdb)
    total = count_frames(arguments.trajectory)
    with tqdm(total=total, desc="features", unit="frame") as bar:

        def chunks() -> Iterator[Chunk]:
            for chunk in read_chunks(topology, arguments.trajectory, whole=True):
                yield chunk
                bar.update(len(chunk.numbers))

        features = md_features(topology, chunks(), arguments.interactions)
    for path in write_features(features, arguments.output):
        print(path)


def main() -> None:
    """Entry point of the command."""
    arguments = tyro.cli(Arguments, description=__doc__)
    run_command(lambda: extract(arguments), arguments.debug)


if __name__ == "__main__":
    main()
