"""How entries are split into train and test, and the files beside a store."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings
from data_prepare.dataset.splits import entries_outside, entry_clusters, label_clusters, mmseqs_clusters, read_clusters
from data_prepare.errors import some_of
from data_prepare.resume import digest

if TYPE_CHECKING:
    import pandas as pd

TABLE: Final = "table.csv"
LOSS_WEIGHTS: Final = "loss_weights.csv"
FAILURES: Final = "failures.csv"
LABEL_CHANGES: Final = "label_changes.csv"


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
            if lone := entries_outside(sequences, self.members):
                which_ones = f"{len(lone)} of {len(sequences)} entries are in no cluster of {self.clusters}"
                names = "each is a cluster of its own; name members like entries (chains of a complex: NAME:0, ...)"
                print(f"warning: {which_ones} ({some_of(lone)}): {names}", file=sys.stderr)
        elif which("mmseqs"):
            clusters = mmseqs_clusters(sequences, self.identity)
        else:
            if without := len(sequences) - len(known):
                remedy = "install MMseqs2 (Debian: apt install mmseqs2) or give --clusters FILE, and run again"
                problem = f"no split into train and test: mmseqs is not on the PATH; {remedy}"
                print(f"warning: entries without a label: {without}; {problem}", file=sys.stderr)
            return table.assign(label=[known.get(name, "") for name in table["name"]]), {}
        labels, moved = label_clusters(sequences, clusters, known, self.test_share, self.seed)
        if known:
            kept, new = len(known) - len(moved), len(labels) - len(known)
            how = "whatever share and clusters say; --new-split draws all anew"
            print(f"note: labels kept: {kept}, new: {new}, {how}", file=sys.stderr)
        table = table.assign(label=table["name"].map(labels))
        tested = set(table["group"][table["label"] == "test"])
        if absent := sorted(set(table["group"]) - tested):
            remedy = "give --new-split and a larger --test-share or another --seed"
            print(f"warning: no test entries of {', '.join(absent)}; {remedy}", file=sys.stderr)
        return table, moved
