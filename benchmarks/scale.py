"""CPU time per entry and peak memory of the steps of a data set by its number of entries (Linux).

    python benchmarks/scale.py [--entries 600 6000 60000] [--update 150000]

The entries are made up: proteins of 20 to 40 residues in families of three, the three training groups in turn, random
features that are drawn once for each length and kind, and a small change of each entry. Steps, each in a process of its
own after the imports:

- write: both halves with `StoreWriter`, the spread kept with each entry as `seqdance prepare` does;
- merge, check: `merge_stores` of the halves, `check_store` with the table;
- split, file and split, mmseqs: clusters, labels and table, from a file and, if it is on the PATH, from MMseqs2, whose
  own memory is not counted;
- loss weights: `baselines` and `loss_weights`;
- start: table, store and loss weights opened for training, and the first batch of each group, sorted by length;
- resume: in a training set that is open, the first batch of each group after `--update` updates.

The growth is the CPU time per entry with the most entries divided by that with the fewest, and the difference of their
peak memory. A step that takes the same time per entry, or less, and needs no more memory scales.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse.csgraph  # noqa: F401  # imported by the split when it is needed; not what is measured
import tyro
from measure import in_child, peak_growth
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from data_prepare.dataset.check import check_store
from data_prepare.dataset.loss_weights import SPREAD, baselines, entry_spread, loss_weights, write_loss_weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_writer import StoreWriter, merge_stores
from data_prepare.dataset.table import read_table, write_table
from data_prepare.dataset.token_space import md_entry, nma_entry
from data_prepare.errors import require
from data_prepare.pipeline.split import Split
from data_prepare.properties import GROUPS, NMA_GROUPS, SOURCES_OF_GROUP
from model.config import TrainConfig
from model.training.dance_trainer import open_data
from model.training.data import TrainingSet, batches
from model.training.schedule import draws

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]
Action = Callable[[], object]
LENGTHS: Final = range(20, 41)  # residues
FAMILY: Final = 3  # proteins of similar sequence
AMINO_ACIDS: Final = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    entries: tuple[int, ...] = (600, 6_000, 60_000)
    """Numbers of entries, the fewest first."""
    update: int = 150_000
    """Updates before the resumed one."""


def made_up_table(entries: int) -> pd.DataFrame:
    """Training table without labels; the members of a family differ in one residue."""
    rng = np.random.default_rng(0)
    sequences = []
    for _ in range(0, entries, FAMILY):
        letters = rng.choice(AMINO_ACIDS, rng.integers(LENGTHS.start, LENGTHS.stop))
        for _ in range(FAMILY):
            letters[rng.integers(len(letters))] = rng.choice(AMINO_ACIDS)
            sequences.append("".join(letters))
    names = [f"p{number:06}" for number in range(entries)]
    groups = [GROUPS[number % len(GROUPS)] for number in range(entries)]
    sources = [SOURCES_OF_GROUP[group][0] for group in groups]
    columns = {"name": names, "modify_seq": sequences[:entries], "source": sources, "group": groups, "label": ""}
    return pd.DataFrame(columns)


def made_up_features(residues: int, md: bool, rng: np.random.Generator) -> Arrays:
    """An entry of molecular dynamics or of normal modes that passes the check."""
    correlation = np.asarray(np.corrcoef(rng.normal(size=(residues, 6))))  # (N, N)
    if not md:
        return nma_entry(rng.random((3, residues)), np.stack([correlation] * 3), [residues])
    residue = rng.random((residues, 47))
    for first, width in ((3, 8), (11, 12), (23, 12), (35, 12)):
        residue[:, first : first + width] /= residue[:, first : first + width].sum(axis=1, keepdims=True)
    contacts = (rng.random((residues, residues, 9)) < 0.05) * rng.random((residues, residues, 9))
    return md_entry(residue, np.concatenate([contacts, correlation[..., None]], axis=2), [residues])


def write(folder: Path) -> Action:
    """Every other entry in a store, the others in another: names of the two alternate."""
    rng = np.random.default_rng(0)
    drawn = {(residues, md): made_up_features(residues, md, rng) for residues in LENGTHS for md in (True, False)}
    kinds = {True: GROUPS[0], False: NMA_GROUPS[0]}
    spreads = {key: json.dumps(entry_spread(*arrays, kinds[key[1]])) for key, arrays in drawn.items()}
    table = read_table(folder / "table.csv", labelled=False)
    rows = list(zip(table["name"], table["modify_seq"], table["group"], strict=True))

    def action() -> None:
        for half in (0, 1):
            with StoreWriter(folder / f"half{half}.h5") as store:
                for name, sequence, group in rows[half::2]:
                    key = len(sequence), group not in NMA_GROUPS
                    residue, pair = drawn[key]
                    residue = residue.copy()
                    residue[1:-1, 0] *= 1 + rng.random(dtype=np.float32)
                    store.add(name, residue, pair, {"modify_seq": sequence, SPREAD: spreads[key]})

    return action


def merge(folder: Path) -> Action:
    """One store of both halves."""
    return lambda: merge_stores([folder / "half0.h5", folder / "half1.h5"], folder / "features.h5")


def check(folder: Path) -> Action:
    """Check the merged store."""

    def action() -> None:
        problems = check_store(folder / "features.h5", folder / "table.csv")
        require(not problems, f"{len(problems)} problems, such as {problems[:1]}")

    return action


def split(folder: Path, clusters: Path | None) -> Action:
    """Label the entries and write the table."""

    def action() -> None:
        table, _ = Split(clusters=clusters).label(read_table(folder / "table.csv", labelled=False), {})
        write_table(folder / "table.csv", table)

    return action


def balance(folder: Path) -> Action:
    """Loss weights of the training entries."""

    def action() -> None:
        with FeatureStore(folder / "features.h5") as store:
            values = loss_weights(baselines(store, read_table(folder / "table.csv")))
        write_loss_weights(folder / "loss_weights.csv", values)

    return action


def options(folder: Path) -> TrainConfig:
    """The published training."""
    table, weights = folder / "table.csv", folder / "loss_weights.csv"
    return TrainConfig(table=table, store=folder / "features.h5", loss_weights=weights)


def first_batches(config: TrainConfig, data: TrainingSet, update: int) -> None:
    """Read the first batch of each group after some updates of the short stage."""
    seen = update * config.short.micro_batch * config.short.accumulation
    samples = draws(config, update, seen, update + 1, groups=data.groups, tokens=data.tokens)
    stream = batches(data, samples, workers=0, pin_memory=False)
    for group in data.groups:
        require(next(stream).group == group, "batches of the groups in turn")
    stream.close()


def start(folder: Path) -> Action:
    """Open the data of a training and read its first batches."""
    config = options(folder)
    return lambda: first_batches(config, open_data(config)[0], 0)


def resume(folder: Path, update: int) -> Action:
    """Read the first batches after some updates."""
    config = options(folder)
    data, _ = open_data(config)
    return lambda: first_batches(config, data, update)


class Cost(NamedTuple):
    """What a step takes."""

    seconds: float  # CPU time of the process and of the programs that it calls
    megabytes: float  # that the peak of the memory lies above what is resident before


def cost(step: Callable[..., Action], *arguments: object) -> Cost:
    """Cost of a step, without what it prepares."""
    took: list[float] = []
    with threadpool_limits(1):
        action = step(*arguments)

        def timed() -> None:
            begin = sum(os.times()[:4])
            action()
            took.append(sum(os.times()[:4]) - begin)

        grown = peak_growth(timed)
    return Cost(took[0], grown)


def costs(folder: Path, entries: int, update: int) -> dict[str, Cost]:
    """Cost of each step with so many entries, which are made in a folder; prints each."""
    table = made_up_table(entries)
    write_table(folder / "table.csv", table)
    clusters = folder / "clusters.tsv"
    lines = (f"{table['name'][FAMILY * (k // FAMILY)]}\t{name}\n" for k, name in enumerate(table["name"]))
    clusters.write_text("".join(lines))
    steps: dict[str, tuple[Callable[..., Action], *tuple[object, ...]]] = {
        "write": (write, folder),
        "merge": (merge, folder),
        "check": (check, folder),
    }
    if which("mmseqs"):
        steps["split, mmseqs"] = (split, folder, None)
    steps |= {"split, file": (split, folder, clusters), "loss weights": (balance, folder), "start": (start, folder)}
    steps["resume"] = (resume, folder, update)
    found = {}
    for name, step in steps.items():
        found[name] = in_child(cost, *step)
        seconds, megabytes = found[name]
        per_entry = f"{1e3 * seconds / entries:9.4f} ms/entry"
        print(f"  {name:14} {seconds:8.2f} s {per_entry} {megabytes:8.1f} MB", flush=True)
    return found


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    found: dict[int, dict[str, Cost]] = {}
    for entries in arguments.entries:
        print(f"{entries} entries", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found[entries] = costs(Path(folder), entries, arguments.update)
    few, many = arguments.entries[0], arguments.entries[-1]
    print(f"growth from {few} to {many} entries")
    for name in found[many]:
        less, more = found[few][name], found[many][name]
        ratio = more.seconds / many / (less.seconds / few)
        grown = more.megabytes - less.megabytes
        per_entry = 1e3 * grown / max(1, many - few)
        print(f"  {name:14} {ratio:6.2f} x time per entry, {grown:+8.1f} MB ({per_entry:.2f} kB per entry)")


if __name__ == "__main__":
    main()
