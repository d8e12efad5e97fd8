from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from dyna1_inputs import random_sequence, write_codes
from refusals import refused

from data_prepare.nmr.assignments import read_assignments
from model.dyna1.data import (
    AnnotatedProtein,
    ClusterSampler,
    annotated_proteins,
    read_proteins,
    whole_batches,
)


def proteins_of(clusters: str, lengths: tuple[int, ...] = (9, 30, 14)) -> list[AnnotatedProtein]:
    """A protein for each letter, the cluster; "." is a protein without one."""
    random = np.random.default_rng(1)
    made = []
    for number, cluster in enumerate(clusters):
        n = lengths[number % len(lengths)]
        target = random.integers(-1, 2, n).astype(np.int8)
        made.append(AnnotatedProtein(f"p{number}", random_sequence(random, n), target, cluster.strip(".")))
    return made


def numbered(name: str, sequence: str) -> torch.Tensor:
    """Embedding (L, 2): number of the protein and position."""
    return torch.tensor([[float(name[1:]), place] for place in range(len(sequence))])


def pairs(name: str, sequence: str) -> torch.Tensor:
    n = len(sequence)
    return torch.arange(n * n).float().reshape(n, n, 1)


def test_table_gives_targets_and_leaves_out_proteins_without_any(tmp_path, caplog) -> None:
    rows = [("a", "ACDPG", "A.A.A", "refdb", "c1"), ("b", "GG", "..", "refdb", ""), ("c", "GAG", "A^A", "relaxdb", "")]
    path = write_codes(tmp_path / "labels.csv", rows)
    found = read_proteins(path)
    assert [(protein.name, protein.cluster) for protein in found] == [("a", "c1"), ("c", "")]
    assert [protein.target.tolist() for protein in found] == [[0, 1, 0, -1, 0], [0, 1, 0]]
    assert "without a residue to evaluate: 1: b" in caplog.text
    table = read_assignments(path)
    refused(lambda: annotated_proteins(table[1:2], "here"), "here")
    assert annotated_proteins(table, "here", missing_only=True)[1].target.tolist() == [0, 0, 0]
    assert annotated_proteins(table, "here", rex_only=True)[0].target.tolist() == [0, -1, 0, -1, 0]


def test_epoch_holds_one_random_member_of_each_cluster() -> None:
    proteins = proteins_of("aabbb.c.")
    data = ClusterSampler(proteins, seed=3, batch=3, crop=12)
    assert (len(data.clusters), data.updates) == (5, 2)
    drawn = Counter()
    for epoch in range(200):
        windows = [window for update in (0, 1) for window in data.windows(2 * epoch + update)]
        numbers = sorted(int(protein.name[1:]) for protein, _ in windows)
        assert len(numbers) == 5
        assert {5, 6, 7} <= set(numbers)
        assert all(len(set(numbers) & set(members)) == 1 for members in data.clusters)
        drawn.update(numbers)
    assert all(70 < drawn[number] < 130 for number in (0, 1))
    assert all(40 < drawn[number] < 95 for number in (2, 3, 4))
    first = [data.windows(update)[0][0].name for update in range(0, 400, 2)]
    assert len(set(first)) == 8  # in random order


def test_crops_are_random_windows_of_longer_proteins() -> None:
    proteins = proteins_of("....", lengths=(9, 30))
    data = ClusterSampler(proteins, seed=0, batch=4, crop=12)
    starts = {protein.name: set() for protein in proteins}
    for update in range(300):
        for protein, start in data.windows(update):
            starts[protein.name].add(start)
            batch = data.load([(protein, start)], numbered)
            expected = torch.arange(start, start + min(12, len(protein.sequence))).float()
            assert torch.equal(batch.embedding[0, :, 1], expected)
            assert batch.target[0].tolist() == protein.target[start : start + 12].tolist()
    assert starts["p0"] == starts["p2"] == {0}
    assert starts["p1"] == starts["p3"] == set(range(19))


def test_samples_depend_on_seed_and_update_alone() -> None:
    proteins = proteins_of("aabb......")
    whole, late, other = (ClusterSampler(proteins, seed, 3, 12) for seed in (5, 5, 6))
    names = [[(protein.name, start) for protein, start in whole.windows(update)] for update in range(30)]
    assert [(protein.name, start) for protein, start in late.windows(17)] == names[17]
    assert [[(protein.name, start) for protein, start in other.windows(update)] for update in range(30)] != names


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("parts", [1, 2, 9])
def test_processes_share_the_windows_of_an_update(processes: int, parts: int) -> None:
    data = ClusterSampler(proteins_of("." * 10), 0, 4, 12)  # 4, 4 and 2 proteins
    for update in range(6):
        shares = [data.shares(update, rank, processes, parts) for rank in range(processes)]
        assert all(1 <= len(own) <= parts and all(own) for own in shares)
        counted = [(p.name, start) for own in shares for part in own for p, start in part if (p.target >= 0).any()]
        assert sorted(counted) == sorted((p.name, start) for p, start in data.windows(update))
        targets = [data.load(part, numbered).target for own in shares for part in own]
        assert sum(int((target >= 0).sum()) for target in targets) == data.evaluated(update)


def test_batches_of_whole_proteins_are_padded_and_of_similar_length() -> None:
    proteins = proteins_of("." * 11, lengths=(40, 3, 17, 9))
    found = list(whole_batches(proteins, numbered, 4))
    assert sorted(name for batch in found for name in batch.names) == sorted(p.name for p in proteins)
    assert [batch.embedding.shape for batch in found] == [(4, 9, 2), (4, 17, 2), (3, 40, 2)]
    batch, first = found[0], proteins[1]  # of 3 residues
    assert batch.names[0] == "p1"
    assert batch.padding.tolist() == [[False] * 3 + [True] * 6] * 3 + [[False] * 9]
    assert torch.equal(batch.embedding[0, :3], numbered("p1", "AAA"))
    assert (batch.embedding[0, 3:] == 0).all()
    assert batch.target[0].tolist() == [*first.target.tolist(), *[-1] * 6]
    refused(lambda: list(whole_batches([first], lambda name, sequence: torch.zeros(2, 4), 1)), "p1")


def test_pairs_are_cut_and_padded_on_both_sides() -> None:
    proteins = proteins_of("..", lengths=(3, 20))
    data = ClusterSampler(proteins, 0, 2, 12)
    batch = data.load([(proteins[0], 0), (proteins[1], 4)], pairs)
    assert batch.embedding.shape == (2, 12, 12, 1)
    assert torch.equal(batch.embedding[0, :3, :3, 0], torch.arange(9.0).reshape(3, 3))
    assert batch.embedding[0, 3:].abs().sum() + batch.embedding[0, :, 3:].abs().sum() == 0
    assert torch.equal(batch.embedding[1, ..., 0], torch.arange(400.0).reshape(20, 20)[4:16, 4:16])
