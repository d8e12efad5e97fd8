"""Tables as text: what cannot be read is one line, never a shifted or shortened row; files that are whole."""

from __future__ import annotations

import errno
import gzip
import resource
import signal
import subprocess
import sys
import zipfile
from contextlib import contextmanager, nullcontext

import h5py
import numpy as np
import pandas as pd
import pytest
from refusals import refused
from stores import random_entry

from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.errors import InputError
from data_prepare.files import (
    check_output,
    check_texts,
    csv_pieces,
    new_hdf5,
    open_hdf5,
    open_npz,
    read_npy,
    read_numbers,
    read_text,
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


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("text", ["a,b\n1,\n\n  \n\n,2\n\n", "\n \r\na,b\r\n\r\n1,\r\n,\r\n,2"])
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_blank_lines_count_but_are_no_rows(tmp_path, name, text, rows):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if name.endswith("gz") else text.encode())
    lines = [line.strip() for line in text.split("\n")]
    expected = [lines.index("1,") - 1, lines.index(",2") - 1]
    read = pd.concat(csv_pieces(path, chunksize=rows))
    assert read.index.tolist() == read_text_table(path, ["b"]).index.tolist() == expected
    assert read.to_numpy().tolist() == [["1", ""], ["", "2"]]


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
    path: Path

def write(options):
    with whole_file(options.path) as temporary:
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
    words = [sys.executable, "-c", WRITER, "--path", str(tmp_path / "out.csv")]
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


@contextmanager
def full_disk(size):
    """No file can grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _write_hdf5(path):
    with new_hdf5(path) as (file, check):
        for number in range(20):
            file.create_dataset(f"x/{number}", data=np.random.default_rng(0).random(10_000), compression="gzip")
            if number == 10:
                check()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(10**6)),
        lambda path: np.savez(path.with_suffix(".npz"), x=np.zeros(10**6)),
        lambda path: pd.DataFrame({"x": np.zeros(10**6)}).to_csv(path),
        _write_hdf5,
    ],
)
def test_a_full_disk_is_named_and_finished_files_stay(tmp_path, write):
    path = tmp_path / "x.npz"
    path.write_text("finished")

    def fail():
        with whole_file(path) as temporary:
            write(temporary)

    with full_disk(200_000):
        refused(fail, f"{path}: cannot be written", "large", "free space")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "finished"


def _write_store(path):
    with StoreWriter(path) as store:
        for number in range(20):
            store.add(f"e{number}", *random_entry(70, seed=number))


def test_a_full_disk_of_a_store(tmp_path):
    path = tmp_path / "s.h5"
    with full_disk(200_000):
        refused(lambda: _write_store(path), f"{path}: cannot be written", "free space")
    assert list(tmp_path.iterdir()) == []


def test_hdf5_file_is_that_of_h5py(tmp_path):
    with new_hdf5(tmp_path / "x.h5") as (file, check):
        file["x"] = np.arange(9)
        check()
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x"][:].tolist() == list(range(9))


def _header(shape):
    return b"\x93NUMPY\x01\x00v\x00" + (
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(118)
    )


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(100000, 100000)", "(-1,)", "(3,)"])
def test_arrays_that_declare_another_size(tmp_path, shape):
    (tmp_path / "x.npy").write_bytes(_header(shape) + bytes(8))
    with pytest.raises((ValueError, OSError)):
        read_npy(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", _header(shape) + bytes(8))
    with pytest.raises(ValueError, match="damaged"), open_npz(tmp_path / "x.npz"):
        pass


def test_texts(tmp_path, monkeypatch):
    (tmp_path / "x.txt").write_bytes("\ufeffü\n".encode())
    (tmp_path / "x.gz").write_bytes(gzip.compress("ü\n".encode()))
    (tmp_path / "old.txt").write_bytes("ü\n".encode("latin-1"))
    assert read_text(tmp_path / "x.txt", "a text") == read_text(tmp_path / "x.gz", "a text") == "ü\n"
    assert read_text(tmp_path / "old.txt", "a text", ("utf-8", "latin-1")) == "ü\n"
    refused(lambda: read_text(tmp_path / "old.txt", "a text"), "old.txt", "a text")
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(10**6))[:-9])
    refused(lambda: read_text(tmp_path / "x.gz", "a text"), "x.gz")
    monkeypatch.setattr("data_prepare.files.MOST_TEXT", 1000)
    refused(lambda: read_text(tmp_path / "x.gz", "a text"), "x.gz", "split")


def test_texts_for_which_hdf5_would_never_end(tmp_path):
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file["one"] = "MKT"
    sound = path.read_bytes()
    size = sound.index(b"GCOL") + 24  # of the text; that of the free space follows 8 bytes of text, index and count
    for place, value in ((size + 24, 0), (size + 24, 2**32), (size, 2**64 - 16)):
        path.write_bytes(sound[:place] + value.to_bytes(8, "little") + sound[place + 8 :])
        with h5py.File(path) as file, pytest.raises(ValueError, match="texts are damaged"):
            check_texts(file["one"].id)


def test_sound_texts_of_hdf5_files(tmp_path):
    """Many heaps, empty texts, one that is longer than a usual heap."""
    with h5py.File(tmp_path / "texts.h5", "w") as file:
        file["one"], file["long"], file["numbers"] = "MKT", "A" * 10_000, np.ones(3)
        file["many"] = [f"{number}" * (number % 7) * 9 for number in range(999)]
    with h5py.File(tmp_path / "texts.h5") as file:
        for name in file:
            check_texts(file[name].id)


@pytest.mark.parametrize(("number", "read"), [(errno.ENOLCK, True), (errno.EOPNOTSUPP, True), (errno.EAGAIN, False)])
def test_hdf5_on_a_file_system_without_locks(tmp_path, monkeypatch, number, read):
    """Another program that writes the file holds a lock."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = 7
    original = h5py.File

    def no_lock(path, mode, locking=None):
        if locking is None:
            raise OSError(number, f"Unable to synchronously open file (unable to lock file, errno = {number})")
        return original(path, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", no_lock)
    with (
        nullcontext() if read else pytest.raises(OSError, match="unable to lock"),
        open_hdf5(tmp_path / "x.h5") as file,
    ):
        assert file["x"][()] == 7
