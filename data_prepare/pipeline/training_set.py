"""Training table and loss weights of a store, remade only if their inputs change."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pandas as pd

from data_prepare.dataset.loss_weights import baselines, loss_weights, write_loss_weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table, write_table
from data_prepare.errors import InputError, some_of
from data_prepare.files import read_text_table, whole_file, write_text
from data_prepare.pipeline.split import LABEL_CHANGES, LOSS_WEIGHTS, TABLE
from data_prepare.properties import GROUPS
from data_prepare.resume import digest

CHANGE_COLUMNS: Final = ("name", "old_label", "new_label", "training_entry")  # a training entry of the same cluster
MADE_OF: Final = "made_of"  # attribute of a store: digest of what is in it


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """A store with its table and loss weights."""

    store: Path
    store_of: str  # digest of the inputs of the store
    table_of: str  # digest of the inputs of table and loss weights
    new_split: bool = False  # the labels of an earlier run do not count

    def has_store(self) -> bool:
        """Whether the store exists and was made of the same inputs."""
        try:
            with FeatureStore(self.store) as opened:
                return opened.attributes.get(MADE_OF) == self.store_of
        except InputError:
            return False

    def is_finished(self) -> bool:
        """Whether everything exists and was made of the same inputs; says so."""
        record = self._record
        finished = record.is_file() and record.read_text(encoding="utf-8") == self._state() and self.has_store()
        if finished:
            print(f"note: {self.store} is up to date", file=sys.stderr)
        return finished

    def labels(self) -> dict[str, str]:
        """Entry -> label in the table of an earlier run, of entries that have one."""
        path = self.store.with_name(TABLE)
        if self.new_split or not path.exists():
            return {}
        try:
            table = read_table(path, labelled=False)
        except InputError as error:
            raise InputError(f"{error}; or give --new-split to replace the table and its labels") from None
        return {name: label for name, label in zip(table["name"], table["label"], strict=True) if label}

    def write(self, table: pd.DataFrame | None, moved: Mapping[str, str] = MappingProxyType({})) -> None:
        """Write the table, if any, and the loss weights if it has training entries.

        `moved` maps test entries that became train to a training entry of their cluster; they are added to
        `label_changes.csv`.
        """
        if self.new_split:
            self.store.with_name(LABEL_CHANGES).unlink(missing_ok=True)
        if moved:
            self._write_changes(moved)
        if table is not None:
            write_table(self.store.with_name(TABLE), table)
            self._write_loss_weights(table)
        write_text(self._record, self._state())

    def _write_changes(self, moved: Mapping[str, str]) -> None:
        path = self.store.with_name(LABEL_CHANGES)
        problem = "are not tested on any more, but train: each shares a cluster with a training entry"
        print(f"warning: {len(moved)} test entries {problem}: {some_of(moved)}; see {path}", file=sys.stderr)
        rows = [(name, "test", "train", other) for name, other in moved.items()]
        changes = [pd.DataFrame(rows, columns=list(CHANGE_COLUMNS))]
        if path.exists():
            changes.insert(0, read_text_table(path, CHANGE_COLUMNS))
        with whole_file(path) as temporary:
            pd.concat(changes).drop_duplicates().to_csv(temporary, index=False)

    def _write_loss_weights(self, table: pd.DataFrame) -> None:
        path = self.store.with_name(LOSS_WEIGHTS)
        trained = set(table["group"][table["label"] == "train"])
        if not trained:
            path.unlink(missing_ok=True)
            print("note: no loss weights: no training entry; split the entries first", file=sys.stderr)
            return
        if absent := [group for group in GROUPS if group not in trained]:
            remedy = "train on the others alone, or merge stores"
            print(f"note: no loss weights of {', '.join(absent)}: no training entry; {remedy}", file=sys.stderr)
        with FeatureStore(self.store) as opened:
            write_loss_weights(path, loss_weights(baselines(opened, table)))

    @property
    def _record(self) -> Path:
        return self.store.with_name(f".{self.store.name}.made_of")

    def _state(self) -> str:
        """Digest of the inputs and contents of table and loss weights."""
        files = (self.store.with_name(name) for name in (TABLE, LOSS_WEIGHTS))
        return digest(self.table_of, *(file.read_text(encoding="utf-8") if file.is_file() else None for file in files))
