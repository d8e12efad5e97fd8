"""Entries -> result files, one task each, on the cores of this machine or on a Dask cluster.

The result of an entry is a store with this entry alone. Its attributes record what it was made from, so that a later
run reuses or replaces it. If a worker is killed, another worker reprocesses its entry; Dask gives up an entry that has
killed several.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import current_thread, main_thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from data_prepare.dataset.loss_weights import SPREAD, entry_spread
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import MISSING_ATTRIBUTE, StoreDtype, entry_file
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.dataset.token_space import md_entry, nma_entry
from data_prepare.errors import InputError, InputWarning, require
from data_prepare.properties import CONFORMATIONS, FEATURES, GROUPS, MD_RESIDUE_WIDTH, NMA_GROUPS
from data_prepare.resume import digest
from data_prepare.signals import held_signals
from data_prepare.sources.entry import Ensemble, Entry, Selection
from data_prepare.structure.sequence import CHAIN_LINKER

if TYPE_CHECKING:
    from distributed import Client

    from data_prepare.molecular_dynamics.frames.trajectory import BrokenFrame, Chunk

FEATURES_VERSION: Final = 6  # increase it when features change, so that no older result is used
MOST_BROKEN: Final = 0.1  # of the frames of an entry that may be left out
MEMORY_SHARE: Final = 0.8  # of a worker's memory limit that an entry may use; Dask pauses a worker beyond it
CONNECT_SECONDS: Final = 30
POLL_SECONDS: Final = 0.1
LAG_SECONDS: Final = 90  # until a file of another machine is seen here

Scheduler = str | AbstractContextManager[str]  # address of a Dask scheduler, or what starts one and ends it


class EntryFeatures(NamedTuple):
    """An entry of the store and its sequence for the table."""

    residue: NDArray[np.float32]  # (L, 47 or 3) in token space
    pair: NDArray[np.float32]  # (L, L, 10 or 3)
    modify_seq: str  # chains joined by `<eos><cls>`, unresolved residues included
    missing: Sequence[str] = ()  # properties that the entry lacks
    left_out: Sequence[BrokenFrame] = ()  # frames that are not among the features


@dataclass(frozen=True)
class Task:
    """One entry, the part of it to use, and where its result goes."""

    entry: Entry
    selection: Selection
    features: tuple[str, ...]  # of `properties.FEATURES`, for a trajectory; the properties of the others are missing
    dtype: StoreDtype
    store: Path  # for which the result is made

    @property
    def result(self) -> Path:
        """File of the result."""
        return entry_file(self.store, self.entry.name)

    def fingerprint(self) -> str:
        """Digest of what the result depends on; of files name, size and time, so that raw data can be moved."""
        stats = [(path.name, path.stat()) for path in self.entry.paths if path.exists()]
        files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        kind = [CONFORMATIONS] if self.entry.group == CONFORMATIONS else []
        kind += ["models"] if self.entry.reads_models else []
        return digest(FEATURES_VERSION, self.dtype, asdict(self.selection), sorted(self.features), files, *kind)

    def key(self) -> str:
        """Name of the task on a Dask scheduler, which would take another task of this name for the same one."""
        return f"entry-{self.entry.name}-{digest(self.result, self.fingerprint())}"


def entry_features(
    entry: Entry, selection: Selection, features: Sequence[str] = FEATURES, available: int | None = None
) -> EntryFeatures:
    """Features of one entry (see `Task`): of the frames of an ensemble, of a conformation, or of its normal modes.

    They use at most `available` bytes, by default those of the machine. InputError if the entry cannot be read or more
    than a tenth of its frames are broken.
    """
    # seconds of import, needed only here
    from data_prepare.molecular_dynamics.features.md_features import conformation_features, md_features
    from data_prepare.normal_mode_analysis.features import nma_features_of

    with entry.open(selection) as system:
        if isinstance(system, Ensemble) or entry.group == CONFORMATIONS:
            left_out: Sequence[BrokenFrame] = ()
            if isinstance(system, Ensemble):
                md = md_features(system.topology, _mostly_sound(system), features=features, available=available)
                left_out = system.left_out
            else:
                md = conformation_features(system, available)
            sequences, resolved = system.topology.traced.full_sequences()
            arrays = md_entry(md.residue, md.pair, list(map(len, sequences)), resolved, md.missing)
            return EntryFeatures(*arrays, CHAIN_LINKER.join(sequences), md.missing, left_out)
        topology, nma = nma_features_of(system.topology, system.xyz, available)
        sequences, resolved = topology.full_sequences()
        arrays = nma_entry(nma.gnm_msf, nma.anm_cor, list(map(len, sequences)), resolved)
        return EntryFeatures(*arrays, CHAIN_LINKER.join(sequences))


def _mostly_sound(ensemble: Ensemble) -> Iterator[Chunk]:
    """The chunks; InputError at the end if too many frames were left out."""
    sound = 0
    for chunk in ensemble.chunks:
        sound += len(chunk.numbers)
        yield chunk
    if left_out := ensemble.left_out:
        total = len(left_out) + sound
        problem = f"{len(left_out)} of {total} frames are broken, such as {left_out[0]}"
        require(len(left_out) <= MOST_BROKEN * total, f"{ensemble.topology.path}: {problem}; replace the files")


def result_attributes(task: Task) -> Mapping[str, str | int | float] | None:
    """Attributes of the result of a task; None if it is absent, damaged or stale."""
    try:
        with FeatureStore(task.result) as store:
            attributes = store.attributes
        return attributes if attributes.get("fingerprint") == task.fingerprint() else None
    except InputError:
        return None


def make_entry(task: Task) -> str | None:
    """Write the result of one entry; returns the reason of a failure."""
    if result_attributes(task):  # made by a worker that was lost before it could say so
        return None
    try:
        fingerprint = task.fingerprint()  # of the files as they are before they are read
        with warnings.catch_warnings(record=True) as noticed, threadpool_limits(1):  # one task per core
            warnings.simplefilter("always", InputWarning)
            features = entry_features(task.entry, task.selection, task.features, _memory_of_worker())
        attributes = {
            "fingerprint": fingerprint,
            "modify_seq": features.modify_seq,
            "notes": "; ".join(dict.fromkeys(str(note.message) for note in noticed if note.category is InputWarning)),
        }
        group = GROUPS[0] if features.residue.shape[1] == MD_RESIDUE_WIDTH else NMA_GROUPS[0]  # of the same properties
        spread = entry_spread(features.residue, features.pair, group, features.missing)
        own = {"modify_seq": features.modify_seq, SPREAD: json.dumps(spread)}
        if features.left_out:
            own["left_out_frames"] = json.dumps(features.left_out)
        if features.missing:
            own[MISSING_ATTRIBUTE] = json.dumps(features.missing)
        with StoreWriter(task.result, task.dtype, attributes) as store:
            store.add(task.entry.name, features.residue, features.pair, own)
    except Exception as error:  # no failure of an entry stops the others
        return _reason(error)
    return None


def _reason(error: BaseException) -> str:
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


def _memory_of_worker() -> int | None:
    """Bytes that an entry may use on this Dask worker; None without a worker or a limit."""
    from distributed import get_worker

    try:
        limit = get_worker().memory_manager.memory_limit
    except ValueError:
        return None
    return int(MEMORY_SHARE * limit) if limit else None


def run_tasks(
    tasks: Sequence[Task],
    done: int,
    workers: int,
    scheduler: Scheduler | None = None,
    failed: Callable[[str, str], object] = lambda name, reason: None,
) -> dict[str, str]:
    """Make results, the largest entries first, and show the progress; returns name -> reason of failed entries.

    `done` entries exist already. `workers` are processes on this machine, unless the workers of a Dask `scheduler`
    (`tcp://host:8786`), which must see the same folders, do the work; a context that gives its address is entered.
    `failed` is called with the name and the reason of an entry when it fails.
    """
    tasks = sorted(tasks, key=lambda task: (-task.entry.size, task.entry.name))
    in_process = workers == 1 and scheduler is None
    results = ((task, make_entry(task)) for task in tasks) if in_process else _results(tasks, workers, scheduler)
    failures: dict[str, str] = {}
    bar = tqdm(total=done + len(tasks), initial=done, desc="features", unit="entry", smoothing=0.05)
    with closing(results), bar:
        for task, reason in results:
            if reason:
                failures[task.entry.name] = reason
                failed(task.entry.name, reason)
                bar.set_postfix(failed=len(failures))
            bar.update()
    return failures


def _appears(path: Path) -> bool:
    """Whether a file is there, or soon: NFS remembers for a minute that it was not."""
    stop = monotonic() + LAG_SECONDS
    while not path.exists() and monotonic() < stop:
        sleep(POLL_SECONDS)
    return path.exists()


@contextmanager
def _local_client(workers: int) -> Iterator[Client]:
    """Client of worker processes on this machine."""
    from distributed import Client, LocalCluster, WorkerPlugin

    class Uninterrupted(WorkerPlugin):
        """Ctrl-C of a terminal reaches the workers, too; this process ends them."""

        def setup(self, worker: object) -> None:
            if current_thread() is main_thread():  # of a process of its own
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    # Dask serves its state over HTTP even without the dashboard: on any free port of this machine, for it warns if
    # another run has its usual one
    quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}

    def close(part: Client | LocalCluster) -> None:
        with held_signals():  # at its end a process waits ten seconds for a cluster that is half closed
            part.close()

    with ExitStack() as stack:
        with held_signals():  # it shows a traceback for one that is half started
            cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, silence_logs=logging.CRITICAL, scheduler_kwargs=quiet
            )
            stack.callback(close, cluster)
            client = Client(cluster)
            stack.callback(close, client)
            client.register_plugin(Uninterrupted())
        yield client


def _results(
    tasks: Sequence[Task], workers: int, scheduler: Scheduler | None
) -> Generator[tuple[Task, str | None], None, None]:
    """Tasks, as Dask finishes them, with the reason of a failure; InputError if the scheduler is lost."""
    from distributed import Client, KilledWorker, as_completed
    from distributed.utils import silence_logging_cmgr

    which = scheduler if isinstance(scheduler, str) else "of this run"
    lost = f"the Dask scheduler {which} is lost; the same command goes on with what is left"
    with ExitStack() as stack:
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # the client logs a traceback of a lost scheduler
        if scheduler is None:
            client = stack.enter_context(_local_client(workers))
        else:
            address = scheduler if isinstance(scheduler, str) else stack.enter_context(scheduler)
            try:
                client = stack.enter_context(Client(address, timeout=CONNECT_SECONDS))
            except (OSError, ValueError) as error:
                raise InputError(f"--scheduler {address}: no connection ({error}); start `dask scheduler`") from None
            if not client.scheduler_info()["workers"]:  # Dask waits for them without a word
                waiting = "no worker has started yet (SLURM: squeue lists the jobs); the work begins with the first"
                tqdm.write(f"note: {waiting}", file=sys.stderr)  # above the progress bar
        futures = {
            client.submit(make_entry, task, key=task.key(), priority=-rank, pure=False): task
            for rank, task in enumerate(tasks)
        }
        finished = as_completed(futures, raise_errors=False)
        while not finished.is_empty():
            done = finished.next_batch(block=False)
            require(client.status == "running", lost)
            for future in done:
                if future.status in ("lost", "pending"):  # its worker died with the result; another one repeats it
                    finished.add(future)
                    continue
                require(future.status in ("finished", "error"), lost)
                task = futures[future]
                try:
                    exception = future.exception()
                    reason = future.result() if exception is None else _reason(exception)
                except OSError:
                    raise InputError(lost) from None
                if isinstance(exception, KilledWorker):
                    reason = "workers were killed on this entry (out of memory?); run again with fewer workers"
                there = reason is not None or _appears(task.result)
                require(there, f"{task.result}: not here, but on a worker; its folders must be those of this machine")
                yield task, reason
                future.release()
            if not done:
                sleep(POLL_SECONDS)
