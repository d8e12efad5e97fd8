"""Proteins with targets, and the batches of a training of the classifier.

(seed, number of the update) alone decide which proteins an update sees and where they are cropped: a resumed training
continues exactly, and each process takes its share of the same proteins.
"""

from __future__ import annotations

import hashlib
import json
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

from data_prepare.errors import require
from data_prepare.nmr.assignments import NOT_EVALUATED, read_assignments, table_targets

LOGGER: Final = logging.getLogger("seqdance")


class AnnotatedProtein(NamedTuple):
    """A protein with one target per residue."""

    name: str
    sequence: str
    target: NDArray[np.int8]  # (L,) 1 exchange, 0 none, -1 not evaluated
    cluster: str


ReadEmbedding = Callable[[str, str], Tensor]  # name, sequence -> (L, width) float32, or pairs (L, L, channels)
Window = tuple[AnnotatedProtein, int]  # a protein and the first of its residues that are seen


class ProteinBatch(NamedTuple):
    """Padded windows of proteins."""

    names: tuple[str, ...]
    embedding: Tensor  # (B, L, width) or (B, L, L, channels) float32, 0 at padding
    padding: Tensor  # (B, L) bool, True where there is no residue
    target: Tensor  # (B, L) int8, -1 where not evaluated and at padding

    def to(self, device: torch.device) -> ProteinBatch:
        """Return the batch on a device."""
        return ProteinBatch(self.names, *(tensor.to(device) for tensor in self[1:]))


def annotated_proteins(table: pd.DataFrame, path: str, **options: bool) -> list[AnnotatedProtein]:
    """Proteins of a table of assignment codes that have a residue to evaluate; a warning names the others.

    Parameters
    ----------
    table
        From `read_assignments`. A protein without a cluster is one of its own.
    path
        Where the table is from, for messages.
    options
        missing_only, rex_only, unsuppressed of `data_prepare.nmr.assignments.targets`.

    Raises
    ------
    InputError
        The options exclude each other, or no protein is left.
    """
    columns = (table["entry_ID"], table["sequence"], table_targets(table, **options), table["cluster"])
    proteins = [AnnotatedProtein(*row) for row in zip(*columns, strict=True)]
    kept = [protein for protein in proteins if (protein.target != NOT_EVALUATED).any()]
    require(kept, f"{path}: no protein has a residue to evaluate; look at its column label")
    if len(kept) < len(proteins):
        names = [protein.name for protein in proteins if (protein.target == NOT_EVALUATED).all()]
        LOGGER.warning("warning: %s: no residue to evaluate in %s", path, first_names(names))
    return kept


def read_proteins(path: Path) -> list[AnnotatedProtein]:
    """Proteins of a table of assignment codes (CSV), see `annotated_proteins`."""
    return annotated_proteins(read_assignments(path), str(path))


def cluster_members(proteins: Sequence[AnnotatedProtein]) -> list[list[int]]:
    """Indices of the proteins of each cluster, in order of first appearance."""
    members: dict[tuple[str, str], list[int]] = {}
    for index, protein in enumerate(proteins):
        members.setdefault((protein.cluster, "" if protein.cluster else protein.name), []).append(index)
    return list(members.values())


class ClusterSampler:
    """The updates of a training: each epoch takes one random member of every sequence cluster, in random order.

    Parameters
    ----------
    proteins
        Proteins to train on.
    seed
        Decides on members, order and crops.
    batch
        Proteins of an update, over all processes. The last update of an epoch may have fewer.
    crop
        Longer proteins are cut to a random window of this length.
    """

    def __init__(self, proteins: Sequence[AnnotatedProtein], seed: int, batch: int, crop: int) -> None:
        self.proteins, self.seed, self.batch, self.crop = list(proteins), seed, batch, crop
        self.clusters = cluster_members(proteins)
        self.updates = -(-len(self.clusters) // batch)  # of an epoch
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None  # number, proteins, starts

    def epoch(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Proteins of an epoch (counted from 0) in their order, and the first residue of each window; (clusters,)."""
        if self._epoch is None or self._epoch[0] != number:
            random = np.random.default_rng([self.seed, number])
            members = np.array([random.choice(members) for members in self.clusters])
            members = random.permutation(members)
            excess = np.array([len(self.proteins[member].sequence) for member in members]) - self.crop
            self._epoch = number, members, random.integers(np.maximum(excess, 0) + 1)
        return self._epoch[1:]

    def windows(self, update: int) -> list[Window]:
        """Windows of an update (counted from 0), over all processes."""
        epoch, place = divmod(update, self.updates)
        members, starts = self.epoch(epoch)
        own = slice(place * self.batch, (place + 1) * self.batch)
        return [(self.proteins[m], int(start)) for m, start in zip(members[own], starts[own], strict=True)]

    def evaluated(self, update: int) -> int:
        """Evaluated residues in the windows of an update, over all processes."""
        targets = [protein.target[start : start + self.crop] for protein, start in self.windows(update)]
        return int((np.concatenate(targets) != NOT_EVALUATED).sum())

    def shares(self, update: int, rank: int = 0, processes: int = 1, parts: int = 1) -> list[list[Window]]:
        """Windows of one process in an update, in one to `parts` parts of similar length.

        All processes run backward: one without a protein in the last update of an epoch gets a window without targets.
        """
        windows = self.windows(update)
        own = windows[rank::processes]
        if not own:
            protein, start = windows[0]
            own = [(protein._replace(target=np.full_like(protein.target, NOT_EVALUATED)), start)]
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

    def fingerprint(self) -> str:
        """Hash of all that decides on the sequence of batches."""
        content = [(name, sequence, target.tolist(), cluster) for name, sequence, target, cluster in self.proteins]
        return hashlib.sha256(json.dumps([self.seed, self.batch, self.crop, content]).encode()).hexdigest()


def fingerprint_of(proteins: Sequence[AnnotatedProtein]) -> str:
    """Hash of names, sequences and targets."""
    content = [(protein.name, protein.sequence, protein.target.tolist()) for protein in proteins]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def embedding_of(protein: AnnotatedProtein, read: ReadEmbedding) -> Tensor:
    """Embedding of a protein; InputError unless it has one row per residue."""
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
    """Whole proteins, `size` of similar length at a time."""
    order = sorted(proteins, key=lambda protein: len(protein.sequence))
    for first in range(0, len(order), size):
        yield collate([(p.name, embedding_of(p, read), p.target) for p in order[first : first + size]])


def first_names(names: Sequence[str], most: int = 5) -> str:
    """Number of entries and the first of them."""
    return f"{len(names)} entries: {', '.join(names[:most])}{', ...' if len(names) > most else ''}"
