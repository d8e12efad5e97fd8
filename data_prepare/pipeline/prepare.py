"""Entries of a source -> store, training table and loss weights.

Each entry is a task with a result file (`extraction.py`); the results are merged to the store. A rerun makes only what
is missing. Failed entries and the reasons are in `failures.csv`, damaged frames in `left_out_frames.csv`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import pandas as pd
from tqdm import tqdm

from data_prepare.dataset.splits import require_members
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import Compression, StoreDtype, entry_file
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.dataset.table import COLUMNS
from data_prepare.errors import require
from data_prepare.files import remove_leftovers, whole_file
from data_prepare.pipeline.extraction import Scheduler, Task, result_attributes, run_tasks
from data_prepare.pipeline.split import FAILURES, Split
from data_prepare.pipeline.training_set import MADE_OF, TrainingSet
from data_prepare.properties import FEATURES, group_of
from data_prepare.resume import digest
from data_prepare.sources.entry import Entry, Selection

LEFT_OUT: Final = "left_out_frames.csv"


def tasks_of(
    entries: Iterable[Entry],
    store: Path,
    selection: Selection = Selection(),  # noqa: B008  # immutable
    features: tuple[str, ...] = FEATURES,
    dtype: StoreDtype = "float32",
) -> list[Task]:
    """Tasks that make the entries of a store (see `Task`). A folder has one table, so it has only one store."""
    folder = entry_file(store, "").parent
    others = [path.stem for path in store.parent.glob("*.entries") if path != folder]
    require(not others, f"{store.parent}: has the results of {', '.join(others)}; give {store.name} its own folder")
    return [Task(entry, selection, features, dtype, store.absolute()) for entry in entries]


def prepare(
    tasks: Sequence[Task],
    store: Path,
    split: Split,
    workers: int = 1,
    scheduler: Scheduler | None = None,
    compression: Compression | Literal["link"] = "blosc2",
) -> dict[str, str]:
    """Make a store of tasks (`tasks_of`), its table, loss weights and failures.csv; keep what is up to date.

    Entries without labels are split, and keep those of an earlier run; for `workers` and `scheduler` see `run_tasks`.
    With the compression "link" the store consists of links to the results. Returns name -> reason of failed entries;
    InputError if all fail.
    """
    require_members([task.entry.name for task in tasks], split.members)
    wanted = _training_set(tasks, store, split, compression)
    if wanted.is_finished():
        return {}
    labelled = all(task.entry.label for task in tasks)  # by a manifest
    known = {} if labelled else wanted.labels()
    results = {task.entry.name: found for task in tasks if (found := result_attributes(task))}
    todo = [task for task in tasks if task.entry.name not in results]
    path = store.with_name(FAILURES)
    path.unlink(missing_ok=True)

    def note_failure(*row: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([row], columns=["name", "reason"]).to_csv(path, mode="a", header=not path.exists(), index=False)

    failures = run_tasks(todo, len(results), workers, scheduler, note_failure) if todo else {}
    remove_leftovers(tasks[0].result.parent)  # of workers that were killed
    made = [task for task in tasks if task.entry.name not in failures]
    require(made, f"{store}: every entry failed; see {path}")
    table = _table(made, results)
    result = _training_set(made, store, split, compression)
    if not result.has_store():
        form = "blosc2" if compression == "link" else compression
        with StoreWriter(store, tasks[0].dtype, {MADE_OF: result.store_of}, form) as writer:
            for task in tqdm(made, desc="store", unit="entry"):
                if compression == "link":
                    writer.link(task.entry.name)
                else:
                    writer.copy_from(task.result)
    if not result.is_finished():
        _write_left_out(store)
        result.write(*((table, {}) if labelled else split.label(table, known)))
    return failures


def _training_set(tasks: Sequence[Task], store: Path, split: Split, compression: str) -> TrainingSet:
    form = () if compression == "blosc2" else (compression,)
    results = digest([(task.entry.name, task.fingerprint()) for task in tasks], *form)
    rows = [(task.entry.source, task.entry.group, task.entry.label) for task in tasks]
    return TrainingSet(store, results, digest(results, rows, split.digest()), split.new_split)


def _table(tasks: Sequence[Task], results: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    """Training table with the labels of the entries; `results` are those from before the run."""
    rows = []
    for task in tasks:
        name, source, label = task.entry.name, task.entry.source, task.entry.label
        attributes = results.get(name) or result_attributes(task) or {}
        require(attributes, f"{task.result}: its raw data changed during the run; run again")
        rows.append((name, attributes["modify_seq"], source, group_of(source, task.entry.group), label))
        if notes := attributes["notes"]:
            print(f"note: {name}: {notes}", file=sys.stderr)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _write_left_out(path: Path) -> None:
    """Write the frames that the entries of a store lack, because they were damaged."""
    with FeatureStore(path) as store:
        frames = {name: str(store.attributes_of(name).get("left_out_frames", "[]")) for name in store.names()}
    rows = [(name, *frame) for name, several in frames.items() for frame in json.loads(several)]
    table = path.with_name(LEFT_OUT)
    table.unlink(missing_ok=True)
    if rows:
        with whole_file(table) as temporary:
            pd.DataFrame(rows, columns=["name", "file", "frame", "problem"]).to_csv(temporary, index=False)
