"""A training step on a GPU: time, tokens per second, share of the card's peak, memory, and where the time goes.

    python benchmarks/gpu.py [--device cuda] [--peak-tflops 989] > gpu.md

The network of SeqDance in bf16. A step: forward and backward pass for a batch of each of the three training groups,
then AdamW, with random data in the card's memory. Plain: `tests/oracles/plain_dance.py`, eager. Floating-point
operations are those of the matrix products that each form calls, as PyTorch counts them. Prints Markdown.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
import tyro
from measure import peak_growth
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from train_step import Training

from data_prepare.properties import GROUPS

# dense bf16 with sums in fp32, TFLOP/s of the makers' data sheets
PEAK_TFLOPS: Final = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
}


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    device: Literal["cuda", "cpu"] = "cuda"
    """cpu is for trying the script."""
    preset: Literal["seqdance", "esmdance", "demo"] = "seqdance"
    """Network; weights are random."""
    lengths: tuple[int, ...] = (256, 1024)
    """Tokens of each protein."""
    batches: tuple[int, ...] = (16, 2)
    """Proteins of each group, one number per length."""
    steps: int = 10
    """Steps that count; the median is printed."""
    warm_up: int = 3
    """Steps before them."""
    compiled: bool = False
    """Also with torch.compile."""
    peak_tflops: float | None = None
    """Peak of the matrix units in bf16, TFLOP/s, where the card is not in the table of this script."""


def synchronize(device: str) -> None:
    """Wait for the card."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(step: Callable[[], None], arguments: Arguments) -> float:
    """Median time of a step."""
    times = []
    for _ in range(arguments.warm_up + arguments.steps):
        synchronize(arguments.device)
        start = time.perf_counter()
        step()
        synchronize(arguments.device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[arguments.warm_up :])


def peak_megabytes(step: Callable[[], None], device: str) -> float:
    """Peak memory of a step: all of the card's that PyTorch gave out, or what the process's grows by."""
    if device == "cpu":
        return peak_growth(step)
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / 2**20


def card(device: str) -> str:
    """Name of the device."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()


def peak_of(name: str, arguments: Arguments) -> float | None:
    """TFLOP/s of the card, None if unknown."""
    known = (peak for part, peak in PEAK_TFLOPS.items() if part in name)
    return arguments.peak_tflops or next(known, None)


def row(form: str, length: int, batch: int, arguments: Arguments) -> tuple[str, float | None]:
    """One row of the table, and the seconds of a step; None without enough memory."""
    try:
        training = Training(arguments.preset, length, batch, GROUPS, arguments.device)
        forward: Callable[[], dict] = training.plain if form == "plain" else training.ours
        if form == "ours, compiled":
            compiled = torch.compile(training.model)
            forward = lambda: compiled(**training.batch)  # noqa: E731

        def step() -> None:
            training.step(forward, bf16=True)

        took = seconds(step, arguments)
        megabytes = peak_megabytes(step, arguments.device)
        with FlopCounterMode(display=False) as counter:
            training.step(training.plain if form == "plain" else training.ours, bf16=True)
    except torch.OutOfMemoryError:
        return f"| {length} | {batch} | {form} | out of memory | | | | |", None
    tflops = counter.get_total_flops() / took / 1e12
    peak = peak_of(card(arguments.device), arguments)
    share = f"{tflops / peak:.1%}" if peak else "peak unknown"
    tokens = len(GROUPS) * length * batch / took
    return (
        f"| {length} | {batch} | {form} | {1e3 * took:.1f} | {tokens:.0f} | {tflops:.2f} | {share} | {megabytes:.0f} |",
        took,
    )


def where(length: int, batch: int, arguments: Arguments) -> str:
    """The operations of one step that take most time."""
    training = Training(arguments.preset, length, batch, GROUPS, arguments.device)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (arguments.device == "cuda")
    training.step(training.ours, bf16=True)
    with profile(activities=activities) as profiler:
        training.step(training.ours, bf16=True)
        synchronize(arguments.device)
    return profiler.key_averages().table(
        sort_by=f"self_{arguments.device}_time_total", row_limit=15, max_name_column_width=60
    )


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    print(f"{card(arguments.device)}, PyTorch {torch.__version__}, {arguments.preset}, bf16\n")
    print("| tokens | batch per group | form | ms per step | tokens/s | TFLOP/s | share of the peak | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    forms = ("ours", "ours, compiled", "plain") if arguments.compiled else ("ours", "plain")
    ratios = []
    for length, batch in zip(arguments.lengths, arguments.batches, strict=True):
        took = {}
        for form in forms:
            text, took[form] = row(form, length, batch, arguments)
            print(text, flush=True)
            if arguments.device == "cuda":
                torch.cuda.empty_cache()
        ours, plain = took["ours"], took["plain"]
        ratios.append(
            f"{length} tokens: "
            + (f"plain / ours {plain / ours:.2f}" if ours and plain else "no ratio, a form ran out of memory")
        )
    print("\n" + "\n".join(f"- {ratio}" for ratio in ratios))
    for length, batch in zip(arguments.lengths, arguments.batches, strict=True):
        print(f"\nWhere the time goes, {length} tokens:\n\n```\n{where(length, batch, arguments)}\n```", flush=True)


if __name__ == "__main__":
    main()
