from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_prepare.errors import InputError
from data_prepare.nmr.assignments import COLUMNS, write_assignments
from model.dyna1.classifier import PRIOR_LOGIT, Classifier, Dyna1Config
from model.dyna1.data import read_proteins
from model.dyna1.embeddings.language_models import OneHot
from model.dyna1.evaluate import CLASSIFIER, EvaluateConfig, evaluate, logits_of, main, report, settled
from model.dyna1.loading import save_dyna1
from model.dyna1.metrics import auroc

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")


def write_labels(path: Path, number: int = 9, seed: int = 0) -> Path:
    """Random relaxdb labels; the last protein has no positive."""
    random = np.random.default_rng(seed)
    rows = []
    for k in range(number):
        n = int(random.integers(20, 60))
        inner = "".join(random.choice(list("AAAv.^bx"), n - 2)) if k < number - 1 else "A" * (n - 2)
        rows.append((f"e{k}", "".join(random.choice(LETTERS, n)), f"A{inner}A", "relaxdb", ""))
    write_assignments(path, pd.DataFrame(rows, columns=list(COLUMNS)))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Label tables and weights of a small classifier."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_labels(folder / "labels.csv")
    write_labels(folder / "train.csv", 30, seed=1)
    torch.manual_seed(0)
    config = Dyna1Config(width=24, layers=2, heads=3, feed_forward=16, embedder="onehot")
    save_dyna1(Classifier(config), folder / "best")
    return folder


def settings(folder: Path, output: Path, **changes: object) -> EvaluateConfig:
    values: dict = {"data": str(folder / "labels.csv"), "output": output, "weights": str(folder / "best")}
    values |= {"embedder": "onehot", "train": folder / "train.csv", "device": "cpu"}
    return EvaluateConfig(**(values | changes))


# scores


def test_logits_do_not_depend_on_the_batch(folder: Path) -> None:
    proteins = read_proteins(folder / "labels.csv")
    torch.manual_seed(1)
    model = Classifier(Dyna1Config(width=24, layers=2, heads=3, feed_forward=16)).train()
    together = logits_of(model, proteins, OneHot().read, 4)
    assert not model.training
    for protein in proteins:
        with torch.no_grad():
            embedding = OneHot().embed([protein.sequence])[0][None]
            alone = model(embedding, torch.zeros(embedding.shape[:2], dtype=torch.bool))[0]
        assert together[protein.name].shape == (len(protein.sequence),)
        np.testing.assert_allclose(together[protein.name], alone.numpy(), atol=2e-6)


def test_ties_stay_ties() -> None:
    noise = np.random.default_rng(0).normal(scale=2e-7, size=300)
    levels = np.repeat([0.123455, 0.123475, -2.0], 100)  # the first on a boundary of rounding
    found = settled((levels + noise).astype(np.float32))
    assert len(set(found)) == 3
    np.testing.assert_allclose(found, levels, atol=1e-5)


def test_areas_do_not_depend_on_the_batch(folder: Path, tmp_path: Path) -> None:
    """Equal letters are exact ties of one-hot embeddings, which rounding would break in another way each time."""
    found = [evaluate(settings(folder, tmp_path / str(n), batch_size=n))["predictors"] for n in (1, 2, 16)]
    assert found[0] == found[1] == found[2]


# the whole evaluation


