"""Training table and loss weights of a store, remade only if their inputs change."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from shutil import which
from types import MappingProxyType
from typing import Annotated, Final

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings
from data_prepare.dataset.loss_weights import baselines, loss_weights, write_loss_weights
from data_prepare.dataset.splits import entry_clusters, label_clusters, mmseqs_clusters, read_clusters
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table, write_table
from data_prepare.errors import InputError, some_of
from data_prepare.files import read_text_table, whole_file, write_text
from data_prepare.properties import GROUPS
from data_prepare.resume import digest

TABLE: Final = "table.csv"
LOSS_WEIGHTS: Final = "loss_weights.csv"
LABEL_CHANGES: Final = "label_changes.csv"
CHANGE_COLUMNS: Final = ("name", "old_label", "new_label", "training_entry")  # a training entry of the same cluster
MADE_OF: Final = "made_of"  # attribute of a store: digest of what is in it


@dataclass(frozen=True, kw_only=True)
class Split(Settings):
    """How entries are split into train and test."""

    clusters: Path | None = None
    """TSV of representative and member (*_cluster.tsv of MMseqs2). Default: mmseqs makes the clusters."""
    identity: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Sequence identity within clusters of mmseqs, as a fraction."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Expected fraction of the entries used for testing."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split."""
    new_split: bool = False
    """Draw all labels anew. Default: those of table.csv beside --out are kept, whatever the seed and the share."""

    def __post_init__(self) -> None:
        _ = self.members  # refuse an unreadable file before any computation

    @cached_property
    def members(self) -> dict[str, str]:
        """Member -> representative of the clusters file, read once."""
        return {} if self.clusters is None else read_clusters(self.clusters)

    def digest(self) -> str:
        """Digest of everything except the entries that the labels depend on."""
        options = (self.identity, self.test_share, self.seed, bool(self.clusters or which("mmseqs")))
        return digest(self.members, *options, *(["anew"] if self.new_split else []))

    def label(self, table: pd.DataFrame, known: Mapping[str, str]) -> tuple[pd.DataFrame, dict[str, str]]:
        """The table with labels by clusters, and the known labels that could not be kept; see `label_clusters`.

        Without clusters and mmseqs, entries without a known label have none, with a warning.
        """
        sequences = dict(zip(table["name"], table["modify_seq"], strict=True))
        known = {name: known[name] for name in sequences if name in known}
        if self.clusters is not None:
            clusters = entry_clusters(sequences, self.members)
        elif which("mmseqs"):
            clusters = mmseqs_clusters(sequences, self.identity)
        else:
            if without := len(sequences) - len(known):
                remedy = "install MMseqs2 (Debian: apt install mmseqs2) or give --clusters FILE, and run again"
                problem = f"no split into train and test: mmseqs is not on the PATH; {remedy}"
                print(f"warning: {without} entries have no label: {problem}", file=sys.stderr)
            return table.assign(label=[known.get(name, "") for name in table["name"]]), {}
        labels, moved = label_clusters(sequences, clusters, known, self.test_share, self.seed)
        if known:
            kept, new = len(known) - len(moved), len(labels) - len(known)
            print(f"note: {kept} labels are kept, {new} are new; --new-split draws all anew", file=sys.stderr)
        table = table.assign(label=table["name"].map(labels))
        tested = set(table["group"][table["label"] == "test"])
        if absent := sorted(set(table["group"]) - tested):
            remedy = "give --new-split and a larger --test-share or another --seed"
            print(f"warning: no test entries of {', '.join(absent)}; {remedy}", file=sys.stderr)
        return table, moved


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
        finished = record.is_file() and record.read_text() == self._state() and self.has_store()
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
        return digest(self.table_of, *(file.read_text() if file.is_file() else None for file in files))
