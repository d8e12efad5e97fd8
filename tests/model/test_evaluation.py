from __future__ import annotations

import json
import weakref
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from data_prepare.errors import InputError
from data_prepare.loss_weights import read_loss_weights
from data_prepare.properties import GROUPS, PAIR_CHANNELS, RESIDUE_COLUMNS, properties_of_group
from data_prepare.store import FeatureStore, StoreWriter, to_token_space
from data_prepare.table import read_table, write_table
from model.config import ModelConfig
from model.dance import DanceModel
from model.dataset import Entry, collate, group_sequences, load_entry
from model.evaluation import Baselines, correlations, evaluate, length_batches, main, pair_classes
from model.tokenizer import tokenize

MD, IDR, NMA = GROUPS
PREDICTORS = ("model", "mean", "sequence")


@pytest.fixture(scope="module")
def model() -> DanceModel:
    torch.manual_seed(3)
    return DanceModel(ModelConfig(hidden=16, layers=2, heads=2, feed_forward=32))


def run(data, model: DanceModel, **options: int) -> dict:
    table, weights = read_table(data.table), read_loss_weights(data.weights)
    with FeatureStore(data.store) as store:
        return evaluate(model, table, store, weights, progress=False, **options)


def entries(data, group: str, label: str, length: int | None = None) -> Iterator[Entry]:
    with FeatureStore(data.store) as store:
        for name, sequence in group_sequences(read_table(data.table), store, label)[group]:
            yield load_entry(store, name, sequence, group, 0, length)


def columns_of(name: str, group: str) -> slice | int:
    """Columns of a property in the arrays of an entry, counted by hand."""
    if name in PAIR_CHANNELS:
        return PAIR_CHANNELS[name] - (10 if group == NMA else 0)
    first, width = RESIDUE_COLUMNS[name]
    first -= 47 if group == NMA else 0
    return slice(first, first + width)


def plain_baselines(data, group: str) -> tuple[np.ndarray, dict, np.ndarray, dict]:
    """Means by loops over single positions."""
    residues, pairs = defaultdict(list), defaultdict(list)
    for entry in entries(data, group, "train"):
        ids = entry.input_ids.tolist()
        chain, chains = -1, []
        for token in ids:
            chain += token == 0
            chains.append(chain)
        for i, token in enumerate(ids):
            if entry.residue[i, 0] != -1:
                residues[token].append(entry.residue[i].numpy())
            for j in range(len(ids)):
                if entry.pair[i, j, 0] != -1:
                    pairs[abs(i - j) if chains[i] == chains[j] else "between"].append(entry.pair[i, j].numpy())
    means = []
    for found in (residues, pairs):
        means.append(np.mean([row for rows in found.values() for row in rows], axis=0, dtype=np.float64))
        means.append({key: np.mean(rows, axis=0, dtype=np.float64) for key, rows in found.items()})
    return tuple(means)


def plain_loss(predictions: list[dict], targets: list[Entry], group: str) -> dict[str, float]:
    """Mean over proteins of sqrt(MSE), one protein at a time."""
    losses = {}
    for name in properties_of_group(group):
        single = []
        for prediction, entry in zip(predictions, targets, strict=True):
            target = (entry.pair if name in PAIR_CHANNELS else entry.residue).numpy().astype(np.float64)
            valid = target[..., 0] != -1
            error = (
                prediction[name].reshape(target[..., columns_of(name, group)].shape)
                - target[..., columns_of(name, group)]
            )
            if valid.any():
                single.append(np.sqrt(np.mean(error[valid] ** 2)))
        losses[name] = np.mean(single)
    return losses


