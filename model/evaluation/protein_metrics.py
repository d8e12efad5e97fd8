"""Metrics of predictions for a single protein: losses as in training, and correlations with the target."""

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
from model.evaluation.metrics import pearson, spearman
from model.training.data import Batch
from model.training.loss import dance_loss, valid_counts

LEARNT: Final = ("model", "mean", "sequence")  # predictors of all properties
PREDICTORS: Final = (*LEARNT, *NETWORKS)
CORRELATED: Final = ("rmsf_nor", "sasa_mean", "corr")  # properties compared protein by protein
OF_NETWORKS: Final = ("rmsf_nor", "corr")  # those that elastic networks predict
KINDS: Final = ("pearson", "spearman")
NUMBERS: Final = ("loss", *KINDS, *(f"{kind}_resolved" for kind in KINDS))

Outputs = Mapping[str, Tensor]  # property -> prediction


class PropertyMetrics(NamedTuple):
    """One property of one test entry by one predictor; NaN where a number does not exist.

    Correlations of pairs are over i != j; those with `_resolved` over the positions that the entry's structure has.
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


def protein_of(batch: Batch, row: int) -> Batch:
    """One protein of a batch, without padding."""
    n, own = int(batch.attention_mask[row].sum()), slice(row, row + 1)
    tokens = (batch.input_ids[own, :n], batch.attention_mask[own, :n])
    return Batch(batch.group, (batch.names[row],), *tokens, batch.residue[own, :n], batch.pair[own, :n, :n])


def protein_outputs(outputs: Outputs, row: int, tokens: int) -> Outputs:
    """Predictions for one protein of a batch, without padding; a batch of one."""
    own = slice(row, row + 1)
    return {
        name: values[own, :tokens] if name in RESIDUE_COLUMNS else values[own, :tokens, :tokens]
        for name, values in outputs.items()
    }


def protein_metrics(
    predictor: str, outputs: Outputs, protein: Batch, weights: Mapping[str, float], resolved: Tensor | None = None
) -> list[PropertyMetrics]:
    """Metrics of each property of one protein.

    Parameters
    ----------
    predictor
        One of `PREDICTORS`. Elastic networks have no loss.
    outputs
        Property -> prediction (1, T), (1, T, bins) or (1, T, T).
    protein
        Batch of this protein alone.
    weights
        Property -> loss weight; changes no number.
    resolved
        (T,) bool, tokens that its structure has; None without a structure.
    """
    group = protein.group
    losses = dict.fromkeys(outputs, math.nan)
    if predictor in LEARNT:
        names = properties_of_group(group)
        found = dance_loss(outputs, protein.residue, protein.pair, group, weights)
        counts = valid_counts(protein.residue, protein.pair, group)  # 1, or 0 where no position is valid
        values = torch.stack([found[name] for name in names]).masked_fill(counts == 0, math.nan)
        losses = dict(zip(names, values.tolist(), strict=True))
    rows = []
    for name, loss in losses.items():
        everywhere = where_resolved = (math.nan, math.nan)
        if name in CORRELATED:
            target, valid = _target(name, protein)
            prediction = outputs[name][0]
            if predictor in LEARNT:
                everywhere = _correlations(prediction[valid], target[valid])
            if resolved is not None and name in OF_NETWORKS:
                both = valid & (resolved if valid.ndim == 1 else resolved[:, None] & resolved)
                where_resolved = _correlations(prediction[both], target[both])
        rows.append(PropertyMetrics(group, protein.names[0], name, predictor, loss, *everywhere, *where_resolved))
    return rows


def _target(name: str, protein: Batch) -> tuple[Tensor, Tensor]:
    """Target of a property of a single protein and where it is valid, (T,) or (T, T); pairs without i = j."""
    if name in RESIDUE_COLUMNS:
        return protein.residue[0, :, entry_residue_columns(name).start], protein.residue[0, :, 0] != MISSING
    valid = protein.pair[0, ..., 0] != MISSING  # (T, T)
    return protein.pair[0, ..., entry_pair_channel(name)], valid & ~torch.eye(len(valid), device=valid.device).bool()


def _correlations(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Pearson's and Spearman's correlation; both NaN where the first does not exist."""
    linear = pearson(first, second)
    return linear, math.nan if math.isnan(linear) else spearman(first, second)
