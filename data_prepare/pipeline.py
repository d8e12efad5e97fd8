"""Entries -> store, training table and loss weights, in parallel and resumable.

Each entry is one task whose result is a file of its own, written whole or not at all. A second run takes what is there
and makes the rest; an entry that fails is recorded with its reason in `failures.csv` and the others go on.
"""

from __future__ import annotations

import csv
import multiprocessing
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from data_prepare.errors import InputError, run_command
from data_prepare.files import whole_file
from data_prepare.loss_weights import baselines, loss_weights, write_loss_weights
from data_prepare.properties import GROUP_OF_SOURCE, GROUPS
from data_prepare.sequence import modify_seq
from data_prepare.sources import Entry, read_manifest
from data_prepare.store import FeatureStore, StoreWriter, md_entry, nma_entry
from data_prepare.structure import read_topology
from data_prepare.table import read_table, write_table

STORE: Final = "features.h5"
TABLE: Final = "table.csv"
LOSS_WEIGHTS: Final = "loss_weights.csv"
FAILURES: Final = "failures.csv"
FEATURES_VERSION: Final = 1  # raised when features change, so that entries are made again
ENTRIES: Final = "entries"  # folder of the results of single entries


class EntryFeatures(NamedTuple):
    """What the store and the table take of an entry.

    Attributes
    ----------
    residue, pair
        (L, 47 or 3) and (L, L, 10 or 3) float32 in token space.
    modify_seq
        Its chains joined by `<eos><cls>`.
    """

    residue: NDArray[np.float32]
    pair: NDArray[np.float32]
    modify_seq: str


def entry_features(entry: Entry) -> EntryFeatures:
    """Features of one entry: of its trajectory if it has one, else of its normal modes."""
    # the libraries of trajectories take seconds to import: only a task needs them
    from data_prepare.molecular_dynamics.features import md_features, residue_array
    from data_prepare.normal_mode_analysis.NMA_features import structure_features

    if entry.trajectory is None:
        topology, nma = structure_features(entry.topology)
        residue, pair = nma_entry(nma.gnm_msf, nma.anm_cor, topology.chain_lengths)
    else:
        system = read_topology(entry.topology)
        md = md_features(system, entry.trajectory)
        topology = system.protein
        residue, pair = md_entry(residue_array(md.residue), md.pair, topology.chain_lengths)
    return EntryFeatures(residue, pair, modify_seq(topology.chain_sequences()))


def _result_path(folder: Path, entry: Entry) -> Path:
    return folder / ENTRIES / f"{entry.name}.npz"


def _fingerprint(entry: Entry) -> str:
    """What the result of an entry depends on: another file, or a changed one, is made again."""
    paths = [entry.topology] + ([entry.trajectory] if entry.trajectory else [])
    stats = [(path.resolve(), path.stat()) for path in paths if path.exists()]
    files = ";".join(f"{path}:{stat.st_size}:{stat.st_mtime_ns}" for path, stat in stats)
    return f"{FEATURES_VERSION};{files}"


def _is_made(folder: Path, entry: Entry) -> bool:
    try:
        with np.load(_result_path(folder, entry)) as result:
            return str(result["fingerprint"]) == _fingerprint(entry)
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error):
        return False


def _make_entry(entry: Entry, folder: Path) -> str | None:
    """Write the result of one entry; returns the reason if it cannot be made."""
    try:
        with threadpool_limits(1):  # one task a core: threads of BLAS would only get in each other's way
            features = entry_features(entry)
        with whole_file(_result_path(folder, entry)) as temporary:
            np.savez_compressed(temporary, fingerprint=_fingerprint(entry), **features._asdict())
    except InputError as error:
        return " ".join(str(error).split())
    except Exception as error:  # whatever it is: one entry must not stop the others
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _make_entries(entries: Sequence[Entry], folder: Path, workers: int) -> dict[str, str]:
    """Make the results that are not there yet; returns name -> reason of those that failed."""
    todo = [entry for entry in entries if not _is_made(folder, entry)]
    failures: dict[str, str] = {}
    with tqdm(total=len(entries), initial=len(entries) - len(todo), desc="features", unit="entry") as bar:
        if workers == 1:
            for entry in todo:
                if reason := _make_entry(entry, folder):
                    failures[entry.name] = reason
                bar.update()
            return failures
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            futures: dict[Future[str | None], Entry] = {
                pool.submit(_make_entry, entry, folder): entry for entry in todo
            }
            for future in as_completed(futures):
                try:
                    reason = future.result()
                except BrokenProcessPool:
                    reason = "its worker was killed (out of memory?); run again to try it once more"
                if reason:
                    failures[futures[future].name] = reason
                bar.update()
    return failures


def _write_failures(path: Path, failures: dict[str, str]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "reason"))
        writer.writerows(sorted(failures.items()))


def _merge(entries: Sequence[Entry], folder: Path, failures: dict[str, str]) -> None:
    """Write store and table of the entries that did not fail."""
    rows = []
    with StoreWriter(folder / STORE) as store:
        for entry in tqdm(entries, desc="store", unit="entry"):
            if entry.name in failures:
                continue
            with np.load(_result_path(folder, entry)) as result:
                store.add(entry.name, result["residue"], result["pair"])
                rows.append((entry.name, str(result["modify_seq"]), entry.source, entry.label))
    write_table(folder / TABLE, pd.DataFrame(rows, columns=["name", "modify_seq", "source", "label"]))


@dataclass(frozen=True)
class PrepareConfig:
    """Make a feature store, a training table and loss weights from structures and trajectories."""

    manifest: Path
    """CSV with the columns name, source, label, topology, trajectory; paths relative to it."""
    out: Path
    """Folder of features.h5, table.csv, loss_weights.csv and failures.csv."""
    workers: int = 1
    """Processes, one entry each."""
    debug: bool = False
    """Show the traceback of an error."""


def prepare(config: PrepareConfig) -> int:
    """Make what is not there yet.

    Returns
    -------
    Number of entries that failed; their reasons are in `failures.csv`.
    """
    if config.workers < 1:
        raise InputError(f"--workers {config.workers}: expected 1 or more")
    entries = read_manifest(config.manifest)
    trained = {GROUP_OF_SOURCE[entry.source] for entry in entries if entry.label == "train"}
    if absent := [group for group in GROUPS if group not in trained]:
        raise InputError(
            f"{config.manifest}: no entry labelled train of {', '.join(absent)}; loss weights need each group"
        )
    failures = _make_entries(entries, config.out, config.workers)
    _write_failures(config.out / FAILURES, failures)
    if len(failures) == len(entries):
        raise InputError(f"{config.manifest}: no entry could be made; {config.out / FAILURES} tells why")
    _merge(entries, config.out, failures)
    with FeatureStore(config.out / STORE) as store:
        weights = loss_weights(baselines(store, read_table(config.out / TABLE)))
    write_loss_weights(config.out / LOSS_WEIGHTS, weights)
    return len(failures)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `seqdance prepare`; exit code 1 if some entries failed."""
    config = tyro.cli(PrepareConfig, args=args)
    failed = run_command(lambda: prepare(config), config.debug)
    for name in (STORE, TABLE, LOSS_WEIGHTS):
        print(config.out / name)
    if failed:
        print(f"error: {failed} entries failed, see {config.out / FAILURES}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
