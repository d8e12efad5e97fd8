"""Figures of Dyna-1: training curves, metrics of each protein, exchange along a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

TITLES: Final = {"auroc": "AUROC", "normalised_auprc": "AUPRC - positive rate"}
CLASSIFIER_COLOUR: Final = "#D55E00"
BASELINE_COLOUR: Final = "#0072B2"
RESIDUES_PER_ROW: Final = 100
FEWEST_COLUMNS: Final = 60  # minimal width, for the title


def draw_metrics(table: pd.DataFrame, metrics: Mapping[str, Any], classifier: str) -> Figure:
    """Draw AUROC and normalised AUPRC of each protein, a column for each predictor; `classifier` is highlighted.

    `table` has one row per predictor and protein: `predictor`, `auroc` and `normalised_auprc`. `metrics` is the content
    of metrics.json: `predictors` with means and intervals, and `chance`.
    """
    predictors = metrics["predictors"]
    figure = Figure(figsize=(2.6 + 1.7 * len(predictors) * len(TITLES), 4.2), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, len(TITLES)), TITLES.items(), strict=True):
        axes.axhline(metrics["chance"][metric], color="#999999", linewidth=1, linestyle="--", zorder=0)
        for column, (name, numbers) in enumerate(predictors.items()):
            values = table.loc[table["predictor"] == name, metric].dropna()
            colour = CLASSIFIER_COLOUR if name == classifier else BASELINE_COLOUR
            if len(values):
                _draw_proteins(axes, column, values, numbers[metric], colour)
        axes.set_xticks(range(len(predictors)), [name.replace(" + ", "\n+ ") for name in predictors])
        axes.set_xlim(-0.6, len(predictors) - 0.4)
        axes.set_ylabel(f"{title}, per protein")
        axes.spines[["top", "right"]].set_visible(False)
    proteins = next(iter(predictors.values()))["proteins"]
    figure.suptitle(f"{proteins} proteins; mean with 95 % interval; dashed: by chance", fontsize=11)
    return figure


def _draw_proteins(axes: Axes, column: int, values: pd.Series, interval: Mapping[str, float], colour: str) -> None:
    """Draw a dot per protein, and the mean with its interval next to the dots."""
    spread = np.random.default_rng(0).uniform(-0.22, 0.08, len(values))
    axes.plot(column + spread, values, "o", color=colour, markersize=3.5, alpha=0.45, markeredgewidth=0)
    mean, low, high = (interval[key] for key in ("mean", "low", "high"))
    style: dict[str, Any] = {"fmt": "s", "color": "black", "markersize": 5, "capsize": 3, "linewidth": 1.5}
    axes.errorbar(column + 0.2, mean, [[mean - low], [high - mean]], **style)
    label = axes.annotate(f"{mean:.3f}", (column + 0.2, mean), xytext=(7, 0), textcoords="offset points")
    label.set(va="center", fontsize=9, bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "linewidth": 0})


def draw_training(log: pd.DataFrame) -> Figure:
    """Draw losses and validation AUROC of each epoch; columns as in log.jsonl, index n_epoch."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, areas = figure.subplots(1, 2)
    for name, label, colour in (("loss", "training", "#0072B2"), ("validation_loss", "validation", "#D55E00")):
        losses.plot(log.index, log[name].astype(float), ".-", color=colour, label=label)
    losses.set(xlabel="epoch", ylabel="cross-entropy per residue")
    losses.legend(frameon=False)
    auroc = log["validation_auroc"].astype(float)
    areas.plot(log.index, auroc, ".-", color="#D55E00")
    if auroc.notna().any():
        epoch, highest = auroc.idxmax(), auroc.max()
        areas.plot(epoch, highest, "o", color="black", markersize=5)
        areas.annotate(f"{highest:.3f}", (epoch, highest), xytext=(0, 6), textcoords="offset points", ha="center")
        areas.margins(y=0.15)
    areas.axhline(0.5, color="#999999", linewidth=1, linestyle="--", zorder=0)
    areas.text(0.99, 0.5, "by chance", transform=areas.get_yaxis_transform(), ha="right", va="bottom", color="#666666")
    areas.set(xlabel="epoch", ylabel="validation AUROC")
    for axes in (losses, areas):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_exchange(name: str, sequence: str, p: NDArray[np.float32], unresolved: NDArray[np.bool_]) -> Figure:
    """Draw the probability `p` (L,) of exchange along a sequence, 100 residues per row.

    Residues without coordinates, `unresolved` (L,), are shaded.
    """
    starts = range(0, len(p), RESIDUES_PER_ROW)
    position = np.arange(1, len(p) + 1)
    # fixed positions in inches: automatic layout of this many letters takes seconds
    columns = max(FEWEST_COLUMNS, min(RESIDUES_PER_ROW, len(p)))
    width, top, row, panel = 0.9 + 0.11 * columns, 0.5, 1.6, 1.1
    height = top + row * len(starts)
    figure = Figure(figsize=(width, height))
    for number, start in enumerate(starts):
        rows = slice(start, start + RESIDUES_PER_ROW)
        floor = height - top - number * row - panel
        axes = figure.add_axes((0.7 / width, floor / height, (width - 0.9) / width, panel / height))
        axes.bar(position[rows], p[rows], width=0.8, color=BASELINE_COLOUR)
        axes.bar(position[rows][unresolved[rows]], 1.0, width=1.0, color="#DDDDDD", zorder=0)
        for x, letter in zip(position[rows], sequence[rows], strict=True):
            axes.text(x, -0.04, letter, ha="center", va="top", fontsize=7, family="monospace")
        axes.set(xlim=(start + 0.2, start + columns + 0.8), ylim=(0, 1), yticks=(0, 0.5, 1))
        axes.set_ylabel("p_exchange", fontsize=9)
        axes.set_xticks([start + 1, *range(start + 10, min(start + RESIDUES_PER_ROW, len(p)) + 1, 10)])
        axes.tick_params(axis="x", pad=12, length=0)
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    shaded = "; shaded: no coordinates" if unresolved.any() else ""
    title = f"{name}: probability of µs-ms exchange of each residue{shaded}"
    figure.text(0.5, 1 - 0.25 / height, title, ha="center", va="center", fontsize=12)
    return figure
