"""Checkpoints of a training: complete folders or none. Their files are listed in `network.checkpoints`.

A folder is written under a temporary name, flushed to disk and renamed. Its files are compared with the manifest before
a training resumes from it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from data_prepare.errors import require, writing
from model.network.checkpoints import (
    CHECKPOINTS,
    MANIFEST_NAME,
    PREFIX,
    TRAINING_NAME,
    checkpoints,
    manifest,
    newest_checkpoint,
    update_of,
    verify,
)
from model.network.weights import load_torch, write_model


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
        (temporary / MANIFEST_NAME).write_text(json.dumps(manifest(temporary), indent=2) + "\n", encoding="utf-8")
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


def remove_old(folder: Path, keep_last: int, keep_every: int | None) -> None:
    """Remove all checkpoints but the newest `keep_last`, and the training states of those at multiples of `keep_every`.

    The states of 200 checkpoints of the 35M model would need 56 GB, their weights 28 GB.
    """
    for checkpoint in checkpoints(folder)[:-keep_last]:
        if keep_every is None or update_of(checkpoint) % keep_every:
            shutil.rmtree(checkpoint, ignore_errors=True)  # NFS keeps files that another process has open
        else:
            (checkpoint / TRAINING_NAME).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file or folder is on disk; Windows opens no folders."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
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
