"""From the store to batches: crop, normalise, pad.

Which protein the k-th sample of a group is, and where it is cropped, follow from (seed, group, k) alone: the samples do
not depend on workers or processes, and a training that resumes at sample k continues as if it had never stopped.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_prepare.dataset.store import FeatureStore
from data_prepare.errors import InputError, named, require
from data_prepare.properties import (
    GROUPS,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_GROUPS,
    NMA_RESIDUE_WIDTH,
    entry_residue_columns,
)
from model.network.tokenizer import PAD_ID, split_tokens, tokenize
from model.training.schedule import Draw

LOGGER: Final = logging.getLogger("seqdance")
RMSF_COLUMN: Final = entry_residue_columns("rmsf_nor").start
BLOCKS_SORTED: Final = 50  # blocks of similar length that the proteins of an epoch are sorted into at a time
_ORDER, _CROP = 0, 1  # streams of random numbers: order of an epoch, crop of a sample

Sequences = Mapping[str, Sequence[tuple[str, str]]]  # group -> (name, modify_seq) of its entries


class Entry(NamedTuple):
    """One protein, or a window of it, in token space."""

    name: str
    input_ids: Tensor  # (T,) int64
    residue: Tensor  # (T, 47) or (T, 3) float32, RMSF divided by its maximum in the whole protein
    pair: Tensor  # (T, T, 10) or (T, T, 3) float32


class Batch(NamedTuple):
    """Padded entries of one group: padding tokens have the pad id and targets -1."""

    group: str
    names: tuple[str, ...]
    input_ids: Tensor  # (B, L) int64
    attention_mask: Tensor  # (B, L) int64
    residue: Tensor  # (B, L, 47) or (B, L, 3) float32
    pair: Tensor  # (B, L, L, 10) or (B, L, L, 3) float32

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; the copy from pinned memory does not wait."""
        return Batch(self.group, self.names, *(tensor.to(device, non_blocking=True) for tensor in self[2:]))


def require_files(**paths: Path) -> None:
    """Raise InputError with one line that names all of these files (option -> path) that are missing."""
    missing = [f"--{name.replace('_', '-')} {path}" for name, path in paths.items() if not path.is_file()]
    require(not missing, f"no such file: {', '.join(missing)}; give their paths (`seqdance demo` makes a small set)")


def group_sequences(table: pd.DataFrame, store: FeatureStore, label: str) -> dict[str, list[tuple[str, str]]]:
    """Group -> (name, modify_seq) of its entries with a label (train or test), in the order of the table.

    `table` is that of `read_table`. A group may be empty. Entries that the store lacks are left out with a warning.
    """
    table = table[table["label"] == label]
    held = table["name"].isin(store.names())
    if not held.all():
        absent = table.loc[~held, "name"]
        first = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        LOGGER.warning("warning: %s lacks %d of %d %s entries: %s", store.path, len(absent), len(table), label, first)
    table = table[held]
    return {
        group: list(table.loc[table["group"] == group, ["name", "modify_seq"]].itertuples(index=False, name=None))
        for group in GROUPS
    }


def load_entry(
    store: FeatureStore, name: str, modify_seq: str, group: str, start: int = 0, length: int | None = None
) -> Entry:
    """Read a protein, or `length` tokens of it from token `start`.

    Raises
    ------
    InputError
        Sequence and features have different numbers of tokens, or the columns are not those of the group.
    """
    with named(f"entry {name}"):
        input_ids = tokenize([modify_seq])["input_ids"][0]  # (T,)
        tokens = store.length(name)
        remedy = "make table and store from the same structures"
        same = len(input_ids) == tokens
        require(same, f"modify_seq has {len(input_ids)} tokens and {store.path} holds {tokens}; {remedy}")
        stop = tokens if length is None else min(start + length, tokens)
        residue, pair = store.read(name, start, stop)
        width = NMA_RESIDUE_WIDTH if group in NMA_GROUPS else MD_RESIDUE_WIDTH
        same = residue.shape[1] == width
        require(same, f"{residue.shape[1]} residue columns in {store.path}, {group} has {width}; {remedy}")
    if group not in NMA_GROUPS:
        whole = residue if stop - start == tokens else store.read_residue(name)
        largest = whole[whole[:, 0] != MISSING, RMSF_COLUMN].max(initial=np.finfo(np.float32).tiny)
        residue[:, RMSF_COLUMN] = np.where(residue[:, 0] != MISSING, residue[:, RMSF_COLUMN] / largest, MISSING)
    return Entry(name, input_ids[start:stop], torch.from_numpy(residue), torch.from_numpy(pair))


def collate(group: str, entries: Sequence[Entry]) -> Batch:
    """Pad entries of one group to the longest of them."""
    size, longest = len(entries), max(len(entry.input_ids) for entry in entries)
    input_ids = torch.full((size, longest), PAD_ID)
    residue = torch.full((size, longest, entries[0].residue.shape[-1]), MISSING)
    pair = torch.full((size, longest, longest, entries[0].pair.shape[-1]), MISSING)
    mask = torch.zeros((size, longest), dtype=torch.int64)
    for row, entry in enumerate(entries):
        n = len(entry.input_ids)
        input_ids[row, :n], mask[row, :n] = entry.input_ids, 1
        residue[row, :n], pair[row, :n, :n] = entry.residue, entry.pair
    return Batch(group, tuple(entry.name for entry in entries), input_ids, mask, residue, pair)


