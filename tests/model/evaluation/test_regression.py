"""Linear regression of properties on embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from model.evaluation.regression import (
    read_embeddings,
    read_splits,
    regress,
    regression_predictions,
    summarise_splits,
)


def test_scikit_learn_predicts_the_same() -> None:
    random = np.random.default_rng(0)
    x = random.normal(3.0, 1.0, (60, 7)) * np.arange(1, 8)
    y = x @ random.normal(size=7) + random.normal(size=60) + 5
    full, first = regression_predictions(x, y, x[:9] + 0.1, [0, 3])
    np.testing.assert_allclose(full, LinearRegression().fit(x, y).predict(x[:9] + 0.1), rtol=1e-9)
    pipeline = make_pipeline(PCA(3, svd_solver="full"), LinearRegression()).fit(x, y)
    np.testing.assert_allclose(first, pipeline.predict(x[:9] + 0.1), rtol=1e-9)


def test_fewer_rows_than_columns_and_doubled_columns() -> None:
    """The solution of smallest norm, as the pseudo-inverse gives it; more components than there are change nothing."""
    random = np.random.default_rng(1)
    x = random.normal(size=(10, 30))
    x = np.hstack([x, x[:, :5]])
    y, new = random.normal(size=10), random.normal(size=(4, 35))
    slopes = np.linalg.pinv(x - x.mean(axis=0)) @ (y - y.mean())
    for found in regression_predictions(x, y, new, [0, 200]):
        np.testing.assert_allclose(found, (new - x.mean(axis=0)) @ slopes + y.mean(), atol=1e-10)


def test_rounding_of_embeddings_is_not_fitted() -> None:
    """A direction that is constant but for float32 rounding, as that of the last LayerNorm, changes no prediction."""
    random = np.random.default_rng(5)
    x = random.normal(size=(40, 6))
    x[:, 5] = 1 - x[:, :5].sum(axis=1)
    y = random.normal(size=40)
    noisy = [(x * (1 + random.uniform(-1, 1, x.shape) * 1e-7)).astype(np.float32) for _ in range(2)]
    first, second = (regression_predictions(values, y, x[:5] + 0.01, [0])[0] for values in noisy)
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.fixture
def problem() -> tuple[dict[str, np.ndarray], pd.DataFrame, dict[str, np.ndarray]]:
    random = np.random.default_rng(2)
    x = random.normal(size=(80, 6))
    targets = pd.DataFrame({"a": x @ random.normal(size=6) + 0.3 * random.normal(size=80), "b": random.normal(size=80)})
    targets.loc[[3, 70], "b"] = np.nan
    splits = {f"split_{k}": random.random(80) < 0.2 for k in range(3)}
    return {"x": x, "noise": random.normal(size=(80, 4))}, targets, splits


def test_quality_on_the_test_rows_and_its_summary(problem) -> None:
    embeddings, targets, splits = problem
    results = regress(embeddings, targets, splits, components=2)
    assert len(results) == 2 * 2 * 2 * 3
    assert set(results["features"]) == {"all", "pc2"}
    rows = results.set_index(["embedding", "target", "features", "split"])
    test, x = splits["split_1"], embeddings["x"]
    for target in targets:
        y = targets[target].to_numpy()
        train, held = ~test & np.isfinite(y), test & np.isfinite(y)
        fit = LinearRegression().fit(x[train], y[train])
        row = rows.loc[("x", target, "all", "split_1")]
        assert (row["train"], row["test"]) == (train.sum(), held.sum())
        assert row["mse"] == pytest.approx(((fit.predict(x[held]) - y[held]) ** 2).mean())
        assert row["pearson"] == pytest.approx(np.corrcoef(fit.predict(x[held]), y[held])[0, 1])
        assert row["r2"] == pytest.approx(fit.score(x[held], y[held]))
    assert results.query("embedding == 'x' and target == 'a' and features == 'all'")["pearson"].min() > 0.9

    summary = summarise_splits(results)
    assert len(summary) == 8
    chosen = "embedding == 'noise' and target == 'b' and features == 'pc2'"
    values, row = results.query(chosen), summary.query(chosen).iloc[0]
    assert row["splits"] == 3
    assert row["pearson_mean"] == pytest.approx(np.mean(values["pearson"]))
    assert row["r2_sd"] == pytest.approx(np.std(values["r2"], ddof=1))


def test_constant_sides() -> None:
    """Constant features predict the mean; constant test targets have no metrics."""
    (found,) = regression_predictions(np.ones((4, 3)), np.array([1.0, 2.0, 3.0, 6.0]), np.zeros((2, 3)), [0])
    np.testing.assert_array_equal(found, [3.0, 3.0])
    test = np.array([False] * 3 + [True] * 3)
    flat = pd.DataFrame({"flat": [0.0, 1.0, 3.0, 2.0, 2.0, 2.0]})
    results = regress({"x": np.eye(6)}, flat, {"split_0": test}, components=1)
    assert results[["pearson", "r2"]].isna().all(axis=None)


def test_splits() -> None:
    """Those of the table come first; else whole clusters, by seed."""
    clusters = np.repeat([f"c{k}" for k in range(25)], 4)
    table = pd.DataFrame({"cluster": clusters, "split_7": ["test", "train"] * 50})
    assert {name: rows.tolist() for name, rows in read_splits(table).items()} == {"split_7": [True, False] * 50}
    splits = read_splits(table[["cluster"]], repeats=3, seed=5)
    assert list(splits) == ["seed_5", "seed_6", "seed_7"]
    for test in splits.values():
        assert test.sum() == 20
        assert all(len(set(test[clusters == cluster])) == 1 for cluster in set(clusters))
    assert (splits["seed_5"] != splits["seed_6"]).any()
    np.testing.assert_array_equal(read_splits(table[["cluster"]], 1, 6)["seed_6"], splits["seed_6"])


def test_invalid_input(tmp_path: Path) -> None:
    """The command's tests have those of the table."""
    targets, test = pd.DataFrame({"a": [1.0, 2.0, 3.0]}), np.array([False, False, True])
    refused(lambda: regress({"x": np.eye(3)}, targets, {"split_0": test}), "split_0", "a", "1 test")
    path = tmp_path / "x.npy"
    for values in (np.zeros((3, 2)), np.zeros(4), np.full((4, 1), "a"), np.full((4, 1), np.nan), np.ones((4, 1), bool)):
        np.save(path, values)
        refused(lambda: read_embeddings(path, 4), path)
    np.savez(tmp_path / "x.npz", a=1)
    (tmp_path / "x.npz").replace(path)
    refused(lambda: read_embeddings(path, 4), path)
    np.save(path, np.ones((4, 2), np.float16))
    assert read_embeddings(path, 4).shape == (4, 2)
