"""Attention maps of a model, and how well each of them marks the residue pairs that move together or touch.

Source: Hou, Zhao, Shen, PNAS 2026 (doi 10.1073/pnas.2530466123), in two forms: that of the published notebook, and that
of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, NamedTuple, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from data_prepare.errors import InputError
from data_prepare.properties import (
    INTERACTIONS,
    MD_PAIR_WIDTH,
    MISSING,
    NMA_PAIR_WIDTH,
    PAIR_PROPERTIES,
    entry_pair_channel,
)
from model.network.dance import DanceModel
from model.network.device import evaluating
from model.network.tokenizer import CLS_ID, EOS_ID, tokenize

Form = Literal["notebook", "paper"]
Values = NDArray[np.float64]

SEPARATION: Final[dict[Form, int]] = {"notebook": 2, "paper": 5}  # pairs count whose |i - j| is larger
FREQUENT: Final = 0.01  # summed frequency of interactions from which on a pair counts as interacting
FREQUENCY_ROUNDING: Final = 1e-6  # relative, of a frequency that was stored as a float32 cube root
RATIO_OFFSET: Final = 1e-8  # keeps the ratio of the notebook finite
ROUNDING: Final = 1e-12  # share of a sum below which a part of it is nothing but rounding
FEWEST: Final = 3  # pairs that a correlation needs

_NMA_SPEARMAN: Final = tuple(
    f"{name}_{sign}_spearman" for name in PAIR_PROPERTIES[MD_PAIR_WIDTH:] for sign in ("posi", "neg")
)
# columns of `attention_metrics`, for (form, columns of the entry's pair feature)
METRICS: Final[dict[tuple[Form, int], tuple[str, ...]]] = {
    ("notebook", MD_PAIR_WIDTH): (
        "co_move_topL_ratio",
        "co_move_posi_spearman",
        "co_move_neg_spearman",
        "inter_topL_ratio",
        "inter_auroc",
    ),
    ("paper", MD_PAIR_WIDTH): ("co_move_posi_spearman", "co_move_neg_spearman", "inter_spearman"),
    ("notebook", NMA_PAIR_WIDTH): _NMA_SPEARMAN,
    ("paper", NMA_PAIR_WIDTH): _NMA_SPEARMAN,
}


@overload
def attention_maps(
    model: DanceModel,
    sequences: str,
    special_tokens: bool = True,
    dtype: DTypeLike = np.float32,
    max_length: int | None = None,
) -> NDArray: ...


@overload
def attention_maps(
    model: DanceModel,
    sequences: list[str] | tuple[str, ...],
    special_tokens: bool = True,
    dtype: DTypeLike = np.float32,
    max_length: int | None = None,
) -> list[NDArray]: ...


def attention_maps(
    model: DanceModel,
    sequences: str | list[str] | tuple[str, ...],
    special_tokens: bool = True,
    dtype: DTypeLike = np.float32,
    max_length: int | None = None,
) -> NDArray | list[NDArray]:
    """Attention of all heads of all layers.

    Only the encoder runs, one sequence at a time; 240 maps of 1,000 residues take 1 GB as float32.

    Parameters
    ----------
    model
        SeqDance or ESMDance.
    sequences
        One sequence, or several; chains of a complex are joined by `<eos><cls>`.
    special_tokens
        Keep the rows and columns of `<cls>` and `<eos>`. Without them the rows no longer sum to 1.
    dtype
        Of the result, such as float32 or float16.
    max_length
        Keep only the first tokens of longer sequences (`<cls>` counted).

    Returns
    -------
    ndarray, or a list of them
        (T, T, layers * heads) for T tokens or, without the special tokens, residues: channel = layer * heads + head,
        value at (i, j) = attention of query i on key j. In memory the maps lie one after the other.

    Raises
    ------
    InputError
        A sequence cannot be tokenised.
    """
    with evaluating(model), torch.inference_mode():
        if isinstance(sequences, str):
            return _maps(model, sequences, special_tokens, dtype, max_length)
        return [_maps(model, sequence, special_tokens, dtype, max_length) for sequence in sequences]


def _maps(model: DanceModel, sequence: str, special_tokens: bool, dtype: DTypeLike, max_length: int | None) -> NDArray:
    input_ids = tokenize([sequence], max_length)["input_ids"]  # (1, T)
    kept = np.flatnonzero(is_residue(input_ids[0]) | special_tokens)
    maps = np.empty((model.config.maps, len(kept), len(kept)), dtype)

    def sink(layer: int, found: Tensor) -> None:
        first = layer * model.config.heads
        found = found[0] if len(kept) == found.shape[-1] else found[0][:, kept][..., kept]  # (heads, T, T)
        maps[first : first + model.config.heads] = found.float().cpu().numpy()

    model.esm2(input_ids.to(next(model.parameters()).device), sink=sink)
    return np.moveaxis(maps, 0, -1)  # (T, T, layers * heads)


def is_residue(input_ids: Tensor) -> NDArray[np.bool_]:
    """Where (T,) token ids are residues rather than `<cls>` or `<eos>`."""
    return ((input_ids != CLS_ID) & (input_ids != EOS_ID)).numpy()


class Ascending(NamedTuple):
    """Pairs in ascending order of their attention. Sorted once for a map, it gives the ranks in any subset of pairs."""

    order: NDArray[np.intp]  # (n,) pairs
    values: NDArray  # (n,) their attention

    @classmethod
    def of(cls, values: NDArray) -> Ascending:
        """Order (n,) values."""
        order = values.argsort()
        return cls(order, values[order])

    def ranks(self, members: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Values]:
        """Members among the (n,) pairs, in ascending order, and their ranks from 1; equals share the mean of theirs."""
        inside = np.flatnonzero(members[self.order])  # (m,) places in the order
        values = self.values[inside]
        ranks = np.arange(1.0, len(inside) + 1)
        same = np.flatnonzero(values[1:] == values[:-1])
        if same.size:
            tied = np.union1d(same, same + 1)
            first, last = (np.searchsorted(values, values[tied], side) for side in ("left", "right"))
            ranks[tied] = (first + 1 + last) / 2
        return self.order[inside], ranks


Measure = Callable[[Ascending], float]


def attention_metrics(maps: NDArray, pair_feature: NDArray, form: Form = "notebook") -> pd.DataFrame:
    """Compare the attention maps of a protein with its pair features.

    Pairs without features (first channel -1: special tokens, unresolved residues) are left out. Both forms take
    Spearman correlations of the attention with the positive co-movements (`posi`, correlations > 0) and, apart, with
    the negative ones (`neg`, < 0), signed: a negative `neg` means more attention on stronger opposite movement.

    - notebook: ordered pairs with |i - j| > 2, maps as they are. Beside the correlations, the ratio of the mean
      |correlation| of the top-L pairs by attention (L = tokens) to that of all others, the same ratio for the
      frequency of interactions, and the AUROC of attention for pairs with a frequency of at least 0.01 against those
      with 0. Frequency = sum of the nine types, whose stored cube roots are cubed. Pairs that tie for the last places
      of the top-L count with equal shares.
    - paper: pairs with |i - j| > 5, maps symmetrised, Spearman correlations only; `inter_spearman` is that with the
      frequency of interactions, symmetrised too.

    Parameters
    ----------
    maps
        (T, T, C) attention maps with the special tokens, not negative.
    pair_feature
        (T, T, 10) pair features of a molecular dynamics entry as `FeatureStore.read` gives them, or (T, T, 3) of a
        normal mode entry, whose three correlations take the part of the co-movements.
    form
        "notebook" or "paper".

    Returns
    -------
    DataFrame
        One row per map, columns `METRICS[form, channels]`, float64. NaN where a metric does not exist: fewer than 3
        pairs or a constant for a correlation; no other pairs, or all of them 0, for a ratio; only one class for AUROC.

    Raises
    ------
    InputError
        The shapes do not fit, the form is unknown, or attention is not a finite number.
    """
    tokens, channels = len(maps), pair_feature.shape[-1]
    if maps.ndim != 3 or maps.shape[:2] != (tokens, tokens) or pair_feature.shape != (tokens, tokens, channels):
        raise InputError(f"attention maps {maps.shape} and pair features {pair_feature.shape} are not of one protein")
    if (form, channels) not in METRICS:
        raise InputError(f"form {form!r} and {channels} pair channels; give notebook or paper, and 10 or 3 channels")

    place = np.arange(tokens)
    used = (pair_feature[..., 0] != MISSING) & (np.abs(place[:, None] - place) > SEPARATION[form])  # (T, T)
    if form == "paper":
        used = np.triu(used & used.T)  # both directions of a pair hold the same: each once gives the same correlation
    measures = _measures(pair_feature, used, form)

    rows = []
    for channel in range(maps.shape[2]):
        attention = maps[..., channel].astype(np.float32, copy=False)  # (T, T)
        if form == "paper":
            attention = attention + attention.T  # twice the mean: the same order
        values = attention[used]  # (n,)
        if not np.isfinite(values).all():
            raise InputError(f"attention map {channel} has NaN or infinite values; are the weights whole?")
        ascending = Ascending.of(values)
        rows.append([measure(ascending) for measure in measures.values()])
    table = pd.DataFrame(rows, columns=list(measures), dtype=np.float64)
    return table[list(METRICS[form, channels])].rename_axis(index="map")


def _measures(pair_feature: NDArray, used: NDArray[np.bool_], form: Form) -> dict[str, Measure]:
    """Metric -> what computes it from the order of the used pairs; all that does not depend on the map is done here."""

    def channel(name: str) -> Values:
        return pair_feature[..., entry_pair_channel(name)][used].astype(np.float64)  # (n,)

    def both_signs(prefix: str, values: Values) -> dict[str, Measure]:
        return {
            f"{prefix}_posi_spearman": spearman_with(values, values > 0),
            f"{prefix}_neg_spearman": spearman_with(values, values < 0),
        }

    if pair_feature.shape[-1] == NMA_PAIR_WIDTH:
        names = PAIR_PROPERTIES[MD_PAIR_WIDTH:]
        return {metric: m for name in names for metric, m in both_signs(name, channel(name)).items()}

    correlation = channel("corr")
    frequencies = (pair_feature[..., : len(INTERACTIONS)].astype(np.float64) ** 3).sum(-1)  # (T, T)
    frequency = frequencies[used]
    measures = both_signs("co_move", correlation)
    if form == "paper":
        either_way = (frequency + frequencies.T[used]) / 2
        return measures | {"inter_spearman": spearman_with(either_way, np.ones(len(either_way), bool))}
    frequent = frequency >= FREQUENT * (1 - FREQUENCY_ROUNDING)
    return measures | {
        "co_move_topL_ratio": partial(top_ratio, values=np.abs(correlation), top=len(used)),
        "inter_topL_ratio": partial(top_ratio, values=frequency, top=len(used)),
        "inter_auroc": partial(auroc, positive=frequent, negative=frequency == 0),
    }


def spearman_with(values: Values, members: NDArray[np.bool_]) -> Measure:
    """What computes Spearman's correlation of the attention with (n,) values, over the members."""
    if members.sum() < FEWEST or np.ptp(values[members]) == 0:
        return lambda _: math.nan
    places, ranks = Ascending.of(values).ranks(members)
    ranks -= ranks.mean()
    unit_ranks = np.zeros(len(values))
    unit_ranks[places] = ranks / np.linalg.norm(ranks)

    def spearman(ascending: Ascending) -> float:
        places, ranks = ascending.ranks(members)
        ranks -= (len(ranks) + 1) / 2
        norm = np.linalg.norm(ranks)
        return float(ranks @ unit_ranks[places] / norm) if norm else math.nan  # 0: attention is constant

    return spearman


def auroc(ascending: Ascending, positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> float:
    """Chance that a pair of the positive (n,) has more attention than one of the negative, ties counting half."""
    places, ranks = ascending.ranks(positive | negative)
    positives = int(positive.sum())
    negatives = len(places) - positives
    if not positives or not negatives:
        return math.nan
    # Mann and Whitney: the ranks of the positives, less those that they would have among themselves
    wins = ranks[positive[places]].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def top_ratio(ascending: Ascending, values: Values, top: int) -> float:
    """Mean of (n,) values, none negative, over the `top` pairs of highest attention, over the mean of all others."""
    order, attention = ascending
    others = len(order) - top
    if others < 1:
        return math.nan
    start, stop = (int(np.searchsorted(attention, attention[others], side)) for side in ("left", "right"))
    tied = values[order[start:stop]].mean()  # of the pairs that tie for the last places of the top
    highest = values[order[stop:]].sum() + (stop - others) * tied
    left = values.sum() - highest
    if left <= ROUNDING * highest:
        return math.nan
    return float(highest / top / (left / others + RATIO_OFFSET))
