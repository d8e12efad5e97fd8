"""Mutants per second of `seqdance score` against the published loop, and its memory.

    python benchmarks/zero_shot.py [--residues 72] [--mutants 64] [--device cpu] [--threads 2] [--repeats 5]
    python benchmarks/zero_shot.py --memory
    python benchmarks/zero_shot.py --many 5000 50000 1000000 --residues 80

Published loop: one sequence at a time, all 23 properties in plain form (`tests/oracles/plain_dance.py`), changes from
the wild type in NumPy. Runs of both alternate. Floor: the linear layers of the encoder alone, on batches of the same
size. `--memory`: growth of the peak resident memory (VmHWM) of a child process after loading the libraries, network
included, at 72, 400 and 1,000 residues. `--many`: the same for the whole command, for numbers of mutants, with the tiny
demonstration network and random numbers instead of its predictions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Literal
from unittest import mock

import numpy as np
import torch
import tyro
from measure import Timing, compare, in_child, peak_growth, plain_form
from torch import nn

from data_prepare.properties import PROPERTIES
from model.config import PRESETS
from model.mutations import score
from model.mutations.score import PropertySet, automatic_batch_size, property_changes
from model.mutations.substitution import Mutants, all_single_mutants, apply_mutation
from model.network.dance import DanceModel
from model.network.tokenizer import AMINO_ACIDS, tokenize


@dataclass(frozen=True)
class Arguments(Timing):
    """What to measure."""

    preset: Literal["seqdance", "esmdance", "demo"] = "esmdance"
    """Network; weights are random."""
    residues: int = 72
    mutants: int = 64
    """Mutants per run."""
    device: Literal["cpu", "cuda"] = "cpu"
    batch_size: int | None = None
    """Default: chosen by length."""
    memory: bool = False
    """Print the memory at 72, 400 and 1,000 residues instead."""
    many: tuple[int, ...] = ()
    """Print the memory of the command for these numbers of mutants instead."""


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
        ours_s, plain_s, ratio = compare(ours, plain, arguments)

        def products(size: int = size) -> None:
            floor(model, tokens, min(size, len(mutants)), len(mutants))

        least_s, _, over_floor = compare(products, ours, arguments)
        print(
            f"{properties:7} {arguments.residues} residues, batch {size}: ours {len(mutants) / ours_s:.2f} mutants/s, "
            f"published loop {len(mutants) / plain_s:.2f} mutants/s, ratio {ratio:.2f}, "
            f"largest difference of a change {difference:.0e}\n"
            f"{'':7} matrix products of the encoder alone: {len(mutants) / least_s:.2f} mutants/s, "
            f"{over_floor:.2f} times as fast as ours",
            flush=True,
        )


def peak_of_batches(arguments: Arguments, residues: int, properties: PropertySet) -> float:
    """Megabytes of two batches, the network included."""
    property_changes(DanceModel(PRESETS["demo"]), "ACD", ["ACE"])  # libraries take their buffers

    def two_batches() -> None:
        model, wild_type = network(arguments), protein(residues)
        size = 2 * automatic_batch_size(model.config, residues + 2, "cpu", properties)
        mutants = [apply_mutation(wild_type, label) for label in all_single_mutants(wild_type)[:size]]
        property_changes(model, wild_type, mutants, properties=properties)

    return peak_growth(two_batches)


def random_changes(
    model: DanceModel, mutants: Mutants, batches: Sequence[np.ndarray], properties: PropertySet
) -> Iterator[np.ndarray]:
    """In the place of predicted changes."""
    random = np.random.default_rng(0)
    for batch in batches:
        yield random.random((len(batch), len(score.property_names(properties))))


def peak_of_command(residues: int, mutants: int) -> float:
    """Megabytes of the command with the tiny network."""
    from seqdance.commands.score import ScoreConfig
    from seqdance.commands.score import score as command

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(score, "_batch_changes", random_changes):
        DanceModel(PRESETS["demo"]).save_pretrained(folder)
        table, wild_type = Path(folder) / "mutants.csv", protein(residues)
        output = Path(folder) / "scores.csv"
        config = ScoreConfig(model=folder, sequence=wild_type, mutants=table, output=output, device="cpu")
        write_mutants(table, wild_type, 3)
        command(config)  # libraries are loaded
        write_mutants(table, wild_type, mutants)
        return peak_growth(lambda: command(config))


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
    for mutants in arguments.many:
        grown = in_child(peak_of_command, arguments.residues, mutants)
        print(f"command {mutants:8} mutants: peak memory {grown:7.0f} MB", flush=True)
    choices: tuple[PropertySet, ...] = ("all", "residue")
    for residues, properties in product((72, 400, 1000) if arguments.memory else (), choices):
        grown = in_child(peak_of_batches, arguments, residues, properties)
        print(f"{properties:7} {residues:4} residues: peak memory {grown:7.0f} MB", flush=True)


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.set_num_threads(arguments.threads)
    if arguments.memory or arguments.many:
        memory(arguments)
    else:
        speed(arguments)


if __name__ == "__main__":
    main()
