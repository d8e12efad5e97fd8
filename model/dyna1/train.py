"""Train the classifier of Dyna-1 on embeddings of a frozen model, on one or several processes; see `trainer`.

seqdance dyna1 train --preset onehot --table LABELS.csv --output runs/dyna1_onehot
torchrun --nproc_per_node=4 model/dyna1/train.py --preset esm3 --embedder cache:ESM3.h5 --table LABELS.csv ...
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from model.dyna1.config import Dyna1TrainConfig, parse_dyna1_config
from model.training.command_line import run_distributed

if TYPE_CHECKING:
    from model.training.processes import Process


def train(config: Dyna1TrainConfig, process: Process) -> None:
    """Train a classifier."""
    from model.dyna1.trainer import train  # PyTorch, after the options are read

    train(config, process)


main = partial(run_distributed, parse_dyna1_config, train)

if __name__ == "__main__":
    main()
