"""Baselines that know neither structure nor evolution: means over the valid positions of training entries.

`mean` predicts the mean of each column over all positions of the group; `sequence` the mean of the amino acid for
residue properties, and of the distance |i-j| along the chain for pair properties.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

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

# training entries are added up in so many parts, whatever the number of processes: their sums round the same way
PARTS: Final = 64

Array = NDArray[np.float64]


class Means:
    """Running sums of rows by class."""

    def __init__(self, columns: int) -> None:
        self.sums: Array = np.zeros((0, columns))  # (classes, columns)
        self.counts: Array = np.zeros(0)

    @property
    def classes(self) -> int:
        """One more than the highest class seen."""
        return len(self.counts)

    def add(self, classes: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Add rows (n, columns) of the given classes (n,)."""
        size = int(classes.max(initial=-1)) + 1
        sums = np.stack([np.bincount(classes, column, minlength=size) for column in rows.T], axis=1)  # (size, columns)
        self._add(sums, np.bincount(classes, minlength=size))

    def join(self, other: Means) -> None:
        """Add all that another one has seen."""
        self._add(other.sums, other.counts)

    def _add(self, sums: NDArray, counts: NDArray) -> None:
        if (more := len(counts) - self.classes) > 0:
            self.sums = np.pad(self.sums, ((0, more), (0, 0)))
            self.counts = np.pad(self.counts, (0, more))
        self.sums[: len(counts)] += sums
        self.counts[: len(counts)] += counts

    def table(self, classes: int, nearest: bool) -> tuple[Array, Array]:
        """Means by class (classes, columns) and over all rows (columns,).

        A class without rows has the mean of the nearest class > 0 that has some (`nearest`; class 0 stands for itself),
        or the mean over all rows.
        """
        overall = self.sums.sum(0) / max(self.counts.sum(), 1.0)
        means = np.tile(overall, (max(classes, 1), 1))
        seen = np.flatnonzero(self.counts)
        means[seen] = self.sums[seen] / self.counts[seen, None]
        if nearest and len(filled := seen[seen > 0]):
            for empty in np.setdiff1d(np.arange(1, classes), seen):
                means[empty] = means[filled[np.abs(filled - empty).argmin()]]
        return means, overall


class TrainingMeans(NamedTuple):
    """What the baselines of a group are fitted on."""

    residue: Means  # by token
    pair: Means  # by `pair_classes`


def training_means(group: str, entries: Iterable[Entry]) -> TrainingMeans:
    """Sums over whole proteins, which are read one after the other and not kept."""
    nma = group in NMA_GROUPS
    means = TrainingMeans(
        Means(NMA_RESIDUE_WIDTH if nma else MD_RESIDUE_WIDTH), Means(NMA_PAIR_WIDTH if nma else MD_PAIR_WIDTH)
    )
    for entry in entries:
        valid = entry.residue[:, 0].numpy() != MISSING
        means.residue.add(entry.input_ids.numpy()[valid], entry.residue.numpy()[valid])
        valid = entry.pair[..., 0].numpy() != MISSING
        means.pair.add(pair_classes(entry.input_ids.numpy())[valid], entry.pair.numpy()[valid])
    return means


class MeanBaselines:
    """The two baselines of a training group.

    Parameters
    ----------
    group
        Training group.
    parts
        Sums over its training entries.
    """

    def __init__(self, group: str, parts: Iterable[TrainingMeans]) -> None:
        self.group = group
        residue, pair = training_means(group, ())
        for part in parts:
            residue.join(part.residue)
            pair.join(part.pair)
        self._residue, self._residue_mean = residue.table(len(VOCABULARY), nearest=False)
        self._pair, self._pair_mean = pair.table(pair.classes, nearest=True)

    @classmethod
    def fit(
        cls,
        group: str,
        store: FeatureStore,
        entries: Sequence[tuple[str, str]],
        process: Process,
        progress: bool = False,
    ) -> MeanBaselines:
        """Fit on entries (name, modify_seq), which the processes share; all get the same result.

        `progress` shows a bar of this process's entries.
        """
        own = {part: entries[part::PARTS] for part in range(process.rank, PARTS, process.processes)}
        total = sum(map(len, own.values()))
        with tqdm(total=total, desc=f"baselines, {group}", unit="entry", disable=not progress) as bar:

            def loaded(part: int) -> Iterator[Entry]:
                for name, sequence in own[part]:
                    yield load_entry(store, name, sequence, group)
                    bar.update()

            parts = {part: training_means(group, loaded(part)) for part in own}
        gathered = {part: means for found in process.gather(parts) for part, means in found.items()}
        return cls(group, (gathered[part] for part in range(PARTS)))

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Baseline -> property -> (B, L), (B, L, bins) or (B, L, L).

        `mean`: the mean of each column everywhere. `sequence`: that of the amino acid, and of the distance along the
        chain.
        """
        ids = batch.input_ids.cpu().numpy()
        classes = np.stack([pair_classes(row) for row in ids]).clip(max=len(self._pair) - 1)  # (B, L, L)
        arrays = {
            "mean": (self._residue_mean, self._pair_mean),  # (C,), (K,)
            "sequence": (self._residue[ids], self._pair.astype(np.float32)[classes]),  # (B, L, C), (B, L, L, K)
        }
        return {name: self._outputs(batch, *values) for name, values in arrays.items()}

    def _outputs(self, batch: Batch, residue: Array, pair: Array) -> dict[str, Tensor]:
        """Columns of an entry -> property."""
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


def pair_classes(input_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of each token pair: 0 between two chains, 1 + |i-j| within one. (T,) token ids -> (T, T)."""
    chain = (input_ids == CLS_ID).cumsum()
    position = np.arange(len(input_ids))
    return np.where(chain[:, None] == chain, 1 + np.abs(position[:, None] - position), 0)
