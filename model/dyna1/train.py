"""Train the classifier of Dyna-1 on embeddings of a frozen model, on one or several processes.

    seqdance dyna1 train --preset onehot --table LABELS.csv --output runs/dyna1_onehot
    torchrun --nproc_per_node=4 model/dyna1/train.py --preset esm3 --embedder cache:ESM3.h5 --table LABELS.csv ...

The loss of an update is the sum of the binary cross-entropies of its evaluated residues over their number, of all
processes together. After each epoch the AUROC over the residues of the validation proteins is measured; the best
weights so far are in `best/`, which `load_dyna1` reads. A training that was stopped or killed goes on as if it had not
been (`--resume auto`, the default). SIGTERM or SIGUSR1 to any process: save after the current update and leave.

Numbers of the presets: Wayment-Steele, El Nesr et al., Nature 2026 (doi 10.1038/s41586-026-10989-4).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

from data_prepare.errors import InputError, run_command
from data_prepare.files import write_text
from data_prepare.nmr.assignments import NOT_EVALUATED, read_assignments
from data_prepare.nmr.splits import VALIDATION_FRACTION, train_and_validation
from model.dyna1.classifier import PRESETS, Classifier, Dyna1Config
from model.dyna1.data import (
    AnnotatedProtein,
    ClusterSampler,
    ReadEmbedding,
    annotated_proteins,
    fingerprint_of,
)
from model.dyna1.evaluate import logits_of
from model.dyna1.loading import load_dyna1, save_dyna1
from model.dyna1.metrics import pooled
from model.dyna1.sources import open_embeddings
from model.evaluation.metrics import auroc
from model.training.checkpoint import choose_checkpoint, read_training, remove_old, save_checkpoint
from model.training.processes import Process, StopSignal, run_process
from model.training.run_log import PEAK_MEMORY, RunLog, peak_memory

LOGGER: Final = logging.getLogger("seqdance")
BEST: Final = "best"  # folder of the weights with the best validation AUROC
Preset = Literal["esm3", "esm2", "onehot", "seqdance", "af2"]


@dataclass(frozen=True)
class Dyna1TrainConfig:
    """How a classifier is trained. The defaults are those of the one-hot baseline as published."""

    preset: Preset = "onehot"
    """Where the other fields start from."""
    table: Path = Path("data/dyna1_labels.csv")
    """Labels to train on: entry_ID, sequence, label, source, cluster."""
    validation: Path | None = None
    """Labels to choose the weights by. Default: some of the clusters of --table."""
    validation_fraction: float = VALIDATION_FRACTION
    """Without --validation: share of the proteins whose clusters are held out."""
    embedder: str = "onehot"
    """Frozen model: onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], af2:FOLDER or cache:FILE.h5."""
    cache: Path | None = None
    """Where the embeddings of a language model are kept, each computed once. Default: embeddings.h5 in --output."""
    output: Path = Path("runs/dyna1_onehot")
    """Folder of this run: config.json, log.jsonl, tensorboard, checkpoints, best."""
    model: Dyna1Config = field(default_factory=lambda: PRESETS["onehot"])
    """Sizes of the classifier."""

    epochs: int = 500
    """Passes over the sequence clusters, each of which sends one random member."""
    batch: int = 16
    """Proteins of an update, of all processes together."""
    accumulation: int = 1
    """Parts, of similar length, of a process's proteins of an update: less memory and padding, the same gradient."""
    crop: int = 367
    """Longer proteins are cut to a random window of this length."""
    learning_rate: float = 1e-6
    """The same at all updates."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW: decay of the running means of gradient and squared gradient."""
    eps: float = 1e-8
    """AdamW: added to the root of the squared gradient's mean."""
    weight_decay: float = 0.01
    """AdamW: decoupled weight decay."""
    patience: int | None = None
    """Stop after this many epochs without a better validation AUROC. Default: only after the last epoch."""
    seed: int = 0
    """Decides on the validation clusters, initial weights, dropout, order and crops."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the forward pass. bf16 is faster on a GPU; weights, optimizer and loss stay fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one."""

    checkpoint_every: int = 500
    """Updates between two checkpoints."""
    keep_last: int = 2
    """Checkpoints that stay."""
    resume: str = "auto"
    """auto: go on from the newest whole checkpoint of the run, if any; none: start anew; or a checkpoint folder."""
    stop_after: int | None = None
    """Save and leave after this update."""
    debug: bool = False
    """Show the traceback of an error."""

    def check(self) -> None:
        """See that the values can be used; InputError if they cannot."""
        self.model.check()
        counts = ("epochs", "batch", "accumulation", "crop", "checkpoint_every", "keep_last", "patience", "stop_after")
        for name in counts:
            value = getattr(self, name)
            self._check(value is None or value >= 1, name, "at least 1")
        for name in ("learning_rate", "eps"):
            self._check(getattr(self, name) > 0, name, "above 0")
        self._check(self.seed >= 0, "seed", "at least 0")
        self._check(self.weight_decay >= 0, "weight_decay", "at least 0")
        self._check(all(0 <= beta < 1 for beta in self.betas), "betas", "at least 0 and below 1")
        self._check(0 < self.validation_fraction < 1, "validation_fraction", "above 0 and below 1")

    def _check(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise InputError(f"Dyna-1 training: {name} is {getattr(self, name)!r}, it must be {expected}")


def _preset(preset: Preset, embedder: str, **changes: Any) -> Dyna1TrainConfig:
    output = Path(f"runs/dyna1_{preset}")
    return Dyna1TrainConfig(preset=preset, embedder=embedder, output=output, model=PRESETS[preset], **changes)


TRAIN_PRESETS: Final[dict[str, Dyna1TrainConfig]] = {
    "esm3": _preset("esm3", "esm3"),
    "esm2": _preset("esm2", "esm2"),
    "onehot": Dyna1TrainConfig(),
    "seqdance": _preset("seqdance", "dance:ChaoHou/SeqDance"),
    "af2": _preset("af2", "af2:data/af2_pairs", crop=400, learning_rate=1e-5, accumulation=4),
}


@dataclass(frozen=True)
class Weights:
    """A classifier as `save_checkpoint` takes it."""

    model: Classifier

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json into a folder."""
        save_dyna1(self.model, folder)


@dataclass
class Progress:
    """Where the training is."""

    update: int = 0  # updates done
    best_epoch: int = 0  # epochs done when the validation AUROC was best; 0: before the first
    best_auroc: float = -math.inf

    def finished(self, config: Dyna1TrainConfig, updates_of_epoch: int) -> bool:
        """Whether the last epoch or update is done, or `patience` epochs brought nothing better."""
        epochs = self.update // updates_of_epoch
        patience = config.epochs if config.patience is None else config.patience
        stopped = config.stop_after is not None and self.update >= config.stop_after
        return stopped or epochs >= config.epochs or epochs - self.best_epoch >= patience


@dataclass(frozen=True)
class Training:
    """What an update works on."""

    config: Dyna1TrainConfig
    process: Process
    data: ClusterSampler
    validation: list[AnnotatedProtein]
    read: ReadEmbedding
    model: Classifier
    network: nn.Module  # the model, or its distributed form
    optimizer: torch.optim.AdamW
    losses: Tensor  # (2,) float64 on the device: sum of the losses of this process in this epoch, residues


def train(config: Dyna1TrainConfig, process: Process) -> None:
    """Train from the start or from a checkpoint to the last epoch, or until a signal asks to stop.

    Raises
    ------
    InputError
        Configuration, data or checkpoint cannot be used, or a loss is not finite.
    """
    process.first(config.check)
    proteins, validation = process.first(lambda: open_labels(config))
    checkpoint = process.first(lambda: choose_checkpoint(config.output, config.resume))
    training = prepare(config, process, proteins, validation)
    progress = resume(training, checkpoint)
    data = training.data
    started = time.perf_counter()

    with (
        StopSignal() as signalled,
        RunLog(config, process, config.precision, progress.update, config.epochs * data.updates) as log,
    ):
        while not progress.finished(config, data.updates):
            accumulate_gradients(training, progress.update)
            training.optimizer.step()
            progress.update += 1
            log.advance()
            if progress.update % data.updates == 0:
                line = finish_epoch(training, progress)
                seconds, started = time.perf_counter() - started, time.perf_counter()
                log.append(line | {"Epoch time": seconds}, {"auroc": f"{line['validation_auroc']:.3f}"})
            stop = process.any(signalled.caught) or progress.finished(config, data.updates)
            if stop or progress.update % config.checkpoint_every == 0:
                save(training, progress)
            if stop:
                break


def accumulate_gradients(training: Training, update: int) -> None:
    """Gradients of an update; processes exchange them in the last backward pass."""
    training.optimizer.zero_grad(set_to_none=True)
    process = training.process
    number = max(training.data.evaluated(update), 1)  # of all processes, which know each other's labels
    shares = training.data.shares(update, process.rank, process.processes, training.config.accumulation)
    for place, share in enumerate(shares, start=1):
        batch = training.data.load(share, training.read).to(process.device)
        alone = place < len(shares) and isinstance(training.network, DistributedDataParallel)
        with training.network.no_sync() if alone else nullcontext():  # type: ignore[operator]
            with torch.autocast(process.device.type, torch.bfloat16, enabled=training.config.precision == "bf16"):
                logits = training.network(batch.embedding, batch.padding)  # (B, L)
            loss = sum_of_losses(logits, batch.target)
            (loss * process.processes / number).backward()  # the exchange takes the mean over processes
        training.losses.add_(torch.stack([loss.detach().double(), (batch.target != NOT_EVALUATED).sum().double()]))


def sum_of_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy summed over the evaluated residues.

    Parameters
    ----------
    logits
        (B, L) raw logits, without the shift of the prior.
    target
        (B, L) 1, 0, or -1 where not evaluated.
    """
    return binary_cross_entropy_with_logits(
        logits.float(), target.clamp(min=0).float(), weight=(target != NOT_EVALUATED).float(), reduction="sum"
    )


def finish_epoch(training: Training, progress: Progress) -> dict[str, float | None]:
    """Measure the validation proteins, keep the weights if they are the best so far, return the line of the log."""
    loss = mean_loss(training)
    validation_loss, score = validate(training)
    epoch = progress.update // training.data.updates
    if score > progress.best_auroc:
        progress.best_epoch, progress.best_auroc = epoch, score
        if training.process.rank == 0:
            save_best(training, progress)
    memory = max(training.process.gather(peak_memory(training.process.device)))
    return {
        "n_epoch": epoch,
        "n_update": progress.update,
        "Learning Rate": training.config.learning_rate,
        "loss": loss,
        "validation_loss": validation_loss,
        "validation_auroc": score,
        "best_auroc": progress.best_auroc,
        PEAK_MEMORY: memory,
    }


def mean_loss(training: Training) -> float:
    """Mean over the residues of the epoch, of all processes; the count starts again."""
    total, number = torch.stack(training.process.gather(training.losses.cpu())).sum(dim=0).tolist()
    training.losses.zero_()
    loss = total / max(number, 1)
    training.process.first(lambda: _check_finite(loss))
    return loss


def _check_finite(loss: float) -> None:
    if not math.isfinite(loss):
        raise InputError("the loss is not finite; lower --learning-rate or look at the embeddings")


def validate(training: Training) -> tuple[float, float]:
    """Mean loss and AUROC over the evaluated residues of all validation proteins, whole."""
    process, config = training.process, training.config
    own = training.validation[process.rank :: process.processes]
    parts = process.gather(logits_of(training.model, own, training.read, config.batch, config.precision))
    training.network.train()
    logits = {name: row for part in parts for name, row in part.items()}
    target, score = pooled({protein.name: protein.target for protein in training.validation}, logits)
    return float(np.mean(np.logaddexp(0, score) - target * score)), auroc(target, score)


def open_labels(config: Dyna1TrainConfig) -> tuple[list[AnnotatedProtein], list[AnnotatedProtein]]:
    """Proteins to train on and those to validate on.

    Raises
    ------
    InputError
        A table cannot be used, the two share an entry, or the validation AUROC does not exist.
    """
    for option, path in (("--table", config.table), ("--validation", config.validation)):
        if path is not None and not path.is_file():
            raise InputError(f"no such file: {option} {path}; `seqdance dyna1 labels` makes tables of labels")
    table = read_assignments(config.table)
    if config.validation is None:
        if (table["cluster"] == "").all():
            remedy = "seqdance dyna1 labels split adds them"
            LOGGER.warning(
                "warning: %s has no clusters: validation may hold similar proteins; %s", config.table, remedy
            )
        table, held_out = train_and_validation(table, config.validation_fraction, config.seed)
    else:
        held_out = read_assignments(config.validation)
    train = annotated_proteins(table, str(config.table))
    validation = annotated_proteins(held_out, str(config.validation or config.table))
    shared = {protein.name for protein in train} & {protein.name for protein in validation}
    if shared:
        raise InputError(f"{config.validation}: {min(shared)} is in {config.table} too; take it out of one of them")
    target = np.concatenate([protein.target for protein in validation])
    if not (target == 1).any() or not (target == 0).any():
        raise InputError(f"{len(validation)} validation proteins lack positives or negatives; hold out more of them")
    return train, validation


def prepare(
    config: Dyna1TrainConfig, process: Process, proteins: list[AnnotatedProtein], validation: list[AnnotatedProtein]
) -> Training:
    """Embeddings, classifier with random weights, and optimizer."""
    cache = config.cache or config.output / "embeddings.h5"
    embeddings = open_embeddings(config.embedder, cache, [*proteins, *validation], process)
    expected = config.model.pair_channels or config.model.width
    if embeddings.reads_pairs != bool(config.model.pair_channels) or embeddings.width != expected:
        kind = "pairs" if embeddings.reads_pairs else "embeddings"
        raise InputError(
            f"--embedder {config.embedder}: {kind} of width {embeddings.width} do not fit the classifier (width "
            f"{config.model.width}, pair channels {config.model.pair_channels}); adapt --preset or --model.width"
        )
    torch.manual_seed(config.seed)
    model = Classifier(replace(config.model, embedder=embeddings.fingerprint)).to(process.device)
    network: nn.Module = model
    if process.processes > 1:
        ids = [process.device] if process.device.type == "cuda" else None
        network = DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, config.betas, config.eps, config.weight_decay, fused=True
    )
    network.train()
    data = ClusterSampler(proteins, config.seed, config.batch, config.crop)
    losses = torch.zeros(2, dtype=torch.float64, device=process.device)
    return Training(config, process, data, validation, embeddings.read, model, network, optimizer, losses)


