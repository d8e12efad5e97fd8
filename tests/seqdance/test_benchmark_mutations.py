"""The command `seqdance benchmark-mutations`: its files, its errors, and that nothing is computed twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hugging_face import esm2_settings
from refusals import command_refused
from scipy import stats

from model.config import ModelConfig
from model.mutations import benchmark, supervised
from model.mutations.likelihood import log_likelihood_ratios
from model.mutations.measured import MeasuredProtein
from model.mutations.score import score_mutations
from model.mutations.substitution import apply_mutation
from model.network.dance import DanceModel, load_model
from model.network.language_model import load_language_model
from model.network.names import short_name
from model.network.tokenizer import AMINO_ACIDS
from seqdance.commands.benchmark_mutations import main

WILD_TYPES = {"one": "MKTAYIAKQRQI", "two": "GSHMKLVDEFW"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mega-scale table, a tiny SeqDance and a tiny ESM2."""
    from transformers import EsmForMaskedLM

    folder = tmp_path_factory.mktemp("benchmark")
    random = np.random.default_rng(0)
    rows = []
    for name, wild_type in WILD_TYPES.items():
        rows.append((wild_type, "wt", name, "0"))
        for position, old in enumerate(wild_type[:8], start=1):
            for new in random.choice([letter for letter in AMINO_ACIDS if letter != old], 2, replace=False):
                label = f"{old}{position}{new}"
                rows.append((apply_mutation(wild_type, label), label, name, f"{random.normal():.3f}"))
    rows.append(("MKTAYIAKQRQA", "I11A", "one", "1"))  # it is I12A
    rows.append(("MKA", "T3A", "three", "1"))
    pd.DataFrame(rows, columns=["aa_seq", "mut_type", "WT_name", "ddG_ML"]).to_csv(folder / "set.csv", index=False)
    torch.manual_seed(0)
    DanceModel(ModelConfig(hidden=16, layers=2, heads=2, feed_forward=32)).save_pretrained(folder / "TinyDance")
    settings = esm2_settings(16, 2, 2, 32, initializer_range=0.3)
    EsmForMaskedLM(settings).save_pretrained(folder / "tiny_esm2")
    return folder


def arguments(folder: Path, output: Path, *more: str) -> list[str]:
    words = [folder / "set.csv", "--output", output, "--bootstrap", "50", "--device", "cpu"]
    models = ["--model", folder / "TinyDance", "--esm2", folder / "tiny_esm2"]
    return [str(word) for word in (*words, *models, *more)]


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "results"
    main(arguments(folder, output))
    printed = capsys.readouterr().out
    assert "33 mutants of 3 proteins" in printed
    left_out = pd.read_csv(output / "left_out.csv")
    assert left_out[["line", "protein", "mutant"]].to_numpy().tolist() == [[36, "one", "I11A"]]

    table = pd.read_csv(output / "mutations.csv")
    own = table[table["protein"] == "two"]
    loss = -pd.read_csv(folder / "set.csv").query("WT_name == 'two' and mut_type != 'wt'")["ddG_ML"]
    np.testing.assert_allclose(own["loss"], loss)
    mutants = own["mutant"].tolist()
    direct = score_mutations(load_model(folder / "TinyDance", "cpu"), WILD_TYPES["two"], mutants)
    language_model = load_language_model(folder / "tiny_esm2", "cpu")
    expected = {f"TinyDance.{name}": direct[name] for name in ("norm_geometric_mean", "sasa_mean", "psi")} | {
        "tiny_esm2.masked": -log_likelihood_ratios(language_model, WILD_TYPES["two"], mutants, masked=True),
        "tiny_esm2.unmasked": -log_likelihood_ratios(language_model, WILD_TYPES["two"], mutants, masked=False),
    }
    assert list(table) == ["protein", "mutant", "loss", "blosum62", "hydrophobicity", *expected]
    per_protein = pd.read_csv(output / "proteins.csv").set_index("protein")
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["proteins"], summary["mutants"], summary["left_out"]) == (3, 33, 1)
    for name, values in expected.items():
        np.testing.assert_allclose(own[name], values, rtol=1e-5)
        found = stats.spearmanr(loss, values).statistic
        assert per_protein.loc["two", name] == pytest.approx(found, abs=1e-6)
        both = per_protein.loc[["one", "two"], name]
        assert summary["scores"][name]["median"]["value"] == pytest.approx(both.median(), abs=2e-6)
        assert name in printed
    assert (output / "proteins.png").read_bytes().startswith(b"\x89PNG")

    # nothing is computed again, and the files are the same
    before = {path.name: path.read_bytes() for path in output.glob("[!.]*")}
    for name in ("changes_of", "log_likelihood_ratios"):
        monkeypatch.setattr(benchmark, name, lambda *args: pytest.fail("computed again"))
    main(arguments(folder, output))
    assert {path.name: path.read_bytes() for path in output.glob("[!.]*")} == before


