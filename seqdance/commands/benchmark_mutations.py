"""Command `seqdance benchmark-mutations`: predicted effects of mutations beside measured ones.

    seqdance benchmark-mutations Tsuboyama2023_Dataset2_Dataset3_20230416.csv --model ChaoHou/ESMDance --output results
    seqdance benchmark-mutations s2648.csv --structures s2648/ --esm2 facebook/esm2_t12_35M_UR50D --output results

Measured: the mega-scale set (aa_seq, mut_type, WT_name, ddG_ML), ProteinGym (mutant, mutated_sequence, DMS_score; one
file a protein) or ddG tables that number residues as structure files do (pdb_id, chain, pre, pos, post, ddG).

Scores: of each --model the published score and the changes of sasa_mean and of psi alone; of each --esm2 the masked and
the unmasked log-likelihood ratio; always BLOSUM62 and the loss of hydrophobicity. All grow with the expected damage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from data_prepare.errors import InputError, run_command
from data_prepare.files import whole_file, write_text
from model.mutations.benchmark import (
    Predictor,
    baseline_scores,
    dance_predictor,
    draw,
    esm2_predictor,
    mutation_table,
    protein_table,
    report,
    score_proteins,
    summarise,
    write_figure,
)
from model.mutations.measured import Form, LeftOut, MeasuredProtein, read_measured
from model.network.dance import load_model
from model.network.language_model import load_language_model
from model.network.weights import TORCH_SUFFIXES, WEIGHTS_NAME


@dataclass(frozen=True)
class BenchmarkMutationsConfig:
    """Compare scores of mutations with measured losses of stability or fitness."""

    measured: Annotated[Path, tyro.conf.Positional]
    """Table of measured mutations (.csv, .csv.gz), or a folder of such tables."""
    output: Path
    """Folder for mutations.csv, proteins.csv, summary.json, proteins.png and left_out.csv. Its folder work keeps the
    scores of each protein: a run that was stopped goes on, a run with one more model computes only that one."""
    model: tuple[str, ...] = ()
    """SeqDance or ESMDance, one or more: folders with model.safetensors and config.json, weight files or Hub ids."""
    esm2: tuple[str, ...] = ()
    """ESM2 of any size with its language-model head: folders or Hub ids such as facebook/esm2_t33_650M_UR50D."""
    form: Form = "auto"
    """Form of the tables; auto tells it by their columns."""
    structures: Path | None = None
    """Folder of structure files (PDB_CHAIN or PDB as .pdb or .cif, also gzipped) that ddg tables number by."""
    min_mutants: int = 10
    """Proteins with fewer mutants count only in the pooled correlation."""
    bootstrap: int = 1000
    """Draws of proteins for the 95 % intervals; 0 for none."""
    seed: int = 0
    """Of these draws."""
    batch_size: int | None = None
    """Sequences at a time; changes no number. Default: by the length of the protein, 16 for ESM2."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""


def benchmark(config: BenchmarkMutationsConfig) -> str:
    """Score all measured mutants, write the files and return the summary as text.

    Raises
    ------
    InputError
        The measured mutations, a model or an option cannot be used.
    """
    for name, value, least in (
        ("min-mutants", config.min_mutants, 3),
        ("bootstrap", config.bootstrap, 0),
        ("batch-size", config.batch_size, 1),
        ("seed", config.seed, 0),
    ):
        if value is not None and value < least:
            raise InputError(f"--{name} {value}: it must be at least {least}")
    check_names([*config.model, *config.esm2])
    left_out: list[LeftOut] = []
    proteins = list(read_measured(config.measured, config.form, config.structures, left_out))
    with whole_file(config.output / "left_out.csv") as temporary:
        pd.DataFrame(left_out, columns=list(LeftOut._fields)).to_csv(temporary, index=False)

    scores = [baseline_scores(protein) for protein in proteins]
    for load in loaders(config):  # one network in memory at a time
        for own, more in zip(scores, score_proteins(load(), proteins, config.output / "work"), strict=True):
            own |= more
    table = mutation_table(proteins, scores)
    per_protein = protein_table(proteins, table)
    summary = summarise(table, per_protein, config.min_mutants, config.bootstrap, config.seed)
    summary = {"measured": str(config.measured), "left_out": len(left_out), **summary}

    with whole_file(config.output / "mutations.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
    with whole_file(config.output / "proteins.csv") as temporary:
        per_protein.to_csv(temporary, index=False, float_format="%.6f")
    write_text(config.output / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    write_figure(draw(per_protein, summary), config.output / "proteins.png")
    return "\n".join([report(summary), "", *notes(config, proteins, left_out)])


def loaders(config: BenchmarkMutationsConfig) -> list[Callable[[], Predictor]]:
    """What loads each network."""

    def dance(path: str) -> Predictor:
        return dance_predictor(name_of(path), load_model(path, config.device), config.batch_size)

    def esm2(path: str) -> Predictor:
        return esm2_predictor(name_of(path), load_language_model(path, config.device), config.batch_size or 16)

    return [*(partial(dance, path) for path in config.model), *(partial(esm2, path) for path in config.esm2)]


def name_of(path_or_hub_id: str) -> str:
    """Last part of a path or Hub id, without the suffix of a weight file; of NAME/model.safetensors NAME."""
    path = Path(path_or_hub_id).absolute()
    if path.name == WEIGHTS_NAME:
        return path.parent.name
    return path.stem if path.suffix in (".safetensors", *TORCH_SUFFIXES) else path.name


def check_names(paths: Sequence[str]) -> None:
    """InputError if two networks would have the same name in the results."""
    for first, second in combinations(paths, 2):
        if name_of(first) == name_of(second):
            raise InputError(f"{first} and {second} would both be called {name_of(first)}; rename a folder")


def notes(config: BenchmarkMutationsConfig, proteins: Sequence[MeasuredProtein], left_out: list[LeftOut]) -> list[str]:
    """What was left out, and where the files are."""
    lines = [f"files: {config.output}"]
    if left_out:
        lost = sorted({row.protein for row in left_out} - {protein.name for protein in proteins})
        whole = f"; nothing is left of {len(lost)} proteins ({lost[0]}...)" if lost else ""
        lines.insert(0, f"{len(left_out)} rows could not be used, the reasons are in left_out.csv{whole}")
    return lines


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config = tyro.cli(BenchmarkMutationsConfig, args=args)
    print(run_command(lambda: benchmark(config), config.debug))
