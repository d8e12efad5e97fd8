"""Tables as text: what cannot be read is one line, never a shifted or shortened row; files that are whole."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from data_prepare.errors import InputError
from data_prepare.files import (
    check_output,
    csv_pieces,
    read_numbers,
    read_text_table,
    remove_leftovers,
    whole_file,
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", None),
        ("t.csv", b""),
        ("t.csv", b"a,b\n1,2,3\n4,5,6\n"),  # pandas would take the first column for row names
        ("t.csv", b"a,b\n1,2\n4,5,6\n"),
        ("t.csv", b"a,b\n\xff,2\n"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9]),
        *[(f"t.csv.{suffix}", b"no") for suffix in ("gz", "zip", "xz", "bz2")],
    ],
)
@pytest.mark.parametrize("options", [{}, {"chunksize": 1}])
def test_bad_tables(tmp_path, name, content, options):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refused(lambda: list(csv_pieces(path, **options)), path, "CSV")


def test_values_are_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\nNA,1e10\n,2\n")
    assert read_text_table(path, ["b"]).to_numpy().tolist() == [["NA", "1e10"], ["", "2"]]
    assert [piece.to_numpy().tolist() for piece in csv_pieces(path, chunksize=1)] == [[["NA", "1e10"]], [["", "2"]]]
    refused(lambda: read_text_table(path, ["a", "c"]), path, "missing columns: c", "a, c")


def test_numbers_of_a_text_column():
    column = pd.Series(["1", " ", "nan", " 2e-1", "-", "NA", "x"], name="y", index=range(3, 10))
    np.testing.assert_array_equal(read_numbers("t.csv", column[:6]), [1, np.nan, np.nan, 0.2, np.nan, np.nan])
    refused(lambda: read_numbers("t.csv", column), "t.csv", "line 11", "y", "'x'")
    refused(lambda: read_numbers("t.csv", column.replace("1", "-inf")), "line 5", "-inf")


def test_outputs_that_cannot_be_files(tmp_path):
    (tmp_path / "file").write_text("")
    check_output(tmp_path / "file")  # written anew
    check_output(tmp_path / "new" / "folder" / "x.csv")
    refused(lambda: check_output(tmp_path), "--output", tmp_path)
    refused(lambda: check_output(tmp_path / "file" / "x" / "y.csv"), tmp_path / "file")


def test_a_file_is_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "folder" / "x.csv"
    with whole_file(path) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("old")

    def fail():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise InputError("x")

    refused(fail)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


WRITER = """
import sys, time
from pathlib import Path
from typing import Annotated
from pydantic.dataclasses import dataclass
from data_prepare.command_line import Settings, run
from data_prepare.files import whole_file

@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    output: Path

def write(options):
    with whole_file(options.output) as temporary:
        temporary.write_text("half")
        print("at work", flush=True)
        time.sleep(60)

run(Options, write)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_temporary_stays_until_its_process_ends(tmp_path, number, code):
    """Another run spares it; SIGTERM removes it, and after SIGKILL the next run."""
    for name in (".x.csv", ".x.tmp", "x.1.tmp.csv", ".x.csv.parts"):  # not ours
        (tmp_path / name).touch()
    before = set(tmp_path.iterdir())
    words = [sys.executable, "-c", WRITER, "--output", str(tmp_path / "out.csv")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "at work\n"
        (temporary,) = set(tmp_path.iterdir()) - before
        remove_leftovers(tmp_path)
        with whole_file(tmp_path / "out.csv") as own:  # two runs at once
            remove_leftovers(tmp_path)
            assert {own, temporary} <= set(tmp_path.iterdir())
        process.send_signal(number)
    assert process.returncode == code
    assert temporary.exists() == (number == signal.SIGKILL)
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == before | {tmp_path / "out.csv"}
