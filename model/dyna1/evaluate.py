"""Scores of a classifier of Dyna-1 and of naive baselines, and their metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from data_prepare.errors import require
from model.dyna1.baselines import Dssp, ExchangeRates
from model.dyna1.classifier import Classifier, p_exchange
from model.dyna1.data import AnnotatedProtein, ReadEmbedding, first_names, whole_batches
from model.dyna1.metrics import AREAS, MIN_POSITIVES, Scores, chance_metrics, dataset_metrics, metrics_per_protein
from model.network.device import autocast

LOGGER: Final = logging.getLogger("seqdance")
CLASSIFIER: Final = "Dyna-1"  # name of the classifier among the predictors
TIE: Final = 1e-5  # logits of a protein closer than this are equal except for rounding
DECIMALS: Final = 5  # of logits


def logits_of(
    model: Classifier, proteins: Sequence[AnnotatedProtein], read: ReadEmbedding, size: int, precision: str = "fp32"
) -> dict[str, NDArray[np.float32]]:
    """Logits (L,) of whole proteins by entry, `size` proteins at a time; the model is put into evaluation mode.

    `read` gives their embeddings; `precision` of the forward pass is fp32 or bf16.
    """
    model.eval()
    device = next(model.parameters()).device
    logits: dict[str, NDArray[np.float32]] = {}
    with torch.inference_mode(), autocast(device, precision):
        for batch in whole_batches(proteins, read, size):
            batch = batch.to(device)
            rows = model(batch.embedding, batch.padding).float().cpu().numpy()  # (B, L)
            lengths = (~batch.padding).sum(dim=1).tolist()
            logits |= {name: row[:n] for name, row, n in zip(batch.names, rows, lengths, strict=True)}
    return logits


def classifier_scores(
    model: Classifier, proteins: Sequence[AnnotatedProtein], read: ReadEmbedding, size: int
) -> dict[str, NDArray[np.float64]]:
    """Probability of exchange (L,) of each residue, by entry; independent of the number of proteins at a time.

    Raises
    ------
    InputError
        A logit is not finite.
    """
    scores = {}
    for name, logits in logits_of(model, proteins, read, size).items():
        require(np.isfinite(logits).all(), f"{name}: logits are not finite; check --weights and the embeddings")
        # float64: different logits never have the same probability
        scores[name] = p_exchange(torch.from_numpy(without_rounding(logits))).numpy()
    return scores


def without_rounding(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits (L,) of a protein, with ties that rounding errors have broken restored.

    Equal letters of one-hot embeddings have equal logits, but rounding in the forward pass depends on the batch and
    would order them differently each time. Logits closer than `TIE` become their mean, rounded; rounding alone would
    still separate those on both sides of a boundary.
    """
    values = logits.astype(np.float64)
    order = np.argsort(values)
    group = np.cumsum(np.diff(values[order], prepend=values[order[0]]) > TIE)
    means = np.bincount(group, values[order]) / np.bincount(group)
    result = np.empty_like(values)
    result[order] = means.round(DECIMALS)[group]
    return result


def baseline_scores(
    baselines: Sequence[ExchangeRates], proteins: Sequence[AnnotatedProtein], dssp: Dssp, path: Path
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Baseline -> entry -> probabilities (L,); a warning names those that lack DSSP classes in the file `path`."""
    scores = {}
    for baseline in baselines:
        missing = [protein.name for protein in proteins if protein.name not in dssp]
        if "dssp" in baseline.columns and missing:
            LOGGER.warning(
                "warning: baseline %s left out: %s has no DSSP of %s", baseline.name, path, first_names(missing)
            )
        else:
            scores[baseline.name] = {protein.name: baseline.scores(protein, dssp) for protein in proteins}
    return scores


def evaluate(
    proteins: Sequence[AnnotatedProtein], scores: Mapping[str, Scores], seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Metrics of predictors from their scores: predictor -> entry -> (L,).

    Returns
    -------
    metrics
        `chance`, see `chance_metrics`, and `predictors`: predictor -> `dataset_metrics`, with this bootstrap seed.
    table
        `metrics_per_protein` of all predictors, with a column `predictor`.
    """
    targets = {protein.name: protein.target for protein in proteins}
    tables = [metrics_per_protein(targets, values).assign(predictor=name) for name, values in scores.items()]
    metrics = {
        "chance": chance_metrics(tables[0]),
        "predictors": {name: dataset_metrics(targets, values, seed) for name, values in scores.items()},
    }
    return metrics, pd.concat(tables, ignore_index=True)


def residue_table(proteins: Sequence[AnnotatedProtein], scores: Mapping[str, Scores]) -> pd.DataFrame:
    """entry_ID, position (from 1), residue, target, and the probability of each predictor."""
    parts = []
    for protein in proteins:
        columns: dict[str, Any] = {
            "entry_ID": protein.name,
            "position": np.arange(1, len(protein.sequence) + 1),
            "residue": list(protein.sequence),
            "target": protein.target,
        }
        parts.append(pd.DataFrame(columns | {name: values[protein.name] for name, values in scores.items()}))
    return pd.concat(parts, ignore_index=True)


def summary_text(metrics: Mapping[str, Any], title: str) -> str:
    """Content of metrics.json for reading, under a title."""
    predictors, chance = metrics["predictors"], metrics["chance"]
    first = next(iter(predictors.values()))
    lines = [
        f"{title}: {first['proteins']} proteins count, {first['evaluated']:,} residues evaluated, "
        f"{first['positives']:,} positive ({100 * first['positives'] / max(first['evaluated'], 1):.1f} %)"
    ]
    if first["left_out"]:
        lines.append(f"fewer than {MIN_POSITIVES} positives: {', '.join(first['left_out'])}")
    if metrics["absent"]:
        lines.append(f"on the split list, not in the data: {', '.join(metrics['absent'])}")
    rows = {}
    for name, numbers in predictors.items():
        intervals = ["{mean:.3f} ({low:.3f} to {high:.3f})".format(**numbers[key]) for key in AREAS[::2]]
        pooled = (f"{numbers['pooled'][key]:.3f}" for key in ("f1", "precision", "recall", "threshold"))
        rows[name] = (*intervals, f"{numbers['auprc']['mean']:.3f}", *pooled)
    columns = ["AUROC (95 %)", "AUPRC - rate (95 %)", "AUPRC", "best F1", "precision", "recall", "at p >="]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return "\n".join(
        [
            *lines,
            f"\n{table.to_string()}\n",
            f"By chance: AUROC {chance['auroc']:.3f}, AUPRC - rate {chance['normalised_auprc']:.3f}.",
            "Areas are means over proteins; F1, precision and recall are of all residues together.\n",
        ]
    )
