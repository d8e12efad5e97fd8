"""The training table: a CSV with the columns name, modify_seq, source, label.

`name` is the entry of the store, `modify_seq` its chains joined by `<eos><cls>`, `source` the data set it is from (or
the training group itself, for data of one's own), `label` is train or test.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from data_prepare.errors import InputError
from data_prepare.files import read_text_table, whole_file
from data_prepare.properties import GROUP_OF_SOURCE

COLUMNS: Final = ("name", "modify_seq", "source", "label")
LABELS: Final = ("train", "test")


def _refuse(path: str | Path, bad: pd.Series, what: str) -> None:
    if bad.any():
        raise InputError(f"{path}: {int(bad.sum())} rows, first in line {int(bad.to_numpy().argmax()) + 2}: {what}")


def read_table(path: str | Path, labelled: bool = True) -> pd.DataFrame:
    """Read and check a training table.

    Parameters
    ----------
    path
        The CSV.
    labelled
        Refuse entries without a label, which wait for the split into train and test.

    Returns
    -------
    The four columns as text, and `group`: the training group of the source.

    Raises
    ------
    InputError
        If the file or a column is missing, or a row has an unknown source or label, no sequence, or a name that is
        there twice.
    """
    table = read_text_table(path, COLUMNS)[list(COLUMNS)]
    _refuse(path, table["name"].duplicated(), "the name is there twice")
    _refuse(path, table["modify_seq"] == "", "modify_seq is empty")
    if labelled:
        _refuse(path, table["label"] == "", "no label yet; `seqdance prepare --clusters FILE` makes the split")
    _refuse(path, ~table["label"].isin((*LABELS, "")), "label is neither train nor test")
    sources = ", ".join(GROUP_OF_SOURCE)
    _refuse(path, ~table["source"].isin(list(GROUP_OF_SOURCE)), f"unknown source; known are {sources}")
    return table.assign(group=table["source"].map(GROUP_OF_SOURCE))


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write the four columns of a training table; the file takes its name when it is complete."""
    with whole_file(path) as temporary:
        table[list(COLUMNS)].to_csv(temporary, index=False)


def join_tables(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Rows of several training tables, one file after the other.

    Returns
    -------
    As `read_table` gives it; labels may be empty.

    Raises
    ------
    InputError
        If a table cannot be read, or a name is in two of them.
    """
    if not paths:
        raise InputError("no training tables to join; give at least one")
    tables = [read_table(path, labelled=False) for path in paths]
    joined = pd.concat([table.assign(path=str(path)) for path, table in zip(paths, tables, strict=True)])
    repeated = joined[joined["name"].duplicated(keep=False)]
    if len(repeated):
        name = repeated["name"].iloc[0]
        first, second = repeated.loc[repeated["name"] == name, "path"].iloc[:2]
        raise InputError(f"{second}: entry {name} is in {first} too; rename one of them or leave it out")
    return joined.drop(columns="path").reset_index(drop=True)
