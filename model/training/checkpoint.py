"""Checkpoints: complete folders or none.

    RUN/checkpoints/update_1000/
        model.safetensors, config.json   the network, as `load_model` reads it
        training.pt                      optimizer, gradient scaler, progress, random states
        manifest.json                    size and SHA-256 of the files

A folder is written under a temporary name, flushed to disk and renamed. Its files are compared with the manifest before
a training resumes from it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from data_prepare.errors import InputError, require, writing
from model.network.weights import CONFIG_NAME, WEIGHTS_NAME, load_torch, write_model

LOGGER: Final = logging.getLogger("seqdance")
TRAINING_NAME: Final = "training.pt"
MANIFEST_NAME: Final = "manifest.json"
CHECKPOINTS: Final = "checkpoints"  # folder inside that of a run
PREFIX: Final = "update_"
FILES: Final = (WEIGHTS_NAME, CONFIG_NAME, TRAINING_NAME)


def save_checkpoint(folder: Path, update: int, model: Any, training: Mapping[str, Any]) -> Path:
    """Write the checkpoint `folder`/update_N, replacing an existing one, and return its path.

    `model` has its configuration in `config`; `training` holds tensors, numbers, strings, lists and dictionaries.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f".{PREFIX}*.tmp"):  # of a run killed while writing
        shutil.rmtree(leftover)
    target = folder / f"{PREFIX}{update}"
    temporary, old = folder / f".{target.name}.tmp", folder / f".{target.name}.old.tmp"
    with writing(target):
        write_model(temporary, model)
        with open(temporary / TRAINING_NAME, "wb") as file:  # with a path, PyTorch does not name a full disk
            torch.save(dict(training), file)
        (temporary / MANIFEST_NAME).write_text(json.dumps(_manifest(temporary), indent=2) + "\n")
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        _flush(folder)
    shutil.rmtree(old, ignore_errors=True)
    return target


def read_training(checkpoint: Path) -> dict[str, Any]:
    """Training state of a checkpoint, on the CPU; only plain data and tensors are unpickled."""
    path = checkpoint / TRAINING_NAME
    return load_torch(path, f"the training state of a folder {PREFIX}N", "resume from an earlier checkpoint")


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest update first."""
    return sorted((path for path in folder.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdecimal()), key=_update)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest intact checkpoint or None; logs a warning for each damaged one it skips."""
    for checkpoint in reversed(checkpoints(folder)):
        try:
            verify(checkpoint)
            return checkpoint
        except InputError as error:
            LOGGER.warning("warning: %s; trying the previous checkpoint", error)
    return None


def verify(checkpoint: Path) -> None:
    """Compare a checkpoint with its manifest; InputError if a file is missing or damaged."""
    try:
        written = json.loads((checkpoint / MANIFEST_NAME).read_text())
        damaged = [name for name, content in _manifest(checkpoint).items() if content != written[name]]
    except FileNotFoundError as error:
        name = Path(error.filename).name
        reason = ", only the newest checkpoints keep it" if name == TRAINING_NAME else ""
        raise InputError(f"{checkpoint}: {name} is missing{reason}") from None
    except (ValueError, KeyError, TypeError):
        damaged = [MANIFEST_NAME]
    require(not damaged, f"{checkpoint}: {', '.join(damaged)} is damaged")


def remove_old(folder: Path, keep_last: int, keep_every: int | None) -> None:
    """Remove all checkpoints but the newest `keep_last`, and the training states of those at multiples of `keep_every`.

    The states of 200 checkpoints of the 35M model would need 56 GB, their weights 28 GB.
    """
    for checkpoint in checkpoints(folder)[:-keep_last]:
        if keep_every is None or _update(checkpoint) % keep_every:
            shutil.rmtree(checkpoint)
        else:
            (checkpoint / TRAINING_NAME).unlink(missing_ok=True)


def _update(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _manifest(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of the files of a checkpoint."""
    content = {}
    for name in FILES:
        with (checkpoint / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        content[name] = {"bytes": (checkpoint / name).stat().st_size, "sha256": digest}
    return content


def _flush(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def choose_checkpoint(output: Path, resume: str) -> Path | None:
    """The checkpoint that `--resume` selects for the run in `output`, or None to start from scratch.

    Raises InputError if it is damaged, or if the run has checkpoints that this training would not continue.
    """
    folder = output / CHECKPOINTS
    existing = checkpoints(folder)
    if resume == "auto":
        found = newest_checkpoint(folder)
        remedy = "give another --output, or --resume with an intact checkpoint of another run"
        require(found or not existing, f"{folder}: no intact checkpoint; {remedy}")
        return found
    if resume == "none":
        require(not existing, f"{output} contains checkpoints; give another --output, or --resume auto to continue")
        return None
    checkpoint = Path(resume)
    verify(checkpoint)
    same = not existing or existing[-1].resolve() == checkpoint.resolve()
    require(same, f"{output} contains other checkpoints than {checkpoint}; give another --output to resume from it")
    return checkpoint
