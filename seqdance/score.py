"""Command `seqdance score`: zero-shot scores of mutations of one protein, as CSV and heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from data_prepare.errors import InputError, run_command
from model.dance import load_model
from model.zero_shot import all_single_mutants, plot_mutation_map, score_mutations, write_mutation_table


@dataclass(frozen=True)
class ScoreConfig:
    """Score mutations by how much the predicted dynamics change: a higher score means more damage."""

    model: str
    """Folder with model.safetensors and config.json, weight file, or Hub id such as ChaoHou/ESMDance."""
    sequence: str
    """Wild type; chains of a complex are joined by <eos><cls>."""
    output: Path
    """CSV to write; the heat map of single mutants is written beside it as PNG."""
    mutations: str | None = None
    """Such as A12G,K5R:L7V (positions from 1). Default: all single mutants."""
    batch_size: int = 16
    """Sequences at a time; changes no number."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""


def score(config: ScoreConfig) -> list[Path]:
    """Write the scores, and the picture if all single mutants were asked for; returns the paths."""
    if config.output.suffix.lower() == ".png":
        raise InputError(
            f"--output {config.output}: this is the table; give it the suffix .csv, the picture goes beside it"
        )
    model = load_model(config.model, config.device)
    mutants = config.mutations.split(",") if config.mutations else all_single_mutants(config.sequence)
    table = score_mutations(model, config.sequence, mutants, config.batch_size, progress=True)
    write_mutation_table(table, config.output)
    if config.mutations:
        return [config.output]
    picture = config.output.with_suffix(".png")
    plot_mutation_map(table, config.sequence, picture)
    return [config.output, picture]


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config = tyro.cli(ScoreConfig, args=args)
    for path in run_command(lambda: score(config), config.debug):
        print(path)
