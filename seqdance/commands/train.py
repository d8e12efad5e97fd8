"""Command `seqdance train`; with several processes: torchrun model/train_ddp.py."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from model.config import TrainConfig
from model.training.command_line import parse_train_config, run_distributed

if TYPE_CHECKING:
    from model.training.processes import Process


def train(config: TrainConfig, process: Process) -> None:
    """Train SeqDance or ESMDance."""
    from model.train_ddp import train

    train(config, process)


main = partial(run_distributed, parse_train_config, train)
