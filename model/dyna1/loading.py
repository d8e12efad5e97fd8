"""Classifier weights in and out: published files, and our folders of model.safetensors and config.json.

Weights have terms of use of their own, and those of the published Dyna-1 have changed between releases: check the terms
of the weights that you load.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from data_prepare.errors import InputError, first_line
from data_prepare.files import write_text
from model.dyna1.classifier import PRESETS, Classifier, Dyna1Config
from model.network.dance import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    check_entries,
    choose_device,
    read_json,
    read_weights,
    write_weights,
)
from model.network.hub import hub_file

PUBLISHED_NAMES: Final = ("dyna1.pt", "dyna1-esm2.pt")
LANGUAGE_MODEL: Final = "model."  # prefix of entries that play no part
NESTED: Final = "model_state_dict"  # where a checkpoint of the published training keeps the weights
HUB_ID: Final = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?")


def load_dyna1(path_or_hub_id: str | os.PathLike[str], device: str | torch.device = "auto") -> Classifier:
    """Load a classifier in evaluation mode. Check the terms of its weights.

    Parameters
    ----------
    path_or_hub_id
        A folder with model.safetensors and config.json; a weight file (.safetensors, .pt); a Hub id such as
        `gelnesr/Dyna-1`, or a file of a Hub repository such as `gelnesr/Dyna-1/dyna1-esm2.pt`. Sizes are read from the
        tensors; the number of heads, which no tensor shows, from config.json beside them, else it is that of the
        preset of this width. Entries of the language model (`model.`) are passed over.
    device
        "auto" takes a GPU if there is one.

    Raises
    ------
    InputError
        There is no such file or repository, names are missing or unknown, or shapes differ.
    """
    weights = _find(path_or_hub_id)
    state = {name: v.float() for name, v in _read_state(weights).items() if not name.startswith(LANGUAGE_MODEL)}
    config_path = weights.parent / CONFIG_NAME
    values = read_json(config_path) if config_path.is_file() else None
    try:
        config = infer_config(state) if values is None else Dyna1Config.from_dict(values)
        model = Classifier(config)
        check_entries(model, state, "weights of Dyna-1")
    except InputError as error:
        where = weights if values is None else f"{weights} with its {CONFIG_NAME}"
        raise InputError(f"{where}: {error}") from None
    model.load_state_dict(state)
    return model.to(choose_device(device)).eval()


def save_dyna1(model: Classifier, folder: str | os.PathLike[str]) -> None:
    """Write model.safetensors and config.json into a folder; each appears complete or not at all."""
    write_weights(Path(folder) / WEIGHTS_NAME, model)
    write_text(Path(folder) / CONFIG_NAME, json.dumps(model.config.to_dict(), indent=2) + "\n")


def infer_config(state: Mapping[str, Tensor]) -> Dyna1Config:
    """Sizes from the tensors; the number of heads from the preset of the same width.

    Raises
    ------
    InputError
        These are no weights of Dyna-1, or no preset has their width.
    """
    try:
        width = state["classifier.norm1.weight"].shape[0]
        feed_forward = state["classifier.encoder.layers.0.linear1.weight"].shape[0]
    except (KeyError, IndexError):
        raise InputError("not weights of Dyna-1 (no classifier.norm1 and encoder); name another file") from None
    layers = len({name.split(".")[3] for name in state if name.startswith("classifier.encoder.layers.")})
    pair_channels = state["sel_v"].shape[0] if "sel_v" in state else None
    for preset in PRESETS.values():
        if (preset.width, preset.pair_channels) == (width, pair_channels):
            return Dyna1Config(
                width=width,
                layers=layers,
                heads=preset.heads,
                feed_forward=feed_forward,
                dropout=preset.dropout,
                pair_channels=pair_channels,
            )
    raise InputError(
        f"no preset has width {width}, so that the number of heads is unknown; put a {CONFIG_NAME} with width, layers, "
        "heads and feed_forward beside the weights"
    )


def _read_state(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name; of a checkpoint of the published training those of its network."""
    if path.suffix != ".pt":
        return read_weights(path)
    try:
        # mapped into memory: the file may hold a language model of 6 GB beside the classifier
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        line = first_line(error)
        raise InputError(f"{path}: cannot be read as weights ({line}); get the file again") from None
    state = content.get(NESTED, content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError(f"{path}: does not hold a plain state dict (name -> tensor), nor one under {NESTED}")
    return state


def _find(path_or_hub_id: str | os.PathLike[str]) -> Path:
    """Weight file of a folder, a file or a Hub repository."""
    path = Path(path_or_hub_id)
    if path.is_file():
        return path
    if path.is_dir():
        found = [path / name for name in (WEIGHTS_NAME, *PUBLISHED_NAMES) if (path / name).is_file()]
        if len(found) != 1:
            names = " and ".join(file.name for file in found) or f"no {' or '.join((WEIGHTS_NAME, *PUBLISHED_NAMES))}"
            raise InputError(f"{path}: {names} in this folder; name the weight file itself")
        return found[0]
    here = path.parent != Path(".") and path.parent.is_dir()  # runs/best: a folder of this machine, no owner on the Hub
    if not here and (match := HUB_ID.fullmatch(str(path_or_hub_id))):
        return _download(match[1], match[2])
    raise InputError(f"{path_or_hub_id}: no such file or folder, and not a Hub id of the form owner/name[/file]")


def _download(hub_id: str, name: str | None) -> Path:
    """A file of a Hub repository; without a name our own form, else the published one."""
    if name is not None:
        return hub_file(hub_id, (name,))
    found = hub_file(hub_id, (CONFIG_NAME, PUBLISHED_NAMES[0]))
    return hub_file(hub_id, (WEIGHTS_NAME,)) if found.name == CONFIG_NAME else found