@pytest.mark.parametrize("length", [1024, 9])
def test_losses_equal_plain_loops(small_data, model: DanceModel, length: int) -> None:
    """Of the network and of both baselines; cut proteins are compared from their first token on."""
    metrics = run(small_data, model, length=length)
    weights = read_loss_weights(small_data.weights)
    assert list(metrics) == list(GROUPS)
    for group in GROUPS:
        targets = list(entries(small_data, group, "test", length))
        assert metrics[group]["entries"] == len(targets)
        residue_mean, by_letter, pair_mean, by_distance = plain_baselines(small_data, group)
        distances = np.array(sorted(key for key in by_distance if key != "between"))
        predictions: dict[str, list[dict]] = {name: [] for name in PREDICTORS}
        for entry in targets:
            n = len(entry.input_ids)
            with torch.no_grad():
                outputs = model.eval()(entry.input_ids[None])
            predictions["model"].append({name: outputs[name][0].numpy() for name in properties_of_group(group)})
            chain = (entry.input_ids == 0).cumsum(0).tolist()
            letter = np.stack([by_letter.get(token, residue_mean) for token in entry.input_ids.tolist()])
            pair = np.empty((n, n, len(pair_mean)))
            for i in range(n):
                for j in range(n):
                    nearest = distances[np.abs(distances - abs(i - j)).argmin()]
                    pair[i, j] = by_distance[nearest] if chain[i] == chain[j] else by_distance["between"]
            for predictor, r, p in (
                ("mean", np.broadcast_to(residue_mean, letter.shape), np.broadcast_to(pair_mean, pair.shape)),
                ("sequence", letter, pair),
            ):
                single = {}
                for name in properties_of_group(group):
                    single[name] = (p if name in PAIR_CHANNELS else r)[..., columns_of(name, group)]
                predictions[predictor].append(single)
        for predictor in PREDICTORS:
            expected = plain_loss(predictions[predictor], targets, group)
            assert metrics[group][predictor]["properties"] == pytest.approx(expected, rel=1e-5), (group, predictor)
            total = sum(weights[group][name] * value for name, value in expected.items())
            assert metrics[group][predictor]["loss"] == pytest.approx(total, rel=1e-5)


def test_batches_change_no_number(small_data, model: DanceModel) -> None:
    model.train()  # dropout is off all the same
    one, many = run(small_data, model, batch_size=1), run(small_data, model, batch_size=16)
    for group in GROUPS:
        for predictor in PREDICTORS:
            assert one[group][predictor]["loss"] == pytest.approx(many[group][predictor]["loss"], rel=1e-5)
            assert one[group][predictor]["properties"] == pytest.approx(many[group][predictor]["properties"], rel=1e-5)
            for name, values in one[group][predictor].get("correlations", {}).items():
                other = many[group][predictor]["correlations"][name]
                assert values == (pytest.approx(other, rel=1e-4, abs=1e-5) if values["proteins"] else other)


def test_batches_hold_proteins_of_similar_length(small_data) -> None:
    """All test entries, no more than allowed at a time, no more pairs than one protein of the full length."""
    with FeatureStore(small_data.store) as store:
        held = group_sequences(read_table(small_data.table), store, "test")[MD]
        for length, size, expected in ((1024, 16, [4]), (1024, 3, [3, 1]), (8, 16, [1, 1, 1, 1])):
            batches = list(length_batches(store, MD, held, length, size))
            assert [len(batch.names) for batch in batches] == expected
            assert sorted(name for batch in batches for name in batch.names) == sorted(name for name, _ in held)
            lengths = [n for batch in batches for n in batch.attention_mask.sum(1).tolist()]
            assert lengths == sorted(lengths)
            assert max(lengths) <= length


