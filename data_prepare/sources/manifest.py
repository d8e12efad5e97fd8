"""Entries in a CSV with the columns name, source, label, topology, trajectory and, for your own data, group.

An entry without a trajectory is a structure. Trajectories separated by `;` are replicas and pooled; a multi-model file
can be its own trajectory. Paths are relative to the CSV. Other columns are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from data_prepare.dataset.table import LABELS
from data_prepare.errors import InputError, require
from data_prepare.files import read_text_table
from data_prepare.properties import ALL_GROUPS, GROUP_OF_SOURCE, STRUCTURE_GROUPS, group_of
from data_prepare.sources.entry import Entry, FileEntry

MOST_SHOWN: Final = 3  # wrong lines in a message
KNOWN: Final = ", ".join(ALL_GROUPS)
SOURCES: Final = f"one of {', '.join(GROUP_OF_SOURCE)}; for others add a column group with {KNOWN}"
STRUCTURES: Final = f"structures belong to {' or '.join(STRUCTURE_GROUPS)}, trajectories to the other groups"
COLUMNS: Final = ("name", "source", "label", "topology", "trajectory")


def read_manifest(path: str | Path) -> list[Entry]:
    """Entries of a manifest.

    InputError if the file or a column is missing, a name is repeated, a source or label is unknown, or an entry of a
    group of structures has a trajectory or one of another group has none.
    """
    path = Path(path)
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    wrong: list[str] = []
    table = read_text_table(path, COLUMNS)
    for line, row in zip(table.index + 2, table.to_dict("records"), strict=True):
        name = row["name"]
        try:
            require(name not in lines, f"the name of line {lines.get(name)}, too; give unique names")
            entries[name] = _entry(row, path.parent)
        except InputError as error:
            wrong.append(f"line {line}, entry {name}: {error}")
        lines.setdefault(name, line)
    more = f"; {len(wrong) - MOST_SHOWN} more lines are wrong" if len(wrong) > MOST_SHOWN else ""
    require(not wrong, f"{path}: {'; '.join(wrong[:MOST_SHOWN])}{more}")
    require(entries, f"{path}: no entries; add a row per entry")
    labelled = len({entry.label == "" for entry in entries.values()}) == 1
    require(labelled, f"{path}: some entries have no label; label all, or none to split them by clusters")
    return list(entries.values())


def _entry(row: Mapping[Any, str], folder: Path) -> FileEntry:
    name, source, label, own = row["name"], row["source"], row["label"], row.get("group", "")
    require(name and "/" not in name, "give a name without '/'")
    group = group_of(source, own)
    require(group or not own, f"unknown group {own}; give {KNOWN}")
    require(group, f"unknown source {source}; give {SOURCES}")
    require(label in (*LABELS, ""), f"unknown label {label}; give train, test or nothing")
    require(row["topology"], "no topology; give a structure file, or the topology of the trajectory")
    trajectories = tuple(folder / part.strip() for part in row["trajectory"].split(";") if part.strip())
    require((group in STRUCTURE_GROUPS) != bool(trajectories), STRUCTURES)
    path = folder / row["topology"]
    return FileEntry(name=name, source=source, group=str(group), label=label, path=path, trajectories=trajectories)
