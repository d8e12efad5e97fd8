"""Training and validation entries for Dyna-1: apart by sequence cluster, and apart from the test sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from data_prepare.dataset.splits import connected, entry_clusters, read_clusters, run_mmseqs, split_by_cluster
from data_prepare.errors import InputError
from data_prepare.nmr.assignments import check_assignments

MIN_IDENTITY: Final = 0.3
VALIDATION_FRACTION: Final = 0.1  # of the entries
ALIGNED: Final = 0.5  # of the shorter sequence: a shared domain counts, a shared helix does not
# Short proteins at 30 % identity share few exact words: the most sensitive prefilter with words of 5, nothing masked,
# no limit of hits. The E-value refers to the test set alone (about 20,000 residues in RelaxDB), where 0.1 is some 23
# bits, which a pair of 50 residues at 30 % can reach. Wrong hits cost a few training entries, missed ones the test:
# README.md has the measured rates. --dbtype 1 says protein, which MMseqs2 would else guess from the letters.
SEARCH: Final = "--dbtype 1 -s 7.5 -k 5 --mask 0 --comp-bias-corr 0 --max-seqs 100000 --alignment-mode 3 -e 0.1".split()


@dataclass(frozen=True)
class Hit:
    """The test entry that an entry is similar to."""

    entry: str
    identity: float


def check_identity(min_identity: float) -> None:
    """Refuse a share that no alignment, or every one, reaches: 30 for 30 % would find nothing similar."""
    if not 0 < min_identity <= 1:
        raise InputError(f"min-identity {min_identity:g}: expected a share above 0, at most 1 (0.3 is 30 %)")


def check_share_and_seed(validation_fraction: float, seed: int) -> None:
    """Refuse a share of validation that leaves one side empty, and a seed that NumPy does not take."""
    if not 0 < validation_fraction < 1:
        raise InputError(f"validation-share {validation_fraction:g}: expected a share between 0 and 1")
    if seed < 0:
        raise InputError(f"seed {seed}: expected 0 or more")


def join_tests(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Join tables of test entries; an entry that several hold with one sequence is there once.

    Parameters
    ----------
    tables
        Name of the file -> table of labels.

    Raises
    ------
    InputError
        If two tables give one name to different sequences: dropping either would let it into the training entries.
    """
    first: dict[str, tuple[str, str]] = {}  # entry -> its sequence and the file that had it first
    for path, table in tables.items():
        for name, sequence in zip(table["entry_ID"], table["sequence"], strict=True):
            known, other = first.setdefault(name, (sequence, path))
            if known != sequence:
                raise InputError(f"entry {name} of {path} has another sequence in {other}; rename one")
    return pd.concat(list(tables.values()), ignore_index=True).drop_duplicates("entry_ID", ignore_index=True)


def bmrb_id(name: str) -> str | None:
    """BMRB id of an entry (`15000`, or `15000_1` with its entity); None if the name is no such id."""
    found = re.fullmatch(r"(?:bmr)?([0-9]+)(?:_[0-9]+)?", name, re.IGNORECASE)
    return found[1] if found else None


def with_clusters(
    table: pd.DataFrame,
    min_identity: float = MIN_IDENTITY,
    clusters: str | Path | None = None,
    threads: int = 1,
) -> pd.DataFrame:
    """Fill the column `cluster`.

    Parameters
    ----------
    table
        Table of labels.
    min_identity
        Entries at least as similar (`similar_pairs`), directly or through others, are one cluster: a protein and
        a piece of it, or two relatives of a third, never stand on different sides of a split.
    clusters
        TSV of representative and entry instead of MMseqs2; absent entries are clusters of their own.
    threads
        Of MMseqs2.

    Returns
    -------
    The table with new clusters; entries of the same sequence share one in any case.
    """
    sequences = dict(zip(table["entry_ID"], table["sequence"], strict=True))
    if clusters is not None:
        found = entry_clusters(sequences, read_clusters(clusters))
    else:
        pairs = similar_pairs(sequences, sequences, min_identity, threads)
        found = connected(sequences, [(name, other) for name, other, _ in pairs])
    return table.assign(cluster=table["entry_ID"].map(found))


