"""Plain folders of structures or of trajectories."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from data_prepare.errors import InputError, InputWarning
from data_prepare.sources.entry import Entry, FileEntry
from data_prepare.sources.walk import files_under, in_order, joined_name, stem, walk
from data_prepare.structure.readers import is_structure_file, is_topology_file

STRUCTURES_GROUP: Final = "Proteinflow"
TRAJECTORIES_GROUP: Final = "ATLAS_GPCRmd_PED_mdCATH"
# of topologies with one stem the first is used: PDB and mmCIF have chains and elements, PSF has segments and masses
TOPOLOGY_PREFERENCE: Final = (".pdb", ".ent", ".cif", ".mmcif", ".psf", ".prmtop", ".parm7", ".gro")
SHOWN: Final = 3  # file names in a message


def best_topology(paths: Sequence[Path]) -> Path:
    """The one that tells most of several topologies of a system."""

    def rank(path: Path) -> tuple[int, str]:
        suffix = Path(path.name.lower().removesuffix(".gz")).suffix
        return TOPOLOGY_PREFERENCE.index(suffix), path.name

    return min(paths, key=rank)


def topologies_by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Stem -> topology file of it, the one that tells most."""
    same_stem: dict[str, list[Path]] = {}
    for path in paths:
        if is_topology_file(path):
            same_stem.setdefault(stem(path), []).append(path)
    return {key: best_topology(several) for key, several in same_stem.items()}


def shown(paths: Sequence[Path]) -> str:
    """Some file names for a message."""
    names = ", ".join(path.name for path in paths[:SHOWN])
    return names if len(paths) <= SHOWN else f"{names} and {len(paths) - SHOWN} more"


def list_structures(raw: Path) -> list[Entry]:
    """Every PDB and mmCIF file below a folder: an entry with normal modes, named by its path."""
    wanted = "PDB or mmCIF files (.pdb, .ent, .cif, .mmcif, also .gz)"
    return in_order(
        (
            FileEntry(name=joined_name(raw, path), source="structures", group=STRUCTURES_GROUP, topology=path)
            for path in files_under(raw, wanted)
            if is_structure_file(path)
        ),
        raw,
        wanted,
    )


def list_trajectories(raw: Path) -> list[Entry]:
    """Topologies below a folder with their trajectories, which are pooled; named by the path of the topology.

    A trajectory belongs to the topology in its folder with which its name begins (`x.pdb`, `x_1.xtc`, `x_2.xtc`; the
    longest one), or to the only topology of its folder. A topology without trajectories is left out with a warning;
    a multi-model PDB is an ensemble in a manifest, where it can be its own trajectory.
    """
    # the libraries of trajectories take seconds to import: only this source asks them here
    from data_prepare.molecular_dynamics.frames.trajectory import is_trajectory_file

    wanted = "topologies (PDB, mmCIF, PSF, PRMTOP, GRO) and trajectories (XTC, DCD, TRR, NetCDF) side by side"
    entries: list[Entry] = []
    alone: list[Path] = []
    for _, files in walk(raw, wanted):
        topologies = topologies_by_stem(files)
        replicas: dict[str, list[Path]] = {key: [] for key in topologies}
        for path in files:
            if is_trajectory_file(path):
                replicas[_owner(path, list(topologies))].append(path)
        for key, topology in topologies.items():
            if replicas[key]:
                name = joined_name(raw, topology)
                entries.append(
                    FileEntry(
                        name=name,
                        source="trajectories",
                        group=TRAJECTORIES_GROUP,
                        topology=topology,
                        trajectories=tuple(replicas[key]),
                    )
                )
            else:
                alone.append(topology)
    if entries and alone:
        warnings.warn(f"{raw}: left out without a trajectory: {shown(alone)}", InputWarning, stacklevel=2)
    return in_order(entries, raw, wanted)


def _owner(trajectory: Path, stems: Sequence[str]) -> str:
    """Stem of the topology that a trajectory belongs to."""
    own = stem(trajectory)
    begins = [key for key in stems if own == key or (own.startswith(key) and not own[len(key)].isalnum())]
    if begins:
        return max(begins, key=len)
    if len(stems) == 1:
        return stems[0]
    there = f"{len(stems)} topologies in its folder and its name begins with none" if stems else "none in its folder"
    raise InputError(f"{trajectory}: its topology is not clear ({there}); list the pairs in a manifest")
