"""Atomic writing of files; texts, arrays and CSV tables that are read within the limits of their size."""

from __future__ import annotations

import errno
import gzip
import io
import math
import mmap
import os
import re
import secrets
import struct
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError, reading, require, shown, writing
from data_prepare.signals import held_signals

if TYPE_CHECKING:
    import h5py
    import pandas as pd

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    HAS_FILE_LOCKS = False
else:
    HAS_FILE_LOCKS = True

HDF5_SUFFIXES: Final = (".h5", ".hdf5")
MOST_TEXT: Final = 2**30  # bytes of a text that is read at once; a small .gz can unpack to any number
DEFLATE: Final = 1032  # at most, size of a member of a zip archive to its compressed size
MOST_COMPRESSED: Final = 2**14  # the same of an HDF5 array; a chunk of only zeros has 2**9 to 2**13
HEADERS: Final = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

ABANDONED_SECONDS: Final = 24 * 3600  # since its last change, from which a temporary file without a lock is a leftover
TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{16}\.tmp(\..*)?")  # .NAME.RANDOM.tmp.SUFFIX


def stem(path: PurePath) -> str:
    """File name without .gz and without its suffix."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return PurePath(name).stem


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` when the block ends without an exception.

    A killed run leaves at most a hidden `.tmp` file, which `remove_leftovers` removes. The suffix is that of `path`,
    which selects the format of some writers. The file exists and is locked: open HDF5 with `new_hdf5` or
    `locking=False`. InputError if the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.tmp{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _locked(temporary):
                yield temporary
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


class _Disk(io.FileIO):
    """A file that keeps the first error of writing: HDF5 crashes the process if a write fails."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        """Raise the first error."""
        if self.error is not None:
            raise self.error


@contextmanager
def new_hdf5(path: Path, **options: Any) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A new HDF5 file, and a function to call between two writes, which raises the OSError of a full disk.

    Signals that end the command wait for that function or the end of the block. `options` are for `h5py.File`.
    """
    import h5py

    with held_signals() as let_through, _Disk(path, "w+") as disk:

        def check() -> None:
            disk.check()
            let_through()

        with h5py.File(disk, "w", **options) as file:
            yield file, check
        disk.check()
        os.fsync(disk.fileno())  # a machine that fails must not leave the new name with old blocks


def open_hdf5(path: str | Path) -> h5py.File:
    """An HDF5 file to read, also on a file system without locks."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "unable to lock file" not in str(error) or error.errno in (errno.EAGAIN, errno.EACCES):
            raise
        return h5py.File(path, "r", locking=False)


def write_attributes(item: h5py.HLObject, attributes: Mapping[str, Any]) -> None:
    """Set attributes of an HDF5 file or dataset; texts have a fixed length, in which damage cannot hang HDF5."""
    for name, value in attributes.items():
        item.attrs[name] = fixed_text(value)


def fixed_text(value: Any) -> Any:
    """A text as HDF5 stores it in a fixed length, others as they are; `plain_value` is the inverse."""
    return np.bytes_(value.encode() or b" ") if isinstance(value, str) else value


def read_attributes(item: h5py.HLObject) -> dict[str, Any]:
    """Attributes of an HDF5 file or dataset as Python values."""
    return {name: plain_value(value) for name, value in item.attrs.items()}


def plain_value(value: Any) -> Any:
    """An attribute of HDF5 as a Python value; texts of a fixed length are bytes to h5py."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return value.decode().strip() if isinstance(value, bytes) else value


