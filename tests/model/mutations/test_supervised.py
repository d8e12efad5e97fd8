"""Regression on embedding differences, on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hugging_face import esm2_settings
from scipy import stats

from model.inference.embed import embed
from model.mutations.measured import MeasuredProtein
from model.mutations.substitution import apply_mutation
from model.mutations.supervised import (
    CONSTANT,
    EMBEDDING,
    embedding_differences,
    errors_of_splits,
    splits,
    supervised_summary,
    supervised_table,
)
from model.network.dance import DanceModel

RANDOM = np.random.default_rng(0)


def test_halves() -> None:
    found = list(splits(11, 4, seed=3))
    for train, test in found:
        assert (len(train), len(test)) == (5, 6)
        assert sorted([*train, *test]) == list(range(11))
    assert len({tuple(train) for train, _ in found}) == 4
    again = [train.tolist() for train, _ in splits(11, 4, seed=3)]
    assert again == [train.tolist() for train, _ in found]
    assert again != [train.tolist() for train, _ in splits(11, 4, seed=4)]


def test_a_linear_loss_is_found() -> None:
    features = RANDOM.normal(size=(200, 10))
    loss = features @ RANDOM.normal(size=10) + 3
    errors = errors_of_splits(features, loss, repeats=5, seed=0)
    assert (errors["spearman"] > 0.99).all()
    assert (errors["mae"] < 0.1).all()


def test_noise_is_not_learned() -> None:
    """The loss does not depend on the features: only training on the test half could correlate with it."""
    loss = RANDOM.normal(size=200)
    errors = errors_of_splits(RANDOM.normal(size=(200, 150)), loss, repeats=10, seed=0)
    assert abs(errors["spearman"].mean()) < 0.15
    constant = errors_of_splits(np.empty((200, 0)), loss, repeats=10, seed=0)
    assert errors["mae"].mean() == pytest.approx(constant["mae"].mean(), rel=0.1)
    assert np.isnan(constant["spearman"]).all()


def test_a_score_keeps_its_own_sign() -> None:
    """A line may turn a score around, its correlation may not; the error is that of the line through the other half."""
    loss = RANDOM.normal(size=40)
    score = -2 * loss + RANDOM.normal(size=40)
    errors = errors_of_splits(score[:, None], loss, repeats=3, seed=1)
    for found, mae, (train, test) in zip(*errors.values(), splits(40, 3, 1), strict=True):
        assert found == pytest.approx(stats.spearmanr(loss[test], score[test]).statistic)
        assert found < -0.5
        line = np.polyfit(score[train], loss[train], 1)
        assert mae == pytest.approx(np.abs(np.polyval(line, score[test]) - loss[test]).mean())


def protein(mutants: list[str], loss: np.ndarray) -> MeasuredProtein:
    return MeasuredProtein("a", "MKTAYIAKQR", mutants, loss)


def test_differences_of_mean_embeddings(tiny_model: DanceModel) -> None:
    mutants = ["K2A", "T3G:Y5W"]
    found = embedding_differences(tiny_model, protein(mutants, np.zeros(2)))
    sequences = ["MKTAYIAKQR", *(apply_mutation("MKTAYIAKQR", label) for label in mutants)]
    wild_type, *others = (embed(tiny_model, sequence) for sequence in sequences)
    np.testing.assert_allclose(found, [other - wild_type for other in others], atol=1e-5)


def test_differences_of_esm2(tmp_path) -> None:
    from transformers import EsmForMaskedLM

    from model.network.language_model import load_language_model
    from model.network.tokenizer import tokenize

    source = EsmForMaskedLM(esm2_settings(16, 2, 2, 32, initializer_range=0.3)).eval()
    source.save_pretrained(tmp_path)
    found = embedding_differences(load_language_model(tmp_path, "cpu"), protein(["K2A"], np.zeros(1)))
    with torch.no_grad():
        hidden = source.esm(**tokenize(["MKTAYIAKQR", "MATAYIAKQR"])).last_hidden_state.mean(1)
    np.testing.assert_allclose(found[0], hidden[1] - hidden[0], atol=1e-5)


def test_table_and_summary() -> None:
    import pandas as pd

    mutants = [f"{old}{k}W" for k, old in enumerate("MKTAYIAKQR", start=1)]
    loss = np.arange(10.0)
    proteins = [protein(mutants, loss), MeasuredProtein("few", "MK", ["M1W"], np.zeros(1))]
    table = pd.DataFrame({"protein": "a", "mutant": mutants, "loss": loss, "exact": loss, "flat": 1.0})
    errors = {("a", f"net.{EMBEDDING}"): {"spearman": np.array([0.5, np.nan]), "mae": np.array([1.0, 3.0])}}
    found = supervised_table(proteins, table, errors, repeats=2, seed=0).set_index("predictor")
    assert set(found["protein"]) == {"a"}
    assert found.loc[f"net.{EMBEDDING}", ["spearman", "mae"]].tolist() == [0.5, 2.0]
    assert found.loc["exact", ["spearman", "mae"]].tolist() == pytest.approx([1.0, 0.0])
    assert np.isnan(found.loc[["flat", CONSTANT], "spearman"]).all()
    summary = supervised_summary(found.reset_index(), 3, 10, 0)
    assert summary["exact"] == {
        "proteins": 1,
        "spearman": {"value": pytest.approx(1.0), "low": None, "high": None},
        "mae": {"value": pytest.approx(0.0), "low": None, "high": None},
    }
    assert supervised_summary(found.reset_index(), 11, 10, 0) == {}
