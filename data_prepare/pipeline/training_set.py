"""Training table and loss weights of a store, remade only if their inputs change."""

from __future__ import annotations

import dataclasses
import sys
from functools import cached_property
from pathlib import Path
from shutil import which
from typing import Annotated, Final

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings
from data_prepare.dataset.loss_weights import baselines, loss_weights, write_loss_weights
from data_prepare.dataset.splits import entry_clusters, mmseqs_clusters, read_clusters, split_by_cluster
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import write_table
from data_prepare.errors import InputError
from data_prepare.files import write_text
from data_prepare.properties import GROUPS
from data_prepare.resume import digest

TABLE: Final = "table.csv"
LOSS_WEIGHTS: Final = "loss_weights.csv"
MADE_OF: Final = "made_of"  # attribute of a store: digest of what is in it


@dataclass(frozen=True, kw_only=True)
class Split(Settings):
    """How entries are split into train and test."""

    clusters: Path | None = None
    """TSV of representative and member (*_cluster.tsv of MMseqs2). Default: mmseqs makes the clusters."""
    identity: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Sequence identity within clusters of mmseqs, as a fraction."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Fraction of the entries used for testing."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split."""

    def __post_init__(self) -> None:
        _ = self.members  # refuse an unreadable file before any computation

    @cached_property
    def members(self) -> dict[str, str]:
        """Member -> representative of the clusters file, read once."""
        return {} if self.clusters is None else read_clusters(self.clusters)

    def digest(self) -> str:
        """Digest of everything except the entries that the labels depend on."""
        return digest(self.members, self.identity, self.test_share, self.seed, bool(self.clusters or which("mmseqs")))

    def label(self, table: pd.DataFrame, threads: int) -> pd.DataFrame:
        """The table with labels by clusters; unchanged, with a warning, without clusters and mmseqs."""
        sequences = dict(zip(table["name"], table["modify_seq"], strict=True))
        if self.clusters is not None:
            clusters = entry_clusters(sequences, self.members)
        elif which("mmseqs"):
            clusters = mmseqs_clusters(sequences, self.identity, threads=threads)
        else:
            remedy = "install MMseqs2 (Debian: apt install mmseqs2) or give --clusters FILE, and run again"
            print(f"warning: no split into train and test: mmseqs is not on the PATH; {remedy}", file=sys.stderr)
            return table
        groups = dict(zip(table["name"], table["group"], strict=True))
        labels = split_by_cluster(groups, clusters, groups, self.test_share, self.seed)
        return table.assign(label=table["name"].map(labels))


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """A store with its table and loss weights."""

    store: Path
    store_of: str  # digest of the inputs of the store
    table_of: str  # digest of the inputs of table and loss weights

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

    def write(self, table: pd.DataFrame | None) -> None:
        """Write the table, if any, and the loss weights if it has training entries."""
        if table is not None:
            write_table(self.store.with_name(TABLE), table)
            self._write_loss_weights(table)
        write_text(self._record, self._state())

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
