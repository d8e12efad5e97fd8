"""What changes in the course of training: learning rate, length and batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from data_prepare.properties import GROUPS

if TYPE_CHECKING:
    from model.config import Stage, TrainConfig

DECAY_END = 0.9  # share of the updates after which the learning rate stays constant
FINAL_SHARE = 0.1  # of the peak


def learning_rate(update: int, peak: float, warmup: int, updates: int) -> float:
    """Learning rate of an update: linear warm-up, linear decay to a tenth of the peak at 90 % of the updates, constant.

    Parameters
    ----------
    update
        Counted from 1: the first update already uses ``peak / warmup``.
    peak
        Highest learning rate, reached at update `warmup`.
    warmup
        Updates of the warm-up; 0 starts at the peak.
    updates
        Updates of the whole training.
    """
    if update < warmup:
        return peak * update / warmup
    done = (update - warmup) / max(DECAY_END * updates - warmup, 1.0)
    return peak * (1.0 - (1.0 - FINAL_SHARE) * min(done, 1.0))


def stage_of(update: int, config: TrainConfig) -> Stage:
    """Length and batch of an update (counted from 1): `config.short` first, then `config.long`."""
    return config.short if update <= config.short_updates else config.long


class Draw(NamedTuple):
    """One sample: the `counter`-th of its group since the training began, cut to `length` tokens."""

    group: str
    counter: int
    length: int


class Draws:
    """The micro-batches of one process, in the order in which they are used.

    The samples of a group are one stream, the same whatever the number of processes. A micro-step takes the next
    ``processes * micro_batch`` of them and process r the r-th slice. Iteration gives, for each update, for each
    accumulation, for each group, a list of `Draw`.

    Parameters
    ----------
    config
        Stages and number of updates.
    update, seen
        Updates done, and samples of each group already used.
    last
        Update to stop after.
    rank, processes
        This process and their number.
    """

    def __init__(
        self, config: TrainConfig, update: int, seen: int, last: int, rank: int = 0, processes: int = 1
    ) -> None:
        self.config, self.update, self.seen, self.last = config, update, seen, last
        self.rank, self.processes = rank, processes

    def __iter__(self) -> Iterator[list[Draw]]:
        seen = self.seen
        for update in range(self.update + 1, self.last + 1):
            stage = stage_of(update, self.config)
            for _ in range(stage.accumulation):
                first = seen + self.rank * stage.micro_batch
                for group in GROUPS:
                    yield [Draw(group, first + k, stage.length) for k in range(stage.micro_batch)]
                seen += self.processes * stage.micro_batch
