"""Training and validation entries for Dyna-1, split by sequence cluster, without relatives of test entries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from data_prepare.dataset.splits import connected, entry_clusters, read_clusters, run_mmseqs, split_by_cluster
from data_prepare.errors import require
from data_prepare.nmr.choices import MIN_IDENTITY, VALIDATION_FRACTION

ALIGNED: Final = 0.5  # of the shorter sequence: a shared domain counts, a shared helix does not
# Short proteins at 30 % identity share few exact k-mers: the most sensitive prefilter, k-mers of 5, no masking, no
# limit of hits. The E-value refers to the test set (about 20,000 residues in RelaxDB): 0.1 is about 23 bits, which
# a pair of 50 residues at 30 % can reach. False hits cost a few training entries, missed ones would spoil the test;
# docs/how-to/nmr_labels.md has the measured rates. --dbtype 1 is protein, which MMseqs2 would otherwise guess.
SEARCH: Final = "--dbtype 1 -s 7.5 -k 5 --mask 0 --comp-bias-corr 0 --max-seqs 100000 --alignment-mode 3 -e 0.1".split()


def join_tests(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Test entry -> sequence, from tables of codes by file name; InputError if an entry has two sequences."""
    first: dict[str, tuple[str, str]] = {}  # entry -> its sequence and its first file
    for path, table in tables.items():
        for name, sequence in zip(table["entry_ID"], table["sequence"], strict=True):
            known, other = first.setdefault(name, (sequence, path))
            require(known == sequence, f"entry {name} of {path} has another sequence in {other}; rename one")
    return {name: sequence for name, (sequence, _) in first.items()}


def bmrb_id(name: str) -> str | None:
    """BMRB id of an entry named `15000`, `bmr15000`, `15000_1` (with its entity) or `15000_600MHz`; else None."""
    found = re.fullmatch(r"(?:bmr)?([0-9]+)(?:_[0-9]+(?:\.[0-9]+)?(?:MHz)?)?", name, re.IGNORECASE)
    return found[1] if found else None


def with_clusters(
    table: pd.DataFrame, min_identity: float = MIN_IDENTITY, clusters: Path | None = None
) -> pd.DataFrame:
    """Fill the column `cluster` of a table of codes.

    Clusters are the connected components of `similar_pairs`: a protein and a fragment of it, or two relatives of a
    third, are never split. A file `clusters` (TSV of representative and entry) replaces MMseqs2; entries that it lacks
    are singletons, unless their sequences are equal.
    """
    sequences = dict(zip(table["entry_ID"], table["sequence"], strict=True))
    if clusters is None:
        pairs = similar_pairs(sequences, sequences, min_identity)
        found = connected(sequences, [(name, other) for name, other, _ in pairs])
    else:
        found = entry_clusters(sequences, read_clusters(clusters))
    return table.assign(cluster=table["entry_ID"].map(found))


def similar_pairs(
    sequences: Mapping[str, str], others: Mapping[str, str], min_identity: float = MIN_IDENTITY
) -> list[tuple[str, str, float]]:
    """Similar entries (entry, other entry, identity), by `mmseqs easy-search`; arguments map entries to sequences.

    Two sequences are similar if one contains the other, or if they align over at least half of the shorter one with
    at least `min_identity` (a fraction) and an E-value of at most 0.1 against the others (`SEARCH`).
    """
    names, other_names = list(sequences), list(others)
    options = [*SEARCH, "--format-output", "query,target,fident,qcov,tcov"]
    rows = run_mmseqs("easy-search", [list(sequences.values()), list(others.values())], options)
    pairs = [
        (name, other, 1.0)
        for name, sequence in sequences.items()
        for other, text in others.items()
        if sequence in text or text in sequence
    ]
    for number, other_number, *numbers in rows:
        identity, covered, other_covered = map(float, numbers)
        if identity >= min_identity and max(covered, other_covered) >= ALIGNED:
            pairs.append((names[int(number)], other_names[int(other_number)], identity))
    return pairs


def without_tests(
    table: pd.DataFrame, tests: Mapping[str, str], min_identity: float = MIN_IDENTITY
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Remove test entries, and entries similar to one (`similar_pairs`), from a table of codes.

    Returns the remaining rows; and entry_ID, test_entry (the most similar one), identity (NaN for an equal BMRB id
    without similarity) and reason of the removed ones.
    """
    sequences = dict(zip(table["entry_ID"], table["sequence"], strict=True))
    pairs = similar_pairs(sequences, tests, min_identity)
    similar: dict[str, tuple[str, float]] = {}
    for name, test, identity in sorted(pairs, key=lambda pair: -pair[2]):
        similar.setdefault(name, (test, identity))
    of_deposition = {found: name for name in tests if (found := bmrb_id(name))}
    rows: list[tuple[str, str, float, str]] = []
    for name in sequences:
        test, identity = similar.get(name, ("", float("nan")))
        if (deposition := bmrb_id(name)) in of_deposition:
            rows.append((name, of_deposition[deposition], identity, "same BMRB id"))
        elif test:
            rows.append((name, test, identity, f"identity of at least {min_identity:.0%}"))
    removed = pd.DataFrame(rows, columns=["entry_ID", "test_entry", "identity", "reason"])
    return table[~table["entry_ID"].isin(removed["entry_ID"])].reset_index(drop=True), removed


def train_and_validation(
    table: pd.DataFrame, validation_fraction: float = VALIDATION_FRACTION, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a table of codes by cluster into training and validation rows; entries without `cluster` are singletons.

    See `split_by_cluster`.
    """
    names = table["entry_ID"]
    clusters = {name: cluster or name for name, cluster in zip(names, table["cluster"], strict=True)}
    require(len(set(clusters.values())) > 1, "all entries are one cluster, which cannot be split; give more entries")
    split = split_by_cluster(names, clusters, validation_fraction, seed)
    validates = names.map(split) == "test"
    return table[~validates].reset_index(drop=True), table[validates].reset_index(drop=True)
