"""What a prediction of a single protein is worth: losses as in training, and correlations with the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

from data_prepare.properties import (
    MISSING,
    RESIDUE_COLUMNS,
    entry_pair_channel,
    entry_residue_columns,
    properties_of_group,
)
from model.evaluation.elastic_networks import NETWORKS
from model.training.data import Batch
from model.training.loss import dance_loss, valid_counts

LEARNT: Final = ("model", "mean", "sequence")  # predictors of all properties
PREDICTORS: Final = (*LEARNT, *NETWORKS)
CORRELATED: Final = ("rmsf_nor", "sasa_mean", "corr")  # properties compared protein by protein
OF_NETWORKS: Final = ("rmsf_nor", "corr")  # those that elastic networks predict
KINDS: Final = ("pearson", "spearman")
NUMBERS: Final = ("loss", *KINDS, *(f"{kind}_resolved" for kind in KINDS))
FEWEST: Final = 3  # positions that a correlation needs
ROUNDING: Final = 1e-12  # share of the largest value below which a spread is the rounding of a constant
NAN: Final = math.nan


class Scored(NamedTuple):
    """One property of one test entry by one predictor; NaN where a number does not exist.

    Correlations of pairs are over i != j, those with `_resolved` over the positions that the entry's structure has too.
    """

    group: str
    entry: str
    property: str
    predictor: str
    loss: float  # RMSE over the valid positions, as in training
    pearson: float
    spearman: float
    pearson_resolved: float
    spearman_resolved: float


def single(batch: Batch, row: int) -> Batch:
    """One protein of a batch, without padding."""
    n = int(batch.attention_mask[row].sum())
    own = slice(row, row + 1)
    return Batch(
        batch.group,
        (batch.names[row],),
        batch.input_ids[own, :n],
        batch.attention_mask[own, :n],
        batch.residue[own, :n],
        batch.pair[own, :n, :n],
    )


def score(
    predictor: str,
    outputs: Mapping[str, Tensor],
    protein: Batch,
    weights: Mapping[str, float],
    resolved: Tensor | None = None,
) -> list[Scored]:
    """Numbers of one protein.

    Parameters
    ----------
    predictor
        One of `PREDICTORS`. Elastic networks have no loss.
    outputs
        Property -> prediction (1, T), (1, T, bins) or (1, T, T).
    protein
        Batch of this protein alone.
    weights
        Property -> loss weight; only has to be complete.
    resolved
        (T,) bool, tokens that its structure has; None if there is no structure.
    """
    group = protein.group
    losses = dict.fromkeys(outputs, NAN)
    if predictor in LEARNT:
        names = properties_of_group(group)
        found = dance_loss(outputs, protein.residue, protein.pair, group, weights)
        counts = valid_counts(protein.residue, protein.pair, group)  # 1, or 0 where no position is valid
        values = torch.stack([found[name] for name in names]).masked_fill(counts == 0, NAN)
        losses = dict(zip(names, values.tolist(), strict=True))
    rows = []
    for name, loss in losses.items():
        whole = over_resolved = (NAN, NAN)
        if name in CORRELATED:
            target, valid = target_of(name, protein)
            prediction = outputs[name][0]
            if predictor in LEARNT:
                whole = correlations(prediction[valid], target[valid])
            if resolved is not None and name in OF_NETWORKS:
                both = valid & (resolved if valid.ndim == 1 else resolved[:, None] & resolved)
                over_resolved = correlations(prediction[both], target[both])
        rows.append(Scored(group, protein.names[0], name, predictor, loss, *whole, *over_resolved))
    return rows


def target_of(name: str, protein: Batch) -> tuple[Tensor, Tensor]:
    """Target of a property of a single protein and where it is valid, (T,) or (T, T); pairs without i = j."""
    if name in RESIDUE_COLUMNS:
        return protein.residue[0, :, entry_residue_columns(name).start], protein.residue[0, :, 0] != MISSING
    valid = protein.pair[0, ..., 0] != MISSING  # (T, T)
    return protein.pair[0, ..., entry_pair_channel(name)], valid & ~torch.eye(len(valid), device=valid.device).bool()


def correlations(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Pearson's and Spearman's correlation of (n,) values; NaN for fewer than three or where one side is constant."""
    sides = torch.stack([first.double(), second.double()])  # (2, n)
    if sides.shape[1] < FEWEST:
        return NAN, NAN
    spread, largest = sides.amax(dim=1) - sides.amin(dim=1), sides.abs().amax(dim=1)
    if bool((spread <= ROUNDING * largest).any()):
        return NAN, NAN
    both = torch.stack([sides, torch.stack([ranks(side) for side in sides])])  # (2, 2, n): values, ranks
    both = both - both.mean(dim=-1, keepdim=True)
    both = both / both.norm(dim=-1, keepdim=True)
    pearson, spearman = (both[:, 0] * both[:, 1]).sum(dim=-1).tolist()
    return pearson, spearman


def ranks(values: Tensor) -> Tensor:
    """Ranks of (n,) values from 1; equal values share the mean of theirs."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0).double() - (counts - 1) / 2)[places]
