"""RelaxDB and RelaxDB-CPMG as published: a JSON by columns, or a folder with one pickle per protein."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from data_prepare.errors import InputError
from data_prepare.nmr.assignments import assignment_table, check_assignments
from data_prepare.pickles import load_restricted

FIELDS: Final = ("entry_ID", "sequence", "label")
PICKLES: Final = (".pkl", ".pickle")


def read_relaxdb(path: str | Path, source: Literal["relaxdb", "cpmg"] = "relaxdb") -> pd.DataFrame:
    """Read RelaxDB or RelaxDB-CPMG.

    Parameters
    ----------
    path
        JSON `{column: {row: value}}`, or folder of pickles that hold a mapping; both with entry_ID, sequence and label.
    source
        Which of the two: it tells how the characters of the label are read.

    Returns
    -------
    Table of labels (`labels.COLUMNS`), in the order of the file, or of the file names.

    Raises
    ------
    InputError
        If a file cannot be read, a field is missing, or a label does not fit its sequence or its source.
    """
    path = Path(path)
    rows = _pickled_rows(path) if path.is_dir() else _json_rows(path)
    table = assignment_table(rows, source)
    check_assignments(table, str(path))
    return table


def _json_rows(path: Path) -> list[tuple[str, str, str]]:
    try:
        columns = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected the JSON of RelaxDB or a folder of pickles") from None
    except (ValueError, RecursionError) as error:  # no JSON, no text
        raise InputError(f"{path}: not a readable JSON ({error}); copy it again") from None
    if not isinstance(columns, dict) or any(not isinstance(columns.get(field), dict) for field in FIELDS):
        raise InputError(f"{path}: expected {{column: {{row: value}}}} with the columns {', '.join(FIELDS)}")
    names = columns["entry_ID"]
    if any(columns[field].keys() != names.keys() for field in FIELDS):
        raise InputError(f"{path}: the columns {', '.join(FIELDS)} have not the same rows")
    return [_row({field: columns[field][row] for field in FIELDS}, f"{path}, row {row}") for row in names]


def _pickled_rows(folder: Path) -> list[tuple[str, str, str]]:
    files = sorted(path for path in folder.iterdir() if path.suffix in PICKLES)
    if not files:
        raise InputError(f"{folder}: no file *{' or *'.join(PICKLES)}")
    rows = []
    for path in files:
        protein = load_restricted(path)
        if not isinstance(protein, Mapping) or any(field not in protein for field in FIELDS):
            raise InputError(f"{path}: expected a mapping with {', '.join(FIELDS)}")
        rows.append(_row(protein, str(path)))
    return rows


def _row(protein: Mapping[str, Any], place: str) -> tuple[str, str, str]:
    """Entry, sequence and label as text; a label may be a list of characters, an entry a number."""
    name, *texts = (protein[field] for field in FIELDS)
    if isinstance(name, bool) or not isinstance(name, str | int | np.integer | np.str_):
        raise InputError(f"{place}: entry_ID is {name!r}; expected a name")
    joined = [
        "".join(text) if isinstance(text, list | tuple) and all(isinstance(c, str) for c in text) else text
        for text in (text.tolist() if isinstance(text, np.ndarray) else text for text in texts)
    ]
    if any(not isinstance(text, str) for text in joined):
        raise InputError(f"{place}: sequence and label of entry {name} are not both text")
    return str(name), str(joined[0]), str(joined[1])


def read_split_list(path: str | Path) -> list[str]:
    """Names of a split list, one per line; empty lines are passed over.

    Raises
    ------
    InputError
        If the file is missing, no text, or names nothing.
    """
    try:
        names = [line.strip() for line in Path(path).read_text().splitlines()]
    except FileNotFoundError:
        raise InputError(f"{path}: no such split list; expected one entry per line") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file ({error})") from None
    if not any(names):
        raise InputError(f"{path}: names no entry")
    return list(dict.fromkeys(name for name in names if name))


def select_entries(table: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the named entries, in the order of the table, and the names that it does not have."""
    held = set(table["entry_ID"])
    return table[table["entry_ID"].isin(names)].reset_index(drop=True), [name for name in names if name not in held]
