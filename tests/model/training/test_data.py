from __future__ import annotations

import json
import math
import multiprocessing
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from stores import publish, random_entry, real_entry, without_properties

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.dataset.table import read_table
from data_prepare.properties import GROUPS, entry_columns, properties_of_group
from model.network.tokenizer import TOKEN_ID, tokenize
from model.train_ddp import main
from model.training.data import (
    Batch,
    TrainingSet,
    batches,
    collate,
    default_workers,
    group_sequences,
    load_entry,
    load_sample,
)
from model.training.run_log import SHARE_OF_PEAK
from model.training.schedule import Draw, draws

MD, IDR, NMA = GROUPS


def training_set(data, seed: int = 0) -> TrainingSet:
    store = FeatureStore(data.store)
    return TrainingSet(store, group_sequences(read_table(data.table), store, "train"), seed)


def equal(first: Batch, second: Batch) -> bool:
    assert first.present is second.present is None
    return first[:2] == second[:2] and all(torch.equal(a, b) for a, b in zip(first[2:6], second[2:6], strict=True))


def test_every_epoch_has_every_protein_of_all_sources_once(small_data) -> None:
    dataset = training_set(small_data)
    table = read_table(small_data.table)
    train = table[table["label"] == "train"]
    orders = []
    for group in GROUPS:
        expected = sorted(train.loc[train["group"] == group, "name"])
        size = len(expected)
        for epoch in range(3):
            counters = range(epoch * size, (epoch + 1) * size)
            names = [dataset.sequences[group][dataset.entry_index(group, counter)][0] for counter in counters]
            assert sorted(names) == expected
            orders.append(names)
    assert set(train["source"]) >= {"ATLAS", "GPCRmd", "PED", "mdCATH", "IDRome", "proteinflow_sabdab"}
    assert orders[0] != orders[1] != orders[2]


def test_order_and_crops_follow_from_the_seed(small_data) -> None:
    samples = [Draw(group, counter, 10) for group in GROUPS for counter in range(20)]
    first, again, other = (training_set(small_data, seed) for seed in (0, 0, 1))
    for draw in reversed(samples):  # in any order
        again[draw]
    assert all(torch.equal(first[draw].input_ids, again[draw].input_ids) for draw in samples)
    assert all(first.tokens(draw) == len(first[draw].input_ids) for draw in samples)
    assert [first[draw].name for draw in samples] != [other[draw].name for draw in samples]


def test_exchanged_amino_acids(small_data) -> None:
    """About the share of them, never a special token; features, order and crops are those without exchange."""
    store = FeatureStore(small_data.store)
    sequences = group_sequences(read_table(small_data.table), store, "train")
    plain, some, again = (TrainingSet(store, sequences, 0, exchange=share) for share in (0.0, 0.4, 0.4))
    special, changed, tokens = [TOKEN_ID[token] for token in ("<cls>", "<eos>")], 0, 0
    for draw in [Draw(group, counter, 10) for group in GROUPS for counter in range(40)]:
        first, second = plain[draw], some[draw]
        assert torch.equal(second.input_ids, again[draw].input_ids)
        assert torch.equal(first.residue, second.residue)
        assert torch.equal(first.pair, second.pair)
        kept = torch.isin(first.input_ids, torch.tensor(special))
        assert torch.equal(first.input_ids[kept], second.input_ids[kept])
        changed, tokens = changed + int((first.input_ids != second.input_ids).sum()), tokens + int((~kept).sum())
    assert changed / tokens == pytest.approx(0.4 * 19 / 20, abs=0.06)


def test_crop_is_one_window_of_ids_and_arrays(small_data) -> None:
    dataset = training_set(small_data)
    starts = set()
    for group in GROUPS:
        for counter in range(40):
            part = dataset[Draw(group, counter, 9)]
            sequence = dict(dataset.sequences[group])[part.name]
            whole = load_sample(dataset.store, part.name, sequence, group)
            size = len(whole.input_ids)
            assert len(part.input_ids) == min(9, size)
            fits = [
                start
                for start in range(size - len(part.input_ids) + 1)
                if torch.equal(part.residue, whole.residue[start : start + 9])
                and torch.equal(part.pair, whole.pair[start : start + 9, start : start + 9])
                and torch.equal(part.input_ids, whole.input_ids[start : start + 9])
            ]
            assert len(fits) == 1
            if size - 9 >= 3:
                starts.add("first" if fits[0] == 0 else "last" if fits[0] == size - 9 else "middle")
    assert starts == {"first", "middle", "last"}


