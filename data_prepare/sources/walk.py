"""Walk over a folder of raw data: files, names of entries, their order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from data_prepare.errors import InputError
from data_prepare.sources.entry import Entry


def walk(raw: Path, wanted: str) -> list[tuple[Path, list[Path]]]:
    """Folders under `raw` with their files, in the order of names; links are followed, hidden files left out.

    Parameters
    ----------
    raw
        Folder of raw data.
    wanted
        What is looked for, for the message.

    Raises
    ------
    InputError
        If `raw` is no folder.
    """
    if not raw.is_dir():
        raise InputError(f"{raw}: no such folder; expected one with {wanted}")
    found = []
    seen = set()
    for folder, subfolders, names in os.walk(raw, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # links in a circle, or two to one folder
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found.append((Path(folder), [Path(folder, name) for name in sorted(names) if not name.startswith(".")]))
    return found


def files_under(raw: Path, wanted: str) -> list[Path]:
    """Files under a folder; see `walk`."""
    return [path for _, files in walk(raw, wanted) for path in files]


def in_order(entries: Iterable[Entry], raw: Path, wanted: str) -> list[Entry]:
    """Entries sorted by name.

    Raises
    ------
    InputError
        If there are none, or two have one name.
    """
    ordered = sorted(entries, key=lambda entry: entry.name)
    if not ordered:
        raise InputError(f"{raw}: nothing to read in it; expected {wanted}")
    for first, second in pairwise(ordered):
        if first.name == second.name:
            raise InputError(
                f"{second.paths[0]}: entry {second.name} is in {first.paths[0]} too; rename or move one of them"
            )
    return ordered


def stem(path: Path) -> str:
    """File name without .gz and without its suffix."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem


def joined_name(raw: Path, path: Path) -> str:
    """Name of an entry: its path below `raw`, joined by underscores, without suffixes."""
    return "_".join((*path.relative_to(raw).parts[:-1], stem(path)))
