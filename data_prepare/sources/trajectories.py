"""Any folder with trajectories next to their topologies; entries are named by the path of the topology.

A trajectory belongs to the topology in its folder with the longest name that begins its own (`x.pdb`, `x_1.xtc`,
`x_2.xtc`), else to `topology` (`topology.pdb`, `samples.xtc`) or, if no name fits, to the only one. Trajectories of a
topology are pooled replicas. Topologies without trajectories are not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from data_prepare.files import stem
from data_prepare.sources.entry import Entry, FileEntry, UnusableEntry
from data_prepare.sources.walk import joined_name, walk
from data_prepare.structure.readers import TOPOLOGY_SUFFIXES, suffix_of

GROUP: Final = "ATLAS_GPCRmd_PED_mdCATH"  # training group with dynamics
WANTED: Final = "topologies (PDB, mmCIF, PSF, PRMTOP, GRO) and trajectories (XTC, DCD, TRR, NetCDF) side by side"
OWNER_OF_OTHERS: Final = "topology"  # name of a topology with trajectories of other names


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per topology that has trajectories, and one per trajectory without a topology, which fails."""
    for _, files in walk(raw):
        replicas, alone = paired(files)
        for path, several in replicas.items():
            name, trajectories = joined_name(raw, path), tuple(several)
            yield FileEntry(name=name, source="trajectories", group=GROUP, path=path, trajectories=trajectories)
        for path in alone:
            yield without_topology("trajectories", raw, path)


def without_topology(source: str, raw: Path, trajectory: Path) -> UnusableEntry:
    """The entry of a trajectory without a topology."""
    reason = f"has no topology that belongs to {trajectory.name}; add {stem(trajectory)}.pdb, or list it in a manifest"
    return UnusableEntry(name=joined_name(raw, trajectory), source=source, group=GROUP, path=trajectory, reason=reason)


def paired(files: Sequence[Path]) -> tuple[dict[Path, list[Path]], list[Path]]:
    """Topology -> its trajectories, if it has some, and trajectories without a topology, of the files in a folder."""
    # imported late, because the trajectory libraries need seconds
    from data_prepare.molecular_dynamics.frames.trajectory import is_trajectory_file

    topologies: dict[str, Path] = {}
    readable = (path for path in files if suffix_of(path) in TOPOLOGY_SUFFIXES)
    for path in sorted(readable, key=lambda path: TOPOLOGY_SUFFIXES.index(suffix_of(path))):
        topologies.setdefault(stem(path), path)  # of several of a system the most informative
    replicas: dict[Path, list[Path]] = {}
    alone: list[Path] = []
    for path in filter(is_trajectory_file, files):
        own = stem(path)
        begins = [key for key in topologies if own == key or (own.startswith(key) and not own[len(key)].isalnum())]
        if begins:
            replicas.setdefault(topologies[max(begins, key=len)], []).append(path)
        else:
            alone.append(path)
    only = list(topologies) if len(topologies) == 1 and not replicas else [OWNER_OF_OTHERS]
    if alone and only[0] in topologies:
        replicas.setdefault(topologies[only[0]], []).extend(alone)
        alone = []
    return replicas, alone
