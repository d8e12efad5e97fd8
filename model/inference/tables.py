"""Tables of results: a row per residue or mutant, as CSV (.csv, .csv.gz), Excel (.xlsx) or Parquet."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import math
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pandas as pd

from data_prepare.errors import require
from data_prepare.files import check_output, whole_file

TABLE_SUFFIXES: Final = (".csv", ".csv.gz", ".xlsx", ".parquet")
PACKAGES: Final = {".xlsx": ("openpyxl", "excel"), ".parquet": ("pyarrow", "parquet")}  # package, extra of ours
EXCEL_ROWS: Final = 2**20


def is_table(path: Path) -> bool:
    """Whether a file name is that of a table."""
    return path.name.lower().endswith(TABLE_SUFFIXES)


def without_suffix(path: Path) -> Path:
    """Path of a table without its suffix."""
    return path.with_name(path.name[: -len(next(end for end in TABLE_SUFFIXES if path.name.lower().endswith(end)))])


def check_table(path: Path) -> None:
    """Raise InputError if a table cannot be written under this name."""
    check_output(path)
    suffixes = ", ".join(TABLE_SUFFIXES)
    require(is_table(path), f"--output {path}: not a table name; use one of the suffixes {suffixes}")
    package, extra = PACKAGES.get(path.suffix.lower(), ("", ""))
    remedy = f"pip install 'seqdance[{extra}]', or write .csv"
    require(not package or importlib.util.find_spec(package), f"--output {path}: requires {package}; {remedy}")


def write_tables(tables: Iterable[pd.DataFrame], path: Path) -> None:
    """Write tables with the same columns one below the other; the suffix of the name selects the format.

    Equal tables give equal CSV and Parquet files: gzip stores neither name nor time.
    """
    with whole_file(path) as temporary, ExitStack() as files:
        if path.suffix.lower() == ".xlsx":
            _write_excel(tables, temporary, path)
            return
        writer: Any = None
        for number, table in enumerate(tables):
            if path.suffix.lower() == ".parquet":
                pyarrow, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))  # optional packages
                rows = pyarrow.Table.from_pandas(table, preserve_index=False)
                writer = writer or files.enter_context(parquet.ParquetWriter(temporary, rows.schema))
                writer.write_table(rows)
                continue
            if writer is None:
                writer = files.enter_context(open(temporary, "wb"))
                if path.suffix.lower() == ".gz":
                    writer = files.enter_context(gzip.GzipFile("", "wb", fileobj=writer, mtime=0))
            table.to_csv(writer, mode="wb", index=False, header=number == 0)


def _write_excel(tables: Iterable[pd.DataFrame], temporary: Path, path: Path) -> None:
    """Write the rows to the only sheet of a workbook: empty cells for NaN, and no formulas (names may start with =)."""
    openpyxl = importlib.import_module("openpyxl")  # optional
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("seqdance")

    def cell(value: object) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if not isinstance(value, str):
            return value
        text = openpyxl.cell.WriteOnlyCell(sheet, value)
        text.data_type = "s"
        return text

    rows = 1
    for number, table in enumerate(tables):
        rows += len(table)
        require(
            rows <= EXCEL_ROWS, f"{path}: more than the {EXCEL_ROWS:,} rows of an Excel sheet; write .csv or .parquet"
        )
        if number == 0:
            sheet.append(list(table.columns))
        for row in table.astype(object).itertuples(index=False):
            sheet.append([cell(value) for value in row])
    book.save(temporary)
