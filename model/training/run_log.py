"""The record of a run: losses, config.json, log.jsonl, TensorBoard and a progress bar."""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from data_prepare.errors import InputError
from data_prepare.files import write_text
from data_prepare.properties import GROUPS, properties_of_group
from model.config import Stage
from model.training.data import Batch
from model.training.processes import Process

ROOT: Final = Path(__file__).resolve().parents[2]
LOG_NAME: Final = "log.jsonl"
GRADIENT_NORM: Final = "Gradient norm"  # before clipping
TOKENS_PER_SECOND: Final = "Tokens per second"  # of all processes, without padding
PEAK_MEMORY: Final = "Peak memory (GiB)"  # so far, of the process that needs most: on its GPU, else resident


class RunConfig(Protocol):
    """What the configurations of all trainings have in common: they are dataclasses with these fields."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def output(self) -> Path:
        """Folder of the run."""

    @property
    def resume(self) -> str:
        """What a training goes on from: auto, none, or a checkpoint folder."""


class LossRecord:
    """Losses and gradient norms since the last line of the log. They stay on the device until a line is written."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.tokens = 0  # of this process
        self._unchecked: list[tuple[Tensor, str, tuple[str, ...]]] = []  # loss, group, names of each backward pass
        self._clear()

    def _clear(self) -> None:
        device = self.process.device
        self.sums = {group: torch.zeros(len(properties_of_group(group)) + 1, device=device) for group in GROUPS}
        self.backwards = 0  # of all groups together
        self.norms = torch.zeros(2, device=device)  # sum, number

    def add(self, batch: Batch, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of one backward pass."""
        names = (*properties_of_group(batch.group), "loss")
        self.sums[batch.group] += torch.stack([losses[name].detach() for name in names])
        self.backwards += 1
        self._unchecked.append((losses["loss"].detach(), batch.group, batch.names))

    def add_norm(self, norm: Tensor) -> None:
        """Add the gradient norm of an update; one that is not finite (fp16 leaves out that update) does not count."""
        finite = norm.isfinite()
        self.norms += torch.stack([torch.where(finite, norm, 0.0), finite.to(norm.dtype)])

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

    def means(self) -> dict[str, float | None]:
        """Means since the last call: `<group>_<property>` and `<group>_loss` over backward passes and ranks, and the
        gradient norm over updates (None if there was no finite one).
        """
        sums = torch.cat([*(self.sums[group] for group in GROUPS), self.norms]).cpu()
        if self.process.processes > 1:
            dist.all_reduce(sums)
        names = [f"{group}_{name}" for group in GROUPS for name in (*properties_of_group(group), "loss")]
        values = (sums[:-2] * len(GROUPS) / self.backwards / self.process.processes).tolist()
        total, number = sums[-2:].tolist()
        self._clear()
        return dict(zip(names, values, strict=True)) | {GRADIENT_NORM: total / number if number else None}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        sums = {group: total.cpu() for group, total in self.sums.items()}
        return {"sums": sums, "backwards": self.backwards, "norms": self.norms.cpu()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.sums = {group: state["sums"][group].to(self.process.device) for group in GROUPS}
        self.backwards = state["backwards"]
        self.norms = state["norms"].to(self.process.device)


def _raise_not_finite(group: str, names: Sequence[str]) -> None:
    raise InputError(
        f"the loss of a batch of {group} is not finite; its entries are {', '.join(names)}: look at their features, "
        "lower --learning-rate or use --precision bf16 or fp32"
    )


class RunLog:
    """The record of a run: config.json, log.jsonl, tensorboard and a progress bar, all by rank 0.

    Lines of updates after `update` (of a run that went on after its last checkpoint) are removed.
    """

    def __init__(self, config: RunConfig, process: Process, precision: str, update: int, updates: int) -> None:
        self.config, self.process, self.precision = config, process, precision
        self.update, self.updates = update, updates
        self.path = config.output / LOG_NAME

    def __enter__(self) -> RunLog:
        self._time, self._logged = time.perf_counter(), self.update
        gpu = self.process.device.type == "cuda"
        devices = self.process.gather(torch.cuda.get_device_name(self.process.device) if gpu else "cpu")
        if self.process.rank == 0:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only needed here

            self.config.output.mkdir(parents=True, exist_ok=True)
            write_config(self.config, self.precision, devices)
            kept = [line for line in read_log(self.path) if line["n_update"] <= self.update]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
            self._board = SummaryWriter(str(self.config.output / "tensorboard"), purge_step=self.update + 1)
            seldom = 0.1 if sys.stderr.isatty() else 30.0  # seconds; each turn is a line of a batch system's file
            self._bar = tqdm(
                total=self.updates, initial=self.update, unit="update", dynamic_ncols=True, mininterval=seldom
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.rank == 0:
            self._bar.close()
            self._board.close()

    def write(self, update: int, place: Mapping[str, int], rate: float, stage: Stage, losses: LossRecord) -> None:
        """Write the line of an update; losses, times and gradient norms are those since the line before."""
        means = losses.means()
        tokens, memory = zip(*self.process.gather((losses.tokens, peak_memory(self.process.device))), strict=True)
        losses.tokens = 0
        now = time.perf_counter()
        seconds = now - self._time
        line: dict[str, float | None] = {"rank": 0, "n_epoch": place["n_epoch"], "n_update": update}
        line |= {"n_batch_in_epoch": place["n_batch_in_epoch"], "Batch time": seconds / (update - self._logged)}
        line |= {"Learning Rate": rate, "Max_len": stage.length, **means}
        line |= {TOKENS_PER_SECOND: sum(tokens) / seconds, PEAK_MEMORY: max(memory)}
        self._time, self._logged = now, update
        self.append(line, {group: f"{means[f'{group}_loss']:.3f}" for group in GROUPS})

    def append(self, line: Mapping[str, float | None], shown: Mapping[str, str]) -> None:
        """Add a line with its `n_update` to the log and to TensorBoard; the progress bar shows `shown`."""
        if self.process.rank == 0:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            for name, value in line.items():
                if value is not None:
                    self._board.add_scalar(name, value, line["n_update"])
            self._bar.set_postfix(dict(shown), refresh=False)

    def advance(self) -> None:
        """One more update is done."""
        if self.process.rank == 0:
            self._bar.update()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a log.jsonl, in order; none if there is no such file."""
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # the line that a killed run was writing
                continue


def peak_memory(device: torch.device) -> float:
    """GiB that this process has needed at most: allocated on its GPU, or resident on a machine without."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def write_config(config: RunConfig, precision: str, devices: Sequence[str]) -> None:
    """Write config.json of the run: configuration, precision that it came to, versions, device of each process."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}  # with its build: +cpu, +cu130
    versions |= {name: version(name) for name in ("seqdance", "numpy", "h5py", "safetensors")}
    content = {
        "config": asdict(config),
        "precision": precision,
        "versions": versions | {"cuda": torch.version.cuda, "git": git_commit()},
        "processes": len(devices),
        "devices": devices,
    }
    write_text(config.output / "config.json", json.dumps(content, indent=2, default=str) + "\n")


def git_commit(folder: Path = ROOT) -> str | None:
    """Commit of the source, "-dirty" behind it if files were changed; None if `folder` is no git checkout."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git here, or a folder of somebody whom it does not trust
        return None
    return found.stdout.strip()
