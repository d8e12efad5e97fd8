"""Metrics of attention maps: the golden file, plain loops as oracle, ties, what does not exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from data_prepare.dataset.token_space import nma_entry, to_token_space
from model.evaluation.attention import METRICS, attention_metrics

DATA = Path(__file__).resolve().parents[2] / "data" / "model"

# --- oracle: sums over pairs, ranks by counting ------------------------------------------------------------------


def plain_rank(values: list[float]) -> list[float]:
    return [sum(w < v for w in values) + (1 + sum(w == v for w in values)) / 2 for v in values]


def plain_spearman(first: list[float], second: list[float], fewest: int) -> float:
    if len(first) < fewest or len(set(first)) == 1 or len(set(second)) == 1:
        return np.nan
    a, b = plain_rank(first), plain_rank(second)
    mean = (len(a) + 1) / 2
    above = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    return above / (sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b)) ** 0.5


def plain_auroc(attention: list[float], frequency: list[float]) -> float:
    positive = [a for a, f in zip(attention, frequency, strict=True) if round(f, 6) >= 0.01]
    negative = [a for a, f in zip(attention, frequency, strict=True) if f == 0]
    if not positive or not negative:
        return np.nan
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    return wins / (len(positive) * len(negative))


def plain_ratio(attention: list[float], values: list[float], top: int) -> float:
    if len(values) <= top:
        return np.nan
    edge = sorted(attention, reverse=True)[top - 1]
    sure = [v for a, v in zip(attention, values, strict=True) if a > edge]
    tied = [v for a, v in zip(attention, values, strict=True) if a == edge]
    inside = sum(sure) + (top - len(sure)) * sum(tied) / len(tied)
    others = sum(values) - inside
    return inside / top / (others / (len(values) - top) + 1e-8) if others > 1e-9 else np.nan


def plain_metrics(attention: np.ndarray, pair: np.ndarray, form: str) -> dict[str, float]:
    """Metrics of one map (T, T)."""
    tokens = len(attention)
    apart = {"notebook": 2, "paper": 5}[form]
    used = [(i, j) for i, j in np.ndindex(tokens, tokens) if abs(i - j) > apart and pair[i, j, 0] != -1]
    fewest = 3
    if form == "paper":
        attention = (attention + attention.T) / 2
        fewest = 6  # each pair counts twice

    def of(values: np.ndarray, members: list[tuple[int, ...]] = used) -> list[float]:
        return [float(values[member]) for member in members]

    def signed(name: str, values: np.ndarray) -> dict[str, float]:
        positive, negative = [p for p in used if values[p] > 0], [p for p in used if values[p] < 0]
        return {
            f"{name}_posi_spearman": plain_spearman(of(attention, positive), of(values, positive), fewest),
            f"{name}_neg_spearman": plain_spearman(of(attention, negative), of(values, negative), fewest),
        }

    if pair.shape[-1] == 3:
        return {k: v for c in range(3) for k, v in signed(f"nma_pair{c + 1}", pair[..., c]).items()}
    correlation, frequency = pair[..., 9], (pair[..., :9].astype(float) ** 3).sum(-1)
    found = signed("co_move", correlation)
    if form == "paper":
        return found | {"inter_spearman": plain_spearman(of(attention), of(frequency + frequency.T), fewest)}
    return found | {
        "co_move_topL_ratio": plain_ratio(of(attention), of(np.abs(correlation)), tokens),
        "inter_topL_ratio": plain_ratio(of(attention), of(frequency), tokens),
        "inter_auroc": plain_auroc(of(attention), of(frequency)),
    }


# --- random proteins ---------------------------------------------------------------------------------------------


def random_pair(random: np.random.Generator, chains: list[int], kind: str) -> np.ndarray:
    """Pair feature in token space, one residue unresolved, correlations symmetric and some of them 0."""
    n = sum(chains)
    correlation = random.uniform(-1, 1, (n, n, 3)).round(2)
    correlation = (correlation + correlation.swapaxes(0, 1)).astype(np.float32) / 2
    resolved = np.delete(np.arange(n), random.integers(n))
    inside = np.ix_(resolved, resolved)
    if kind == "nma":
        return nma_entry(np.ones((3, n - 1)), np.moveaxis(correlation[inside], -1, 0), chains, resolved)[1]
    lines = random.integers(0, 40, (n, n, 9)) * (random.random((n, n, 9)) < 0.08)
    frequency = np.cbrt(lines / 1000)  # sums below, at (as float32 slightly less) and above 0.01
    pair = np.concatenate([frequency, correlation[..., :1]], axis=-1)[inside]
    return to_token_space(np.ones((n - 1, 47)), pair, chains, resolved)[1]


@pytest.mark.parametrize("form", ["notebook", "paper"])
@pytest.mark.parametrize("kind", ["md", "nma"])
@pytest.mark.parametrize("chains", [[14], [7, 9], [4], [9]])
def test_metrics_equal_loops_over_pairs(form, kind, chains) -> None:
    random = np.random.default_rng(len(chains) + chains[0])
    pair = random_pair(random, chains, kind)
    maps = random.random((len(pair), len(pair), 5)).astype(np.float32)
    maps[..., 1] = maps[..., 1].round(1)  # many ties, those at the edge of the top-L included
    maps[..., 2] = 0.25
    maps[..., 3] = maps[..., 3] > 0.98
    maps[..., 4] = maps[..., 4].astype(np.float16)
    table = attention_metrics(maps, pair, form)
    assert (table.index.name, *table.columns) == ("map", *METRICS[form, pair.shape[-1]])
    for channel in range(maps.shape[-1]):
        expected = plain_metrics(maps[..., channel], pair, form)
        assert set(expected) == set(table.columns)
        for metric, value in expected.items():
            np.testing.assert_allclose(table.loc[channel, metric], value, rtol=1e-9, atol=1e-12, err_msg=metric)
    if sum(chains) > 12:
        assert table.loc[0].notna().all()


def test_golden() -> None:
    golden = np.load(DATA / "attention_analysis.npz")
    table = attention_metrics(golden["attention"], golden["pair_feature"])
    assert {f"metric.{name}" for name in table.columns} == {name for name in golden.files if name.startswith("metric")}
    for name in table.columns:
        np.testing.assert_allclose(table[name], golden[f"metric.{name}"], rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.filterwarnings("error")
def test_metrics_that_do_not_exist() -> None:
    maps = np.random.default_rng(5).random((9, 9, 2)).astype(np.float32)
    nothing, still = np.full((9, 9, 10), -1, np.float32), np.zeros((9, 9, 10), np.float32)
    for pair, form in ((nothing, "notebook"), (nothing, "paper"), (still, "notebook")):
        for size in (1, 9):
            assert attention_metrics(maps[:size, :size], pair[:size, :size], form).isna().all(axis=None)


@pytest.mark.parametrize(
    ("maps", "pair", "form", "named"),
    [
        ((5, 5, 2), (6, 6, 10), "notebook", "(6, 6, 10)"),
        ((5, 4, 2), (5, 5, 10), "notebook", "(5, 4, 2)"),
        ((5, 5, 2), (5, 5, 13), "notebook", "13 pair channels"),
        ((5, 5, 2), (5, 5, 10), "poster", "poster"),
    ],
)
def test_invalid_arrays(maps, pair, form, named) -> None:
    refused(lambda: attention_metrics(np.ones(maps), np.ones(pair), form), named)
    broken = np.ones((9, 9, 2), np.float32)
    broken[8, 0, 1] = np.nan
    refused(lambda: attention_metrics(broken, np.ones((9, 9, 10))), "map 1", "weights")


@pytest.mark.parametrize("form", ["notebook", "paper"])
@pytest.mark.parametrize(("missing", "undefined"), [([0], "inter"), ([1, 2, 3], "inter"), ([9], "co_move")])
def test_properties_that_the_protein_lacks(form, missing, undefined):
    """Metrics that need them are NaN, the others unchanged."""
    rng = np.random.default_rng(2)
    pair = np.full((22, 22, 10), -1.0)
    pair[1:-1, 1:-1, :9] = rng.random((20, 20, 9)) * (rng.random((20, 20, 9)) < 0.1)
    pair[1:-1, 1:-1, 9] = np.corrcoef(rng.normal(size=(20, 6)))
    maps = rng.random((22, 22, 2))
    complete = attention_metrics(maps, pair, form)
    assert complete.notna().all(axis=None)
    lacking = pair.copy()
    lacking[1:-1, 1:-1, missing] = np.nan
    found = attention_metrics(maps, lacking, form)
    for name in complete:
        if name.startswith(undefined):
            assert found[name].isna().all()
        else:
            np.testing.assert_array_equal(found[name], complete[name])
