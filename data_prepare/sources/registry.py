"""The raw sources by name, and the list of entries of a folder.

A source is a module of this folder with `WANTED`, the files it expects, and `entries(raw)`, which yields the entries
below a folder by looking at file names only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Final

from data_prepare.errors import require
from data_prepare.sources import atlas, gpcrmd, idrome, mdcath, ped, proteinflow, structures, trajectories
from data_prepare.sources.entry import Entry

_MODULES = (mdcath, atlas, gpcrmd, ped, idrome, proteinflow, structures, trajectories)
SOURCES: Final[dict[str, ModuleType]] = {module.__name__.rpartition(".")[2]: module for module in _MODULES}


def list_source(source: str, raw: str | Path, temperatures: Sequence[int] = mdcath.DEFAULT_TEMPERATURES) -> list[Entry]:
    """Entries of a source in a folder of raw data, sorted by name; `temperatures` (K) are those of mdCATH.

    Raises
    ------
    InputError
        The source is unknown, the folder is missing or has none of its files, or two entries have the same name.
    """
    raw = Path(raw)
    require(source in SOURCES, f"unknown source {source}; choose one of {', '.join(SOURCES)}")
    reader = SOURCES[source]
    require(raw.is_dir(), f"{raw}: no such folder; expected one with {reader.WANTED}")
    found = reader.entries(raw, temperatures) if reader is mdcath else reader.entries(raw)
    entries = sorted(found, key=lambda entry: entry.name)
    require(entries, f"{raw}: nothing to read; expected {reader.WANTED}")
    for first, second in pairwise(entries):
        twice = f"{second.paths[0]}: entry {second.name} is in {first.paths[0]} too; rename or move one of them"
        require(first.name != second.name, twice)
    return entries
