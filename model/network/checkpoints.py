"""Checkpoints of a training run: found and compared with their manifests. `training.checkpoint` writes them.

RUN/checkpoints/update_1000/
    model.safetensors, config.json   the network, as `load_model` reads it
    training.pt                      optimizer, gradient scaler, progress, random states
    manifest.json                    size and SHA-256 of the files
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from data_prepare.errors import InputError, require
from model.network.weights import CONFIG_NAME, WEIGHTS_NAME

LOGGER: Final = logging.getLogger("seqdance")
TRAINING_NAME: Final = "training.pt"
MANIFEST_NAME: Final = "manifest.json"
CHECKPOINTS: Final = "checkpoints"  # folder inside that of a run
PREFIX: Final = "update_"
NETWORK_FILES: Final = (WEIGHTS_NAME, CONFIG_NAME)
FILES: Final = (*NETWORK_FILES, TRAINING_NAME)


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest update first."""
    return sorted((path for path in folder.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdecimal()), key=update_of)


def newest_checkpoint(folder: Path, files: Sequence[str] = FILES) -> Path | None:
    """The newest checkpoint whose `files` are intact, or None; logs a warning for each damaged one it skips."""
    for checkpoint in reversed(checkpoints(folder)):
        try:
            verify(checkpoint, files)
            return checkpoint
        except InputError as error:
            LOGGER.warning("warning: %s; trying the previous checkpoint", error)
    return None


def verify(checkpoint: Path, files: Sequence[str] = FILES) -> None:
    """Compare a checkpoint with its manifest; InputError if one of the files is missing or damaged."""
    try:
        written = json.loads((checkpoint / MANIFEST_NAME).read_text(encoding="utf-8"))
        damaged = [name for name, content in manifest(checkpoint, files).items() if content != written[name]]
    except FileNotFoundError as error:
        name = Path(error.filename).name
        reason = ", only the newest checkpoints keep it" if name == TRAINING_NAME else ""
        raise InputError(f"{checkpoint}: {name} is missing{reason}") from None
    except (ValueError, KeyError, TypeError):
        damaged = [MANIFEST_NAME]
    require(not damaged, f"{checkpoint}: {', '.join(damaged)} is damaged")


def manifest(checkpoint: Path, files: Sequence[str] = FILES) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files of a checkpoint."""
    content = {}
    for name in files:
        with (checkpoint / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        content[name] = {"bytes": (checkpoint / name).stat().st_size, "sha256": digest}
    return content


def update_of(checkpoint: Path) -> int:
    """Number of updates before a checkpoint."""
    return int(checkpoint.name.removeprefix(PREFIX))
