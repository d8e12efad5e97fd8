"""Figures of mutations: heat map of a protein, correlations of a benchmark."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from data_prepare.errors import require
from model.figures.save import save_figure
from model.mutations.score import PUBLISHED_SCORE
from model.mutations.substitution import WildType
from model.network.tokenizer import AMINO_ACIDS

RESIDUES_PER_PANEL: Final = 80


def plot_mutation_map(
    table: pd.DataFrame,
    wild_type: str | WildType,
    path: str | os.PathLike[str],
    score: str = PUBLISHED_SCORE,
    offset: int = 0,
    note: str = "",
) -> None:
    """Write a heat map of single substitutions as PNG: wild type along x, amino acids along y, colour = score.

    `table` is that of `score_mutations`; rows with several substitutions are ignored. Residue numbers are positions +
    `offset`, or those of a `WildType`. `note` is small text for the network. Wild-type cells carry a dot, cells without
    a value are grey. Long proteins continue in further panels.
    InputError if the table has no column `score`, or mutations of another wild type.
    """
    protein = wild_type if isinstance(wild_type, WildType) else WildType(wild_type, offset)
    grid, letters = mutation_grid(table, protein, score)
    residue_names = list(protein.names.values())
    values = grid[np.isfinite(grid)]
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    starts = range(0, len(letters), RESIDUES_PER_PANEL)
    columns = min(len(letters), RESIDUES_PER_PANEL)

    # fixed layout in inches: an automatic layout of so many labels takes half a minute
    cell, left, right, bottom, gap = 0.19, 0.6, 1.2, 0.4, 0.55
    panel_height = cell * len(AMINO_ACIDS)
    width = max(left + cell * columns + right, 5.0)
    height = bottom + len(starts) * (panel_height + gap)
    figure = Figure(figsize=(width, height))
    image: Any = None
    for number, start in enumerate(starts):
        part = letters[start : start + RESIDUES_PER_PANEL]
        floor = height - (number + 1) * (panel_height + gap) + gap / 2
        area = (left / width, floor / height, cell * len(part) / width, panel_height / height)
        panel = figure.add_axes(area, facecolor="lightgrey")
        shown = np.ma.masked_invalid(grid[:, start : start + len(part)])
        image = panel.imshow(shown, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        wild = [(x, AMINO_ACIDS.index(letter)) for x, letter in enumerate(part) if letter in AMINO_ACIDS]
        panel.scatter([x for x, _ in wild], [y for _, y in wild], s=12, color="black")
        panel.set_yticks(range(len(AMINO_ACIDS)), list(AMINO_ACIDS), fontsize=8)
        numbers = residue_names[start : start + len(part)]
        names = [
            f"{x}\n{name}" if name.endswith("0") or start + k == 0 else x
            for k, (x, name) in enumerate(zip(part, numbers, strict=True))
        ]
        panel.set_xticks(range(len(part)), names, fontsize=8)
        panel.tick_params(length=0)
        panel.set_ylabel("mutant residue")
    figure.text(left / width, 0.15 / height, "wild-type residue and its number (dot: wild type, grey: no value)")
    floor = height - panel_height - gap / 2
    area = ((width - right + 0.2) / width, floor / height, 0.18 / width, panel_height / height)
    figure.colorbar(image, cax=figure.add_axes(area), label=score)
    save_figure(figure, path, dpi=150, note=note)


def mutation_grid(
    table: pd.DataFrame, wild_type: str | WildType, score: str = PUBLISHED_SCORE, offset: int = 0
) -> tuple[NDArray[np.float64], list[str]]:
    """Scores of single substitutions (20, residues), rows as `AMINO_ACIDS`, NaN without a value; and the residues."""
    require(score in table, f"no column {score!r} in the table; it has {', '.join(map(str, table.columns))}")
    protein = wild_type if isinstance(wild_type, WildType) else WildType(wild_type, offset)
    letters = [token if len(token := protein.tokens[index]) == 1 else "?" for index in protein.residues]
    grid = np.full((len(AMINO_ACIDS), len(letters)), np.nan)
    columns = {index: column for column, index in enumerate(protein.residues)}
    for label, value in zip(table["mutant"], table[score], strict=True):
        changes = protein.read(str(label))
        for index, new in changes.items() if len(changes) == 1 else ():
            if new in AMINO_ACIDS:
                grid[AMINO_ACIDS.index(new), columns[index]] = value
    return grid, letters


def draw_benchmark(per_protein: pd.DataFrame, summary: Mapping[str, Any], baselines: Collection[str] = ()) -> Figure:
    """Correlations of each score: a dot for each protein, a box of the quartiles, the median; `baselines` in grey.

    `per_protein` and `summary` come from `benchmark.protein_table` and `benchmark.correlation_summary`.
    """
    names = list(summary["scores"])
    enough = per_protein[per_protein["mutants"] >= summary["min_mutants"]]
    figure = Figure(figsize=(8, 1.2 + 0.55 * len(names)), layout="constrained")
    axes = figure.subplots()
    random = np.random.default_rng(0)
    for row, name in enumerate(names):
        values = enough[name].dropna().to_numpy()
        colour = "#777777" if name in baselines else "#0072B2"
        opacity = max(0.15, min(0.7, 40 / max(len(values), 1)))
        heights = row + random.uniform(-0.2, 0.2, len(values))
        axes.scatter(values, heights, s=9, color=colour, alpha=opacity, linewidths=0)
        if len(values):
            low, middle, high = np.percentile(values, (25, 50, 75))
            axes.add_patch(Rectangle((low, row - 0.3), high - low, 0.6, fill=False, edgecolor=colour, linewidth=1.2))
            axes.plot([middle, middle], [row - 0.3, row + 0.3], color="#D55E00", linewidth=2.5)
        median = summary["scores"][name]["median"]["value"]
        label = "-" if median is None else f"{median:.2f}"
        axes.text(1.02, row, label, transform=axes.get_yaxis_transform(), va="center", color="#D55E00")
    axes.text(1.02, 1.0, "median", transform=axes.transAxes, va="center", color="#D55E00")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-1.02, 1.02)
    axes.axvline(0, color="#AAAAAA", linewidth=1, zorder=0)
    axes.set_xlabel(f"Spearman's correlation with the measured loss\ndots: {len(enough)} proteins, boxes: quartiles")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
