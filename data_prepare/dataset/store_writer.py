"""Write and merge feature stores, see `store_layout`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import (
    CORRELATION,
    CORRELATION_CHUNK,
    FORMAT_ATTRIBUTE,
    FORMAT_VERSION,
    LIST_SUFFIX,
    NO_ATTRIBUTES,
    READ_WITH_ATTRIBUTE,
    REMEDY,
    SUFFIXES,
    Array,
    Attributes,
    Compression,
    PairArray,
    StoreDtype,
    entry_file,
    guarded_channels,
    missing_of,
    next_to_missing,
    row_blocks,
    shape_problem,
)
from data_prepare.errors import OF_DISK, InputError, named, reading, require, some_of
from data_prepare.files import new_hdf5, whole_file, write_attributes
from data_prepare.properties import (
    INTERACTIONS,
    MD_PAIR_WIDTH,
    MISSING,
    entry_columns,
)

RESIDUE_CHUNK: Final = 256  # with gzip
PAIR_CHUNK: Final = 64  # tokens on each side of a chunk of ten channels: 64 x 64 x 10 x 4 bytes = 160 KB
MOST_INTERACTIONS: Final = 1 / 8  # of the nine channels of all pairs that may differ from 0 to be stored as a list
# Ten channels are mostly zeros: zstd without byte shuffling halves their size; higher levels take three times as long
# for 1 % of it. Other values have random low bits: compression would save 10 % and triple the time of a crop.
CONTACTS_CODEC: Final = hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.NOFILTER)
OnDuplicate = Literal["error", "keep-first", "keep-last"]  # what `store_of_each` does
READ_WITH: Final[Mapping[Compression, str]] = {
    "blosc2": "import hdf5plugin before h5py reads this file (pip install hdf5plugin), or use seqdance.FeatureStore",
    "gzip": "any HDF5 library, or seqdance.FeatureStore",
}


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
                with named(store_path), _copying(f"{store_path}: entry {name}"):
                    self._copy(store, name)

    def _copy(self, store: FeatureStore, name: str) -> None:
        residue, pair = store.datasets(name)
        stored = store.stored(name)
        gzip = stored[SUFFIXES[1]].compression == "gzip"  # None for Blosc2
        same = residue.dtype == pair.dtype == self.dtype and gzip == (self.compression == "gzip")
        if store.version != FORMAT_VERSION or not same:
            self.add(name, residue, pair, dict(residue.attrs))
            return
        self._check(name, residue, pair)
        for suffix, dataset in stored.items():
            self._file.copy(dataset, self._file, name=f"{name}{suffix}")
        self._check_disk()

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
        """A dataset; a compressed one is in chunks of at most `chunk` tokens or rows."""
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
        problem = f"entries in several stores, taken from the {on_duplicate[5:]} of them"
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
            writer.copy_from(paths[number], names)
            bar.update(len(names))


@contextmanager
def _copying(where: str) -> Iterator[None]:
    """As `FeatureStore.reading`, but an error of the disk is one of the new file."""
    try:
        with reading(where, "readable features", REMEDY):
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
