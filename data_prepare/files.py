"""Files that are either whole or not there, and tables whose columns are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from data_prepare.errors import InputError


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


def read_text_table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV, every value as text: names such as "NA" or "1e10" are names, not numbers.

    Raises
    ------
    InputError
        If the file or one of the columns is missing.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; expected a CSV with columns {', '.join(columns)}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV table ({error})") from None
    if absent := [column for column in columns if column not in table]:
        raise InputError(f"{path}: column {', '.join(absent)} is missing; expected {', '.join(columns)}")
    return table
