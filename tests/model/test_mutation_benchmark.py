from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from scipy import stats

from data_prepare.errors import InputError
from model.mutations.benchmark import (
    BLOSUM62,
    HYDROPATHY,
    Predictor,
    baseline_scores,
    draw,
    mutation_table,
    protein_table,
    report,
    score_names,
    score_proteins,
    spearman,
    summarise,
    write_figure,
)
from model.mutations.measured import MeasuredProtein
from model.network.tokenizer import AMINO_ACIDS
from model.network.weights import weights_digest

THREE_LETTERS = dict(zip(AMINO_ACIDS, gemmi.expand_one_letter_sequence(AMINO_ACIDS, gemmi.ResidueKind.AA), strict=True))


def measured(name: str, mutants: list[str], loss: list[float] | np.ndarray) -> MeasuredProtein:
    return MeasuredProtein(name, "ACDEFGHIKL", mutants, np.asarray(loss, np.float64))


def random_set(seed: int, sizes: list[int]) -> tuple[list[MeasuredProtein], list[dict[str, np.ndarray]]]:
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
    for first in AMINO_ACIDS:
        for second in AMINO_ACIDS:
            pair = [[THREE_LETTERS[letter]] for letter in (first, second)]
            assert BLOSUM62[first, second] == gemmi.align_string_sequences(*pair, [], scoring).score, (first, second)
    assert len(BLOSUM62) == 400


def test_baselines_grow_with_damage_and_add_up() -> None:
    scores = baseline_scores(measured("p", ["I8V", "I8D", "D3I", "I8D:A1C", "F5W"], [0] * 5))
    assert scores["blosum62"].tolist() == [-3, 3, 3, 3 - 0, -1]
    np.testing.assert_allclose(scores["hydrophobicity"], [0.3, 8.0, -8.0, 8.0 - 0.7, 3.7])
    assert sorted(HYDROPATHY, key=HYDROPATHY.__getitem__)[-3:] == ["L", "V", "I"]
    assert HYDROPATHY["R"] == min(HYDROPATHY.values())
    assert sum(HYDROPATHY.values()) == pytest.approx(-9.8)


@pytest.mark.parametrize("seed", range(5))
def test_spearman_equals_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, 40)).round(1 if seed % 2 else 6)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


def test_correlations_that_do_not_exist() -> None:
    assert np.isnan(spearman(np.array([1.0, 2.0]), np.array([1.0, 2.0])))
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))
    assert np.isnan(spearman(np.arange(5.0), np.ones(5)))
    assert spearman(np.arange(3.0), np.arange(3.0)) == pytest.approx(1)


def test_tables() -> None:
    proteins, scores = random_set(0, [12, 2, 30])
    table = mutation_table(proteins, scores)
    assert score_names(table) == ["good", "bad"]
    assert table["protein"].tolist() == ["p0"] * 12 + ["p1"] * 2 + ["p2"] * 30
    per_protein = protein_table(proteins, table)
    assert per_protein["mutants"].tolist() == [12, 2, 30]
    assert per_protein["residues"].tolist() == [10, 10, 10]
    for row, (protein, own) in enumerate(zip(proteins, scores, strict=True)):
        for name in ("good", "bad"):
            expected = stats.spearmanr(protein.loss, own[name]).statistic if row != 1 else np.nan
            assert per_protein[name][row] == pytest.approx(expected, nan_ok=True)