def resume(training: Training, checkpoint: Path | None) -> Progress:
    """Set weights, optimizer and random state to those of the checkpoint (None: a new training).

    Learning rate, weight decay, betas and eps are those of the configuration, which may have changed.
    """
    process, config = training.process, training.config
    seed = config.seed
    if checkpoint is None:
        process.seed_dropout(seed, 0)
        return Progress()
    state = read_training(checkpoint)
    if state.get("data") != training.data.fingerprint():
        raise InputError(
            f"{checkpoint}: made with another seed, batch, crop or other training proteins; go on with the same ones"
        )
    measured = fingerprint_of(training.validation)
    if state.get("validation", measured) != measured:  # checkpoints of earlier versions do not tell
        raise InputError(
            f"{checkpoint}: its best AUROC is of other validation proteins; go on with the same ones (--validation, "
            "--validation-fraction), or start anew in another --output"
        )
    saved = load_dyna1(checkpoint, "cpu")
    if saved.config != training.model.config:
        raise InputError(f"{checkpoint}: made with another classifier or embedder; go on with the same ones")
    training.model.load_state_dict(saved.state_dict())
    training.optimizer.load_state_dict(state["optimizer"])
    for parameters in training.optimizer.param_groups:
        # load_state_dict brings those of the checkpoint
        parameters |= {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        parameters |= {"betas": config.betas, "eps": config.eps}
    if len(state["ranks"]) == process.processes:
        own = state["ranks"][process.rank]
        training.losses.copy_(own["losses"])
        process.set_random_state(own)
    else:
        LOGGER.warning(
            "warning: %s is of %d processes: proteins go on as they would have, dropout does not",
            checkpoint,
            len(state["ranks"]),
        )
        if process.rank == 0:
            training.losses.copy_(sum(rank["losses"] for rank in state["ranks"]))
        process.seed_dropout(seed, state["progress"]["update"])
    return Progress(**state["progress"])


def save(training: Training, progress: Progress) -> None:
    """Write a checkpoint and remove old ones; all ranks wait until it is on the disk."""
    process, config = training.process, training.config
    losses = training.losses.cpu()
    total = float(torch.stack(process.gather(losses)).sum())
    process.first(lambda: _check_finite(total))
    ranks = process.gather(process.random_state() | {"losses": losses})
    if process.rank == 0:
        state = {
            "progress": asdict(progress),
            "data": training.data.fingerprint(),
            "validation": fingerprint_of(training.validation),
            "optimizer": training.optimizer.state_dict(),
            "ranks": ranks,
        }
        save_checkpoint(config.output / "checkpoints", progress.update, Weights(training.model), state)
        remove_old(config.output / "checkpoints", config.keep_last, keep_every=sys.maxsize)
    process.gather(None)


def save_best(training: Training, progress: Progress) -> None:
    """Write the weights into the folder of the best ones; each file appears complete or not at all."""
    folder = training.config.output / BEST
    save_dyna1(training.model, folder)
    numbers = {"epoch": progress.best_epoch, "update": progress.update, "validation_auroc": progress.best_auroc}
    write_text(folder / "validation.json", json.dumps(numbers, indent=2) + "\n")


def parse(args: Sequence[str] | None = None) -> Dyna1TrainConfig:
    """Configuration from a command line: a preset, and the fields that the line changes."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset")
    chosen, _ = chooser.parse_known_args(args)
    default = TRAIN_PRESETS.get(chosen.preset, Dyna1TrainConfig())  # tyro tells which presets there are
    return tyro.cli(Dyna1TrainConfig, args=args, default=default, console_outputs=os.environ.get("RANK", "0") == "0")


def run(config: Dyna1TrainConfig) -> None:
    """Train in this process, alone or with the others that torchrun started."""
    run_process(config.device, lambda process: train(config, process))


def main(args: Sequence[str] | None = None) -> None:
    """Command line."""
    config = run_command(lambda: parse(args))
    run_command(lambda: run(config), config.debug)


if __name__ == "__main__":
    main(sys.argv[1:])
