"""Train SeqDance or ESMDance on one or several processes.

    torchrun --nproc_per_node=4 model/train_ddp.py --preset esmdance --table T.csv --store F.h5 --loss-weights W.csv
    python model/train_ddp.py --preset demo ...      one process, also without a GPU

Each update sees the same number of proteins from each training group. A micro-step runs the groups one after the other;
the gradient of an update is the mean over its micro-steps of the sum over groups, and the processes exchange gradients
once. Checkpoints hold everything that the next update depends on: a training that was stopped goes on as if it had not
been (`--resume auto`, the default). SIGTERM or SIGUSR1 to any process: save after the current update and leave.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_prepare.command_line import parse as parse_options
from data_prepare.dataset.loss_weights import Weights, read_loss_weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.errors import InputError, run_command
from data_prepare.properties import GROUPS
from model.config import TRAIN_PRESETS, Stage, TrainConfig, read_train_config
from model.network.dance import DanceModel, load_esm2_encoder
from model.training.checkpoint import choose_checkpoint, load_checkpoint, remove_old, save_checkpoint
from model.training.data import Batch, TrainingSet, batches, default_workers, group_sequences, require_files
from model.training.loss import dance_loss, valid_counts
from model.training.processes import Process, StopSignal, run_process
from model.training.run_log import LossRecord, RunLog
from model.training.schedule import Draws, learning_rate, stage_of

LOGGER: Final = logging.getLogger("seqdance")
DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Progress:
    """Where the training is."""

    update: int = 0  # updates done
    seen: int = 0  # samples of each group used


@dataclass(frozen=True)
class Training:
    """What an update works on."""

    config: TrainConfig
    process: Process
    model: DanceModel
    network: nn.Module  # the model, or its distributed form
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    weights: Weights
    precision: str


def train(config: TrainConfig, process: Process) -> None:
    """Train from the start or from a checkpoint to the last update, or until a signal asks to stop.

    Raises
    ------
    InputError
        Data or checkpoint cannot be used, or a loss is not finite.
    """
    data, weights = process.first(lambda: open_data(config))
    checkpoint = process.first(lambda: choose_checkpoint(config.output, config.resume))
    training = prepare(config, process, weights, new=checkpoint is None)
    losses = LossRecord(process)
    progress = resume(training, checkpoint, data, losses)
    final = min(config.stop_after or config.updates, config.updates)
    draws = Draws(config, progress.update, progress.seen, final, process.rank, process.processes)
    workers = default_workers(process.device) if config.workers is None else config.workers

    with (
        StopSignal() as signalled,
        RunLog(config, process, training.precision, progress.update, config.updates) as log,
        closing(batches(data, draws, workers, pin_memory=process.device.type == "cuda")) as stream,
    ):
        while progress.update < final:
            progress.update += 1
            stage = stage_of(progress.update, config)
            rate = learning_rate(progress.update, config.learning_rate, config.warmup_updates, config.updates)
            accumulate_gradients(training, stream, stage, losses)
            losses.add_norm(step(training, rate))
            progress.seen += process.processes * stage.micro_batch * stage.accumulation

            stop = process.any(signalled.caught) or progress.update == final
            save = stop or progress.update % config.checkpoint_every == 0
            write = progress.update % config.log_every == 0
            if write or save:
                losses.check()
            if write:
                log.write(progress.update, position(data, progress, process, stage), rate, stage, losses)
            log.advance()
            if save:
                save_training(training, progress, data, losses)
            if stop:
                break


def accumulate_gradients(training: Training, stream: Iterator[Batch], stage: Stage, losses: LossRecord) -> None:
    """Add up the gradients of one update; processes exchange them in the last backward pass."""
    training.optimizer.zero_grad(set_to_none=True)
    backwards = stage.accumulation * len(GROUPS)
    for number in range(1, backwards + 1):
        batch = next(stream)
        losses.tokens += int(batch.attention_mask.sum())
        batch = batch.to(training.process.device)
        alone = number < backwards and isinstance(training.network, DistributedDataParallel)
        with training.network.no_sync() if alone else nullcontext():  # type: ignore[operator]
            loss = forward(training, batch)
            training.scaler.scale(loss["loss"] / stage.accumulation).backward()
        losses.add(batch, loss)


def forward(training: Training, batch: Batch) -> dict[str, Tensor]:
    """Losses of one batch; their mean over processes is the loss of all processes' batches together."""
    counts = valid_counts(batch.residue, batch.pair, batch.group)
    processes = training.process.processes
    exchange = dist.all_reduce(counts, async_op=True) if processes > 1 else None  # meanwhile the network works
    dtype = DTYPES[training.precision]
    with torch.autocast(training.process.device.type, dtype, enabled=dtype != torch.float32):
        outputs = training.network(batch.input_ids, batch.attention_mask)
    if exchange is not None:
        exchange.wait()
    return dance_loss(
        outputs, batch.residue, batch.pair, batch.group, training.weights[batch.group], counts / processes
    )


def step(training: Training, rate: float) -> Tensor:
    """One step of the optimizer with clipped gradients; returns their norm () before that, on the device."""
    for parameters in training.optimizer.param_groups:
        parameters["lr"] = rate
    training.scaler.unscale_(training.optimizer)
    gradients = [parameter.grad for parameter in training.model.parameters() if parameter.grad is not None]
    norm = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]).norm()
    nn.utils.clip_grad_value_(training.model.parameters(), training.config.clip)
    training.scaler.step(training.optimizer)
    training.scaler.update()
    return norm