def test_summary_equals_plain_loops() -> None:
    """Each drawn data set built anew, its proteins one after the other, some of them twice."""
    sizes, draws = [12, 5, 30, 20, 15], 200
    proteins, scores = random_set(1, sizes)
    table = mutation_table(proteins, scores)
    per_protein = protein_table(proteins, table)
    per_protein.loc[3, "bad"] = np.nan
    summary = summarise(table, per_protein, min_mutants=10, bootstrap=draws, seed=4)
    assert summary["proteins"] == 5
    assert summary["mutants"] == sum(sizes)
    assert summary["proteins_below_min_mutants"] == 1
    for name, own in {"good": [0, 2, 3, 4], "bad": [0, 2, 4]}.items():
        found = summary["scores"][name]
        assert found["proteins"] == len(own)
        values = per_protein[name].to_numpy()[own]
        assert found["median"]["value"] == pytest.approx(np.median(values), abs=1e-6)
        assert found["mean"]["value"] == pytest.approx(np.mean(values), abs=1e-6)
        expected = stats.spearmanr(table["loss"], table[name]).statistic
        assert found["pooled"]["value"] == pytest.approx(expected, abs=1e-6)

        random = np.random.default_rng(4)
        drawn = [values[random.integers(len(values), size=len(values))] for _ in range(draws)]
        for statistic, of in (("median", np.median), ("mean", np.mean)):
            low, high = np.percentile([of(part) for part in drawn], (2.5, 97.5))
            assert found[statistic]["low"] == pytest.approx(low, abs=1e-6)
            assert found[statistic]["high"] == pytest.approx(high, abs=1e-6)
        random = np.random.default_rng(4)
        pooled = []
        for _ in range(draws):
            chosen = random.integers(5, size=5)
            loss = np.concatenate([proteins[number].loss for number in chosen])
            score = np.concatenate([scores[number][name] for number in chosen])
            pooled.append(stats.spearmanr(loss, score).statistic)
        low, high = np.percentile(pooled, (2.5, 97.5))
        assert found["pooled"]["low"] == pytest.approx(low, abs=1e-6)
        assert found["pooled"]["high"] == pytest.approx(high, abs=1e-6)
    assert summary == summarise(table, per_protein, min_mutants=10, bootstrap=draws, seed=4)
    assert summary != summarise(table, per_protein, min_mutants=10, bootstrap=draws, seed=5)


def test_summary_of_little() -> None:
    """One protein has no interval, none with enough mutants no median."""
    proteins, scores = random_set(2, [12])
    table = mutation_table(proteins, scores)
    summary = summarise(table, protein_table(proteins, table), min_mutants=10)
    median = summary["scores"]["good"]["median"]
    assert median["value"] > 0
    assert median["low"] is median["high"] is summary["scores"]["good"]["pooled"]["low"] is None
    summary = summarise(table, protein_table(proteins, table), min_mutants=13)
    assert summary["scores"]["good"]["median"] == {"value": None, "low": None, "high": None}
    assert summary["scores"]["good"]["pooled"]["value"] > 0
    text = report(summary)
    assert "12 mutants of 1 proteins" in text
    assert "1 proteins with fewer than 13 mutants count only in the pooled correlation" in text
    with pytest.raises(InputError, match="no measured protein"):
        mutation_table([], [])


def test_report() -> None:
    proteins, scores = random_set(3, [40, 50, 60])
    table = mutation_table(proteins, scores)
    summary = summarise(table, protein_table(proteins, table), bootstrap=50)
    good = summary["scores"]["good"]["median"]
    text = report(summary)
    assert f"{good['value']:.3f} [{good['low']:.3f}, {good['high']:.3f}]" in text
    assert "fewer than" not in text
    assert max(map(len, text.splitlines())) < 120


class Counting:
    """A predictor that counts what it was asked for, and may stop."""

    def __init__(self, stop_at: str = "", fingerprint: str = "a" * 64) -> None:
        self.asked: list[str] = []
        self.stop_at = stop_at
        self.predictor = Predictor("net", fingerprint, self.score)

    def score(self, protein: MeasuredProtein) -> dict[str, np.ndarray]:
        if protein.name == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(protein.name)
        return {"net.a": protein.loss + 1, "net.b": -protein.loss}


PROTEINS = [measured(name, ["A1C", "C2A"], [n, n + 0.1]) for n, name in enumerate(("p/1", "q|2", "r"))]
PROTEINS[1] = MeasuredProtein("q|2", "ACK", ["A1C", "C2A"], PROTEINS[1].loss)
PROTEINS[2] = MeasuredProtein("r", "ACDEFGHIKL", ["A1C", "C2D"], PROTEINS[2].loss)


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    first = Counting(stop_at="r")
    with pytest.raises(KeyboardInterrupt):
        score_proteins(first.predictor, PROTEINS, tmp_path, progress=False)
    assert first.asked == ["p/1", "q|2"]
    second = Counting()
    scores = score_proteins(second.predictor, PROTEINS, tmp_path, progress=False)
    assert second.asked == ["r"]
    for protein, own in zip(PROTEINS, scores, strict=True):
        np.testing.assert_array_equal(own["net.a"], protein.loss + 1)
        np.testing.assert_array_equal(own["net.b"], -protein.loss)
        assert list(own) == ["net.a", "net.b"]


