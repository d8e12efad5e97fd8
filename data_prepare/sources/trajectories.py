"""Any folder with trajectories next to their topologies; entries are named by the path of the topology.

A trajectory belongs to the topology in its folder with the longest name that begins its own (`x.pdb`, `x_1.xtc`,
`x_2.xtc`), or to the only one. Trajectories of a topology are pooled replicas. Topologies without trajectories are
skipped with a warning; a multi-model PDB can be its own trajectory in a manifest.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from data_prepare.errors import InputWarning, require
from data_prepare.sources.entry import Entry, FileEntry
from data_prepare.sources.walk import joined_name, stem, walk
from data_prepare.structure.readers import TOPOLOGY_SUFFIXES, suffix_of

GROUP: Final = "ATLAS_GPCRmd_PED_mdCATH"  # training group with dynamics
WANTED: Final = "topologies (PDB, mmCIF, PSF, PRMTOP, GRO) and trajectories (XTC, DCD, TRR, NetCDF) side by side"


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per topology that has trajectories."""
    # imported late, because the trajectory libraries need seconds
    from data_prepare.molecular_dynamics.frames.trajectory import is_trajectory_file

    unused: list[str] = []
    for _, files in walk(raw):
        topologies: dict[str, Path] = {}
        readable = (path for path in files if suffix_of(path) in TOPOLOGY_SUFFIXES)
        for path in sorted(readable, key=lambda path: TOPOLOGY_SUFFIXES.index(suffix_of(path))):
            topologies.setdefault(stem(path), path)  # of several of a system the most informative
        replicas: dict[str, list[Path]] = {key: [] for key in topologies}
        for path in filter(is_trajectory_file, files):
            replicas[_owner(path, list(topologies))].append(path)
        unused += [topologies[key].name for key, several in replicas.items() if not several]
        for key, several in replicas.items():
            if several:
                path, name = topologies[key], joined_name(raw, topologies[key])
                trajectories = tuple(several)
                yield FileEntry(name=name, source="trajectories", group=GROUP, path=path, trajectories=trajectories)
    if unused:
        names = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
        message = f"{raw}: skipping {len(unused)} topologies without a trajectory: {names}"
        warnings.warn(message, InputWarning, stacklevel=2)


def _owner(trajectory: Path, stems: Sequence[str]) -> str:
    """Stem of the topology of a trajectory."""
    own = stem(trajectory)
    begins = [key for key in stems if own == key or (own.startswith(key) and not own[len(key)].isalnum())]
    problem = f"its name begins with none of the {len(stems)} topologies in its folder"
    require(begins or len(stems) == 1, f"{trajectory}: ambiguous topology: {problem}; list the pairs in a manifest")
    return max(begins or stems, key=len)
