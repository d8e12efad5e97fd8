"""Training of SeqDance and ESMDance: `DanceTrainer`, and `train`, which opens the data and starts or resumes it.

Each update uses the same number of proteins from each training group that has entries, and its gradient is that of the
loss of all of them, however micro-steps and processes divide them. A micro-step processes the groups in turn, or on a
GPU in one pass. The loop is `model.training.loop`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from data_prepare.dataset.loss_weights import Weights, read_loss_weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.errors import named, require
from data_prepare.properties import properties_of_group
from data_prepare.resume import digest, sample_digest
from model.config import Stage, TrainConfig
from model.network.dance import DanceModel, load_esm2_encoder, load_initial_weights, read_config
from model.network.device import autocast, choose_precision, enough_memory, kernels_for, memory_of
from model.network.weights import CONFIG_NAME, WEIGHTS_NAME, read_weights
from model.training.checkpoint import choose_checkpoint
from model.training.data import Batch, TrainingSet, batches, default_workers, group_sequences, require_files
from model.training.loop import Trainer
from model.training.loss import dance_loss, valid_counts
from model.training.loss_record import LossRecord
from model.training.processes import Process
from model.training.run_log import (
    DATA_WAIT,
    MODEL_FLOPS,
    PEAK_MEMORY,
    SHARE_OF_PEAK,
    TOKENS_PER_SECOND,
    RunLog,
    peak_memory,
)
from model.training.schedule import draws, learning_rate, stage_of
from model.training.start import (
    STAGES,
    divided,
    gpu_micro_batch,
    proteins_per_update,
    unusual_batches,
    with_sizes_of_weights,
)
from model.training.throughput import training_flops

LOGGER: Final = logging.getLogger("seqdance")

GPU_LENGTHS: Final = 16  # tokens are padded to multiples of it: unaligned products and loads are several times slower


class DanceTrainer(Trainer[TrainConfig]):
    """Training of SeqDance or ESMDance; a `new` one starts from the weights named in the configuration."""

    progress = ("update", "seen")
    losses: LossRecord
    counts: dict[str, Tensor]  # group -> proteins of the update with each property, per process

    def __init__(self, config: TrainConfig, process: Process, data: TrainingSet, weights: Weights, new: bool) -> None:
        torch.manual_seed(config.seed)
        model = DanceModel(config.model)
        if new and config.init is not None:
            process.first(lambda: load_initial_weights(model, str(config.init)))  # DDP copies it to the other ranks
        elif new and config.encoder is not None:
            process.first(lambda: load_esm2_encoder(model, str(config.encoder)))
        if process.device.type == "cuda":
            torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
        model.kernels = config.kernels
        precision = choose_precision(config.precision, process.device)
        losses = LossRecord(process, data.groups, skip_infinite=precision == "fp16")
        contents = {
            "table": digest(data.sequences),
            "loss-weights": digest(weights),
            "store": sample_digest(config.store),
        }
        super().__init__(config, process, model, precision, losses, contents)
        self.data, self.weights = data, weights
        self.keep_every = config.keep_every
        joint = process.device.type == "cuda" if config.joint_groups is None else config.joint_groups
        self.together = len(data.groups) if joint else 1  # groups in a pass
        self.multiple = GPU_LENGTHS if process.device.type == "cuda" else 1
        self.course = divided(config, process.processes, self.most_proteins)  # its micro-batches are the actual ones
        self.chosen = {"precision": precision} | {name: asdict(getattr(self.course, name)) for name in STAGES}
        self.last = min(config.stop_after or config.updates, config.updates)
        self.seen = 0  # samples used of each group

    def most_proteins(self, stage: Stage) -> int:
        """Proteins of each group in a pass that suit all devices, or on a CPU those of the configuration."""
        if self.process.device.type == "cpu":
            return stage.micro_batch
        memory = min(self.process.gather(memory_of(self.process.device)))
        with autocast(self.process.device, self.precision):
            keeps = self.config.kernels and kernels_for(self.process.device) is not None
        return gpu_micro_batch(self.config.model, stage.length, self.together, self.precision, memory, keeps)

    def division(self) -> str:
        """One line that says how processes and passes share the proteins of an update."""
        stages = [(name, getattr(self.course, name)) for name in STAGES]
        found = "; ".join(f"{name}: {own.micro_batch} in a pass x {own.accumulation} passes" for name, own in stages)
        return f"proteins of each group in an update, on each of {self.process.processes} process(es): {found}"

    def train(self) -> None:
        """Train to the last update, or until a signal asks to stop."""
        process, course, data = self.process, self.course, self.data
        ranks = process.rank, process.processes
        samples = draws(course, self.update, self.seen, self.last, *ranks, data.groups, data.tokens)
        workers = default_workers(process.device) if course.workers is None else course.workers
        ahead = len(data.groups) * max(course.short.accumulation, course.long.accumulation)
        stream = batches(data, samples, workers, process.device.type == "cuda", ahead)
        remedy = "give a smaller --short.micro-batch or --long.micro-batch and a larger accumulation"
        with closing(stream) as self.stream, enough_memory("a training step", process.device, remedy):
            self.fit(course.updates)

    def finished(self) -> bool:
        """See `Trainer`."""
        return self.update >= self.last

    @property
    def stage(self) -> Stage:
        """Crop length and batch size of the current update."""
        return stage_of(self.update, self.course)

    def learning_rate(self) -> float:
        """See `Trainer`."""
        config = self.config
        return learning_rate(self.update, config.learning_rate, config.warmup_updates, config.updates)

    def micro_batches(self) -> Sequence[Callable[[], list[Batch]]]:
        """See `Trainer`; one batch of each group in turn, `together` of them in a pass.

        All are read first, for the loss of a property is its mean over the proteins of the update that have it.
        """
        groups, processes = self.data.groups, self.process.processes
        self.seen += proteins_per_update(self.stage, processes)
        start = time.perf_counter()
        read = list(islice(self.stream, self.stage.accumulation * len(groups)))
        self.waited += time.perf_counter() - start
        found = [valid_counts(own.residue, own.pair, own.group, own.present) for own in read]  # on the CPU
        counts = torch.cat([torch.stack(found[k :: len(groups)]).sum(0) for k in range(len(groups))])
        if processes > 1:
            dist.all_reduce(counts)
        # the gradient is the mean over processes; a blocking copy would wait for the update before
        counts = (counts / processes).to(self.process.device, non_blocking=True)
        self.counts = dict(zip(groups, counts.split([len(own) for own in found[: len(groups)]]), strict=True))
        waiting = deque(read[first : first + self.together] for first in range(0, len(read), self.together))
        return [waiting.popleft] * len(waiting)

    def loss(self, batch: list[Batch]) -> Tensor:
        """See `Trainer`; the loss of a property is averaged over the proteins of the update, of all processes."""
        lengths = torch.cat([own.attention_mask.sum(1) for own in batch])
        self.losses.tokens += int(lengths.sum())
        self.losses.pairs += int(lengths.square().sum())
        longest = -(-int(lengths.max()) // self.multiple) * self.multiple
        batch = [own.to(self.process.device, longest) for own in batch]
        with autocast(self.process.device, self.precision):
            ids, mask = (torch.cat([getattr(own, name) for own in batch]) for name in ("input_ids", "attention_mask"))
            outputs = self.network(ids, mask)
        sizes = [len(own.input_ids) for own in batch]
        parts = {name: values.split(sizes) for name, values in outputs.items()}
        total = torch.zeros((), device=self.process.device)
        for number, own in enumerate(batch):
            part = {name: parts[name][number] for name in properties_of_group(own.group)}
            targets, counts = (own.residue, own.pair, own.group), self.counts[own.group]
            losses = dance_loss(part, *targets, self.weights[own.group], counts, own.present)
            self.losses.add(own, losses, counts, self.stage.accumulation)
            total = total + losses["loss"]
        return total

    def change_gradients(self) -> None:
        """Record the norm of the gradients and clip them; an update whose norm is not finite changes no weight."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self.losses.add_norm(norm)
        if not self.scaler.is_enabled():  # it looks at the gradients itself
            # the fused step reads it, without a synchronisation
            self.optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        nn.utils.clip_grad_value_(self.model.parameters(), self.config.clip)

    def log_update(self, log: RunLog) -> None:
        """Write a log line, also at the last update; losses, times and gradient norm are means since the one before."""
        if self.update % self.config.log_every and self.update < self.config.updates:
            return
        self.losses.check()
        means, process = self.losses.means(), self.process
        counts = (self.losses.tokens, self.losses.pairs, self.waited, peak_memory(process.device))
        tokens, pairs, waited, memory = zip(*process.gather(counts), strict=True)
        self.losses.tokens = self.losses.pairs = 0
        self.waited = 0.0
        seconds, updates = log.lap(self.update)
        flops = training_flops(self.config.model, sum(tokens), sum(pairs)) / seconds
        largest = max(len(entries) for entries in self.data.sequences.values())
        epoch, samples = divmod(self.seen - 1, largest)  # of the last sample used, counted from 0
        line: dict[str, float | None] = {"rank": 0, "n_epoch": epoch, "n_update": self.update}
        line["n_batch_in_epoch"] = samples // (process.processes * self.stage.micro_batch)
        line |= {"Batch time": seconds / updates, "Learning Rate": self.learning_rate(), "Max_len": self.stage.length}
        line |= {**means, TOKENS_PER_SECOND: sum(tokens) / seconds, MODEL_FLOPS: flops}
        line |= {SHARE_OF_PEAK: flops / log.peak_flops if log.peak_flops else None, DATA_WAIT: max(waited) / updates}
        line |= {PEAK_MEMORY: max(memory)}
        tags = {f"{group}_loss": f"loss/{group}" for group in self.data.groups}
        tags |= {f"{g}_{name}": f"{g}/{name}" for g in self.data.groups for name in properties_of_group(g)}
        log.append(line, {group: f"{means[f'{group}_loss']:.3f}" for group in self.data.groups}, tags)

    def losses_of(self, line: Mapping[str, Any]) -> str:
        """See `Trainer`."""
        losses = {group: line.get(f"{group}_loss") for group in self.data.groups}
        return ", ".join(f"{group} {loss:.4g}" for group, loss in losses.items() if loss is not None)

    def next_command(self) -> str:
        """See `Trainer`."""
        ours = self.saved is None or self.saved.is_relative_to(self.config.output)
        weights = quote(str(self.config.output if ours else self.saved))
        return f"seqdance score --model {weights} --sequence SEQUENCE --output mutations.csv"

    def fixed(self) -> dict[str, Any]:
        """See `Trainer`; of the division of an update only the number of proteins matters."""
        numbers = {name: proteins_per_update(getattr(self.course, name), self.process.processes) for name in STAGES}
        return self.config.fixed() | {f"{name}.accumulation": number for name, number in numbers.items()}

    def described(self, name: str, value: Any) -> str:
        """See `Trainer`."""
        stage = getattr(self.course, name.removesuffix(".accumulation"), None)
        if not isinstance(stage, Stage) or not isinstance(value, int):
            return super().described(name, value)
        now = proteins_per_update(stage, self.process.processes)
        how = f"--{name} {value * stage.accumulation / now:g} with --{name.replace('accumulation', 'micro-batch')}"
        return f"{value} proteins of each group in an update ({how} {stage.micro_batch}), not {now}"

    def load_weights(self, checkpoint: Path) -> None:
        """See `Trainer`. Sizes and freezing must be those of the checkpoint, whatever `allow_changes` says."""
        saved, ours = read_config(checkpoint / CONFIG_NAME), self.config.model
        same = (saved.heads, saved.freeze_encoder) == (ours.heads, ours.freeze_encoder)  # no tensor shape shows these
        require(same, f"{checkpoint}: made with different heads or freeze_encoder; use its configuration")
        with named(checkpoint):
            self.model.load_state_dict(read_weights(checkpoint / WEIGHTS_NAME))


def open_data(config: TrainConfig) -> tuple[TrainingSet, Weights]:
    """Training set and loss weights."""
    require_files(table=config.table, store=config.store, loss_weights=config.loss_weights)
    with FeatureStore(config.store) as store:
        sequences = group_sequences(read_table(config.table), store, "train")
        data = TrainingSet(store, sequences, config.seed, config.exchange)
    return data, read_loss_weights(config.loss_weights, data.groups)


def train(config: TrainConfig, process: Process) -> None:
    """Train from scratch or from a checkpoint, to the last update or until a signal asks to stop.

    Raises InputError if data or checkpoint cannot be used, or if a loss is not finite.
    """
    data, weights = process.first(lambda: open_data(config))
    checkpoint = process.first(lambda: choose_checkpoint(config.output, config.resume))
    config = process.first(lambda: with_sizes_of_weights(config, checkpoint))
    trainer = DanceTrainer(config, process, data, weights, new=checkpoint is None)
    if warning := unusual_batches(trainer.course, process.processes):
        LOGGER.warning("warning: %s", warning)
    if trainer.course != config and process.rank == 0:
        print(trainer.division())
    trainer.resume(checkpoint)
    trainer.train()
