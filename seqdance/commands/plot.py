"""Command `seqdance plot`: curves of a training as one picture.

    seqdance plot runs/seqdance --out curves.png

Losses per group and property, learning rate, gradient norm and tokens per second from the log of the run, while it
trains or afterwards; test losses where its folder `metrics` holds those of checkpoints (update_N.json). Of a training
of Dyna-1: losses and validation AUROC of each epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import pandas as pd
import tyro

from data_prepare.errors import InputError, first_line, run_command
from data_prepare.files import whole_file
from data_prepare.properties import GROUPS, PROPERTIES, properties_of_group
from model.training.run_log import GRADIENT_NORM, LOG_NAME, TOKENS_PER_SECOND, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = dict(zip(GROUPS, ("#0072B2", "#D55E00", "#009E73"), strict=True))  # told apart by all readers
COLUMNS: Final = 6
SMOOTH: Final = 100  # points that a smoothed curve has at least


@dataclass(frozen=True)
class PlotConfig:
    """Draw the curves of a training."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    out: Path | None = None
    """The picture; its ending tells the format. Default: curves.png in the folder of the run."""
    debug: bool = False
    """Show the traceback of an error."""


def plot(config: PlotConfig) -> Path:
    """Draw the curves of a run and return the path of the picture.

    Raises
    ------
    InputError
        The run has no log yet, a file of metrics cannot be read, or there is no such format of pictures.
    """
    path = config.run / LOG_NAME
    lines = list(read_log(path))
    if not lines:
        raise InputError(f"{path}: no line of a log; give the folder of a run (--output) that has trained a while")
    log = pd.DataFrame(lines)
    if "validation_auroc" in log:
        figure = draw_dyna1(log.set_index("n_epoch"))
    else:
        figure = draw(log.set_index("n_update"), read_metrics(config.run / "metrics"))
    out = config.out or config.run / "curves.png"
    try:
        with whole_file(out) as temporary:
            figure.savefig(temporary, dpi=100)
    except ValueError as error:  # of an unknown ending
        raise InputError(f"{out}: {first_line(error)}") from None
    return out


