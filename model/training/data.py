"""From the store to batches: crop, normalise, pad.

Readers hand over pair features in float16, and interactions as a list: a residue has about six in nine channels.
`Batch.to` makes them dense on the device. Whatever the dtype of the store, and on a CPU as on a GPU, the network is
trained on pair features rounded to float16 (relative 5e-4), which are exactly those of a float16 store. Residue
features, a small part, stay float32. Evaluation reads all features in float32 (`load_entry`).

The protein of the k-th sample of a group, and its crop, depend only on (seed, group, k): not on the number of workers
or processes, nor on whether the training was interrupted before.
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
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import CORRELATION, guarded_channels, next_to_missing
from data_prepare.errors import InputError, named, require, some_of
from data_prepare.properties import (
    ALL_GROUPS,
    GROUPS,
    MD_PAIR_WIDTH,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_GROUPS,
    NMA_RESIDUE_WIDTH,
    entry_residue_columns,
    properties_of_group,
)
from model.network.tokenizer import AMINO_ACIDS, PAD_ID, TOKEN_ID, split_tokens, token_ids
from model.training.processes import StopSignal
from model.training.schedule import Draw

LOGGER: Final = logging.getLogger("seqdance")
RMSF_COLUMN: Final = entry_residue_columns("rmsf_nor").start
HALF_MISSING: Final = np.float16(MISSING).view(np.int16)
NEXT_TO_HALF_MISSING: Final = next_to_missing(np.dtype(np.float16)).view(np.int16)
# streams of random numbers: order of an epoch, crop of a sample, its exchanged residues
_ORDER, _CROP, _EXCHANGE = 0, 1, 2
AMINO_ACID_IDS: Final = np.array([TOKEN_ID[letter] for letter in AMINO_ACIDS])

Sequences = Mapping[str, Sequence[tuple[str, str]]]  # group -> (name, modify_seq) of its entries


class Entry(NamedTuple):
    """One protein, or a window of it, in token space."""

    name: str
    input_ids: Tensor  # (T,) int64
    residue: Tensor  # (T, 47) or (T, 3) float32, RMSF divided by its maximum in the whole protein
    pair: Tensor  # (T, T, 10 or 3) float32 or float16; with interactions (T, T, 1), the correlation
    missing: tuple[str, ...] = ()  # properties that the entry lacks; they are NaN
    interactions: Tensor | None = None  # (4, m) float32: token, token, channel, value; the others are 0


class Batch(NamedTuple):
    """Padded entries of one group; targets of padding are -1, those of missing properties NaN.

    A batch of `batches` is packed, until `to` puts it on a device.
    """

    group: str
    names: tuple[str, ...]
    input_ids: Tensor  # (B, L) int64
    attention_mask: Tensor  # (B, L) int64
    residue: Tensor  # (B, L, 47) or (B, L, 3) float32
    pair: Tensor  # (B, L, L, 10) or (B, L, L, 3) float32; packed: float16, or (B, L, L, 1), the correlation
    present: Tensor | None = None  # (B, properties of the group) bool, whether an entry has it; None: all have all
    places: Tensor | None = None  # packed: (M,) int of the interactions in the elements of (B, L, L, 10)
    interactions: Tensor | None = None  # packed: (M,) float16 values at these places

    def to(self, device: torch.device, length: int | None = None) -> Batch:
        """The batch on a device, its pair features dense, padded to `length` (default: as it is).

        Copies from pinned memory are asynchronous.
        """
        ids, mask, residue, pair = (part.to(device, non_blocking=True) for part in self[2:6])
        present = None if self.present is None else self.present.to(device, non_blocking=True)
        own = ids.shape[1]
        more = 0 if length is None else length - own
        if more:
            ids, mask = pad(ids, (0, more), value=PAD_ID), pad(mask, (0, more))
            residue = pad(residue, (0, 0, 0, more), value=MISSING)
            pair = pad(pair, (0, 0, 0, more, 0, more), value=MISSING)
        if self.places is None or self.interactions is None:
            pair = pair.float()
        else:
            places, interactions = (part.to(device, non_blocking=True) for part in (self.places, self.interactions))
            pair = dense_pairs(pair, _moved(places, own, more), interactions, present)
        return Batch(self.group, self.names, ids, mask, residue, pair, present)


def _moved(places: Tensor, length: int, more: int) -> Tensor:
    """Places in (B, L, L, 10) as those in (B, L + more, L + more, 10)."""
    if not more:
        return places
    places = places.long()
    pairs, channel = places // MD_PAIR_WIDTH, places % MD_PAIR_WIDTH
    rows, second = pairs // length, pairs % length
    rows = rows // length * (length + more) + rows % length
    return (rows * (length + more) + second) * MD_PAIR_WIDTH + channel


def dense_pairs(correlation: Tensor, places: Tensor, interactions: Tensor, present: Tensor | None) -> Tensor:
    """(B, L, L, 10) float32 pair features from those of a packed `Batch`, all on one device.

    Missing interactions are NaN where the correlation is not -1, as in the correlation if that is missing.
    """
    correlation = correlation.float()
    unlisted = torch.zeros(MD_PAIR_WIDTH, device=correlation.device)
    if present is not None:
        unlisted = unlisted.where(present[:, None, None, -MD_PAIR_WIDTH:], torch.nan)  # (B, 1, 1, 10)
    pair = unlisted.where(correlation != MISSING, MISSING)  # (B, L, L, 10)
    pair[..., CORRELATION] = correlation[..., 0]
    pair.view(-1)[places.long()] = interactions.float()
    return pair


def require_files(**paths: Path) -> None:
    """Raise InputError that names all missing files (option -> path)."""
    missing = [f"--{name.replace('_', '-')} {path}" for name, path in paths.items() if not path.is_file()]
    require(not missing, f"no such file: {', '.join(missing)}; give their paths (`seqdance demo` makes a small set)")


def group_sequences(table: pd.DataFrame, store: FeatureStore, label: str) -> dict[str, list[tuple[str, str]]]:
    """Group -> (name, modify_seq) of its entries with a label (train or test), in the order of `table` (`read_table`).

    Entries missing from the store are skipped with a warning.
    """
    table = table[table["label"] == label]
    held = table["name"].isin(store.names())
    if not held.all():
        absent = table.loc[~held, "name"]
        which = f"{len(absent)} of {len(table)} {label} entries: {some_of(absent)}"
        LOGGER.warning("warning: %s lacks %s", store.path, which)
    table = table[held]
    return {
        group: list(table.loc[table["group"] == group, ["name", "modify_seq"]].itertuples(index=False, name=None))
        for group in ALL_GROUPS
    }


def load_entry(
    store: FeatureStore, name: str, modify_seq: str, group: str, start: int = 0, length: int | None = None
) -> Entry:
    """Read a protein, or `length` tokens of it from token `start`, all in float32.

    Raises InputError if the sequence does not match the features in length, or the columns do not match the group.
    """
    window = slice(start, None if length is None else start + length)
    pair = store.read(name, window.start, window.stop)[1]  # first: it checks the shapes of both arrays
    input_ids, residue = _tokens(store, name, modify_seq, group, window, store.read_residue(name))
    return Entry(name, input_ids, residue, torch.from_numpy(pair), store.missing(name))


def load_sample(
    store: FeatureStore, name: str, modify_seq: str, group: str, start: int = 0, length: int | None = None
) -> Entry:
    """The same with pair features in float16, interactions apart if the store has them so."""
    window = slice(start, None if length is None else start + length)
    stored = store.read_sample(name, window.start, window.stop)
    input_ids, residue = _tokens(store, name, modify_seq, group, window, stored.residue)
    interactions = None if stored.interactions is None else torch.from_numpy(stored.interactions)
    return Entry(name, input_ids, residue, _half(stored.values), stored.missing, interactions)


def _tokens(
    store: FeatureStore, name: str, modify_seq: str, group: str, window: slice, residue: NDArray[np.floating]
) -> tuple[Tensor, Tensor]:
    """Token ids (T,) and residue features (T, 47 or 3) of a window of a protein with these residue features."""
    with named(f"entry {name}"):
        input_ids = np.frombuffer(token_ids(modify_seq, "modify_seq"), np.uint8)  # (L,)
        tokens, found = len(residue), len(input_ids)
        remedy = "make table and store from the same structures"
        require(found == tokens, f"modify_seq has {found} tokens, {store.path} has {tokens}; {remedy}")
        width, found = NMA_RESIDUE_WIDTH if group in NMA_GROUPS else MD_RESIDUE_WIDTH, residue.shape[1]
        require(found == width, f"{found} residue columns in {store.path}, {group} has {width}; {remedy}")
    part = residue[window].astype(np.float32)
    if group not in NMA_GROUPS:
        valid, rmsf = residue[:, 0] != MISSING, residue[:, RMSF_COLUMN].astype(np.float32)
        largest = rmsf[valid].max(initial=np.finfo(np.float32).tiny)
        part[:, RMSF_COLUMN] = np.where(valid, rmsf / largest, MISSING)[window]
    return torch.from_numpy(input_ids[window].astype(np.int64)), torch.from_numpy(part)


def _half(values: NDArray[np.floating]) -> Tensor:
    """Pair features (..., K) in float16 as `StoreWriter` rounds them: none becomes `MISSING`."""
    half = torch.from_numpy(values).half()  # faster than NumPy
    if values.dtype != np.float16:
        bits = half.numpy().view(np.int16).reshape(-1)  # comparisons of integers are faster than those of float16
        places = np.flatnonzero(bits == HALF_MISSING)  # few
        places = places[values.reshape(-1)[places] != MISSING]
        for channel in guarded_channels(values.shape[-1]):
            bits[places[places % values.shape[-1] == channel]] = NEXT_TO_HALF_MISSING
    return half


def collate(group: str, entries: Sequence[Entry]) -> Batch:
    """Pad entries of one group to the longest of them; those of `load_sample` make a packed batch."""
    size, longest = len(entries), max(len(entry.input_ids) for entry in entries)
    if any(entry.interactions is None for entry in entries):
        entries = [_with_all_channels(entry) for entry in entries]
    input_ids = torch.full((size, longest), PAD_ID)
    residue = torch.full((size, longest, entries[0].residue.shape[-1]), MISSING)
    pair = torch.full((size, longest, longest, entries[0].pair.shape[-1]), MISSING, dtype=entries[0].pair.dtype)
    for row, entry in enumerate(entries):
        n = len(entry.input_ids)
        input_ids[row, :n], residue[row, :n], pair[row, :n, :n] = entry.input_ids, entry.residue, entry.pair
    mask = (input_ids != PAD_ID).long()
    present = _present(group, entries) if any(entry.missing for entry in entries) else None
    names = tuple(entry.name for entry in entries)
    return Batch(group, names, input_ids, mask, residue, pair, present, *_listed(entries, longest))


def _present(group: str, entries: Sequence[Entry]) -> Tensor:
    """(B, properties of the group) bool: whether an entry has a property."""
    return torch.tensor([[name not in entry.missing for name in properties_of_group(group)] for entry in entries])


def _listed(entries: Sequence[Entry], longest: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Places and values of the interactions of a batch, see `Batch`; None if they are not apart."""
    lists = [entry.interactions for entry in entries if entry.interactions is not None]
    if not lists:
        return None, None
    rows = torch.repeat_interleave(torch.tensor([listed.shape[1] for listed in lists]))  # (M,)
    listed = torch.cat(lists, dim=1)  # (4, M)
    first, second, channel = listed[:3].long()
    places = ((rows * longest + first) * longest + second) * MD_PAIR_WIDTH + channel
    small = len(lists) * longest**2 * MD_PAIR_WIDTH <= torch.iinfo(torch.int32).max
    return places.int() if small else places, listed[3].half()


