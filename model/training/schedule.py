"""The course of a training: learning rate, crop length and batch size, and the order of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
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
    tokens: Callable[[Draw], int] = attrgetter("length"),
) -> Iterator[list[Draw]]:
    """Micro-batches of a process for updates `update` + 1 to `last`: for each accumulation step, for each of `groups`.

    The samples of a group form one stream, the same for any number of processes, of which `seen` are used. An update
    uses the next ``processes * micro_batch * accumulation`` samples. Its steps take them by falling number of `tokens`
    and the processes in turn: less padding, the same time on all, and the largest memory first.
    """
    for number in range(update + 1, last + 1):
        stage = stage_of(number, config)
        size = processes * stage.micro_batch  # of a step
        end = seen + size * stage.accumulation
        samples = {
            group: sorted((Draw(group, k, stage.length) for k in range(seen, end)), key=tokens, reverse=True)
            for group in groups
        }
        for first in range(0, end - seen, size):
            for group in groups:
                yield samples[group][first + rank : first + size : processes]
        seen = end
