"""Train SeqDance or ESMDance on one or several processes.

    torchrun --nproc_per_node=4 model/train_ddp.py --preset esmdance --table T.csv --store F.h5 --weights W.csv
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
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

import numpy as np
import torch
import torch.distributed as dist
import tyro
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from data_prepare.errors import InputError, run_command
from data_prepare.files import write_text
from data_prepare.loss_weights import Weights, read_loss_weights
from data_prepare.properties import GROUPS, properties_of_group
from data_prepare.store import FeatureStore
from data_prepare.table import read_table
from model.checkpoint import (
    checkpoints,
    load_checkpoint,
    newest_checkpoint,
    remove_old,
    save_checkpoint,
    verify,
)
from model.config import TRAIN_PRESETS, Stage, TrainConfig
from model.dance import DanceModel, load_esm2_encoder
from model.dataset import Batch, TrainingSet, batches, default_workers, group_sequences, require_files
from model.loss import dance_loss, valid_counts
from model.schedule import Draws, learning_rate, stage_of

LOGGER: Final = logging.getLogger("seqdance")
DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """This process among those that train together."""

    device: torch.device
    rank: int = 0
    processes: int = 1

    def first(self, action: Callable[[], T]) -> T:
        """Run `action` on rank 0 and give its result to all. On `InputError` all leave and rank 0 tells why."""
        result: list[Any] = [None, False]
        if self.rank == 0:
            try:
                result = [action(), True]
            except InputError:
                self.share(result)
                raise
        if not self.share(result)[1]:
            raise SystemExit(2)
        return result[0]

    def share(self, values: list[Any]) -> list[Any]:
        """The list of rank 0, on all ranks."""
        if self.processes > 1:
            dist.broadcast_object_list(values)
        return values

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, on all ranks."""
        values = [value] * self.processes
        if self.processes > 1:
            dist.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank. The host waits for the other hosts, not for the GPUs."""
        if self.processes == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)


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
    checkpoint = process.first(lambda: choose_checkpoint(config))
    training = prepare(config, process, weights, new=checkpoint is None)
    losses = LossRecord(process)
    progress = resume(training, checkpoint, data, losses)
    final = min(config.stop_after or config.updates, config.updates)
    draws = Draws(config, progress.update, progress.seen, final, process.rank, process.processes)
    workers = default_workers(process.device) if config.workers is None else config.workers

    with (
        StopSignal() as signalled,
        RunLog(config, process, progress.update) as log,
        closing(batches(data, draws, workers, pin_memory=process.device.type == "cuda")) as stream,
    ):
        while progress.update < final:
            progress.update += 1
            stage = stage_of(progress.update, config)
            rate = learning_rate(progress.update, config.learning_rate, config.warmup_updates, config.updates)
            accumulate_gradients(training, stream, stage, losses)
            step(training, rate)
            progress.seen += process.processes * stage.micro_batch * stage.accumulation

            stop = process.any(signalled.caught) or progress.update == final
            save = stop or progress.update % config.checkpoint_every == 0
            write = progress.update % config.log_every == 0
            if write or save:
                losses.check()
            if write:
                log.write(progress.update, position(data, progress, process, stage), rate, stage, losses.means())
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
        batch = next(stream).to(training.process.device)
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


def step(training: Training, rate: float) -> None:
    """One step of the optimizer with clipped gradients."""
    for parameters in training.optimizer.param_groups:
        parameters["lr"] = rate
    training.scaler.unscale_(training.optimizer)
    nn.utils.clip_grad_value_(training.model.parameters(), training.config.clip)
    training.scaler.step(training.optimizer)
    training.scaler.update()


class LossRecord:
    """Losses since the last line of the log. They stay on the device until a line is written."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.sums = {group: torch.zeros(len(properties_of_group(group)) + 1, device=process.device) for group in GROUPS}
        self.backwards = 0  # of all groups together
        self._unchecked: list[tuple[Tensor, str, tuple[str, ...]]] = []  # loss, group, names of each backward pass

    def add(self, batch: Batch, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of one backward pass."""
        names = (*properties_of_group(batch.group), "loss")
        self.sums[batch.group] += torch.stack([losses[name].detach() for name in names])
        self.backwards += 1
        self._unchecked.append((losses["loss"].detach(), batch.group, batch.names))

    def check(self) -> None:
        """Leave on all ranks if a loss since the last check is not finite; the line names the first such batch."""
        finite = torch.stack([loss for loss, _, _ in self._unchecked]).isfinite().tolist()
        first = finite.index(False) if not all(finite) else len(finite)
        bad = [self._unchecked[first][1:]] if first < len(finite) else []
        self._unchecked.clear()
        first, bad = min(self.process.gather((first, bad)), key=lambda found: found[0])
        if bad:
            group, names = bad[0]
            self.process.first(lambda: _raise_not_finite(group, names))

    def means(self) -> dict[str, float]:
        """Means since the last call over backward passes and ranks: `<group>_<property>` and `<group>_loss`."""
        sums = torch.cat([self.sums[group] for group in GROUPS]).cpu()
        if self.process.processes > 1:
            dist.all_reduce(sums)
        names = [f"{group}_{name}" for group in GROUPS for name in (*properties_of_group(group), "loss")]
        values = (sums * len(GROUPS) / self.backwards / self.process.processes).tolist()
        self.load({group: torch.zeros_like(total) for group, total in self.sums.items()}, 0)
        return dict(zip(names, values, strict=True))

    def load(self, sums: Mapping[str, Tensor], backwards: int) -> None:
        """Go on from these sums."""
        self.sums = {group: sums[group].to(self.process.device) for group in GROUPS}
        self.backwards = backwards


def _raise_not_finite(group: str, names: Sequence[str]) -> None:
    raise InputError(
        f"the loss of a batch of {group} is not finite; its entries are {', '.join(names)}: look at their features, "
        "lower --learning-rate or use --precision bf16 or fp32"
    )


class RunLog:
    """The record of a run: config.json, log.jsonl, tensorboard and a progress bar, all by rank 0.

    Lines of updates after `update` (of a run that went on after its last checkpoint) are removed.
    """

    def __init__(self, config: TrainConfig, process: Process, update: int) -> None:
        self.config, self.update = config, update
        self.process = process
        self.path = config.output / "log.jsonl"

    def __enter__(self) -> RunLog:
        self._time, self._logged = time.perf_counter(), self.update
        if self.process.rank == 0:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only needed here

            self.config.output.mkdir(parents=True, exist_ok=True)
            write_config(self.config, self.process.processes)
            kept = [line for line in self._lines() if line["n_update"] <= self.update]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
            self._board = SummaryWriter(str(self.config.output / "tensorboard"), purge_step=self.update + 1)
            self._bar = tqdm(total=self.config.updates, initial=self.update, unit="update", dynamic_ncols=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.rank == 0:
            self._bar.close()
            self._board.close()

    def write(
        self, update: int, place: Mapping[str, int], rate: float, stage: Stage, means: Mapping[str, float]
    ) -> None:
        """Write the line of an update; losses and "Batch time" are means over the updates since the line before."""
        now = time.perf_counter()
        seconds = (now - self._time) / (update - self._logged)
        self._time, self._logged = now, update
        if self.process.rank == 0:
            line: dict[str, float] = {"rank": 0, "n_epoch": place["n_epoch"], "n_update": update}
            line |= {"n_batch_in_epoch": place["n_batch_in_epoch"], "Batch time": seconds}
            line |= {"Learning Rate": rate, "Max_len": stage.length, **means}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            for name, value in line.items():
                self._board.add_scalar(name, value, update)
            self._bar.set_postfix({group: f"{means[f'{group}_loss']:.3f}" for group in GROUPS}, refresh=False)

    def advance(self) -> None:
        """One more update is done."""
        if self.process.rank == 0:
            self._bar.update()

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self.path.is_file():
            for line in self.path.read_text().splitlines():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:  # the line that a killed run was writing
                    continue


class StopSignal:
    """While it is open, SIGTERM and SIGUSR1 only set `caught`."""

    SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.caught = False

    def __enter__(self) -> StopSignal:
        self._before = [signal.signal(number, self._catch) for number in self.SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self.SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = True


def open_data(config: TrainConfig) -> tuple[TrainingSet, Weights]:
    """Training set and loss weights; one line names all files that are missing."""
    require_files(table=config.table, store=config.store, weights=config.weights)
    with FeatureStore(config.store) as store:
        data = TrainingSet(store, group_sequences(read_table(config.table), store, "train"), config.seed)
    return data, read_loss_weights(config.weights)


def choose_checkpoint(config: TrainConfig) -> Path | None:
    """The checkpoint that `--resume` asks for; None: start anew.

    Raises
    ------
    InputError
        The checkpoint is damaged, or the run holds others that the training would not go on from.
    """
    folder = config.output / "checkpoints"
    held = checkpoints(folder)
    if config.resume == "auto":
        found = newest_checkpoint(folder)
        if held and found is None:
            raise InputError(
                f"{folder}: no whole checkpoint; give another --output, or --resume with a whole one of another run"
            )
        return found
    if config.resume == "none":
        if held:
            raise InputError(f"{config.output} holds checkpoints; give another --output, or --resume auto to go on")
        return None
    checkpoint = Path(config.resume)
    verify(checkpoint)
    if held and held[-1].resolve() != checkpoint.resolve():
        raise InputError(
            f"{config.output} holds {held[-1].name}, going on from {checkpoint} would leave it; give another --output"
        )
    return checkpoint


def prepare(config: TrainConfig, process: Process, weights: Weights, new: bool) -> Training:
    """Network and optimizer at their start; `new`: the encoder gets the weights that the configuration names."""
    torch.manual_seed(config.seed)
    model = DanceModel(config.model)
    if new and config.encoder is not None:
        process.first(lambda: load_esm2_encoder(model, str(config.encoder)))  # the other ranks receive it below
    network: nn.Module = model.to(process.device)
    if process.processes > 1:
        ids = [process.device] if process.device.type == "cuda" else None
        network = DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, config.learning_rate, config.betas, config.eps, config.weight_decay, fused=True
    )
    precision: str = config.precision
    if precision == "auto":
        half = "bf16" if process.device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp16"
        precision = "fp32" if process.device.type == "cpu" else half
    scaler = torch.amp.GradScaler(process.device.type, enabled=precision == "fp16")
    network.train()
    return Training(config, process, model, network, optimizer, scaler, weights, precision)


def resume(training: Training, checkpoint: Path | None, data: TrainingSet, losses: LossRecord) -> Progress:
    """Set random state, weights and optimizer to those of the checkpoint (None: a new training)."""
    process, seed = training.process, training.config.seed
    if checkpoint is None:
        torch.manual_seed(dropout_seed(seed, process.rank, 0))
        return Progress()
    state = load_checkpoint(checkpoint, training.model)
    if state.get("data") != fingerprint(data):
        raise InputError(f"{checkpoint}: made with another seed or other training entries; go on with the same ones")
    training.optimizer.load_state_dict(state["optimizer"])
    if state["scaler"]:
        training.scaler.load_state_dict(state["scaler"])
    if len(state["ranks"]) == process.processes:
        own = state["ranks"][process.rank]
        losses.load(own["sums"], own["backwards"])
        torch.set_rng_state(own["cpu"])
        if process.device.type == "cuda" and own["cuda"] is not None:
            torch.cuda.set_rng_state(own["cuda"], process.device)
    else:
        LOGGER.warning(
            "warning: %s is of %d processes: samples go on as they would have, dropout does not",
            checkpoint,
            len(state["ranks"]),
        )
        torch.manual_seed(dropout_seed(seed, process.rank, state["update"]))
    return Progress(state["update"], state["seen"])


def save_training(training: Training, progress: Progress, data: TrainingSet, losses: LossRecord) -> None:
    """Write a checkpoint and remove those that need not stay; all ranks wait until it is on the disk."""
    process, config = training.process, training.config
    own = {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(process.device) if process.device.type == "cuda" else None,
        "sums": {group: total.cpu() for group, total in losses.sums.items()},
        "backwards": losses.backwards,
    }
    ranks = process.gather(own)
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


def dropout_seed(seed: int, rank: int, update: int) -> int:
    """Seed of a rank's dropout from an update on."""
    return int(np.random.SeedSequence([seed, rank, update]).generate_state(1, np.uint64)[0])


def fingerprint(data: TrainingSet) -> str:
    """What the sequence of samples follows from: seed and entries of each group."""
    names = {group: [name for name, _ in entries] for group, entries in data.sequences.items()}
    return hashlib.sha256(json.dumps([data.seed, names], sort_keys=True).encode()).hexdigest()


def position(data: TrainingSet, progress: Progress, process: Process, stage: Stage) -> dict[str, int]:
    """Epoch of the largest group and micro-batch (of all processes) in it, both from 0, of the last sample used."""
    largest = max(len(entries) for entries in data.sequences.values())
    epoch, samples = divmod(progress.seen - 1, largest)
    return {"n_epoch": epoch, "n_batch_in_epoch": samples // (process.processes * stage.micro_batch)}


def write_config(config: TrainConfig, processes: int) -> None:
    """Write config.json of the run: configuration, versions, number of processes."""
    names = ("seqdance", "numpy", "h5py", "safetensors")
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}  # with its build: +cpu, +cu130
    versions |= {name: version(name) for name in names}
    content = {"config": asdict(config), "versions": versions, "processes": processes}
    write_text(config.output / "config.json", json.dumps(content, indent=2, default=str) + "\n")


def start_process(config: TrainConfig) -> Process:
    """Join the processes that torchrun started, if it did."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    gpu = config.device != "cpu" and torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", 0))
    if gpu and local >= torch.cuda.device_count():
        raise InputError(
            f"{local + 1} processes need as many GPUs, there are {torch.cuda.device_count()}; lower --nproc_per_node"
        )
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ:
        return Process(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    if dist.get_rank():
        LOGGER.setLevel(logging.ERROR)  # rank 0 tells for all
    return Process(device, dist.get_rank(), dist.get_world_size())


def parse(args: Sequence[str] | None = None) -> TrainConfig:
    """Configuration from a command line: the preset, and the fields that the line changes."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", default="seqdance")
    preset = chooser.parse_known_args(args)[0].preset
    default = TRAIN_PRESETS.get(preset, TrainConfig())  # tyro tells which presets there are
    return tyro.cli(TrainConfig, args=args, default=default, console_outputs=os.environ.get("RANK", "0") == "0")


def run(config: TrainConfig) -> None:
    """Train in this process, alone or with the others that torchrun started."""
    process = start_process(config)
    train(config, process)
    if process.processes > 1:
        dist.destroy_process_group()


def main(args: Sequence[str] | None = None) -> None:
    """Command line."""
    config = parse(args)
    run_command(lambda: run(config), config.debug)


if __name__ == "__main__":
    main(sys.argv[1:])
