"""What the benchmarks share: options, times in turns, peak memory of a child process, the plain form."""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import re
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, ParamSpec, TypeVar

ROOT = Path(__file__).resolve().parents[1]
# cpu: time of all threads of this process, for a machine that others use too; with one thread it is the wall time of a
# machine at rest
Clock = Literal["wall", "cpu"]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """How to measure."""

    threads: int = 2
    """Of the CPU."""
    clock: Clock = "wall"
    """cpu: CPU time of the process, for a machine that others use too; then with one thread."""
    repeats: int = 5
    """Runs of each; medians count."""


def plain_form() -> ModuleType:
    """The module `tests/oracles/plain_dance.py`."""
    sys.path.insert(0, str(ROOT / "tests" / "oracles"))
    return importlib.import_module("plain_dance")


def compare(ours: Callable[[], object], plain: Callable[[], object], timing: Timing) -> tuple[float, float, float]:
    """Median seconds of both after one run each, and the median of the ratios plain / ours of neighbouring runs."""
    now = CLOCKS[timing.clock]
    times = []
    for _ in range(timing.repeats + 1):
        pair = []
        for action in (ours, plain):
            start = now()
            action()
            pair.append(now() - start)
        times.append(pair)
    ours_s, plain_s = (statistics.median(pair[k] for pair in times[1:]) for k in (0, 1))
    return ours_s, plain_s, statistics.median(plain / ours for ours, plain in times[1:])


def megabytes(field: str) -> float:
    """Field of this process's memory: VmRSS is what is resident, VmHWM its peak (Linux)."""
    (kilobytes,) = re.findall(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def peak_growth(action: Callable[[], object]) -> float:
    """Megabytes that the peak of this process's resident memory lies above what is resident before (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)  # what is free but resident would hide a part
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = megabytes("VmRSS")
    action()
    return megabytes("VmHWM") - before


def in_child(action: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Result of a call in a process of its own, forked from one that has only imported the network."""
    import torch

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["model.network.dance"])
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        return pool.submit(action, *arguments, **options).result()


def line(what: str, ours: float, plain: float, ratio: float, unit: str) -> str:
    """One line of a report."""
    return f"{what:44} ours {ours:9.2f} {unit:2}  plain {plain:9.2f} {unit:2}  ratio {ratio:6.2f}"
