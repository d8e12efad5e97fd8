"""Training of the classifier of Dyna-1: `Dyna1Trainer`, and `train`, which opens the data and starts or resumes it.

The loss of an update is the mean binary cross-entropy over its evaluated residues of all processes. Each epoch ends
with the AUROC over the residues of the validation proteins. The folder `best/` keeps the weights with the best one, for
`load_dyna1`. `model.training.loop` is the loop.

Source of the presets: Wayment-Steele, El Nesr et al., Nature 2026 (doi 10.1038/s41586-026-10989-4).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from data_prepare.errors import require, some_of
from data_prepare.files import write_text
from data_prepare.nmr.assignments import NOT_EVALUATED, read_assignments
from data_prepare.nmr.splits import train_and_validation
from model.dyna1.classifier import Classifier, load_dyna1
from model.dyna1.config import Dyna1TrainConfig
from model.dyna1.data import AnnotatedProtein, ClusterSampler, ProteinBatch, annotated_proteins, fingerprint_of
from model.dyna1.embeddings.cache import EmbeddingCache, write_cache
from model.dyna1.embeddings.embedders import OneHot, make_embedder
from model.dyna1.embeddings.source import ChainInput, Embedder, EmbeddingSource
from model.dyna1.evaluate import logits_of, pooled
from model.dyna1.predict import check_source
from model.evaluation.metrics import auroc
from model.network.device import autocast
from model.network.weights import write_model
from model.training.checkpoint import choose_checkpoint
from model.training.loop import Trainer
from model.training.processes import Process, run_process
from model.training.run_log import DATA_WAIT, PEAK_MEMORY, RunLog, peak_memory

LOGGER: Final = logging.getLogger("seqdance")
Proteins = list[AnnotatedProtein]


TAGS: Final = {  # of TensorBoard
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "validation_auroc": "auroc/validation",
    "best_auroc": "auroc/best",
}


class EpochLoss:
    """Sum of the losses and number of evaluated residues of this process in the current epoch, on the device."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.sums = torch.zeros(2, dtype=torch.float64, device=process.device)

    def add(self, loss: Tensor, residues: Tensor) -> None:
        """Add a micro-batch."""
        self.sums.add_(torch.stack([loss.detach().double(), residues.double()]))

    def mean(self) -> float:
        """Mean over the residues of all processes; InputError on all ranks if it is not finite."""
        total, number = torch.stack(self.process.gather(self.sums.cpu())).sum(dim=0).tolist()
        remedy = "lower --learning-rate or check the embeddings"
        self.process.first(lambda: require(math.isfinite(total), f"the loss is not finite; {remedy}"))
        return total / max(number, 1)

    def check(self) -> None:
        """See `model.training.loop.Losses`."""
        self.mean()

    def state(self) -> Tensor:
        """See `model.training.loop.Losses`."""
        return self.sums.cpu()

    def load(self, state: Tensor) -> None:
        """See `model.training.loop.Losses`."""
        self.sums.copy_(state)


class Dyna1Trainer(Trainer[Dyna1TrainConfig]):
    """Trains a classifier on some proteins and validates it on others."""

    progress = ("update", "best_epoch", "best_auroc")
    losses: EpochLoss

    def __init__(self, config: Dyna1TrainConfig, process: Process, proteins: Proteins, validation: Proteins) -> None:
        cache = config.cache or config.output / "embeddings.h5"
        embeddings = open_embeddings(config.embedder, cache, [*proteins, *validation], process)
        check_source(config.model, embeddings)
        self.read, self.validation = embeddings.read, validation
        self.sampler = ClusterSampler(proteins, config.seed, config.batch, config.crop)
        torch.manual_seed(config.seed)
        model = Classifier(replace(config.model, embedder=embeddings.fingerprint))
        data = {"table": fingerprint_of(proteins), "validation": fingerprint_of(validation)}
        super().__init__(config, process, model, config.precision, EpochLoss(process), data)
        self.best_epoch, self.best_auroc = 0, -math.inf  # of the best validation

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.update // self.sampler.updates

    def finished(self) -> bool:
        """Whether the last epoch or update is done, or the AUROC has not improved for `patience` epochs."""
        config = self.config
        stopped = config.stop_after is not None and self.update >= config.stop_after
        waited = self.epoch - self.best_epoch >= (config.patience or config.epochs)
        return stopped or waited or self.epoch >= config.epochs

    def micro_batches(self) -> Sequence[Callable[[], ProteinBatch]]:
        """See `Trainer`."""
        update, process = self.update - 1, self.process
        self.evaluated = max(self.sampler.evaluated(update), 1)  # of all processes
        shares = self.sampler.shares(update, process.rank, process.processes, self.config.accumulation)
        return [partial(self.sampler.load, share, self.read) for share in shares]

    def loss(self, batch: ProteinBatch) -> Tensor:
        """See `Trainer`."""
        batch = batch.to(self.process.device)
        with autocast(self.process.device, self.precision):
            logits = self.network(batch.embedding, batch.padding)  # (B, L)
        loss = sum_of_losses(logits, batch.target, self.config.label_smoothing)
        self.losses.add(loss, (batch.target != NOT_EVALUATED).sum())
        return loss * self.process.processes / self.evaluated  # gradients are averaged over processes

    def log_update(self, log: RunLog) -> None:
        """After an epoch: validate, and save the weights if they are the best so far."""
        if self.update % self.sampler.updates:
            return
        loss = self.losses.mean()
        self.losses.sums.zero_()
        validation_loss, score = self.validate()
        if score > self.best_auroc:
            self.best_epoch, self.best_auroc = self.epoch, score
            if self.process.rank == 0:
                write_model(self.config.output / "best", self.model)
                best = {"epoch": self.epoch, "update": self.update, "validation_auroc": score}
                write_text(self.config.output / "best/validation.json", json.dumps(best, indent=2) + "\n")
        memory, waited = map(
            max, zip(*self.process.gather((peak_memory(self.process.device), self.waited)), strict=True)
        )
        self.waited = 0.0
        line: dict[str, float | None] = {"n_epoch": self.epoch, "n_update": self.update}
        line |= {"Learning Rate": self.learning_rate(), "loss": loss, "validation_loss": validation_loss}
        line |= {"validation_auroc": score, "best_auroc": self.best_auroc, PEAK_MEMORY: memory}
        line[DATA_WAIT] = waited / self.sampler.updates
        line["Epoch time"], _ = log.lap(self.update)
        log.append(line, {"auroc": f"{score:.3f}"}, TAGS)

    def losses_of(self, line: Mapping[str, Any]) -> str:
        """See `Trainer`."""
        names = {"loss": "training", "validation_loss": "validation", "best_auroc": "best AUROC"}
        return ", ".join(f"{text} {line[name]:.4g}" for name, text in names.items() if line.get(name) is not None)

    def next_command(self) -> str:
        """See `Trainer`."""
        return f"seqdance dyna1 predict --weights {quote(str(self.config.output / 'best'))} --sequence SEQUENCE"

    def validate(self) -> tuple[float, float]:
        """Mean loss and AUROC over the evaluated residues of all validation proteins, uncropped."""
        process, config = self.process, self.config
        own = self.validation[process.rank :: process.processes]
        parts = process.gather(logits_of(self.model, own, self.read, config.batch, config.precision))
        self.network.train()
        logits = {name: row for part in parts for name, row in part.items()}
        target, score = pooled({protein.name: protein.target for protein in self.validation}, logits)
        return float(np.mean(np.logaddexp(0, score) - target * score)), auroc(target, score)

    def load_weights(self, checkpoint: Path) -> None:
        """See `Trainer`."""
        saved = load_dyna1(checkpoint, "cpu")
        same = saved.config == self.model.config
        require(same, f"{checkpoint}: made with another classifier or embedder; resume with the same ones")
        self.model.load_state_dict(saved.state_dict())


