"""CPU time of the readers and bytes for the device, per update: ours, and features read and collated in float32.

    python benchmarks/loader.py [--entries 12] [--repeats 3] [--dtype float32]

Entries are those of `store.py` with 100 to 1,000 residues, in a store of ours and in one of format 1, for the plain
form: as the reader of format 1 did, it opens datasets with h5py, reads dense features from compressed chunks of ten
channels as float32, and pads them. An update uses 32 entries of each group, read in the order of training: 2 batches
of 16 crops of 256 tokens, or 16 batches of 2 at 1,024. CPU time is that of this process, with one thread.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import torch
import tyro
from measure import Timing, compare, line
from threadpoolctl import threadpool_limits
from torch import Tensor

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import SUFFIXES, StoreDtype
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.errors import InputError
from data_prepare.properties import GROUPS, MISSING, NMA_GROUPS
from model.config import TRAIN_PRESETS, Stage
from model.network.tokenizer import PAD_ID, tokenize
from model.training.data import RMSF_COLUMN, TrainingSet
from model.training.schedule import Draw, draws

sys.path.insert(0, str(Path(__file__).parent))
from store import Entry, made_up

STAGES = (Stage(length=256, micro_batch=16, accumulation=2), Stage(length=1024, micro_batch=2, accumulation=16))


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    entries: int = 12
    """Proteins, as many of 100 as of 1,000 residues."""
    updates: int = 2
    """Updates of each run."""
    dtype: StoreDtype = "float32"
    """Of both stores."""
    timing: Timing = field(default_factory=lambda: Timing(threads=1, clock="cpu", repeats=3))


def write_format_1(path: Path, entries: dict[str, Entry], dtype: str) -> None:
    """A store as it was before interactions had a list."""
    blosc = hdf5plugin.Blosc2
    with h5py.File(path, "w") as file:
        file.attrs["seqdance_format"] = 1
        for name, arrays in entries.items():
            for suffix, values in zip(SUFFIXES, arrays, strict=True):
                chunks = (min(len(values), 64 if values.ndim == 3 else 256),) * (values.ndim - 1) + values.shape[-1:]
                shuffle = blosc.NOFILTER if values.shape[-1] == 10 else blosc.SHUFFLE
                filters = blosc(cname="zstd", clevel=1, filters=shuffle)
                file.create_dataset(f"{name}{suffix}", data=values.astype(dtype), chunks=chunks, **filters)


def opened(file: h5py.File, name: str, suffix: str) -> h5py.Dataset:
    """A dataset, with the checks of the reader of format 1, which opened it anew for each question."""
    key = f"{name}{suffix}"
    assert key in file
    assert file.id.links.get_info(key.encode()).type == h5py.h5l.TYPE_HARD
    dataset = file[key]
    assert not dataset.is_virtual
    assert not dataset.external
    assert dataset.dtype.kind == "f"
    assert dataset.nbytes <= 2**14 * dataset.id.get_storage_size()
    return dataset


def plain_batch(data: TrainingSet, file: h5py.File, draws: Sequence[Draw]) -> list[Tensor]:
    """Token ids, mask and features of a batch, dense and in float32 from the start."""
    rows = []
    for draw in draws:
        name, sequence = data.sequences[draw.group][data.entry_index(draw.group, draw.counter)]
        excess = len(opened(file, name, SUFFIXES[0])) - draw.length
        start = int(data._random(draw.group, 1, draw.counter).integers(excess + 1)) if excess > 0 else 0
        stop = start + draw.length
        ids = tokenize([sequence])["input_ids"][0][start:stop]
        assert len(ids) == min(draw.length, len(opened(file, name, SUFFIXES[0])))
        of_residues, of_pairs = (opened(file, name, suffix) for suffix in SUFFIXES)
        residue = of_residues[start:stop].astype(np.float32, copy=False)
        pair = of_pairs[start:stop, start:stop].astype(np.float32, copy=False)
        if draw.group not in NMA_GROUPS:
            whole = opened(file, name, SUFFIXES[0])[:].astype(np.float32, copy=False)
            valid = residue[:, 0] != MISSING
            residue[valid, RMSF_COLUMN] /= whole[whole[:, 0] != MISSING, RMSF_COLUMN].max()
        assert "missing_properties" not in opened(file, name, SUFFIXES[0]).attrs
        rows.append((ids, torch.from_numpy(residue), torch.from_numpy(pair)))
    longest = max(len(ids) for ids, _, _ in rows)
    input_ids = torch.full((len(rows), longest), PAD_ID)
    residues = torch.full((len(rows), longest, rows[0][1].shape[-1]), MISSING)
    pairs = torch.full((len(rows), longest, longest, rows[0][2].shape[-1]), MISSING)
    for k, (ids, residue, pair) in enumerate(rows):
        n = len(ids)
        input_ids[k, :n], residues[k, :n], pairs[k, :n, :n] = ids, residue, pair
    return [input_ids, (input_ids != PAD_ID).long(), residues, pairs]


def megabytes(batch: Sequence[object] | InputError) -> float:
    """Of the tensors of a batch."""
    tensors = () if isinstance(batch, InputError) else batch
    return sum(part.nbytes for part in tensors if isinstance(part, Tensor)) / 1e6


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    rng = np.random.default_rng(0)
    entries: dict[str, Entry] = {}
    sequences: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    for number, residues in enumerate(np.linspace(100, 1000, arguments.entries).astype(int)):
        md, nma = made_up(int(residues), rng).values()
        letters = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), residues))
        for group in GROUPS:
            entries[f"{group}{number}"] = nma if group in NMA_GROUPS else md
            sequences[group].append((f"{group}{number}", letters))
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(arguments.timing.threads):
        torch.set_num_threads(arguments.timing.threads)
        ours, plain = Path(folder, "ours.h5"), Path(folder, "format1.h5")
        with StoreWriter(ours, arguments.dtype) as writer:
            for name, arrays in entries.items():
                writer.add(name, *arrays)
        write_format_1(plain, entries, arguments.dtype)
        data, file = TrainingSet(FeatureStore(ours), sequences, seed=0), h5py.File(plain)
        print(f"{len(entries)} entries, {arguments.dtype}, {line_of_sizes(ours, plain)}")
        for stage in STAGES:
            config = replace(TRAIN_PRESETS["seqdance"], short=stage)
            samples = list(draws(config, 0, 0, arguments.updates, tokens=data.tokens))
            of_all = np.zeros((2, 2))  # seconds and megabytes of both
            for group in GROUPS:
                batches = [batch for batch in samples if batch[0].group == group]
                read: tuple[Callable, Callable] = (
                    lambda batches=batches: [megabytes(data.__getitems__(batch)) for batch in batches],
                    lambda batches=batches: [megabytes(plain_batch(data, file, batch)) for batch in batches],
                )
                took = np.array(compare(*read, arguments.timing)[:2]) / arguments.updates
                sizes = np.array([sum(action()) for action in read]) / arguments.updates
                of_all += (took, sizes)
                report(f"{stage.length} tokens, {group}", took, sizes)
            report(f"{stage.length} tokens, update", *of_all)


def line_of_sizes(ours: Path, plain: Path) -> str:
    """Sizes of both files."""
    sizes = [path.stat().st_size / 1e6 for path in (ours, plain)]
    return f"{sizes[0]:.1f} MB, in format 1 {sizes[1]:.1f} MB ({sizes[0] / sizes[1]:.2f})"


def report(what: str, took: np.ndarray, sizes: np.ndarray) -> None:
    """Core-seconds of both, and megabytes for the device."""
    print(line(what, 1e3 * took[0], 1e3 * took[1], took[1] / took[0], "ms"))
    print(line("", sizes[0], sizes[1], sizes[1] / sizes[0], "MB"), flush=True)


if __name__ == "__main__":
    main()