class TrainingSet(Dataset):
    """Samples of the endless stream of each group: in each epoch every entry once, in a new order.

    Parameters
    ----------
    store
        Features; each worker opens the file itself.
    sequences
        group -> (name, modify_seq) of its entries, as `group_sequences` returns it. InputError if a group has none.
    seed
        Determines orders and crops.
    block
        Order each epoch by `blocks_of_similar_length` of this size. Default: purely random.
    """

    def __init__(self, store: FeatureStore, sequences: Sequences, seed: int, block: int | None = None) -> None:
        empty = [group for group in GROUPS if not sequences[group]]
        remedy = "the table needs entries labelled train of every group that are in the store"
        require(not empty, f"{store.path}: no training entry of {', '.join(empty)}; {remedy}")
        self.store, self.sequences, self.seed, self.block = store, sequences, seed, block
        self._lengths: dict[str, NDArray[np.int64]] = {}  # group -> tokens of its entries, without the outer two
        if block is not None:
            self._lengths = {
                group: np.array([len(split_tokens(sequence)) for _, sequence in sequences[group]]) for group in GROUPS
            }
        self._orders: dict[str, tuple[int, NDArray[np.int64]]] = {}  # group -> the epoch used last and its order

    def _random(self, group: str, stream: int, number: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence([self.seed, GROUPS.index(group), stream, number]))
        )

    def entry_index(self, group: str, counter: int) -> int:
        """Which entry of the group the `counter`-th sample is."""
        size = len(self.sequences[group])
        epoch, place = divmod(counter, size)
        if self._orders.get(group, (-1,))[0] != epoch:
            random = self._random(group, _ORDER, epoch)
            order = random.permutation(size)
            if self.block is not None:
                order = blocks_of_similar_length(order, self._lengths[group], epoch * size, self.block, random)
            self._orders[group] = epoch, order
        return int(self._orders[group][1][place])

    def __getitem__(self, draw: Draw) -> Entry:
        name, modify_seq = self.sequences[draw.group][self.entry_index(draw.group, draw.counter)]
        excess = self.store.length(name) - draw.length
        start = int(self._random(draw.group, _CROP, draw.counter).integers(excess + 1)) if excess > 0 else 0
        return load_entry(self.store, name, modify_seq, draw.group, start, draw.length)

    def __getitems__(self, draws: list[Draw]) -> Batch | InputError:
        """Return one batch; wrong input is returned as a value, so that a worker's error keeps its one line."""
        try:
            return collate(draws[0].group, [self[draw] for draw in draws])
        except InputError as error:
            return error


def blocks_of_similar_length(
    order: NDArray[np.int64], lengths: NDArray[np.int64], first: int, block: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Order of an epoch in which the proteins of a block have similar lengths.

    Within `BLOCKS_SORTED` blocks the proteins are sorted by length and dealt out, block after block; which block comes
    where is random. `order` (n,) is a random order of the proteins, `lengths` (n,) their lengths. Blocks begin at
    multiples of `block` in the stream of the group, as batches do, and `first` is the number of the epoch's first
    sample there: the first and last block of an epoch may be short. Returns the proteins of `order`, each once.
    """
    place = np.arange(len(order))
    blocks = (first + place) // block
    windows = blocks // BLOCKS_SORTED
    turn = random.permutation(blocks[-1] - blocks[0] + 1)[blocks - blocks[0]]  # of a place's block
    result = np.empty_like(order)
    result[np.lexsort((place, turn, windows))] = order[np.lexsort((place, lengths[order], windows))]
    return result


def _prepare_worker(_: int) -> None:
    """Ignore the signals that ask the training to stop: the main process still needs its workers."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _identity(batch: Any) -> Any:
    return batch


def batches(dataset: TrainingSet, draws: Iterable[list[Draw]], workers: int, pin_memory: bool) -> Generator[Batch]:
    """Batches of `draws` in their order, read by `workers` processes (0: in this one) ahead of their use.

    Close the iterator (`contextlib.closing`): that ends the workers. Raises InputError if an entry cannot be used.
    """
    dataset.store.close()  # workers do not inherit an open file
    loader: DataLoader = DataLoader(
        dataset,
        batch_sampler=draws,
        collate_fn=_identity,
        num_workers=workers,
        worker_init_fn=_prepare_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # leaves the random state of the training alone
    )
    stream = iter(loader)
    try:
        for batch in stream:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    finally:
        # whatever happened: workers ignore SIGTERM, so Python's own way to end them would wait for ever
        if workers:
            stream._shutdown_workers()  # type: ignore[attr-defined]


def default_workers(device: torch.device) -> int:
    """Reader processes: none on the CPU, up to four where a GPU would wait for them."""
    return 0 if device.type == "cpu" else min(4, max((os.cpu_count() or 1) - 1, 0))
