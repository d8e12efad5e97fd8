"""How well scores of residues find those that exchange: per protein, averaged over proteins, and pooled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.errors import require
from model.evaluation.metrics import (
    auroc,
    average_precision,
    best_threshold,
    bootstrap_means,
    chance_average_precision,
)

MIN_POSITIVES: Final = 2  # of a protein with areas
AREAS: Final = ("auroc", "auprc", "normalised_auprc")  # averaged over proteins
COLUMNS: Final = ("entry_ID", "evaluated", "positives", "positive_rate", *AREAS)

Targets = Mapping[str, NDArray[np.int8]]  # entry -> (L,): 1 exchange, 0 none, -1 not evaluated
Scores = Mapping[str, NDArray[np.floating]]  # entry -> (L,), higher = exchange more likely


def metrics_per_protein(targets: Targets, scores: Scores) -> pd.DataFrame:
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
        rate = positives / len(target) if len(target) else np.nan
        areas = (np.nan, np.nan)
        if positives >= MIN_POSITIVES:
            areas = auroc(target, score), average_precision(target, score)
        rows.append((name, len(target), positives, rate, *areas, areas[1] - rate))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def chance_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Mean of each of `AREAS` for random scores, over the proteins of `metrics_per_protein` with areas; NaN if none."""
    counted = table[table["positives"] >= MIN_POSITIVES]
    if counted.empty:
        return dict.fromkeys(AREAS, np.nan)
    areas = [chance_average_precision(*row) for row in zip(counted["evaluated"], counted["positives"], strict=True)]
    area = float(np.mean(areas))
    return {"auroc": 0.5, "auprc": area, "normalised_auprc": area - float(counted["positive_rate"].mean())}


def dataset_metrics(targets: Targets, scores: Scores, seed: int = 0, samples: int = 10_000) -> dict[str, Any]:
    """Means over proteins with their intervals, and pooled numbers.

    Parameters
    ----------
    targets, scores
        As in `metrics_per_protein`.
    seed, samples
        Of the bootstrap over proteins.

    Returns
    -------
    dict
        `proteins` (those with areas), `left_out` (names of those with fewer than two positives), `evaluated` and
        `positives` (residues of all proteins), for each of `AREAS` {`mean`, `low`, `high`} with the 95 % interval, and
        `pooled`: `auroc` and `auprc` over all residues, `threshold`, `f1`, `precision`, `recall` where F1 is largest.
    """
    table = metrics_per_protein(targets, scores)
    counted = table["positives"] >= MIN_POSITIVES
    intervals = bootstrap_means(table.loc[counted, list(AREAS)].to_numpy(), seed, samples)
    target, score = pooled(targets, scores)
    return {
        "proteins": int(counted.sum()),
        "left_out": table.loc[~counted, "entry_ID"].tolist(),
        "evaluated": len(target),
        "positives": int(target.sum()),
        **{
            name: dict(zip(("mean", "low", "high"), interval, strict=True))
            for name, interval in zip(AREAS, intervals.tolist(), strict=True)
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
    target, score = zip(*pairs, strict=True) if pairs else ((np.zeros(0, np.int8),), (np.zeros(0),))
    return np.concatenate(target), np.concatenate(score).astype(np.float64)


def _evaluated(name: str, target: NDArray[np.int8], scores: Scores) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Targets and scores of the evaluated residues."""
    score = scores.get(name, np.zeros(0))
    require(len(score) == len(target), f"entry {name}: {len(score)} scores for {len(target)} residues")
    evaluated = target >= 0
    require(
        np.isfinite(score[evaluated]).all(), f"entry {name}: a score is not finite; check its embedding and the weights"
    )
    return target[evaluated], score[evaluated]
