"""Training and validation apart from each other and from the tests."""

from __future__ import annotations

import random
import shutil

import pytest
from refusals import refused

from data_prepare.nmr import splits
from data_prepare.nmr.assignments import assignment_table
from data_prepare.nmr.splits import (
    bmrb_id,
    join_tests,
    similar_pairs,
    train_and_validation,
    with_clusters,
    without_tests,
)

needs_mmseqs = pytest.mark.skipif(shutil.which("mmseqs") is None, reason="mmseqs is not on the PATH")
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


def protein(length, seed):
    return "".join(random.Random(seed).choices(AMINO_ACIDS, k=length))


def relative(sequence, identity, seed):
    """Sequence in which about a fraction of 1 - `identity` of the residues differs."""
    rng = random.Random(seed)
    return "".join(letter if rng.random() < identity else rng.choice(AMINO_ACIDS) for letter in sequence)


def codes(sequences, source="refdb"):
    return assignment_table([(name, sequence, "A" * len(sequence)) for name, sequence in sequences.items()], source)


@pytest.fixture
def aligned(monkeypatch):
    """Call it with rows of (query, target, identity, query coverage, target coverage) that MMseqs2 shall find."""

    def give(*rows):
        asked = []
        found = [[str(field) for field in row] for row in rows]
        monkeypatch.setattr(splits, "run_mmseqs", lambda *words: asked.append(words) or found)
        return asked

    return give


def test_bmrb_id():
    assert {bmrb_id(name) for name in ("15000", "15000_2", "bmr15000")} == {"15000"}
    assert {bmrb_id(name) for name in ("ACBP", "15000_A", "1_2_3")} == {None}


def test_limits_of_similarity(aligned):
    aligned((0, 0, 0.3, 0.5, 0.1), (1, 0, 0.3, 0.1, 0.5), (2, 0, 0.29, 1, 1), (3, 0, 0.9, 0.49, 0.49), (4, 0, 1, 1, 1))
    sequences = dict(zip("abcde", ["GA", "GC", "GD", "GE", "GF"], strict=True))
    assert similar_pairs(sequences, {"t": "KKK"}) == [("a", "t", 0.3), ("b", "t", 0.3), ("e", "t", 1.0)]
    assert similar_pairs(sequences, {"t": "KKK"}, 0.25)[2] == ("c", "t", 0.29)
    assert similar_pairs(sequences, {"t": "KGAK", "u": "E"}, 1) == [("a", "t", 1.0), ("d", "u", 1.0), ("e", "t", 1.0)]


@pytest.mark.slow
@needs_mmseqs
def test_search_is_sensitive_and_not_credulous():
    """Most relatives of short proteins at 37 % identity are found, and hardly any shuffled sequence."""
    tests = {f"t{k}": protein(60, k) for k in range(40)}
    relatives = {name: relative(sequence, 0.34, name) for name, sequence in tests.items()}
    pairs = similar_pairs(relatives | {f"s{k}": protein(60, 100 + k) for k in range(150)}, tests)
    assert len({name for name, test, _ in pairs if name == test}) >= 34
    assert len({name for name, _, _ in pairs} - tests.keys()) <= 5


def test_without_tests(aligned):
    names = ["15000", "15001_1", "15002", "ACBP", "15003"]
    table = codes({name: protein(30, k) for k, name in enumerate(names)})
    tests = {name: protein(30, 9 + k) for k, name in enumerate(["15001", "T", "15002"])}
    asked = aligned((0, 0, 0.75, 1, 1), (0, 1, 0.8, 1, 1), (0, 2, 0.8, 1, 1), (2, 1, 0.7, 1, 1), (4, 1, 0.69, 1, 1))
    kept, removed = without_tests(table, tests, 0.7)
    (command, inputs, options) = asked[0]
    assert (command, inputs) == ("easy-search", [table["sequence"].tolist(), list(tests.values())])
    assert " -k 5 --mask 0 --comp-bias-corr 0 " in " ".join(options)  # the README has the rates measured with these
    assert kept["entry_ID"].tolist() == ["ACBP", "15003"]
    assert removed.fillna(-1).to_numpy().tolist() == [
        ["15000", "T", 0.8, "identity of at least 70%"],
        ["15001_1", "15001", -1, "same BMRB id"],
        ["15002", "15002", 0.7, "same BMRB id"],
    ]


def test_clusters_of_mmseqs_and_of_a_file(tmp_path, aligned):
    table = codes({"a": "GG", "b": "GA", "c": "GK", "d": "GG"})
    (tmp_path / "c.tsv").write_text("x\tc\nx\tb\n")
    assert with_clusters(table, clusters=tmp_path / "c.tsv")["cluster"].tolist() == ["a", "b", "b", "a"]
    aligned((1, 2, 0.5, 1, 1), (2, 0, 0.4, 1, 1), (3, 1, 0.39, 1, 1))
    table = codes({"a": "GG", "b": "GA", "c": "GK", "d": "KK"})
    assert with_clusters(table, 0.4)["cluster"].tolist() == ["a", "a", "a", "d"]  # a and b through c


def test_train_and_validation_keep_clusters_whole():
    table = codes({f"e{k}": protein(20, k) for k in range(60)})
    assert len(train_and_validation(table)[1]) == 6  # 10 %
    table["cluster"] = ["" if k % 3 == 0 else f"c{k // 6}" for k in range(60)]
    train, validation = train_and_validation(table, 0.2, seed=1)
    assert sorted([*train["entry_ID"], *validation["entry_ID"]]) == sorted(table["entry_ID"])
    assert set(train["cluster"]) & set(validation["cluster"]) == {""}  # an empty one is a cluster of its own
    assert 9 <= len(validation) <= 15
    again = train_and_validation(table.sample(frac=1, random_state=0), 0.2, seed=1)[1]
    assert set(again["entry_ID"]) == set(validation["entry_ID"])
    assert set(train_and_validation(table, 0.2, seed=2)[1]["entry_ID"]) != set(validation["entry_ID"])
    refused(lambda: train_and_validation(table.assign(cluster="c")))
    refused(lambda: train_and_validation(table[:0]))


def test_a_test_name_with_two_sequences_is_refused():
    one, same, other = codes({"TT": "GG", "A": "GG"}), codes({"TT": "GG", "B": "GA"}), codes({"TT": "GK"})
    assert join_tests({"T1": one, "T2": same}) == {"TT": "GG", "A": "GG", "B": "GA"}
    refused(lambda: join_tests({"T1": one, "T2": other}), "TT", "T1", "T2")
