"""The merged HDF5 file of training features: write, read, crop.

Each entry has two datasets in token space, `{name}_res_feature` (L, 47 or 3) and `{name}_pair_feature` (L, L, 10 or 3).
Token space is `<cls> residues <eos>`, chains joined by `<eos><cls>`: rows of these tokens are -1, and so are residues
without coordinates in stores that have them. The only places where numbers change on the way in:

- interaction frequencies (pair channels 0-8 of MD entries) are stored as their cube root, one-sided as the contact
  lines give them;
- an angle that a residue does not have (NaN in the residue table) is stored as twelve zeros;
- RMSF is stored raw; the loader divides it by its maximum in the protein;
- any other NaN is an error: it would spread through every loss.

Datasets are chunked and compressed, so that a crop reads only its chunks. Files of others that follow the same naming
(contiguous, no format attribute) are read as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.files import whole_file
from data_prepare.properties import (
    INTERACTIONS,
    MD_PAIR_WIDTH,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_PAIR_WIDTH,
    NMA_RESIDUE_WIDTH,
    RESIDUE_COLUMNS,
)

FORMAT_ATTRIBUTE: Final = "seqdance_format"
FORMAT_VERSION: Final = 1
PAIR_CHUNK: Final = 64  # tokens on each side of a chunk of the pair array: 64 x 64 x 10 x 4 bytes = 160 KB
RESIDUE_CHUNK: Final = 256

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


def to_token_space(residue: NDArray, pair: NDArray, chain_lengths: Sequence[int]) -> tuple[Array, Array]:
    """Spread residue rows over the token string; rows and pairs of special tokens are -1.

    Parameters
    ----------
    residue
        (N, C) residue features.
    pair
        (N, N, K) pair features.
    chain_lengths
        Residues of each chain; their sum is N.

    Returns
    -------
    (L, C) and (L, L, K) float32, L = N + 2 * number of chains.
    """
    n = sum(chain_lengths)
    if residue.shape[0] != n or pair.shape[:2] != (n, n):
        raise InputError(f"residue features {residue.shape} and pair features {pair.shape} do not fit {n} residues")
    rows = token_rows(chain_lengths)
    tokens = n + 2 * len(chain_lengths)
    residue_tokens = np.full((tokens, residue.shape[1]), MISSING, np.float32)
    pair_tokens = np.full((tokens, tokens, pair.shape[2]), MISSING, np.float32)
    residue_tokens[rows] = residue
    pair_tokens[np.ix_(rows, rows)] = pair
    return residue_tokens, pair_tokens


def md_entry(residue: NDArray, pair: NDArray, chain_lengths: Sequence[int]) -> tuple[Array, Array]:
    """Arrays of a molecular dynamics entry as they are stored.

    Parameters
    ----------
    residue
        (N, 47) in the order of `properties.py`: SASA mean and SD (nm^2), RMSF (nm), 8 DSSP shares, chi1, phi and psi
        histograms. NaN stands for an angle that does not exist.
    pair
        (N, N, 10) interaction frequencies (contact lines per frame) and displacement correlation.
    chain_lengths
        Residues of each chain.
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
    return to_token_space(residue, pair, chain_lengths)


def nma_entry(gnm_msf: NDArray, anm_cor: NDArray, chain_lengths: Sequence[int]) -> tuple[Array, Array]:
    """Arrays of a normal mode entry as they are stored.

    Parameters
    ----------
    gnm_msf
        (3, N) mean square fluctuations of the three groups of modes.
    anm_cor
        (3, N, N) displacement correlations.
    chain_lengths
        Residues of each chain.
    """
    return to_token_space(gnm_msf.T, np.moveaxis(anm_cor, 0, -1), chain_lengths)


def _check_entry(name: str, residue: NDArray, pair: NDArray) -> None:
    if not name or "/" in name:
        raise InputError(f"entry name {name!r}: a name is not empty and has no '/'")
    widths = (residue.shape[-1], pair.shape[-1])
    tokens = len(residue)
    if widths not in ((MD_RESIDUE_WIDTH, MD_PAIR_WIDTH), (NMA_RESIDUE_WIDTH, NMA_PAIR_WIDTH)):
        raise InputError(
            f"entry {name}: {widths[0]} residue and {widths[1]} pair columns; expected 47 and 10, or 3 and 3"
        )
    if residue.shape != (tokens, widths[0]) or pair.shape != (tokens, tokens, widths[1]):
        raise InputError(f"entry {name}: residue features {residue.shape} and pair features {pair.shape} do not fit")
    if not (np.isfinite(residue).all() and np.isfinite(pair).all()):
        raise InputError(f"entry {name}: features have NaN or infinite values")


class StoreWriter:
    """Write a store; the file takes its name only when everything is in it.

    Parameters
    ----------
    path
        The HDF5 file to make. An existing one is replaced when writing ends without an exception.
    dtype
        "float32", or "float16" for half the size (relative rounding 5e-4).
    """

    def __init__(self, path: str | Path, dtype: Literal["float32", "float16"] = "float32") -> None:
        self.path = Path(path)
        self.dtype = np.dtype(dtype)

    def __enter__(self) -> StoreWriter:
        self._stack = ExitStack()
        temporary = self._stack.enter_context(whole_file(self.path))
        self._file = self._stack.enter_context(h5py.File(temporary, "w", libver="v110"))
        self._file.attrs[FORMAT_ATTRIBUTE] = FORMAT_VERSION
        return self

    def add(self, name: str, residue: NDArray, pair: NDArray) -> None:
        """Add one entry: residue (L, 47 or 3) and pair (L, L, 10 or 3) features in token space."""
        _check_entry(name, residue, pair)
        if f"{name}_res_feature" in self._file:
            raise InputError(f"{self.path}: entry {name} is there twice")
        tokens = len(residue)
        chunk = min(PAIR_CHUNK, tokens)
        for suffix, data, chunks in (
            ("res", residue, (min(RESIDUE_CHUNK, tokens), residue.shape[1])),
            ("pair", pair, (chunk, chunk, pair.shape[2])),
        ):
            self._file.create_dataset(
                f"{name}_{suffix}_feature",
                data=data.astype(self.dtype),
                chunks=chunks,
                track_times=False,  # equal input gives equal bytes
                **hdf5plugin.Blosc2(cname="zstd", clevel=5, filters=hdf5plugin.Blosc2.SHUFFLE),
            )

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

    def names(self) -> list[str]:
        """Names of all entries, sorted."""
        suffix = "_res_feature"
        return sorted(key.removesuffix(suffix) for key in self._open() if key.endswith(suffix))

    def __contains__(self, name: object) -> bool:
        return f"{name}_res_feature" in self._open() and f"{name}_pair_feature" in self._open()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _dataset(self, name: str, kind: str) -> h5py.Dataset:
        try:
            return self._open()[f"{name}_{kind}_feature"]
        except KeyError:
            raise InputError(f"{self.path}: no entry {name}; is it the store of this table?") from None

    def length(self, name: str) -> int:
        """Tokens of an entry."""
        return self._dataset(name, "res").shape[0]

    def read_residue(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Residue features (n, 47 or 3) float32 of tokens `start` to `stop`."""
        return self._dataset(name, "res")[start:stop].astype(np.float32)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> tuple[Array, Array]:
        """Residue (n, 47 or 3) and pair (n, n, 10 or 3) features, float32, of tokens `start` to `stop`."""
        pair = self._dataset(name, "pair")[start:stop, start:stop].astype(np.float32)
        return self.read_residue(name, start, stop), pair
