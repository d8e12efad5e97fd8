"""The HDF5 file of training features: write, read, crop, merge.

Each entry has datasets in token space: `{name}_res_feature` (L, 47 or 3), `{name}_pair_feature` (L, L, 1 or 3), the
correlations, and for molecular dynamics `{name}_interactions` (4, M) float32, the rows first token (sorted), second
token, channel and value of its interactions: a residue has about six, in nine channels. A pair is without features
where its correlation is -1; elsewhere interactions that are not listed are 0. `FeatureStore.read` returns all ten
channels.

These datasets are contiguous and not compressed: their numbers have random low bits. A crop reads its rows, and the
interactions whole. With `compression` gzip they are chunked and compressed, for a file to pass on. The writer refuses
NaN and infinite values. If a correlation is -1 where that means missing, it writes the next larger number.

Also read are files of format 1 and published ones (contiguous, without format attribute), in which the pair dataset is
(L, L, 10) with the interactions in channels 0 to 8. The writer keeps this form for entries with many interactions
(`MOST_INTERACTIONS`), in chunks that Blosc2 compresses: they require the package hdf5plugin, as the attribute
`read_with` says.

An entry may lack properties, named in the attribute `missing_properties` of its residue dataset: their columns and
channels are -1 in the file, interactions not listed, and a correlation that lacks is 0 for pairs with interactions
known. A reader that takes -1 in column or channel 0 for a missing token reads such an entry as empty if `sasa_mean` or
`vdw` is missing; `FeatureStore` returns NaN in those columns of the tokens with features.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.dataset.token_space import named_properties
from data_prepare.errors import OF_DISK, InputError, named, reading, require, shown, some_of
from data_prepare.files import new_hdf5, plain_value, read_attributes, whole_file, write_attributes
from data_prepare.properties import (
    INTERACTIONS,
    MD_PAIR_WIDTH,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_PAIR_WIDTH,
    NMA_RESIDUE_WIDTH,
    PROPERTIES,
    entry_columns,
    entry_pair_channel,
)

FORMAT_ATTRIBUTE: Final = "seqdance_format"
FORMAT_VERSION: Final = 2
READABLE_VERSIONS: Final = (1, FORMAT_VERSION)
MISSING_ATTRIBUTE: Final = "missing_properties"  # of a residue dataset: JSON list of names
READ_WITH_ATTRIBUTE: Final = "read_with"
PAIR_CHUNK: Final = 64  # tokens on each side of a chunk of ten channels: 64 x 64 x 10 x 4 bytes = 160 KB
CORRELATION_CHUNK: Final = 128  # the same of one or three channels: 64 or 192 KB
MOST_INTERACTIONS: Final = 1 / 8  # of the nine channels of all pairs that may differ from 0 to be stored as a list
RESIDUE_CHUNK: Final = 256  # with gzip
BLOCK_BYTES: Final = 16 * 2**20  # of a pair array in memory at once when it is checked or rewritten
# Ten channels are mostly zeros: zstd without byte shuffling halves their size; higher levels take three times as long
# for 1 % of it. Other values have random low bits: compression would save 10 % and triple the time of a crop.
CONTACTS_CODEC: Final = hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.NOFILTER)
MEMORY_TYPES: Final = {dtype: h5py.h5t.py_create(dtype) for dtype in map(np.dtype, ("f2", "f4", "f8"))}
SUFFIXES: Final = ("_res_feature", "_pair_feature")
LIST_SUFFIX: Final = "_interactions"
MOST_COMPRESSED: Final = 2**14  # size of an array to its size in the file; a chunk of only zeros has 2**9 to 2**13
KIND: Final = "a feature store (HDF5)"
NO_ENTRY: Final = "is it the store of this table?"
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
CORRELATION: Final = entry_pair_channel("corr")


class Pairs(NamedTuple):
    """Pair features of n tokens as stored: all in one array, or the interactions apart."""

    values: NDArray[np.floating]
    """(n, n, 10 or 3) features or (n, n, 1) correlation, in the dtype of the store; -1 for pairs without features, NaN
    for missing properties."""
    interactions: Array | None
    """(4, m): token, token, channel, value; with the correlation."""


class StoredArray:
    """Floats of a dataset, read by slices; for crops, `h5py.Dataset` takes longer to set up than to read."""

    def __init__(self, opened: h5py.h5d.DatasetID, dtype: np.dtype) -> None:
        self.id, self.dtype = opened, dtype
        self._space = opened.get_space()
        self.shape: tuple[int, ...] = self._space.get_simple_extent_dims()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | tuple[slice, ...]) -> NDArray[np.floating]:
        windows = key if isinstance(key, tuple) else (key,)
        bounds = [window.indices(size)[:2] for window, size in zip(windows, self.shape, strict=False)]
        bounds += [(0, size) for size in self.shape[len(bounds) :]]
        start = tuple(first for first, _ in bounds)
        count = tuple(max(0, last - first) for first, last in bounds)
        values = np.empty(count, self.dtype)
        if values.size:
            of_file = of_memory = h5py.h5s.ALL
            if count != self.shape:
                of_file, of_memory = self._space, h5py.h5s.create_simple(count)
                of_file.select_hyperslab(start, count)
            self.id.read(of_memory, of_file, values, MEMORY_TYPES[self.dtype])
        return values


class ListedPairs:
    """Pair features (L, L, 10) of an entry with a list of interactions, read by slices of rows and columns.

    Values are those of a dense dataset: -1 in the channels of missing properties and for pairs without features.
    """

    def __init__(self, correlation: StoredArray, interactions: Array, missing: Sequence[str]) -> None:
        self.shape = (*correlation.shape[:2], MD_PAIR_WIDTH)
        self.dtype = correlation.dtype
        self._correlation, self._interactions = correlation, interactions
        self._missing = entry_columns(missing)[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | tuple[slice, slice]) -> NDArray[np.floating]:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        correlation, listed = self.parts(rows, columns)
        pair = np.zeros((*correlation.shape, MD_PAIR_WIDTH), self.dtype)
        pair[correlation == MISSING] = MISSING
        pair[..., self._missing] = MISSING
        first, second, channel = listed[:3].astype(np.intp)
        pair[first, second, channel] = listed[3]
        lacks = CORRELATION in self._missing
        pair[..., CORRELATION] = np.where(correlation == 0, MISSING, correlation) if lacks else correlation
        return pair

    def parts(self, rows: slice, columns: slice) -> tuple[NDArray[np.floating], Array]:
        """Correlation (R, C) and the list (4, m) of the interactions between these tokens, counted from the first."""
        top, bottom, _ = rows.indices(len(self))
        left, right, _ = columns.indices(len(self))
        start, stop = self._interactions[0].searchsorted((top, bottom))
        listed = self._interactions[:, start:stop]
        listed = listed[:, (listed[1] >= left) & (listed[1] < right)]
        listed[:2] -= ((top,), (left,))
        return self._correlation[top:bottom, left:right][..., 0], listed


PairArray: TypeAlias = NDArray | h5py.Dataset | ListedPairs


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
    step = CORRELATION_CHUNK * max(1, BLOCK_BYTES // (4 * CORRELATION_CHUNK * shape[1] * shape[2]))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def entry_file(store: Path, name: str) -> Path:
    """Store of one entry alone, from which, or of which, `seqdance prepare` makes the store of all."""
    return store.with_suffix(".entries") / f"{name}.h5"


class StoreWriter:
    """Write a store (HDF5) atomically: an existing file is replaced when writing ends without an exception.

    float16 halves the size (relative rounding 5e-4). For `attributes` see `FeatureStore.attributes`. A store with the
    `compression` gzip is smaller and read without hdf5plugin, but random crops many times more slowly.
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
        pair: PairArray,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> None:
        """Add an entry: residue (L, 47 or 3) and pair (L, L, 10 or 3) features in token space, copied in blocks.

        `attributes` are those of its residue dataset, see `FeatureStore.attributes_of`. Values of missing properties
        are ignored.
        """
        self._check(name, residue, pair)
        columns, channels = entry_columns(missing_of(attributes))
        target = self._create(name, SUFFIXES[0], residue.shape, RESIDUE_CHUNK)
        target[:] = self._stored(name, residue[:], columns)
        write_attributes(target, attributes)
        listed = pair.shape[2] == MD_PAIR_WIDTH and _has_few_interactions(pair, channels)
        shape = (*pair.shape[:2], 1) if listed else pair.shape
        target = self._create(name, SUFFIXES[1], shape, PAIR_CHUNK if shape[2] == MD_PAIR_WIDTH else CORRELATION_CHUNK)
        lists = []
        for rows in row_blocks(pair.shape):
            values = self._stored(name, pair[rows], channels)
            if listed:
                values, interactions = _apart(values, channels)
                interactions[0] += rows.start
                lists.append(interactions)
            target[rows] = values
            self._check_disk()
        if listed:
            interactions = np.concatenate(lists, axis=1)
            target = self._create(name, LIST_SUFFIX, interactions.shape, len(interactions), np.dtype(np.float32))
            target[:] = interactions

    def copy_from(self, store_path: str | Path, names: Sequence[str] | None = None) -> None:
        """Add entries of another store or published file in this order (default: all), in bounded memory.

        Entries of this format, dtype and compression are copied without decompression. InputError if an entry is
        absent, incomplete, a duplicate or cannot be stored.
        """
        with FeatureStore(store_path) as store:
            for name in store.names() if names is None else names:
                residue, pair = store.datasets(name)
                stored = store.stored(name)
                try:
                    gzip = stored[SUFFIXES[1]].compression == "gzip"  # None for Blosc2
                    same = residue.dtype == pair.dtype == self.dtype and gzip == (self.compression == "gzip")
                    if store.version == FORMAT_VERSION and same:
                        self._check(name, residue, pair)
                        for suffix, dataset in stored.items():
                            self._file.copy(dataset, self._file, name=f"{name}{suffix}")
                        self._check_disk()
                    else:
                        self.add(name, residue, pair, dict(residue.attrs))
                except InputError as error:
                    raise InputError(f"{store_path}: {error}") from None

    def link(self, name: str) -> None:
        """Add an entry that stays in its own store, the `entry_file`."""
        own = entry_file(self.path, name)
        with FeatureStore(own) as store:
            suffixes = tuple(store.stored(name))
        for suffix in suffixes:
            path = os.path.relpath(own, self.path.parent)
            self._file[f"{name}{suffix}"] = h5py.ExternalLink(path, f"{name}{suffix}")

    def _check(self, name: str, residue: NDArray | h5py.Dataset, pair: PairArray) -> None:
        problem = shape_problem(residue.shape, pair.shape)
        require(problem is None, f"entry {name}: {problem}")
        require(name and "/" not in name, f"entry name {name!r}: expected a name without '/'")
        require(f"{name}{SUFFIXES[0]}" not in self._file, f"duplicate entry {name} in {self.path}")

    def _create(
        self, name: str, suffix: str, shape: tuple[int, ...], chunk: int, dtype: np.dtype | None = None
    ) -> h5py.Dataset:
        """A compressed dataset in chunks of at most `chunk` tokens or rows."""
        contacts = suffix == SUFFIXES[1] and shape[-1] == MD_PAIR_WIDTH
        options: dict[str, Any] = {"track_times": False}  # equal input gives equal bytes
        if 0 not in shape and (contacts or self.compression == "gzip"):
            options["chunks"] = (*(min(chunk, size) for size in shape[:-1]), shape[-1])
            gzip = {"compression": "gzip", "shuffle": not contacts}
            options |= gzip if self.compression == "gzip" else CONTACTS_CODEC
        return self._file.create_dataset(f"{name}{suffix}", shape, dtype or self.dtype, **options)

    def _stored(self, name: str, data: NDArray, missing: list[int]) -> NDArray:
        """The values in the dtype of the store, `MISSING` in some columns; no other becomes `MISSING` by rounding."""
        with np.errstate(over="ignore"):  # refused below
            values = data.astype(self.dtype)
        values[..., missing] = MISSING
        require(
            np.isfinite(values).all(),
            f"entry {name}: features are NaN, infinite or too large for {self.dtype}; recompute or remove it",
        )
        for channel in guarded_channels(values.shape[-1]):
            if channel not in missing:
                hidden = (values[..., channel] == MISSING) & (data != MISSING).any(axis=-1)
                values[hidden, channel] = next_to_missing(self.dtype)
        return values


