"""Pairs of tokens of an update, padding included, for each pair of its proteins' own: in random order and by length.

    python benchmarks/padding.py > padding.md

Counted, not timed, for made-up proteins of 100 to 1,000 residues, the share of one of four cards, and passes of all
groups together. Pair head, attention maps and loss take time and memory in proportion. The Triton kernels leave out
rows of padding, and blocks of columns that are all padding: the last column. Prints Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from data_prepare.properties import GROUPS
from model.config import TRAIN_PRESETS, Stage, TrainConfig
from model.training.schedule import Draw, draws

UPDATES = 50
BLOCK = 128  # columns that a program of the kernels computes at least
PROCESSES = 4
RESIDUES = np.random.default_rng(0).integers(100, 1001, (len(GROUPS), 10_000))


def tokens(draw: Draw) -> int:
    """Length of a sample."""
    row = RESIDUES[GROUPS.index(draw.group)]
    return min(draw.length, 2 + int(row[draw.counter % len(row)]))


def passes(config: TrainConfig, order: Callable[[Draw], int]) -> Iterator[list[int]]:
    """Lengths of the proteins of each pass of all groups."""
    stream = draws(config, 0, 0, UPDATES, processes=PROCESSES, tokens=order)
    while groups := list(islice(stream, len(GROUPS))):
        yield [tokens(draw) for group in groups for draw in group]


def ratios(config: TrainConfig, order: Callable[[Draw], int]) -> tuple[float, float]:
    """Pairs with padding for each pair without, and those that the kernels compute."""
    lengths = list(passes(config, order))
    padded = sum(len(own) * max(own) ** 2 for own in lengths)
    computed = sum(length * min(max(own), -(-length // BLOCK) * BLOCK) for own in lengths for length in own)
    pairs = sum(length**2 for own in lengths for length in own)
    return padded / pairs, computed / pairs


def main() -> None:
    """Count and print."""
    print("| tokens | proteins of each group in a pass x passes | random order | by length | ratio | kernels |")
    print("|---|---|---|---|---|---|")
    for length in (256, 1024):
        for size in (32, 16, 8, 4, 2, 1):
            stage = Stage(length, size, 32 // size)
            config = replace(TRAIN_PRESETS["seqdance"], short=stage)
            (before, _), (after, computed) = ratios(config, lambda draw: draw.length), ratios(config, tokens)
            row = (size, 32 // size, before, after, before / after, computed)
            print("| {} | {} x {} | {:.2f} | {:.2f} | {:.2f} x | {:.2f} |".format(length, *row))


if __name__ == "__main__":
    main()