def test_rmsf_is_divided_by_its_maximum_in_the_whole_protein(small_data) -> None:
    dataset = training_set(small_data)
    for group in (MD, IDR):
        for name, sequence in dataset.sequences[group]:
            stored, pair = dataset.store.read(name)
            valid = stored[:, 0] != -1
            entry = load_entry(dataset.store, name, sequence, group)
            assert entry.residue[valid, 2].max() == 1
            np.testing.assert_allclose(entry.residue[valid, 2], stored[valid, 2] / stored[valid, 2].max(), rtol=1e-6)
            assert (entry.residue[~valid] == -1).all()
            np.testing.assert_array_equal(np.delete(entry.residue.numpy(), 2, 1), np.delete(stored, 2, 1))
            np.testing.assert_array_equal(entry.pair, pair)
            part = load_entry(dataset.store, name, sequence, group, 1, 4)  # without the largest value, most of the time
            torch.testing.assert_close(part.residue, entry.residue[1:5], rtol=0, atol=0)
    for name, sequence in dataset.sequences[NMA]:
        entry = load_entry(dataset.store, name, sequence, NMA)
        np.testing.assert_array_equal(entry.residue, dataset.store.read(name)[0])


def test_padding_has_the_pad_id_and_targets_of_minus_one(small_data) -> None:
    dataset = training_set(small_data)
    entries = [dataset[Draw(IDR, counter, 1000)] for counter in range(5)]
    batch = collate(IDR, entries)
    longest = max(len(entry.input_ids) for entry in entries)
    assert batch.residue.shape == (5, longest, 47)
    assert batch.pair.shape == (5, longest, longest, 10)
    expected = tokenize([dict(dataset.sequences[IDR])[name] for name in batch.names])
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])
    padding = batch.attention_mask == 0
    assert padding.any()
    assert (batch.residue[padding] == -1).all()
    assert (batch.pair[padding] == -1).all()
    assert (batch.pair.transpose(1, 2)[padding] == -1).all()
    assert all(
        torch.equal(pair[: len(entry.pair), : len(entry.pair)], entry.pair)
        for pair, entry in zip(batch.pair, entries, strict=True)
    )


def test_workers_give_the_same_batches_and_leave_the_random_state_alone(small_data, tmp_path: Path) -> None:
    config = small_data.config(tmp_path)
    before = torch.get_rng_state()
    streams = []
    for workers in (0, 2):
        with closing(batches(training_set(small_data), draws(config, 0, 0, 5), workers, False)) as stream:
            streams.append(list(stream))
    assert torch.equal(before, torch.get_rng_state())
    assert len(streams[0]) == 5 * 2 * 3
    assert all(equal(*pair) for pair in zip(*streams, strict=True))
    table = read_table(small_data.table)
    used = {name for batch in streams[0] for name in batch.names}
    assert used == set(table.loc[table["label"] == "train", "name"])


def test_entries_that_the_store_lacks_are_named_in_one_line(small_data, caplog) -> None:
    table = read_table(small_data.table)
    extra = table.iloc[:7].assign(name=[f"absent_{k}" for k in range(7)])
    sequences = group_sequences(pd.concat([table, extra]), FeatureStore(small_data.store), "train")
    (record,) = caplog.records
    assert f"{small_data.store} lacks 7 of 26 train entries: absent_0, absent_1" in record.message
    assert sum(map(len, sequences.values())) == 19


@pytest.mark.parametrize("workers", [0, 1])
def test_wrong_token_count_names_the_entry(small_data, tmp_path: Path, workers: int) -> None:
    """In one line, also from a worker process."""
    store = FeatureStore(small_data.store)
    sequences = group_sequences(read_table(small_data.table), store, "train")
    name, sequence = sequences[IDR][2]
    sequences[IDR][2] = name, sequence + "G"
    samples = draws(small_data.config(tmp_path), 0, 0, 5)
    with closing(batches(TrainingSet(store, sequences, 0), samples, workers, False)) as stream:
        refused(lambda: list(stream), f"entry {name}:", small_data.store)


def test_wrong_entries_and_empty_groups_are_named(small_data, caplog) -> None:
    table, store = read_table(small_data.table), FeatureStore(small_data.store)
    name, sequence = group_sequences(table, store, "train")[IDR][0]
    refused(lambda: load_entry(store, name, "j" + sequence[1:], IDR), f"entry {name}:", "'j'")
    refused(lambda: load_entry(store, name, sequence, NMA), f"entry {name}:", "47 residue columns")
    without = group_sequences(table[table["group"] != "IDRome"], store, "train")
    some = TrainingSet(store, without, 0)
    assert some.groups == (MD, NMA)
    assert f"no training entry of {IDR}" in caplog.records[-1].message
    whole = training_set(small_data)  # the samples of a group do not depend on the others
    for draw in (Draw(group, counter, 10) for group in some.groups for counter in range(20)):
        assert torch.equal(some[draw].input_ids, whole[draw].input_ids)
    refused(lambda: TrainingSet(store, {group: [] for group in GROUPS}, 0), small_data.store)