def test_correlations_are_medians_over_proteins(small_data, model: DanceModel) -> None:
    metrics = run(small_data, model)
    found = {name: [] for name in ("rmsf_nor", "sasa_mean", "corr")}
    for entry in entries(small_data, MD, "test"):
        with torch.no_grad():
            outputs = model.eval()(entry.input_ids[None])
        valid = entry.residue[:, 0] != -1
        for name, column in (("rmsf_nor", 2), ("sasa_mean", 0)):
            a, b = outputs[name][0][valid].numpy(), entry.residue[valid, column].numpy()
            found[name].append((pearsonr(a, b)[0], spearmanr(a, b)[0]))
        n = len(entry.input_ids)
        places = [(i, j) for i in range(n) for j in range(n) if i != j and entry.pair[i, j, 0] != -1]
        a, b = (
            np.array([matrix[i, j].item() for i, j in places]) for matrix in (outputs["corr"][0], entry.pair[..., 9])
        )
        found["corr"].append((pearsonr(a, b)[0], spearmanr(a, b)[0]))
    for name, values in found.items():
        pearson, spearman = np.median(values, axis=0)
        expected = {"pearson": pearson, "spearman": spearman, "proteins": 4}
        assert metrics[MD]["model"]["correlations"][name] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    # a constant has no correlation; normal modes have none of these properties
    assert metrics[MD]["mean"]["correlations"]["corr"] == {"pearson": None, "spearman": None, "proteins": 0}
    assert "correlations" not in metrics[NMA]["model"]


def test_correlation_that_does_not_exist() -> None:
    values = np.array([1.0, 2.0, 4.0])
    assert correlations(values, values**2) == pytest.approx((pearsonr(values, values**2)[0], 1.0))
    assert correlations(values, np.ones(3)) is None
    assert correlations(values[:2], values[:2]) is None


def test_pair_classes() -> None:
    """0 between chains, 1 + |i-j| within one."""
    ids = tokenize(["AC<eos><cls>D"])["input_ids"][0].numpy()  # <cls> A C <eos> | <cls> D <eos>
    classes = pair_classes(ids)
    assert classes[0].tolist() == [1, 2, 3, 4, 0, 0, 0]
    assert classes[5].tolist() == [0, 0, 0, 0, 2, 1, 2]
    assert (classes == classes.T).all()


def test_features_that_follow_from_sequence_and_distance_are_predicted(tmp_path: Path, model: DanceModel) -> None:
    """The second baseline has no error there, the first has; distances beyond those seen count as the longest seen."""
    random = np.random.default_rng(0)
    letters = list("ACDEFGHIKLMNPQRSTVWY")
    value = {letter: random.random(50) for letter in letters}
    rows = []
    with StoreWriter(tmp_path / "s.h5") as store:
        for group in GROUPS:
            for name, n, label in (("a", 40, "train"), ("b", 30, "train"), ("c", 46, "test")):
                sequence = "".join(letters) + "".join(random.choice(letters, n - 20))
                distance = np.minimum(np.abs(np.subtract.outer(np.arange(n), np.arange(n))), 39) / 100
                width, channels = (3, 3) if group == NMA else (47, 10)
                residue = np.stack([value[letter][:width] for letter in sequence])
                if group != NMA:
                    residue[:, 2] = 1.0  # RMSF, which is divided by its maximum
                pair = np.repeat(distance[..., None], channels, axis=-1)
                store.add(f"{group}_{name}", *to_token_space(residue, pair, [n]))
                rows.append((f"{group}_{name}", sequence, group, label))
    write_table(tmp_path / "t.csv", pd.DataFrame(rows, columns=["name", "modify_seq", "source", "label"]))
    weights = {group: dict.fromkeys(properties_of_group(group), 1.0) for group in GROUPS}
    with FeatureStore(tmp_path / "s.h5") as store:
        metrics = evaluate(model, read_table(tmp_path / "t.csv"), store, weights, progress=False)
    for group in GROUPS:
        for name, loss in metrics[group]["sequence"]["properties"].items():
            assert loss < 1e-6, (group, name)
            assert name == "rmsf_nor" or metrics[group]["mean"]["properties"][name] > 0.02, (group, name)


