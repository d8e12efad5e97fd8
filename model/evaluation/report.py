"""Metrics of `model.evaluate` as tables of text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data_prepare.properties import properties_of_group
from model.evaluation.elastic_networks import NETWORKS, NUM_MODES
from model.evaluation.protein_scores import CORRELATED, KINDS, LEARNT, OF_NETWORKS
from model.training.checkpoint import PREFIX


def report(metrics: Mapping[str, Any]) -> str:
    """Losses, correlations, and correlations beside those of elastic networks; `metrics` of `Evaluation.metrics`."""
    losses, correlated, beside = [], [], []
    shown = ("model", "sequence")  # the other baseline is constant
    for group, values in metrics.items():
        for name in properties_of_group(group):
            losses.append([group, name, *(values[predictor]["properties"][name] for predictor in LEARNT)])
        losses.append([group, "weighted sum", *(values[predictor]["loss"] for predictor in LEARNT)])
        if "correlations" in values["model"]:
            found = {predictor: values[predictor]["correlations"] for predictor in shown}
            correlated += [[group, name, *_numbers(found, name)] for name in CORRELATED]
        if "structures" in values:
            found = {predictor: values["structures"]["correlations"][predictor] for predictor in (*shown, *NETWORKS)}
            beside += [[group, name, *_numbers(found, name)] for name in OF_NETWORKS]
    texts = [f"losses\n{_table(losses, LEARNT)}"]
    if correlated:
        texts.append(f"correlations, medians over proteins\n{_table(correlated, _headings(shown))}")
    if beside:
        title = f"the same for entries with a structure, beside the {NUM_MODES} slowest modes of elastic networks"
        texts.append(f"{title}\n{_table(beside, _headings((*shown, *NETWORKS)))}")
    return "\n\n".join(texts)


def _numbers(found: Mapping[str, Mapping[str, Any]], name: str) -> list[Any]:
    """Proteins of the first predictor, then Pearson's and Spearman's correlation of each."""
    proteins = next(iter(found.values()))[name]["proteins"]
    return [proteins, *(medians[name][kind] for kind in KINDS for medians in found.values())]


def _headings(predictors: Sequence[str]) -> list[str]:
    first, *others = predictors
    return ["proteins", *(name for kind in KINDS for name in (f"{kind}: {first}", *others))]


def _table(rows: Sequence[Sequence[Any]], headings: Sequence[str]) -> str:
    frame = pd.DataFrame([row[2:] for row in rows], columns=pd.Index(headings))
    frame.index = pd.MultiIndex.from_tuples([tuple(row[:2]) for row in rows])
    return frame.to_string(na_rep="-", float_format="{:.4f}".format)


def report_of_run(files: Sequence[Path]) -> str:
    """Weighted test losses of the checkpoints of a run, from the files of their metrics."""
    contents = [json.loads(path.read_text())["groups"] for path in files]
    rows = {
        path.stem.removeprefix(PREFIX): [values["model"]["loss"] for values in groups.values()]
        for path, groups in zip(files, contents, strict=True)
    }
    for baseline in LEARNT[1:]:
        rows[baseline] = [values[baseline]["loss"] for values in contents[-1].values()]
    frame = pd.DataFrame(list(rows.values()), index=list(rows), columns=list(contents[-1]))
    return f"weighted test loss by update\n{frame.to_string(float_format='{:.4f}'.format)}"
