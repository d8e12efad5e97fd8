"""Classifier weights in and out: published files, and our folders of model.safetensors and config.json.

Weights have terms of use of their own, and those of the published Dyna-1 have changed between releases: check the terms
of the weights that you load.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from data_prepare.errors import InputError, named, require
from model.dyna1.classifier import PRESETS, Classifier, Dyna1Config
from model.network.device import choose_device
from model.network.weights import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    check_entries,
    find_weights,
    read_json,
    read_weights,
    write_model,
)

PUBLISHED_NAMES: Final = ("dyna1.pt", "dyna1-esm2.pt")
LANGUAGE_MODEL: Final = "model."  # prefix of entries that the classifier does not use


def load_dyna1(path_or_hub_id: str | os.PathLike[str], device: str | torch.device = "auto") -> Classifier:
    """Load a classifier in evaluation mode. Check the terms of its weights.

    Parameters
    ----------
    path_or_hub_id
        A folder with model.safetensors and config.json; a weight file (.safetensors, .pt); a Hub id such as
        `gelnesr/Dyna-1`, or a file of a Hub repository such as `gelnesr/Dyna-1/dyna1-esm2.pt`. Sizes are read from the
        tensors; the number of heads, which no tensor shows, from config.json beside them, else it is that of the
        preset of this width. Entries of the language model (`model.`) are ignored.
    device
        "auto" uses a GPU if there is one.

    Raises
    ------
    InputError
        There is no such file or repository, names are missing or unknown, or shapes differ.
    """
    both = all((Path(path_or_hub_id) / name).is_file() for name in PUBLISHED_NAMES)
    require(
        not both, f"{path_or_hub_id}: {' and '.join(PUBLISHED_NAMES)} in this folder; give the path of the weight file"
    )
    weights, config = find_weights(path_or_hub_id, (WEIGHTS_NAME, *PUBLISHED_NAMES))
    state = {name: v.float() for name, v in read_weights(weights).items() if not name.startswith(LANGUAGE_MODEL)}
    with named(f"{weights} with its {CONFIG_NAME}" if config else weights):
        model = Classifier(Dyna1Config(**read_json(config)) if config else infer_config(state))
        check_entries(model, state, "weights of Dyna-1")
    model.load_state_dict(state)
    return model.to(choose_device(device)).eval()


def save_dyna1(model: Classifier, folder: str | os.PathLike[str]) -> None:
    """Write model.safetensors and config.json into a folder; each appears complete or not at all."""
    write_model(folder, model, model.config.to_dict())


def infer_config(state: Mapping[str, Tensor]) -> Dyna1Config:
    """Sizes from the tensors; heads and dropout from the preset of the same width.

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
            return replace(preset, layers=layers, feed_forward=feed_forward)
    raise InputError(
        f"no preset has width {width}, so that the number of heads is unknown; put a {CONFIG_NAME} with width, layers, "
        "heads and feed_forward beside the weights"
    )
