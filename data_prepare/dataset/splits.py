"""Clusters of similar sequences, and the split of whole clusters into train and test.

The chains of a complex are named `entry:0`, `entry:1`, ... in the order of `modify_seq`, a single chain like its entry.
Entries that share a cluster by any chain are one cluster: no test chain has a similar training chain.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import Final

import numpy as np
import psutil

from data_prepare.errors import reading, require
from data_prepare.structure.sequence import CHAIN_LINKER

COVERAGE: Final = 0.8
NO_KMER: Final = "No k-mer could be extracted"  # error of MMseqs2 if all sequences are too short or too simple


def chains_of(name: str, modify_seq: str) -> dict[str, str]:
    """Chain name -> sequence of one entry."""
    chains = modify_seq.split(CHAIN_LINKER)
    return {name: modify_seq} if len(chains) == 1 else {f"{name}:{k}": chain for k, chain in enumerate(chains)}


def read_clusters(path: str | Path) -> dict[str, str]:
    """Member -> representative of a TSV of MMseqs2 (`*_cluster.tsv`: representative, member, no header).

    The published clusters of Dyna-1 are of the same form after a header `cluster`, `entry_ID`.
    InputError if the file is missing, a line does not have two fields, or a member is in two clusters.
    """
    with reading(path, "a TSV of representative and member", "give the *_cluster.tsv of MMseqs2"):
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    clusters: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if (number, line) == (1, "cluster\tentry_ID"):
            continue
        representative, _, member = line.partition("\t")
        where = f"{path}, line {number}"
        require(representative and member and "\t" not in member, f"{where}: not representative TAB member: {line!r}")
        other = clusters.setdefault(member, representative)
        require(other == representative, f"{where}: {member} is also in the cluster of {other}; remove one line")
    return clusters


def connected(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name -> alphabetically first name of its connected component in the graph of pairs."""
    from scipy.sparse import coo_array  # half a second, not needed by a finished run
    from scipy.sparse.csgraph import connected_components

    ordered = sorted(names)
    number = {name: k for k, name in enumerate(ordered)}
    ends = np.array([(number[one], number[other]) for one, other in pairs], int).reshape(-1, 2).T  # (2, pairs)
    graph = coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(len(ordered), len(ordered)))
    component = connected_components(graph, directed=False)[1]
    first = np.unique(component, return_index=True)[1]  # of each component
    return {name: ordered[first[k]] for name, k in zip(ordered, component, strict=True)}


def require_members(names: Iterable[str], members: Collection[str]) -> None:
    """Refuse clusters without any of the entries, or of their chains NAME:0, NAME:1, ..."""
    known = {*members, *(member.rpartition(":")[0] for member in members)}
    require(
        not members or not known.isdisjoint(names),
        "no entry is a member of a cluster; name the members like the entries (chains of a complex: NAME:0, ...)",
    )


def entries_outside(sequences: Mapping[str, str], members: Collection[str]) -> list[str]:
    """Entries that are no members of a cluster, nor are their chains; see `entry_clusters`."""
    return [name for name, s in sequences.items() if not any(key in members for key in (name, *chains_of(name, s)))]


