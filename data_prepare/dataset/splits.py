"""Clusters of similar sequences, and the split of entries into train and test that keeps them whole.

A chain of a complex is a sequence of its own, named `entry:0`, `entry:1`, ... in the order of `modify_seq`; the chain
of a single-chain entry has the name of the entry. Entries that share a cluster by any chain are one cluster: no test
chain has a similar training chain.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Final

import numpy as np

from data_prepare.errors import InputError
from data_prepare.structure.sequence import CHAIN_LINKER

NO_KMER: Final = "No k-mer could be extracted"  # MMseqs2 fails with it if all sequences are too short or too simple


def chains_of(name: str, modify_seq: str) -> dict[str, str]:
    """Chain name -> sequence of one entry."""
    chains = modify_seq.split(CHAIN_LINKER)
    return {name: modify_seq} if len(chains) == 1 else {f"{name}:{k}": chain for k, chain in enumerate(chains)}


def read_clusters(path: str | Path) -> dict[str, str]:
    """Read a TSV of MMseqs2 (`*_cluster.tsv`): representative, member, no header.

    Returns
    -------
    Member -> representative.

    Raises
    ------
    InputError
        If the file is missing, a line has not two fields, or a member is in two clusters.
    """
    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of clusters; expected a TSV of representative and member") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file ({error})") from None
    clusters: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) != 2 or not all(fields):
            raise InputError(f"{path}, line {number}: expected representative TAB member, not {line!r}")
        representative, member = fields
        if clusters.setdefault(member, representative) != representative:
            raise InputError(f"{path}, line {number}: {member} is in the cluster of {clusters[member]} already")
    return clusters


def entry_clusters(sequences: Mapping[str, str], members: Mapping[str, str]) -> dict[str, str]:
    """Join clusters of chains to clusters of entries.

    Parameters
    ----------
    sequences
        Entry -> its chains joined by `<eos><cls>` (`modify_seq`).
    members
        Chain (or entry) -> representative. Chains that are absent are clusters of their own; equal sequences share a
        cluster in any case.

    Returns
    -------
    Entry -> representative, the first of the cluster's entries in the order of their names.

    Raises
    ------
    InputError
        If none of the chains is a member.
    """
    keys = {name: [name, *chains_of(name, sequence)] for name, sequence in sequences.items()}
    if members and not any(key in members for chain_names in keys.values() for key in chain_names):
        raise InputError(
            f"none of the {len(sequences)} entries is a member of a cluster; members are the names of the entries "
            "(chains of a complex: NAME:0, NAME:1, ...)"
        )
    first: dict[str, str] = {}  # entry -> an earlier entry of its cluster, or itself

    def root(name: str) -> str:
        while first[name] != name:
            first[name] = first[first[name]]
            name = first[name]
        return name

    holder: dict[tuple[str, str], str] = {}  # (kind, cluster or sequence) -> the first entry that has it
    for name in sorted(sequences):
        first[name] = name
        shared = [("cluster", members[key]) for key in keys[name] if key in members]
        shared += [("sequence", chain) for chain in sequences[name].split(CHAIN_LINKER)]
        for item in shared:
            one, other = sorted((root(name), root(holder.setdefault(item, name))))
            first[other] = one
    return {name: root(name) for name in sequences}


def mmseqs_clusters(
    sequences: Mapping[str, str], min_identity: float = 0.5, coverage: float = 0.8, threads: int = 1
) -> dict[str, str]:
    """Cluster entries by sequence with `mmseqs easy-cluster`.

    Parameters
    ----------
    sequences
        Entry -> its chains joined by `<eos><cls>` (`modify_seq`).
    min_identity
        Smallest share of identical residues in the alignment (paper: 0.5).
    coverage
        Smallest share of both sequences that the alignment covers.
    threads
        Of MMseqs2.

    Returns
    -------
    As `entry_clusters`. Chains too short or too simple for k-mers of MMseqs2 cluster with equal ones only.

    Raises
    ------
    InputError
        If MMseqs2 is not on the PATH or fails.
    """
    if which("mmseqs") is None:
        raise InputError(
            "mmseqs is not on the PATH (Debian: apt install mmseqs2); or give --clusters FILE, a TSV of "
            "representative and member"
        )
    chains = {chain: seq for name in sequences for chain, seq in chains_of(name, sequences[name]).items()}
    distinct = sorted(set(chains.values()))
    with tempfile.TemporaryDirectory(prefix="clusters_") as folder:
        fasta, result = Path(folder, "chains.fasta"), Path(folder, "result")
        # numbers as names: MMseqs2 cuts names of FASTA files at blanks and bars
        fasta.write_text("".join(f">{number}\n{sequence}\n" for number, sequence in enumerate(distinct)))
        options = {"--min-seq-id": min_identity, "-c": coverage, "--threads": threads, "-v": 1}
        command = ["mmseqs", "easy-cluster", str(fasta), str(result), str(Path(folder, "tmp"))]
        command += [str(word) for option in options.items() for word in option]
        found = run_mmseqs(command, f"{len(distinct)} chains")
        numbers = read_clusters(f"{result}_cluster.tsv") if found else {}
    of_sequence = {sequence: numbers.get(str(number), str(number)) for number, sequence in enumerate(distinct)}
    return entry_clusters(sequences, {chain: of_sequence[sequence] for chain, sequence in chains.items()})


def run_mmseqs(command: Sequence[str], what: str) -> bool:
    """Run `mmseqs`; False if all sequences are too short or too simple for its k-mers. `what` is named in messages.

    Raises
    ------
    InputError
        If it fails otherwise.
    """
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode and NO_KMER not in run.stdout + run.stderr:
        reason = " ".join((run.stderr or run.stdout).split())
        raise InputError(f"mmseqs {command[1]} of {what} failed ({run.returncode}): {reason}")
    return run.returncode == 0


def split_by_cluster(
    names: Collection[str],
    clusters: Mapping[str, str],
    groups: Mapping[str, str],
    test_share: float = 0.05,
    seed: int = 0,
) -> dict[str, str]:
    """Label entries train or test: whole clusters, the same share of each group.

    Clusters come in a random order. First each is taken that gives no group too many test entries; then, as long as
    there is one, the cluster that brings the shares of all groups nearest to `test_share`. A group still without a test
    entry gets its smallest cluster if it keeps another one to train on. With a single group, what the first step
    leaves open is less than each cluster left over, so the number of test entries is at most half of the smallest
    one away from its share (or is one cluster, where that is more).

    Parameters
    ----------
    names
        Entries.
    clusters
        Entry -> representative; absent entries are clusters of their own.
    groups
        Entry -> training group.
    test_share
        Share of the entries that become test entries, in each group.
    seed
        Of the random order; the order of `names` plays no part.

    Returns
    -------
    Entry -> "train" or "test". With two clusters or more there is a test entry.
    """
    if not 0 < test_share < 1:
        raise InputError(f"test share {test_share}: expected a number between 0 and 1")
    members: dict[str, list[str]] = {}
    for name in sorted(names):
        members.setdefault(clusters.get(name, name), []).append(name)
    kinds = sorted({groups[name] for name in names})
    entries = list(members.values())  # in the order of their first names: labels of representatives play no part
    counted = [Counter(groups[name] for name in cluster) for cluster in entries]
    counts = np.array([[counter[kind] for kind in kinds] for counter in counted]).reshape(len(entries), len(kinds))
    total = counts.sum(axis=0)
    lacking = test_share * total  # test entries that each group lacks, (groups,)
    chosen = np.zeros(len(entries), bool)
    order = np.random.default_rng(seed).permutation(len(entries))
    for k in order:
        if (counts[k] <= lacking).all():
            chosen[k] = True
            lacking = lacking - counts[k]

    def left_over() -> np.ndarray:
        """Clusters that can still go to test: each of their groups keeps a training entry, in random order."""
        keeps = (counts < counts[~chosen].sum(axis=0)) | (counts == 0)
        return order[(keeps.all(axis=1) & ~chosen)[order]]

    while len(rest := left_over()):
        change = (np.abs(lacking - counts[rest]) - np.abs(lacking)) / total
        nearest = change.sum(axis=1).argmin()
        if change[nearest].sum() >= 0:
            break
        chosen[rest[nearest]] = True
        lacking = lacking - counts[rest[nearest]]
    for group in range(len(kinds)):
        rest = left_over()
        rest = rest[counts[rest, group] > 0]
        if len(rest) and not counts[chosen, group].any():
            chosen[rest[counts[rest].sum(axis=1).argmin()]] = True
    if len(entries) > 1 and not chosen.any():
        chosen[order[counts[order].sum(axis=1).argmin()]] = True
    return {name: "test" if chosen[k] else "train" for k, cluster in enumerate(entries) for name in cluster}
