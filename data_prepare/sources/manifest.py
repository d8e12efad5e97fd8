"""Entries listed in a CSV with the columns name, source, label, topology, trajectory, and group for data of your own.

No trajectory is a structure; several, separated by `;`, are replicas, pooled to one ensemble; a multi-model PDB can be
its own trajectory. Paths are relative to the folder of the CSV. Other columns are left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from data_prepare.dataset.table import LABELS
from data_prepare.errors import InputError
from data_prepare.files import read_text_table
from data_prepare.properties import GROUP_OF_SOURCE, GROUPS, NMA_GROUPS, group_of
from data_prepare.sources.entry import Entry, FileEntry

COLUMNS: Final = ("name", "source", "label", "topology", "trajectory")
REPLICA_SEPARATOR: Final = ";"


def read_manifest(path: str | Path) -> list[Entry]:
    """Entries of a manifest.

    Raises
    ------
    InputError
        If the file or a column is missing, a name is there twice, a source or label is unknown, or an entry of a group
        of normal modes has a trajectory or one of a group of dynamics has none.
    """
    path = Path(path)
    table = read_text_table(path, COLUMNS)
    entries: dict[str, Entry] = {}
    for line, row in enumerate(table.to_dict("records"), 2):
        name, source, label = row["name"], row["source"], row["label"]
        group = group_of(source, row.get("group", ""))
        where = f"{path}: line {line}, entry {name}"
        if not name or "/" in name or name in entries:
            raise InputError(f"{where}: names are unique, not empty and without '/'")
        if group is None:
            raise InputError(
                f"{where}: unknown source {source}; known are {', '.join(GROUP_OF_SOURCE)}; for others add a column "
                f"group with {', '.join(GROUPS)}"
            )
        if label not in (*LABELS, ""):
            raise InputError(
                f"{where}: label {label} is neither train nor test, nor left empty for a split by clusters"
            )
        if not row["topology"]:
            raise InputError(f"{where}: no topology; give a structure file, or the topology of the trajectory")
        replicas = [part.strip() for part in row["trajectory"].split(REPLICA_SEPARATOR) if part.strip()]
        if (group in NMA_GROUPS) == bool(replicas):
            raise InputError(f"{where}: structures belong to {', '.join(NMA_GROUPS)}, trajectories to the other groups")
        entries[name] = FileEntry(
            name=name,
            source=source,
            group=group,
            label=label,
            path=path.parent / row["topology"],
            trajectories=tuple(path.parent / replica for replica in replicas),
        )
    if not entries:
        raise InputError(f"{path}: no entries in it")
    if len({entry.label == "" for entry in entries.values()}) == 2:
        raise InputError(f"{path}: some entries have a label, some have none; label all, or leave all to the split")
    return list(entries.values())
