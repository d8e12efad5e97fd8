"""GPCRmd: membrane systems, topology (.psf, .pdb) and replicas (.dcd, .xtc) in a folder each or all in one folder.

PDB is preferred to PSF, which has no chains, insertion codes or elements; its segments are often fragments of a chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from data_prepare.files import stem
from data_prepare.sources.entry import Entry, FileEntry, UnusableEntry
from data_prepare.sources.walk import walk

SOURCE: Final = "GPCRmd"
WANTED: Final = "a folder per system with .pdb or .psf and .dcd or .xtc, or files <id>_*"
TOPOLOGY_SUFFIXES: Final = (".psf", ".pdb")
TRAJECTORY_SUFFIXES: Final = (".dcd", ".xtc")
DOWNLOADED: Final = re.compile(r"\d+_(?:dyn|trj)_(\d+)")  # <file>_dyn_<system>.pdb, <file>_trj_<system>.xtc


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per folder, named by its path, and one per id at the start of the file names in `raw` itself."""
    for folder, files in walk(raw):
        systems: dict[str, list[Path]] = {}
        for path in files:
            if path.suffix.lower() in TOPOLOGY_SUFFIXES + TRAJECTORY_SUFFIXES:
                name = _system(path) if folder == raw else "_".join(folder.relative_to(raw).parts)
                systems.setdefault(name, []).append(path)
        for name, paths in systems.items():
            yield _entry(name, paths)


def _system(path: Path) -> str:
    """Id of the system in a downloaded file's name, else the part before the first underscore."""
    match = DOWNLOADED.fullmatch(stem(path))
    return match[1] if match else stem(path).split("_")[0]


def _entry(name: str, files: Sequence[Path]) -> Entry:
    trajectories = tuple(path for path in files if path.suffix.lower() in TRAJECTORY_SUFFIXES)
    psf, pdb = ([path for path in files if path.suffix.lower() == suffix] for suffix in TOPOLOGY_SUFFIXES)
    topologies = pdb or psf
    if not topologies or not trajectories:
        missing = TRAJECTORY_SUFFIXES if topologies else TOPOLOGY_SUFFIXES
        problem = f"no {' or '.join(missing)} file; files of a system share a folder, or begin with its id"
    elif len(topologies) > 1:
        several = ", ".join(path.name for path in topologies)
        problem = f"several topologies ({several}); keep the one that belongs to the trajectories"
    else:
        return FileEntry(name=name, source=SOURCE, path=topologies[0], trajectories=trajectories)
    return UnusableEntry(name=name, source=SOURCE, path=files[0], reason=f"has {problem}")
