"""Layout of the HDF5 file of training features, which `store` reads and `store_writer` writes.

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import reading, require
from data_prepare.files import plain_value
from data_prepare.properties import (
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
CORRELATION_CHUNK: Final = 128  # the same of one or three channels: 64 or 192 KB
BLOCK_BYTES: Final = 16 * 2**20  # of a pair array in memory at once when it is checked or rewritten
MEMORY_TYPES: Final = {dtype: h5py.h5t.py_create(dtype) for dtype in map(np.dtype, ("f2", "f4", "f8"))}
SUFFIXES: Final = ("_res_feature", "_pair_feature")
LIST_SUFFIX: Final = "_interactions"
KIND: Final = "a feature store (HDF5)"
NO_ENTRY: Final = "is it the store of this table?"
REMEDY: Final = "make it with `seqdance prepare`, or copy it again"
StoreDtype = Literal["float32", "float16"]
Compression = Literal["blosc2", "gzip"]
Attributes = Mapping[str, str | int | float]
NO_ATTRIBUTES: Final[Attributes] = MappingProxyType({})
Array = NDArray[np.float32]
CORRELATION: Final = entry_pair_channel("corr")


class Sample(NamedTuple):
    """Features as stored: pair features of n tokens are all in one array, or the interactions apart."""

    residue: NDArray[np.floating]
    """(L, 47 or 3) features of the whole entry, in the dtype of the store; as in `values`."""
    missing: tuple[str, ...]
    """Properties that the entry lacks."""
    values: NDArray[np.floating]
    """(n, n, 10 or 3) features or (n, n, 1) correlation, in the dtype of the store; -1 for pairs without features, NaN
    for missing properties."""
    interactions: Array | None
    """(4, m): token, token, channel, value; with the correlation."""


class StoredArray:
    """Floats of a dataset, read by slices; for crops, `h5py.Dataset` takes longer to set up than to read."""

    def __init__(self, opened: h5py.h5d.DatasetID, dtype: np.dtype, space: h5py.h5s.SpaceID) -> None:
        self.id, self.dtype, self._space = opened, dtype, space
        self.shape: tuple[int, ...] = space.get_simple_extent_dims()

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
        self._missing = missing

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | tuple[slice, slice]) -> NDArray[np.floating]:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        correlation, listed = self.parts(rows, columns)
        missing = entry_columns(self._missing)[1]
        pair = np.zeros((*correlation.shape, MD_PAIR_WIDTH), self.dtype)
        pair[correlation == MISSING] = MISSING
        pair[..., missing] = MISSING
        first, second, channel = listed[:3].astype(np.intp)
        pair[first, second, channel] = listed[3]
        lacks = CORRELATION in missing
        pair[..., CORRELATION] = np.where(correlation == 0, MISSING, correlation) if lacks else correlation
        return pair

    def parts(self, rows: slice, columns: slice) -> tuple[NDArray[np.floating], Array]:
        """Correlation (R, C) and the list (4, m) of the interactions between these tokens, counted from the first."""
        top, bottom, _ = rows.indices(len(self))
        left, right, _ = columns.indices(len(self))
        start, stop = self._interactions[0].searchsorted((top, bottom))
        listed = self._interactions[:, start:stop]
        listed = listed.compress((listed[1] >= left) & (listed[1] < right), axis=1)  # faster than by index
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


def guarded_channels(width: int) -> tuple[int, ...]:
    """Columns or channels of an array in which `MISSING` means that the residue or pair has no features."""
    return (0, CORRELATION) if width == MD_PAIR_WIDTH else (0,)


def next_to_missing(dtype: np.dtype) -> np.floating:
    """The number that replaces `MISSING` where a value is rounded to it."""
    return np.nextafter(dtype.type(MISSING), dtype.type(0))
