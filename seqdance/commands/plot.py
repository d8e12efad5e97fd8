"""Command `seqdance plot`: training curves in one figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import reading, require
from data_prepare.files import read_text
from data_prepare.properties import ALL_GROUPS, properties_of_group
from seqdance.options import CommandOptions

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED_LOG: Final = "training_log.json"


@dataclass(frozen=True, kw_only=True)
class PlotOptions(CommandOptions):
    """Draw the curves of a running or finished training.

    Losses per group and property, learning rate, gradient norm and tokens per second; test losses if the run has the
    metrics of checkpoints (metrics/update_N.json). For Dyna-1: losses and validation AUROC of each epoch.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, also one of the published script (training_log.json)."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["--output"])] = None
    """The figure; its suffix selects the format. Default: curves.png in the run folder."""


def plot(options: PlotOptions) -> list[Path]:
    """Draw the curves of a run and return the path of the figure."""
    from model.figures import dyna1, training
    from model.figures.save import save_figure

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
    import pandas as pd

    from model.training.run_log import LOG_NAME, read_log

    path = run / LOG_NAME
    if not path.is_file() and (run / PUBLISHED_LOG).is_file():
        path = run / PUBLISHED_LOG
    lines = _whole_json(path) or read_log(path)
    require(lines, f"{path}: no log with logged updates; give the folder of a run (its --output) that has some")
    log = pd.DataFrame(lines)
    log = log.apply(pd.to_numeric, errors="coerce")  # a text in place of a number is no value
    if "rank" in log:
        log = log[log["rank"] == log["rank"].min()]
    return log.drop_duplicates("n_update", keep="last").reset_index(drop=True)  # an update again after a resume


def _whole_json(path: Path) -> list[dict[str, Any]]:
    """Lines of a published log that is one JSON; none of any other file."""
    from model.training.run_log import log_lines

    if path.name != PUBLISHED_LOG:
        return []
    with suppress(ValueError, RecursionError):
        whole = json.loads(read_text(path, "a training log (JSON)", errors="replace"))
        return log_lines(whole if isinstance(whole, list) else [whole])
    return []


def read_metrics(folder: Path) -> dict[int, Mapping[str, Any]]:
    """Update -> metrics of each group, from the files update_N.json of `seqdance evaluate`."""
    metrics = {}
    for path in folder.glob("update_*.json"):
        with reading(path, "the metrics of a checkpoint", "remove it or evaluate the checkpoint again"):
            update = int(path.stem.removeprefix("update_"))
            groups = json.loads(path.read_text(encoding="utf-8"), parse_int=float)["groups"]
            for group in groups.keys() & set(ALL_GROUPS):
                model = groups[group]["model"]
                values = [model["loss"], *(model["properties"][name] for name in properties_of_group(group))]
                if not all(value is None or isinstance(value, float | int) for value in values):
                    raise TypeError(f"losses of {group} are not numbers")
            metrics[update] = groups
    return dict(sorted(metrics.items()))


main = partial(run, PlotOptions, plot)
