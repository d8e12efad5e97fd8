"""Files in a folder of raw data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from data_prepare.files import stem


def walk(raw: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Folders under `raw` with their files, sorted by name, without hidden ones; follows links."""
    seen = set()
    for folder, subfolders, names in os.walk(raw, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # circular or repeated links
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(folder), [Path(folder, name) for name in sorted(names) if not name.startswith(".")]


def files_under(raw: Path) -> Iterator[Path]:
    """All files under a folder; see `walk`."""
    return (path for _, files in walk(raw) for path in files)


def joined_name(raw: Path, path: Path) -> str:
    """Name of an entry: its path below `raw` without suffixes, joined by underscores."""
    return "_".join((*path.relative_to(raw).parts[:-1], stem(path)))
