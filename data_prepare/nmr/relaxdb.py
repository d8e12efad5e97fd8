"""RelaxDB, RelaxDB-CPMG and mBMRB as published: a JSON by columns, or one pickle per protein; zipped or not.

Archives hold several sets, told apart by the names of their entries: `15000_0` (BMRB id and entity) is of mBMRB,
NAME_CPMG of RelaxDB-CPMG, all others are of RelaxDB.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from data_prepare.errors import InputWarning, reading, require, shown
from data_prepare.files import csv_pieces, read_text
from data_prepare.nmr.assignments import DSSP, FIELD_STRENGTH, assignment_table, check_assignments
from data_prepare.nmr.choices import Source
from data_prepare.pickles import load_restricted

FIELDS: Final = ("entry_ID", "sequence", "label")
PICKLES: Final = (".pkl", ".pickle")
BY_COLUMNS: Final = f"a JSON of the form {{column: {{row: value}}}} with the columns {', '.join(FIELDS)}"
AT_FIELD_STRENGTH: Final = r"_[\d.]+MHz$"  # of the name of an entry
Columns = dict[str, dict[str, Any]]  # column -> row -> value


def read_relaxdb(path: str | Path, source: Source = "relaxdb", names: list[str] | None = None) -> pd.DataFrame:
    """Table of assignment codes of a published set, in the order of the file or of the file names.

    `path` is a JSON `{column: {row: value}}`, a folder of pickled mappings with entry_ID, sequence and label, or a zip
    of either. Only the entries in `names` are read, possibly none, at all field strengths (see `select_entries`);
    without names, those of the set (a warning counts the others). A column DSSP becomes `dssp`, and field_strength
    (MHz) is kept. A protein measured at several is one entry for each, named `<entry>_<strength>MHz`. InputError if a
    file cannot be read, a field is missing, or codes do not fit their sequence or source.
    """
    path = Path(path)
    proteins = [_plain(protein, where) for where, protein in _proteins(path)]
    if names is not None:
        wanted = {*names, *map(without_field_strength, names)}
        proteins = [protein for protein in proteins if protein["entry_ID"] in wanted]
        if not proteins:
            return assignment_table([], source)
    elif any(set_of(protein["entry_ID"]) == source for protein in proteins):
        own = [protein for protein in proteins if set_of(protein["entry_ID"]) == source]
        if others := len(proteins) - len(own):
            line = f"{path}: {others} entries of other sets left out (by their names); name entries with --split-list"
            warnings.warn(line, InputWarning, stacklevel=2)
        proteins = own
    table = assignment_table([(p["entry_ID"], p["sequence"], p["label"]) for p in proteins], source)
    for column in (DSSP, FIELD_STRENGTH):
        if any(protein[column] for protein in proteins):
            table[column] = [protein[column] for protein in proteins]
    if FIELD_STRENGTH in table:
        several = table["entry_ID"].duplicated(keep=False) & (table[FIELD_STRENGTH] != "")
        table.loc[several, "entry_ID"] += "_" + table[FIELD_STRENGTH] + "MHz"
    check_assignments(table, path)
    return table


def set_of(name: str) -> Source:
    """Published set of an entry, by its name."""
    return "cpmg" if name.endswith("_CPMG") else "mbmrb" if re.fullmatch(r"\d+_\d+", name) else "relaxdb"


def _proteins(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """File or row, and mapping, of each protein."""
    pickles = f"a pickled mapping with {', '.join(FIELDS)}"
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in PICKLES and not file.name.startswith("._"))
        require(files, f"{path}: no file *{' or *'.join(PICKLES)}; give the folder of the pickles")
        for file in files:
            with reading(file, pickles):
                yield str(file), load_restricted(file)  # type: ignore[misc]
    elif members := [name for name in _members(path) if name.endswith(PICKLES)]:
        with zipfile.ZipFile(path) as archive:
            for name in members:
                with reading(f"{path}, {name}", pickles):
                    yield f"{path}, {name}", load_restricted(f"{path}, {name}", archive.read(name))  # type: ignore[misc]
    else:
        with reading(path, BY_COLUMNS):
            columns = read_columns(path)
            rows = columns["entry_ID"].keys()
            if any(columns[field].keys() != rows for field in FIELDS):
                raise ValueError("the columns have different rows")
            for row in rows:
                yield str(path), {name: column[row] for name, column in columns.items() if row in column}


def read_columns(path: Path) -> Columns:
    """Columns of a JSON `{column: {row: value}}`, also zipped; InputError if it is another file."""
    with reading(path, BY_COLUMNS):
        if not zipfile.is_zipfile(path):
            columns = json.loads(read_text(path, BY_COLUMNS))
        else:
            names = [name for name in _members(path) if name.endswith(".json")]
            require(len(names) == 1, f"{path}: an archive without pickles that has {len(names)} JSON files, not one")
            with zipfile.ZipFile(path) as archive:
                columns = json.loads(archive.read(names[0]))
        if not all(isinstance(column, dict) for column in [columns, *columns.values()]):
            raise TypeError("not {column: {row: value}}")
    return columns


def has_columns(path: Path) -> bool:
    """Whether a file is a JSON of columns, by its name and, of an archive, by what it holds."""
    return path.suffix == ".json" or any(name.endswith(".json") for name in _members(path))


def _members(path: Path) -> list[str]:
    """Names of the files in an archive, without the notes of macOS; none of another file."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return []
    with reading(path, "a zip archive"), zipfile.ZipFile(path) as archive:
        return sorted(name for name in archive.namelist() if "__MACOSX" not in name and not name.endswith("/"))