def spoil_file(folder: Path) -> None:
    for path in folder.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-30])


def empty_file(folder: Path) -> None:
    for path in folder.rglob("*.npz"):
        path.write_bytes(b"")


def swap_files(folder: Path) -> None:
    first, second, *_ = sorted(folder.rglob("*.npz"))
    first.write_bytes(second.read_bytes())


@pytest.mark.parametrize(("spoil", "again"), [(spoil_file, 3), (empty_file, 3), (swap_files, 1)])
def test_files_that_do_not_fit_are_computed_again(tmp_path: Path, spoil: Callable[[Path], None], again: int) -> None:
    score_proteins(Counting().predictor, PROTEINS, tmp_path, progress=False)
    spoil(tmp_path)
    counting = Counting()
    scores = score_proteins(counting.predictor, PROTEINS, tmp_path, progress=False)
    assert len(counting.asked) == again
    assert [own["net.b"].tolist() for own in scores] == [(-protein.loss).tolist() for protein in PROTEINS]


def test_other_networks_and_mutants_are_computed_again(tmp_path: Path) -> None:
    score_proteins(Counting().predictor, PROTEINS, tmp_path, progress=False)
    other = Counting(fingerprint="b" * 64)
    score_proteins(other.predictor, PROTEINS, tmp_path, progress=False)
    assert len(other.asked) == 3
    more = [measured("p/1", ["A1C", "C2A", "D3A"], [1, 2, 3]), *PROTEINS[1:]]
    counting = Counting()
    score_proteins(counting.predictor, more, tmp_path, progress=False)
    assert counting.asked == ["p/1"]


def test_scores_that_cannot_be_used(tmp_path: Path) -> None:
    broken = Predictor("net", "c", lambda protein: {"net.a": np.full(2, np.nan)})
    with pytest.raises(InputError, match=r"protein p/1: net\.a is not finite"):
        score_proteins(broken, PROTEINS, tmp_path, progress=False)

    def refuse(protein: MeasuredProtein) -> dict[str, np.ndarray]:
        raise InputError("too long")

    with pytest.raises(InputError, match="net, protein p/1: too long"):
        score_proteins(Predictor("net", "d", refuse), PROTEINS, tmp_path, progress=False)
    assert not list(tmp_path.rglob("*.npz"))


def test_digest_tells_weights_apart() -> None:
    network = torch.nn.Linear(3, 2)
    before = weights_digest(network, "score")
    assert weights_digest(network, "score") == before
    assert weights_digest(network, "other") != before
    with torch.no_grad():
        network.weight[1, 2] += 1e-3
    assert weights_digest(network, "score") != before


def test_figure(tmp_path: Path) -> None:
    """A dot for each protein with enough mutants, the median beside it."""
    proteins, scores = random_set(5, [40, 5, 60, 12])
    table = mutation_table(proteins, scores)
    per_protein = protein_table(proteins, table)
    per_protein["nothing"] = np.nan
    table["nothing"] = 0.0
    summary = summarise(table, per_protein, bootstrap=10)
    figure = draw(per_protein, summary)
    (axes,) = figure.axes
    good, bad, nothing = axes.collections
    np.testing.assert_allclose(sorted(good.get_offsets()[:, 0]), sorted(per_protein["good"][[0, 2, 3]]))
    assert len(bad.get_offsets()) == 3
    assert len(nothing.get_offsets()) == 0
    words = {text.get_text() for text in axes.texts}
    assert {f"{np.median(per_protein[name][[0, 2, 3]]):.2f}" for name in ("good", "bad")} | {"-", "median"} == words
    assert "3 proteins" in axes.get_xlabel()
    write_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
