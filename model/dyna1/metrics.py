"""How well scores of residues find those that exchange: per protein, pooled, and averaged over proteins.

All functions take positions in any order and treat equal scores as one step, as scikit-learn does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.errors import InputError

FEWEST_POSITIVES: Final = 2  # of a protein that counts
MEANS: Final = ("auroc", "auprc", "normalised_auprc")  # averaged over proteins
COLUMNS: Final = ("entry_ID", "evaluated", "positives", "positive_rate", *MEANS)

Targets = Mapping[str, NDArray[np.int8]]  # entry -> (L,): 1 exchange, 0 none, -1 not evaluated
Scores = Mapping[str, NDArray[np.floating]]  # entry -> (L,), higher = exchange more likely


class Steps(NamedTuple):
    """What is above a falling threshold: one element for each different score, the highest first."""

    threshold: NDArray[np.float64]  # score of the step; positions with at least this score are called positive
    true: NDArray[np.int64]  # positives among them
    called: NDArray[np.int64]  # their number


def steps(target: NDArray[np.integer], score: NDArray[np.floating]) -> Steps:
    """Count positives and positions above each score.

    Parameters
    ----------
    target
        (n,) 1 or 0.
    score
        (n,) finite.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(score) else np.zeros(0, int)
    return Steps(ordered[last].astype(np.float64), np.cumsum(target[order], dtype=np.int64)[last], last + 1)


