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

    Returns them by token (2, V, C) and by `distance_class` (2, pair_classes, K): sums of the values and their numbers.
    Missing properties of a protein do not count.
    """
    nma = group in NMA_GROUPS
    residue = np.zeros((2, len(VOCABULARY), NMA_RESIDUE_WIDTH if nma else MD_RESIDUE_WIDTH))
    pair = np.zeros((2, pair_classes, NMA_PAIR_WIDTH if nma else MD_PAIR_WIDTH))
    for entry in entries:
        ids = entry.input_ids.numpy()
        for sums, classes, features in ((residue, ids, entry.residue), (pair, distance_class(ids), entry.pair)):
            valid = features[..., 0].numpy() != MISSING
            present = ~np.isnan(features.numpy()[valid]).any(axis=0)  # (C,)
            number = np.bincount(classes[valid], minlength=sums.shape[1])
            sums[1, :, present] += number
            for column in np.flatnonzero(present):
                values = features.numpy()[..., column][valid]
                sums[0, :, column] += np.bincount(classes[valid], values, minlength=sums.shape[1])
    return residue, pair


def class_means(sums: Array, nearest: bool = False) -> tuple[Array, Array]:
    """Means by class (classes, C) and over all positions (C,) of `training_sums` (2, classes, C).

    A class without positions gets the mean of the nearest non-empty class > 0 if `nearest`, else the overall mean.
    """
    values, counts = sums
    overall = values.sum(0) / np.maximum(counts.sum(0), 1.0)
    means = np.where(counts > 0, values / np.maximum(counts, 1.0), overall)
    for column in range(counts.shape[1] if nearest else 0):
        seen = counts[1:, column] > 0
        filled, empty = np.flatnonzero(seen) + 1, np.flatnonzero(~seen) + 1
        if len(filled):
            means[empty, column] = means[filled[np.abs(filled - empty[:, None]).argmin(axis=1)], column]
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