def own_array(
    file: h5py.Group, key: str, where: object, remedy: str, size: int | None = None
) -> tuple[h5py.h5d.DatasetID, h5py.h5t.TypeID, h5py.h5s.SpaceID]:
    """Open an array of an HDF5 file or group, or of the file of `size` bytes to which the caller lets it link.

    Also its type and its space, because h5py takes long to make them. InputError, `where: ...; remedy`, unless the
    values are in that file and it has room for them.
    """
    import h5py

    if size is None:
        link = file.get(key, getlink=True)
        require(link is not None, f"{where}: no {key}; {remedy}")
        require(isinstance(link, h5py.HardLink), f"{where}: {key} is a link to another array; {remedy}")
        size = file.file.id.get_filesize()
    opened = h5py.h5o.open(file.id, key.encode())
    require(isinstance(opened, h5py.h5d.DatasetID), f"{where}: {key} is not an array; {remedy}")
    if opened.get_offset() is None:  # asked first, because it is faster
        layout = opened.get_create_plist()
        elsewhere = layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count()
        require(not elsewhere, f"{where}: {key} has its values in other files; give the file that has them")
    kind, space, stored = opened.get_type(), opened.get_space(), min(opened.get_storage_size(), size)
    shape = space.get_simple_extent_dims()
    if kind.get_size() * math.prod(shape) > MOST_COMPRESSED * stored:
        what = f"({shown(shape)}, {opened.dtype}, {stored} bytes)"
        raise InputError(f"{where}: {key} is damaged {what}; {remedy}")
    if not isinstance(kind, h5py.h5t.TypeFloatID):
        check_texts(opened)
    return opened, kind, space