def _plain(protein: Any, where: str) -> dict[str, str]:
    """Fields as strings, from a name or number and lists of characters; dssp and field_strength may be empty."""
    with reading(where, f"a protein with {', '.join(FIELDS)}"):
        name, *texts = (protein[field] for field in FIELDS)
        if isinstance(name, bool) or not isinstance(name, str | int | np.integer):
            raise TypeError(f"entry_ID is {shown(name)}")
        sequence, codes = ("".join(text) for text in texts)
        sequence = "".join("X" if letter in "BJOUZ" else letter for letter in sequence)
        strength = protein.get(FIELD_STRENGTH)
        known = isinstance(strength, int | float | np.number) and strength == strength
        dssp = protein.get("DSSP", protein.get(DSSP))
        dssp = "".join(dssp) if isinstance(dssp, str | list) else ""
    plain = {"entry_ID": str(name), "sequence": sequence, "label": codes, DSSP: dssp}
    return plain | {FIELD_STRENGTH: f"{strength:g}" if known else ""}


def read_dssp_strings(path: Path) -> dict[str, list[Any]]:
    """DSSP strings of each entry in the order of a file, without empty ones; none if it has no column dssp or DSSP.

    The file is a CSV (.gz too) with the entry in the column entry_ID or PDB, or a JSON of columns, also zipped.
    """
    if has_columns(path):
        table = pd.DataFrame(read_columns(path))
    else:
        (table,) = csv_pieces(path)
    name = next((column for column in ("entry_ID", "PDB") if column in table), None)
    require(name, f"{path}: missing columns: entry_ID; expected entry_ID (or PDB) and dssp")
    column = next((column for column in (DSSP, "DSSP") if column in table), None)
    if column is None:
        return {}
    require(table[name].notna().all(), f"{path}: dssp has rows that {name} lacks; write both for each entry")
    given = table[column].notna() & (table[column] != "")
    texts: dict[str, list[Any]] = {}
    for entry, text in zip(table[name][given].astype(str), table[column][given], strict=True):
        texts.setdefault(entry, []).append(text)
    return texts


def dssp_of(texts: Mapping[str, Sequence[Any]], entry: str, length: int) -> Any:
    """The last of an entry's `read_dssp_strings` with its length, otherwise the last; None if it has none.

    Those of a protein without field strength stand for its measurements.
    """
    given = texts.get(entry) or texts.get(without_field_strength(entry)) or [None]
    return next((text for text in reversed(given) if isinstance(text, str) and len(text) == length), given[-1])


def without_field_strength(name: str) -> str:
    """Name of the protein of an entry."""
    return re.sub(AT_FIELD_STRENGTH, "", name)


def add_dssp(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Fill the column dssp of a table of codes from the strings of a file that have the length of the sequence."""
    texts, found = read_dssp_strings(path), []
    for name, sequence in zip(table["entry_ID"], table["sequence"], strict=True):
        text = dssp_of(texts, name, len(sequence))
        found.append(text if isinstance(text, str) and len(text) == len(sequence) else "")
    require(any(found), f"{path}: no DSSP string of these entries with the length of its sequence; give another file")
    return table.assign(**{DSSP: found})


def read_split_list(path: str | Path) -> list[str]:
    """Distinct names of a split list, one per line; InputError if there are none."""
    lines = read_text(path, "a split list with one entry per line").splitlines()
    names = list(dict.fromkeys(name for line in lines if (name := line.strip())))
    require(names, f"{path}: no entries; write one name per line")
    return names


def select_entries(table: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the named entries, in the order of the table, and the names that it lacks.

    The name of a protein measured at several field strengths stands for all of them.
    """
    held = table["entry_ID"]
    proteins = held.str.replace(AT_FIELD_STRENGTH, "", regex=True)
    absent = [name for name in names if name not in {*held, *proteins}]
    return table[held.isin(names) | proteins.isin(names)].reset_index(drop=True), absent