def read_metrics(folder: Path) -> dict[int, Mapping[str, Any]]:
    """Update -> metrics of each group, as `seqdance evaluate` writes them to update_N.json; empty without any."""
    metrics = {}
    for path in folder.glob("update_*.json"):
        try:
            metrics[int(path.stem.removeprefix("update_"))] = json.loads(path.read_text())["groups"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: not the metrics of a checkpoint; remove it or evaluate again") from None
    return dict(sorted(metrics.items()))


def draw(log: pd.DataFrame, metrics: Mapping[int, Mapping[str, Any]]) -> Figure:
    """Draw all curves.

    Parameters
    ----------
    log
        Columns as in log.jsonl, index n_update.
    metrics
        As `read_metrics` gives them.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator

    rows = -(-len(PROPERTIES) // COLUMNS)
    figure = Figure(figsize=(12, 3.2 * 2 + 1.7 * rows), layout="constrained")
    totals, others, properties = figure.subfigures(3, 1, height_ratios=[3.2, 2.6, 1.7 * rows], squeeze=False).flat

    for axes, group in zip(totals.subplots(1, len(GROUPS)), GROUPS, strict=True):
        curve(axes, log, f"{group}_loss", COLOURS[group])
        points(axes, {update: groups[group]["model"]["loss"] for update, groups in metrics.items() if group in groups})
        mark_lengths(axes, log)
        axes.set_yscale("log")
        axes.set_title(group.replace("_", " "), fontsize=12, color=COLOURS[group])
        axes.set_xlabel("update")
    totals.suptitle("weighted loss of each group" + (" (dots: test entries)" if metrics else ""), fontsize=13)

    for axes, name in zip(others.subplots(1, 3), ("Learning Rate", GRADIENT_NORM, TOKENS_PER_SECOND), strict=True):
        curve(axes, log, name, "#444444", smooth=name != "Learning Rate")
        axes.set_title(name.lower(), fontsize=12)
        if name == GRADIENT_NORM:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        axes.set_xlabel("update")

    panels = properties.subplots(rows, COLUMNS, sharex=True).flat
    for axes, name in zip(panels, PROPERTIES, strict=False):  # the last row may have room left
        for group in GROUPS:
            if name in properties_of_group(group):
                curve(axes, log, f"{group}_{name}", COLOURS[group])
                points(
                    axes, {u: g[group]["model"]["properties"][name] for u, g in metrics.items() if group in g}, group
                )
        axes.set_yscale("log")  # the first updates are far above the others
        axes.set_title(name, fontsize=11, pad=3)
    for axes in properties.axes[len(PROPERTIES) :]:
        axes.set_axis_off()
    properties.suptitle("loss of each property: root mean square error", fontsize=13)
    for axes in figure.axes:
        axes.tick_params(labelsize=9)
        if axes.get_yscale() == "log":
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5), numticks=20))
            axes.yaxis.set_major_formatter("{x:g}")
            few = np.ptp(np.log10(axes.get_ylim())) < 2  # decades: room for labels between them
            axes.yaxis.set_minor_formatter("{x:g}" if few else "")
            axes.tick_params(which="minor", labelsize=8)
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_dyna1(log: pd.DataFrame) -> Figure:
    """Draw losses and validation AUROC of a training of Dyna-1; columns as in log.jsonl, index n_epoch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, areas = figure.subplots(1, 2)
    for name, label, colour in (("loss", "training", "#0072B2"), ("validation_loss", "validation", "#D55E00")):
        losses.plot(log.index, log[name].astype(float), ".-", color=colour, label=label)
    losses.set(xlabel="epoch", ylabel="cross-entropy per residue")
    losses.legend(frameon=False)
    auroc = log["validation_auroc"].astype(float)
    areas.plot(log.index, auroc, ".-", color="#D55E00")
    if auroc.notna().any():
        best = int(np.nanargmax(auroc.to_numpy()))
        epoch, highest = log.index[best], float(auroc.iloc[best])
        areas.plot(epoch, highest, "o", color="black", markersize=5)
        label = areas.annotate(f"{highest:.3f}", (epoch, highest), xytext=(0, 6), textcoords="offset points")
        label.set(ha="center")
        areas.margins(y=0.15)
    areas.axhline(0.5, color="#999999", linewidth=1, linestyle="--", zorder=0)
    areas.text(0.99, 0.5, "by chance", transform=areas.get_yaxis_transform(), ha="right", va="bottom", color="#666666")
    areas.set(xlabel="epoch", ylabel="validation AUROC")
    for axes in (losses, areas):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def curve(axes: Axes, log: pd.DataFrame, name: str, colour: str, smooth: bool = True) -> None:
    """Values of a column, pale, and their running mean; a column that the log lacks leaves the axes empty."""
    if name in log:
        values = log[name].astype(float)
        window = max(1, len(values) // SMOOTH) if smooth else 1
        axes.plot(values.index, values, color=colour, linewidth=0.8, alpha=0.3 if window > 1 else 1)
        if window > 1:
            axes.plot(values.index, values.rolling(window, min_periods=1).mean(), color=colour, linewidth=1.6)


def points(axes: Axes, values: Mapping[int, float | None], group: str | None = None) -> None:
    """Test losses by update."""
    shown = {update: value for update, value in values.items() if value is not None}
    if shown:  # nothing, drawn beyond the axes, has no place in the layout
        colour, size = ("black", 5) if group is None else (COLOURS[group], 3)
        axes.plot(list(shown), list(shown.values()), "o", color=colour, markersize=size, clip_on=False)


def mark_lengths(axes: Axes, log: pd.DataFrame) -> None:
    """A line where the length of the crops changes."""
    lengths, updates = log["Max_len"].to_numpy(), log.index.to_numpy()
    for place in np.flatnonzero(lengths[1:] != lengths[:-1]):
        axes.axvline(updates[place], color="#999999", linewidth=1, linestyle="--")
        label = f"length {lengths[place]} | {lengths[place + 1]}"
        shown = axes.text(updates[place], 0.98, label, transform=axes.get_xaxis_transform(), fontsize=9)
        shown.set(ha="center", va="top", backgroundcolor="white")


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config = tyro.cli(PlotConfig, args=args)
    print(run_command(lambda: plot(config), config.debug))
