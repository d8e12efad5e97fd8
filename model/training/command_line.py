"""Command lines of trainings and evaluations; they are read before PyTorch is imported."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data_prepare.command_line import parse as parse_options
from data_prepare.errors import require, run_command
from model.config import TRAIN_PRESETS, ModelConfig, TrainConfig, TrainingOptions, read_train_config

if TYPE_CHECKING:
    from model.training.processes import Process

C = TypeVar("C", bound=TrainingOptions)
Options = TypeVar("Options", bound=Any)


def parse_training(
    presets: Mapping[str, C], args: Sequence[str] | None = None, read: Callable[[Path], C] | None = None
) -> C:
    """Options from a command line that changes a preset (default: the first), or a --config file read by `read`."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset")
    chooser.add_argument("--config", type=Path)
    chosen, _ = chooser.parse_known_args(args)
    start = presets.get(chosen.preset, next(iter(presets.values())))  # tyro refuses an unknown preset
    if read is not None and chosen.config is not None:
        both = f"--preset {chosen.preset}: --config {chosen.config} takes its place; write the preset into the file"
        require(chosen.preset is None, both)
        start = replace(read(chosen.config), **{"config": chosen.config})
    return parse_options(type(start), args, default=start)


def parse_train_config(args: Sequence[str] | None = None) -> TrainConfig:
    """Configuration from a command line: a preset or a file, changed by the options given.

    --init replaces the --encoder of the preset or file, and the reverse.
    """
    words = sys.argv[1:] if args is None else args
    options = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
    given = [name for name in asdict(ModelConfig()) if f"model.{name}" in options]
    given += sorted(name for name in options if name.startswith(("short.", "long.")))
    changes: dict[str, Any] = {"given": tuple(given)}
    if "model.no_freeze_encoder" in options:
        changes["given"] += ("freeze_encoder",)
    if ("init" in options) != ("encoder" in options):
        changes["encoder" if "init" in options else "init"] = None
    presets = {name: replace(preset, **changes) for name, preset in TRAIN_PRESETS.items()}
    return parse_training(presets, args, lambda path: replace(read_train_config(path), **changes))


def run_distributed(
    parse: Callable[[Sequence[str] | None], Options],
    action: Callable[[Options, Process], None],
    args: Sequence[str] | None = None,
) -> None:
    """Run a command in this process or in each one started by torchrun; rank 0 prints errors in the options.

    `parse` returns options with the fields `device`, `output` and `debug`.
    """
    rank = os.environ.get("RANK", "0")
    with nullcontext() if not rank.isdecimal() or int(rank) == 0 else redirect_stderr(io.StringIO()):
        options = run_command(lambda: parse(args))

    def work() -> None:
        from model.training.processes import run_process  # imports PyTorch

        run_process(options, action)

    run_command(work, options.debug)
