"""What changes in the course of training: learning rate, length and batch, and which samples are next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from data_prepare.properties import GROUPS

if TYPE_CHECKING:
    from model.config import Stage, TrainConfig

DECAY_END = 0.9  # fraction of the updates after which the learning rate stays constant
FINAL_FRACTION = 0.1  # of the peak


def learning_rate(update: int, peak: float, warmup: int, updates: int) -> float:
    """Learning rate of an update, counted from 1.

    Linear warm-up to `peak` at update `warmup` (0 starts at the peak), linear decay to a tenth of it at 90 % of the
    `updates`, then constant. The first update already uses ``peak / warmup``.
    """
    if update < warmup:
        return peak * update / warmup
    done = (update - warmup) / max(DECAY_END * updates - warmup, 1.0)
    return peak * (1.0 - (1.0 - FINAL_FRACTION) * min(done, 1.0))


def stage_of(update: int, config: TrainConfig) -> Stage:
    """Length and batch of an update (counted from 1): `config.short` first, then `config.long`."""
    return config.short if update <= config.short_updates else config.long


class Draw(NamedTuple):
    """One sample: the `counter`-th of its group since the training began, cut to `length` tokens."""

    group: str
    counter: int
    length: int


def draws(
    config: TrainConfig, update: int, seen: int, last: int, rank: int = 0, processes: int = 1
) -> Iterator[list[Draw]]:
    """Micro-batches of a process after `update`, until update `last`: for each accumulation, for each group.

    The samples of a group are one stream, the same for any number of processes; `seen` of them are used. A micro-step
    takes the next ``processes * micro_batch`` of them, and process r the r-th slice.
    """
    for number in range(update + 1, last + 1):
        stage = stage_of(number, config)
        for _ in range(stage.accumulation):
            first = seen + rank * stage.micro_batch
            for group in GROUPS:
                yield [Draw(group, first + k, stage.length) for k in range(stage.micro_batch)]
            seen += processes * stage.micro_batch
