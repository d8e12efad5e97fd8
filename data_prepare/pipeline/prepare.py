"""Command `seqdance prepare`: a source of raw data -> store, training table and loss weights.

    seqdance prepare --source atlas --raw DIR --out data/features.h5 --workers 8
    seqdance prepare --merge a/features.h5 b/features.h5 c/features.h5 --out all/features.h5
    seqdance prepare --check all/features.h5

Each entry is a task whose result is a file of its own (`extraction.py`); the results are joined to the store. A second
run takes what is there and makes the rest; an entry that fails is recorded with its reason in `failures.csv` and the
others go on.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Final, Literal

import pandas as pd
import tyro
from tqdm import tqdm

from data_prepare.dataset.check import check_store
from data_prepare.dataset.loss_weights import baselines, loss_weights, write_loss_weights
from data_prepare.dataset.splits import entry_clusters, mmseqs_clusters, read_clusters, split_by_cluster
from data_prepare.dataset.store import FeatureStore, StoreWriter, merge_stores
from data_prepare.dataset.table import COLUMNS, join_tables, read_table, write_table
from data_prepare.errors import InputError, run_command
from data_prepare.files import whole_file
from data_prepare.pipeline.extraction import Task, result_attributes, run_tasks
from data_prepare.properties import FEATURES, GROUPS, group_of
from data_prepare.sources.entry import Entry, Selection
from data_prepare.sources.manifest import read_manifest
from data_prepare.sources.registry import SOURCES, list_source

STORE: Final = "features.h5"
TABLE: Final = "table.csv"
LOSS_WEIGHTS: Final = "loss_weights.csv"
FAILURES: Final = "failures.csv"
MADE_OF: Final = "made_of"  # attribute of the store: digest of the results in it


@dataclass(frozen=True)
class PrepareConfig:
    """Make a store, a training table and loss weights from structures and trajectories; merge or check stores."""

    out: Path | None = None
    """Store to make, FOLDER/NAME.h5; table.csv, loss_weights.csv and failures.csv go beside it."""
    source: Literal[tuple(SOURCES)] | None = None  # type: ignore[valid-type]
    """What the raw data are: a published source, or a plain folder of structures or of trajectories."""
    raw: Path | None = None
    """Folder of the raw data."""
    manifest: Path | None = None
    """Instead of a source: CSV with the columns name, source, label, topology, trajectory; paths relative to it."""
    merge: tuple[Path, ...] = ()
    """Stores to merge into one, with the tables beside them."""
    check: Path | None = None
    """Store to verify, with the table beside it if there is one."""
    workers: int = 1
    """Processes on this machine, one entry each."""
    scheduler: str | None = None
    """Address of a Dask scheduler, tcp://host:8786, instead of processes here."""
    begin: int = 0
    """First frame of each trajectory."""
    end: int | None = None
    """Last frame of each trajectory, inclusive."""
    stride: int = 1
    """Use every stride-th frame."""
    select: tuple[str, ...] = ()
    """Ids of the chains to use; by default all."""
    properties: tuple[Literal[tuple(FEATURES)], ...] = FEATURES  # type: ignore[valid-type]
    """Property families of trajectories; those left out cost no time, are 0 in the store and get the loss weight 0."""
    temperatures: tuple[int, ...] = (348,)
    """Of mdCATH, K; each is an entry of its own."""
    dtype: Literal["float32", "float16"] | None = None
    """Of the numbers in the store: float32 unless merged stores are float16, which is half the size."""
    clusters: Path | None = None
    """TSV of representative and member (MMseqs2's *_cluster.tsv) for the split; by default mmseqs makes it."""
    identity: float = 0.5
    """Sequence identity of the clusters that mmseqs makes."""
    test_share: float = 0.05
    """Share of test entries."""
    seed: int = 0
    """Seed of the split."""
    keep_labels: bool = False
    """When stores are merged: keep the labels of their tables instead of a new split of all entries."""
    limit: int | None = None
    """Use only the first entries, in the order of their names."""
    dry_run: bool = False
    """Only list the entries and what is to be done."""
    debug: bool = False
    """Show the traceback of an error."""


def store_path(out: Path) -> Path:
    """The store: `out` itself, or features.h5 in the folder `out`."""
    return out if out.suffix in (".h5", ".hdf5") else out / STORE