def _with_all_channels(entry: Entry) -> Entry:
    """The same entry, its interactions in the channels of `pair`."""
    if entry.interactions is None:
        return entry
    places, interactions = _listed([entry], len(entry.pair))
    assert places is not None
    assert interactions is not None
    present = _present(GROUPS[0], [entry])  # all groups with interactions have the same properties
    pair = dense_pairs(entry.pair[None], places, interactions, present)[0]
    return entry._replace(pair=pair.to(entry.pair.dtype), interactions=None)


class TrainingSet(Dataset):
    """Samples of the endless stream of each group: in each epoch every entry once, in a new order.

    `sequences` is that of `group_sequences`. Groups without entries are left out, which is logged; InputError if no
    group has any. `seed` determines orders and crops.
    `exchange` is the share of the amino acids that are replaced by random ones; the features stay.
    """

    def __init__(self, store: FeatureStore, sequences: Sequences, seed: int, exchange: float = 0.0) -> None:
        self.groups = tuple(group for group in ALL_GROUPS if sequences.get(group))
        require(self.groups, f"{store.path}: no training entry; the table needs train entries that are in the store")
        if absent := [group for group in GROUPS if group not in self.groups]:
            trained = ", ".join(self.groups)
            LOGGER.warning("warning: no training entry of %s; training on %s alone", ", ".join(absent), trained)
        self.store, self.sequences, self.seed, self.exchange = store, sequences, seed, exchange
        self._lengths = {  # group -> tokens of its entries
            group: [2 + len(split_tokens(sequence)) for _, sequence in sequences[group]] for group in self.groups
        }
        self._orders: dict[str, tuple[int, NDArray[np.int64]]] = {}  # group -> most recent epoch and its order

    def _random(self, group: str, stream: int, number: int) -> np.random.Generator:
        seed = np.random.SeedSequence([self.seed, ALL_GROUPS.index(group), stream, number])
        return np.random.Generator(np.random.Philox(seed))

    def entry_index(self, group: str, counter: int) -> int:
        """Index of the entry that is the `counter`-th sample of the group."""
        size = len(self.sequences[group])
        epoch, position = divmod(counter, size)
        if self._orders.get(group, (-1,))[0] != epoch:
            self._orders[group] = epoch, self._random(group, _ORDER, epoch).permutation(size)
        return int(self._orders[group][1][position])

    def tokens(self, draw: Draw) -> int:
        """Length of a sample."""
        return min(draw.length, self._lengths[draw.group][self.entry_index(draw.group, draw.counter)])

    def __getitem__(self, draw: Draw) -> Entry:
        index = self.entry_index(draw.group, draw.counter)
        name, modify_seq = self.sequences[draw.group][index]
        excess = self._lengths[draw.group][index] - draw.length
        start = int(self._random(draw.group, _CROP, draw.counter).integers(excess + 1)) if excess > 0 else 0
        entry = load_sample(self.store, name, modify_seq, draw.group, start, draw.length)
        if self.exchange:
            random = self._random(draw.group, _EXCHANGE, draw.counter)
            ids = entry.input_ids.numpy()  # (T,), this sample's own
            exchanged = np.isin(ids, AMINO_ACID_IDS) & (random.random(len(ids)) < self.exchange)
            ids[exchanged] = random.choice(AMINO_ACID_IDS, int(exchanged.sum()))
        return entry

    def __getitems__(self, draws: list[Draw]) -> Batch | InputError:
        """One batch; returns an InputError, because a worker that raises it would add its traceback to the message."""
        try:
            return collate(draws[0].group, [self[draw] for draw in draws])
        except InputError as error:
            return error


