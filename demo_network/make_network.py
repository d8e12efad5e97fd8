"""Train the demonstration network and write its card: `make demo-network DATA=FOLDER`.

    python demo_network/make_network.py --data FOLDER [--out runs/demo_network] [--cores 2] [--install]

FOLDER has `structures/{bm5,tsuboyama,s2648}/*.pdb.gz`, `trajectories/` and `ddg/s2648_ddg_experimental.csv`. Rerun the
same command to resume; `--install` puts the result into the package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import card
import entries
import pandas as pd
import torch
from safetensors.torch import save_file

from data_prepare.command_line import run
from data_prepare.dataset.loss_weights import read_loss_weights, write_loss_weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.properties import ALL_GROUPS, CONFORMATIONS, RESIDUE_PROPERTIES
from model.network.dance import load_model
from model.network.weights import CONFIG_NAME, WEIGHTS_NAME, read_weights
from model.training.checkpoint import checkpoints
from model.training.run_log import read_log

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
INSTALLED: Final = ROOT / "model" / "network" / "demo"
AVERAGED: Final = 5  # last checkpoints whose weights are averaged
SPREAD_FACTORS: Final = {"residue": 3.0, "pair": 1 / 3}  # of the loss weights of conformations: 3 : 1 instead of 1 : 3
FEW_PROTEINS: Final = 0.25  # factor of the loss weights of the groups of trajectories, which have a few proteins


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train the demonstration network and write its card."""

    data: Path
    """Folder of the structures, trajectories and measured stabilities."""
    out: Path = Path("runs/demo_network")
    """Folder of features, training and result."""
    cores: int = 2
    """Processes for the features, threads of the training."""
    install: bool = False
    """Copy network, card and table of entries into the package."""
    debug: bool = False
    """Show the traceback of an error."""


def command(*words: object, threads: int = 1) -> None:
    """Run a Python command; stop if it fails."""
    subprocess.run([sys.executable, *map(str, words)], env=os.environ | {"OMP_NUM_THREADS": str(threads)}, check=True)


def weigh(source: Path, path: Path) -> None:
    """Write loss weights that favour what this network is for: residue properties of many proteins."""
    found = pd.read_csv(source, nrows=0).columns
    weights = read_loss_weights(source, [group for group in ALL_GROUPS if group in found])
    for group, own in weights.items():
        for name in own:
            if group == CONFORMATIONS:
                own[name] *= SPREAD_FACTORS["residue" if name in RESIDUE_PROPERTIES else "pair"]
            elif group in (entries.MD, "IDRome"):
                own[name] *= FEW_PROTEINS
    write_loss_weights(path, weights)


def write_average(folders: list[Path], out: Path) -> None:
    """Write the mean of the weights of some checkpoints in float16, with their config.json."""
    states = [read_weights(folder / WEIGHTS_NAME) for folder in folders]
    mean = {name: torch.stack([state[name] for state in states]).mean(0).half() for name in states[0]}
    out.mkdir(parents=True, exist_ok=True)
    save_file(mean, out / WEIGHTS_NAME, metadata={"format": "pt"})
    (out / CONFIG_NAME).write_text((folders[-1] / CONFIG_NAME).read_text())


def make(options: Options) -> list[str]:
    """All steps; returns what was written."""
    out, data = options.out, options.data.absolute()
    manifest, store, network = out / "entries.csv", out / "data" / "features.h5", out / "network"
    table, weights, training = store.with_name("table.csv"), out / "loss_weights.csv", out / "training"
    if not manifest.exists():
        entries.write_manifest(data, manifest)
    prepare = ("-m", "seqdance.cli", "prepare", "--manifest", manifest, "--out", store, "--dtype", "float16")
    command(*prepare, "--workers", options.cores)
    weigh(store.with_name("loss_weights.csv"), weights)
    files = ("--table", table, "--store", store, "--loss-weights", weights)
    train = ("-m", "seqdance.cli", "train", "--config", HERE / "train.yaml", "--output", training)
    command(*train, *files, threads=options.cores)

    write_average(checkpoints(training / "checkpoints")[-AVERAGED:], network)
    metrics, mutations = out / "metrics.json", out / "s2648"
    command("-m", "model.evaluate", "--checkpoint", network, "--output", metrics, *files)
    measured = (data / "ddg" / "s2648_ddg_experimental.csv", "--structures", data / "structures" / "s2648")
    command("-m", "seqdance.cli", "benchmark-mutations", *measured, "--model", network, "--output", mutations)

    found = pd.read_csv(manifest, keep_default_na=False)
    with FeatureStore(store) as opened:
        measures = card.measure(load_model(network, "cpu"), opened, read_table(table))
        card.observed(opened, read_table(table), entries.SHOWN).to_csv(network / "observed.csv", index=False)
    scores = json.loads((mutations / "summary.json").read_text())["scores"]
    stability = pd.DataFrame(
        {
            name: {
                "median": values["median"]["value"],
                "low": values["median"]["low"],
                "high": values["median"]["high"],
                "proteins": values["proteins"],
            }
            for name, values in scores.items()
        }
    ).T
    groups = json.loads(metrics.read_text())["groups"]
    (network / "README.md").write_text(card.card(measures, groups, stability, found, course(training, network)))
    found[["name", "group", "label", "cluster"]].to_csv(network / "entries.csv", index=False)
    if options.install:
        for file in network.iterdir():
            (INSTALLED / file.name).write_bytes(file.read_bytes())
    return [str(INSTALLED if options.install else network)]


def course(training: Path, network: Path) -> str:
    """Sizes, and how the network was trained."""
    config = json.loads((training / "config.json").read_text())["config"]
    model, stages = config["model"], (config["short"], config["long"])
    size = sum(tensor.numel() for tensor in read_weights(network / WEIGHTS_NAME).values())
    steps = (config["short_updates"], config["updates"] - config["short_updates"])
    crops = " and ".join(f"{n} updates at {stage['length']} tokens" for n, stage in zip(steps, stages, strict=True))
    lines = read_log(training / "log.jsonl")
    hours = sum(line["Batch time"] for line in lines) * (lines[1]["n_update"] - lines[0]["n_update"]) / 3600
    return (
        f"{model['layers']} layers of {model['heads']} heads, {model['hidden']} channels, {size / 1e6:.2f} million "
        f"parameters in float16. Trained from random weights: {crops}, learning rate {config['learning_rate']:g}, "
        f"{config['exchange']:.0%} of the amino acids exchanged at random, mean of the last {AVERAGED} checkpoints, "
        f"{hours:.1f} hours. `demo_network/` has the recipe."
    )


if __name__ == "__main__":
    run(Options, make, sys.argv[1:])
