"""Command `seqdance demo`: from the example structures and trajectories to a trained model and a mutation map."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.pipeline.split import LOSS_WEIGHTS, TABLE
from seqdance.options import CommandOptions

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "data_prepare" / "examples"
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"


@dataclass(frozen=True, kw_only=True)
class DemoOptions(CommandOptions):
    """Make features of the example data, train and evaluate a small network on them, and draw a mutation map.

    Rerun the same command to resume an interrupted demo.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["--output"])] = Path("runs/demo")
    """Output folder."""
    processes: Annotated[int, Field(ge=1)] = 2
    """Processes for feature extraction and training."""
    updates: Annotated[int, Field(ge=1)] | None = None
    """Training updates. Default: those of the preset."""


def run_python(title: str, *words: object) -> None:
    """Run a Python command with one thread per process; InputError if it fails."""
    environment = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
    code = subprocess.run([sys.executable, *map(str, words)], env=environment, check=False).returncode
    require(code == 0, f"demo: {title} failed with exit code {code}; see its message above")


def demo(options: DemoOptions) -> list[str]:
    """Run all steps; returns the summary."""
    from model.network.checkpoints import newest_checkpoint
    from seqdance.commands import prepare, score

    started = time.monotonic()
    training, metrics = options.out / "training", options.out / "metrics.json"
    store, mutations = options.out / "data" / "features.h5", options.out / "ubiquitin_mutations.csv"
    prepare.main(
        ["--manifest", str(EXAMPLES / "examples.csv"), "--out", str(store), "--workers", str(options.processes)]
    )

    files = ["--table", store.with_name(TABLE), "--store", store, "--loss-weights", store.with_name(LOSS_WEIGHTS)]
    train = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={options.processes}"]
    train += [str(ROOT / "model" / "train_ddp.py"), "--preset", "demo", "--output", str(training)]
    if options.updates is not None:
        train += ["--updates", f"{options.updates}", "--short-updates", f"{options.updates * 4 // 5}"]
        train += ["--warmup-updates", f"{min(20, options.updates // 10)}"]
    run_python("the training", *train, *files)
    checkpoint = newest_checkpoint(training / "checkpoints")
    require(checkpoint, f"{training}: the training left no checkpoint")
    evaluate = ROOT / "model" / "evaluate.py"  # by path: a `model` in the current folder does not count
    run_python("the evaluation", evaluate, "--checkpoint", checkpoint, "--output", metrics, *files)
    score.main(["--model", str(checkpoint), "--sequence", UBIQUITIN, "--output", str(mutations)])

    lines = ["", f"weighted test loss{'':20}model     mean  mean by amino acid and |i-j|"]
    for group, values in json.loads(metrics.read_text(encoding="utf-8"))["groups"].items():
        model, mean, sequence = (values[name]["loss"] for name in ("model", "mean", "sequence"))
        lines.append(f"  {group:<30}{model:11.4f}{mean:9.4f}{sequence:11.4f}")
    made = {
        "features, table, weights": store.parent,
        "trained model": checkpoint,
        "log and checkpoints": training,
        "metrics": metrics,
        "mutation scores": mutations,
        "mutation map": mutations.with_suffix(".png"),
    }
    lines += ["", f"finished in {(time.monotonic() - started) / 60:.1f} minutes:"]
    return lines + [f"  {what:<26}{path}" for what, path in made.items()]


main = partial(run, DemoOptions, demo)
