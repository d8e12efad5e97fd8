"""Command `seqdance demo`: from the example structures and trajectories to a trained model and a mutation map.

Every step takes up what an earlier run has left, so an interrupted demo goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from data_prepare.errors import InputError, run_command
from data_prepare.pipeline.prepare import LOSS_WEIGHTS, STORE, TABLE, PrepareConfig, prepare
from seqdance.commands.score import ScoreConfig, score

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "data_prepare" / "examples"
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"


@dataclass(frozen=True)
class DemoConfig:
    """Features of the example data, a small network trained on them, its evaluation, and a mutation map."""

    out: Path = Path("runs/demo")
    """Folder of everything that is made."""
    processes: int = 2
    """Processes that make features and train."""
    updates: int | None = None
    """Updates of the training; by default those of the preset."""
    debug: bool = False
    """Show the traceback of an error."""


def run_module(title: str, *command: str) -> None:
    """Run a Python command; its failure ends the demo with its own message."""
    # one thread a process: two processes on two cores
    environment = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
    finished = subprocess.run([sys.executable, *command], env=environment, check=False)
    if finished.returncode:
        raise InputError(f"demo: {title} ended with exit code {finished.returncode}; see its message above")


def demo(config: DemoConfig) -> str:
    """Run all steps; returns the summary."""
    started = time.monotonic()
    data, run, metrics = config.out / "data", config.out / "training", config.out / "metrics.json"
    failed = prepare(PrepareConfig(manifest=EXAMPLES / "examples.csv", out=data, workers=config.processes))
    if failed:
        raise InputError(f"{data / 'failures.csv'}: {failed} of the examples could not be made")

    files = ["--table", str(data / TABLE), "--store", str(data / STORE), "--weights", str(data / LOSS_WEIGHTS)]
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={config.processes}")
    options = ["--preset", "demo", "--output", str(run), *files]
    if config.updates is not None:
        updates = config.updates
        options += ["--updates", str(updates), "--short-updates", str(updates * 4 // 5)]
        options += ["--warmup-updates", str(min(20, updates // 10))]
    run_module("the training", *torchrun, str(ROOT / "model" / "train_ddp.py"), *options)

    checkpoint = newest(run)
    evaluation = (str(ROOT / "model" / "evaluation.py"), "--checkpoint", str(checkpoint), "--output", str(metrics))
    run_module("the evaluation", *evaluation, *files)
    table = config.out / "ubiquitin_mutations.csv"
    mutations = score(ScoreConfig(model=str(checkpoint), sequence=UBIQUITIN, output=table))
    return summary(config, checkpoint, metrics, mutations, time.monotonic() - started)


def newest(run: Path) -> Path:
    """Folder of the last checkpoint of a run."""
    from model.training.checkpoint import newest_checkpoint

    checkpoint = newest_checkpoint(run / "checkpoints")
    if checkpoint is None:
        raise InputError(f"{run}: the training left no checkpoint")
    return checkpoint


def summary(config: DemoConfig, checkpoint: Path, metrics: Path, mutations: Sequence[Path], seconds: float) -> str:
    """What was made, and how the model does beside the baselines."""
    groups = json.loads(metrics.read_text())["groups"]
    lines = ["", f"weighted test loss{'':20}model     mean  mean by amino acid and |i-j|"]
    for group, values in groups.items():
        numbers = [values[name]["loss"] for name in ("model", "mean", "sequence")]
        lines.append(f"  {group:<30}{numbers[0]:11.4f}{numbers[1]:9.4f}{numbers[2]:11.4f}")
    made = {
        "features, table, weights": config.out / "data",
        "trained model": checkpoint,
        "log and checkpoints": config.out / "training",
        "metrics": metrics,
        "mutation scores": mutations[0],
        "mutation map": mutations[1],
    }
    lines += ["", f"made in {seconds / 60:.1f} minutes:"]
    return "\n".join([*lines, *(f"  {what:<26}{path}" for what, path in made.items())])


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config = tyro.cli(DemoConfig, args=args)
    print(run_command(lambda: demo(config), config.debug))
