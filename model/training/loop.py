"""The training loop of SeqDance and Dyna-1: updates, log, checkpoints, exact resume, one or several processes.

Checkpoints hold everything that the next update depends on, so a training that was stopped continues as if it had not
been. SIGTERM or SIGUSR1 to any process: save after the current update and exit.
"""

from __future__ import annotations

import argparse
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_prepare.command_line import parse as parse_options
from data_prepare.errors import require
from model.config import TrainingOptions
from model.training.checkpoint import CHECKPOINTS, read_training, remove_old, save_checkpoint
from model.training.processes import Process, StopSignal
from model.training.run_log import RunLog

LOGGER: Final = logging.getLogger("seqdance")
C = TypeVar("C", bound=TrainingOptions)


class Losses(Protocol):
    """Losses of this process since the last line of the log."""

    def check(self) -> None:
        """Raise InputError on all ranks if a loss of any rank is not finite."""

    def state(self) -> Any:
        """What a checkpoint keeps."""

    def load(self, state: Any) -> None:
        """Continue from `state`."""


class Trainer(ABC, Generic[C]):
    """A network, its optimizer and the number of updates done; a subclass defines what an update reads and minimises.

    Parameters
    ----------
    config
        Options of the training.
    process
        This process among those that train together.
    model
        The network, with the weights that the training starts from.
    precision
        fp32, bf16 or fp16, of the forward pass.
    losses
        Record that `loss` fills.
    digests
        Hashes of what the sequence of updates follows from; those of a checkpoint must be the same.
    """

    model: Any  # the network
    network: nn.Module  # it, or its distributed form
    progress: tuple[str, ...] = ("update",)  # attributes that a checkpoint keeps
    keep_every: int | None = None  # checkpoints of these updates stay

    def __init__(
        self,
        config: C,
        process: Process,
        model: nn.Module,
        precision: str,
        losses: Losses,
        digests: Mapping[str, str],
    ) -> None:
        self.config, self.process, self.precision = config, process, precision
        self.losses, self.digests = losses, digests
        self.model = self.network = model.to(process.device)
        if process.processes > 1:
            ids = [process.device] if process.device.type == "cuda" else None
            self.network = DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters, config.learning_rate, config.betas, config.eps, config.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=precision == "fp16")
        self.update = 0  # updates done; the number of the current one inside of it, from 1
        self.network.train()

    @abstractmethod
    def finished(self) -> bool:
        """Whether the last update is done."""

    @abstractmethod
    def micro_batches(self) -> Sequence[Callable[[], Any]]:
        """Functions that read the micro-batches of the current update."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """What a micro-batch adds to the loss of the update; the mean over processes is minimised."""

    @abstractmethod
    def log_update(self, log: RunLog) -> None:
        """Write the line of the current update, if it has one."""

    @abstractmethod
    def load_weights(self, checkpoint: Path) -> None:
        """Read the weights of a checkpoint; InputError if they belong to another network."""

    def learning_rate(self) -> float:
        """Learning rate of the current update."""
        return self.config.learning_rate

    def change_gradients(self) -> None:
        """Clip the gradients of an update, or note their norm; they are not scaled any more."""

    def fit(self, updates: int) -> None:
        """Train to the last of `updates`, or until a signal asks to stop."""
        with (
            StopSignal() as signalled,
            RunLog(self.config, self.process, self.precision, self.update, updates) as log,
        ):
            while not self.finished():
                self.update += 1
                self.accumulate_gradients()
                self.step()
                self.log_update(log)
                log.advance()
                stop = self.process.any(signalled.caught) or self.finished()
                if stop or self.update % self.config.checkpoint_every == 0:
                    self.save()
                if stop:
                    break

    def accumulate_gradients(self) -> None:
        """Add up the gradients of one update; processes exchange them once, in the last backward pass."""
        self.optimizer.zero_grad(set_to_none=True)
        loads = self.micro_batches()
        for number, load in enumerate(loads, start=1):
            batch = load()
            with self.exchanging(number == len(loads)):
                self.scaler.scale(self.loss(batch)).backward()

    def exchanging(self, exchange: bool) -> AbstractContextManager:
        """Context of a forward and backward pass that exchanges gradients or keeps them in this process."""
        alone = not exchange and isinstance(self.network, DistributedDataParallel)
        return self.network.no_sync() if alone else nullcontext()  # type: ignore[operator]

    def step(self) -> None:
        """One step of the optimizer."""
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self.learning_rate()
        self.scaler.unscale_(self.optimizer)
        self.change_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def save(self) -> None:
        """Write a checkpoint and remove old ones; all ranks wait until it is on the disk."""
        self.losses.check()
        ranks = self.process.gather(self.process.random_state() | {"losses": self.losses.state()})
        if self.process.rank == 0:
            state = {name: getattr(self, name) for name in self.progress} | {**self.digests, "ranks": ranks}
            state |= {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
            folder = self.config.output / CHECKPOINTS
            save_checkpoint(folder, self.update, self.model, state)
            remove_old(folder, self.config.keep_last, self.keep_every)
        self.process.gather(None)

    def resume(self, checkpoint: Path | None) -> None:
        """Continue from a checkpoint; None: from the start.

        Learning rate, weight decay, betas and eps are those of the options, which may have changed.

        Raises
        ------
        InputError
            The checkpoint is damaged or belongs to another training.
        """
        if checkpoint is None:
            self.process.seed_dropout(self.config.seed, 0)
            return
        state = read_training(checkpoint)
        state |= state.get("progress", {})  # where former versions of Dyna-1 kept it
        for name, digest in self.digests.items():
            same = state.get(name, digest) == digest
            require(same, f"{checkpoint}: made with another seed, batch or {name}; resume with the same ones")
        self.load_weights(checkpoint)
        for name in self.progress:
            setattr(self, name, state[name])
        options = {name: getattr(self.config, name) for name in ("betas", "eps", "weight_decay")}
        self.optimizer.load_state_dict(state["optimizer"])
        for parameters in self.optimizer.param_groups:
            parameters |= options | {"lr": self.config.learning_rate}
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        ranks = state["ranks"]
        if len(ranks) == self.process.processes:
            own = ranks[self.process.rank]
            self.losses.load(own["losses"])
            self.process.set_random_state(own)
        else:
            LOGGER.warning(
                "warning: %s was written by %d processes: samples continue as they would have, dropout does not; "
                "the first line of the log lacks the losses before",
                checkpoint,
                len(ranks),
            )
            self.process.seed_dropout(self.config.seed, self.update)


def parse_training(
    presets: Mapping[str, C], args: Sequence[str] | None = None, read: Callable[[Path], C] | None = None
) -> C:
    """Options of a training from a command line: a preset, or a file that `read` reads, with the line's own changes.

    The first preset is the default. Raises InputError if the file cannot be used.
    """
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset")
    chooser.add_argument("--config", type=Path)
    chosen, _ = chooser.parse_known_args(args)
    start = presets.get(chosen.preset, next(iter(presets.values())))  # of an unknown preset tyro lists the known ones
    if read is not None and chosen.config is not None:
        both = f"--preset {chosen.preset}: --config {chosen.config} names the preset; remove one of them"
        require(chosen.preset is None, both)
        start = replace(read(chosen.config), **{"config": chosen.config})
    return parse_options(type(start), args, default=start)
