"""Checkpoints: complete folders or none.

    RUN/checkpoints/update_1000/
        model.safetensors, config.json   the network, as `load_model` reads it
        training.pt                      optimizer, gradient scaler, progress, random states
        manifest.json                    size and SHA-256 of the files

A folder is written under a temporary name, flushed to the disk and renamed. Before a training resumes, the files of its
checkpoint are compared with the manifest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from data_prepare.errors import InputError, reading, require
from model.network.weights import CONFIG_NAME, WEIGHTS_NAME, write_model

LOGGER: Final = logging.getLogger("seqdance")
TRAINING_NAME: Final = "training.pt"
MANIFEST_NAME: Final = "manifest.json"
CHECKPOINTS: Final = "checkpoints"  # folder of a run
PREFIX: Final = "update_"
FILES: Final = (WEIGHTS_NAME, CONFIG_NAME, TRAINING_NAME)


def save_checkpoint(folder: Path, update: int, model: Any, training: Mapping[str, Any]) -> Path:
    """Write the checkpoint `folder`/update_N, replacing one of that name, and return its path.

    `model` has its configuration in `config`; `training` holds tensors, numbers, strings, lists and dictionaries.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for rest in folder.glob(f".{PREFIX}*.tmp"):  # of a run that was killed while it wrote
        shutil.rmtree(rest)
    target = folder / f"{PREFIX}{update}"
    temporary, old = folder / f".{target.name}.tmp", folder / f".{target.name}.old.tmp"
    write_model(temporary, model, model.config.to_dict())
    torch.save(dict(training), temporary / TRAINING_NAME)
    manifest = {name: {"bytes": size, "sha256": digest} for name, size, digest in _contents(temporary)}
    (temporary / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")
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
    with reading(path, f"the training state of a folder {PREFIX}N", "resume from an earlier checkpoint"):
        return torch.load(path, map_location="cpu", weights_only=True)


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest update first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(found, key=_update)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest intact checkpoint, None if there is none; a warning names each damaged one that is skipped."""
    for checkpoint in reversed(checkpoints(folder)):
        try:
            verify(checkpoint)
        except InputError as error:
            LOGGER.warning("warning: %s; trying the checkpoint before it", error)
        else:
            return checkpoint
    return None


def verify(checkpoint: Path) -> None:
    """Compare a checkpoint with its manifest; InputError if a file is missing or damaged."""
    try:
        manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
        written = {name: (manifest[name]["bytes"], manifest[name]["sha256"]) for name in FILES}
        damaged = [name for name, *found in _contents(checkpoint) if tuple(found) != written[name]]
    except FileNotFoundError as error:
        raise InputError(f"{checkpoint}: {Path(error.filename).name} is missing") from None
    except (ValueError, KeyError, TypeError):
        damaged = [MANIFEST_NAME]
    require(not damaged, f"{checkpoint}: {', '.join(damaged)} is damaged")


def remove_old(folder: Path, keep_last: int, keep_every: int | None) -> None:
    """Remove checkpoints, except the newest `keep_last` and those whose update is a multiple of `keep_every`."""
    for checkpoint in checkpoints(folder)[:-keep_last]:
        if keep_every is None or _update(checkpoint) % keep_every:
            shutil.rmtree(checkpoint)


def _update(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _contents(checkpoint: Path) -> Iterator[tuple[str, int, str]]:
    """Name, size and SHA-256 of the files of a checkpoint."""
    for name in FILES:
        with (checkpoint / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield name, (checkpoint / name).stat().st_size, digest


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def choose_checkpoint(output: Path, resume: str) -> Path | None:
    """The checkpoint of the run in the folder `output` that `--resume` asks for; None: start anew.

    InputError if it is damaged, or if the run has checkpoints that the training would not continue.
    """
    folder = output / CHECKPOINTS
    held = checkpoints(folder)
    if resume == "auto":
        found = newest_checkpoint(folder)
        remedy = "give another --output, or --resume with an intact one of another run"
        require(found or not held, f"{folder}: no intact checkpoint; {remedy}")
        return found
    if resume == "none":
        require(not held, f"{output} holds checkpoints; give another --output, or --resume auto to continue")
        return None
    checkpoint = Path(resume)
    verify(checkpoint)
    require(
        not held or held[-1].resolve() == checkpoint.resolve(),
        f"{output} holds other checkpoints than {checkpoint}; give another --output to resume from it",
    )
    return checkpoint
