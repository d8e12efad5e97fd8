from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.properties import GROUPS
from model.evaluation import baselines
from model.evaluation.baselines import PARTS, MeanBaselines, distance_class, training_sums
from model.network.tokenizer import tokenize
from model.training.data import Entry, collate, group_sequences, load_entry
from model.training.processes import Process

MD, _, NMA = GROUPS
Sums = tuple[np.ndarray, np.ndarray]


def test_distance_class() -> None:
    """0 between chains, 1 + |i-j| within one."""
    ids = tokenize(["AC<eos><cls>D"])["input_ids"][0].numpy()  # <cls> A C <eos> | <cls> D <eos>
    classes = distance_class(ids)
    assert classes[0].tolist() == [1, 2, 3, 4, 0, 0, 0]
    assert classes[5].tolist() == [0, 0, 0, 0, 2, 1, 2]
    assert (classes == classes.T).all()


def test_amino_acid_never_seen_has_the_mean_of_all() -> None:
    ids = tokenize(["AAC"])["input_ids"][0]
    residue, pair = torch.full((5, 3), -1.0), torch.full((5, 5, 3), -1.0)
    residue[1:4] = torch.tensor([1.0, 2.0, 6.0])[:, None]
    pair[1:4, 1:4] = torch.tensor([[5.0, 1, 2], [1, 5, 1], [2, 1, 5]])[..., None]
    fitted = MeanBaselines(NMA, *training_sums(NMA, [Entry("x", ids, residue, pair)], 6))
    new = tokenize(["ACWWW<eos><cls>W"])["input_ids"][0]
    n = len(new)
    outputs = fitted.predict(collate(NMA, [Entry("y", new, torch.zeros(n, 3), torch.zeros(n, n, 3))]))["sequence"]
    assert outputs["nma_res1"][0, 1:6].tolist() == [1.5, 6, 3, 3, 3]
    # distances 0, 1, 2 seen; 3 and 4 take that of 2; no pair between chains was seen: mean of all
    torch.testing.assert_close(outputs["nma_pair2"][0, 1, 1:6], torch.tensor([5.0, 1, 2, 2, 2]))
    torch.testing.assert_close(outputs["nma_pair2"][0, 1, 8], torch.tensor((15 + 4 + 4) / 9))


def test_distance_never_seen_has_the_mean_of_the_nearest() -> None:
    ids = tokenize(["AAAAA"])["input_ids"][0]
    distance = (torch.arange(7)[:, None] - torch.arange(7)).abs()
    seen = (distance == 0) | (distance == 1) | (distance == 4)  # 2 is nearer to 1, 3 to 4
    pair = torch.where(seen, distance / 10, -1.0)[..., None].repeat(1, 1, 3)
    fitted = MeanBaselines(NMA, *training_sums(NMA, [Entry("x", ids, torch.zeros(7, 3), pair)], 8))
    outputs = fitted.predict(collate(NMA, [Entry("y", ids, torch.zeros(7, 3), torch.zeros(7, 7, 3))]))["sequence"]
    torch.testing.assert_close(outputs["nma_pair1"][0, 0], torch.tensor([0.0, 0.1, 0.1, 0.4, 0.4, 0.4, 0.4]))


def test_training_entries_are_not_kept(small_data) -> None:
    alive: list[weakref.ref] = []

    def watched() -> Iterator[Entry]:
        for entry in entries:
            assert sum(reference() is not None for reference in alive) <= 1
            alive.append(weakref.ref(entry.pair))
            yield entry

    with FeatureStore(small_data.store) as store:
        names = group_sequences(read_table(small_data.table), store, "train")[MD]
        entries = (load_entry(store, name, sequence, MD) for name, sequence in names)
        training_sums(MD, watched(), 30)
    assert len(alive) == 8


def test_sums_round_the_same_way_for_any_number_of_processes(small_data) -> None:
    """Each process adds up whole parts, and the parts are joined in one order."""

    class Dealt(Process):
        """One of three; the others give what they would have."""

        def gather(self, value: dict[int, Sums]) -> list[dict[int, Sums]]:
            dealt.append(value)
            return dealt

    with FeatureStore(small_data.store) as store:
        entries = group_sequences(read_table(small_data.table), store, "train")[MD]
        alone = MeanBaselines.fit(MD, store, entries, Process(torch.device("cpu")))
        dealt: list[dict[int, Sums]] = []
        with pytest.raises(KeyError):  # the parts of the others are missing
            MeanBaselines.fit(MD, store, entries, Dealt(torch.device("cpu"), 2, 3))
        with pytest.raises(KeyError):
            MeanBaselines.fit(MD, store, entries, Dealt(torch.device("cpu"), 0, 3))
        together = MeanBaselines.fit(MD, store, entries, Dealt(torch.device("cpu"), 1, 3))
        assert [len(parts) for parts in dealt] == [21, 22, 21]
        assert sum(map(len, dealt)) == PARTS
        batch = collate(MD, [load_entry(store, *entry, MD) for entry in entries[:2]])
    expected, found = alone.predict(batch), together.predict(batch)
    for baseline, outputs in expected.items():
        assert all(torch.equal(found[baseline][name], values) for name, values in outputs.items())


def test_every_training_entry_is_in_a_part(small_data, monkeypatch) -> None:
    monkeypatch.setattr(baselines, "PARTS", 3)
    with FeatureStore(small_data.store) as store:
        names = group_sequences(read_table(small_data.table), store, "train")[MD]
        entries = [load_entry(store, *name, MD) for name in names]
        fitted = MeanBaselines.fit(MD, store, names, Process(torch.device("cpu")))
    plain = MeanBaselines(MD, *training_sums(MD, entries, 30))
    batch = collate(MD, entries[:2])
    found = fitted.predict(batch)
    for baseline, outputs in plain.predict(batch).items():
        for name, values in outputs.items():
            torch.testing.assert_close(found[baseline][name], values, rtol=1e-6, atol=1e-7)
