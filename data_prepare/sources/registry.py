"""The raw sources by name.

A source is a module with `WANTED`, the files it expects, and `entries(raw)`, which lists a folder by file names alone.
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
    """Entries of a source in a folder of raw data, sorted by name; `temperatures` (K) are for mdCATH.

    InputError if the folder is missing or has no entries, or two entries share a name.
    """
    raw = Path(raw)
    reader = SOURCES[source]
    require(raw.is_dir(), f"{raw}: no such folder; expected one with {reader.WANTED}")
    found = reader.entries(raw, temperatures) if reader is mdcath else reader.entries(raw)
    entries = sorted(found, key=lambda entry: entry.name)
    require(entries, f"{raw}: nothing to read; expected {reader.WANTED}")
    for first, second in pairwise(entries):
        duplicate = f"{second.paths[0]}: duplicate entry {second.name}, also in {first.paths[0]}; rename or move one"
        require(first.name != second.name, duplicate)
    return entries
