"""Any folder of trajectories beside their topologies; entries are named by the path of the topology.

A trajectory belongs to the topology in its folder with which its name begins (`x.pdb`, `x_1.xtc`, `x_2.xtc`; the
longest one), or to the only topology of its folder. Trajectories of a topology are replicas and pooled. A topology
without trajectories is left out with a warning; list a multi-model PDB in a manifest, where it can be its own
trajectory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from data_prepare.errors import InputWarning, require
from data_prepare.sources.entry import Entry, FileEntry
from data_prepare.sources.walk import joined_name, stem, walk
from data_prepare.structure.readers import is_topology_file, suffix_of

GROUP: Final = "ATLAS_GPCRmd_PED_mdCATH"  # training group with dynamics
WANTED: Final = "topologies (PDB, mmCIF, PSF, PRMTOP, GRO) and trajectories (XTC, DCD, TRR, NetCDF) side by side"
# the first of several topologies of a system is used: PDB and mmCIF have chains and elements, PSF segments and masses
TOPOLOGY_PREFERENCE: Final = (".pdb", ".ent", ".cif", ".mmcif", ".psf", ".prmtop", ".parm7", ".gro")
SHOWN: Final = 3  # file names in a message


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per topology that has trajectories."""
    # the libraries of trajectories take seconds to import; no other source needs them for its list
    from data_prepare.molecular_dynamics.frames.trajectory import is_trajectory_file

    alone: list[str] = []
    for _, files in walk(raw):
        topologies: dict[str, Path] = {}
        for path in sorted(filter(is_topology_file, files), key=_preference):
            topologies.setdefault(stem(path), path)
        replicas: dict[str, list[Path]] = {key: [] for key in topologies}
        for path in filter(is_trajectory_file, files):
            replicas[_owner(path, list(topologies))].append(path)
        alone += [topologies[key].name for key, several in replicas.items() if not several]
        for key, several in replicas.items():
            if several:
                path, name = topologies[key], joined_name(raw, topologies[key])
                trajectories = tuple(several)
                yield FileEntry(name=name, source="trajectories", group=GROUP, path=path, trajectories=trajectories)
    if alone:
        names = ", ".join(alone[:SHOWN]) + (", ..." if len(alone) > SHOWN else "")
        message = f"{raw}: {len(alone)} topologies without a trajectory are left out: {names}"
        warnings.warn(message, InputWarning, stacklevel=2)


def _preference(path: Path) -> tuple[int, str]:
    return TOPOLOGY_PREFERENCE.index(suffix_of(path)), path.name


def _owner(trajectory: Path, stems: Sequence[str]) -> str:
    """Stem of the topology that a trajectory belongs to."""
    own = stem(trajectory)
    begins = [key for key in stems if own == key or (own.startswith(key) and not own[len(key)].isalnum())]
    problem = f"{len(stems)} topologies in its folder, its name begins with none of them"
    require(begins or len(stems) == 1, f"{trajectory}: unclear topology ({problem}); list the pairs in a manifest")
    return max(begins or stems, key=len)