def test_all_files_agree(folder: Path, tmp_path: Path) -> None:
    before = sorted((path.name, path.read_bytes()) for path in (folder / "best").iterdir())
    metrics = evaluate(settings(folder, tmp_path))
    assert sorted((path.name, path.read_bytes()) for path in (folder / "best").iterdir()) == before
    names = {"metrics.json", "summary.txt", "per_protein.csv", "residues.csv", "distribution.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert list(metrics["predictors"]) == [CLASSIFIER, "amino acid"]
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept["predictors"] == metrics["predictors"]
    assert 0 < kept["chance"]["normalised_auprc"] == metrics["chance"]["normalised_auprc"] < 0.5
    assert kept["settings"]["embedder"] == "onehot"

    table = pd.read_csv(tmp_path / "per_protein.csv")
    residues = pd.read_csv(tmp_path / "residues.csv")
    proteins = read_proteins(folder / "labels.csv")
    assert residues.groupby("entry_ID", sort=False)["residue"].agg("".join).tolist() == [p.sequence for p in proteins]
    for name, numbers in metrics["predictors"].items():
        own = table[table["predictor"] == name]
        assert own["entry_ID"].tolist() == [protein.name for protein in proteins]
        assert numbers["auroc"]["mean"] == pytest.approx(own["auroc"].mean())
        assert numbers["left_out"] == ["e8"]
        for protein in proteins[:-1]:
            rows = residues[(residues["entry_ID"] == protein.name) & (residues["target"] >= 0)]
            found = own.loc[own["entry_ID"] == protein.name, "auroc"].item()
            assert auroc(rows["target"].to_numpy(), rows[name].to_numpy()) == pytest.approx(found)
    assert (tmp_path / "distribution.png").stat().st_size > 10_000
    assert (tmp_path / "summary.txt").read_text() == report(metrics)


def test_probabilities_are_shifted_by_the_prior(folder: Path, tmp_path: Path) -> None:
    from model.dyna1.loading import load_dyna1

    evaluate(settings(folder, tmp_path))
    residues = pd.read_csv(tmp_path / "residues.csv")
    proteins = read_proteins(folder / "labels.csv")
    logits = logits_of(load_dyna1(folder / "best", "cpu"), proteins, OneHot().read, 16)
    expected = np.concatenate([logits[protein.name] for protein in proteins]).astype(float)
    p = residues[CLASSIFIER].to_numpy()
    np.testing.assert_allclose(np.log(p / (1 - p)), expected - PRIOR_LOGIT, atol=2e-5)  # rounded


def test_label_options_and_split_list(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("e1\ne2\nabsent\n")
    config = settings(folder, tmp_path / "a", split=tmp_path / "list.txt")
    found = {
        option: evaluate(replace(config, **({option: True} if option else {})))
        for option in ("", "missing_only", "rex_only")
    }
    counts = {option: metrics["predictors"][CLASSIFIER] for option, metrics in found.items()}
    labels = "".join(pd.read_csv(folder / "labels.csv").set_index("entry_ID").loc[["e1", "e2"], "label"])
    assert counts["missing_only"]["evaluated"] == counts[""]["evaluated"] > counts["rex_only"]["evaluated"]
    assert counts["missing_only"]["positives"] + counts["rex_only"]["positives"] == counts[""]["positives"] > 0
    assert counts["rex_only"]["positives"] <= labels.count("^") + labels.count("b")
    assert found[""]["absent"] == ["absent"]
    text = (tmp_path / "a/summary.txt").read_text()
    assert "(rex-only): 2 proteins count" in text
    assert "not in the data: absent" in text
    (tmp_path / "list.txt").write_text("absent\n")
    with pytest.raises(InputError, match="has none of its entries"):
        evaluate(config)


def test_dssp_baselines_where_both_tables_have_the_column(folder: Path, tmp_path: Path, caplog) -> None:
    random = np.random.default_rng(2)
    for name in ("labels.csv", "train.csv"):
        table = pd.read_csv(folder / name, keep_default_na=False)
        table["dssp"] = ["".join(random.choice(list("EHC"), len(sequence))) for sequence in table["sequence"]]
        table.to_csv(tmp_path / name, index=False)
    config = EvaluateConfig(str(tmp_path / "labels.csv"), tmp_path / "out", train=tmp_path / "train.csv")
    assert list(evaluate(config)["predictors"]) == ["amino acid", "DSSP", "amino acid + DSSP"]
    assert caplog.text == ""
    without = replace(config, data=str(folder / "labels.csv"))
    assert list(evaluate(without)["predictors"]) == ["amino acid"]
    assert "baseline DSSP left out" in caplog.text


def test_relaxdb_beside_the_published_probabilities(shared, folder: Path, tmp_path: Path) -> None:
    golden = shared / "golden/relaxdb"
    config = EvaluateConfig(
        "relaxdb",
        tmp_path,
        file=golden / "RelaxDB_133x_22jan2025.json",
        split=golden / "relaxdb.txt",
        baselines=golden,
    )
    metrics = evaluate(config)
    assert metrics["predictors"]["amino acid"]["auroc"]["mean"] == pytest.approx(0.538, abs=1e-3)
    assert (metrics["absent"], metrics["predictors"]["amino acid"]["proteins"]) == ([], 107)
    whole = evaluate(replace(config, split=golden / "relaxdb_WITH_PHOS.txt"))
    assert whole["absent"] == ["28132", "DBHD1", "DBHD2"]
    assert whole["predictors"]["amino acid"]["auroc"]["mean"] == pytest.approx(0.532, abs=1e-3)
    cpmg = replace(config, data="cpmg", file=golden / "RelaxDB_CPMG_22jan2025.json", split=golden / "relaxdb-cpmg.txt")
    counts = [evaluate(replace(cpmg, unsuppressed=value)) for value in (False, True)]
    assert counts[0]["absent"] == ["GRB2SH2_CPMG"]
    positives = [metrics["predictors"]["amino acid"]["positives"] for metrics in counts]
    assert positives[0] == 453 < positives[1]


# what is refused


@pytest.mark.parametrize("output", ["best", "best/evaluation"])
def test_output_in_the_folder_of_the_weights_is_refused(folder: Path, output: str) -> None:
    with pytest.raises(InputError, match="where the weights are"):
        evaluate(settings(folder, folder / output))
    with pytest.raises(InputError, match="where the weights are"):
        evaluate(settings(folder, folder / output, weights=str(folder / "best/model.safetensors")))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"weights": None}, "--embedder onehot goes with --weights"),
        ({"baselines": Path("x")}, "one of the two"),
        ({"weights": None, "embedder": None, "train": None}, "nothing to evaluate"),
        ({"data": "relaxdb"}, "give its --file"),
        ({"file": Path("x")}, "leave --file out"),
        ({"batch_size": 0}, "at least 1"),
        ({"seed": -1}, "--seed -1: at least 0"),
    ],
)
def test_options_that_do_not_go_together(folder: Path, tmp_path: Path, changes: dict, line: str) -> None:
    with pytest.raises(InputError, match=line):
        evaluate(settings(folder, tmp_path, **changes))