def guarded_channels(width: int) -> tuple[int, ...]:
    """Columns or channels of an array in which `MISSING` means that the residue or pair has no features."""
    return (0, CORRELATION) if width == MD_PAIR_WIDTH else (0,)


def next_to_missing(dtype: np.dtype) -> np.floating:
    """The number that replaces `MISSING` where a value is rounded to it."""
    return np.nextafter(dtype.type(MISSING), dtype.type(0))


def _has_few_interactions(pair: PairArray, missing: Sequence[int]) -> bool:
    """Whether at most `MOST_INTERACTIONS` of the interactions (L, L, 9) that are not missing differ from 0."""
    channels = [channel for channel in range(len(INTERACTIONS)) if channel not in missing]
    found = 0
    for rows in row_blocks(pair.shape):
        values = pair[rows][..., channels]
        found += int(np.count_nonzero((values != 0) & (values != MISSING)))
    return found <= MOST_INTERACTIONS * len(INTERACTIONS) * pair.shape[0] * pair.shape[1]


def _apart(values: NDArray[np.floating], missing: Sequence[int]) -> tuple[NDArray[np.floating], Array]:
    """Stored values (R, L, 10) as correlation (R, L, 1) and list of interactions (4, m).

    The correlation is -1 where all channels are, and elsewhere 0 if it is missing.
    """
    without = (values == MISSING).all(axis=-1)
    correlation = values[..., [CORRELATION]]
    if CORRELATION in missing:
        correlation[~without] = 0
    interactions = np.where(without[..., None], 0, values[..., : len(INTERACTIONS)])
    interactions[..., [channel for channel in missing if channel != CORRELATION]] = 0
    places = np.nonzero(interactions)
    return correlation, np.stack([*places, interactions[places]]).astype(np.float32)