def _entries(config: PrepareConfig) -> list[Entry]:
    """What the source has, in the order of names."""
    if config.manifest is not None and config.source is None:
        entries = read_manifest(config.manifest)
    elif config.source is not None and config.raw is not None and config.manifest is None:
        entries = list_source(config.source, config.raw, config.temperatures)
    else:
        raise InputError("prepare: give --source and --raw, or --manifest; or --merge, or --check")
    return sorted(entries, key=lambda entry: entry.name)[: config.limit]


def _results_folder(store: Path) -> Path:
    """Folder of the results of single entries; another store's beside it would share table and failures."""
    folder = store.with_suffix(".entries")
    if others := sorted(path.stem for path in store.parent.glob("*.entries") if path != folder):
        raise InputError(
            f"{store.parent}: holds the results of {', '.join(others)} already; give {store.name} its own folder"
        )
    return folder.resolve()


def _check_config(config: PrepareConfig) -> None:
    if config.workers < 1:
        raise InputError(f"--workers {config.workers}: expected 1 or more")
    if config.limit is not None and config.limit < 1:
        raise InputError(f"--limit {config.limit}: expected 1 or more")
    if config.begin < 0 or config.stride < 1 or (config.end is not None and config.end < config.begin):
        raise InputError("--begin, --end, --stride: expected 0 <= begin <= end and stride >= 1")
    if not 0 < config.test_share < 1:
        raise InputError(f"--test-share {config.test_share}: expected a number between 0 and 1")
    if not config.properties:
        raise InputError(f"--properties: name at least one of {', '.join(FEATURES)}")


def prepare(config: PrepareConfig) -> int:
    """Make what is not there yet.

    Returns
    -------
    Number of entries that failed; their reasons are in `failures.csv`.
    """
    _check_config(config)
    if config.out is None:
        raise InputError("prepare: --out is missing; give the store to make, FOLDER/NAME.h5")
    entries = _entries(config)
    store = store_path(config.out)
    folder = _results_folder(store)
    reading = Selection(begin=config.begin, end=config.end, stride=config.stride, chains=config.select)
    dtype = config.dtype or "float32"
    tasks = [Task(entry, reading, config.properties, dtype, folder) for entry in entries]
    made = {task.entry.name: found for task in tasks if (found := result_attributes(task)) is not None}
    if config.dry_run:
        for task in tasks:
            state = "made" if task.entry.name in made else f"{task.entry.size / 1e6:.1f} MB"
            print(f"{task.entry.name}\t{task.entry.source}\t{state}")
        print(f"{len(tasks)} entries, {len(made)} made already, {len(tasks) - len(made)} to make in {store}")
        return 0

    todo = [task for task in tasks if task.entry.name not in made]
    failures = run_tasks(todo, len(made), config.workers, config.scheduler)
    for leftover in folder.glob(".*.tmp.h5"):  # of workers that were killed
        leftover.unlink()
    _write_failures(store.parent / FAILURES, failures)
    if len(failures) == len(tasks):
        raise InputError(f"{store}: no entry could be made; {store.parent / FAILURES} tells why")
    table = _join([task for task in tasks if task.entry.name not in failures], made, store, dtype)
    if (table["label"] == "").any():
        table = _split(table, config)
    write_table(store.parent / TABLE, table)
    _weigh(store)
    return len(failures)


def _write_failures(path: Path, failures: Mapping[str, str]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "reason"))
        writer.writerows(sorted(failures.items()))


def _join(
    tasks: Sequence[Task],
    made: Mapping[str, Mapping[str, object]],
    store: Path,
    dtype: Literal["float32", "float16"],
) -> pd.DataFrame:
    """Join results to the store, unless it is made of them; returns the table, labels as the entries have them.

    `made` has the attributes of the results that were there before the run.
    """
    rows = []
    digest = hashlib.sha256()
    for task in tasks:
        attributes = made.get(task.entry.name) or result_attributes(task)
        if attributes is None:
            raise InputError(f"{task.result}: its raw data have changed during the run; run again")
        digest.update(f"{task.entry.name}\n{attributes['fingerprint']}\n".encode())
        group = group_of(task.entry.source, task.entry.group)
        rows.append((task.entry.name, attributes["modify_seq"], task.entry.source, group, task.entry.label))
        if notes := attributes["notes"]:
            print(f"note: {task.entry.name}: {notes}", file=sys.stderr)
    if not (store.is_file() and _attribute(store, MADE_OF) == digest.hexdigest()):
        with StoreWriter(store, dtype, {MADE_OF: digest.hexdigest()}) as writer:
            for task in tqdm(tasks, desc="store", unit="entry"):
                writer.copy_from(task.result)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _attribute(store: Path, name: str) -> object:
    with FeatureStore(store) as opened:
        return opened.attributes.get(name)