def open_data(config: TrainConfig) -> tuple[TrainingSet, Weights]:
    """Training set and loss weights; one line names all files that are missing."""
    require_files(table=config.table, store=config.store, loss_weights=config.loss_weights)
    with FeatureStore(config.store) as store:
        sequences = group_sequences(read_table(config.table), store, "train")
        block = max(config.short.micro_batch, config.long.micro_batch) if config.sort_by_length else None
        data = TrainingSet(store, sequences, config.seed, block)
    return data, read_loss_weights(config.loss_weights)


def prepare(config: TrainConfig, process: Process, weights: Weights, new: bool) -> Training:
    """Network and optimizer at their start; `new`: the encoder gets the weights that the configuration names."""
    torch.manual_seed(config.seed)
    model = DanceModel(config.model)
    if new and config.encoder is not None:
        process.first(lambda: load_esm2_encoder(model, str(config.encoder)))  # the other ranks receive it below
    if process.device.type == "cuda":
        torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    if config.compile:
        if torch.torch_version.TorchVersion(torch.__version__) < "2.13":
            raise InputError(
                f"--compile: PyTorch {torch.__version__}; the gradients of 2.5 were wrong, take 2.13 or newer"
            )
        model.compile(dynamic=True)  # lengths change all the time; in its place, so that names of weights stay
    network: nn.Module = model.to(process.device)
    if process.processes > 1:
        ids = [process.device] if process.device.type == "cuda" else None
        network = DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, config.learning_rate, config.betas, config.eps, config.weight_decay, fused=True
    )
    precision = config.precision if config.precision != "auto" else best_precision(process.device)
    scaler = torch.amp.GradScaler(process.device.type, enabled=precision == "fp16")
    network.train()
    return Training(config, process, model, network, optimizer, scaler, weights, precision)


def best_precision(device: torch.device) -> str:
    """Precision of the forward pass for which a device is made."""
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def resume(training: Training, checkpoint: Path | None, data: TrainingSet, losses: LossRecord) -> Progress:
    """Set random state, weights and optimizer to those of the checkpoint (None: a new training)."""
    process, seed = training.process, training.config.seed
    if checkpoint is None:
        process.seed_dropout(seed, 0)
        return Progress()
    state = load_checkpoint(checkpoint, training.model)
    if state.get("data") != fingerprint(data):
        raise InputError(
            f"{checkpoint}: made with another seed, order or other training entries; go on with the same ones"
        )
    training.optimizer.load_state_dict(state["optimizer"])
    if state["scaler"]:
        training.scaler.load_state_dict(state["scaler"])
    if len(state["ranks"]) == process.processes:
        own = state["ranks"][process.rank]
        losses.load(own["losses"])
        process.set_random_state(own)
    else:
        LOGGER.warning(
            "warning: %s is of %d processes: samples go on as they would have, dropout does not",
            checkpoint,
            len(state["ranks"]),
        )
        process.seed_dropout(seed, state["update"])
    return Progress(state["update"], state["seen"])


def save_training(training: Training, progress: Progress, data: TrainingSet, losses: LossRecord) -> None:
    """Write a checkpoint and remove those that need not stay; all ranks wait until it is on the disk."""
    process, config = training.process, training.config
    ranks = process.gather(process.random_state() | {"losses": losses.state()})
    if process.rank == 0:
        state = {
            **asdict(progress),
            "data": fingerprint(data),
            "optimizer": training.optimizer.state_dict(),
            "scaler": training.scaler.state_dict(),
            "ranks": ranks,
        }
        save_checkpoint(config.output / "checkpoints", progress.update, training.model, state)
        remove_old(config.output / "checkpoints", config.keep_last, config.keep_every)
    process.gather(None)


def fingerprint(data: TrainingSet) -> str:
    """What the sequence of samples follows from: seed, entries of each group, and blocks of similar length."""
    names = {group: [name for name, _ in entries] for group, entries in data.sequences.items()}
    return hashlib.sha256(json.dumps([data.seed, data.block, names], sort_keys=True).encode()).hexdigest()


def position(data: TrainingSet, progress: Progress, process: Process, stage: Stage) -> dict[str, int]:
    """Epoch of the largest group and micro-batch (of all processes) in it, both from 0, of the last sample used."""
    largest = max(len(entries) for entries in data.sequences.values())
    epoch, samples = divmod(progress.seen - 1, largest)
    return {"n_epoch": epoch, "n_batch_in_epoch": samples // (process.processes * stage.micro_batch)}


def parse(args: Sequence[str] | None = None) -> TrainConfig:
    """Configuration from a command line: a preset or a file, and the fields that the line changes.

    Raises
    ------
    InputError
        The file cannot be used.
    """
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset")
    chooser.add_argument("--config", type=Path)
    chosen, _ = chooser.parse_known_args(args)
    if chosen.config is None:
        default = TRAIN_PRESETS.get(chosen.preset, TrainConfig())  # tyro tells which presets there are
    elif chosen.preset is None:
        default = replace(read_train_config(chosen.config), config=chosen.config)
    else:
        raise InputError(f"--preset {chosen.preset}: --config {chosen.config} tells the preset; leave one of them out")
    return parse_options(TrainConfig, args, default=default, console_outputs=os.environ.get("RANK", "0") == "0")


def run(config: TrainConfig) -> None:
    """Train in this process, alone or with the others that torchrun started."""
    run_process(config.device, lambda process: train(config, process))


def main(args: Sequence[str] | None = None) -> None:
    """Command line."""
    config = run_command(lambda: parse(args))
    run_command(lambda: run(config), config.debug)


if __name__ == "__main__":
    main(sys.argv[1:])
