"""GPCRmd: a membrane system per folder, topology (.psf, .pdb) and replicas (.dcd, .xtc); or all files in one folder.

PDB is preferred to PSF: a PSF knows no chains but segments, which often are fragments of a chain, no insertion codes
and no elements, and names atoms no better. Lipids, water, ions and ligands are no protein residues (atoms N, CA and C)
and have no features.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from data_prepare.sources.entry import Entry, FileEntry, UnusableEntry
from data_prepare.sources.walk import in_order, stem, walk

SOURCE: Final = "GPCRmd"
TOPOLOGY_SUFFIXES: Final = (".psf", ".pdb")
TRAJECTORY_SUFFIXES: Final = (".dcd", ".xtc")
DOWNLOADED: Final = re.compile(r"\d+_(?:dyn|trj)_(\d+)")  # <file>_dyn_<system>.pdb, <file>_trj_<system>.xtc


def list_entries(raw: Path) -> list[Entry]:
    """One entry a folder, named by its path; of files in `raw` itself one for each id that their names begin with."""
    wanted = "a folder per system with .pdb or .psf and .dcd or .xtc, or files <id>_*"
    entries: list[Entry] = []
    for folder, files in walk(raw, wanted):
        files = [path for path in files if _is_of(path, TOPOLOGY_SUFFIXES + TRAJECTORY_SUFFIXES)]
        if folder != raw:
            if files:
                entries.append(_entry("_".join(folder.relative_to(raw).parts), files))
            continue
        systems: dict[str, list[Path]] = {}
        for path in files:
            systems.setdefault(_system(path), []).append(path)
        entries += [_entry(name, paths) for name, paths in systems.items()]
    return in_order(entries, raw, wanted)


def _is_of(path: Path, suffixes: Sequence[str]) -> bool:
    return path.suffix.lower() in suffixes


def _system(path: Path) -> str:
    """Id of the system in a file name: that of a download, else what is before the first underscore."""
    name = stem(path)
    match = DOWNLOADED.fullmatch(name)
    return match[1] if match else name.split("_")[0]


def _entry(name: str, files: Sequence[Path]) -> Entry:
    trajectories = tuple(path for path in files if _is_of(path, TRAJECTORY_SUFFIXES))
    topologies = [path for path in files if _is_of(path, TOPOLOGY_SUFFIXES)]
    pdb = [path for path in topologies if path.suffix.lower() == ".pdb"]
    folder = files[0].parent
    several = pdb or topologies
    if not topologies or not trajectories:
        reason = f"no {' or '.join(TRAJECTORY_SUFFIXES if topologies else TOPOLOGY_SUFFIXES)} file"
    elif len(several) > 1:
        reason = f"several topologies ({', '.join(path.name for path in several)}), keep that of the trajectories"
    else:
        return FileEntry(name=name, source=SOURCE, topology=several[0], trajectories=trajectories)
    reason = (
        f"{folder}: entry {name} has {reason}; files of one system are in a folder of their own, or begin with its id"
    )
    return UnusableEntry(name=name, source=SOURCE, files=tuple(files), reason=reason)
