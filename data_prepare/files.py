"""Files that appear complete or not at all, and CSV tables as text."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from data_prepare.errors import reading, require


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends without an exception it takes the name `path`.

    A killed run leaves at most a hidden `.tmp` file that no later run trusts. The suffix is kept, because some
    writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file that appears complete or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text)


def check_output(path: Path) -> None:
    """Refuse an --output that cannot become a file; call it before any computation starts."""
    require(not path.is_dir(), f"--output {path}: this is a folder; give the name of a file in it")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    require(nearest.is_dir(), f"--output {path}: {nearest} is a file, not a folder; give another --output")


@contextmanager
def _reading_csv(path: str | os.PathLike[str]) -> Iterator[None]:
    with reading(str(path), "a CSV table", "mend or replace the file"), warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops fields beyond the header with a warning
        yield


def csv_pieces(path: str | os.PathLike[str], **options: Any) -> Iterator[pd.DataFrame]:
    """Read a CSV with `pandas.read_csv`, every value as text; with the option `chunksize` in pieces.

    Raises
    ------
    InputError
        The file is missing, empty or damaged, or a row has more fields than the header.
    """
    with _reading_csv(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, **options)
    if isinstance(table, pd.DataFrame):
        yield table
        return
    while True:
        with _reading_csv(path):
            piece = next(table, None)
        if piece is None:
            return
        yield piece


def read_text_table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV, every value as text: names such as "NA" or "1e10" are names, not numbers.

    Raises
    ------
    InputError
        See `csv_pieces`; or one of the columns is missing.
    """
    (table,) = csv_pieces(path)
    absent = [column for column in columns if column not in table]
    require(not absent, f"{path}: column {', '.join(absent)} is missing; expected {', '.join(columns)}")
    return table