@dataclass
class _Opened:
    """What has been opened of one entry."""

    name: str
    arrays: dict[str, StoredArray] = field(default_factory=dict)  # by suffix
    missing: tuple[str, ...] | None = None
    listed: ListedPairs | None = None


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
        self._opened = _Opened("")

    def _open(self) -> h5py.File:
        if self._file is None or self._pid != os.getpid():
            with reading(self.path, KIND, REMEDY):
                file = h5py.File(self.path, "r")
                version = file.attrs.get(FORMAT_ATTRIBUTE, FORMAT_VERSION)
                require(
                    any(bool(version == known) for known in READABLE_VERSIONS),
                    f"{self.path}: store format {shown(version)}, expected {FORMAT_VERSION} or less; recreate it or "
                    "update seqdance",
                )
                self._size = self.path.stat().st_size
            self._file, self._pid, self._opened = file, os.getpid(), _Opened("")
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
        self._file, self._opened = None, _Opened("")

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
            return read_attributes(h5py.Dataset(self._array(name, SUFFIXES[0]).id, readonly=True))

    def missing(self, name: str) -> tuple[str, ...]:
        """Names of the properties that an entry lacks."""
        with self.reading(name):
            return self._missing(name)

    def _missing(self, name: str) -> tuple[str, ...]:
        residue = self._array(name, SUFFIXES[0])
        if self._opened.missing is None:
            with named(f"{self.path}: entry {name}"):
                lacks = h5py.h5a.exists(residue.id, MISSING_ATTRIBUTE.encode())
                self._opened.missing = missing_of(self.attributes_of(name)) if lacks else ()
        return self._opened.missing

    def names(self) -> list[str]:
        """Names of all entries, sorted."""
        return sorted(key.removesuffix(SUFFIXES[0]) for key in self.keys() if key.endswith(SUFFIXES[0]))

    def __contains__(self, name: object) -> bool:
        with self.reading() as file:
            return all(f"{name}{suffix}" in file for suffix in SUFFIXES)

    def _array(self, name: str, suffix: str) -> StoredArray:
        """A dataset whose values are in this file, or in that of its entry, which has room for its size."""
        file = self._open()
        if self._opened.name != name:
            self._opened = _Opened(name)
        if suffix in self._opened.arrays:
            return self._opened.arrays[suffix]
        key = f"{name}{suffix}"
        where, links = f"{self.path}: entry {name}", file.id.links
        require("/" not in key and links.exists(key.encode()), f"{self.path}: no entry {name}; {NO_ENTRY}")
        size = self._size
        if links.get_info(key.encode()).type != h5py.h5l.TYPE_HARD:
            link, result = file.get(key, getlink=True), entry_file(self.path, name)
            own = isinstance(link, h5py.ExternalLink) and link.path == key
            own = own and link.filename == os.path.relpath(result, self.path.parent)
            require(own, f"{where}: {key} is a link to another array; {REMEDY}")
            require(result.is_file(), f"{where}: {result} is missing; move it with the store, or recreate the entry")
            size = result.stat().st_size
        opened = h5py.h5o.open(file.id, key.encode())
        require(isinstance(opened, h5py.h5d.DatasetID), f"{where}: {key} is not an array; {REMEDY}")
        if opened.get_offset() is None:  # asked first, because it is faster
            layout = opened.get_create_plist()
            elsewhere = layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count()
            require(not elsewhere, f"{where}: {key} has its values in other files; give the store that has them")
        stored = min(opened.get_storage_size(), size)
        kind = opened.get_type()
        size = kind.get_size()
        floats = isinstance(kind, h5py.h5t.TypeFloatID) and size in (2, 4, 8)
        if not floats or size * math.prod(opened.shape) > MOST_COMPRESSED * stored:
            what = f"({opened.shape}, {opened.dtype}, {stored} bytes)"
            raise InputError(f"{where}: {key} is damaged {what}; {REMEDY}")
        array = self._opened.arrays[suffix] = StoredArray(opened, np.dtype(f"f{size}"))
        return array

    def stored(self, name: str) -> dict[str, h5py.Dataset]:
        """The datasets of an entry as they are in the file, by suffix; read them in a block of `reading`."""
        with self.reading(name) as file:
            suffixes = (*SUFFIXES, LIST_SUFFIX) if f"{name}{LIST_SUFFIX}" in file else SUFFIXES
            return {suffix: h5py.Dataset(self._array(name, suffix).id, readonly=True) for suffix in suffixes}

    def datasets(self, name: str) -> tuple[h5py.Dataset, h5py.Dataset | ListedPairs]:
        """Residue and pair features of an entry, not read yet; read them in a block of `reading`."""
        with self.reading(name):
            residue, pair = self._array(name, SUFFIXES[0]), self._pairs(name)
            whole = pair if isinstance(pair, ListedPairs) else h5py.Dataset(pair.id, readonly=True)
            return h5py.Dataset(residue.id, readonly=True), whole

    def _pairs(self, name: str) -> StoredArray | ListedPairs:
        residue, pair = (self._array(name, suffix) for suffix in SUFFIXES)
        if pair.shape[-1:] != (1,):
            return pair
        if self._opened.listed is None:
            listed = self._array(name, LIST_SUFFIX)[:]  # (4, M)
            whole = listed.ndim == 2 and len(listed) == 4
            if whole and listed.size:
                limits = zip(listed, (len(residue), len(residue), len(INTERACTIONS)), strict=False)
                whole = all(numbers.min() >= 0 and numbers.max() < limit for numbers, limit in limits)
                whole = whole and bool((listed[0, 1:] >= listed[0, :-1]).all())
            require(whole, f"{self.path}: entry {name}: the list of interactions is damaged; {REMEDY}")
            self._opened.listed = ListedPairs(pair, listed, self._missing(name))
        return self._opened.listed

    def length(self, name: str) -> int:
        """Tokens of an entry."""
        with self.reading(name):
            return len(self._array(name, SUFFIXES[0]))

    def read_residue(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Residue features (n, 47 or 3) float32 of tokens `start` to `stop`; NaN for missing properties."""
        with self.reading(name):
            return _residue_values(self._array(name, SUFFIXES[0]), self._missing(name), start, stop)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> tuple[Array, Array]:
        """Residue (n, 47 or 3) and pair (n, n, 10 or 3) features, float32, of tokens `start` to `stop`.

        Missing properties are NaN, tokens and pairs without features `MISSING`.
        """
        with self.reading(name):
            residue, pairs, missing = self._whole(name)
            pair = _pair_values(pairs, missing, start, stop).astype(np.float32, copy=False)
            return _residue_values(residue, missing, start, stop), pair

    def read_pairs(self, name: str, start: int = 0, stop: int | None = None) -> Pairs:
        """Pair features of tokens `start` to `stop` as they are stored, for what makes them dense later."""
        with self.reading(name):
            _, pairs, missing = self._whole(name)
            if not isinstance(pairs, ListedPairs):
                return Pairs(_pair_values(pairs, missing, start, stop), None)
            correlation, interactions = pairs.parts(slice(start, stop), slice(start, stop))
            if "corr" in missing:
                correlation[correlation != MISSING] = np.nan
            return Pairs(correlation[..., None], interactions)

    def _whole(self, name: str) -> tuple[StoredArray, StoredArray | ListedPairs, tuple[str, ...]]:
        """Residue and pair features of an entry that belong together, and its missing properties."""
        residue, pairs = self._array(name, SUFFIXES[0]), self._pairs(name)
        problem = shape_problem(residue.shape, pairs.shape)
        require(problem is None, f"{self.path}: entry {name}: {problem}; {REMEDY}")
        return residue, pairs, self._missing(name)

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


def _pair_values(
    pairs: StoredArray | ListedPairs, missing: Sequence[str], start: int, stop: int | None
) -> NDArray[np.floating]:
    pair = pairs[start:stop, start:stop]
    if missing:
        held = (np.diagonal(pair) != MISSING).any(axis=0)  # the diagonal of (n, n, K) is (K, n)
        pair[np.ix_(held, held, entry_columns(missing)[1])] = np.nan
    return pair


def _residue_values(residue: StoredArray, missing: Sequence[str], start: int, stop: int | None) -> Array:
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
