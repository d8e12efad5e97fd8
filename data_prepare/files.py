"""Files that are either whole or not there, and tables whose columns are."""

from __future__ import annotations

import lzma
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import pandas as pd

from data_prepare.errors import InputError

T = TypeVar("T")

# what the readers of compressed files raise, and pandas for a compression whose package is not there
_DAMAGED: Final = (EOFError, zlib.error, zipfile.BadZipFile, lzma.LZMAError, ImportError)


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
    """Raise InputError if --output cannot be a file: before hours of work, not behind them."""
    if path.is_dir():
        raise InputError(f"--output {path}: this is a folder; give the name of a file in it")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise InputError(f"--output {path}: {nearest} is a file, not a folder; give another --output")


def csv_pieces(path: str | os.PathLike[str], **options: Any) -> Iterator[pd.DataFrame]:
    """Read a CSV with `pandas.read_csv`, every value as text; the options `chunksize` and `nrows` make pieces of it.

    Raises
    ------
    InputError
        The file is empty, damaged, or a row has more fields than the header.
    FileNotFoundError
        There is no such file.
    """
    try:
        table = _strictly(lambda: pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, **options))
        if isinstance(table, pd.DataFrame):
            yield table
            return
        while (piece := _strictly(lambda: next(table, None))) is not None:
            yield piece
    except FileNotFoundError:
        raise
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: is empty; give a table with a header") from None
    except pd.errors.ParserWarning:
        raise InputError(f"{path}: a row has more fields than the header; mend it, or quote its commas") from None
    except (pd.errors.ParserError, UnicodeDecodeError, OSError, *_DAMAGED) as error:
        raise InputError(f"{path}: not a CSV table ({error}); get the file again") from None


def _strictly(action: Callable[[], T]) -> T:
    """Do something that raises where pandas would warn that it leaves fields out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return action()


def read_text_table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV, every value as text: names such as "NA" or "1e10" are names, not numbers.

    Raises
    ------
    InputError
        If the file or one of the columns is missing.
    """
    try:
        (table,) = csv_pieces(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; expected a CSV with columns {', '.join(columns)}") from None
    if absent := [column for column in columns if column not in table]:
        raise InputError(f"{path}: column {', '.join(absent)} is missing; expected {', '.join(columns)}")
    return table