def _split(table: pd.DataFrame, config: PrepareConfig) -> pd.DataFrame:
    """The table with labels by clusters; without labels, and a warning, if there are no clusters."""
    sequences = dict(zip(table["name"], table["modify_seq"], strict=True))
    if config.clusters is not None:
        clusters = entry_clusters(sequences, read_clusters(config.clusters))
    elif which("mmseqs"):
        clusters = mmseqs_clusters(sequences, config.identity, threads=config.workers)
    else:
        print(
            "warning: no split into train and test: mmseqs is not on the PATH (Debian: apt install mmseqs2); "
            "install it or give --clusters FILE, and run again: what is made stays",
            file=sys.stderr,
        )
        return table
    groups = dict(zip(table["name"], table["group"], strict=True))
    labels = split_by_cluster(groups, clusters, groups, config.test_share, config.seed)
    return table.assign(label=table["name"].map(labels))


def _weigh(store: Path) -> None:
    """Write the loss weights, if the store has training entries of each group."""
    path = store.parent / LOSS_WEIGHTS
    table = read_table(store.parent / TABLE, labelled=False)
    trained = set(table["group"][table["label"] == "train"])
    if absent := [group for group in GROUPS if group not in trained]:
        path.unlink(missing_ok=True)
        print(
            f"no loss weights: no training entry of {', '.join(absent)}; merge the stores of all groups for them",
            file=sys.stderr,
        )
        return
    with FeatureStore(store) as opened:
        write_loss_weights(path, loss_weights(baselines(opened, read_table(store.parent / TABLE))))


def merge(config: PrepareConfig) -> None:
    """Merge stores, and the tables beside them if each has one."""
    _check_config(config)
    if config.out is None:
        raise InputError("prepare: --out is missing; give the merged store to make, FOLDER/NAME.h5")
    store = store_path(config.out)
    tables = [path.parent / TABLE for path in config.merge]
    if any((path.parent / TABLE).resolve() == (store.parent / TABLE).resolve() for path in config.merge):
        raise InputError(
            f"{store.parent}: has the table of a store to merge; give the merged store a folder of its own"
        )
    if config.dry_run:
        for path in config.merge:
            with FeatureStore(path) as opened:
                print(f"{path}\t{len(opened.names())} entries")
        return
    merge_stores(config.merge, store, config.dtype)
    if without := [path.name for path, table in zip(config.merge, tables, strict=True) if not table.is_file()]:
        print(f"note: no table and no loss weights: there is no {TABLE} beside {', '.join(without)}", file=sys.stderr)
        return
    table = join_tables(tables)
    if not config.keep_labels:
        table = _split(table, config)
    write_table(store.parent / TABLE, table)
    _weigh(store)


def check(config: PrepareConfig) -> int:
    """Print what is wrong with a store; returns the number of problems."""
    assert config.check is not None
    store = store_path(config.check)
    table = store.parent / TABLE
    problems = check_store(store, table if table.is_file() else None)
    for problem in problems:
        print(problem)
    with FeatureStore(store) as opened:
        print(f"{store}: {len(opened.names())} entries, {len(problems) or 'no'} problems")
    return len(problems)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `seqdance prepare`; exit code 1 if some entries failed or a store has problems."""
    config = tyro.cli(PrepareConfig, args=args)
    if config.check is not None:
        raise SystemExit(bool(run_command(lambda: check(config), config.debug)))
    if config.merge:
        failed = 0
        run_command(lambda: merge(config), config.debug)
    else:
        failed = run_command(lambda: prepare(config), config.debug)
    if config.dry_run or config.out is None:
        return
    store = store_path(config.out)
    for path in (store, *(store.with_name(name) for name in (TABLE, LOSS_WEIGHTS, FAILURES))):
        if path.is_file():
            print(path)
    if failed:
        print(f"error: {failed} entries failed, see {store.with_name(FAILURES)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