def auroc(target: NDArray[np.integer], score: NDArray[np.floating]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, a tie counting half.

    (n,) targets of 1 and 0, (n,) scores. NaN without a positive or without a negative.
    """
    _, true, called = steps(target, score)
    if not len(called) or true[-1] in (0, called[-1]):
        return float("nan")
    true, false = np.append(0, true), np.append(0, called - true)
    area = np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2)  # trapezoids
    return float(area / (true[-1] * false[-1]))


def average_precision(target: NDArray[np.integer], score: NDArray[np.floating]) -> float:
    """Area under the precision-recall curve as a sum of steps: sum of (R_k - R_(k-1)) P_k.

    (n,) targets of 1 and 0, (n,) scores. NaN without a positive.
    """
    _, true, called = steps(target, score)
    if not len(called) or not true[-1]:
        return float("nan")
    return float(np.sum(np.diff(true, prepend=0) * true / called) / true[-1])


def chance_average_precision(positions: int, positives: int) -> float:
    """Mean of `average_precision` over all orders: what random scores bring, more than the share of positives.

    At place i the chance of a positive is k / n, and of the i - 1 before it a share of (k - 1) / (n - 1) is positive
    then: 1/n * sum over i of (1 + (i - 1) (k - 1) / (n - 1)) / i. NaN without a positive.
    """
    if not positives:
        return float("nan")
    place = np.arange(1, positions + 1)
    return float(np.mean((1 + (place - 1) * (positives - 1) / max(positions - 1, 1)) / place))


def best_threshold(target: NDArray[np.integer], score: NDArray[np.floating]) -> dict[str, float]:
    """`threshold` that maximises F1 (the highest of equal ones), with `f1`, `precision` and `recall` there.

    (n,) targets of 1 and 0, (n,) scores; a position at the threshold is called positive. NaN without a positive.
    """
    threshold, true, called = steps(target, score)
    if not len(called) or not true[-1]:
        return dict.fromkeys(("threshold", "f1", "precision", "recall"), float("nan"))
    f1 = 2 * true / (called + true[-1])
    best = int(np.argmax(f1))
    precision, recall = true[best] / called[best], true[best] / true[-1]
    return {
        "threshold": float(threshold[best]),
        "f1": float(f1[best]),
        "precision": float(precision),
        "recall": float(recall),
    }


def per_protein(targets: Targets, scores: Scores) -> pd.DataFrame:
    """One row per protein in the order of `targets`.

    Returns
    -------
    Columns `entry_ID`, `evaluated` and `positives` (residues), `positive_rate`, `auroc`, `auprc` and
    `normalised_auprc` (AUPRC minus positive rate, which random scores exceed a little in short proteins). The last
    three are NaN for proteins with fewer than two positives, AUROC also where every residue is positive.

    Raises
    ------
    InputError
        A protein has no scores, a different number of them, or some that are not finite.
    """
    rows = []
    for name, target in targets.items():
        target, score = _evaluated(name, target, scores)
        positives = int(target.sum())
        rate = positives / len(target) if len(target) else float("nan")
        areas = [float("nan")] * 2
        if positives >= FEWEST_POSITIVES:
            areas = [auroc(target, score), average_precision(target, score)]
        rows.append((name, len(target), positives, rate, *areas, areas[1] - rate))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def by_chance(table: pd.DataFrame) -> dict[str, float]:
    """Each of `MEANS` as random scores bring it, over the proteins of `per_protein` that count; NaN if none does."""
    counted = table[table["positives"] >= FEWEST_POSITIVES]
    if counted.empty:
        return dict.fromkeys(MEANS, float("nan"))
    areas = [chance_average_precision(*row) for row in zip(counted["evaluated"], counted["positives"], strict=True)]
    area = float(np.mean(areas))
    return {"auroc": 0.5, "auprc": area, "normalised_auprc": area - float(counted["positive_rate"].mean())}


def summarise(targets: Targets, scores: Scores, seed: int = 0, samples: int = 10_000) -> dict[str, Any]:
    """Means over proteins with their intervals, and pooled numbers.

    Parameters
    ----------
    targets, scores
        As in `per_protein`.
    seed, samples
        Of the bootstrap over proteins.

    Returns
    -------
    dict
        `proteins` (that count), `left_out` (names of those with fewer than two positives), `evaluated` and `positives`
        (residues of all proteins), for each of `MEANS` {`mean`, `low`, `high`} with the 95 % interval, and `pooled`:
        `auroc` and `auprc` over all residues, `threshold`, `f1`, `precision`, `recall` where F1 is largest.
    """
    table = per_protein(targets, scores)
    counted = table["positives"] >= FEWEST_POSITIVES
    values = table.loc[counted, list(MEANS)].to_numpy()  # (proteins, 3)
    intervals = bootstrap_interval(values, seed, samples)
    target, score = pooled(targets, scores)
    return {
        "proteins": int(counted.sum()),
        "left_out": table.loc[~counted, "entry_ID"].tolist(),
        "evaluated": int(table["evaluated"].sum()),
        "positives": int(table["positives"].sum()),
        **{
            name: dict(zip(("mean", "low", "high"), map(float, interval), strict=True))
            for name, interval in zip(MEANS, intervals, strict=True)
        },
        "pooled": {
            "auroc": auroc(target, score),
            "auprc": average_precision(target, score),
            **best_threshold(target, score),
        },
    }


def pooled(targets: Targets, scores: Scores) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Targets and scores (n,) of the evaluated residues of all proteins."""
    pairs = [_evaluated(name, target, scores) for name, target in targets.items()]
    if not pairs:
        return np.zeros(0, np.int8), np.zeros(0)
    target, score = zip(*pairs, strict=True)
    return np.concatenate(target), np.concatenate(score).astype(np.float64)


def bootstrap_interval(
    values: NDArray[np.float64], seed: int = 0, samples: int = 10_000, level: float = 0.95
) -> NDArray[np.float64]:
    """Mean over proteins and its percentile interval from drawing proteins with replacement.

    Parameters
    ----------
    values
        (n, k): k numbers of n proteins, drawn together. NaN is left out of the mean of its column.
    seed, samples
        Of the draws.
    level
        Share of the draws inside the interval.

    Returns
    -------
    (k, 3) mean, lower and upper end; NaN without proteins.
    """
    n, k = values.shape
    if not n:
        return np.full((k, 3), np.nan)
    held = np.isfinite(values)
    filled = np.where(held, values, 0.0)
    # how often each protein is drawn: all means come from two products of matrices
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=samples).astype(np.float64)
    number = drawn @ held  # (samples, k)
    means = np.divide(drawn @ filled, number, out=np.full(number.shape, np.nan), where=number > 0)
    result = np.full((k, 3), np.nan)
    for column in np.flatnonzero(held.any(axis=0)):
        ends = np.nanpercentile(means[:, column], [50 * (1 - level), 50 * (1 + level)])
        result[column] = filled[:, column].sum() / held[:, column].sum(), *ends
    return result


def _evaluated(name: str, target: NDArray[np.int8], scores: Scores) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Targets and scores of the residues that count."""
    if name not in scores:
        raise InputError(f"entry {name}: no scores")
    score = scores[name]
    if len(score) != len(target):
        raise InputError(f"entry {name}: {len(score)} scores for {len(target)} residues")
    held = target >= 0
    if not np.isfinite(score[held]).all():
        raise InputError(f"entry {name}: a score is not finite; look at its embedding and at the weights")
    return target[held], score[held]
