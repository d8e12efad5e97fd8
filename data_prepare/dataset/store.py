"""The HDF5 file of training features: write, read, crop, merge.

Each entry has two datasets in token space, `{name}_res_feature` (L, 47 or 3) and `{name}_pair_feature` (L, L, 10 or 3).
They are chunked and compressed, so that a crop reads only its chunks. Published files with the same names (contiguous,
without format attribute) are also read. Blosc2 chunks require the package hdf5plugin, as the attribute `read_with`
says; gzip ones are read by any HDF5 library. The writer refuses NaN and infinite values. If a correlation of normal
modes is stored as -1 where that means missing, it writes the next larger number.

An entry may lack properties, named in the attribute `missing_properties` of its residue dataset: their columns and
channels are -1 in the file. A reader that takes -1 in column or channel 0 for a missing token reads such an entry as
empty if `sasa_mean` or `vdw` is missing; `FeatureStore` returns NaN in those columns of the tokens with features.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.dataset.token_space import named_properties
from data_prepare.errors import OF_DISK, InputError, named, reading, require, shown, some_of
from data_prepare.files import new_hdf5, plain_value, read_attributes, whole_file, write_attributes
from data_prepare.properties import (
    MD_PAIR_WIDTH,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_PAIR_WIDTH,
    NMA_RESIDUE_WIDTH,
    PROPERTIES,
    entry_columns,
)

FORMAT_ATTRIBUTE: Final = "seqdance_format"
FORMAT_VERSION: Final = 1
MISSING_ATTRIBUTE: Final = "missing_properties"  # of a residue dataset: JSON list of names
READ_WITH_ATTRIBUTE: Final = "read_with"
PAIR_CHUNK: Final = 64  # tokens on each side of a chunk of the pair array: 64 x 64 x 10 x 4 bytes = 160 KB
RESIDUE_CHUNK: Final = 256
COMPRESSION_LEVEL: Final = 1  # higher levels take three times as long for 1 % of the size
BLOCK_BYTES: Final = 16 * 2**20  # of a pair array in memory at once when it is checked or rewritten
SUFFIXES: Final = ("_res_feature", "_pair_feature")
MOST_COMPRESSED: Final = 2**14  # size of an array to its size in the file; a chunk of only zeros has 2**9 to 2**13
KIND: Final = "a feature store (HDF5)"
REMEDY: Final = "make it with `seqdance prepare`, or copy it again"

StoreDtype = Literal["float32", "float16"]
OnDuplicate = Literal["error", "keep-first", "keep-last"]  # what `store_of_each` does
Compression = Literal["blosc2", "gzip"]
READ_WITH: Final[Mapping[Compression, str]] = {
    "blosc2": "import hdf5plugin before h5py reads this file (pip install hdf5plugin), or use seqdance.FeatureStore",
    "gzip": "any HDF5 library, or seqdance.FeatureStore",
}
Attributes = Mapping[str, str | int | float]
NO_ATTRIBUTES: Final[Attributes] = MappingProxyType({})
Array = NDArray[np.float32]


def shape_problem(residue: tuple[int, ...], pair: tuple[int, ...]) -> str | None:
    """What is wrong with the shapes of the two arrays of an entry; None if they fit."""
    widths = (residue[-1:], pair[-1:])
    if widths not in (((MD_RESIDUE_WIDTH,), (MD_PAIR_WIDTH,)), ((NMA_RESIDUE_WIDTH,), (NMA_PAIR_WIDTH,))):
        return f"residue features {residue} and pair features {pair}; expected 47 and 10 columns, or 3 and 3"
    if len(residue) != 2 or pair[:-1] != (residue[0], residue[0]):
        return f"residue features {residue} and pair features {pair} differ in length"
    return None


def missing_of(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the properties that the entry with these attributes lacks; InputError if they are none."""
    text = str(plain_value(attributes.get(MISSING_ATTRIBUTE, "[]")))
    with reading(f"{MISSING_ATTRIBUTE} {text}", f"a JSON list of {', '.join(PROPERTIES)}", "recreate the entry"):
        names = tuple(json.loads(text))
        require(set(names) <= set(PROPERTIES), f"{MISSING_ATTRIBUTE} {text}: unknown properties; update seqdance")
    return names


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a pair array (L, L, K) in blocks of whole chunks of at most about `BLOCK_BYTES` as float32."""
    step = PAIR_CHUNK * max(1, BLOCK_BYTES // (4 * PAIR_CHUNK * shape[1] * shape[2]))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def entry_file(store: Path, name: str) -> Path:
    """Store of one entry alone, from which, or of which, `seqdance prepare` makes the store of all."""
    return store.with_suffix(".entries") / f"{name}.h5"


class StoreWriter:
    """Write a store (HDF5) atomically: an existing file is replaced when writing ends without an exception.

    float16 halves the size (relative rounding 5e-4). For `attributes` see `FeatureStore.attributes`. A store with the
    `compression` gzip is read without hdf5plugin, but random crops about ten times more slowly.
    """

    def __init__(
        self,
        path: str | Path,
        dtype: StoreDtype = "float32",
        attributes: Attributes = NO_ATTRIBUTES,
        compression: Compression = "blosc2",
    ) -> None:
        self.path = Path(path)
        self.dtype = np.dtype(dtype)
        self.attributes = attributes
        self.compression = compression

    def __enter__(self) -> StoreWriter:
        self._stack = ExitStack()
        temporary = self._stack.enter_context(whole_file(self.path))
        self._file, self._check_disk = self._stack.enter_context(new_hdf5(temporary, libver="v110"))
        own = {FORMAT_ATTRIBUTE: FORMAT_VERSION, READ_WITH_ATTRIBUTE: READ_WITH[self.compression]}
        write_attributes(self._file, {**self.attributes, **own})
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)

    def add(
        self,
        name: str,
        residue: NDArray | h5py.Dataset,
        pair: NDArray | h5py.Dataset,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> None:
        """Add an entry: residue (L, 47 or 3) and pair (L, L, 10 or 3) features in token space, copied in blocks.

        `attributes` are those of its residue dataset, see `FeatureStore.attributes_of`. Values of missing properties
        are ignored.
        """
        self._check(name, residue, pair)
        columns, channels = entry_columns(missing_of(attributes))
        tokens = len(residue)
        target = self._create(name, SUFFIXES[0], residue.shape, (min(RESIDUE_CHUNK, tokens), residue.shape[1]))
        target[:] = self._stored(name, residue[:], columns)
        write_attributes(target, attributes)
        chunk = min(PAIR_CHUNK, tokens)
        target = self._create(name, SUFFIXES[1], pair.shape, (chunk, chunk, pair.shape[2]))
        for rows in row_blocks(pair.shape):
            target[rows] = self._stored(name, pair[rows], channels)
            self._check_disk()

    def copy_from(self, store_path: str | Path, names: Sequence[str] | None = None) -> None:
        """Add entries of another store or published file in this order (default: all), in bounded memory.

        Entries of this format, dtype and compression are copied without decompression. InputError if an entry is
        absent, incomplete, a duplicate or cannot be stored.
        """
        with FeatureStore(store_path) as store:
            for name in store.names() if names is None else names:
                residue, pair = store.datasets(name)
                try:
                    gzip = pair.compression == "gzip"  # None for Blosc2
                    same = residue.dtype == pair.dtype == self.dtype and gzip == (self.compression == "gzip")
                    if store.version is not None and same:
                        self._check(name, residue, pair)
                        for suffix, dataset in zip(SUFFIXES, (residue, pair), strict=True):
                            self._file.copy(dataset, self._file, name=f"{name}{suffix}")
                        self._check_disk()
                    else:
                        self.add(name, residue, pair, dict(residue.attrs))
                except InputError as error:
                    raise InputError(f"{store_path}: {error}") from None

    def link(self, name: str) -> None:
        """Add an entry that stays in its own store, the `entry_file`."""
        for suffix in SUFFIXES:
            path = os.path.relpath(entry_file(self.path, name), self.path.parent)
            self._file[f"{name}{suffix}"] = h5py.ExternalLink(path, f"{name}{suffix}")

    def _check(self, name: str, residue: NDArray | h5py.Dataset, pair: NDArray | h5py.Dataset) -> None:
        problem = shape_problem(residue.shape, pair.shape)
        require(problem is None, f"entry {name}: {problem}")
        require(name and "/" not in name, f"entry name {name!r}: expected a name without '/'")
        require(f"{name}{SUFFIXES[0]}" not in self._file, f"duplicate entry {name} in {self.path}")

    def _create(self, name: str, suffix: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> h5py.Dataset:
        # Contacts are mostly zeros: without byte shuffling zstd decodes them three times faster. Dense values need it.
        sparse = shape[-1] == MD_PAIR_WIDTH
        filters: Mapping[str, Any] = {"compression": "gzip", "shuffle": not sparse}
        if self.compression == "blosc2":
            shuffle = hdf5plugin.Blosc2.NOFILTER if sparse else hdf5plugin.Blosc2.SHUFFLE
            filters = hdf5plugin.Blosc2(cname="zstd", clevel=COMPRESSION_LEVEL, filters=shuffle)
        return self._file.create_dataset(
            f"{name}{suffix}",
            shape,
            self.dtype,
            chunks=chunks,
            track_times=False,  # equal input gives equal bytes
            **filters,
        )

    def _stored(self, name: str, data: NDArray, missing: list[int]) -> NDArray:
        """The values in the dtype of the store, `MISSING` in some columns; no other becomes `MISSING` by rounding."""
        with np.errstate(over="ignore"):  # refused below
            values = data.astype(self.dtype)
        values[..., missing] = MISSING
        require(
            np.isfinite(values).all(),
            f"entry {name}: features are NaN, infinite or too large for {self.dtype}; recompute or remove it",
        )
        if 0 not in missing:
            hidden = (values[..., 0] == MISSING) & (data != MISSING).any(axis=-1)
            values[hidden, 0] = np.nextafter(self.dtype.type(MISSING), self.dtype.type(0))
        return values


class FeatureStore:
    """Read a store made by `StoreWriter`, or a published file.

    The file is opened on first use, once in each process: instances may be pickled and forked. InputError on first use
    if it cannot be read or has another format version; later if it lacks an entry.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._pid = -1
        self._size = 0  # bytes of the file

    def _open(self) -> h5py.File:
        if self._file is None or self._pid != os.getpid():
            with reading(self.path, KIND, REMEDY):
                file = h5py.File(self.path, "r")
                version = file.attrs.get(FORMAT_ATTRIBUTE, FORMAT_VERSION)
                require(
                    bool(version == FORMAT_VERSION),
                    f"{self.path}: store format {shown(version)}, expected {FORMAT_VERSION}; recreate it or update "
                    "seqdance",
                )
                self._size = self.path.stat().st_size
            self._file, self._pid = file, os.getpid()
        return self._file

    @contextmanager
    def reading(self, name: str | None = None) -> Iterator[h5py.File]:
        """The open file: any failure of HDF5 in the block is an InputError that names the file and the entry."""
        where, what = (self.path, KIND) if name is None else (f"{self.path}: entry {name}", "readable features")
        with reading(where, what, REMEDY):
            yield self._open()

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path]]:
        return FeatureStore, (self.path,)

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._file = None

    def keys(self) -> list[str]:
        """Names of all datasets, sorted."""
        with self.reading() as file:
            return sorted(file)

    @property
    def version(self) -> int | None:
        """Format version; None for the published form."""
        with self.reading() as file:
            return file.attrs.get(FORMAT_ATTRIBUTE)

    @property
    def attributes(self) -> Attributes:
        """Attributes of the file, as given to its writer."""
        with self.reading() as file:
            attributes = read_attributes(file)
        return {key: value for key, value in attributes.items() if key not in (FORMAT_ATTRIBUTE, READ_WITH_ATTRIBUTE)}

    def attributes_of(self, name: str) -> Attributes:
        """Attributes of an entry, if it has them.

        `modify_seq` is its sequence as in the training table, `left_out_frames` a JSON list of file, frame and problem
        of each, `missing_properties` one of names, `spread` the JSON of its `entry_spread`.
        """
        with self.reading(name):
            return read_attributes(self._dataset(name, SUFFIXES[0]))

    def missing(self, name: str) -> tuple[str, ...]:
        """Names of the properties that an entry lacks."""
        with self.reading(name):
            return self._missing(name, self._dataset(name, SUFFIXES[0]))

    def _missing(self, name: str, residue: h5py.Dataset) -> tuple[str, ...]:
        if MISSING_ATTRIBUTE not in residue.attrs:
            return ()
        with named(f"{self.path}: entry {name}"):
            return missing_of(residue.attrs)

    def names(self) -> list[str]:
        """Names of all entries, sorted."""
        return sorted(key.removesuffix(SUFFIXES[0]) for key in self.keys() if key.endswith(SUFFIXES[0]))

    def __contains__(self, name: object) -> bool:
        with self.reading() as file:
            return all(f"{name}{suffix}" in file for suffix in SUFFIXES)

    def _dataset(self, name: str, suffix: str) -> h5py.Dataset:
        """A dataset whose values are in this file, or in that of its entry, which has room for its size."""
        file = self._open()
        key = f"{name}{suffix}"
        where = f"{self.path}: entry {name}"
        require(key in file, f"{self.path}: no entry {name}; is it the store of this table?")
        size = self._size
        if file.id.links.get_info(key.encode()).type != h5py.h5l.TYPE_HARD:
            link, result = file.get(key, getlink=True), entry_file(self.path, name)
            own = isinstance(link, h5py.ExternalLink) and link.path == key
            own = own and link.filename == os.path.relpath(result, self.path.parent)
            require(own, f"{where}: {key} is a link to another array; {REMEDY}")
            require(result.is_file(), f"{where}: {result} is missing; move it with the store, or recreate the entry")
            size = result.stat().st_size
        dataset = file[key]
        require(isinstance(dataset, h5py.Dataset), f"{where}: {key} is not an array; {REMEDY}")
        elsewhere = dataset.is_virtual or dataset.external
        require(not elsewhere, f"{where}: {key} has its values in other files; give the store that has them")
        stored = min(dataset.id.get_storage_size(), size)
        possible = dataset.dtype.kind == "f" and dataset.nbytes <= MOST_COMPRESSED * stored
        require(possible, f"{where}: {key} is damaged ({dataset.shape}, {dataset.dtype}, {stored} bytes); {REMEDY}")
        return dataset

    def datasets(self, name: str) -> tuple[h5py.Dataset, h5py.Dataset]:
        """Residue and pair datasets of an entry, not read yet; read them in a block of `reading`."""
        with self.reading(name):
            return self._dataset(name, SUFFIXES[0]), self._dataset(name, SUFFIXES[1])

    def length(self, name: str) -> int:
        """Tokens of an entry."""
        with self.reading(name):
            return self._dataset(name, SUFFIXES[0]).shape[0]

    def read_residue(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Residue features (n, 47 or 3) float32 of tokens `start` to `stop`; NaN for missing properties."""
        with self.reading(name):
            residue = self._dataset(name, SUFFIXES[0])
            return _residue_values(residue, self._missing(name, residue), start, stop)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> tuple[Array, Array]:
        """Residue (n, 47 or 3) and pair (n, n, 10 or 3) features, float32, of tokens `start` to `stop`.

        Missing properties are NaN, tokens and pairs without features `MISSING`.
        """
        with self.reading(name):
            residue, pairs = self.datasets(name)
            problem = shape_problem(residue.shape, pairs.shape)
            require(problem is None, f"{self.path}: entry {name}: {problem}; {REMEDY}")
            missing = self._missing(name, residue)
            pair = pairs[start:stop, start:stop].astype(np.float32, copy=False)
            if missing:
                held = (np.diagonal(pair) != MISSING).any(axis=0)  # the diagonal of (n, n, K) is (K, n)
                pair[np.ix_(held, held, entry_columns(missing)[1])] = np.nan
            return _residue_values(residue, missing, start, stop), pair

    def as_properties(self, name: str) -> dict[str, NDArray[Any]]:
        """Properties of the N residues of an entry that have data, by name, in the units of `properties.UNITS`.

        Interactions are contacts per frame, not their stored cube roots; `rmsf` is in nm and `rmsf_nor` divided by its
        maximum; see `token_space.named_properties`. Missing properties are left out. `token` (N,) is the index of each
        residue among the tokens of the sequence.
        """
        residue, pair = self.read(name)
        held = (residue != MISSING).any(axis=1) | (np.diagonal(pair) != MISSING).any(axis=0)
        token = np.flatnonzero(held)  # an entry may have properties of residues only, or of pairs
        return {"token": token, **named_properties(residue[token], pair[np.ix_(token, token)], cube_roots=True)}


def _residue_values(residue: h5py.Dataset, missing: Sequence[str], start: int, stop: int | None) -> Array:
    values = residue[start:stop].astype(np.float32, copy=False)
    if missing:
        held = (values != MISSING).any(axis=1)
        values[np.ix_(held, entry_columns(missing)[0])] = np.nan
    return values


def store_of_each(paths: Sequence[str | Path], on_duplicate: OnDuplicate = "error") -> dict[str, int]:
    """Entry -> index of the store from which `merge_stores` takes it."""
    origin: dict[str, int] = {}
    duplicates: set[str] = set()
    for number, path in enumerate(paths):
        with FeatureStore(path) as store:
            for name in store.names():
                first = origin.setdefault(name, number)
                if first == number:
                    continue
                remedy = "remove one, or choose with --on-duplicate keep-first or keep-last"
                require(on_duplicate != "error", f"{path}: duplicate entry {name}, also in {paths[first]}; {remedy}")
                duplicates.add(name)
                if on_duplicate == "keep-last":
                    origin[name] = number
    require(origin, f"{', '.join(map(str, paths))}: no entries to merge")
    if duplicates:
        problem = f"{len(duplicates)} entries are in several stores and taken from the {on_duplicate[5:]} of them"
        print(f"note: {problem}: {some_of(sorted(duplicates))}", file=sys.stderr)
    return origin


def merge_stores(
    paths: Sequence[str | Path],
    out: str | Path,
    dtype: StoreDtype | None = None,
    attributes: Attributes = NO_ATTRIBUTES,
    origin: Mapping[str, int] | None = None,
    compression: Compression = "blosc2",
) -> None:
    """Merge stores or published files into one, sorted by entry name, in bounded memory.

    `dtype` None means float16 if all entries are float16, else float32; `attributes` are those of the new file;
    `origin` is by default `store_of_each`. InputError if there are no entries, or an entry is a duplicate or cannot be
    stored.
    """
    origin = store_of_each(paths) if origin is None else origin
    dtype = dtype or (
        "float16" if all(_is_half(path, number, origin) for number, path in enumerate(paths)) else "float32"
    )
    with (
        StoreWriter(out, dtype, attributes, compression) as writer,
        tqdm(total=len(origin), desc="merge", unit="entry") as bar,
    ):
        for number, group in groupby(sorted(origin), key=origin.__getitem__):
            names = list(group)
            with _copying(paths[number]):
                writer.copy_from(paths[number], names)
            bar.update(len(names))


@contextmanager
def _copying(path: str | Path) -> Iterator[None]:
    """As `FeatureStore.reading`, but an error of the disk is one of the new file."""
    try:
        with reading(path, KIND, REMEDY):
            yield
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in OF_DISK:
            raise cause from None
        raise


def _is_half(path: str | Path, number: int, origin: Mapping[str, int]) -> bool:
    """Whether all entries that are taken from a store are float16."""
    with FeatureStore(path) as store:
        taken = (name for name in store.names() if origin[name] == number)
        return all(dataset.dtype == np.float16 for name in taken for dataset in store.datasets(name))
