"""Shapes of protein chains for the notebook on embeddings: a table made from a folder of structures.

    python notebook/make_shapes.py --structures FOLDER --output notebook/shapes.csv

Each row is a chain of at least 30 residues without gaps: neighbouring C-alpha atoms are at most 4.5 Angstrom apart.
Of equal sequences only the first is used. Columns:

- name (file and chain; a second chain with the same id gets a 2), sequence (of the residues with coordinates);
- rg_nm: radius of gyration of the C-alpha atoms; re_nm: distance between the first and the last of them;
- asphericity: (l1 - (l2 + l3) / 2) / (l1 + l2 + l3) with the eigenvalues l1 >= l2 >= l3 of their gyration tensor, whose
  sum is Rg^2: 0 for a sphere, 1 for a rod;
- cluster: representative of its cluster, at 50 % identity over 80 % of both sequences (MMseqs2);
- split_0 ... split_19: train or test (a fifth of the chains, whole clusters), with seeds 0 ... 19.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from data_prepare.command_line import Settings, run
from data_prepare.dataset.splits import mmseqs_clusters, split_by_cluster
from data_prepare.errors import require
from data_prepare.files import stem, whole_file
from data_prepare.structure.readers import is_structure_file, read_structure

MIN_RESIDUES: Final = 30
MAX_STEP: Final = 4.5  # Angstrom between neighbouring C-alpha atoms; 3.8 is usual; more means missing residues
SPLITS: Final = 20
TEST_FRACTION: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class ShapesOptions(Settings):
    """Table of the shapes of protein chains."""

    structures: Path
    """Folder of PDB or mmCIF files (.gz too), searched with its subfolders."""
    output: Path = Path("notebook/shapes.csv")
    """The CSV."""
    debug: bool = False
    """Show the traceback of an error."""


class Shape(NamedTuple):
    """Shape of a chain."""

    rg_nm: float
    re_nm: float
    asphericity: float


def shape_of(xyz: NDArray[np.float64]) -> Shape:
    """Shape of (N, 3) positions in nm with equal weights, in the order of the chain."""
    centred = xyz - xyz.mean(axis=0)
    l3, l2, l1 = np.linalg.eigvalsh(centred.T @ centred / len(xyz))  # ascending, nm^2
    square = l1 + l2 + l3  # Rg^2
    end_to_end = np.linalg.norm(xyz[-1] - xyz[0])
    return Shape(float(np.sqrt(square)), float(end_to_end), float((l1 - (l2 + l3) / 2) / square))


def chains_without_gaps(path: Path) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Name, sequence and C-alpha positions (N, 3) in nm of the chains of a structure without gaps."""
    topology, xyz = read_structure(path)
    atoms_of, residues = topology.atoms_by_name, np.flatnonzero(topology.is_protein)
    chain_of = topology.chain_of_residue[residues]
    seen: Counter[str] = Counter()
    for chain, sequence in zip(np.unique(chain_of), topology.protein.chain_sequences(), strict=True):
        chain_id = topology.chain_ids[chain] or "X"
        seen[chain_id] += 1
        name = f"{stem(path)}_{chain_id}{seen[chain_id] if seen[chain_id] > 1 else ''}"
        ca = xyz[[atoms_of[residue]["CA"] for residue in residues[chain_of == chain]]]  # (N, 3) Angstrom
        if (np.linalg.norm(np.diff(ca, axis=0), axis=1) <= MAX_STEP).all():
            yield name, sequence, ca / 10


def make_shapes(options: ShapesOptions) -> list[str]:
    """Write the table; returns a line of summary."""
    folder = options.structures
    paths = sorted(path for path in folder.rglob("*") if is_structure_file(path))
    require(paths, f"{folder}: no PDB or mmCIF file in this folder; give another one")
    rows: dict[str, tuple[str, Shape]] = {}
    sequences: set[str] = set()
    for path in tqdm(paths, unit="structure"):
        for name, sequence, xyz in chains_without_gaps(path):
            if len(sequence) >= MIN_RESIDUES and sequence not in sequences:
                require(name not in rows, f"{path}: duplicate chain {name}; rename the file")
                sequences.add(sequence)
                rows[name] = (sequence, shape_of(xyz))
    require(rows, f"{folder}: no chain of {MIN_RESIDUES} residues without a gap; give other structures")
    clusters = mmseqs_clusters({name: sequence for name, (sequence, _) in rows.items()})
    table = pd.DataFrame(
        [(name, sequence, *shape, clusters[name]) for name, (sequence, shape) in rows.items()],
        columns=["name", "sequence", *Shape._fields, "cluster"],
    )
    for seed in range(SPLITS):
        labels = split_by_cluster(list(rows), clusters, TEST_FRACTION, seed)
        table[f"split_{seed}"] = table["name"].map(labels)
    with whole_file(options.output) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    return [f"{options.output}: {len(table)} chains in {table['cluster'].nunique()} clusters"]


main = partial(run, ShapesOptions, make_shapes)

if __name__ == "__main__":
    main()
