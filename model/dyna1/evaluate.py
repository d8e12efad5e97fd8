"""Scores of a classifier of Dyna-1 and of naive baselines; metrics per protein, averaged over proteins, and pooled."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from data_prepare.errors import require, some_of
from data_prepare.files import whole_file, write_text
from data_prepare.nmr.assignments import read_assignments
from data_prepare.nmr.choices import FILE_SETS
from data_prepare.nmr.relaxdb import has_columns, read_relaxdb, read_split_list, select_entries
from model.dyna1.baselines import (
    Dssp,
    ExchangeRates,
    fit_baselines,
    read_baselines,
    read_dssp,
    read_properties,
    sampled,
)
from model.dyna1.classifier import Classifier, p_exchange
from model.dyna1.data import AnnotatedProtein, ReadEmbedding, read_proteins, whole_batches
from model.dyna1.predict import load_with_embedder
from model.evaluation.metrics import auroc, average_precision, best_threshold, bootstrap_means, chance_average_precision
from model.network.device import autocast

LOGGER: Final = logging.getLogger("seqdance")
CLASSIFIER: Final = "Dyna-1"  # name of the classifier among the predictors
TIE: Final = 1e-5  # logits of a protein closer than this are equal except for rounding
MIN_POSITIVES: Final = 2  # proteins with fewer have no areas
AREAS: Final = ("auroc", "auprc", "normalised_auprc")  # averaged over proteins

Targets = Mapping[str, NDArray[np.int8]]  # entry -> (L,): 1 exchange, 0 none, -1 not evaluated
Scores = Mapping[str, NDArray[np.floating]]  # entry -> (L,), higher = exchange more likely


def read_evaluated(data: str, path: Path, split: Path | None) -> tuple[pd.DataFrame, list[str]]:
    """Table of the entries to evaluate, and the names on the split list that `path` lacks; `data`: see `FILE_SETS`."""
    names = read_split_list(split) if split else None
    published = data in FILE_SETS and path.suffix != ".csv"
    table = read_relaxdb(path, data, names) if published else read_assignments(path)  # type: ignore[arg-type]
    if names is None:
        return table, []
    table, absent = select_entries(table, names)
    if absent:
        LOGGER.warning("warning: %s lacks %d entries of %s: %s", path, len(absent), split, some_of(absent))
    require(len(table), f"{split}: {path} has none of its entries")
    return table, absent


def scores_of(
    proteins: Sequence[AnnotatedProtein],
    path: Path,
    weights: str | None,
    embedder: str | None,
    device: str,
    batch_size: int,
    train: Path | None,
    baselines: Path | None,
    dssp_file: Path | None = None,
    sample_seed: int | None = None,
    published_padding: bool = False,
) -> dict[str, Scores]:
    """Predictor -> entry -> scores (L,): of the classifier, if there are weights, and of the baselines.

    The naive baselines are fitted on the table `train` or read from the folder `baselines`; their DSSP classes are
    from `dssp_file`, or from `path`, the file of the proteins. With a seed they are also sampled (`baselines.sampled`).
    Properties of residues in `path` are baselines too.
    """
    scores: dict[str, Scores] = {}
    if weights is not None:
        model, source = load_with_embedder(weights, embedder, device, published_padding)
        logits = logits_of(model, proteins, source.read, batch_size)
        for name, row in logits.items():
            require(np.isfinite(row).all(), f"{name}: logits are not finite; check --weights and the embeddings")
        # float64: different logits never have the same probability
        exact = {name: torch.from_numpy(without_rounding(row)) for name, row in logits.items()}
        scores[CLASSIFIER] = {name: p_exchange(row).numpy() for name, row in exact.items()}
    rates = read_baselines(baselines) if baselines else []
    if train:
        training = read_proteins(train)
        rates = fit_baselines(training, read_dssp(train, training))
    where = dssp_file or path
    dssp = read_dssp(where, proteins) if dssp_file or where.suffix == ".csv" or has_columns(where) else {}
    require(dssp or not dssp_file, f"{where}: has no DSSP of these entries; give a file with columns PDB and DSSP")
    naive = baseline_scores(rates, proteins, dssp, where)
    scores |= naive
    if sample_seed is not None:
        scores |= {f"{name}, sampled": sampled(values, sample_seed) for name, values in naive.items()}
    scores |= read_properties(path, proteins)
    remedy = "give --weights, --train or --baselines (those by DSSP require a column dssp, or --dssp)"
    require(scores, f"{path}: nothing to evaluate; {remedy}")
    return scores


def logits_of(
    model: Classifier, proteins: Sequence[AnnotatedProtein], read: ReadEmbedding, size: int, precision: str = "fp32"
) -> dict[str, NDArray[np.float32]]:
    """Logits (L,) of whole proteins by entry, in batches of `size`; leaves the model in evaluation mode."""
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


def without_rounding(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits (L,) of a protein with the ties restored that rounding errors have broken.

    Equal letters of one-hot embeddings have equal logits, but rounding in the forward pass depends on the batch and
    would order them differently each time. Logits closer than `TIE` become their mean, rounded. Rounding alone would
    still separate logits on both sides of a boundary.
    """
    values = logits.astype(np.float64)
    order = np.argsort(values)
    group = np.cumsum(np.diff(values[order], prepend=values[order[0]]) > TIE)
    means = np.bincount(group, values[order]) / np.bincount(group)
    result = np.empty_like(values)
    result[order] = means.round(5)[group]
    return result