def similar_pairs(
    sequences: Mapping[str, str],
    others: Mapping[str, str],
    min_identity: float = MIN_IDENTITY,
    threads: int = 1,
) -> list[tuple[str, str, float]]:
    """Pairs of similar entries, by `mmseqs easy-search`.

    Similar are sequences of which one holds the other, or that align over at least half of the shorter one with
    `min_identity` and an E-value of at most 0.1 against the others (`SEARCH`).

    Parameters
    ----------
    sequences, others
        Entry -> sequence.
    min_identity
        Smallest share of identical residues in the alignment.
    threads
        Of MMseqs2.

    Returns
    -------
    Entry, other entry and their identity.

    Raises
    ------
    InputError
        If `min_identity` is no share, or MMseqs2 is not on the PATH or fails.
    """
    check_identity(min_identity)
    names, other_names = list(sequences), list(others)
    pairs = [
        (name, other, 1.0)
        for name, sequence in sequences.items()
        for other, text in others.items()
        if sequence in text or text in sequence
    ]
    options = [*SEARCH, "--format-output", "query,target,fident,qcov,tcov", "--threads", str(threads)]
    inputs = [list(sequences.values()), list(others.values())]
    for number, other_number, *numbers in run_mmseqs("easy-search", inputs, options):
        identity, covered, other_covered = map(float, numbers)
        if identity >= min_identity and max(covered, other_covered) >= ALIGNED:
            pairs.append((names[int(number)], other_names[int(other_number)], identity))
    return pairs


def similar_entries(
    sequences: Mapping[str, str],
    tests: Mapping[str, str],
    min_identity: float = MIN_IDENTITY,
    threads: int = 1,
) -> dict[str, Hit]:
    """Entries similar to one of the test entries (`similar_pairs`), each with its most similar test entry."""
    similar: dict[str, Hit] = {}
    for name, test, identity in similar_pairs(sequences, tests, min_identity, threads):
        if name not in similar or identity > similar[name].identity:
            similar[name] = Hit(test, identity)
    return similar


def without_tests(
    table: pd.DataFrame, tests: pd.DataFrame, min_identity: float = MIN_IDENTITY, threads: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Remove the entries that are, or are similar to, test entries.

    Parameters
    ----------
    table, tests
        Tables of labels.
    min_identity
        See `similar_entries`.
    threads
        Of MMseqs2.

    Returns
    -------
    Rows that stay; and entry_ID, test_entry, identity, reason of those removed (identity is NaN for an equal BMRB id
    without similarity).

    Raises
    ------
    InputError
        If a test entry has two sequences, or see `similar_pairs`.
    """
    tests = join_tests({"the test entries": tests})
    sequences = dict(zip(table["entry_ID"], table["sequence"], strict=True))
    similar = similar_entries(
        sequences, dict(zip(tests["entry_ID"], tests["sequence"], strict=True)), min_identity, threads
    )
    of_deposition = {found: name for name in tests["entry_ID"] if (found := bmrb_id(name))}
    rows: list[tuple[str, str, float, str]] = []
    for name in sequences:
        hit, deposition = similar.get(name), bmrb_id(name)
        if deposition in of_deposition:
            rows.append((name, of_deposition[deposition], hit.identity if hit else float("nan"), "same BMRB id"))
        elif hit:
            rows.append((name, hit.entry, hit.identity, f"identity of at least {min_identity:.0%}"))
    removed = pd.DataFrame(rows, columns=["entry_ID", "test_entry", "identity", "reason"])
    return table[~table["entry_ID"].isin(removed["entry_ID"])].reset_index(drop=True), removed


def train_and_validation(
    table: pd.DataFrame, validation_fraction: float = VALIDATION_FRACTION, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split entries by cluster, whole clusters to one side.

    Parameters
    ----------
    table
        Table of labels with clusters; an empty one is a cluster of its own.
    validation_fraction
        Share of the entries that validate.
    seed
        Of the random order of clusters.

    Returns
    -------
    Training and validation rows.

    Raises
    ------
    InputError
        If there is no entry, or only one cluster, or the share or the seed cannot be used.
    """
    check_share_and_seed(validation_fraction, seed)
    check_assignments(table, "entries to split")
    names = table["entry_ID"]
    clusters = {name: cluster or name for name, cluster in zip(names, table["cluster"], strict=True)}
    if len(set(clusters.values())) < 2:
        raise InputError("all entries are one cluster: nothing to validate on; give more entries")
    split = split_by_cluster(names, clusters, dict.fromkeys(names, "all"), validation_fraction, seed)
    validates = names.map(split) == "test"
    return table[~validates].reset_index(drop=True), table[validates].reset_index(drop=True)
