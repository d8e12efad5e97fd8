"""The merged HDF5 file of training features: write, read, crop, check, merge.

Each entry has two datasets in token space, `{name}_res_feature` (L, 47 or 3) and `{name}_pair_feature` (L, L, 10 or 3).
Token space is `<cls> residues <eos>`, chains joined by `<eos><cls>`: rows of these tokens are -1, and so are residues
without coordinates in stores that have them. The only places where numbers change on the way in:

- interaction frequencies (pair channels 0-8 of MD entries) are stored as their cube root, one-sided as the contact
  lines give them;
- an angle that a residue does not have (NaN in the residue table) is stored as twelve zeros;
- RMSF is stored raw; the loader divides it by its maximum in the protein;
- a correlation of normal modes that is (or float16 rounds to) -1 where -1 would read as missing becomes the next number
  above -1;
- any other NaN is an error: it would spread through every loss.

Datasets are chunked and compressed, so that a crop reads only its chunks. Files of others that follow the same naming
(contiguous, no format attribute) are read as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Literal

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.dataset.table import read_table
from data_prepare.errors import InputError
from data_prepare.files import whole_file
from data_prepare.properties import (
    GROUPS,
    INTERACTIONS,
    MD_PAIR_WIDTH,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_GROUPS,
    NMA_PAIR_WIDTH,
    NMA_RESIDUE_WIDTH,
    PAIR_PROPERTIES,
    RESIDUE_COLUMNS,
    entry_residue_columns,
    properties_of_group,
)

FORMAT_ATTRIBUTE: Final = "seqdance_format"
FORMAT_VERSION: Final = 1
PAIR_CHUNK: Final = 64  # tokens on each side of a chunk of the pair array: 64 x 64 x 10 x 4 bytes = 160 KB
RESIDUE_CHUNK: Final = 256
COMPRESSION_LEVEL: Final = 1  # higher ones take three times as long to write for 1 % of the size
BLOCK_BYTES: Final = 16 * 2**20  # of a pair array that is read whole when it is checked or rewritten
SUFFIXES: Final = ("_res_feature", "_pair_feature")

StoreDtype = Literal["float32", "float16"]
Array = NDArray[np.float32]
ANGLE_INDICES: Final = np.r_[tuple(slice(f, f + w) for f, w in (RESIDUE_COLUMNS[a] for a in ("chi", "phi", "psi")))]


def token_rows(chain_lengths: Sequence[int]) -> NDArray[np.intp]:
    """Token index of each residue: one `<cls>` before and one `<eos>` after every chain.

    Parameters
    ----------
    chain_lengths
        Residues of each chain, in order.

    Returns
    -------
    (N,) integers; the number of tokens is N + 2 * number of chains.
    """
    if not chain_lengths or min(chain_lengths) < 1:
        raise InputError(f"chain lengths {list(chain_lengths)}: each chain needs at least one residue")
    chain = np.repeat(np.arange(len(chain_lengths)), chain_lengths)
    return np.arange(len(chain)) + 2 * chain + 1


def to_token_space(
    residue: NDArray, pair: NDArray, chain_lengths: Sequence[int], places: NDArray[np.integer] | None = None
) -> tuple[Array, Array]:
    """Spread residue rows over the token string; rows and pairs of special tokens and unresolved residues are -1.

    Parameters
    ----------
    residue
        (N, C) features of the residues that have coordinates.
    pair
        (N, N, K) features of their pairs.
    chain_lengths
        Residues of each chain, unresolved ones counted.
    places
        (N,) ascending places of the N residues among all residues of all chains joined, 0 to sum(chain_lengths) - 1.
        None: all residues are given.

    Returns
    -------
    (L, C) and (L, L, K) float32, L = sum(chain_lengths) + 2 * number of chains.

    Raises
    ------
    InputError
        If the shapes or the places do not fit the chains.
    """
    total = sum(chain_lengths)
    n = total if places is None else len(places)
    if residue.shape[0] != n or pair.shape[:2] != (n, n):
        raise InputError(f"residue features {residue.shape} and pair features {pair.shape} do not fit {n} residues")
    rows = token_rows(chain_lengths)
    if places is not None:
        places = np.asarray(places)
        if n == 0 or places[0] < 0 or places[-1] >= total or (np.diff(places) < 1).any():
            raise InputError(f"places of {n} residues do not ascend within the {total} residues of the chains")
        rows = rows[places]
    tokens = total + 2 * len(chain_lengths)
    residue_tokens = np.full((tokens, residue.shape[1]), MISSING, np.float32)
    pair_tokens = np.full((tokens, tokens, pair.shape[2]), MISSING, np.float32)
    residue_tokens[rows] = residue
    pair_tokens[np.ix_(rows, rows)] = pair
    return residue_tokens, pair_tokens


def md_entry(
    residue: NDArray, pair: NDArray, chain_lengths: Sequence[int], places: NDArray[np.integer] | None = None
) -> tuple[Array, Array]:
    """Arrays of a molecular dynamics entry as they are stored.

    Parameters
    ----------
    residue
        (N, 47) in the order of `properties.py`: SASA mean and SD (nm^2), RMSF (nm), 8 DSSP shares, chi1, phi and psi
        histograms. NaN stands for an angle that does not exist.
    pair
        (N, N, 10) interaction frequencies (contact lines per frame) and displacement correlation.
    chain_lengths, places
        As `to_token_space` takes them.
    """
    if residue.shape[1] != MD_RESIDUE_WIDTH or pair.shape[2] != MD_PAIR_WIDTH:
        raise InputError(
            f"a molecular dynamics entry has 47 and 10 columns, not {residue.shape[1]} and {pair.shape[2]}"
        )
    residue = residue.astype(np.float64)
    angles = residue[:, ANGLE_INDICES]
    residue[:, ANGLE_INDICES] = np.where(np.isnan(angles), 0.0, angles)
    pair = pair.astype(np.float64)
    pair[..., : len(INTERACTIONS)] = np.cbrt(pair[..., : len(INTERACTIONS)])
    return to_token_space(residue, pair, chain_lengths, places)


def nma_entry(
    gnm_msf: NDArray, anm_cor: NDArray, chain_lengths: Sequence[int], places: NDArray[np.integer] | None = None
) -> tuple[Array, Array]:
    """Arrays of a normal mode entry as they are stored.

    Parameters
    ----------
    gnm_msf
        (3, N) mean square fluctuations of the three groups of modes.
    anm_cor
        (3, N, N) displacement correlations.
    chain_lengths, places
        As `to_token_space` takes them.
    """
    return to_token_space(gnm_msf.T, np.moveaxis(anm_cor, 0, -1), chain_lengths, places)


def _shape_problem(residue: tuple[int, ...], pair: tuple[int, ...]) -> str | None:
    """What is wrong with the shapes of the two arrays of an entry."""
    widths = (residue[-1:], pair[-1:])
    if widths not in (((MD_RESIDUE_WIDTH,), (MD_PAIR_WIDTH,)), ((NMA_RESIDUE_WIDTH,), (NMA_PAIR_WIDTH,))):
        return f"residue features {residue} and pair features {pair}; expected 47 and 10 columns, or 3 and 3"
    if len(residue) != 2 or pair[:-1] != (residue[0], residue[0]):
        return f"residue features {residue} and pair features {pair} do not fit"
    return None


def _row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a pair array (L, L, K) in blocks of whole chunks, at most `BLOCK_BYTES` (but one chunk) as float32."""
    chunk_rows_bytes = 4 * PAIR_CHUNK * shape[1] * shape[2]
    step = PAIR_CHUNK * max(1, BLOCK_BYTES // chunk_rows_bytes)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


class StoreWriter:
    """Write a store; the file takes its name only when everything is in it.

    Parameters
    ----------
    path
        The HDF5 file to make. An existing one is replaced when writing ends without an exception.
    dtype
        "float32", or "float16" for half the size (relative rounding 5e-4).
    attributes
        Attributes of the file, which `FeatureStore.attributes` gives back.
    """

    def __init__(
        self,
        path: str | Path,
        dtype: StoreDtype = "float32",
        attributes: Mapping[str, str | int | float] = MappingProxyType({}),
    ) -> None:
        self.path = Path(path)
        self.dtype = np.dtype(dtype)
        self.attributes = dict(attributes)

    def __enter__(self) -> StoreWriter:
        self._stack = ExitStack()
        temporary = self._stack.enter_context(whole_file(self.path))
        self._file = self._stack.enter_context(h5py.File(temporary, "w", libver="v110"))
        self._file.attrs.update(self.attributes)
        self._file.attrs[FORMAT_ATTRIBUTE] = FORMAT_VERSION
        return self

    def add(self, name: str, residue: NDArray, pair: NDArray) -> None:
        """Add one entry: residue (L, 47 or 3) and pair (L, L, 10 or 3) features in token space."""
        if problem := _shape_problem(residue.shape, pair.shape):
            raise InputError(f"entry {name}: {problem}")
        self._check_name(name)
        self._write(name, residue, pair)

    def copy_from(self, store_path: str | Path, names: Sequence[str] | None = None) -> None:
        """Add entries of another store (default: all of it), one after the other in bounded memory.

        Entries of this format and the dtype of this writer are copied as they are compressed, others are rewritten in
        blocks of rows.

        Parameters
        ----------
        store_path
            A file made by `StoreWriter`, or one of the published form.
        names
            Entries to take, in this order.

        Raises
        ------
        InputError
            If an entry is not there, lacks one of its arrays, is already in this store or cannot be stored.
        """
        with FeatureStore(store_path) as store:
            for name in store.names() if names is None else names:
                residue, pair = store.datasets(name)
                try:
                    self._check_name(name)
                    if problem := _shape_problem(residue.shape, pair.shape):
                        raise InputError(f"entry {name}: {problem}")
                    if store.version is not None and residue.dtype == pair.dtype == self.dtype:
                        for suffix, dataset in zip(SUFFIXES, (residue, pair), strict=True):
                            self._file.copy(dataset, self._file, name=f"{name}{suffix}")
                    else:
                        self._write(name, residue, pair)
                except InputError as error:
                    raise InputError(f"{store_path}: {error}") from None

    def _check_name(self, name: str) -> None:
        if not name or "/" in name:
            raise InputError(f"entry name {name!r}: a name is not empty and has no '/'")
        if f"{name}{SUFFIXES[0]}" in self._file:
            raise InputError(f"entry {name} is there twice: {self.path} has it already")

    def _write(self, name: str, residue: NDArray | h5py.Dataset, pair: NDArray | h5py.Dataset) -> None:
        tokens = len(residue)
        self._create(name, SUFFIXES[0], residue.shape, (min(RESIDUE_CHUNK, tokens), residue.shape[1]))[:] = (
            self._stored(name, residue[:])
        )
        chunk = min(PAIR_CHUNK, tokens)
        target = self._create(name, SUFFIXES[1], pair.shape, (chunk, chunk, pair.shape[2]))
        for rows in _row_blocks(pair.shape):
            target[rows] = self._stored(name, pair[rows])

    def _create(self, name: str, suffix: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> h5py.Dataset:
        # Contacts are mostly zeros, channel by channel: whole numbers repeat, and zstd reads them three times faster
        # as they are than with the bytes of the numbers apart, which dense numbers need to become smaller
        sparse = shape[-1] == MD_PAIR_WIDTH
        filters = hdf5plugin.Blosc2.NOFILTER if sparse else hdf5plugin.Blosc2.SHUFFLE
        return self._file.create_dataset(
            f"{name}{suffix}",
            shape,
            self.dtype,
            chunks=chunks,
            track_times=False,  # equal input gives equal bytes
            **hdf5plugin.Blosc2(cname="zstd", clevel=COMPRESSION_LEVEL, filters=filters),
        )

    def _stored(self, name: str, data: NDArray) -> NDArray:
        """The numbers in the dtype of the store; what is there does not read as missing."""
        with np.errstate(over="ignore"):  # infinite values are an error below
            values = data.astype(self.dtype)
        if not np.isfinite(values).all():
            raise InputError(f"entry {name}: features have NaN or infinite values (or too large ones for {self.dtype})")
        hidden = (values[..., 0] == MISSING) & (data != MISSING).any(axis=-1)
        values[hidden, 0] = np.nextafter(self.dtype.type(MISSING), self.dtype.type(0))
        return values

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class FeatureStore:
    """Read a store. The file is opened on first use, once in each process: instances may be pickled and forked.

    Parameters
    ----------
    path
        An HDF5 file made by `StoreWriter`, or one of the published form.

    Raises
    ------
    InputError
        If the file cannot be read or has another format version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._pid = -1

    def _open(self) -> h5py.File:
        if self._file is None or self._pid != os.getpid():
            try:
                self._file = h5py.File(self.path, "r")
            except FileNotFoundError:
                raise InputError(
                    f"{self.path}: no such feature store; `seqdance demo` makes one of the examples"
                ) from None
            except OSError as error:
                raise InputError(f"{self.path}: not a readable HDF5 file ({error})") from None
            self._pid = os.getpid()
            version = self._file.attrs.get(FORMAT_ATTRIBUTE)
            if version is not None and version != FORMAT_VERSION:
                self.close()
                raise InputError(
                    f"{self.path}: store format {version}, this version reads {FORMAT_VERSION}; make the store again "
                    "or update seqdance"
                )
        return self._file

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

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
        return sorted(self._open())

    @property
    def version(self) -> int | None:
        """Format version; None for the published form."""
        version = self._open().attrs.get(FORMAT_ATTRIBUTE)
        return None if version is None else int(version)

    @property
    def attributes(self) -> dict[str, str | int | float]:
        """Attributes that the writer gave to the file."""
        attributes = {key: getattr(value, "tolist", lambda v=value: v)() for key, value in self._open().attrs.items()}
        attributes.pop(FORMAT_ATTRIBUTE, None)
        return attributes

    def names(self) -> list[str]:
        """Names of all entries, sorted."""
        suffix = SUFFIXES[0]
        return sorted(key.removesuffix(suffix) for key in self.keys() if key.endswith(suffix))

    def __contains__(self, name: object) -> bool:
        return all(f"{name}{suffix}" in self._open() for suffix in SUFFIXES)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _dataset(self, name: str, suffix: str) -> h5py.Dataset:
        try:
            return self._open()[f"{name}{suffix}"]
        except KeyError:
            raise InputError(f"{self.path}: no entry {name}; is it the store of this table?") from None

    def datasets(self, name: str) -> tuple[h5py.Dataset, h5py.Dataset]:
        """Residue and pair features of an entry as they are stored, unread."""
        residue, pair = (self._dataset(name, suffix) for suffix in SUFFIXES)
        return residue, pair

    def length(self, name: str) -> int:
        """Tokens of an entry."""
        return self._dataset(name, SUFFIXES[0]).shape[0]

    def read_residue(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Residue features (n, 47 or 3) float32 of tokens `start` to `stop`."""
        return self._dataset(name, SUFFIXES[0])[start:stop].astype(np.float32, copy=False)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> tuple[Array, Array]:
        """Residue (n, 47 or 3) and pair (n, n, 10 or 3) features, float32, of tokens `start` to `stop`."""
        pair = self._dataset(name, SUFFIXES[1])[start:stop, start:stop].astype(np.float32, copy=False)
        return self.read_residue(name, start, stop), pair


def merge_stores(paths: Sequence[str | Path], out: str | Path, dtype: StoreDtype | None = None) -> int:
    """Join stores into one, entries in the order of their names, in bounded memory.

    Parameters
    ----------
    paths
        Files made by `StoreWriter`, or of the published form.
    out
        The file to make.
    dtype
        Of the numbers; None: float16 if all entries are float16, else float32.

    Returns
    -------
    Number of entries.

    Raises
    ------
    InputError
        If an entry is in two of the files, or one cannot be stored.
    """
    origin: dict[str, str | Path] = {}
    half = True
    for path in paths:
        with FeatureStore(path) as store:
            for name in store.names():
                if name in origin:
                    raise InputError(f"entry {name} is in {origin[name]} and in {path}; leave one of them out")
                origin[name] = path
                half = half and dtype is None and all(dataset.dtype == np.float16 for dataset in store.datasets(name))
    if not origin:
        raise InputError(f"{', '.join(map(str, paths))}: no entries to merge")
    with (
        StoreWriter(out, dtype or ("float16" if half else "float32")) as writer,
        tqdm(total=len(origin), desc="merge", unit="entry") as bar,
    ):
        for path, run in groupby(sorted(origin), key=origin.__getitem__):
            names = list(run)
            writer.copy_from(path, names)
            bar.update(len(names))
    return len(origin)


SHARE_TOLERANCE: Final = {np.dtype(np.float32): 1e-3, np.dtype(np.float16): 2e-3}  # of sums of shares
CORRELATION_TOLERANCE: Final = 1e-3
_SPECIAL_TOKEN: Final = re.compile(r"<[a-z]+>")


def check_store(path: str | Path, table: str | Path | None = None) -> list[str]:
    """Check every entry of a store: shapes, ranges, sums of shares, symmetry, missing tokens; and against its table.

    Memory is bounded: one entry after the other, pair arrays in blocks of rows.

    Parameters
    ----------
    path
        A file made by `StoreWriter`, or one of the published form.
    table
        The training table of the store: both must have the same entries, with features of the source's kind, as long
        as the sequences and -1 at their special tokens.

    Returns
    -------
    One line for each problem; it begins with the name of the entry.

    Raises
    ------
    InputError
        If the file or the table cannot be read at all.
    """
    rows: dict[str, tuple[str, str, str]] | None = None  # name -> modify_seq, source, group
    if table is not None:
        frame = read_table(table)
        rows = dict(
            zip(frame["name"], zip(frame["modify_seq"], frame["source"], frame["group"], strict=True), strict=True)
        )
    with FeatureStore(path) as store:
        keys = store.keys()
        whole = set(store.names()) & {key.removesuffix(SUFFIXES[1]) for key in keys if key.endswith(SUFFIXES[1])}
        problems = []
        for key in keys:
            name = next((key.removesuffix(suffix) for suffix in SUFFIXES if key.endswith(suffix)), None)
            if name is None:
                problems.append(f"{key}: not the name of residue or pair features")
            elif name not in whole:
                problems.append(f"{name}: has only one of its two datasets, {key}")
        if rows is not None:
            problems += [f"{name}: is in the table, not in the store" for name in sorted(set(rows) - whole)]
            problems += [f"{name}: is in the store, not in the table" for name in sorted(whole - set(rows))]
        for name in tqdm(sorted(whole), desc="check", unit="entry"):
            row = None if rows is None else rows.get(name)
            try:
                problems += [f"{name}: {problem}" for problem in _entry_problems(*store.datasets(name), row)]
            except OSError as error:
                problems.append(f"{name}: cannot be read ({error})")
    return problems


class _Findings:
    """What is wrong at how many places, and where first."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, what: str, bad: NDArray[np.bool_], first_row: int = 0) -> None:
        """Note the places (tokens, or pairs of tokens from row `first_row` on) where `bad` is true."""
        if bad.any():
            first = np.argwhere(bad)[0]
            first[0] += first_row
            count, where = self._found.get(what, (0, ", ".join(map(str, first))))
            self._found[what] = (count + int(bad.sum()), where)

    def lines(self) -> list[str]:
        """One line for each kind of problem."""
        return [f"{what} ({count} times, first at {where})" for what, (count, where) in self._found.items()]


def _entry_problems(residue: h5py.Dataset, pair: h5py.Dataset, row: tuple[str, str, str] | None) -> list[str]:
    if problem := _shape_problem(residue.shape, pair.shape):
        return [problem]
    if residue.dtype != pair.dtype or residue.dtype not in SHARE_TOLERANCE:
        return [f"numbers are {residue.dtype} and {pair.dtype}; expected both float32 or both float16"]
    md = residue.shape[1] == MD_RESIDUE_WIDTH
    tokens = len(residue)
    special = np.zeros(tokens, bool)
    special[[0, -1]] = True
    if row is not None:
        modify_seq, source, group = row
        if md == (group in NMA_GROUPS):
            return [f"{residue.shape[1]} residue columns do not belong to the source {source}"]
        letters = _SPECIAL_TOKEN.sub("<", modify_seq)  # one letter a token
        if tokens != len(letters) + 2:
            return [f"{tokens} tokens, its sequence in the table has {len(letters) + 2}"]
        special[1:-1] = np.array(list(letters)) == "<"
    findings = _Findings()
    missing = _check_residue(residue[:].astype(np.float32), md, SHARE_TOLERANCE[residue.dtype], special, findings)
    for rows in _row_blocks(pair.shape):
        _check_pairs(pair, rows, missing, findings)
    return findings.lines()


def _check_residue(
    residue: Array, md: bool, tolerance: float, special: NDArray[np.bool_], findings: _Findings
) -> NDArray[np.bool_]:
    """Check (L, 47 or 3) features; returns (L,) where a token has none."""
    missing = (residue == MISSING).all(axis=1)
    findings.add("residue features of a special token are not -1", special & ~missing)
    findings.add("all tokens are missing", missing.all(keepdims=True))
    findings.add("residue features are NaN or infinite", ~np.isfinite(residue))
    for name in properties_of_group(GROUPS[0] if md else NMA_GROUPS[0]):
        if name not in RESIDUE_COLUMNS:
            continue
        values = residue[:, entry_residue_columns(name)]
        present = ~missing[:, None]
        findings.add(f"{name} is negative", present & (values < 0))
        if values.shape[1] == 1:
            continue
        total = values.sum(axis=1)
        wrong = np.abs(total - 1) > tolerance
        if name != "ss":
            wrong &= (values != 0).any(axis=1)  # an angle that the residue does not have
        findings.add(f"{name} is greater than 1", present & (values > 1 + tolerance))
        findings.add(f"shares of {name} do not sum to 1", present[:, 0] & wrong)
    return missing


def _check_pairs(pair: h5py.Dataset, rows: slice, missing: NDArray[np.bool_], findings: _Findings) -> None:
    """Check a block of rows of (L, L, 10 or 3) features."""
    block = pair[rows].astype(np.float32, copy=False)  # (B, L, K)
    first = rows.start
    correlations = slice(len(INTERACTIONS) if pair.shape[2] == MD_PAIR_WIDTH else 0, None)
    names = PAIR_PROPERTIES[:MD_PAIR_WIDTH] if pair.shape[2] == MD_PAIR_WIDTH else PAIR_PROPERTIES[MD_PAIR_WIDTH:]
    expected = missing[rows, None] | missing[None]  # (B, L)
    findings.add("pair features are NaN or infinite", ~np.isfinite(block), first)
    findings.add("pairs with a missing token are not -1", expected & (block != MISSING).any(axis=2), first)
    findings.add("pairs of two residues read as missing", ~expected & (block[..., 0] == MISSING), first)
    for channel, name in enumerate(names[: correlations.start]):
        findings.add(f"{name} is negative", ~expected & (block[..., channel] < 0), first)
    # the columns that mirror the rows; read anew only where the block is not the whole array
    mirror = block if len(block) == len(pair) else pair[:, rows].astype(np.float32, copy=False)  # (L, B, K)
    for channel, name in list(enumerate(names))[correlations]:
        values, limit = block[..., channel], 1 + CORRELATION_TOLERANCE
        findings.add(f"{name} is outside -1 to 1", ~expected & (np.abs(values) > limit), first)
        unequal = np.abs(values - mirror[..., channel].T) > CORRELATION_TOLERANCE
        findings.add(f"{name} is not symmetric", unequal, first)
