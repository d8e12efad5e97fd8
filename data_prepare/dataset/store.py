"""Read feature stores, see `store_layout`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  # with it h5py reads Blosc2 chunks
import numpy as np
from numpy.typing import NDArray

from data_prepare.dataset.store_layout import (
    FORMAT_ATTRIBUTE,
    FORMAT_VERSION,
    KIND,
    LIST_SUFFIX,
    MISSING_ATTRIBUTE,
    NO_ENTRY,
    READ_WITH_ATTRIBUTE,
    READABLE_VERSIONS,
    REMEDY,
    SUFFIXES,
    Array,
    Attributes,
    ListedPairs,
    Sample,
    StoredArray,
    entry_file,
    missing_of,
    shape_problem,
)
from data_prepare.dataset.token_space import named_properties
from data_prepare.errors import named, reading, require, shown
from data_prepare.files import open_hdf5, own_array, read_attributes
from data_prepare.properties import INTERACTIONS, MISSING, entry_columns


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
                file = open_hdf5(self.path)
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
        """Names of all datasets, sorted; InputError if one is no text."""
        with self.reading() as file:
            keys = list(file)
        texts = all(isinstance(key, str) for key in keys)  # h5py returns others as bytes
        require(texts, f"{self.path}: the name of an entry is not UTF-8; copy or make the file again")
        return sorted(keys)

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
        opened, kind, space = own_array(file, key, where, REMEDY, size)
        floats = isinstance(kind, h5py.h5t.TypeFloatID) and kind.get_size() in (2, 4, 8)
        require(floats, f"{where}: {key} is damaged (not floats); {REMEDY}")
        array = self._opened.arrays[suffix] = StoredArray(opened, np.dtype(f"f{kind.get_size()}"), space)
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
            if whole:
                limits = np.array([[len(residue)], [len(residue)], [len(INTERACTIONS)]], np.float32)
                whole = bool((listed[:3] >= 0).all() and (listed[:3] < limits).all())
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
            values = _residue_values(self._array(name, SUFFIXES[0]), self._missing(name), start, stop)
            return values.astype(np.float32, copy=False)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> tuple[Array, Array]:
        """Residue (n, 47 or 3) and pair (n, n, 10 or 3) features, float32, of tokens `start` to `stop`.

        Missing properties are NaN, tokens and pairs without features `MISSING`.
        """
        with self.reading(name):
            residue, pairs, missing = self._whole(name)
            pair = _pair_values(pairs, missing, start, stop).astype(np.float32, copy=False)
            return _residue_values(residue, missing, start, stop).astype(np.float32, copy=False), pair

    def read_sample(self, name: str, start: int = 0, stop: int | None = None) -> Sample:
        """Residue features of an entry, and pair features of tokens `start` to `stop`, as they are stored."""
        with self.reading(name):
            residue, pairs, missing = self._whole(name)
            values = _residue_values(residue, missing, 0, None)
            if not isinstance(pairs, ListedPairs):
                return Sample(values, missing, _pair_values(pairs, missing, start, stop), None)
            correlation, interactions = pairs.parts(slice(start, stop), slice(start, stop))
            if "corr" in missing:
                correlation[correlation != MISSING] = np.nan
            return Sample(values, missing, correlation[..., None], interactions)

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


def _residue_values(residue: StoredArray, missing: Sequence[str], start: int, stop: int | None) -> NDArray[np.floating]:
    values = residue[start:stop]
    if missing:
        held = (values != MISSING).any(axis=1)
        values[np.ix_(held, entry_columns(missing)[0])] = np.nan
    return values
