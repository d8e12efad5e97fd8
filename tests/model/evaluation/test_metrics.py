"""Metrics against SciPy, scikit-learn and plain definitions, with ties, weights and values that do not exist."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import f1_score, roc_auc_score

from model.evaluation.metrics import (
    auroc,
    average_precision,
    best_threshold,
    bootstrap_means,
    chance_average_precision,
    pearson,
    ranks,
    spearman,
)

FORMS = (np.asarray, torch.from_numpy)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("distinct", [5, 1000])
def test_correlations_with_ties(form, distinct: int) -> None:
    first, second = np.random.default_rng(2).integers(0, distinct, (2, 400)).astype(np.float64)
    assert np.array_equal(ranks(form(first)), rankdata(first))
    assert pearson(form(first), form(second)) == pytest.approx(pearsonr(first, second)[0], abs=1e-12)
    assert spearman(form(first), form(second)) == pytest.approx(spearmanr(first, second)[0], abs=1e-12)
    assert pearson(form(first), form(1e-9 * first + 7)) == pytest.approx(1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_correlations_that_do_not_exist(form) -> None:
    values = np.array([1.0, 2.0, 4.0])
    noise = 1e3 + np.array([0, 1e-13, 2e-13])  # a constant, except for rounding
    for constant in (np.ones(3), np.zeros(3), noise, -noise):
        assert np.isnan(pearson(form(values), form(constant)))
        assert np.isnan(pearson(form(constant), form(values)))
    assert np.isnan(spearman(form(values), form(np.ones(3))))
    for few in (values[:2], values[:0]):
        assert np.isnan(pearson(form(few), form(few)))


def test_weights_repeat_values() -> None:
    random = np.random.default_rng(3)
    first, second, times = random.random(30), random.random(30), random.integers(0, 4, 30)
    expected = pearson(first.repeat(times), second.repeat(times))
    assert pearson(first, second, times.astype(float)) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(pearson(first, second, np.eye(30)[0] * 2))
    assert np.isnan(pearson(first, second, np.eye(30)[0] * 5))  # one value, five times


# areas


def plain_average_precision(target, score) -> float:
    """Precision at each threshold, weighted by the recall that it adds."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        called = score >= threshold
        now = target[called].sum() / target.sum()
        total += (now - recall) * target[called].mean()
        recall = now
    return float(total)


@pytest.mark.parametrize("n", [2, 3, 30])
@pytest.mark.parametrize("levels", [1, 3, 1000])  # few levels: many ties
def test_areas_and_threshold(n: int, levels: int) -> None:
    random = np.random.default_rng(n + levels)
    for _ in range(5):
        target, score = random.integers(0, 2, n), random.integers(0, levels, n) / 7 - 1
        target[:2] = 1, 0
        pairs = [(p > m) + (p == m) / 2 for p in score[target == 1] for m in score[target == 0]]
        assert auroc(target, score) == pytest.approx(np.mean(pairs), abs=1e-12)
        assert auroc(target, score) == pytest.approx(roc_auc_score(target, score), abs=1e-12)
        assert average_precision(target, score) == pytest.approx(plain_average_precision(target, score), abs=1e-12)
        by_threshold = {threshold: f1_score(target, score >= threshold) for threshold in sorted(set(score))}
        found = best_threshold(target, score)
        best = max(by_threshold.values())
        assert found["f1"] == pytest.approx(best)
        assert found["threshold"] == max(t for t, f1 in by_threshold.items() if f1 == pytest.approx(best, abs=1e-12))
        called = score >= found["threshold"]
        assert found["precision"] == pytest.approx(target[called].mean())
        assert found["recall"] == pytest.approx(target[called].sum() / target.sum())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("target", [[], [0, 0], [1, 1]])
def test_areas_that_do_not_exist(target) -> None:
    target, score = np.array(target, dtype=np.int8), np.arange(len(target)) / 3
    assert np.isnan(auroc(target, score))
    assert np.isnan(average_precision(target, score)) == (1 not in target)
    assert np.isnan(best_threshold(target, score)["f1"]) == (1 not in target)


def test_chance_is_the_mean_over_all_orders() -> None:
    for positives in range(1, 7):
        orders = [np.array(order) for order in permutations([1] * positives + [0] * (6 - positives))]
        expected = np.mean([plain_average_precision(order, np.arange(6.0)) for order in orders])
        assert chance_average_precision(6, positives) == pytest.approx(expected)
    assert np.isnan(chance_average_precision(6, 0))
    assert chance_average_precision(1, 1) == 1


# bootstrap


def test_means_are_those_of_drawn_proteins() -> None:
    """Compared with independent draws."""
    random = np.random.default_rng(5)
    values = random.normal([1.0, -2.0], [1.0, 0.5], (40, 2))
    values[:7, 1] = np.nan
    found = bootstrap_means(values, seed=1, samples=4000)
    draws = np.nanmean(values[random.integers(0, 40, (4000, 40))], axis=1)
    expected = np.stack([np.nanmean(values, axis=0), *np.percentile(draws, [2.5, 97.5], axis=0)], axis=1)
    np.testing.assert_allclose(found, expected, atol=0.03)
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=1e-12)
    assert np.array_equal(found, bootstrap_means(values, seed=1, samples=4000))
    assert not np.array_equal(found, bootstrap_means(values, seed=2, samples=4000))
    assert np.isnan(bootstrap_means(np.zeros((0, 2)))).all()
    assert np.isnan(bootstrap_means(np.full((3, 1), np.nan))).all()
