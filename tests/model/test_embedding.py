from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from data_prepare.errors import InputError
from model.config import ModelConfig
from model.inference.embed import embed, fit_regressions, read_splits, regress, summarise
from model.network.dance import DanceModel
from model.network.tokenizer import VOCABULARY

DATA = Path(__file__).resolve().parents[1] / "data" / "model"
SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "GGSLEEKL<eos><cls>MKV", "MKV", "XACDEFGHIKLMNPQRSTVWY"]


@pytest.fixture(scope="module")
def model() -> DanceModel:
    network = DanceModel(ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64))
    network.load_state_dict(load_file(DATA / "tiny_weights.safetensors"))
    return network.eval()


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_golden_values(model: DanceModel, batch_size: int | None) -> None:
    """Means over all tokens, and rows of residues, from the hidden states of an independent program."""
    golden = np.load(DATA / "tiny_seqdance.npz")
    sequences, means, rows = [], [], []
    for ids, mask, hidden in zip(
        golden["in.input_ids"], golden["in.attention_mask"], golden["out.res_emb"], strict=True
    ):
        sequences.append("".join(VOCABULARY[i] for i in ids[mask == 1][1:-1]))
        means.append(hidden[mask == 1].mean(axis=0))
        rows.append(hidden[~np.isin(ids, (0, 1, 2))])
    found = embed(model, sequences, batch_size=batch_size)
    assert found.shape == (3, 32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, means, atol=1e-5, rtol=0)
    for one, expected in zip(embed(model, sequences, True, batch_size), rows, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, expected, atol=1e-5, rtol=0)


def test_batches_and_single_sequences_agree(model: DanceModel) -> None:
    for per_residue in (False, True):
        for together, sequence in zip(embed(model, SEQUENCES, per_residue), SEQUENCES, strict=True):
            np.testing.assert_allclose(together, embed(model, sequence, per_residue), atol=1e-5, rtol=0)
    assert [len(rows) for rows in embed(model, SEQUENCES, True)] == [22, 11, 3, 21]
    assert embed(model, []).shape == (0, 32)
    assert embed(model, [], per_residue=True) == []


