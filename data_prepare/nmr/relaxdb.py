"""RelaxDB and RelaxDB-CPMG as published: a JSON by columns, or a folder with one pickle per protein."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from data_prepare.errors import reading, require
from data_prepare.nmr.assignments import assignment_table, check_assignments
from data_prepare.pickles import load_restricted

FIELDS: Final = ("entry_ID", "sequence", "label")
PICKLES: Final = (".pkl", ".pickle")


def read_relaxdb(path: str | Path, source: Literal["relaxdb", "cpmg"] = "relaxdb") -> pd.DataFrame:
    """Table of assignment codes of RelaxDB or RelaxDB-CPMG, in the order of the file or of the file names.

    `path` is a JSON `{column: {row: value}}`, or a folder of pickled mappings, with entry_ID, sequence and label.
    InputError if a file cannot be read, a field is missing, or codes do not fit their sequence or source.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in PICKLES)
        require(files, f"{path}: no file *{' or *'.join(PICKLES)}")
        rows = []
        for file in files:
            with reading(file, f"a pickled mapping with {', '.join(FIELDS)}"):
                protein: Any = load_restricted(file)
                rows.append(_row(protein))
    else:
        with reading(path, f"a JSON of the form {{column: {{row: value}}}} with the columns {', '.join(FIELDS)}"):
            columns = json.loads(path.read_text())
            names = columns["entry_ID"]
            rows = [_row({field: columns[field][row] for field in FIELDS}) for row in names]
            if any(columns[field].keys() != names.keys() for field in FIELDS):
                raise ValueError("the columns have different rows")
    table = assignment_table(rows, source)
    check_assignments(table, path)
    return table


def _row(protein: Mapping[str, Any]) -> tuple[str, str, str]:
    """Entry, sequence and codes as strings, from a name or number and lists of characters."""
    name, *texts = (protein[field] for field in FIELDS)
    if isinstance(name, bool) or not isinstance(name, str | int | np.integer):
        raise TypeError(f"entry_ID is {name!r}")
    sequence, codes = ("".join(text) for text in texts)
    return str(name), sequence, codes


def read_split_list(path: str | Path) -> list[str]:
    """Distinct names of a split list, one per line; InputError if there are none."""
    with reading(path, "a split list with one entry per line"):
        lines = Path(path).read_text().splitlines()
    names = list(dict.fromkeys(name for line in lines if (name := line.strip())))
    require(names, f"{path}: no entries; write one name per line")
    return names


def select_entries(table: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the named entries, in the order of the table, and the names that it lacks."""
    held = set(table["entry_ID"])
    return table[table["entry_ID"].isin(names)].reset_index(drop=True), [name for name in names if name not in held]
