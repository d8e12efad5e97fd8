"""Entries -> result files, one task each, on the cores of this machine or on a Dask cluster.

The result of an entry is a store with this entry alone, written whole or not at all. Its attributes say what it was
made from, so that a later run takes it as it is or makes it again. A worker that dies costs the entries it was at:
Dask hands them to another one, and gives up an entry that has killed several.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from data_prepare.dataset.store import FeatureStore, StoreWriter
from data_prepare.dataset.token_space import md_entry, nma_entry
from data_prepare.errors import InputError, InputWarning
from data_prepare.properties import FEATURES
from data_prepare.sources.entry import Ensemble, Entry, Selection
from data_prepare.structure.sequence import modify_seq

if TYPE_CHECKING:
    from distributed import Client

FEATURES_VERSION: Final = 2  # raised when features change, so that entries are made again
MEMORY_SHARE: Final = 0.8  # of a worker's memory limit that an entry may plan with; Dask pauses a worker there

CONNECT_SECONDS: Final = 30


class EntryFeatures(NamedTuple):
    """What the store and the table take of an entry.

    Attributes
    ----------
    residue, pair
        (L, 47 or 3) and (L, L, 10 or 3) float32 in token space.
    modify_seq
        Its chains joined by `<eos><cls>`, unresolved residues included.
    """

    residue: NDArray[np.float32]
    pair: NDArray[np.float32]
    modify_seq: str


@dataclass(frozen=True)
class Task:
    """One entry, what of it is used, and where its result goes.

    Attributes
    ----------
    entry
        The protein or complex.
    reading
        Its frames and chains.
    families
        Property families of trajectories; those left out are 0.
    dtype
        Of the numbers in the result.
    folder
        Folder of the result files.
    """

    entry: Entry
    reading: Selection
    families: tuple[str, ...]
    dtype: Literal["float32", "float16"]
    folder: Path

    @property
    def result(self) -> Path:
        """File of the result."""
        return self.folder / f"{self.entry.name}.h5"

    def fingerprint(self) -> str:
        """What the result depends on: files that changed, or other options, make another one.

        A file counts by its name, size and time, not by its folder, so that raw data can be moved.
        """
        stats = [(path.name, path.stat()) for path in self.entry.paths if path.exists()]
        files = [f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats]
        families = [name for name in FEATURES if name in self.families]
        return ";".join([f"{FEATURES_VERSION}", self.dtype, f"{self.reading}", ",".join(families), *files])


def entry_features(
    entry: Entry,
    reading: Selection | None = None,
    families: Sequence[str] = FEATURES,
    available: int | None = None,
) -> EntryFeatures:
    """Features of one entry: of its frames if it is an ensemble, else of its normal modes.

    Parameters
    ----------
    entry, reading, families
        See `Task`.
    available
        Bytes that may be used; None is what the machine has.

    Raises
    ------
    InputError
        If the entry cannot be read or has no such features.
    """
    # the libraries of trajectories take seconds to import: only a task needs them
    from data_prepare.molecular_dynamics.features.md_features import md_features
    from data_prepare.normal_mode_analysis.features import nma_features_of

    with entry.open(reading or Selection()) as system:
        if isinstance(system, Ensemble):
            md = md_features(system.topology, system.chunks, features=families, available=available)
            sequences, places = system.topology.protein.full_sequences()
            lengths = [len(sequence) for sequence in sequences]
            arrays = md_entry(md.residue, md.pair, lengths, places)
        else:
            topology, nma = nma_features_of(system.topology, system.xyz, available)
            sequences, places = topology.full_sequences()
            lengths = [len(sequence) for sequence in sequences]
            arrays = nma_entry(nma.gnm_msf, nma.anm_cor, lengths, places)
    return EntryFeatures(*arrays, modify_seq(sequences))


def result_attributes(task: Task) -> Mapping[str, object] | None:
    """Attributes of the result of a task; None if it is not there or was made from something else."""
    if not task.result.is_file():
        return None
    try:
        with FeatureStore(task.result) as store:
            attributes = store.attributes
            return attributes if attributes.get("fingerprint") == task.fingerprint() else None
    except InputError:
        return None


def make_entry(task: Task) -> str | None:
    """Write the result of one entry.

    Returns
    -------
    The reason if it cannot be made.
    """
    try:
        with warnings.catch_warnings(record=True) as noticed, threadpool_limits(1):
            # one task a core: threads of BLAS would only get in each other's way
            warnings.simplefilter("always", InputWarning)
            features = entry_features(task.entry, task.reading, task.families, _memory_of_worker())
        attributes = {
            "fingerprint": task.fingerprint(),
            "modify_seq": features.modify_seq,
            "notes": "; ".join(str(note.message) for note in noticed if note.category is InputWarning),
        }
        with StoreWriter(task.result, task.dtype, attributes) as store:
            store.add(task.entry.name, features.residue, features.pair)
    except InputError as error:
        return " ".join(str(error).split())
    except Exception as error:  # whatever it is: one entry must not stop the others
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _memory_of_worker() -> int | None:
    """Bytes that an entry may use on this Dask worker; None outside of one or without a limit."""
    from distributed import get_worker

    try:
        limit = get_worker().memory_manager.memory_limit
    except ValueError:
        return None
    return int(MEMORY_SHARE * limit) if limit else None


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    """Client of a running scheduler, or of one started here with `workers` processes."""
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise InputError(f"--scheduler {scheduler}: cannot be reached ({error}); is `dask scheduler` up?") from None
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def run_tasks(tasks: Sequence[Task], done: int, workers: int, scheduler: str | None = None) -> dict[str, str]:
    """Make results, the largest entries first, and show the progress.

    Parameters
    ----------
    tasks
        What is to be made.
    done
        Entries that were made before, for the progress bar.
    workers
        Processes on this machine; one works without Dask.
    scheduler
        Address of a Dask scheduler (`tcp://host:8786`), whose workers see the same folders.

    Returns
    -------
    Entry name -> reason, of those that failed.
    """
    tasks = sorted(tasks, key=lambda task: (-task.entry.size, task.entry.name))
    failures: dict[str, str] = {}
    with tqdm(total=done + len(tasks), initial=done, desc="features", unit="entry", smoothing=0.05) as bar:

        def finished(task: Task, reason: str | None) -> None:
            if reason:
                failures[task.entry.name] = reason
                bar.set_postfix(failed=len(failures))
            bar.update()

        if workers == 1 and scheduler is None:
            for task in tasks:
                finished(task, make_entry(task))
        elif tasks:
            with _client(workers, scheduler) as client:
                for task, reason in _results(client, tasks):
                    finished(task, reason)
    return failures


def _results(client: Client, tasks: Sequence[Task]) -> Iterator[tuple[Task, str | None]]:
    """Tasks with the reason of their failure, as they end."""
    from distributed import KilledWorker, as_completed

    futures = {
        client.submit(make_entry, task, key=f"entry-{task.entry.name}", priority=-rank, pure=False): task
        for rank, task in enumerate(tasks)
    }
    for future, result in as_completed(futures, with_results=True, raise_errors=False):
        if future.status == "finished":
            reason = result
        elif isinstance(error := future.exception(), KilledWorker):
            reason = "workers were killed while they were at it (out of memory?); run again with fewer workers"
        else:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        yield futures[future], reason
        future.release()
