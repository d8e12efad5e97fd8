"""The processes of a distributed training, and the signals that stop it."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, Final, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore
from torch.distributed.rendezvous import rendezvous

from data_prepare.errors import require, shown
from data_prepare.resume import sole_run
from model.network.device import choose_device

LOGGER: Final = logging.getLogger("seqdance")
STDERR: Final = 2  # file descriptor
PATIENCE: Final = timedelta(days=30)
T = TypeVar("T")
Options = TypeVar("Options", bound=Any)


@dataclass(frozen=True)
class Process:
    """This process, alone or one of several that train together."""

    device: torch.device
    rank: int = 0
    processes: int = 1
    patient: Any = None  # process group for objects: one rank may work for hours before it has some

    def first(self, action: Callable[[], T]) -> T:
        """Result of `action`, run on rank 0, on all ranks. If it fails, rank 0 raises its error and the others exit."""
        result: list[Any] = [None, False]  # of the action; whether it succeeded
        try:
            if self.rank == 0:
                result = [action(), True]
        finally:
            if self.processes > 1:
                dist.broadcast_object_list(result, group=self.patient)
        if not result[1]:
            raise SystemExit(2)
        return result[0]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, on all ranks."""
        values = [value] * self.processes
        if self.processes > 1:
            dist.all_gather_object(values, value, group=self.patient)
        return values

    def random_state(self) -> dict[str, Tensor | None]:
        """State of the random number generators: `cpu`, and `cuda` on a GPU."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        """Restore a `random_state`."""
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def seed_dropout(self, seed: int, update: int) -> None:
        """Seed dropout for an update, differently on each rank."""
        torch.manual_seed(int(np.random.SeedSequence([seed, self.rank, update]).generate_state(1, np.uint64)[0]))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank. Exchanged between CPUs, without waiting for the GPUs."""
        if self.processes == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)


def start_process(choice: str) -> Process:
    """This process on the device auto, cpu or cuda, connected to the others if torchrun started it."""
    device = choose_device(choice, apple=False)  # which has no float64, and no gloo
    gpu = device.type == "cuda"
    if gpu:
        found = os.environ.get("LOCAL_RANK", "0")
        require(found.isdecimal(), f"environment variable LOCAL_RANK is {shown(found)}, not a number; use torchrun")
        local, gpus = int(found), torch.cuda.device_count()
        require(local < gpus, f"{local + 1} processes need as many GPUs, found {gpus}; lower --nproc_per_node")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not started_by_torchrun():
        return Process(device)
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        number = os.environ.get(name, "")
        remedy = "start with torchrun, or unset RANK for one process"
        require(number.isdecimal(), f"environment variable {name} is {shown(number)}, not a number; {remedy}")
    _end_with_parent()
    store, rank, processes = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    dist.init_process_group(backend, store=PrefixStore(attempt(), store), rank=rank, world_size=processes)
    if rank:
        LOGGER.setLevel(logging.ERROR)  # rank 0 prints warnings
    return Process(device, rank, processes, dist.new_group(backend="gloo", timeout=PATIENCE))


def started_by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def _end_with_parent() -> None:
    """Send this process SIGTERM when torchrun ends, also if it is killed and cannot send it (Linux)."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def attempt() -> str:
    """Prefix in torchrun's store, unique to this start: after a restart the store still holds the old addresses.

    Only on a single node do all processes know the number of restarts; on several nodes, set
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for a new store.
    """
    single_node = os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]
    return f"start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0) if single_node else 0}"


def run_process(options: Options, action: Callable[[Options, Process], None]) -> None:
    """Run `action` in this process, alone or connected to the others that torchrun started.

    The options have the fields `device` and `output`, whose lock rank 0 holds.
    """
    process = start_process(options.device)
    with ExitStack() as stack:
        if options.output is not None:
            process.first(lambda: stack.enter_context(sole_run(options.output)))
        action(options, process)
    if process.processes > 1:
        dist.destroy_process_group()


class StopSignal:
    """Context in which SIGTERM, SIGUSR1 (not on Windows) and the first Ctrl-C only set `number`, told by rank 0."""

    SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))

    def __init__(self) -> None:
        self.number: int | None = None  # of the first signal

    @property
    def caught(self) -> bool:
        """Whether there was a signal."""
        return self.number is not None

    def __enter__(self) -> StopSignal:
        self._before = [signal.signal(number, self._catch) for number in self.SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self.SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        alone = not started_by_torchrun()  # which repeats the signal of the terminal
        if self.caught and number == signal.SIGINT and alone:
            raise KeyboardInterrupt
        if not self.caught and os.environ.get("RANK", "0") == "0":
            again = "; Ctrl-C again ends at once, without saving" if number == signal.SIGINT and alone else ""
            with suppress(OSError):  # not through Python's buffer, which the signal may have interrupted
                os.write(STDERR, f"\nstopping: saves after this update{again}\n".encode())
        self.number = self.number or number
