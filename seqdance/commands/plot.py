"""Command `seqdance plot`: training curves in one figure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from seqdance.options import CommandOptions


@dataclass(frozen=True, kw_only=True)
class PlotOptions(CommandOptions):
    """Draw the curves of a running or finished training.

    Losses per group and property, learning rate, gradient norm and tokens per second; test losses if the run has the
    metrics of checkpoints (metrics/update_N.json). For Dyna-1: losses and validation AUROC of each epoch.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, also one of the published script (training_log.json)."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["--output"])] = None
    """The figure; its suffix selects the format. Default: curves.png in the run folder."""


def plot(options: PlotOptions) -> list[Path]:
    """Draw the curves of a run and return the path of the figure."""
    from model.figures import dyna1, training
    from model.figures.save import save_figure
    from model.training.run_log import read_metrics, read_run_log

    log = read_run_log(options.run)
    if "validation_auroc" in log:
        figure = dyna1.draw_training(log.set_index("n_epoch"))
    else:
        figure = training.draw_training(log.set_index("n_update"), read_metrics(options.run / "metrics"))
    out = options.out or options.run / "curves.png"
    save_figure(figure, out)
    return [out]


main = partial(run, PlotOptions, plot)
