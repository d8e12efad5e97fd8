"""Clusters of similar sequences, and the split of entries into train and test that keeps them whole.

A chain of a complex is a sequence of its own, named `entry:0`, `entry:1`, ... in the order of `modify_seq`; the chain
of a single-chain entry has the name of the entry. Entries that share a cluster by any chain are one cluster: no test
chain has a similar training chain.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Final

import numpy as np

from data_prepare.errors import reading, require
from data_prepare.structure.sequence import CHAIN_LINKER

NO_KMER: Final = "No k-mer could be extracted"  # MMseqs2 fails with it if all sequences are too short or too simple


def chains_of(name: str, modify_seq: str) -> dict[str, str]:
    """Chain name -> sequence of one entry."""
    chains = modify_seq.split(CHAIN_LINKER)
    return {name: modify_seq} if len(chains) == 1 else {f"{name}:{k}": chain for k, chain in enumerate(chains)}


def read_clusters(path: str | Path) -> dict[str, str]:
    """Read a TSV of MMseqs2 (`*_cluster.tsv`: representative, member, no header) as member -> representative.

    Raises
    ------
    InputError
        If the file is missing, a line does not have two fields, or a member is in two clusters.
    """
    with reading(path, "a TSV of representative and member", "give the *_cluster.tsv of MMseqs2"):
        lines = Path(path).read_text().splitlines()
    clusters: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        representative, _, member = line.partition("\t")
        where = f"{path}, line {number}"
        require(representative and member and "\t" not in member, f"{where}: not representative TAB member: {line!r}")
        other = clusters.setdefault(member, representative)
        require(
            other == representative, f"{where}: {member} is also in the cluster of {other}; remove one of the lines"
        )
    return clusters


def connected(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name -> the alphabetically first of those it is linked with by pairs, directly or through others."""
    from scipy.sparse import coo_array  # half a second that a finished run does not need
    from scipy.sparse.csgraph import connected_components

    ordered = sorted(names)
    number = {name: k for k, name in enumerate(ordered)}
    ends = np.array([(number[one], number[other]) for one, other in pairs], int).reshape(-1, 2).T  # (2, pairs)
    graph = coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(len(ordered), len(ordered)))
    component = connected_components(graph, directed=False)[1]
    first = np.unique(component, return_index=True)[1]  # of each component
    return {name: ordered[first[k]] for name, k in zip(ordered, component, strict=True)}


def require_members(names: Iterable[str], members: Collection[str]) -> None:
    """Refuse clusters of other entries: at least one member is an entry, or a chain NAME:0, NAME:1, ... of one."""
    known = {*members, *(member.rpartition(":")[0] for member in members)}
    require(
        not members or not known.isdisjoint(names),
        "none of the entries is a member of a cluster; members are the names of the entries "
        "(chains of a complex: NAME:0, NAME:1, ...)",
    )


def entry_clusters(sequences: Mapping[str, str], members: Mapping[str, str]) -> dict[str, str]:
    """Join clusters of chains to clusters of entries.

    Parameters
    ----------
    sequences
        Entry -> its chains joined by `<eos><cls>` (`modify_seq`).
    members
        Chain (or entry) -> representative; InputError if none of the entries is a member. Chains that are absent are
        clusters of their own; equal sequences share a cluster in any case.

    Returns
    -------
    Entry -> representative, the alphabetically first of the cluster's entries.
    """
    require_members(sequences, members)
    holder: dict[tuple[str, str], str] = {}  # (kind, cluster or sequence) -> the first entry that has it
    pairs = []
    for name, sequence in sequences.items():
        chains = chains_of(name, sequence)
        shared = [("cluster", members[key]) for key in (name, *chains) if key in members]
        shared += [("sequence", chain) for chain in chains.values()]
        pairs += [(name, holder.setdefault(item, name)) for item in shared]
    return connected(sequences, pairs)


