"""The training loop of SeqDance and Dyna-1: updates, log, checkpoints, exact resume, one or several processes.

Checkpoints hold everything that the next update depends on, so a resumed run gives the same weights as an
uninterrupted one. On SIGTERM, SIGUSR1 or Ctrl-C to any process, the training saves after the current update and exits.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_prepare.errors import require
from model.config import TrainingOptions
from model.training.checkpoint import CHECKPOINTS, read_training, remove_old, save_checkpoint
from model.training.processes import Process, StopSignal, started_by_torchrun
from model.training.profile import profiler
from model.training.run_log import LOG_NAME, RunLog, read_log

LOGGER: Final = logging.getLogger("seqdance")
C = TypeVar("C", bound=TrainingOptions)


class Losses(Protocol):
    """Losses of this process since the last log line."""

    def check(self) -> None:
        """Raise InputError on all ranks if a loss of any rank is not finite."""

    def state(self) -> Any:
        """State for a checkpoint."""

    def load(self, state: Any) -> None:
        """Continue from `state`."""


class Trainer(ABC, Generic[C]):
    """A network, its optimizer and the number of updates done; a subclass defines what an update reads and minimises.

    `model` holds the initial weights, `loss` fills `losses`, and `data` are digests of what it is trained on: a
    checkpoint of other data or options is refused, see `TrainingOptions.allow_changes`.
    """

    model: Any  # the network
    network: nn.Module  # the network, or its DistributedDataParallel wrapper
    progress: tuple[str, ...] = ("update",)  # attributes saved in a checkpoint
    keep_every: int | None = None  # checkpoints at multiples of this update are never removed

    def __init__(
        self, config: C, process: Process, model: nn.Module, precision: str, losses: Losses, data: Mapping[str, str]
    ) -> None:
        self.config, self.process, self.precision = config, process, precision
        self.chosen: dict[str, Any] = {"precision": precision}  # what the configuration left open, for config.json
        self.losses, self.data_of = losses, data
        self.model = self.network = model.to(process.device)
        if process.processes > 1:
            ids = [process.device] if process.device.type == "cuda" else None
            self.network = DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters, config.learning_rate, config.betas, config.eps, config.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=precision == "fp16")
        self.update = 0  # updates done; during an update its number, from 1
        self.saved: Path | None = None  # checkpoint of these updates
        self.waited = 0.0  # seconds this process has waited for data since the last log line
        self.network.train()

    @abstractmethod
    def finished(self) -> bool:
        """Whether the last update is done."""

    @abstractmethod
    def micro_batches(self) -> Sequence[Callable[[], Any]]:
        """Functions that read the micro-batches of the current update."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Contribution of a micro-batch to the loss of the update; the mean over processes is minimised."""

    @abstractmethod
    def log_update(self, log: RunLog) -> None:
        """Write the log line of the current update, if it has one."""

    @abstractmethod
    def load_weights(self, checkpoint: Path) -> None:
        """Load the weights of a checkpoint; InputError if they do not fit the network."""

    @abstractmethod
    def losses_of(self, line: Mapping[str, Any]) -> str:
        """The losses in a log line, in words."""

    @abstractmethod
    def next_command(self) -> str:
        """What to call with a finished training."""

    def learning_rate(self) -> float:
        """Learning rate of the current update."""
        return self.config.learning_rate

    def fixed(self) -> dict[str, Any]:
        """What the weights depend on, by the options that set it, without --."""
        return self.config.fixed()

    def described(self, name: str, value: Any) -> str:
        """An item of `fixed` in the words of the command line."""
        return f"--{name} {value}"

    def change_gradients(self) -> None:
        """Clip the unscaled gradients of an update or record their norm."""

    def fit(self, updates: int) -> None:
        """Train until finished or until a signal asks to stop; `updates` is the total shown by the progress bar.

        The last lines say where the training is saved, its last losses, and what to call next.
        """
        if self.finished() and self.saved is not None:
            self.report(updates)
            return
        record = RunLog(self.config, self.process, self.chosen, self.update, updates)
        with StopSignal() as signalled, record as log, profiler(self.config, self.process) as profile:
            while not self.finished():
                self.update += 1
                self.accumulate_gradients()
                self.step()
                self.log_update(log)
                log.advance()
                profile.step()
                stop = self.process.any(signalled.caught) or self.finished()
                if stop or self.update % self.config.checkpoint_every == 0:
                    self.save()
                if stop:
                    break
        self.report(updates, signalled.number)

    def report(self, updates: int, signal_number: int | None = None) -> None:
        """Print the last lines; `signal_number` is that of the signal which stopped the training, if one did."""
        if self.process.rank:
            return
        stop_after = self.config.stop_after
        early = not self.finished() or (stop_after is not None and stop_after <= self.update < updates)
        lines = read_log(self.config.output / LOG_NAME)
        losses = f"; losses at update {lines[-1]['n_update']}: {self.losses_of(lines[-1])}" if lines else ""
        print(f"{'stopped' if early else 'finished'} after update {self.update}: saved in {self.saved}{losses}")
        if not early:
            print(f"next: {self.next_command()}")
        elif stop_after is not None and self.update >= stop_after:  # of this call or of one before
            print(f"next: the same command with another --stop-after, or without it, to continue to update {updates}")
        else:
            print("next: the same command again, to resume")
        if signal_number == signal.SIGINT and started_by_torchrun():
            print("the run is complete up to here; a traceback of torchrun that follows only says that it was stopped")
        sys.stdout.flush()  # torchrun writes to the other stream

    def accumulate_gradients(self) -> None:
        """Accumulate the gradients of one update; processes exchange them once, in the last backward pass."""
        self.optimizer.zero_grad(set_to_none=True)
        loads = self.micro_batches()
        for number, load in enumerate(loads, start=1):
            start = time.perf_counter()
            batch = load()
            self.waited += time.perf_counter() - start
            last = number == len(loads) or not isinstance(self.network, DistributedDataParallel)
            with nullcontext() if last else self.network.no_sync():  # type: ignore[operator]
                self.scaler.scale(self.loss(batch)).backward()

    def step(self) -> None:
        """One optimizer step."""
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self.learning_rate()
        self.scaler.unscale_(self.optimizer)
        self.change_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def save(self) -> None:
        """Write a checkpoint and remove old ones; all ranks wait until it is on disk."""
        self.losses.check()
        ranks = self.process.gather(self.process.random_state() | {"losses": self.losses.state()})
        if self.process.rank == 0:
            state = {name: getattr(self, name) for name in self.progress} | {"ranks": ranks}
            state |= {"options": self.fixed(), "data": dict(self.data_of)}
            state |= {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
            folder = self.config.output / CHECKPOINTS
            self.saved = save_checkpoint(folder, self.update, self.model, state)
            remove_old(folder, self.config.keep_last, self.keep_every)
        self.process.gather(None)

    def resume(self, checkpoint: Path | None) -> None:
        """Continue from a checkpoint, or start with None.

        Raises InputError if the checkpoint is damaged or was made with other data or options, except those that
        `allow_changes` names, which take their new values.
        """
        if checkpoint is None:
            self.process.seed_dropout(self.config.seed, 0)
            return
        state = read_training(checkpoint)
        self._check_same(checkpoint, state)
        self.load_weights(checkpoint)
        self.saved = checkpoint
        for name in self.progress:
            setattr(self, name, state[name])
        options = {name: getattr(self.config, name) for name in ("betas", "eps", "weight_decay")}
        self.optimizer.load_state_dict(state["optimizer"])
        for parameters in self.optimizer.param_groups:
            parameters |= options
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        ranks = state["ranks"]
        if len(ranks) == self.process.processes:
            own = ranks[self.process.rank]
            self.losses.load(own["losses"])
            self.process.set_random_state(own)
        else:
            LOGGER.warning(
                "warning: %s was written by %d processes: the samples continue in the same order, but dropout is "
                "seeded again and the first log line lacks the losses before it",
                checkpoint,
                len(ranks),
            )
            self.process.seed_dropout(self.config.seed, self.update)

    def _check_same(self, checkpoint: Path, state: Mapping[str, Any]) -> None:
        """InputError if data or options that are not among `allow_changes` differ from those of a checkpoint."""
        require("options" in state, f"{checkpoint}: of an earlier version of seqdance; give another --output")
        former, of_data, fixed = state["options"], state["data"], self.fixed()
        gone = " ".join(f"--{n} {value}" for n, value in former.items() if value and n not in fixed)
        require(not gone, f"{checkpoint}: made with {gone}, which this version does not have; give another --output")
        differing = [n for n, value in fixed.items() if former.get(n) != value]
        changed = {n: self.described(n, former.get(n)) for n in differing}
        sizes = [text for name, text in changed.items() if name in self.config.SIZES]
        remedy = "give the same sizes, or another --output for a new network"
        require(not sizes, f"{checkpoint}: made with {', '.join(sizes)}; {remedy}")
        changed |= {n: f"another --{n}" for n, value in self.data_of.items() if of_data.get(n) != value}
        for name in self.config.allow_changes:
            changed.pop(name.removeprefix("--").replace("_", "-"), None)
        allow = f"give the same, or --allow-changes {' '.join(changed)}"
        require(not changed, f"{checkpoint}: made with {', '.join(changed.values())}; {allow}")
