"""Proteins with targets, and the batches that train the classifier.

The seed and the number of the update alone determine which proteins an update sees and where they are cropped. A
resumed training therefore continues exactly, and each process takes its share of the same proteins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prepare.errors import require, some_of
from data_prepare.nmr.assignments import NOT_EVALUATED, read_assignments, table_targets
from data_prepare.resume import digest

LOGGER: Final = logging.getLogger("seqdance")


class AnnotatedProtein(NamedTuple):
    """A protein with one target per residue."""

    name: str
    sequence: str
    target: NDArray[np.int8]  # (L,) 1 exchange, 0 none, -1 not evaluated
    cluster: str


ReadEmbedding = Callable[[str, str], Tensor]  # name, sequence -> (L, width) float32, or pairs (L, L, channels)
Window = tuple[AnnotatedProtein, int]  # a protein and the first residue of the window


class ProteinBatch(NamedTuple):
    """Padded windows of proteins."""

    names: tuple[str, ...]
    embedding: Tensor  # (B, L, width) or (B, L, L, channels) float32, 0 at padding
    padding: Tensor  # (B, L) bool, True at padding
    target: Tensor  # (B, L) int8, -1 where not evaluated and at padding

    def to(self, device: torch.device) -> ProteinBatch:
        """The batch on a device."""
        return ProteinBatch(self.names, *(tensor.to(device) for tensor in self[1:]))


def annotated_proteins(table: pd.DataFrame, path: str, **options: bool) -> list[AnnotatedProtein]:
    """Proteins of a table of `read_assignments` that have a residue to evaluate; InputError if there is none.

    A warning names the others; `path` is the origin of the table, for messages. `options` are missing_only, rex_only
    and unsuppressed of `data_prepare.nmr.assignments.targets`.
    """
    columns = (table["entry_ID"], table["sequence"], table_targets(table, **options), table["cluster"])
    proteins = [AnnotatedProtein(*row) for row in zip(*columns, strict=True)]
    kept = [protein for protein in proteins if (protein.target != NOT_EVALUATED).any()]
    require(kept, f"{path}: no protein has a residue to evaluate; check the column label")
    if len(kept) < len(proteins):
        names = [protein.name for protein in proteins if (protein.target == NOT_EVALUATED).all()]
        LOGGER.warning("warning: %s: entries without a residue to evaluate: %d: %s", path, len(names), some_of(names))
    return kept


def read_proteins(path: Path) -> list[AnnotatedProtein]:
    """Proteins of a table of assignment codes (CSV); see `annotated_proteins`."""
    return annotated_proteins(read_assignments(path), str(path))


class ClusterSampler:
    """The updates of a training: each epoch takes one random member of every sequence cluster, in random order.

    A protein without a cluster is a cluster by itself. An update has `batch` proteins over all processes, the last one
    of an epoch possibly fewer. Longer proteins are cut to random windows of `crop` residues.
    """

    def __init__(self, proteins: Sequence[AnnotatedProtein], seed: int, batch: int, crop: int) -> None:
        self.proteins, self.seed, self.batch, self.crop = list(proteins), seed, batch, crop
        clusters: dict[tuple[str, str], list[int]] = {}
        for index, protein in enumerate(proteins):
            clusters.setdefault((protein.cluster, "" if protein.cluster else protein.name), []).append(index)
        self.clusters = list(clusters.values())  # indices of their proteins, in order of first appearance
        self.updates = -(-len(self.clusters) // batch)  # per epoch
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None  # number, proteins, starts

    def epoch(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the proteins of an epoch (from 0) in order, and first residue of each window; (clusters,)."""
        if self._epoch is None or self._epoch[0] != number:
            random = np.random.default_rng([self.seed, number])
            members = random.permutation([random.choice(members) for members in self.clusters])
            excess = np.array([len(self.proteins[member].sequence) for member in members]) - self.crop
            self._epoch = number, members, random.integers(np.maximum(excess, 0) + 1)
        return self._epoch[1:]

    def windows(self, update: int) -> list[Window]:
        """Windows of an update (from 0), over all processes."""
        epoch, step = divmod(update, self.updates)
        own = slice(step * self.batch, (step + 1) * self.batch)
        members, starts = (values[own].tolist() for values in self.epoch(epoch))
        return [(self.proteins[member], start) for member, start in zip(members, starts, strict=True)]

    def evaluated(self, update: int) -> int:
        """Evaluated residues in the windows of an update, over all processes."""
        targets = [protein.target[start : start + self.crop] for protein, start in self.windows(update)]
        return int((np.concatenate(targets) != NOT_EVALUATED).sum())

    def shares(self, update: int, rank: int = 0, processes: int = 1, parts: int = 1) -> list[list[Window]]:
        """Windows of one process in an update, in at most `parts` parts of similar length.

        A process without a protein gets a window without targets, since all processes have to run backward.
        """
        windows = self.windows(update)
        protein, start = windows[0]
        idle = [(protein._replace(target=np.full_like(protein.target, NOT_EVALUATED)), start)]
        own = windows[rank::processes] or idle
        own = sorted(own, key=lambda window: min(len(window[0].sequence), self.crop))  # little padding in each part
        cuts = np.linspace(0, len(own), min(parts, len(own)) + 1).astype(int)
        return [own[first:last] for first, last in pairwise(cuts)]

    def load(self, share: Sequence[Window], read: ReadEmbedding) -> ProteinBatch:
        """Read the embeddings of windows."""
        rows = []
        for protein, start in share:
            window = slice(start, start + self.crop)
            embedding = embedding_of(protein, read)
            cut = embedding[window, window] if embedding.ndim == 3 else embedding[window]
            rows.append((protein.name, cut, protein.target[window]))
        return collate(rows)