def test_supervised(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    """The numbers of the Python functions, of both networks, beside the scores; nothing is computed twice."""
    options = (folder, tmp_path, "--supervised", "--repeats", "3", "--seed", "2", "--min-mutants", "3")
    main(arguments(*options))
    assert "3 random halves" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "supervised.csv").set_index(["protein", "predictor"])
    predictors = [f"TinyDance.{supervised.EMBEDDING}", f"tiny_esm2.{supervised.EMBEDDING}", "blosum62"]
    predictors += ["hydrophobicity", "TinyDance.norm_geometric_mean", "tiny_esm2.masked", supervised.CONSTANT]
    assert set(table.loc["two"].index) >= set(predictors)
    assert "three" not in table.index.get_level_values(0)  # one mutant
    assert table.loc["two", ["mutants", "train", "test"]].drop_duplicates().to_numpy().tolist() == [[16, 8, 8]]
    measured = pd.read_csv(tmp_path / "mutations.csv").query("protein == 'two'")
    protein = MeasuredProtein("two", WILD_TYPES["two"], measured["mutant"].tolist(), measured["loss"].to_numpy())
    for name, load in (("TinyDance", load_model), ("tiny_esm2", load_language_model)):
        features = supervised.embedding_differences(load(folder / name, "cpu"), protein).astype(float)
        expected = supervised.errors_of_splits(features, protein.loss, 3, 2)
        row = table.loc[("two", f"{name}.{supervised.EMBEDDING}")]
        assert row["spearman"] == pytest.approx(expected["spearman"].mean(), abs=1e-4)
        assert row["mae"] == pytest.approx(expected["mae"].mean(), abs=1e-4)
    summary = json.loads((tmp_path / "summary.json").read_text())["supervised"]
    both = table.xs("tiny_esm2.masked", level="predictor")["mae"]
    assert summary["tiny_esm2.masked"]["mae"]["value"] == pytest.approx(both.median(), abs=1e-6)
    before = (tmp_path / "supervised.csv").read_bytes()
    monkeypatch.setattr(supervised, "embed", lambda *args: pytest.fail("computed again"))
    main(arguments(*options))
    assert (tmp_path / "supervised.csv").read_bytes() == before


def test_baselines_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(folder / "set.csv"), "--output", str(tmp_path), "--bootstrap", "10"])
    assert list(pd.read_csv(tmp_path / "proteins.csv"))[3:] == ["blosum62", "hydrophobicity"]
    assert "blosum62" in capsys.readouterr().out
    files = "left_out.csv mutations.csv proteins.csv proteins.png summary.json"
    assert sorted(path.name for path in tmp_path.iterdir()) == files.split()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--min-mutants", "2"], ["--min-mutants", 2]),
        (["--esm2", "nowhere"], ["nowhere"]),
        (["--supervised"], ["--supervised", "--model"]),
        (["--form", "proteingym"], ["set.csv", "mutated_sequence"]),
        (["--model", "a/SeqDance", "b/SeqDance"], ["SeqDance"]),
        (["--model", "a/one", "--esm2", "a/one"], ["one"]),
    ],
)
def test_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, more: list[str], named: list) -> None:
    command_refused(main, [folder / "set.csv", "--output", tmp_path / "out", *more], capsys, *named)


def test_names() -> None:
    paths = ("ChaoHou/ESMDance", "runs/a/checkpoints/update_20/model.safetensors", "runs/update_200000.pt")
    assert [short_name(path) for path in paths] == ["ESMDance", "update_20", "update_200000"]
