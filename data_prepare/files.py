"""Atomic writing of files, and CSV tables as text."""

from __future__ import annotations

import fcntl
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from data_prepare.errors import InputError, reading, require

TEMPORARY: Final = re.compile(r"\..+\.\d+\.tmp(\..*)?")  # .NAME.PROCESS.tmp.SUFFIX


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` when the block ends without an exception.

    A killed run leaves at most a hidden `.tmp` file, which `remove_leftovers` removes. The suffix is that of `path`,
    which selects the format of some writers. The file exists and is locked: open HDF5 with `locking=False`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with _locked(temporary):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Create a file and hold a lock on it, which ends with the process; without one if the file system has none."""
    while True:
        with open(path, "wb") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_SH)
            if path.exists():  # not removed before it was locked
                yield
                return


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed runs from a folder; those that a process is writing are locked and stay."""
    for path in folder.glob(".*.tmp*"):
        if TEMPORARY.fullmatch(path.name):
            with suppress(OSError), open(path, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(text)


def check_output(path: Path) -> None:
    """Refuse an --output that cannot be written as a file, before any computation starts."""
    require(not path.is_dir(), f"--output {path}: is a folder; give a file name")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    require(nearest.is_dir(), f"--output {path}: {nearest} is a file, not a folder; give another --output")


@contextmanager
def _reading_csv(path: str | os.PathLike[str]) -> Iterator[None]:
    with reading(str(path), "a CSV table", "correct or replace the file"), warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops extra fields with a warning
        try:
            yield
        except pd.errors.EmptyDataError:
            raise InputError(f"{path}: an empty file; expected a CSV table with a header") from None


def csv_pieces(path: str | os.PathLike[str], **options: Any) -> Iterator[pd.DataFrame]:
    """Read a CSV with `pandas.read_csv`, every value as text; with the option `chunksize` in pieces.

    InputError if the file is missing, empty or damaged, or a row has more fields than the header.
    """
    with _reading_csv(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, **options)
    if isinstance(table, pd.DataFrame):
        yield table
        return
    with table:  # closes the file, also if the reader stops before the last piece
        while True:
            with _reading_csv(path):
                piece = next(table, None)
            if piece is None:
                return
            yield piece


def read_text_table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV with these columns, every value as text: "NA" and "1e10" may be names. See `csv_pieces`."""
    (table,) = csv_pieces(path)
    absent = [column for column in columns if column not in table]
    require(not absent, f"{path}: missing columns: {', '.join(absent)}; expected {', '.join(columns)}")
    return table


def read_numbers(path: str | Path, column: pd.Series) -> pd.Series:
    """Finite numbers of a text column whose index counts the rows of a table; NaN for an empty value, `-`, NaN or NA.

    InputError names the line of anything else.
    """
    text = column.str.strip()
    values = pd.to_numeric(text, errors="coerce").replace([np.inf, -np.inf], np.nan).astype(np.float64)
    wrong = text[values.isna() & ~text.str.lower().isin(("", "-", "nan", "na"))]
    if len(wrong):
        where = f"{path}, line {wrong.index[0] + 2}"
        raise InputError(f"{where}: {column.name} is {wrong.iloc[0]!r}, not a number; correct it or leave it empty")
    return values