def _prepare_worker(_: int) -> None:
    """Ignore the signals that stop the training: the main process still needs its workers."""
    for number in StopSignal.SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _identity(batch: Any) -> Any:
    return batch


def batches(
    dataset: TrainingSet, draws: Iterable[list[Draw]], workers: int, pin_memory: bool, ahead: int = 0
) -> Generator[Batch]:
    """Batches of `draws` in order, read ahead by `workers` processes, at least `ahead` of them (0: by this one).

    Close the iterator (`contextlib.closing`) to end the workers. Raises InputError if an entry cannot be used.
    """
    dataset.store.close()  # workers must not inherit an open file
    loader: DataLoader = DataLoader(
        dataset,
        batch_sampler=draws,
        collate_fn=_identity,
        num_workers=workers,
        prefetch_factor=max(2, -(-ahead // workers)) if workers else None,
        worker_init_fn=_prepare_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # does not touch the random state of the training
    )
    stream = iter(loader)
    try:
        for batch in stream:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    finally:
        if workers:  # they ignore SIGTERM, so Python would wait for them forever
            stream._shutdown_workers()  # type: ignore[attr-defined]


def default_workers(device: torch.device) -> int:
    """Default number of reader processes: none on a CPU, for a GPU its share of the cores, at least one."""
    if device.type == "cpu":
        return 0
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
