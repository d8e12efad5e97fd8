"""Clusters of chains and entries, with MMseqs2, a stand-in of it and files; the split that keeps clusters whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from data_prepare.dataset.splits import (
    chains_of,
    connected,
    entry_clusters,
    label_clusters,
    mmseqs_clusters,
    read_clusters,
    split_by_cluster,
)

needs_mmseqs = pytest.mark.skipif(shutil.which("mmseqs") is None, reason="mmseqs is not on the PATH")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"a\ta\na b\n", "line 2"),
        (b"a\t\n", "line 1"),
        (b"a\ta\na\tb\tc\n", "line 2"),
        (b"a\ta\nb\tb\nb\ta\n", "line 3: a"),
        (b"\xff\xfe\x00", ""),
        (None, ""),
    ],
)
def test_bad_cluster_files(tmp_path, content, named):
    path = tmp_path / "c.tsv"
    if content is not None:
        path.write_bytes(content)
    refused(lambda: read_clusters(path), path, named)
    path.write_text("a\ta\na\tb x\nc:0\tc:0\n")
    assert read_clusters(path) == {"a": "a", "b x": "a", "c:0": "c:0"}


def test_entries_that_share_a_chain_are_one_cluster():
    link = "<eos><cls>"
    sequences = {"d": "MM", "c": f"KK{link}LL", "b": f"GG{link}KA", "a": "GA", "e": "EE", "f": f"EE{link}WW", "g": "YY"}
    members = {"a": "x", "b:0": "x", "b:1": "y", "c:0": "y", "d": "z"}  # a-b-c by chains; e-f by equal sequence
    assert entry_clusters(sequences, members) == {"d": "d", "c": "a", "b": "a", "a": "a", "e": "e", "f": "e", "g": "g"}
    assert entry_clusters(sequences, {"c": "q", "d": "q"})["d"] == "c"  # a complex clustered as a whole
    assert entry_clusters({"GW": "AA", "b": "GW"}, {"GW": "GW"}) == {"GW": "GW", "b": "b"}  # named like a sequence
    refused(lambda: entry_clusters({"a": "GG"}, {"b": "b"}), "member")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=3), min_size=1, max_size=10), st.randoms())
def test_clusters_are_the_connected_components(chains, shuffler):
    """Against the closure of "shares a cluster" by repeated products of the adjacency matrix."""
    sequences = {
        f"e{k}": "<eos><cls>".join(["A" * (k + 1), *["C" * (k + 1)] * (len(c) - 1)]) for k, c in enumerate(chains)
    }
    members = {
        name: str(cluster)
        for (entry, sequence), own in zip(sequences.items(), chains, strict=True)
        for name, cluster in zip(chains_of(entry, sequence), own, strict=True)
    }
    adjacent = np.array([[bool(set(one) & set(other)) for other in chains] for one in chains])
    for _ in chains:
        adjacent = adjacent @ adjacent
    shuffled = list(sequences.items())
    shuffler.shuffle(shuffled)
    found = entry_clusters(dict(shuffled), members)
    for k in range(len(chains)):
        assert found[f"e{k}"] == min(f"e{j}" for j in np.flatnonzero(adjacent[k]))


@pytest.fixture
def fake_mmseqs(tmp_path, monkeypatch):
    """Put a program `mmseqs` in front of the PATH: the given lines of Python after its arguments are read."""

    def write(*lines):
        folder = tmp_path / "bin"
        folder.mkdir()
        script = folder / "mmseqs"
        script.write_text(
            "\n".join([f"#!{sys.executable}", "import sys", "_, command, fasta, out, tmp, *options = sys.argv", *lines])
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return write


def test_mmseqs_call(fake_mmseqs, tmp_path):
    fake_mmseqs(
        f"open({str(tmp_path / 'seen')!r}, 'w').write(' '.join([command, *options]) + '\\n' + open(fasta).read())",
        "open(out + '_cluster.tsv', 'w').write('0\\t0\\n0\\t2\\n')",  # AA and MM; KK is absent
    )
    sequences = {"p|1": "MM", "q": "KK<eos><cls>AA", "r": "KK", "s x": "YY"}
    assert mmseqs_clusters(sequences, 0.3) == {"p|1": "p|1", "q": "p|1", "r": "p|1", "s x": "s x"}
    command, *fasta = (tmp_path / "seen").read_text().splitlines()
    assert command == "easy-cluster --min-seq-id 0.3 -c 0.8 -v 1"
    assert fasta == [">0", "AA", ">1", "KK", ">2", "MM", ">3", "YY"]  # each sequence once


def test_mmseqs_fails(fake_mmseqs, tmp_path, monkeypatch):
    """Without k-mers, each distinct sequence is a cluster."""
    fake_mmseqs(
        "if 'KKK' in open(fasta).read(): sys.exit('No k-mer could be extracted for the database')",
        "print('first\\nsecond', file=sys.stderr)",
        "sys.exit(3)",
    )
    refused(lambda: mmseqs_clusters({"a": "GG"}), "easy-cluster", "(3)", "first second")
    assert mmseqs_clusters({"a": "KKK", "b": "KKK", "c": "AA"}) == {"a": "a", "b": "a", "c": "c"}
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(lambda: mmseqs_clusters({"a": "GG"}), "mmseqs", "apt install mmseqs2")


def similar(sequence, identity, rng):
    """A copy with a share of `1 - identity` of its residues replaced."""
    letters = list(sequence)
    for place in rng.sample(range(len(letters)), round((1 - identity) * len(letters))):
        letters[place] = rng.choice([letter for letter in "ACDEFGHIKLMNPQRSTVWY" if letter != letters[place]])
    return "".join(letters)


@pytest.mark.slow
def test_an_interruption_ends_what_mmseqs_has_started(fake_mmseqs, tmp_path):
    started = tmp_path / "started"
    fake_mmseqs(
        "import os, signal, subprocess",
        "child = subprocess.Popen(['sleep', '60'])",
        f"open({str(started)!r}, 'w').write(str(child.pid))",
        "os.kill(os.getppid(), signal.SIGUSR1)",
        "child.wait()",
    )
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            mmseqs_clusters({"a": "GG"})
    finally:
        signal.signal(signal.SIGUSR1, before)
    pid, stop = int(started.read_text()), time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < stop
        time.sleep(0.01)


@needs_mmseqs
@pytest.mark.slow
def test_mmseqs_itself():
    rng = random.Random(0)
    one, other, third = ("".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=120)) for _ in range(3))
    sequences = {
        "a": one,
        "near": similar(one, 0.8, rng),
        "far": similar(one, 0.25, rng),
        "complex": f"{other}<eos><cls>{third}",
        "part": "X" + similar(third, 0.8, rng)[1:],
        "peptide": "ACDEFGHIKLMN",
        "peptide again": "ACDEFGHIKLMN",
    }
    assert mmseqs_clusters(sequences) == {
        **dict.fromkeys(["a", "near"], "a"),
        "far": "far",
        **dict.fromkeys(["complex", "part"], "complex"),
        **dict.fromkeys(["peptide", "peptide again"], "peptide"),
    }


@st.composite
def related(draw):
    """Entries of one to three chains, pairs of similar ones, and an order."""
    chains = st.text("ACD", min_size=1, max_size=4)
    sequences = draw(st.lists(st.lists(chains, min_size=1, max_size=3), min_size=1, max_size=15))
    entries = {f"e{k}": "<eos><cls>".join(own) for k, own in enumerate(sequences)}
    names = st.sampled_from(list(entries))
    return entries, draw(st.lists(st.tuples(names, names), max_size=15)), draw(st.permutations(list(entries)))


def labelled(entries, pairs, known, seed):
    """Clusters and the result of `label_clusters` for the entries there are."""
    members = connected(entries, [pair for pair in pairs if {*pair} <= {*entries}])
    clusters = entry_clusters(entries, members)
    return clusters, *label_clusters(entries, clusters, known, 0.4, seed)


@settings(max_examples=60, deadline=None)
@given(related(), st.integers(0, 3))
def test_labels_do_not_depend_on_names_and_order(drawn, seed):
    entries, pairs, order = drawn
    _, labels, moved = labelled(entries, pairs, {}, seed)
    assert moved == {}
    other = {name: f"x{k}" for k, name in enumerate(order)}
    renamed = {other[name]: "<eos><cls>".join(entries[name].split("<eos><cls>")[::-1]) for name in order}
    found = labelled(renamed, [(other[a], other[b]) for a, b in pairs], {}, seed)[1]
    assert {name: found[other[name]] for name in entries} == labels


@settings(max_examples=60, deadline=None)
@given(related(), st.integers(0, 3))
def test_labels_stay_when_entries_are_added(drawn, seed):
    """One by one in any order, also where the new one joins clusters; each entry keeps the label of its first run."""
    entries, pairs, order = drawn
    labels: dict[str, str] = {}
    for number in range(1, len(order) + 1):
        before = labels
        clusters, labels, moved = labelled({name: entries[name] for name in order[:number]}, pairs, before, seed)
        assert len({(clusters[name], labels[name]) for name in labels}) == len(set(clusters.values()))
        assert {name for name, label in before.items() if label != labels[name]} == set(moved)
        for name, other in moved.items():
            assert (before[name], labels[name], before[other]) == ("test", "train", "train")
            assert clusters[name] == clusters[other]
        assert labelled({name: entries[name] for name in order[:number]}, pairs, labels, seed + 1)[1:] == (labels, {})
    if not moved and len(set(clusters.values())) == len(set(entries.values())):  # no relatives: as in one run
        assert labels == labelled(entries, pairs, {}, seed)[1]


@pytest.mark.parametrize("size", [1, 7])
def test_the_test_share_is_expected(size):
    """Whatever the size of the clusters; another seed draws others."""
    clusters = {f"{k} {m}": f"{k}" for k in range(4000) for m in range(size)}
    sequences = {name: f"{'ACDEFGH'[k % 7]}{name}" for k, name in enumerate(clusters)}
    first, other = (label_clusters(sequences, clusters, {}, 0.2, seed)[0] for seed in (0, 1))
    for labels in (first, other):
        assert abs(labels_of(labels, sequences) / len(sequences) - 0.2) < 5 * (0.2 * 0.8 / 4000) ** 0.5
    both = sum(first[name] == other[name] == "test" for name in sequences) / len(sequences)
    assert abs(both - 0.04) < 5 * (0.04 * 0.96 / 4000) ** 0.5


def labels_of(split, names):
    return [split[name] for name in names].count("test")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(0, 5), st.floats(0.01, 0.4), st.randoms())
def test_split(sizes, seed, share, shuffler):
    clusters = {f"{cluster}_{k}": f"{cluster}_0" for cluster, size in enumerate(sizes) for k in range(size)}
    names = list(clusters)
    split = split_by_cluster(names, clusters, share, seed)
    for name, representative in clusters.items():
        assert split[name] == split[representative]
    assert "train" in split.values()
    assert ("test" in split.values()) == (len(sizes) > 1)

    shuffled = shuffler.sample(names, len(names))
    renamed = {name: str(99 - int(clusters[name].split("_")[0])) for name in names}  # sorts the other way round
    assert split_by_cluster(shuffled, renamed, share, seed) == split

    if len(sizes) > 1:
        train = [size for cluster, size in enumerate(sizes) if split[f"{cluster}_0"] == "train"]
        test = labels_of(split, names)
        assert abs(test - share * len(names)) <= min(train) / 2 + 1e-9 or test == min(sizes)


def test_split_of_single_clusters_hits_the_share():
    names = [f"x{k}" for k in range(1000)]
    split = split_by_cluster(names, {})
    assert labels_of(split, names) == 50
    assert split_by_cluster(names, {}, seed=1) != split


def test_split_keeps_a_training_entry():
    assert split_by_cluster("abc", {"b": "b", "c": "b"}) == {"a": "test", "b": "train", "c": "train"}
    assert split_by_cluster("ab", {"b": "a"}) == {"a": "train", "b": "train"}
