"""Features of residues and pairs in token space: `<cls> residues <eos>`, chains joined by `<eos><cls>`.

Rows and pairs of special tokens and of residues without coordinates are -1.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.properties import (
    INTERACTIONS,
    MD_PROPERTIES,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_PROPERTIES,
    RESIDUE_COLUMNS,
    entry_columns,
    entry_pair_channel,
    entry_residue_columns,
)

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
        pair_tokens[..., channel][np.ix_(rows, rows)] = (
            np.cbrt(values, dtype=np.float64) if channel < cube_roots else values
        )
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


def named_properties(residue: NDArray, pair: NDArray, cube_roots: bool = False) -> dict[str, Array]:
    """Properties by name of N residues with data, in the units of `properties.UNITS`.

    `residue` (N, 47 or 3) and `pair` (N, N, 10 or 3) are features as in `md_entry` or `nma_entry`. With `cube_roots`
    the interactions are those of a store and are cubed. Returns float32 arrays: (N,), (N, bins), NaN where an angle
    does not exist, or (N, N); `rmsf` in nm beside `rmsf_nor`. Properties that are missing (NaN; in older stores 0) are
    not returned.
    """
    md = residue.shape[-1] == MD_RESIDUE_WIDTH
    found: dict[str, Array] = {}
    for name in MD_PROPERTIES if md else NMA_PROPERTIES:
        of_residue = name in RESIDUE_COLUMNS
        values = residue[:, entry_residue_columns(name)] if of_residue else pair[..., entry_pair_channel(name)]
        zero = () if name in INTERACTIONS else (0,)  # a protein may lack an interaction
        if (~np.isnan(values) & ~np.isin(values, (MISSING, *zero))).any():
            found[name] = (values[:, 0] if of_residue and values.shape[1] == 1 else values).astype(np.float32)
    if not any(found[name].any() for name in INTERACTIONS if name in found):
        found = {name: values for name, values in found.items() if name not in INTERACTIONS}
    for name in found.keys() & {"chi", "phi", "psi"}:
        found[name][~found[name].any(axis=1)] = np.nan
    if cube_roots:
        found |= {name: found[name] ** 3 for name in INTERACTIONS if name in found}
    if "rmsf_nor" in found:
        found = {"rmsf": found["rmsf_nor"], **found, "rmsf_nor": found["rmsf_nor"] / found["rmsf_nor"].max()}
    return found
