"""Ranking and correlation metrics and their bootstrap intervals. Undefined metrics are NaN.

Values are arrays or tensors of shape (n,); tensors stay on their device. Equal values share their mean rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, rankdata
from torch import Tensor
from tqdm import tqdm

Values = NDArray[Any] | Tensor

MIN_VALUES: Final = 3  # of a correlation
ROUNDING: Final = 1e-12  # values with a standard deviation below this fraction of the largest are constant
PERCENTILES: Final = (2.5, 97.5)  # of the 95 % intervals
QUIET_SECONDS: Final = 2.0  # before a progress bar appears


def ranks(values: Values) -> Values:
    """Ranks of (n,) values from 1, float64."""
    if isinstance(values, np.ndarray):
        return rankdata(values)
    _, codes, counts = values.unique(return_inverse=True, return_counts=True)
    return mean_ranks(codes, counts.double())


def mean_ranks(codes: Any, counts: Any) -> Any:
    """Ranks (n,) from the index of each value among the distinct values, and the counts of these."""
    return (counts.cumsum(0) - (counts - 1) / 2)[codes]


def pearson(first: Values, second: Values, weights: NDArray[np.float64] | None = None) -> float:
    """Pearson's correlation; value i counts `weights[i]` times. NaN for fewer than 3 values or a constant side."""
    x, y = _float64(first), _float64(second)
    total = len(x) if weights is None else float(weights.sum())
    if total < MIN_VALUES:
        return math.nan
    largest = [max(float(side.max()), -float(side.min())) for side in (x, y)]
    if weights is None:
        x, y = x - x.mean(), y - y.mean()
        weighted_x, weighted_y = x, y
    else:
        x, y = x - weights @ x / total, y - weights @ y / total
        weighted_x, weighted_y = weights * x, weights * y
    variances = float(weighted_x @ x), float(weighted_y @ y)  # times the total
    if any(variance <= total * (ROUNDING * value) ** 2 for variance, value in zip(variances, largest, strict=True)):
        return math.nan
    return float(weighted_x @ y) / math.sqrt(variances[0] * variances[1])


def spearman(first: Values, second: Values) -> float:
    """Spearman's correlation. NaN for fewer than 3 values or a constant side."""
    return pearson(ranks(first), ranks(second))


def auroc(target: Values, score: Values) -> float:
    """Area under the ROC curve: how often a positive scores above a negative; a tie counts half.

    Targets are 1 or 0, or boolean. NaN if there is no positive or no negative.
    """
    return auroc_of_ranks(target, ranks(score))


def auroc_of_ranks(target: Values, rank: Values) -> float:
    """Area under the ROC curve from the `ranks` of the scores (Mann and Whitney's U)."""
    positive = target > 0
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return math.nan
    among_themselves = positives * (positives + 1) / 2
    return (float(rank[positive].sum()) - among_themselves) / (positives * negatives)


def average_precision(target: NDArray[Any], score: NDArray[Any]) -> float:
    """Area under the precision-recall curve as a sum of steps; targets are 1 or 0. NaN without a positive."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(target, score)) if np.any(target) else math.nan


def chance_average_precision(positions: int, positives: int) -> float:
    """Mean of `average_precision` over all orders: the value of random scores, above the fraction of positives.

    Rank i is positive with probability k / n, and then a fraction (k - 1) / (n - 1) of the i - 1 ranks before it:
    1/n * sum over i of (1 + (i - 1) (k - 1) / (n - 1)) / i. NaN without a positive.
    """
    if not positives:
        return math.nan
    rank = np.arange(1, positions + 1)
    return float(np.mean((1 + (rank - 1) * (positives - 1) / max(positions - 1, 1)) / rank))


def best_threshold(target: NDArray[Any], score: NDArray[Any]) -> dict[str, float]:
    """`threshold` of the largest F1 (the highest if several), with its `f1`, `precision` and `recall`.

    Scores of at least the threshold count as positive. Targets are 1 or 0; all NaN without a positive.
    """
    if not np.any(target):
        return dict.fromkeys(("threshold", "f1", "precision", "recall"), math.nan)
    negated, codes = np.unique(-np.asarray(score, np.float64), return_inverse=True)
    called, true = np.bincount(codes).cumsum(), np.bincount(codes, target).cumsum()  # at or above each score
    f1 = 2 * true / (called + true[-1])
    best = int(np.argmax(f1))
    found = {"threshold": -negated[best], "f1": f1[best]}
    found |= {"precision": true[best] / called[best], "recall": true[best] / true[-1]}
    return {name: float(value) for name, value in found.items()}


def bootstrap_interval(
    values: NDArray[np.float64], statistic: Callable[..., Any], samples: int, seed: int
) -> tuple[float, float]:
    """95 % percentile interval of a statistic, such as `numpy.median`, of (n,) values drawn with replacement.

    NaN for fewer than 2 values or no samples.
    """
    if len(values) < 2 or not samples:
        return math.nan, math.nan
    options: dict[str, Any] = {"n_resamples": samples, "method": "percentile", "rng": np.random.default_rng(seed)}
    low, high = bootstrap((values,), statistic, **options).confidence_interval
    return float(low), float(high)


def bootstrap_means(values: NDArray[np.float64], seed: int = 0, samples: int = 10_000) -> NDArray[np.float64]:
    """Means of (n, k) values of n proteins and their 95 % percentile intervals, drawing proteins with replacement.

    Returns (k, 3): mean, lower and upper end. NaN values are ignored; a column of NaN has NaN.
    """
    n, k = values.shape
    result = np.full((k, 3), np.nan)
    if not n:
        return result
    held = np.isfinite(values)
    filled = np.where(held, values, 0.0)
    # how often each protein is drawn; two matrix products then give all means
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=samples).astype(np.float64)
    number = drawn @ held  # (samples, k)
    means = np.divide(drawn @ filled, number, out=np.full(number.shape, np.nan), where=number > 0)
    for column in np.flatnonzero(held.any(axis=0)):
        ends = np.nanpercentile(means[:, column], PERCENTILES)
        result[column] = filled[:, column].sum() / held[:, column].sum(), *ends
    return result


def bootstrap_spearman(
    target: NDArray[Any], scores: NDArray[Any], protein: NDArray[np.integer], samples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spearman's correlation of (n, k) scores with the (n,) target, and its bootstrap over proteins.

    `protein` (n,) is the index of the protein of each value. Returns (k,) correlations and those of the draws,
    (samples, k), or (0, k) for a single protein. Draws need no sorting: values of a protein drawn twice count twice.
    """
    codes = [np.unique(side, return_inverse=True)[1] for side in (target, *scores.T)]
    proteins = int(protein.max()) + 1
    random = np.random.default_rng(seed)

    def correlations(weights: NDArray[np.float64]) -> list[float]:
        first, *others = (mean_ranks(code, np.bincount(code, weights)) for code in codes)
        return [pearson(first, other, weights) for other in others]

    value = np.array(correlations(np.ones(len(target))))
    draws = np.empty((samples if proteins > 1 else 0, scores.shape[1]))
    for draw in tqdm(draws, desc="bootstrap", unit="draw", delay=QUIET_SECONDS):
        times = np.bincount(random.integers(proteins, size=proteins), minlength=proteins)
        draw[:] = correlations(times[protein].astype(np.float64))
    return value, draws


def _float64(values: Values) -> Any:
    return values.double() if isinstance(values, Tensor) else np.asarray(values, np.float64)
