from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.properties import GROUPS
from model.evaluation.baselines import PARTS, MeanBaselines, training_sums
from model.network.tokenizer import tokenize
from model.training.data import Entry, collate, group_sequences, load_entry
from model.training.processes import Process

MD, _, NMA = GROUPS
Sums = tuple[np.ndarray, np.ndarray]


def sequence_baseline(ids: torch.Tensor, residue: torch.Tensor, pair: torch.Tensor, new: torch.Tensor) -> dict:
    """Predictions for new tokens by means over one training entry."""
    n = len(new)
    fitted = MeanBaselines(NMA, *training_sums(NMA, [Entry("x", ids, residue, pair)], len(ids) + 1))
    return fitted.predict(collate(NMA, [Entry("y", new, torch.zeros(n, 3), torch.zeros(n, n, 3))]))["sequence"]


def test_amino_acid_never_seen_has_the_mean_of_all() -> None:
    ids = tokenize(["AAC"])["input_ids"][0]
    residue, pair = torch.full((5, 3), -1.0), torch.full((5, 5, 3), -1.0)
    residue[1:4] = torch.tensor([1.0, 2.0, 6.0])[:, None]
    pair[1:4, 1:4] = torch.tensor([[5.0, 1, 2], [1, 5, 1], [2, 1, 5]])[..., None]
    outputs = sequence_baseline(ids, residue, pair, tokenize(["ACWWW<eos><cls>W"])["input_ids"][0])
    assert outputs["nma_res1"][0, 1:6].tolist() == [1.5, 6, 3, 3, 3]
    # distances 0, 1, 2 seen; 3 and 4 take that of 2; no pair between chains was seen: mean of all
    torch.testing.assert_close(outputs["nma_pair2"][0, 1, 1:6], torch.tensor([5.0, 1, 2, 2, 2]))
    torch.testing.assert_close(outputs["nma_pair2"][0, 1, 8], torch.tensor((15 + 4 + 4) / 9))


def test_distance_never_seen_has_the_mean_of_the_nearest() -> None:
    ids = tokenize(["AAAAA"])["input_ids"][0]
    distance = (torch.arange(7)[:, None] - torch.arange(7)).abs()
    seen = (distance == 0) | (distance == 1) | (distance == 4)  # 2 is nearer to 1, 3 to 4
    pair = torch.where(seen, distance / 10, -1.0)[..., None].repeat(1, 1, 3)
    outputs = sequence_baseline(ids, torch.zeros(7, 3), pair, ids)
    torch.testing.assert_close(outputs["nma_pair1"][0, 0], torch.tensor([0.0, 0.1, 0.1, 0.4, 0.4, 0.4, 0.4]))


@pytest.fixture
def training(small_data) -> Iterator[tuple[FeatureStore, list[tuple[str, str]]]]:
    with FeatureStore(small_data.store) as store:
        yield store, group_sequences(read_table(small_data.table), store, "train")[MD]


def test_training_entries_are_not_kept(training) -> None:
    store, names = training
    alive: list[weakref.ref] = []

    def watched() -> Iterator[Entry]:
        for entry in (load_entry(store, *name, MD) for name in names):
            assert sum(reference() is not None for reference in alive) <= 1
            alive.append(weakref.ref(entry.pair))
            yield entry

    training_sums(MD, watched(), 30)
    assert len(alive) == 8


def test_sums_do_not_depend_on_the_number_of_processes(training) -> None:
    """Each process adds up whole parts, and the parts are joined in one order; every entry is in a part."""

    class Dealt(Process):
        """One of three; the others return what they would have."""

        def gather(self, value: dict[int, Sums]) -> list[dict[int, Sums]]:
            dealt.append(value)
            return dealt

    store, names = training
    dealt: list[dict[int, Sums]] = []
    for rank in (2, 0):
        with pytest.raises(KeyError):  # the parts of the others are missing
            MeanBaselines.fit(MD, store, names, Dealt(torch.device("cpu"), rank, 3))
    together = MeanBaselines.fit(MD, store, names, Dealt(torch.device("cpu"), 1, 3))
    assert [len(parts) for parts in dealt] == [21, 22, 21]
    assert sum(map(len, dealt)) == PARTS
    alone = MeanBaselines.fit(MD, store, names, Process(torch.device("cpu")))
    entries = [load_entry(store, *name, MD) for name in names]
    batch = collate(MD, entries[:2])
    plain = MeanBaselines(MD, *training_sums(MD, entries, 30)).predict(batch)
    for baseline, outputs in alone.predict(batch).items():
        for name, values in outputs.items():
            assert torch.equal(together.predict(batch)[baseline][name], values)
            torch.testing.assert_close(plain[baseline][name], values, rtol=1e-6, atol=1e-7)
