"""Entries in a CSV with the columns name, source, label, topology, trajectory and, for your own data, group.

An entry without a trajectory is a structure. Trajectories separated by `;` are replicas and pooled; a multi-model file
can be its own trajectory. Paths are relative to the CSV. Other columns are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from data_prepare.dataset.table import LABELS
from data_prepare.errors import require
from data_prepare.files import read_text_table
from data_prepare.properties import ALL_GROUPS, GROUP_OF_SOURCE, STRUCTURE_GROUPS, group_of
from data_prepare.sources.entry import Entry, FileEntry

COLUMNS: Final = ("name", "source", "label", "topology", "trajectory")


def read_manifest(path: str | Path) -> list[Entry]:
    """Entries of a manifest.

    InputError if the file or a column is missing, a name is repeated, a source or label is unknown, or an entry of a
    group of structures has a trajectory or one of another group has none.
    """
    path = Path(path)
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    known = ", ".join(ALL_GROUPS)
    sources = f"one of {', '.join(GROUP_OF_SOURCE)}; for others add a column group with {known}"
    groups = f"structures belong to {' or '.join(STRUCTURE_GROUPS)}, trajectories to the other groups"
    for line, row in enumerate(read_text_table(path, COLUMNS).to_dict("records"), 2):
        name, source, label = row["name"], row["source"], row["label"]
        group = group_of(source, row.get("group", "")) or ""
        trajectories = tuple(path.parent / part.strip() for part in row["trajectory"].split(";") if part.strip())
        where = f"{path}: line {line}, entry {name}"
        require(name and "/" not in name, f"{where}: give a name without '/'")
        require(name not in entries, f"{where}: the name of line {lines.get(name)}, too; give unique names")
        lines[name] = line
        if own := row.get("group", ""):
            require(group, f"{where}: unknown group {own}; give {known}")
        require(group, f"{where}: unknown source {source}; give {sources}")
        require(label in (*LABELS, ""), f"{where}: unknown label {label}; give train, test or nothing")
        require(row["topology"], f"{where}: no topology; give a structure file, or the topology of the trajectory")
        require((group in STRUCTURE_GROUPS) != bool(trajectories), f"{where}: {groups}")
        topology = path.parent / row["topology"]
        entries[name] = FileEntry(
            name=name, source=source, group=group, label=label, path=topology, trajectories=trajectories
        )
    require(entries, f"{path}: no entries; add a row per entry")
    labelled = len({entry.label == "" for entry in entries.values()}) == 1
    require(labelled, f"{path}: some entries have no label; label all, or none to split them by clusters")
    return list(entries.values())
