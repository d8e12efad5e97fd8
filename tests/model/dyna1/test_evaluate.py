"""`seqdance dyna1 evaluate`: scores, files, options, published numbers, wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from dyna1_inputs import logits_of_chain, random_sequence, write_codes
from refusals import command_refused, refused

from model.dyna1.classifier import PRIOR_LOGIT, Classifier, Dyna1Config, load_dyna1
from model.dyna1.data import read_proteins
from model.dyna1.embeddings.embedders import OneHot
from model.dyna1.embeddings.source import ChainInput
from model.dyna1.evaluate import (
    AREAS,
    CLASSIFIER,
    chance_metrics,
    dataset_metrics,
    logits_of,
    metrics_per_protein,
    pooled,
    without_rounding,
)
from model.evaluation.metrics import auroc, average_precision, chance_average_precision
from model.network.weights import write_model
from seqdance.commands.dyna1.evaluate import main

SIZES = {"width": 24, "layers": 2, "heads": 3, "feed_forward": 16}


TARGETS = {
    "a": np.array([-1, 1, 0, 1, 0, -1, 0], np.int8),
    "one positive": np.array([0, 0, 1, -1], np.int8),
    "b": np.array([1, 1, 0, -1], np.int8),
    "all": np.array([1, 1], np.int8),
    "none": np.array([-1, -1], np.int8),
}


def write_labels(path: Path, number: int = 9, seed: int = 0) -> None:
    """Random relaxdb assignments; the last protein has no positive."""
    random = np.random.default_rng(seed)
    rows = []
    for k in range(number):
        sequence = random_sequence(random, int(random.integers(20, 60)))
        letters = list("AAAv.^bx") if k < number - 1 else ["A"]
        inner = "".join(random.choice(letters, len(sequence) - 2))
        rows.append((f"e{k}", sequence, f"A{inner}A", "relaxdb", ""))
    write_codes(path, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Label tables and weights of a small classifier."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_labels(folder / "labels.csv")
    write_labels(folder / "train.csv", 30, seed=1)
    torch.manual_seed(0)
    write_model(folder / "best", Classifier(Dyna1Config(**SIZES, embedder="onehot")))
    return folder


def words(folder: Path, output: Path, **changes: object) -> list[str]:
    """Command line; a change to None removes an option, one to True makes it a flag."""
    options: dict[str, object] = {"data": folder / "labels.csv", "output": output, "weights": folder / "best"}
    options |= {"embedder": "onehot", "train": folder / "train.csv", "device": "cpu"}
    line: list[str] = []
    for name, value in (options | changes).items():
        if value is not None:
            line += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return line


def evaluate(folder: Path, output: Path, **changes: object) -> dict:
    main(words(folder, output, **changes))
    return json.loads((output / "metrics.json").read_text())


# metrics of scores


@pytest.fixture
def scores():
    random = np.random.default_rng(0)
    return {name: random.random(len(target)) for name, target in TARGETS.items()}


def test_table_per_protein(scores) -> None:
    scores["a"][[0, 5]] = np.nan  # not evaluated
    table = metrics_per_protein(TARGETS, scores).set_index("entry_ID")
    assert table["evaluated"].tolist() == [5, 3, 3, 2, 0]
    assert table["positives"].tolist() == [2, 1, 2, 2, 0]
    assert table[list(AREAS)].isna().all(axis=1).tolist() == [False, True, False, False, True]
    evaluated = TARGETS["a"] >= 0
    assert table.loc["a", "auroc"] == auroc(TARGETS["a"][evaluated], scores["a"][evaluated])
    assert table.loc["a", "auprc"] == average_precision(TARGETS["a"][evaluated], scores["a"][evaluated])
    assert table.loc["a", "normalised_auprc"] == pytest.approx(table.loc["a", "auprc"] - 2 / 5)
    assert np.isnan(table.loc["all", "auroc"])
    assert table.loc["all", "normalised_auprc"] == 0


def test_numbers_of_a_data_set(scores) -> None:
    found = dataset_metrics(TARGETS, scores, samples=500)
    table = metrics_per_protein(TARGETS, scores)
    assert found["left_out"] == ["one positive", "none"]
    assert (found["proteins"], found["evaluated"], found["positives"]) == (3, 13, 7)
    for name in AREAS:
        assert found[name]["mean"] == pytest.approx(np.nanmean(table[name]))
        assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"]
    target, score = pooled(TARGETS, scores)
    assert len(target) == 13  # also the residues of proteins without areas
    assert found["pooled"]["auroc"] == auroc(target, score)
    assert found["pooled"]["auprc"] == average_precision(target, score)
    called = score >= found["pooled"]["threshold"]
    assert found["pooled"]["precision"] == target[called].mean()
    assert dataset_metrics(TARGETS, scores, samples=500) == found

    chance = chance_metrics(table)
    area = np.mean([chance_average_precision(n, 2) for n in (5, 3, 2)])
    assert chance == pytest.approx({"auroc": 0.5, "auprc": area, "normalised_auprc": area - (2 / 5 + 2 / 3 + 1) / 3})


@pytest.mark.parametrize("changed", [{"b": np.zeros(3)}, {"b": np.array([0, np.inf, 0, 0])}, {"b": np.zeros(0)}])
def test_scores_that_do_not_match(scores, changed) -> None:
    refused(lambda: metrics_per_protein(TARGETS, scores | changed), "entry b")
    refused(lambda: dataset_metrics(TARGETS, {name: scores[name] for name in ("a", "one positive")}), "entry b")


# scores


def test_logits_do_not_depend_on_the_batch(folder: Path) -> None:
    proteins = read_proteins(folder / "labels.csv")
    torch.manual_seed(1)
    model = Classifier(Dyna1Config(**SIZES)).train()
    together = logits_of(model, proteins, OneHot().read, 4)
    assert not model.training
    for protein in proteins:
        alone = logits_of_chain(model, OneHot(), ChainInput("", protein.sequence))
        assert together[protein.name].shape == (len(protein.sequence),)
        np.testing.assert_allclose(together[protein.name], alone.numpy(), atol=2e-6)


def test_ties_stay_ties(folder: Path, tmp_path: Path) -> None:
    """Equal letters are exact ties of one-hot embeddings, which rounding would break differently in each batch."""
    noise = np.random.default_rng(0).normal(scale=2e-7, size=300)
    levels = np.repeat([0.123455, 0.123475, -2.0], 100)  # the first on a boundary of rounding
    found = without_rounding((levels + noise).astype(np.float32))
    assert len(set(found)) == 3
    np.testing.assert_allclose(found, levels, atol=1e-5)
    one, many = (evaluate(folder, tmp_path / str(n), batch_size=n)["predictors"] for n in (1, 16))
    assert one == many


# the command


def test_all_files_agree(folder: Path, tmp_path: Path, capsys) -> None:
    metrics = evaluate(folder, tmp_path, embedder=None)  # that of the weights
    names = {"metrics.json", "summary.txt", "per_protein.csv", "residues.csv", "distribution.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert list(metrics["predictors"]) == [CLASSIFIER, "amino acid"]
    assert 0 < metrics["chance"]["normalised_auprc"] < 0.5
    text = (tmp_path / "summary.txt").read_text()
    assert capsys.readouterr().out == text
    assert f"{metrics['predictors'][CLASSIFIER]['auroc']['low']:.3f} to" in text

    table = pd.read_csv(tmp_path / "per_protein.csv")
    residues = pd.read_csv(tmp_path / "residues.csv")
    proteins = read_proteins(folder / "labels.csv")
    assert residues.groupby("entry_ID", sort=False)["residue"].agg("".join).tolist() == [p.sequence for p in proteins]
    for name, numbers in metrics["predictors"].items():
        own = table[table["predictor"] == name]
        assert own["entry_ID"].tolist() == [protein.name for protein in proteins]
        assert numbers["auroc"]["mean"] == pytest.approx(own["auroc"].mean())
        assert numbers["left_out"] == ["e8"]
    logits = logits_of(load_dyna1(folder / "best", "cpu"), proteins, OneHot().read, 16)
    expected = np.concatenate([logits[protein.name] for protein in proteins]).astype(float)
    p = residues[CLASSIFIER].to_numpy()
    np.testing.assert_allclose(np.log(p / (1 - p)), expected - PRIOR_LOGIT, atol=2e-5)  # rounded


def test_target_options_and_split_list(folder: Path, tmp_path: Path, capsys) -> None:
    split = tmp_path / "list.txt"
    split.write_text("e1\ne2\nabsent\n")
    found = {
        option: evaluate(folder, tmp_path / "a", split=split, **({option: True} if option else {}))
        for option in ("", "missing_only", "rex_only")
    }
    counts = {option: metrics["predictors"][CLASSIFIER] for option, metrics in found.items()}
    assert counts["missing_only"]["evaluated"] == counts[""]["evaluated"] > counts["rex_only"]["evaluated"]
    assert counts["missing_only"]["positives"] + counts["rex_only"]["positives"] == counts[""]["positives"] > 0
    assert found[""]["absent"] == ["absent"]
    text = (tmp_path / "a/summary.txt").read_text()
    assert "(rex-only): 2 proteins count" in text
    assert "not in the data: absent" in text
    split.write_text("absent\n")
    command_refused(main, words(folder, tmp_path / "b", split=split), capsys, split)
    assert not (tmp_path / "b").exists()


def test_dssp_baselines_need_the_column_in_both_tables(folder: Path, tmp_path: Path, caplog) -> None:
    random = np.random.default_rng(2)
    for name in ("labels.csv", "train.csv"):
        table = pd.read_csv(folder / name, keep_default_na=False)
        table["dssp"] = ["".join(random.choice(list("EHC"), len(sequence))) for sequence in table["sequence"]]
        table.to_csv(tmp_path / name, index=False)
    options = {"weights": None, "embedder": None, "train": tmp_path / "train.csv"}
    both = evaluate(folder, tmp_path / "a", data=tmp_path / "labels.csv", **options)
    assert list(both["predictors"]) == ["amino acid", "DSSP", "amino acid + DSSP"]
    assert caplog.text == ""
    assert list(evaluate(folder, tmp_path / "b", **options)["predictors"]) == ["amino acid"]
    assert "baseline DSSP left out" in caplog.text


def test_dssp_of_a_file_of_its_own(folder: Path, tmp_path: Path, capsys) -> None:
    words_of = {"weights": None, "embedder": None, "dssp": tmp_path / "dssp.csv"}
    command_refused(main, words(folder, tmp_path / "out", **words_of), capsys, tmp_path / "dssp.csv", "no such file")
    (tmp_path / "dssp.csv").write_text("PDB,DSSP\nother,HHH\n")
    command_refused(main, words(folder, tmp_path / "out", **words_of), capsys, tmp_path / "dssp.csv", "DSSP")


def test_protein_without_two_positives_has_empty_numbers(folder: Path, tmp_path: Path) -> None:
    rows = [("a", "ACDEF", "A.AAA", "refdb", ""), ("b", "ACDEF", "AAAAA", "refdb", "")]
    few = write_codes(tmp_path / "few.csv", rows)
    metrics = evaluate(folder, tmp_path / "out", data=few, train=few, weights=None, embedder=None)
    assert metrics["predictors"]["amino acid"]["proteins"] == 0
    assert metrics["predictors"]["amino acid"]["auroc"] == {"mean": None, "low": None, "high": None}


def test_relaxdb_beside_the_published_probabilities(shared, folder: Path, tmp_path: Path) -> None:
    golden = shared / "golden/relaxdb"

    def numbers(data: str, file: str, split: str, **flags: object) -> tuple[list[str], dict]:
        options = {"weights": None, "embedder": None, "train": None, "baselines": golden}
        options |= {"data": data, "file": golden / file, "split": golden / split}
        metrics = evaluate(folder, tmp_path, **options, **flags)
        return metrics["absent"], metrics["predictors"]["amino acid"]

    absent, found = numbers("relaxdb", "RelaxDB_133x_22jan2025.json", "relaxdb.txt")
    assert (absent, found["proteins"]) == ([], 107)
    assert found["auroc"]["mean"] == pytest.approx(0.538, abs=1e-3)
    absent, found = numbers("relaxdb", "RelaxDB_133x_22jan2025.json", "relaxdb_WITH_PHOS.txt")
    assert absent == ["28132", "DBHD1", "DBHD2"]
    assert found["auroc"]["mean"] == pytest.approx(0.532, abs=1e-3)
    absent, found = numbers("cpmg", "RelaxDB_CPMG_22jan2025.json", "relaxdb-cpmg.txt")
    assert (absent, found["positives"]) == (["GRB2SH2_CPMG"], 453)
    _, found = numbers("cpmg", "RelaxDB_CPMG_22jan2025.json", "relaxdb-cpmg.txt", unsuppressed=True)
    assert found["positives"] > 453


def test_the_archive_of_both_sets_with_dssp_and_published_forms(shared, folder: Path, tmp_path: Path) -> None:
    """The split list chooses among RelaxDB and RelaxDB-CPMG before labels are checked."""
    golden = shared / "golden/relaxdb"
    options = {"data": "cpmg", "file": golden / "as_downloaded/RelaxDB_pkls_22jan2025.zip", "train": None}
    options |= {"split": golden / "relaxdb-cpmg.txt", "baselines": golden, "sample_baselines": True}
    options |= {"dssp": golden / "as_downloaded/dssp.csv.gz"}
    metrics = evaluate(folder, tmp_path / "a", **options)
    assert metrics["absent"] == ["GRB2SH2_CPMG"]
    names = ["amino acid", "DSSP", "amino acid + DSSP"]
    assert list(metrics["predictors"]) == [CLASSIFIER, *names, *(f"{name}, sampled" for name in names)]
    assert metrics["predictors"]["amino acid"]["positives"] == 453
    published = evaluate(folder, tmp_path / "b", **options, published_padding=True)["predictors"]
    assert published[CLASSIFIER]["auroc"] != metrics["predictors"][CLASSIFIER]["auroc"]
    assert published["amino acid"] == metrics["predictors"]["amino acid"]


def test_properties_and_field_strengths(folder: Path, tmp_path: Path) -> None:
    columns = {
        "entry_ID": {"0": "a", "1": "a"},
        "sequence": {"0": "GAVL", "1": "GAVL"},
        "label": {"0": "A^^A", "1": "A^bA"},
    }
    columns |= {"field_strength": {"0": 500, "1": 800}, "pLDDT": {"0": [90, 50, 60, 80], "1": [90, 50, 60, 80]}}
    (tmp_path / "r.json").write_text(json.dumps(columns))
    options = {"data": "relaxdb", "file": tmp_path / "r.json", "weights": None, "embedder": None, "train": None}
    metrics = evaluate(folder, tmp_path / "out", **options)
    assert metrics["predictors"]["low pLDDT"]["auroc"]["mean"] == 1
    table = pd.read_csv(tmp_path / "out/per_protein.csv")
    assert table[["entry_ID", "field_strength"]].to_numpy().tolist() == [["a_500MHz", 500], ["a_800MHz", 800]]


# wrong input


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"weights": None}, ["--embedder onehot", "--weights"]),
        ({"baselines": "x"}, ["--train", "--baselines"]),
        ({"weights": None, "embedder": None, "published_padding": True}, ["--published-padding", "--weights"]),
        ({"weights": None, "embedder": None, "train": None}, ["--weights", "--train", "--baselines"]),
        ({"data": "relaxdb"}, ["--data relaxdb", "--file"]),
        ({"file": "x"}, ["--file"]),
        ({"batch_size": 0}, ["--batch-size 0"]),
        ({"missing_only": True, "rex_only": True}, ["missing-only"]),
    ],
)
def test_options_that_do_not_go_together(folder: Path, tmp_path: Path, capsys, changes, named) -> None:
    command_refused(main, words(folder, tmp_path / "out", **changes), capsys, *named)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("weights", "output"), [("best", "best"), ("best", "best/evaluation"), ("best/model.safetensors", "best")]
)
def test_output_in_the_folder_of_the_weights(folder: Path, capsys, weights: str, output: str) -> None:
    command_refused(main, words(folder, folder / output, weights=folder / weights), capsys, folder / output)


def test_weights_and_baselines_that_cannot_be_used(folder: Path, tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    write_model(tmp_path / "other", Classifier(Dyna1Config(**SIZES, embedder="esm2 layer 6 0123")))
    line = words(folder, tmp_path / "out", weights=tmp_path / "other")
    command_refused(main, line, capsys, "esm2 layer 6 0123", "onehot", "--embedder")
    model = Classifier(Dyna1Config(**SIZES, embedder="onehot"))
    torch.nn.init.constant_(model.classifier.output_layer.bias, torch.nan)
    write_model(tmp_path / "bad", model)
    command_refused(main, words(folder, tmp_path / "out", weights=tmp_path / "bad"), capsys, "logits", "--weights")
    (tmp_path / "probs_dssp.csv").write_text("dssp,target\n0,0.1\n1,0.2\n2,0.1\n")
    line = words(folder, tmp_path / "out", weights=None, embedder=None, train=None, baselines=tmp_path)
    command_refused(main, line, capsys, "labels.csv", "DSSP", "--weights")
