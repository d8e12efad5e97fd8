"""Baselines without structure or evolution: means over the valid positions of training entries.

`mean` predicts the mean of each column over all positions of the group. `sequence` predicts the mean of the amino acid
for residue properties, and of the distance |i-j| along the chain for pair properties.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from data_prepare.dataset.store import FeatureStore
from data_prepare.properties import (
    MD_PAIR_WIDTH,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_GROUPS,
    NMA_PAIR_WIDTH,
    NMA_RESIDUE_WIDTH,
    RESIDUE_COLUMNS,
    entry_pair_channel,
    entry_residue_columns,
    properties_of_group,
)
from model.network.tokenizer import CLS_ID, VOCABULARY
from model.training.data import Batch, Entry, load_entry
from model.training.processes import Process

PARTS: Final = 64  # partial sums of the training entries: rounding does not depend on the number of processes

Array = NDArray[np.float64]
Names = Sequence[tuple[str, str]]  # name and modify_seq of entries


def training_sums(group: str, entries: Iterable[Entry], pair_classes: int) -> tuple[Array, Array]:
    """Sums over the valid positions of whole proteins, one at a time.

    Returns sums by token (V, C + 1) and by `distance_class` (pair_classes, K + 1); the last column counts positions.
    """
    nma = group in NMA_GROUPS
    residue = np.zeros((len(VOCABULARY), (NMA_RESIDUE_WIDTH if nma else MD_RESIDUE_WIDTH) + 1))
    pair = np.zeros((pair_classes, (NMA_PAIR_WIDTH if nma else MD_PAIR_WIDTH) + 1))
    for entry in entries:
        ids = entry.input_ids.numpy()
        for sums, classes, features in ((residue, ids, entry.residue), (pair, distance_class(ids), entry.pair)):
            valid = features[..., 0].numpy() != MISSING
            columns = (*features.numpy()[valid].T, np.ones(valid.sum()))
            sums += np.stack([np.bincount(classes[valid], column, minlength=len(sums)) for column in columns], axis=1)
    return residue, pair


def class_means(sums: Array, nearest: bool = False) -> tuple[Array, Array]:
    """Means by class (classes, C) and over all positions (C,).

    A class without positions gets the mean of the nearest non-empty class > 0 if `nearest`, else the overall mean.
    """
    counts = sums[:, -1]
    overall = sums[:, :-1].sum(0) / max(counts.sum(), 1.0)
    means = np.tile(overall, (len(sums), 1))
    seen = np.flatnonzero(counts)
    means[seen] = sums[seen, :-1] / counts[seen, None]
    if nearest and len(filled := seen[seen > 0]):
        for empty in np.setdiff1d(np.arange(1, len(sums)), seen):
            means[empty] = means[filled[np.abs(filled - empty).argmin()]]
    return means, overall


class MeanBaselines:
    """Both baselines of a training group, from the `training_sums` of its entries."""

    def __init__(self, group: str, residue: Array, pair: Array) -> None:
        self.group = group
        self._residue, self._residue_mean = class_means(residue)
        self._pair, self._pair_mean = class_means(pair, nearest=True)

    @classmethod
    def fit(cls, group: str, store: FeatureStore, entries: Names, process: Process) -> MeanBaselines:
        """Fit on entries; the processes share the work and get the same result."""
        longest = max(len(sequence) for _, sequence in entries) + 2  # tokens, at most
        parts = {}
        own = range(process.rank, PARTS, process.processes)
        for part in tqdm(own, desc=f"baselines, {group}", unit="part", disable=process.rank > 0):
            loaded = (load_entry(store, *entry, group) for entry in entries[part::PARTS])
            parts[part] = training_sums(group, loaded, longest + 1)
        gathered = {part: sums for found in process.gather(parts) for part, sums in found.items()}
        residue, pair = (sum(sums) for sums in zip(*(gathered[part] for part in range(PARTS)), strict=True))
        return cls(group, residue, pair)

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Predictions by baseline and property: (B, L), (B, L, bins) or (B, L, L)."""
        ids = batch.input_ids.cpu().numpy()
        classes = np.stack([distance_class(row) for row in ids]).clip(max=len(self._pair) - 1)  # (B, L, L)
        return {
            "mean": self._outputs(batch, self._residue_mean, self._pair_mean),  # (C,), (K,)
            "sequence": self._outputs(batch, self._residue[ids], self._pair.astype(np.float32)[classes]),
        }

    def _outputs(self, batch: Batch, residue: Array, pair: Array) -> dict[str, Tensor]:
        residues = torch.from_numpy(residue).float().to(batch.residue.device).expand_as(batch.residue)
        pairs = torch.from_numpy(pair).float().to(batch.pair.device).expand_as(batch.pair)
        outputs = {}
        for name in properties_of_group(self.group):
            if name in RESIDUE_COLUMNS:
                columns = residues[..., entry_residue_columns(name)]
                outputs[name] = columns.squeeze(-1) if columns.shape[-1] == 1 else columns
            else:
                outputs[name] = pairs[..., entry_pair_channel(name)]
        return outputs


def distance_class(input_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of each token pair: 0 between two chains, 1 + |i-j| within one. (T,) token ids -> (T, T)."""
    chain = (input_ids == CLS_ID).cumsum()
    position = np.arange(len(input_ids))
    return np.where(chain[:, None] == chain, 1 + np.abs(position[:, None] - position), 0)
