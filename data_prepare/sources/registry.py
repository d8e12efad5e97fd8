"""The raw sources by name.

A source is a module with `WANTED`, the files it expects, and `entries(raw)`, which lists a folder by file names alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Final

from data_prepare.errors import require, some_of
from data_prepare.sources import atlas, ensembles, gpcrmd, idrome, mdcath, ped, proteinflow, structures, trajectories
from data_prepare.sources.entry import Entry, UnusableEntry
from data_prepare.sources.walk import files_under

_MODULES = (mdcath, atlas, gpcrmd, ped, idrome, proteinflow, structures, trajectories, ensembles)
KINDS: Final = 5  # of unused files that are named
EXAMPLES: Final = 2  # of each kind
SOURCES: Final[dict[str, ModuleType]] = {module.__name__.rpartition(".")[2]: module for module in _MODULES}


def list_source(source: str, raw: str | Path, temperatures: Sequence[int] = mdcath.DEFAULT_TEMPERATURES) -> list[Entry]:
    """Entries of a source in a folder of raw data, sorted by name; `temperatures` (K) are for mdCATH.

    Entries that share a name are one that fails. InputError if the folder is missing or has no entries.
    """
    raw = Path(raw)
    reader = SOURCES[source]
    require(raw.is_dir(), f"{raw}: no such folder; expected one with {reader.WANTED}")
    found = reader.entries(raw, temperatures) if reader is mdcath else reader.entries(raw)
    entries = sorted(found, key=lambda entry: entry.name)
    require(entries, f"{raw}: nothing to read; expected {reader.WANTED}; {unused_files(raw, ()) or 'it is empty'}")
    return [_single(list(several)) for _, several in groupby(entries, key=lambda entry: entry.name)]


def _single(several: Sequence[Entry]) -> Entry:
    """The only one of some entries of a name, or one that fails."""
    first, *others = several
    if not others:
        return first
    where = ", ".join(str(entry.path) for entry in several)
    paths = [path for entry in several for path in entry.paths if path != first.path]
    return UnusableEntry(
        name=first.name,
        source=first.source,
        group=first.group,
        path=first.path,
        others=tuple(paths),
        reason=f"is a duplicate: {where}; rename or move one",
    )


def unused_files(raw: Path, entries: Iterable[Entry]) -> str | None:
    """How many files of a folder of raw data no entry uses, with the first ones of each kind; None if all are used.

    A kind is a suffix. Hidden files do not count.
    """
    used = {path for entry in entries for path in entry.paths}
    every = list(files_under(raw))
    kinds: dict[str, list[str]] = {}
    for path in every:
        if path not in used:
            kinds.setdefault(_kind(path), []).append(str(path.relative_to(raw)))
    shown = []
    for kind, names in sorted(kinds.items(), key=lambda item: -len(item[1])):
        shown.append(f"{len(names)} {kind} ({some_of(names, EXAMPLES)})")
    unused = sum(map(len, kinds.values()))
    more = [f"{len(shown) - KINDS} other kinds"] if len(shown) > KINDS else []
    return f"{unused} of {len(every)} files are not used: {', '.join(shown[:KINDS] + more)}" if unused else None


def _kind(path: Path) -> str:
    suffixes = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    return "".join(suffixes).lower() or "without suffix"