@pytest.mark.parametrize("shape", [(), (12,), (12, 47, 2)])
def test_residue_features_of_another_rank_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "s.h5"
    with StoreWriter(path) as writer:
        writer.add("a", *real_entry(10))
    with h5py.File(path, "a") as file:
        del file["a_res_feature"]
        file["a_res_feature"] = np.ones(shape, np.float32)
    for load in (load_entry, load_sample):
        refused(lambda load=load: load(FeatureStore(path), "a", "A" * 10, IDR), path, "entry a")


def test_unexpected_error_of_a_worker_leaves_none_behind(small_data, tmp_path: Path, monkeypatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("in a worker")

    monkeypatch.setattr("model.training.data.load_sample", no_memory)
    samples = draws(small_data.config(tmp_path), 0, 0, 5)
    with (
        pytest.raises(MemoryError) as caught,
        closing(batches(training_set(small_data), samples, 2, False)) as stream,
    ):
        list(stream)
    assert caught.tb is not None  # the traceback keeps the frames and their objects alive
    assert multiprocessing.active_children() == []


def test_entries_that_lack_properties(small_data, tmp_path: Path) -> None:
    """Column and channel 0 tell special tokens as before; what is there keeps its values, the rest is NaN."""
    table, complete = read_table(small_data.table), FeatureStore(small_data.store)
    entries = group_sequences(table, complete, "train")[IDR][:3]
    missing = {entries[0][0]: ["sasa_mean", "sasa_std", "chi", "vdw"], entries[1][0]: ["rmsf_nor", "corr"]}
    store = FeatureStore(without_properties(small_data.store, tmp_path / "s.h5", **missing))
    for start, length in ((0, None), (2, 5)):
        found = [load_entry(store, *entry, IDR, start, length) for entry in entries]
        expected = [load_entry(complete, *entry, IDR, start, length) for entry in entries]
        for own, other in zip(found, expected, strict=True):
            columns, channels = entry_columns(missing.get(own.name, []))
            assert own.missing == tuple(missing.get(own.name, ()))
            for values, whole, which in ((own.residue, other.residue, columns), (own.pair, other.pair, channels)):
                assert torch.equal(values[..., 0] != -1, whole[..., 0] != -1)
                whole[..., which] = torch.where(whole[..., :1] != -1, torch.nan, -1)
                torch.testing.assert_close(values, whole, rtol=0, atol=0, equal_nan=True)
        batch = collate(IDR, found).to(torch.device("cpu"))
        names = properties_of_group(IDR)
        lacking = [[name in missing.get(entry.name, []) for name in names] for entry in found]
        assert (~batch.present).tolist() == lacking
    assert collate(IDR, found[2:]).present is None


def test_training_on_entries_that_lack_properties(small_data, tmp_path: Path) -> None:
    """Losses of properties that every entry lacks are absent from the log, the others finite."""
    names = [name for name in FeatureStore(small_data.store).names() if name.startswith("IDRome")]
    store = without_properties(small_data.store, tmp_path / "s.h5", **{name: ["vdw", "chi"] for name in names})
    main(small_data.arguments(tmp_path / "run", store=store))
    lines = [json.loads(text) for text in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    for line in lines:
        assert {name for name, value in line.items() if value is None} == {"IDRome_vdw", "IDRome_chi", SHARE_OF_PEAK}
        assert all(math.isfinite(value) for value in line.values() if value is not None)


@st.composite
def written_entries(draw):
    """Entries of one kind with holes and missing properties: residue and pair features, missing properties."""
    kind = draw(st.sampled_from(["md", "nma", "dense"]))
    result = []
    for seed in draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4)):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(4, 40))
        dense = kind == "dense" or (kind == "md" and rng.random() < 0.2)
        residue, pair = (
            random_entry(n, seed=seed) if dense else real_entry(n, kind="nma" if kind == "nma" else "md", seed=seed)
        )
        hole = rng.random(len(residue)) < 0.2
        residue[hole], pair[hole], pair[:, hole] = -1, -1, -1
        near = (rng.random(pair.shape[:2]) < 0.02) & (pair[..., 0] != -1)
        np.fill_diagonal(near, False)  # a residue moves with itself
        pair[near, -1] = pair[near, 0 if kind == "nma" else -1] = -0.9999  # -1 in float16
        names = draw(
            st.lists(st.sampled_from(properties_of_group(NMA if kind == "nma" else IDR)), unique=True, max_size=3)
        )
        result.append((residue, pair, names))
    return NMA if kind == "nma" else IDR, result


