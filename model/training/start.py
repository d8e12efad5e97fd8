"""What a training of SeqDance or ESMDance starts with: the sizes that initial weights bring, usual batches."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from model.config import SIZE_NAMES, TrainConfig
from model.network.dance import encoder_sizes, model_sizes, read_config
from model.network.weights import CONFIG_NAME

PROTEINS_PER_UPDATE: Final = 128  # of each group, in the published trainings


def with_sizes_of_weights(config: TrainConfig, checkpoint: Path | None) -> TrainConfig:
    """Sizes of --init or --encoder instead of those that the user has not chosen; on resume, of the checkpoint."""
    start = config.encoder if config.init is None else config.init
    if start is None:
        return config
    if checkpoint is None:
        return config.with_sizes(encoder_sizes(start) if config.init is None else model_sizes(start), start)
    saved = read_config(checkpoint / CONFIG_NAME)
    return config.with_sizes({n: getattr(saved, n) for n in SIZE_NAMES if not config.has_chosen(n)}, checkpoint)


def unusual_batches(config: TrainConfig, processes: int) -> str | None:
    """One line if an update of a published preset has another number of proteins than published; None otherwise."""
    stages = {"short": config.short, "long": config.long}
    found = {name: processes * stage.micro_batch * stage.accumulation for name, stage in stages.items()}
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
