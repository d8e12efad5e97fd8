"""Command `seqdance plot`: training curves in one figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import pandas as pd
import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import reading, require
from model.figures import dyna1, training
from model.figures.save import save_figure
from model.training.run_log import LOG_NAME, read_log
from seqdance.options import CommandOptions

PUBLISHED_LOG: Final = "training_log.json"


@dataclass(frozen=True, kw_only=True)
class PlotOptions(CommandOptions):
    """Draw the curves of a running or finished training.

    Losses per group and property, learning rate, gradient norm and tokens per second; test losses if the run has the
    metrics of checkpoints (metrics/update_N.json). For Dyna-1: losses and validation AUROC of each epoch.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, also one of the published script (training_log.json)."""
    out: Path | None = None
    """The figure; its suffix selects the format. Default: curves.png in the run folder."""


def plot(options: PlotOptions) -> list[Path]:
    """Draw the curves of a run and return the path of the figure."""
    log = read_run_log(options.run)
    if "validation_auroc" in log:
        figure = dyna1.draw_training(log.set_index("n_epoch"))
    else:
        figure = training.draw_training(log.set_index("n_update"), read_metrics(options.run / "metrics"))
    out = options.out or options.run / "curves.png"
    save_figure(figure, out)
    return [out]


def read_run_log(run: Path) -> pd.DataFrame:
    """One row per logged update of a run: log.jsonl, or training_log.json of the published script.

    The published log may be JSON lines or one JSON list; of several processes, the lines of the first are taken.
    """
    path = run / LOG_NAME
    if not path.is_file() and (run / PUBLISHED_LOG).is_file():
        path = run / PUBLISHED_LOG
    lines = list(read_log(path))
    if path.name == PUBLISHED_LOG:
        with reading(path, "a training log (JSON)"), suppress(json.JSONDecodeError):  # of a whole file of lines
            whole = json.loads(path.read_text())
            lines = whole if isinstance(whole, list) else [whole]
    require(lines, f"{path}: no log, or an empty one; give the folder of a run (its --output) that has logged updates")
    known = all(isinstance(line, dict) and "n_update" in line for line in lines)
    require(known, f"{path}: not a training log; each of its entries must be an object with n_update")
    log = pd.DataFrame(lines)
    if "rank" in log:
        log = log[log["rank"] == log["rank"].min()]
    return log.drop_duplicates("n_update", keep="last").reset_index(drop=True)  # an update again after a resume


def read_metrics(folder: Path) -> dict[int, Mapping[str, Any]]:
    """Update -> metrics of each group, from the files update_N.json of `seqdance evaluate`."""
    metrics = {}
    for path in folder.glob("update_*.json"):
        with reading(path, "the metrics of a checkpoint", "remove it or evaluate the checkpoint again"):
            metrics[int(path.stem.removeprefix("update_"))] = json.loads(path.read_text())["groups"]
    return dict(sorted(metrics.items()))


main = partial(run, PlotOptions, plot)
