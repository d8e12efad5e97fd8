"""Tables as text: what cannot be read is one line, never a shifted or shortened row."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from data_prepare.errors import InputError
from data_prepare.files import check_output, csv_pieces, read_text_table


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"a,b\n1,2,3\n4,5,6\n", "more fields than the header"),  # pandas would take the first for names
        ("t.csv", b"a,b\n1,2\n4,5,6\n", "not a CSV table"),
        ("t.csv", b"a,b\n\xff,2\n", "not a CSV table"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9], "not a CSV table"),
        ("t.csv.gz", b"no", "not a CSV table"),
        ("t.csv.zip", b"no", "not a CSV table"),
        ("t.csv.xz", b"no", "not a CSV table"),
        ("t.csv.bz2", b"no", "not a CSV table"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"chunksize": 1}])
def test_bad_tables(tmp_path: Path, name: str, content: bytes, reason: str, options: dict[str, int]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as error:
        list(csv_pieces(path, **options))
    assert str(error.value).startswith(f"{path}: ")


def test_pieces_are_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\nNA,1e10\n,2\n")
    whole = read_text_table(path, ["b"])
    assert whole.to_numpy().tolist() == [["NA", "1e10"], ["", "2"]]
    assert [piece.to_numpy().tolist() for piece in csv_pieces(path, chunksize=1)] == [[["NA", "1e10"]], [["", "2"]]]
    with pytest.raises(InputError, match="no such table; expected a CSV with columns a, b"):
        read_text_table(tmp_path / "none.csv", ["a", "b"])
    with pytest.raises(InputError, match="column c is missing"):
        read_text_table(path, ["a", "c"])


def test_outputs_that_cannot_be_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_output(tmp_path / "file")  # written anew
    check_output(tmp_path / "new" / "folder" / "x.csv")
    with pytest.raises(InputError, match="this is a folder; give the name of a file in it"):
        check_output(tmp_path)
    with pytest.raises(InputError, match="file is a file, not a folder"):
        check_output(tmp_path / "file" / "x" / "y.csv")
