"""Mutants per second of `seqdance score` against the published loop, and its memory.

    python benchmarks/zero_shot.py [--residues 72] [--mutants 64] [--device cpu] [--threads 2] [--repeats 5]
    python benchmarks/zero_shot.py --memory
    python benchmarks/zero_shot.py --many 5000 50000 1000000 --residues 80

Published loop: one sequence at a time, all 23 properties in plain form (`tests/oracles/plain_dance.py`), changes from
the wild type in NumPy. Runs of both alternate. Floor: the linear layers of the encoder alone, on batches of the same
size. `--memory`: growth of the peak resident memory (VmHWM) of a child process after loading the libraries, network
included, at 72, 400 and 1,000 residues. `--many`: the same for the whole command with the tiny demonstration network.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from measure import Clock, compare, in_child, peak_growth, plain_form
from torch import nn

from data_prepare.properties import PROPERTIES
from model.config import PRESETS
from model.mutations.score import PropertySet, automatic_batch_size, property_changes
from model.mutations.substitution import all_single_mutants, apply_mutation
from model.network.dance import DanceModel
from model.network.tokenizer import AMINO_ACIDS, tokenize


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    preset: Literal["seqdance", "esmdance", "demo"] = "esmdance"
    """Network; weights are random."""
    residues: int = 72
    mutants: int = 64
    """Mutants per run."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 2
    """CPU threads."""
    clock: Clock = "wall"
    """cpu: CPU time of the process, for a shared machine; use one thread."""
    repeats: int = 5
    """Runs of each form; the report shows medians."""
    batch_size: int | None = None
    """Default: chosen by length."""
    memory: bool = False
    """Print the memory at 72, 400 and 1,000 residues instead."""
    many: tuple[int, ...] = ()
    """Print the memory of the command for these numbers of mutants instead."""
    peak: Literal["all", "residue", "command"] | None = None
    """Print only the growth of this process's peak memory in MB."""


def protein(residues: int) -> str:
    """A random sequence."""
    return "".join(np.random.default_rng(0).choice(list(AMINO_ACIDS), residues))


def network(arguments: Arguments) -> DanceModel:
    """A network with random weights."""
    torch.manual_seed(0)
    return DanceModel(PRESETS[arguments.preset]).eval().to(arguments.device)


def published_loop(model: DanceModel, wild_type: str, mutants: list[str]) -> np.ndarray:
    """(mutants, 23) changes, one sequence at a time."""
    plain_dance, weights = plain_form().plain_dance, dict(model.named_parameters())
    device = next(model.parameters()).device

    @torch.no_grad()
    def predict(sequence: str) -> dict[str, np.ndarray]:
        batch = {name: value.to(device) for name, value in tokenize([sequence]).items()}
        outputs = plain_dance(weights, model.config.heads, **batch)
        return {name: value[0].cpu().numpy() for name, value in outputs.items()}

    before = predict(wild_type)
    rows = []
    for mutant in mutants:
        after = predict(mutant)
        rows.append([np.mean(np.abs(after[n] - before[n]) / (np.abs(before[n]) + 0.01)) for n in PROPERTIES])
    return np.array(rows)


