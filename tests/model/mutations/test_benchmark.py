"""Benchmark of mutation scores: baselines against gemmi, summaries against plain loops, scores kept by protein."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from refusals import refused
from scipy import stats

from data_prepare.resume import Results
from model.config import ModelConfig
from model.mutations.benchmark import (
    BLOSUM62,
    HYDROPATHY,
    baseline_scores,
    correlation_summary,
    dance_scores,
    mutation_table,
    protein_table,
    score_measured,
    summary_text,
)
from model.mutations.measured import MeasuredProtein
from model.network.dance import DanceModel
from model.network.tokenizer import AMINO_ACIDS

THREE_LETTERS = dict(zip(AMINO_ACIDS, gemmi.expand_one_letter_sequence(AMINO_ACIDS, gemmi.ResidueKind.AA), strict=True))
Scores = list[dict[str, np.ndarray]]


def measured(name: str, mutants: list[str], loss: list[float] | np.ndarray) -> MeasuredProtein:
    return MeasuredProtein(name, "ACDEFGHIKL", mutants, np.asarray(loss, np.float64))


def random_set(seed: int, sizes: list[int]) -> tuple[list[MeasuredProtein], Scores]:
    """Proteins with rounded losses (ties), and two scores, one of which follows the loss."""
    random = np.random.default_rng(seed)
    proteins, scores = [], []
    for number, size in enumerate(sizes):
        loss = random.normal(size=size).round(1)
        proteins.append(measured(f"p{number}", [f"A1C:D3{n}" for n in range(size)], loss))
        noise = random.normal(size=(2, size))
        scores.append({"good": (loss + noise[0]).round(1), "bad": noise[1]})
    return proteins, scores


def test_blosum62() -> None:
    scoring = gemmi.AlignmentScoring("b")
    assert len(BLOSUM62) == 400
    for letters, value in BLOSUM62.items():
        pair = [[THREE_LETTERS[letter]] for letter in letters]
        assert value == gemmi.align_string_sequences(*pair, [], scoring).score, letters


def test_baselines_grow_with_damage_and_add_up() -> None:
    scores = baseline_scores(measured("p", ["I8V", "I8D", "D3I", "I8D:A1C", "F5W"], [0] * 5))
    assert scores["blosum62"].tolist() == [-3, 3, 3, 3 - 0, -1]
    np.testing.assert_allclose(scores["hydrophobicity"], [0.3, 8.0, -8.0, 8.0 - 0.7, 3.7])
    assert sum(HYDROPATHY.values()) == pytest.approx(-9.8)


def test_summary_equals_plain_loops() -> None:
    """Each drawn data set built anew, its proteins one after the other, some of them twice."""
    sizes, draws = [12, 5, 30, 20, 15], 200
    proteins, scores = random_set(1, sizes)
    table = mutation_table(proteins, scores)
    assert table["protein"].tolist() == [f"p{number}" for number, size in enumerate(sizes) for _ in range(size)]
    per_protein = protein_table(proteins, table)
    assert per_protein[["mutants", "residues"]].to_numpy().tolist() == [[size, 10] for size in sizes]
    per_protein.loc[3, "bad"] = np.nan
    summary = correlation_summary(table, per_protein, min_mutants=10, bootstrap=draws, seed=4)
    assert [summary[name] for name in ("proteins", "mutants", "proteins_below_min_mutants")] == [5, sum(sizes), 1]
    losses = [protein.loss for protein in proteins]
    for name, own in {"good": [0, 2, 3, 4], "bad": [0, 2, 4]}.items():
        found, of_score = summary["scores"][name], [parts[name] for parts in scores]
        assert found["proteins"] == len(own)
        values = per_protein[name].to_numpy()[own]
        alone = [stats.spearmanr(losses[row], of_score[row]).statistic for row in own]
        np.testing.assert_allclose(values, alone, atol=1e-12)
        random = np.random.default_rng(4)
        drawn = [values[random.integers(len(values), size=len(values))] for _ in range(draws)]
        random = np.random.default_rng(4)
        pooled = []
        for chosen in (random.integers(5, size=5) for _ in range(draws)):
            loss, score = (np.concatenate([parts[number] for number in chosen]) for parts in (losses, of_score))
            pooled.append(stats.spearmanr(loss, score).statistic)
        for statistic, value, of_draws in (
            ("median", np.median(values), [np.median(part) for part in drawn]),
            ("mean", np.mean(values), [np.mean(part) for part in drawn]),
            ("pooled", stats.spearmanr(table["loss"], table[name]).statistic, pooled),
        ):
            low, high = np.percentile(of_draws, (2.5, 97.5))
            assert found[statistic] == pytest.approx({"value": value, "low": low, "high": high}, abs=1e-6)
    good = summary["scores"]["good"]["median"]
    assert f"{good['value']:.3f} [{good['low']:.3f}, {good['high']:.3f}]" in summary_text(summary)


def test_summary_of_little() -> None:
    """One protein has no interval, none with enough mutants no median."""
    proteins, scores = random_set(2, [12])
    table = mutation_table(proteins, scores)
    per_protein = protein_table(proteins, table)
    median = correlation_summary(table, per_protein, min_mutants=10)["scores"]["good"]["median"]
    assert median["value"] > 0
    assert median["low"] is median["high"] is None
    summary = correlation_summary(table, per_protein, min_mutants=13)
    assert summary["scores"]["good"]["median"] == {"value": None, "low": None, "high": None}
    assert summary["scores"]["good"]["pooled"]["value"] > 0
    assert summary["scores"]["good"]["pooled"]["low"] is None
    proteins, scores = random_set(3, [12, 2, 12])
    table = mutation_table(proteins, scores)
    per_protein = protein_table(proteins, table)
    assert per_protein["good"].isna().tolist() == [False, True, False]
    median = correlation_summary(table, per_protein, bootstrap=0)["scores"]["good"]["median"]
    assert (median["value"] > 0, median["low"]) == (True, None)


PROTEINS = [
    measured("p/1", ["A1C", "C2A"], [0, 0.1]),
    MeasuredProtein("q|2", "ACK", ["A1C", "C2A"], np.array([1, 1.1])),
    measured("r", ["A1C", "C2D"], [2, 2.1]),
]


def test_an_interrupted_run_resumes(tmp_path: Path) -> None:
    """Scores are kept for the same network, wild type and mutants only."""
    model = DanceModel(ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16))
    results = Results(tmp_path / "scores")
    asked: list[str] = []

    def fake_scores(
        model: DanceModel, protein: MeasuredProtein, batch_size: int | None, precision: str
    ) -> dict[str, np.ndarray]:
        if protein.name == stop_at:
            raise KeyboardInterrupt
        asked.append(protein.name)
        return {"b": -protein.loss}

    def run(proteins: list[MeasuredProtein] = PROTEINS) -> list[str]:
        asked.clear()
        found = score_measured("net", model, fake_scores, proteins, results)
        for protein, own in zip(proteins, found, strict=True):
            assert list(own) == ["net.b"]
            np.testing.assert_array_equal(own["net.b"], -protein.loss)
        return asked

    stop_at = "r"
    with pytest.raises(KeyboardInterrupt):
        run()
    stop_at = ""
    assert run() == ["r"]
    assert run() == []
    assert run([measured("p/1", ["A1C", "C2A", "D3A"], [1, 2, 3]), *PROTEINS[1:]]) == ["p/1"]
    with torch.no_grad():
        next(model.parameters())[4, 0] += 1e-3
    assert run() == ["p/1", "q|2", "r"]


def test_scores_that_cannot_be_used(tmp_path: Path) -> None:
    model = DanceModel(ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16))
    results = Results(tmp_path / "scores")

    def not_finite(
        model: DanceModel, protein: MeasuredProtein, batch_size: int | None, precision: str
    ) -> dict[str, np.ndarray]:
        return {"a": np.array([1, np.nan])}

    refused(lambda: score_measured("net", model, not_finite, PROTEINS, results), "net", "p/1")
    long = MeasuredProtein("long", "A" * 1100, ["A1C:A1090C"], np.zeros(1))
    refused(lambda: score_measured("net", model, dance_scores, [long], results), "net", "long", "A1C:A1090C")
    assert not results.folder.exists()