@settings(max_examples=25, deadline=None)
@given(entries=written_entries(), dtype=st.sampled_from(["float32", "float16"]), window=st.integers(3, 50))
def test_a_packed_batch_made_dense_equals_the_dense_collate(tmp_path_factory, entries, dtype, window: int) -> None:
    """Its pair features are those of a float16 store bit for bit, its residue features those of the store."""
    group, written = entries
    folder = tmp_path_factory.mktemp("stores")
    for kind in ("float16", dtype):
        with StoreWriter(folder / f"{kind}.h5", kind) as writer:
            for k, (residue, pair, missing) in enumerate(written):
                writer.add(str(k), residue, pair, {"missing_properties": json.dumps(missing)} if missing else {})
    samples, expected, exact = [], [], []
    with FeatureStore(folder / "float16.h5") as half, FeatureStore(folder / f"{dtype}.h5") as store:
        for k, (residue, _, _) in enumerate(written):
            name, sequence, start = str(k), "A" * (len(residue) - 2), min(k, len(residue) - 2)
            samples.append(load_sample(store, name, sequence, group, start, window))
            expected.append(load_entry(half, name, sequence, group, start, window))
            exact.append(load_entry(store, name, sequence, group, start, window))
    packed, dense = collate(group, samples), collate(group, expected)
    assert packed.pair.dtype == torch.float16
    found = packed.to(torch.device("cpu"))
    assert found.pair.dtype == torch.float32
    assert found.places is found.interactions is None
    assert torch.equal(found.pair.isnan(), dense.pair.isnan())
    assert torch.equal(found.pair.nan_to_num(nan=7), dense.pair.nan_to_num(nan=7))
    assert torch.equal(found.residue.nan_to_num(nan=7), collate(group, exact).residue.nan_to_num(nan=7))
    assert torch.equal(found.input_ids, dense.input_ids)
    assert found.present is dense.present is None or torch.equal(found.present, dense.present)
    length = found.input_ids.shape[1]
    wide = packed.to(torch.device("cpu"), length + 3)
    for name, outside in (("input_ids", 1), ("attention_mask", 0), ("residue", -1), ("pair", -1)):
        whole, part = getattr(wide, name), getattr(found, name)
        inside = (slice(None), slice(length), slice(length))[: 3 if name == "pair" else 2]
        assert torch.equal(whole[inside].nan_to_num(nan=7), part.nan_to_num(nan=7))
        whole[inside] = outside
        assert (whole == outside).all()
    number = torch.finfo(torch.float16).eps
    torch.testing.assert_close(found.pair, collate(group, exact).pair, rtol=number / 2, atol=1e-7, equal_nan=True)


def test_interactions_are_handed_over_as_a_list(tmp_path: Path) -> None:
    """At most a fifth of the bytes of the dense batch; a published file is not packed, but gives the same."""
    entries = {str(k): real_entry(residues, seed=k) for k, residues in enumerate((200, 250))}
    with StoreWriter(tmp_path / "s.h5") as writer:
        for name, entry in entries.items():
            writer.add(name, *entry)
    batches = []
    for path in (tmp_path / "s.h5", publish(tmp_path / "p.h5", **entries)):
        with FeatureStore(path) as store:
            samples = [load_sample(store, name, "A" * (len(entry[0]) - 2), IDR) for name, entry in entries.items()]
        batches.append(collate(IDR, samples))
    packed, published = batches
    assert packed.places.dtype == torch.int32
    assert published.places is None
    dense = packed.to(torch.device("cpu"))
    assert equal(dense, published.to(torch.device("cpu")))
    tensors = (packed.residue, packed.pair, packed.places, packed.interactions)
    assert 5 * sum(tensor.nbytes for tensor in tensors) < dense.residue.nbytes + dense.pair.nbytes


@pytest.mark.parametrize(("cores", "ranks", "expected"), [(16, None, 16), (16, "4", 4), (3, "8", 1), (7, "2", 3)])
def test_readers_share_the_cores_of_this_process(monkeypatch, cores: int, ranks: str | None, expected: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    if ranks:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    else:
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert default_workers(torch.device("cuda")) == expected
    assert default_workers(torch.device("cpu")) == 0
