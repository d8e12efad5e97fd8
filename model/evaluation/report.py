"""Metrics of `Evaluation` in files and as text."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from data_prepare.errors import reading, require
from data_prepare.files import write_text
from data_prepare.properties import properties_of_group
from data_prepare.resume import digest
from model.evaluation.elastic_networks import NETWORKS, NUM_MODES
from model.evaluation.test_set import CORRELATED, KINDS, LEARNT, OF_NETWORKS
from model.network.dance import DanceModel, load_model
from model.training.checkpoint import PREFIX, checkpoints

LOGGER: Final = logging.getLogger("seqdance")

Rows = dict[tuple[str, str], dict[Any, Any]]  # (group, property) -> column -> number


def metrics_path(run: Path, checkpoint: Path) -> Path:
    """File of the metrics of a checkpoint of a run."""
    return run / "metrics" / f"{checkpoint.name}.json"


def made_from(checkpoint: str, settings: Mapping[str, Any]) -> str:
    """Hash of the settings, and of size and time of the files among them and of the checkpoint."""
    paths = [Path(str(value)) for value in (checkpoint, *settings.values())]
    stats = [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()]
    return digest("evaluation", settings, stats)


def write_metrics(path: Path, checkpoint: str, settings: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write the metrics of a checkpoint as JSON, with what they were made from."""
    content = {"checkpoint": checkpoint, **settings, "digest": made_from(checkpoint, settings), "groups": metrics}
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def unmeasured_checkpoints(run: Path, settings: Mapping[str, Any]) -> dict[str, Path]:
    """Checkpoints of a run without current metrics of these settings -> file of their metrics."""
    found = checkpoints(run / "checkpoints")
    require(found, f"{run}: no checkpoints in it; give the --output of a training")
    wanted = {}
    for checkpoint in found:
        path = metrics_path(run, checkpoint)
        try:
            current = json.loads(path.read_text())["digest"] == made_from(str(checkpoint), settings)
        except (OSError, ValueError, KeyError, TypeError):  # absent, damaged, or of an earlier version
            current = False
        if not current:
            wanted[str(checkpoint)] = path
    return wanted


def load_checkpoint(checkpoint: str, of_run: bool) -> DanceModel | None:
    """Network of a checkpoint; None if the running training has removed it in the meantime."""
    if of_run and not Path(checkpoint).is_dir():
        LOGGER.warning("warning: %s has been removed", checkpoint)
        return None
    return load_model(checkpoint, "cpu")


def checkpoints_text(run: Path) -> str:
    """Weighted test losses of the checkpoints of a run, from the files of their metrics."""
    rows, groups = {}, {}
    for checkpoint in checkpoints(run / "checkpoints"):
        path = metrics_path(run, checkpoint)
        if path.is_file():
            with reading(path, "the metrics of a checkpoint", "remove it and evaluate again"):
                groups = json.loads(path.read_text())["groups"]
                rows[checkpoint.name.removeprefix(PREFIX)] = [values["model"]["loss"] for values in groups.values()]
    for baseline in LEARNT[1:]:
        rows[baseline] = [values[baseline]["loss"] for values in groups.values()]
    frame = pd.DataFrame(list(rows.values()), index=list(rows), columns=list(groups))
    return f"weighted test loss by update\n{frame.to_string(float_format='{:.4f}'.format)}"


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """Losses, correlations, and correlations beside those of elastic networks; `metrics` of `Evaluation.metrics`."""
    shown = ("model", "sequence")  # the other baseline is constant
    losses: Rows = {}
    correlated: Rows = {}
    beside: Rows = {}
    for group, values in metrics.items():
        for name in properties_of_group(group):
            losses[group, name] = {predictor: values[predictor]["properties"][name] for predictor in LEARNT}
        losses[group, "weighted sum"] = {predictor: values[predictor]["loss"] for predictor in LEARNT}
        if "correlations" in values["model"]:
            medians = {predictor: values[predictor]["correlations"] for predictor in shown}
            correlated |= {(group, name): _by_kind(medians, name) for name in CORRELATED}
        if "structures" in values:
            medians = {predictor: values["structures"]["correlations"][predictor] for predictor in (*shown, *NETWORKS)}
            beside |= {(group, name): _by_kind(medians, name) for name in OF_NETWORKS}
    tables = {
        "losses": losses,
        "correlations, medians over proteins": correlated,
        f"the same for entries with a structure, beside the {NUM_MODES} slowest modes of elastic networks": beside,
    }
    return "\n\n".join(f"{title}\n{_table(rows)}" for title, rows in tables.items() if rows)


def _by_kind(medians: Mapping[str, Mapping[str, Any]], name: str) -> dict[Any, Any]:
    """Proteins of the first predictor, then Pearson's and Spearman's correlation of each."""
    numbers = {("", "proteins"): next(iter(medians.values()))[name]["proteins"]}
    return numbers | {(kind, predictor): found[name][kind] for kind in KINDS for predictor, found in medians.items()}


def _table(rows: Rows) -> str:
    frame = pd.DataFrame(list(rows.values()), index=pd.MultiIndex.from_tuples(rows))
    if isinstance(frame.columns[0], tuple):
        frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame.to_string(na_rep="-", float_format="{:.4f}".format)
