"""Figures of mutations: heat map of a protein, correlations of a benchmark."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from data_prepare.errors import require
from model.figures.save import place
from model.mutations.score import PUBLISHED_SCORE
from model.mutations.substitution import WildType
from model.network.tokenizer import AMINO_ACIDS

RESIDUES_PER_PANEL: Final = 80
COLOURS: Final = "RdBu_r"  # red: more damage than the median
RANGE: Final = (0.01, 0.99)  # quantiles of the scores at the strongest colours
NETWORK_COLOUR: Final = "#0072B2"
BASELINE_COLOUR: Final = "#777777"
SCATTER_COLUMNS: Final = 3


def draw_mutation_map(
    table: pd.DataFrame, wild_type: str | WildType, score: str = PUBLISHED_SCORE, note: str = "", name: str = ""
) -> Figure:
    """Heat map of single substitutions: wild type along x, amino acids along y, colour = score (more = more damage).

    `table` is that of `score_mutations`; rows with several substitutions are ignored. Residue numbers are positions, or
    those of a `WildType`. White is the median score. Bars above the map are the means of the positions, from the
    median. Wild-type cells carry a dot, cells without a value are grey. Long proteins continue in further panels.
    `name` is that of the protein, `note` that of the network. InputError if the table has no column `score`, or
    mutations of another wild type.
    """
    protein = wild_type if isinstance(wild_type, WildType) else WildType(wild_type)
    grid, letters = mutation_grid(table, protein, score)
    residue_names = list(protein.names.values())
    scale = _around_the_median(grid)
    valued = np.isfinite(grid)
    means = np.where(valued, grid, 0).sum(axis=0) / np.where(valued.any(axis=0), valued.sum(axis=0), np.nan)

    # fixed layout in inches: an automatic layout of so many labels takes half a minute
    cell, left, right, top, bars, gap = 0.19, 0.75, 1.5, 0.9, 0.5, 0.75
    starts = range(0, len(letters), RESIDUES_PER_PANEL)
    panel_height = cell * len(AMINO_ACIDS)
    width = max(left + cell * min(len(letters), RESIDUES_PER_PANEL) + right, 7.5)
    height = top + len(starts) * (bars + 0.05 + panel_height + gap) - 0.15
    figure = Figure(figsize=(width, height))
    title = f"{name + ': ' if name else ''}predicted damage of each mutation"
    legend = f"colour: {score}; dot: wild type; grey: no value; bars: mean of the position"
    lines = [(title, 13), *([(f"by {note}", 10)] if note else []), (legend, 9)]
    for down, (text, size) in zip((0.22, 0.46, 0.68), lines, strict=False):
        figure.text(left / width, 1 - down / height, text, fontsize=size, va="center")
    image: Any = None
    for number, start in enumerate(starts):
        part = slice(start, start + RESIDUES_PER_PANEL)
        floor = top + number * (bars + 0.05 + panel_height + gap)
        columns = cell * len(letters[part])
        _draw_means(place(figure, left, floor, columns, bars), means[part], scale, means)
        panel = place(figure, left, floor + bars + 0.05, columns, panel_height, facecolor="#CFCFCF")
        image = panel.imshow(np.ma.masked_invalid(grid[:, part]), cmap=COLOURS, norm=scale, aspect="auto")
        wild = [(x, AMINO_ACIDS.index(letter)) for x, letter in enumerate(letters[part]) if letter in AMINO_ACIDS]
        panel.scatter([x for x, _ in wild], [y for _, y in wild], s=12, color="black")
        panel.set_yticks(range(len(AMINO_ACIDS)), list(AMINO_ACIDS), fontsize=8)
        numbers = residue_names[part]
        named = enumerate(zip(letters[part], numbers, strict=True))
        names = [f"{x}\n{number}" if number.endswith("0") or start + k == 0 else x for k, (x, number) in named]
        panel.set_xticks(range(len(names)), names, fontsize=8)
        panel.tick_params(length=0)
        panel.set_ylabel("mutant residue")
    bar_left = left + cell * min(len(letters), RESIDUES_PER_PANEL) + 0.25
    bar = place(figure, bar_left, top + bars + 0.35, 0.18, panel_height - 0.6)
    figure.colorbar(image, cax=bar, extend="both")
    bar.set_yticks([scale.vmin, scale.vcenter, scale.vmax])  # type: ignore[arg-type]
    bar.set_yticklabels([f"{scale.vmin:.2g}", f"median\n{scale.vcenter:.2g}", f"{scale.vmax:.2g}"], fontsize=8)
    words: dict[str, Any] = {"fontsize": 9, "ha": "left", "transform": bar.transAxes}
    bar.text(0, 1.08, "more damage", va="bottom", **words)
    bar.text(0, -0.08, "less damage", va="top", **words)
    return figure


def _around_the_median(grid: NDArray[np.float64]) -> TwoSlopeNorm:
    """Colours of scores: white at the median, the strongest at the ends of `RANGE`."""
    values = grid[np.isfinite(grid)]
    low, middle, high = np.quantile(values, (RANGE[0], 0.5, RANGE[1])) if values.size else (0.0, 0.5, 1.0)
    least = max(1e-9, 1e-6 * abs(middle))  # all scores may be the same
    return TwoSlopeNorm(middle, min(low, middle - least), max(high, middle + least))


def _draw_means(axes: Axes, means: NDArray[np.float64], scale: TwoSlopeNorm, whole: NDArray[np.float64]) -> None:
    """Bars of the means of some positions, with the limits of those of the `whole` protein."""
    middle = scale.vcenter
    colours = mpl.colormaps[COLOURS](scale(np.nan_to_num(means, nan=middle)))
    axes.bar(np.arange(len(means)), means - middle, bottom=middle, width=0.85, color=colours, edgecolor="#555555")
    for patch in axes.patches:
        patch.set_linewidth(0.4)
    axes.axhline(middle, color="#555555", linewidth=0.6)
    found = np.append(whole[np.isfinite(whole)], middle)
    room = 0.08 * np.ptp(found) or 1e-9
    axes.set(xlim=(-0.5, len(means) - 0.5), ylim=(found.min() - room, found.max() + room), xticks=[], yticks=[])
    axes.set_ylabel("mean", rotation=0, ha="right", va="center", fontsize=9)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def mutation_grid(
    table: pd.DataFrame, wild_type: str | WildType, score: str = PUBLISHED_SCORE
) -> tuple[NDArray[np.float64], list[str]]:
    """Scores of single substitutions (20, residues), rows as `AMINO_ACIDS`, NaN without a value; and the residues."""
    require(score in table, f"no column {score!r} in the table; it has {', '.join(map(str, table.columns))}")
    protein = wild_type if isinstance(wild_type, WildType) else WildType(wild_type)
    letters = [token if len(token := protein.tokens[index]) == 1 else "?" for index in protein.residues]
    grid = np.full((len(AMINO_ACIDS), len(letters)), np.nan)
    columns = {index: column for column, index in enumerate(protein.residues)}
    for label, value in zip(table["mutant"], table[score], strict=True):
        changes = protein.read(str(label))
        for index, new in changes.items() if len(changes) == 1 else ():
            if new in AMINO_ACIDS:
                grid[AMINO_ACIDS.index(new), columns[index]] = value
    return grid, letters


def draw_benchmark(
    table: pd.DataFrame, per_protein: pd.DataFrame, summary: Mapping[str, Any], baselines: Collection[str] = ()
) -> Figure:
    """Scores against measured losses of one protein, or the correlations of several; `baselines` in grey.

    `table`, `per_protein` and `summary` come from `benchmark.mutation_table`, `protein_table` and
    `correlation_summary`.
    """
    names = list(summary["scores"])
    if len(per_protein) == 1:
        return _draw_scatter(table, per_protein.iloc[0], names, baselines)
    return _draw_correlations(per_protein, summary, names, baselines)


def _draw_scatter(table: pd.DataFrame, protein: pd.Series, names: list[str], baselines: Collection[str]) -> Figure:
    """A panel for each score: a dot for each mutant, measured loss along x."""
    columns = min(len(names), SCATTER_COLUMNS)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(3.4 * columns, 6.5), 3.3 * rows + 0.7), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    opacity = float(np.clip(300 / len(table), 0.15, 0.8))
    for axes, name in zip(panels, names, strict=False):
        colour = BASELINE_COLOUR if name in baselines else NETWORK_COLOUR
        axes.scatter(table["loss"], table[name], s=10, color=colour, alpha=opacity, linewidths=0, rasterized=True)
        rho = protein[name]
        words = f"Spearman's correlation {rho:.2f}" if np.isfinite(rho) else "no correlation: too few or equal values"
        axes.set_title(f"{name}\n{words}", fontsize=10)
        axes.set(xlabel="measured loss", ylabel="score")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.suptitle(
        f"{protein['protein']}: scores against measured loss of stability or fitness, {len(table)} mutants\n"
        "(correlation 1: the same order; 0: unrelated; grey: baselines)",
        fontsize=11,
    )
    return figure


def _draw_correlations(
    per_protein: pd.DataFrame, summary: Mapping[str, Any], names: list[str], baselines: Collection[str]
) -> Figure:
    """Correlations of each score: a dot for each protein, a box of the quartiles, the median."""
    enough = per_protein[per_protein["mutants"] >= summary["min_mutants"]]
    figure = Figure(figsize=(8, 1.2 + 0.55 * len(names)), layout="constrained")
    axes = figure.subplots()
    random = np.random.default_rng(0)
    for row, name in enumerate(names):
        values = enough[name].dropna().to_numpy()
        colour = BASELINE_COLOUR if name in baselines else NETWORK_COLOUR
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
