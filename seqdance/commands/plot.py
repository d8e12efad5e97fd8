"""Command `seqdance plot`: curves of a training in one figure.

    seqdance plot runs/seqdance --out curves.png

Draws losses per group and property, learning rate, gradient norm and tokens per second from the log of a running or
finished training; test losses, if the folder `metrics` of the run holds those of checkpoints (update_N.json). For
Dyna-1: losses and validation AUROC of each epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings, run
from data_prepare.errors import reading, require
from model.figures import dyna1, training
from model.figures.save import save_figure
from model.training.run_log import LOG_NAME, read_log


@dataclass(frozen=True, kw_only=True)
class PlotOptions(Settings):
    """Draw the curves of a training."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    out: Path | None = None
    """The figure; its suffix selects the format. Default: curves.png in the folder of the run."""
    debug: bool = False
    """Show the traceback of an error."""


def plot(options: PlotOptions) -> list[Path]:
    """Draw the curves of a run and return the path of the figure."""
    path = options.run / LOG_NAME
    lines = list(read_log(path))
    require(lines, f"{path}: no line of a log; give the folder of a run (--output) that has trained for a while")
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


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    run(PlotOptions, plot, args)