def check_texts(array: h5py.h5d.DatasetID) -> None:
    """ValueError if HDF5 would read an array of texts of variable length without end.

    The array has 16 bytes for each text: length, address of a heap, index in it. A heap is 16 bytes ("GCOL", version,
    size), then objects of 16 bytes (index, 0 if free; count; size) and content. HDF5 reads all of it, and stays for
    ever at a free one of no size.
    """
    import h5py

    kind, start = array.get_type(), array.get_offset()
    variable = isinstance(kind, h5py.h5t.TypeVlenID)
    variable = variable or (isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str())
    if not variable or start is None:  # None: not in one piece, as no text of ours
        return
    name = h5py.h5f.get_name(array)
    with open(name, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        texts = content[start : start + 16 * math.prod(array.shape)]
        for address in {address for _, address, _ in struct.iter_unpack("<IQI", texts[: len(texts) // 16 * 16])}:
            mark, size = struct.unpack("<4s4xQ", content[address : address + 16].ljust(16))
            place, end = address + 16, min(address + size, len(content))
            while mark == b"GCOL" and place + 16 <= end:
                index, size = struct.unpack_from("<H6xQ", content, place)
                step = 16 + (size + 7) // 8 * 8 if index else size  # that of a free one includes the 16 bytes
                if not 0 < step <= end - place:
                    raise ValueError("its texts are damaged")
                place += step


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Create a file and hold a lock on it, which ends with the process; without one if the system has none.

    Without locks (Windows) the file is closed in the block: an open file could not be renamed there.
    """
    if not HAS_FILE_LOCKS:
        open(path, "xb").close()
        yield
        return
    while True:
        # x: never through a link that someone else has put there; +: NFS does not lock a file that cannot be read
        with open(path, "x+b") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_SH)
            if path.exists():  # not removed before it was locked
                yield
                return


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed runs from a folder.

    Those that a process is writing are locked and stay; without locks (Windows) those of the last day do.
    """
    for path in folder.glob(".*.tmp*"):
        if not TEMPORARY.fullmatch(path.name):
            continue
        with suppress(OSError):
            if HAS_FILE_LOCKS:
                with open(path, "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            elif time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def open_binary(path: str | Path) -> BinaryIO:
    """Open the content of a file, gzipped or not, whatever its name."""
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if gzipped else open(path, "rb")


def read_text(path: str | Path, what: str, encodings: Sequence[str] = ("utf-8-sig",), errors: str = "strict") -> str:
    """Text of a file, gzipped or not, in the first of the encodings that fits; `what` as in `reading`.

    InputError if it is damaged or unpacks to more than a GB.
    """
    with reading(path, what), open_binary(path) as file:
        content = file.read(MOST_TEXT + 1)
        require(len(content) <= MOST_TEXT, f"{path}: more than {MOST_TEXT / 1e9:.1f} GB of text; split it into several")
        for encoding in encodings[:-1]:
            with suppress(UnicodeDecodeError):
                return content.decode(encoding, errors)
        return content.decode(encodings[-1], errors)


def read_npy(path: str | Path) -> NDArray[Any]:
    """Array of an .npy file, mapped into memory; ValueError or OSError if the file is shorter than its header says."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("not a file of numpy.save")
    return array


@contextmanager
def open_npz(path: str | Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Arrays of an npz file by name, read on access; ValueError if the size of one is not that of its content.

    Sizes are compared before any memory is allocated.
    """
    if Path(path).exists() and not zipfile.is_zipfile(path):
        raise ValueError("not an archive of arrays")
    with np.load(path, allow_pickle=False) as arrays:
        for member in arrays.zip.infolist():
            with arrays.zip.open(member) as file:
                version = np.lib.format.read_magic(file)
                shape, _, dtype = HEADERS[version](file)
                size = file.tell() + math.prod(shape) * dtype.itemsize
            if size != member.file_size or size > DEFLATE * member.compress_size:
                raise ValueError(f"{member.filename} of shape {shown(shape)} is damaged")
        yield arrays


def check_output(path: Path) -> None:
    """Refuse an --output that cannot be written as a file, before any computation starts."""
    require(not path.is_dir(), f"--output {path}: is a folder; give a file name")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    require(nearest.is_dir(), f"--output {path}: {nearest} is a file, not a folder; give another --output")


@contextmanager
def _reading_csv(path: str | os.PathLike[str]) -> Iterator[None]:
    import pandas as pd

    with reading(str(path), "a CSV table", "correct or replace the file"), warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops extra fields with a warning
        try:
            yield
        except pd.errors.EmptyDataError:
            raise InputError(f"{path}: an empty file; expected a CSV table with a header") from None


def csv_pieces(path: str | os.PathLike[str], **options: Any) -> Iterator[pd.DataFrame]:
    """Read a CSV with `pandas.read_csv`, every value as text; with the option `chunksize` in pieces.

    Rows without a value are left out. The index is that of the line, from 0 for line 2; a line break inside a value is
    not counted. InputError if the file is missing, empty or damaged, or a row has more fields than the header.
    """
    import pandas as pd

    with _reading_csv(path):
        with open_binary(Path(path)) as file:
            options["header"] = next((line for line, text in enumerate(file) if text.strip()), 0)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, skip_blank_lines=False, **options)
    if isinstance(table, pd.DataFrame):
        yield _without_blank(table, options["header"])
        return
    with table:  # closes the file, also if the reader stops before the last piece
        while True:
            with _reading_csv(path):
                piece = next(table, None)
            if piece is None:
                return
            yield _without_blank(piece, options["header"])


def _without_blank(rows: pd.DataFrame, before: int) -> pd.DataFrame:
    """Rows with a value; the header follows `before` blank lines."""
    rows.index += before
    some = rows[rows.iloc[:, 0].str.strip() == ""]  # few: the other columns of all rows would take longer
    return rows.drop(some.index[(some.apply(lambda column: column.str.strip()) == "").all(axis=1)])


def read_text_table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV with these columns, every value as text: "NA" and "1e10" may be names. See `csv_pieces`."""
    (table,) = csv_pieces(path)
    absent = [column for column in columns if column not in table]
    require(not absent, f"{path}: missing columns: {', '.join(absent)}; expected {', '.join(columns)}")
    return table


def read_numbers(path: str | Path, column: pd.Series) -> pd.Series:
    """Finite numbers of a text column with the index of `csv_pieces`; NaN for an empty value, `-`, NaN or NA.

    InputError names the line of anything else.
    """
    import pandas as pd

    text = column.str.strip()
    values = pd.to_numeric(text, errors="coerce").replace([np.inf, -np.inf], np.nan).astype(np.float64)
    wrong = text[values.isna() & ~text.str.lower().isin(("", "-", "nan", "na"))]
    if len(wrong):
        where = f"{path}, line {wrong.index[0] + 2}"
        raise InputError(
            f"{where}: {column.name} is {shown(wrong.iloc[0])}, not a number; correct it or leave it empty"
        )
    return values
