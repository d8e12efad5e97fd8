"""The course of a training: learning rate, crop length and batch size, and the order of samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from data_prepare.properties import GROUPS

if TYPE_CHECKING:
    from model.config import Stage, TrainConfig


def learning_rate(update: int, peak: float, warmup: int, updates: int) -> float:
    """Learning rate of an update (counted from 1): linear warm-up from ``peak / warmup`` at the first update to `peak`
    at update `warmup`, linear decay to a tenth of it at 90 % of `updates`, then constant.
    """
    if update < warmup:
        return peak * update / warmup
    done = (update - warmup) / max(0.9 * updates - warmup, 1.0)
    return peak * (1.0 - 0.9 * min(done, 1.0))


def stage_of(update: int, config: TrainConfig) -> Stage:
    """Crop length and batch size of an update (counted from 1)."""
    return config.short if update <= config.short_updates else config.long


class Draw(NamedTuple):
    """One sample: the `counter`-th of its group since the start of the training, cropped to `length` tokens."""

    group: str
    counter: int
    length: int


def draws(
    config: TrainConfig,
    update: int,
    seen: int,
    last: int,
    rank: int = 0,
    processes: int = 1,
    groups: Sequence[str] = GROUPS,
) -> Iterator[list[Draw]]:
    """Micro-batches of a process for updates `update` + 1 to `last`: for each accumulation step, for each of `groups`.

    The samples of a group form one stream, the same for any number of processes, of which `seen` are used. A micro-step
    uses the next ``processes * micro_batch`` samples, process r the r-th part of them.
    """
    for number in range(update + 1, last + 1):
        stage = stage_of(number, config)
        for _ in range(stage.accumulation):
            first = seen + rank * stage.micro_batch
            for group in groups:
                yield [Draw(group, first + k, stage.length) for k in range(stage.micro_batch)]
            seen += processes * stage.micro_batch