def entry_clusters(sequences: Mapping[str, str], members: Mapping[str, str]) -> dict[str, str]:
    """Merge clusters of chains to clusters of entries: entry -> alphabetically first entry of its cluster.

    `sequences` maps an entry to its `modify_seq`, `members` a chain or entry to its representative; InputError if it
    has none of the entries. Other chains are singletons, but equal sequences always share a cluster.
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


def mmseqs_clusters(sequences: Mapping[str, str], min_identity: float = 0.5) -> dict[str, str]:
    """Cluster entries with `mmseqs easy-cluster` on all cores; arguments and result as in `entry_clusters`.

    `min_identity` is the smallest fraction of identical residues in an alignment (paper: 0.5), which covers at least
    the fraction `COVERAGE` of both sequences. Chains too short or too simple for k-mers are clustered only if equal.
    """
    chains = {chain: seq for name in sequences for chain, seq in chains_of(name, sequences[name]).items()}
    distinct = sorted(set(chains.values()))
    options = ["--min-seq-id", f"{min_identity}", "-c", f"{COVERAGE}"]
    rows = run_mmseqs("easy-cluster", [distinct], options)
    of_sequence = dict(zip(distinct, map(str, range(len(distinct))), strict=True))
    of_sequence |= {distinct[int(member)]: representative for representative, member in rows}
    return entry_clusters(sequences, {chain: of_sequence[sequence] for chain, sequence in chains.items()})


def run_mmseqs(command: str, inputs: Sequence[Sequence[str]], options: Sequence[str]) -> list[list[str]]:
    """Run MMseqs2: `easy-cluster` on one list of sequences, or `easy-search` on queries and targets.

    Returns the fields of each line of the result (`*_cluster.tsv` or alignments), in which the name of a sequence is
    its index in its list; no lines if all sequences are too short or too simple for k-mers. InputError if MMseqs2 is
    missing or fails.
    """
    require(which("mmseqs"), "mmseqs is not on the PATH; install MMseqs2 (Debian: apt install mmseqs2)")
    with tempfile.TemporaryDirectory(prefix="mmseqs_") as folder:
        fastas = [Path(folder, f"{k}.fasta") for k in range(len(inputs))]
        for fasta, sequences in zip(fastas, inputs, strict=True):
            # MMseqs2 cuts FASTA names at blanks and bars
            records = (f">{number}\n{sequence}\n" for number, sequence in enumerate(sequences))
            fasta.write_text("".join(records), encoding="utf-8")
        result = Path(folder, "result")
        words = ["mmseqs", command, *map(str, (*fastas, result, Path(folder, "tmp"))), *options, "-v", "1"]
        run = _run(words)
        if run.returncode and NO_KMER in run.stdout + run.stderr:
            return []
        reason = " ".join((run.stderr or run.stdout).split())
        require(
            not run.returncode, f"mmseqs {command} of {len(inputs[0])} sequences failed ({run.returncode}): {reason}"
        )
        table = result.with_name("result_cluster.tsv") if command == "easy-cluster" else result
        return [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with captured texts, but an interruption also ends the programs that `words` has started."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def draw(sequences: Iterable[str], seed: int = 0) -> float:
    """Number from 0 to 1 of a cluster of entries, uniform over clusters: whatever their names and their order.

    It is a hash of the seed and of that chain of the cluster which has the smallest hash. (The smallest hash itself
    would be smaller, the larger the cluster.)
    """
    chains = {chain for sequence in sequences for chain in sequence.split(CHAIN_LINKER)}
    smallest = min(hashlib.sha256(chain.encode()).hexdigest() for chain in chains)
    return int(hashlib.sha256(f"{seed} {smallest}".encode()).hexdigest()[:13], 16) / 16**13  # exact in a float


def label_clusters(
    sequences: Mapping[str, str],
    clusters: Mapping[str, str],
    known: Mapping[str, str],
    test_share: float = 0.05,
    seed: int = 0,
) -> tuple[dict[str, str], dict[str, str]]:
    """Label entries train or test, whole clusters, and keep the labels that are known.

    A cluster with a training entry is train, else one with a test entry is test. Other clusters are test if their
    `draw` is below `test_share`, which is the expected fraction. So entries that are added change no label, unless they
    join a test with a training entry: the test entry becomes train, since a relative of it was trained on.

    `sequences` maps an entry to its `modify_seq`, `clusters` to its representative (others are singletons), `known` to
    its label. Returns entry -> "train" or "test"; and for test entries that became train a training entry of their
    cluster.
    """
    members: dict[str, list[str]] = {}
    for name in sorted(sequences):
        members.setdefault(clusters.get(name, name), []).append(name)
    labels: dict[str, str] = {}
    moved: dict[str, str] = {}
    for cluster in members.values():
        tested, trained = ([name for name in cluster if known.get(name) == label] for label in ("test", "train"))
        test = bool(tested) or draw((sequences[name] for name in cluster), seed) < test_share
        labels |= dict.fromkeys(cluster, "test" if test and not trained else "train")
        if trained:
            moved |= dict.fromkeys(tested, trained[0])
    return labels, moved


def split_by_cluster(
    names: Collection[str], clusters: Mapping[str, str], test_share: float = 0.05, seed: int = 0
) -> dict[str, str]:
    """Label a fixed set of entries train or test: whole clusters, about the fraction `test_share` of the entries.

    One more entry may change all labels; `label_clusters` keeps them.

    In a random order, each cluster becomes test unless that makes too many test entries. The smallest of the others
    follows if that is nearer to the fraction, or if no entry is test yet. So the number of test entries differs from
    the requested one by at most half of the smallest remaining cluster (or is one cluster).

    `clusters` maps an entry to its representative, others are singletons. Returns entry -> "train" or "test"; two or
    more clusters give at least one test entry.
    """
    members: dict[str, list[str]] = {}
    for name in sorted(names):
        members.setdefault(clusters.get(name, name), []).append(name)
    entries = list(members.values())  # by first name, whatever the representatives
    lacking = test_share * len(names)  # test entries
    test: set[str] = set()
    others: list[list[str]] = []
    for k in np.random.default_rng(seed).permutation(len(entries)):
        if len(entries[k]) <= lacking:
            test.update(entries[k])
            lacking -= len(entries[k])
        else:
            others.append(entries[k])
    if len(others) > 1:  # else none is left to train on
        smallest = min(others, key=len)
        if not test or len(smallest) - lacking < lacking:
            test.update(smallest)
    return {name: "test" if name in test else "train" for name in names}