def mmseqs_clusters(
    sequences: Mapping[str, str], min_identity: float = 0.5, coverage: float = 0.8, threads: int = 1
) -> dict[str, str]:
    """Cluster entries by sequence with `mmseqs easy-cluster`.

    Parameters
    ----------
    sequences
        Entry -> its chains joined by `<eos><cls>` (`modify_seq`).
    min_identity, coverage
        Smallest fractions of identical residues in the alignment (paper: 0.5), and of both sequences that it covers.
    threads
        Of MMseqs2.

    Returns
    -------
    As `entry_clusters`. Chains too short or too simple for k-mers of MMseqs2 cluster with equal ones only.
    """
    chains = {chain: seq for name in sequences for chain, seq in chains_of(name, sequences[name]).items()}
    distinct = sorted(set(chains.values()))
    options = ["--min-seq-id", f"{min_identity}", "-c", f"{coverage}", "--threads", f"{threads}"]
    rows = run_mmseqs("easy-cluster", [distinct], options)
    of_sequence = dict(zip(distinct, map(str, range(len(distinct))), strict=True))
    of_sequence |= {distinct[int(member)]: representative for representative, member in rows}
    return entry_clusters(sequences, {chain: of_sequence[sequence] for chain, sequence in chains.items()})


def run_mmseqs(command: str, inputs: Sequence[Sequence[str]], options: Sequence[str]) -> list[list[str]]:
    """Run MMseqs2 on lists of sequences; InputError if it is not on the PATH or fails.

    Parameters
    ----------
    command
        `easy-cluster` with one list of sequences, or `easy-search` with queries and targets.
    inputs
        Lists of sequences.
    options
        Words of the command line.

    Returns
    -------
    Fields of each line of the result (`*_cluster.tsv` or the alignments), in which a sequence is its index in its list.
    No lines if all sequences are too short or too simple for k-mers of MMseqs2.
    """
    require(which("mmseqs"), "mmseqs is not on the PATH; install MMseqs2 (Debian: apt install mmseqs2)")
    with tempfile.TemporaryDirectory(prefix="mmseqs_") as folder:
        fastas = [Path(folder, f"{k}.fasta") for k in range(len(inputs))]
        for fasta, sequences in zip(fastas, inputs, strict=True):
            # numbers as names: MMseqs2 cuts names of FASTA files at blanks and bars
            fasta.write_text("".join(f">{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))
        result = Path(folder, "result")
        words = ["mmseqs", command, *map(str, (*fastas, result, Path(folder, "tmp"))), *options, "-v", "1"]
        run = subprocess.run(words, capture_output=True, text=True)
        if run.returncode and NO_KMER in run.stdout + run.stderr:
            return []
        reason = " ".join((run.stderr or run.stdout).split())
        require(
            not run.returncode, f"mmseqs {command} of {len(inputs[0])} sequences failed ({run.returncode}): {reason}"
        )
        table = result.with_name("result_cluster.tsv") if command == "easy-cluster" else result
        return [line.split("\t") for line in table.read_text().splitlines()]


def split_by_cluster(
    names: Collection[str],
    clusters: Mapping[str, str],
    groups: Mapping[str, str],
    test_share: float = 0.05,
    seed: int = 0,
) -> dict[str, str]:
    """Label entries train or test: whole clusters, the same share of each group.

    Clusters come in a random order. First, each cluster is taken that gives no group too many test entries; then, as
    long as there is one, the cluster that brings the shares of all groups nearest to `test_share`. A group still
    without a test entry gets its smallest cluster if it keeps another one to train on. With a single group, the number
    of test entries differs from its share by at most half of the smallest cluster left over (or is one cluster).

    Parameters
    ----------
    names
        Entries; their order plays no part.
    clusters
        Entry -> representative; absent entries are clusters of their own.
    groups
        Entry -> training group.
    test_share
        Fraction of the entries of each group that become test entries.
    seed
        Of the random order.

    Returns
    -------
    Entry -> "train" or "test". With two clusters or more there is a test entry.
    """
    require(0 < test_share < 1, f"test share {test_share}: expected a number between 0 and 1")
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