@torch.inference_mode()
def floor(model: DanceModel, tokens: int, batch: int, mutants: int) -> None:
    """The matrix products of the encoder for a number of mutants."""
    layers = [layer for layer in model.esm2.modules() if isinstance(layer, nn.Linear)]
    device = next(model.parameters()).device
    inputs = {layer.in_features: torch.ones(batch, tokens, layer.in_features, device=device) for layer in layers}
    for _ in range(0, mutants, batch):
        for layer in layers:
            layer(inputs[layer.in_features])
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def speed(arguments: Arguments) -> None:
    """Print mutants per second of both forms, with and without residue pairs."""
    model, wild_type = network(arguments), protein(arguments.residues)
    labels = all_single_mutants(wild_type)
    mutants = [apply_mutation(wild_type, label) for label in labels[:: max(1, len(labels) // arguments.mutants)]]
    mutants = mutants[: arguments.mutants]
    tokens, device = arguments.residues + 2, next(model.parameters()).device.type
    choices: tuple[PropertySet, ...] = ("all", "residue")
    for properties in choices:

        def ours(properties: PropertySet = properties) -> np.ndarray:
            return property_changes(model, wild_type, mutants, arguments.batch_size, properties=properties)

        def plain() -> np.ndarray:
            return published_loop(model, wild_type, mutants)

        found = ours()
        difference = np.abs(found - plain()[:, : found.shape[1]]).max()
        size = arguments.batch_size or automatic_batch_size(model.config, tokens, device, properties)
        ours_s, plain_s, ratio = compare(ours, plain, arguments.repeats, arguments.clock)

        def products(size: int = size) -> None:
            floor(model, tokens, min(size, len(mutants)), len(mutants))

        least_s, _, over_floor = compare(products, ours, arguments.repeats, arguments.clock)
        print(
            f"{properties:7} {arguments.residues} residues, batch {size}: ours {len(mutants) / ours_s:.2f} mutants/s, "
            f"published loop {len(mutants) / plain_s:.2f} mutants/s, ratio {ratio:.2f}, "
            f"largest difference of a change {difference:.0e}\n"
            f"{'':7} matrix products of the encoder alone: {len(mutants) / least_s:.2f} mutants/s, "
            f"{over_floor:.2f} times as fast as ours",
            flush=True,
        )


def peak(arguments: Arguments) -> float:
    """Megabytes of two batches in this process, the network included, or of the command with the tiny network."""
    if arguments.peak == "command":
        from seqdance.commands.score import ScoreConfig, score

        with tempfile.TemporaryDirectory() as folder:
            DanceModel(PRESETS["demo"]).save_pretrained(folder)
            table = Path(folder) / "mutants.csv"
            wild_type = protein(arguments.residues)
            write_mutants(table, wild_type, arguments.mutants)
            config = ScoreConfig(
                model=folder,
                sequence=wild_type,
                mutants=table,
                output=Path(folder) / "scores.csv",
                device=arguments.device,
                properties="residue",
            )
            score(dataclasses.replace(config, mutants=None, mutations=f"{wild_type[0]}1X"))  # libraries are loaded
            return peak_growth(lambda: score(config))
    property_changes(DanceModel(PRESETS["demo"]), "ACD", ["ACE"])  # libraries take their buffers
    properties: PropertySet = "residue" if arguments.peak == "residue" else "all"

    def two_batches() -> None:
        model, wild_type = network(arguments), protein(arguments.residues)
        size = 2 * automatic_batch_size(model.config, arguments.residues + 2, "cpu", properties)
        mutants = [apply_mutation(wild_type, label) for label in all_single_mutants(wild_type)[:size]]
        property_changes(model, wild_type, mutants, properties=properties)

    return peak_growth(two_batches)


def write_mutants(path: Path, wild_type: str, number: int) -> None:
    """A table of different mutants with two substitutions."""
    with path.open("w") as file:
        file.write("mutant\n")
        labels = (
            f"{wild_type[j]}{j + 1}{a}:{wild_type[i]}{i + 1}{b}\n"
            for i in range(len(wild_type))
            for j in range(i)
            for a in AMINO_ACIDS
            for b in AMINO_ACIDS
            if a != wild_type[j] and b != wild_type[i]
        )
        file.writelines(islice(labels, number))


def memory(arguments: Arguments) -> None:
    """Print the memory of two batches at several lengths, or of the command for several numbers of mutants."""
    runs: list[tuple[str, int, int]] = [("command", arguments.residues, number) for number in arguments.many]
    if arguments.memory:
        runs = [(kind, residues, 1) for residues in (72, 400, 1000) for kind in ("all", "residue")]
    for kind, residues, mutants in runs:
        options = ("--preset", arguments.preset, "--threads", arguments.threads, "--residues", residues)
        grown = in_child(__file__, (*options, "--mutants", mutants, "--peak", kind))
        what = f"{mutants:8} mutants" if kind == "command" else f"{residues:4} residues"
        print(f"{kind:7} {what}: peak memory {grown:7.0f} MB", flush=True)


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak(arguments))
    elif arguments.memory or arguments.many:
        memory(arguments)
    else:
        speed(arguments)


if __name__ == "__main__":
    main()
