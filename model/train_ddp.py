"""Train SeqDance or ESMDance on one or several processes; see `model.training.dance_trainer`.

torchrun --nproc_per_node=4 model/train_ddp.py --preset esmdance --table T.csv --store F.h5 --loss-weights W.csv
python model/train_ddp.py --preset demo ...      one process, with or without a GPU
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from model.config import TrainConfig
from model.training.command_line import parse_train_config, run_distributed

if TYPE_CHECKING:
    from model.training.processes import Process


def train(config: TrainConfig, process: Process) -> None:
    """Train SeqDance or ESMDance."""
    from model.training.dance_trainer import train  # PyTorch, after the options are read

    train(config, process)


main = partial(run_distributed, parse_train_config, train)

if __name__ == "__main__":
    main()
