"""Figures of attention maps and of their analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

if TYPE_CHECKING:
    from model.evaluation.attention import Example

TITLES: Final = {  # metric -> title of its heat map
    "co_move_topL_ratio": "co-movement:\ntop-L over the rest",
    "co_move_posi_spearman": "positive co-movement:\nSpearman",
    "co_move_neg_spearman": "negative co-movement:\nSpearman",
    "inter_topL_ratio": "interactions:\ntop-L over the rest",
    "inter_auroc": "interactions:\nAUROC",
    "inter_spearman": "interactions:\nSpearman",
    **{
        f"nma_pair{k}_{sign}_spearman": f"normal modes {k}, {word}:\nSpearman"
        for k in (1, 2, 3)
        for sign, word in (("posi", "positive"), ("neg", "negative"))
    },
}
LAYER_COLUMNS: Final = 4
COLOUR_QUANTILES: Final = (0.005, 0.995)  # of a map, at its darkest and brightest colours
DARKEST: Final = 1e-3  # fraction of the brightest value that the darkest colour shows at least
LONG_RANGE: Final = 5  # attention with |i - j| above it is long-range


def draw_maps(name: str, maps: NDArray, chain: NDArray[np.int32], heads: int) -> Figure:
    """Draw the mean map, and of each layer the map with the largest fraction of long-range attention.

    `maps` (N, N, layers * heads) are those of the residues, `chain` (N,) is the chain of each residue.
    """
    residue = np.arange(len(maps))
    far = np.abs(residue[:, None] - residue) > LONG_RANGE
    fraction = np.array([values[far].sum() / values.sum() for values in np.moveaxis(maps, -1, 0).astype(float)])
    chosen = fraction.reshape(-1, heads).argmax(axis=1)  # (layers,)

    rows = -(-len(chosen) // LAYER_COLUMNS)
    figure = Figure(figsize=(5 + 2.3 * LAYER_COLUMNS, max(4.6, 2.5 * rows + 0.5)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[5, 2.3 * LAYER_COLUMNS], squeeze=False).flat
    axes = left.subplots()
    image = _show_attention(axes, maps.mean(-1, dtype=np.float32), chain, f"{name}: mean of {maps.shape[-1]} maps")
    axes.set(xlabel="key residue", ylabel="query residue")
    _add_bar(left, image, axes, location="bottom", shrink=0.8)
    panels = right.subplots(rows, LAYER_COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    for layer, (axes, head) in enumerate(zip(panels, chosen, strict=False)):
        channel = layer * heads + head
        _show_attention(axes, maps[..., channel], chain, f"layer {layer}, head {head}: {fraction[channel]:.0%}", 9)
    for axes in right.axes[len(chosen) :]:
        axes.set_axis_off()
    right.suptitle(f"map of each layer with the most attention beyond |i-j| = {LONG_RANGE}, its fraction", fontsize=11)
    return figure


def draw_analysis(means: pd.DataFrame, heads: int, example: Example | None) -> Figure:
    """Draw heat maps, layers x heads, of the `mean_metrics`, with an example below."""
    shown = [metric for metric in TITLES if metric in means]
    rows = [row for nma in (False, True) if (row := [m for m in shown if m.startswith("nma_") == nma])]
    columns = max(map(len, rows))
    heights = [2.9 * len(rows), *([4.6] if example else [])]
    figure = Figure(figsize=(2.9 * columns + 0.5, sum(heights) + 0.4), layout="constrained")
    top, *below = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat
    for panels, row in zip(top.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes, metric in zip(panels, row, strict=False):
            _show_metric(axes, means, metric, heads)
        for axes in panels[len(row) :]:
            axes.set_axis_off()
    top.suptitle("mean over proteins of each attention map (square: best map)", fontsize=13)
    if example:
        left, right = below[0].subplots(1, 2)
        image = _show_matrix(left, example.comovement, example.chain, "RdBu_r", Normalize(-1, 1))
        left.set(xlabel="residue", ylabel="residue")
        left.set_title("co-movement", fontsize=11)
        below[0].colorbar(image, ax=left, label="correlation of displacements")
        image = _show_attention(right, example.attention, example.chain, example.title)
        right.set(xlabel="key residue", ylabel="query residue")
        _add_bar(below[0], image, right)
        below[0].suptitle(example.name, fontsize=13)
    return figure


def _show_metric(axes: Axes, means: pd.DataFrame, metric: str, heads: int) -> None:
    """Heat map of one metric; white is the value of uninformative attention."""
    from model.evaluation.attention import best_map  # imports SciPy, which figures of maps do not need

    values = means[metric].to_numpy().reshape(-1, heads)  # (layers, heads)
    axes.set_title(f"{TITLES[metric]} (n = {means[f'{metric}_proteins'].max()})", fontsize=10)
    axes.set_facecolor("lightgrey")
    chance = 1.0 if metric.endswith("_ratio") else 0.5 if metric.endswith("_auroc") else 0.0
    finite = values[np.isfinite(values)]
    deviation = float(np.abs(finite - chance).max(initial=1e-6))
    # a ratio deviates further above 1 than below it
    low = min(float(finite.min(initial=chance)), chance - 1e-6) if metric.endswith("_ratio") else chance - deviation
    image = axes.imshow(values, cmap="RdBu_r", norm=TwoSlopeNorm(chance, low, chance + deviation), aspect="auto")
    axes.figure.colorbar(image, ax=axes).ax.tick_params(labelsize=8)
    if (best := best_map(metric, values.ravel())) is not None:
        layer, head = divmod(best, heads)
        axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.5))
    axes.set(xlabel="head", ylabel="layer")
    axes.locator_params(nbins=6, integer=True)
    axes.tick_params(labelsize=8)


def _show_attention(axes: Axes, attention: NDArray, chain: NDArray[np.int32], title: str, size: int = 11) -> AxesImage:
    """Image of one map on a logarithmic scale: neighbours take most of the attention of many maps."""
    values = attention.astype(np.float32)
    low, high = np.quantile(values, COLOUR_QUANTILES).tolist()
    low = max(low, high * DARKEST)
    axes.set_title(title, fontsize=size)
    return _show_matrix(axes, np.maximum(values, low), chain, "magma", LogNorm(low, high))


def _add_bar(figure: SubFigure, image: AxesImage, axes: Axes, **options: Any) -> None:
    """Colour bar of a map, with five labels on its logarithmic scale."""
    low, high = image.get_clim()
    ticks = np.geomspace(low or 1.0, high or 1.0, 5)
    bar = figure.colorbar(image, ax=axes, label="attention", extend="both", **options)
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.2g}" for tick in ticks])
    bar.minorticks_off()


def _show_matrix(axes: Axes, values: NDArray, chain: NDArray[np.int32], colours: str, scale: Normalize) -> AxesImage:
    """Image of (N, N) values over residues numbered from 1, grey where NaN, with lines between chains."""
    edges = (0.5, len(values) + 0.5)
    axes.set_facecolor("lightgrey")
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=4, integer=True)
    for edge in np.flatnonzero(np.diff(chain)) + 1.5:
        axes.axhline(edge, color="grey", linewidth=0.7)
        axes.axvline(edge, color="grey", linewidth=0.7)
    return axes.imshow(values, cmap=colours, norm=scale, extent=(*edges, *edges[::-1]), interpolation="nearest")