def test_amino_acid_never_seen_has_the_mean_of_all() -> None:
    ids = tokenize(["AAC"])["input_ids"][0]
    residue, pair = torch.full((5, 3), -1.0), torch.full((5, 5, 3), -1.0)
    residue[1:4] = torch.tensor([1.0, 2.0, 6.0])[:, None]
    pair[1:4, 1:4] = torch.tensor([[5.0, 1, 2], [1, 5, 1], [2, 1, 5]])[..., None]
    baselines = Baselines(NMA, [Entry("x", ids, residue, pair)])
    new = tokenize(["ACWWW<eos><cls>W"])["input_ids"][0]
    n = len(new)
    outputs = baselines.sequence(collate(NMA, [Entry("y", new, torch.zeros(n, 3), torch.zeros(n, n, 3))]))
    assert outputs["nma_res1"][0, 1:6].tolist() == [1.5, 6, 3, 3, 3]
    # distances 0, 1, 2 seen; 3 and 4 take that of 2; no pair between chains was seen: mean of all
    torch.testing.assert_close(outputs["nma_pair2"][0, 1, 1:6], torch.tensor([5.0, 1, 2, 2, 2]))
    torch.testing.assert_close(outputs["nma_pair2"][0, 1, 8], torch.tensor((15 + 4 + 4) / 9))


def test_distance_never_seen_has_the_mean_of_the_nearest() -> None:
    ids = tokenize(["AAAAA"])["input_ids"][0]
    distance = (torch.arange(7)[:, None] - torch.arange(7)).abs()
    seen = (distance == 0) | (distance == 1) | (distance == 4)  # 2 is nearer to 1, 3 to 4
    pair = torch.where(seen, distance / 10, -1.0)[..., None].repeat(1, 1, 3)
    baselines = Baselines(NMA, [Entry("x", ids, torch.zeros(7, 3), pair)])
    outputs = baselines.sequence(collate(NMA, [Entry("y", ids, torch.zeros(7, 3), torch.zeros(7, 7, 3))]))
    torch.testing.assert_close(outputs["nma_pair1"][0, 0], torch.tensor([0.0, 0.1, 0.1, 0.4, 0.4, 0.4, 0.4]))


def test_training_entries_are_not_kept(small_data) -> None:
    alive: list[weakref.ref] = []

    def watched() -> Iterator[Entry]:
        for entry in entries(small_data, MD, "train"):
            assert sum(reference() is not None for reference in alive) <= 1
            alive.append(weakref.ref(entry.pair))
            yield entry

    Baselines(MD, watched())
    assert len(alive) == 8


def test_what_is_needed(small_data, model: DanceModel) -> None:
    table, weights = read_table(small_data.table), read_loss_weights(small_data.weights)
    store = FeatureStore(small_data.store)
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate(model, table[table["label"] == "train"], store, weights)
    with pytest.raises(InputError, match="no training entry of ATLAS"):
        evaluate(model, table[table["label"] == "test"], store, weights)
    rest = evaluate(model, table[table["group"] != IDR], store, weights, progress=False)
    assert list(rest) == [MD, NMA]


def test_command(small_data, model: DanceModel, tmp_path: Path, capsys) -> None:
    model.save_pretrained(tmp_path / "model")
    words = ["--table", small_data.table, "--store", small_data.store, "--weights", small_data.weights]
    words = [str(word) for word in (*words, "--output", tmp_path / "new/metrics.json", "--device", "cpu")]
    main(["--checkpoint", str(tmp_path / "model"), *words])
    written = json.loads((tmp_path / "new/metrics.json").read_text())
    assert written["groups"] == run(small_data, model)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["metrics.json"]
    printed = capsys.readouterr().out
    assert f"{written['groups'][NMA]['sequence']['properties']['nma_pair3']:.4f}" in printed
    assert f"{written['groups'][MD]['model']['loss']:.4f}" in printed

    (tmp_path / "model/model.safetensors").write_bytes(b"no weights")
    for checkpoint, message in (
        (tmp_path / "model", "cannot be read as weights"),
        (tmp_path / "absent", "no such file"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["--checkpoint", str(checkpoint), *words])
        assert left.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error
    with pytest.raises(InputError):
        main(["--checkpoint", str(tmp_path / "absent"), *words, "--debug"])
    with pytest.raises(SystemExit) as left:
        main(["--checkpoint", "x", "--store", str(tmp_path / "absent.h5")])
    assert left.value.code == 2
    assert "--table data/table.csv, --store" in capsys.readouterr().err
