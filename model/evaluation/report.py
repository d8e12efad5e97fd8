"""Files and text of the metrics of `Evaluation`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from data_prepare.errors import reading, require
from data_prepare.files import write_text
from data_prepare.properties import NMA_GROUPS, properties_of_group
from data_prepare.resume import digest
from model.evaluation.elastic_networks import NETWORKS, NUM_MODES
from model.evaluation.test_set import KINDS, LEARNT
from model.network.checkpoints import CHECKPOINTS, PREFIX, checkpoints
from model.network.dance import DanceModel, load_model

LOGGER: Final = logging.getLogger("seqdance")

Rows = dict[tuple[str, str], dict[Any, Any]]  # (group, property) -> column -> number


def metrics_path(run: Path, checkpoint: Path) -> Path:
    """File for the metrics of a checkpoint of a run."""
    return run / "metrics" / f"{checkpoint.stem}.json"


def checkpoints_of_run(run: Path) -> list[Path]:
    """Checkpoints of a run, oldest update first: folders, or the files update_N.pt of the published training."""
    folder = run / CHECKPOINTS
    files = [path for path in folder.glob(f"{PREFIX}*.pt") if path.stem.removeprefix(PREFIX).isdecimal()]
    return checkpoints(folder) or sorted(files, key=lambda path: int(path.stem.removeprefix(PREFIX)))


def made_from(checkpoint: str, settings: Mapping[str, Any]) -> str:
    """Hash of the settings and of the size and time of the checkpoint and of all files in the settings."""
    paths = [Path(str(value)) for value in (checkpoint, *settings.values())]
    stats = [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()]
    return digest("evaluation", settings, stats)


def write_metrics(
    path: Path, checkpoint: str, label: str, settings: Mapping[str, Any], metrics: Mapping[str, Any]
) -> None:
    """Write the metrics of a checkpoint, the label of its network and the settings as JSON."""
    content = {
        "checkpoint": checkpoint,
        "network": label,
        **settings,
        "digest": made_from(checkpoint, settings),
        "groups": metrics,
    }
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def unmeasured_checkpoints(run: Path, settings: Mapping[str, Any]) -> dict[str, Path]:
    """Checkpoints of a run without current metrics for these settings -> file for their metrics."""
    found = checkpoints_of_run(run)
    require(found, f"{run}: no checkpoints in it; give the --output of a training run")
    wanted = {}
    for checkpoint in found:
        path = metrics_path(run, checkpoint)
        try:
            current = json.loads(path.read_text(encoding="utf-8"))["digest"] == made_from(str(checkpoint), settings)
        except (OSError, ValueError, KeyError, TypeError):  # absent, damaged, or of an earlier version
            current = False
        if not current:
            wanted[str(checkpoint)] = path
    return wanted


def load_checkpoint(checkpoint: str, of_run: bool) -> DanceModel | None:
    """Network of a checkpoint; None if a running training has removed it."""
    if of_run and not Path(checkpoint).exists():
        LOGGER.warning("warning: %s has been removed", checkpoint)
        return None
    return load_model(checkpoint, "cpu")


def checkpoints_text(run: Path) -> str:
    """Weighted test losses of the checkpoints of a run, from the files of their metrics."""
    rows, groups = {}, {}
    for checkpoint in checkpoints_of_run(run):
        path = metrics_path(run, checkpoint)
        if path.is_file():
            with reading(path, "the metrics of a checkpoint", "remove it and evaluate again"):
                groups = json.loads(path.read_text(encoding="utf-8"))["groups"]
                rows[checkpoint.stem.removeprefix(PREFIX)] = [values["model"]["loss"] for values in groups.values()]
    for baseline in LEARNT[1:]:
        rows[baseline] = [values[baseline]["loss"] for values in groups.values()]
    frame = pd.DataFrame(list(rows.values()), index=list(rows), columns=list(groups))
    return f"weighted test loss by update\n{frame.to_string(float_format='{:.4f}'.format)}"


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """Tables of the losses and correlations in the result of `Evaluation.metrics`."""
    shown = ("model", "sequence")  # the other baseline is constant
    losses: Rows = {}
    everywhere: Rows = {}
    resolved: Rows = {}
    for group, values in metrics.items():
        for name in properties_of_group(group):
            losses[group, name] = {predictor: values[predictor]["properties"][name] for predictor in LEARNT}
        losses[group, "weighted sum"] = {predictor: values[predictor]["loss"] for predictor in LEARNT}
        if group not in NMA_GROUPS:
            everywhere |= _rows(group, {name: values[name]["correlations"] for name in shown})
        if "structures" in values:
            found = values["structures"]["correlations"]
            resolved |= _rows(group, {name: found[name] for name in (*shown, *NETWORKS)})
    tables = {
        "losses": losses,
        "correlations, medians over proteins": everywhere,
        f"the same for entries with a structure, and the {NUM_MODES} slowest modes of elastic networks": resolved,
    }
    frames = {title: pd.DataFrame.from_dict(rows, orient="index") for title, rows in tables.items() if rows}
    options: dict[str, Any] = {"na_rep": "-", "float_format": "{:.4f}".format}
    return "\n\n".join(f"{title}\n{frame.to_string(**options)}" for title, frame in frames.items())


def _rows(group: str, medians: Mapping[str, Mapping[str, Any]]) -> Rows:
    """A row per property: proteins of the first predictor, then Pearson's and Spearman's correlation of each."""
    rows: Rows = {}
    for name, first in next(iter(medians.values())).items():
        row = {(kind, predictor): medians[predictor][name][kind] for kind in KINDS for predictor in medians}
        rows[group, name] = {("", "proteins"): first["proteins"]} | row
    return rows