def test_weights_of_another_embedder_are_refused(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Dyna1Config(width=24, layers=1, heads=3, feed_forward=16, embedder="esm2 layer 6 0123")
    save_dyna1(Classifier(config), tmp_path / "other")
    with pytest.raises(InputError, match="was trained on esm2 layer 6 0123, these are embeddings of onehot"):
        evaluate(settings(folder, tmp_path / "out", weights=str(tmp_path / "other")))


def test_embedder_as_the_weights_tell(folder: Path, tmp_path: Path) -> None:
    named = evaluate(settings(folder, tmp_path / "a"))
    found = evaluate(settings(folder, tmp_path / "b", embedder=None))
    assert found["predictors"] == named["predictors"]


def test_command(folder: Path, tmp_path: Path, capsys) -> None:
    words = ["--data", str(folder / "labels.csv"), "--train", str(folder / "train.csv"), "--output", str(tmp_path)]
    main(words)
    assert capsys.readouterr().out == (tmp_path / "summary.txt").read_text()
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--missing-only", "--rex-only"])
    assert "missing-only" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--batch-size", "0"])
    assert capsys.readouterr().err == "error: --batch-size 0: at least 1\n"


def test_protein_without_two_positives_has_empty_numbers(tmp_path: Path) -> None:
    rows = [("a", "ACDEF", "A.AAA", "refdb", ""), ("b", "ACDEF", "AAAAA", "refdb", "")]
    write_assignments(tmp_path / "few.csv", pd.DataFrame(rows, columns=list(COLUMNS)))
    metrics = evaluate(EvaluateConfig(str(tmp_path / "few.csv"), tmp_path / "out", train=tmp_path / "few.csv"))
    assert metrics["predictors"]["amino acid"]["proteins"] == 0
    kept = json.loads((tmp_path / "out/metrics.json").read_text())
    assert kept["predictors"]["amino acid"]["auroc"] == {"mean": None, "low": None, "high": None}


def test_dssp_baselines_alone_without_dssp_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "probs_dssp.csv").write_text("dssp,target\n0,0.1\n1,0.2\n2,0.1\n")
    config = EvaluateConfig(str(folder / "labels.csv"), tmp_path / "out", baselines=tmp_path)
    with pytest.raises(InputError, match=r"nothing to evaluate: .*labels.csv has no DSSP"):
        evaluate(config)


def test_logits_that_are_not_finite_are_refused(folder: Path, tmp_path: Path) -> None:
    model = Classifier(Dyna1Config(width=24, layers=1, heads=3, feed_forward=16, embedder="onehot"))
    torch.nn.init.constant_(model.classifier.output_layer.bias, torch.nan)
    save_dyna1(model, tmp_path / "bad")
    with pytest.raises(InputError, match=r"e\d: logits that are not finite; look at .*bad"):
        evaluate(settings(folder, tmp_path / "out", weights=str(tmp_path / "bad")))
