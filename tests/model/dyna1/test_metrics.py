"""Metrics of Dyna-1 per protein, averaged and pooled; those that do not exist; scores that do not match."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from model.dyna1.evaluate import AREAS, chance_metrics, dataset_metrics, metrics_per_protein, pooled
from model.evaluation.metrics import auroc, average_precision, chance_average_precision

TARGETS = {
    "a": np.array([-1, 1, 0, 1, 0, -1, 0], np.int8),
    "one positive": np.array([0, 0, 1, -1], np.int8),
    "b": np.array([1, 1, 0, -1], np.int8),
    "all": np.array([1, 1], np.int8),
    "none": np.array([-1, -1], np.int8),
}


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


def test_no_protein() -> None:
    found = dataset_metrics({}, {}, samples=10)
    assert (found["proteins"], found["left_out"]) == (0, [])
    assert np.isnan(found["auroc"]["mean"])
    assert isinstance(metrics_per_protein({}, {}), pd.DataFrame)
    assert np.isnan(list(chance_metrics(metrics_per_protein({}, {})).values())).all()


@pytest.mark.parametrize("changed", [{"b": np.zeros(3)}, {"b": np.array([0, np.inf, 0, 0])}, {"b": np.zeros(0)}])
def test_scores_that_do_not_match(scores, changed) -> None:
    refused(lambda: metrics_per_protein(TARGETS, scores | changed), "entry b")
    refused(lambda: dataset_metrics(TARGETS, {name: scores[name] for name in ("a", "one positive")}), "entry b")
