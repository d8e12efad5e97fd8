"""The training table: a CSV with the columns name, modify_seq, source, group, label.

`name` is the entry of the store, `modify_seq` its chains joined by `<eos><cls>`, `source` its data set, `group` its
training group, `label` is train or test. Published tables have no column `group`: the source determines it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from data_prepare.errors import require
from data_prepare.files import read_text_table, whole_file
from data_prepare.properties import ALL_GROUPS, GROUP_OF_SOURCE, group_of

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = ("name", "modify_seq", "source", "group", "label")
LABELS: Final = ("train", "test")


def _with_groups(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of a training table; unknown groups are empty."""
    given = table["group"] if "group" in table else [""] * len(table)
    groups = [group_of(source, group) or "" for source, group in zip(table["source"], given, strict=True)]
    return table.assign(group=groups)[list(COLUMNS)]


def read_table(path: str | Path, labelled: bool = True) -> pd.DataFrame:
    """Read the five columns of a training table as text.

    InputError if the file, a column or any row is missing, or a row has an unknown source, group or label, no sequence,
    a duplicate name or, if `labelled`, no label.
    """
    table = _with_groups(read_text_table(path, [column for column in COLUMNS if column != "group"]))
    require(len(table), f"{path}: no rows; expected one per entry")
    label = table["label"]
    for bad, problem in (
        (table["name"].duplicated(), "duplicate name"),
        (table["modify_seq"] == "", "modify_seq is empty"),
        ((label == "") & labelled, "no label; split the entries with `seqdance prepare --clusters FILE`"),
        (~label.isin((*LABELS, "")), "label must be train or test"),
        (
            table["group"] == "",
            f"unknown source or group; sources are {', '.join(GROUP_OF_SOURCE)}, groups {', '.join(ALL_GROUPS)}",
        ),
    ):
        lines = table.index[bad] + 2
        require(lines.empty, f"{path}: {len(lines)} rows, first in line {lines.min()}: {problem}")
    return table


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write the columns of a training table atomically."""
    with whole_file(path) as temporary:
        _with_groups(table).to_csv(temporary, index=False)


def join_tables(paths: Sequence[str | Path], origin: Mapping[str, int]) -> pd.DataFrame:
    """Concatenate training tables; labels may be empty, names must be unique.

    `origin` maps an entry to the index of its table (see `store_of_each`): its rows in the others are left out.
    """
    import pandas as pd

    seen: dict[str, str | Path] = {}
    tables = []
    for number, path in enumerate(paths):
        table = read_table(path, labelled=False)
        table = table[[origin.get(name, number) == number for name in table["name"]]]
        for name in table["name"]:
            require(name not in seen, f"{path}: duplicate entry {name}, also in {seen.get(name)}; rename one")
            seen[name] = path
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
