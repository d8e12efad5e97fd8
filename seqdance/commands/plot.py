"""Command `seqdance plot`: training curves in one figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import reading, require
from model.figures import dyna1, training
from model.figures.save import save_figure
from model.training.run_log import LOG_NAME, read_log
from seqdance.options import CommandOptions


@dataclass(frozen=True, kw_only=True)
class PlotOptions(CommandOptions):
    """Draw the curves of a running or finished training.

    Losses per group and property, learning rate, gradient norm and tokens per second; test losses if the run has the
    metrics of checkpoints (metrics/update_N.json). For Dyna-1: losses and validation AUROC of each epoch.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    out: Path | None = None
    """The figure; its suffix selects the format. Default: curves.png in the run folder."""


def plot(options: PlotOptions) -> list[Path]:
    """Draw the curves of a run and return the path of the figure."""
    path = options.run / LOG_NAME
    lines = list(read_log(path))
    require(lines, f"{path}: no log, or an empty one; give the folder of a run (its --output) that has logged updates")
    log = pd.DataFrame(lines)
    if "validation_auroc" in log:
        figure = dyna1.draw_training(log.set_index("n_epoch"))
    else:
        figure = training.draw_training(log.set_index("n_update"), read_metrics(options.run / "metrics"))
    out = options.out or options.run / "curves.png"
    save_figure(figure, out)
    return [out]


def read_metrics(folder: Path) -> dict[int, Mapping[str, Any]]:
    """Update -> metrics of each group, from the files update_N.json of `seqdance evaluate`."""
    metrics = {}
    for path in folder.glob("update_*.json"):
        with reading(path, "the metrics of a checkpoint", "remove it or evaluate the checkpoint again"):
            metrics[int(path.stem.removeprefix("update_"))] = json.loads(path.read_text())["groups"]
    return dict(sorted(metrics.items()))


main = partial(run, PlotOptions, plot)
