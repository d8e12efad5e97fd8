"""Training curves of SeqDance and ESMDance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from data_prepare.properties import ALL_GROUPS, GROUPS, PROPERTIES, properties_of_group
from model.training.run_log import GRADIENT_NORM, TOKENS_PER_SECOND

COLOURS: Final = dict(
    zip(ALL_GROUPS, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True)
)  # safe for colour-blind readers
COLUMNS: Final = 6
FEW: Final = 20  # updates up to which each one is marked
SMOOTH: Final = 100  # minimal number of points of a smoothed curve


def draw_training(log: pd.DataFrame, metrics: Mapping[int, Mapping[str, Any]]) -> Figure:
    """Draw losses per group and property, learning rate, gradient norm and tokens per second.

    `log` has the columns of log.jsonl and the index n_update. `metrics` (update -> group -> metrics of the test entries
    in RUN/metrics/update_N.json) are drawn as dots.
    """
    trained = [group for group in ALL_GROUPS if f"{group}_loss" in log or any(group in own for own in metrics.values())]
    trained = trained or list(GROUPS)
    names = [name for name in PROPERTIES if any(name in properties_of_group(group) for group in trained)]
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(12, 3.2 * 2 + 1.7 * rows), layout="constrained")
    totals, others, properties = figure.subfigures(3, 1, height_ratios=[3.2, 2.6, 1.7 * rows], squeeze=False).flat

    for axes, group in zip(totals.subplots(1, len(trained), squeeze=False).flat, trained, strict=True):
        _curve(axes, log, f"{group}_loss", COLOURS[group])
        _dots(axes, {n: groups[group]["model"]["loss"] for n, groups in metrics.items() if group in groups}, "black", 5)
        _mark_lengths(axes, log)
        axes.set_yscale("log")
        axes.set_title(group.replace("_", " "), fontsize=12, color=COLOURS[group], pad=20)  # above changes of length
        axes.set_xlabel("update")
    totals.suptitle("weighted loss of each group" + (" (dots: test entries)" if metrics else ""), fontsize=13)

    for axes, name in zip(others.subplots(1, 3), ("Learning Rate", GRADIENT_NORM, TOKENS_PER_SECOND), strict=True):
        _curve(axes, log, name, "#444444", smooth=name != "Learning Rate")
        axes.set_title(name.lower(), fontsize=12)
        if name == GRADIENT_NORM:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        axes.set_xlabel("update")

    panels = properties.subplots(rows, COLUMNS, sharex=True, squeeze=False).flat
    for axes, name in zip(panels, names, strict=False):
        for group in (group for group in trained if name in properties_of_group(group)):
            _curve(axes, log, f"{group}_{name}", COLOURS[group])
            losses = {n: groups[group]["model"]["properties"][name] for n, groups in metrics.items() if group in groups}
            _dots(axes, losses, COLOURS[group], 3)
        axes.set_yscale("log")  # the losses of the first updates are far above the others
        axes.set_title(name, fontsize=11, pad=3)
    properties.suptitle("loss of each property: root mean square error", fontsize=13)
    for axes in figure.axes:
        if axes.lines:
            _label_axes(axes)
        else:  # its numbers would be invented
            axes.set_axis_off()
    return figure


def _curve(axes: Axes, log: pd.DataFrame, name: str, colour: str, smooth: bool = True) -> None:
    """Draw a column, pale, and its running mean; nothing if the log lacks the column."""
    if name in log:
        values = log[name].astype(float)
        window = max(1, len(values) // SMOOTH) if smooth else 1
        style: dict[str, Any] = {"color": colour, "linewidth": 0.8, "alpha": 0.3 if window > 1 else 1}
        marker = "." if len(values) <= FEW else ""  # of one update a line shows nothing
        axes.plot(values.index, values, marker=marker, markersize=4, **style)  # smaller than those of test entries
        if window > 1:
            axes.plot(values.index, values.rolling(window, min_periods=1).mean(), color=colour, linewidth=1.6)


def _dots(axes: Axes, values: Mapping[int, float | None], colour: str, size: float) -> None:
    """Draw test losses by update."""
    shown = {update: value for update, value in values.items() if value is not None}
    if shown:  # an empty line outside the axes would disturb the layout
        axes.plot(list(shown), list(shown.values()), "o", color=colour, markersize=size, clip_on=False)


def _mark_lengths(axes: Axes, log: pd.DataFrame) -> None:
    """Draw a line where the crop length changes, and the lengths above it."""
    if "Max_len" not in log:
        return
    lengths, updates = log["Max_len"].to_numpy(), log.index.to_numpy()
    for row in np.flatnonzero(lengths[1:] != lengths[:-1]):
        axes.axvline(updates[row], color="#999999", linewidth=1, linestyle="--")
        label = f"length {lengths[row]} | {lengths[row + 1]}"
        axes.text(updates[row], 1.01, label, transform=axes.get_xaxis_transform(), fontsize=9, ha="center")


def _label_axes(axes: Axes) -> None:
    """Plain numbers on logarithmic axes, 200k for 200,000 updates."""
    axes.tick_params(labelsize=9)
    if axes.get_yscale() == "log":
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5), numticks=20))
        axes.yaxis.set_major_formatter("{x:g}")
        decades = np.ptp(np.log10(axes.get_ylim()))
        axes.yaxis.set_minor_formatter("{x:g}" if decades < 2 else "")
        axes.tick_params(which="minor", labelsize=8)
    axes.locator_params(axis="x", nbins=4, integer=True, min_n_ticks=1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