def test_sequences_of_a_series_go_by_place(model: DanceModel) -> None:
    """The labels are places of other sequences, or of none."""
    for index in ([3, 2, 0, 1], [6, 7, 8, 9]):
        series = pd.Series(SEQUENCES, index=index)
        np.testing.assert_array_equal(embed(model, series), embed(model, SEQUENCES))
        for found, expected in zip(embed(model, series, True), embed(model, SEQUENCES, True), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_errors_of_sequences(model: DanceModel) -> None:
    with pytest.raises(InputError, match="sequence 2 of 2, position 1: 'J'"):
        embed(model, ["MKV", "JKV"])
    with pytest.raises(InputError, match="batch size -1"):
        embed(model, ["MKV"], batch_size=-1)


def normal_equations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients and, last, the intercept, by solving A^T A b = A^T y."""
    a = np.column_stack([x, np.ones(len(x))])
    return np.linalg.solve(a.T @ a, a.T @ y)


def test_regression_solves_the_normal_equations() -> None:
    random = np.random.default_rng(0)
    x = random.normal(3.0, 1.0, (60, 7)) * np.arange(1, 8)
    y = x @ random.normal(size=7) + random.normal(size=60) + 5
    full, first = fit_regressions(x.astype(np.float64), y, [0, 3])
    expected = normal_equations(x, y)
    np.testing.assert_allclose(full.coefficients, expected[:-1], rtol=1e-9)
    assert full.intercept == pytest.approx(expected[-1])
    # principal components from the covariance matrix, then the same equations on the three scores
    values, vectors = np.linalg.eigh(np.cov(x.T))
    axes = vectors[:, values.argsort()[::-1][:3]]
    expected = normal_equations((x - x.mean(axis=0)) @ axes, y)
    np.testing.assert_allclose(first.coefficients, axes @ expected[:-1], rtol=1e-7)
    np.testing.assert_allclose(first.predict(x), (x - x.mean(axis=0)) @ axes @ expected[:-1] + expected[-1], rtol=1e-9)


def test_fewer_rows_than_columns_and_doubled_columns() -> None:
    """The solution of smallest norm, as the pseudo-inverse gives it; more components than there are change nothing."""
    random = np.random.default_rng(1)
    x = random.normal(size=(10, 30))
    x = np.hstack([x, x[:, :5]])
    y = random.normal(size=10)
    full, many = fit_regressions(x, y, [0, 200])
    expected = np.linalg.pinv(x - x.mean(axis=0)) @ (y - y.mean())
    np.testing.assert_allclose(full.coefficients, expected, atol=1e-10)
    np.testing.assert_allclose(many.coefficients, expected, atol=1e-10)
    np.testing.assert_allclose(full.predict(x), y, atol=1e-10)


def test_rounding_of_embeddings_is_not_fitted() -> None:
    """A direction that is constant but for float32 rounding, as that of the last LayerNorm, changes no prediction."""
    random = np.random.default_rng(5)
    x = random.normal(size=(40, 6))
    x[:, 5] = 1 - x[:, :5].sum(axis=1)
    y = random.normal(size=40)
    noisy = [(x * (1 + random.uniform(-1, 1, x.shape) * 1e-7)).astype(np.float32) for _ in range(2)]
    first, second = (fit_regressions(values, y, [0])[0].predict(x[:5] + 0.01) for values in noisy)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_constant_features_give_the_mean() -> None:
    (fit,) = fit_regressions(np.ones((4, 3)), np.array([1.0, 2.0, 3.0, 6.0]), [0])
    np.testing.assert_array_equal(fit.predict(np.zeros((2, 3))), [3.0, 3.0])


@pytest.fixture
def problem() -> tuple[dict[str, np.ndarray], pd.DataFrame, dict[str, np.ndarray]]:
    random = np.random.default_rng(2)
    x = random.normal(size=(80, 6))
    targets = pd.DataFrame({"a": x @ random.normal(size=6) + 0.3 * random.normal(size=80), "b": random.normal(size=80)})
    targets.loc[[3, 70], "b"] = np.nan
    splits = {f"split_{k}": random.random(80) < 0.2 for k in range(3)}
    return {"x": x, "noise": random.normal(size=(80, 4))}, targets, splits


def test_quality_on_the_test_rows(problem) -> None:
    embeddings, targets, splits = problem
    results = regress(embeddings, targets, splits, components=2)
    assert len(results) == 2 * 2 * 2 * 3
    rows = results.set_index(["embedding", "target", "features", "split"])
    test = splits["split_1"]
    for target in targets:
        y = targets[target].to_numpy()
        there = np.isfinite(y)
        x = embeddings["x"]
        solution = normal_equations(x[~test & there], y[~test & there])
        predicted = x[test & there] @ solution[:-1] + solution[-1]
        measured = y[test & there]
        row = rows.loc[("x", target, "all", "split_1")]
        assert (row["train"], row["test"]) == ((~test & there).sum(), (test & there).sum())
        assert row["pearson"] == pytest.approx(np.corrcoef(predicted, measured)[0, 1])
        assert row["r2"] == pytest.approx(1 - ((predicted - measured) ** 2).mean() / measured.var())
    assert results.query("embedding == 'x' and target == 'a' and features == 'all'")["pearson"].min() > 0.9
    assert set(results["features"]) == {"all", "pc2"}


def test_summary_over_splits(problem) -> None:
    embeddings, targets, splits = problem
    results = regress(embeddings, targets, splits, components=2)
    summary = summarise(results)
    assert len(summary) == 8
    values = results.query("embedding == 'noise' and target == 'b' and features == 'pc2'")
    row = summary.query("embedding == 'noise' and target == 'b' and features == 'pc2'").iloc[0]
    assert row["splits"] == 3
    assert row["pearson_mean"] == pytest.approx(np.mean(values["pearson"]))
    assert row["r2_sd"] == pytest.approx(np.std(values["r2"], ddof=1))


def test_constant_sides_have_no_quality() -> None:
    targets = pd.DataFrame({"flat": [1.0] * 6})
    test = np.array([False] * 3 + [True] * 3)
    results = regress({"x": np.eye(6)}, targets, {"split_0": test}, components=1)
    assert results["pearson"].isna().all()
    assert results["r2"].isna().all()


def test_splits_of_the_table_come_first() -> None:
    table = pd.DataFrame({"cluster": ["a", "b"], "split_0": ["train", "test"], "split_7": ["test", "train"]})
    splits = read_splits(table)
    assert {name: rows.tolist() for name, rows in splits.items()} == {
        "split_0": [False, True],
        "split_7": [True, False],
    }


def test_splits_by_cluster_keep_clusters_whole() -> None:
    clusters = np.repeat([f"c{k}" for k in range(25)], 4)
    splits = read_splits(pd.DataFrame({"cluster": clusters}), repeats=3, seed=5)
    assert list(splits) == ["seed_5", "seed_6", "seed_7"]
    for test in splits.values():
        assert test.sum() == 20
        assert all(len(set(test[clusters == cluster])) == 1 for cluster in set(clusters))
    assert (splits["seed_5"] != splits["seed_6"]).any()
    again = read_splits(pd.DataFrame({"cluster": clusters}), repeats=1, seed=6)
    np.testing.assert_array_equal(again["seed_6"], splits["seed_6"])


def test_errors_of_regressions() -> None:
    with pytest.raises(InputError, match="neither columns split_0"):
        read_splits(pd.DataFrame({"sequence": ["MKV"]}))
    with pytest.raises(InputError, match="column split_0: 'valid' is neither train nor test"):
        read_splits(pd.DataFrame({"split_0": ["train", "valid"]}))
    targets = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    with pytest.raises(InputError, match="split_0, a: 2 training and 1 test rows"):
        regress({"x": np.eye(3)}, targets, {"split_0": np.array([False, False, True])})