def train(config: Dyna1TrainConfig, process: Process) -> None:
    """Train from the start or from a checkpoint to the last epoch, or until a signal asks to stop."""
    proteins, validation = process.first(lambda: open_labels(config))
    checkpoint = process.first(lambda: choose_checkpoint(config.output, config.resume))
    trainer = Dyna1Trainer(config, process, proteins, validation)
    trainer.resume(checkpoint)
    trainer.fit(config.epochs * trainer.sampler.updates)


def sum_of_losses(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy summed over the residues whose target is 1 or 0, not -1; both (B, L), logits unshifted.

    With `smoothing` s the targets are 1 - s/2 and s/2.
    """
    weight = (target != NOT_EVALUATED).float()
    smooth = target.clamp(min=0).float() * (1 - smoothing) + smoothing / 2
    return binary_cross_entropy_with_logits(logits.float(), smooth, weight, reduction="sum")


def open_labels(config: Dyna1TrainConfig) -> tuple[Proteins, Proteins]:
    """Proteins for training and for validation; InputError if they overlap or the validation AUROC is undefined."""
    for option, path in (("--table", config.table), ("--validation", config.validation)):
        found = path is None or path.is_file()
        require(found, f"no such file: {option} {path}; make a table with seqdance dyna1 labels")
    table = read_assignments(config.table)
    if config.validation is None:
        if (table["cluster"] == "").all():
            risk = "training and validation may share similar proteins; add clusters with seqdance dyna1 labels split"
            LOGGER.warning("warning: %s has no clusters: %s", config.table, risk)
        table, held_out = train_and_validation(table, config.validation_fraction, config.seed)
    else:
        held_out = read_assignments(config.validation)
    train = annotated_proteins(table, str(config.table))
    validation = annotated_proteins(held_out, str(config.validation or config.table))
    shared = sorted({protein.name for protein in train} & {protein.name for protein in validation})
    require(not shared, f"{config.validation}: {shared[:1]} also in {config.table}; remove it from one of them")
    target = np.concatenate([protein.target for protein in validation])
    both = (target == 1).any() and (target == 0).any()
    require(both, f"the {len(validation)} validation proteins lack positives or negatives; hold out more proteins")
    return train, validation


def open_embeddings(line: str, cache: Path, proteins: Proteins, process: Process) -> EmbeddingSource:
    """Source of the embeddings of a training; InputError if it cannot be used or lacks a protein.

    One-hot letters are encoded when they are read. Rank 0 computes embeddings of a language model once and stores them
    in the file `cache`, which may already contain some of them.
    """

    def stored() -> str:
        source = make_embedder(line, process.device)
        if not isinstance(source, Embedder) or isinstance(source, OneHot):
            return line
        write_cache(cache, source, [ChainInput(protein.name, protein.sequence) for protein in proteins])
        return f"cache:{cache}"

    source = make_embedder(process.first(stored), process.device)
    if isinstance(source, EmbeddingCache):
        missing = [protein.name for protein in proteins if protein.name not in source]
        lacks = f"{some_of(missing)} (entries: {len(missing)})"
        require(not missing, f"{source.path}: lacks {lacks}; add them with seqdance dyna1 embed")
    return source


def run(config: Dyna1TrainConfig) -> None:
    """Train in this process, alone or with the other processes of torchrun."""
    run_process(config, train)