def fingerprint_of(proteins: Sequence[AnnotatedProtein]) -> str:
    """Hash of the content of some proteins."""
    return digest([(name, sequence, target.tolist(), cluster) for name, sequence, target, cluster in proteins])


def embedding_of(protein: AnnotatedProtein, read: ReadEmbedding) -> Tensor:
    """Embedding of a protein with one row per residue."""
    embedding = read(protein.name, protein.sequence)
    rows, n = len(embedding), len(protein.sequence)
    require(rows == n, f"{protein.name}: embedding of {rows} residues for a sequence of {n}; compute it again")
    return embedding


def collate(rows: Sequence[tuple[str, Tensor, NDArray[np.int8]]]) -> ProteinBatch:
    """Pad names, embeddings and targets to the longest protein."""
    names, embeddings, targets = zip(*rows, strict=True)
    lengths = torch.tensor([len(target) for target in targets])
    longest = int(lengths.max())
    sides = embeddings[0].ndim - 1  # 1; pairs have 2
    embedding = torch.zeros(len(rows), *[longest] * sides, embeddings[0].shape[-1])  # (B, L, width), (B, L, L, width)
    padded = torch.full((len(rows), longest), NOT_EVALUATED, dtype=torch.int8)
    for row, (values, target) in enumerate(zip(embeddings, targets, strict=True)):
        n = len(target)
        (embedding[row, :n] if sides == 1 else embedding[row, :n, :n]).copy_(values)
        padded[row, :n] = torch.from_numpy(target)
    return ProteinBatch(names, embedding, torch.arange(longest) >= lengths[:, None], padded)


def whole_batches(proteins: Sequence[AnnotatedProtein], read: ReadEmbedding, size: int) -> Iterator[ProteinBatch]:
    """Whole proteins in batches of `size` with similar lengths."""
    order = sorted(proteins, key=lambda protein: len(protein.sequence))
    for first in range(0, len(order), size):
        yield collate([(p.name, embedding_of(p, read), p.target) for p in order[first : first + size]])
