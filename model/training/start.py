"""What a training of SeqDance or ESMDance starts with: the sizes that initial weights bring, the division of an update.

An update has the same proteins and, to rounding, the same gradients however processes and passes divide it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from data_prepare.properties import NUM_PAIR_OUTPUTS
from model.config import SIZE_NAMES, ModelConfig, Stage, TrainConfig, encoder_parameters
from model.network.dance import encoder_sizes, model_sizes, read_config
from model.network.pair_head import GPU_KEPT, GPU_TILE, KERNEL_TILE
from model.network.weights import CONFIG_NAME

PROTEINS_PER_UPDATE: Final = 128  # of each group, in the published trainings
STAGES: Final = ("short", "long")


def with_sizes_of_weights(config: TrainConfig, checkpoint: Path | None) -> TrainConfig:
    """Sizes of --init or --encoder instead of those that the user has not chosen; on resume, of the checkpoint."""
    start = config.encoder if config.init is None else config.init
    if start is None:
        return config
    if checkpoint is None:
        return config.with_sizes(encoder_sizes(start) if config.init is None else model_sizes(start), start)
    saved = read_config(checkpoint / CONFIG_NAME)
    return config.with_sizes({n: getattr(saved, n) for n in SIZE_NAMES if not config.has_chosen(n)}, checkpoint)


def divided(config: TrainConfig, processes: int, most: Callable[[Stage], int]) -> TrainConfig:
    """The same with the micro-batches of each process and their number per update.

    Where the user has not chosen the accumulation, an update has `PROTEINS_PER_UPDATE` proteins of each group, if that
    is possible (the demo: those of its preset on each process). Where the micro-batch is not chosen either, it is the
    largest divisor of a process's share that is at most `most`.
    """
    short, long = (_divided(config, name, processes, most) for name in STAGES)
    return replace(config, short=short, long=long)


def _divided(config: TrainConfig, name: str, processes: int, most: Callable[[Stage], int]) -> Stage:
    stage: Stage = getattr(config, name)
    if config.has_chosen(f"{name}.accumulation"):
        return stage
    share = stage.micro_batch * stage.accumulation
    if config.has_chosen(f"{name}.micro_batch"):
        whole = config.preset != "demo" and PROTEINS_PER_UPDATE % (processes * stage.micro_batch) == 0
        share = PROTEINS_PER_UPDATE // processes if whole else share
        return replace(stage, accumulation=share // stage.micro_batch)
    if config.preset != "demo" and PROTEINS_PER_UPDATE % processes == 0:
        share = PROTEINS_PER_UPDATE // processes
    micro_batch = max(size for size in range(1, max(1, most(stage)) + 1) if share % size == 0)
    return replace(stage, micro_batch=micro_batch, accumulation=share // micro_batch)


def proteins_per_update(stage: Stage, processes: int) -> int:
    """Proteins of each group in an update."""
    return processes * stage.micro_batch * stage.accumulation


def unusual_batches(config: TrainConfig, processes: int) -> str | None:
    """One line if an update of a published preset has another number of proteins than published; None otherwise."""
    stages = {name: getattr(config, name) for name in STAGES}
    found = {name: proteins_per_update(stage, processes) for name, stage in stages.items()}
    other = {name: number for name, number in found.items() if number != PROTEINS_PER_UPDATE}
    if config.preset == "demo" or not other:
        return None
    fitting = {name: PROTEINS_PER_UPDATE / (processes * stages[name].micro_batch) for name in other}
    remedy = " ".join(f"--{name}.accumulation {number:.0f}" for name, number in fitting.items())
    if not all(number.is_integer() for number in fitting.values()):
        remedy = "another number of processes, --short.micro-batch or --long.micro-batch"
    numbers = " and ".join(f"{number} ({name})" for name, number in other.items())
    return (
        f"an update has {numbers} proteins of each group on {processes} process(es), not the {PROTEINS_PER_UPDATE} "
        f"of the published training; give {remedy} for the same"
    )


def gpu_micro_batch(
    config: ModelConfig, length: int, groups: int, precision: str, memory: int, kernels: bool = False
) -> int:
    """Proteins of each group in a pass of `groups` groups, all of `length` tokens, for a GPU with `memory` bytes free.

    They fit into half of the memory to all of it, a power of two, so that another start on that card finds the same;
    and without the Triton kernels, which always do, the pair head keeps its middle layer for them: beyond that it
    would be computed twice.
    """
    share = 2 ** (max(1, memory).bit_length() - 1) - 16 * parameters(config)  # weights, gradients, AdamW's two moments
    share -= 2 * (KERNEL_TILE if kernels else GPU_TILE) * bytes_of(precision)  # tiles of the pair head
    proteins = share // training_bytes(config, length, precision)
    if not kernels:
        proteins = min(proteins, GPU_KEPT // (config.maps * length**2))
    return max(1, proteins // groups)


def training_bytes(config: ModelConfig, length: int, precision: str) -> int:
    """Memory that a protein of `length` tokens has when the backward pass begins, in bytes; an estimate.

    For each layer and token the forward pass keeps the residual stream twice, two dropout masks and eight more arrays
    of the size of the embedding, and the feed-forward layer before and after GELU; for each pair of tokens and map
    three numbers and a mask (probabilities before and after dropout, the middle layer of the pair head; the kernels
    keep scores and no mask); and some copies of the outputs in float32. A frozen encoder keeps nothing but its maps.
    """
    size, layers = bytes_of(precision), 0 if config.freeze_encoder else config.layers
    per_token = layers * (config.hidden * (8 * size + 10) + 2 * size * config.feed_forward)
    per_map = 2 * size if config.freeze_encoder else 3 * size + 1
    return length * per_token + length**2 * (config.maps * per_map + 5 * 4 * NUM_PAIR_OUTPUTS)


def bytes_of(precision: str) -> int:
    """Of a number in the forward pass."""
    return 4 if precision == "fp32" else 2


def parameters(config: ModelConfig) -> int:
    """Parameters of the large matrices."""
    encoder = encoder_parameters(config.hidden, config.layers, config.feed_forward)
    return encoder + config.hidden * (4 * config.hidden + 2 * config.maps)
