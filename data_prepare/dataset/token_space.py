"""Features of residues and pairs in token space: `<cls> residues <eos>`, chains joined by `<eos><cls>`.

Rows and pairs of special tokens and of residues without coordinates are -1.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.properties import INTERACTIONS, MISSING, RESIDUE_COLUMNS, entry_columns

Array = NDArray[np.float32]
ANGLE_COLUMNS: Final = np.r_[tuple(slice(f, f + w) for f, w in (RESIDUE_COLUMNS[a] for a in ("chi", "phi", "psi")))]


def token_rows(chain_lengths: Sequence[int]) -> NDArray[np.intp]:
    """Token index of each residue, (N,): each chain has `<cls>` before and `<eos>` after it."""
    chain = np.repeat(np.arange(len(chain_lengths)), chain_lengths)
    return np.arange(len(chain)) + 2 * chain + 1


def to_token_space(
    residue: NDArray,
    pair: NDArray,
    chain_lengths: Sequence[int],
    resolved: NDArray[np.integer] | None = None,
    cube_roots: int = 0,
) -> tuple[Array, Array]:
    """Place features (N, C) and (N, N, K) of resolved residues at their tokens: (L, C) and (L, L, K) float32.

    `chain_lengths` count unresolved residues too, L = sum(chain_lengths) + 2 * number of chains. `resolved` (N,) are
    the ascending indices of the N residues among all residues of all chains, by default all. The first `cube_roots`
    pair channels become their cube root.
    """
    rows = token_rows(chain_lengths)
    if resolved is not None:
        rows = rows[resolved]
    tokens = sum(chain_lengths) + 2 * len(chain_lengths)
    residue_tokens = np.full((tokens, residue.shape[1]), MISSING, np.float32)
    pair_tokens = np.full((tokens, tokens, pair.shape[2]), MISSING, np.float32)
    residue_tokens[rows] = residue
    for channel in range(pair.shape[2]):  # one at a time to save memory
        values = pair[..., channel]
        pair_tokens[..., channel][np.ix_(rows, rows)] = np.cbrt(values) if channel < cube_roots else values
    return residue_tokens, pair_tokens


def md_entry(
    residue: NDArray,
    pair: NDArray,
    chain_lengths: Sequence[int],
    resolved: NDArray[np.integer] | None = None,
    missing: Collection[str] = (),
) -> tuple[Array, Array]:
    """Stored arrays of a molecular dynamics entry; see `to_token_space`.

    The residue features (N, 47) are in the order of `properties.py`: SASA mean and SD (nm^2), RMSF (nm; the loader
    divides it by its maximum in the protein), 8 DSSP fractions, chi1, phi and psi histograms. NaN, an angle that does
    not exist, becomes 0. The pair features (N, N, 10) are interaction frequencies (contact lines per frame, one-sided),
    which become their cube root, and displacement correlation. Missing properties stay NaN.
    """
    residue = residue.astype(np.float64)
    angles = residue[:, ANGLE_COLUMNS]
    residue[:, ANGLE_COLUMNS] = np.where(np.isnan(angles), 0.0, angles)
    residue[:, entry_columns(missing)[0]] = np.nan
    return to_token_space(residue, pair, chain_lengths, resolved, cube_roots=len(INTERACTIONS))


def nma_entry(
    gnm_msf: NDArray, anm_cor: NDArray, chain_lengths: Sequence[int], resolved: NDArray[np.integer] | None = None
) -> tuple[Array, Array]:
    """Stored arrays of a normal mode entry; see `to_token_space`.

    The features are (3, N) mean square fluctuations and (3, N, N) displacement correlations of three groups of modes.
    """
    return to_token_space(gnm_msf.T, np.moveaxis(anm_cor, 0, -1), chain_lengths, resolved)
