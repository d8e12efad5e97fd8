"""What a training run tells in the model card of its weights: options, data, losses, test metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from data_prepare.errors import reading, require, shown
from model.evaluation.report import metrics_path
from model.network.checkpoints import (
    CHECKPOINTS,
    NETWORK_FILES,
    PREFIX,
    TRAINING_NAME,
    newest_checkpoint,
    update_of,
)
from model.network.hub import markdown_table
from model.network.names import CONFIG_NAME
from model.network.weights import load_torch, read_json
from model.training.run_log import LOG_NAME, read_log

# options without a meaning for readers, or with paths of this machine
LEFT_OUT: Final = frozenset(
    "output device debug resume stop_after profile allow_changes config given model table store loss_weights "
    "validation cache workers checkpoint_every keep_last keep_every log_every".split()
)
BEST: Final = "best"  # folder of the best weights of a run of Dyna-1
VALIDATION_NAME: Final = "validation.json"  # in it: which update it is
SHOWN: Final = ("rmsf_nor", "corr")  # properties whose correlations the paper reports


def run_and_weights(path: Path) -> tuple[Path | None, Path]:
    """Folder of a training run, None if the weights are of none, and folder of the weights to publish.

    `path` is the run (of Dyna-1 its best weights are meant, otherwise its newest intact checkpoint), one of its
    checkpoints, or any folder of weights.
    """
    best = path / BEST
    if (path / CHECKPOINTS).is_dir():
        found = best if best.is_dir() else newest_checkpoint(path / CHECKPOINTS, NETWORK_FILES)
        require(found, f"{path}: a training run without an intact checkpoint; give other weights")
        return path, found or path
    require(path.is_dir(), f"{path}: no such folder; give that of a training run or of weights")
    parent = path.absolute().parent
    run = {CHECKPOINTS: parent.parent}.get(parent.name, parent if path.name == BEST else None)
    return run, path


def run_sections(run: Path, checkpoint: Path, metrics: Path | None = None) -> dict[str, str]:
    """Sections of a model card, title -> Markdown, from the files of a run and one of its checkpoints.

    `metrics` is a file of `seqdance evaluate` or metrics.json of `seqdance dyna1 evaluate`; default: that of this
    checkpoint in the run, if there is one. Paths of this machine are left out. InputError if a file is damaged.
    """
    sections = {"Training": _training(read_json(run / CONFIG_NAME), checkpoint)}
    if data := _data(checkpoint):
        sections["Training data"] = data
    if losses := _losses(run, checkpoint):
        sections["Losses"] = losses
    found = metrics or metrics_path(run, checkpoint)
    if metrics is not None or found.is_file():
        sections["Test"] = metrics_table(found)
    return sections


def _training(content: Mapping[str, Any], checkpoint: Path) -> str:
    require(isinstance(content.get("config"), dict), f"{checkpoint}: not of a training run; give the folder of a run")
    options = {name: value for name, value in content["config"].items() if name not in LEFT_OUT and value is not None}
    for name in ("init", "encoder", "embedder"):
        if name in options:
            options[name] = _without_folders(str(options[name]))
    versions = content.get("versions") or {}
    texts = {name: json.dumps(value).strip('"') for name, value in options.items()}
    rows: dict[str, Any] = {"checkpoint": checkpoint.name, **texts}
    rows |= {"precision": content.get("precision"), "processes": content.get("processes")}
    rows["devices"] = ", ".join(sorted(set(map(str, content.get("devices") or ["-"]))))
    rows["versions"] = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
    return markdown_table(rows)


def _without_folders(source: str) -> str:
    """A Hub id as it is; of a path on this machine the last part alone."""
    parts = source.split(":")  # such as esm2:FOLDER:LAYER
    return ":".join(Path(part).name if Path(part).is_absolute() or Path(part).exists() else part for part in parts)


def _data(checkpoint: Path) -> str:
    """Digests of the files that a run was trained on; only checkpoints that can be resumed have them."""
    path = checkpoint / TRAINING_NAME
    if not path.is_file():
        return ""
    digests = load_torch(path, "a training state", mapped=True).get("data") or {}
    return "Digests of the contents:\n\n" + markdown_table(digests, ("data", "digest")) if digests else ""


def _losses(run: Path, checkpoint: Path) -> str:
    """Losses of the last log line up to the checkpoint."""
    last = update_of(checkpoint) if checkpoint.name.startswith(PREFIX) else None
    if (checkpoint / VALIDATION_NAME).is_file():
        last = read_json(checkpoint / VALIDATION_NAME).get("update")
    lines = [line for line in read_log(run / LOG_NAME) if last is None or line["n_update"] <= last]
    wanted = ("loss", "validation_auroc", "best_auroc")
    values = {name: value for name, value in lines[-1].items() if name.endswith(wanted)} if lines else {}
    return markdown_table(values, ("loss", "value")) if values else ""


def metrics_table(path: Path) -> str:
    """Test metrics as Markdown: losses and correlations beside the baselines, or the areas of Dyna-1."""
    content = read_json(path)
    with reading(path, "metrics of seqdance evaluate or seqdance dyna1 evaluate", "evaluate again"):
        if "groups" in content:
            return _dance_metrics(content["groups"])
        if "predictors" in content:
            areas = ("auroc", "auprc", "normalised_auprc")
            rows = {
                name: [values["proteins"], *(values[area]["mean"] for area in areas)]
                for name, values in content["predictors"].items()
            }
            return markdown_table(rows, ("predictor", "proteins", "AUROC", "AUPRC", "AUPRC - rate"))
        raise ValueError(f"has {shown(list(content))}")


def _dance_metrics(groups: Mapping[str, Any]) -> str:
    predictors = [
        name for name, value in next(iter(groups.values())).items() if isinstance(value, dict) and "loss" in value
    ]
    losses = {name: [own["entries"], *(own[each]["loss"] for each in predictors)] for name, own in groups.items()}
    text = markdown_table(losses, ("weighted loss", "entries", *predictors))
    medians = {
        f"{group}: {name}": [values["model"]["correlations"][name]["pearson"]]
        for group, values in groups.items()
        for name in SHOWN
        if name in values["model"].get("correlations", {})
    }
    return text + ("\n\n" + markdown_table(medians, ("median Pearson correlation", "model")) if medians else "")