def baseline_scores(
    baselines: Sequence[ExchangeRates], proteins: Sequence[AnnotatedProtein], dssp: Dssp, path: Path
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Baseline -> entry -> probabilities (L,). Warns of baselines left out since `path` lacks DSSP classes."""
    scores = {}
    missing = [protein.name for protein in proteins if protein.name not in dssp]
    for baseline in baselines:
        if "dssp" in baseline.columns and missing:
            which = f"{some_of(missing)} (entries: {len(missing)})"
            LOGGER.warning("warning: baseline %s left out: %s has no DSSP of %s", baseline.name, path, which)
        else:
            scores[baseline.name] = {protein.name: baseline.scores(protein, dssp) for protein in proteins}
    return scores


def metrics_per_protein(targets: Targets, scores: Scores) -> pd.DataFrame:
    """One row per protein, in the order of `targets`.

    Columns `entry_ID`, `evaluated` and `positives` (residues), `positive_rate`, `auroc`, `auprc` and
    `normalised_auprc` (AUPRC minus positive rate, slightly positive for random scores of short proteins). The last
    three are NaN for proteins with fewer than two positives; AUROC is also NaN if every residue is positive.
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
    return pd.DataFrame(rows, columns=["entry_ID", "evaluated", "positives", "positive_rate", *AREAS])


def chance_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Means of `AREAS` for random scores over the proteins of `metrics_per_protein` that have areas; NaN if none."""
    counted = table[table["positives"] >= MIN_POSITIVES]
    if counted.empty:
        return dict.fromkeys(AREAS, np.nan)
    areas = [chance_average_precision(*row) for row in zip(counted["evaluated"], counted["positives"], strict=True)]
    area = float(np.mean(areas))
    return {"auroc": 0.5, "auprc": area, "normalised_auprc": area - float(counted["positive_rate"].mean())}


def dataset_metrics(targets: Targets, scores: Scores, seed: int = 0, samples: int = 10_000) -> dict[str, Any]:
    """Means over proteins with intervals of a bootstrap (`seed`, `samples`), and pooled metrics.

    Returns `proteins` (number with areas), `left_out` (names of those with fewer than two positives), `evaluated` and
    `positives` (residues of all proteins), for each of `AREAS` {`mean`, `low`, `high`} with the 95 % interval, and
    `pooled`: `auroc` and `auprc` over all residues, `threshold` of the largest `f1` with its `precision` and `recall`.
    """
    table = metrics_per_protein(targets, scores)
    counted = table["positives"] >= MIN_POSITIVES
    means = bootstrap_means(table.loc[counted, list(AREAS)].to_numpy(), seed, samples).tolist()
    target, score = pooled(targets, scores)
    areas = {"auroc": auroc(target, score), "auprc": average_precision(target, score)}
    return {
        "proteins": int(counted.sum()),
        "left_out": table.loc[~counted, "entry_ID"].tolist(),
        "evaluated": len(target),
        "positives": int(target.sum()),
        **{area: dict(zip(("mean", "low", "high"), row, strict=True)) for area, row in zip(AREAS, means, strict=True)},
        "pooled": areas | best_threshold(target, score),
    }


def pooled(targets: Targets, scores: Scores) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Targets and scores (n,) of the evaluated residues of all proteins."""
    pairs = [_evaluated(name, target, scores) for name, target in targets.items()]
    target, score = zip(*pairs, strict=True) if pairs else ((np.zeros(0, np.int8),), (np.zeros(0),))
    return np.concatenate(target), np.concatenate(score).astype(np.float64)


def _evaluated(name: str, target: NDArray[np.int8], scores: Scores) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Targets and scores of the evaluated residues of a protein."""
    score = scores.get(name, np.zeros(0))
    require(len(score) == len(target), f"entry {name}: {len(score)} scores for {len(target)} residues")
    target, score = target[target >= 0], score[target >= 0]
    require(np.isfinite(score).all(), f"entry {name}: a score is not finite; check its embedding and the weights")
    return target, score


def evaluate(
    proteins: Sequence[AnnotatedProtein], scores: Mapping[str, Scores], seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Metrics of predictors from their scores: predictor -> entry -> (L,).

    Returns {`chance`: `chance_metrics`, `predictors`: predictor -> `dataset_metrics` with this bootstrap seed} and
    `metrics_per_protein` of all predictors, with a column `predictor`.
    """
    targets = {protein.name: protein.target for protein in proteins}
    tables = [metrics_per_protein(targets, values).assign(predictor=name) for name, values in scores.items()]
    predictors = {name: dataset_metrics(targets, values, seed) for name, values in scores.items()}
    return {"chance": chance_metrics(tables[0]), "predictors": predictors}, pd.concat(tables, ignore_index=True)


def residue_table(proteins: Sequence[AnnotatedProtein], scores: Mapping[str, Scores]) -> pd.DataFrame:
    """entry_ID, position (from 1), residue, target, and the probability of each predictor."""
    parts = []
    for protein in proteins:
        columns: dict[str, Any] = {"entry_ID": protein.name, "position": np.arange(1, len(protein.sequence) + 1)}
        columns |= {"residue": list(protein.sequence), "target": protein.target}
        parts.append(pd.DataFrame(columns | {name: values[protein.name] for name, values in scores.items()}))
    return pd.concat(parts, ignore_index=True)


def write_evaluation(
    output: Path,
    proteins: Sequence[AnnotatedProtein],
    scores: Mapping[str, Scores],
    metrics: Mapping[str, Any],
    per_protein: pd.DataFrame,
    title: str,
) -> str:
    """Write per_protein.csv, residues.csv, metrics.json and summary.txt; returns the text of the last."""
    for name, content in (("per_protein.csv", per_protein), ("residues.csv", residue_table(proteins, scores))):
        with whole_file(output / name) as temporary:
            content.to_csv(temporary, index=False)
    text, numbers = summary_text(metrics, title), _without_nan(metrics)
    write_text(output / "metrics.json", json.dumps(numbers, indent=2, allow_nan=False, default=str) + "\n")
    write_text(output / "summary.txt", text)
    return text


def _without_nan(value: Any) -> Any:
    """The same with null for NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    return None if value != value else value


def summary_text(metrics: Mapping[str, Any], title: str) -> str:
    """Content of metrics.json as readable text under a title."""
    predictors, chance = metrics["predictors"], metrics["chance"]
    first = next(iter(predictors.values()))
    lines = [
        f"{title}: {first['proteins']} proteins counted, {first['evaluated']:,} residues evaluated, "
        f"{first['positives']:,} positive ({100 * first['positives'] / max(first['evaluated'], 1):.1f} %)"
    ]
    if first["left_out"]:
        lines.append(f"fewer than {MIN_POSITIVES} positives: {', '.join(first['left_out'])}")
    if metrics["absent"]:
        lines.append(f"on the split list, not in the data: {', '.join(metrics['absent'])}")
    rows = {}
    for name, values in predictors.items():
        intervals = ["{mean:.3f} ({low:.3f} to {high:.3f})".format(**values[key]) for key in AREAS[::2]]
        best = (f"{values['pooled'][key]:.3f}" for key in ("f1", "precision", "recall", "threshold"))
        rows[name] = (*intervals, f"{values['auprc']['mean']:.3f}", *best)
    columns = ["AUROC (95 %)", "AUPRC - rate (95 %)", "AUPRC", "best F1", "precision", "recall", "at p >="]
    lines += [
        f"\n{pd.DataFrame.from_dict(rows, orient='index', columns=columns).to_string()}\n",
        f"By chance: AUROC {chance['auroc']:.3f}, AUPRC - rate {chance['normalised_auprc']:.3f}.",
        "Areas are means over proteins; F1, precision and recall are of all residues together.\n",
    ]
    return "\n".join(lines)
