"""Checkpoints: complete folders or none.

    RUN/checkpoints/update_1000/
        model.safetensors, config.json   the network, as `load_model` reads it
        training.pt                      optimizer, gradient scaler, progress, random states
        manifest.json                    size and SHA-256 of the files

A folder is written under a temporary name, flushed to the disk and renamed. Before a training goes on from a
checkpoint its files are compared with the manifest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from data_prepare.errors import InputError
from model.network.dance import DanceModel, read_config
from model.network.weights import CONFIG_NAME, WEIGHTS_NAME, read_weights

LOGGER: Final = logging.getLogger("seqdance")
TRAINING_NAME: Final = "training.pt"
MANIFEST_NAME: Final = "manifest.json"
PREFIX: Final = "update_"


class Saved(Protocol):
    """A network that writes its own files."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json into a folder."""


def save_checkpoint(folder: Path, update: int, model: Saved, training: Mapping[str, Any]) -> Path:
    """Write `folder`/update_N. A folder of that name is replaced.

    Parameters
    ----------
    folder
        Where the checkpoints of a run are.
    update
        N.
    model
        The network.
    training
        Tensors, numbers, strings, lists and dictionaries.

    Returns
    -------
    The checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for rest in folder.glob(f".{PREFIX}*.tmp"):  # of a run that was killed while it wrote
        shutil.rmtree(rest)
    target = folder / f"{PREFIX}{update}"
    temporary, old = folder / f".{target.name}.tmp", folder / f".{target.name}.old.tmp"
    model.save_pretrained(temporary)
    torch.save(dict(training), temporary / TRAINING_NAME)
    files = [temporary / name for name in (WEIGHTS_NAME, CONFIG_NAME, TRAINING_NAME)]
    manifest = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files}
    (temporary / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")
    for path in (*files, temporary / MANIFEST_NAME, temporary):
        _flush(path)
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    _flush(folder)
    shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(checkpoint: Path, model: DanceModel) -> dict[str, Any]:
    """Put the weights of a checkpoint into a model of the same configuration; return its training state.

    Raises
    ------
    InputError
        A file is missing or cannot be read, or the weights are those of another configuration.
    """
    # dropout and tiles may change from one run to the next, the sizes may not
    saved = read_config(checkpoint / CONFIG_NAME)
    if (saved.heads, saved.freeze_encoder) != (model.config.heads, model.config.freeze_encoder):
        raise InputError(
            f"{checkpoint}: the model there has other heads or freezes other weights; use its configuration"
        )
    try:
        model.load_state_dict(read_weights(checkpoint / WEIGHTS_NAME))
    except InputError as error:
        raise InputError(f"{checkpoint}: {error}") from None
    return read_training(checkpoint)


def read_training(checkpoint: Path) -> dict[str, Any]:
    """Training state of a checkpoint, on the CPU; only plain data and tensors are unpickled."""
    path = checkpoint / TRAINING_NAME
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; a training goes on from a folder {PREFIX}N of an earlier run"
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a training state ({type(error).__name__}); take an earlier checkpoint") from None


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest update first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(found, key=_update)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint, None if there is none; a line names each damaged one that is passed over."""
    for checkpoint in reversed(checkpoints(folder)):
        try:
            verify(checkpoint)
        except InputError as error:
            LOGGER.warning("warning: %s; trying the checkpoint before it", error)
        else:
            return checkpoint
    return None


def verify(checkpoint: Path) -> None:
    """Compare a checkpoint with its manifest.

    Raises
    ------
    InputError
        A file is missing or has other bytes than were written.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
        for name in (WEIGHTS_NAME, CONFIG_NAME, TRAINING_NAME):
            size = (checkpoint / name).stat().st_size
            if size != manifest[name]["bytes"] or _sha256(checkpoint / name) != manifest[name]["sha256"]:
                raise InputError(f"{checkpoint}: {name} is damaged")
    except FileNotFoundError as error:
        raise InputError(f"{checkpoint}: {Path(error.filename).name} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(f"{checkpoint}: {MANIFEST_NAME} is damaged") from None


def remove_old(folder: Path, keep_last: int, keep_every: int) -> None:
    """Remove checkpoints, except the newest `keep_last` and those whose update is a multiple of `keep_every`."""
    for checkpoint in checkpoints(folder)[:-keep_last]:
        if _update(checkpoint) % keep_every:
            shutil.rmtree(checkpoint)


def _update(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def choose_checkpoint(output: Path, resume: str) -> Path | None:
    """The checkpoint of the run in the folder `output` that `--resume` asks for; None: start anew.

    Raises
    ------
    InputError
        The checkpoint is damaged, or the run holds others that the training would not go on from.
    """
    folder = output / "checkpoints"
    held = checkpoints(folder)
    if resume == "auto":
        found = newest_checkpoint(folder)
        if held and found is None:
            raise InputError(
                f"{folder}: no whole checkpoint; give another --output, or --resume with a whole one of another run"
            )
        return found
    if resume == "none":
        if held:
            raise InputError(f"{output} holds checkpoints; give another --output, or --resume auto to go on")
        return None
    checkpoint = Path(resume)
    verify(checkpoint)
    if held and held[-1].resolve() != checkpoint.resolve():
        raise InputError(
            f"{output} holds {held[-1].name}, going on from {checkpoint} would leave it; give another --output"
        )
    return checkpoint
