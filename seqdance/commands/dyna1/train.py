"""Command `seqdance dyna1 train`; with several processes: torchrun model/dyna1/train.py."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from model.dyna1.config import Dyna1TrainConfig, parse_dyna1_config
from model.training.command_line import run_distributed

if TYPE_CHECKING:
    from model.training.processes import Process


def train(config: Dyna1TrainConfig, process: Process) -> None:
    """Train a classifier."""
    from model.dyna1.train import train

    train(config, process)


main = partial(run_distributed, parse_dyna1_config, train)
