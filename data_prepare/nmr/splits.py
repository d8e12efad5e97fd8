"""Training and validation entries for Dyna-1: apart by sequence cluster, and apart from the test sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from data_prepare.dataset.splits import connected, entry_clusters, read_clusters, run_mmseqs, split_by_cluster
from data_prepare.errors import require

MIN_IDENTITY: Final = 0.3
ALIGNED: Final = 0.5  # of the shorter sequence: a shared domain counts, a shared helix does not
VALIDATION_FRACTION: Final = 0.1  # of the entries
# Short proteins at 30 % identity share few exact words: the most sensitive prefilter with words of 5, nothing masked,
# no limit of hits. The E-value refers to the test set alone (about 20,000 residues in RelaxDB), where 0.1 is some 23
# bits, which a pair of 50 residues at 30 % can reach. Wrong hits cost a few training entries, missed ones the test:
# README.md has the measured rates. --dbtype 1 is protein, which MMseqs2 would otherwise guess from the letters.
SEARCH: Final = "--dbtype 1 -s 7.5 -k 5 --mask 0 --comp-bias-corr 0 --max-seqs 100000 --alignment-mode 3 -e 0.1".split()


def join_tests(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Test entry -> sequence, from tables of codes by file name; several tables may hold the same entry.

    Raises
    ------
    InputError
        Two tables give one name to different sequences: dropping either would let it into the training entries.
    """
    first: dict[str, tuple[str, str]] = {}  # entry -> its sequence and the file that has it first
    for path, table in tables.items():
        for name, sequence in zip(table["entry_ID"], table["sequence"], strict=True):
            known, other = first.setdefault(name, (sequence, path))
            require(known == sequence, f"entry {name} of {path} has another sequence in {other}; rename one")
    return {name: sequence for name, (sequence, _) in first.items()}


def bmrb_id(name: str) -> str | None:
    """BMRB id of an entry (`15000`, or `15000_1` with its entity); None if the name is no such id."""
    found = re.fullmatch(r"(?:bmr)?([0-9]+)(?:_[0-9]+)?", name, re.IGNORECASE)
    return found[1] if found else None


def with_clusters(
    table: pd.DataFrame, min_identity: float = MIN_IDENTITY, clusters: Path | None = None, threads: int = 1
) -> pd.DataFrame:
    """Fill the column `cluster` of a table of codes.

    Entries with `min_identity` (`similar_pairs`), directly or through others, are one cluster: a protein and a piece of
    it, or two relatives of a third, never stand on different sides of a split. A file `clusters` (TSV of representative
    and entry) replaces MMseqs2; entries that it lacks are clusters of their own, unless their sequences are equal.
    """
    sequences = dict(zip(table["entry_ID"], table["sequence"], strict=True))
    if clusters is None:
        pairs = similar_pairs(sequences, sequences, min_identity, threads)
        found = connected(sequences, [(name, other) for name, other, _ in pairs])
    else:
        found = entry_clusters(sequences, read_clusters(clusters))
    return table.assign(cluster=table["entry_ID"].map(found))


def similar_pairs(
    sequences: Mapping[str, str], others: Mapping[str, str], min_identity: float = MIN_IDENTITY, threads: int = 1
) -> list[tuple[str, str, float]]:
    """Pairs of similar entries, by `mmseqs easy-search`.

    Two sequences are similar if one holds the other, or if they align over at least half of the shorter one with
    `min_identity` and an E-value of at most 0.1 against the others (`SEARCH`).

    Parameters
    ----------
    sequences, others
        Entry -> sequence.
    min_identity
        Smallest fraction of identical residues in the alignment.
    threads
        Of MMseqs2.

    Returns
    -------
    Entry, other entry and their identity.
    """
    names, other_names = list(sequences), list(others)
    options = [*SEARCH, "--format-output", "query,target,fident,qcov,tcov", "--threads", str(threads)]
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
    table: pd.DataFrame, tests: Mapping[str, str], min_identity: float = MIN_IDENTITY, threads: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Remove the entries of a table of codes that are, or are similar to (`similar_pairs`), test entries.

    Returns
    -------
    Rows that stay; and entry_ID, test_entry, identity, reason of those removed (of the most similar test entry; the
    identity is NaN for an equal BMRB id without similarity).
    """
    sequences = dict(zip(table["entry_ID"], table["sequence"], strict=True))
    pairs = similar_pairs(sequences, tests, min_identity, threads)
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
    """Split a table of codes into training and validation rows, whole clusters to one side.

    Parameters
    ----------
    table
        An entry with an empty `cluster` is a cluster of its own.
    validation_fraction
        Fraction of the entries used for validation.
    seed
        Seed of the random order of clusters.
    """
    names = table["entry_ID"]
    clusters = {name: cluster or name for name, cluster in zip(names, table["cluster"], strict=True)}
    require(len(set(clusters.values())) > 1, "all entries are one cluster: nothing to validate on; give more entries")
    split = split_by_cluster(names, clusters, dict.fromkeys(names, "all"), validation_fraction, seed)
    validates = names.map(split) == "test"
    return table[~validates].reset_index(drop=True), table[validates].reset_index(drop=True)
