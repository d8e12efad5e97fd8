from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from data_prepare.errors import InputError
from model.dyna1.metrics import (
    MEANS,
    auroc,
    average_precision,
    best_threshold,
    bootstrap_interval,
    by_chance,
    chance_average_precision,
    per_protein,
    pooled,
    summarise,
)


def plain_auroc(target, score) -> float:
    """Share of pairs of a positive and a negative that are in order; equal scores count half."""
    pairs = [(p > n) + (p == n) / 2 for p in score[target == 1] for n in score[target == 0]]
    return float(np.mean(pairs))


def plain_average_precision(target, score) -> float:
    """Precision at each threshold, weighted by the recall that it adds."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        called = score >= threshold
        now = target[called].sum() / target.sum()
        total += (now - recall) * target[called].mean()
        recall = now
    return float(total)


def test_chance_is_the_mean_over_all_orders() -> None:
    score = np.arange(6.0)
    for positives in range(1, 7):
        orders = [np.array(order, np.int8) for order in permutations([1] * positives + [0] * (6 - positives))]
        plain = np.mean([plain_average_precision(order, score) for order in orders])
        assert chance_average_precision(6, positives) == pytest.approx(plain)
    assert np.isnan(chance_average_precision(6, 0))
    assert chance_average_precision(1, 1) == 1
    targets = {
        "a": np.array([1, 1, 0, 0, -1, 0], np.int8),
        "b": np.array([1, 1, 0], np.int8),
        "one": np.eye(1, 9, dtype=np.int8)[0],
    }
    found = by_chance(per_protein(targets, {name: np.arange(9.0)[: len(target)] for name, target in targets.items()}))
    area = (chance_average_precision(5, 2) + chance_average_precision(3, 2)) / 2
    assert found == pytest.approx({"auroc": 0.5, "auprc": area, "normalised_auprc": area - (2 / 5 + 2 / 3) / 2})


def plain_best(target, score) -> tuple[float, float, float, float]:
    found = (0.0, 0.0, 0.0, 0.0)
    for threshold in sorted(set(score), reverse=True):
        called = score >= threshold
        precision, recall = target[called].mean(), target[called].sum() / target.sum()
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        if f1 > found[0] + 1e-12:
            found = (f1, threshold, precision, recall)
    return found


def cases():
    random = np.random.default_rng(3)
    for n in (2, 3, 10, 60):
        for levels in (1, 2, 5, 1000):  # few levels: many ties
            for _ in range(5):
                target = random.integers(0, 2, n)
                target[:2] = 1, 0
                yield target.astype(np.int8), random.integers(0, levels, n) / 7 - 1


def test_areas_equal_the_plain_definitions() -> None:
    seen = 0
    for target, score in cases():
        assert auroc(target, score) == pytest.approx(plain_auroc(target, score), abs=1e-12)
        assert average_precision(target, score) == pytest.approx(plain_average_precision(target, score), abs=1e-12)
        f1, threshold, precision, recall = plain_best(target, score)
        expected = {"threshold": threshold, "f1": f1, "precision": precision, "recall": recall}
        assert best_threshold(target, score) == pytest.approx(expected, abs=1e-12)
        seen += 1
    assert seen == 80


def test_areas_equal_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    for target, score in cases():
        assert auroc(target, score) == pytest.approx(metrics.roc_auc_score(target, score), abs=1e-12)
        assert average_precision(target, score) == pytest.approx(metrics.average_precision_score(target, score))


def test_float32_scores_keep_their_order() -> None:
    score = np.array([1.0, np.nextafter(np.float32(1), np.float32(2)), 0.5], dtype=np.float32)
    assert auroc(np.array([0, 1, 0]), score) == 1.0
    assert auroc(np.array([1, 0, 0]), score) == 0.5


@pytest.mark.parametrize("target", [[], [0, 0], [1, 1]])
def test_areas_that_do_not_exist_are_nan(target) -> None:
    target, score = np.array(target, dtype=np.int8), np.arange(len(target)) / 3
    assert np.isnan(auroc(target, score))
    assert np.isnan(average_precision(target, score)) == (1 not in target)
    assert np.isnan(best_threshold(target, score)["f1"]) == (1 not in target)


@pytest.fixture
def labels():
    return {
        "a": np.array([-1, 1, 0, 1, 0, -1, 0], np.int8),
        "one positive": np.array([0, 0, 1, -1], np.int8),
        "b": np.array([1, 1, 0, -1], np.int8),
        "all": np.array([1, 1], np.int8),
        "none": np.array([-1, -1], np.int8),
    }


@pytest.fixture
def scores(labels):
    random = np.random.default_rng(0)
    return {name: random.random(len(target)) for name, target in labels.items()}


def test_table_per_protein(labels, scores) -> None:
    scores["a"][[0, 5]] = np.nan  # not evaluated
    table = per_protein(labels, scores).set_index("entry_ID")
    assert table["evaluated"].tolist() == [5, 3, 3, 2, 0]
    assert table["positives"].tolist() == [2, 1, 2, 2, 0]
    assert table[list(MEANS)].isna().all(axis=1).tolist() == [False, True, False, False, True]
    held = labels["a"] >= 0
    assert table.loc["a", "auroc"] == auroc(labels["a"][held], scores["a"][held])
    assert table.loc["a", "auprc"] == average_precision(labels["a"][held], scores["a"][held])
    assert table.loc["a", "normalised_auprc"] == pytest.approx(table.loc["a", "auprc"] - 2 / 5)
    assert np.isnan(table.loc["all", "auroc"])
    assert table.loc["all", "normalised_auprc"] == 0


def test_summary_names_what_it_leaves_out(labels, scores) -> None:
    found = summarise(labels, scores, samples=500)
    table = per_protein(labels, scores)
    assert found["left_out"] == ["one positive", "none"]
    assert (found["proteins"], found["evaluated"], found["positives"]) == (3, 13, 7)
    for name in MEANS:
        assert found[name]["mean"] == pytest.approx(np.nanmean(table[name]))
        assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"]
    target, score = pooled(labels, scores)
    assert len(target) == 13  # also the residues of proteins without areas
    assert found["pooled"]["auroc"] == auroc(target, score)
    called = score >= found["pooled"]["threshold"]
    assert found["pooled"]["precision"] == target[called].mean()
    assert summarise(labels, scores, samples=500) == found


def test_scores_that_cannot_be_used_are_refused(labels, scores) -> None:
    with pytest.raises(InputError, match="entry b: 3 scores for 4 residues"):
        per_protein(labels, scores | {"b": np.zeros(3)})
    with pytest.raises(InputError, match="entry b: a score is not finite"):
        per_protein(labels, scores | {"b": np.array([0, np.inf, 0, 0])})
    del scores["b"]
    with pytest.raises(InputError, match="entry b: no scores"):
        summarise(labels, scores)


def test_interval_is_that_of_means_of_drawn_proteins() -> None:
    """Against a loop over draws of its own, and the normal approximation."""
    random = np.random.default_rng(5)
    values = random.normal([1.0, -2.0], [1.0, 0.5], (40, 2))
    values[:7, 1] = np.nan
    found = bootstrap_interval(values, seed=1, samples=4000)
    draws = [np.nanmean(values[random.integers(0, 40, 40)], axis=0) for _ in range(4000)]
    expected = np.stack([np.nanmean(values, axis=0), *np.percentile(draws, [2.5, 97.5], axis=0)], axis=1)
    np.testing.assert_allclose(found, expected, atol=0.03)
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=1e-12)
    width = 2 * 1.96 * np.nanstd(values, axis=0) / np.sqrt([40, 33])
    np.testing.assert_allclose(found[:, 2] - found[:, 1], width, rtol=0.1)
    assert np.array_equal(found, bootstrap_interval(values, seed=1, samples=4000))
    assert not np.array_equal(found, bootstrap_interval(values, seed=2, samples=4000))
    assert np.isnan(bootstrap_interval(np.zeros((0, 2)))).all()
    assert np.isnan(bootstrap_interval(np.full((3, 1), np.nan))).all()


def test_no_protein_gives_an_empty_summary() -> None:
    found = summarise({}, {}, samples=10)
    assert (found["proteins"], found["left_out"]) == (0, [])
    assert np.isnan(found["auroc"]["mean"])
    assert isinstance(per_protein({}, {}), pd.DataFrame)
