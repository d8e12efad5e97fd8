"""Tables as text: what cannot be read is one line, never a shifted or shortened row; files that are whole."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from data_prepare.errors import InputError
from data_prepare.files import check_output, csv_pieces, read_numbers, read_text_table, whole_file


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
